/* The writer of one new file: whole or not there, whatever fails and whenever the power goes. */
#include "engine/file_write.h"

#include "files_fixture.h"

#include <errno.h>

enum { BYTES = 700 * 1024 + 11, PARTS = 3, SEEDS = 12 };

static uint8_t content[BYTES];

struct writing {
    struct file_write file;
    struct disk *disk;
    unsigned flags, parts_done;
    bool over;
    int rc;
};

static void fill(void)
{
    for (size_t i = 0; i != BYTES; ++i)
        content[i] = (uint8_t)(i * 31 + i / 509);
}

static void ended(struct file_write *file, int rc)
{
    struct writing *w = container_of(file, struct writing, file);
    if (rc < 0)
        w->rc = rc;
    w->over = true;
}

/* begin and each part end here; then commit. */
static void next_part(struct file_write *file, int rc)
{
    struct writing *w = container_of(file, struct writing, file);
    size_t part = BYTES / PARTS, at = w->parts_done * part;
    if (rc < 0) {
        w->rc = rc;
        file_write_abandon(file, ended);
        return;
    }
    if (w->parts_done == PARTS) {
        file_write_commit(file, w->flags, ended);
        return;
    }
    size_t len = ++w->parts_done == PARTS ? BYTES - at : part;
    file_write_append(file, content + at, len, next_part);
}

static int write_file(struct disk *d, struct writing *w, unsigned flags, uint64_t sync_every)
{
    *w = (struct writing){.disk = d, .flags = flags};
    file_write_begin(&w->file, d->io, "d", "f", NULL, next_part);
    w->file.sync_every = sync_every;
    (void)disk_pump(d, &w->over);
    return w->rc;
}

static void abandon(struct disk *d, struct writing *w)
{
    w->over = false;
    file_write_abandon(&w->file, ended);
    assert_true(disk_pump(d, &w->over));
}

static void expect_content(struct disk *d)
{
    void *bytes;
    size_t len;
    assert_int_equal(sim_read_file(d->io, "d/f", &bytes, &len), 0);
    assert_int_equal(len, BYTES);
    assert_memory_equal(bytes, content, BYTES);
    heap_free(NULL, bytes);
}

static struct disk begin(uint64_t seed)
{
    struct disk d = disk_begin(seed);
    assert_int_equal(io_wait_make_dir(d.io, "d"), 0);
    assert_int_equal(io_wait_sync_dir(d.io, "/"), 0);
    return d;
}

static void a_written_file_survives_a_loss_of_power(void **state)
{
    (void)state;
    struct disk d = begin(1);
    struct writing *w = test_malloc(sizeof(*w));
    assert_int_equal(write_file(&d, w, FILE_WRITE_SYNC | FILE_WRITE_SYNC_DIR, 0), 0);
    assert_true(w->file.renamed);
    assert_int_equal(w->file.bytes, BYTES);
    disk_restart(&d);
    expect_content(&d);
    assert_string_equal(disk_list(&d, "d").text, " f");
    test_free(w);
    disk_end(&d);
}

static void a_leftover_of_the_same_name_is_replaced(void **state)
{
    (void)state;
    struct disk d = begin(2);
    struct writing *w = test_malloc(sizeof(*w));
    static char longer[BYTES + 5000];
    disk_put(&d, "d", "f.tmp", longer, sizeof(longer));
    disk_put(&d, "d", "f", longer, sizeof(longer));
    assert_int_equal(write_file(&d, w, FILE_WRITE_SYNC | FILE_WRITE_SYNC_DIR, 0), 0);
    expect_content(&d);
    test_free(w);
    disk_end(&d);
}

static void short_writes_and_interruptions_are_gone_on_with(void **state)
{
    (void)state;
    struct disk d = begin(3);
    struct writing *w = test_malloc(sizeof(*w));
    sim_disk_set_faults(d.sim, &(struct sim_faults){.short_write = 0.7});
    assert_int_equal(write_file(&d, w, FILE_WRITE_SYNC | FILE_WRITE_SYNC_DIR, 0), 0);
    expect_content(&d);
    sim_disk_set_faults(d.sim, &(struct sim_faults){0});
    for (int i = 0; i != 2; ++i) {
        sim_disk_fail_at(d.sim, 3, i == 0 ? EAGAIN : EINTR); /* the second piece */
        assert_int_equal(write_file(&d, w, FILE_WRITE_SYNC | FILE_WRITE_SYNC_DIR, 0), 0);
        expect_content(&d);
    }
    test_free(w);
    disk_end(&d);
}

