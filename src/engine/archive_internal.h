/* Shared by the files of the archive. Who does what:
 *
 *     archive.c          life: opening, starting, stopping
 *     archive_put.c      one object, by an outside worker
 *     archive_feed.c     the segments of one log, in order
 *     archive_catalog.c  versions of the catalog, in order
 *     archive_load.c     what the store already has
 *     archive_state.c    STATE: up to when everything is there
 *     archive_base.c     bases: snapshots that are sent
 *     archive_prune.c    bases that are too old go, with all that only they need */
#ifndef ENGINE_ARCHIVE_INTERNAL_H
#define ENGINE_ARCHIVE_INTERNAL_H

#include "engine/archive.h"
#include "engine/archive_format.h"
#include "engine/snapshot_internal.h"
#include "store/store.h"

/* Outside workers, behind those of the cores: bases take hours, logs must not wait for them. */
enum { ARCHIVE_WORKER_LOGS, ARCHIVE_WORKER_BASES, ARCHIVE_WORKERS };

enum { ARCHIVE_RETRY_FIRST_S = 2, ARCHIVE_RETRY_MAX_S = 60 };

struct archive_master;

/* ---- whether something works: told once when it does not, and once when it does again ---- */

struct archive_health {
    const char *what; /* "segments of the log in .." */
    bool failing;
    unsigned failures; /* in a row */
};
/* Counts, and logs what has changed. */
void archive_failed(struct engine_core *core, struct archive_health *health,
                    const struct trail *trail);
void archive_works(struct engine_core *core, struct archive_health *health);
/* When to try again. */
uint64_t archive_retry_ns(const struct engine_core *core, const struct archive_health *health);

/* What the store has, against what is here. */
enum archive_begun {
    ARCHIVE_GOES_ON,
    ARCHIVE_GAP,      /* something in between was given up */
    ARCHIVE_CONFLICT, /* the store has more: it is not our history that it holds */
};

/* ---- one object (archive_put.c) ---- */

/* Zeroed before its first use; alive until `done`, which runs on the core that started it. */
struct archive_put {
    struct job job;
    /* set by the caller */
    struct store *store;
    char key[ARCHIVE_KEY_SIZE];
    const void *bytes; /* `len` bytes, or, when NULL, the file */
    char path[SNAPSHOT_PATH_MAX];
    char path_other[SNAPSHOT_PATH_MAX]; /* where the file lies if not there; "": nowhere */
    uint64_t len;                       /* UINT64_MAX: the whole file */
    bool replace;                       /* else it must be absent, or the same */
    bool look_first;                    /* it may well be there: ask before sending */
    void (*done)(struct archive_put *put);
    /* 0; PDB_DATA_LOSS: other bytes lie under the key; PDB_CANCELLED; what a store says */
    int rc;
    uint64_t sent_bytes; /* 0 if it was there */
    struct trail trail;
    struct store_cancel cancel;
    /* its own */
    struct io *io;
    bool busy;
};
void archive_put_start(struct engine_core *core, unsigned worker, struct archive_put *put);
void archive_put_cancel(struct archive_put *put); /* legal when it is not under way */

/* ---- a log (archive_feed.c) ---- */

struct archive_feed {
    struct list_link link; /* master->old_logs */
    struct engine_core *core;
    struct wal *wal; /* one of the two */
    struct wal_retired *old;
    struct uuid log;
    uint64_t first_seq, next_seq; /* in the store without gaps, since the last one; the next */
    uint64_t look_until;          /* something lies under the keys before that one */
    bool begun;                   /* it is known what the store has */
    bool stopped;
    bool over;   /* old: all of it is stored */
    bool stored; /* and a durable STATE says so */
    struct archive_put put;
    struct timer retry;
    struct archive_health health;
    char what[96];
};
void archive_feed_init(struct archive_feed *feed, struct engine_core *core, struct wal *wal,
                       struct wal_retired *old);
