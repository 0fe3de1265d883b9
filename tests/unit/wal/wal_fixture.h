/* What the tests of the log share: batches made of a number, and comparing them. */
#ifndef TESTS_UNIT_WAL_WAL_FIXTURE_H
#define TESTS_UNIT_WAL_WAL_FIXTURE_H

#include "wal/wal_format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIXTURE_ROWS_MAX = 64, FIXTURE_FIELDS = 2, FIXTURE_DIMENSION_MAX = 65536 };

/* A batch and the memory of its rows. */
struct fixture_batch {
    struct wal_batch batch;
    uint32_t field_bytes[FIXTURE_FIELDS];
    struct pdb_row rows[FIXTURE_ROWS_MAX];
    const void *vectors[FIXTURE_ROWS_MAX][FIXTURE_FIELDS];
    char ids[FIXTURE_ROWS_MAX][32], metadata[FIXTURE_ROWS_MAX][32];
    float *floats;
};

static inline uint64_t fixture_mix(uint64_t x)
{
    x ^= x >> 31;
    x *= 0x9e3779b97f4a7c15u;
    return x ^ x >> 29;
}

/* Rows of `floats` float32 and 5 bytes of bits, all a function of `number`. Freed by
 * fixture_batch_free. */
static inline void fixture_batch_make(struct fixture_batch *b, uint64_t number, uint32_t row_count,
                                      uint32_t floats)
{
    memset(b, 0, sizeof(*b));
    b->field_bytes[0] = floats * 4;
    b->field_bytes[1] = 5;
    b->floats = calloc((size_t)row_count * floats + 8, sizeof(float));
    b->batch = (struct wal_batch){
        .type = WAL_RECORD_ROWS,
        .shard = (uint32_t)(number % 3),
        .version = number,
        .request = {.body_checksum = (uint32_t)fixture_mix(number), .time_us = (int64_t)number * 7},
        .field_count = FIXTURE_FIELDS,
        .field_bytes = b->field_bytes,
        .row_count = row_count,
        .rows = b->rows,
    };
    for (size_t i = 0; i < 16; i++) {
        b->batch.collection.bytes[i] = (uint8_t)(number % 5 + i);
        b->batch.request.hash[i] = (uint8_t)(number >> i);
    }
    for (size_t i = 0; i < (size_t)row_count * floats + 8; i++)
        b->floats[i] = (float)(fixture_mix(number * 1000003 + i) % 4096) - 2048;
    for (uint32_t i = 0; i < row_count; i++) {
        struct pdb_row *row = &b->rows[i];
        int id_len =
            snprintf(b->ids[i], sizeof(b->ids[i]), "id-%llu-%u", (unsigned long long)number, i);
        int metadata_len = snprintf(b->metadata[i], sizeof(b->metadata[i]), "%.*s",
                                    (int)((number + i) % 29), "metadata-of-a-row-in-a-document");
        b->vectors[i][0] = (number + i) % 7 != 3 ? b->floats + (size_t)i * floats : NULL;
        b->vectors[i][1] = (number + i) % 2 == 0 ? (const void *)b->floats : NULL;
        bool deleted = (number + i) % 5 == 4;
        *row = (struct pdb_row){
            .id = {b->ids[i], (size_t)id_len},
            .vectors = deleted ? NULL : b->vectors[i],
            .metadata = {b->metadata[i], deleted ? 0 : (size_t)metadata_len},
            .version = number,
            .created_at_us = (int64_t)(number << 20),
            .updated_at_us = (int64_t)(number << 21),
            .expires_at_us = i % 2 != 0 ? -1 : 0,
            .deleted = deleted,
        };
    }
}

static inline void fixture_batch_free(struct fixture_batch *b)
{
    free(b->floats);
    b->floats = NULL;
}

static inline bool fixture_row_equal(const struct wal_batch *batch, const struct pdb_row *a,
                                     const struct pdb_row *b)
{
    if (a->id.len != b->id.len || memcmp(a->id.ptr, b->id.ptr, a->id.len) != 0 ||
        a->metadata.len != b->metadata.len ||
        (a->metadata.len != 0 && memcmp(a->metadata.ptr, b->metadata.ptr, a->metadata.len) != 0) ||
        a->version != b->version || a->created_at_us != b->created_at_us ||
        a->updated_at_us != b->updated_at_us || a->expires_at_us != b->expires_at_us ||
        a->deleted != b->deleted)
        return false;
    for (uint32_t f = 0; f < batch->field_count; f++) {
        const void *va = a->vectors != NULL ? a->vectors[f] : NULL,
                   *vb = b->vectors != NULL ? b->vectors[f] : NULL;
        if ((va == NULL) != (vb == NULL) ||
            (va != NULL && memcmp(va, vb, batch->field_bytes[f]) != 0))
            return false;
    }
    return true;
}

static inline bool fixture_batch_equal(const struct wal_batch *a, const struct wal_batch *b)
{
    if (a->type != b->type || memcmp(&a->collection, &b->collection, 16) != 0 ||
        a->shard != b->shard || a->version != b->version ||
        memcmp(a->request.hash, b->request.hash, 16) != 0 ||
        a->request.body_checksum != b->request.body_checksum ||
        a->request.time_us != b->request.time_us || a->field_count != b->field_count ||
        a->row_count != b->row_count ||
        (a->field_count != 0 &&
         memcmp(a->field_bytes, b->field_bytes, 4 * (size_t)a->field_count) != 0))
        return false;
    for (uint32_t i = 0; i < a->row_count; i++)
        if (!fixture_row_equal(a, &a->rows[i], &b->rows[i]))
            return false;
    return true;
}

/* A whole record at `out` (64-byte aligned), as the log writes it; its bytes. */
static inline uint64_t fixture_record_put(const struct wal_batch *batch, enum wal_encoding encoding,
                                          struct wal_avro *avro, const struct uuid *segment,
                                          uint64_t lsn, uint8_t *out)
{
    uint64_t body = 0;
    if (!wal_body_bytes(batch, encoding, &body))
        abort();
    struct wal_encoder encoder;
    wal_encoder_init(&encoder, batch, encoding == WAL_ENCODING_AVRO ? avro : NULL,
                     out + WAL_RECORD_HEADER_BYTES, body);
    while (!wal_encode_step(&encoder, 100))
        continue;
    if (encoder.failed)
        abort();
    struct wal_record_header header = {
        .len = wal_record_bytes(body),
        .body_len = body,
        .type = (uint8_t)batch->type,
        .encoding = (uint8_t)encoding,
        .collection = batch->collection,
        .shard = batch->shard,
        .row_count = batch->row_count,
        .version = batch->version,
        .request = batch->request,
        .body_crc = encoder.crc,
        .schema = encoding == WAL_ENCODING_AVRO ? WAL_AVRO_FINGERPRINT : 0,
    };
    memset(out + WAL_RECORD_HEADER_BYTES + body, 0, header.len - WAL_RECORD_HEADER_BYTES - body);
    wal_record_header_put(&header, segment, lsn, out);
    return header.len;
}

#endif
