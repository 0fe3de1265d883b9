/* The archive, for the rest of the engine: everything that is needed to bring a moment back goes to
 * the object store of options.archive_url as it becomes complete: segments of the logs, versions of
 * the catalog, and now and then a base. docs/formats/archive.md; the design essay in archive.c.
 *
 * Without a URL all of this does nothing. */
#ifndef ENGINE_ARCHIVE_H
#define ENGINE_ARCHIVE_H

#include "engine/engine_internal.h"

struct wal_retired;

/* ---- start; these wait for local I/O only ---- */

/* Core 0, before any log is opened: the store, and who we are (data/archive/IDENTITY). */
int archive_open(struct engine_core *core, struct trail *trail);
bool archive_is_on(const struct pdb *db);
/* Each core, as soon as its log is open: nothing of it is given up before it is stored. 0 or
 * PDB_RESOURCE_EXHAUSTED. */
int archive_hold(struct engine_core *core);
/* Core 0: this log has no writer any more; it may go when archive_log_stored. 0 or
 * PDB_RESOURCE_EXHAUSTED. */
int archive_add_old_log(struct engine_core *core, struct wal_retired *log);
/* Core 0, when all cores have come so far: the work begins. */
void archive_start(struct engine_core *core);

/* ---- what happens ---- */

/* wal_options.closed; `arg` is the core. */
void archive_log_closed(void *arg, uint64_t seq, const char *path);
/* Core 0: this log is stored, and durably known as such. */
bool archive_log_stored(const struct engine_core *core, const struct wal_retired *log);
/* Core 0: it is about to be freed. */
void archive_drop_old_log(struct engine_core *core, const struct wal_retired *log);
/* Core 0: a new version of the catalog is durable. */
void archive_catalog_saved(struct engine_core *core);
/* Core 0: versions of the catalog from this one on have to stay in catalog/archive/. */
uint64_t archive_catalog_from(const struct engine_core *core);
/* Core 0: a collection has appeared whose rows are in no log. */
void archive_base_wanted(struct engine_core *core);

/* ---- the end ---- */

/* A phase of closing, on each core: what is left goes to the store if it can within the time
 * allowed; calls that still run are cut off. */
void archive_quiet(struct engine_core *core);
/* The same for core 0 alone, when all cores are through: the last STATE. */
void archive_end(struct engine_core *core);
/* Each core; also after a crash of a simulated disk. */
void archive_free(struct engine_core *core);
/* Once, with the database. */
void archive_close(struct pdb *db);

/* ---- figures ---- */

struct archive_stats {
    uint64_t lag_bytes; /* of this core's log: not yet stored, the current segment included */
    /* core 0 only */
    int64_t covered_us; /* all up to it can be brought back; 0: nothing can */
    uint32_t bases;
    int64_t base_us; /* end of the newest; 0: none */
};
void archive_stats(const struct engine_core *core, struct archive_stats *stats_out);

#endif
