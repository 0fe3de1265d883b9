/* json_responses.c: results as JSON. Key order is fixed, so that answers can be compared as
 * text. */
#include "transport/codec/json_responses.h"
#include "transport/codec/element_names.h"
#include "transport/codec/index_names.h"
#include "transport/codec/storage_names.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/doc.h"
#include "base/json.h"

#include "base/no_libc_heap.h"

static void add_key(struct buffer *out, bool *first, const char *key)
{
    if (!*first)
        buffer_add_byte(out, ',');
    *first = false;
    buffer_add_byte(out, '"');
    buffer_add_text(out, text_of(key));
    buffer_add_lit(out, "\":");
}

static void add_time(struct buffer *out, int64_t realtime_us)
{
    char text[CLOCK_TEXT_SIZE];
    clock_format_us(realtime_us, text);
    buffer_add_byte(out, '"');
    buffer_add_text(out, text_of(text));
    buffer_add_byte(out, '"');
}

void json_encode_error(struct buffer *out, const struct pdb_error *error)
{
    buffer_add_lit(out, "{\"error\":{\"code\":");
    json_write_string(out, text_of(pdb_error_name(error->code)));
    buffer_add_lit(out, ",\"message\":");
    json_write_string(out, text_of(error->text));
    buffer_add_lit(out, ",\"details\":{");
    bool first = true;
    if (error->outcome_unknown) {
        add_key(out, &first, "outcome");
        buffer_add_lit(out, "\"unknown\"");
    }
    if (error->has_current_version) {
        add_key(out, &first, "current_version");
        buffer_add_u64(out, error->current_version);
    }
    buffer_add_lit(out, "}}}");
}

/* ---- collections ---- */

static const char *metric_name(enum pdb_metric metric)
{
    static const char *const names[] = {"unspecified", "cosine",    "dot",
                                        "euclidean",   "manhattan", "hamming"};
    return names[metric];
}

static const char *column_type_name(enum pdb_column_type type)
{
    static const char *const names[] = {"unspecified", "string",   "integer",  "float",
                                        "boolean",     "datetime", "string[]", "integer[]",
                                        "float[]",     "geo",      "text"};
    return names[type];
}

static const char *sync_name(enum pdb_sync_mode sync)
{
    static const char *const names[] = {"always", "batch", "periodic", "never"};
    return names[sync];
}

/* A parameter that was given. */
static void encode_parameter(struct buffer *out, const char *name, uint32_t value)
{
    if (value != 0)
        buffer_format(out, ",\"%s\":%u", name, value);
}

static void encode_index_state(struct buffer *out, const struct pdb_index_info *i)
{
    buffer_format(out,
                  ",\"index_state\":{\"state\":\"%s\",\"rows\":%llu,\"rows_indexed\":%llu,"
                  "\"rows_wanted\":%llu,\"progress\":%.3f,\"eta_s\":%llu,\"bytes\":%llu,"
                  "\"indexes\":%u,\"recall_estimate\":",
                  index_state_name(i->state), (unsigned long long)i->rows,
                  (unsigned long long)i->rows_indexed, (unsigned long long)i->rows_wanted,
                  (double)i->progress, (unsigned long long)i->eta_s, (unsigned long long)i->bytes,
                  i->indexes);
    if (i->has_recall)
        buffer_format(out, "%.4f}", (double)i->recall_estimate);
    else
        buffer_add_lit(out, "null}");
}

/* Said where it is not float32. */
static void encode_element(struct buffer *out, const struct pdb_field *f)
{
    if (f->element != PDB_ELEMENT_FLOAT32)
        buffer_format(out, ",\"type\":\"%s\"", element_type_name(f->element));
}

/* `state`: NULL where it is not asked for. */
static void encode_field(struct buffer *out, const struct pdb_field *f,
                         const struct pdb_index_info *state)
{
    buffer_add_lit(out, "{\"name\":");
    json_write_string(out, f->name);
    buffer_format(out, ",\"dimension\":%u,\"metric\":\"%s\"", f->dimension, metric_name(f->metric));
    encode_element(out, f);
    buffer_format(out, ",\"index\":{\"type\":\"%s\"", index_type_name(f->index));
    encode_parameter(out, "m", f->hnsw_m);
    encode_parameter(out, "ef_construction", f->ef_construction);
    encode_parameter(out, "nlist", f->ivf_lists);
    buffer_format(out, "},\"quantization\":{\"type\":\"%s\"",
                  quantization_type_name(f->quantization));
    encode_parameter(out, "bits", f->quantization_bits);
    buffer_add_byte(out, '}');
    if (state != NULL)
        encode_index_state(out, state);
    buffer_add_byte(out, '}');
}

