/* protobuf_replies.c: rows, hits and collections to the wire, straight from the engine's results: a
 * vector is one copy of its bytes, metadata is walked once.
 *
 * The field numbers are the proto's; protobuf-c's structures are not used here, because each text
 * and each vector would have to be copied into one first. */
#include "transport/codec/protobuf_replies.h"
#include "transport/codec/protobuf_indexes.h"
#include "transport/codec/storage_names.h"

#include "base/clock.h"

#include "base/no_libc_heap.h"

#include "proximadb_v1_proximadb.pb-c.h"

void protobuf_reply_open(struct protobuf_reply *r, struct arena *arena)
{
    protobuf_writer_open(&r->writer, arena);
    r->next = r->inner = 0;
}

static void put_time(struct protobuf_writer *w, uint32_t number, int64_t realtime_us)
{
    char text[CLOCK_TEXT_SIZE];
    clock_format_us(realtime_us, text);
    protobuf_put_text(w, number, text_of(text));
}

/* ---- collections ---- */

static void put_fields(struct protobuf_writer *w, uint32_t number,
                       const struct pdb_collection_config *c)
{
    enum { NAME = 1, DIMENSION, METRIC, TYPE = 8 };
    for (uint32_t i = 0; i < c->field_count; i++) {
        const struct pdb_field *f = &c->fields[i];
        protobuf_begin(w, number, f->name.len + 16);
        protobuf_put_text(w, NAME, f->name);
        protobuf_put_u64(w, DIMENSION, f->dimension);
        protobuf_put_u64(w, METRIC, f->metric);
        protobuf_put_index(w, f);
        if (f->element != PDB_ELEMENT_FLOAT32)
            protobuf_put_u64(w, TYPE, (uint64_t)f->element + 1);
        protobuf_end(w);
    }
}

static void put_columns(struct protobuf_writer *w, uint32_t number,
                        const struct pdb_collection_config *c)
{
    enum { NAME = 1, TYPE };
    for (uint32_t i = 0; i < c->column_count; i++) {
        protobuf_begin(w, number, c->columns[i].name.len + 4);
        protobuf_put_text(w, NAME, c->columns[i].name);
        protobuf_put_u64(w, TYPE, c->columns[i].type);
        protobuf_end(w);
    }
}

static void put_storage(struct protobuf_writer *w, uint32_t number,
                        const struct pdb_collection_config *c)
{
    enum { COMPRESSION = 1, VECTORS, VERSION_RETENTION_S };
    protobuf_begin(w, number, 32);
    protobuf_put_text(w, COMPRESSION, text_of(compression_name(c->compression)));
    protobuf_put_text(w, VECTORS, text_of(vector_storage_name(c->vector_storage)));
    protobuf_put_varint(w, VERSION_RETENTION_S, c->version_retention_s);
    protobuf_end(w);
}

static void put_stats(struct protobuf_writer *w, uint32_t number,
                      const struct pdb_collection_info *info)
{
    enum { MEMTABLE_ROWS = 1, SEGMENT_COUNT, SEGMENT_ROWS, SEGMENT_BYTES, TOMBSTONES };
    protobuf_begin(w, number, 32);
    protobuf_put_u64(w, MEMTABLE_ROWS, info->memtable_rows);
    protobuf_put_u64(w, SEGMENT_COUNT, info->segment_count);
    protobuf_put_u64(w, SEGMENT_ROWS, info->segment_rows);
    protobuf_put_u64(w, SEGMENT_BYTES, info->segment_bytes);
    protobuf_put_u64(w, TOMBSTONES, info->tombstones);
    protobuf_end(w);
}

static uint64_t sync_number(enum pdb_sync_mode mode)
{
    switch (mode) {
    case PDB_SYNC_ALWAYS:
        return PROXIMADB__V1__SYNC_MODE__SYNC_MODE_ALWAYS;
    case PDB_SYNC_BATCH:
        return PROXIMADB__V1__SYNC_MODE__SYNC_MODE_BATCH;
    case PDB_SYNC_PERIODIC:
        return PROXIMADB__V1__SYNC_MODE__SYNC_MODE_PERIODIC;
    case PDB_SYNC_NEVER:
        return PROXIMADB__V1__SYNC_MODE__SYNC_MODE_NEVER;
    }
    return PROXIMADB__V1__SYNC_MODE__SYNC_MODE_UNSPECIFIED;
}

