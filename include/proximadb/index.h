/* An index of vectors alone, without a database: made from an array, searched by any number of
 * threads, saved to a file and opened again. What the database makes for its segments, for programs
 * that keep records themselves.
 *
 *     struct pdb_index_options options = {.metric = PDB_METRIC_COSINE, .dimension = 768};
 *     pdb_index_build(&options, vectors, 0, count, &index, &error);
 *     pdb_index_searcher_open(index, &searcher, &error);
 *     struct pdb_index_query query = {.vector = q, .k = 10};
 *     pdb_index_search(searcher, &query, hits, &result, &error);
 *
 * Rows are numbered from 0 in the order of the array. An index never changes: to add rows, make
 * another. Calls block; those of building use threads of their own and end them.
 *
 * Functions return 0 or a negative PDB_*; `error` may be NULL. Vectors are float32 without NaN and
 * infinities, at any address; for hamming (dimension + 7) / 8 packed bytes (types.h). */
#ifndef PROXIMADB_INDEX_H
#define PROXIMADB_INDEX_H

#include <proximadb/call.h>

struct pdb_index;
struct pdb_index_searcher;

/* Full vectors: exact scores, exact searches, and the last word on the order of results. */
enum pdb_index_vectors {
    PDB_INDEX_VECTORS_COPY,      /* the index has its own */
    PDB_INDEX_VECTORS_REFERENCE, /* the caller's array, which stays as it is until destroy */
    PDB_INDEX_VECTORS_NONE,      /* there are none: scores are those of the codes */
};

