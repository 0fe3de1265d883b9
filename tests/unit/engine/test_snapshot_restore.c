/* What is restored is what was there when the snapshot was taken, whatever has happened since; what
 * cannot be restored changes nothing. */
#include "snapshot_fixture.h"

#include "engine/catalog.h"

#include <pthread.h>

static void a_restored_collection_equals_the_model_of_its_moment(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model = {0}, then;
    fixture_begin(&fx, 2);
    rng_seed(&model.rng, 1);
    create(&fx, "c", MODEL_DIMENSION);
    model_changes(&fx, &model, "c", 150);
    assert_done(&fx, take_snapshot(&fx, "s", "c", NULL));
    then = model;
    model_changes(&fx, &model, "c", 150);
    assert_done(&fx, take_snapshot(&fx, "later", "c", NULL)); /* flushes again */
    model_changes(&fx, &model, "c", 30);
    struct pdb_snapshot_restore r = {.name = txt("s"), .target = txt("copy")};
    assert_done(&fx, do_restore(&fx, &r));
    assert_int_equal(r.info_out.version, then.version);
    assert_int_equal(r.info_out.record_count, model_live(&then));
    assert_true(same_text(r.info_out.config.name, "copy"));
    model_compare(&fx, &then, "copy");
    model_compare(&fx, &model, "c");
    fixture_reopen(&fx, 1);
    model_compare(&fx, &then, "copy");
    model_compare(&fx, &model, "c");
    fixture_end(&fx);
}

static void a_restored_collection_lives_on_and_is_taken_again(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model = {0}, copy, copy_then;
    fixture_begin(&fx, 2);
    rng_seed(&model.rng, 2);
    create(&fx, "c", MODEL_DIMENSION);
    model_changes(&fx, &model, "c", 100);
    assert_done(&fx, take_snapshot(&fx, "s", "c", NULL));
    assert_done(&fx, restore(&fx, "s", "copy", false));
    copy = model;
    model_changes(&fx, &copy, "copy", 100);
    assert_done(&fx, take_snapshot(&fx, "second", "copy", NULL));
    copy_then = copy;
    model_changes(&fx, &copy, "copy", 50);
    assert_done(&fx, delete_snapshot(&fx, "s"));
    struct pdb_collection_delete d = {.name = txt("c")};
    assert_done(&fx, do_drop(&fx, &d));
    assert_done(&fx, restore(&fx, "second", "third", false));
    model_compare(&fx, &copy_then, "third");
    model_compare(&fx, &copy, "copy");
    fixture_reopen(&fx, 2);
    model_compare(&fx, &copy_then, "third");
    model_compare(&fx, &copy, "copy");
    fixture_end(&fx);
}

/* As the catalog of the closed database says. */
static uint64_t born_version_of(struct fixture *fx, const char *name)
{
    struct io *io = NULL;
    const char *reason = NULL;
    struct arena arena;
    struct catalog_image image;
    uint64_t found = UINT64_MAX;
    arena_init(&arena, 0);
    assert_int_equal(io_create(IO_ENGINE_THREADS, &io, &reason), 0);
    assert_int_equal(catalog_read(io, fx->dir, &arena, &image, NULL), 0);
    for (uint32_t i = 0; i < image.count; i++)
        if (same_text(image.entries[i]->config.name, name))
            found = image.entries[i]->born_version;
    catalog_image_dispose(&image);
    io->ops->destroy(io);
    arena_dispose(&arena);
    return found;
}

static void the_catalog_knows_what_a_restored_collection_was_born_with(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model = {0};
    fixture_begin(&fx, 2);
    rng_seed(&model.rng, 9);
    create(&fx, "c", MODEL_DIMENSION);
    model_changes(&fx, &model, "c", 40);
    uint64_t then = model.version;
    assert_done(&fx, take_snapshot(&fx, "s", "c", NULL));
    assert_done(&fx, restore(&fx, "s", "copy", false));
    model_changes(&fx, &model, "copy", 10);
    struct pdb_collection_update u = {
        .name = txt("copy"), .has_description = true, .description = txt("changed")};
    assert_done(&fx, do_alter(&fx, &u));
    pdb_close(fx.db);
    assert_int_equal(born_version_of(&fx, "c"), 0);
    assert_int_equal(born_version_of(&fx, "copy"), then);
    fixture_open(&fx, 1);
    fixture_end(&fx);
}