static void put_collection(struct protobuf_writer *w, uint32_t number,
                           const struct pdb_collection_info *info)
{
    enum {
        NAME = 1,
        UUID,
        FIELDS,
        COLUMNS,
        SYNC,
        TTL_S,
        DESCRIPTION,
        STORAGE,
        CREATED_AT,
        UPDATED_AT,
        RECORD_COUNT,
        MEMORY_BYTES,
        VERSION,
        OWNER_CORE,
        STATS,
        TARGET_RECALL,
        INDEX_STATES
    };
    const struct pdb_collection_config *c = &info->config;
    protobuf_begin(w, number, 256);
    protobuf_put_text(w, NAME, c->name);
    protobuf_put_text(w, UUID, text_of(info->uuid));
    put_fields(w, FIELDS, c);
    put_columns(w, COLUMNS, c);
    protobuf_put_u64(w, SYNC, sync_number(c->sync));
    protobuf_put_u64(w, TTL_S, c->ttl_s);
    protobuf_put_text(w, DESCRIPTION, c->description);
    put_storage(w, STORAGE, c);
    put_time(w, CREATED_AT, info->created_at_us);
    put_time(w, UPDATED_AT, info->updated_at_us);
    protobuf_put_u64(w, RECORD_COUNT, info->record_count);
    protobuf_put_u64(w, MEMORY_BYTES, info->memory_bytes);
    protobuf_put_u64(w, VERSION, info->version);
    protobuf_put_u64(w, OWNER_CORE, info->owner_core);
    put_stats(w, STATS, info);
    if (c->target_recall != 0)
        protobuf_put_float(w, TARGET_RECALL, c->target_recall);
    for (uint32_t i = 0; info->indexes != NULL && i < c->field_count; i++)
        protobuf_put_index_state(w, INDEX_STATES, c->fields[i].name, &info->indexes[i]);
    protobuf_end(w);
}

void protobuf_encode_collection(struct protobuf_reply *r, const struct pdb_collection_info *info)
{
    put_collection(&r->writer, 1, info);
}

int protobuf_encode_collections_step(struct protobuf_reply *r,
                                     const struct pdb_collection_list *list)
{
    enum { COLLECTIONS = 1, NEXT_CURSOR };
    if (r->next < list->count_out) {
        put_collection(&r->writer, COLLECTIONS, &list->infos_out[r->next++]);
        return 1;
    }
    if (list->more_out && list->count_out != 0)
        protobuf_put_text(&r->writer, NEXT_CURSOR,
                          list->infos_out[list->count_out - 1].config.name);
    return 0;
}

/* ---- snapshots ---- */

static void put_snapshot(struct protobuf_writer *w, const struct pdb_snapshot_info *info)
{
    enum { SNAPSHOT = 1 };
    enum { NAME = 1, CREATED_AT, BYTES, SCHEDULED, COLLECTIONS };
    enum { PART_NAME = 1, PART_UUID, PART_VERSION, PART_RECORD_COUNT, PART_BYTES };
    protobuf_begin(w, SNAPSHOT, 64 + (size_t)info->part_count * 96);
    protobuf_put_text(w, NAME, info->name);
    put_time(w, CREATED_AT, info->created_at_us);
    protobuf_put_u64(w, BYTES, info->bytes);
    protobuf_put_u64(w, SCHEDULED, info->scheduled);
    for (uint32_t i = 0; i < info->part_count; i++) {
        const struct pdb_snapshot_part *part = &info->parts[i];
        protobuf_begin(w, COLLECTIONS, 96);
        protobuf_put_text(w, PART_NAME, part->collection);
        protobuf_put_text(w, PART_UUID, text_of(part->uuid));
        protobuf_put_u64(w, PART_VERSION, part->version);
        protobuf_put_u64(w, PART_RECORD_COUNT, part->rows);
        protobuf_put_u64(w, PART_BYTES, part->bytes);
        protobuf_end(w);
    }
    protobuf_end(w);
}

void protobuf_encode_snapshot(struct protobuf_reply *r, const struct pdb_snapshot_info *info)
{
    put_snapshot(&r->writer, info);
}

