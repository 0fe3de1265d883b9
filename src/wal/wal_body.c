/* wal_body.c: the body of a batch record in the binary encoding, and the switch between the
 * encodings.
 *
 *     head    field_count u32, row_count u32, field_bytes u32 x field_count, zeros up to 64 bytes
 *     row     on a 64-byte boundary: len u32 (of the whole row), flags u32, created, updated,
 * expires i64,
 *             present u64 (bit f: the row has a vector of field f), id_len u32, metadata_len u32,
 * id, metadata,
 *             zeros up to 64 bytes, then each present vector, each padded to 64 bytes
 *
 * Rows are whole and in order, not split into columns: the encoder walks the batch once, each row
 * is checksummed while it is in the cache, and a step can stop behind any vector-sized piece.
 * Vectors lie on 64-byte boundaries so that replay reads them in place. For 768 floats the padding
 * costs 0 bytes, for tiny vectors up to 60 each; the log is short-lived, so that is cheaper than
 * copying on replay.
 *
 * The version is the record's: all rows of a batch carry it. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/trail.h"
#include "wal/wal_format.h"

#include "base/no_libc_heap.h"

enum { ROW_DELETED = 1 };

static uint64_t head_bytes(uint32_t field_count)
{
    return bytes_align_up(8 + 4 * (size_t)field_count, WAL_ALIGNMENT);
}

static uint64_t present_fields(const struct wal_batch *batch, const struct pdb_row *row)
{
    uint64_t present = 0;
    for (uint32_t f = 0; row->vectors != NULL && f < batch->field_count; f++)
        present |= (uint64_t)(row->vectors[f] != NULL) << f;
    return present;
}

static uint64_t row_bytes(const struct wal_batch *batch, const struct pdb_row *row)
{
    uint64_t bytes =
        bytes_align_up(WAL_ROW_HEADER_BYTES + row->id.len + row->metadata.len, WAL_ALIGNMENT);
    for (uint32_t f = 0; row->vectors != NULL && f < batch->field_count; f++)
        if (row->vectors[f] != NULL)
            bytes += bytes_align_up(batch->field_bytes[f], WAL_ALIGNMENT);
    return bytes;
}

bool wal_body_bytes(const struct wal_batch *batch, enum wal_encoding encoding, uint64_t *bytes_out)
{
    uint64_t bytes = 0;
    ASSERT(batch->field_count <= PDB_FIELD_MAX);
    if (batch->type == WAL_RECORD_ROWS && encoding == WAL_ENCODING_AVRO) {
        bytes = wal_avro_bytes(batch);
    } else if (batch->type == WAL_RECORD_ROWS) {
        bytes = head_bytes(batch->field_count);
        for (uint32_t i = 0; i < batch->row_count; i++)
            bytes += row_bytes(batch, &batch->rows[i]);
    }
    if (wal_record_bytes(bytes) > WAL_RECORD_BYTES_MAX)
        return false;
    *bytes_out = bytes;
    return true;
}

/* ---- encoding ---- */

static void put_padded(uint8_t *out, const void *bytes, size_t len)
{
    size_t padded = bytes_align_up(len, WAL_ALIGNMENT);
    memcpy(out, bytes, len);
    memset(out + len, 0, padded - len);
}

static uint64_t put_head(const struct wal_batch *batch, uint8_t *out)
{
    uint64_t len = head_bytes(batch->field_count);
    memset(out, 0, len);
    bytes_put_u32(out, batch->field_count);
    bytes_put_u32(out + 4, batch->row_count);
    for (uint32_t f = 0; f < batch->field_count; f++)
        bytes_put_u32(out + 8 + 4 * (size_t)f, batch->field_bytes[f]);
    return len;
}

