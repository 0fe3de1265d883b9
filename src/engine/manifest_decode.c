/* manifest_decode.c: reads the bytes of a manifest. Pure. Everything is checked here, the coded
 * ended rows too, so that who walks them later meets no error; they stay coded, because a
 * collection may have millions of them and they go into the shard's bitmaps one by one. */
#include "engine/manifest.h"
#include "engine/manifest_format.h"

#include <inttypes.h>

#include "base/no_libc_heap.h"

struct section {
    uint32_t type, flags;
    uint64_t number; /* entries, or the segment's number */
    const uint8_t *content;
    size_t len;
    size_t offset; /* of the header, in the file */
};

/* What was seen so far. */
struct decoding {
    struct manifest m;
    const uint8_t *bytes;
    struct arena *arena;
    struct trail *trail;
    bool state, segments, requests;
};

static int damaged(struct decoding *d, size_t offset, const char *what)
{
    return trail_add(d->trail, PDB_DATA_LOSS, "offset %zu: %s", offset, what);
}

static uint64_t take_varint(struct bytes_reader *r)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        uint64_t byte = bytes_take_u8(r);
        if (shift == 63 && byte > 1)
            break;
        value |= (byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    r->failed = true;
    return 0;
}

/* ---- the ended rows ---- */

void manifest_ended_begin(const struct manifest_segment *segment, struct manifest_ended *ended_out)
{
    *ended_out = (struct manifest_ended){0};
    if (segment->ended != NULL)
        ended_out->r = bytes_reader_of(segment->ended, segment->ended_len);
}

bool manifest_ended_next(struct manifest_ended *ended, uint32_t *row_out, uint64_t *ended_at_out)
{
    struct bytes_reader *r = &ended->r;
    if (r->failed || bytes_left(r) == 0)
        return false;
    uint64_t skipped = take_varint(r), code = take_varint(r);
    if (skipped > SEGMENT_ROWS_MAX || ended->row + skipped >= SEGMENT_ROWS_MAX)
        r->failed = true;
    if (code != 0) {
        uint64_t zigzag = code - 1;
        ended->version += (zigzag >> 1) ^ (0 - (zigzag & 1));
        if (ended->version == 0 || ended->version > MANIFEST_VERSION_MAX)
            r->failed = true;
    }
    if (r->failed)
        return false;
    *row_out = (uint32_t)(ended->row + skipped);
    *ended_at_out = code != 0 ? ended->version : 0;
    ended->row += skipped + 1;
    return true;
}

