/* Archives: what a server with archive.url has collected (docs/formats/archive.md) brings a data
 * directory back to any moment of the time that it covers. See docs/operating/point-in-time.md. */
#ifndef PROXIMADB_ARCHIVE_H
#define PROXIMADB_ARCHIVE_H

#include <proximadb/call.h>
#include <proximadb/export.h>
#include <proximadb/proximadb.h>
#include <stdbool.h>
#include <stdint.h>

/* Every moment from the first to the second can be brought back; microseconds since 1970. */
struct pdb_archive_range {
    int64_t from_us, to_us;
};

struct pdb_archive_base { /* where a restore begins */
    const char *name;
    int64_t begun_us, ended_us;
    uint32_t collections;
    uint64_t bytes;
    const char *problem; /* NULL, or why it cannot be used */
};

struct pdb_archive_log {
    char uuid[37];
    uint64_t first_segment, next_segment; /* those before next_segment are there */
    bool ended;
};

struct pdb_archive_info { /* of one data directory; several may lie under one URL */
    char identity[37];
    int64_t written_at_us;
    const char *problem; /* NULL, or why nothing else is known */
    const struct pdb_archive_range *ranges;
    uint32_t range_count;
    const struct pdb_archive_base *bases;
    uint32_t base_count;
    const struct pdb_archive_log *logs;
    uint32_t log_count;
};

struct pdb_archive_list {
    const char *url; /* as archive.url: docs/operating/object-stores.md */
    void (*visit)(void *arg, const struct pdb_archive_info *info);
    void *arg;
};
/* Errors as those of stores: PDB_INVALID_ARGUMENT, PDB_NOT_FOUND, PDB_PERMISSION_DENIED,
 * PDB_UNAVAILABLE, ... */
PDB_API int pdb_archive_list(const struct pdb_archive_list *list, struct pdb_error *error);

enum pdb_archive_target {
    PDB_ARCHIVE_LATEST,  /* the last moment that is there */
    PDB_ARCHIVE_TIME,    /* all that was answered by then */
    PDB_ARCHIVE_LSN,     /* a record of a log, and what other logs had when it was written */
    PDB_ARCHIVE_VERSION, /* a version of a collection, the same way */
};

struct pdb_archive_restore {
    const char *url;
    const char *identity; /* NULL: the only one there is */
    const char *data_dir; /* must not be there, or be empty; its parent must be there */
    enum pdb_archive_target target;
    int64_t time_us;
    const char *log; /* its uuid or how that begins; NULL: the only one there is */
    uint64_t lsn;
    const char *collection; /* name (the newest that ever had it) or uuid */
    uint64_t version;
    unsigned cores;        /* as pdb_options of the replay; 0: the default */
    uint64_t memory_limit; /* the same */
    uint64_t round_bytes;  /* of logs that are replayed at once; 0: 1 GiB, or what memory allows */
    /* Both may be NULL. `progress` is told the phases "search", "base", "logs" and "replay", the
     * last one in units of its own, from any thread, one call at a time. `stop` may be asked by
     * several threads at once: true ends it with PDB_CANCELLED. */
    void (*progress)(const struct pdb_progress *progress, void *arg);
    bool (*stop)(void *arg);
    void *arg;
};

struct pdb_archive_restored {
    char identity[37], base[32];
    int64_t time_us; /* the moment */
    uint32_t collections;
    uint64_t bytes; /* fetched */
};

/* Makes `data_dir` as the data directory was at the target. It appears as a whole when all is done;
 * until then everything lies beside it in ".<name>.restore", which the next restore to the same
 * place clears. PDB_ALREADY_EXISTS: data_dir is not empty. PDB_OUT_OF_RANGE: the archive does not
 * reach there (the text says how far it goes). PDB_NOT_FOUND: no archive, log or collection of that
 * name. PDB_DATA_LOSS: an object is missing or damaged (the text names it), or a collection cannot
 * be brought back. PDB_UNAVAILABLE: the store, the disk, or another restore is under way there.
 * PDB_CANCELLED. `restored_out` may be NULL. */
PDB_API int pdb_archive_restore(const struct pdb_archive_restore *options,
                                struct pdb_archive_restored *restored_out, struct pdb_error *error);

#endif
