/* Flushes, merges and damaged segments in their worst moments, on a simulated disk. */
#include "attack.h"

#include "os/sim.h"
#include "wal/wal_internal.h"

enum { IDS = 40 };

static struct pdb *open_with(struct sim_disk *disk, uint64_t compaction_rate, uint64_t flush_rows)
{
    struct pdb_options options = {
        .data_dir = ".",
        .cores = 1,
        .wal_segment_bytes = 1 << 20,
        .disk_min_free_bytes = UINT64_MAX,
        .wal_on_error = PDB_WAL_READONLY,
        .memory_limit = (uint64_t)1 << 30,
        .flush_rows = flush_rows,
        .flush_age_s = 1,
        .segments_max = 2,
        .ttl_sweep_ms = 20,
        .wal_max_bytes = 1,
        .compaction_rate_bytes_per_s = compaction_rate,
    };
    struct pdb *db = NULL;
    struct pdb_error error;
    if (engine_open_sim(&options, disk, &db, &error) < 0)
        fail_msg("open: %s", error.text);
    return db;
}

static int put_number(struct fixture *fx, unsigned id, float value)
{
    char text[16];
    (void)snprintf(text, sizeof(text), "id%02u", id);
    return put(fx, "c", text, &value, 1, NULL);
}

static void assert_rows(struct fixture *fx, const float *expected)
{
    uint64_t live = 0;
    for (unsigned id = 0; id < IDS; id++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "id%02u", id);
        struct pdb_row row = row_of(fx, "c", text);
        live += expected[id] != 0;
        assert_int_equal(row.version != 0, expected[id] != 0);
        if (expected[id] != 0)
            assert_true(*(const float *)row.vectors[0] == expected[id]);
        pdb_arena_reset(fx->arena);
    }
    assert_int_equal(count_of(fx, "c", NULL), live);
}

static struct pdb_collection_info info_of(struct fixture *fx)
{
    struct pdb_collection_get g = {.name = txt("c")};
    assert_done(fx, do_describe(fx, &g));
    return g.info_out;
}

/* Writes what it can; a write that is not told to be there may be, or not. */
static void write_until_broken(struct fixture *fx, float *known, float *tried)
{
    memcpy(tried, known, IDS * sizeof(*known));
    for (unsigned i = 0; i < 3 * IDS; i++) {
        unsigned id = i * 7 % IDS;
        tried[id] = (float)(i + 1);
        if (put_number(fx, id, tried[id]) < 0)
            return;
        known[id] = tried[id];
        if (i % 10 == 9)
            sim_run(fx->db, 60000000);
        pdb_arena_reset(fx->arena);
    }
}

static void assert_known_or_tried(struct fixture *fx, const float *known, const float *tried)
{
    for (unsigned id = 0; id < IDS; id++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "id%02u", id);
        struct pdb_row row = row_of(fx, "c", text);
        float found = row.version != 0 ? *(const float *)row.vectors[0] : 0;
        if (found != known[id] && found != tried[id])
            fail_msg("%s: %g, neither %g nor %g", text, (double)found, (double)known[id],
                     (double)tried[id]);
        pdb_arena_reset(fx->arena);
    }
}

/* The disk goes away at every step; then the process closes, or is killed, and the next start is
 * cut off by a loss of power as soon as it has cleaned up. */
static void wherever_the_disk_goes_away_closing_ends_and_nothing_is_lost(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 700; n += 1 + n / 40) {
        struct fixture fx;
        float known[IDS] = {0}, tried[IDS];
        struct sim_disk *disk = sim_disk_new(n);
        struct pdb *db = open_with(disk, n % 3 == 0 ? 3000 : 0, 6);
        sim_fixture(&fx, db);
        create(&fx, "c", 1);
        sim_disk_break_at(disk, n);
        write_until_broken(&fx, known, tried);
        if (n % 2 == 0) {
            pdb_close(db);
        } else {
            sim_disk_kill(disk);
            engine_abandon_sim(db, wal_abandon);
        }
        sim_disk_break_at(disk, 0);
        db = open_with(disk, 0, 6);
        sim_disk_crash(disk);
        engine_abandon_sim(db, wal_abandon);
        fx.db = db = open_with(disk, 0, 6);
        assert_known_or_tried(&fx, known, tried);
        pdb_close(db);
        pdb_arena_free(fx.arena);
        sim_disk_free(disk);
    }
}

