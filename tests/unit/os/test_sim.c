/* What a simulated loss of power keeps and destroys, and that one seed means one history. */
#include "os/sim.h"

#include "base/heap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { SECTORS = 64, BYTES = SECTORS * SIM_SECTOR_BYTES };

struct life {
    struct sim_disk *disk;
    struct io *io;
};

static struct life begin(uint64_t seed)
{
    struct life l = {.disk = sim_disk_new(seed)};
    assert_non_null(l.disk);
    assert_int_equal(sim_io_create(l.disk, &l.io), 0);
    return l;
}

static void crash(struct life *l)
{
    sim_disk_crash(l->disk);
    l->io->ops->destroy(l->io);
    assert_int_equal(sim_io_create(l->disk, &l->io), 0);
}

static void end(struct life *l)
{
    l->io->ops->destroy(l->io);
    sim_disk_free(l->disk);
}

static int open_new(struct life *l, const char *path, unsigned flags)
{
    int64_t file = io_wait_open(l->io, path, IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | flags);
    assert_true(file >= 0);
    return (int)file;
}

/* A file of zeros that survives a crash. */
static int open_durable(struct life *l, const char *path, unsigned flags)
{
    static const char zeros[BYTES];
    int file = open_new(l, path, flags);
    assert_int_equal(io_wait_write(l->io, file, zeros, BYTES, 0, IO_WRITE_DURABLE), BYTES);
    assert_int_equal(io_wait_sync_dir(l->io, "/"), 0);
    return file;
}

static void fill_with(char bytes[BYTES], char value)
{
    memset(bytes, value, BYTES);
}

static void read_back(struct life *l, const char *path, char bytes_out[BYTES])
{
    int64_t file = io_wait_open(l->io, path, IO_OPEN_READ);
    assert_true(file >= 0);
    assert_int_equal(io_wait_read(l->io, (int)file, bytes_out, BYTES, 0), BYTES);
    assert_int_equal(io_wait_close(l->io, (int)file), 0);
}

/* Sectors that are whole with `value`; a sector of two values fails the test. */
static unsigned count_sectors(const char bytes[BYTES], char value)
{
    unsigned count = 0;
    for (unsigned s = 0; s != SECTORS; ++s) {
        const char *at = bytes + s * SIM_SECTOR_BYTES;
        for (unsigned i = 1; i != SIM_SECTOR_BYTES; ++i)
            assert_int_equal(at[i], at[0]);
        count += at[0] == value;
    }
    return count;
}

static void synced_bytes_survive_and_unsynced_ones_tear_by_sectors(void **state)
{
    (void)state;
    struct life l = begin(7);
    char bytes[BYTES];
    int file = open_durable(&l, "f", 0);
    fill_with(bytes, 1);
    assert_int_equal(io_wait_write(l.io, file, bytes, BYTES, 0, 0), BYTES);
    assert_int_equal(io_wait_sync(l.io, file), 0);
    fill_with(bytes, 2);
    assert_int_equal(io_wait_write(l.io, file, bytes, BYTES, 0, 0), BYTES);
    crash(&l);
    read_back(&l, "f", bytes);
    unsigned old = count_sectors(bytes, 1), new = count_sectors(bytes, 2);
    assert_int_equal(old + new, SECTORS);
    assert_true(old > 10 && new > 10);
    end(&l);
}

static void a_durable_write_survives_whole(void **state)
{
    (void)state;
    for (unsigned flags = 0; flags != 2; ++flags) {
        struct life l = begin(8 + flags);
        char bytes[BYTES];
        int file = open_durable(&l, "f", flags != 0 ? IO_OPEN_DSYNC : 0);
        fill_with(bytes, 3);
        assert_int_equal(
            io_wait_write(l.io, file, bytes, BYTES, 0, flags != 0 ? 0 : IO_WRITE_DURABLE), BYTES);
        crash(&l);
        read_back(&l, "f", bytes);
        assert_int_equal(count_sectors(bytes, 3), SECTORS);
        end(&l);
    }
}

