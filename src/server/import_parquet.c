/* import_parquet.c: the rows of a Parquet file as records.
 *
 * The file is read by pread, a page of each column at a time, so that memory is bounded by the
 * pages that others have chosen, and a file that shrinks meanwhile is an error and no signal.
 *
 * Of our own segments only the newest version of an id counts: of rows with one id the first. */
#include "base/heap.h"
#include "base/json.h"
#include "base/utf8.h"
#include "server/import_columns.h"
#include "server/parquet_values.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum { SCHEMA_DEPTH_MAX = 24, COLUMN_MEMORY_MAX = 512 << 20 };

struct parquet {
    struct import_reader reader; /* first */
    int fd;
    struct pqfile_reader *file;
    struct parquet_rows rows;
    struct import_columns columns;
    struct arena arena;     /* of the file */
    struct arena row_arena; /* of one row */
    struct buffer metadata; /* of the row: members of an object */
    struct buffer id;       /* of the row, where it is no text */
    struct buffer last_id;  /* ours: of the row before */
    uint64_t bytes_before;  /* of the row groups before this one */
};

static struct parquet *of(struct import_reader *reader)
{
    return (struct parquet *)(void *)reader;
}

/* ---- one record ---- */

static const char *column_name(const struct parquet *p, const struct import_column *column)
{
    return p->rows.metadata->nodes[column->node].name;
}

static int add_bits(struct parquet *p, const struct import_column *column,
                    struct import_record *record, struct trail *trail)
{
    struct pqfile_bytes bytes;
    if (parquet_rows_bytes(&p->rows, column->node, &bytes) == 0)
        return 0;
    size_t expected = column->dimension != 0 ? (column->dimension + 7) / 8 : bytes.len;
    if (bytes.len != expected || record->vector_count == PDB_FIELD_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%zu bytes, expected %zu", bytes.len,
                         expected);
    record->vectors[record->vector_count++] =
        (struct import_vector){column->name, bytes.data, bytes.len};
    return 1;
}

static int add_vector(struct parquet *p, struct import_column *column, struct import_record *record,
                      struct trail *trail)
{
    size_t count = 0;
    if (column->bits)
        return add_bits(p, column, record, trail);
    size_t capacity = column->dimension != 0 ? column->dimension : PDB_DIMENSION_MAX;
    if (column->values == NULL)
        column->values = arena_array(&p->arena, float, capacity);
    if (column->values == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    int rc = parquet_rows_floats(&p->rows, column->node, column->values, capacity, &count, trail);
    if (rc <= 0)
        return rc;
    if (column->dimension != 0 ? count != column->dimension
                               : count == 0 || count > PDB_DIMENSION_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%zu elements, expected %u", count,
                         column->dimension != 0 ? column->dimension : PDB_DIMENSION_MAX);
    return import_add_floats(p->reader.target, record, column->name, column->values, count, trail);
}

/* No vector at all is the server's to refuse. */
static int add_vectors(struct parquet *p, struct import_record *record, struct trail *trail)
{
    for (uint32_t i = 0; i < p->columns.count; i++) {
        struct import_column *column = &p->columns.all[i];
        if (column->role != IMPORT_VECTOR)
            continue;
        int rc = add_vector(p, column, record, trail);
        if (rc < 0)
            return trail_add(trail, rc, "column '%s'", column_name(p, column));
    }
    return 0;
}

/* Text as it is; a number in digits; a UUID as text. 0: it is null. */
static int read_id(struct parquet *p, const struct import_column *column, struct pdb_text *id_out,
                   struct trail *trail)
{
    const struct pqfile_node *node = &p->rows.metadata->nodes[column->node];
    struct pqfile_bytes bytes;
    p->id.len = 0;
    if (node->type != PQFILE_BYTE_ARRAY) {
        int rc = parquet_rows_value(&p->rows, column->node, &p->id, trail);
        bool quoted = rc > 0 && p->id.ptr[0] == '"';
        *id_out = (struct pdb_text){p->id.ptr + (quoted ? 1 : 0), p->id.len - (quoted ? 2 : 0)};
        return rc > 0 && p->id.failed ? trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory") : rc;
    }
    if (parquet_rows_bytes(&p->rows, column->node, &bytes) == 0)
        return 0;
    *id_out = (struct pdb_text){(const char *)bytes.data, bytes.len};
    if (utf8_invalid_at(id_out->ptr, id_out->len) != id_out->len)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "not UTF-8");
    return bytes.len != 0 ? 1 : trail_add(trail, PDB_INVALID_ARGUMENT, "an empty id");
}

