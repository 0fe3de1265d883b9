/* What the files of making share: the phases that an index goes through, by its kind.
 *
 * A kind adds its own phases to the list in make.c, with what they need in struct index_make and
 * struct index_worker. */
#ifndef INDEX_MAKE_INTERNAL_H
#define INDEX_MAKE_INTERNAL_H

#include "index/hnsw_internal.h"
#include "index/ivf_build.h"
#include "index/make.h"
#include "index/pq.h"

enum {
    MAKE_SAMPLE_BYTES = 16 << 20, /* of vectors to train on; but at least MAKE_SAMPLE_LEAST */
    MAKE_SAMPLE_LEAST = 256,
#ifdef PDB_STRESS
    MAKE_PART_FLOATS = 8,
#else
    MAKE_PART_FLOATS = 1 << 18, /* read and encoded by one part: some hundred microseconds */
#endif
};

/* One phase. All but `part` are called by one thread, between phases. */
struct make_phase {
    /* 1: there is work; 0: nothing to do; or an error. */
    int (*begin)(struct index_make *make);
    uint32_t (*parts)(const struct index_make *make); /* > 0 */
    /* An error of a part ends the making once all parts have returned. Parts allocate nothing
     * unless theirs is the only one. */
    int (*part)(struct index_make *make, uint32_t part, struct index_worker *worker);
    /* After all parts: 1: parts anew; 0: the phase is over; or an error. */
    int (*end)(struct index_make *make);
    /* Work in all, and done (in units of encoding one row), once begun. */
    uint64_t (*work)(const struct index_make *make);
    uint64_t (*done)(const struct index_make *make); /* NULL: known at the end only */
};

struct index_make {
    struct heap *heap;
    struct index_spec spec;
    struct index_rows rows;
    const struct make_phase *const *phases; /* of the kind, ended by NULL */
    uint32_t phase;
    uint64_t work_done; /* of finished phases */
    int rc;             /* what went wrong */
    int *part_rc;       /* of each part of this phase: room for part_max */
    uint32_t part_max;
    float *sample; /* sample_count vectors */
    uint32_t sample_count;
    struct index index;       /* what is made: with the codes that searches use */
    struct index graph_codes; /* SQ8 codes that a graph is built on, where those are others */
    struct hnsw_build *graph;
    uint64_t repaired;                /* rows of the finished graph; see hnsw_progress */
    struct quantizer lists_quantizer; /* of the lists' centroids, until the build takes it */
    struct ivf_build *lists;
    struct make_calibration *calibration; /* while it is under way */
    bool merges;                          /* links come from rows.base */
    uint32_t *base_of; /* of each row: what it is in the base, or INDEX_ROW_GONE; while codes are
                        * copied from there, else NULL */
};

struct index_worker {
    void *scratch;                /* for encoding */
    float *room;                  /* for VECMATH_TILE vectors */
    struct hnsw_worker *graph;    /* NULL: there is none */
    struct ivf_worker *lists;     /* likewise */
    struct make_judging *judging; /* NULL: nothing is calibrated */
};

/* Bytes of a vector. */
static inline size_t make_vector_bytes(const struct index_spec *spec)
{
    return quantize_vector_bytes(spec->metric, spec->dimension);
}

/* Trains codes on the sample and gives them memory. */
int make_train_codes(struct index_make *make, enum quantize_kind kind, struct index *index);

/* IVF: make_lists.c. The second phase codes the rows, too: in the order of lists. */
extern const struct make_phase make_lists_train, make_lists_phase;

static inline struct ivf_params make_lists_params(const struct index_spec *spec)
{
    return (struct ivf_params){spec->lists, spec->seed};
}

/* Columns of a part of PQ codes; 0: the default. */
static inline uint32_t make_part_columns(const struct index_spec *spec)
{
    return spec->codes == QUANTIZE_PQ && spec->code_bits != 0 ? PQ_BITS / spec->code_bits : 0;
}

/* A quantizer of some kind before it is trained. */
static inline struct quantizer make_shape(const struct index_spec *spec, enum quantize_kind kind)
{
    struct quantizer shape = {
        .kind = kind,
        .metric = spec->metric,
        .dimension = spec->dimension,
        .bits = kind == QUANTIZE_BINARY
                    ? (spec->code_bits != 0 ? spec->code_bits : QUANTIZE_BITS_DEFAULT)
                    : 0,
        .part_columns = make_part_columns(spec),
    };
    quantize_shape(&shape);
    return shape;
}

/* NULL: it cannot be read, PDB_DATA_LOSS. */
static inline const float *make_vector(const struct index_make *make, uint32_t row, float *room)
{
    return make->rows.vector(make->rows.owner, row, room);
}

/* Rows of one part when each is read and little is done with it. */
static inline uint32_t make_rows_per_part(uint32_t dimension)
{
    uint32_t rows = MAKE_PART_FLOATS / dimension;
    return rows > 0 ? rows : 1;
}

/* ---- calibration (make_calibrate.c): three phases, of which those that are not wanted are passed
 * over. Of a graph: before the rows that its build holds back are released ---- */

extern const struct make_phase make_truth_phase, make_measure_phase, make_scan_phase;

/* Queries that an index of so many rows is calibrated with; 0: it is not. */
uint32_t make_query_count(const struct index_spec *spec, uint32_t row_count);
/* At most, while it is under way; and of each worker. */
uint64_t make_calibration_bytes(const struct index_spec *spec, uint32_t row_count);
size_t make_judging_bytes(const struct index_spec *spec, uint32_t row_count);
void make_calibration_close(struct index_make *make);
int make_judging_open(const struct index_make *make, struct heap *heap,
                      struct make_judging **judging_out);
void make_judging_close(struct make_judging *judging, struct heap *heap);

/* ---- beginning with another index (make_merge.c) ---- */

/* Whether the base is worth it. */
bool make_merge_pays(const struct index_spec *spec, const struct index_rows *rows);
/* After training: takes the base's quantizer instead where it suits, and prepares for its codes. */
int make_merge_codes(struct index_make *make, struct quantizer *quantizer);
void make_copy_code(const struct index_make *make, uint32_t row);

#endif
