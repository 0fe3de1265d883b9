/* A hundred thousand random operations against a naive model that remembers every version of every
 * id: writes in steps, reads at old versions, snapshots held across writes and collections, expiry,
 * abandoned batches. */
#include "memtable_fixture.h"

enum { ID_COUNT = 150, OPERATIONS = 100000, SNAPSHOTS = 6, BATCH_MAX = 6 };

struct entry {
    uint64_t version;
    uint32_t payload;
    int64_t expires_at_us;
    bool deleted;
};

struct history {
    struct entry *entries; /* rising versions */
    size_t count, capacity;
};

struct held {
    struct memtable_snapshot *snapshot;
    struct entry expected[ID_COUNT]; /* version 0: not visible */
    size_t expected_count;
};

struct model {
    struct memtable *m;
    struct rng rng;
    struct history ids[ID_COUNT];
    struct held held[SNAPSHOTS];
    uint64_t version, oldest; /* complete batches; lowest that is read */
    int64_t now_us, expired_before_us;
    uint32_t next_payload;
    size_t gets, snapshots_checked, collected;
};

static void remember(struct history *h, struct entry entry)
{
    if (h->count == h->capacity) {
        h->capacity = h->capacity != 0 ? 2 * h->capacity : 8;
        h->entries = heap_realloc(NULL, h->entries, h->capacity * sizeof(*h->entries));
        assert_non_null(h->entries);
    }
    h->entries[h->count++] = entry;
}

/* NULL: never written at or before the version. */
static const struct entry *recall(const struct history *h, uint64_t version)
{
    for (size_t i = h->count; i-- > 0;) {
        if (h->entries[i].version <= version)
            return &h->entries[i];
    }
    return NULL;
}

static bool expired_at(const struct entry *entry, int64_t time_us)
{
    return entry->expires_at_us != 0 && entry->expires_at_us <= time_us;
}

/* ---- operations ---- */

static void collect_some(struct model *w)
{
    uint64_t lag = rng_below(&w->rng, 12);
    uint64_t oldest = w->version > lag ? w->version - lag : 0;
    if (oldest > w->oldest)
        w->oldest = oldest;
    if (w->now_us - 50 > w->expired_before_us)
        w->expired_before_us = w->now_us - 50;
    w->collected +=
        !memtable_collect(w->m, w->oldest, w->expired_before_us, 1 + rng_below(&w->rng, 30));
}

/* Snapshots see complete batches only. */
static void take_snapshot(struct model *w, struct held *held)
{
    uint64_t version = w->version - rng_below(&w->rng, w->version - w->oldest + 1);
    held->snapshot = snapshot_of(w->m, version, w->now_us);
    held->expected_count = 0;
    for (size_t i = 0; i < ID_COUNT; i++) {
        const struct entry *entry = recall(&w->ids[i], version);
        held->expected[i] = (struct entry){0};
        if (entry == NULL || entry->deleted || expired_at(entry, w->now_us))
            continue;
        held->expected[i] = *entry;
        held->expected_count++;
    }
}

static void write_batch(struct model *w)
{
    struct made_row rows[BATCH_MAX];
    size_t count = 1 + rng_below(&w->rng, BATCH_MAX), bytes = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t id = (uint32_t)rng_below(&w->rng, ID_COUNT);
        make_row(&rows[i], id, w->version + 1, ++w->next_payload);
        rows[i].row.metadata.ptr = (const char *)&rows[i].payload;
        rows[i].row.deleted = rng_below(&w->rng, 4) == 0;
        if (rng_below(&w->rng, 4) == 0)
            rows[i].row.expires_at_us = w->now_us + 1 + (int64_t)rng_below(&w->rng, 300);
        bytes += text_bytes(&rows[i]);
    }
    assert_int_equal(memtable_prepare(w->m, count, bytes), 0);
    if (rng_below(&w->rng, 20) == 0)
        return; /* given up after prepare */
    for (size_t i = 0; i < count; i++) {
        uint32_t id = id_number(rows[i].row.id);
        memtable_commit(w->m, &rows[i].row);
        remember(&w->ids[id], (struct entry){w->version + 1, rows[i].payload,
                                             rows[i].row.expires_at_us, rows[i].row.deleted});
        if (rng_below(&w->rng, 10) == 0) /* others have a turn in the middle of the batch */
            collect_some(w);
        struct held *held = &w->held[rng_below(&w->rng, SNAPSHOTS)];
        if (held->snapshot == NULL && rng_below(&w->rng, 10) == 0)
            take_snapshot(w, held);
    }
    w->version++;
}

