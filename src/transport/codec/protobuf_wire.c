/* protobuf_wire.c: fields of a message, read in place and written.
 *
 * A nested message's length stands before it and is known only after it. The writer reserves as
 * many bytes for the length as the caller's guess needs and moves the body when the guess was
 * wrong. Rejected: a first pass that computes all sizes, which walks every document twice; and
 * lengths padded to five bytes, which parsers take, but which no other writer produces. */
#include "transport/codec/protobuf_wire.h"

#include "base/assert.h"
#include "base/bytes.h"

#include "base/no_libc_heap.h"

/* ---- reading ---- */

struct protobuf_reader protobuf_reader_of(struct pdb_text message)
{
    static const uint8_t none[1];
    const uint8_t *at = message.ptr != NULL ? (const uint8_t *)message.ptr : none;
    return (struct protobuf_reader){at, at + message.len};
}

/* At most ten bytes, and nothing beyond 64 bits in the tenth. */
static bool take_varint(struct protobuf_reader *r, uint64_t *value_out)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70 && r->at < r->end; shift += 7) {
        uint8_t byte = *r->at++;
        if (shift == 63 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value_out = value;
            return true;
        }
    }
    return false;
}

static bool take_value(struct protobuf_reader *r, struct protobuf_field *f)
{
    size_t left = (size_t)(r->end - r->at);
    switch (f->type) {
    case PROTOBUF_VARINT:
        return take_varint(r, &f->value);
    case PROTOBUF_FIXED64:
        if (left < 8)
            return false;
        f->value = bytes_get_u64(r->at);
        r->at += 8;
        return true;
    case PROTOBUF_FIXED32:
        if (left < 4)
            return false;
        f->value = bytes_get_u32(r->at);
        r->at += 4;
        return true;
    case PROTOBUF_BYTES:
        if (!take_varint(r, &f->value) || f->value > (size_t)(r->end - r->at))
            return false;
        f->bytes = (struct pdb_text){(const char *)r->at, (size_t)f->value};
        r->at += f->value;
        return true;
    }
    return false;
}

