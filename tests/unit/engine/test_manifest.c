/* Manifests on a disk that fails and loses power: after every crash there is the old one or the new
 * one, and what is damaged is named. */
#include "engine/manifest.h"
#include "engine/shard_files.h"
#include "files_fixture.h"
#include "manifest_fixture.h"

#include <errno.h>

enum { SEEDS = 25, SHARD = 6 /* the sample's */ };

struct saving {
    struct manifest_save save;
    struct buffer bytes;
    bool over;
    int rc;
    struct trail trail;
};

static struct disk begin(uint64_t seed)
{
    struct disk d = disk_begin(seed);
    assert_int_equal(io_wait_make_dir(d.io, "d"), 0);
    assert_int_equal(io_wait_sync_dir(d.io, "/"), 0);
    return d;
}

static void saved(struct manifest_save *save, int rc, const struct trail *trail)
{
    struct saving *s = container_of(save, struct saving, save);
    assert_false(s->over);
    s->over = true;
    s->rc = rc;
    if (trail != NULL)
        s->trail = *trail;
}

/* False: the power went first. */
static bool save(struct disk *d, struct saving *s, uint64_t number, uint64_t oldest)
{
    memset(s, 0, sizeof(*s));
    buffer_init_heap(&s->bytes, NULL, 0);
    assert_int_equal(sample_encode(&s->bytes, number, SIZE_MAX), 0);
    s->save = (struct manifest_save){.io = d->io,
                                     .folder = "d",
                                     .number = number,
                                     .oldest = oldest,
                                     .bytes = s->bytes.ptr,
                                     .len = s->bytes.len,
                                     .done = saved};
    manifest_save_start(&s->save);
    bool over = disk_pump(d, &s->over);
    buffer_dispose(&s->bytes);
    return over;
}

static void put(struct disk *d, uint64_t number)
{
    struct buffer bytes;
    struct trail trail = {0};
    buffer_init_heap(&bytes, NULL, 0);
    assert_int_equal(sample_encode(&bytes, number, SIZE_MAX), 0);
    assert_int_equal(manifest_save_wait(d->io, "d", number, bytes.ptr, bytes.len, &trail), 0);
    buffer_dispose(&bytes);
}

/* The number of the one that counts. */
static uint64_t load(struct disk *d)
{
    struct manifest_file file;
    struct trail trail = {0};
    assert_int_equal(manifest_load(d->io, "d", &sample_uuid, SHARD, &file, &trail), 0);
    uint64_t number = file.manifest.number;
    sample_expect(&file.manifest, number);
    manifest_file_dispose(&file);
    return number;
}

/* The sample's segments have no files here, so only temporaries and manifests can be cleaned. */
static void clean(struct disk *d, uint64_t number)
{
    struct manifest m = {.number = number};
    struct shard_files_cleaned cleaned = {0};
    struct trail trail = {0};
    assert_int_equal(shard_files_clean(d->io, "d", &m, &cleaned, &trail), 0);
    assert_int_equal(disk_list(d, "d").count, 1);
}

static void a_folder_without_a_manifest_is_not_found(void **state)
{
    (void)state;
    struct disk d = begin(1);
    struct manifest_file file;
    struct trail trail = {0};
    assert_int_equal(manifest_load(d.io, "d", &sample_uuid, SHARD, &file, &trail), PDB_NOT_FOUND);
    assert_int_equal(manifest_load(d.io, "x", &sample_uuid, SHARD, &file, &trail), PDB_NOT_FOUND);
    disk_put(&d, "d", "MANIFEST-0000000001.tmp", "x", 1);
    disk_put(&d, "d", "MANIFEST-1", "x", 1);
    assert_int_equal(manifest_load(d.io, "d", &sample_uuid, SHARD, &file, &trail), PDB_NOT_FOUND);
    assert_int_equal(trail.len, 0);
    disk_end(&d);
}

static void the_highest_one_counts(void **state)
{
    (void)state;
    struct disk d = begin(2);
    put(&d, 9);
    put(&d, 100);
    put(&d, 11);
    disk_put(&d, "d", "MANIFEST-0000000012", "damaged, but not in force", 24);
    assert_int_equal(load(&d), 100);
    disk_end(&d);
}

static void damage_to_the_one_in_force_is_named(void **state)
{
    (void)state;
    struct disk d = begin(3);
    struct manifest_file file;
    struct trail trail = {0};
    size_t len;
    put(&d, 1);
    put(&d, 2);
    uint8_t *bytes = sim_disk_bytes(d.sim, "d/MANIFEST-0000000002", &len);
    assert_non_null(bytes);
    bytes[len / 2] ^= 1;
    assert_int_equal(manifest_load(d.io, "d", &sample_uuid, SHARD, &file, &trail), PDB_DATA_LOSS);
    assert_non_null(strstr(trail.text, "d/MANIFEST-0000000002"));
    disk_end(&d);
}

