/* What the tests of the memtable share: rows whose contents follow from one number, and steps run
 * to their end. */
#ifndef TESTS_MEMTABLE_FIXTURE_H
#define TESTS_MEMTABLE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/doc.h"
#include "base/rng.h"
#include "memtable/memtable.h"

#include <stdio.h>

/* Field 0: 3 floats that begin with the payload. Field 1: 9 bits, missing in every third row. */
static const struct scan_field fixture_fields[] = {
    {.dimension = 3, .metric = PDB_METRIC_EUCLIDEAN, .bytes = 12},
    {.dimension = 9, .metric = PDB_METRIC_HAMMING, .bytes = 2},
};

static inline struct memtable *memtable_of(struct heap *heap, uint32_t chunk_rows)
{
    struct memtable *m = NULL;
    struct memtable_options options = {.heap = heap,
                                       .hash_key = {1, 2},
                                       .fields = fixture_fields,
                                       .field_count = 2,
                                       .chunk_rows = chunk_rows};
    return memtable_new(&options, &m) == 0 ? m : NULL;
}

/* One row and the memory behind it. */
struct made_row {
    struct pdb_row row;
    char id[24];
    float floats[3];
    uint8_t bits[2];
    const void *vectors[2];
    uint32_t payload;
};

/* The metadata is the payload's four bytes: without a filter nobody reads it as a document. */
static inline void make_row(struct made_row *made, uint32_t id, uint64_t version, uint32_t payload)
{
    *made = (struct made_row){.payload = payload};
    int len = snprintf(made->id, sizeof(made->id), "id-%05u", id);
    made->floats[0] = (float)payload;
    made->bits[0] = (uint8_t)payload;
    made->vectors[0] = made->floats;
    made->vectors[1] = payload % 3 != 0 ? made->bits : NULL;
    made->row = (struct pdb_row){.id = {made->id, (size_t)len},
                                 .vectors = made->vectors,
                                 .metadata = {(const char *)&made->payload, 4},
                                 .version = version,
                                 .created_at_us = payload,
                                 .updated_at_us = -(int64_t)payload};
}

static inline uint32_t id_number(struct pdb_text id)
{
    uint32_t number = 0;
    assert_int_equal(id.len, 8);
    for (size_t i = 3; i < id.len; i++)
        number = 10 * number + (uint32_t)(id.ptr[i] - '0');
    return number;
}

static inline size_t text_bytes(const struct made_row *made)
{
    return made->row.id.len + made->row.metadata.len;
}

/* All that a row says about its payload. */
static inline void assert_row(const struct pdb_row *row, uint32_t payload)
{
    uint32_t stored = 0;
    float first = 0;
    assert_int_equal(row->metadata.len, 4);
    memcpy(&stored, row->metadata.ptr, 4);
    memcpy(&first, row->vectors[0], sizeof(first));
    assert_int_equal(stored, payload);
    assert_true(first == (float)payload);
    assert_int_equal(row->created_at_us, payload);
    assert_int_equal(row->updated_at_us, -(int64_t)payload);
    assert_int_equal(row->vectors[1] != NULL, payload % 3 != 0);
    if (row->vectors[1] != NULL)
        assert_int_equal(((const uint8_t *)row->vectors[1])[0], (uint8_t)payload);
}

static inline void put_one(struct memtable *m, uint32_t id, uint64_t version, uint32_t payload)
{
    struct made_row made;
    make_row(&made, id, version, payload);
    assert_int_equal(memtable_prepare(m, 1, text_bytes(&made)), 0);
    memtable_commit(m, &made.row);
}

static inline void delete_one(struct memtable *m, uint32_t id, uint64_t version)
{
    struct made_row made;
    make_row(&made, id, version, 0);
    made.row.deleted = true;
    assert_int_equal(memtable_prepare(m, 1, made.row.id.len), 0);
    memtable_commit(m, &made.row);
}

static inline bool get_one(struct memtable *m, uint32_t id, uint64_t at, struct pdb_row *row_out,
                           uint64_t *version_out)
{
    struct made_row made;
    make_row(&made, id, 0, 0);
    return memtable_get(m, made.row.id, at, row_out, version_out);
}

static inline void assert_sound(const struct memtable *m)
{
    struct trail trail = {0};
    if (memtable_check(m, &trail) != 0)
        fail_msg("%s", trail.text);
}

static inline struct memtable_snapshot *snapshot_of(struct memtable *m, uint64_t version,
                                                    int64_t now_us)
{
    struct memtable_snapshot *s = NULL;
    assert_int_equal(memtable_snapshot(m, version, now_us, &s), 0);
    return s;
}

static inline int count_visit(void *arg, uint64_t key)
{
    (void)key;
    ++*(size_t *)arg;
    return 0;
}

static inline size_t count_rows(struct memtable_snapshot *s, const struct filter *filter)
{
    struct memtable_cursor cursor = {0};
    size_t count = 0;
    while (!memtable_scan_step(s, &cursor, filter, 7, count_visit, &count)) {
    }
    return count;
}

static inline uint64_t live_rows(const struct memtable *m)
{
    struct memtable_stats stats;
    memtable_stats(m, &stats);
    return stats.rows_live;
}

#endif
