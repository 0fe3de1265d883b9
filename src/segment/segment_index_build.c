/* segment_index_build.c: the rows of an .index, gathered in their order: one growing array for each
 * section, which segment_index_layout.c writes to its place and empties. */
#include "segment/segment_index_internal.h"

#include "base/bytes.h"
#include "base/text.h"

#include "base/no_libc_heap.h"

void segment_census_add(struct segment_census *census, uint32_t field_count,
                        const struct pdb_row *row)
{
    struct pdb_text last = {census->last_id, census->last_len};
    ASSERT(row->id.len <= PDB_ID_BYTES_MAX && field_count <= PDB_FIELD_MAX);
    if (census->rows == 0 || !text_equal(last, row->id)) {
        census->ids++;
        memcpy(census->last_id, row->id.ptr, row->id.len);
        census->last_len = (uint16_t)row->id.len;
    }
    census->rows++;
    census->id_bytes += row->id.len;
    census->doc_bytes += row->metadata.len;
    census->updated_differs |= row->updated_at_us != row->created_at_us;
    census->expires_any |= row->expires_at_us != 0;
    for (uint32_t f = 0; f < field_count && row->vectors != NULL; f++)
        census->vectors[f] += row->vectors[f] != NULL;
}

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
        field->entry = (struct segment_field_entry){.dimension = from->dimension,
                                                    .metric = (uint32_t)from->metric,
                                                    .element = (uint32_t)from->element,
                                                    .bytes = segment_vector_bytes(from)};
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
    segment_index_layout_free(b);
    *b = (struct segment_index_builder){0};
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
        float norm = scan_inverse_norm(vector, field->entry.dimension,
                                       (enum pdb_element_type)field->entry.element);
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
    b->version_min = row->version < b->version_min ? row->version : b->version_min;
    b->version_max = row->version > b->version_max ? row->version : b->version_max;
    if (row->expires_at_us != 0 && row->expires_at_us < b->expires_min_us)
        b->expires_min_us = row->expires_at_us;
}

int segment_index_add(struct segment_index_builder *b, const struct pdb_row *row)
{
    ASSERT(row->id.len >= 1 && row->id.len <= PDB_ID_BYTES_MAX && row->metadata.len <= UINT32_MAX);
    if (b->row_count == SEGMENT_ROWS_MAX)
        return PDB_RESOURCE_EXHAUSTED;
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
    segment_census_add(&b->seen, b->field_count, row);
    b->last_version = row->version;
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

uint64_t segment_index_pending(const struct segment_index_builder *b)
{
    uint64_t bytes = b->ids.len + b->id_lens.len + b->docs.len + b->doc_lens.len;
    return bytes + b->versions.len + b->created.len + b->updated.len + b->expires.len;
}