static void a_dsync_write_does_not_flush_what_came_before_elsewhere(void **state)
{
    (void)state;
    struct life l = begin(9);
    char bytes[BYTES];
    int plain = open_durable(&l, "f", 0), dsync = open_new(&l, "f", IO_OPEN_DSYNC);
    fill_with(bytes, 4);
    assert_int_equal(io_wait_write(l.io, plain, bytes, BYTES / 2, 0, 0), BYTES / 2);
    assert_int_equal(io_wait_write(l.io, dsync, bytes, BYTES / 2, BYTES / 2, 0), BYTES / 2);
    crash(&l);
    read_back(&l, "f", bytes);
    unsigned kept = count_sectors(bytes, 4);
    assert_true(kept >= SECTORS / 2 && kept < SECTORS);
    for (unsigned i = BYTES / 2; i != BYTES; ++i)
        assert_int_equal(bytes[i], 4);
    end(&l);
}

static void ignore_done(struct io_op *op, int64_t result)
{
    (void)op;
    (void)result;
    fail_msg("an operation of a former life completed");
}

static void what_is_in_flight_never_completes_and_may_be_on_the_disk(void **state)
{
    (void)state;
    bool seen_some = false, seen_none = false;
    for (uint64_t seed = 1; seed != 40; ++seed) {
        struct life l = begin(seed);
        struct io_op op = {.done = ignore_done};
        char bytes[BYTES], now[BYTES];
        int file = open_durable(&l, "f", IO_OPEN_DSYNC);
        fill_with(bytes, 5);
        l.io->ops->write(l.io, &op, file, bytes, BYTES, 0, 0);
        assert_int_equal(l.io->ops->submit(l.io), 1);
        sim_disk_crash(l.disk);
        assert_int_equal(l.io->ops->reap(l.io, 100), 0);
        assert_int_equal(io_wait_sync(l.io, file), -EIO);
        l.io->ops->destroy(l.io);
        assert_int_equal(sim_io_create(l.disk, &l.io), 0);
        assert_int_equal(io_wait_sync(l.io, file), -EBADF);
        read_back(&l, "f", now);
        unsigned kept = count_sectors(now, 5);
        seen_none |= kept == 0;
        seen_some |= kept != 0;
        assert_true(kept < SECTORS);
        end(&l);
    }
    assert_true(seen_some && seen_none);
}

static void a_new_name_survives_only_with_its_folders_sync(void **state)
{
    (void)state;
    unsigned lost = 0, kept = 0;
    for (uint64_t seed = 1; seed != 40; ++seed) {
        struct life l = begin(seed);
        int file = open_new(&l, "synced", 0);
        assert_int_equal(io_wait_sync_dir(l.io, "."), 0);
        file = open_new(&l, "file_only", 0);
        assert_int_equal(io_wait_sync(l.io, file), 0);
        crash(&l);
        assert_true(io_wait_open(l.io, "synced", IO_OPEN_READ) >= 0);
        int64_t rc = io_wait_open(l.io, "file_only", IO_OPEN_READ);
        assert_true(rc >= 0 || rc == -ENOENT);
        lost += rc < 0;
        kept += rc >= 0;
        end(&l);
    }
    assert_true(lost > 5 && kept > 5);
}

static void an_unsynced_rename_leaves_the_old_name_or_the_new_one(void **state)
{
    (void)state;
    unsigned old_count = 0, new_count = 0;
    for (uint64_t seed = 1; seed != 40; ++seed) {
        struct life l = begin(seed);
        assert_int_equal(io_replace_file(l.io, "/", "old", "x", 1), 0);
        assert_int_equal(io_wait_rename(l.io, "old", "new"), 0);
        crash(&l);
        bool old = io_wait_open(l.io, "old", IO_OPEN_READ) >= 0;
        bool new = io_wait_open(l.io, "new", IO_OPEN_READ) >= 0;
        assert_true(old != new);
        old_count += old;
        new_count += new;
        end(&l);
    }
    assert_true(old_count > 5 && new_count > 5);
}

