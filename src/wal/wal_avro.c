/* wal_avro.c: the body of a batch record in Avro binary (schema: proto/avro/wal_batch.avsc),
 * through avro-c.
 *
 * A row at a time goes through one generic value that is reused, so that a batch never stands in
 * memory twice: its texts and vectors are lent to the value, not copied, and the array framing
 * around the rows (one block, then an empty one) is written here. The result is what any Avro tool
 * writes for the schema.
 *
 * Reading distrusts the bytes: avro-c allocates what a length says before it looks whether so many
 * bytes are there. So a walk of our own first checks every length and count against the bytes
 * present and finds where each row begins; only then avro-c reads row by row. Rejected: handing the
 * whole body to avro-c under a memory limit. It has one allocator for the whole process.
 *
 * A body says which schema wrote it by the fingerprint in the record's header; an unknown one is
 * refused, never guessed. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/heap.h"
#include "base/trail.h"
#include "wal/wal_format.h"

#include <avro.h>

#include "base/no_libc_heap.h"

/* Parsing Canonical Form of the schema, as the Avro specification defines it; what the fingerprint
 * is taken over. */
const char wal_avro_schema_text[] =
    "{\"name\":\"proximadb.v1.WalBatch\",\"type\":\"record\",\"fields\":["
    "{\"name\":\"field_bytes\",\"type\":{\"type\":\"array\",\"items\":\"int\"}},"
    "{\"name\":\"rows\",\"type\":{\"type\":\"array\",\"items\":"
    "{\"name\":\"proximadb.v1.WalRow\",\"type\":\"record\",\"fields\":["
    "{\"name\":\"id\",\"type\":\"string\"},"
    "{\"name\":\"deleted\",\"type\":\"boolean\"},"
    "{\"name\":\"created_at_us\",\"type\":\"long\"},"
    "{\"name\":\"updated_at_us\",\"type\":\"long\"},"
    "{\"name\":\"expires_at_us\",\"type\":\"long\"},"
    "{\"name\":\"metadata\",\"type\":\"bytes\"},"
    "{\"name\":\"vectors\",\"type\":{\"type\":\"array\",\"items\":[\"null\",\"bytes\"]}}]}}}]}";

/* The row alone, in avro-c's own spelling: it wants name and namespace apart. */
static const char row_schema_text[] =
    "{\"type\":\"record\",\"name\":\"WalRow\",\"namespace\":\"proximadb.v1\",\"fields\":["
    "{\"name\":\"id\",\"type\":\"string\"},"
    "{\"name\":\"deleted\",\"type\":\"boolean\"},"
    "{\"name\":\"created_at_us\",\"type\":\"long\"},"
    "{\"name\":\"updated_at_us\",\"type\":\"long\"},"
    "{\"name\":\"expires_at_us\",\"type\":\"long\"},"
    "{\"name\":\"metadata\",\"type\":\"bytes\"},"
    "{\"name\":\"vectors\",\"type\":{\"type\":\"array\",\"items\":[\"null\",\"bytes\"]}}]}";

enum row_field {
    ROW_ID,
    ROW_DELETED,
    ROW_CREATED,
    ROW_UPDATED,
    ROW_EXPIRES,
    ROW_METADATA,
    ROW_VECTORS,
    ROW_FIELDS
};

struct wal_avro {
    avro_schema_t schema;
    avro_value_iface_t *iface;
    avro_value_t row, field[ROW_FIELDS];
    avro_reader_t reader;
    avro_writer_t writer;
};

struct wal_avro *wal_avro_new(void)
{
    static const char nothing[1];
    struct wal_avro *avro = heap_calloc(NULL, 1, sizeof(*avro));
    if (avro == NULL)
        return NULL;
    if (avro_schema_from_json_length(row_schema_text, sizeof(row_schema_text) - 1, &avro->schema) !=
        0)
        goto err;
    avro->iface = avro_generic_class_from_schema(avro->schema);
    if (avro->iface == NULL || avro_generic_value_new(avro->iface, &avro->row) != 0)
        goto err;
    for (size_t i = 0; i < ROW_FIELDS; i++)
        if (avro_value_get_by_index(&avro->row, i, &avro->field[i], NULL) != 0)
            goto err;
    avro->reader = avro_reader_memory(nothing, 0);
    avro->writer = avro_writer_memory(nothing, 0);
    if (avro->reader == NULL || avro->writer == NULL)
        goto err;
    return avro;
err:
    wal_avro_free(avro);
    return NULL;
}