static struct manifest_segment *find_segment(struct manifest *m, uint64_t number)
{
    uint32_t low = 0, high = m->segment_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (m->segments[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < m->segment_count && m->segments[low].number == number ? &m->segments[low] : NULL;
}

static int read_ended(struct decoding *d, const struct section *s)
{
    struct manifest_segment *segment = find_segment(&d->m, s->number);
    if (segment == NULL || segment->ended != NULL)
        return damaged(d, s->offset, "ended rows of a segment that is not named, or twice");
    segment->ended = s->content;
    segment->ended_len = s->len;
    struct manifest_ended ended;
    uint32_t row = 0;
    uint64_t ended_at;
    manifest_ended_begin(segment, &ended);
    while (manifest_ended_next(&ended, &row, &ended_at))
        segment->ended_count++;
    if (ended.r.failed || segment->ended_count == 0 || row >= segment->rows)
        return damaged(d, s->offset, "the list of ended rows is wrong");
    return 0;
}

/* ---- the other sections ---- */

static int read_state(struct decoding *d, const struct section *s)
{
    struct bytes_reader r = bytes_reader_of(s->content, s->len);
    if (d->state)
        return damaged(d, s->offset, "a second state");
    d->m.version = bytes_take_u64(&r);
    d->m.oldest_version = bytes_take_u64(&r);
    d->m.next_segment = bytes_take_u64(&r);
    if (r.failed || d->m.version > MANIFEST_VERSION_MAX ||
        d->m.oldest_version > MANIFEST_VERSION_MAX)
        return damaged(d, s->offset, "the state is wrong");
    d->state = true;
    return 0;
}

static bool take_segment(struct bytes_reader *r, struct manifest_segment *segment_out)
{
    size_t len = bytes_take_u32(r);
    const uint8_t *at = bytes_take(r, len);
    if (at == NULL || len < MANIFEST_SEGMENT_BYTES)
        return false;
    struct bytes_reader one = bytes_reader_of(at, len);
    struct manifest_segment segment = {.number = bytes_take_u64(&one)};
    segment.rows = bytes_take_u64(&one);
    segment.parquet_bytes = bytes_take_u64(&one);
    segment.index_bytes = bytes_take_u64(&one);
    segment.version_min = bytes_take_u64(&one);
    segment.version_max = bytes_take_u64(&one);
    segment.expires_min_us = (int64_t)bytes_take_u64(&one);
    segment.schema_version = bytes_take_u64(&one);
    segment.parquet_crc32c = bytes_take_u32(&one);
    if (len >= MANIFEST_SEGMENT_ORIGIN_BYTES)
        memcpy(segment.origin.bytes, bytes_take(&one, sizeof(segment.origin.bytes)),
               sizeof(segment.origin.bytes));
    *segment_out = segment;
    return segment.rows >= 1 && segment.rows <= SEGMENT_ROWS_MAX &&
           segment.version_min <= segment.version_max &&
           segment.version_max <= MANIFEST_VERSION_MAX;
}

static int read_segments(struct decoding *d, const struct section *s)
{
    struct bytes_reader r = bytes_reader_of(s->content, s->len);
    struct manifest *m = &d->m;
    if (!d->state || d->segments)
        return damaged(d, s->offset, "a list of segments in the wrong place");
    if (s->number > s->len / (4 + MANIFEST_SEGMENT_BYTES))
        return damaged(d, s->offset, "the number of segments is wrong");
    m->segments = arena_array(d->arena, struct manifest_segment, (size_t)s->number);
    if (m->segments == NULL)
        return trail_add(d->trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
    for (m->segment_count = 0; m->segment_count < s->number; m->segment_count++) {
        struct manifest_segment *segment = &m->segments[m->segment_count];
        if (!take_segment(&r, segment) || segment->number >= m->next_segment ||
            (m->segment_count > 0 && segment->number <= segment[-1].number))
            return damaged(d, s->offset, "a segment's entry is wrong");
    }
    if (bytes_left(&r) != 0)
        return damaged(d, s->offset, "the list of segments is too long");
    d->segments = true;
    return 0;
}

static int read_requests(struct decoding *d, const struct section *s)
{
    struct bytes_reader r = bytes_reader_of(s->content, s->len);
    uint32_t entry_len = bytes_take_u32(&r);
    if (d->requests || entry_len < MANIFEST_REQUEST_BYTES || s->number > UINT32_MAX ||
        bytes_left(&r) / entry_len != s->number || bytes_left(&r) % entry_len != 0)
        return damaged(d, s->offset, "the list of requests is wrong");
    d->m.requests = s->content;
    d->m.request_count = (uint32_t)s->number;
    d->requests = true;
    return 0;
}

void manifest_request_at(const struct manifest *m, uint32_t index,
                         struct manifest_request *request_out)
{
    size_t entry_len = bytes_get_u32(m->requests);
    const uint8_t *at = m->requests + 4 + entry_len * index;
    memcpy(request_out->request.hash, at, sizeof(request_out->request.hash));
    request_out->request.body_checksum = bytes_get_u32(at + 16);
    request_out->count = bytes_get_u32(at + 20);
    request_out->request.time_us = (int64_t)bytes_get_u64(at + 24);
    request_out->version = bytes_get_u64(at + 32);
}

/* ---- the file ---- */

static int take_section(struct decoding *d, struct bytes_reader *r, struct section *section_out)
{
    struct section s = {.offset = (size_t)(r->at - d->bytes)};
    const uint8_t *header = bytes_take(r, MANIFEST_SECTION_BYTES);
    uint32_t seed = manifest_seed(d->m.number);
    if (header == NULL)
        return damaged(d, s.offset, "a section is cut off");
    if (bytes_get_u32(header + MANIFEST_SECTION_AT_CRC) !=
        crc32c(seed, header, MANIFEST_SECTION_AT_CRC))
        return damaged(d, s.offset, "the checksum of a section's header is wrong");
    s.type = bytes_get_u32(header + MANIFEST_SECTION_AT_TYPE);
    s.flags = bytes_get_u32(header + MANIFEST_SECTION_AT_FLAGS);
    s.number = bytes_get_u64(header + MANIFEST_SECTION_AT_NUMBER);
    uint64_t len = bytes_get_u64(header + MANIFEST_SECTION_AT_LEN);
    if (len > bytes_left(r))
        return damaged(d, s.offset, "a section is cut off");
    s.len = (size_t)len;
    s.content = bytes_take(r, s.len);
    if (bytes_get_u32(header + MANIFEST_SECTION_AT_CONTENT_CRC) != crc32c(seed, s.content, s.len))
        return damaged(d, s.offset, "a section's checksum is wrong");
    *section_out = s;
    return 0;
}

static int read_section(struct decoding *d, const struct section *s)
{
    switch (s->type) {
    case MANIFEST_SECTION_STATE:
        return read_state(d, s);
    case MANIFEST_SECTION_SEGMENTS:
        return read_segments(d, s);
    case MANIFEST_SECTION_ENDED:
        return read_ended(d, s);
    case MANIFEST_SECTION_REQUESTS:
        return read_requests(d, s);
    default:
        if ((s->flags & MANIFEST_SECTION_MANDATORY) != 0)
            return trail_add(d->trail, PDB_FAILED_PRECONDITION,
                             "section type %" PRIu32
                             ": written by a newer proximadb, and must be understood",
                             s->type);
        return 0;
    }
}

static int read_header(struct decoding *d, size_t len, uint32_t *section_count_out)
{
    const uint8_t *header = d->bytes;
    if (len < MANIFEST_HEADER_BYTES || memcmp(header, MANIFEST_MAGIC, 8) != 0)
        return trail_add(d->trail, PDB_DATA_LOSS, "not a manifest");
    if (bytes_get_u32(header + MANIFEST_AT_CRC) != crc32c(0, header, MANIFEST_AT_CRC))
        return damaged(d, 0, "the header's checksum is wrong");
    uint32_t format = bytes_get_u32(header + MANIFEST_AT_VERSION);
    if (format > MANIFEST_FORMAT_VERSION)
        return trail_add(d->trail, PDB_FAILED_PRECONDITION,
                         "format version %" PRIu32
                         ": written by a newer proximadb; this one reads up to %d",
                         format, MANIFEST_FORMAT_VERSION);
    if (bytes_get_u32(header + MANIFEST_AT_HEADER_LEN) != MANIFEST_HEADER_BYTES ||
        bytes_get_u64(header + MANIFEST_AT_FILE_LEN) != len)
        return damaged(d, 0, "the length is wrong");
    d->m.number = bytes_get_u64(header + MANIFEST_AT_NUMBER);
    d->m.written_at_us = (int64_t)bytes_get_u64(header + MANIFEST_AT_WRITTEN_AT);
    d->m.shard = bytes_get_u32(header + MANIFEST_AT_SHARD);
    memcpy(d->m.collection.bytes, header + MANIFEST_AT_COLLECTION, sizeof(d->m.collection.bytes));
    *section_count_out = bytes_get_u32(header + MANIFEST_AT_SECTION_COUNT);
    return 0;
}

int manifest_decode(const void *bytes, size_t len, struct arena *arena,
                    struct manifest *manifest_out, struct trail *trail)
{
    struct decoding d = {.bytes = bytes, .arena = arena, .trail = trail};
    uint32_t section_count = 0;
    int rc = read_header(&d, len, &section_count);
    if (rc < 0)
        return rc;
    struct bytes_reader r =
        bytes_reader_of(d.bytes + MANIFEST_HEADER_BYTES, len - MANIFEST_HEADER_BYTES);
    for (uint32_t i = 0; i < section_count; i++) {
        struct section section = {0};
        if ((rc = take_section(&d, &r, &section)) < 0 || (rc = read_section(&d, &section)) < 0)
            return rc;
    }
    if (bytes_left(&r) != 0 || !d.state || !d.segments)
        return damaged(&d, 0, "sections are missing, or there are too many");
    *manifest_out = d.m;
    return 0;
}
