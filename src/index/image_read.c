/* image_read.c: an index in bytes of which nothing is believed.
 *
 * The header and the table come first and decide every length: what a section must be follows from
 * the header, so a section is right or refused, and later checks have only contents to look at.
 * Sections come in the order in which they depend on each other: the rows of a level before who is
 * below them.
 *
 * Checksum and contents are checked together, a stretch at a time: the bytes are in cache once. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "index/image_internal.h"
#include "index/pq.h"
#include "index/quantize_internal.h"
#include "index/search_internal.h"

#include <inttypes.h>
#include <math.h>
#include <proximadb/error.h>

#include "base/no_libc_heap.h"

const char index_image_magic[8] = {'P', 'X', 'D', 'B', 'A', 'N', 'N', '1'};

static int damaged(struct trail *trail, const char *what)
{
    return trail_add(trail, PDB_DATA_LOSS, "index image: %s", what);
}

static struct section section_at(const struct index_image_reader *reader, uint32_t i)
{
    const uint8_t *at =
        reader->bytes + INDEX_IMAGE_HEADER_BYTES + (size_t)i * INDEX_IMAGE_SECTION_BYTES;
    return (struct section){
        .kind = bytes_get_u16(at),
        .level = bytes_get_u16(at + 2),
        .flags = bytes_get_u32(at + 4),
        .offset = bytes_get_u64(at + 8),
        .length = bytes_get_u64(at + 16),
        .padded = (bytes_get_u64(at + 16) + INDEX_IMAGE_ALIGNMENT - 1) &
                  ~(uint64_t)(INDEX_IMAGE_ALIGNMENT - 1),
        .crc = bytes_get_u32(at + 24),
    };
}

/* ---- the header ---- */

static int check_envelope(const uint8_t *bytes, size_t length, struct trail *trail)
{
    if (length < INDEX_IMAGE_HEADER_BYTES)
        return damaged(trail, "shorter than its header");
    if (memcmp(bytes, index_image_magic, sizeof index_image_magic) != 0)
        return damaged(trail, "no index");
    size_t head_bytes = bytes_get_u32(bytes + 16);
    if (head_bytes < INDEX_IMAGE_HEADER_BYTES || head_bytes > length ||
        head_bytes % INDEX_IMAGE_ALIGNMENT != 0)
        return damaged(trail, "length of the header");
    if (bytes_get_u32(bytes + 8) != crc32c(0, bytes + 12, head_bytes - 12))
        return damaged(trail, "checksum of the header");
    if (bytes_get_u32(bytes + 12) > INDEX_IMAGE_FORMAT ||
        (bytes_get_u32(bytes + 20) & INDEX_IMAGE_REQUIRED & ~INDEX_IMAGE_WITH_LISTS) != 0)
        return trail_add(trail, PDB_FAILED_PRECONDITION,
                         "index image: format %" PRIu32 ", written by a newer version",
                         bytes_get_u32(bytes + 12));
    if (bytes_get_u32(bytes + 12) < INDEX_IMAGE_FORMAT_LEAST)
        return damaged(trail, "format");
    uint32_t sections = bytes_get_u32(bytes + 32);
    size_t used = INDEX_IMAGE_HEADER_BYTES + (size_t)sections * INDEX_IMAGE_SECTION_BYTES;
    if (sections > INDEX_IMAGE_SECTIONS_MAX ||
        bytes_align_up(used, INDEX_IMAGE_ALIGNMENT) != head_bytes)
        return damaged(trail, "number of sections");
    if (bytes_get_u64(bytes + 24) != length)
        return damaged(trail, "length");
    return PDB_OK;
}

void image_shape(const struct index_image_reader *reader, struct quantizer *quantizer)
{
    if (bytes_get_u32(reader->bytes + 12) == INDEX_IMAGE_FORMAT_LINES)
        quantize_shape_in_lines(quantizer);
    else
        quantize_shape(quantizer);
}

