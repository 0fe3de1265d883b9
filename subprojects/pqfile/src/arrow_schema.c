/* arrow_schema.c: the Arrow IPC message "schema" of a Parquet schema; see arrow.h.
 *
 *     ff ff ff ff | length (4) | flatbuffer Message, padded to 8
 *
 * Message, Schema, Field and the types are tables of Arrow's format/Message.fbs and Schema.fbs; the
 * slots below are their fields' positions. A LIST's repeated group in the middle is Parquet's
 * alone: Arrow's list has the element as its child. A repeated field outside of any LIST is a list
 * of itself. Fields are walked by recursion, as deep as schema.c allows. */
#include "arrow_schema.h"

#include <assert.h>
#include <string.h>

#include "error.h"
#include "flatbuffer.h"
#include "metadata.h"
#include "pqfile/arrow.h"
#include "schema.h"

enum { METADATA_V5 = 4, HEADER_SCHEMA = 1, PREFIX_BYTES = 8, MESSAGE_ALIGNMENT = 8 };

/* The union Type. */
enum arrow_type {
    ARROW_NULL = 1,
    ARROW_INT = 2,
    ARROW_FLOAT = 3,
    ARROW_BINARY = 4,
    ARROW_UTF8 = 5,
    ARROW_BOOL = 6,
    ARROW_DECIMAL = 7,
    ARROW_DATE = 8,
    ARROW_TIME = 9,
    ARROW_TIMESTAMP = 10,
    ARROW_LIST = 12,
    ARROW_STRUCT = 13,
    ARROW_FIXED_BINARY = 15,
    ARROW_FIXED_LIST = 16,
    ARROW_MAP = 17,
};

/* What Arrow makes of one field: a type with up to two numbers. */
struct meaning {
    enum arrow_type type;
    uint32_t first; /* bits, precision, unit, size */
    uint32_t second;
    bool utc;
};

static uint32_t arrow_unit(enum pqfile_unit unit)
{
    return (uint32_t)unit; /* MILLI 1, MICRO 2, NANO 3: the same numbers */
}

static struct meaning meaning_of_physical(const struct pqfile_field *f)
{
    enum { SINGLE = 1, DOUBLE = 2 };
    switch (f->type) {
    case PQFILE_BOOLEAN:
        return (struct meaning){.type = ARROW_BOOL};
    case PQFILE_INT32:
        return (struct meaning){ARROW_INT, 32, true, false};
    case PQFILE_INT64:
        return (struct meaning){ARROW_INT, 64, true, false};
    case PQFILE_FLOAT:
        return (struct meaning){.type = ARROW_FLOAT, .first = SINGLE};
    case PQFILE_DOUBLE:
        return (struct meaning){.type = ARROW_FLOAT, .first = DOUBLE};
    case PQFILE_FIXED_LEN_BYTE_ARRAY:
        return (struct meaning){.type = ARROW_FIXED_BINARY, .first = f->type_length};
    case PQFILE_INT96:
    case PQFILE_BYTE_ARRAY:
    default:
        return (struct meaning){.type = ARROW_BINARY};
    }
}

static struct meaning meaning_of_leaf(const struct pqfile_field *f)
{
    const struct pqfile_logical *l = &f->logical;
    switch (l->kind) {
    case PQFILE_LOGICAL_STRING:
    case PQFILE_LOGICAL_ENUM:
    case PQFILE_LOGICAL_JSON:
        return (struct meaning){.type = ARROW_UTF8};
    case PQFILE_LOGICAL_DECIMAL:
        return (struct meaning){ARROW_DECIMAL, (uint32_t)l->precision, (uint32_t)l->scale, false};
    case PQFILE_LOGICAL_DATE:
        return (struct meaning){.type = ARROW_DATE};
    case PQFILE_LOGICAL_TIME:
        return (struct meaning){ARROW_TIME, arrow_unit(l->unit), l->unit == PQFILE_MILLIS ? 32 : 64,
                                false};
    case PQFILE_LOGICAL_TIMESTAMP:
        return (struct meaning){ARROW_TIMESTAMP, arrow_unit(l->unit), 0, l->utc};
    case PQFILE_LOGICAL_INTEGER:
        return (struct meaning){ARROW_INT, l->bits, l->is_signed, false};
    case PQFILE_LOGICAL_UNKNOWN:
        return (struct meaning){.type = ARROW_NULL};
    case PQFILE_LOGICAL_FLOAT16:
        return (struct meaning){.type = ARROW_FLOAT, .first = 0};
    case PQFILE_LOGICAL_NONE:
    case PQFILE_LOGICAL_MAP:
    case PQFILE_LOGICAL_LIST:
    case PQFILE_LOGICAL_BSON:
    case PQFILE_LOGICAL_UUID:
    case PQFILE_LOGICAL_OTHER:
    default:
        return meaning_of_physical(f);
    }
}