static void a_link_is_durable_once_its_folder_is_synced(void **state)
{
    (void)state;
    unsigned kept = 0;
    for (uint64_t seed = 1; seed != 40; ++seed) {
        struct life l = begin(seed);
        assert_int_equal(io_replace_file(l.io, "/", "file", "x", 1), 0);
        assert_int_equal(io_wait_link(l.io, "file", "synced"), 0);
        assert_int_equal(io_wait_sync_dir(l.io, "/"), 0);
        assert_int_equal(io_wait_link(l.io, "file", "unsynced"), 0);
        crash(&l);
        assert_true(io_wait_open(l.io, "file", IO_OPEN_READ) >= 0);
        assert_true(io_wait_open(l.io, "synced", IO_OPEN_READ) >= 0);
        kept += io_wait_open(l.io, "unsynced", IO_OPEN_READ) >= 0;
        end(&l);
    }
    assert_true(kept > 5 && kept < 35);
}

static void a_replaced_file_is_wholly_old_or_wholly_new(void **state)
{
    (void)state;
    for (uint64_t cut = 1; cut != 16; ++cut) {
        struct life l = begin(cut);
        void *bytes = NULL;
        size_t len = 0;
        assert_int_equal(io_replace_file(l.io, "/", "f", "old", 3), 0);
        sim_disk_fail_at(l.disk, cut, EIO);
        int rc = io_replace_file(l.io, "/", "f", "newer", 5);
        sim_disk_fail_at(l.disk, 0, 0);
        crash(&l);
        assert_int_equal(io_read_file(l.io, "f", 100, &bytes, &len), 0);
        bool is_old = len == 3 && memcmp(bytes, "old", 3) == 0;
        assert_true(is_old || (len == 5 && memcmp(bytes, "newer", 5) == 0));
        if (rc == 0)
            assert_false(is_old);
        heap_free(NULL, bytes);
        end(&l);
    }
}

static void the_nth_io_fails_once_and_has_no_effect(void **state)
{
    (void)state;
    struct life l = begin(10);
    char bytes[BYTES];
    int file = open_durable(&l, "f", 0);
    fill_with(bytes, 6);
    uint64_t before = sim_disk_op_count(l.disk);
    sim_disk_fail_at(l.disk, 2, ENOSPC);
    assert_int_equal(io_wait_sync(l.io, file), 0);
    assert_int_equal(io_wait_write(l.io, file, bytes, BYTES, 0, 0), -ENOSPC);
    read_back(&l, "f", bytes);
    assert_int_equal(count_sectors(bytes, 6), 0);
    assert_int_equal(io_wait_write(l.io, file, bytes, BYTES, 0, 0), BYTES);
    assert_int_equal(sim_disk_op_count(l.disk), before + 6);
    end(&l);
}

static void after_a_failed_sync_the_next_one_succeeds_and_proves_nothing(void **state)
{
    (void)state;
    struct life l = begin(11);
    char bytes[BYTES];
    int file = open_durable(&l, "f", 0);
    fill_with(bytes, 7);
    assert_int_equal(io_wait_write(l.io, file, bytes, BYTES, 0, 0), BYTES);
    sim_disk_set_faults(l.disk, &(struct sim_faults){.sync_error = 1});
    assert_int_equal(io_wait_sync(l.io, file), -EIO);
    sim_disk_set_faults(l.disk, &(struct sim_faults){0});
    assert_int_equal(io_wait_sync(l.io, file), 0);
    read_back(&l, "f", bytes);
    assert_int_equal(count_sectors(bytes, 7), SECTORS);
    crash(&l);
    read_back(&l, "f", bytes);
    assert_true(count_sectors(bytes, 7) < SECTORS);
    end(&l);
}

