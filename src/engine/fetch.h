/* Brings vectors of segments that stay on disk (storage.vectors = disk) into the page cache by
 * reads through the core's I/O engine, so that the reactor does not wait for a page fault. What is
 * there already costs one look. The bytes read are not looked at: readers use the mapped file, and
 * the system keeps or drops its pages as memory allows. */
#ifndef ENGINE_FETCH_H
#define ENGINE_FETCH_H

#include "engine/part.h"

enum { FETCH_READS_MAX = 16, FETCH_READ_BYTES = 1 << 20 };

struct fetch_read {
    struct io_op op;
    struct fetch *fetch;
    int file;
    uint64_t at, end;
};

/* The reads of one task, which waits for all of them. Zeroed before its first use; must live until
 * none is pending. */
struct fetch {
    struct engine_core *core;
    struct task *task; /* queued when the last read has come back */
    unsigned pending;
    struct fetch_read reads[FETCH_READS_MAX];
};

/* True: the vectors from this row on, `bytes` of them in whole pages, can be used now. False: they
 * were asked for, or all reads are taken; the task is to return, and to ask again when it runs.
 * *to_out: the end of what was looked at, in the file. */
bool fetch_vectors(struct fetch *fetch, const struct segment_file *file, uint32_t field,
                   uint32_t row, uint64_t bytes, uint64_t *to_out);
/* One more can be asked for. */
static inline bool fetch_has_room(const struct fetch *fetch)
{
    return fetch->pending < FETCH_READS_MAX;
}
/* The same for all vectors of one row. */
bool fetch_row(struct fetch *fetch, const struct shard_part *part, uint32_t row);

/* The vectors of rows by id, for an operation that then finds them by itself: `then` runs on the
 * shard's core, at once if nothing is on disk, else when all have been read. It must look whether
 * the call was stopped. Lives in the call's arena; a zeroed one with these three set. */
struct fetch_ids {
    uint32_t count;
    struct pdb_text (*id_at)(struct pdb_call *call, uint32_t i); /* len 0: none is wanted */
    void (*then)(struct pdb_call *call);
    /* its own */
    struct fetch fetch;
    uint32_t next;
    bool asked;
    void *work; /* the call's, meanwhile */
    const void *vectors[PDB_FIELD_MAX];
};
void fetch_ids_run(struct pdb_call *call, struct fetch_ids *ids);

#endif