int protobuf_next(struct protobuf_reader *r, struct protobuf_field *field_out)
{
    if (r->at == r->end)
        return 0;
    struct protobuf_field f = {0};
    uint64_t tag = 0;
    if (!take_varint(r, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
        return PDB_INVALID_ARGUMENT;
    f.number = (uint32_t)tag >> 3;
    switch (tag & 7) {
    case PROTOBUF_VARINT:
        f.type = PROTOBUF_VARINT;
        break;
    case PROTOBUF_FIXED64:
        f.type = PROTOBUF_FIXED64;
        break;
    case PROTOBUF_BYTES:
        f.type = PROTOBUF_BYTES;
        break;
    case PROTOBUF_FIXED32:
        f.type = PROTOBUF_FIXED32;
        break;
    default:
        return PDB_INVALID_ARGUMENT;
    }
    if (!take_value(r, &f))
        return PDB_INVALID_ARGUMENT;
    *field_out = f;
    return 1;
}

/* ---- floats ---- */

static void copy_floats(struct pdb_text message, uint32_t number, uint8_t *to)
{
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f;
    while (protobuf_next(&r, &f) > 0) {
        if (f.number != number)
            continue;
        if (f.type == PROTOBUF_BYTES) {
            if (f.bytes.len != 0)
                memcpy(to, f.bytes.ptr, f.bytes.len);
            to += f.bytes.len;
        } else {
            bytes_put_u32(to, (uint32_t)f.value);
            to += sizeof(float);
        }
    }
}

int protobuf_floats(struct pdb_text message, uint32_t number, struct arena *arena,
                    const void **floats_out, uint32_t *count_out)
{
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f;
    struct pdb_text run = {0};
    size_t count = 0, pieces = 0;
    while (protobuf_next(&r, &f) > 0) {
        if (f.number != number || (f.type == PROTOBUF_BYTES && f.bytes.len == 0))
            continue;
        pieces += f.type == PROTOBUF_BYTES ? 1 : 2; /* a single value has to be gathered, too */
        count += f.type == PROTOBUF_BYTES ? f.bytes.len / sizeof(float) : 1;
        run = f.bytes;
    }
    if (pieces <= 1) {
        *floats_out = run.ptr;
        *count_out = (uint32_t)count;
        return 0;
    }
    uint8_t *gathered = arena_alloc(arena, count * sizeof(float));
    if (gathered == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    copy_floats(message, number, gathered);
    *floats_out = gathered;
    *count_out = (uint32_t)count;
    return 0;
}

/* ---- writing ---- */

enum { VARINT_MAX = 10 };

static size_t varint_size(uint64_t value)
{
    size_t size = 1;
    for (; value >= 0x80; value >>= 7)
        size++;
    return size;
}

static size_t write_varint(char *at, uint64_t value)
{
    size_t size = 0;
    for (; value >= 0x80; value >>= 7)
        at[size++] = (char)(uint8_t)(value | 0x80);
    at[size++] = (char)(uint8_t)value;
    return size;
}

/* Room for a tag, which is written, and `more` bytes behind it; NULL without memory. */
static char *put_tag(struct protobuf_writer *w, uint32_t number, enum protobuf_wire_type type,
                     size_t more)
{
    char *at = buffer_reserve(&w->out, VARINT_MAX + more);
    if (at == NULL)
        return NULL;
    size_t size = write_varint(at, (uint64_t)number << 3 | (uint64_t)type);
    w->out.len += size;
    return at + size;
}

void protobuf_writer_open(struct protobuf_writer *w, struct arena *arena)
{
    buffer_init_arena(&w->out, arena, INT32_MAX); /* what a reader takes */
    w->depth = 0;
}

void protobuf_put_varint(struct protobuf_writer *w, uint32_t number, uint64_t value)
{
    char *at = put_tag(w, number, PROTOBUF_VARINT, VARINT_MAX);
    if (at != NULL)
        w->out.len += write_varint(at, value);
}

void protobuf_put_bytes(struct protobuf_writer *w, uint32_t number, const void *bytes, size_t len)
{
    char *at = put_tag(w, number, PROTOBUF_BYTES, VARINT_MAX + len);
    if (at == NULL)
        return;
    size_t size = write_varint(at, len);
    if (len != 0)
        memcpy(at + size, bytes, len);
    w->out.len += size + len;
}

void protobuf_put_length(struct protobuf_writer *w, uint32_t number, size_t len)
{
    char *at = put_tag(w, number, PROTOBUF_BYTES, VARINT_MAX + len);
    if (at != NULL)
        w->out.len += write_varint(at, len);
}

void protobuf_put_double(struct protobuf_writer *w, uint32_t number, double value)
{
    char *at = put_tag(w, number, PROTOBUF_FIXED64, sizeof(value));
    if (at == NULL)
        return;
    memcpy(at, &value, sizeof(value));
    w->out.len += sizeof(value);
}

void protobuf_put_float(struct protobuf_writer *w, uint32_t number, float value)
{
    char *at = put_tag(w, number, PROTOBUF_FIXED32, sizeof(value));
    if (at == NULL)
        return;
    memcpy(at, &value, sizeof(value));
    w->out.len += sizeof(value);
}

void protobuf_put_u64(struct protobuf_writer *w, uint32_t number, uint64_t value)
{
    if (value != 0)
        protobuf_put_varint(w, number, value);
}

void protobuf_put_text(struct protobuf_writer *w, uint32_t number, struct pdb_text text)
{
    if (text.len != 0)
        protobuf_put_bytes(w, number, text.ptr, text.len);
}

void protobuf_begin(struct protobuf_writer *w, uint32_t number, size_t expected)
{
    ASSERT(w->depth < PROTOBUF_OPEN_MAX);
    size_t reserved = varint_size(expected);
    if (put_tag(w, number, PROTOBUF_BYTES, reserved) != NULL)
        w->out.len += reserved;
    w->open[w->depth].body = w->out.len;
    w->open[w->depth].reserved = (uint8_t)reserved;
    w->depth++;
}

void protobuf_end(struct protobuf_writer *w)
{
    ASSERT(w->depth > 0);
    w->depth--;
    if (w->out.failed)
        return;
    size_t body = w->open[w->depth].body, reserved = w->open[w->depth].reserved;
    size_t len = w->out.len - body, needed = varint_size(len);
    if (needed > reserved && buffer_reserve(&w->out, needed - reserved) == NULL)
        return;
    char *start = w->out.ptr + body - reserved;
    if (needed != reserved) {
        memmove(start + needed, start + reserved, len);
        w->out.len = w->out.len - reserved + needed;
    }
    (void)write_varint(start, len);
}

int protobuf_writer_finish(struct protobuf_writer *w, struct pdb_text *bytes_out)
{
    ASSERT(w->depth == 0);
    if (w->out.failed)
        return PDB_RESOURCE_EXHAUSTED;
    *bytes_out = (struct pdb_text){w->out.len != 0 ? w->out.ptr : "", w->out.len};
    return 0;
}
