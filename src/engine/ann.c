/* ann.c: which index a segment is to have, and how one goes that nobody has any more.
 *
 * An index of a million rows takes tens of milliseconds to give back, page after page, so a worker
 * does that; until it has, the core counts it as upkeep, which its end waits for (as discard.c does
 * with segments).
 *
 * Where `auto` begins: an exact scan is cheap up to about 4,000 rows of 768 dimensions or 16,000 of
 * 100, half a step of a reactor by codes. A graph of so few rows saves little, and small segments
 * are merged soon. Who names an index gets it from a few hundred rows on. */
#include "engine/ann.h"

#include "base/assert.h"
#include "engine/upkeep_internal.h"
#include "index/image.h"

#include "base/no_libc_heap.h"

enum {
#ifdef PDB_STRESS
    ROWS_MIN = 24,
    AUTO_WORK = 20000,
#else
    ROWS_MIN = 256,
    AUTO_WORK = 3300000, /* rows x (what a row costs beside its dimensions + these) */
#endif
    AUTO_ROW_WORK = 100,
    SEED = 0x70726f78, /* any: the same rows give the same index */
};

/* ---- what is wanted ---- */

static bool is_large(const struct pdb_field *field, uint64_t vector_count)
{
    uint64_t columns =
        field->metric == PDB_METRIC_HAMMING ? field->dimension / 32 : field->dimension;
    return vector_count >= ROWS_MIN && vector_count * (columns + AUTO_ROW_WORK) >= AUTO_WORK;
}

static bool has_codes(const struct pdb_field *field)
{
    return field->quantization != PDB_QUANTIZATION_AUTO &&
           field->quantization != PDB_QUANTIZATION_NONE;
}

/* False: none. */
static bool kind_of(const struct pdb_field *field, uint64_t vector_count, enum index_kind *kind_out)
{
    switch (field->index) {
    case PDB_INDEX_AUTO:
        *kind_out = INDEX_HNSW;
        return is_large(field, vector_count);
    case PDB_INDEX_FLAT: /* without codes: the vectors themselves are scanned */
        *kind_out = INDEX_FLAT;
        return vector_count >= ROWS_MIN && has_codes(field);
    case PDB_INDEX_HNSW:
        *kind_out = INDEX_HNSW;
        return vector_count >= ROWS_MIN;
    case PDB_INDEX_IVF:
        *kind_out = INDEX_IVF;
        return vector_count >= ROWS_MIN;
    }
    return false;
}

/* Lists are scanned from end to end, so they have the smallest codes that re-ranking can mend. */
static enum quantize_kind codes_of(const struct pdb_field *field)
{
    switch (field->quantization) {
    case PDB_QUANTIZATION_AUTO:
        return field->index == PDB_INDEX_IVF ? QUANTIZE_PQ : QUANTIZE_SQ8;
    case PDB_QUANTIZATION_NONE:
        return QUANTIZE_NONE;
    case PDB_QUANTIZATION_SQ8:
        return QUANTIZE_SQ8;
    case PDB_QUANTIZATION_SQ4:
        return QUANTIZE_SQ4;
    case PDB_QUANTIZATION_PQ:
        return QUANTIZE_PQ;
    case PDB_QUANTIZATION_BINARY:
        return QUANTIZE_BINARY;
    }
    return QUANTIZE_SQ8;
}

bool ann_wanted(const struct pdb_field *field, uint64_t vector_count, struct index_spec *spec_out)
{
    struct index_spec spec = {.codes = codes_of(field),
                              .metric = field->metric,
                              .dimension = field->dimension,
                              .seed = SEED};
    if (!kind_of(field, vector_count, &spec.kind))
        return false;
    if (field->quantization == PDB_QUANTIZATION_BINARY)
        spec.code_bits = field->quantization_bits;
    if (spec.kind == INDEX_HNSW) {
        spec.m = field->hnsw_m != 0 ? field->hnsw_m : HNSW_M_DEFAULT;
        spec.ef_construction =
            field->ef_construction != 0 ? field->ef_construction : HNSW_EF_DEFAULT;
    }
    if (spec.kind == INDEX_IVF)
        spec.lists = field->ivf_lists;
    /* Some metrics have no such codes: then the vectors themselves. */
    if (!index_make_supports(&spec)) {
        spec.codes = QUANTIZE_NONE;
        spec.code_bits = 0;
    }
    if (!index_make_supports(&spec))
        return false;
    *spec_out = spec;
    return true;
}