static void faults_come_as_asked_for(void **state)
{
    (void)state;
    struct life l = begin(12);
    char bytes[BYTES], now[BYTES];
    int file = open_durable(&l, "f", 0);
    fill_with(bytes, 8);
    sim_disk_set_faults(l.disk, &(struct sim_faults){.write_error = 1});
    assert_int_equal(io_wait_write(l.io, file, bytes, BYTES, 0, 0), -EIO);
    sim_disk_set_faults(l.disk, &(struct sim_faults){.read_error = 1});
    assert_int_equal(io_wait_read(l.io, file, now, BYTES, 0), -EIO);
    sim_disk_set_faults(l.disk, &(struct sim_faults){.short_write = 1});
    int64_t n = io_wait_write(l.io, file, bytes, BYTES, 0, IO_WRITE_DURABLE);
    assert_true(n > 0 && n < BYTES && n % SIM_SECTOR_BYTES == 0);
    sim_disk_set_faults(l.disk, &(struct sim_faults){.bytes_max = BYTES + 100});
    assert_int_equal(io_wait_write(l.io, file, bytes, BYTES, BYTES, 0), -ENOSPC);
    assert_int_equal(l.io->ops->free_space(l.io, "/"), 100);
    assert_int_equal(l.io->ops->used_space(l.io, "/"), BYTES);
    sim_disk_set_faults(l.disk, &(struct sim_faults){.bit_flip = 1});
    assert_int_equal(io_wait_write(l.io, file, bytes, BYTES, 0, 0), BYTES);
    assert_int_equal(io_wait_read(l.io, file, now, BYTES, 0), BYTES);
    unsigned flipped = 0;
    for (unsigned i = 0; i != BYTES; ++i)
        flipped += (unsigned)__builtin_popcount((unsigned char)(now[i] ^ bytes[i]));
    assert_int_equal(flipped, 1);
    end(&l);
}

static void direct_files_refuse_what_is_not_aligned(void **state)
{
    (void)state;
    struct life l = begin(13);
    _Alignas(512) char bytes[1024] = {0};
    int file = open_new(&l, "f", IO_OPEN_DIRECT);
    assert_int_equal(io_wait_write(l.io, file, bytes, 512, 0, 0), 512);
    assert_int_equal(io_wait_write(l.io, file, bytes, 511, 0, 0), -EINVAL);
    assert_int_equal(io_wait_write(l.io, file, bytes, 512, 8, 0), -EINVAL);
    assert_int_equal(io_wait_read(l.io, file, bytes + 8, 512, 0), -EINVAL);
    end(&l);
}

struct order {
    struct io_op op;
    unsigned index, *next, *at;
};

static void note_order(struct io_op *op, int64_t result)
{
    struct order *o = container_of(op, struct order, op);
    assert_int_equal(result, 0);
    o->at[(*o->next)++] = o->index;
}

static void run_order(uint64_t seed, unsigned at[8])
{
    struct life l = begin(seed);
    struct order orders[8];
    unsigned next = 0;
    int file = open_new(&l, "f", 0);
    sim_disk_set_faults(l.disk, &(struct sim_faults){.latency_min_ns = 10, .latency_max_ns = 1000});
    for (unsigned i = 0; i != 8; ++i) {
        orders[i] = (struct order){.op = {.done = note_order}, .index = i, .next = &next, .at = at};
        l.io->ops->sync(l.io, &orders[i].op, file);
    }
    l.io->ops->submit(l.io);
    assert_int_equal(l.io->ops->reap(l.io, 100), 0);
    while (next != 8) {
        uint64_t before = l.io->ops->now_ns(l.io);
        sim_advance(l.disk, 500);
        assert_true(l.io->ops->now_ns(l.io) > before);
        l.io->ops->reap(l.io, 100);
    }
    end(&l);
}

static void note_done(struct io_op *op, int64_t result)
{
    (void)op;
    assert_int_equal(result, 0);
}

