/* Sealed memtables: rows still end, readers go on, a worker finds the order of a segment meanwhile;
 * and one query goes over several memtables. */
#include "memtable_fixture.h"

#include <pthread.h>
#include <stdlib.h>

enum { ROWS_MAX = 6000, IDS = 900 };

struct told { /* what the oracle knows of a row that was committed */
    char id[40];
    size_t id_len;
    uint64_t version, ended_at;
};

struct world {
    struct heap heap;
    struct memtable *m;
    struct rng rng;
    struct told rows[ROWS_MAX];
    size_t count;
    uint64_t version;
    size_t newest[IDS]; /* index of the row + 1; 0: none */
    uint64_t collected; /* rows that ended by then may be gone */
};

/* Ids that differ early or late, are beginnings of others, and hold bytes above 127 and zeros. */
static struct pdb_text id_of(uint32_t number, char buffer[40])
{
    static const char *const heads[] = {"u-", "u-", "u-same-long-head-", "u-"};
    static const char *const tails[] = {"", "-a-long-common-tail", "", "\xc3\xa9"};
    int len = snprintf(buffer, 40, "%s%04u%s", heads[number % 4], number / 8, tails[number % 4]);
    if (number % 8 >= 4)
        buffer[len++] = '\0';
    return (struct pdb_text){buffer, (size_t)len};
}

static void put(struct world *w, uint32_t number)
{
    char id[40];
    struct made_row made;
    make_row(&made, 0, w->version, (uint32_t)w->count);
    made.row.id = id_of(number, id);
    assert_int_equal(memtable_prepare(w->m, 1, made.row.id.len + made.row.metadata.len), 0);
    memtable_commit(w->m, &made.row);
    if (w->newest[number] != 0 && w->rows[w->newest[number] - 1].ended_at == MEMTABLE_NEVER)
        w->rows[w->newest[number] - 1].ended_at = w->version;
    struct told *row = &w->rows[w->count++];
    *row = (struct told){.version = w->version, .ended_at = MEMTABLE_NEVER};
    row->id_len = id_of(number, row->id).len;
    w->newest[number] = w->count;
}

static bool end(struct world *w, uint32_t number)
{
    char id[40];
    bool alive =
        w->newest[number] != 0 && w->rows[w->newest[number] - 1].ended_at == MEMTABLE_NEVER;
    assert_int_equal(memtable_end(w->m, id_of(number, id), w->version), alive);
    if (alive)
        w->rows[w->newest[number] - 1].ended_at = w->version;
    return alive;
}

/* Some versions of some writes each; collects now and then, perhaps not to the end. */
static void live(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    rng_seed(&w->rng, seed);
    w->m = memtable_of(&w->heap, 50);
    while (w->count < ROWS_MAX - 40) {
        w->version += 1 + rng_below(&w->rng, 3);
        for (uint64_t n = rng_below(&w->rng, 40); n > 0; n--) {
            uint32_t number = (uint32_t)rng_below(&w->rng, IDS);
            if (rng_below(&w->rng, 4) == 0)
                (void)end(w, number);
            else
                put(w, number);
        }
        if (rng_below(&w->rng, 8) == 0) {
            w->collected = w->version - rng_below(&w->rng, 5);
            (void)memtable_collect(w->m, w->collected, 0, rng_below(&w->rng, 2000));
        }
    }
    assert_sound(w->m);
}

static void finish(struct world *w)
{
    memtable_free(w->m);
    assert_int_equal(w->heap.bytes_used, 0);
}

static int by_id_then_falling_version(const void *a, const void *b)
{
    const struct told *x = *(const struct told *const *)a, *y = *(const struct told *const *)b;
    int order = memcmp(x->id, y->id, sizeof(x->id)); /* filled with zeros */
    if (order == 0)
        order = (x->id_len > y->id_len) - (x->id_len < y->id_len);
    return order != 0 ? order : (x->version < y->version) - (x->version > y->version);
}

static size_t expected_rows(const struct world *w, uint64_t at_version, uint64_t oldest_version,
                            const struct told *out[ROWS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < w->count; i++) {
        const struct told *row = &w->rows[i];
        if (row->version <= at_version && row->ended_at > oldest_version &&
            row->ended_at > row->version)
            out[count++] = row;
    }
    qsort((void *)out, count, sizeof(out[0]), by_id_then_falling_version);
    return count;
}

