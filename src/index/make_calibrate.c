/* make_calibrate.c: measuring how much of the truth searches of an index find, as phases of its
 * making.
 *
 * Queries are rows of the segment itself, drawn evenly over all. They must not be in what is
 * searched: an index's own rows are found too easily (by .01 to .08 of recall, measured), so a
 * graph is calibrated before the last rows enter, and from a scan or lists the queries are left
 * out.
 *
 * Truth: a stretch of rows is read once for each block of queries and compared with all of them:
 * the queries of a block stay in the cache. Inner products come in tiles of four rows and four
 * queries, and tell of most pairs that they are too far apart to matter: only for the others is a
 * distance taken as searches take it. Every block belongs to one part, so there is nothing to
 * merge. This is the costly piece, and grows with rows and queries: 512 queries cost about a tenth
 * of building a graph; kinds that are made faster have fewer.
 *
 * Measuring: for lists see make_probe.c; the walk takes the nearest row not yet expanded, whatever
 * its effort, which only says when to stop. So one walk of the largest effort passes through the
 * results of all smaller ones and of all k: they are looked at in passing. It ends early once it
 * has all of the truth, or has cost what a scan of all codes would. Whether a candidate is right is
 * asked of the truth, not of vectors: re-ranking moves those that are right to the front. Copies of
 * the k-th best are as good as it; they have its code.
 *
 * Scan: where some target would not be met by any walk, and for flat indexes, how good the codes
 * are by themselves. */
#include "base/assert.h"
#include "base/bitset.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "index/make_calibrate_internal.h"

#include <math.h>
#include <proximadb/error.h>

#include "base/no_libc_heap.h"

enum { TELLING_MIN = 4 }; /* queries, for leaving out the others; few are unsure (errors_less) */

enum {
    QUERY_MAX = 512,       /* for a graph */
    QUERY_MAX_LISTS = 192, /* and where making costs less */
    QUERY_MAX_FLAT = 64,
    QUERY_MAX_SCAN = 128,
    ROWS_A_QUERY = 32, /* one query for so many rows */
    QUERY_LEAST = 16,  /* fewer say nothing */
    QUERY_FLOATS = 1 << 22,
    BLOCK = 64,
    STRETCH_FLOATS = 1 << 21,
};

static const float gammas[CALIBRATION_STEPS] = {0.0005f, 0.005f, 0.01f, 0.02f, 0.03f, 0.045f,
                                                0.06f,   0.08f,  0.1f,  0.13f, 0.17f, 0.22f,
                                                0.3f,    0.4f,   0.6f,  1.0f};
static const float widths[CALIBRATION_STEPS] = {12,  16,  24,  32,  48,  64,   96,   128,
                                                192, 256, 384, 512, 768, 1024, 2048, 4096};
static const float least_sure = 0.99f; /* a walk that finds more needs no scan to tell its codes */
static const float least_fit = 0.95f;
static const uint32_t slot_none = UINT32_MAX;

/* ---- how many ---- */

uint32_t make_query_count(const struct index_spec *spec, uint32_t row_count)
{
    uint32_t most = spec->kind == INDEX_HNSW  ? QUERY_MAX
                    : spec->kind == INDEX_IVF ? QUERY_MAX_LISTS
                                              : QUERY_MAX_FLAT;
    uint32_t floats = QUERY_FLOATS / spec->dimension;
    most = most < floats ? most : floats;
    uint32_t count = row_count / ROWS_A_QUERY;
    count = count < most ? count : most;
    return count < QUERY_LEAST ? 0 : count;
}

static size_t truth_bytes(uint32_t query_count)
{
    return (size_t)query_count * TRUTH * sizeof(struct pool_entry);
}

uint64_t make_calibration_bytes(const struct index_spec *spec, uint32_t row_count)
{
    const uint64_t count = make_query_count(spec, row_count);
    if (count == 0)
        return 0;
    uint64_t one = 2 * sizeof(uint32_t) + sizeof(struct measured) +
                   CALIBRATION_STEPS * sizeof(int) + /* a part for each */
                   bytes_align_up(spec->dimension * sizeof(float), 64);
    return sizeof(struct make_calibration) + count * one + truth_bytes((uint32_t)count) +
           bitset_words(row_count) * sizeof(uint64_t) +
           (spec->kind == INDEX_IVF ? (uint64_t)row_count * sizeof(uint32_t) : 0) + 1024;
}