static int add_id(struct parquet *p, struct import_record *record, struct trail *trail)
{
    for (uint32_t i = 0; i < p->columns.count; i++) {
        const struct import_column *column = &p->columns.all[i];
        if (column->role != IMPORT_ID)
            continue;
        int rc = read_id(p, column, &record->id, trail);
        if (rc == 0)
            rc = trail_add(trail, PDB_INVALID_ARGUMENT, "null");
        return rc < 0 ? trail_add(trail, rc, "column '%s'", column_name(p, column)) : 0;
    }
    return import_make_id(&p->reader, &record->id, trail);
}

/* ---- metadata ---- */

/* {"a":{"b":value}} for the path a.b. */
static bool nest(struct parquet *p, struct pdb_text path, struct pdb_text value,
                 struct pdb_text *doc_out)
{
    struct buffer json;
    size_t at = 0, depth = 0;
    buffer_init_arena(&json, &p->row_arena, 0);
    for (bool last = false; !last; depth++) {
        const char *dot = memchr(path.ptr + at, '.', path.len - at);
        size_t end = dot != NULL ? (size_t)(dot - path.ptr) : path.len;
        buffer_add_byte(&json, '{');
        parquet_value_key(&json, (struct pdb_text){path.ptr + at, end - at});
        last = dot == NULL;
        at = end + 1;
    }
    buffer_add_text(&json, value);
    for (; depth > 0; depth--)
        buffer_add_byte(&json, '}');
    return !json.failed &&
           transfer_read_doc(&p->row_arena, (struct pdb_text){json.ptr, json.len}, doc_out);
}

/* Puts the values of declared columns back where the metadata has none at their place. */
static int put_back(struct parquet *p, struct pdb_text *doc, struct trail *trail)
{
    const struct pdb_text stored = *doc;
    struct doc_value root = doc_root(stored.ptr, stored.len), there;
    for (uint32_t i = 0; i < p->columns.count; i++) {
        struct import_column *column = &p->columns.all[i];
        struct buffer value;
        struct pdb_text nested;
        if (column->role != IMPORT_VALUE || doc_find(&root, column->name, &there))
            continue;
        buffer_init_arena(&value, &p->row_arena, 0);
        int rc = parquet_rows_value(&p->rows, column->node, &value, trail);
        if (rc < 0)
            return trail_add(trail, rc, "column '%s'", column_name(p, column));
        if (rc == 0)
            continue;
        struct pdb_text json = {value.ptr, value.len};
        if (!nest(p, column->name, json, &nested) ||
            doc_merge(&p->row_arena, nested, *doc, NULL, 0, doc) < 0)
            return trail_add(trail, PDB_INVALID_ARGUMENT, "column '%s': cannot be put back",
                             column_name(p, column));
    }
    return 0;
}

/* Columns as members of an object, in p->metadata. */
static int add_values(struct parquet *p, struct trail *trail)
{
    struct buffer *out = &p->metadata;
    bool first = true;
    buffer_add_byte(out, '{');
    for (uint32_t i = 0; i < p->columns.count; i++) {
        struct import_column *column = &p->columns.all[i];
        size_t before = out->len;
        if (column->role != IMPORT_VALUE)
            continue;
        if (!first)
            buffer_add_byte(out, ',');
        parquet_value_key(out, column->name);
        int rc = parquet_rows_value(&p->rows, column->node, out, trail);
        if (rc < 0)
            return trail_add(trail, rc, "column '%s'", column_name(p, column));
        if (rc == 0)
            out->len = before;
        else
            first = false;
    }
    buffer_add_byte(out, '}');
    return 0;
}

/* The metadata column's object, as a document. 0: there is none. Text that is no object becomes an
 * ordinary member (of files that are not ours). */