static struct meaning meaning_of(const struct pqfile_field *f)
{
    if (f->child_count == 0)
        return meaning_of_leaf(f);
    if (f->logical.kind == PQFILE_LOGICAL_LIST && f->list_size > 0)
        return (struct meaning){.type = ARROW_FIXED_LIST, .first = f->list_size};
    if (f->logical.kind == PQFILE_LOGICAL_LIST)
        return (struct meaning){.type = ARROW_LIST};
    return (struct meaning){.type =
                                f->logical.kind == PQFILE_LOGICAL_MAP ? ARROW_MAP : ARROW_STRUCT};
}

/* ---- tables ---- */

/* The table of a type. Slots that hold a type's default are written all the same. */
static void write_type(struct pq_flat *flat, size_t place, struct meaning m)
{
    enum { SHORT = 2, INT = 4, DECIMAL128_DIGITS = 38 };
    struct pq_flat_table t = pq_flat_table(flat, place, 3);
    switch (m.type) {
    case ARROW_INT:
        pq_flat_scalar(flat, &t, 0, m.first, INT);
        pq_flat_scalar(flat, &t, 1, m.second, 1);
        break;
    case ARROW_FLOAT:
    case ARROW_DATE:
        pq_flat_scalar(flat, &t, 0, m.first, SHORT);
        break;
    case ARROW_DECIMAL:
        pq_flat_scalar(flat, &t, 0, m.first, INT);
        pq_flat_scalar(flat, &t, 1, m.second, INT);
        pq_flat_scalar(flat, &t, 2, m.first <= DECIMAL128_DIGITS ? 128 : 256, INT);
        break;
    case ARROW_TIME:
        pq_flat_scalar(flat, &t, 0, m.first, SHORT);
        pq_flat_scalar(flat, &t, 1, m.second, INT);
        break;
    case ARROW_TIMESTAMP:
        pq_flat_scalar(flat, &t, 0, m.first, SHORT);
        if (m.utc)
            pq_flat_text(flat, pq_flat_offset(flat, &t, 1), "UTC");
        break;
    case ARROW_FIXED_BINARY:
    case ARROW_FIXED_LIST:
        pq_flat_scalar(flat, &t, 0, m.first, INT);
        break;
    case ARROW_NULL:
    case ARROW_BINARY:
    case ARROW_UTF8:
    case ARROW_BOOL:
    case ARROW_LIST:
    case ARROW_STRUCT:
    case ARROW_MAP:
    default:
        break;
    }
}

/* A Field up to its children; returns the place of the first of them. */
static size_t write_field_head(struct pq_flat *flat, size_t place, const struct pqfile_field *f,
                               bool nullable, struct meaning m, uint32_t child_count)
{
    struct pq_flat_table t = pq_flat_table(flat, place, 6);
    size_t name = pq_flat_offset(flat, &t, 0);
    pq_flat_scalar(flat, &t, 1, nullable, 1);
    pq_flat_scalar(flat, &t, 2, (uint64_t)m.type, 1);
    size_t type = pq_flat_offset(flat, &t, 3);
    size_t children = pq_flat_offset(flat, &t, 5);
    pq_flat_text(flat, name, f->name);
    write_type(flat, type, m);
    return pq_flat_vector(flat, children, child_count);
}

static size_t write_field(struct pq_flat *flat, size_t place, const struct pqfile_field *fields,
                          size_t i, bool is_item);

/* Children of a group, which begin at field i; returns the field after them. */
static size_t write_children(struct pq_flat *flat, size_t places, const struct pqfile_field *fields,
                             size_t i, uint32_t count)
{
    for (uint32_t child = 0; child < count; child++)
        i = write_field(flat, places + (size_t)child * 4, fields, i, false);
    return i;
}

/* `is_item`: the repetition of field i was accounted for by the list around it. Returns the field
 * after i and all below it. */
