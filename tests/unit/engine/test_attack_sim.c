/* Writes in the disk's and the log's worst moments, on a simulated disk: what is told must be
 * true, once, and in time. */
#include "attack.h"

#include <errno.h>

static const float one = 1;

/* A write of one record to "c", started but not waited for. */
static struct flight *send_put(struct pdb *db, const char *id)
{
    struct flight *f = flight_new(db, do_write_start);
    struct pdb_vector *vector = calloc(1, sizeof(*vector));
    struct pdb_record *r = calloc(1, sizeof(*r));
    *r = record(id, vector, &one, 1);
    f->write.collection = txt("c");
    f->write.records = r;
    f->write.record_count = 1;
    flight_send(db, 0, f);
    return f;
}

static void flight_put_free(struct flight *f)
{
    struct pdb_record *r = (struct pdb_record *)(uintptr_t)f->write.records;
    free((void *)(uintptr_t)r->vectors);
    free(r);
    flight_free(f);
}

static void a_poisoned_log_acknowledges_nothing_in_any_mode(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(1);
    struct pdb *db = sim_open(disk, 1);
    sim_fixture(&fx, db);
    create(&fx, "c", 1);
    sim_run(db, 1000000000); /* segments are made, the idle group is written */
    struct sim_faults slow = {.latency_min_ns = 2000000000, .latency_max_ns = 2000000000},
                      none = {0};
    sim_disk_set_faults(disk, &slow);
    sim_disk_fail_at(disk, 1, EIO);
    struct flight *always = send_put(db, "a");
    sim_run(db, 1000000);
    assert_false(always->done);
    sim_disk_set_faults(disk, &none);
    struct pdb_collection_update alter = {
        .name = txt("c"), .has_sync = true, .sync = PDB_SYNC_PERIODIC};
    assert_done(&fx, do_alter(&fx, &alter));
    assert_false(always->done);
    struct flight *weak = send_put(db, "b");
    flight_wait(db, always);
    flight_wait(db, weak);
    assert_int_equal(always->call.error.code, PDB_UNAVAILABLE);
    assert_true(always->call.error.outcome_unknown);
    assert_int_equal(weak->call.error.code, PDB_UNAVAILABLE);
    assert_int_equal(count_of(&fx, "c", NULL), 0);
    flight_put_free(always);
    flight_put_free(weak);
    pdb_close(db);
    pdb_arena_free(fx.arena);
    sim_disk_free(disk);
}

static void writes_behind_a_disk_that_hangs_are_refused_after_a_second_each(void **state)
{
    (void)state;
    enum { WRITES = 24, ROWS = 16, DIMENSION = 16384 }; /* 1 MiB each */
    static float values[DIMENSION];
    static struct pdb_vector vectors[WRITES][ROWS];
    static struct pdb_record records[WRITES][ROWS];
    static char ids[WRITES][ROWS][16];
    struct flight *flights[WRITES];
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(2);
    struct pdb *db = sim_open(disk, 1);
    sim_fixture(&fx, db);
    create(&fx, "c", DIMENSION);
    sim_run(db, 1000000000);
    struct sim_faults hung = {.latency_min_ns = 60000000000, .latency_max_ns = 60000000000},
                      none = {0};
    sim_disk_set_faults(disk, &hung);
    for (int i = 0; i < WRITES; i++) {
        for (int j = 0; j < ROWS; j++) {
            (void)snprintf(ids[i][j], sizeof(ids[i][j]), "%d-%d", i, j);
            records[i][j] = record(ids[i][j], &vectors[i][j], values, DIMENSION);
        }
        flights[i] = flight_new(db, do_write_start);
        flights[i]->write.collection = txt("c");
        flights[i]->write.records = records[i];
        flights[i]->write.record_count = ROWS;
        flight_send(db, 0, flights[i]);
    }
    sim_run(db, 3000000000);
    int refused = 0, waiting = 0;
    for (int i = 0; i < WRITES; i++) {
        waiting += !flights[i]->done;
        refused += flights[i]->done && flights[i]->call.error.code == PDB_RESOURCE_EXHAUSTED;
    }
    /* In the group that hangs, in the one behind it and in the queue: at most 4 MiB and a record
     * each. */
    assert_true(waiting <= 10);
    assert_int_equal(refused, WRITES - waiting);
    sim_disk_set_faults(disk, &none);
    for (int i = 0; i < WRITES; i++) {
        flight_wait(db, flights[i]);
        assert_int_equal(flights[i]->told, 1);
        flight_free(flights[i]);
    }
    assert_int_equal(count_of(&fx, "c", NULL), waiting * ROWS);
    pdb_close(db);
    pdb_arena_free(fx.arena);
    sim_disk_free(disk);
}

enum { HUGE_ROWS = 2100, HUGE_DIMENSION = 65535 }; /* more than a log record can hold */

struct huge {
    struct pdb_record records[HUGE_ROWS];
    struct pdb_vector vectors[HUGE_ROWS];
    float values[HUGE_DIMENSION];
    char ids[HUGE_ROWS][8];
};

static struct flight *send_huge(struct pdb *db, struct huge *huge)
{
    for (int i = 0; i < HUGE_ROWS; i++) {
        (void)snprintf(huge->ids[i], sizeof(huge->ids[i]), "%d", i);
        huge->records[i] = record(huge->ids[i], &huge->vectors[i], huge->values, HUGE_DIMENSION);
    }
    struct flight *f = flight_new(db, do_write_start);
    f->write.collection = txt("c");
    f->write.records = huge->records;
    f->write.record_count = HUGE_ROWS;
    flight_send(db, 0, f);
    return f;
}