static void a_target_that_exists_is_replaced_only_when_asked(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model = {0}, then;
    fixture_begin(&fx, 2);
    rng_seed(&model.rng, 3);
    create(&fx, "c", MODEL_DIMENSION);
    model_changes(&fx, &model, "c", 100);
    assert_done(&fx, take_snapshot(&fx, "s", "", NULL));
    then = model;
    model_changes(&fx, &model, "c", 100);
    assert_refused(&fx, restore(&fx, "s", "", false), PDB_ALREADY_EXISTS,
                   "collection 'c' already exists");
    model_compare(&fx, &model, "c");
    assert_done(&fx, restore(&fx, "s", "", true));
    model_compare(&fx, &then, "c");
    struct pdb_collection_list l = {0};
    assert_done(&fx, do_list(&fx, &l));
    assert_int_equal(l.count_out, 1);
    fixture_reopen(&fx, 2);
    model_compare(&fx, &then, "c");
    assert_int_equal(count_names(fx.dir, "collections"), 1);
    assert_int_equal(count_names(fx.dir, "snapshots"), 1);
    fixture_end(&fx);
}

static void one_of_several_collections_must_be_named(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "a", 2);
    create(&fx, "b", 2);
    assert_done(&fx, put(&fx, "b", "x", (float[]){1, 2}, 2, NULL));
    assert_done(&fx, take_snapshot(&fx, "s", "", NULL));
    assert_refused(&fx, restore(&fx, "s", "t", false), PDB_INVALID_ARGUMENT,
                   "collection: the snapshot has 2 collections; one must be named");
    struct pdb_snapshot_restore r = {.name = txt("s"), .collection = txt("b"), .target = txt("t")};
    assert_done(&fx, do_restore(&fx, &r));
    assert_int_equal(count_of(&fx, "t", NULL), 1);
    r = (struct pdb_snapshot_restore){
        .name = txt("s"), .collection = txt("a"), .target = txt("empty")};
    assert_done(&fx, do_restore(&fx, &r));
    assert_done(&fx, put(&fx, "empty", "x", (float[]){1, 2}, 2, NULL));
    assert_int_equal(count_of(&fx, "empty", NULL), 1);
    r = (struct pdb_snapshot_restore){.name = txt("s"), .collection = txt("z")};
    assert_refused(&fx, do_restore(&fx, &r), PDB_NOT_FOUND,
                   "collection 'z' is not in the snapshot");
    assert_refused(&fx, restore(&fx, "none", "t2", false), PDB_NOT_FOUND,
                   "snapshot 'none' does not exist");
    assert_int_equal(restore(&fx, "s", ".t", false), PDB_INVALID_ARGUMENT);
    fixture_end(&fx);
}

/* Each file of the snapshot in turn has one byte changed. The live collection shares the files, so
 * it is dropped first, and the damage is undone after each. */
static void a_damaged_file_refuses_the_restore_and_changes_nothing(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model = {0};
    struct pdb_snapshot_info info;
    char folder[600];
    fixture_begin(&fx, 1);
    rng_seed(&model.rng, 4);
    create(&fx, "c", MODEL_DIMENSION);
    model_changes(&fx, &model, "c", 100);
    assert_done(&fx, take_snapshot(&fx, "s", "c", &info));
    struct pdb_collection_delete d = {.name = txt("c")};
    assert_done(&fx, do_drop(&fx, &d));
    (void)snprintf(folder, sizeof(folder), "%s/snapshots/s/%s", fx.dir, info.parts[0].uuid);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    unsigned damaged = 0;
    for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[900];
        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof(path), "%s/%.100s", folder, e->d_name);
        FILE *file = fopen(path, "r+");
        assert_non_null(file);
        assert_int_equal(fseek(file, 60, SEEK_SET), 0);
        int byte = fgetc(file);
        assert_int_equal(fseek(file, 60, SEEK_SET), 0);
        assert_int_equal(fputc(byte ^ 1, file), byte ^ 1);
        assert_int_equal(fflush(file), 0);
        assert_int_equal(restore(&fx, "s", "t", false), PDB_DATA_LOSS);
        assert_non_null(strstr(fx.error.text, "does not fit its checksum"));
        assert_int_equal(fseek(file, 60, SEEK_SET), 0);
        assert_int_equal(fputc(byte, file), byte);
        assert_int_equal(fclose(file), 0);
        damaged++;
    }
    (void)closedir(dir);
    assert_int_equal(damaged, 3);
    assert_int_equal(count_names(fx.dir, "snapshots"), 1);
    assert_done(&fx, restore(&fx, "s", "t", false));
    model_compare(&fx, &model, "t");
    fixture_end(&fx);
}

/* ---- under writes ---- */

struct writer {
    struct fixture *fx;
    uint64_t stop; /* atomic */
    uint64_t versions;
};

