/* archive_format.c: the bytes of IDENTITY, STATE and BASE. All three have the same header, with a
 * magic of their own; tables in them name the size of their rows, so that a later version can add
 * to them and older readers skip what they do not know. */
#include "engine/archive_format.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include <inttypes.h>

#include "base/no_libc_heap.h"

enum {
    AT_VERSION = 8,
    AT_HEADER_LEN = 12,
    AT_TIME = 16,
    AT_BODY_LEN = 24,
    AT_BODY_CRC = 32,
    AT_IDENTITY = 40,
    AT_HEADER_CRC = 60,
    RANGE_BYTES = 16,
    LOG_BYTES = 36,
    NEED_BYTES = 24,
    ROW_BYTES_MAX = 4096,
    LOG_ENDED = 1,
    STATE_CLOSED = 1,
};

struct kind {
    char magic[8];
    const char *text;
};
static const struct kind identity_kind = {{'P', 'D', 'B', 'A', 'R', 'C', 'I', 'D'}, "IDENTITY"};
static const struct kind state_kind = {{'P', 'D', 'B', 'A', 'R', 'C', 'S', 'T'}, "STATE"};
static const struct kind base_kind = {{'P', 'D', 'B', 'A', 'R', 'C', 'B', 'A'}, "BASE"};

/* ---- writing ---- */

static void add_table(struct buffer *out, uint32_t count, uint32_t row_bytes)
{
    buffer_put_u32(out, count);
    buffer_put_u32(out, row_bytes);
}

/* `out` is empty. */
static void begin(struct buffer *out)
{
    char *header = buffer_reserve(out, ARCHIVE_HEADER_BYTES);
    if (header == NULL)
        return;
    memset(header, 0, ARCHIVE_HEADER_BYTES);
    out->len += ARCHIVE_HEADER_BYTES;
}

static void end(struct buffer *out, const struct kind *kind, const struct uuid *identity,
                int64_t time_us)
{
    if (out->failed)
        return;
    char *header = out->ptr;
    size_t body_len = out->len - ARCHIVE_HEADER_BYTES;
    memcpy(header, kind->magic, sizeof(kind->magic));
    bytes_put_u32(header + AT_VERSION, ARCHIVE_FORMAT_VERSION);
    bytes_put_u32(header + AT_HEADER_LEN, ARCHIVE_HEADER_BYTES);
    bytes_put_u64(header + AT_TIME, (uint64_t)time_us);
    bytes_put_u64(header + AT_BODY_LEN, body_len);
    bytes_put_u32(header + AT_BODY_CRC, crc32c(0, header + ARCHIVE_HEADER_BYTES, body_len));
    memcpy(header + AT_IDENTITY, identity->bytes, sizeof(identity->bytes));
    bytes_put_u32(header + AT_HEADER_CRC, crc32c(0, header, AT_HEADER_CRC));
}

void archive_identity_encode(struct buffer *out, const struct archive_identity *identity)
{
    begin(out);
    end(out, &identity_kind, &identity->uuid, identity->created_at_us);
}

void archive_state_encode(struct buffer *out, const struct archive_state *state)
{
    begin(out);
    buffer_put_u64(out, state->catalog_first);
    buffer_put_u64(out, state->catalog_next);
    add_table(out, state->range_count, RANGE_BYTES);
    for (uint32_t i = 0; i < state->range_count; i++) {
        buffer_put_u64(out, (uint64_t)state->ranges[i].from_us);
        buffer_put_u64(out, (uint64_t)state->ranges[i].to_us);
    }
    add_table(out, state->log_count, LOG_BYTES);
    for (uint32_t i = 0; i < state->log_count; i++) {
        const struct archive_log *log = &state->logs[i];
        buffer_add(out, log->uuid.bytes, sizeof(log->uuid.bytes));
        buffer_put_u64(out, log->first_seq);
        buffer_put_u64(out, log->next_seq);
        buffer_put_u32(out, log->ended ? LOG_ENDED : 0);
    }
    buffer_put_u32(out, state->closed ? STATE_CLOSED : 0);
    end(out, &state_kind, &state->identity, state->written_at_us);
}

void archive_base_encode(struct buffer *out, const struct archive_base *base, const void *list,
                         size_t list_len)
{
    size_t name_len = strnlen(base->name, ARCHIVE_NAME_SIZE);
    begin(out);
    buffer_put_u64(out, (uint64_t)base->ended_us);
    buffer_put_u64(out, base->catalog_version);
    buffer_put_u16(out, (uint16_t)name_len);
    buffer_add(out, base->name, name_len);
    add_table(out, base->need_count, NEED_BYTES);
    for (uint32_t i = 0; i < base->need_count; i++) {
        buffer_add(out, base->needs[i].uuid.bytes, sizeof(base->needs[i].uuid.bytes));
        buffer_put_u64(out, base->needs[i].seq);
    }
    buffer_put_u64(out, list_len);
    buffer_add(out, list, list_len);
    end(out, &base_kind, &base->identity, base->begun_us);
}

