/* The bytes of the log as a pure function: headers of segments, groups and records, and the bodies
 * of batches. No I/O, no clock, no allocation but the caller's arena. Layout: docs/formats/wal.md;
 * rules W1 to W6 of docs/invariants.md.
 *
 * Every reader here takes bytes that may be anything: torn, stale, flipped, hostile. It answers a
 * wal_verdict and never reads outside what it was given. */
#ifndef WAL_WAL_FORMAT_H
#define WAL_WAL_FORMAT_H

#include "base/arena.h"
#include "base/uuid.h"
#include "wal/wal.h"

enum {
    WAL_FORMAT_VERSION = 2,          /* 1: groups did not say where the log begins */
    WAL_SEGMENT_HEADER_BYTES = 4096, /* a block of its own, whatever the block size of the groups */
    WAL_BLOCK_BYTES_MIN = 4096,
    WAL_BLOCK_BYTES_MAX = 65536,
    WAL_GROUP_HEADER_BYTES = 128,
    WAL_GROUP_HEADER_BYTES_MIN = 64, /* of format 1 */
    WAL_RECORD_HEADER_BYTES = 128,
    WAL_ALIGNMENT = 64,          /* of records, rows and vectors */
    WAL_HEADER_BYTES_MAX = 4096, /* of a group's or a record's header in a later version */
    WAL_ROW_HEADER_BYTES = 48,
};

/* The largest record: the I/O table moves at most 1 GiB at a time, and a group has a header and
 * padding. */
#define WAL_RECORD_BYTES_MAX ((uint64_t)512 << 20)

/* The high half of any flags field: a reader that does not know such a bit must not go on. */
enum { WAL_GROUP_FLAGS_FATAL = 0xff00 };
#define WAL_RECORD_FLAGS_FATAL  0xffff0000u
#define WAL_SEGMENT_FLAGS_FATAL 0xffff0000u
/* The file was used before: bytes behind its groups may be of an earlier life. */
enum { WAL_SEGMENT_RECYCLED = 1 };

enum wal_verdict {
    WAL_VALID,
    WAL_INVALID, /* not what was written: torn, stale or damaged */
    WAL_NEWER,   /* intact, but written by a version that this one must not guess about */
};

struct wal_segment_header {
    uint32_t format, flags, block_bytes;
    struct uuid log, segment;
    uint64_t seq, size;
};

/* Where a log begins: its first live segment, and the point in the chain of groups at which that
 * one, or the first behind it that has groups, goes on. */
struct wal_begin {
    uint64_t seq, group_seq, lsn;
    uint32_t prev_group_crc;
};

struct wal_group_header {
    uint32_t header_len, flags, record_count;
    uint64_t group_seq, first_lsn;
    int64_t time_us;
    uint64_t body_len; /* of the records, without the padding to the block */
    uint32_t prev_group_crc;
    struct wal_begin begin; /* format 1: {1, 1, 1, 0} */
    uint32_t crc;           /* read: the header's own; becomes the next group's prev_group_crc */
};

struct wal_record_header {
    uint64_t len, body_len; /* len: header, body and padding: a multiple of 64 */
    uint32_t header_len, flags;
    uint8_t type, encoding;
    struct uuid collection;
    uint32_t shard, row_count;
    uint64_t version;
    struct wal_request request;
    uint32_t body_crc;
    uint64_t schema; /* avro: fingerprint of the writer's schema; binary: 0 */
};

/* Bytes of a group on disk: header, records and padding up to a block. */
uint64_t wal_group_disk_bytes(uint64_t body_len, uint32_t block_bytes);
/* Bytes of a record whose body has `body_len` bytes. */
uint64_t wal_record_bytes(uint64_t body_len);

/* Fills a whole block of WAL_SEGMENT_HEADER_BYTES. */
void wal_segment_header_put(const struct wal_segment_header *header, uint8_t *block_out);
enum wal_verdict wal_segment_header_get(const uint8_t *block, size_t len,
                                        struct wal_segment_header *header_out);

/* Fills WAL_GROUP_HEADER_BYTES; returns the crc, which the next group names. header_len and crc are
 * not read. */