/* Where the rows are, now. */
static void encode_stats(struct buffer *out, const struct pdb_collection_info *info)
{
    buffer_format(out,
                  ",\"stats\":{\"memtable_rows\":%llu,\"segment_count\":%u,\"segment_rows\":%llu,"
                  "\"segment_bytes\":%llu,\"tombstones\":%llu}",
                  (unsigned long long)info->memtable_rows, info->segment_count,
                  (unsigned long long)info->segment_rows, (unsigned long long)info->segment_bytes,
                  (unsigned long long)info->tombstones);
}

/* All but the name, as members that follow others. */
static void encode_settings(struct buffer *out, const struct pdb_collection_config *c,
                            const struct pdb_index_info *states)
{
    buffer_add_lit(out, ",\"fields\":[");
    for (uint32_t i = 0; i < c->field_count; i++) {
        if (i != 0)
            buffer_add_byte(out, ',');
        encode_field(out, &c->fields[i], states != NULL ? &states[i] : NULL);
    }
    buffer_add_lit(out, "],\"columns\":[");
    for (uint32_t i = 0; i < c->column_count; i++) {
        buffer_add_text(out, i != 0 ? TEXT_LIT(",{\"name\":") : TEXT_LIT("{\"name\":"));
        json_write_string(out, c->columns[i].name);
        buffer_format(out, ",\"type\":\"%s\"}", column_type_name(c->columns[i].type));
    }
    buffer_format(out, "],\"sync\":\"%s\",\"ttl_s\":", sync_name(c->sync));
    if (c->ttl_s != 0)
        buffer_add_u64(out, c->ttl_s);
    else
        buffer_add_lit(out, "null");
    buffer_add_lit(out, ",\"description\":");
    json_write_string(out, c->description);
    buffer_format(out,
                  ",\"storage\":{\"compression\":\"%s\",\"vectors\":\"%s\","
                  "\"version_retention_s\":%llu}",
                  compression_name(c->compression), vector_storage_name(c->vector_storage),
                  (unsigned long long)c->version_retention_s);
    buffer_add_lit(out, ",\"target_recall\":");
    if (c->target_recall != 0)
        json_write_float(out, c->target_recall);
    else
        buffer_add_lit(out, "null");
}

void json_encode_collection_config(struct buffer *out, const struct pdb_collection_config *config)
{
    buffer_add_lit(out, "{\"name\":");
    json_write_string(out, config->name);
    encode_settings(out, config, NULL);
    buffer_add_byte(out, '}');
}

void json_encode_collection(struct buffer *out, const struct pdb_collection_info *info)
{
    const struct pdb_collection_config *c = &info->config;
    buffer_add_lit(out, "{\"name\":");
    json_write_string(out, c->name);
    buffer_format(out, ",\"uuid\":\"%s\"", info->uuid);
    if (c->field_count == 1 && c->fields[0].name.len == 0) {
        buffer_format(out, ",\"dimension\":%u,\"metric\":\"%s\"", c->fields[0].dimension,
                      metric_name(c->fields[0].metric));
        encode_element(out, &c->fields[0]);
    }
    encode_settings(out, c, info->indexes);
    buffer_add_lit(out, ",\"created_at\":");
    add_time(out, info->created_at_us);
    buffer_add_lit(out, ",\"updated_at\":");
    add_time(out, info->updated_at_us);
    buffer_format(out,
                  ",\"record_count\":%llu,\"memory_bytes\":%llu,\"version\":%llu,\"owner_core\":%u",
                  (unsigned long long)info->record_count, (unsigned long long)info->memory_bytes,
                  (unsigned long long)info->version, info->owner_core);
    encode_stats(out, info);
    buffer_add_byte(out, '}');
}

