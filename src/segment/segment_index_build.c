/* segment_index_build.c: the .index, from rows in their order.
 *
 * Rows are gathered into one growing array for each section. The end knows every length, so that
 * the file is laid out first, its memory taken at once (the only allocation that can still fail),
 * and each array copied to its place and given back: at most one array is there twice. */
#include "segment/segment_index_internal.h"

#include "base/bitset.h"
#include "base/bytes.h"
#include "base/crc32c.h"

#include "base/no_libc_heap.h"

enum {
    IDS_PER_BUCKET = 8,
    COLUMN_SECTIONS = 10, /* most sections that belong to no field */
    FIELD_SECTIONS = 4,
    SECTIONS_MAX = COLUMN_SECTIONS + FIELD_SECTIONS * PDB_FIELD_MAX,
};
_Static_assert(SECTIONS_MAX <= (int)SEGMENT_SECTIONS_MAX, "a reader accepts what is written");

int segment_index_init(struct segment_index_builder *b, struct heap *heap,
                       const struct segment_schema *schema)
{
    ASSERT(schema->field_count <= PDB_FIELD_MAX);
    *b = (struct segment_index_builder){.heap = heap,
                                        .collection = schema->collection,
                                        .number = schema->number,
                                        .version_min = UINT64_MAX,
                                        .expires_min_us = INT64_MAX};
    struct buffer *const all[] = {&b->ids,      &b->id_lens, &b->docs,    &b->doc_lens,
                                  &b->versions, &b->created, &b->updated, &b->expires};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        buffer_init_heap(all[i], heap, 0);
    b->fields = heap_calloc(heap, schema->field_count, sizeof(*b->fields));
    if (b->fields == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    b->field_count = schema->field_count;
    for (uint32_t f = 0; f < b->field_count; f++) {
        const struct pdb_field *from = &schema->fields[f];
        struct segment_index_field *field = &b->fields[f];
        field->entry = (struct segment_field_entry){
            .dimension = from->dimension,
            .metric = (uint32_t)from->metric,
            .bytes = segment_vector_bytes(from->dimension, from->metric)};
        buffer_init_heap(&field->present, heap, 0);
        buffer_init_heap(&field->norms, heap, 0);
        buffer_init_heap(&field->pages, heap, 0);
    }
    return 0;
}

void segment_index_dispose(struct segment_index_builder *b)
{
    struct buffer *const all[] = {&b->ids,      &b->id_lens, &b->docs,    &b->doc_lens,
                                  &b->versions, &b->created, &b->updated, &b->expires};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        buffer_dispose(all[i]);
    for (uint32_t f = 0; f < b->field_count; f++) {
        buffer_dispose(&b->fields[f].present);
        buffer_dispose(&b->fields[f].norms);
        buffer_dispose(&b->fields[f].pages);
    }
    heap_free(b->heap, b->fields);
    *b = (struct segment_index_builder){0};
}

static bool same_id_as_last(const struct segment_index_builder *b, struct pdb_text id)
{
    if (b->row_count == 0)
        return false;
    size_t len = bytes_get_u16(b->id_lens.ptr + b->id_lens.len - sizeof(uint16_t));
    return text_equal((struct pdb_text){b->ids.ptr + b->ids.len - len, len}, id);
}

static bool add_vector(struct segment_index_builder *b, struct segment_index_field *field,
                       const void *vector)
{
    if (b->row_count % 64 == 0)
        buffer_add(&field->present, &(uint64_t){0}, sizeof(uint64_t));
    if (field->present.failed || vector == NULL)
        return !field->present.failed;
    char *word = field->present.ptr + field->present.len - sizeof(uint64_t);
    bytes_put_u64(word, bytes_get_u64(word) | (uint64_t)1 << (b->row_count % 64));
    field->entry.vector_count++;
    if (field->entry.metric == PDB_METRIC_COSINE) {
        float norm = scan_inverse_norm(vector, field->entry.dimension);
        buffer_add(&field->norms, &norm, sizeof(norm));
    }
    return !field->norms.failed;
}

static void add_numbers(struct segment_index_builder *b, const struct pdb_row *row)
{
    buffer_add(&b->versions, &row->version, sizeof(row->version));
    buffer_add(&b->created, &row->created_at_us, sizeof(row->created_at_us));
    buffer_add(&b->updated, &row->updated_at_us, sizeof(row->updated_at_us));
    buffer_add(&b->expires, &row->expires_at_us, sizeof(row->expires_at_us));
    b->updated_differs |= row->updated_at_us != row->created_at_us;
    b->version_min = row->version < b->version_min ? row->version : b->version_min;
    b->version_max = row->version > b->version_max ? row->version : b->version_max;
    if (row->expires_at_us != 0) {
        b->expires_any = true;
        if (row->expires_at_us < b->expires_min_us)
            b->expires_min_us = row->expires_at_us;
    }
}

int segment_index_add(struct segment_index_builder *b, const struct pdb_row *row)
{
    ASSERT(row->id.len >= 1 && row->id.len <= PDB_ID_BYTES_MAX && row->metadata.len <= UINT32_MAX);
    if (b->row_count == SEGMENT_ROWS_MAX)
        return PDB_RESOURCE_EXHAUSTED;
    b->id_count += !same_id_as_last(b, row->id);
    buffer_add_text(&b->ids, row->id);
    buffer_add(&b->id_lens, &(uint16_t){(uint16_t)row->id.len}, sizeof(uint16_t));
    buffer_add_text(&b->docs, row->metadata);
    buffer_add(&b->doc_lens, &(uint32_t){(uint32_t)row->metadata.len}, sizeof(uint32_t));
    add_numbers(b, row);
    bool failed = b->ids.failed || b->id_lens.failed || b->docs.failed || b->doc_lens.failed ||
                  b->versions.failed || b->created.failed || b->updated.failed || b->expires.failed;
    for (uint32_t f = 0; f < b->field_count && !failed; f++)
        failed = !add_vector(b, &b->fields[f], row->vectors != NULL ? row->vectors[f] : NULL);
    if (failed)
        return PDB_RESOURCE_EXHAUSTED;
    b->row_count++;
    return 0;
}

int segment_index_add_page(struct segment_index_builder *b, uint32_t field, uint64_t offset,
                           uint32_t count, uint32_t crc)
{
    ASSERT(field < b->field_count && count != 0);
    struct segment_index_field *to = &b->fields[field];
    struct segment_page page = {.offset = offset, .count = count, .crc = crc};
    if (to->entry.page_count > 0) {
        struct segment_page last;
        memcpy(&last, to->pages.ptr + to->pages.len - sizeof(last), sizeof(last));
        page.first = last.first + last.count;
    } else {
        to->entry.in_place = offset != 0;
    }
    ASSERT((to->entry.in_place != 0) == (offset != 0));
    buffer_add(&to->pages, &page, sizeof(page));
    if (to->pages.failed)
        return PDB_RESOURCE_EXHAUSTED;
    to->entry.page_count++;
    return 0;
}

/* ---- the file ---- */

/* A section to be written: a copy of `from`, or what `fill` makes. */
struct part {
    struct segment_section section;
    struct buffer *from;
};

struct layout {
    struct segment_index_builder *b;
    struct hash_key hash_key;
    uint32_t bucket_count;
    uint32_t count;
    uint64_t bytes; /* of the file so far */
    struct part parts[SECTIONS_MAX];
};

static void plan_part(struct layout *l, enum segment_section_kind kind, uint32_t field,
                      uint64_t length, struct buffer *from)
{
    ASSERT(l->count < SECTIONS_MAX);
    l->parts[l->count++] = (struct part){
        .section = {.kind = (uint16_t)kind, .field = (uint16_t)field, .length = length},
        .from = from};
}

static void plan_offsets(struct layout *l, enum segment_section_kind kind, uint64_t text_bytes)
{
    bool wide = text_bytes > UINT32_MAX;
    plan_part(l, kind, 0, ((uint64_t)l->b->row_count + 1) * (wide ? 8 : 4), NULL);
    l->parts[l->count - 1].section.flags = wide ? SEGMENT_WIDE : 0;
}

static void plan_field(struct layout *l, uint32_t f)
{
    struct segment_index_field *field = &l->b->fields[f];
    if (field->entry.vector_count != l->b->row_count) {
        uint64_t ranks = (uint64_t)l->b->row_count / SEGMENT_RANK_ROWS + 1;
        plan_part(l, SEGMENT_PRESENT, f, field->present.len, &field->present);
        plan_part(l, SEGMENT_RANKS, f, ranks * sizeof(uint32_t), NULL);
    }
    if (field->entry.metric == PDB_METRIC_COSINE)
        plan_part(l, SEGMENT_INVERSE_NORMS, f, field->norms.len, &field->norms);
    plan_part(l, SEGMENT_VECTOR_PAGES, f, field->pages.len, &field->pages);
}

static void plan(struct layout *l)
{
    struct segment_index_builder *b = l->b;
    l->bucket_count = b->id_count / IDS_PER_BUCKET + 1;
    plan_part(l, SEGMENT_FIELDS, 0, b->field_count * sizeof(struct segment_field_entry), NULL);
    plan_offsets(l, SEGMENT_ID_OFFSETS, b->ids.len);
    plan_part(l, SEGMENT_ID_BYTES, 0, b->ids.len, &b->ids);
    plan_part(l, SEGMENT_ID_HASH, 0, (uint64_t)l->bucket_count * sizeof(struct segment_bucket),
              NULL);
    plan_part(l, SEGMENT_VERSIONS, 0, b->versions.len, &b->versions);
    plan_part(l, SEGMENT_CREATED, 0, b->created.len, &b->created);
    if (b->updated_differs)
        plan_part(l, SEGMENT_UPDATED, 0, b->updated.len, &b->updated);
    if (b->expires_any)
        plan_part(l, SEGMENT_EXPIRES, 0, b->expires.len, &b->expires);
    plan_offsets(l, SEGMENT_DOC_OFFSETS, b->docs.len);
    plan_part(l, SEGMENT_DOC_BYTES, 0, b->docs.len, &b->docs);
    for (uint32_t f = 0; f < b->field_count; f++)
        plan_field(l, f);
    l->bytes = segment_header_bytes(l->count);
    for (uint32_t i = 0; i < l->count; i++) {
        l->parts[i].section.offset = l->bytes;
        l->bytes += bytes_align_up(l->parts[i].section.length, SEGMENT_ALIGNMENT);
    }
}

static void fill_fields(const struct layout *l, uint8_t *to)
{
    for (uint32_t f = 0; f < l->b->field_count; f++)
        memcpy(to + f * sizeof(struct segment_field_entry), &l->b->fields[f].entry,
               sizeof(struct segment_field_entry));
}

/* `lens`: of 2 or 4 bytes each. */
static void fill_offsets(const struct layout *l, const struct buffer *lens, size_t len_bytes,
                         bool wide, uint8_t *to)
{
    uint64_t offset = 0;
    for (size_t i = 0;; i++) {
        if (wide)
            bytes_put_u64(to + i * 8, offset);
        else
            bytes_put_u32(to + i * 4, (uint32_t)offset);
        if (i == l->b->row_count)
            return;
        const char *at = lens->ptr + i * len_bytes;
        offset += len_bytes == 2 ? bytes_get_u16(at) : bytes_get_u32(at);
    }
}

static void put_in_bucket(uint8_t *buckets, uint32_t bucket_count, uint32_t at, uint16_t tag,
                          uint32_t row)
{
    struct segment_bucket bucket;
    for (;;) {
        uint8_t *line = buckets + (size_t)at * sizeof(bucket);
        memcpy(&bucket, line, sizeof(bucket));
        bool full = bucket.count == SEGMENT_BUCKET_SLOTS;
        if (full) {
            bucket.overflowed = 1;
        } else {
            bucket.rows[bucket.count] = row;
            bucket.tags[bucket.count++] = tag;
        }
        memcpy(line, &bucket, sizeof(bucket));
        if (!full)
            return;
        at = at + 1 < bucket_count ? at + 1 : 0; /* there is room: 8 an bucket on average */
    }
}

static void fill_hash(const struct layout *l, uint8_t *to)
{
    const struct segment_index_builder *b = l->b;
    struct pdb_text last = {NULL, 0};
    memset(to, 0, (size_t)l->bucket_count * sizeof(struct segment_bucket));
    const char *at = b->ids.ptr;
    for (uint32_t row = 0; row < b->row_count; row++) {
        struct pdb_text id = {at, bytes_get_u16(b->id_lens.ptr + row * sizeof(uint16_t))};
        at += id.len;
        if (row == 0 || !text_equal(id, last)) {
            uint16_t tag = 0;
            uint64_t hash = hash_bytes(&l->hash_key, id.ptr, id.len);
            uint32_t bucket = segment_hash_place(hash, l->bucket_count, &tag);
            put_in_bucket(to, l->bucket_count, bucket, tag, row);
        }
        last = id;
    }
}

static void fill_ranks(const struct layout *l, const struct buffer *present, uint8_t *to)
{
    uint32_t rank = 0, rank_words = SEGMENT_RANK_ROWS / 64;
    size_t words = present->len / sizeof(uint64_t);
    for (size_t i = 0; i <= l->b->row_count / SEGMENT_RANK_ROWS; i++) {
        bytes_put_u32(to + i * sizeof(rank), rank);
        for (size_t w = i * rank_words; w < (i + 1) * rank_words && w < words; w++)
            rank += (uint32_t)__builtin_popcountll(bytes_get_u64(present->ptr + w * 8));
    }
}

static void fill_part(const struct layout *l, const struct part *part, uint8_t *to)
{
    const struct segment_section *section = &part->section;
    bool wide = (section->flags & SEGMENT_WIDE) != 0;
    if (part->from != NULL) {
        if (part->from->len != 0)
            memcpy(to, part->from->ptr, part->from->len);
        return;
    }
    if (section->kind == SEGMENT_FIELDS)
        fill_fields(l, to);
    else if (section->kind == SEGMENT_ID_OFFSETS)
        fill_offsets(l, &l->b->id_lens, sizeof(uint16_t), wide, to);
    else if (section->kind == SEGMENT_DOC_OFFSETS)
        fill_offsets(l, &l->b->doc_lens, sizeof(uint32_t), wide, to);
    else if (section->kind == SEGMENT_ID_HASH)
        fill_hash(l, to);
    else
        fill_ranks(l, &l->b->fields[section->field].present, to);
}

/* True if nothing that is still to be written is made from this array. */
static bool last_use(const struct layout *l, const struct part *part)
{
    return part->from != NULL && part->from != &l->b->ids && part->section.kind != SEGMENT_PRESENT;
}

static void write_parts(struct layout *l, uint8_t *file)
{
    for (uint32_t i = 0; i < l->count; i++) {
        struct segment_section *section = &l->parts[i].section;
        uint8_t *to = file + section->offset;
        size_t padded = bytes_align_up(section->length, SEGMENT_ALIGNMENT);
        memset(to + section->length, 0, padded - section->length);
        fill_part(l, &l->parts[i], to);
        section->crc = crc32c(0, to, padded);
        if (last_use(l, &l->parts[i])) {
            buffer_dispose(l->parts[i].from);
            buffer_init_heap(l->parts[i].from, l->b->heap, 0);
        }
    }
}

static void write_header(const struct layout *l, const struct segment_index_source *source,
                         uint8_t *file)
{
    struct segment_section sections[SECTIONS_MAX];
    struct segment_header header = {.collection = l->b->collection,
                                    .number = l->b->number,
                                    .row_count = l->b->row_count,
                                    .parquet_bytes = source->parquet_bytes,
                                    .parquet_crc = source->parquet_crc,
                                    .footer_crc = source->footer_crc,
                                    .index_bytes = l->bytes,
                                    .hash_seed = source->hash_seed,
                                    .version_min = l->b->version_min,
                                    .version_max = l->b->version_max,
                                    .expires_min_us = l->b->expires_min_us,
                                    .section_count = l->count};
    for (uint32_t i = 0; i < l->count; i++)
        sections[i] = l->parts[i].section;
    segment_header_put(&header, sections, file);
}

int segment_index_write(struct segment_index_builder *b, const struct segment_index_source *source,
                        struct buffer *index_out)
{
    ASSERT(b->row_count > 0);
    struct layout *l = heap_calloc(b->heap, 1, sizeof(*l));
    if (l == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    l->b = b;
    l->hash_key = segment_hash_key(source->hash_seed);
    plan(l);
    uint8_t *file = (uint8_t *)buffer_reserve(index_out, l->bytes);
    if (file != NULL) {
        write_parts(l, file);
        write_header(l, source, file);
        index_out->len += l->bytes;
    }
    heap_free(b->heap, l);
    return file != NULL ? 0 : PDB_RESOURCE_EXHAUSTED;
}