/* `known`: what STATE says of this log, `behind`: the first segment whose key is not in the store;
 * NULL: nothing is known. */
enum archive_begun archive_feed_begin(struct archive_feed *feed, const struct archive_log *known,
                                      uint64_t behind);
void archive_feed_go(struct archive_feed *feed);   /* the work begins */
void archive_feed_kick(struct archive_feed *feed); /* there may be something to do */
uint64_t archive_feed_lag(const struct archive_feed *feed);
/* Nothing more is begun; what runs is cut off. `done` of it still runs. */
void archive_feed_stop(struct archive_feed *feed);
/* Of the segments that are there. */
uint64_t archive_feed_first_local(const struct archive_feed *feed);

/* ---- one core ---- */

struct archive_core {
    struct engine_core *core;
    struct archive_master *master; /* core 0 only */
    struct archive_feed feed;
    /* asked by core 0, answered when the feed is so far */
    struct mail tick_mail;
    bool ticking;
    uint64_t tick_seq;
    int64_t tick_us;
    struct archive_log tick_log; /* the answer */
    /* asked by core 0 when it knows what the store has, and when a base begins */
    struct mail begin_mail, need_mail;
    struct archive_log begin_log; /* what the store has of its log, if anything */
    uint64_t begin_behind;
    bool begin_known;
    enum archive_begun begun;
    struct archive_need need;
    /* closing */
    bool quieting, closed; /* closed: nothing runs and nothing is begun */
    bool quiet_all;        /* all that there was is stored */
    uint64_t quiet_seq, quiet_until_ns;
    int64_t quiet_us;
    struct timer quiet_timer;
};

/* Something has moved on this core: who waits for it is told. */
void archive_core_moved(struct archive_core *ac);
/* The same for the phase of closing. */
void archive_core_quiet(struct archive_core *ac);

/* ---- what the store has (archive_load.c) ---- */

struct archive_base_note {
    char name[ARCHIVE_NAME_SIZE];
    int64_t begun_us, ended_us;
};

/* Filled by the worker: read by nobody meanwhile. */
struct archive_load {
    struct job job;
    struct store *store;
    struct archive_identity identity;
    struct store_cancel cancel;
    struct arena arena;
    int rc;
    struct trail trail;
    bool busy, found; /* found: there was a STATE */
    struct archive_state state;
    uint64_t *behind; /* by log: the first segment whose key is not there; in the arena */
    uint64_t catalog_behind;
    struct archive_base_note *bases; /* in order of time; in the arena */
    uint32_t base_count;
    void (*done)(struct archive_load *load);
};
void archive_load_start(struct engine_core *core, struct archive_load *load);

/* ---- core 0 ---- */

struct archive_catalogs {
    uint64_t first, next; /* versions in the store since the last gap; the next to go */
    uint64_t look_until;  /* something lies under the keys before that one */
    struct archive_put put;
    struct timer retry;
    struct archive_health health;
};

enum archive_base_state {
    ARCHIVE_BASE_IDLE,
    ARCHIVE_BASE_NEEDS,    /* each core says which of its segments a replay would need */
    ARCHIVE_BASE_SNAPSHOT, /* files are linked */
    ARCHIVE_BASE_SEND,
    ARCHIVE_BASE_LIST, /* BASE itself */
    ARCHIVE_BASE_REMOVE,
    ARCHIVE_BASE_PRUNE_STATE, /* STATE without what will go */
    ARCHIVE_BASE_PRUNE,
};

struct archive_baser {
    enum archive_base_state state;
    bool wanted;
    struct timer timer;
    struct archive_health health;
    unsigned needs_left;
    struct archive_need *needs; /* heap */
    uint32_t need_count, need_capacity;
    struct arena arena; /* of the call */
    struct pdb_snapshot_create create;
    struct snapshot_handover handover;
    struct archive_base base;
    uint32_t part, file;
    uint64_t sent_bytes, begun_ns;
    struct archive_put put;
    struct job list_job;
    struct buffer list_bytes;
    int list_rc;
    struct snapshot_remove remove;
    bool good; /* this one is in the store */
};

