/* The state of an open database: one struct pdb, fixed once it is open, and one struct engine_core
 * per core, touched by that core only. Everything between cores is mail. */
#ifndef ENGINE_ENGINE_INTERNAL_H
#define ENGINE_ENGINE_INTERNAL_H

#include "base/arena.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/trail.h"
#include "base/uuid.h"
#include "engine/memory.h"
#include "engine/search_walk_pool.h"
#include "engine/segment_build.h"
#include "memtable/memtable.h"
#include "metrics/metrics.h"
#include "reactor/reactor.h"
#include "wal/wal.h"

#include <proximadb/proximadb.h>
#include <pthread.h>

struct archive_core;
struct catalog_master;
struct catalog_snapshot;
struct snapshots;
struct engine_core;
struct recall_core;
struct recovery;
struct warming;
struct sim_disk;
struct store;

struct flush_note { /* to the owner of a shard that holds the oldest segment of a log, and back */
    struct mail mail;
    struct engine_core *home;
    struct uuid uuid;
    bool under_way;
};

enum { ANN_SHARE_BUCKETS = 64 };

struct engine_core {
    struct pdb *db;
    struct reactor *r;
    unsigned id;
    struct wal *wal;
    struct catalog_snapshot *catalog; /* the newest one this core was told of */
    struct catalog_master *master;    /* core 0 only */
    struct snapshots *snapshots;      /* core 0 only */
    struct archive_core *archive;     /* NULL: there is none */
    struct list staged;               /* shards being restored: in no table yet */
    struct map shards;                /* uuid -> struct shard * */
    struct list shard_list;
    struct list awaiting_catalog; /* calls that know a newer catalog than this core */
    /* what shards do for themselves: upkeep.c */
    unsigned upkeep_active;   /* that has to end before the core may close */
    bool quieting;            /* a phase waits for that */
    unsigned flushes, merges; /* under way */
    unsigned large_merges;    /* of these */
    unsigned flushes_building;
    struct list held_merges; /* struct change.held_link: they let flushes build first */
    struct list flush_line;  /* struct upkeep.waiting_link: sealed, with no place for the flush */
    struct list
        merge_line; /* struct upkeep.merge_link: there is something to merge, but no place */
    bool lines_move;
    /* indexes of segments: upkeep_index.c */
    struct list index_line;  /* struct upkeep.index_link: there is one to make, but no place yet */
    unsigned index_builds;   /* under way */
    unsigned index_large;    /* of these */
    struct list ann_frees;   /* ann.c: nobody has them, and they are not freed yet */
    struct task memory_task; /* upkeep_free_memory */
    uint64_t memory_looked_ns;
    uint64_t segment_bytes; /* of segments that are to stay in memory */
    struct segment_rate compaction_rate;
    struct flush_note flush_note;
    struct memtable_pool memtable_pool;
    struct list discards, unmappings; /* discard.c: parts that nobody reads */
    size_t spares_due;                /* of memtable_pool, to go */
    struct task discard_task;
    struct list upkeep_ops; /* on their way: blocks of the heap that begin with their link */
    struct warming *warming;
    void *fetch_sink; /* fetch.c */
    /* ann_set.c: sets of this core's shards, and this core's shares of the newest of all shards */
    struct list ann_sets, ann_shares[ANN_SHARE_BUCKETS];
    struct walk_pool walks;
    struct list old_logs; /* core 0 only: old_logs.c */
    struct list stalled;  /* shards whose next write waits for room in the log */
    struct timer stall_timer, sweep_timer;
    struct task sweep_task;
    uint32_t sweep_left;        /* shards that this sweep has not seen */
    struct recall_core *recall; /* recall_estimate.c; NULL: nothing was looked at yet */
    uint64_t recall_bytes;      /* of all shards' recent searches */
    struct mail flush_mail;     /* to core 0 and back: all earlier mail to it has then arrived */
    struct memory_view memory;
    uint64_t calls_active; /* started here and not done */
    bool closing;          /* new calls are refused */
    bool draining;         /* a phase waits for calls_active to reach 0 */
    bool poisoned;
    bool serving;   /* core_start has run */
    bool log_begun; /* its log has a segment; told to core 0 at the end of a phase of opening */
    struct mail phase_mail;
    void (*phase_run)(struct engine_core *core);
    struct recovery *recovery; /* during start-up */
    /* this core's share of what goes on (engine_progress); written under phase_lock */
    struct pdb_progress progress;
    uint64_t progress_told_ns, progress_logged_ns;
    struct metrics
        *metrics; /* this core's; in its heap, and known to the layers by REACTOR_SLOT_METRICS */
    uint64_t rows_recovered;
    uint64_t segments_named, segments_loaded; /* at the start */
};

/* Where a replay ends: see recover_replay.c. */
struct replay_stop {
    int64_t time_us; /* each log ends before its first group that was closed later */
    /* This log ends behind this very record instead, which lies in a group of that time. */
    bool exact;
    struct uuid log;
    uint64_t lsn;
};