static void expect_order(struct world *w, uint64_t at_version, uint64_t oldest_version)
{
    static const struct told *expected[ROWS_MAX];
    struct heap heap = {0};
    uint64_t *keys = NULL;
    size_t count = 0, want = expected_rows(w, at_version, oldest_version, expected);
    assert_int_equal(memtable_order(w->m, at_version, oldest_version, &heap, &keys, &count), 0);
    assert_int_equal(count, want);
    for (size_t i = 0; i < count; i++) {
        struct pdb_row row;
        const void *vectors[2];
        memtable_row_at(w->m, keys[i], &row, vectors);
        uint32_t payload = (uint32_t)(expected[i] - w->rows);
        assert_int_equal(row.id.len, expected[i]->id_len);
        assert_memory_equal(row.id.ptr, expected[i]->id, row.id.len);
        assert_int_equal(row.version, expected[i]->version);
        assert_row(&row, payload);
        assert_int_equal(memtable_ended_at(w->m, keys[i]), expected[i]->ended_at);
    }
    heap_free(&heap, keys);
    assert_int_equal(heap.bytes_used, 0);
}

static void the_order_is_by_id_then_falling_version_and_holds_what_can_be_read(void **state)
{
    (void)state;
    static struct world w;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        live(&w, seed);
        memtable_seal(w.m);
        expect_order(&w, w.version, w.version);
        expect_order(&w, w.version, w.collected);
        expect_order(&w, w.version - 20, w.collected);
        w.version++;
        for (uint32_t number = 0; number < IDS; number += 3)
            (void)end(&w, number);
        expect_order(&w, w.version - 1, w.version - 1); /* what ended later belongs to it */
        expect_order(&w, w.version, w.version);
        assert_sound(w.m);
        finish(&w);
    }
}

static void a_sealed_memtable_stays_as_it_is_but_for_ends(void **state)
{
    (void)state;
    struct memtable *m = memtable_of(NULL, 16);
    struct memtable_stats before, after;
    struct pdb_row row;
    uint64_t version = 0;
    for (uint32_t i = 0; i < 100; i++)
        put_one(m, i, 5 + i, i);
    for (uint32_t i = 0; i < 60; i++)
        delete_one(m, i, 200);
    assert_int_equal(memtable_prepare(m, 1000, 1000), 0);
    memtable_seal(m);
    memtable_stats(m, &before);
    assert_int_equal(before.version_oldest, 5);
    assert_int_equal(before.version_newest, 200);
    assert_false(memtable_collect(m, 300, INT64_MAX, 100000));
    memtable_stats(m, &after);
    assert_int_equal(before.bytes, after.bytes);
    assert_int_equal(after.rows_total, 100);

    struct memtable_snapshot *s = snapshot_of(m, 250, 0);
    struct made_row made;
    make_row(&made, 70, 0, 0);
    assert_true(memtable_end(m, made.row.id, 260));
    assert_false(memtable_end(m, made.row.id, 270));
    assert_false(memtable_end(m, TEXT_LIT("unknown"), 270));
    assert_int_equal(live_rows(m), 39);
    assert_true(get_one(m, 70, 259, &row, &version));
    assert_row(&row, 70);
    assert_false(get_one(m, 70, 260, &row, &version));
    assert_int_equal(version, 260);
    assert_int_equal(count_rows(s, NULL), 40);
    struct memtable_snapshot *later = snapshot_of(m, 265, 0), *newest = snapshot_of(m, 300, 0);
    assert_int_equal(count_rows(later, NULL), 39);
    assert_int_equal(count_rows(newest, NULL), 39);
    /* an end above what a snapshot was promised does not change it */
    make_row(&made, 71, 0, 0);
    assert_true(memtable_end(m, made.row.id, 280));
    assert_int_equal(count_rows(later, NULL), 39);
    assert_int_equal(count_rows(newest, NULL), 39);
    memtable_snapshot_release(later);
    memtable_snapshot_release(newest);
    memtable_snapshot_release(s);
    assert_sound(m);
    memtable_free(m);
}

static void an_empty_memtable_has_an_empty_order(void **state)
{
    (void)state;
    struct memtable *m = memtable_of(NULL, 0);
    uint64_t *keys = NULL;
    size_t count = 1;
    memtable_seal(m);
    assert_int_equal(memtable_order(m, 10, 0, NULL, &keys, &count), 0);
    assert_int_equal(count, 0);
    assert_non_null(keys);
    heap_free(NULL, keys);
    memtable_free(m);
}

static void without_memory_there_is_no_order_and_nothing_is_lost(void **state)
{
    (void)state;
    static struct world w;
    live(&w, 99);
    memtable_seal(w.m);
    size_t used = w.heap.bytes_used;
    int rc = PDB_RESOURCE_EXHAUSTED;
    for (uint64_t n = 1; rc == PDB_RESOURCE_EXHAUSTED; n++) {
        struct heap heap = {.fail_at = n};
        uint64_t *keys = NULL;
        size_t count = 0;
        rc = memtable_order(w.m, w.version, 0, &heap, &keys, &count);
        assert_int_equal(keys != NULL, rc == 0);
        assert_true(n > 1 || rc < 0);
        heap_free(&heap, keys);
        assert_int_equal(heap.bytes_used, 0);
    }
    assert_int_equal(w.heap.bytes_used, used);
    finish(&w);
}