/* ---- the queries ---- */

static void choose_queries(const struct index_make *make, struct make_calibration *c)
{
    const uint64_t n = make->rows.count;
    for (uint32_t i = 0; i < c->query_count; i++) {
        uint64_t first = n * i / c->query_count, end = n * (i + 1) / c->query_count;
        c->rows[i] = make->graph != NULL
                         ? hnsw_build_held_row(make->graph, i)
                         : (uint32_t)(first + hash_u64(make->spec.seed + i) % (end - first));
        bitset_set(c->excluded, c->rows[i]);
    }
}

static int open_calibration(struct index_make *make, uint32_t query_count)
{
    const uint32_t n = make->rows.count;
    struct heap *heap = make->heap;
    struct make_calibration *c = heap_calloc(heap, 1, sizeof *c);
    if (c == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    make->calibration = c;
    c->query_count = query_count;
    c->vector_bytes = make_vector_bytes(&make->spec);
    c->stride = bytes_align_up(c->vector_bytes, 64);
    c->rows = heap_calloc(heap, query_count, sizeof *c->rows);
    c->excluded = heap_calloc(heap, bitset_words(n), sizeof *c->excluded);
    c->queries = heap_alloc_aligned(heap, 64, query_count * c->stride);
    c->truth = heap_alloc(heap, truth_bytes(query_count));
    c->truth_counts = heap_calloc(heap, query_count, sizeof *c->truth_counts);
    c->measured = heap_calloc(heap, query_count, sizeof *c->measured);
    if (c->rows == NULL || c->excluded == NULL || c->queries == NULL || c->truth == NULL ||
        c->truth_counts == NULL || c->measured == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    choose_queries(make, c);
    return PDB_OK;
}

void make_calibration_close(struct index_make *make)
{
    struct make_calibration *c = make->calibration;
    struct heap *heap = make->heap;
    if (c == NULL)
        return;
    heap_free(heap, c->places);
    heap_free(heap, c->measured);
    heap_free(heap, c->truth_counts);
    heap_free(heap, c->truth);
    heap_free(heap, c->queries);
    heap_free(heap, c->excluded);
    heap_free(heap, c->rows);
    heap_free(heap, c);
    make->calibration = NULL;
}

/* ---- the truth ---- */

static int begin_truth(struct index_make *make)
{
    uint32_t count = make_query_count(&make->spec, make->rows.count);
    if (make->graph != NULL)
        count = hnsw_build_held(make->graph);
    if (count == 0)
        return 0;
    int rc = open_calibration(make, count);
    return rc < 0 ? rc : 1;
}

static uint32_t truth_parts(const struct index_make *make)
{
    return (make->calibration->query_count + BLOCK - 1) / BLOCK;
}

static int read_queries(struct index_make *make, uint32_t first, uint32_t count,
                        struct index_worker *worker)
{
    const struct make_calibration *c = make->calibration;
    for (uint32_t i = first; i < first + count; i++) {
        const float *vector = make_vector(make, c->rows[i], worker->room);
        if (vector == NULL)
            return PDB_DATA_LOSS;
        memcpy(query_at(c, i), vector, c->vector_bytes);
        if (make->spec.metric == PDB_METRIC_COSINE) {
            float *query = (float *)(void *)query_at(c, i);
            (void)vecmath_normalise_f32(query, make->spec.dimension, query);
        }
    }
    return PDB_OK;
}

static uint32_t stretch_end(const struct index_make *make)
{
    uint32_t rows = STRETCH_FLOATS / make->spec.dimension, left = make->rows.count;
    left -= make->calibration->next_row;
    return make->calibration->next_row + (rows < left ? rows : left);
}

/* Distances of a row to `count` queries: of unit vectors an inner product is a cosine, once the
 * row's length is taken off. */
static void score_row(const struct index_make *make, const float *vector, const char *queries,
                      uint32_t count, float *distances)
{
    const struct index_spec *spec = &make->spec;
    const bool cosine = spec->metric == PDB_METRIC_COSINE;
    const enum vecmath_metric kernel = cosine ? VECMATH_DOT : search_kernel_of(spec->metric);
    vecmath_scan_of(kernel)(vector, queries, make->calibration->stride, count, spec->dimension,
                            distances);
    float factor = vecmath_higher_is_better(kernel) ? -1.0f : 1.0f;
    if (cosine) {
        float length = vecmath_norm_f32(vector, spec->dimension);
        factor = length > 0 ? -1.0f / length : 0.0f;
    }
    for (uint32_t i = 0; i < count; i++)
        distances[i] *= factor;
}

/* Some rows, and what is asked about each: its squared length, or with cosine one by its length. */
struct truth_rows {
    const float *vectors[VECMATH_TILE];
    uint32_t rows[VECMATH_TILE];
    float norms[VECMATH_TILE];
    uint32_t count;
};

/* Queries first to first + count - 1 of a part. */
struct truth_queries {
    uint32_t first, count;
    float norms[BLOCK]; /* squared */
};

static void consider(struct index_make *make, uint32_t query, const float *vector, uint32_t row)
{
    struct make_calibration *c = make->calibration;
    float distance;
    score_row(make, vector, query_at(c, query), 1, &distance);
    pool_insert(c->truth + (size_t)query * TRUTH, &c->truth_counts[query], TRUTH, distance, row);
}

/* No distance is smaller, whatever was rounded; NaN where nothing can be said. */
static float least_distance(const struct index_spec *spec, float dot, float query_norm,
                            float row_norm)
{
    const float share = (float)spec->dimension * 0x1p-22f;
    if (spec->metric == PDB_METRIC_EUCLIDEAN)
        return (query_norm + row_norm) * (1 - share) - 2 * dot;
    if (spec->metric == PDB_METRIC_DOT)
        return -dot - share * sqrtf(query_norm) * sqrtf(row_norm);
    return -dot * row_norm - share;
}

/* A tile of products says which pairs are too far apart; the others' distances are taken. */
static void score_tiles(struct index_make *make, struct truth_rows *rows,
                        const struct truth_queries *queries)
{
    const struct make_calibration *c = make->calibration;
    const float *chosen[VECMATH_TILE];
    float dots[VECMATH_TILE * VECMATH_TILE];
    for (uint32_t r = rows->count; r < VECMATH_TILE; r++)
        rows->vectors[r] = rows->vectors[0];
    for (uint32_t from = 0; from < queries->count; from += VECMATH_TILE) {
        const uint32_t left = queries->count - from,
                       some = left < VECMATH_TILE ? left : VECMATH_TILE;
        for (uint32_t i = 0; i < VECMATH_TILE; i++)
            chosen[i] = (const float *)(const void *)query_at(c, queries->first + from +
                                                                     (i < some ? i : 0));
        vecmath_tile_dot_f32(chosen, rows->vectors, make->spec.dimension, dots);
        for (uint32_t i = 0; i < some; i++) {
            const uint32_t query = queries->first + from + i;
            const struct pool_entry *last = c->truth + (size_t)query * TRUTH + TRUTH - 1;
            for (uint32_t r = 0; r < rows->count; r++)
                if (c->truth_counts[query] < TRUTH ||
                    !(least_distance(&make->spec, dots[i * VECMATH_TILE + r],
                                     queries->norms[from + i], rows->norms[r]) >= last->distance))
                    consider(make, query, rows->vectors[r], rows->rows[r]);
        }
    }
}

static void take_row(const struct index_make *make, const float *vector, uint32_t row,
                     struct truth_rows *rows)
{
    const uint32_t dimension = make->spec.dimension, at = rows->count++;
    rows->vectors[at] = vector;
    rows->rows[at] = row;
    rows->norms[at] = vecmath_dot_f32(vector, vector, dimension);
    if (make->spec.metric == PDB_METRIC_COSINE) {
        const float length = vecmath_norm_f32(vector, dimension);
        rows->norms[at] = length > 0 ? 1.0f / length : 0.0f;
    }
}

static int tile_part(struct index_make *make, const struct truth_queries *queries,
                     struct index_worker *worker)
{
    const struct make_calibration *c = make->calibration;
    const uint32_t end = stretch_end(make);
    struct truth_rows rows = {.count = 0};
    for (uint32_t row = c->next_row; row < end; row++) {
        if (bitset_test(c->excluded, row))
            continue;
        float *room = worker->room + (size_t)rows.count * make->spec.dimension;
        const float *vector = make_vector(make, row, room);
        if (vector == NULL)
            return PDB_DATA_LOSS;
        take_row(make, vector, row, &rows);
        if (rows.count == VECMATH_TILE) {
            score_tiles(make, &rows, queries);
            rows.count = 0;
        }
    }
    if (rows.count > 0)
        score_tiles(make, &rows, queries);
    return PDB_OK;
}

static int scan_part_of_rows(struct index_make *make, const struct truth_queries *queries,
                             struct index_worker *worker)
{
    struct make_calibration *c = make->calibration;
    const uint32_t end = stretch_end(make);
    float distances[BLOCK];
    for (uint32_t row = c->next_row; row < end; row++) {
        if (bitset_test(c->excluded, row))
            continue;
        const float *vector = make_vector(make, row, worker->room);
        if (vector == NULL)
            return PDB_DATA_LOSS;
        score_row(make, vector, query_at(c, queries->first), queries->count, distances);
        for (uint32_t i = 0; i < queries->count; i++)
            pool_insert(c->truth + (size_t)(queries->first + i) * TRUTH,
                        &c->truth_counts[queries->first + i], TRUTH, distances[i], row);
    }
    return PDB_OK;
}

static int truth_part(struct index_make *make, uint32_t part, struct index_worker *worker)
{
    const struct make_calibration *c = make->calibration;
    const uint32_t first = part * BLOCK, left = c->query_count - first;
    struct truth_queries queries = {.first = first, .count = left < BLOCK ? left : BLOCK};
    const enum pdb_metric metric = make->spec.metric;
    if (!c->queries_read)
        return read_queries(make, first, queries.count, worker);
    if (metric == PDB_METRIC_MANHATTAN || metric == PDB_METRIC_HAMMING)
        return scan_part_of_rows(make, &queries, worker);
    for (uint32_t i = 0; i < queries.count; i++) {
        const float *query = (const float *)(const void *)query_at(c, first + i);
        queries.norms[i] = vecmath_dot_f32(query, query, make->spec.dimension);
    }
    return tile_part(make, &queries, worker);
}

static int end_truth(struct index_make *make)
{
    struct make_calibration *c = make->calibration;
    if (c->queries_read)
        c->next_row = stretch_end(make);
    c->queries_read = true;
    return c->next_row < make->rows.count;
}

static uint64_t truth_work(const struct index_make *make)
{
    /* twenty distances cost about as much as encoding a row */
    return (uint64_t)make->rows.count * make_query_count(&make->spec, make->rows.count) / 20;
}

static uint64_t truth_done(const struct index_make *make)
{
    return (uint64_t)make->calibration->next_row * make->calibration->query_count / 20;
}

const struct make_phase make_truth_phase = {
    .begin = begin_truth,
    .parts = truth_parts,
    .part = truth_part,
    .end = end_truth,
    .work = truth_work,
    .done = truth_done,
};

/* ---- judging ---- */

uint32_t judge_rank(const struct judge *judge, uint32_t row)
{
    uint32_t at = (uint32_t)hash_u64(row) % JUDGE_SLOTS;
    while (judge->rows[at] != slot_none && judge->rows[at] != row)
        at = (at + 1) % JUDGE_SLOTS;
    return judge->rows[at] == row ? judge->ranks[at] : UINT32_MAX;
}

void judge_open(const struct make_calibration *c, uint32_t query, struct judge *judge)
{
    const struct pool_entry *truth = c->truth + (size_t)query * TRUTH;
    memset(judge->rows, 0xff, sizeof judge->rows);
    judge->truth_count = c->truth_counts[query];
    for (uint32_t i = 0; i < judge->truth_count; i++) {
        uint32_t at = (uint32_t)hash_u64(truth[i].row) % JUDGE_SLOTS;
        while (judge->rows[at] != slot_none)
            at = (at + 1) % JUDGE_SLOTS;
        judge->rows[at] = truth[i].row;
        judge->ranks[at] = i;
    }
    for (uint32_t i = 0; i < CALIBRATION_KS; i++) {
        const uint32_t k = calibration_ks[i];
        judge->tied[i] = k < judge->truth_count && truth[k].distance <= truth[k - 1].distance;
    }
}

/* Lists have codes of places, and copies lie together: the tie is what one of those that are as
 * near as the k-th row looks like. */
static void find_ties(const struct make_calibration *c, uint32_t query, struct judge *judge,
                      const struct pool_entry *list, uint32_t count)
{
    const struct pool_entry *truth = c->truth + (size_t)query * TRUTH;
    for (uint32_t i = 0; i < CALIBRATION_KS; i++) {
        const float kth = judge->truth_count >= calibration_ks[i]
                              ? truth[calibration_ks[i] - 1].distance
                              : INFINITY;
        judge->tie[i] = INFINITY; /* of no row */
        for (uint32_t at = 0; judge->tied[i] && at < count; at++) {
            uint32_t rank = judge_rank(judge, list[at].row);
            if (rank >= judge->truth_count || truth[rank].distance != kth)
                continue;
            judge->tie[i] = list[at].distance;
            break;
        }
    }
}

/* Of a walk: the code of the k-th row, whether the walk has come by it or not. */
static void score_ties(const struct make_calibration *c, uint32_t query,
                       const struct coded_query *coded, struct judge *judge)
{
    const struct pool_entry *truth = c->truth + (size_t)query * TRUTH;
    const struct index *index = &c->view;
    for (uint32_t i = 0; i < CALIBRATION_KS; i++)
        if (judge->tied[i])
            quantize_score(&index->quantizer, &index->codes, coded,
                           &truth[calibration_ks[i] - 1].row, 1, &judge->tie[i]);
}

/* How many of the first `want` of a list are right, at most k, for each number of candidates. */
static void count_hits(const struct judge *judge, uint32_t i, const struct pool_entry *list,
                       uint32_t count, uint8_t hits_out[CALIBRATION_WANTS])
{
    const uint32_t k = calibration_ks[i];
    uint32_t right = 0, at = 0;
    for (uint32_t j = 0; j < CALIBRATION_WANTS; j++) {
        uint32_t want = index_want(k) << j;
        for (; at < count && at < want && right < k; at++) {
            bool tie = judge->tied[i] && list[at].distance == judge->tie[i];
            right += tie || judge_rank(judge, list[at].row & POOL_ROW) < k;
        }
        hits_out[j] = (uint8_t)right;
    }
}

/* ---- walks ---- */

/* From one list to half of them, by a constant factor: more are not much cheaper than all. */
static void choose_probes(struct calibration *calibration, uint32_t list_count)
{
    const float most = list_count > 2 ? (float)(list_count / 2) : 1.0f;
    const float factor = powf(most, 1.0f / (CALIBRATION_STEPS - 1));
    float wanted = 1, before = 0;
    for (uint32_t i = 0; i < CALIBRATION_STEPS; i++, wanted *= factor) {
        float probes = roundf(wanted);
        if (probes > most || probes <= before)
            continue;
        calibration->efforts[calibration->step_count++] = before = probes;
    }
}

static int find_places(struct index_make *make)
{
    struct make_calibration *c = make->calibration;
    const uint32_t row_count = make->rows.count;
    c->places = heap_alloc(make->heap, (size_t)row_count * sizeof *c->places);
    if (c->places == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t place = 0; place < row_count; place++)
        c->places[c->view.ivf.rows[place]] = place;
    return 1;
}

static int begin_measure(struct index_make *make)
{
    struct make_calibration *c = make->calibration;
    if (c == NULL)
        return 0;
    c->view = make->index;
    if (make->graph != NULL) {
        c->view.graph = *hnsw_build_graph(make->graph);
        c->view.has_graph = true;
    }
    struct calibration *out = &make->index.calibration;
    *out = (struct calibration){.query_count = c->query_count};
    out->effort_kind = search_effort_of(&c->view);
    if (out->effort_kind == EFFORT_NONE)
        return 0;
    if (out->effort_kind == EFFORT_PROBES) {
        choose_probes(out, c->view.ivf.list_count);
        return probe_fits(c) ? find_places(make) : 1;
    }
    out->step_count = CALIBRATION_STEPS;
    memcpy(out->efforts, out->effort_kind == EFFORT_GAMMA ? gammas : widths, sizeof out->efforts);
    return 1;
}

static uint32_t measure_parts(const struct index_make *make)
{
    const struct make_calibration *c = make->calibration;
    const bool each = c->view.has_lists && !probe_fits(c);
    return c->query_count * (each ? make->index.calibration.step_count : 1);
}

/* Whether a walk with the effort of this step would have ended here, and with how many entries of
 * the pool. */
static bool would_end(const struct index_search *search, const struct calibration *c, uint32_t i,
                      uint32_t step, uint32_t *count_out)
{
    const struct pool_entry *pool = search->scratch->pool;
    const uint32_t k = calibration_ks[i];
    const bool spent = search->cursor >= search->pool_count;
    if (c->effort_kind == EFFORT_EF) {
        uint32_t width = (uint32_t)c->efforts[step];
        width = width > index_want(k) ? width : index_want(k);
        *count_out = width < search->pool_count ? width : search->pool_count;
        return spent || search->cursor >= width;
    }
    *count_out = search->pool_count;
    if (search->pool_count < k)
        return spent;
    const float kth = pool[k - 1].distance;
    const float bound =
        search_stretch_of(search->index->quantizer.metric, c->efforts[step]) * (kth > 0 ? kth : 0);
    if (!spent && pool[search->cursor].distance <= bound)
        return false;
    while (*count_out > k && pool[*count_out - 1].distance > bound)
        --*count_out;
    return true;
}

struct passing {
    uint32_t steps[CALIBRATION_KS]; /* next one of each k */
    bool complete;                  /* nothing is missing any more */
};

static void look_in_passing(const struct index_search *search, const struct calibration *c,
                            const struct judge *judge, struct passing *passing,
                            struct measured *measured)
{
    for (uint32_t i = 0; i < CALIBRATION_KS; i++) {
        uint32_t count, step;
        while ((step = passing->steps[i]) < c->step_count &&
               would_end(search, c, i, step, &count)) {
            count_hits(judge, i, search->scratch->pool, count, measured->hits[i][step]);
            measured->distances[i][step] = (uint32_t)search->stats.distances;
            passing->steps[i]++;
            if (i == CALIBRATION_KS - 1)
                passing->complete = measured->hits[i][step][CALIBRATION_WANTS - 1] ==
                                    (judge->truth_count < 100 ? judge->truth_count : 100);
        }
    }
}

/* What was not passed has what the walk has at its end. */
static void fill_rest(const struct index_search *search, const struct calibration *c,
                      const struct judge *judge, const struct passing *passing,
                      struct measured *measured)
{
    for (uint32_t i = 0; i < CALIBRATION_KS; i++)
        for (uint32_t step = passing->steps[i]; step < c->step_count; step++) {
            count_hits(judge, i, search->scratch->pool, search->pool_count,
                       measured->hits[i][step]);
            measured->distances[i][step] = (uint32_t)search->stats.distances;
        }
}

static void measure_walk(struct index_make *make, uint32_t part, struct index_worker *worker)
{
    struct make_calibration *c = make->calibration;
    const struct calibration *out = &make->index.calibration;
    const uint32_t last = out->step_count - 1;
    const uint64_t distances_max = make->rows.count / 2 + 512;
    struct judge *judge = &worker->judging->judge;
    struct passing passing = {.complete = false};
    struct index_search search;
    const bool gamma = out->effort_kind == EFFORT_GAMMA;
    const struct index_query query = {
        .vector = (const float *)(const void *)query_at(c, part),
        .k = calibration_ks[CALIBRATION_KS - 1],
        .gamma = gamma ? out->efforts[last] : 0,
        .ef = gamma ? CALIBRATION_EF : (uint32_t)out->efforts[last],
    };
    index_search_begin(&search, worker->judging->scratch, &c->view, &query);
    judge_open(c, part, judge);
    score_ties(c, part, &search.coded, judge);
    do
        look_in_passing(&search, out, judge, &passing, &c->measured[part]);
    while (!passing.complete && search.stats.distances < distances_max &&
           !index_search_step(&search, 1));
    fill_rest(&search, out, judge, &passing, &c->measured[part]);
}

/* ---- whole searches ---- */

/* For the i-th k, in so many lists (0: there are none); into judging->list, without rows that are
 * queries. Returns how many. */
static uint32_t search_all(const struct make_calibration *c, uint32_t query, uint32_t i,
                           uint32_t probes, struct make_judging *judging, uint64_t *distances_out,
                           bool *scanned_out)
{
    const uint32_t quarter = c->view.codes.row_count / 4; /* of few rows all would be looked at */
    const uint32_t want = index_want(calibration_ks[i]) << (CALIBRATION_WANTS - 1);
    struct index_search search;
    const struct index_query asked = {
        .vector = (const float *)(const void *)query_at(c, query),
        .k = calibration_ks[i],
        .want = probes == 0 || want < quarter ? want : quarter,
        .gamma = 0,
        .nprobe = probes,
    };
    uint32_t kept = 0;
    index_search_begin(&search, judging->scratch, &c->view, &asked);
    while (!index_search_step(&search, UINT32_MAX))
        ;
    uint32_t count = index_search_end(&search, judging->candidates);
    for (uint32_t at = 0; at < count; at++)
        if (!bitset_test(c->excluded, judging->candidates[at].row))
            judging->list[kept++] =
                (struct pool_entry){judging->candidates[at].distance, judging->candidates[at].row};
    *distances_out = search.stats.distances;
    *scanned_out = search.stats.scanned;
    find_ties(c, query, &judging->judge, judging->list, kept);
    return kept;
}

/* One query with one number of lists: with all of them at once a part would score the rows of a
 * large segment many times. All k look at the same lists and the same rows, so the candidates of
 * the largest begin with those of the others; but where it took more lists to find so many rows,
 * or bounds chose among them, each is searched for by itself. */
static void measure_lists(struct index_make *make, uint32_t part, struct index_worker *worker)
{
    struct make_calibration *c = make->calibration;
    struct make_judging *judging = worker->judging;
    const struct calibration *out = &make->index.calibration;
    const uint32_t query = part / out->step_count, step = part % out->step_count;
    const uint32_t last = CALIBRATION_KS - 1, probes = (uint32_t)out->efforts[step];
    struct measured *measured = &c->measured[query];
    bool scanned;
    uint64_t distances;
    judge_open(c, query, &judging->judge);
    uint32_t count = search_all(c, query, last, probes, judging, &distances, &scanned);
    const bool each = scanned || quantize_has_bounds(c->view.quantizer.kind);
    for (uint32_t i = CALIBRATION_KS; i-- > 0;) {
        if (each && i != last)
            count = search_all(c, query, i, probes, judging, &distances, &scanned);
        measured->distances[i][step] = (uint32_t)distances;
        count_hits(&judging->judge, i, judging->list, count, measured->hits[i][step]);
    }
}

static int measure_part(struct index_make *make, uint32_t part, struct index_worker *worker)
{
    struct make_calibration *c = make->calibration;
    if (probe_fits(c))
        probe_measure(c, &make->index.calibration, part, worker->judging);
    else if (c->view.has_lists)
        measure_lists(make, part, worker);
    else
        measure_walk(make, part, worker);
    return PDB_OK;
}

/* All the nearest are as near as the nearest: copies of one row. Whatever is found is right, which
 * says nothing of queries that ask for others. */
static bool says_nothing(const struct make_calibration *c, uint32_t query)
{
    const struct pool_entry *truth = c->truth + (size_t)query * TRUTH;
    return c->truth_counts[query] == TRUTH && truth[TRUTH - 1].distance <= truth[0].distance;
}

/* Mean of the shares, and its standard error. With few queries that all find everything the error
 * is not 0: a result of one more query might be wrong. */
static void summarise(const struct make_calibration *c, const uint8_t *first, uint32_t query_count,
                      uint32_t k, struct calibration_recall *recall, uint32_t j)
{
    double sum = 0, squares = 0, count = 0;
    uint32_t telling = 0;
    for (uint32_t q = 0; q < query_count; q++)
        telling += !says_nothing(c, q);
    for (uint32_t q = 0; q < query_count; q++) {
        if (telling >= TELLING_MIN && says_nothing(c, q))
            continue;
        count++;
        const uint32_t truth = c->truth_counts[q] < k ? c->truth_counts[q] : k;
        double share = (double)first[q * sizeof(struct measured)] / truth;
        share = share < 1 ? share : 1;
        sum += share;
        squares += share * share;
    }
    double mean = sum / count;
    double variance = (squares - sum * mean) / (count - 1);
    double error = variance > 0 ? sqrt(variance / count) : 0;
    double least = 1 / (count * sqrt((double)k));
    recall->recall[j] = (float)mean;
    recall->error[j] = (float)(error > least ? error : least);
}

static int end_measure(struct index_make *make)
{
    const struct make_calibration *c = make->calibration;
    struct calibration *out = &make->index.calibration;
    for (uint32_t i = 0; i < CALIBRATION_KS; i++)
        for (uint32_t step = 0; step < out->step_count; step++) {
            struct calibration_point *point = &out->points[i][step];
            double distances = 0;
            for (uint32_t q = 0; q < c->query_count; q++)
                distances += c->measured[q].distances[i][step];
            point->distances = (float)(distances / c->query_count);
            for (uint32_t j = 0; j < CALIBRATION_WANTS; j++)
                summarise(c, &c->measured[0].hits[i][step][j], c->query_count, calibration_ks[i],
                          &point->recall, j);
        }
    return 0;
}

static uint64_t measure_work(const struct index_make *make)
{
    return (uint64_t)make_query_count(&make->spec, make->rows.count) * 512;
}

const struct make_phase make_measure_phase = {
    .begin = begin_measure,
    .parts = measure_parts,
    .part = measure_part,
    .end = end_measure,
    .work = measure_work,
};

/* ---- scans ---- */

static uint32_t scan_count(uint32_t query_count)
{
    return query_count < QUERY_MAX_SCAN ? query_count : QUERY_MAX_SCAN;
}

/* Half of the lists cost half a scan: with many candidates they tell enough of the codes. */
static bool walks_suffice(const struct calibration *c)
{
    const uint32_t j = c->effort_kind == EFFORT_PROBES ? CALIBRATION_WANTS - 1 : 0;
    for (uint32_t i = 0; i < CALIBRATION_KS; i++) {
        bool found = false;
        for (uint32_t step = 0; step < c->step_count; step++)
            found |= c->points[i][step].recall.recall[j] >= least_sure;
        if (!found)
            return false;
    }
    return true;
}

static int begin_scan(struct index_make *make)
{
    struct make_calibration *c = make->calibration;
    if (c == NULL || walks_suffice(&make->index.calibration)) {
        make_calibration_close(make);
        return 0;
    }
    c->view.has_graph = false;
    return 1;
}

static uint32_t scan_parts(const struct index_make *make)
{
    return scan_count(make->calibration->query_count);
}

static int scan_part(struct index_make *make, uint32_t part, struct index_worker *worker)
{
    struct make_calibration *c = make->calibration;
    struct make_judging *judging = worker->judging;
    const uint32_t last = CALIBRATION_KS - 1; /* whose candidates begin with those of the others */
    uint64_t distances;
    bool scanned;
    if (probe_fits(c)) {
        probe_scan(c, part, judging);
        return PDB_OK;
    }
    judge_open(c, part, &judging->judge);
    uint32_t count = search_all(c, part, last, c->view.has_lists ? c->view.ivf.list_count : 0,
                                judging, &distances, &scanned);
    for (uint32_t i = 0; i < CALIBRATION_KS; i++)
        count_hits(&judging->judge, i, judging->list, count, c->measured[part].scanned[i]);
    return PDB_OK;
}

static int end_scan(struct index_make *make)
{
    const struct make_calibration *c = make->calibration;
    struct calibration *out = &make->index.calibration;
    for (uint32_t i = 0; i < CALIBRATION_KS; i++)
        for (uint32_t j = 0; j < CALIBRATION_WANTS; j++)
            summarise(c, &c->measured[0].scanned[i][j], scan_count(c->query_count),
                      calibration_ks[i], &out->scan[i], j);
    out->flags |= CALIBRATION_SCANNED;
    if (out->scan[1].recall[CALIBRATION_WANTS - 1] < least_fit)
        out->flags |= CALIBRATION_UNFIT;
    make_calibration_close(make);
    return 0;
}

static uint64_t scan_work(const struct index_make *make)
{
    const uint32_t n = make->rows.count;
    return (uint64_t)scan_count(make_query_count(&make->spec, n)) * n / 40;
}

const struct make_phase make_scan_phase = {
    .begin = begin_scan,
    .parts = scan_parts,
    .part = scan_part,
    .end = end_scan,
    .work = scan_work,
};

/* ---- workers ---- */

size_t make_judging_bytes(const struct index_spec *spec, uint32_t row_count)
{
    return sizeof(struct make_judging) + index_scratch_bytes(row_count, spec->dimension);
}

int make_judging_open(const struct index_make *make, struct heap *heap,
                      struct make_judging **judging_out)
{
    struct make_judging *judging = heap_calloc(heap, 1, sizeof *judging);
    if (judging == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    int rc = index_scratch_open(heap, make->rows.count, make->spec.dimension, &judging->scratch);
    if (rc < 0) {
        heap_free(heap, judging);
        return rc;
    }
    *judging_out = judging;
    return PDB_OK;
}

void make_judging_close(struct make_judging *judging, struct heap *heap)
{
    if (judging == NULL)
        return;
    index_scratch_close(judging->scratch, heap);
    heap_free(heap, judging);
}
