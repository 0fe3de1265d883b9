/* A manifest with something in each part of it, for the tests of its format and of its file. */
#ifndef TEST_ENGINE_MANIFEST_FIXTURE_H
#define TEST_ENGINE_MANIFEST_FIXTURE_H

#include "engine/manifest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct uuid sample_uuid = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

enum { SAMPLE_SEGMENTS = 3, SAMPLE_REQUESTS = 2, SAMPLE_ENDED = 7, SAMPLE_ROWS = 70000 };

static const struct manifest_segment sample_segments[SAMPLE_SEGMENTS] = {
    {.number = 3,
     .rows = 1000,
     .parquet_bytes = 123456,
     .index_bytes = 7890,
     .version_min = 1,
     .version_max = 40,
     .expires_min_us = INT64_MAX,
     .schema_version = 2,
     .parquet_crc32c = 0xdeadbeef},
    {.number = 4,
     .rows = 1,
     .parquet_bytes = UINT64_MAX,
     .version_min = 41,
     .version_max = 41,
     .expires_min_us = -5},
    {.number = 900000000000,
     .rows = SAMPLE_ROWS,
     .parquet_bytes = 1,
     .version_min = 0,
     .version_max = MANIFEST_VERSION_MAX,
     .expires_min_us = 1700000000000000},
};

struct sample_ended {
    uint32_t segment, row;
    uint64_t ended_at;
};

static const struct sample_ended sample_ended[SAMPLE_ENDED] = {
    {0, 0, 41},
    {0, 1, 41},
    {0, 500, 40},
    {0, 998, 0},
    {0, 999, 1000000},
    {2, 77, MANIFEST_VERSION_MAX},
    {2, SAMPLE_ROWS - 1, 1},
};

static const struct manifest_request sample_requests[SAMPLE_REQUESTS] = {
    {.request = {.hash = {0xaa, 1, 2, 3}, .body_checksum = 77, .time_us = 1700000000000001},
     .version = 39,
     .count = 12},
    {.request = {.hash = {0xbb}, .time_us = -1}, .version = 42, .count = UINT32_MAX},
};

static inline struct manifest sample_manifest(uint64_t number)
{
    return (struct manifest){.collection = sample_uuid,
                             .shard = 6,
                             .number = number,
                             .version = 42 + number,
                             .oldest_version = 30,
                             .next_segment = 900000000001,
                             .written_at_us = 1700000000000002};
}

/* The first `rows` rows of a segment, with what the sample says of them. */
static inline struct segment_deletes *sample_deletes(uint32_t segment)
{
    struct segment_deletes *deletes;
    assert_int_equal(segment_deletes_new(NULL, (uint32_t)sample_segments[segment].rows, &deletes),
                     0);
    for (unsigned i = 0; i < SAMPLE_ENDED; i++) {
        if (sample_ended[i].segment != segment)
            continue;
        assert_int_equal(segment_deletes_reserve(deletes, 1), 0);
        segment_deletes_mark(deletes, sample_ended[i].row, sample_ended[i].ended_at);
    }
    return deletes;
}

/* Encodes it in steps of `budget` rows. What manifest_encode_end returns. */
static inline int sample_encode(struct buffer *out, uint64_t number, size_t budget)
{
    struct manifest_encoder e;
    struct manifest m = sample_manifest(number);
    manifest_encode_begin(&e, out, &m);
    for (uint32_t i = 0; i < SAMPLE_SEGMENTS; i++)
        manifest_encode_segment(&e, &sample_segments[i]);
    for (uint32_t i = 0; i < SAMPLE_SEGMENTS; i++) {
        struct segment_deletes *deletes = sample_deletes(i);
        while (manifest_encode_ended(&e, sample_segments[i].number, deletes, budget))
            continue;
        segment_deletes_free(deletes);
    }
    for (uint32_t i = 0; i < SAMPLE_REQUESTS; i++)
        manifest_encode_request(&e, &sample_requests[i]);
    return manifest_encode_end(&e);
}

static inline void sample_expect(const struct manifest *m, uint64_t number)
{
    struct manifest expected = sample_manifest(number);
    unsigned next = 0;
    assert_memory_equal(&m->collection, &expected.collection, sizeof(m->collection));
    assert_int_equal(m->shard, expected.shard);
    assert_int_equal(m->number, number);
    assert_int_equal(m->version, expected.version);
    assert_int_equal(m->oldest_version, expected.oldest_version);
    assert_int_equal(m->next_segment, expected.next_segment);
    assert_int_equal(m->written_at_us, expected.written_at_us);
    assert_int_equal(m->segment_count, SAMPLE_SEGMENTS);
    for (uint32_t i = 0; i < SAMPLE_SEGMENTS; i++) {
        const struct manifest_segment *a = &m->segments[i], *b = &sample_segments[i];
        struct manifest_ended ended;
        uint32_t row, count = 0;
        uint64_t ended_at;
        assert_int_equal(a->number, b->number);
        assert_int_equal(a->rows, b->rows);
        assert_int_equal(a->parquet_bytes, b->parquet_bytes);
        assert_int_equal(a->index_bytes, b->index_bytes);
        assert_int_equal(a->version_min, b->version_min);
        assert_int_equal(a->version_max, b->version_max);
        assert_int_equal(a->expires_min_us, b->expires_min_us);
        assert_int_equal(a->schema_version, b->schema_version);
        assert_int_equal(a->parquet_crc32c, b->parquet_crc32c);
        manifest_ended_begin(a, &ended);
        for (; manifest_ended_next(&ended, &row, &ended_at); count++, next++) {
            assert_true(next < SAMPLE_ENDED && sample_ended[next].segment == i);
            assert_int_equal(row, sample_ended[next].row);
            assert_int_equal(ended_at, sample_ended[next].ended_at);
        }
        assert_int_equal(count, a->ended_count);
    }
    assert_int_equal(next, SAMPLE_ENDED);
    assert_int_equal(m->request_count, SAMPLE_REQUESTS);
    for (uint32_t i = 0; i < SAMPLE_REQUESTS; i++) {
        struct manifest_request request;
        manifest_request_at(m, i, &request);
        const struct manifest_request *want = &sample_requests[i];
        assert_memory_equal(request.request.hash, want->request.hash, 16);
        assert_int_equal(request.request.body_checksum, want->request.body_checksum);
        assert_int_equal(request.request.time_us, want->request.time_us);
        assert_int_equal(request.version, want->version);
        assert_int_equal(request.count, want->count);
    }
}

#endif
