/* protobuf_check.c: a message against its type before anything is made of it, and unpacking through
 * protobuf-c.
 *
 * protobuf-c unpacks nested messages by recursion without a limit, takes any bytes as text and any
 * number as an enum. So every message is walked here first, iteratively: a stack of at most 64 open
 * messages over one position that only moves forward. The path of what is wrong is put together
 * from the stack when it is needed; indexes of repeated fields are counted again then. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/utf8.h"
#include "transport/codec/protobuf_wire.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/no_libc_heap.h"

struct open_message {
    const ProtobufCMessageDescriptor *type;
    const uint8_t *start, *end;
    const uint8_t *field_at;               /* where its present field begins */
    const ProtobufCFieldDescriptor *field; /* NULL: one the type does not have */
};

struct checker {
    struct open_message open[PROTOBUF_DEPTH_MAX];
    unsigned depth;
    struct protobuf_reader at;
    bool c_strings; /* NUL ends them */
    struct protobuf_place place;
    struct trail *trail;
};

int protobuf_fail(struct trail *trail, struct protobuf_place place, int code, const char *member,
                  const char *format, ...)
{
    char what[TRAIL_TEXT_MAX], where[64] = "";
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    if (place.name != NULL && place.indexed)
        (void)snprintf(where, sizeof(where), "%s[%u]", place.name, place.index);
    else if (place.name != NULL)
        (void)snprintf(where, sizeof(where), "%s", place.name);
    bool has_member = member[0] != '\0', has_where = where[0] != '\0';
    return trail_add(trail, code, "%s%s%s%s%s", where, has_where && has_member ? "." : "", member,
                     has_where || has_member ? ": " : "", what);
}

/* How many fields like the present one came before it. */
static unsigned index_of_present(const struct open_message *m)
{
    struct protobuf_reader r = {m->start, m->field_at};
    struct protobuf_field f;
    unsigned index = 0;
    while (protobuf_next(&r, &f) > 0)
        index += f.number == m->field->id;
    return index;
}

static int fail(const struct checker *c, const char *what)
{
    char path[256] = "";
    size_t len = 0;
    for (unsigned i = 0; i < c->depth && len < sizeof(path); i++) {
        const struct open_message *m = &c->open[i];
        if (m->field == NULL)
            break;
        int n = snprintf(path + len, sizeof(path) - len, "%s%s", i != 0 ? "." : "", m->field->name);
        len += (size_t)n;
        if (m->field->label == PROTOBUF_C_LABEL_REPEATED && len < sizeof(path)) {
            n = snprintf(path + len, sizeof(path) - len, "[%u]", index_of_present(m));
            len += (size_t)n;
        }
    }
    return protobuf_fail(c->trail, c->place, PDB_INVALID_ARGUMENT, path, "%s", what);
}

static enum protobuf_wire_type wire_type_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        return PROTOBUF_VARINT;
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return PROTOBUF_FIXED32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return PROTOBUF_FIXED64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    return PROTOBUF_BYTES;
}

static int check_varint(const struct checker *c, const ProtobufCFieldDescriptor *field,
                        uint64_t value)
{
    if (field->type == PROTOBUF_C_TYPE_ENUM &&
        protobuf_c_enum_descriptor_get_value(field->descriptor, (int)(int32_t)(uint32_t)value) ==
            NULL)
        return fail(c, "not a value of this enum");
    if (field->type == PROTOBUF_C_TYPE_UINT32 && value > UINT32_MAX)
        return fail(c, "more than 32 bits");
    return 0;
}

/* Scalars of a repeated field in one run. */
static int check_packed(const struct checker *c, const ProtobufCFieldDescriptor *field,
                        struct pdb_text run)
{
    enum protobuf_wire_type type = wire_type_of(field->type);
    if (type != PROTOBUF_VARINT)
        return run.len % (type == PROTOBUF_FIXED32 ? 4 : 8) == 0
                   ? 0
                   : fail(c, "a packed run that ends within a value");
    /* A run of varints has no tags: each is read as the value of a field, one at a time. */
    uint64_t value = 0;
    unsigned shift = 0;
    for (size_t i = 0; i < run.len; i++) {
        uint8_t byte = (uint8_t)run.ptr[i];
        if (shift == 63 && byte > 1)
            return fail(c, "malformed");
        value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
        if (byte >= 0x80)
            continue;
        int rc = check_varint(c, field, value);
        if (rc < 0)
            return rc;
        value = 0;
        shift = 0;
    }
    return shift == 0 ? 0 : fail(c, "a packed run that ends within a value");
}