struct pdb {
    /* While it opens: NULL, or the replay of an archive (engine_open_replay). */
    const struct replay_stop *stop;
    bool replays;               /* such a one, as long as it lives */
    struct pdb_options options; /* texts lie in `texts`; zeroes replaced by the defaults */
    struct arena texts;
    struct reactor_group *group;
    struct engine_core *cores;
    unsigned core_count;
    int lock_file; /* -1: none */
    struct hash_key hash_key;
    struct pdb_facts facts;
    uint64_t recovered_torn_bytes;
    const char **wal_dirs;
    size_t wal_dir_count;
    const char **core_log_dirs; /* of each core's log */
    const char **log_list;      /* the lines of catalog/LOGS; core 0's */
    size_t log_list_count;
    bool log_list_broken; /* not all lines are kept: no new list can be made of them */
    bool has_no_logs;     /* brought back out of an archive and never started: no log is its own */
    struct sim_disk *sim; /* tests: the caller's thread turns the reactors */
    uint64_t opened_at_ns;
    struct store *archive; /* NULL: there is none; with its identity */
    struct uuid archive_identity;
    int64_t archive_created_us;
    bool archive_lent; /* the store is a test's */
    uint32_t stop_ms;  /* how long closing may wait for the archive */
    /* Start-up and shutdown only: the opener's thread waits here for the cores. */
    pthread_mutex_t phase_lock;
    pthread_cond_t phase_changed;
    unsigned phase_left;
    struct pdb_error phase_error; /* the first */
};

static inline struct engine_core *engine_here(struct reactor *r)
{
    return (struct engine_core *)r->user[REACTOR_SLOT_ENGINE];
}

/* As pdb_open, for a folder that was made of an archive: its logs, as <data_dir>/wal/<n> with n
 * beyond all cores, begin with their lowest segments; they are replayed up to `stop` and stay as
 * they are, and all they brought is in segments when this returns 0. What the catalog does not know
 * is skipped. PDB_DATA_LOSS: versions are missing between the segments and the logs. */
int engine_open_replay(const struct pdb_options *options, const struct replay_stop *stop,
                       struct pdb **db_out, struct pdb_error *error);

/* As pdb_open, on a simulated disk: no threads, no lock file; calls go through pdb_wait, which
 * turns the reactors. */
int engine_open_sim(const struct pdb_options *options, struct sim_disk *disk, struct pdb **db_out,
                    struct pdb_error *error);
/* The same with a store as archive, which stays the caller's. */
int engine_open_sim_archived(const struct pdb_options *options, struct sim_disk *disk,
                             struct store *archive, struct pdb **db_out, struct pdb_error *error);

/* After a crash of the simulated disk: frees everything without a single I/O. Calls under way are
 * never done. `drop_log` frees a log in that way (tests have wal_abandon). */
void engine_abandon_sim(struct pdb *db, void (*drop_log)(struct wal *w));

/* Ends a core's part of the phase that runs; `trail` only matters when rc is not 0. */
void engine_phase_done(struct engine_core *core, int rc, const struct trail *trail);
/* Simulated databases: one turn of every reactor; moves the clock when there was nothing to do. */
void engine_pump(struct pdb *db);

/* Translates a negative errno of file work: what failed is the caller's to say. */
int engine_errno_code(int64_t result);

/* recover.c: the phases of start-up that bring the data back; each runs on every core. */
void recover_scan(struct engine_core *core);     /* this core's share of the logs */
void recover_segments(struct engine_core *core); /* of its shards, as their manifests say */
void recover_load(struct engine_core *core);     /* the records of its shards, wherever they lie */
void recover_open_log(
    struct engine_core *core); /* its own log goes on; versions jump after an unclean stop */
/* Collections that were dropped: the logs of this core need not keep their records. */
void recover_release_dropped(struct engine_core *core);
void recover_dispose(struct engine_core *core);
/* A replay: all that was brought back goes into segments (recover_replay.c). */
void recover_settle(struct engine_core *core);
/* On the opener's thread, when all are through: what was found, into the facts and the log. */
void recover_facts(struct pdb *db, uint64_t started_ns);

/* stats.c: this core's share of what goes on is `done` of `total` (0: not known) in the units of
 * `phase`, a static text; NULL: nothing any more. Cheap enough to be called at every step: it is
 * told to options.progress twenty times a second, and logged every two seconds. */
void engine_progress(struct engine_core *core, const char *phase, uint64_t done, uint64_t total);

/* stats.c: asked between steps of the recovery: 0, or PDB_CANCELLED when the opener does not want
 * it any more. `trail` may be NULL. */
int engine_go_on(const struct engine_core *core, struct trail *trail);

/* log_list.c: refuses a start that would not read every log there ever was. 0; PDB_DATA_LOSS: one
 * is missing; PDB_FAILED_PRECONDITION: one lies outside options.wal_dirs. Waits for its I/O. */
int log_list_check(struct pdb *db, struct io *io, struct trail *trail);
/* Of a data directory that was brought back and has no logs: whatever the first start finds in
 * options.wal_dirs is not its own. */
int log_list_say_none(struct io *io, const char *data_dir, struct trail *trail);
/* Adds the logs of this start, durably, before any write is taken, and keeps the list for the next
 * two. */
int log_list_add(struct pdb *db, struct io *io, struct trail *trail);
/* The file's bytes without the log in `dir`; out->failed tells. */
void log_list_encode(const struct pdb *db, const char *dir, struct buffer *out);
/* It is durable that the log in `dir` is not needed. */
void log_list_forget(struct pdb *db, const char *dir);

/* lock.c: makes the directory (not its parents) and takes its LOCK, trying 5 x 50 ms. */
int lock_take(const char *data_dir, int *file_out, struct trail *trail);
void lock_release(int file);

/* expire.c: arms the sweep of this core. */
void expire_start(struct engine_core *core);

#endif
