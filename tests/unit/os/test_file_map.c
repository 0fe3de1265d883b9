/* Whole files as bytes: mapped by real engines, read through its faults from the simulated disk. */
#include "os/file_map.h"
#include "os/sim.h"

#include "base/heap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { BYTES = 3 * 4096 + 17 };

struct place {
    struct sim_disk *disk; /* NULL: a real folder */
    struct io *io;
    char dir[32], file[64];
};

static struct place begin(bool real)
{
    struct place p = {.dir = "d"};
    const char *reason;
    if (real) {
        assert_int_equal(io_create(IO_ENGINE_THREADS, &p.io, &reason), 0);
        (void)snprintf(p.dir, sizeof(p.dir), "/tmp/file_map.XXXXXX");
        assert_non_null(mkdtemp(p.dir));
    } else {
        p.disk = sim_disk_new(1);
        assert_non_null(p.disk);
        assert_int_equal(sim_io_create(p.disk, &p.io), 0);
        assert_int_equal(io_wait_make_dir(p.io, p.dir), 0);
    }
    (void)snprintf(p.file, sizeof(p.file), "%s/f", p.dir);
    return p;
}

static void end(struct place *p)
{
    (void)io_wait_unlink(p->io, p->file);
    (void)io_wait_unlink(p->io, p->dir);
    p->io->ops->destroy(p->io);
    sim_disk_free(p->disk);
}

static void fill(uint8_t *bytes)
{
    for (size_t i = 0; i != BYTES; ++i)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
}

static void write_file(struct place *p, size_t len)
{
    static uint8_t bytes[BYTES];
    fill(bytes);
    assert_int_equal(io_replace_file(p->io, p->dir, "f", bytes, len), 0);
}

static void a_map_is_the_file_on_every_engine_and_with_every_advice(void **state)
{
    (void)state;
    static uint8_t expected[BYTES];
    fill(expected);
    for (int real = 0; real != 2; ++real) {
        struct place p = begin(real != 0);
        write_file(&p, BYTES);
        for (int advice = FILE_MAP_NORMAL; advice <= FILE_MAP_WILLNEED; ++advice) {
            struct file_map map;
            assert_int_equal(file_map_open(p.io, p.file, (enum file_map_advice)advice, &map), 0);
            assert_int_equal(map.len, BYTES);
            assert_int_equal(map.mapped, real != 0);
            assert_memory_equal(map.ptr, expected, BYTES);
            assert_int_equal(file_map_populate(&map, 5000, SIZE_MAX), 0);
            assert_int_equal(file_map_populate(&map, BYTES, 1), 0);
            file_map_drop(&map, 4097, 5000);
            file_map_drop(&map, BYTES + 5, 1);
            assert_memory_equal(map.ptr, expected, BYTES);
            file_map_close(&map);
            file_map_close(&map);
        }
        end(&p);
    }
}

static void a_map_outlives_the_name_of_its_file(void **state)
{
    (void)state;
    static uint8_t expected[BYTES];
    fill(expected);
    for (int real = 0; real != 2; ++real) {
        struct place p = begin(real != 0);
        struct file_map map;
        write_file(&p, BYTES);
        assert_int_equal(file_map_open(p.io, p.file, FILE_MAP_RANDOM, &map), 0);
        assert_int_equal(io_wait_unlink(p.io, p.file), 0);
        assert_memory_equal(map.ptr, expected, BYTES);
        file_map_close(&map);
        end(&p);
    }
}

static void an_empty_file_is_an_open_map_of_no_bytes(void **state)
{
    (void)state;
    for (int real = 0; real != 2; ++real) {
        struct place p = begin(real != 0);
        struct file_map map;
        write_file(&p, 0);
        assert_int_equal(file_map_open(p.io, p.file, FILE_MAP_NORMAL, &map), 0);
        assert_int_equal(map.len, 0);
        assert_non_null(map.ptr);
        assert_int_equal(file_map_populate(&map, 0, 1), 0);
        file_map_close(&map);
        end(&p);
    }
}

static void a_missing_file_and_a_folder_are_errors(void **state)
{
    (void)state;
    for (int real = 0; real != 2; ++real) {
        struct place p = begin(real != 0);
        struct file_map map = {.len = 77};
        assert_int_equal(file_map_open(p.io, p.file, FILE_MAP_NORMAL, &map), -ENOENT);
        assert_int_not_equal(file_map_open(p.io, p.dir, FILE_MAP_NORMAL, &map), 0);
        assert_int_equal(map.len, 77);
        end(&p);
    }
}

static void a_block_becomes_a_map_that_frees_it(void **state)
{
    (void)state;
    struct file_map map;
    char *block = heap_copy_text(NULL, "abc", 3);
    assert_non_null(block);
    file_map_of_block(block, 3, &map);
    assert_int_equal(map.len, 3);
    assert_false(map.mapped);
    assert_int_equal(file_map_populate(&map, 0, 3), 0);
    file_map_drop(&map, 0, 3);
    assert_memory_equal(map.ptr, "abc", 3);
    file_map_close(&map);
}

static void the_simulated_disk_fails_and_flips_what_is_mapped(void **state)
{
    (void)state;
    static uint8_t expected[BYTES];
    fill(expected);
    struct place p = begin(false);
    struct file_map map;
    write_file(&p, BYTES);
    sim_disk_set_faults(p.disk, &(struct sim_faults){.bit_flip = 1});
    assert_int_equal(file_map_open(p.io, p.file, FILE_MAP_NORMAL, &map), 0);
    unsigned flipped = 0;
    for (size_t i = 0; i != BYTES; ++i)
        flipped += (unsigned)__builtin_popcount((unsigned)(map.ptr[i] ^ expected[i]));
    assert_int_equal(flipped, 1);
    file_map_close(&map);
    sim_disk_set_faults(p.disk, &(struct sim_faults){.read_error = 1});
    assert_int_equal(file_map_open(p.io, p.file, FILE_MAP_NORMAL, &map), -EIO);
    sim_disk_set_faults(p.disk, &(struct sim_faults){0});
    sim_disk_fail_at(p.disk, 1, EMFILE);
    assert_int_equal(file_map_open(p.io, p.file, FILE_MAP_NORMAL, &map), -EMFILE);
    assert_int_equal(file_map_open(p.io, p.file, FILE_MAP_NORMAL, &map), 0);
    file_map_close(&map);
    sim_disk_crash(p.disk);
    assert_int_equal(file_map_open(p.io, p.file, FILE_MAP_NORMAL, &map), -EIO);
    p.io->ops->destroy(p.io);
    sim_disk_free(p.disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_is_the_file_on_every_engine_and_with_every_advice),
        cmocka_unit_test(a_map_outlives_the_name_of_its_file),
        cmocka_unit_test(an_empty_file_is_an_open_map_of_no_bytes),
        cmocka_unit_test(a_missing_file_and_a_folder_are_errors),
        cmocka_unit_test(a_block_becomes_a_map_that_frees_it),
        cmocka_unit_test(the_simulated_disk_fails_and_flips_what_is_mapped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