static int check_string(const struct checker *c, struct pdb_text text)
{
    if (utf8_invalid_at(text.ptr, text.len) != text.len)
        return fail(c, "invalid UTF-8");
    if (c->c_strings && text.len != 0 && memchr(text.ptr, '\0', text.len) != NULL)
        return fail(c, "a NUL character");
    return 0;
}

static int open_message(struct checker *c, const ProtobufCMessageDescriptor *type,
                        struct pdb_text bytes)
{
    if (c->depth == PROTOBUF_DEPTH_MAX) {
        char what[64];
        (void)snprintf(what, sizeof(what), "nested more than %d deep", PROTOBUF_DEPTH_MAX);
        return fail(c, what);
    }
    c->at = protobuf_reader_of(bytes);
    c->open[c->depth++] = (struct open_message){
        .type = type, .start = c->at.at, .end = c->at.end, .field_at = c->at.at};
    return 0;
}

static int check_field(struct checker *c, const ProtobufCFieldDescriptor *field,
                       const struct protobuf_field *f)
{
    enum protobuf_wire_type type = wire_type_of(field->type);
    if (f->type == PROTOBUF_BYTES && type != PROTOBUF_BYTES &&
        field->label == PROTOBUF_C_LABEL_REPEATED)
        return check_packed(c, field, f->bytes);
    if (f->type != type)
        return fail(c, "a wire type that does not fit the field");
    if (type == PROTOBUF_VARINT)
        return check_varint(c, field, f->value);
    if (field->type == PROTOBUF_C_TYPE_STRING)
        return check_string(c, f->bytes);
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return open_message(c, field->descriptor, f->bytes);
    return 0;
}

static int check(struct checker *c, const ProtobufCMessageDescriptor *type, struct pdb_text message)
{
    uint32_t fields = 0;
    int rc = open_message(c, type, message);
    while (rc == 0 && c->depth != 0) {
        struct open_message *m = &c->open[c->depth - 1];
        c->at.end = m->end;
        if (c->at.at == m->end) {
            c->depth--;
            continue;
        }
        struct protobuf_field f;
        m->field_at = c->at.at;
        m->field = NULL;
        if (protobuf_next(&c->at, &f) < 0)
            return fail(c, "malformed");
        m->field = protobuf_c_message_descriptor_get_field(m->type, f.number);
        if (++fields > PROTOBUF_FIELDS_MAX)
            return fail(c, "too many fields in one message");
        if (m->field != NULL)
            rc = check_field(c, m->field, &f);
    }
    return rc;
}

int protobuf_check(const ProtobufCMessageDescriptor *type, struct pdb_text message,
                   struct protobuf_place place, struct trail *trail)
{
    struct checker c; /* not zeroed: its stack is 2.5 KB */
    c.depth = 0;
    c.c_strings = false;
    c.place = place;
    c.trail = trail;
    return check(&c, type, message);
}

/* ---- unpacking ---- */

static void *alloc_in_arena(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void leave_to_arena(void *arena, void *ptr)
{
    (void)arena;
    (void)ptr;
}

void *protobuf_unpack(const ProtobufCMessageDescriptor *type, struct pdb_text message,
                      struct arena *arena, struct trail *trail)
{
    struct checker c = {.c_strings = true, .trail = trail};
    if (check(&c, type, message) < 0)
        return NULL;
    ProtobufCAllocator allocator = {alloc_in_arena, leave_to_arena, arena};
    void *unpacked =
        protobuf_c_message_unpack(type, &allocator, message.len, protobuf_reader_of(message).at);
    if (unpacked == NULL) /* well-formed it is */
        (void)trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for the message");
    return unpacked;
}
