/* Protocol Buffers on the wire: reading fields in place, checking a message against its type,
 * writing.
 *
 * The generated code of protobuf-c holds the types and unpacks small messages; whatever may be
 * large (records, vectors, rows of an answer) is read and written here, without a copy per value.
 * Wire format: protobuf.dev, "Encoding". */
#ifndef TRANSPORT_CODEC_PROTOBUF_WIRE_H
#define TRANSPORT_CODEC_PROTOBUF_WIRE_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/doc.h"
#include "base/text.h"
#include "base/trail.h"

#include <protobuf-c/protobuf-c.h>

enum protobuf_wire_type {
    PROTOBUF_VARINT = 0,
    PROTOBUF_FIXED64 = 1,
    PROTOBUF_BYTES = 2,
    PROTOBUF_FIXED32 = 5, /* 3 and 4, groups, are refused */
};

enum {
    PROTOBUF_DEPTH_MAX = 64, /* messages within messages, the outermost included */
    PROTOBUF_FIELDS_MAX =
        1 << 21 /* of one message that is checked in one step, so that a step ends */
};

/* ---- reading ---- */

struct protobuf_field {
    uint32_t number;
    enum protobuf_wire_type type;
    uint64_t value;        /* varint or fixed */
    struct pdb_text bytes; /* PROTOBUF_BYTES: within the message */
};

struct protobuf_reader {
    const uint8_t *at, *end;
};

struct protobuf_reader protobuf_reader_of(struct pdb_text message);
/* 1: a field; 0: the end; PDB_INVALID_ARGUMENT: malformed, or longer than the message. */
int protobuf_next(struct protobuf_reader *r, struct protobuf_field *field_out);

/* Where a message lies in the request, for error texts: "records[3]", "query", or nothing when
 * `name` is NULL. */
struct protobuf_place {
    const char *name;
    uint32_t index;
    bool indexed;
};

/* Adds "records[3].metadata: what" to the trail, returns `code`. `member` may be "". */
int protobuf_fail(struct trail *trail, struct protobuf_place place, int code, const char *member,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Checks a whole message against its type, iteratively: well-formed, wire types, depth, UTF-8,
 * known enum values, 32-bit values within 32 bits. Fields that the type does not have are passed
 * over. PDB_INVALID_ARGUMENT with the path: "records[3].metadata.fields[2].key: invalid UTF-8". */
int protobuf_check(const ProtobufCMessageDescriptor *type, struct pdb_text message,
                   struct protobuf_place place, struct trail *trail);

/* protobuf_check, and no NUL in texts (protobuf-c's end there), then unpacked into the arena: NULL
 * and the trail told on an error, which is then in trail->code. */
void *protobuf_unpack(const ProtobufCMessageDescriptor *type, struct pdb_text message,
                      struct arena *arena, struct trail *trail);

/* A repeated float of a checked message, packed or not: in place when it is one packed run, else
 * gathered in the arena. 0 or PDB_RESOURCE_EXHAUSTED; no such field: *count_out is 0. */
int protobuf_floats(struct pdb_text message, uint32_t number, struct arena *arena,
                    const void **floats_out, uint32_t *count_out);

/* ---- writing ---- */

enum { PROTOBUF_OPEN_MAX = 3 * DOC_DEPTH_MAX + 16 };

struct protobuf_writer {
    struct buffer out; /* failed: without memory */
    uint32_t depth;
    struct {
        size_t body;      /* where it begins in out */
        uint8_t reserved; /* bytes for the length before it */
    } open[PROTOBUF_OPEN_MAX];
};

void protobuf_writer_open(struct protobuf_writer *w, struct arena *arena);
void protobuf_put_varint(struct protobuf_writer *w, uint32_t number, uint64_t value);
void protobuf_put_bytes(struct protobuf_writer *w, uint32_t number, const void *bytes, size_t len);
/* What stands before `len` bytes, which the caller then adds to `out`. */
void protobuf_put_length(struct protobuf_writer *w, uint32_t number, size_t len);
void protobuf_put_double(struct protobuf_writer *w, uint32_t number, double value);
void protobuf_put_float(struct protobuf_writer *w, uint32_t number, float value);
/* As proto3 has it without presence: defaults are left out. */
void protobuf_put_u64(struct protobuf_writer *w, uint32_t number, uint64_t value);
void protobuf_put_text(struct protobuf_writer *w, uint32_t number, struct pdb_text text);
/* A nested message whose length is about `expected`: a wrong guess costs a move. */
void protobuf_begin(struct protobuf_writer *w, uint32_t number, size_t expected);
void protobuf_end(struct protobuf_writer *w);
/* 0 and the bytes, or PDB_RESOURCE_EXHAUSTED. */
int protobuf_writer_finish(struct protobuf_writer *w, struct pdb_text *bytes_out);

#endif
