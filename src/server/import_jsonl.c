/* import_jsonl.c: one record a line, as REST takes them. A line is checked to be one JSON object
 * and sent on as it is, but for what an export adds and a write does not take: version, created_at
 * and updated_at. Empty lines are passed by. */
#include "base/heap.h"
#include "base/json.h"
#include "server/import_reader.h"
#include "server/line_file.h"

#include "base/no_libc_heap.h"

struct jsonl {
    struct import_reader reader; /* first */
    struct line_file file;
    struct arena arena;
};

static struct jsonl *of(struct import_reader *reader)
{
    return (struct jsonl *)(void *)reader;
}

static bool is_ours(struct pdb_text key)
{
    return text_equal(key, TEXT_LIT("version")) || text_equal(key, TEXT_LIT("created_at")) ||
           text_equal(key, TEXT_LIT("updated_at"));
}

/* Copies the members of the object that the reader stands before. */
static int copy_members(struct jsonl *j, struct json_reader *r, struct buffer *record)
{
    bool first = true, first_out = true, has_id = false;
    struct pdb_text key;
    int rc = json_enter_object(r);
    buffer_add_byte(record, '{');
    while (rc == 0 && (rc = json_object_next(r, &j->arena, &first, &key)) > 0) {
        (void)json_peek(r); /* white space is behind us */
        const char *start = r->at;
        bool null = json_peek(r) == JSON_NULL;
        rc = json_skip(r);
        if (rc < 0)
            return rc;
        if (is_ours(key))
            continue;
        has_id = has_id || (!null && text_equal(key, TEXT_LIT("id")));
        if (null && text_equal(key, TEXT_LIT("id")))
            continue;
        if (!first_out)
            buffer_add_byte(record, ',');
        first_out = false;
        json_write_string(record, key);
        buffer_add_byte(record, ':');
        buffer_add(record, start, (size_t)(r->at - start));
    }
    if (rc == 0 && !has_id && j->reader.target->ids_by_row) {
        buffer_format(record, "%s\"id\":\"%llu\"", first_out ? "" : ",",
                      (unsigned long long)(j->reader.row_base + j->reader.row - 1));
    } else if (!has_id) {
        j->reader.ids_made = true;
    }
    buffer_add_byte(record, '}');
    return rc < 0 ? rc : json_finish(r);
}

static bool is_blank(struct pdb_text line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.ptr[i] != ' ' && line.ptr[i] != '\t')
            return false;
    return true;
}

static int next(struct import_reader *reader, struct buffer *record, struct trail *trail)
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
    arena_reset(&j->arena);
    json_open(&r, line.ptr, line.len, DOC_DEPTH_MAX, trail);
    if (json_peek(&r) != JSON_OBJECT)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "not a JSON object");
    rc = copy_members(j, &r, record);
    return rc < 0 ? PDB_INVALID_ARGUMENT : 1;
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

static uint32_t count_elements(const struct doc_value *value)
{
    return value->type == DOC_ARRAY ? value->children.count : 0;
}

/* From the first line. */
static int shape(struct import_reader *reader, struct arena *arena, struct import_shape *shape_out,
                 struct trail *trail)
{
    struct buffer record;
    struct pdb_text doc, key;
    struct doc_value value, vector;
    struct transfer_collection *c = &shape_out->collection;
    buffer_init_arena(&record, arena, 0);
    int rc = next(reader, &record, trail);
    if (rc < 0)
        return rc;
    if (rc == 0 || !transfer_read_doc(arena, (struct pdb_text){record.ptr, record.len}, &doc))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "no record to take the dimension from");
    struct doc_value root = doc_root(doc.ptr, doc.len);
    if (doc_get(&root, TEXT_LIT("vector"), &vector))
        c->fields[c->field_count++] =
            (struct transfer_field){.name = {"", 0}, .dimension = count_elements(&vector)};
    if (doc_get(&root, TEXT_LIT("vectors"), &value) && value.type == DOC_OBJECT) {
        struct doc_iter iter = doc_iterate(&value);
        while (c->field_count < PDB_FIELD_MAX && doc_next(&iter, &key, &vector))
            c->fields[c->field_count++] =
                (struct transfer_field){.name = key, .dimension = count_elements(&vector)};
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
