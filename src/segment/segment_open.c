/* segment_open.c: an .index becomes a struct segment.
 *
 * Nothing is copied and nothing is done for each row but comparing: the sections are summed, then
 * the few arrays that lead to other bytes (offsets, ranks, pages) are walked once, so that no
 * reader has to doubt them. A million rows take some milliseconds; the sums run at memory speed.
 *
 * Which file is to blame. The index says which collection and segment it belongs to, and it is
 * under a checksum of its own. If it does not hold, it is thrown away and made again
 * (*index_bad_out). If it holds and names this segment, but the Parquet file has another length or
 * footer than it remembers, then the Parquet file is damaged, and no new index would help. */
#include "segment/segment_internal.h"

#include "segment/segment_index_internal.h"

#include <inttypes.h>

#include "base/no_libc_heap.h"

enum { FIELD_KIND_FIRST = SEGMENT_PRESENT, FIELD_KINDS = SEGMENT_KIND_COUNT - SEGMENT_PRESENT };

struct place {
    const uint8_t *at; /* NULL: not there */
    uint64_t length;
    uint32_t flags;
};

struct opening {
    const struct segment_open_options *options;
    struct segment *s;
    struct segment_header header;
    struct place own[FIELD_KIND_FIRST]; /* by kind */
    struct place (*fields)[FIELD_KINDS];
    struct trail *trail;
    bool index_bad;
};

static int bad_index(struct opening *o, const char *what)
{
    o->index_bad = true;
    (void)trail_add(o->trail, PDB_DATA_LOSS, "index: %s", what);
    return PDB_DATA_LOSS;
}

/* ---- which file it is ---- */

static int check_identity(struct opening *o)
{
    const struct segment_schema *schema = &o->options->schema;
    const struct segment_header *h = &o->header;
    if (!uuid_equal(&h->collection, &schema->collection) || h->number != schema->number)
        return bad_index(o, "of another segment");
    if (h->row_count == 0 || h->row_count > SEGMENT_ROWS_MAX)
        return bad_index(o, "number of rows");
    uint32_t crc = 0;
    const struct segment_bytes *parquet = &o->options->parquet;
    if (h->parquet_bytes != parquet->len)
        return trail_add(o->trail, PDB_DATA_LOSS, "Parquet file: %zu bytes instead of %" PRIu64,
                         parquet->len, h->parquet_bytes);
    if (!segment_footer_crc(parquet->ptr, parquet->len, &crc, NULL) || crc != h->footer_crc)
        return trail_add(o->trail, PDB_DATA_LOSS, "Parquet file: the footer is damaged");
    return 0;
}

static int read_header(struct opening *o)
{
    const struct segment_bytes *index = &o->options->index;
    if (index->len == 0)
        return bad_index(o, "missing");
    ASSERT((uintptr_t)index->ptr % alignof(uint64_t) == 0);
    int rc = segment_header_get(index->ptr, index->len, &o->header, o->trail);
    if (rc < 0) {
        o->index_bad = rc == PDB_DATA_LOSS;
        return trail_add(o->trail, rc, "index");
    }
    return check_identity(o);
}

/* ---- sections ---- */

static int note_section(struct opening *o, const struct segment_section *section)
{
    bool known = section->kind != 0 && section->kind < SEGMENT_KIND_COUNT;
    if ((section->flags & SEGMENT_REQUIRED) != 0)
        return trail_add(o->trail, PDB_FAILED_PRECONDITION,
                         "index: written by a newer version: section %u, flags %x", section->kind,
                         section->flags);
    struct place *place = NULL;
    if (known && section->kind < FIELD_KIND_FIRST)
        place = &o->own[section->kind];
    else if (known && section->field < o->s->field_count)
        place = &o->fields[section->field][section->kind - FIELD_KIND_FIRST];
    else if (known)
        return bad_index(o, "a section of no field");
    if (place == NULL)
        return 0; /* newer, and not needed */
    if (place->at != NULL)
        return bad_index(o, "a section is there twice");
    *place =
        (struct place){o->options->index.ptr + section->offset, section->length, section->flags};
    return 0;
}