static uint64_t count_ios(uint64_t sync_every)
{
    struct disk d = begin(4);
    struct writing *w = test_malloc(sizeof(*w));
    uint64_t before = sim_disk_op_count(d.sim);
    assert_int_equal(write_file(&d, w, FILE_WRITE_SYNC | FILE_WRITE_SYNC_DIR, sync_every), 0);
    uint64_t count = sim_disk_op_count(d.sim) - before;
    test_free(w);
    disk_end(&d);
    return count;
}

static void waiting_bytes_are_synced_as_often_as_asked(void **state)
{
    (void)state;
    /* 3 parts of under 256 KiB: 3 writes, with a sync behind each */
    assert_int_equal(count_ios(200 * 1024), count_ios(0) + 3);
    assert_int_equal(count_ios(400 * 1024), count_ios(0) + 1);
}

static void whichever_io_fails_nothing_is_left_after_abandon(void **state)
{
    (void)state;
    uint64_t count = count_ios(200 * 1024);
    struct writing *w = test_malloc(sizeof(*w));
    for (uint64_t n = 1; n <= count; ++n) {
        struct disk d = begin(5);
        uint64_t before = sim_disk_op_count(d.sim);
        sim_disk_fail_at(d.sim, n, ENOSPC);
        assert_int_equal(write_file(&d, w, FILE_WRITE_SYNC | FILE_WRITE_SYNC_DIR, 200 * 1024),
                         -ENOSPC);
        assert_int_equal(w->file.error, -ENOSPC);
        assert_int_equal(w->file.renamed, n == count);
        assert_int_equal(w->file.naming, n >= count - 1);
        if (w->file.file >= 0 || disk_list(&d, "d").count != 0)
            abandon(&d, w);
        assert_int_equal(disk_list(&d, "d").count, 0);
        /* not synced again: at most the failed I/Os, close and unlink */
        assert_true(sim_disk_op_count(d.sim) - before <= n + 3);
        disk_end(&d);
    }
    test_free(w);
}

static void a_power_cut_leaves_the_whole_file_or_none(void **state)
{
    (void)state;
    uint64_t count = count_ios(0);
    unsigned whole = 0, none = 0;
    struct writing *w = test_malloc(sizeof(*w));
    for (uint64_t seed = 1; seed <= SEEDS; ++seed) {
        for (uint64_t n = 1; n <= count; ++n) {
            struct disk d = begin(seed);
            disk_cut_at(&d, n);
            (void)write_file(&d, w, FILE_WRITE_SYNC | FILE_WRITE_SYNC_DIR, 0);
            assert_false(w->over);
            disk_restart(&d);
            if (disk_has(&d, "d/f")) {
                expect_content(&d);
                whole++;
            } else {
                none++;
            }
            disk_end(&d);
        }
    }
    assert_true(whole > SEEDS / 4 && none > SEEDS);
    test_free(w);
}

static void abandoned_halfway_it_is_gone(void **state)
{
    (void)state;
    struct disk d = begin(6);
    struct writing *w = test_calloc(1, sizeof(*w));
    file_write_begin(&w->file, d.io, "d", "f", NULL, ended);
    assert_true(disk_pump(&d, &w->over));
    assert_string_equal(disk_list(&d, "d").text, " f.tmp");
    w->over = false;
    file_write_append(&w->file, content, 1000, ended);
    assert_true(disk_pump(&d, &w->over));
    abandon(&d, w);
    assert_int_equal(disk_list(&d, "d").count, 0);
    test_free(w);
    disk_end(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_written_file_survives_a_loss_of_power),
        cmocka_unit_test(a_leftover_of_the_same_name_is_replaced),
        cmocka_unit_test(short_writes_and_interruptions_are_gone_on_with),
        cmocka_unit_test(waiting_bytes_are_synced_as_often_as_asked),
        cmocka_unit_test(whichever_io_fails_nothing_is_left_after_abandon),
        cmocka_unit_test(a_power_cut_leaves_the_whole_file_or_none),
        cmocka_unit_test(abandoned_halfway_it_is_gone),
    };
    fill();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