/* ---- a worker beside the owner ---- */

struct worker {
    struct memtable *m;
    uint64_t at_version;
    size_t rows;
    int rc;
};

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct heap heap = {0};
    for (int round = 0; round < 5; round++) {
        uint64_t *keys = NULL;
        size_t count = 0;
        worker->rc =
            memtable_order(worker->m, worker->at_version, worker->at_version, &heap, &keys, &count);
        for (size_t i = 0; i < count; i++) {
            struct pdb_row row;
            const void *vectors[2];
            memtable_row_at(worker->m, keys[i], &row, vectors);
            assert_true(row.version <= worker->at_version);
        }
        worker->rows = count;
        heap_free(&heap, keys);
    }
    return NULL;
}

static void a_worker_reads_rows_while_the_owner_ends_them(void **state)
{
    (void)state;
    static struct world w;
    live(&w, 5);
    static const struct told *expected[ROWS_MAX];
    size_t want = expected_rows(&w, w.version, w.version, expected);
    memtable_seal(w.m);
    struct worker worker = {.m = w.m, .at_version = w.version};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, worker_main, &worker), 0);
    for (uint32_t number = 0; number < IDS; number++) {
        struct memtable_snapshot *s = snapshot_of(w.m, w.version, 0);
        w.version++;
        (void)end(&w, number);
        if (number % 100 == 0)
            (void)count_rows(s, NULL);
        memtable_snapshot_release(s);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(worker.rc, 0);
    assert_int_equal(worker.rows, want); /* all of them ended later than it reads */
    finish(&w);
}

/* ---- one query over several memtables ---- */

static void one_query_over_two_memtables_is_one_over_both(void **state)
{
    (void)state;
    enum { K = 20 };
    struct memtable *parts[2] = {memtable_of(NULL, 16), memtable_of(NULL, 16)};
    struct memtable *whole = memtable_of(NULL, 16);
    for (uint32_t i = 0; i < 300; i++) {
        put_one(parts[i >= 150], i, 1 + i, i * 7 % 300);
        put_one(whole, i, 1 + i, i * 7 % 300);
    }
    float vector[3] = {100, 0, 0};
    struct topk_item items[2][K];
    struct scan_query queries[2];
    struct memtable_snapshot *snapshots[3] = {
        snapshot_of(parts[0], 300, 0), snapshot_of(parts[1], 300, 0), snapshot_of(whole, 300, 0)};
    for (int q = 0; q < 2; q++) {
        queries[q] = (struct scan_query){.field = fixture_fields[0], .vector = vector};
        topk_init(&queries[q].topk, items[q], K);
        scan_query_begin(&queries[q]);
    }
    for (uint64_t p = 0; p < 3; p++) {
        struct memtable_search search = {
            .snapshot = snapshots[p], .key_tag = p << 56, .query = &queries[p == 2]};
        memtable_search_begin(&search);
        while (!memtable_search_step(&search, 10)) {
        }
    }
    assert_int_equal(queries[0].rows_seen, 300);
    topk_sort(&queries[0].topk);
    topk_sort(&queries[1].topk);
    assert_int_equal(queries[0].topk.count, K);
    for (size_t i = 0; i < K; i++) {
        struct pdb_row a, b;
        memtable_snapshot_row(snapshots[items[0][i].key >> 56], items[0][i].key, &a, NULL);
        memtable_snapshot_row(snapshots[2], items[1][i].key, &b, NULL);
        assert_int_equal(id_number(a.id), id_number(b.id));
        assert_true(items[0][i].distance == items[1][i].distance);
    }
    for (size_t p = 0; p < 3; p++)
        memtable_snapshot_release(snapshots[p]);
    memtable_free(parts[0]);
    memtable_free(parts[1]);
    memtable_free(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_is_by_id_then_falling_version_and_holds_what_can_be_read),
        cmocka_unit_test(a_sealed_memtable_stays_as_it_is_but_for_ends),
        cmocka_unit_test(an_empty_memtable_has_an_empty_order),
        cmocka_unit_test(without_memory_there_is_no_order_and_nothing_is_lost),
        cmocka_unit_test(a_worker_reads_rows_while_the_owner_ends_them),
        cmocka_unit_test(one_query_over_two_memtables_is_one_over_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
