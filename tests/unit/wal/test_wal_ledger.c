/* src/wal/wal_ledger.c: who needs which segment, against a table searched by brute force. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/rng.h"
#include "wal_lab.h"

enum { COLLECTIONS = 40, SEGMENTS_MAX = 600 };

struct model {
    struct sim_disk *disk;
    struct io *io;
    struct heap heap;
    struct wal_ledger ledger;
    uint64_t needed[SEGMENTS_MAX][COLLECTIONS]; /* the highest version; 0: none */
    uint64_t bytes[SEGMENTS_MAX];
    uint64_t oldest, newest; /* numbers; from 1 */
};

static struct uuid uuid_of(uint64_t collection)
{
    struct uuid uuid = {{7, (uint8_t)collection, 9}};
    return uuid;
}

static void model_init(struct model *m)
{
    memset(m, 0, sizeof(*m));
    m->disk = sim_disk_new(1);
    assert_int_equal(sim_io_create(m->disk, &m->io), 0);
    wal_ledger_init(&m->ledger, &m->heap, m->io);
    m->oldest = 1;
}

static void model_dispose(struct model *m)
{
    wal_ledger_dispose(&m->ledger);
    assert_int_equal(m->heap.bytes_used, 0);
    m->io->ops->destroy(m->io);
    sim_disk_free(m->disk);
}

static void push(struct model *m, uint64_t bytes)
{
    struct wal_live *live = heap_calloc(&m->heap, 1, sizeof(*live));
    live->seq = ++m->newest;
    live->file_bytes = m->bytes[m->newest] = bytes;
    wal_ledger_push(&m->ledger, live);
}

static void note(struct model *m, uint64_t collection, uint64_t version)
{
    struct uuid uuid = uuid_of(collection);
    assert_true(wal_ledger_prepare(&m->ledger));
    wal_ledger_note(&m->ledger, wal_ledger_newest(&m->ledger), &uuid, version);
    m->needed[m->newest][collection] = version;
}

static void release(struct model *m, uint64_t collection, uint64_t version)
{
    struct uuid uuid = uuid_of(collection);
    bool any = false;
    for (uint64_t seq = m->oldest; seq <= m->newest; seq++) {
        uint64_t *needed = &m->needed[seq][collection];
        any = any || (*needed != 0 && *needed <= version);
        *needed = *needed <= version ? 0 : *needed;
    }
    assert_int_equal(wal_ledger_release(&m->ledger, &uuid, version), any);
}

static uint64_t held_from(const struct model *m)
{
    for (uint64_t seq = m->oldest; seq <= m->newest; seq++)
        for (uint64_t c = 0; c < COLLECTIONS; c++)
            if (m->needed[seq][c] != 0)
                return seq;
    return UINT64_MAX;
}

static void drop_oldest(struct model *m)
{
    wal_ledger_drop_oldest(&m->ledger);
    m->oldest++;
}

static void count_one(void *arg, const struct uuid *collection, uint64_t version)
{
    (void)collection;
    *(uint64_t *)arg += version != 0;
}

static void check(struct model *m)
{
    uint64_t from = held_from(m), bytes = 0, collections = 0, expected = 0, version = 0;
    struct uuid holder;
    for (uint64_t seq = m->oldest; seq <= m->newest; seq++)
        bytes += m->bytes[seq];
    for (uint64_t c = 0; c < COLLECTIONS; c++) {
        bool any = false;
        for (uint64_t seq = m->oldest; seq <= m->newest; seq++)
            any = any || m->needed[seq][c] != 0;
        expected += any;
    }
    assert_int_equal(wal_ledger_held_from(&m->ledger), from);
    assert_int_equal(m->ledger.bytes, bytes);
    wal_ledger_collections(&m->ledger, count_one, &collections);
    assert_int_equal(collections, expected);
    assert_int_equal(wal_ledger_holder(&m->ledger, &holder, &version), from != UINT64_MAX);
    if (from != UINT64_MAX)
        assert_int_equal(m->needed[from][holder.bytes[1]], version);
}

static void it_agrees_with_brute_force(void **state)
{
    (void)state;
    static struct model m;
    struct rng rng;
    uint64_t version = 0;
    model_init(&m);
    rng_seed(&rng, 1);
    push(&m, 100);
    for (int step = 0; step < 20000; step++) {
        uint64_t what = rng_below(&rng, 100), c = rng_below(&rng, COLLECTIONS);
        if (what < 2 && m.newest + 1 < SEGMENTS_MAX)
            push(&m, rng_below(&rng, 1000));
        else if (what < 60)
            note(&m, c, ++version);
        else if (what < 95)
            release(&m, c, rng_below(&rng, 10) == 0 ? UINT64_MAX : rng_below(&rng, version + 1));
        else if (m.oldest < m.newest && held_from(&m) > m.oldest)
            drop_oldest(&m);
        if (step % 16 == 0)
            check(&m);
    }
    assert_true(m.oldest > 100);
    for (uint64_t c = 0; c < COLLECTIONS; c++)
        release(&m, c, UINT64_MAX);
    check(&m);
    model_dispose(&m);
}

static void a_version_that_falls_keeps_too_much_never_too_little(void **state)
{
    (void)state;
    static struct model m;
    model_init(&m);
    struct uuid uuid = uuid_of(1);
    push(&m, 1);
    note(&m, 1, 50);
    note(&m, 1, 40); /* the highest counts */
    m.needed[1][1] = 50;
    push(&m, 1);
    note(&m, 1, 10);
    assert_false(wal_ledger_release(&m.ledger, &uuid, 49));
    assert_int_equal(wal_ledger_held_from(&m.ledger), 1);
    assert_true(wal_ledger_release(&m.ledger, &uuid, 50));
    assert_int_equal(wal_ledger_held_from(&m.ledger), UINT64_MAX);
    assert_false(wal_ledger_release(&m.ledger, &uuid, UINT64_MAX)); /* not known any more */
    model_dispose(&m);
}

static void what_is_prepared_cannot_fail(void **state)
{
    (void)state;
    static struct model m;
    model_init(&m);
    push(&m, 1);
    bool prepared = false;
    for (uint64_t n = 1; !prepared; n++) {
        m.heap.fail_at = m.heap.allocation_count + n;
        prepared = wal_ledger_prepare(&m.ledger);
        assert_true(n < 10);
    }
    m.heap.fail_at = m.heap.allocation_count + 1; /* nothing more */
    struct uuid uuid = uuid_of(3);
    wal_ledger_note(&m.ledger, wal_ledger_newest(&m.ledger), &uuid, 1);
    assert_int_equal(wal_ledger_held_from(&m.ledger), 1);
    model_dispose(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_agrees_with_brute_force),
        cmocka_unit_test(a_version_that_falls_keeps_too_much_never_too_little),
        cmocka_unit_test(what_is_prepared_cannot_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