void wal_avro_free(struct wal_avro *avro)
{
    if (avro == NULL)
        return;
    if (avro->reader != NULL)
        avro_reader_free(avro->reader);
    if (avro->writer != NULL)
        avro_writer_free(avro->writer);
    if (avro->row.iface != NULL)
        avro_value_decref(&avro->row);
    if (avro->iface != NULL)
        avro_value_iface_decref(avro->iface);
    if (avro->schema != NULL)
        avro_schema_decref(avro->schema);
    heap_free(NULL, avro);
}

/* ---- encoding ---- */

static uint64_t zigzag(int64_t value)
{
    return (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
}

static size_t long_bytes(int64_t value)
{
    size_t bytes = 1;
    for (uint64_t left = zigzag(value); left > 0x7f; left >>= 7)
        bytes++;
    return bytes;
}

static uint8_t *put_long(uint8_t *out, int64_t value)
{
    uint64_t left = zigzag(value);
    for (; left > 0x7f; left >>= 7)
        *out++ = (uint8_t)(left | 0x80);
    *out++ = (uint8_t)left;
    return out;
}

static uint64_t text_bytes(size_t len)
{
    return long_bytes((int64_t)len) + len;
}

/* An array of `count` items is one block and the empty one; nothing but the latter when it is
 * empty. */
static uint64_t array_bytes(uint32_t count)
{
    return 1 + (count != 0 ? long_bytes(count) : 0);
}

static uint64_t row_bytes(const struct wal_batch *batch, const struct pdb_row *row)
{
    uint64_t bytes = text_bytes(row->id.len) + 1 + long_bytes(row->created_at_us) +
                     long_bytes(row->updated_at_us) + long_bytes(row->expires_at_us) +
                     text_bytes(row->metadata.len) + array_bytes(batch->field_count);
    for (uint32_t f = 0; f < batch->field_count; f++)
        bytes += row->vectors != NULL && row->vectors[f] != NULL
                     ? 1 + text_bytes(batch->field_bytes[f])
                     : 1;
    return bytes;
}

uint64_t wal_avro_bytes(const struct wal_batch *batch)
{
    uint64_t bytes = array_bytes(batch->field_count) + array_bytes(batch->row_count);
    for (uint32_t f = 0; f < batch->field_count; f++)
        bytes += long_bytes(batch->field_bytes[f]);
    for (uint32_t i = 0; i < batch->row_count; i++)
        bytes += row_bytes(batch, &batch->rows[i]);
    return bytes;
}

uint64_t wal_avro_put_head(struct wal_encoder *encoder)
{
    const struct wal_batch *batch = encoder->batch;
    uint8_t *start = encoder->out + encoder->at, *at = start;
    if (batch->field_count != 0)
        at = put_long(at, batch->field_count);
    for (uint32_t f = 0; f < batch->field_count; f++)
        at = put_long(at, batch->field_bytes[f]);
    *at++ = 0;
    if (batch->row_count != 0)
        at = put_long(at, batch->row_count);
    return (uint64_t)(at - start);
}

uint64_t wal_avro_put_end(struct wal_encoder *encoder)
{
    encoder->out[encoder->at] = 0;
    return 1;
}

/* Lends bytes to a value: avro-c reads them while it writes the row, and never owns them. */
static int lend(avro_value_t *value, const void *bytes, size_t len, bool string)
{
    avro_wrapped_buffer_t buffer;
    int rc = avro_wrapped_buffer_new(&buffer, bytes != NULL ? bytes : "", len + string);
    if (rc != 0)
        return rc;
    return string ? avro_value_give_string_len(value, &buffer)
                  : avro_value_give_bytes(value, &buffer);
}

static int fill_vectors(avro_value_t *array, const struct wal_batch *batch,
                        const struct pdb_row *row)
{
    int rc = 0;
    for (uint32_t f = 0; rc == 0 && f < batch->field_count; f++) {
        bool present = row->vectors != NULL && row->vectors[f] != NULL;
        avro_value_t item, branch;
        if ((rc = avro_value_append(array, &item, NULL)) == 0 &&
            (rc = avro_value_set_branch(&item, present, &branch)) == 0)
            rc = present ? lend(&branch, row->vectors[f], batch->field_bytes[f], false)
                         : avro_value_set_null(&branch);
    }
    return rc;
}

uint64_t wal_avro_put_row(struct wal_encoder *encoder, const struct pdb_row *row)
{
    struct wal_avro *avro = encoder->avro;
    avro_value_t *field = avro->field;
    uint64_t len = row_bytes(encoder->batch, row);
    ASSERT(len <= encoder->len - encoder->at);
    int rc = avro_value_reset(&avro->row);
    rc |= lend(&field[ROW_ID], row->id.ptr, row->id.len, true);
    rc |= avro_value_set_boolean(&field[ROW_DELETED], row->deleted);
    rc |= avro_value_set_long(&field[ROW_CREATED], row->created_at_us);
    rc |= avro_value_set_long(&field[ROW_UPDATED], row->updated_at_us);
    rc |= avro_value_set_long(&field[ROW_EXPIRES], row->expires_at_us);
    rc |= lend(&field[ROW_METADATA], row->metadata.ptr, row->metadata.len, false);
    rc |= fill_vectors(&field[ROW_VECTORS], encoder->batch, row);
    if (rc != 0)
        return 0;
    avro_writer_memory_set_dest(avro->writer, (const char *)encoder->out + encoder->at,
                                (int64_t)len);
    if (avro_value_write(avro->writer, &avro->row) != 0)
        return 0;
    ASSERT(avro_writer_tell(avro->writer) == (int64_t)len);
    return len;
}

/* ---- walking bytes of unknown origin ---- */

static int64_t take_long(struct bytes_reader *r)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = bytes_take_u8(r);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return (int64_t)(value >> 1 ^ -(value & 1));
    }
    r->failed = true;
    return 0;
}

