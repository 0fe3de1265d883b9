/* A shard's folder: which names are ours, what the clean-up at start removes and what it never
 * touches, and how a folder begins and ends. */
#include "engine/shard_files.h"
#include "files_fixture.h"

#include <errno.h>

enum { SEEDS = 25 };

static const struct uuid uuid = {{0xab, 2, 3}};
#define FOLDER "data/collections/ab020300-0000-0000-0000-000000000000"

static struct disk begin(uint64_t seed)
{
    struct disk d = disk_begin(seed);
    struct trail trail = {0};
    assert_int_equal(io_wait_make_dir(d.io, "data"), 0);
    assert_int_equal(io_wait_sync_dir(d.io, "/"), 0);
    assert_int_equal(shard_files_make_root(d.io, "data", &trail), 0);
    assert_int_equal(shard_files_make_root(d.io, "data", &trail), 0);
    return d;
}

static void make_folder(struct disk *d)
{
    assert_int_equal(io_wait_make_dir(d->io, FOLDER), 0);
    assert_int_equal(io_wait_sync_dir(d->io, "data/collections"), 0);
}

static void names_are_parsed_back_and_no_other_spelling_is_ours(void **state)
{
    (void)state;
    static const enum shard_file_kind kinds[] = {SHARD_FILE_MANIFEST, SHARD_FILE_PARQUET,
                                                 SHARD_FILE_INDEX};
    static const uint64_t numbers[] = {1, 9999999999, 10000000000, UINT64_MAX};
    static const char *const others[] = {"",
                                         ".tmp",
                                         "MANIFEST-",
                                         "MANIFEST-1",
                                         "MANIFEST-0000000000",
                                         "MANIFEST-00000000001",
                                         "MANIFEST-0000000001x",
                                         "manifest-0000000001",
                                         "0000000001.parque",
                                         "0000000001.parquet.bak",
                                         "0000000001.parquet.tmp.tmp",
                                         "+000000001.index",
                                         "18446744073709551616.index",
                                         "99999999999999999999999999999999999999999999.tmp",
                                         "0000000001.ann",
                                         "0000000001-.ann",
                                         "0000000001-64.ann",
                                         "0000000001-00.ann",
                                         "000000001-0.ann",
                                         "0000000000-0.ann",
                                         "0000000001-0.anns",
                                         "README"};
    char name[SHARD_NAME_MAX + 8];
    uint64_t number;
    for (size_t k = 0; k < 3; k++) {
        for (size_t i = 0; i < 4; i++) {
            shard_files_name(name, kinds[k], numbers[i]);
            assert_int_equal(shard_files_parse(name, &number), kinds[k]);
            assert_int_equal(number, numbers[i]);
            (void)strcat(name, ".tmp");
            assert_int_equal(shard_files_parse(name, &number), SHARD_FILE_TEMPORARY);
            assert_int_equal(number, 0);
        }
    }
    for (uint32_t field = 0; field < PDB_FIELD_MAX; field += 7) {
        shard_files_ann_name(name, 12345678901, field);
        assert_int_equal(shard_files_parse(name, &number), SHARD_FILE_ANN);
        assert_int_equal(number, 12345678901);
        (void)strcat(name, ".tmp");
        assert_int_equal(shard_files_parse(name, &number), SHARD_FILE_TEMPORARY);
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (shard_files_parse(others[i], &number) != SHARD_FILE_OTHER)
            fail_msg("%s", others[i]);
    char path[SHARD_PATH_MAX];
    shard_files_folder(path, "data", &uuid);
    assert_string_equal(path, FOLDER);
    shard_files_path(path, "f", SHARD_FILE_PARQUET, 7);
    assert_string_equal(path, "f/0000000007.parquet");
}

static void cleaning_removes_what_the_manifest_does_not_name_and_nothing_else(void **state)
{
    (void)state;
    static const char *const stay[] = {"0000000002.parquet", "0000000002.index",
                                       "0000000007.parquet", "MANIFEST-0000000005",
                                       "notes.txt",          "0000000001.parquet.bak"};
    static const char *const go[] = {
        "0000000001.parquet",     "0000000001.index",        "0000000008.index",
        "0000000002.parquet.tmp", "MANIFEST-0000000004",     "MANIFEST-0000000001",
        "0000000009.parquet",     "MANIFEST-0000000006.tmp",
    };
    struct manifest_segment segments[] = {{.number = 2}, {.number = 7}};
    struct manifest m = {.number = 5, .segments = segments, .segment_count = 2};
    struct shard_files_cleaned cleaned = {0};
    struct trail trail = {0};
    struct disk d = begin(1);
    char path[200];
    make_folder(&d);
    for (size_t i = 0; i < sizeof(stay) / sizeof(stay[0]); i++)
        disk_put(&d, FOLDER, stay[i], "x", 1);
    for (size_t i = 0; i < sizeof(go) / sizeof(go[0]); i++)
        disk_put(&d, FOLDER, go[i], "x", 1);
    assert_int_equal(shard_files_clean(d.io, FOLDER, &m, &cleaned, &trail), 0);
    assert_int_equal(disk_list(&d, FOLDER).count, sizeof(stay) / sizeof(stay[0]));
    for (size_t i = 0; i < sizeof(stay) / sizeof(stay[0]); i++) {
        (void)snprintf(path, sizeof(path), FOLDER "/%s", stay[i]);
        assert_true(disk_has(&d, path));
    }
    assert_int_equal(cleaned.temporaries, 2);
    assert_int_equal(cleaned.manifests, 2);
    assert_int_equal(cleaned.segments, 4);
    assert_int_equal(cleaned.failed, 0);
    disk_end(&d);
}

static void a_named_segment_that_is_missing_is_damage_and_nothing_is_removed(void **state)
{
    (void)state;
    struct manifest_segment segments[] = {{.number = 2}, {.number = 7}};
    struct manifest m = {.number = 5, .segments = segments, .segment_count = 2};
    struct shard_files_cleaned cleaned = {0};
    struct trail trail = {0};
    struct disk d = begin(2);
    make_folder(&d);
    disk_put(&d, FOLDER, "0000000002.parquet", "x", 1);
    disk_put(&d, FOLDER, "0000000007.index", "x", 1);
    disk_put(&d, FOLDER, "0000000001.parquet", "x", 1);
    assert_int_equal(shard_files_clean(d.io, FOLDER, &m, &cleaned, &trail), PDB_DATA_LOSS);
    assert_non_null(strstr(trail.text, FOLDER "/0000000007.parquet"));
    assert_int_equal(disk_list(&d, FOLDER).count, 3);
    disk_end(&d);
}

static void segments_without_a_manifest_are_damage_and_stay(void **state)
{
    (void)state;
    struct shard_files_cleaned cleaned = {0};
    struct trail trail = {0};
    struct disk d = begin(3);
    assert_int_equal(shard_files_clean(d.io, FOLDER, NULL, &cleaned, &trail), 0); /* no folder */
    make_folder(&d);
    disk_put(&d, FOLDER, "0000000001.parquet.tmp", "x", 1);
    disk_put(&d, FOLDER, "0000000001.index", "x", 1);
    assert_int_equal(shard_files_clean(d.io, FOLDER, NULL, &cleaned, &trail), 0);
    assert_int_equal(disk_list(&d, FOLDER).count, 0);
    disk_put(&d, FOLDER, "0000000003.parquet", "x", 1);
    assert_int_equal(shard_files_clean(d.io, FOLDER, NULL, &cleaned, &trail), PDB_DATA_LOSS);
    assert_non_null(strstr(trail.text, "0000000003.parquet"));
    assert_true(disk_has(&d, FOLDER "/0000000003.parquet"));
    disk_end(&d);
}

static void a_removal_that_fails_is_counted_and_done_by_the_next_start(void **state)
{
    (void)state;
    struct manifest m = {.number = 5};
    struct shard_files_cleaned cleaned = {0};
    struct trail trail = {0};
    struct disk d = begin(4);
    make_folder(&d);
    disk_put(&d, FOLDER, "0000000001.parquet", "x", 1);
    disk_put(&d, FOLDER, "0000000002.parquet", "x", 1);
    sim_disk_fail_at(d.sim, 1, EIO);
    assert_int_equal(shard_files_clean(d.io, FOLDER, &m, &cleaned, &trail), 0);
    assert_int_equal(cleaned.failed, 1);
    assert_int_equal(cleaned.segments, 1);
    assert_int_equal(shard_files_clean(d.io, FOLDER, &m, &cleaned, &trail), 0);
    assert_int_equal(cleaned.segments, 2);
    assert_int_equal(disk_list(&d, FOLDER).count, 0);
    disk_end(&d);
}

/* ---- the folders of all collections ---- */

static enum shard_files_known by_first_byte(void *arg, const struct uuid *collection)
{
    unsigned *asked = (unsigned *)arg;
    ++*asked;
    return (enum shard_files_known)(collection->bytes[0] % 3);
}

static void put_folder(struct disk *d, const char *name, const char *file)
{
    char path[200];
    (void)snprintf(path, sizeof(path), "data/collections/%s", name);
    assert_int_equal(io_wait_make_dir(d->io, path), 0);
    disk_put(d, path, "MANIFEST-0000000001", "x", 1);
    disk_put(d, path, file, "x", 1);
}

static void the_sweep_removes_only_what_is_dropped_and_wholly_ours(void **state)
{
    (void)state;
    struct shard_files_cleaned cleaned = {0};
    struct trail trail = {0};
    struct disk d = begin(5);
    unsigned asked = 0;
    put_folder(&d, "00000000-0000-0000-0000-000000000000", "0000000001.parquet"); /* live */
    put_folder(&d, "01000000-0000-0000-0000-000000000000", "0000000001.parquet"); /* dropped */
    put_folder(&d, "02000000-0000-0000-0000-000000000000", "0000000001.parquet"); /* unknown */
    put_folder(&d, "04000000-0000-0000-0000-000000000000", "notes"); /* dropped, not ours alone */
    put_folder(&d, "AB000000-0000-0000-0000-000000000000", "0000000001.parquet"); /* spelling */
    put_folder(&d, "backup", "0000000001.parquet");
    assert_int_equal(shard_files_sweep(d.io, "data", by_first_byte, &asked, &cleaned, &trail), 0);
    assert_int_equal(asked, 4);
    assert_int_equal(cleaned.collections, 1);
    assert_int_equal(cleaned.unknown, 1);
    assert_int_equal(cleaned.failed, 1);
    assert_int_equal(disk_list(&d, "data/collections").count, 5);
    assert_true(disk_has(&d, "data/collections/04000000-0000-0000-0000-000000000000/notes"));
    assert_true(
        disk_has(&d, "data/collections/02000000-0000-0000-0000-000000000000/0000000001.parquet"));
    disk_end(&d);
}

/* ---- beginning and removing ---- */

struct beginning {
    struct shard_begin begin;
    bool over;
    int rc;
};

static void begun(struct shard_begin *op, int rc, const struct trail *trail)
{
    struct beginning *b = container_of(op, struct beginning, begin);
    b->over = true;
    b->rc = rc;
    assert_int_equal(trail == NULL, rc == 0);
}

static bool begin_shard(struct disk *d, struct beginning *b)
{
    memset(b, 0, sizeof(*b));
    b->begin.io = d->io;
    b->begin.data_dir = "data";
    b->begin.collection = uuid;
    b->begin.shard = 2;
    b->begin.done = begun;
    shard_begin_start(&b->begin);
    return disk_pump(d, &b->over);
}

/* What a start would do; false: nothing had begun. */
static bool load_and_clean(struct disk *d)
{
    struct manifest_file file = {0};
    struct shard_files_cleaned cleaned = {0};
    struct trail trail = {0};
    int rc = manifest_load(d->io, FOLDER, &uuid, 2, &file, &trail);
    assert_true(rc == 0 || rc == PDB_NOT_FOUND);
    if (rc == 0) {
        assert_int_equal(file.manifest.number, 1);
        assert_int_equal(file.manifest.next_segment, 1);
        assert_int_equal(file.manifest.segment_count, 0);
    }
    assert_int_equal(
        shard_files_clean(d->io, FOLDER, rc == 0 ? &file.manifest : NULL, &cleaned, &trail), 0);
    manifest_file_dispose(&file);
    return rc == 0;
}

static void a_folder_begins_with_a_manifest_whenever_the_power_goes(void **state)
{
    (void)state;
    struct beginning *b = test_malloc(sizeof(*b));
    struct disk d = begin(6);
    uint64_t before = sim_disk_op_count(d.sim);
    assert_true(begin_shard(&d, b));
    assert_int_equal(b->rc, 0);
    uint64_t count = sim_disk_op_count(d.sim) - before;
    disk_restart(&d);
    assert_true(load_and_clean(&d));
    disk_end(&d);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        for (uint64_t n = 1; n <= count; n++) {
            d = begin(seed);
            disk_cut_at(&d, n);
            assert_false(begin_shard(&d, b));
            disk_restart(&d);
            if (!load_and_clean(&d)) { /* again, over what is there */
                assert_true(begin_shard(&d, b));
                assert_int_equal(b->rc, 0);
                disk_restart(&d);
                assert_true(load_and_clean(&d));
            }
            assert_string_equal(disk_list(&d, FOLDER).text, " MANIFEST-0000000001");
            disk_end(&d);
        }
    }
    enum { WITNESS_STEPS = 2 }; /* the last ones, which may fail */
    for (uint64_t n = 1; n <= count; n++) {
        d = begin(n);
        sim_disk_fail_at(d.sim, n, ENOSPC);
        assert_true(begin_shard(&d, b));
        assert_int_equal(b->rc, n + WITNESS_STEPS <= count ? PDB_RESOURCE_EXHAUSTED : 0);
        disk_end(&d);
    }
    test_free(b);
}