/* Another seed tells it from one that was asked for. */
bool ann_plain(const struct pdb_field *field, const struct index_spec *spec,
               struct index_spec *plain_out)
{
    struct index_spec plain = *spec;
    if (field->quantization != PDB_QUANTIZATION_AUTO || spec->codes == QUANTIZE_NONE)
        return false;
    plain.codes = QUANTIZE_NONE;
    plain.code_bits = 0;
    plain.seed = SEED + 1;
    if (!index_make_supports(&plain))
        return false;
    *plain_out = plain;
    return true;
}

bool ann_spec_equal(const struct index_spec *a, const struct index_spec *b)
{
    return a->kind == b->kind && a->codes == b->codes && a->code_bits == b->code_bits &&
           a->metric == b->metric && a->dimension == b->dimension && a->m == b->m &&
           a->ef_construction == b->ef_construction && a->lists == b->lists && a->seed == b->seed;
}

/* ---- life ---- */

struct ann *ann_new(struct engine_core *core)
{
    struct ann *ann = heap_calloc(&core->r->heap, 1, sizeof(*ann));
    if (ann == NULL)
        return NULL;
    ann->refs = 1;
    ann->heap.large_by_pages = true; /* what is promised of memory counts from the moment it goes */
    return ann;
}

int ann_make_room(struct ann *ann, size_t image_bytes)
{
    bool pages = image_bytes >= HEAP_PAGES_MIN;
    ann->image = pages ? heap_zeroes(&ann->heap, image_bytes)
                       : heap_alloc_aligned(&ann->heap, INDEX_IMAGE_ALIGNMENT, image_bytes);
    ann->image_bytes = image_bytes;
    if (pages && ann->image != NULL)
        heap_zeroes_huge(ann->image, image_bytes);
    return ann->image != NULL ? 0 : PDB_RESOURCE_EXHAUSTED;
}

int ann_list_rows(struct ann *ann, const struct segment *segment, uint32_t field,
                  uint32_t row_count)
{
    uint32_t vectors = segment_vector_count(segment, field), count = 0;
    if (vectors == row_count)
        return 0;
    ann->rows = heap_alloc(&ann->heap, (size_t)vectors * sizeof(*ann->rows));
    if (ann->rows == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t row = 0; row < row_count; row++)
        if (segment_has_vector_of(segment, field, row))
            ann->rows[count++] = row;
    return 0;
}

void ann_hold(struct ann *ann)
{
    ann->refs++;
}

void ann_clear(struct ann *ann)
{
    index_dispose(&ann->index, &ann->heap);
    heap_free(&ann->heap, ann->rows);
    heap_zeroes_free(&ann->heap, ann->image, ann->image_bytes);
    ann->rows = NULL;
    ann->image = NULL;
    ASSERT(ann->heap.bytes_used == 0);
}

static void free_on_worker(struct job *job)
{
    ann_clear(container_of(job, struct ann, freeing));
}

static void freed(struct reactor *here, struct mail *mail)
{
    struct ann *ann = container_of(mail, struct ann, freeing.back);
    struct engine_core *core = engine_here(here);
    list_remove(&ann->link);
    heap_free(&core->r->heap, ann);
    upkeep_leave(core);
}

static void free_now(struct engine_core *core, struct ann *ann)
{
    list_remove(&ann->link);
    ann_clear(ann);
    heap_free(&core->r->heap, ann);
}

void ann_let_go(struct shard *shard, struct ann *ann)
{
    struct engine_core *core = shard->core;
    if (ann == NULL)
        return;
    ASSERT(ann->refs > 0);
    if (--ann->refs != 0)
        return;
    if (core->closing || core->recovery != NULL) {
        free_now(core, ann);
        return;
    }
    upkeep_enter(core);
    list_push_back(&core->ann_frees, &ann->link);
    ann->freeing = (struct job){.back.deliver = freed, .compute = free_on_worker};
    job_start(core->r, core->id, &ann->freeing);
}

void ann_free_rest(struct engine_core *core)
{
    while (!list_empty(&core->ann_frees))
        free_now(core, container_of(core->ann_frees.anchor.next, struct ann, link));
}
