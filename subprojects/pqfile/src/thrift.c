/* thrift.c: see thrift.h. The reader's cursor never passes `end`; a failure moves it there, so that
 * no loop can go on. Work is linear in the input: every element of everything takes a byte. */
#include "thrift.h"

#include <assert.h>

enum {
    VARINT_BYTES_MAX = 10,
    LIST_SHORT_MAX = 14, /* larger counts follow as a varint */
    SKIP_DEPTH_MAX = 32, /* lists, maps and structs inside each other, in what is skipped */
};

static void fail(struct pq_thrift_reader *r)
{
    r->failed = true;
    r->at = r->end;
}

static void fail_short(struct pq_thrift_reader *r)
{
    r->is_short = r->is_short || !r->failed;
    fail(r);
}

static size_t left(const struct pq_thrift_reader *r)
{
    return (size_t)(r->end - r->at);
}

static uint8_t read_byte(struct pq_thrift_reader *r)
{
    if (r->at == r->end) {
        fail_short(r);
        return 0;
    }
    return *r->at++;
}

static uint64_t read_varint(struct pq_thrift_reader *r)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX; i++) {
        uint8_t byte = read_byte(r);
        if (i == VARINT_BYTES_MAX - 1 && byte > 1)
            break; /* more than 64 bits */
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if ((byte & 0x80) == 0)
            return r->failed ? 0 : value;
    }
    fail(r);
    return 0;
}

static int64_t read_zigzag(struct pq_thrift_reader *r)
{
    uint64_t value = read_varint(r);
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

void pq_thrift_open(struct pq_thrift_reader *r, const uint8_t *data, size_t len)
{
    assert(data != NULL || len == 0);
    *r = (struct pq_thrift_reader){.at = data, .end = data == NULL ? data : data + len};
}

void pq_thrift_begin(struct pq_thrift_reader *r)
{
    if (r->depth == PQ_THRIFT_DEPTH_MAX) {
        fail(r);
        return;
    }
    r->last_id[++r->depth] = 0;
}

bool pq_thrift_next(struct pq_thrift_reader *r, struct pq_thrift_field *field_out)
{
    if (r->failed || r->depth == 0)
        return false;
    uint8_t head = read_byte(r);
    if (r->failed || head == PQ_THRIFT_STOP) {
        r->depth--;
        return false;
    }
    int64_t id = (int64_t)r->last_id[r->depth] + (head >> 4);
    if ((head >> 4) == 0)
        id = read_zigzag(r);
    uint8_t type = head & 0x0f;
    if (id < INT16_MIN || id > INT16_MAX || type == PQ_THRIFT_STOP || type > PQ_THRIFT_UUID)
        fail(r);
    if (r->failed)
        return false;
    r->last_id[r->depth] = (int16_t)id;
    *field_out = (struct pq_thrift_field){.type = type, .id = (int16_t)id};
    return true;
}

static void skip_bytes(struct pq_thrift_reader *r, uint64_t count)
{
    if (count > left(r))
        fail_short(r);
    else
        r->at += count;
}

static uint32_t read_list_head(struct pq_thrift_reader *r, uint8_t *element_type_out)
{
    uint8_t head = read_byte(r);
    uint64_t count = head >> 4;
    if (count > LIST_SHORT_MAX)
        count = read_varint(r);
    uint8_t type = head & 0x0f;
    if (count > INT32_MAX || type > PQ_THRIFT_UUID || (type == PQ_THRIFT_STOP && count != 0))
        fail(r);
    else if (count > left(r))
        fail_short(r);
    *element_type_out = type;
    return r->failed ? 0 : (uint32_t)count;
}

static void skip_value(struct pq_thrift_reader *r, uint8_t type, bool is_element, unsigned depth);

static void skip_list(struct pq_thrift_reader *r, unsigned depth)
{
    uint8_t type = 0;
    uint32_t count = read_list_head(r, &type);
    for (uint32_t i = 0; i < count && !r->failed; i++)
        skip_value(r, type, true, depth + 1);
}

static void skip_map(struct pq_thrift_reader *r, unsigned depth)
{
    uint64_t count = read_varint(r);
    if (count == 0)
        return;
    uint8_t types = read_byte(r);
    if (count > left(r))
        fail_short(r);
    for (uint64_t i = 0; i < count && !r->failed; i++) {
        skip_value(r, types >> 4, true, depth + 1);
        skip_value(r, types & 0x0f, true, depth + 1);
    }
}

static void skip_struct(struct pq_thrift_reader *r, unsigned depth)
{
    struct pq_thrift_field field;
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &field))
        skip_value(r, field.type, false, depth + 1);
}

