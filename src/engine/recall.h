/* How much of the true nearest rows searches find, as measured: queries run twice, by the index and
 * exactly.
 *
 *     recall_samples.c    recent searches, kept by their shard, and what was measured of each field
 *     recall_pair.c       one query run twice
 *     recall_estimate.c   in the background: one recent search after the other
 *     recall.c            on demand: pdb_recall */
#ifndef ENGINE_RECALL_H
#define ENGINE_RECALL_H

#include "base/arena.h"
#include "engine/engine_internal.h"

#include <proximadb/recall.h>
#include <proximadb/search.h>

struct shard;

/* ---- recent searches (recall_samples.c): on the core of the shard ---- */

enum {
    RECALL_SAMPLES_MAX = 256,
    RECALL_SAMPLE_BYTES_MAX = 1 << 20, /* of one shard; one search is kept in any case */
    RECALL_CORE_BYTES_MAX = 16 << 20,  /* of all shards of a core */
};

/* A search has been answered: maybe it is kept. Cheap; only what compares the whole collection by a
 * vector is looked at. */
void recall_note(struct shard *shard, const struct pdb_query *query, uint32_t field);

struct recall_sample {
    struct pdb_query query; /* vector and effort; the vector lies with the caller of take */
    uint32_t field;
};
/* Copies up to `max` recent searches of the field, newest first, into the arena. 0 or
 * PDB_RESOURCE_EXHAUSTED. */
int recall_recent(const struct shard *shard, uint32_t field, struct arena *arena, uint32_t max,
                  struct recall_sample **samples_out, uint32_t *count_out);
/* The oldest search of one of these fields (bits) that was not measured yet, in the arena; it and
 * all before it count as measured. 1; 0: there is none; PDB_RESOURCE_EXHAUSTED. */
int recall_take_unmeasured(struct shard *shard, uint64_t fields, struct arena *arena,
                           struct recall_sample *sample_out);
bool recall_has_unmeasured(const struct shard *shard);
/* A search of the field had this recall. */
void recall_add(struct shard *shard, uint32_t field, double recall);
/* What was measured under the present settings of the field; false: too little. */
bool recall_known(const struct shard *shard, uint32_t field, float *recall_out);
void recall_samples_free(struct shard *shard);

/* ---- one query, twice (recall_pair.c) ---- */

enum { RECALL_BY_INDEX, RECALL_EXACT, RECALL_WAYS };

struct recall_pair {
    /* set by the caller; texts and vector stay until `done` */
    struct pdb *db;
    struct pdb_text collection;
    struct pdb_query query;
    uint64_t deadline_ns;
    void (*done)(struct recall_pair *pair); /* maybe before recall_pair_start returns */
    /* results: error.code 0, and then `recall`, unless there is no row to find */
    struct pdb_error error;
    bool any;
    double recall;
    uint64_t took_us[RECALL_WAYS];
    uint64_t rows_scored; /* by the index */
    /* its own */
    bool cancelled;
    unsigned way;
    struct pdb_query queries[RECALL_WAYS];
    struct recall_search {
        struct pdb_search search;
        struct recall_pair *pair;
        struct arena arena;
    } searches[RECALL_WAYS];
};

/* On a reactor's thread. The pair is zeroed but for what is set above, or was disposed of. */
void recall_pair_start(struct recall_pair *pair);
/* It ends soon; `done` still comes. */
void recall_pair_cancel(struct recall_pair *pair);
/* Frees what its searches left. Not while it runs (but after a simulated crash). */
void recall_pair_dispose(struct recall_pair *pair);
/* Of the exact hits, the share that is among the others; a hit as good as the last exact one counts
 * as found, since it is only by chance not among them. `lower`: lower scores are better. */
double recall_of(const struct pdb_hits *hits, const struct pdb_hits *exact, bool lower);

/* ---- in the background (recall_estimate.c) ---- */

/* A shard is passed by the sweep; at its end one search may be measured. */
void recall_look(struct shard *shard);
void recall_sweep(struct engine_core *core);
void recall_stop(struct engine_core *core); /* the core closes: what runs ends soon */
void recall_free(struct engine_core *core);

#endif