/* Batch n writes `n` as the vector of all ten records: a state of one version shows one number. */
static void *write_on(void *arg)
{
    struct writer *writer = arg;
    struct fixture fx = *writer->fx;
    fx.arena = pdb_arena_new(0);
    for (uint64_t n = 1; __atomic_load_n(&writer->stop, __ATOMIC_ACQUIRE) == 0; n++) {
        struct pdb_record records[10];
        struct pdb_vector vectors[10];
        char ids[10][16];
        float values[MODEL_DIMENSION] = {(float)n, 0, 0, 0};
        for (unsigned i = 0; i < 10; i++)
            records[i] = record(model_id(i, ids[i]), &vectors[i], values, MODEL_DIMENSION);
        struct pdb_write w = {.collection = txt("c"), .records = records, .record_count = 10};
        assert_int_equal(do_write(&fx, &w), 0);
        assert_int_equal(w.version_out, n);
        pdb_arena_reset(fx.arena);
    }
    pdb_arena_free(fx.arena);
    return NULL;
}

static void snapshots_under_writes_are_of_one_version(void **state)
{
    (void)state;
    struct fixture fx;
    struct writer writer = {.fx = &fx};
    pthread_t thread;
    fixture_begin(&fx, 2);
    fx.options.flush_rows = 30; /* segments come and go all the time */
    fx.options.segments_max = 1;
    fixture_reopen(&fx, 2);
    create(&fx, "c", MODEL_DIMENSION);
    assert_int_equal(pthread_create(&thread, NULL, write_on, &writer), 0);
    for (unsigned round = 0; round < 20; round++) {
        char name[16], id[16];
        struct pdb_snapshot_info info;
        (void)snprintf(name, sizeof(name), "s%u", round);
        assert_done(&fx, take_snapshot(&fx, name, "c", &info));
        assert_done(&fx, restore(&fx, name, name, false));
        uint64_t version = info.parts[0].version;
        assert_int_equal(info.parts[0].rows, version == 0 ? 0 : 10);
        for (unsigned i = 0; i < 10 && version != 0; i++) {
            struct pdb_row row = row_of(&fx, name, model_id(i, id));
            assert_int_equal(row.version, version);
            assert_true(((const float *)row.vectors[0])[0] == (float)version);
        }
        pdb_arena_reset(fx.arena);
    }
    __atomic_store_n(&writer.stop, 1, __ATOMIC_RELEASE);
    assert_int_equal(pthread_join(thread, NULL), 0);
    fixture_end(&fx);
}

/* 16 MiB of vectors that stay in memory, and a limit in which they fit once. */
static void a_restore_beyond_the_memory_limit_is_refused_and_leaves_nothing(void **state)
{
    (void)state;
    enum { ROWS = 4000, DIMENSION = 1024 };
    static float values[DIMENSION];
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", DIMENSION);
    for (unsigned i = 0; i < ROWS; i++) {
        char id[16];
        values[i % DIMENSION] = (float)(i + 1);
        assert_done(&fx, put(&fx, "c", model_id(i, id), values, DIMENSION, NULL));
    }
    assert_done(&fx, take_snapshot(&fx, "s", "c", NULL));
    fx.options.memory_limit = (uint64_t)28 << 20;
    fixture_reopen(&fx, 2);
    assert_int_equal(restore(&fx, "s", "copy", false), PDB_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(fx.error.text, "storage.memory_limit"));
    assert_int_equal(count_names(fx.dir, "collections"), 1);
    assert_int_equal(count_names(fx.dir, "snapshots"), 1);
    assert_int_equal(count_of(&fx, "c", NULL), ROWS);
    struct pdb_collection_delete d = {.name = txt("c")};
    assert_done(&fx, do_drop(&fx, &d));
    int rc = PDB_RESOURCE_EXHAUSTED; /* until the other core has heard that there is room */
    for (unsigned i = 0; i < 6000 && rc == PDB_RESOURCE_EXHAUSTED; i++) {
        rc = restore(&fx, "s", "copy", false);
        (void)usleep(10000);
    }
    assert_done(&fx, rc);
    assert_int_equal(count_of(&fx, "copy", NULL), ROWS);
    fixture_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restored_collection_equals_the_model_of_its_moment),
        cmocka_unit_test(a_restored_collection_lives_on_and_is_taken_again),
        cmocka_unit_test(the_catalog_knows_what_a_restored_collection_was_born_with),
        cmocka_unit_test(a_target_that_exists_is_replaced_only_when_asked),
        cmocka_unit_test(one_of_several_collections_must_be_named),
        cmocka_unit_test(a_damaged_file_refuses_the_restore_and_changes_nothing),
        cmocka_unit_test(snapshots_under_writes_are_of_one_version),
        cmocka_unit_test(a_restore_beyond_the_memory_limit_is_refused_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
