/* Everything at once on four cores for a while: batches, reads, deletes, retries, settings that
 * change, collections that come and go, and behind them flushes and merges without a pause. Readers
 * hold every batch to being whole; after restarts with other numbers of cores, what was
 * acknowledged is there. PDB_ATTACK_SECONDS makes it longer. */
#include "engine_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { WRITERS = 3, READERS = 2, BATCH = 48, DIMENSION = 8, STABLE = 2 };

struct world {
    struct fixture *fx;
    _Atomic bool stop;
    _Atomic uint64_t generation[WRITERS]; /* the newest acknowledged of each writer's batch */
    _Atomic uint64_t writes, reads, changes;
};

struct worker {
    struct world *world;
    unsigned index;
    pthread_t thread;
};

static void check_code(const struct fixture *fx, int rc, const char *what)
{
    if (rc != 0 && rc != PDB_NOT_FOUND && rc != PDB_ALREADY_EXISTS &&
        rc != PDB_RESOURCE_EXHAUSTED && rc != PDB_DEADLINE_EXCEEDED &&
        rc != PDB_FAILED_PRECONDITION)
        fail_msg("%s: %d %s", what, rc, fx->error.text);
}

static struct fixture own_fixture(const struct worker *worker)
{
    struct fixture fx = *worker->world->fx;
    fx.arena = pdb_arena_new(0);
    assert_non_null(fx.arena);
    return fx;
}

static const char *collection_of(unsigned writer)
{
    return writer % STABLE == 0 ? "c0" : "c1";
}

static int write_generation(struct fixture *fx, unsigned writer, uint64_t generation, bool again)
{
    static const enum pdb_write_kind kinds[] = {PDB_WRITE_UPSERT, PDB_WRITE_UPDATE};
    struct pdb_record records[BATCH];
    struct pdb_vector vectors[BATCH];
    float values[DIMENSION];
    char ids[BATCH][16], request_id[32], json[64];
    for (int i = 0; i < DIMENSION; i++)
        values[i] = (float)generation;
    (void)snprintf(json, sizeof(json), "{\"w\":%u,\"g\":%llu}", writer,
                   (unsigned long long)generation);
    struct pdb_text metadata = doc(fx, json);
    for (unsigned i = 0; i < BATCH; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "%u-%u", writer, i);
        records[i] = record(ids[i], &vectors[i], values, DIMENSION);
        records[i].metadata = metadata;
        records[i].has_metadata = true;
    }
    (void)snprintf(request_id, sizeof(request_id), "%u:%llu", writer,
                   (unsigned long long)generation);
    struct pdb_write w = {
        .collection = txt(collection_of(writer)),
        .records = records,
        .record_count = BATCH,
        .kind = kinds[generation > 1 && generation % 3 == 0],
        .request_id = txt(request_id),
    };
    int rc = do_write(fx, &w);
    uint64_t version = w.version_out;
    if (rc == 0 && again) {
        assert_int_equal(do_write(fx, &w), 0);
        assert_int_equal(w.version_out, version);
    }
    return rc;
}

static void *write_always(void *arg)
{
    struct worker *me = arg;
    struct fixture fx = own_fixture(me);
    uint64_t generation = 1;
    while (!atomic_load(&me->world->stop)) {
        int rc = write_generation(&fx, me->index, generation, generation % 7 == 0);
        check_code(&fx, rc, "write");
        if (rc == 0) {
            atomic_store(&me->world->generation[me->index], generation);
            atomic_fetch_add(&me->world->writes, 1);
        }
        generation++;
        pdb_arena_reset(fx.arena);
    }
    pdb_arena_free(fx.arena);
    return NULL;
}

/* All rows of one writer that one read shows have the same vector. */
static void rows_are_of_one_generation(const struct pdb_row *rows, uint32_t count,
                                       uint64_t at_least)
{
    float seen = 0;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(rows[i].version != 0);
        const float *values = rows[i].vectors[0];
        if (i == 0)
            seen = values[0];
        if (values[0] != seen)
            fail_msg("half a batch: %g beside %g", (double)values[0], (double)seen);
    }
    assert_true(seen >= (float)at_least);
}

static void read_by_id(struct fixture *fx, unsigned writer, uint64_t at_least)
{
    char ids[BATCH][16];
    struct pdb_text texts[BATCH];
    for (unsigned i = 0; i < BATCH; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "%u-%u", writer, i);
        texts[i] = txt(ids[i]);
    }
    struct pdb_get g = {.collection = txt(collection_of(writer)),
                        .ids = texts,
                        .id_count = BATCH,
                        .include = PDB_INCLUDE_VECTORS};
    assert_done(fx, do_get(fx, &g));
    rows_are_of_one_generation(g.rows_out, BATCH, at_least);
}