static size_t write_field(struct pq_flat *flat, size_t place, const struct pqfile_field *fields,
                          size_t i, bool is_item)
{
    const struct pqfile_field *f = &fields[i];
    struct meaning m = meaning_of(f);
    if (f->repetition == PQFILE_REPEATED && !is_item) {
        struct meaning list = {.type = ARROW_LIST};
        size_t child = write_field_head(flat, place, f, false, list, 1);
        return write_field(flat, child, fields, i, true);
    }
    bool nullable = f->repetition == PQFILE_OPTIONAL;
    bool is_list = m.type == ARROW_LIST || m.type == ARROW_FIXED_LIST;
    size_t child = write_field_head(flat, place, f, nullable, m, f->child_count);
    if (is_list) /* over the group in the middle */
        return write_field(flat, child, fields, i + 2, false);
    if (m.type == ARROW_MAP)
        return write_field(flat, child, fields, i + 1, true);
    return write_children(flat, child, fields, i + 1, f->child_count);
}

static void write_message(struct pq_buffer *out, const struct pqfile_field *fields,
                          size_t field_count)
{
    struct pq_flat flat;
    uint32_t top = 0; /* fields of the root */
    pq_flat_begin(&flat, out);
    struct pq_flat_table message = pq_flat_table(&flat, pq_flat_place(&flat), 4);
    pq_flat_scalar(&flat, &message, 0, METADATA_V5, 2);
    pq_flat_scalar(&flat, &message, 1, HEADER_SCHEMA, 1);
    size_t header = pq_flat_offset(&flat, &message, 2);
    pq_flat_scalar(&flat, &message, 3, 0, 8);
    struct pq_flat_table schema = pq_flat_table(&flat, header, 2);
    pq_flat_scalar(&flat, &schema, 0, 0, 2); /* little-endian */
    size_t vector = pq_flat_offset(&flat, &schema, 1);
    for (size_t i = 0, below = 0; i < field_count; i++) {
        top += below == 0;
        below -= below > 0;
        below += fields[i].child_count;
    }
    (void)write_children(&flat, pq_flat_vector(&flat, vector, top), fields, 0, top);
}

/* ---- base64, RFC 4648 section 4 ---- */

static void add_base64(struct pq_buffer *out, const uint8_t *bytes, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t bits = (uint32_t)bytes[i] << 16;
        bits |= n > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        bits |= n > 2 ? (uint32_t)bytes[i + 2] : 0;
        for (size_t digit = 0; digit < 4; digit++) {
            char c = digit <= n ? digits[bits >> (18 - 6 * digit) & 63] : '=';
            pq_buffer_add_byte(out, (uint8_t)c);
        }
    }
}

int pq_arrow_schema_encode(const struct pqfile_field *fields, size_t field_count,
                           const struct pqfile_allocator *allocator, struct pq_buffer *base64,
                           struct pqfile_error *error)
{
    struct pq_buffer message;
    pq_buffer_init(&message, allocator);
    pq_buffer_clear(base64);
    pq_buffer_add_u32(&message, UINT32_MAX);
    pq_buffer_add_u32(&message, 0);
    write_message(&message, fields, field_count);
    if (message.len % MESSAGE_ALIGNMENT != 0)
        pq_buffer_add_zeros(&message, MESSAGE_ALIGNMENT - message.len % MESSAGE_ALIGNMENT);
    if (!message.failed) {
        uint32_t len = (uint32_t)(message.len - PREFIX_BYTES);
        memcpy(message.data + 4, &len, sizeof len);
        add_base64(base64, message.data, message.len);
    }
    bool failed = message.failed || base64->failed;
    pq_buffer_dispose(&message);
    return failed ? pq_error_plain(error, PQFILE_NO_MEMORY) : 0;
}

int pqfile_arrow_schema(const struct pqfile_field *fields, size_t field_count,
                        const struct pqfile_allocator *allocator, char **base64_out,
                        size_t *len_out, struct pqfile_error *error_out)
{
    struct pqfile_allocator memory = pq_allocator(allocator);
    struct pqfile_metadata checked;
    struct pq_arena arena;
    struct pq_buffer base64;
    if (fields == NULL)
        return pq_error(error_out, PQFILE_INVALID, "fields are missing");
    pq_arena_init(&arena, &memory, SIZE_MAX);
    pq_buffer_init(&base64, &memory);
    int rc = pq_schema_build(fields, field_count, &arena, &checked, error_out);
    if (rc == 0)
        rc = pq_arrow_schema_encode(fields, field_count, &memory, &base64, error_out);
    pq_arena_dispose(&arena);
    pq_buffer_add_byte(&base64, '\0');
    if (rc == 0 && base64.failed)
        rc = pq_error_plain(error_out, PQFILE_NO_MEMORY);
    if (rc < 0) {
        pq_buffer_dispose(&base64);
        return rc;
    }
    *base64_out = (char *)base64.data;
    *len_out = base64.len - 1;
    return 0;
}