/* Merges that never end: segments are many, then no more are made, and nothing is lost. */
static void more_segments_than_a_shard_may_have(void **state)
{
    (void)state;
    struct fixture fx;
    float known[IDS] = {0};
    struct sim_disk *disk = sim_disk_new(7);
    struct pdb *db = open_with(disk, 1, 1);
    sim_fixture(&fx, db);
    create(&fx, "c", 1);
    for (unsigned i = 0; i < 400; i++) {
        known[i * 3 % IDS] = (float)(i + 1);
        assert_done(&fx, put_number(&fx, i * 3 % IDS, (float)(i + 1)));
        sim_run(db, 3000000);
        pdb_arena_reset(fx.arena);
    }
    assert_rows(&fx, known);
    assert_true(info_of(&fx).segment_count > 40);
    pdb_close(db);
    fx.db = db = open_with(disk, 0, 1000);
    assert_rows(&fx, known);
    sim_run(db, 20000000000);
    assert_true(info_of(&fx).segment_count <= 2);
    assert_rows(&fx, known);
    pdb_close(db);
    pdb_arena_free(fx.arena);
    sim_disk_free(disk);
}

/* ---- damage ---- */

static bool find_parquet(void *arg, const char *name)
{
    size_t len = strlen(name);
    if (len < 8 || strcmp(name + len - 8, ".parquet") != 0)
        return false;
    (void)snprintf(arg, 64, "%s", name);
    return true;
}

static void see_parquet(void *arg, const char *name)
{
    (void)find_parquet(arg, name);
}

/* Of the newest segment, most likely. */
static void segment_path(struct fixture *fx, char path[256])
{
    char name[64] = "", folder[160];
    struct io *io = fx->db->cores[0].r->io;
    (void)snprintf(folder, sizeof(folder), "collections/%s", info_of(fx).uuid);
    assert_int_equal(io->ops->list_dir(io, folder, see_parquet, name), 0);
    assert_true(name[0] != '\0');
    (void)snprintf(path, 256, "%s/%s", folder, name);
}

/* Not so long that they are merged. */
static void fill_two_segments(struct fixture *fx, float *known)
{
    for (unsigned id = 0; id < IDS; id++) {
        known[id] = (float)(id + 1);
        assert_done(fx, put_number(fx, id, known[id]));
        if ((id + 1) % (IDS / 2) == 0)
            sim_run(fx->db, 100000000);
    }
    assert_int_equal(info_of(fx).memtable_rows, 0);
    assert_int_equal(info_of(fx).segment_count, 2);
}

static unsigned count_gets(struct fixture *fx, int code)
{
    unsigned count = 0;
    for (unsigned id = 0; id < IDS; id++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "id%02u", id);
        struct pdb_text ids[1] = {txt(text)};
        struct pdb_get g = {.collection = txt("c"), .ids = ids, .id_count = 1};
        count += do_get(fx, &g) == code;
    }
    return count;
}

/* The head of the newest segment is gone: rows found elsewhere are answered, all else says what is
 * wrong; nothing is written, flushed or cleaned away, and with the file back all is there. */