static void read_by_search(struct fixture *fx, unsigned writer, uint64_t at_least)
{
    float values[DIMENSION] = {0};
    char json[64];
    (void)snprintf(json, sizeof(json), "{\"w\":%u}", writer);
    struct pdb_query query = {.vector = {.values = values, .count = DIMENSION},
                              .k = 1000,
                              .include = PDB_INCLUDE_VECTORS,
                              .filter = doc(fx, json)};
    struct pdb_search s = {
        .collection = txt(collection_of(writer)), .queries = &query, .query_count = 1};
    assert_done(fx, do_search(fx, &s));
    struct pdb_row rows[BATCH];
    assert_int_equal(s.results_out[0].count, BATCH);
    for (uint32_t i = 0; i < BATCH; i++)
        rows[i] = s.results_out[0].hits[i].row;
    rows_are_of_one_generation(rows, BATCH, at_least);
}

static void read_by_scroll(struct fixture *fx, unsigned writer, uint64_t at_least)
{
    char json[64];
    (void)snprintf(json, sizeof(json), "{\"w\":%u}", writer);
    struct pdb_scroll s = {.collection = txt(collection_of(writer)),
                           .limit = 1000,
                           .include = PDB_INCLUDE_VECTORS,
                           .filter = doc(fx, json)};
    assert_done(fx, do_scroll(fx, &s));
    assert_int_equal(s.row_count_out, BATCH);
    rows_are_of_one_generation(s.rows_out, BATCH, at_least);
    assert_int_equal(count_of(fx, collection_of(writer), json), BATCH);
}

static void *read_always(void *arg)
{
    struct worker *me = arg;
    struct fixture fx = own_fixture(me);
    for (unsigned i = me->index; !atomic_load(&me->world->stop); i++) {
        unsigned writer = i % WRITERS;
        uint64_t at_least = atomic_load(&me->world->generation[writer]);
        if (at_least != 0) {
            if (i % 3 == 0)
                read_by_id(&fx, writer, at_least);
            else if (i % 3 == 1)
                read_by_search(&fx, writer, at_least);
            else
                read_by_scroll(&fx, writer, at_least);
            atomic_fetch_add(&me->world->reads, 1);
        }
        pdb_arena_reset(fx.arena);
    }
    pdb_arena_free(fx.arena);
    return NULL;
}

static uint64_t monotonic_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Collections that come and go, with rows that expire, deletes by filter, and calls that are out of
 * time. */
static void *churn(void *arg)
{
    struct worker *me = arg;
    struct fixture fx = own_fixture(me);
    for (unsigned i = 0; !atomic_load(&me->world->stop); i++) {
        char name[16];
        float values[4] = {1, 2, 3, 4};
        (void)snprintf(name, sizeof(name), "t%u", i % 3);
        check_code(&fx, create_with(&fx, name, 4, PDB_METRIC_COSINE, (enum pdb_sync_mode)(i % 4)),
                   "create");
        for (int j = 0; j < 20; j++) {
            char id[16];
            (void)snprintf(id, sizeof(id), "%d", j);
            struct pdb_vector vector;
            struct pdb_record r = record(id, &vector, values, 4);
            r.has_expires_at = true;
            r.expires_at_us = j % 2 == 0 ? 1 : 0;
            struct pdb_write w = {.collection = txt(name), .records = &r, .record_count = 1};
            if (j % 5 == 0)
                w.call.deadline_ns = monotonic_ns() + 100000;
            check_code(&fx, do_write(&fx, &w), "small write");
            struct pdb_count c = {.collection = txt(name)};
            check_code(&fx, do_count(&fx, &c), "count");
        }
        struct pdb_delete d = {.collection = txt(name), .has_filter = true};
        check_code(&fx, do_delete(&fx, &d), "delete");
        if (me->index % 2 == 0) {
            struct pdb_collection_delete drop = {.name = txt(name)};
            check_code(&fx, do_drop(&fx, &drop), "drop");
        }
        pdb_arena_reset(fx.arena);
    }
    pdb_arena_free(fx.arena);
    return NULL;
}