static void operations_are_timed_by_the_clock_that_their_owner_has_read(void **state)
{
    (void)state;
    enum { LATENCY_NS = 3000000, SINCE_NS = 400000 };
    struct life l = begin(23);
    int file = open_new(&l, "f", 0);
    sim_disk_set_faults(
        l.disk, &(struct sim_faults){.latency_min_ns = LATENCY_NS, .latency_max_ns = LATENCY_NS});
    const struct histogram *took = &l.io->stats.by_op[METRICS_IO_SYNC].took;
    uint64_t count = histogram_count(took), sum_ns = took->sum_ns;
    assert_int_equal(io_wait_sync(l.io, file), 0);
    assert_int_equal(histogram_count(took), count + 1);
    assert_int_equal(took->sum_ns, sum_ns + LATENCY_NS);

    /* One that is started some time after the clock was read seems longer by that time. */
    struct io_op op = {.done = note_done};
    l.io->clock_ns = l.io->ops->now_ns(l.io) - SINCE_NS;
    l.io->ops->sync(l.io, &op, file);
    l.io->ops->submit(l.io);
    sim_advance(l.disk, LATENCY_NS);
    l.io->clock_ns = l.io->ops->now_ns(l.io);
    assert_int_equal(l.io->ops->reap(l.io, 100), 1);
    assert_int_equal(histogram_count(took), count + 2);
    assert_int_equal(took->sum_ns, sum_ns + 2 * LATENCY_NS + SINCE_NS);
    assert_int_equal(l.io->stats.by_op[METRICS_IO_SYNC].errors[METRICS_ERRNO_EIO], 0);
    sim_disk_fail_at(l.disk, 1, EIO);
    assert_int_equal(io_wait_sync(l.io, file), -EIO);
    assert_int_equal(l.io->stats.by_op[METRICS_IO_SYNC].errors[METRICS_ERRNO_EIO], 1);
    end(&l);
}

static void one_seed_is_one_order_and_another_seed_another(void **state)
{
    (void)state;
    static const unsigned in_order[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    unsigned a[8], b[8], c[8];
    run_order(21, a);
    run_order(21, b);
    run_order(22, c);
    assert_memory_equal(a, b, sizeof(a));
    assert_memory_not_equal(a, c, sizeof(a));
    assert_memory_not_equal(a, in_order, sizeof(a));
}

static void tests_can_damage_the_durable_bytes(void **state)
{
    (void)state;
    struct life l = begin(14);
    char bytes[BYTES];
    size_t len = 0;
    (void)open_durable(&l, "f", 0);
    uint8_t *durable = sim_disk_bytes(l.disk, "f", &len);
    assert_non_null(durable);
    assert_int_equal(len, BYTES);
    memset(durable, 9, SIM_SECTOR_BYTES);
    read_back(&l, "f", bytes);
    assert_int_equal(count_sectors(bytes, 9), 1);
    assert_int_equal(sim_disk_resize(l.disk, "f", 100), 0);
    int64_t file = io_wait_open(l.io, "f", IO_OPEN_READ);
    assert_int_equal(l.io->ops->file_size(l.io, (int)file), 100);
    assert_null(sim_disk_bytes(l.disk, "g", &len));
    assert_int_equal(sim_disk_resize(l.disk, "g", 1), -ENOENT);
    end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synced_bytes_survive_and_unsynced_ones_tear_by_sectors),
        cmocka_unit_test(a_durable_write_survives_whole),
        cmocka_unit_test(a_dsync_write_does_not_flush_what_came_before_elsewhere),
        cmocka_unit_test(what_is_in_flight_never_completes_and_may_be_on_the_disk),
        cmocka_unit_test(a_new_name_survives_only_with_its_folders_sync),
        cmocka_unit_test(an_unsynced_rename_leaves_the_old_name_or_the_new_one),
        cmocka_unit_test(a_link_is_durable_once_its_folder_is_synced),
        cmocka_unit_test(a_replaced_file_is_wholly_old_or_wholly_new),
        cmocka_unit_test(the_nth_io_fails_once_and_has_no_effect),
        cmocka_unit_test(after_a_failed_sync_the_next_one_succeeds_and_proves_nothing),
        cmocka_unit_test(faults_come_as_asked_for),
        cmocka_unit_test(direct_files_refuse_what_is_not_aligned),
        cmocka_unit_test(operations_are_timed_by_the_clock_that_their_owner_has_read),
        cmocka_unit_test(one_seed_is_one_order_and_another_seed_another),
        cmocka_unit_test(tests_can_damage_the_durable_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