static int read_sections(struct opening *o)
{
    const struct segment_bytes *index = &o->options->index;
    uint64_t expected = segment_header_bytes(o->header.section_count);
    for (uint32_t i = 0; i < o->header.section_count; i++) {
        struct segment_section section;
        int rc = segment_section_get(index->ptr, &o->header, i, &expected, &section, o->trail);
        if (rc < 0) {
            o->index_bad = rc == PDB_DATA_LOSS;
            return trail_add(o->trail, rc, "index");
        }
        rc = note_section(o, &section);
        if (rc < 0)
            return rc;
    }
    return expected == index->len ? 0 : bad_index(o, "bytes that belong to no section");
}

/* An array of exactly that many bytes; NULL: it is not there, or not so long. */
static const void *whole(const struct place *place, uint64_t length)
{
    return place->length == length ? place->at : NULL;
}

/* Offsets that rise by at least `len_min` and at most `len_max`, from 0 to text_bytes. */
static bool offsets_good(const struct segment_offsets *offsets, uint32_t count, uint64_t len_min,
                         uint64_t len_max, uint64_t text_bytes)
{
    bool good = segment_offset(offsets, 0) == 0 && segment_offset(offsets, count) == text_bytes;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t from = segment_offset(offsets, i), to = segment_offset(offsets, i + 1);
        good &= to >= from && to - from >= len_min && to - from <= len_max;
    }
    return good;
}

static bool take_offsets(const struct opening *o, enum segment_section_kind kind,
                         enum segment_section_kind text, uint64_t len_min, uint64_t len_max,
                         struct segment_offsets *offsets_out)
{
    const struct place *place = &o->own[kind];
    bool wide = (place->flags & SEGMENT_WIDE) != 0;
    uint64_t length = (o->header.row_count + 1) * (wide ? sizeof(uint64_t) : sizeof(uint32_t));
    *offsets_out = (struct segment_offsets){whole(place, length), wide};
    return offsets_out->at != NULL && o->own[text].at != NULL &&
           offsets_good(offsets_out, o->s->row_count, len_min, len_max, o->own[text].length);
}

static int take_rows(struct opening *o)
{
    struct segment *s = o->s;
    uint64_t eight = o->header.row_count * sizeof(uint64_t);
    if (!take_offsets(o, SEGMENT_ID_OFFSETS, SEGMENT_ID_BYTES, 1, PDB_ID_BYTES_MAX, &s->id_offsets))
        return bad_index(o, "ids");
    if (!take_offsets(o, SEGMENT_DOC_OFFSETS, SEGMENT_DOC_BYTES, 0, UINT32_MAX, &s->doc_offsets))
        return bad_index(o, "documents");
    s->ids = (const char *)o->own[SEGMENT_ID_BYTES].at;
    s->docs = (const char *)o->own[SEGMENT_DOC_BYTES].at;
    s->versions = whole(&o->own[SEGMENT_VERSIONS], eight);
    s->created_us = whole(&o->own[SEGMENT_CREATED], eight);
    s->updated_us = s->created_us;
    if (o->own[SEGMENT_UPDATED].at != NULL)
        s->updated_us = whole(&o->own[SEGMENT_UPDATED], eight);
    s->expires_us = whole(&o->own[SEGMENT_EXPIRES], eight);
    if (s->versions == NULL || s->created_us == NULL || s->updated_us == NULL ||
        (s->expires_us == NULL && o->own[SEGMENT_EXPIRES].at != NULL))
        return bad_index(o, "versions or times");
    const struct place *hash = &o->own[SEGMENT_ID_HASH];
    if (hash->at == NULL || hash->length == 0 || hash->length % sizeof(*s->buckets) != 0 ||
        hash->length / sizeof(*s->buckets) > o->header.row_count)
        return bad_index(o, "hash of ids");
    s->buckets = (const void *)hash->at;
    s->bucket_count = (uint32_t)(hash->length / sizeof(*s->buckets));
    s->hash_key = segment_hash_key(o->header.hash_seed);
    return 0;
}