static void skip_value(struct pq_thrift_reader *r, uint8_t type, bool is_element, unsigned depth)
{
    if (depth == SKIP_DEPTH_MAX) {
        fail(r);
        return;
    }
    switch (type) {
    case PQ_THRIFT_TRUE:
    case PQ_THRIFT_FALSE:
        skip_bytes(r, is_element ? 1 : 0);
        break;
    case PQ_THRIFT_I8:
        skip_bytes(r, 1);
        break;
    case PQ_THRIFT_I16:
    case PQ_THRIFT_I32:
    case PQ_THRIFT_I64:
        (void)read_varint(r);
        break;
    case PQ_THRIFT_DOUBLE:
        skip_bytes(r, 8);
        break;
    case PQ_THRIFT_BINARY:
        skip_bytes(r, read_varint(r));
        break;
    case PQ_THRIFT_LIST:
    case PQ_THRIFT_SET:
        skip_list(r, depth);
        break;
    case PQ_THRIFT_MAP:
        skip_map(r, depth);
        break;
    case PQ_THRIFT_STRUCT:
        skip_struct(r, depth);
        break;
    case PQ_THRIFT_UUID:
        skip_bytes(r, 16);
        break;
    default:
        fail(r);
    }
}

void pq_thrift_skip(struct pq_thrift_reader *r, uint8_t type)
{
    skip_value(r, type, false, 0);
}

bool pq_thrift_bool(struct pq_thrift_reader *r, uint8_t type)
{
    if (type != PQ_THRIFT_TRUE && type != PQ_THRIFT_FALSE)
        fail(r);
    return type == PQ_THRIFT_TRUE && !r->failed;
}

int64_t pq_thrift_i64(struct pq_thrift_reader *r, uint8_t type)
{
    if (type == PQ_THRIFT_I8)
        return (int8_t)read_byte(r);
    if (type != PQ_THRIFT_I16 && type != PQ_THRIFT_I32 && type != PQ_THRIFT_I64) {
        fail(r);
        return 0;
    }
    return read_zigzag(r);
}

int32_t pq_thrift_i32(struct pq_thrift_reader *r, uint8_t type)
{
    int64_t value = pq_thrift_i64(r, type);
    if (value < INT32_MIN || value > INT32_MAX) {
        fail(r);
        return 0;
    }
    return (int32_t)value;
}

const uint8_t *pq_thrift_binary(struct pq_thrift_reader *r, uint8_t type, size_t *len_out)
{
    uint64_t len = 0;
    *len_out = 0;
    if (type != PQ_THRIFT_BINARY)
        fail(r);
    else
        len = read_varint(r);
    const uint8_t *data = r->at;
    skip_bytes(r, len);
    if (r->failed)
        return NULL;
    *len_out = (size_t)len;
    return data;
}

uint32_t pq_thrift_list(struct pq_thrift_reader *r, uint8_t type, uint8_t *element_type_out)
{
    *element_type_out = PQ_THRIFT_STOP;
    if (type != PQ_THRIFT_LIST && type != PQ_THRIFT_SET) {
        fail(r);
        return 0;
    }
    return read_list_head(r, element_type_out);
}

bool pq_thrift_bool_element(struct pq_thrift_reader *r)
{
    uint8_t byte = read_byte(r); /* false is 2, and 0 from older writers */
    if (byte > PQ_THRIFT_FALSE)
        fail(r);
    return byte == PQ_THRIFT_TRUE;
}

