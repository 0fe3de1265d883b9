/* import_jsonl.c: one record a line, as REST takes them, but for what an export adds and a write
 * does not take: version, created_at and updated_at. Vectors are read here, metadata is only looked
 * through: the server reads it. Empty lines are passed by. */
#include "base/clock.h"
#include "base/heap.h"
#include "base/json.h"
#include "server/import_reader.h"
#include "server/line_file.h"

#include "base/no_libc_heap.h"

enum { FLOATS_FIRST = 4096 };

struct jsonl {
    struct import_reader reader; /* first */
    struct line_file file;
    struct arena arena; /* of a line */
    size_t floats_hint; /* of the vector before */
};

static struct jsonl *of(struct import_reader *reader)
{
    return (struct jsonl *)(void *)reader;
}

static int no_memory(const struct json_reader *r)
{
    return trail_add(r->trail, PDB_RESOURCE_EXHAUSTED, "no memory");
}

/* ---- members ---- */

/* Again with more room if the vector was longer than the one before. */
static int read_vector(struct jsonl *j, struct json_reader *r, struct pdb_text field,
                       struct import_record *record)
{
    const struct json_reader before = *r;
    size_t capacity = j->floats_hint, count = 0;
    float *values = NULL;
    do {
        capacity = count > capacity ? count : capacity;
        values = arena_array(&j->arena, float, capacity);
        if (values == NULL)
            return no_memory(r);
        *r = before;
        int rc = json_read_floats(r, values, capacity, &count);
        if (rc < 0)
            return rc;
        if (count > PDB_DIMENSION_MAX)
            return json_fail(r, "a vector of %zu values: at most %d", count, PDB_DIMENSION_MAX);
    } while (count > capacity);
    j->floats_hint = count != 0 ? count : j->floats_hint;
    return import_add_floats(j->reader.target, record, field, values, count, r->trail);
}

static int read_vectors(struct jsonl *j, struct json_reader *r, struct import_record *record)
{
    bool first = true;
    struct pdb_text field;
    int rc = json_enter_object(r);
    while (rc == 0 && (rc = json_object_next(r, &j->arena, &first, &field)) > 0)
        rc = read_vector(j, r, field, record);
    return rc;
}

/* RFC 3339 text, or integer microseconds. */
static int read_expiry(struct jsonl *j, struct json_reader *r, struct import_record *record)
{
    struct pdb_text text;
    record->has_expires_at = true;
    if (json_peek(r) == JSON_NUMBER)
        return json_read_i64(r, &record->expires_at_us);
    int rc = json_read_string(r, &j->arena, &text);
    if (rc == 0 && clock_parse(text.ptr, text.len, &record->expires_at_us) != 0)
        return json_fail(r, "expires_at: '%.*s' is no RFC 3339 time",
                         text.len < 64 ? (int)text.len : 64, text.ptr);
    return rc;
}

static int read_metadata(struct json_reader *r, struct import_record *record)
{
    if (json_peek(r) != JSON_OBJECT)
        return json_fail(r, "metadata: expected an object");
    const char *start = r->at;
    int rc = json_skip(r);
    record->metadata = (struct pdb_text){start, (size_t)(r->at - start)};
    return rc;
}

enum member {
    MEMBER_ID,
    MEMBER_VECTOR,
    MEMBER_VECTORS,
    MEMBER_METADATA,
    MEMBER_EXPIRES,
    MEMBER_IF_VERSION,
    MEMBER_OURS,
    MEMBER_COUNT
};

static enum member member_of(struct pdb_text key)
{
    static const struct {
        const char *key;
        enum member member;
    } members[] = {
        {"id", MEMBER_ID},
        {"vector", MEMBER_VECTOR},
        {"vectors", MEMBER_VECTORS},
        {"metadata", MEMBER_METADATA},
        {"expires_at", MEMBER_EXPIRES},
        {"if_version", MEMBER_IF_VERSION},
        {"version", MEMBER_OURS},
        {"created_at", MEMBER_OURS},
        {"updated_at", MEMBER_OURS},
    };
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        if (text_equal(key, text_of(members[i].key)))
            return members[i].member;
    return MEMBER_COUNT;
}

static int read_member(struct jsonl *j, struct json_reader *r, enum member member,
                       struct import_record *record)
{
    if (member == MEMBER_OURS)
        return json_skip(r);
    if (json_peek(r) == JSON_NULL) {
        record->has_expires_at = record->has_expires_at || member == MEMBER_EXPIRES;
        return member == MEMBER_VECTORS ? json_fail(r, "vectors: expected an object")
                                        : json_read_null(r);
    }
    switch (member) {
    case MEMBER_ID:
        return json_read_string(r, &j->arena, &record->id);
    case MEMBER_VECTOR:
        return read_vector(j, r, (struct pdb_text){"", 0}, record);
    case MEMBER_VECTORS:
        return read_vectors(j, r, record);
    case MEMBER_METADATA:
        return read_metadata(r, record);
    case MEMBER_EXPIRES:
        return read_expiry(j, r, record);
    case MEMBER_IF_VERSION:
        record->has_if_version = true;
        return json_read_u64(r, &record->if_version);
    case MEMBER_OURS:
    case MEMBER_COUNT:
        break;
    }
    return 0;
}