/* ---- fields ---- */

static bool present_good(const struct segment_field *field, uint32_t row_count)
{
    uint32_t words = (row_count + 63) / 64, count = 0;
    for (uint32_t w = 0; w < words; w++) {
        if (w % (SEGMENT_RANK_ROWS / 64) == 0 &&
            field->ranks[w / (SEGMENT_RANK_ROWS / 64)] != count)
            return false;
        count += (uint32_t)__builtin_popcountll(field->present[w]);
    }
    /* A reader may ask for the rank of row_count. */
    bool last_rank =
        row_count % SEGMENT_RANK_ROWS != 0 || field->ranks[row_count / SEGMENT_RANK_ROWS] == count;
    bool beyond = row_count % 64 != 0 && field->present[words - 1] >> (row_count % 64) != 0;
    return last_rank && !beyond && count == field->vector_count;
}

static bool pages_good(const struct opening *o, const struct segment_field *field, bool in_place)
{
    uint64_t ordinal = 0;
    for (uint32_t p = 0; p < field->page_count; p++) {
        const struct segment_page *page = &field->pages[p];
        if (page->first != ordinal || page->count == 0 || (page->offset != 0) != in_place)
            return false;
        ordinal += page->count;
        uint64_t bytes = (uint64_t)page->count * field->bytes;
        if (in_place && (page->offset > o->options->parquet.len ||
                         bytes > o->options->parquet.len - page->offset))
            return false;
    }
    return ordinal == field->vector_count;
}

static int take_field(struct opening *o, uint32_t f, const struct segment_field_entry *entry)
{
    struct segment_field *field = &o->s->fields[f];
    const struct pdb_field *wanted = &o->options->schema.fields[f];
    const struct place *places = o->fields[f];
    const struct place *pages = &places[SEGMENT_VECTOR_PAGES - FIELD_KIND_FIRST];
    *field = (struct segment_field){.dimension = entry->dimension,
                                    .metric = wanted->metric,
                                    .element = wanted->element,
                                    .bytes = entry->bytes,
                                    .vector_count = entry->vector_count,
                                    .page_count = entry->page_count,
                                    .first_state = o->s->page_total};
    if (entry->dimension != wanted->dimension || entry->metric != (uint32_t)wanted->metric ||
        entry->element != (uint32_t)wanted->element || entry->bytes != segment_vector_bytes(wanted))
        return bad_index(o, "a field differs from the collection's");
    uint64_t row_count = o->header.row_count;
    if (entry->vector_count > row_count || entry->in_place > 1)
        return bad_index(o, "a field's numbers");
    field->pages = whole(pages, entry->page_count * sizeof(struct segment_page));
    if (field->pages == NULL || !pages_good(o, field, entry->in_place != 0))
        return bad_index(o, "pages of vectors");
    field->page_vectors = field->page_count > 0 ? field->pages[0].count : 1;
    if (entry->vector_count != row_count) {
        field->present = whole(&places[SEGMENT_PRESENT - FIELD_KIND_FIRST],
                               (row_count + 63) / 64 * sizeof(uint64_t));
        field->ranks = whole(&places[SEGMENT_RANKS - FIELD_KIND_FIRST],
                             (row_count / SEGMENT_RANK_ROWS + 1) * sizeof(uint32_t));
        if (field->present == NULL || field->ranks == NULL || !present_good(field, o->s->row_count))
            return bad_index(o, "which rows have a vector");
    }
    if (wanted->metric == PDB_METRIC_COSINE) {
        field->inverse_norms = whole(&places[SEGMENT_INVERSE_NORMS - FIELD_KIND_FIRST],
                                     (uint64_t)entry->vector_count * sizeof(float));
        if (field->inverse_norms == NULL)
            return bad_index(o, "norms");
    }
    o->s->page_total += field->page_count;
    if (entry->in_place != 0)
        o->s->vector_bytes += (uint64_t)field->vector_count * field->bytes;
    return 0;
}