/* ---- reading ---- */

static int check_header(const struct kind *kind, const char *header, size_t len,
                        struct trail *trail)
{
    if (len < ARCHIVE_HEADER_BYTES || memcmp(header, kind->magic, sizeof(kind->magic)) != 0)
        return trail_add(trail, PDB_DATA_LOSS, "not %s of an archive", kind->text);
    if (bytes_get_u32(header + AT_HEADER_CRC) != crc32c(0, header, AT_HEADER_CRC))
        return trail_add(trail, PDB_DATA_LOSS, "%s: the header's checksum is wrong", kind->text);
    uint32_t format = bytes_get_u32(header + AT_VERSION);
    if (format > ARCHIVE_FORMAT_VERSION)
        return trail_add(trail, PDB_FAILED_PRECONDITION,
                         "%s: format version %" PRIu32
                         ": written by a newer proximadb; this one reads up to %d",
                         kind->text, format, ARCHIVE_FORMAT_VERSION);
    size_t body_len = len - ARCHIVE_HEADER_BYTES;
    if (bytes_get_u32(header + AT_HEADER_LEN) != ARCHIVE_HEADER_BYTES ||
        bytes_get_u64(header + AT_BODY_LEN) != body_len)
        return trail_add(trail, PDB_DATA_LOSS, "%s: the length is wrong", kind->text);
    if (bytes_get_u32(header + AT_BODY_CRC) != crc32c(0, header + ARCHIVE_HEADER_BYTES, body_len))
        return trail_add(trail, PDB_DATA_LOSS, "%s: the body's checksum is wrong", kind->text);
    return 0;
}

static struct uuid identity_of(const char *header)
{
    struct uuid uuid;
    memcpy(uuid.bytes, header + AT_IDENTITY, sizeof(uuid.bytes));
    return uuid;
}

static int64_t time_of(const char *header)
{
    return (int64_t)bytes_get_u64(header + AT_TIME);
}

/* The rows of a table as a reader of each: false: it cannot be so. */
struct table {
    const uint8_t *at;
    uint32_t count, row_bytes;
};

static bool take_table(struct bytes_reader *r, uint32_t row_bytes_min, struct table *table_out)
{
    uint32_t count = bytes_take_u32(r), row_bytes = bytes_take_u32(r);
    if (r->failed || row_bytes < row_bytes_min || row_bytes > ROW_BYTES_MAX ||
        count > bytes_left(r) / row_bytes)
        return false;
    *table_out = (struct table){bytes_take(r, (size_t)count * row_bytes), count, row_bytes};
    return true;
}

static const uint8_t *row_at(const struct table *table, uint32_t index)
{
    return table->at + (size_t)index * table->row_bytes;
}

static int no_memory(struct trail *trail)
{
    return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
}

int archive_identity_decode(const void *bytes, size_t len, struct archive_identity *identity_out,
                            struct trail *trail)
{
    int rc = check_header(&identity_kind, bytes, len, trail);
    if (rc == 0)
        *identity_out = (struct archive_identity){identity_of(bytes), time_of(bytes)};
    return rc;
}

static int take_ranges(struct bytes_reader *r, struct arena *arena, struct archive_state *state,
                       struct trail *trail)
{
    struct table table;
    int64_t last_us = INT64_MIN;
    if (!take_table(r, RANGE_BYTES, &table))
        return trail_add(trail, PDB_DATA_LOSS, "STATE: the table of ranges is wrong");
    state->ranges = arena_array(arena, struct archive_range, table.count + (size_t)1);
    if (state->ranges == NULL)
        return no_memory(trail);
    state->range_count = table.count;
    for (uint32_t i = 0; i < table.count; i++) {
        struct archive_range *range = &state->ranges[i];
        range->from_us = (int64_t)bytes_get_u64(row_at(&table, i));
        range->to_us = (int64_t)bytes_get_u64(row_at(&table, i) + 8);
        if (range->from_us > range->to_us || range->from_us < last_us)
            return trail_add(trail, PDB_DATA_LOSS, "STATE: range %" PRIu32 " is wrong", i);
        last_us = range->to_us;
    }
    return 0;
}

static int take_logs(struct bytes_reader *r, struct arena *arena, struct archive_state *state,
                     struct trail *trail)
{
    struct table table;
    if (!take_table(r, LOG_BYTES, &table))
        return trail_add(trail, PDB_DATA_LOSS, "STATE: the table of logs is wrong");
    state->logs = arena_array(arena, struct archive_log, table.count + (size_t)1);
    if (state->logs == NULL)
        return no_memory(trail);
    state->log_count = table.count;
    for (uint32_t i = 0; i < table.count; i++) {
        struct archive_log *log = &state->logs[i];
        memcpy(log->uuid.bytes, row_at(&table, i), sizeof(log->uuid.bytes));
        log->first_seq = bytes_get_u64(row_at(&table, i) + 16);
        log->next_seq = bytes_get_u64(row_at(&table, i) + 24);
        log->ended = (bytes_get_u32(row_at(&table, i) + 32) & LOG_ENDED) != 0;
        if (log->first_seq == 0 || log->first_seq > log->next_seq)
            return trail_add(trail, PDB_DATA_LOSS, "STATE: log %" PRIu32 " is wrong", i);
    }
    return 0;
}

