/* src/engine/recover_replay.c and the stop in recover.c: the logs of a database are replayed in
 * another folder up to each moment that they know, and what comes back is compared with a model. */
#include "engine_fixture.h"

#include "engine/engine_internal.h"

#include <sys/stat.h>

enum { COLLECTIONS = 3, IDS = 6, CHANGES_MAX = 2000, DIMENSION = 300, LOG_NUMBER = 1000 };

struct change { /* one batch of one row */
    int collection, id;
    float value; /* 0: deleted */
    uint64_t version;
    /* where its record lies */
    struct uuid log;
    uint64_t lsn;
    int64_t time_us;
};

struct history {
    struct fixture fx;
    struct change changes[CHANGES_MAX];
    size_t count;
    struct uuid uuids[COLLECTIONS];
};

static const char *const names[COLLECTIONS] = {"a", "b", "c"};

__attribute__((format(printf, 1, 2))) static void shell(const char *format, ...)
{
    char command[2048];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

static void change_one(struct history *h, int collection, int id, bool deleted)
{
    assert_true(h->count < CHANGES_MAX);
    struct change *change = &h->changes[h->count++];
    float values[DIMENSION] = {0};
    char id_text[8];
    (void)snprintf(id_text, sizeof(id_text), "id%d", id);
    *change =
        (struct change){.collection = collection, .id = id, .value = deleted ? 0 : (float)h->count};
    if (deleted) {
        struct pdb_text ids[1] = {txt(id_text)};
        struct pdb_delete d = {.collection = txt(names[collection]), .ids = ids, .id_count = 1};
        assert_done(&h->fx, do_delete(&h->fx, &d));
        change->version = d.version_out;
        h->count -= d.count_out == 0; /* nothing was there: nothing is logged */
        return;
    }
    values[0] = change->value;
    struct pdb_vector vector;
    struct pdb_record r = record(id_text, &vector, values, DIMENSION);
    struct pdb_write w = {.collection = txt(names[collection]), .records = &r, .record_count = 1};
    assert_done(&h->fx, do_write(&h->fx, &w));
    change->version = w.version_out;
}

static void change_some(struct history *h, unsigned seed, int count)
{
    srand(seed);
    for (int i = 0; i < count; i++)
        change_one(h, rand() % COLLECTIONS, rand() % IDS, rand() % 4 == 0);
}

static void uuids_of(struct history *h)
{
    for (int c = 0; c < COLLECTIONS; c++) {
        struct pdb_collection_get g = {.name = txt(names[c])};
        assert_done(&h->fx, do_describe(&h->fx, &g));
        assert_int_equal(uuid_parse(g.info_out.uuid, strlen(g.info_out.uuid), &h->uuids[c]), 0);
    }
}

static int place_change(void *arg, const struct wal_record_info *info)
{
    struct history *h = arg;
    for (size_t i = 0; i < h->count && info->type == WAL_RECORD_ROWS; i++) {
        struct change *change = &h->changes[i];
        if (change->version != info->version ||
            !uuid_equal(&h->uuids[change->collection], &info->collection))
            continue;
        change->log = info->log;
        change->lsn = info->lsn;
        change->time_us = info->time_us;
    }
    return 0;
}

/* A folder as a restore from an archive makes it; its logs begin with number LOG_NUMBER. */
static void make_folder(struct history *h, char folder[256])
{
    fixture_dir(folder);
    shell("mkdir '%s/wal' && cp -r '%s/catalog' '%s/' && rm -f '%s/catalog/LOGS' && "
          "for n in $(ls '%s/wal'); do cp -r '%s/wal/'$n '%s/wal/'$((n + %d)); done",
          folder, h->fx.dir, folder, folder, h->fx.dir, h->fx.dir, folder, LOG_NUMBER);
}

static void history_begin(struct history *h, unsigned cores)
{
    memset(h, 0, sizeof(*h));
    fixture_begin(&h->fx, cores);
    pdb_close(h->fx.db);
    h->fx.options.ttl_sweep_ms = 3600000; /* nothing is flushed: all logs stay */
    fixture_open(&h->fx, cores);
    for (int c = 0; c < COLLECTIONS; c++)
        create(&h->fx, names[c], DIMENSION);
}

static void history_end(struct history *h)
{
    pdb_arena_free(h->fx.arena);
    remove_tree(h->fx.dir);
}

static bool is_in(const struct change *change, const struct replay_stop *stop)
{
    if (stop->exact && uuid_equal(&change->log, &stop->log))
        return change->lsn <= stop->lsn;
    return change->time_us <= stop->time_us;
}

/* The database of `fx` has what the changes up to the stop have made, and nothing else. */
static void compare(const struct history *h, struct fixture *fx, const struct replay_stop *stop)
{
    const struct change *rows[COLLECTIONS][IDS] = {{NULL}};
    uint64_t versions[COLLECTIONS] = {0};
    for (size_t i = 0; i < h->count; i++) {
        const struct change *change = &h->changes[i];
        if (!is_in(change, stop))
            continue;
        versions[change->collection] = change->version;
        rows[change->collection][change->id] = change->value != 0 ? change : NULL;
    }
    for (int c = 0; c < COLLECTIONS; c++) {
        struct pdb_collection_get g = {.name = txt(names[c])};
        uint64_t live = 0;
        assert_done(fx, do_describe(fx, &g));
        assert_int_equal(g.info_out.version, versions[c]);
        for (int id = 0; id < IDS; id++) {
            char id_text[8];
            (void)snprintf(id_text, sizeof(id_text), "id%d", id);
            struct pdb_row row = row_of(fx, names[c], id_text);
            const struct change *expected = rows[c][id];
            assert_int_equal(row.version, expected != NULL ? expected->version : 0);
            if (expected != NULL)
                assert_memory_equal(row.vectors[0], &expected->value, sizeof(float));
            live += expected != NULL;
        }
        assert_int_equal(count_of(fx, names[c], NULL), live);
    }
}

static struct fixture replayed(const char *folder, unsigned cores, const struct replay_stop *stop)
{
    struct fixture fx = {.arena = pdb_arena_new(0), .options = fixture_options(folder, cores)};
    struct pdb_error error;
    (void)snprintf(fx.dir, sizeof(fx.dir), "%s", folder);
    fx.options.data_dir = fx.dir;
    if (engine_open_replay(&fx.options, stop, &fx.db, &error) < 0)
        fail_msg("replay: %s", error.text);
    return fx;
}

/* Replays in a folder of its own; then the logs go and the database is opened as any other. */
static void replay_to(struct history *h, unsigned cores, const struct replay_stop *stop)
{
    char folder[256];
    make_folder(h, folder);
    struct fixture fx = replayed(folder, cores, stop);
    compare(h, &fx, stop);
    pdb_close(fx.db);
    shell("rm -rf '%s/wal' '%s/catalog/LOGS'", folder, folder);
    fx.options.data_dir = fx.dir;
    fixture_open(&fx, 2);
    compare(h, &fx, stop);
    fixture_end(&fx);
}

static void keep_history(struct history *h)
{
    struct io *io = NULL;
    const char *reason = NULL;
    char wal[300];
    const char *const dirs[1] = {wal};
    uuids_of(h);
    pdb_close(h->fx.db);
    (void)snprintf(wal, sizeof(wal), "%s/wal", h->fx.dir);
    assert_int_equal(io_create(IO_ENGINE_THREADS, &io, &reason), 0);
    struct wal_scan_options options = {
        .dirs = dirs, .dir_count = 1, .from_lowest = true, .visit = place_change, .arg = h};
    struct wal_scan *scan = NULL;
    assert_int_equal(wal_scan_open(io, &options, &scan, NULL), 0);
    wal_scan_close(scan);
    io->ops->destroy(io);
    for (size_t i = 0; i < h->count; i++)
        assert_true(h->changes[i].time_us != 0);
}

/* ---- the claims ---- */

static void a_replay_to_a_time_has_exactly_the_groups_up_to_it(void **state)
{
    (void)state;
    struct history h;
    history_begin(&h, 2);
    change_some(&h, 1, 60);
    keep_history(&h);
    for (size_t i = 0; i < h.count; i += 6) {
        struct replay_stop stop = {.time_us = h.changes[i].time_us};
        replay_to(&h, 1 + (unsigned)i % 3, &stop);
        stop.time_us--;
        replay_to(&h, 2, &stop);
    }
    struct replay_stop never = {.time_us = 0}, all = {.time_us = INT64_MAX};
    replay_to(&h, 2, &never);
    replay_to(&h, 2, &all);
    history_end(&h);
}

static void a_replay_to_a_record_ends_its_log_right_behind_it(void **state)
{
    (void)state;
    struct history h;
    history_begin(&h, 2);
    change_some(&h, 2, 60);
    keep_history(&h);
    for (size_t i = 0; i < h.count; i += 5) {
        const struct change *change = &h.changes[i];
        struct replay_stop stop = {change->time_us, true, change->log, change->lsn};
        replay_to(&h, 1 + (unsigned)i % 2, &stop);
    }
    history_end(&h);
}

static void a_collection_that_went_on_in_other_logs_ends_where_the_stop_is(void **state)
{
    (void)state;
    struct history h;
    static const unsigned cores[] = {3, 1, 2};
    history_begin(&h, 2);
    for (unsigned i = 0; i < 3; i++) {
        change_some(&h, 10 + i, 25);
        fixture_reopen(&h.fx, cores[i]);
    }
    change_some(&h, 20, 25);
    keep_history(&h);
    for (size_t i = 3; i < h.count; i += 12) {
        const struct change *change = &h.changes[i];
        struct replay_stop stop = {change->time_us, i % 2 != 0, change->log, change->lsn};
        replay_to(&h, 2, &stop);
    }
    history_end(&h);
}

/* As long replays are made: in several rounds, each on what the one before has left. */
static void a_replay_goes_on_where_the_one_before_has_ended(void **state)
{
    (void)state;
    struct history h;
    char folder[256];
    history_begin(&h, 2);
    change_some(&h, 3, 120);
    keep_history(&h);
    make_folder(&h, folder);
    for (size_t i = 7; i < h.count; i += 16) {
        struct replay_stop stop = {.time_us = h.changes[i].time_us};
        struct fixture fx = replayed(folder, 1 + (unsigned)i % 2, &stop);
        compare(&h, &fx, &stop);
        pdb_close(fx.db);
        pdb_arena_free(fx.arena);
        shell("rm -rf '%s'/wal/? '%s/catalog/LOGS'", folder, folder);
    }
    remove_tree(folder);
    history_end(&h);
}

/* The catalog of the stop does not have them, and neither do its dropped ones. */
static void records_of_collections_that_the_catalog_does_not_have_are_skipped(void **state)
{
    (void)state;
    struct history h;
    char folder[256], before[300];
    history_begin(&h, 2);
    change_some(&h, 4, 20);
    (void)snprintf(before, sizeof(before), "%s/before", h.fx.dir);
    shell("cp -r '%s/catalog' '%s'", h.fx.dir, before);
    create(&h.fx, "later", 1);
    const float value = 1;
    assert_done(&h.fx, put(&h.fx, "later", "x", &value, 1, NULL));
    change_some(&h, 5, 20);
    keep_history(&h);
    make_folder(&h, folder);
    shell("rm -rf '%s/catalog' && mv '%s' '%s/catalog' && rm -f '%s/catalog/LOGS'", folder, before,
          folder, folder);
    struct replay_stop stop = {.time_us = h.changes[30].time_us};
    struct fixture fx = replayed(folder, 2, &stop);
    compare(&h, &fx, &stop);
    struct pdb_collection_get g = {.name = txt("later")};
    assert_int_equal(do_describe(&fx, &g), PDB_NOT_FOUND);
    pdb_close(fx.db);
    pdb_arena_free(fx.arena);
    remove_tree(folder);
    history_end(&h);
}

static void a_version_that_no_log_has_refuses_the_replay(void **state)
{
    (void)state;
    struct history h;
    char folder[256];
    history_begin(&h, 1);
    change_some(&h, 7, 320); /* each takes a block of 4 KiB: more than one segment */
    keep_history(&h);
    make_folder(&h, folder);
    shell("rm \"$(ls '%s'/wal/1000/*.wal | head -1)\"", folder);
    struct pdb_options options = fixture_options(folder, 1);
    struct replay_stop stop = {.time_us = INT64_MAX};
    struct pdb *db = NULL;
    struct pdb_error error;
    assert_int_equal(engine_open_replay(&options, &stop, &db, &error), PDB_DATA_LOSS);
    assert_non_null(strstr(error.text, "are missing from the log"));
    remove_tree(folder);
    history_end(&h);
}

/* After a kill, versions of weak modes jump; a moment of the past has the versions that it had. */
static void versions_do_not_jump_in_a_replay(void **state)
{
    (void)state;
    struct history h;
    history_begin(&h, 1);
    struct pdb_collection_update u = {
        .name = txt("b"), .has_sync = true, .sync = PDB_SYNC_PERIODIC};
    assert_done(&h.fx, do_alter(&h.fx, &u));
    change_some(&h, 6, 40);
    shell("cp -r '%s/wal' '%s/killed'", h.fx.dir, h.fx.dir); /* nobody has closed these logs */
    keep_history(&h);
    shell("rm -rf '%s/wal' && mv '%s/killed' '%s/wal'", h.fx.dir, h.fx.dir, h.fx.dir);
    struct replay_stop stop = {.time_us = h.changes[20].time_us};
    replay_to(&h, 1, &stop);
    history_end(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replay_to_a_time_has_exactly_the_groups_up_to_it),
        cmocka_unit_test(a_replay_to_a_record_ends_its_log_right_behind_it),
        cmocka_unit_test(a_collection_that_went_on_in_other_logs_ends_where_the_stop_is),
        cmocka_unit_test(a_replay_goes_on_where_the_one_before_has_ended),
        cmocka_unit_test(records_of_collections_that_the_catalog_does_not_have_are_skipped),
        cmocka_unit_test(a_version_that_no_log_has_refuses_the_replay),
        cmocka_unit_test(versions_do_not_jump_in_a_replay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