static int stored_metadata(struct parquet *p, struct pdb_text *doc_out, struct trail *trail)
{
    for (uint32_t i = 0; i < p->columns.count; i++) {
        struct pqfile_bytes bytes;
        if (p->columns.all[i].role != IMPORT_METADATA ||
            parquet_rows_bytes(&p->rows, p->columns.all[i].node, &bytes) == 0)
            continue;
        struct pdb_text json = {(const char *)bytes.data, bytes.len};
        if (transfer_read_doc(&p->row_arena, json, doc_out) &&
            doc_root(doc_out->ptr, doc_out->len).type == DOC_OBJECT)
            return 1;
        if (!p->columns.ours) { /* some text of theirs */
            size_t before = p->metadata.len;
            parquet_value_key(&p->metadata, TEXT_LIT("metadata"));
            int rc = parquet_rows_value(&p->rows, p->columns.all[i].node, &p->metadata, trail);
            if (rc > 0)
                return 0;
            p->metadata.len = before;
        }
        return trail_add(trail, PDB_INVALID_ARGUMENT, "column 'metadata': not a JSON object");
    }
    return 0;
}

/* Of ours: without declared columns the text is all there is, and the server reads it. */
static bool is_plain(const struct parquet *p)
{
    if (!p->columns.ours || p->reader.target->documents)
        return false;
    for (uint32_t i = 0; i < p->columns.count; i++)
        if (p->columns.all[i].role == IMPORT_VALUE)
            return false;
    return true;
}

static void add_plain_metadata(struct parquet *p, struct import_record *record)
{
    struct pqfile_bytes bytes;
    for (uint32_t i = 0; i < p->columns.count; i++)
        if (p->columns.all[i].role == IMPORT_METADATA &&
            parquet_rows_bytes(&p->rows, p->columns.all[i].node, &bytes) != 0)
            record->metadata = (struct pdb_text){(const char *)bytes.data, bytes.len};
}

/* A text that is called metadata and no object: one member beside the others. */
static int add_values_and(struct parquet *p, struct pdb_text member, struct trail *trail)
{
    p->metadata.len = 0;
    int rc = add_values(p, trail);
    if (rc < 0 || member.len == 0)
        return rc;
    p->metadata.len--;
    buffer_add_text(&p->metadata, p->metadata.len > 1 ? TEXT_LIT(",") : TEXT_LIT(""));
    buffer_add_text(&p->metadata, member);
    buffer_add_byte(&p->metadata, '}');
    return 0;
}

static int add_document(struct parquet *p, struct import_record *record, struct trail *trail)
{
    struct pdb_text doc = {NULL, 0}, values, member = {NULL, 0};
    int stored = stored_metadata(p, &doc, trail);
    if (stored < 0)
        return stored;
    if (p->metadata.len != 0)
        member = arena_copy_text(&p->row_arena, p->metadata.ptr, p->metadata.len);
    int rc = p->columns.ours ? put_back(p, &doc, trail) : add_values_and(p, member, trail);
    if (rc < 0)
        return rc;
    struct pdb_text json = {p->metadata.ptr, p->metadata.len};
    if (!p->columns.ours && stored == 0) {
        record->metadata = json;
        return 0;
    }
    if (!p->columns.ours && (!transfer_read_doc(&p->row_arena, json, &values) ||
                             doc_merge(&p->row_arena, values, doc, NULL, 0, &doc) < 0))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "column 'metadata' cannot be merged");
    struct doc_value root = doc_root(doc.ptr, doc.len);
    p->metadata.len = 0;
    doc_write_json(&p->metadata, &root);
    record->document = doc;
    record->metadata = (struct pdb_text){p->metadata.ptr, p->metadata.len};
    return 0;
}

static int add_metadata(struct parquet *p, struct import_record *record, struct trail *trail)
{
    p->metadata.len = 0;
    if (is_plain(p)) {
        add_plain_metadata(p, record);
        return 0;
    }
    int rc = add_document(p, record, trail);
    return rc == 0 && p->metadata.failed ? trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory")
                                         : rc;
}

/* Version and times of writing only for who reads all there is. */
static bool is_needed(const struct parquet *p, enum import_role role)
{
    bool ours = role == IMPORT_VERSION || role == IMPORT_CREATED || role == IMPORT_UPDATED;
    return !ours || p->reader.target->documents;
}

static int add_numbers(struct parquet *p, struct import_record *record, struct trail *trail)
{
    for (uint32_t i = 0; i < p->columns.count; i++) {
        const struct import_column *column = &p->columns.all[i];
        int64_t number = 0;
        if (column->role < IMPORT_EXPIRES || column->role > IMPORT_UPDATED ||
            !is_needed(p, column->role))
            continue;
        int rc = parquet_rows_int64(&p->rows, column->node, &number, trail);
        if (rc < 0)
            return trail_add(trail, rc, "column '%s'", column_name(p, column));
        if (column->role == IMPORT_EXPIRES) { /* null: never, whatever the collection says */
            record->has_expires_at = true;
            record->expires_at_us = number;
        } else if (column->role == IMPORT_VERSION) {
            record->version = (uint64_t)number;
        } else if (column->role == IMPORT_CREATED) {
            record->created_at_us = number;
        } else {
            record->updated_at_us = number;
        }
    }
    return 0;
}