static void a_damaged_segment_waits_for_its_file(void **state)
{
    (void)state;
    struct fixture fx;
    float known[IDS] = {0};
    char path[256], kept[64];
    size_t len;
    struct sim_disk *disk = sim_disk_new(9);
    struct pdb *db = open_with(disk, 0, IDS / 2);
    sim_fixture(&fx, db);
    create(&fx, "c", 1);
    fill_two_segments(&fx, known);
    segment_path(&fx, path);
    pdb_close(db);
    uint8_t *bytes = sim_disk_bytes(disk, path, &len);
    assert_non_null(bytes);
    memcpy(kept, bytes + len - sizeof(kept), sizeof(kept));
    memset(bytes + len - sizeof(kept), 0, sizeof(kept));
    for (int life = 0; life < 3; life++) {
        fx.db = db = open_with(disk, 0, 1000);
        unsigned found = count_gets(&fx, 0), lost = count_gets(&fx, PDB_DATA_LOSS);
        assert_true(found > 10 && lost > 10 && found + lost == IDS);
        struct pdb_count c = {.collection = txt("c")};
        assert_int_equal(do_count(&fx, &c), PDB_DATA_LOSS);
        assert_int_equal(put_number(&fx, 1, 5), PDB_DATA_LOSS);
        sim_run(db, 10000000000);
        if (life == 1) {
            sim_disk_crash(disk);
            engine_abandon_sim(db, wal_abandon);
        } else {
            pdb_close(db);
        }
    }
    bytes = sim_disk_bytes(disk, path, &len);
    assert_non_null(bytes);
    memcpy(bytes + len - sizeof(kept), kept, sizeof(kept));
    fx.db = db = open_with(disk, 0, 1000);
    assert_rows(&fx, known);
    known[3] = 77;
    assert_done(&fx, put_number(&fx, 3, 77));
    assert_rows(&fx, known);
    pdb_close(db);
    pdb_arena_free(fx.arena);
    sim_disk_free(disk);
}

/* ---- what a segment has to hold ---- */

/* Rows of a megabyte, some without a vector, with a column declared later that old versions do not
 * fit. */
static void huge_rows_and_rows_that_fit_no_column_are_flushed_and_merged(void **state)
{
    (void)state;
    enum { BYTES = 1000000, ROWS = 6 };
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(11);
    struct pdb *db = open_with(disk, 0, 2);
    char *json = calloc(1, BYTES + 64);
    assert_non_null(json);
    sim_fixture(&fx, db);
    create(&fx, "c", 1);
    struct pdb_collection_update keep = {
        .name = txt("c"), .has_version_retention = true, .version_retention_s = 3600};
    assert_done(&fx, do_alter(&fx, &keep));
    (void)snprintf(json, 32, "{\"n\":\"text\",\"pad\":\"");
    size_t head = strlen(json);
    memset(json + head, 'y', BYTES);
    memcpy(json + head + BYTES, "\"}", 3);
    float one = 1;
    assert_done(&fx, put(&fx, "c", "old", &one, 1, json));
    assert_done(&fx, put(&fx, "c", "old", &one, 1, "{\"n\":5}"));
    struct pdb_column column = {.name = {"n", 1}, .type = PDB_COLUMN_INTEGER};
    struct pdb_collection_update add = {
        .name = txt("c"), .add_columns = &column, .add_column_count = 1};
    assert_done(&fx, do_alter(&fx, &add));
    memcpy(json, "{\"m\":", 5);
    for (int i = 0; i < ROWS; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "%d", i);
        struct pdb_record r = {.id = txt(id), .metadata = doc(&fx, json), .has_metadata = true};
        struct pdb_write w = {.collection = txt("c"), .records = &r, .record_count = 1};
        assert_done(&fx, do_write(&fx, &w));
    }
    sim_run(db, 60000000000);
    assert_int_equal(info_of(&fx).memtable_rows, 0);
    assert_int_equal(info_of(&fx).segment_count, 1);
    pdb_close(db);
    fx.db = db = open_with(disk, 0, 2);
    assert_int_equal(count_of(&fx, "c", NULL), ROWS + 1);
    assert_true(row_of(&fx, "c", "3").metadata.len > BYTES);
    struct pdb_text ids[1] = {txt("old")};
    struct pdb_get g = {.collection = txt("c"),
                        .ids = ids,
                        .id_count = 1,
                        .include = PDB_INCLUDE_METADATA,
                        .has_as_of = true,
                        .as_of = 1};
    assert_done(&fx, do_get(&fx, &g));
    assert_int_equal(g.rows_out[0].version, 1);
    assert_true(g.rows_out[0].metadata.len > BYTES);
    pdb_close(db);
    free(json);
    pdb_arena_free(fx.arena);
    sim_disk_free(disk);
}