static uint64_t put_row(const struct wal_batch *batch, const struct pdb_row *row, uint8_t *out)
{
    uint64_t len = row_bytes(batch, row), present = present_fields(batch, row);
    ASSERT(row->id.len <= PDB_ID_BYTES_MAX && row->metadata.len <= PDB_METADATA_BYTES_MAX);
    bytes_put_u32(out, (uint32_t)len);
    bytes_put_u32(out + 4, row->deleted ? ROW_DELETED : 0);
    bytes_put_u64(out + 8, (uint64_t)row->created_at_us);
    bytes_put_u64(out + 16, (uint64_t)row->updated_at_us);
    bytes_put_u64(out + 24, (uint64_t)row->expires_at_us);
    bytes_put_u64(out + 32, present);
    bytes_put_u32(out + 40, (uint32_t)row->id.len);
    bytes_put_u32(out + 44, (uint32_t)row->metadata.len);

    size_t at = WAL_ROW_HEADER_BYTES;
    if (row->id.len != 0)
        memcpy(out + at, row->id.ptr, row->id.len);
    at += row->id.len;
    if (row->metadata.len != 0)
        memcpy(out + at, row->metadata.ptr, row->metadata.len);
    at += row->metadata.len;
    memset(out + at, 0, bytes_align_up(at, WAL_ALIGNMENT) - at);
    at = bytes_align_up(at, WAL_ALIGNMENT);
    for (uint32_t f = 0; f < batch->field_count; f++) {
        if ((present >> f & 1) == 0)
            continue;
        put_padded(out + at, row->vectors[f], batch->field_bytes[f]);
        at += bytes_align_up(batch->field_bytes[f], WAL_ALIGNMENT);
    }
    ASSERT(at == len);
    return len;
}

void wal_encoder_init(struct wal_encoder *encoder, const struct wal_batch *batch,
                      struct wal_avro *avro, uint8_t *out, uint64_t len)
{
    *encoder = (struct wal_encoder){.batch = batch, .avro = avro, .out = out, .len = len};
}

static void finish_piece(struct wal_encoder *e, uint64_t bytes)
{
    if (bytes == 0) {
        e->failed = true;
        return;
    }
    ASSERT(bytes <= e->len - e->at);
    e->crc = crc32c(e->crc, e->out + e->at, bytes);
    e->at += bytes;
}

bool wal_encode_step(struct wal_encoder *e, uint64_t budget)
{
    const struct wal_batch *batch = e->batch;
    if (e->len == 0)
        return true;
    uint64_t stop = e->at + budget;
    if (!e->head_done) {
        finish_piece(e, e->avro != NULL ? wal_avro_put_head(e) : put_head(batch, e->out));
        e->head_done = true;
    }
    while (!e->failed && e->row < batch->row_count) {
        if (e->at >= stop)
            return false;
        const struct pdb_row *row = &batch->rows[e->row++];
        finish_piece(e, e->avro != NULL ? wal_avro_put_row(e, row)
                                        : put_row(batch, row, e->out + e->at));
    }
    if (!e->failed && e->avro != NULL)
        finish_piece(e, wal_avro_put_end(e));
    ASSERT(e->failed || e->at == e->len);
    return true;
}

/* ---- decoding ---- */

static int malformed(struct trail *trail, const char *what)
{
    return trail_add(trail, PDB_DATA_LOSS, "log record body: %s", what);
}

struct row_head {
    uint32_t len, flags, id_len, metadata_len;
    int64_t created, updated, expires;
    uint64_t present;
};

static struct row_head take_row_head(struct bytes_reader *r)
{
    struct row_head h;
    h.len = bytes_take_u32(r);
    h.flags = bytes_take_u32(r);
    h.created = (int64_t)bytes_take_u64(r);
    h.updated = (int64_t)bytes_take_u64(r);
    h.expires = (int64_t)bytes_take_u64(r);
    h.present = bytes_take_u64(r);
    h.id_len = bytes_take_u32(r);
    h.metadata_len = bytes_take_u32(r);
    return h;
}