void json_encode_collections(struct buffer *out, const struct pdb_collection_list *list)
{
    buffer_add_lit(out, "{\"collections\":[");
    for (uint32_t i = 0; i < list->count_out; i++) {
        if (i != 0)
            buffer_add_byte(out, ',');
        json_encode_collection(out, &list->infos_out[i]);
    }
    buffer_add_lit(out, "],\"next_cursor\":");
    if (list->more_out && list->count_out != 0)
        json_write_string(out, list->infos_out[list->count_out - 1].config.name);
    else
        buffer_add_lit(out, "null");
    buffer_add_byte(out, '}');
}

/* ---- recall ---- */

void json_encode_recall(struct buffer *out, const struct pdb_recall *r)
{
    buffer_add_lit(out, "{\"collection\":");
    json_write_string(out, r->collection);
    buffer_add_lit(out, ",\"field\":");
    json_write_string(out, r->field);
    buffer_format(out, ",\"k\":%u,\"target_recall\":", r->k);
    json_write_float(out, r->target_recall);
    buffer_format(out, ",\"queries\":%u,\"source\":\"%s\",\"recall\":", r->queries_out,
                  r->recent_out ? "searches" : "records");
    if (r->queries_out != 0)
        buffer_format(out, "{\"mean\":%.4f,\"min\":%.4f,\"p05\":%.4f,\"p50\":%.4f}", r->mean_out,
                      r->min_out, r->p05_out, r->p50_out);
    else
        buffer_add_lit(out, "null");
    buffer_add_lit(out, ",\"histogram\":[");
    for (size_t i = 0; i < sizeof(r->histogram_out) / sizeof(r->histogram_out[0]); i++)
        buffer_format(out, "%s%u", i != 0 ? "," : "", r->histogram_out[i]);
    buffer_format(
        out, "],\"exact_us\":%.1f,\"index_us\":%.1f,\"rows_scored\":%.1f,\"took_us\":%llu}",
        r->exact_us_out, r->index_us_out, r->rows_scored_out, (unsigned long long)r->call.took_us);
}

/* ---- snapshots ---- */

void json_encode_snapshot(struct buffer *out, const struct pdb_snapshot_info *info)
{
    buffer_add_lit(out, "{\"name\":");
    json_write_string(out, info->name);
    buffer_add_lit(out, ",\"created_at\":");
    add_time(out, info->created_at_us);
    buffer_format(out, ",\"bytes\":%llu,\"scheduled\":%s,\"collections\":[",
                  (unsigned long long)info->bytes, info->scheduled ? "true" : "false");
    for (uint32_t i = 0; i < info->part_count; i++) {
        const struct pdb_snapshot_part *part = &info->parts[i];
        buffer_add_text(out, i != 0 ? TEXT_LIT(",{\"name\":") : TEXT_LIT("{\"name\":"));
        json_write_string(out, part->collection);
        buffer_format(out,
                      ",\"uuid\":\"%s\",\"version\":%llu,\"record_count\":%llu,\"bytes\":%llu}",
                      part->uuid, (unsigned long long)part->version, (unsigned long long)part->rows,
                      (unsigned long long)part->bytes);
    }
    buffer_add_lit(out, "]}");
}

void json_encode_snapshots(struct buffer *out, const struct pdb_snapshot_list *list)
{
    buffer_add_lit(out, "{\"snapshots\":[");
    for (uint32_t i = 0; i < list->count_out; i++) {
        if (i != 0)
            buffer_add_byte(out, ',');
        json_encode_snapshot(out, &list->infos_out[i]);
    }
    buffer_add_lit(out, "],\"next_cursor\":");
    if (list->more_out && list->count_out != 0)
        json_write_string(out, list->infos_out[list->count_out - 1].name);
    else
        buffer_add_lit(out, "null");
    buffer_add_byte(out, '}');
}

/* ---- records ---- */

