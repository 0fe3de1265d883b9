/* One search on its way: what its parts share.
 *
 *     shard_search.c         home: checks, and the walk through the indexes of the core's own set
 *     shard_search_settle.c  the owner: its version, what of the candidates counts, what is missing
 *     shard_search_scan.c    the owner: scans what no index has answered for, copies the winners
 */
#ifndef ENGINE_SHARD_SEARCH_INTERNAL_H
#define ENGINE_SHARD_SEARCH_INTERNAL_H

#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/fetch.h"
#include "engine/search_walk.h"

enum {
    SEARCH_QUERIES_MAX = 1000,
    SEARCH_CONVOY_QUERIES_MAX = 64, /* of one call that joins a convoy, and of a convoy */
    SEARCH_PLACE_NONE = 255,
};

/* What home has found for one query by its set; keys: place in the set and row of the segment. */
struct search_found {
    bool walked;
    struct topk best;
    float horizon;                   /* walk.horizon */
    uint64_t places[PARTS_MAX / 64]; /* of the segments whose index was searched */
};

struct query_work {
    struct view_search search;
    struct filter *filter;
    uint32_t field;
    const void *values; /* float32 or packed bits; NULL: of a stored record */
    bool complete;
    struct search_found found;
    uint64_t visited; /* rows scored by codes */
};

struct search_work {
    struct shard_view view;
    struct query_work *queries;
    struct pdb_hits *results;
    uint32_t next;  /* query whose turn it is */
    uint32_t hit;   /* copying: of that query */
    size_t stretch; /* rows */
    bool begun, scanned;
    uint32_t fetched;  /* hits of this query whose vectors were asked for, where they are on disk */
    uint64_t stage_ns; /* when its stage began */
    const void *vectors[PDB_FIELD_MAX];
    struct fetch fetch;
    /* by index */
    struct walk walk;
    bool walking; /* the query whose turn it is */
    struct walk_part *walk_parts;
    uint32_t walk_part_count;
    struct ann **walk_anns; /* at the owner: held */
    /* home's set: until the call leaves home, and then what the owner has to know of it */
    struct ann_share *share;
    uint64_t home_version;
    uint32_t home_count;
    uint64_t *home_numbers;         /* of the segments */
    uint8_t home_places[PARTS_MAX]; /* at the owner: their places in the view, or none */
    uint32_t dropped;               /* candidates that had ended */
    bool settled_again;
};

/* Out of the others' way: it ends when it ends. */
static inline bool search_goes_alone(const struct pdb_search *s)
{
    return s->query_count > SEARCH_CONVOY_QUERIES_MAX ||
           call_state((struct pdb_call *)(uintptr_t)&s->call)->gives_way;
}

/* "queries[3].<what>" or "<what>". */
void search_query_path(const struct pdb_search *s, uint32_t i, const char *what, char path_out[96]);
/* The time since its stage began was this one's. */
void search_next_stage(const struct engine_core *core, struct search_work *work, unsigned stage);
/* All that a scan of a row compares. The vector is in place. */
void search_set_query(struct pdb_search *s, uint32_t i, struct query_work *work);

/* Begins a walk of the query whose turn it is. */
void search_walk_set(struct pdb_search *s, struct search_work *work, uint64_t at_version,
                     struct topk *found);

/* ---- shard_search_settle.c: at the owner ---- */

void search_arrives(struct pdb_call *call);
/* Takes the version that it will see. False: it has ended. */
bool search_begin(struct pdb_search *s);
/* Gives up what settling holds. */
void search_settle_end(struct search_work *work);

/* ---- shard_search_scan.c: at the owner ---- */

/* After search_begin, or (not settled) before it: in line. */
void search_join_convoy(struct pdb_search *s, unsigned convoy);
/* By itself; a step. */
void search_scan_step(struct pdb_call *call);
void search_over(struct pdb_search *s);

#endif