/* Items of the next block of an array, 0 at the end. Every item of ours has at least a byte, so
 * that a count above the bytes left is a lie. Blocks may be written with a negative count and their
 * size. */
static uint64_t take_block(struct bytes_reader *r)
{
    int64_t count = take_long(r);
    if (count < 0) {
        count = count == INT64_MIN ? INT64_MAX : -count;
        int64_t size = take_long(r);
        if (size < 0 || (uint64_t)size > bytes_left(r))
            r->failed = true;
    }
    if ((uint64_t)count > bytes_left(r))
        r->failed = true;
    return r->failed ? 0 : (uint64_t)count;
}

static void skip_text(struct bytes_reader *r, uint64_t len_max)
{
    int64_t len = take_long(r);
    if (len < 0 || (uint64_t)len > len_max)
        r->failed = true;
    else
        (void)bytes_take(r, (size_t)len);
}

static void skip_vectors(struct bytes_reader *r, const struct wal_batch *batch)
{
    uint64_t seen = 0, items;
    while ((items = take_block(r)) != 0) {
        for (; items > 0 && !r->failed; items--, seen++) {
            int64_t branch = take_long(r);
            if (seen >= batch->field_count || branch < 0 || branch > 1) {
                r->failed = true;
            } else if (branch == 1) {
                int64_t len = take_long(r);
                if (len != batch->field_bytes[seen])
                    r->failed = true;
                else
                    (void)bytes_take(r, (size_t)len);
            }
        }
    }
    if (seen != batch->field_count)
        r->failed = true;
}

static void skip_row(struct bytes_reader *r, const struct wal_batch *batch)
{
    skip_text(r, PDB_ID_BYTES_MAX);
    if (bytes_take_u8(r) > 1)
        r->failed = true;
    (void)take_long(r);
    (void)take_long(r);
    (void)take_long(r);
    skip_text(r, PDB_METADATA_BYTES_MAX);
    skip_vectors(r, batch);
}

static void take_field_bytes(struct bytes_reader *r, uint32_t *field_bytes, struct wal_batch *batch)
{
    uint64_t items;
    while ((items = take_block(r)) != 0) {
        for (; items > 0 && !r->failed; items--) {
            int64_t bytes = take_long(r);
            if (batch->field_count >= PDB_FIELD_MAX || bytes < 0 ||
                bytes > PDB_DIMENSION_MAX * (int64_t)sizeof(float))
                r->failed = true;
            else
                field_bytes[batch->field_count++] = (uint32_t)bytes;
        }
    }
}

/* ---- decoding ---- */

static const void *copy_vector(struct arena *arena, const void *bytes, size_t len)
{
    void *copy = arena_alloc_aligned(arena, len != 0 ? len : 1, WAL_ALIGNMENT);
    if (copy != NULL && len != 0)
        memcpy(copy, bytes, len);
    return copy;
}

static int read_vectors(struct wal_avro *avro, const struct wal_batch *batch, struct arena *arena,
                        const void **vectors)
{
    for (uint32_t f = 0; f < batch->field_count; f++) {
        avro_value_t item, branch;
        int which = 0;
        size_t len = 0;
        const void *bytes = NULL;
        vectors[f] = NULL;
        if (avro_value_get_by_index(&avro->field[ROW_VECTORS], f, &item, NULL) != 0 ||
            avro_value_get_discriminant(&item, &which) != 0)
            return PDB_DATA_LOSS;
        if (which == 0)
            continue;
        if (avro_value_get_current_branch(&item, &branch) != 0 ||
            avro_value_get_bytes(&branch, &bytes, &len) != 0 || len != batch->field_bytes[f])
            return PDB_DATA_LOSS;
        vectors[f] = copy_vector(arena, bytes, len);
        if (vectors[f] == NULL)
            return PDB_RESOURCE_EXHAUSTED;
    }
    return 0;
}

