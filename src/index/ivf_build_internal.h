/* What the files of building lists share. */
#ifndef INDEX_IVF_BUILD_INTERNAL_H
#define INDEX_IVF_BUILD_INTERNAL_H

#include "index/ivf_build.h"
#include "index/kmeans.h"

enum {
    IVF_SAMPLE_PER_LIST = 64,
    IVF_SAMPLE_LEAST = 8192,
    IVF_GROUP_SAMPLE = 256,
    IVF_GROUP_ROUNDS = 6,
    IVF_LIST_ROUNDS = 2,
    IVF_NEAR_GROUPS_MAX = 24,
#ifdef PDB_STRESS
    IVF_PART_FLOATS = 8,
#else
    IVF_PART_FLOATS = 1 << 18,
#endif
};

/* In this order, but for those that come again. */
enum ivf_phase {
    IVF_SAMPLE,        /* rows of the sample are read and coded as SQ8: the points */
    IVF_GROUP_NEAREST, /* some points find their group */
    IVF_GROUP_MOVE,    /* groups move to the mean of theirs; both IVF_GROUP_ROUNDS times */
    IVF_GROUP_ALL,     /* all points find their group, and groups get lists by how many they have */
    IVF_LISTS,         /* each group divides its points among its lists */
    IVF_LIST_NEAREST,  /* all points find their list, of all near groups */
    IVF_LIST_MOVE,     /* lists and groups move; both IVF_LIST_ROUNDS times */
    IVF_ASSIGN,        /* every row is read and finds its list, and is given its place */
    IVF_PARTS_READ,    /* PQ: what rows of the sample differ by from their centroids */
    IVF_PARTS_TRAIN,   /* PQ: centroids of the parts */
    IVF_ENCODE,        /* rows are read again, in the order of lists, and coded */
    IVF_DONE,
};

struct ivf_build {
    struct heap *heap;
    struct index_rows rows;
    struct ivf_params params;
    struct index *index;
    struct ivf ivf; /* until the end */
    struct kmeans_codes centroids;
    struct kmeans_codes points; /* SQ8 codes of the sample */
    struct codes point_codes;   /* the same memory */
    uint32_t point_count;
    uint32_t group_point_count; /* of them, for the groups */
    uint32_t *nearest;          /* of each point; then of each row */
    uint32_t *order, *starts;   /* of kmeans_sort() */
    uint8_t *moved;             /* each list or group */
    float *rests;               /* PQ: rest_count rows of pq_width() floats */
    uint32_t rest_count;
    enum ivf_phase phase;
    uint32_t round;
    uint64_t work_done;
};

struct ivf_worker {
    float *room;     /* for a vector */
    float *expanded; /* for one of bits as floats */
    void *scratch;   /* for coding, of either kind */
    uint8_t *code;   /* SQ8, of one row */
    uint32_t norm;
    int32_t *sums;      /* of columns */
    int64_t *distances; /* IVF_GROUPS_MAX */
    void *run;          /* a whole k-means of one group, or of a part's centroids */
};

/* The list whose centroid is nearest, of those in the nearest groups. */
uint32_t ivf_nearest_list(const struct ivf_build *build, const struct ivf_worker *worker,
                          const int8_t *code);

/* Training: ivf_train.c. */
int ivf_begin_sample(struct ivf_build *build);
uint32_t ivf_train_parts(const struct ivf_build *build);
int ivf_train_part(struct ivf_build *build, uint32_t part, struct ivf_worker *worker);
int ivf_train_advance(struct ivf_build *build);
uint32_t ivf_sample_count(const struct ivf_params *params, uint32_t row_count);
uint64_t ivf_sample_bytes(const struct ivf_params *params, const struct quantizer *coarse,
                          uint32_t row_count);

static inline uint32_t ivf_parts_of(uint32_t count, uint32_t per_part)
{
    return count / per_part + (count % per_part != 0);
}

/* Rows of one part when each is read and coded. */
static inline uint32_t ivf_rows_per_part(const struct ivf_build *build)
{
    uint32_t rows = IVF_PART_FLOATS / build->index->quantizer.dimension;
    return rows > 0 ? rows : 1;
}

static inline const float *ivf_vector(const struct ivf_build *build, uint32_t row, float *room)
{
    return build->rows.vector(build->rows.owner, row, room);
}

#endif