/* The object that the reader stands before. */
static int read_record(struct jsonl *j, struct json_reader *r, struct import_record *record)
{
    bool first = true;
    unsigned seen = 0;
    struct pdb_text key;
    int rc = json_enter_object(r);
    while (rc == 0 && (rc = json_object_next(r, &j->arena, &first, &key)) > 0) {
        enum member member = member_of(key);
        int shown = key.len < 64 ? (int)key.len : 64;
        if (member == MEMBER_COUNT)
            return json_fail(r, "unknown member '%.*s'", shown, key.ptr);
        if (member != MEMBER_OURS && (seen >> member & 1) != 0)
            return json_fail(r, "'%.*s' is given twice", shown, key.ptr);
        seen |= 1u << member;
        rc = read_member(j, r, member, record);
    }
    return rc < 0 ? rc : json_finish(r);
}

/* ---- lines ---- */

static bool is_blank(struct pdb_text line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.ptr[i] != ' ' && line.ptr[i] != '\t')
            return false;
    return true;
}

static int next(struct import_reader *reader, struct import_record *record_out, struct trail *trail)
{
    struct jsonl *j = of(reader);
    struct pdb_text line;
    int rc = 0;
    do {
        rc = line_file_next(&j->file, &line, trail);
        if (rc <= 0)
            return rc;
        reader->row++;
    } while (is_blank(line));
    struct json_reader r;
    *record_out = (struct import_record){0};
    arena_reset(&j->arena);
    json_open(&r, line.ptr, line.len, DOC_DEPTH_MAX, trail);
    if (json_peek(&r) != JSON_OBJECT)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "not a JSON object");
    rc = read_record(j, &r, record_out);
    if (rc < 0)
        return rc == PDB_RESOURCE_EXHAUSTED ? rc : PDB_INVALID_ARGUMENT;
    if (record_out->id.len == 0)
        rc = import_make_id(reader, &record_out->id, trail);
    return rc < 0 ? rc : 1;
}

static int skip(struct import_reader *reader, uint64_t row_count, struct trail *trail)
{
    struct pdb_text line;
    int rc = 1;
    for (uint64_t i = 0; i < row_count && rc > 0; i++) {
        rc = line_file_next(&of(reader)->file, &line, trail);
        reader->row += rc > 0;
    }
    return rc < 0 ? rc : 0;
}

static uint64_t offset(const struct import_reader *reader)
{
    return ((const struct jsonl *)(const void *)reader)->file.offset;
}

/* From the first line. */
static int shape(struct import_reader *reader, struct arena *arena, struct import_shape *shape_out,
                 struct trail *trail)
{
    struct import_record record;
    struct transfer_collection *c = &shape_out->collection;
    int rc = next(reader, &record, trail);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "no record to take the dimension from");
    for (uint32_t i = 0; i < record.vector_count; i++) {
        const struct import_vector *v = &record.vectors[i];
        struct pdb_text name = arena_copy_text(arena, v->field.ptr, v->field.len);
        if (name.ptr == NULL)
            return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
        c->fields[c->field_count++] =
            (struct transfer_field){.name = name, .dimension = (uint32_t)(v->len / sizeof(float))};
    }
    return 0;
}

static void close_it(struct import_reader *reader)
{
    struct jsonl *j = of(reader);
    line_file_close(&j->file);
    arena_dispose(&j->arena);
    heap_free(NULL, j);
}

static const struct import_reader_ops ops = {next, skip, offset, shape, close_it};

int import_jsonl_open(const struct import_target *target, const char *path,
                      struct import_reader **reader_out, struct trail *trail)
{
    struct jsonl *j = heap_calloc(NULL, 1, sizeof(*j));
    if (j == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    j->reader = (struct import_reader){.ops = &ops,
                                       .target = target,
                                       .path = path,
                                       .row_word = "line",
                                       .row_count = IMPORT_ROWS_UNKNOWN};
    j->floats_hint = FLOATS_FIRST;
    arena_init(&j->arena, 0);
    int rc = import_file_bytes(path, &j->reader.bytes, trail);
    if (rc == 0)
        rc = line_file_open(&j->file, path, trail);
    if (rc < 0) {
        close_it(&j->reader);
        return rc;
    }
    *reader_out = &j->reader;
    return 0;
}