static int read_record(struct parquet *p, struct import_record *record, struct trail *trail)
{
    arena_reset(&p->row_arena);
    *record = (struct import_record){0};
    int rc = add_id(p, record, trail);
    if (rc == 0)
        rc = add_vectors(p, record, trail);
    if (rc == 0)
        rc = add_metadata(p, record, trail);
    if (rc == 0)
        rc = add_numbers(p, record, trail);
    return rc < 0 ? rc : 1;
}

/* ---- rows ---- */

/* To the next row: 1, 0: the end, or an error of the file. */
static int next_row(struct parquet *p, struct trail *trail)
{
    const struct pqfile_metadata *m = p->rows.metadata;
    if (m->row_group_count == 0)
        return 0;
    int rc = 0;
    if (!p->rows.begun)
        rc = parquet_rows_begin(&p->rows, 0, 0, trail);
    while (rc == 0) {
        rc = parquet_rows_next(&p->rows, trail);
        if (rc != 0 || p->rows.row_group + 1 >= m->row_group_count)
            break;
        p->bytes_before += m->row_groups[p->rows.row_group].stored_bytes;
        rc = parquet_rows_begin(&p->rows, p->rows.row_group + 1, 0, trail);
    }
    if (rc > 0)
        p->reader.row++;
    return rc;
}

/* Ours: an older version of the id before, or a row that ended. */
static bool is_old(struct parquet *p)
{
    const struct import_reader *r = &p->reader;
    uint64_t row = r->row - 1;
    while (p->reader.ended_at < r->ended_count &&
           row >= r->ended[r->ended_at].first + r->ended[r->ended_at].count)
        p->reader.ended_at++;
    bool ended = r->ended_at < r->ended_count && row >= r->ended[r->ended_at].first;
    for (uint32_t i = 0; i < p->columns.count && p->columns.ours; i++) {
        struct pqfile_bytes id;
        if (p->columns.all[i].role != IMPORT_ID ||
            parquet_rows_bytes(&p->rows, p->columns.all[i].node, &id) == 0)
            continue;
        struct pdb_text text = {(const char *)id.data, id.len};
        bool same = text_equal(text, (struct pdb_text){p->last_id.ptr, p->last_id.len});
        if (same && r->ended_count == 0)
            return true;
        p->last_id.len = 0;
        buffer_add_text(&p->last_id, text);
    }
    return ended;
}

static int next(struct import_reader *reader, struct import_record *record_out, struct trail *trail)
{
    struct parquet *p = of(reader);
    int rc;
    do {
        rc = next_row(p, trail);
        if (rc <= 0)
            return rc;
    } while (is_old(p));
    rc = read_record(p, record_out, trail);
    return rc < 0 && rc != PDB_RESOURCE_EXHAUSTED ? PDB_INVALID_ARGUMENT : rc;
}

static int skip(struct import_reader *reader, uint64_t row_count, struct trail *trail)
{
    struct parquet *p = of(reader);
    const struct pqfile_metadata *m = p->rows.metadata;
    uint64_t row = reader->row + row_count < m->row_count ? reader->row + row_count : m->row_count;
    p->bytes_before = 0;
    for (uint32_t g = 0; g < m->row_group_count; g++) {
        const struct pqfile_row_group *group = &m->row_groups[g];
        bool last = g + 1 == m->row_group_count;
        if (row < group->first_row + group->row_count || last) {
            reader->row = row;
            return parquet_rows_begin(&p->rows, g, row - group->first_row, trail);
        }
        p->bytes_before += group->stored_bytes;
    }
    return 0;
}

static uint64_t offset(const struct import_reader *reader)
{
    const struct parquet *p = (const struct parquet *)(const void *)reader;
    if (!p->rows.begun || p->rows.row_count == 0)
        return p->bytes_before;
    const struct pqfile_row_group *group = &p->rows.metadata->row_groups[p->rows.row_group];
    double part = (double)p->rows.row / (double)p->rows.row_count;
    return p->bytes_before + (uint64_t)(part * (double)group->stored_bytes);
}

