/* The index of one vector field of one segment (approximate nearest neighbours), as the engine
 * holds it. Immutable from its making on: every core may search it (index/search.h).
 *
 * Who has it: the part (shard_part.anns), on the owner's core, and through the published sets
 * (ann_set.h) searches on every core. References are counted on the owner's core only.
 *
 * On disk it is <segment>-<field>.ann beside the segment's files: derived, named by no manifest,
 * made again when it is missing, damaged or not as the collection wants it
 * (docs/formats/index.md). */
#ifndef ENGINE_ANN_H
#define ENGINE_ANN_H

#include "index/index.h"
#include "index/make.h"
#include "reactor/reactor.h"

#include <proximadb/collection.h>

struct engine_core;
struct segment;
struct shard;
struct shard_part;

struct ann {
    struct heap heap; /* of all that follows: made and freed on a worker */
    unsigned refs;    /* the owner's core counts */
    struct index_spec spec;
    struct index index;
    uint32_t *rows; /* segment's row of each of the index's, ascending; NULL: the same numbers */
    void *image;    /* the index lies in it, if it was read from its file */
    size_t image_bytes;
    uint64_t bytes;        /* of memory, in all */
    uint64_t repaired;     /* rows, when it was made (index_make_repaired); 0: it was read */
    bool merged;           /* made from the index of a segment that was merged into its own */
    struct list_link link; /* core->ann_frees: nobody has it any more */
    struct job freeing;
};

/* One reference, nothing in it yet. NULL without memory. */
struct ann *ann_new(struct engine_core *core);
void ann_hold(struct ann *ann);
/* Memory for an image of so many bytes, aligned for it. 0 or PDB_RESOURCE_EXHAUSTED. */
int ann_make_room(struct ann *ann, size_t image_bytes);
/* ann->rows: NULL where all of the segment's rows have a vector of the field. Any thread. 0 or
 * PDB_RESOURCE_EXHAUSTED. */
int ann_list_rows(struct ann *ann, const struct segment *segment, uint32_t field,
                  uint32_t row_count);
/* Frees all that it holds; any thread, while nobody else has it. */
void ann_clear(struct ann *ann);
/* After the last one a worker frees it. NULL is legal. */
void ann_let_go(struct shard *shard, struct ann *ann);
/* The end of a core: frees at once what a worker was to free. */
void ann_free_rest(struct engine_core *core);

/* The segment's row behind a row of the index. */
static inline uint32_t ann_row(const struct ann *ann, uint32_t row)
{
    return ann->rows == NULL ? row : ann->rows[row];
}

/* What the field is to have for a segment of so many vectors, by the collection's settings; false:
 * none (small, flat without codes, a metric without indexes): such rows are searched exactly. */
bool ann_wanted(const struct pdb_field *field, uint64_t vector_count, struct index_spec *spec_out);
/* The same on the vectors themselves, for rows that the codes of `spec` do not fit; false: there is
 * no such choice. */
bool ann_plain(const struct pdb_field *field, const struct index_spec *spec,
               struct index_spec *plain_out);
/* Whether an index that was made by the one is what the other asks for. */
bool ann_spec_equal(const struct index_spec *a, const struct index_spec *b);

/* What is told of the indexes of one field; recall is not known here. */
void ann_state(const struct shard *shard, uint32_t field, struct pdb_index_info *info_out);

/* The published sets of every core have to follow: a segment has got its index, or segments have
 * taken the place of others. Cheap; what follows is queued. (ann_set.c) */
void ann_set_changed(struct shard *shard);

#endif