static int read_row(struct wal_avro *avro, const struct wal_batch *batch, struct arena *arena,
                    const void **vectors, struct pdb_row *row_out)
{
    avro_value_t *field = avro->field;
    const char *id = NULL;
    const void *metadata = NULL;
    size_t id_size = 0, metadata_len = 0;
    int deleted = 0;
    int64_t created = 0, updated = 0, expires = 0;
    int rc = avro_value_read(avro->reader, &avro->row);
    rc |= rc != 0 ? 0 : avro_value_get_string(&field[ROW_ID], &id, &id_size);
    rc |= avro_value_get_boolean(&field[ROW_DELETED], &deleted);
    rc |= avro_value_get_long(&field[ROW_CREATED], &created);
    rc |= avro_value_get_long(&field[ROW_UPDATED], &updated);
    rc |= avro_value_get_long(&field[ROW_EXPIRES], &expires);
    rc |= rc != 0 ? 0 : avro_value_get_bytes(&field[ROW_METADATA], &metadata, &metadata_len);
    if (rc != 0 || id_size == 0)
        return PDB_DATA_LOSS;
    *row_out = (struct pdb_row){
        .id = arena_copy_text(arena, id, id_size - 1),
        .vectors = batch->field_count != 0 ? vectors : NULL,
        .metadata = arena_copy_text(arena, metadata, metadata_len),
        .version = batch->version,
        .created_at_us = created,
        .updated_at_us = updated,
        .expires_at_us = expires,
        .deleted = deleted != 0,
    };
    if (row_out->id.ptr == NULL || row_out->metadata.ptr == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    return read_vectors(avro, batch, arena, vectors);
}

/* Walks and reads the rows; `r` stands behind field_bytes. */
static int read_rows(struct wal_avro *avro, struct bytes_reader *r, struct wal_batch *batch,
                     struct arena *arena, struct pdb_row *rows)
{
    uint32_t count = batch->row_count, done = 0;
    const void **vectors = arena_array(arena, const void *, (size_t)count * batch->field_count + 1);
    if (vectors == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    uint64_t items;
    while ((items = take_block(r)) != 0) {
        for (; items > 0; items--, done++) {
            const uint8_t *start = r->at;
            skip_row(r, batch);
            if (r->failed || done >= count)
                return PDB_DATA_LOSS;
            avro_reader_memory_set_source(avro->reader, (const char *)start, r->at - start);
            int rc = read_row(avro, batch, arena, vectors + (size_t)done * batch->field_count,
                              &rows[done]);
            if (rc < 0)
                return rc;
        }
    }
    return r->failed || done != count || bytes_left(r) != 0 ? PDB_DATA_LOSS : 0;
}

int wal_avro_decode(const struct wal_record_header *header, const uint8_t *body,
                    struct wal_avro **avro_io, struct arena *arena, struct wal_batch *batch_out,
                    struct trail *trail)
{
    if (header->schema != WAL_AVRO_FINGERPRINT)
        return trail_add(trail, PDB_FAILED_PRECONDITION, "log record: unknown Avro schema %016llx",
                         (unsigned long long)header->schema);
    if (header->body_len < header->row_count)
        return trail_add(trail, PDB_DATA_LOSS, "log record body: shorter than its counts say");
    uint32_t *field_bytes = arena_array(arena, uint32_t, PDB_FIELD_MAX);
    struct pdb_row *rows = arena_array(arena, struct pdb_row, (size_t)header->row_count + 1);
    if (*avro_io == NULL)
        *avro_io = wal_avro_new();
    if (field_bytes == NULL || rows == NULL || *avro_io == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for a batch of %u rows",
                         header->row_count);

    struct wal_batch batch = *batch_out;
    struct bytes_reader r = bytes_reader_of(body, header->body_len);
    batch.field_bytes = field_bytes;
    batch.row_count = header->row_count;
    batch.rows = rows;
    take_field_bytes(&r, field_bytes, &batch);
    int rc = r.failed ? PDB_DATA_LOSS : read_rows(*avro_io, &r, &batch, arena, rows);
    if (rc == PDB_DATA_LOSS)
        return trail_add(trail, rc, "log record body: not the Avro that its schema says");
    if (rc < 0)
        return trail_add(trail, rc, "memory for a batch of %u rows", header->row_count);
    *batch_out = batch;
    return 0;
}