/* The dimension of a file that does not tell: of its first vector. */
static int measure(struct parquet *p, struct import_column *column, struct trail *trail)
{
    size_t count = 0;
    float value;
    int rc = 0;
    while (rc == 0) {
        rc = next_row(p, trail);
        if (rc <= 0)
            return rc < 0 ? rc
                          : trail_add(trail, PDB_INVALID_ARGUMENT,
                                      "no vector to take the dimension from");
        rc = parquet_rows_floats(&p->rows, column->node, &value, 1, &count, trail);
    }
    if (rc > 0 && (count == 0 || count > PDB_DIMENSION_MAX))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "a vector of %zu elements", count);
    column->dimension = (uint32_t)count;
    return rc < 0 ? rc : 0;
}

static int shape(struct import_reader *reader, struct arena *arena, struct import_shape *shape_out,
                 struct trail *trail)
{
    struct parquet *p = of(reader);
    (void)arena;
    shape_out->collection = p->columns.schema;
    for (uint32_t i = 0; i < p->columns.count && !p->columns.ours; i++) {
        struct import_column *column = &p->columns.all[i];
        if (column->role != IMPORT_VECTOR)
            continue;
        int rc = measure(p, column, trail);
        if (rc < 0)
            return rc;
        shape_out->collection.fields[shape_out->collection.field_count++] =
            (struct transfer_field){.name = column->name, .dimension = column->dimension};
    }
    return 0;
}

/* ---- life ---- */

static void close_it(struct import_reader *reader)
{
    struct parquet *p = of(reader);
    parquet_rows_dispose(&p->rows);
    pqfile_close(p->file);
    if (p->fd >= 0)
        (void)close(p->fd);
    buffer_dispose(&p->metadata);
    buffer_dispose(&p->last_id);
    buffer_dispose(&p->id);
    arena_dispose(&p->row_arena);
    arena_dispose(&p->arena);
    heap_free(NULL, p);
}

static const struct import_reader_ops ops = {next, skip, offset, shape, close_it};

static int read_at(void *context, uint64_t at, size_t len, void *buffer)
{
    const struct parquet *p = context;
    char *to = buffer;
    while (len > 0) {
        ssize_t got = pread(p->fd, to, len, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return -1;
        to += got;
        at += (uint64_t)got;
        len -= (size_t)got;
    }
    return 0;
}

static int open_file(struct parquet *p, struct trail *trail)
{
    struct pqfile_error error;
    const struct pqfile_reader_options options = {.depth_max = SCHEMA_DEPTH_MAX,
                                                  .memory_max = COLUMN_MEMORY_MAX};
    int rc = import_file_bytes(p->reader.path, &p->reader.bytes, trail);
    if (rc < 0)
        return rc;
    p->fd = open(p->reader.path, O_RDONLY | O_CLOEXEC);
    if (p->fd < 0)
        return trail_add(trail, PDB_NOT_FOUND, "%s: %s", p->reader.path, strerror(errno));
    struct pqfile_source source = {.size = p->reader.bytes, .read_at = read_at, .context = p};
    if (pqfile_open(&source, &options, &p->file, &error) < 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s: %s", p->reader.path, error.message);
    return parquet_rows_init(&p->rows, p->file);
}

int import_parquet_open(const struct import_target *target, const char *path,
                        struct import_reader **reader_out, struct trail *trail)
{
    struct parquet *p = heap_calloc(NULL, 1, sizeof(*p));
    if (p == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    p->fd = -1;
    p->reader =
        (struct import_reader){.ops = &ops, .target = target, .path = path, .row_word = "row"};
    arena_init(&p->arena, 0);
    arena_init(&p->row_arena, 0);
    buffer_init_heap(&p->metadata, NULL, 0);
    buffer_init_heap(&p->id, NULL, 0);
    buffer_init_heap(&p->last_id, NULL, 0);
    int rc = open_file(p, trail);
    if (rc == 0) {
        rc = import_columns_choose(&p->columns, &p->rows, target, &p->arena, trail);
        if (rc < 0)
            (void)trail_add(trail, rc, "%s", path);
    }
    if (rc < 0) {
        close_it(&p->reader);
        return rc;
    }
    for (uint32_t i = 0; i < p->columns.count; i++)
        if (is_needed(p, p->columns.all[i].role))
            parquet_rows_use(&p->rows, p->columns.all[i].node);
    p->reader.row_count = p->rows.metadata->row_count;
    *reader_out = &p->reader;
    return 0;
}
