/* manifest_encode.c: the bytes of a manifest, in steps that a reactor can take between requests.
 *
 *     header | STATE | SEGMENTS | ENDED of one segment, ... | REQUESTS
 *
 * A section's length and checksum stand before its content but are known behind it: closing a
 * section fills them in. The checksum of the content grows with each step, so that no step sums
 * more than it has added; a manifest of a large collection has tens of megabytes of ended rows.
 *
 * Ended rows are pairs of varints: rows skipped since the one before, and 0 for "ended before what
 * is remembered", or 1 + the zigzag difference of its version to the one before. Rows that one
 * batch ended take two bytes each. Rejected: a bitmap (most segments have few ended rows, and the
 * versions are needed), and a run length for neighbours (ids are spread; it won nothing). */
#include "engine/manifest.h"
#include "engine/manifest_format.h"

#include "base/assert.h"

#include "base/no_libc_heap.h"

static void add_varint(struct buffer *out, uint64_t value)
{
    char bytes[10];
    size_t len = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[len++] = (char)(unsigned char)(value | 0x80);
    bytes[len++] = (char)(unsigned char)value;
    buffer_add(out, bytes, len);
}

static void add_zeros(struct buffer *out, size_t len)
{
    char *at = buffer_reserve(out, len);
    if (at == NULL)
        return;
    memset(at, 0, len);
    out->len += len;
}

/* ---- sections ---- */

/* Continues the sum over what was added since. */
static void sum_up(struct manifest_encoder *e)
{
    if (e->out->failed)
        return;
    e->crc = crc32c(e->crc, e->out->ptr + e->summed, e->out->len - e->summed);
    e->summed = e->out->len;
}

static void close_section(struct manifest_encoder *e)
{
    if (e->section == 0 || e->out->failed)
        return;
    sum_up(e);
    char *header = e->out->ptr + e->section;
    bytes_put_u64(header + MANIFEST_SECTION_AT_LEN,
                  e->out->len - e->section - MANIFEST_SECTION_BYTES);
    if (bytes_get_u32(header) != MANIFEST_SECTION_ENDED)
        bytes_put_u64(header + MANIFEST_SECTION_AT_NUMBER, e->entries);
    bytes_put_u32(header + MANIFEST_SECTION_AT_CONTENT_CRC, e->crc);
    bytes_put_u32(header + MANIFEST_SECTION_AT_CRC,
                  crc32c(manifest_seed(e->number), header, MANIFEST_SECTION_AT_CRC));
    e->section = 0;
}

static void open_section(struct manifest_encoder *e, enum manifest_section_type type,
                         uint64_t number)
{
    close_section(e);
    e->section = e->out->len;
    buffer_put_u32(e->out, (uint32_t)type);
    buffer_put_u32(e->out, MANIFEST_SECTION_MANDATORY);
    buffer_put_u64(e->out, 0); /* the length */
    buffer_put_u64(e->out, number);
    buffer_put_u64(e->out, 0); /* the sums */
    e->summed = e->out->len;
    e->crc = manifest_seed(e->number);
    e->section_count++;
    e->entries = 0;
}

/* Type and number of the open section; 0: none. */
static bool is_open(const struct manifest_encoder *e, enum manifest_section_type type,
                    uint64_t number)
{
    if (e->section == 0 || e->out->failed)
        return false;
    const char *header = e->out->ptr + e->section;
    return bytes_get_u32(header) == (uint32_t)type &&
           bytes_get_u64(header + MANIFEST_SECTION_AT_NUMBER) == number;
}

/* ---- the steps ---- */

void manifest_encode_begin(struct manifest_encoder *e, struct buffer *out, const struct manifest *m)
{
    ASSERT(out->len == 0 && m->number > 0);
    ASSERT(m->version <= MANIFEST_VERSION_MAX && m->oldest_version <= MANIFEST_VERSION_MAX);
    *e = (struct manifest_encoder){.out = out, .number = m->number, .ended_by = UINT64_MAX};
    add_zeros(out, MANIFEST_HEADER_BYTES);
    if (out->failed)
        return;
    char *header = out->ptr;
    memcpy(header, MANIFEST_MAGIC, 8);
    bytes_put_u32(header + MANIFEST_AT_VERSION, MANIFEST_FORMAT_VERSION);
    bytes_put_u32(header + MANIFEST_AT_HEADER_LEN, MANIFEST_HEADER_BYTES);
    bytes_put_u64(header + MANIFEST_AT_NUMBER, m->number);
    bytes_put_u64(header + MANIFEST_AT_WRITTEN_AT, (uint64_t)m->written_at_us);
    bytes_put_u32(header + MANIFEST_AT_SHARD, m->shard);
    memcpy(header + MANIFEST_AT_COLLECTION, m->collection.bytes, sizeof(m->collection.bytes));
    open_section(e, MANIFEST_SECTION_STATE, 0);
    buffer_put_u64(out, m->version);
    buffer_put_u64(out, m->oldest_version);
    buffer_put_u64(out, m->next_segment);
    open_section(e, MANIFEST_SECTION_SEGMENTS, 0);
}

