/* index_public.c: an index alone, for programs that keep records themselves.
 *
 * What the engine makes for a segment, with a file and threads of its own: index_public_build.c
 * makes it, index_public_search.c searches it, index_public_file.c saves and loads it. Nothing here
 * knows of collections, cores or reactors, and nothing is shared but the index itself, which never
 * changes: any number of threads may search it, each with scratch of its own. */
#include "engine/index_public_internal.h"

#include "base/bytes.h"
#include "index/search.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <vecmath/vecmath.h>

#include "base/no_libc_heap.h"

/* ---- kernels ---- */

static void select_best(void)
{
    char why[64];
    if (!vecmath_selected())
        (void)vecmath_select(NULL, why, sizeof why); /* the best there is cannot fail */
}

void public_index_select_kernels(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, select_best);
}

/* ---- memory ---- */

struct pdb_index *public_index_new(uint64_t fail_at)
{
    struct pdb_index *index = heap_calloc(NULL, 1, sizeof *index);
    if (index != NULL)
        index->heap.fail_at = fail_at;
    return index;
}

void *public_index_memory(struct pdb_index *index, size_t bytes)
{
    return heap_alloc_huge(&index->heap, bytes_align_up(bytes, 64));
}

void pdb_index_destroy(struct pdb_index *index)
{
    if (index == NULL)
        return;
    if (index->has_index)
        index_dispose(&index->index, &index->heap);
    heap_free(&index->heap, index->image_memory);
    heap_free(&index->heap, index->vectors_memory);
    if (index->map != NULL)
        (void)munmap(index->map, index->map_bytes);
    heap_free(NULL, index);
}

/* ---- facts ---- */

int public_index_error(const struct trail *trail, struct pdb_error *error)
{
    if (trail->code < 0 && error != NULL) {
        *error = (struct pdb_error){.code = trail->code, .http_status = trail->http_status};
        (void)snprintf(error->text, sizeof error->text, "%s", trail->text);
    }
    return trail->code;
}

void pdb_index_stats(const struct pdb_index *index, struct pdb_index_stats *stats_out)
{
    *stats_out = (struct pdb_index_stats){
        .metric = index->metric,
        .dimension = index->dimension,
        .rows = index->row_count,
        .type = index->type,
        .quantization = index->quantization,
        .index_bytes = index->has_index ? index_bytes(&index->index) : 0,
        .vector_bytes = index->vectors != NULL ? (uint64_t)index->row_count * index->stride : 0,
        .mapped_bytes = index->mapped_bytes,
    };
    if (index->has_index && index->index.calibration.query_count > 0) {
        stats_out->has_recall = true;
        stats_out->recall_estimate =
            calibration_expected(&index->index.calibration, INDEX_TARGET_DEFAULT);
    }
}
