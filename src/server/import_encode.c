/* import_encode.c: Avro 1.11, "Binary Encoding": longs are zigzag varints, texts and bytes follow
 * their length, an array is blocks that follow their count and ends with a block of none.
 *
 * Vectors go as the bytes that they are stored as, metadata as JSON text, which is copied and not
 * read here where the file has it as text. Rejected: the columnar form of JSON and gRPC
 * (PackedBatch), which has neither several fields nor times of expiry. */
#include "server/import_encode.h"

#include "base/no_libc_heap.h"

static size_t put_long(char at[IMPORT_HEAD_MAX], int64_t value)
{
    uint64_t left = ((uint64_t)value << 1) ^ (uint64_t)(value < 0 ? -1 : 0);
    size_t len = 0;
    for (; left >= 0x80; left >>= 7)
        at[len++] = (char)(left | 0x80);
    at[len++] = (char)left;
    return len;
}

static void add_long(struct buffer *out, int64_t value)
{
    char *at = buffer_reserve(out, IMPORT_HEAD_MAX);
    if (at != NULL)
        out->len += put_long(at, value);
}

static void add_bytes(struct buffer *out, const void *bytes, size_t len)
{
    add_long(out, (int64_t)len);
    buffer_add(out, bytes, len);
}

/* ["null", "long"] */
static void add_optional_long(struct buffer *out, bool there, int64_t value)
{
    add_long(out, there ? 1 : 0);
    if (there)
        add_long(out, value);
}

void import_encode_record(struct buffer *out, const struct import_record *record)
{
    add_bytes(out, record->id.ptr, record->id.len);
    if (record->vector_count != 0)
        add_long(out, record->vector_count);
    for (uint32_t i = 0; i < record->vector_count; i++) {
        const struct import_vector *vector = &record->vectors[i];
        add_bytes(out, vector->field.ptr, vector->field.len);
        add_bytes(out, vector->bytes, vector->len);
    }
    add_long(out, 0);
    add_long(out, record->metadata.len != 0 ? 1 : 0);
    if (record->metadata.len != 0)
        add_bytes(out, record->metadata.ptr, record->metadata.len);
    add_optional_long(out, record->has_expires_at, record->expires_at_us);
    add_optional_long(out, record->has_if_version, (int64_t)record->if_version);
}

size_t import_encode_head(char head_out[IMPORT_HEAD_MAX], uint32_t count)
{
    return put_long(head_out, count);
}