static void read_one(struct model *w)
{
    uint32_t id = (uint32_t)rng_below(&w->rng, ID_COUNT);
    uint64_t at = w->oldest + rng_below(&w->rng, w->version - w->oldest + 1), version = 0;
    const struct entry *entry = recall(&w->ids[id], at);
    struct pdb_row row;
    bool found = get_one(w->m, id, at, &row, &version);
    w->gets++;
    if (entry == NULL) {
        assert_false(found);
        assert_int_equal(version, 0);
        return;
    }
    if (!found && !entry->deleted) { /* only as the work of collection */
        assert_true(expired_at(entry, w->expired_before_us));
        return;
    }
    assert_int_equal(found, !entry->deleted);
    if (found) {
        assert_int_equal(version, entry->version);
        assert_int_equal(row.version, entry->version);
        assert_int_equal(row.expires_at_us, entry->expires_at_us);
        assert_row(&row, entry->payload);
    } else { /* of several deletes in a row any may be told; none once collected */
        assert_true(version <= entry->version);
    }
}

struct verify {
    struct model *model;
    struct held *held;
    size_t seen;
};

static int verify_row(void *arg, uint64_t key)
{
    struct verify *v = arg;
    struct pdb_row row;
    const void *vectors[2];
    memtable_snapshot_row(v->held->snapshot, key, &row, vectors);
    const struct entry *expected = &v->held->expected[id_number(row.id)];
    assert_int_equal(row.version, expected->version);
    assert_row(&row, expected->payload);
    v->seen++;
    return 0;
}

static void verify_snapshot(struct model *w, struct held *held)
{
    struct verify v = {w, held, 0};
    struct memtable_cursor cursor = {0};
    size_t budget = 1 + rng_below(&w->rng, 100), steps = 0;
    while (!memtable_scan_step(held->snapshot, &cursor, NULL, budget, verify_row, &v))
        steps++;
    assert_int_equal(v.seen, held->expected_count);
    assert_true(steps <= memtable_snapshot_rows(held->snapshot) / budget);
    w->snapshots_checked++;
}

static void turn_snapshot(struct model *w)
{
    struct held *held = &w->held[rng_below(&w->rng, SNAPSHOTS)];
    if (held->snapshot == NULL) {
        take_snapshot(w, held);
        return;
    }
    verify_snapshot(w, held);
    if (rng_below(&w->rng, 3) == 0) {
        memtable_snapshot_release(held->snapshot);
        held->snapshot = NULL;
    }
}

static void verify_counts(struct model *w)
{
    uint64_t most = 0, least = 0, live = live_rows(w->m);
    for (size_t i = 0; i < ID_COUNT; i++) {
        const struct entry *entry = recall(&w->ids[i], UINT64_MAX);
        bool alive = entry != NULL && !entry->deleted;
        most += alive;
        least += alive && !expired_at(entry, w->expired_before_us);
    }
    assert_in_range(live, least, most);
    assert_sound(w->m);
}

static void finish(struct model *w, struct heap *heap)
{
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        if (w->held[i].snapshot != NULL)
            verify_snapshot(w, &w->held[i]);
        memtable_snapshot_release(w->held[i].snapshot);
    }
    assert_int_equal(memtable_prepare(w->m, 0, 0), 0);
    w->oldest = w->version;
    w->expired_before_us = w->now_us;
    while (memtable_collect(w->m, w->oldest, w->expired_before_us, 1000)) {
    }
    verify_counts(w);
    struct memtable_stats stats;
    memtable_stats(w->m, &stats);
    /* collection kept memory near what lives: two thirds of the rows at least, but for the last
     * chunk */
    assert_true(stats.rows_total <= ID_COUNT * 3 / 2 + 16);
    memtable_free(w->m);
    assert_int_equal(heap->bytes_used, 0);
    for (size_t i = 0; i < ID_COUNT; i++)
        heap_free(NULL, w->ids[i].entries);
}

static void run(uint64_t seed, uint32_t chunk_rows, unsigned operations)
{
    struct heap heap = {0};
    static struct model world;
    struct model *w = &world;
    memset(w, 0, sizeof(*w));
    rng_seed(&w->rng, seed);
    w->m = memtable_of(&heap, chunk_rows);
    assert_non_null(w->m);
    for (unsigned i = 0; i < operations; i++) {
        w->now_us++;
        switch (rng_below(&w->rng, 8)) {
        case 0:
        case 1:
        case 2:
            write_batch(w);
            break;
        case 3:
            turn_snapshot(w);
            break;
        case 4:
            collect_some(w);
            break;
        default:
            read_one(w);
        }
        if (i % 500 == 0)
            verify_counts(w);
    }
    assert_true(w->gets > operations / 4 && w->snapshots_checked > operations / 100);
    assert_true(w->collected > 10);
    finish(w, &heap);
}

static void a_hundred_thousand_operations_agree_with_the_model(void **state)
{
    (void)state;
    run(1, 0, OPERATIONS);
}

static void so_they_do_with_tiny_chunks(void **state)
{
    (void)state;
    for (uint64_t seed = 2; seed < 10; seed++)
        run(seed, (uint32_t)seed - 1, OPERATIONS / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hundred_thousand_operations_agree_with_the_model),
        cmocka_unit_test(so_they_do_with_tiny_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