static int read_quantizer(struct index_image_reader *reader, struct trail *trail)
{
    const uint8_t *at = reader->bytes;
    struct quantizer *quantizer = &reader->index.quantizer;
    uint16_t kind = bytes_get_u16(at + 40), metric = bytes_get_u16(at + 42);
    if (!quantize_supports((enum quantize_kind)kind, (enum pdb_metric)metric))
        return damaged(trail, "kind of codes");
    quantizer->kind = (enum quantize_kind)kind;
    quantizer->metric = (enum pdb_metric)metric;
    quantizer->dimension = bytes_get_u32(at + 44);
    if (quantizer->dimension == 0 || quantizer->dimension > PDB_DIMENSION_MAX)
        return damaged(trail, "dimension");
    quantizer->bits = bytes_get_u32(at + 84);
    if (kind == QUANTIZE_BINARY ? quantizer->bits - 1 >= QUANTIZE_BITS_MAX : quantizer->bits != 0)
        return damaged(trail, "bits of the codes");
    if (kind == QUANTIZE_PQ)
        quantizer->part_columns = bytes_get_u32(at + 104);
    if (kind == QUANTIZE_PQ && !pq_fits(quantizer->dimension, quantizer->part_columns))
        return damaged(trail, "parts of the codes");
    image_shape(reader, quantizer);
    if (quantizer->columns != bytes_get_u32(at + 48) || quantizer->stride != bytes_get_u32(at + 52))
        return damaged(trail, "shape of the codes");
    memcpy(&quantizer->scale, at + 56, sizeof(float));
    memcpy(&quantizer->norm_max, at + 60, sizeof(float));
    if (!isfinite(quantizer->scale) || !(quantizer->scale > 0) || !isfinite(quantizer->norm_max))
        return damaged(trail, "scale");
    quantizer->seed = bytes_get_u64(at + 64);
    return PDB_OK;
}

static int read_graph(struct index_image_reader *reader, struct trail *trail)
{
    const uint8_t *at = reader->bytes;
    struct hnsw *graph = &reader->index.graph;
    uint32_t m = bytes_get_u32(at + 72);
    reader->row_count = bytes_get_u32(at + 36);
    reader->index.codes.row_count = reader->row_count;
    reader->index.has_graph = m != 0;
    if (reader->row_count > HNSW_ROWS_MAX)
        return damaged(trail, "number of rows");
    if (m == 0)
        return PDB_OK;
    graph->row_count = reader->row_count;
    graph->link_max = m;
    graph->link_max0 = 2 * m;
    graph->level_count = bytes_get_u32(at + 76);
    graph->entry = bytes_get_u32(at + 80);
    graph->seed = bytes_get_u64(at + 88);
    if (m < HNSW_M_MIN || m > HNSW_M_MAX || m % 2 != 0 || graph->row_count == 0 ||
        graph->level_count > HNSW_LEVEL_MAX)
        return damaged(trail, "shape of the graph");
    return PDB_OK;
}

/* ---- the table ---- */

/* What must be the next known section, of which length; 0 for the nodes of a level, which the table
 * decides. Sections come in one order. */
struct expected {
    uint32_t kind, level;
};

static void expect_next(const struct index_image_reader *reader, struct expected *expected)
{
    const struct quantizer *quantizer = &reader->index.quantizer;
    const uint32_t levels = reader->index.has_graph ? reader->index.graph.level_count : 0;
    uint32_t kind = expected->kind + 1;
    if (image_is_list_kind(expected->kind)) {
        expected->kind = image_next_list_kind(reader, expected->kind);
        return;
    }
    if (kind == INDEX_IMAGE_MEAN && quantizer->kind == QUANTIZE_NONE)
        kind = INDEX_IMAGE_CODES;
    if (kind == INDEX_IMAGE_CODES && reader->row_count == 0)
        kind = INDEX_IMAGE_LINKS;
    if (kind == INDEX_IMAGE_SUMS && quantize_sums_bytes(quantizer, 1) == 0)
        kind = INDEX_IMAGE_LINKS;
    if (kind == INDEX_IMAGE_LINKS && !reader->index.has_graph)
        kind = 0;
    if (kind == INDEX_IMAGE_ROWS && expected->level == 0) /* level 0 has no rows of its own */
        kind = INDEX_IMAGE_BELOW + 1;
    if (kind > INDEX_IMAGE_BELOW) {
        expected->level++;
        kind = expected->level <= levels ? INDEX_IMAGE_LINKS : 0;
    }
    if (kind == 0) {
        kind = image_next_list_kind(reader, 0);
        expected->level = 0;
    }
    expected->kind = kind;
}

