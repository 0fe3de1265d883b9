/* export_convert.c: the files of a folder are each in order of id, so one record of each is enough
 * to merge them. The reader is that of an import, which knows which rows are alive; the conditions
 * are those of the server (src/filter). */
#include "server/export_convert.h"

#include "base/clock.h"
#include "base/doc.h"
#include "base/heap.h"
#include "server/import_manifest.h"
#include "server/import_reader.h"

#include <string.h>

#include "base/no_libc_heap.h"

/* ---- filters ---- */

static enum pdb_column_type type_of(struct pdb_text name)
{
    static const struct {
        const char *name;
        enum pdb_column_type type;
    } types[] = {
        {"string", PDB_COLUMN_STRING},
        {"integer", PDB_COLUMN_INTEGER},
        {"float", PDB_COLUMN_FLOAT},
        {"boolean", PDB_COLUMN_BOOLEAN},
        {"datetime", PDB_COLUMN_DATETIME},
        {"string[]", PDB_COLUMN_STRING_LIST},
        {"integer[]", PDB_COLUMN_INTEGER_LIST},
        {"float[]", PDB_COLUMN_FLOAT_LIST},
        {"geo", PDB_COLUMN_GEO},
        {"text", PDB_COLUMN_TEXT},
    };
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (text_equal(name, text_of(types[i].name)))
            return types[i].type;
    return PDB_COLUMN_UNSPECIFIED;
}

int export_filter_compile(struct export_filter *filter, struct arena *arena,
                          const struct transfer_collection *collection, struct trail *trail)
{
    struct pdb_text doc;
    struct pdb_error error = {0};
    struct pdb_column *columns =
        arena_array(arena, struct pdb_column, (size_t)collection->column_count + 1);
    if (columns == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    if (filter->json.len == 0)
        return 0;
    if (!transfer_read_doc(arena, filter->json, &doc) ||
        doc_root(doc.ptr, doc.len).type != DOC_OBJECT)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "--filter: not a JSON object");
    for (uint32_t i = 0; i < collection->column_count; i++)
        columns[i] =
            (struct pdb_column){collection->columns[i].name, type_of(collection->columns[i].type)};
    int rc =
        pdb_filter_compile(arena, doc, columns, collection->column_count, &filter->filter, &error);
    return rc < 0 ? trail_add(trail, rc, "%s", error.text) : 0;
}

/* ---- merging ---- */

struct source {
    struct import_reader *reader;
    struct import_record record;
    bool ended;
};

struct merge {
    struct export_convert *c;
    struct import_file_list list;
    struct import_target target;
    struct source *sources;
    uint64_t bytes, done; /* of files; read */
    int64_t now_us;
};

static int advance(struct source *source, struct trail *trail)
{
    int rc = source->reader->ops->next(source->reader, &source->record, trail);
    source->ended = rc <= 0;
    if (rc < 0)
        return trail_add(trail, PDB_DATA_LOSS, "%s: row %llu", source->reader->path,
                         (unsigned long long)source->reader->row - 1);
    return 0;
}

static int open_sources(struct merge *m, struct trail *trail)
{
    int rc = 0;
    for (size_t i = 0; i < m->list.count && rc == 0; i++) {
        const struct import_file *file = &m->list.files[i];
        struct source *source = &m->sources[i];
        rc = import_parquet_open(&m->target, file->path, &source->reader, trail);
        if (rc < 0)
            break;
        source->reader->ended = file->ended;
        source->reader->ended_count = file->ended_count;
        m->bytes += file->bytes;
        rc = advance(source, trail);
    }
    return rc;
}

static struct source *first_source(struct merge *m)
{
    struct source *found = NULL;
    for (size_t i = 0; i < m->list.count; i++) {
        struct source *source = &m->sources[i];
        if (!source->ended &&
            (found == NULL || text_compare(source->record.id, found->record.id) < 0))
            found = source;
    }
    return found;
}

static void make_row(const struct transfer_collection *collection,
                     const struct import_record *record, const void **vectors,
                     struct pdb_row *row_out)
{
    memset(vectors, 0, collection->field_count * sizeof(*vectors));
    for (uint32_t i = 0; i < record->vector_count; i++) {
        const struct transfer_field *field =
            transfer_find_field(collection, record->vectors[i].field);
        if (field != NULL)
            vectors[field - collection->fields] = record->vectors[i].bytes;
    }
    *row_out = (struct pdb_row){.id = record->id,
                                .vectors = vectors,
                                .metadata = record->document,
                                .version = record->version,
                                .created_at_us = record->created_at_us,
                                .updated_at_us = record->updated_at_us,
                                .expires_at_us = record->expires_at_us};
}

static int write_record(struct merge *m, const struct import_record *record,
                        struct export_writer *writer, struct trail *trail)
{
    struct export_convert *c = m->c;
    const void *vectors[PDB_FIELD_MAX];
    struct pdb_row row;
    if (record->expires_at_us != 0 && record->expires_at_us <= m->now_us)
        return 0;
    if (!pdb_filter_matches(c->filter->filter, record->document))
        return 0;
    make_row(&c->collection, record, vectors, &row);
    int rc = writer->ops->add(writer, &row, trail);
    c->rows += rc > 0;
    c->left_out += rc == 0;
    return rc < 0 ? rc : 0;
}

static void tell(const struct merge *m, const struct export_writer *writer)
{
    uint64_t done = 0;
    for (size_t i = 0; i < m->list.count; i++)
        done += m->sources[i].reader->ops->offset(m->sources[i].reader);
    transfer_progress_tell(m->c->progress, m->c->rows, writer->bytes, done, m->bytes);
}

static int merge(struct merge *m, struct export_writer *writer, struct trail *trail)
{
    enum { ROWS_BETWEEN = 256 }; /* looks at signals and the clock */
    struct source *source;
    int rc = 0;
    for (uint64_t row = 0; rc == 0 && (source = first_source(m)) != NULL; row++) {
        if (row % ROWS_BETWEEN == 0) {
            tell(m, writer);
            if (transfer_is_interrupted(m->c->interrupted))
                break;
        }
        rc = write_record(m, &source->record, writer, trail);
        if (rc == 0)
            rc = advance(source, trail);
    }
    return rc;
}

/* ---- a folder ---- */

static int convert(struct merge *m, const char *folder, struct trail *trail)
{
    struct export_convert *c = m->c;
    struct export_writer *writer = NULL;
    int rc = import_files_add(&m->list, folder, trail);
    if (rc < 0)
        return rc;
    if (!transfer_read_collection(m->list.arena, m->list.last_folder->settings, &c->collection))
        return trail_add(trail, PDB_INTERNAL, "the collection's settings cannot be read");
    rc = export_filter_compile(c->filter, m->list.arena, &c->collection, trail);
    if (rc == 0)
        rc = c->open(c->arg, &c->collection, &writer, trail);
    if (rc < 0)
        return rc;
    m->target = (struct import_target){.collection = &c->collection, .documents = true};
    m->sources = arena_calloc(m->list.arena, m->list.count + 1, sizeof(*m->sources));
    if (m->sources == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    rc = open_sources(m, trail);
    return rc < 0 ? rc : merge(m, writer, trail);
}

int export_convert(struct export_convert *c, const char *folder, struct arena *arena,
                   struct trail *trail)
{
    struct merge m = {.c = c, .list = {.arena = arena}, .now_us = clock_realtime_us()};
    int rc = convert(&m, folder, trail);
    for (size_t i = 0; m.sources != NULL && i < m.list.count; i++)
        if (m.sources[i].reader != NULL)
            m.sources[i].reader->ops->close(m.sources[i].reader);
    return rc;
}
