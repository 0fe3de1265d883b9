/* Many threads at once: batches are seen whole or not at all, each thread reads what it wrote,
 * conditions hold against all others, retries happen once, and a collection may vanish under its
 * users. */
#include "engine_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#ifdef PDB_STRESS
enum { ROUNDS = 40 };
#else
enum { ROUNDS = 100 };
#endif
enum { THREADS = 4, BATCH = 40 };

struct worker {
    pthread_t thread;
    struct fixture fx; /* its own arena and error, the common database */
    unsigned number;
    _Atomic bool *stop;
    _Atomic unsigned *common;
    unsigned done, seen;
};

static void run_threads(struct fixture *fx, struct worker *workers, unsigned count,
                        void *(*run)(void *arg))
{
    for (unsigned i = 0; i < count; i++) {
        workers[i].fx = *fx;
        workers[i].fx.arena = pdb_arena_new(0);
        workers[i].number = i;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run, &workers[i]), 0);
    }
}

static void join_threads(struct worker *workers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        pdb_arena_free(workers[i].fx.arena);
    }
}

/* ---- atomic batches ---- */

/* Each batch gives all records the same value: a reader that sees two values has seen half a
 * batch. */
static int write_batch(struct fixture *fx, float value)
{
    struct pdb_vector vectors[BATCH];
    struct pdb_record records[BATCH];
    char ids[BATCH][8];
    for (int i = 0; i < BATCH; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "%d", i);
        records[i] = record(ids[i], &vectors[i], &value, 1);
    }
    struct pdb_write w = {.collection = txt("c"), .records = records, .record_count = BATCH};
    return do_write(fx, &w);
}

static void check_search(struct worker *w)
{
    const float zero = 0;
    struct pdb_query q = {
        .vector = {.values = &zero, .count = 1}, .k = 1000, .include = PDB_INCLUDE_VECTORS};
    struct pdb_search s = {.collection = txt("c"), .queries = &q, .query_count = 1};
    assert_done(&w->fx, do_search(&w->fx, &s));
    assert_int_equal(s.results_out[0].count, BATCH);
    for (uint32_t i = 1; i < BATCH; i++)
        assert_memory_equal(s.results_out[0].hits[i].row.vectors[0],
                            s.results_out[0].hits[0].row.vectors[0], sizeof(float));
}

static void check_get(struct worker *w)
{
    struct pdb_text ids[BATCH];
    char texts[BATCH][8];
    for (int i = 0; i < BATCH; i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "%d", i);
        ids[i] = txt(texts[i]);
    }
    struct pdb_get g = {.collection = txt("c"), .ids = ids, .id_count = BATCH};
    assert_done(&w->fx, do_get(&w->fx, &g));
    for (int i = 1; i < BATCH; i++)
        assert_int_equal(g.rows_out[i].version, g.rows_out[0].version);
}

static void *read_on(void *arg)
{
    struct worker *w = arg;
    do {
        check_search(w);
        check_get(w);
        assert_int_equal(count_of(&w->fx, "c", NULL), BATCH);
        pdb_arena_reset(w->fx.arena);
        w->done++;
    } while (!atomic_load(w->stop));
    return NULL;
}

static void no_reader_sees_half_a_batch(void **state)
{
    (void)state;
    struct fixture fx;
    struct worker readers[THREADS] = {{.number = 0}};
    _Atomic bool stop = false;
    fixture_begin(&fx, 2);
    create(&fx, "c", 1);
    assert_done(&fx, write_batch(&fx, 0));
    for (unsigned i = 0; i < THREADS; i++)
        readers[i].stop = &stop;
    run_threads(&fx, readers, THREADS, read_on);
    for (int i = 1; i <= ROUNDS; i++) {
        assert_done(&fx, write_batch(&fx, (float)i));
        pdb_arena_reset(fx.arena);
    }
    atomic_store(&stop, true);
    join_threads(readers, THREADS);
    for (unsigned i = 0; i < THREADS; i++)
        assert_true(readers[i].done > 0);
    fixture_end(&fx);
}

/* ---- read your writes ---- */

