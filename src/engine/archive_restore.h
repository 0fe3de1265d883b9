/* A data directory out of an archive: what the files of the restore share.
 *
 *     archive_restore.c        the whole, and the list of what there is
 *     archive_restore_read.c   finding: identity, state, base, catalog
 *     archive_restore_logs.c   segments of logs: fetched, checked, in the order of their time
 *     archive_restore_build.c  the folder: base, catalog, and its appearance under its name
 *
 * All of it waits for its I/O on the caller's thread; only the replay has threads of its own. */
#ifndef ENGINE_ARCHIVE_RESTORE_H
#define ENGINE_ARCHIVE_RESTORE_H

#include "engine/archive_format.h"
#include "engine/catalog.h"
#include "engine/engine_internal.h"
#include "os/io.h"
#include "store/store.h"

#include <proximadb/archive.h>

enum {
    RESTORE_DIR_MAX = 1024, /* of the folders, with their NULs */
    RESTORE_PATH_MAX = RESTORE_DIR_MAX + 256,
    RESTORE_LOG_FIRST = 1 << 20, /* number of the first fetched log: no core has it */
};

struct restore_segment {
    uint64_t seq, bytes;
    int64_t time_us; /* the highest of a record in it or in the log before it */
};

struct restore_log {
    struct uuid uuid;
    uint64_t next, end;               /* numbers that are still to be fetched */
    struct restore_segment *segments; /* heap; in data/wal, not replayed to their ends */
    uint32_t count, capacity;
    int64_t time_us; /* of the newest record that was fetched; INT64_MIN: none was */
    bool reached;    /* a record behind the target was fetched */
};

/* A record that is looked for. */
struct restore_wanted {
    bool by_version;
    struct uuid collection;
    uint64_t version, lsn;
    bool found;
    struct replay_stop stop; /* at it, once it is found */
};

struct restore {
    const struct pdb_archive_restore *options;
    struct io *io;
    struct store *store;
    struct arena arena;
    struct uuid identity;
    struct archive_state state;
    /* where it goes */
    int lock_file;
    char parent[RESTORE_DIR_MAX], name[256];
    char target[RESTORE_DIR_MAX], work[RESTORE_DIR_MAX], data[RESTORE_DIR_MAX];
    /* what is brought back */
    struct replay_stop stop;
    struct archive_base base;
    bool has_base;
    struct catalog_image image;
    bool has_image;
    void *catalog; /* the file's bytes; heap */
    size_t catalog_len;
    struct restore_log *logs; /* arena */
    uint32_t log_count;
    uint64_t log_bytes;   /* in data/wal */
    uint64_t bytes;       /* fetched so far */
    uint64_t done, total; /* of the phase */
    const char *phase;
};

/* 0, or PDB_CANCELLED; tells how far it is. */
int restore_go_on(struct restore *r, const char *phase, uint64_t done, uint64_t total,
                  struct trail *trail);

/* ---- reading (archive_restore_read.c) ---- */

/* Each identity under the URL. */
int restore_each_identity(struct store *store, int (*visit)(void *arg, const struct uuid *identity),
                          void *arg, struct trail *trail);
/* The one that is asked for; then its state. */
int restore_find_identity(struct restore *r, struct trail *trail);
int restore_read_state(struct store *store, const struct uuid *identity, struct arena *arena,
                       struct archive_state *state_out, struct trail *trail);
/* The names of its bases, oldest first. */
int restore_base_names(struct store *store, const struct uuid *identity, struct arena *arena,
                       char (**names_out)[ARCHIVE_NAME_SIZE], uint32_t *count_out,
                       struct trail *trail);
/* The image is the caller's to dispose. */
int restore_read_base(struct store *store, const struct uuid *identity, const char *name,
                      struct arena *arena, struct archive_base *base_out, struct trail *trail);
/* The range that has this moment, or PDB_OUT_OF_RANGE. */
int restore_find_range(const struct restore *r, int64_t time_us,
                       const struct archive_range **range_out, struct trail *trail);
/* The newest base for a moment of the range; r->base. */
int restore_find_base(struct restore *r, int64_t time_us, struct trail *trail);
/* The newest base before a version of a collection was made; r->base. */
int restore_find_base_before(struct restore *r, const struct catalog_entry *entry, uint64_t version,
                             struct trail *trail);
void restore_drop_base(struct restore *r);
/* The catalog of r->stop; r->image. */
int restore_find_catalog(struct restore *r, struct trail *trail);
/* The newest entry that ever had this name or uuid, in a catalog that is the caller's to dispose of
 * with catalog_image_dispose. PDB_NOT_FOUND. */
int restore_find_collection(struct restore *r, const char *name, struct catalog_image *image_out,
                            const struct catalog_entry **entry_out, struct trail *trail);
/* A missing object is lost data: STATE says that it is there. */
int restore_lost(int rc, struct trail *trail);

/* ---- logs (archive_restore_logs.c) ---- */

/* r->logs: what r->base does not hold. */
int restore_logs_begin(struct restore *r, struct trail *trail);
void restore_logs_end(struct restore *r);
/* The log whose fetched part ends first, of those that have not reached r->stop; NULL: all have. */
struct restore_log *restore_laggard(struct restore *r);
/* Its next segment comes into data/wal. */
int restore_fetch(struct restore *r, struct restore_log *log, struct trail *trail);
/* Gives up segments of which nothing lies behind this moment. */
void restore_forget(struct restore *r, int64_t time_us);
/* Where the record is: by lsn in a log, by version in the logs behind r->base. Keeps no segment. */
int restore_find_lsn(struct restore *r, const struct archive_log *log,
                     struct restore_wanted *wanted, struct trail *trail);
int restore_find_version(struct restore *r, struct restore_wanted *wanted, struct trail *trail);

/* ---- the folder (archive_restore_build.c) ---- */

/* Paths from options->data_dir, the lock, an empty work folder. */
int restore_prepare(struct restore *r, struct trail *trail);
/* Files of r->base that r->image needs. PDB_DATA_LOSS: a collection is nowhere. */
int restore_place_base(struct restore *r, struct trail *trail);
int restore_place_catalog(struct restore *r, struct trail *trail);
/* What a replay has left besides segments. */
int restore_clean_round(struct restore *r, struct trail *trail);
/* Under its name. */
int restore_appear(struct restore *r, struct trail *trail);
/* The work folder goes, as far as it can, and the lock. */
void restore_clear(struct restore *r);

#endif