int protobuf_encode_snapshots_step(struct protobuf_reply *r, const struct pdb_snapshot_list *list)
{
    enum { NEXT_CURSOR = 2 };
    if (r->next < list->count_out) {
        put_snapshot(&r->writer, &list->infos_out[r->next++]);
        return 1;
    }
    if (list->more_out && list->count_out != 0)
        protobuf_put_text(&r->writer, NEXT_CURSOR, list->infos_out[list->count_out - 1].name);
    return 0;
}

/* ---- small replies ---- */

void protobuf_encode_deleted(struct protobuf_reply *r, uint64_t count)
{
    protobuf_put_u64(&r->writer, 1, count);
}

void protobuf_encode_flag(struct protobuf_reply *r, bool flag)
{
    protobuf_put_u64(&r->writer, 1, flag);
}

void protobuf_encode_count(struct protobuf_reply *r, uint64_t count)
{
    protobuf_put_u64(&r->writer, 1, count);
}

void protobuf_encode_recall(struct protobuf_reply *r, const struct pdb_recall *recall)
{
    enum {
        K = 1,
        TARGET_RECALL,
        QUERIES,
        RECENT_SEARCHES,
        RECALL,
        HISTOGRAM,
        EXACT_US,
        INDEX_US,
        ROWS_SCORED,
        TOOK_US
    };
    enum { MEAN = 1, MIN, P05, P50 };
    struct protobuf_writer *w = &r->writer;
    protobuf_put_u64(w, K, recall->k);
    protobuf_put_float(w, TARGET_RECALL, recall->target_recall);
    protobuf_put_u64(w, QUERIES, recall->queries_out);
    protobuf_put_u64(w, RECENT_SEARCHES, recall->recent_out);
    if (recall->queries_out != 0) {
        protobuf_begin(w, RECALL, 64);
        protobuf_put_double(w, MEAN, recall->mean_out);
        protobuf_put_double(w, MIN, recall->min_out);
        protobuf_put_double(w, P05, recall->p05_out);
        protobuf_put_double(w, P50, recall->p50_out);
        protobuf_end(w);
    }
    for (size_t i = 0; i < sizeof(recall->histogram_out) / sizeof(recall->histogram_out[0]); i++)
        protobuf_put_varint(w, HISTOGRAM, recall->histogram_out[i]);
    protobuf_put_double(w, EXACT_US, recall->exact_us_out);
    protobuf_put_double(w, INDEX_US, recall->index_us_out);
    protobuf_put_double(w, ROWS_SCORED, recall->rows_scored_out);
    protobuf_put_u64(w, TOOK_US, recall->call.took_us);
}

void protobuf_encode_text(struct protobuf_reply *r, struct pdb_text text)
{
    protobuf_put_text(&r->writer, 1, text);
}

void protobuf_encode_bulk(struct protobuf_reply *r, uint64_t records, uint64_t batches,
                          uint64_t took_us)
{
    protobuf_put_u64(&r->writer, 1, records);
    protobuf_put_u64(&r->writer, 2, batches);
    protobuf_put_u64(&r->writer, 3, took_us);
}

/* 64 ids a step, then the versions and the rest at once. */
int protobuf_encode_write_step(struct protobuf_reply *r, const struct pdb_write *write)
{
    enum { UPSERTED = 1, IDS, VERSIONS, TOOK_US, IDS_A_STEP = 64 };
    struct protobuf_writer *w = &r->writer;
    if (r->next < write->record_count) {
        uint32_t left = write->record_count - r->next;
        for (uint32_t n = left < IDS_A_STEP ? left : IDS_A_STEP; n != 0; n--, r->next++)
            protobuf_put_bytes(w, IDS, write->ids_out[r->next].ptr, write->ids_out[r->next].len);
        return 1;
    }
    protobuf_put_u64(w, UPSERTED, write->count_out);
    for (uint32_t i = 0; i < write->record_count; i++) /* unpacked: readers take both */
        protobuf_put_varint(w, VERSIONS, write->version_out);
    protobuf_put_u64(w, TOOK_US, write->call.took_us);
    return 0;
}

/* ---- rows ---- */

/* Field numbers of what StoredRecord and SearchHit share; 0: the message does not have it. */
struct row_numbers {
    uint32_t vector, vectors, metadata, version, created_at, updated_at, expires_at, packed_vector;
};
static const struct row_numbers stored_numbers = {.vector = 2,
                                                  .vectors = 3,
                                                  .metadata = 4,
                                                  .version = 5,
                                                  .created_at = 6,
                                                  .updated_at = 7,
                                                  .expires_at = 8,
                                                  .packed_vector = 9};