/* Zeroed: the default of each. */
struct pdb_index_options {
    enum pdb_metric metric; /* must be given, as the next */
    uint32_t dimension;     /* 1 to PDB_DIMENSION_MAX; of hamming: bits */
    /* AUTO: a graph, but for few rows. FLAT with quantization NONE: only the vectors, and every
     * search is exact. */
    enum pdb_index_type type;
    enum pdb_quantization_type quantization;
    uint32_t quantization_bits; /* of PDB_QUANTIZATION_BINARY; 0: the default */
    uint32_t hnsw_m;            /* links of a row on upper levels, twice that on the lowest */
    uint32_t ef_construction;
    uint32_t ivf_lists; /* 0: by the number of rows */
    uint64_t seed;      /* same rows, options and seed: same index, whatever the threads */
    uint32_t threads;   /* of building; 0: one for each processor that the process may use */
    enum pdb_index_vectors vectors;
    /* NULL, or told how far building is, from the calling thread: false ends it soon, with
     * CANCELLED. */
    bool (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};

/* rows: `count` vectors, `stride_bytes` apart (0: without gaps), at most 2^30; count 0 is legal.
 * INVALID_ARGUMENT (the text names option or row), OUT_OF_RANGE (too many rows), UNIMPLEMENTED (no
 * such index for this metric), RESOURCE_EXHAUSTED, CANCELLED. */
PDB_API int pdb_index_build(const struct pdb_index_options *options, const void *rows,
                            size_t stride_bytes, size_t count, struct pdb_index **index_out,
                            struct pdb_error *error);
/* After all searchers of it are closed. NULL is legal. */
PDB_API void pdb_index_destroy(struct pdb_index *index);

/* ---- files ---- */

/* Writes the index, with its vectors if it has any (a caller's array, too), to <path>.tmp, syncs,
 * and gives it its name: docs/formats/index-file.md. UNAVAILABLE: the text says which call failed
 * and why. */
PDB_API int pdb_index_save(const struct pdb_index *index, const char *path,
                           struct pdb_error *error);

enum pdb_index_load {
    PDB_INDEX_LOAD_READ = 0,           /* into memory */
    PDB_INDEX_LOAD_MAP = 1,            /* mapped: the system decides what is resident. The file must
                                          not be changed while it is, only replaced */
    PDB_INDEX_LOAD_MAP_VECTORS = 2,    /* the full vectors only */
    PDB_INDEX_LOAD_WITHOUT_VECTORS = 3 /* they are not loaded: scores are those of the codes */
};
/* Codes and graph are checked whole in any case, vectors unless they are mapped. NOT_FOUND,
 * UNAVAILABLE (the text says why), DATA_LOSS (damaged), FAILED_PRECONDITION (of a newer version),
 * RESOURCE_EXHAUSTED. */
PDB_API int pdb_index_load(const char *path, enum pdb_index_load how, struct pdb_index **index_out,
                           struct pdb_error *error);

/* ---- searching ---- */

/* Scratch of one thread at a time; as many as wanted. About a byte a row and a few 100 KiB. */
PDB_API int pdb_index_searcher_open(const struct pdb_index *index,
                                    struct pdb_index_searcher **searcher_out,
                                    struct pdb_error *error);
PDB_API void pdb_index_searcher_close(struct pdb_index_searcher *searcher); /* NULL is legal */

struct pdb_index_query {
    const void *vector; /* used until the call returns */
    uint32_t k;         /* 1 to PDB_K_MAX */
    /* How much is to be done. At most one of target_recall, gamma and nprobe; ef beside gamma is a
     * cap, alone it is the width of the walk. All 0: what finds PDB_TARGET_RECALL_DEFAULT. */
    float
        target_recall; /* 0.5 to 1: the cheapest that finds so much, as measured when it was made */
    float gamma;       /* of a graph: stop at (1 + gamma) x the distance of the k-th best; > 0 */
    uint32_t ef;       /* of a graph: at most PDB_EF_MAX */
    uint32_t nprobe;   /* of lists: at most PDB_NPROBE_MAX */
    uint32_t rerank;   /* rows whose vectors are looked at; 0: by k; at least k */
    bool exact;        /* every vector is looked at; FAILED_PRECONDITION where there are none */
    /* Which rows may be returned; both must agree. */
    const uint64_t *allowed; /* NULL: all. Bit r % 64 of word r / 64: row r; other bits are 0 */
    bool (*accepts)(void *arg, uint32_t row); /* NULL: all; asked of near rows only */
    void *arg;
};

struct pdb_index_hit {
    uint32_t row;
    float score; /* as types.h says for each metric */
};

struct pdb_index_result {
    uint32_t count;     /* hits: fewer than k where so many may not be returned */
    uint64_t distances; /* rows scored, by codes or exactly */
    bool capped;        /* ef may have cost recall */
    bool scanned;       /* all rows that may be returned were scored */
    bool below_target;  /* no effort is known to find target_recall: it was the most */
};

/* hits_out: room for k, best first, ties by the smaller row. INVALID_ARGUMENT,
 * FAILED_PRECONDITION. Nothing is allocated. */
PDB_API int pdb_index_search(struct pdb_index_searcher *searcher,
                             const struct pdb_index_query *query, struct pdb_index_hit *hits_out,
                             struct pdb_index_result *result_out, struct pdb_error *error);
/* The same for `count` vectors, `stride_bytes` apart (0: without gaps), one after the other, with
 * all else as in `query`, whose vector is not used. hits_out: k for each, results_out: one. */
PDB_API int pdb_index_search_batch(struct pdb_index_searcher *searcher,
                                   const struct pdb_index_query *query, const void *vectors,
                                   size_t stride_bytes, size_t count,
                                   struct pdb_index_hit *hits_out,
                                   struct pdb_index_result *results_out, struct pdb_error *error);

/* ---- facts ---- */

struct pdb_index_stats {
    enum pdb_metric metric;
    uint32_t dimension, rows;
    enum pdb_index_type type;                /* what was made */
    enum pdb_quantization_type quantization; /* NONE with FLAT: vectors only */
    uint64_t index_bytes;                    /* codes and graph or lists */
    uint64_t vector_bytes;                   /* full vectors, whoever's they are; 0: none */
    uint64_t mapped_bytes;                   /* of both: of a mapped file */
    /* What searches without an effort of their own find of the 10 nearest, as measured when the
     * index was made, on rows that it did not have yet. */
    bool has_recall;
    float recall_estimate;
};
PDB_API void pdb_index_stats(const struct pdb_index *index, struct pdb_index_stats *stats_out);

#endif