static void anothers_manifest_is_refused(void **state)
{
    (void)state;
    struct disk d = begin(4);
    struct manifest_file file;
    struct trail trail = {0};
    struct uuid other = {{9}};
    put(&d, 5);
    assert_int_equal(manifest_load(d.io, "d", &other, SHARD, &file, &trail), PDB_DATA_LOSS);
    assert_int_equal(manifest_load(d.io, "d", &sample_uuid, 0, &file, &trail), PDB_DATA_LOSS);
    assert_int_equal(io_wait_rename(d.io, "d/MANIFEST-0000000005", "d/MANIFEST-0000000006"), 0);
    assert_int_equal(manifest_load(d.io, "d", &sample_uuid, SHARD, &file, &trail), PDB_DATA_LOSS);
    disk_end(&d);
}

static void a_save_replaces_the_one_before_for_good(void **state)
{
    (void)state;
    struct disk d = begin(5);
    struct saving s;
    put(&d, 1);
    assert_true(save(&d, &s, 2, 1));
    assert_int_equal(s.rc, 0);
    assert_string_equal(disk_list(&d, "d").text, " MANIFEST-0000000002");
    assert_true(save(&d, &s, 3, 2));
    disk_restart(&d);
    assert_int_equal(load(&d), 3);
    disk_end(&d);
}

static uint64_t ios_of_a_save(void)
{
    struct disk d = begin(6);
    struct saving s;
    put(&d, 1);
    uint64_t before = sim_disk_op_count(d.sim);
    assert_true(save(&d, &s, 2, 1));
    uint64_t count = sim_disk_op_count(d.sim) - before;
    disk_end(&d);
    return count;
}

static void a_power_cut_leaves_the_old_one_or_the_new_one(void **state)
{
    (void)state;
    uint64_t count = ios_of_a_save();
    unsigned old = 0, new = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        for (uint64_t n = 1; n <= count; n++) {
            struct disk d = begin(seed);
            struct saving s;
            put(&d, 1);
            disk_cut_at(&d, n);
            assert_false(save(&d, &s, 2, 1));
            disk_restart(&d);
            uint64_t number = load(&d);
            assert_true(number == 1 || number == 2);
            old += number == 1;
            new += number == 2;
            if (n == count)
                assert_int_equal(number, 2); /* it was durable before the old one went */
            clean(&d, number);
            assert_int_equal(load(&d), number);
            assert_true(save(&d, &s, number + 1, number));
            disk_restart(&d);
            assert_int_equal(load(&d), number + 1);
            disk_end(&d);
        }
    }
    assert_true(old > SEEDS && new > SEEDS);
}

static void a_failed_save_says_whether_the_old_one_is_still_the_one(void **state)
{
    (void)state;
    uint64_t count = ios_of_a_save();
    unsigned certain = 0, uncertain = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        for (uint64_t n = 1; n <= count; n++) {
            struct disk d = begin(seed);
            struct saving s;
            put(&d, 1);
            sim_disk_fail_at(d.sim, n, n % 2 != 0 ? ENOSPC : EIO);
            assert_true(save(&d, &s, 2, 1));
            if (n == count) { /* only the old one's removal */
                assert_int_equal(s.rc, 0);
                disk_end(&d);
                continue;
            }
            assert_int_equal(s.rc, n % 2 != 0 ? PDB_RESOURCE_EXHAUSTED : PDB_UNAVAILABLE);
            assert_int_equal(s.trail.http_status, n % 2 != 0 ? 507 : 0);
            assert_non_null(strstr(s.trail.text, "MANIFEST-0000000002"));
            certain += !s.save.uncertain;
            uncertain += s.save.uncertain;
            if (!s.save.uncertain) {
                assert_int_equal(disk_list(&d, "d").count, 1);
                assert_int_equal(load(&d), 1);
            } else if (seed % 2 == 0) { /* a higher one settles it */
                assert_true(save(&d, &s, 3, 1));
                assert_int_equal(s.rc, 0);
                assert_int_equal(load(&d), 3);
                assert_false(disk_has(&d, "d/MANIFEST-0000000001"));
            }
            disk_restart(&d);
            uint64_t number = load(&d);
            assert_true(number == 1 || s.save.uncertain || s.rc == 0);
            clean(&d, number);
            disk_end(&d);
        }
    }
    assert_true(certain != 0 && uncertain != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_without_a_manifest_is_not_found),
        cmocka_unit_test(the_highest_one_counts),
        cmocka_unit_test(damage_to_the_one_in_force_is_named),
        cmocka_unit_test(anothers_manifest_is_refused),
        cmocka_unit_test(a_save_replaces_the_one_before_for_good),
        cmocka_unit_test(a_power_cut_leaves_the_old_one_or_the_new_one),
        cmocka_unit_test(a_failed_save_says_whether_the_old_one_is_still_the_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