static void *change_settings(void *arg)
{
    struct worker *me = arg;
    struct fixture fx = own_fixture(me);
    for (unsigned i = 0; !atomic_load(&me->world->stop); i++) {
        struct pdb_collection_update u = {.name = txt(i % 2 == 0 ? "c0" : "c1"),
                                          .has_sync = true,
                                          .sync = (enum pdb_sync_mode)(i / 2 % 4)};
        struct pdb_column column;
        char name[16];
        (void)snprintf(name, sizeof(name), "col%u", i % 250);
        column = (struct pdb_column){.name = txt(name), .type = PDB_COLUMN_INTEGER};
        u.has_version_retention = u.has_compression = i % 3 == 0;
        u.version_retention_s = i % 2;
        u.compression = (enum pdb_compression)(i % 4);
        if (i % 10 == 0) {
            u.add_columns = &column;
            u.add_column_count = 1;
        }
        int rc = do_alter(&fx, &u);
        if (rc != PDB_INVALID_ARGUMENT)
            check_code(&fx, rc, "alter");
        struct pdb_collection_list list = {.limit = 2};
        check_code(&fx, do_list(&fx, &list), "list");
        struct pdb_stats stats = {.want_metrics = true};
        check_code(&fx, do_stats(&fx, &stats), "stats");
        atomic_fetch_add(&me->world->changes, 1);
        pdb_arena_reset(fx.arena);
    }
    pdb_arena_free(fx.arena);
    return NULL;
}

static void run_for(struct world *world, unsigned ms)
{
    void *(*const jobs[])(void *) = {write_always, write_always, write_always, read_always,
                                     read_always,  churn,        churn,        change_settings};
    enum { COUNT = sizeof(jobs) / sizeof(jobs[0]) };
    struct worker workers[COUNT];
    atomic_store(&world->stop, false);
    for (unsigned i = 0; i < COUNT; i++) {
        workers[i] = (struct worker){.world = world, .index = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, jobs[i], &workers[i]), 0);
    }
    struct timespec pause = {ms / 1000, (long)(ms % 1000) * 1000000};
    (void)nanosleep(&pause, NULL);
    atomic_store(&world->stop, true);
    for (unsigned i = 0; i < COUNT; i++)
        (void)pthread_join(workers[i].thread, NULL);
}

/* Few rows a segment, and a log that wants to be empty. */
static void flush_often(struct fixture *fx)
{
    fx->options.flush_rows = 150;
    fx->options.flush_age_s = 1;
    fx->options.segments_max = 3;
    fx->options.wal_max_bytes = 1;
}

static uint32_t segments_of(struct fixture *fx, const char *name)
{
    struct pdb_collection_get g = {.name = txt(name)};
    assert_done(fx, do_describe(fx, &g));
    return g.info_out.segment_count;
}

/* Rows that were few are flushed once they are old. */
static void wait_for_segments(struct fixture *fx, const char *name)
{
    const struct timespec pause = {0, 10 * 1000 * 1000};
    for (int i = 0; segments_of(fx, name) == 0; i++) {
        assert_true(i < 20000);
        (void)nanosleep(&pause, NULL);
    }
}

static void under_everything_at_once_batches_stay_whole_and_last(void **state)
{
    (void)state;
    static const unsigned cores[] = {4, 2, 3, 1};
    const char *seconds = getenv("PDB_ATTACK_SECONDS");
    unsigned ms = seconds != NULL ? (unsigned)atoi(seconds) * 1000 / 4 : 300;
    struct fixture fx;
    struct world world = {.fx = &fx};
    fixture_begin(&fx, 4);
    create(&fx, "c0", DIMENSION);
    create(&fx, "c1", DIMENSION);
    flush_often(&fx);
    for (unsigned i = 0; i < 4; i++) {
        fixture_reopen(&fx, cores[i]);
        for (unsigned writer = 0; writer < WRITERS; writer++) {
            uint64_t at_least = atomic_load(&world.generation[writer]);
            if (at_least == 0)
                continue;
            read_by_id(&fx, writer, at_least);
            read_by_search(&fx, writer, at_least);
            read_by_scroll(&fx, writer, at_least);
            assert_int_equal(count_of(&fx, "c0", NULL) + count_of(&fx, "c1", NULL),
                             WRITERS * BATCH);
        }
        for (unsigned writer = 0; writer < WRITERS; writer++) /* its rows are there, for updates */
            assert_int_equal(write_generation(&fx, writer, 1000000 * (i + 1), true), 0);
        for (unsigned writer = 0; writer < WRITERS; writer++)
            atomic_store(&world.generation[writer], 0);
        run_for(&world, ms);
        pdb_arena_reset(fx.arena);
    }
    wait_for_segments(&fx, "c0");
    wait_for_segments(&fx, "c1");
    print_message("writes %llu reads %llu changes %llu\n", (unsigned long long)world.writes,
                  (unsigned long long)world.reads, (unsigned long long)world.changes);
    fixture_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(under_everything_at_once_batches_stay_whole_and_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