/* ---- retained versions ---- */

static void set_retention(struct fixture *fx, uint64_t seconds)
{
    struct pdb_collection_update u = {
        .name = txt("c"), .has_version_retention = true, .version_retention_s = seconds};
    assert_done(fx, do_alter(fx, &u));
}

/* For a moment nothing is retained, and a flush drops old versions; what was noted of the time
 * before must not bring them back. */
static void versions_that_were_given_up_are_not_promised_again(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(13);
    struct pdb *db = open_with(disk, 0, 4);
    sim_fixture(&fx, db);
    create(&fx, "c", 1);
    set_retention(&fx, 10);
    sim_run(db, 2000000000); /* notes that version 0 is the newest */
    assert_done(&fx, put_number(&fx, 1, 1));
    set_retention(&fx, 0);
    for (unsigned i = 0; i < 3; i++)
        assert_done(&fx, put_number(&fx, 1, (float)(i + 2)));
    set_retention(&fx, 10);
    for (int second = 0; second < 15; second++) {
        struct pdb_text ids[1] = {txt("id01")};
        struct pdb_get g = {
            .collection = txt("c"), .ids = ids, .id_count = 1, .has_as_of = true, .as_of = 1};
        int rc = do_get(&fx, &g);
        if (rc == 0)
            assert_int_equal(g.rows_out[0].version, 1);
        else
            assert_int_equal(rc, PDB_OUT_OF_RANGE);
        sim_run(db, 1000000000);
    }
    pdb_close(db);
    pdb_arena_free(fx.arena);
    sim_disk_free(disk);
}

/* ---- retries ---- */

static uint64_t put_request(struct fixture *fx, unsigned number)
{
    char request[16];
    float value = (float)number;
    struct pdb_vector vector;
    struct pdb_record r = record("id", &vector, &value, 1);
    (void)snprintf(request, sizeof(request), "r%u", number);
    struct pdb_write w = {
        .collection = txt("c"), .records = &r, .record_count = 1, .request_id = txt(request)};
    assert_done(fx, do_write(fx, &w));
    return w.version_out;
}

/* More than one step of the manifest takes, with others that come meanwhile. */
static void thousands_of_requests_survive_in_manifests(void **state)
{
    (void)state;
    enum { REQUESTS = 5000 };
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(17);
    struct pdb *db = open_with(disk, 0, 700);
    sim_fixture(&fx, db);
    create(&fx, "c", 1);
    for (unsigned i = 1; i <= REQUESTS; i++) {
        assert_int_equal(put_request(&fx, i), i);
        pdb_arena_reset(fx.arena);
    }
    sim_run(db, 5000000000);
    assert_int_equal(info_of(&fx).memtable_rows, 0);
    sim_disk_crash(disk);
    engine_abandon_sim(db, wal_abandon);
    fx.db = db = open_with(disk, 0, 700);
    assert_int_equal(pdb_facts(db)->recovered_records, 0); /* the log tells nothing of them */
    for (unsigned i = 1; i <= REQUESTS; i += 37)
        assert_int_equal(put_request(&fx, i), i);
    assert_int_equal(put_request(&fx, REQUESTS + 1), REQUESTS + 1);
    pdb_close(db);
    pdb_arena_free(fx.arena);
    sim_disk_free(disk);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wherever_the_disk_goes_away_closing_ends_and_nothing_is_lost),
        cmocka_unit_test(more_segments_than_a_shard_may_have),
        cmocka_unit_test(a_damaged_segment_waits_for_its_file),
        cmocka_unit_test(versions_that_were_given_up_are_not_promised_again),
        cmocka_unit_test(thousands_of_requests_survive_in_manifests),
        cmocka_unit_test(huge_rows_and_rows_that_fit_no_column_are_flushed_and_merged),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