static int take_level(struct index_image_reader *reader, const struct section *section,
                      uint32_t *array, struct trail *trail)
{
    struct hnsw *graph = &reader->index.graph;
    struct hnsw_level *level = &graph->levels[section->level];
    const uint64_t list = (uint64_t)graph->link_max * sizeof(uint32_t);
    if (section->kind == INDEX_IMAGE_LINKS) {
        uint64_t nodes = section->length / list;
        uint32_t under =
            section->level == 1 ? graph->row_count : graph->levels[section->level - 1].node_count;
        if (section->length % list != 0 || nodes == 0 || nodes > under)
            return damaged(trail, "nodes of a level");
        level->node_count = (uint32_t)nodes;
        level->links = array;
    } else {
        if (section->length != level->node_count * sizeof(uint32_t))
            return damaged(trail, "rows of a level");
        if (section->kind == INDEX_IMAGE_ROWS)
            level->rows = array;
        else
            level->below = array;
    }
    return PDB_OK;
}

static int take_section(struct index_image_reader *reader, const struct section *section,
                        struct trail *trail)
{
    struct index *index = &reader->index;
    void *array = reader->bytes + section->offset;
    uint64_t wanted = 0;
    if (image_is_list_kind(section->kind)) {
        wanted = image_take_list_section(reader, section->kind, array);
        return section->length == wanted ? PDB_OK : damaged(trail, "length of a section");
    }
    if (section->level > 0)
        return take_level(reader, section, array, trail);
    switch ((enum index_image_kind)section->kind) {
    case INDEX_IMAGE_MEAN:
        reader->mean = array;
        wanted = index->quantizer.columns * sizeof(float);
        break;
    case INDEX_IMAGE_CODES:
        index->codes.bytes = array;
        wanted = quantize_codes_bytes(&index->quantizer, reader->row_count);
        break;
    case INDEX_IMAGE_SUMS:
        if (index->quantizer.kind == QUANTIZE_SQ8)
            index->codes.norms = array;
        else
            index->codes.factors = array;
        wanted = quantize_sums_bytes(&index->quantizer, reader->row_count);
        break;
    case INDEX_IMAGE_LINKS:
        index->graph.links = array;
        wanted = (uint64_t)reader->row_count * index->graph.link_max0 * sizeof(uint32_t);
        break;
    case INDEX_IMAGE_ROWS:
    case INDEX_IMAGE_BELOW:
    case INDEX_IMAGE_CALIBRATION:
    case INDEX_IMAGE_CODEBOOK:
    case INDEX_IMAGE_LIST_MEAN:
    case INDEX_IMAGE_CENTROIDS:
    case INDEX_IMAGE_CENTROID_NORMS:
    case INDEX_IMAGE_GROUPS:
    case INDEX_IMAGE_LISTS:
    case INDEX_IMAGE_PLACES:
        return damaged(trail, "level of a section");
    }
    return section->length == wanted ? PDB_OK : damaged(trail, "length of a section");
}

static int read_table(struct index_image_reader *reader, struct trail *trail)
{
    struct expected expected = {.kind = 0};
    uint64_t offset = bytes_get_u32(reader->bytes + 16);
    expect_next(reader, &expected);
    for (uint32_t i = 0; i < reader->section_count; i++) {
        struct section section = section_at(reader, i);
        if (section.offset != offset || section.length > reader->length ||
            section.padded > reader->length - offset)
            return damaged(trail, "place of a section");
        offset += section.padded;
        if ((section.flags & INDEX_IMAGE_REQUIRED) != 0)
            return trail_add(trail, PDB_FAILED_PRECONDITION,
                             "index image: section %" PRIu32 " of a newer version", section.kind);
        if (section.kind == INDEX_IMAGE_CALIBRATION && section.length == sizeof(struct calibration))
            reader->calibration = (const void *)(reader->bytes + section.offset);
        if (section.kind > INDEX_IMAGE_BELOW && !image_is_list_kind(section.kind))
            continue; /* newer, and not needed */
        if (section.kind == 0 || section.kind != expected.kind || section.level != expected.level)
            return damaged(trail, "order of the sections");
        int rc = take_section(reader, &section, trail);
        if (rc < 0)
            return rc;
        expect_next(reader, &expected);
    }
    if (offset != reader->length)
        return damaged(trail, "bytes behind the last section");
    if (expected.kind != 0)
        return damaged(trail, "a section is missing");
    return PDB_OK;
}

