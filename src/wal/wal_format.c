/* wal_format.c: headers of the log, from structs to bytes and back.
 *
 *     segment   one 4 KiB block   magic crc format header_len flags block_bytes log segment seq
 *                                 size
 *     group     128 bytes         magic crc header_len flags records group_seq first_lsn time
 *                                 body_len prev begin
 *     record    128 bytes         crc header_len flags len body_len type encoding collection ...
 *
 * Three properties are bought with the checksums, and each has its test in test_wal_format.c:
 *
 * 1. A header is valid in one place only. The sum of a group is seeded with (segment uuid,
 *    group_seq), the sum of a record with (segment uuid, lsn). The lsn of a record is not stored
 *    but follows from its group, so a record that was moved, or bytes that a user sent and that
 *    look like a record, fit nowhere. A recycled file gets a new uuid, hence its old bytes need no
 *    wiping.
 * 2. The record's header covers the checksum of its body, not the body. So the body's sum can be
 *    computed by any core, in steps, while it is copied, before anybody knows the lsn.
 * 3. The padding behind the records is covered by nothing: rot there must not cost an intact group.
 *
 * Headers grow at their end. Readers take what they know from the front and include the rest in the
 * sum; a fatal flag forbids even that. The crc lies at the front, so that growing never moves it.
 *
 * Rejected: one checksum over the whole group. It would have to be computed after the lsn is known,
 * on the core that owns the log, in one long step, and one flipped bit would lose the other batches
 * of the group. */
#include "wal/wal_format.h"

#include "base/bytes.h"
#include "base/crc32c.h"

_Static_assert(WAL_RECORD_HEADER_BYTES % WAL_ALIGNMENT == 0, "bodies start on vector boundaries");
_Static_assert(WAL_GROUP_HEADER_BYTES % WAL_ALIGNMENT == 0, "records start on vector boundaries");

static const char segment_magic[8] = {'P', 'X', 'D', 'B', 'W', 'A', 'L', '1'};
enum { GROUP_MAGIC = 0x47585850 }; /* "PXXG" */

uint64_t wal_group_disk_bytes(uint64_t body_len, uint32_t block_bytes)
{
    return bytes_align_up(WAL_GROUP_HEADER_BYTES + body_len, block_bytes);
}

uint64_t wal_record_bytes(uint64_t body_len)
{
    return WAL_RECORD_HEADER_BYTES + bytes_align_up(body_len, WAL_ALIGNMENT);
}

static uint32_t seeded(const struct uuid *segment, uint64_t number)
{
    uint8_t seed[24];
    memcpy(seed, segment->bytes, 16);
    bytes_put_u64(seed + 16, number);
    return crc32c(0, seed, sizeof(seed));
}

/* ---- segment ---- */

void wal_segment_header_put(const struct wal_segment_header *header, uint8_t *block_out)
{
    memset(block_out, 0, WAL_SEGMENT_HEADER_BYTES);
    memcpy(block_out, segment_magic, sizeof(segment_magic));
    bytes_put_u32(block_out + 12, header->format);
    bytes_put_u32(block_out + 16, WAL_SEGMENT_HEADER_BYTES);
    bytes_put_u32(block_out + 20, header->flags);
    bytes_put_u32(block_out + 24, header->block_bytes);
    memcpy(block_out + 32, header->log.bytes, 16);
    memcpy(block_out + 48, header->segment.bytes, 16);
    bytes_put_u64(block_out + 64, header->seq);
    bytes_put_u64(block_out + 72, header->size);
    bytes_put_u32(block_out + 8, crc32c(0, block_out + 12, WAL_SEGMENT_HEADER_BYTES - 12));
}

enum wal_verdict wal_segment_header_get(const uint8_t *block, size_t len,
                                        struct wal_segment_header *header_out)
{
    if (len < WAL_SEGMENT_HEADER_BYTES ||
        memcmp(block, segment_magic, sizeof(segment_magic)) != 0 ||
        bytes_get_u32(block + 8) != crc32c(0, block + 12, WAL_SEGMENT_HEADER_BYTES - 12))
        return WAL_INVALID;