void json_encode_write(struct buffer *out, const struct pdb_write *w, const char *verb)
{
    buffer_format(out, "{\"%s\":%llu,\"ids\":[", verb, (unsigned long long)w->count_out);
    for (uint32_t i = 0; i < w->record_count; i++) {
        if (i != 0)
            buffer_add_byte(out, ',');
        json_write_string(out, w->ids_out[i]);
    }
    buffer_add_lit(out, "],\"versions\":[");
    for (uint32_t i = 0; i < w->record_count; i++) {
        if (i != 0)
            buffer_add_byte(out, ',');
        buffer_add_u64(out, w->version_out);
    }
    buffer_format(out, "],\"took_us\":%llu}", (unsigned long long)w->call.took_us);
}

/* Rows may lie at any alignment. */
static void encode_floats(struct buffer *out, const void *values, uint32_t count)
{
    buffer_add_byte(out, '[');
    for (uint32_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, (const char *)values + (size_t)i * sizeof(value), sizeof(value));
        if (i != 0)
            buffer_add_byte(out, ',');
        json_write_float(out, value);
    }
    buffer_add_byte(out, ']');
}

/* Halves and bytes, widened piece by piece. */
static void encode_narrow(struct buffer *out, const struct pdb_field *field, const char *values)
{
    enum { PIECE = 64 };
    struct pdb_field piece = *field;
    buffer_add_byte(out, '[');
    for (uint32_t at = 0; at < field->dimension; at += piece.dimension) {
        float floats[PIECE];
        piece.dimension = field->dimension - at < PIECE ? field->dimension - at : PIECE;
        pdb_vector_values(&piece, values, floats);
        values += pdb_vector_bytes(piece.dimension, piece.metric, piece.element);
        for (uint32_t i = 0; i < piece.dimension; i++) {
            if (at + i != 0)
                buffer_add_byte(out, ',');
            json_write_float(out, floats[i]);
        }
    }
    buffer_add_byte(out, ']');
}

static void encode_vector(struct buffer *out, const struct pdb_field *field, const void *values)
{
    if (field->element != PDB_ELEMENT_FLOAT32) {
        encode_narrow(out, field, values);
        return;
    }
    if (field->metric != PDB_METRIC_HAMMING) {
        encode_floats(out, values, field->dimension);
        return;
    }
    const uint8_t *bits = values;
    buffer_add_byte(out, '[');
    for (uint32_t i = 0; i < field->dimension; i++) {
        if (i != 0)
            buffer_add_byte(out, ',');
        buffer_add_byte(out, (bits[i / 8] >> (i % 8) & 1) != 0 ? '1' : '0');
    }
    buffer_add_byte(out, ']');
}

static void encode_vectors(struct buffer *out, bool *first, const struct pdb_row *row,
                           const struct pdb_field *fields, uint32_t field_count)
{
    bool named = false;
    for (uint32_t i = 0; i < field_count; i++) {
        if (row->vectors[i] == NULL)
            continue;
        if (fields[i].name.len != 0) {
            named = true;
            continue;
        }
        add_key(out, first, "vector");
        encode_vector(out, &fields[i], row->vectors[i]);
    }
    if (!named)
        return;
    bool first_field = true;
    add_key(out, first, "vectors");
    buffer_add_byte(out, '{');
    for (uint32_t i = 0; i < field_count; i++) {
        if (row->vectors[i] == NULL || fields[i].name.len == 0)
            continue;
        if (!first_field)
            buffer_add_byte(out, ',');
        first_field = false;
        json_write_string(out, fields[i].name);
        buffer_add_byte(out, ':');
        encode_vector(out, &fields[i], row->vectors[i]);
    }
    buffer_add_byte(out, '}');
}

static void encode_row_members(struct buffer *out, bool *first, const struct pdb_row *row,
                               const struct pdb_field *fields, uint32_t field_count,
                               unsigned include)
{
    if ((include & PDB_INCLUDE_VECTORS) != 0 && row->vectors != NULL)
        encode_vectors(out, first, row, fields, field_count);
    if ((include & PDB_INCLUDE_METADATA) != 0) {
        struct doc_value root = doc_root(row->metadata.ptr, row->metadata.len);
        add_key(out, first, "metadata");
        doc_write_json(out, &root);
    }
    if ((include & PDB_INCLUDE_TIMES) != 0) {
        add_key(out, first, "created_at");
        add_time(out, row->created_at_us);
        add_key(out, first, "updated_at");
        add_time(out, row->updated_at_us);
        add_key(out, first, "expires_at");
        if (row->expires_at_us != 0)
            add_time(out, row->expires_at_us);
        else
            buffer_add_lit(out, "null");
    }
}