struct archive_prune {
    struct job job;
    struct store *store;
    struct uuid identity;
    struct store_cancel cancel;
    struct archive_health health;
    struct trail trail;
    int rc;
    bool busy;
    struct archive_base_note
        *kept; /* heap; in order of time; the first one's needs are the least */
    uint32_t kept_count;
    char gone[ARCHIVE_NAME_SIZE];
    uint64_t objects, bytes;
    struct archive_need *logs; /* heap: where each log begins now; UINT64_MAX: nothing is left */
    uint32_t log_count;
    uint64_t catalog_first;
    void (*done)(struct archive_prune *prune);
};
void archive_prune_start(struct engine_core *core, struct archive_prune *prune);

struct archive_master {
    struct engine_core *core;
    struct store *store;
    struct archive_load load;
    struct timer load_retry;
    struct archive_health load_health;
    bool loaded, stopped;
    unsigned begin_left;
    bool gap, conflict;
    struct list old_logs; /* struct archive_feed.link */

    /* what STATE says next */
    struct archive_log *logs; /* heap */
    uint32_t log_count, log_capacity;
    struct archive_range *ranges; /* heap */
    uint32_t range_count, range_capacity;
    bool range_open; /* the last range grows */
    bool range_due;  /* a base has ended at range_from_us: the next range begins there */
    int64_t range_from_us, covered_us;
    struct archive_base_note *bases; /* heap */
    uint32_t base_count, base_capacity;

    /* a round: all logs and catalogs up to a moment */
    struct timer tick_timer;
    bool ticking, tick_again;
    unsigned tick_left;
    uint64_t tick_catalog; /* the version that has to be there */
    bool tick_catalog_waits;
    int64_t tick_us;
    struct archive_put state_put;
    struct buffer state_bytes;
    struct archive_health state_health;

    struct archive_catalogs catalogs;
    struct archive_baser base;
    struct archive_prune prune;
    /* closing */
    bool ending;
};

static inline struct archive_master *archive_master(const struct engine_core *core)
{
    return core->archive != NULL ? core->archive->master : NULL;
}

/* archive.c */
struct archive_log *archive_known_log(const struct archive_master *m, const struct uuid *log);
/* Adds or replaces; false: no memory. */
bool archive_note_log(struct archive_master *m, const struct archive_log *log);

/* archive_state.c */
void archive_tick_init(struct archive_master *m);
void archive_tick(struct archive_master *m); /* a round now, or after the one under way */
void archive_tick_arm(struct archive_master *m, uint64_t in_ns);
void archive_tick_catalog(struct archive_master *m); /* catalogs have moved */
/* Everything up to then is stored, if all logs are as far as they say. False: an old one is not. */
bool archive_cover(struct archive_master *m, int64_t to_us);
/* Writes STATE as it is; archive_state_written follows. */
void archive_state_write(struct archive_master *m);

/* archive_catalog.c */
/* At the start, before anything moves: what is here. */
void archive_catalogs_look(struct archive_master *m);
enum archive_begun archive_catalogs_begin(struct archive_master *m,
                                          const struct archive_state *known, uint64_t behind);
void archive_catalogs_kick(struct archive_master *m);
void archive_catalogs_stop(struct archive_master *m);

/* archive_base.c */
void archive_base_init(struct archive_master *m);
void archive_base_arm(struct archive_master *m);
/* STATE has been written, or could not be. */
void archive_base_state_written(struct archive_master *m, bool good);
void archive_base_stop(struct archive_master *m);
bool archive_base_busy(const struct archive_master *m); /* a job of it runs */
void archive_base_free(struct archive_master *m);

#endif