static const struct row_numbers hit_numbers = {.version = 3,
                                               .metadata = 4,
                                               .vector = 5,
                                               .vectors = 6,
                                               .created_at = 7,
                                               .updated_at = 8,
                                               .expires_at = 9};

/* On the wire: all but bits are floats. */
static size_t vector_bytes(const struct pdb_field *field)
{
    return pdb_vector_bytes(field->dimension, field->metric, PDB_ELEMENT_FLOAT32);
}

/* Halves and bytes are widened piece by piece. */
static void put_vector(struct protobuf_writer *w, uint32_t number, const struct pdb_field *field,
                       const void *vector)
{
    enum { PIECE = 64 };
    if (field->element == PDB_ELEMENT_FLOAT32) {
        protobuf_put_bytes(w, number, vector, vector_bytes(field));
        return;
    }
    const char *values = vector;
    struct pdb_field piece = *field;
    protobuf_put_length(w, number, vector_bytes(field));
    for (uint32_t at = 0; at < field->dimension; at += piece.dimension) {
        float floats[PIECE];
        piece.dimension = field->dimension - at < PIECE ? field->dimension - at : PIECE;
        pdb_vector_values(&piece, values, floats);
        values += pdb_vector_bytes(piece.dimension, piece.metric, piece.element);
        buffer_add(&w->out, floats, piece.dimension * sizeof(float));
    }
}

static void put_named_vector(struct protobuf_writer *w, uint32_t number,
                             const struct pdb_field *field, const void *vector)
{
    enum { ENTRY_KEY = 1, ENTRY_VALUE, VECTOR_VALUES = 1, VECTOR_PACKED = 2 };
    size_t bytes = vector_bytes(field);
    protobuf_begin(w, number, bytes + field->name.len + 12);
    protobuf_put_text(w, ENTRY_KEY, field->name);
    protobuf_begin(w, ENTRY_VALUE, bytes + 6);
    put_vector(w, field->metric == PDB_METRIC_HAMMING ? VECTOR_PACKED : VECTOR_VALUES, field,
               vector);
    protobuf_end(w);
    protobuf_end(w);
}

/* The default field has a place of its own; packed bits only where the message has one for them. */
static void put_vectors(struct protobuf_writer *w, const struct row_numbers *n,
                        const struct pdb_row *row, const struct pdb_field *fields, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const void *vector = row->vectors[i];
        if (vector == NULL)
            continue;
        bool bits = fields[i].metric == PDB_METRIC_HAMMING;
        uint32_t own = bits ? n->packed_vector : n->vector;
        if (fields[i].name.len == 0 && own != 0)
            put_vector(w, own, &fields[i], vector);
        else
            put_named_vector(w, n->vectors, &fields[i], vector);
    }
}

enum { ROW_EXTRA = 128 }; /* tags, lengths, times */

static size_t row_size(const struct pdb_row *row, const struct pdb_field *fields, uint32_t count)
{
    size_t size = row->id.len + row->metadata.len * 2 + 32;
    for (uint32_t i = 0; row->vectors != NULL && i < count; i++)
        size += row->vectors[i] != NULL ? vector_bytes(&fields[i]) : 0;
    return size;
}

/* A reply of 60 MB that grew by doubling would be copied again and again, and each copy would hold
 * the reactor for tens of milliseconds. */
static void reserve(struct protobuf_writer *w, size_t size)
{
    enum { SMALL = 1 << 16 };
    if (w->out.len == 0 && size > SMALL)
        (void)buffer_reserve(&w->out, size);
}

static void reserve_rows(struct protobuf_writer *w, const struct pdb_row *rows, uint32_t row_count,
                         const struct pdb_field *fields, uint32_t field_count)
{
    size_t size = 0;
    for (uint32_t i = 0; i < row_count; i++)
        size += row_size(&rows[i], fields, field_count) + ROW_EXTRA;
    reserve(w, size);
}