void json_encode_row(struct buffer *out, const struct pdb_row *row, const struct pdb_field *fields,
                     uint32_t field_count, unsigned include)
{
    bool first = true;
    buffer_add_byte(out, '{');
    add_key(out, &first, "id");
    json_write_string(out, row->id);
    add_key(out, &first, "version");
    buffer_add_u64(out, row->version);
    encode_row_members(out, &first, row, fields, field_count, include);
    buffer_add_byte(out, '}');
}

/* ---- many rows, one a step ---- */

static void separate(struct json_rows_encoder *e)
{
    if (e->row_seen)
        buffer_add_byte(e->out, ',');
    e->row_seen = true;
}

static bool get_step(struct json_rows_encoder *e)
{
    const struct pdb_get *g = e->get;
    if (e->row < g->id_count) {
        const struct pdb_row *row = &g->rows_out[e->row++];
        if (row->version != 0) {
            separate(e);
            json_encode_row(e->out, row, g->fields_out, g->field_count_out, g->include);
        }
        return false;
    }
    bool first = true;
    buffer_add_lit(e->out, "],\"missing\":[");
    for (uint32_t i = 0; i < g->id_count; i++) {
        if (g->rows_out[i].version != 0)
            continue;
        if (!first)
            buffer_add_byte(e->out, ',');
        first = false;
        json_write_string(e->out, g->ids[i]);
    }
    buffer_add_lit(e->out, "]}");
    return true;
}

static bool scroll_step(struct json_rows_encoder *e)
{
    const struct pdb_scroll *s = e->scroll;
    if (e->row < s->row_count_out) {
        separate(e);
        json_encode_row(e->out, &s->rows_out[e->row++], s->fields_out, s->field_count_out,
                        s->include);
        return false;
    }
    buffer_add_lit(e->out, "],\"next_cursor\":");
    if (s->next_cursor_out.len != 0)
        json_write_string(e->out, s->next_cursor_out);
    else
        buffer_add_lit(e->out, "null");
    buffer_add_byte(e->out, '}');
    return true;
}

static void encode_hit(struct json_rows_encoder *e, const struct pdb_hit *hit)
{
    struct buffer *out = e->out;
    bool first = true;
    separate(e);
    buffer_add_byte(out, '{');
    add_key(out, &first, "id");
    json_write_string(out, hit->row.id);
    add_key(out, &first, "score");
    json_write_float(out, hit->score);
    add_key(out, &first, "version");
    buffer_add_u64(out, hit->row.version);
    encode_row_members(out, &first, &hit->row, e->search->fields_out, e->search->field_count_out,
                       e->search->queries[e->query].include);
    buffer_add_byte(out, '}');
}

static bool search_step(struct json_rows_encoder *e)
{
    const struct pdb_search *s = e->search;
    const struct pdb_hits *hits = &s->results_out[e->query];
    if (e->row == 0 && e->batch)
        buffer_add_text(e->out,
                        e->query != 0 ? TEXT_LIT(",{\"results\":[") : TEXT_LIT("{\"results\":["));
    if (e->row < hits->count) {
        encode_hit(e, &hits->hits[e->row++]);
        if (e->row < hits->count)
            return false;
    }
    e->row = 0;
    e->row_seen = false;
    buffer_add_text(e->out, e->batch ? TEXT_LIT("]}") : TEXT_LIT("]"));
    if (++e->query < s->query_count)
        return false;
    if (e->batch)
        buffer_add_byte(e->out, ']');
    buffer_format(e->out, ",\"took_us\":%llu}", (unsigned long long)s->call.took_us);
    return true;
}

bool json_encode_rows_step(struct json_rows_encoder *e)
{
    if (!e->opened) {
        e->opened = true;
        buffer_add_text(e->out, e->search != NULL ? TEXT_LIT("{\"results\":[")
                                                  : TEXT_LIT("{\"records\":["));
    }
    if (e->out->failed)
        return true;
    return e->get != NULL ? get_step(e) : e->scroll != NULL ? scroll_step(e) : search_step(e);
}