struct removing {
    struct shard_remove remove;
    bool over;
};

static void gone(struct shard_remove *op)
{
    container_of(op, struct removing, remove)->over = true;
}

static void remove_files(struct disk *d, struct removing *r, const uint64_t *numbers,
                         uint32_t count)
{
    memset(r, 0, sizeof(*r));
    r->remove.io = d->io;
    r->remove.folder = FOLDER;
    r->remove.numbers = numbers;
    r->remove.count = count;
    r->remove.done = gone;
    shard_remove_start(&r->remove);
    assert_true(disk_pump(d, &r->over));
}

static void dead_segments_and_dropped_folders_are_given_back(void **state)
{
    (void)state;
    static const uint64_t numbers[] = {3, 4, 99};
    struct removing *r = test_malloc(sizeof(*r));
    struct disk d = begin(7);
    make_folder(&d);
    for (uint64_t i = 1; i <= 4; i++) {
        char name[SHARD_NAME_MAX];
        shard_files_name(name, SHARD_FILE_PARQUET, i);
        disk_put(&d, FOLDER, name, "x", 1);
        shard_files_name(name, SHARD_FILE_INDEX, i);
        disk_put(&d, FOLDER, name, "x", 1);
    }
    sim_disk_fail_at(d.sim, 2, EIO);
    remove_files(&d, r, numbers, 3);
    assert_int_equal(r->remove.removed, 3);
    assert_int_equal(r->remove.failed, 1);
    remove_files(&d, r, numbers, 3);
    assert_int_equal(r->remove.removed, 1);
    assert_int_equal(r->remove.failed, 0);
    assert_int_equal(disk_list(&d, FOLDER).count, 4);
    disk_put(&d, FOLDER, "MANIFEST-0000000002", "x", 1);
    disk_put(&d, FOLDER, "0000000005.parquet.tmp", "x", 1);
    remove_files(&d, r, NULL, 0);
    assert_int_equal(disk_list(&d, "data/collections").count, 0);
    remove_files(&d, r, NULL, 0); /* nothing there: still an end */
    assert_int_equal(r->remove.failed, 0);
    make_folder(&d);
    for (uint64_t i = 1; i <= 500; i++) { /* more names than it lists at once */
        char name[SHARD_NAME_MAX];
        shard_files_name(name, SHARD_FILE_PARQUET, i);
        disk_put(&d, FOLDER, name, "x", 1);
    }
    remove_files(&d, r, NULL, 0);
    assert_int_equal(r->remove.removed, 501);
    assert_int_equal(disk_list(&d, "data/collections").count, 0);
    make_folder(&d);
    disk_put(&d, FOLDER, "notes", "x", 1);
    remove_files(&d, r, NULL, 0);
    assert_int_equal(r->remove.failed, 1);
    assert_true(disk_has(&d, FOLDER "/notes"));
    test_free(r);
    disk_end(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_parsed_back_and_no_other_spelling_is_ours),
        cmocka_unit_test(cleaning_removes_what_the_manifest_does_not_name_and_nothing_else),
        cmocka_unit_test(a_named_segment_that_is_missing_is_damage_and_nothing_is_removed),
        cmocka_unit_test(segments_without_a_manifest_are_damage_and_stay),
        cmocka_unit_test(a_removal_that_fails_is_counted_and_done_by_the_next_start),
        cmocka_unit_test(the_sweep_removes_only_what_is_dropped_and_wholly_ours),
        cmocka_unit_test(a_folder_begins_with_a_manifest_whenever_the_power_goes),
        cmocka_unit_test(dead_segments_and_dropped_folders_are_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