    struct wal_segment_header h = {
        .format = bytes_get_u32(block + 12),
        .flags = bytes_get_u32(block + 20),
        .block_bytes = bytes_get_u32(block + 24),
        .seq = bytes_get_u64(block + 64),
        .size = bytes_get_u64(block + 72),
    };
    memcpy(h.log.bytes, block + 32, 16);
    memcpy(h.segment.bytes, block + 48, 16);
    if (h.format > WAL_FORMAT_VERSION || (h.flags & WAL_SEGMENT_FLAGS_FATAL) != 0)
        return WAL_NEWER;
    if (h.format == 0 || h.block_bytes < WAL_BLOCK_BYTES_MIN ||
        h.block_bytes > WAL_BLOCK_BYTES_MAX || (h.block_bytes & (h.block_bytes - 1)) != 0)
        return WAL_INVALID;
    *header_out = h;
    return WAL_VALID;
}

/* ---- group ---- */

uint32_t wal_group_header_put(const struct wal_group_header *header, const struct uuid *segment,
                              uint8_t *bytes_out)
{
    memset(bytes_out, 0, WAL_GROUP_HEADER_BYTES);
    bytes_put_u32(bytes_out, GROUP_MAGIC);
    bytes_put_u16(bytes_out + 8, WAL_GROUP_HEADER_BYTES);
    bytes_put_u16(bytes_out + 10, (uint16_t)header->flags);
    bytes_put_u32(bytes_out + 12, header->record_count);
    bytes_put_u64(bytes_out + 16, header->group_seq);
    bytes_put_u64(bytes_out + 24, header->first_lsn);
    bytes_put_u64(bytes_out + 32, (uint64_t)header->time_us);
    bytes_put_u64(bytes_out + 40, header->body_len);
    bytes_put_u32(bytes_out + 48, header->prev_group_crc);
    bytes_put_u64(bytes_out + 64, header->begin.seq);
    bytes_put_u64(bytes_out + 72, header->begin.group_seq);
    bytes_put_u64(bytes_out + 80, header->begin.lsn);
    bytes_put_u32(bytes_out + 88, header->begin.prev_group_crc);
    uint32_t crc =
        crc32c(seeded(segment, header->group_seq), bytes_out + 8, WAL_GROUP_HEADER_BYTES - 8);
    bytes_put_u32(bytes_out + 4, crc);
    return crc;
}

enum wal_verdict wal_group_header_get(const uint8_t *bytes, size_t len, const struct uuid *segment,
                                      struct wal_group_header *header_out)
{
    if (len < WAL_GROUP_HEADER_BYTES_MIN || bytes_get_u32(bytes) != GROUP_MAGIC)
        return WAL_INVALID;
    uint32_t header_len = bytes_get_u16(bytes + 8);
    if (header_len < WAL_GROUP_HEADER_BYTES_MIN || header_len > WAL_HEADER_BYTES_MAX ||
        header_len % WAL_ALIGNMENT != 0 || header_len > len)
        return WAL_INVALID;

    struct wal_group_header h = {
        .header_len = header_len,
        .flags = bytes_get_u16(bytes + 10),
        .record_count = bytes_get_u32(bytes + 12),
        .group_seq = bytes_get_u64(bytes + 16),
        .first_lsn = bytes_get_u64(bytes + 24),
        .time_us = (int64_t)bytes_get_u64(bytes + 32),
        .body_len = bytes_get_u64(bytes + 40),
        .prev_group_crc = bytes_get_u32(bytes + 48),
        .begin = {1, 1, 1, 0},
        .crc = bytes_get_u32(bytes + 4),
    };
    if (header_len >= WAL_GROUP_HEADER_BYTES && bytes_get_u64(bytes + 64) != 0)
        h.begin = (struct wal_begin){bytes_get_u64(bytes + 64), bytes_get_u64(bytes + 72),
                                     bytes_get_u64(bytes + 80), bytes_get_u32(bytes + 88)};
    if (h.crc != crc32c(seeded(segment, h.group_seq), bytes + 8, header_len - 8))
        return WAL_INVALID;
    if ((h.flags & WAL_GROUP_FLAGS_FATAL) != 0)
        return WAL_NEWER;
    if (h.body_len % WAL_ALIGNMENT != 0 || (h.record_count == 0) != (h.body_len == 0) ||
        h.body_len / WAL_RECORD_HEADER_BYTES < h.record_count || h.begin.group_seq == 0 ||
        h.begin.group_seq > h.group_seq || h.begin.lsn == 0 || h.begin.lsn > h.first_lsn)
        return WAL_INVALID;
    *header_out = h;
    return WAL_VALID;
}

