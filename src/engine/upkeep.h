/* What a shard does for itself: sealing its memtable, flushing it into a segment, merging segments,
 * and the manifest that makes each of these steps durable. Everything here runs on the shard's
 * core; long computation on its worker (segment_build.h).
 *
 *     seal     the memtable becomes a part of its own, a new one takes the writes
 *     build    the worker writes a segment: of a sealed memtable (flush) or of segments (merge)
 *     catch up what has ended meanwhile in the old parts ends in the new one; from then on writes
 *              end rows in both
 *     save     the manifest that names the new segment instead of the old parts
 *     publish  the new part takes the place of the old ones; the logs may forget; files are removed
 *
 * Up to `publish` readers see the old parts, and a crash finds the old manifest: then a flush is
 * repeated from the log, and the files of a merge are removed at the next start. */
#ifndef ENGINE_UPKEEP_H
#define ENGINE_UPKEEP_H

#include "engine/part.h"

struct manifest;

/* 0 or PDB_RESOURCE_EXHAUSTED. */
int upkeep_new(struct shard *shard);
/* Nothing may be under way (upkeep_quiet), or the disk is simulated and has crashed. */
void upkeep_free(struct shard *shard);

/* Start-up: the state that the shard's manifest tells. `folder_begun`: the shard has a folder with
 * a manifest. */
void upkeep_restore(struct shard *shard, const struct manifest *m);
/* All batches up to it are in segments. */
uint64_t upkeep_flushed_version(const struct shard *shard);

/* After a batch has become visible: seals if the memtable is large. */
void upkeep_after_commit(struct shard *shard);
/* Once a second: seals by age, looks for segments to merge, moves the retained version on. */
void upkeep_sweep(struct shard *shard);
/* Seals what has not been flushed, so that the logs may forget it. */
void upkeep_flush_soon(struct shard *shard);

/* For snapshots: tells when all batches up to `version` are in segments (rc 0), or that a flush has
 * failed on the way, the collection was dropped, or the core is closing. `done` runs once, maybe
 * inside the call; it only queues work. */
struct upkeep_wait {
    struct list_link link;
    uint64_t version;
    void (*done)(struct upkeep_wait *wait, int rc, const struct trail *trail);
};
void upkeep_wait_flushed(struct shard *shard, struct upkeep_wait *wait);
/* While it is pinned no file of a segment that is in the shard's list, or was when the pin was set,
 * is removed. Pins count. */
void upkeep_pin(struct shard *shard);
void upkeep_unpin(struct shard *shard);
/* Numbers of segments from here on were never given. */
uint64_t upkeep_next_segment(const struct shard *shard);
/* This core is closing: nobody may wait for a flush any more. */
void upkeep_end_waits(struct engine_core *core);

/* The collection's settings may have changed: its indexes follow. */
void upkeep_index_settings(struct shard *shard);

/* The collection was dropped: stops what is under way. */
void upkeep_drop(struct shard *shard);
/* Every version from this one on can be read with as_of. */
uint64_t upkeep_retained_version(const struct shard *shard);

/* ---- of a core ---- */

/* Something holds the core open: see upkeep_quiet. */
void upkeep_enter(struct engine_core *core);
void upkeep_leave(struct engine_core *core);

/* The log has got larger than wal.max_bytes, or memory is short: makes shards flush. */
void upkeep_sweep_core(struct engine_core *core);
/* A write was refused for want of memory: the largest memtable of this core is flushed, unless that
 * goes on already. */
void upkeep_free_memory(struct engine_core *core);
/* Tells all logs what no shard of this core needs from them. */
void upkeep_release_all(struct engine_core *core);
/* A shard that was dropped, with its last call gone: its log records and files go. */
void upkeep_forget_collection(struct engine_core *core, const struct uuid *uuid);
/* Reads what is to stay in memory, in the background. */
void upkeep_warm_start(struct engine_core *core);
/* After a crash of a simulated disk: frees what is under way on this core, but for its shards. */
void upkeep_abandon(struct engine_core *core);
/* Closing: stops all that is under way and tells by engine_phase_done when nothing is. */
void upkeep_quiet(struct engine_core *core);

#endif