static void *write_and_read(void *arg)
{
    struct worker *w = arg;
    char id[16];
    (void)snprintf(id, sizeof(id), "mine-%u", w->number);
    for (int i = 1; i <= ROUNDS; i++) {
        float value = (float)i;
        assert_done(&w->fx, put(&w->fx, "c", id, &value, 1, NULL));
        struct pdb_row row = row_of(&w->fx, "c", id);
        assert_memory_equal(row.vectors[0], &value, sizeof(value));
        struct pdb_text ids = txt(id);
        if (i % 10 == 0) {
            struct pdb_delete d = {.collection = txt("c"), .ids = &ids, .id_count = 1};
            assert_done(&w->fx, do_delete(&w->fx, &d));
            assert_int_equal(d.count_out, 1);
            assert_int_equal(row_of(&w->fx, "c", id).version, 0);
        }
        pdb_arena_reset(w->fx.arena);
    }
    return NULL;
}

static void every_thread_reads_what_it_wrote(void **state)
{
    (void)state;
    struct fixture fx;
    struct worker workers[THREADS] = {{.number = 0}};
    for (unsigned cores = 1; cores <= 4; cores *= 2) {
        fixture_begin(&fx, cores);
        create(&fx, "c", 1);
        run_threads(&fx, workers, THREADS, write_and_read);
        join_threads(workers, THREADS);
        fixture_end(&fx);
    }
}

/* ---- conditions ---- */

/* Adds one to the value of record "n", if nobody was faster. */
static void *increment(void *arg)
{
    struct worker *w = arg;
    while (w->done < ROUNDS / 4) {
        struct pdb_row row = row_of(&w->fx, "c", "n");
        float value = *(const float *)row.vectors[0] + 1;
        struct pdb_vector vector;
        struct pdb_record r = record("n", &vector, &value, 1);
        r.has_if_version = true;
        r.if_version = row.version;
        struct pdb_write write = {.collection = txt("c"), .records = &r, .record_count = 1};
        int rc = do_write(&w->fx, &write);
        if (rc == 0)
            w->done++;
        else
            assert_int_equal(rc, PDB_FAILED_PRECONDITION);
        pdb_arena_reset(w->fx.arena);
    }
    return NULL;
}

static void no_conditional_increment_is_lost(void **state)
{
    (void)state;
    struct fixture fx;
    struct worker workers[THREADS] = {{.number = 0}};
    const float zero = 0;
    fixture_begin(&fx, 2);
    create(&fx, "c", 1);
    assert_done(&fx, put(&fx, "c", "n", &zero, 1, NULL));
    run_threads(&fx, workers, THREADS, increment);
    join_threads(workers, THREADS);
    assert_float_equal(*(const float *)row_of(&fx, "c", "n").vectors[0],
                       (float)(THREADS * (ROUNDS / 4)), 0);
    fixture_end(&fx);
}

/* All threads send the same requests: each must happen once, and all get the same answer. */
static void *retry(void *arg)
{
    struct worker *w = arg;
    const float value = 1;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char request_id[16];
        (void)snprintf(request_id, sizeof(request_id), "r%u", i);
        struct pdb_vector vector;
        struct pdb_record r = record("", &vector, &value, 1);
        struct pdb_write write = {.collection = txt("c"),
                                  .records = &r,
                                  .record_count = 1,
                                  .request_id = txt(request_id)};
        assert_done(&w->fx, do_write(&w->fx, &write));
        assert_int_equal(write.count_out, 1);
        unsigned expected = 0, version = (unsigned)write.version_out;
        if (!atomic_compare_exchange_strong(&w->common[i], &expected, version))
            assert_int_equal(expected, version);
        pdb_arena_reset(w->fx.arena);
    }
    return NULL;
}

static void a_request_sent_by_many_happens_once(void **state)
{
    (void)state;
    struct fixture fx;
    struct worker workers[THREADS] = {{.number = 0}};
    static _Atomic unsigned versions[ROUNDS];
    fixture_begin(&fx, 2);
    create(&fx, "c", 1);
    for (unsigned i = 0; i < THREADS; i++)
        workers[i].common = versions;
    run_threads(&fx, workers, THREADS, retry);
    join_threads(workers, THREADS);
    assert_int_equal(count_of(&fx, "c", NULL), ROUNDS);
    fixture_end(&fx);
}