/* ---- record ---- */

void wal_record_header_put(const struct wal_record_header *header, const struct uuid *segment,
                           uint64_t lsn, uint8_t *bytes_out)
{
    memset(bytes_out, 0, WAL_RECORD_HEADER_BYTES);
    bytes_put_u32(bytes_out + 4, WAL_RECORD_HEADER_BYTES);
    bytes_put_u64(bytes_out + 8, header->len);
    bytes_put_u64(bytes_out + 16, header->body_len);
    bytes_put_u32(bytes_out + 24, header->flags);
    bytes_out[28] = header->type;
    bytes_out[29] = header->encoding;
    bytes_put_u32(bytes_out + 32, header->shard);
    bytes_put_u32(bytes_out + 36, header->row_count);
    memcpy(bytes_out + 40, header->collection.bytes, 16);
    bytes_put_u64(bytes_out + 56, header->version);
    memcpy(bytes_out + 64, header->request.hash, 16);
    bytes_put_u64(bytes_out + 80, (uint64_t)header->request.time_us);
    bytes_put_u32(bytes_out + 88, header->request.body_checksum);
    bytes_put_u32(bytes_out + 92, header->body_crc);
    bytes_put_u64(bytes_out + 96, header->schema);
    bytes_put_u32(bytes_out,
                  crc32c(seeded(segment, lsn), bytes_out + 4, WAL_RECORD_HEADER_BYTES - 4));
}

enum wal_verdict wal_record_header_get(const uint8_t *bytes, size_t len, const struct uuid *segment,
                                       uint64_t lsn, struct wal_record_header *header_out)
{
    if (len < WAL_RECORD_HEADER_BYTES)
        return WAL_INVALID;
    uint32_t header_len = bytes_get_u32(bytes + 4);
    if (header_len < WAL_RECORD_HEADER_BYTES || header_len > WAL_HEADER_BYTES_MAX ||
        header_len % WAL_ALIGNMENT != 0 || header_len > len ||
        bytes_get_u32(bytes) != crc32c(seeded(segment, lsn), bytes + 4, header_len - 4))
        return WAL_INVALID;

    struct wal_record_header h = {
        .header_len = header_len,
        .len = bytes_get_u64(bytes + 8),
        .body_len = bytes_get_u64(bytes + 16),
        .flags = bytes_get_u32(bytes + 24),
        .type = bytes[28],
        .encoding = bytes[29],
        .shard = bytes_get_u32(bytes + 32),
        .row_count = bytes_get_u32(bytes + 36),
        .version = bytes_get_u64(bytes + 56),
        .request.time_us = (int64_t)bytes_get_u64(bytes + 80),
        .request.body_checksum = bytes_get_u32(bytes + 88),
        .body_crc = bytes_get_u32(bytes + 92),
        .schema = bytes_get_u64(bytes + 96),
    };
    memcpy(h.collection.bytes, bytes + 40, 16);
    memcpy(h.request.hash, bytes + 64, 16);
    if ((h.flags & WAL_RECORD_FLAGS_FATAL) != 0 || h.type < WAL_RECORD_ROWS ||
        h.type > WAL_RECORD_CLOSE || h.encoding > WAL_ENCODING_AVRO)
        return WAL_NEWER;
    if (h.body_len > WAL_RECORD_BYTES_MAX ||
        h.len != header_len + bytes_align_up(h.body_len, WAL_ALIGNMENT) ||
        (h.type != WAL_RECORD_ROWS && h.row_count != 0))
        return WAL_INVALID;
    *header_out = h;
    return WAL_VALID;
}