void manifest_encode_segment(struct manifest_encoder *e, const struct manifest_segment *segment)
{
    struct buffer *out = e->out;
    ASSERT(out->failed || is_open(e, MANIFEST_SECTION_SEGMENTS, 0));
    ASSERT(segment->rows >= 1 && segment->rows <= SEGMENT_ROWS_MAX);
    ASSERT(segment->version_min <= segment->version_max &&
           segment->version_max <= MANIFEST_VERSION_MAX);
    bool foreign = manifest_segment_is_foreign(segment);
    buffer_put_u32(out, foreign ? MANIFEST_SEGMENT_ORIGIN_BYTES : MANIFEST_SEGMENT_BYTES);
    buffer_put_u64(out, segment->number);
    buffer_put_u64(out, segment->rows);
    buffer_put_u64(out, segment->parquet_bytes);
    buffer_put_u64(out, segment->index_bytes);
    buffer_put_u64(out, segment->version_min);
    buffer_put_u64(out, segment->version_max);
    buffer_put_u64(out, (uint64_t)segment->expires_min_us);
    buffer_put_u64(out, segment->schema_version);
    buffer_put_u32(out, segment->parquet_crc32c);
    if (foreign)
        buffer_add(out, segment->origin.bytes, sizeof(segment->origin.bytes));
    e->entries++;
}

static void add_ended(struct manifest_encoder *e, uint32_t row, uint64_t ended_at)
{
    ASSERT(row >= e->next_row && ended_at <= MANIFEST_VERSION_MAX);
    add_varint(e->out, row - e->next_row);
    e->next_row = row + 1;
    if (ended_at == 0) {
        add_varint(e->out, 0);
        return;
    }
    int64_t change = (int64_t)(ended_at - e->last_version);
    add_varint(e->out, 1 + (((uint64_t)change << 1) ^ (uint64_t)(change >> 63)));
    e->last_version = ended_at;
}

bool manifest_encode_ended(struct manifest_encoder *e, uint64_t segment_number,
                           const struct segment_deletes *deletes, size_t budget)
{
    if (e->scanning != segment_number)
        e->scanned = 0;
    e->scanning = segment_number;
    uint32_t row;
    uint64_t ended_at;
    bool more = true;
    for (size_t i = 0; i < budget && !e->out->failed; i++) {
        more = segment_deletes_next(deletes, &e->scanned, &row, &ended_at);
        if (!more)
            break;
        if (ended_at > e->ended_by)
            continue;
        if (!is_open(e, MANIFEST_SECTION_ENDED, segment_number)) {
            open_section(e, MANIFEST_SECTION_ENDED, segment_number);
            e->next_row = 0;
            e->last_version = 0;
        }
        add_ended(e, row, ended_at);
    }
    if (more && !e->out->failed) {
        if (is_open(e, MANIFEST_SECTION_ENDED, segment_number))
            sum_up(e);
        return true;
    }
    if (is_open(e, MANIFEST_SECTION_ENDED, segment_number))
        close_section(e);
    e->scanning = 0;
    return false;
}

void manifest_encode_request(struct manifest_encoder *e, const struct manifest_request *request)
{
    struct buffer *out = e->out;
    if (!is_open(e, MANIFEST_SECTION_REQUESTS, 0)) {
        open_section(e, MANIFEST_SECTION_REQUESTS, 0);
        buffer_put_u32(out, MANIFEST_REQUEST_BYTES);
    }
    buffer_add(out, request->request.hash, sizeof(request->request.hash));
    buffer_put_u32(out, request->request.body_checksum);
    buffer_put_u32(out, request->count);
    buffer_put_u64(out, (uint64_t)request->request.time_us);
    buffer_put_u64(out, request->version);
    e->entries++;
}

int manifest_encode_end(struct manifest_encoder *e)
{
    struct buffer *out = e->out;
    close_section(e);
    if (out->failed)
        return PDB_RESOURCE_EXHAUSTED;
    bytes_put_u64(out->ptr + MANIFEST_AT_FILE_LEN, out->len);
    bytes_put_u32(out->ptr + MANIFEST_AT_SECTION_COUNT, e->section_count);
    bytes_put_u32(out->ptr + MANIFEST_AT_CRC, crc32c(0, out->ptr, MANIFEST_AT_CRC));
    return 0;
}