/* ---- collections that come and go ---- */

static void *use_what_may_vanish(void *arg)
{
    struct worker *w = arg;
    const float value = 1;
    do {
        int rc = put(&w->fx, "c", "a", &value, 1, NULL);
        assert_true(rc == 0 || rc == PDB_NOT_FOUND);
        w->seen += rc == 0;
        struct pdb_query q = {.vector = {.values = &value, .count = 1}, .k = 10};
        struct pdb_search s = {.collection = txt("c"), .queries = &q, .query_count = 1};
        rc = do_search(&w->fx, &s);
        assert_true(rc == 0 || rc == PDB_NOT_FOUND);
        pdb_arena_reset(w->fx.arena);
    } while (!atomic_load(w->stop));
    return NULL;
}

static void a_collection_may_vanish_under_its_users(void **state)
{
    (void)state;
    struct fixture fx;
    struct worker workers[THREADS] = {{.number = 0}};
    _Atomic bool stop = false;
    fixture_begin(&fx, 4);
    for (unsigned i = 0; i < THREADS; i++)
        workers[i].stop = &stop;
    run_threads(&fx, workers, THREADS, use_what_may_vanish);
    for (int i = 0; i < ROUNDS / 4; i++) {
        struct pdb_collection_delete d = {.name = txt("c")};
        create(&fx, "c", 1);
        const float value = 1;
        assert_done(&fx, put(&fx, "c", "b", &value, 1, NULL));
        assert_done(&fx, do_drop(&fx, &d));
        pdb_arena_reset(fx.arena);
    }
    atomic_store(&stop, true);
    join_threads(workers, THREADS);
    fixture_reopen(&fx, 2);
    struct pdb_collection_list all = {.limit = 0};
    assert_done(&fx, do_list(&fx, &all));
    assert_int_equal(all.count_out, 0);
    fixture_end(&fx);
}

static void *create_and_drop(void *arg)
{
    struct worker *w = arg;
    for (unsigned i = 0; i < ROUNDS / 8; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "w%u-%u", w->number, i);
        create(&w->fx, name, 1);
        struct pdb_collection_delete d = {.name = txt(name)};
        if (i % 2 == 0)
            assert_done(&w->fx, do_drop(&w->fx, &d));
        pdb_arena_reset(w->fx.arena);
    }
    return NULL;
}

static void many_create_collections_at_once(void **state)
{
    (void)state;
    struct fixture fx;
    struct worker workers[THREADS] = {{.number = 0}};
    fixture_begin(&fx, 2);
    run_threads(&fx, workers, THREADS, create_and_drop);
    join_threads(workers, THREADS);
    fixture_reopen(&fx, 1);
    struct pdb_collection_list all = {.limit = 0};
    assert_done(&fx, do_list(&fx, &all));
    assert_int_equal(all.count_out, THREADS * (ROUNDS / 8 / 2));
    fixture_end(&fx);
}

/* ---- cancelling ---- */

static void count_and_cancel(struct pdb_call *call)
{
    pdb_count_start((struct pdb_count *)(void *)call);
    pdb_call_cancel(call);
}

static void a_cancelled_call_ends_and_frees_what_it_held(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 1);
    assert_done(&fx, write_batch(&fx, 1));
    unsigned cancelled = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct pdb_count c = {.collection = txt("c")};
        pdb_call_init(&c.call, fx.db, fx.arena, NULL);
        int rc = pdb_wait(&c.call, count_and_cancel);
        assert_true(rc == 0 || rc == PDB_CANCELLED);
        cancelled += rc != 0;
        pdb_arena_reset(fx.arena);
    }
    assert_true(cancelled > 0);
    assert_int_equal(count_of(&fx, "c", NULL), BATCH);
    fixture_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_reader_sees_half_a_batch),
        cmocka_unit_test(every_thread_reads_what_it_wrote),
        cmocka_unit_test(no_conditional_increment_is_lost),
        cmocka_unit_test(a_request_sent_by_many_happens_once),
        cmocka_unit_test(a_collection_may_vanish_under_its_users),
        cmocka_unit_test(many_create_collections_at_once),
        cmocka_unit_test(a_cancelled_call_ends_and_frees_what_it_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