static const char *decode_row(struct bytes_reader *body, const struct wal_batch *batch,
                              const void **vectors, struct pdb_row *row_out)
{
    uint32_t len = bytes_left(body) >= 4 ? bytes_get_u32(body->at) : 0;
    if (len < WAL_ROW_HEADER_BYTES || len % WAL_ALIGNMENT != 0 || len > bytes_left(body))
        return "row length";
    const uint8_t *start = bytes_take(body, len);
    struct bytes_reader r = bytes_reader_of(start, len);
    struct row_head h = take_row_head(&r);
    if ((h.flags & ~(uint32_t)ROW_DELETED) != 0)
        return "row flags";
    if (h.id_len > PDB_ID_BYTES_MAX || h.metadata_len > PDB_METADATA_BYTES_MAX)
        return "id or metadata length";
    if (batch->field_count < 64 && h.present >> batch->field_count != 0)
        return "vector of a field that the batch does not have";

    const uint8_t *id = bytes_take(&r, h.id_len), *metadata = bytes_take(&r, h.metadata_len);
    size_t used = WAL_ROW_HEADER_BYTES + (size_t)h.id_len + h.metadata_len;
    (void)bytes_take(&r, bytes_align_up(used, WAL_ALIGNMENT) - used);
    for (uint32_t f = 0; f < batch->field_count; f++) {
        vectors[f] = NULL;
        if ((h.present >> f & 1) != 0)
            vectors[f] = bytes_take(&r, bytes_align_up(batch->field_bytes[f], WAL_ALIGNMENT));
    }
    if (r.failed || bytes_left(&r) != 0)
        return "row content does not fill its length";
    *row_out = (struct pdb_row){
        .id = {(const char *)id, h.id_len},
        .vectors = batch->field_count != 0 ? vectors : NULL,
        .metadata = {(const char *)metadata, h.metadata_len},
        .version = batch->version,
        .created_at_us = h.created,
        .updated_at_us = h.updated,
        .expires_at_us = h.expires,
        .deleted = (h.flags & ROW_DELETED) != 0,
    };
    return NULL;
}

int wal_binary_decode(const struct wal_record_header *header, const uint8_t *body,
                      struct arena *arena, struct wal_batch *batch_out, struct trail *trail)
{
    struct bytes_reader r = bytes_reader_of(body, header->body_len);
    uint32_t field_count = bytes_take_u32(&r), row_count = bytes_take_u32(&r);
    if (r.failed || field_count > PDB_FIELD_MAX || row_count != header->row_count)
        return malformed(trail, "field or row count");
    if (header->body_len < head_bytes(field_count) || header->body_len / WAL_ALIGNMENT < row_count)
        return malformed(trail, "shorter than its counts say");

    uint32_t *field_bytes = arena_array(arena, uint32_t, (size_t)field_count + 1);
    struct pdb_row *rows = arena_array(arena, struct pdb_row, (size_t)row_count + 1);
    const void **vectors = arena_array(arena, const void *, (size_t)row_count *field_count + 1);
    if (field_bytes == NULL || rows == NULL || vectors == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for a batch of %u rows", row_count);
    for (uint32_t f = 0; f < field_count; f++) {
        field_bytes[f] = bytes_take_u32(&r);
        if (field_bytes[f] > PDB_DIMENSION_MAX * sizeof(float))
            return malformed(trail, "vector length");
    }

    batch_out->field_count = field_count;
    batch_out->field_bytes = field_bytes;
    batch_out->row_count = row_count;
    batch_out->rows = rows;
    batch_out->version = header->version;
    struct bytes_reader at =
        bytes_reader_of(body + head_bytes(field_count), header->body_len - head_bytes(field_count));
    for (uint32_t i = 0; i < row_count; i++) {
        const char *wrong = decode_row(&at, batch_out, vectors + (size_t)i * field_count, &rows[i]);
        if (wrong != NULL)
            return malformed(trail, wrong);
    }
    return bytes_left(&at) == 0 ? 0 : malformed(trail, "bytes behind the last row");
}

int wal_body_decode(const struct wal_record_header *header, const uint8_t *body,
                    struct wal_avro **avro_io, struct arena *arena, struct wal_batch *batch_out,
                    struct trail *trail)
{
    struct wal_batch batch = {
        .type = (enum wal_record_type)header->type,
        .collection = header->collection,
        .shard = header->shard,
        .version = header->version,
        .request = header->request,
    };
    int rc = 0;
    if (header->type != WAL_RECORD_ROWS)
        rc = header->body_len == 0 ? 0 : malformed(trail, "a mark has a body");
    else if (header->encoding == WAL_ENCODING_AVRO)
        rc = wal_avro_decode(header, body, avro_io, arena, &batch, trail);
    else
        rc = wal_binary_decode(header, body, arena, &batch, trail);
    if (rc == 0)
        *batch_out = batch;
    return rc;
}