uint32_t wal_group_header_put(const struct wal_group_header *header, const struct uuid *segment,
                              uint8_t *bytes_out);
/* `bytes`: at least WAL_GROUP_HEADER_BYTES_MIN, better WAL_HEADER_BYTES_MAX. */
enum wal_verdict wal_group_header_get(const uint8_t *bytes, size_t len, const struct uuid *segment,
                                      struct wal_group_header *header_out);

/* Fills WAL_RECORD_HEADER_BYTES. header_len is not read. */
void wal_record_header_put(const struct wal_record_header *header, const struct uuid *segment,
                           uint64_t lsn, uint8_t *bytes_out);
enum wal_verdict wal_record_header_get(const uint8_t *bytes, size_t len, const struct uuid *segment,
                                       uint64_t lsn, struct wal_record_header *header_out);

/* ---- bodies ---- */

struct wal_avro; /* avro-c's schema and values; wal_avro.c */

/* NULL when avro-c has no memory. */
struct wal_avro *wal_avro_new(void);
void wal_avro_free(struct wal_avro *avro);
/* The fingerprint (CRC-64-AVRO of the canonical form) of the schema that is written. A constant: it
 * would cost 4 us per record to compute; a test does. */
#define WAL_AVRO_FINGERPRINT UINT64_C(0x094301cf99f5770e)
/* The schema's canonical form, as proto/avro/wal_batch.avsc says it with more words. */
extern const char wal_avro_schema_text[];

/* Bytes of the batch's body; 0 for a type without rows. False: over WAL_RECORD_BYTES_MAX. */
bool wal_body_bytes(const struct wal_batch *batch, enum wal_encoding encoding, uint64_t *bytes_out);

/* A body being encoded, a step at a time. The checksum is taken while the bytes are still in the
 * cache. */
struct wal_encoder {
    const struct wal_batch *batch;
    struct wal_avro *avro; /* for WAL_ENCODING_AVRO; else NULL */
    uint8_t *out;
    uint64_t len, at; /* of the body; what is done of it */
    uint32_t row;     /* the next one */
    uint32_t crc;     /* of the bytes before `at` */
    bool head_done;
    bool failed; /* avro-c had no memory */
};

/* `out`: `len` bytes, as wal_body_bytes says; stays where it is until the last step. */
void wal_encoder_init(struct wal_encoder *encoder, const struct wal_batch *batch,
                      struct wal_avro *avro, uint8_t *out, uint64_t len);
/* Encodes rows until `budget` bytes are done. True when the body is complete (or failed). */
bool wal_encode_step(struct wal_encoder *encoder, uint64_t budget);

/* Body to batch: rows, ids, metadata and vectors point into `body` where they can be read in place,
 * else into the arena; `body` must be aligned to 64 bytes. batch_out gets field_count, field_bytes
 * and rows; the record's header has the rest, and `version` is what the rows get. *avro_io: NULL or
 * an earlier call's, made when it is first needed, the caller's to free. 0, PDB_DATA_LOSS
 * (malformed), PDB_FAILED_PRECONDITION (an unknown schema or encoding), or PDB_RESOURCE_EXHAUSTED
 * (the arena). */
int wal_body_decode(const struct wal_record_header *header, const uint8_t *body,
                    struct wal_avro **avro_io, struct arena *arena, struct wal_batch *batch_out,
                    struct trail *trail);

/* wal_body.c and wal_avro.c; use wal_body_decode. */
int wal_binary_decode(const struct wal_record_header *header, const uint8_t *body,
                      struct arena *arena, struct wal_batch *batch_out, struct trail *trail);
int wal_avro_decode(const struct wal_record_header *header, const uint8_t *body,
                    struct wal_avro **avro_io, struct arena *arena, struct wal_batch *batch_out,
                    struct trail *trail);
uint64_t wal_avro_bytes(const struct wal_batch *batch);
/* Encodes the head or one row at encoder->out + encoder->at; bytes written, 0: failed. */
uint64_t wal_avro_put_head(struct wal_encoder *encoder);
uint64_t wal_avro_put_row(struct wal_encoder *encoder, const struct pdb_row *row);
uint64_t wal_avro_put_end(struct wal_encoder *encoder);

#endif