int archive_state_decode(const void *bytes, size_t len, struct arena *arena,
                         struct archive_state *state_out, struct trail *trail)
{
    int rc = check_header(&state_kind, bytes, len, trail);
    if (rc < 0)
        return rc;
    const char *header = bytes;
    struct bytes_reader r =
        bytes_reader_of(header + ARCHIVE_HEADER_BYTES, len - ARCHIVE_HEADER_BYTES);
    struct archive_state state = {.identity = identity_of(header),
                                  .written_at_us = time_of(header)};
    state.catalog_first = bytes_take_u64(&r);
    state.catalog_next = bytes_take_u64(&r);
    if (r.failed || state.catalog_first > state.catalog_next)
        return trail_add(trail, PDB_DATA_LOSS, "STATE: the versions of the catalog are wrong");
    if ((rc = take_ranges(&r, arena, &state, trail)) < 0 ||
        (rc = take_logs(&r, arena, &state, trail)) < 0)
        return rc;
    state.closed = (bytes_take_u32(&r) & STATE_CLOSED) != 0;
    if (r.failed)
        return trail_add(trail, PDB_DATA_LOSS, "STATE is cut off");
    *state_out = state; /* what follows is a later version's */
    return 0;
}

static int take_name(struct bytes_reader *r, struct archive_base *base, struct trail *trail)
{
    char expected[ARCHIVE_NAME_SIZE];
    size_t len = bytes_take_u16(r);
    const uint8_t *at = bytes_take(r, len);
    archive_base_name(expected, base->begun_us);
    if (at == NULL || len != strlen(expected) || memcmp(at, expected, len) != 0)
        return trail_add(trail, PDB_DATA_LOSS, "BASE: the name is wrong");
    memcpy(base->name, expected, sizeof(base->name));
    return 0;
}

static int take_needs(struct bytes_reader *r, struct arena *arena, struct archive_base *base,
                      struct trail *trail)
{
    struct table table;
    if (!take_table(r, NEED_BYTES, &table))
        return trail_add(trail, PDB_DATA_LOSS, "BASE: the table of logs is wrong");
    base->needs = arena_array(arena, struct archive_need, table.count + (size_t)1);
    if (base->needs == NULL)
        return no_memory(trail);
    base->need_count = table.count;
    for (uint32_t i = 0; i < table.count; i++) {
        memcpy(base->needs[i].uuid.bytes, row_at(&table, i), sizeof(base->needs[i].uuid.bytes));
        base->needs[i].seq = bytes_get_u64(row_at(&table, i) + 16);
        if (base->needs[i].seq == 0)
            return trail_add(trail, PDB_DATA_LOSS, "BASE: log %" PRIu32 " is wrong", i);
    }
    return 0;
}

static int take_image(struct bytes_reader *r, struct archive_base *base, struct trail *trail)
{
    uint64_t len = bytes_take_u64(r);
    const uint8_t *at = len <= bytes_left(r) ? bytes_take(r, (size_t)len) : NULL;
    if (at == NULL)
        return trail_add(trail, PDB_DATA_LOSS, "BASE: the list is cut off");
    int rc = snapshot_decode(at, (size_t)len, &base->image, trail);
    return rc < 0 ? trail_add(trail, rc, "BASE") : 0;
}

int archive_base_decode(const void *bytes, size_t len, struct arena *arena,
                        struct archive_base *base_out, struct trail *trail)
{
    int rc = check_header(&base_kind, bytes, len, trail);
    if (rc < 0)
        return rc;
    const char *header = bytes;
    struct bytes_reader r =
        bytes_reader_of(header + ARCHIVE_HEADER_BYTES, len - ARCHIVE_HEADER_BYTES);
    struct archive_base base = {.identity = identity_of(header), .begun_us = time_of(header)};
    base.ended_us = (int64_t)bytes_take_u64(&r);
    base.catalog_version = bytes_take_u64(&r);
    if (r.failed || base.ended_us < base.begun_us)
        return trail_add(trail, PDB_DATA_LOSS, "BASE: the times are wrong");
    if ((rc = take_name(&r, &base, trail)) < 0 || (rc = take_needs(&r, arena, &base, trail)) < 0 ||
        (rc = take_image(&r, &base, trail)) < 0)
        return rc;
    *base_out = base; /* what follows is a later version's */
    return 0;
}

void archive_base_dispose(struct archive_base *base)
{
    snapshot_image_free(base->image);
    base->image = NULL;
}