static void put_row(struct protobuf_writer *w, const struct row_numbers *n,
                    const struct pdb_row *row, const struct pdb_field *fields, uint32_t count,
                    unsigned include)
{
    if (row->vectors != NULL && (include & PDB_INCLUDE_VECTORS) != 0)
        put_vectors(w, n, row, fields, count);
    if ((include & PDB_INCLUDE_METADATA) != 0) {
        struct doc_value metadata = doc_root(row->metadata.ptr, row->metadata.len);
        protobuf_begin(w, n->metadata, row->metadata.len * 2);
        protobuf_put_map(w, &metadata);
        protobuf_end(w);
    }
    protobuf_put_u64(w, n->version, row->version);
    if ((include & PDB_INCLUDE_TIMES) == 0)
        return;
    put_time(w, n->created_at, row->created_at_us);
    put_time(w, n->updated_at, row->updated_at_us);
    if (row->expires_at_us != 0)
        put_time(w, n->expires_at, row->expires_at_us);
}

static void put_stored(struct protobuf_writer *w, const struct pdb_row *row,
                       const struct pdb_field *fields, uint32_t count, unsigned include)
{
    enum { RECORDS = 1, ID = 1 };
    protobuf_begin(w, RECORDS, row_size(row, fields, count));
    protobuf_put_text(w, ID, row->id);
    put_row(w, &stored_numbers, row, fields, count, include);
    protobuf_end(w);
}

int protobuf_encode_get_step(struct protobuf_reply *r, const struct pdb_get *get)
{
    enum { MISSING = 2 };
    if (r->next == get->id_count)
        return 0;
    if (r->next == 0)
        reserve_rows(&r->writer, get->rows_out, get->id_count, get->fields_out,
                     get->field_count_out);
    const struct pdb_row *row = &get->rows_out[r->next++];
    if (row->version == 0)
        protobuf_put_bytes(&r->writer, MISSING, row->id.ptr, row->id.len);
    else
        put_stored(&r->writer, row, get->fields_out, get->field_count_out, get->include);
    return 1;
}

int protobuf_encode_scroll_step(struct protobuf_reply *r, const struct pdb_scroll *scroll)
{
    enum { NEXT_CURSOR = 2 };
    if (r->next == 0)
        reserve_rows(&r->writer, scroll->rows_out, scroll->row_count_out, scroll->fields_out,
                     scroll->field_count_out);
    if (r->next < scroll->row_count_out) {
        put_stored(&r->writer, &scroll->rows_out[r->next++], scroll->fields_out,
                   scroll->field_count_out, scroll->include);
        return 1;
    }
    protobuf_put_text(&r->writer, NEXT_CURSOR, scroll->next_cursor_out);
    return 0;
}

/* ---- hits ---- */

static void reserve_hits(struct protobuf_writer *w, const struct pdb_search *search)
{
    size_t size = 0;
    for (uint32_t q = 0; q < search->query_count; q++)
        for (uint32_t i = 0; i < search->results_out[q].count; i++)
            size += row_size(&search->results_out[q].hits[i].row, search->fields_out,
                             search->field_count_out) +
                    ROW_EXTRA;
    reserve(w, size);
}

static void put_hit(struct protobuf_writer *w, const struct pdb_hit *hit,
                    const struct pdb_search *search, unsigned include)
{
    enum { RESULTS = 1, ID = 1, SCORE = 2 };
    protobuf_begin(w, RESULTS, row_size(&hit->row, search->fields_out, search->field_count_out));
    protobuf_put_text(w, ID, hit->row.id);
    protobuf_put_float(w, SCORE, hit->score);
    put_row(w, &hit_numbers, &hit->row, search->fields_out, search->field_count_out, include);
    protobuf_end(w);
}

int protobuf_encode_search_step(struct protobuf_reply *r, const struct pdb_search *search,
                                bool batch)
{
    enum { RESULTS = 1, TOOK_US = 2, HIT_BYTES = 64 };
    struct protobuf_writer *w = &r->writer;
    if (r->next == search->query_count) {
        protobuf_put_u64(w, TOOK_US, search->call.took_us);
        return 0;
    }
    if (r->next == 0 && r->inner == 0)
        reserve_hits(w, search);
    const struct pdb_hits *hits = &search->results_out[r->next];
    if (batch && r->inner == 0)
        protobuf_begin(w, RESULTS, (size_t)hits->count * HIT_BYTES);
    if (r->inner < hits->count) {
        put_hit(w, &hits->hits[r->inner++], search, search->queries[r->next].include);
        return 1;
    }
    if (batch)
        protobuf_end(w);
    r->next++;
    r->inner = 0;
    return 1;
}