static struct flight *send_insert(struct pdb *db, struct huge *huge, int index,
                                  const char *request_id)
{
    struct flight *f = flight_new(db, do_write_start);
    f->write.kind = PDB_WRITE_INSERT;
    f->write.collection = txt("c");
    f->write.records = &huge->records[index];
    f->write.record_count = 1;
    f->write.request_id = txt(request_id);
    flight_send(db, 0, f);
    return f;
}

static void a_batch_too_large_for_the_log_leaves_no_hole_in_the_versions(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(3);
    struct pdb *db = sim_open(disk, 1);
    struct huge *huge = calloc(1, sizeof(*huge));
    assert_non_null(huge);
    sim_fixture(&fx, db);
    create(&fx, "c", HUGE_DIMENSION);
    struct flight *large = send_huge(db, huge);
    struct flight *first = send_insert(db, huge, 0, "r"), *retry = send_insert(db, huge, 0, "r"),
                  *upsert = send_insert(db, huge, 1, "");
    upsert->write.kind = PDB_WRITE_UPSERT;
    flight_wait(db, large);
    flight_wait(db, first);
    flight_wait(db, retry);
    assert_int_equal(large->call.error.code, PDB_RESOURCE_EXHAUSTED);
    /* Both rested on the large one; worked out again, they are one request. */
    assert_int_equal(first->call.error.code, 0);
    assert_int_equal(retry->call.error.code, 0);
    assert_int_equal(first->write.version_out, 1);
    assert_int_equal(retry->write.version_out, 1);
    flight_wait(db, upsert);
    assert_int_equal(upsert->call.error.code, 0);
    assert_int_equal(upsert->write.version_out, 2);
    flight_free(upsert);
    flight_free(large);
    flight_free(first);
    flight_free(retry);
    assert_int_equal(count_of(&fx, "c", NULL), 2);
    pdb_close(db);
    fx.db = db = sim_open(disk, 1);
    assert_int_equal(count_of(&fx, "c", NULL), 2);
    pdb_close(db);
    free(huge);
    pdb_arena_free(fx.arena);
    sim_disk_free(disk);
}

/* Each I/O in turn is told "again", as kernels may; nothing may break or be lost. */
static void an_interrupted_operation_is_done_again(void **state)
{
    (void)state;
    for (int n = 1; n <= 60; n++) {
        struct fixture fx;
        struct sim_disk *disk = sim_disk_new((uint64_t)n);
        struct pdb *db = sim_open(disk, 1);
        sim_fixture(&fx, db);
        create(&fx, "c", 1);
        sim_disk_fail_at(disk, (uint64_t)n, n % 2 == 0 ? EINTR : EAGAIN);
        for (int i = 0; i < 40; i++) {
            char id[16];
            (void)snprintf(id, sizeof(id), "%d", i);
            assert_done(&fx, put(&fx, "c", id, &one, 1, NULL));
            sim_run(db, 20000000);
        }
        assert_int_equal(count_of(&fx, "c", NULL), 40);
        pdb_close(db);
        pdb_arena_free(fx.arena);
        sim_disk_free(disk);
    }
}

static void closing_answers_every_call_once_and_keeps_what_it_told(void **state)
{
    (void)state;
    enum { CALLS = 30 };
    for (unsigned turns = 0; turns < 12; turns++) {
        struct fixture fx;
        struct flight *puts[CALLS], *makes[CALLS];
        char ids[CALLS][16], names[CALLS][16];
        struct sim_disk *disk = sim_disk_new(turns + 1);
        struct pdb *db = sim_open(disk, 3);
        struct pdb_field field = {.dimension = 1, .metric = PDB_METRIC_DOT};
        uint64_t written = 0, made = 0;
        sim_fixture(&fx, db);
        create(&fx, "c", 1);
        struct sim_faults slow = {.latency_min_ns = 1000000, .latency_max_ns = 30000000};
        sim_disk_set_faults(disk, &slow);
        for (int i = 0; i < CALLS; i++) {
            (void)snprintf(ids[i], sizeof(ids[i]), "%d", i);
            (void)snprintf(names[i], sizeof(names[i]), "n%d", i);
            puts[i] = send_put(db, ids[i]);
            makes[i] = flight_new(db, do_create_start);
            makes[i]->create.config = (struct pdb_collection_config){
                .name = txt(names[i]), .fields = &field, .field_count = 1};
            flight_send(db, (unsigned)i % 3, makes[i]);
        }
        for (unsigned i = 0; i < turns; i++)
            sim_turn(db);
        pdb_close(db);
        for (int i = 0; i < CALLS; i++) {
            assert_int_equal(puts[i]->told, 1);
            assert_int_equal(makes[i]->told, 1);
            written += puts[i]->call.error.code == 0;
            made += makes[i]->call.error.code == 0;
            flight_put_free(puts[i]);
            flight_free(makes[i]);
        }
        fx.db = db = sim_open(disk, 2);
        struct pdb_collection_list list = {.limit = 0};
        assert_done(&fx, do_list(&fx, &list));
        assert_int_equal(list.count_out, made + 1);
        assert_int_equal(count_of(&fx, "c", NULL), written);
        assert_true(pdb_facts(db)->recovered_clean);
        pdb_close(db);
        pdb_arena_free(fx.arena);
        sim_disk_free(disk);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_poisoned_log_acknowledges_nothing_in_any_mode),
        cmocka_unit_test(writes_behind_a_disk_that_hangs_are_refused_after_a_second_each),
        cmocka_unit_test(a_batch_too_large_for_the_log_leaves_no_hole_in_the_versions),
        cmocka_unit_test(an_interrupted_operation_is_done_again),
        cmocka_unit_test(closing_answers_every_call_once_and_keeps_what_it_told),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