int index_image_open(struct index_image_reader *reader, void *bytes, size_t length,
                     struct trail *trail)
{
    ASSERT((uintptr_t)bytes % INDEX_IMAGE_ALIGNMENT == 0);
    *reader = (struct index_image_reader){.bytes = bytes, .length = length};
    int rc = check_envelope(bytes, length, trail);
    if (rc < 0)
        return rc;
    reader->section_count = bytes_get_u32(reader->bytes + 32);
    if ((rc = read_quantizer(reader, trail)) < 0 || (rc = read_graph(reader, trail)) < 0 ||
        (rc = image_read_lists(reader, trail)) < 0 || (rc = read_table(reader, trail)) < 0)
        return rc;
    const struct hnsw *graph = &reader->index.graph;
    uint32_t nodes =
        graph->level_count > 0 ? graph->levels[graph->level_count].node_count : graph->row_count;
    if (reader->index.has_graph && graph->entry >= nodes)
        return damaged(trail, "entry point");
    return PDB_OK;
}

/* ---- contents ---- */

static uint32_t nodes_of(const struct hnsw *graph, uint32_t level)
{
    return level == 0 ? graph->row_count : graph->levels[level].node_count;
}

static bool links_are_sound(const struct hnsw *graph, uint32_t level, uint64_t from, uint64_t to)
{
    const uint32_t *links = hnsw_links(graph, level, 0);
    const uint32_t width = level == 0 ? graph->link_max0 : graph->link_max;
    const uint32_t nodes = nodes_of(graph, level);
    unsigned wrong = 0;
    for (uint64_t i = from; i < to; i++) {
        bool unused = links[i] == HNSW_NONE;
        wrong |= !unused && links[i] >= nodes;
        wrong |= !unused && i % width != 0 && links[i - 1] == HNSW_NONE;
    }
    return wrong == 0;
}

static bool rows_are_sound(const struct hnsw *graph, uint32_t level, uint64_t from, uint64_t to)
{
    const uint32_t *rows = graph->levels[level].rows;
    for (uint64_t i = from; i < to; i++)
        if (rows[i] >= graph->row_count || (i > 0 && rows[i] <= rows[i - 1]))
            return false;
    return true;
}

static bool below_is_sound(const struct hnsw *graph, uint32_t level, uint64_t from, uint64_t to)
{
    const struct hnsw_level *at = &graph->levels[level];
    for (uint64_t i = from; i < to; i++) {
        uint32_t below = at->below[i];
        if (below >= nodes_of(graph, level - 1))
            return false;
        uint32_t row = level == 1 ? below : graph->levels[level - 1].rows[below];
        if (row != at->rows[i])
            return false;
    }
    return true;
}