static int take_fields(struct opening *o)
{
    const struct segment_field_entry *entries =
        whole(&o->own[SEGMENT_FIELDS], o->s->field_count * sizeof(struct segment_field_entry));
    if (entries == NULL)
        return bad_index(o, "fields differ from the collection's");
    for (uint32_t f = 0; f < o->s->field_count; f++) {
        int rc = take_field(o, f, &entries[f]);
        if (rc < 0)
            return rc;
    }
    size_t states = (size_t)o->s->page_total + 1;
    o->s->page_states = heap_calloc(o->s->heap, states, sizeof(*o->s->page_states));
    if (o->s->page_states == NULL)
        return trail_add(o->trail, PDB_RESOURCE_EXHAUSTED, "memory for %zu pages", states);
    o->s->heap_bytes += states;
    return 0;
}

static int load_compressed(struct opening *o)
{
    for (uint32_t f = 0; f < o->s->field_count; f++) {
        const struct segment_field *field = &o->s->fields[f];
        if (field->page_count == 0 || field->pages[0].offset != 0)
            continue;
        int rc = segment_load_vectors(o->s, f, o->trail);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- all of it ---- */

static int allocate(struct opening *o)
{
    struct heap *heap = o->options->heap;
    uint32_t field_count = o->options->schema.field_count;
    ASSERT(field_count <= PDB_FIELD_MAX);
    struct segment *s = heap_calloc(heap, 1, sizeof(*s));
    if (s == NULL)
        return trail_add(o->trail, PDB_RESOURCE_EXHAUSTED, "memory for a segment");
    *s = (struct segment){.heap = heap,
                          .collection = o->header.collection,
                          .number = o->header.number,
                          .parquet = o->options->parquet,
                          .index = o->options->index,
                          .row_count = (uint32_t)o->header.row_count,
                          .field_count = field_count,
                          .version_min = o->header.version_min,
                          .version_max = o->header.version_max,
                          .expires_min_us = o->header.expires_min_us,
                          .parquet_crc = o->header.parquet_crc};
    o->s = s;
    s->fields = heap_calloc(heap, field_count, sizeof(*s->fields));
    o->fields = heap_calloc(heap, field_count, sizeof(*o->fields));
    s->heap_bytes = sizeof(*s) + field_count * sizeof(*s->fields);
    if (s->fields == NULL || o->fields == NULL)
        return trail_add(o->trail, PDB_RESOURCE_EXHAUSTED, "memory for a segment");
    return 0;
}

static int open_steps(struct opening *o)
{
    int rc = read_header(o);
    if (rc == 0)
        rc = allocate(o);
    if (rc == 0)
        rc = read_sections(o);
    if (rc == 0)
        rc = take_rows(o);
    if (rc == 0)
        rc = take_fields(o);
    if (rc == 0)
        rc = load_compressed(o);
    return rc;
}

int segment_open(const struct segment_open_options *options, struct segment **segment_out,
                 bool *index_bad_out, struct trail *trail)
{
    struct opening o = {.options = options, .trail = trail};
    int rc = open_steps(&o);
    heap_free(options->heap, o.fields);
    *index_bad_out = o.index_bad;
    if (rc < 0) {
        segment_free(o.s);
        return trail_add(trail, rc, "segment %" PRIu64, options->schema.number);
    }
    *segment_out = o.s;
    return 0;
}

void segment_free(struct segment *s)
{
    if (s == NULL)
        return;
    for (uint32_t f = 0; s->fields != NULL && f < s->field_count; f++)
        heap_free(s->heap, s->fields[f].heap_vectors);
    heap_free(s->heap, s->page_states);
    heap_free(s->heap, s->fields);
    heap_free(s->heap, s);
}

void segment_stats(const struct segment *s, struct segment_stats *stats_out)
{
    *stats_out = (struct segment_stats){.number = s->number,
                                        .rows = s->row_count,
                                        .parquet_bytes = s->parquet.len,
                                        .index_bytes = s->index.len,
                                        .heap_bytes = s->heap_bytes,
                                        .vector_bytes = s->vector_bytes,
                                        .version_min = s->version_min,
                                        .version_max = s->version_max,
                                        .expires_min_us = s->expires_min_us};
}