/* ---- writer ---- */

void pq_thrift_writer_open(struct pq_thrift_writer *w, struct pq_buffer *out)
{
    *w = (struct pq_thrift_writer){.out = out};
}

static void write_zigzag(struct pq_thrift_writer *w, int64_t value)
{
    pq_buffer_add_varint(w->out, ((uint64_t)value << 1) ^ (uint64_t)(value >> 63));
}

static void write_field(struct pq_thrift_writer *w, int16_t id, uint8_t type)
{
    assert(w->depth != 0);
    int delta = id - w->last_id[w->depth];
    if (delta > 0 && delta <= 15) {
        pq_buffer_add_byte(w->out, (uint8_t)((delta << 4) | type));
    } else {
        pq_buffer_add_byte(w->out, type);
        write_zigzag(w, id);
    }
    w->last_id[w->depth] = id;
}

void pq_thrift_write_begin(struct pq_thrift_writer *w)
{
    assert(w->depth < PQ_THRIFT_DEPTH_MAX);
    w->last_id[++w->depth] = 0;
}

void pq_thrift_write_end(struct pq_thrift_writer *w)
{
    assert(w->depth != 0);
    pq_buffer_add_byte(w->out, PQ_THRIFT_STOP);
    w->depth--;
}

void pq_thrift_write_struct(struct pq_thrift_writer *w, int16_t id)
{
    write_field(w, id, PQ_THRIFT_STRUCT);
    pq_thrift_write_begin(w);
}

void pq_thrift_write_bool(struct pq_thrift_writer *w, int16_t id, bool value)
{
    write_field(w, id, value ? PQ_THRIFT_TRUE : PQ_THRIFT_FALSE);
}

void pq_thrift_write_i8(struct pq_thrift_writer *w, int16_t id, int8_t value)
{
    write_field(w, id, PQ_THRIFT_I8);
    pq_buffer_add_byte(w->out, (uint8_t)value);
}

void pq_thrift_write_i16(struct pq_thrift_writer *w, int16_t id, int16_t value)
{
    write_field(w, id, PQ_THRIFT_I16);
    write_zigzag(w, value);
}

void pq_thrift_write_i32(struct pq_thrift_writer *w, int16_t id, int32_t value)
{
    write_field(w, id, PQ_THRIFT_I32);
    write_zigzag(w, value);
}

void pq_thrift_write_i64(struct pq_thrift_writer *w, int16_t id, int64_t value)
{
    write_field(w, id, PQ_THRIFT_I64);
    write_zigzag(w, value);
}

void pq_thrift_write_binary(struct pq_thrift_writer *w, int16_t id, const void *data, size_t len)
{
    write_field(w, id, PQ_THRIFT_BINARY);
    pq_thrift_write_binary_element(w, data, len);
}

void pq_thrift_write_list(struct pq_thrift_writer *w, int16_t id, uint8_t element_type,
                          size_t count)
{
    assert(count <= INT32_MAX);
    write_field(w, id, PQ_THRIFT_LIST);
    if (count <= LIST_SHORT_MAX) {
        pq_buffer_add_byte(w->out, (uint8_t)((count << 4) | element_type));
    } else {
        pq_buffer_add_byte(w->out, (uint8_t)(0xf0 | element_type));
        pq_buffer_add_varint(w->out, count);
    }
}

void pq_thrift_write_i32_element(struct pq_thrift_writer *w, int32_t value)
{
    write_zigzag(w, value);
}

void pq_thrift_write_i64_element(struct pq_thrift_writer *w, int64_t value)
{
    write_zigzag(w, value);
}

void pq_thrift_write_bool_element(struct pq_thrift_writer *w, bool value)
{
    pq_buffer_add_byte(w->out, value ? PQ_THRIFT_TRUE : PQ_THRIFT_FALSE);
}

void pq_thrift_write_binary_element(struct pq_thrift_writer *w, const void *data, size_t len)
{
    pq_buffer_add_varint(w->out, len);
    pq_buffer_add(w->out, data, len);
}