bool image_finite(const float *values, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

/* Of most kinds any byte is a code. Numbers in codes of BINARY are looked at where their code
 * ends. */
static bool codes_are_sound(const struct index *index, uint64_t from, uint64_t to)
{
    const struct quantizer *quantizer = &index->quantizer;
    if (quantizer->kind == QUANTIZE_NONE && quantizer->metric != PDB_METRIC_HAMMING)
        return image_finite((const float *)(const void *)index->codes.bytes, from, to);
    if (quantizer->kind == QUANTIZE_BINARY)
        for (uint64_t end = from * 4 / quantizer->stride + 1; end * quantizer->stride <= to * 4;
             end++)
            if (!rabitq_is_sound(quantizer, index->codes.bytes + (end - 1) * quantizer->stride))
                return false;
    return true;
}

/* Numbers `from` to `to` of 4 bytes each. */
static bool contents_are_sound(struct index_image_reader *reader, const struct section *section,
                               uint64_t from, uint64_t to)
{
    const struct index *index = &reader->index;
    if (image_is_list_kind(section->kind))
        return image_lists_are_sound(reader, section, from, to);
    switch (section->kind) {
    case INDEX_IMAGE_MEAN:
        return image_finite(reader->mean, from, to);
    case INDEX_IMAGE_CODES:
        return codes_are_sound(index, from, to);
    case INDEX_IMAGE_SUMS:
        return index->codes.factors == NULL || image_finite(index->codes.factors, from, to);
    case INDEX_IMAGE_LINKS:
        return links_are_sound(&index->graph, section->level, from, to);
    case INDEX_IMAGE_ROWS:
        return rows_are_sound(&index->graph, section->level, from, to);
    case INDEX_IMAGE_BELOW:
        return below_is_sound(&index->graph, section->level, from, to);
    case INDEX_IMAGE_CALIBRATION:
        return from > 0 || reader->calibration == NULL || calibration_is_sound(reader->calibration);
    default:
        return true;
    }
}

static int check_stretch(struct index_image_reader *reader, const struct section *section,
                         uint64_t bytes, struct trail *trail)
{
    const uint64_t from = reader->checked, to = from + bytes;
    const uint64_t end = to < section->length ? to : section->length;
    reader->crc = crc32c(reader->crc, reader->bytes + section->offset + from, bytes);
    if (from < end && !contents_are_sound(reader, section, from / 4, end / 4))
        return trail_add(trail, PDB_DATA_LOSS,
                         "index image: section %" PRIu32 ", level %" PRIu32
                         ": impossible number before byte %" PRIu64,
                         section->kind, section->level, end);
    reader->checked = to;
    if (to < section->padded)
        return PDB_OK;
    if (reader->crc != section->crc)
        return trail_add(trail, PDB_DATA_LOSS,
                         "index image: section %" PRIu32 ", level %" PRIu32 ": checksum",
                         section->kind, section->level);
    reader->section++;
    reader->checked = 0;
    reader->crc = 0;
    return PDB_OK;
}

int index_image_step(struct index_image_reader *reader, size_t budget, struct trail *trail)
{
    budget = budget > INDEX_IMAGE_ALIGNMENT ? budget & ~(size_t)(INDEX_IMAGE_ALIGNMENT - 1)
                                            : INDEX_IMAGE_ALIGNMENT;
    while (reader->section < reader->section_count && budget > 0) {
        struct section section = section_at(reader, reader->section);
        uint64_t left = section.padded - reader->checked;
        uint64_t bytes = left < budget ? left : budget;
        int rc = check_stretch(reader, &section, bytes, trail);
        if (rc < 0)
            return rc;
        budget -= bytes;
    }
    return reader->section < reader->section_count;
}

/* A copy of an array that quantize_dispose() will free; NULL of NULL. False: no memory. */
static bool copy_floats(const float *floats, size_t bytes, struct heap *heap, float **copy_out)
{
    *copy_out = NULL;
    if (floats == NULL)
        return true;
    *copy_out = heap_alloc(heap, bytes);
    if (*copy_out != NULL)
        memcpy(*copy_out, floats, bytes);
    return *copy_out != NULL;
}

int index_image_finish(const struct index_image_reader *reader, struct heap *heap,
                       struct index *index_out)
{
    ASSERT(reader->section == reader->section_count);
    const struct quantizer *coarse = &reader->index.ivf.quantizer;
    struct index index = reader->index;
    struct quantizer *quantizer = &index.quantizer;
    index.mapped = true;
    bool copied =
        copy_floats(reader->mean, quantizer->columns * sizeof(float), heap, &quantizer->mean);
    copied = copied && copy_floats(reader->codebook, pq_codebook_bytes(quantizer), heap,
                                   &quantizer->codebook);
    copied = copied && copy_floats(reader->list_mean, coarse->columns * sizeof(float), heap,
                                   &index.ivf.quantizer.mean);
    if (!copied) {
        index_dispose(&index, heap);
        return PDB_RESOURCE_EXHAUSTED;
    }
    if (reader->calibration != NULL && reader->calibration->effort_kind == search_effort_of(&index))
        index.calibration = *reader->calibration;
    *index_out = index;
    return PDB_OK;
}
