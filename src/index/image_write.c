/* image_write.c: an index as a list of parts. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "index/image_internal.h"

#include "base/no_libc_heap.h"

static const uint8_t zeros[INDEX_IMAGE_ALIGNMENT];

static size_t padded(size_t length)
{
    return bytes_align_up(length, INDEX_IMAGE_ALIGNMENT);
}

void image_add(struct table *table, enum index_image_kind kind, uint32_t level, const void *bytes,
               size_t length)
{
    struct index_image_plan *plan = table->plan;
    ASSERT(plan->part_count < INDEX_IMAGE_PARTS_MAX);
    table->kinds[plan->part_count] = (uint16_t)kind;
    table->levels[plan->part_count] = (uint16_t)level;
    plan->parts[plan->part_count++] = (struct index_image_part){bytes, length, padded(length)};
}

static void add_graph(struct table *table, const struct hnsw *graph)
{
    const size_t list = graph->link_max * sizeof(uint32_t);
    image_add(table, INDEX_IMAGE_LINKS, 0, graph->links, graph->row_count * 2 * list);
    for (uint32_t level = 1; level <= graph->level_count; level++) {
        const struct hnsw_level *at = &graph->levels[level];
        image_add(table, INDEX_IMAGE_LINKS, level, at->links, at->node_count * list);
        image_add(table, INDEX_IMAGE_ROWS, level, at->rows, at->node_count * sizeof(uint32_t));
        image_add(table, INDEX_IMAGE_BELOW, level, at->below, at->node_count * sizeof(uint32_t));
    }
}

static void put_table(struct table *table)
{
    struct index_image_plan *plan = table->plan;
    uint64_t offset = plan->head_bytes;
    for (uint32_t i = 0; i < plan->part_count; i++) {
        const struct index_image_part *part = &plan->parts[i];
        uint8_t *at = plan->head + INDEX_IMAGE_HEADER_BYTES + i * INDEX_IMAGE_SECTION_BYTES;
        uint32_t crc = crc32c(0, part->bytes, part->length);
        crc = crc32c(crc, zeros, part->padded - part->length);
        bytes_put_u16(at, table->kinds[i]);
        bytes_put_u16(at + 2, table->levels[i]);
        bytes_put_u64(at + 8, offset);
        bytes_put_u64(at + 16, part->length);
        bytes_put_u32(at + 24, crc);
        offset += part->padded;
    }
    plan->image_bytes = offset;
}

static bool has_shape(const struct quantizer *quantizer)
{
    struct quantizer shape = *quantizer;
    quantize_shape(&shape);
    return shape.stride == quantizer->stride;
}

/* An index that was opened keeps the strides it came with: it is saved as what it was. */
static uint32_t format_of(const struct index *index)
{
    bool now =
        has_shape(&index->quantizer) && (!index->has_lists || has_shape(&index->ivf.quantizer));
    return now ? INDEX_IMAGE_FORMAT : INDEX_IMAGE_FORMAT_LINES;
}

static void put_header(const struct index *index, struct index_image_plan *plan)
{
    const struct quantizer *quantizer = &index->quantizer;
    uint8_t *at = plan->head;
    memcpy(at, index_image_magic, sizeof index_image_magic);
    bytes_put_u32(at + 12, format_of(index));
    bytes_put_u32(at + 16, (uint32_t)plan->head_bytes);
    bytes_put_u32(at + 20, index->has_lists ? INDEX_IMAGE_WITH_LISTS : 0);
    bytes_put_u64(at + 24, plan->image_bytes);
    bytes_put_u32(at + 32, plan->part_count);
    bytes_put_u32(at + 36, index->codes.row_count);
    bytes_put_u16(at + 40, (uint16_t)quantizer->kind);
    bytes_put_u16(at + 42, (uint16_t)quantizer->metric);
    bytes_put_u32(at + 44, quantizer->dimension);
    bytes_put_u32(at + 48, quantizer->columns);
    bytes_put_u32(at + 52, quantizer->stride);
    memcpy(at + 56, &quantizer->scale, sizeof(float));
    memcpy(at + 60, &quantizer->norm_max, sizeof(float));
    bytes_put_u64(at + 64, quantizer->seed);
    bytes_put_u32(at + 84, quantizer->bits);
    if (index->has_graph) {
        bytes_put_u32(at + 72, index->graph.link_max);
        bytes_put_u32(at + 76, index->graph.level_count);
        bytes_put_u32(at + 80, index->graph.entry);
        bytes_put_u64(at + 88, index->graph.seed);
    }
    image_put_lists(index, at);
    bytes_put_u32(at + 8, crc32c(0, at + 12, plan->head_bytes - 12));
}

void index_image_plan(const struct index *index, struct index_image_plan *plan_out)
{
    const struct quantizer *quantizer = &index->quantizer;
    const struct codes *codes = &index->codes;
    struct table table = {.plan = plan_out};
    memset(plan_out, 0, sizeof *plan_out);
    const void *sums = codes->norms != NULL ? (const void *)codes->norms : codes->factors;
    if (quantizer->mean != NULL)
        image_add(&table, INDEX_IMAGE_MEAN, 0, quantizer->mean, quantizer->columns * sizeof(float));
    if (codes->row_count > 0)
        image_add(&table, INDEX_IMAGE_CODES, 0, codes->bytes,
                  quantize_codes_bytes(quantizer, codes->row_count));
    if (codes->row_count > 0 && sums != NULL)
        image_add(&table, INDEX_IMAGE_SUMS, 0, sums,
                  quantize_sums_bytes(quantizer, codes->row_count));
    if (index->has_graph)
        add_graph(&table, &index->graph);
    image_add_lists(&table, index);
    if (index->calibration.query_count > 0)
        image_add(&table, INDEX_IMAGE_CALIBRATION, 0, &index->calibration,
                  sizeof index->calibration);
    plan_out->head_bytes =
        padded(INDEX_IMAGE_HEADER_BYTES + plan_out->part_count * INDEX_IMAGE_SECTION_BYTES);
    put_table(&table);
    put_header(index, plan_out);
}

void index_image_write(const struct index_image_plan *plan, uint8_t *image_out)
{
    memcpy(image_out, plan->head, plan->head_bytes);
    uint8_t *at = image_out + plan->head_bytes;
    for (uint32_t i = 0; i < plan->part_count; i++) {
        const struct index_image_part *part = &plan->parts[i];
        memcpy(at, part->bytes, part->length);
        memset(at + part->length, 0, part->padded - part->length);
        at += part->padded;
    }
}
