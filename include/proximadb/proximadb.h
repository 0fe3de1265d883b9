/* libproximadb: the engine without network. The server is an ordinary user of it. */
#ifndef PROXIMADB_PROXIMADB_H
#define PROXIMADB_PROXIMADB_H

#include <proximadb/call.h>
#include <proximadb/collection.h>
#include <proximadb/error.h>
#include <proximadb/index.h>
#include <proximadb/recall.h>
#include <proximadb/record.h>
#include <proximadb/search.h>
#include <proximadb/snapshot.h>
#include <proximadb/types.h>

struct reactor;
struct reactor_host;

enum pdb_io_engine { PDB_IO_AUTO, PDB_IO_URING, PDB_IO_THREADS };
enum pdb_wal_encoding { PDB_WAL_BINARY, PDB_WAL_AVRO };
enum pdb_wal_io_mode { PDB_WAL_DIRECT, PDB_WAL_BUFFERED };
enum pdb_wal_on_error { PDB_WAL_ABORT, PDB_WAL_READONLY };

/* What goes on behind the doors: recovery while it lasts, then the reading of indexes. */
struct pdb_progress {
    const char *phase;    /* static; NULL: nothing goes on */
    uint64_t done, total; /* in units of the phase: bytes, rows; total 0: not known yet */
};

/* Zeroed options are the defaults. */
struct pdb_options {
    const char *data_dir; /* "./data"; made if missing (its parent must exist) */
    unsigned cores;       /* 0: all the process may use; may exceed them */
    bool no_pin;
    unsigned spin_us;
    uint64_t memory_limit; /* bytes of rows and indexes; 0: 70 % of the machine's or cgroup's */
    enum pdb_io_engine io_engine;
    const char *const *wal_dirs; /* core i uses entry i mod count; NULL: "<data_dir>/wal" */
    size_t wal_dir_count;
    enum pdb_wal_encoding wal_encoding;
    enum pdb_wal_io_mode wal_io_mode;
    enum pdb_wal_on_error wal_on_error;
    uint64_t wal_segment_bytes;   /* 0: 64 MiB */
    uint64_t wal_batch_window_us; /* 0: 1000 */
    uint64_t wal_period_ms;       /* 0: 200 */
    uint64_t wal_max_bytes; /* of one core's log; past it the oldest rows are flushed; 0: 4 GiB */
    /* When a shard's memtable is sealed into a segment: rows, bytes, age of its oldest row. */
    uint64_t flush_rows;                  /* 0: 1,000,000 */
    uint64_t flush_bytes;                 /* 0: 256 MiB */
    uint32_t flush_age_s;                 /* 0: 300 */
    uint32_t segments_max;                /* of a shard at rest: more are merged; 0: 8 */
    uint64_t compaction_rate_bytes_per_s; /* read and written by each core's worker; 0: no limit */
    /* Snapshots of everything, taken by the clock: seconds between two of them (0: none), and how
     * many are kept (0: 7); the oldest scheduled ones beyond are removed. */
    uint64_t snapshot_interval_s;
    uint32_t snapshot_keep;
    /* Where everything goes that is needed to bring a moment back: the URL of an object store,
     * NULL: nowhere. How old it may get before it is there, in seconds (0: 60); seconds between two
     * bases (0: 86,400), and how many of these are kept (0: 7). docs/operating/backup.md. */
    const char *archive_url;
    uint32_t archive_interval_s;
    uint64_t archive_base_interval_s;
    uint32_t archive_keep;
    uint64_t disk_min_free_bytes; /* refuse writes below; 0: 2 GiB, UINT64_MAX: no check */
    bool allow_unsafe_fs;
    uint32_t collections_max; /* 0: 65,536 */
    uint32_t ttl_sweep_ms;    /* 0: 1000: how often expired rows are looked for */
    /* 0: 3600 s; else this less 1: an expired row is never shown, and removed so much later */
    uint32_t ttl_grace_s_plus_one;
    uint32_t filter_depth_max, filter_leaves_max; /* 0: 32, 1,024 */
    const char *simd; /* forces a kernel set: "scalar", "avx2", "avx512", "neon"; NULL: the best */

    /* For the server, which brings its own event loop into the reactors; else NULL. */
    const struct reactor_host *host;
    /* on each core's thread, recovery done */
    int (*core_start)(struct pdb *db, struct reactor *r, void *arg, struct pdb_error *error);
    void (*core_stop)(struct pdb *db, struct reactor *r, void *arg);
    /* NULL, or told how far the recovery of pdb_open is, and what is read behind it, of all cores
     * together: from any core's thread, but one at a time. Must be short and call nothing of the
     * database. */
    void (*progress)(const struct pdb_progress *progress, void *arg);
    /* NULL, or asked again and again while pdb_open recovers, from any core's thread: true ends it
     * soon, with CANCELLED. The next pdb_open finds everything. */
    bool (*stop)(void *arg);
    void *arg;
};

/* How many cores pdb_open would use: options->cores, or what the process may use. 0 or
 * PDB_INVALID_ARGUMENT. */
PDB_API int pdb_core_count(const struct pdb_options *options, unsigned *count_out);

/* Takes the data directory's lock, recovers, starts the reactors. UNAVAILABLE: locked by another
 * process; DATA_LOSS: what is on disk contradicts itself (the text names file and offset);
 * FAILED_PRECONDITION: unsafe filesystem, io_uring asked for and denied, ... */
PDB_API int pdb_open(const struct pdb_options *options, struct pdb **db_out,
                     struct pdb_error *error);
/* Waits for calls under way, syncs the logs, marks the stop as clean, ends the threads. */
PDB_API void pdb_close(struct pdb *db);
/* The same: storing what the archive lacks may take so long at most; else 10 s. */
PDB_API void pdb_close_within(struct pdb *db, uint32_t ms);

PDB_API const char *pdb_version(void);

/* Facts for GET /v1/info, the same for all doors. Valid as long as the database. */
struct pdb_facts {
    const char *version, *simd, *io_engine, *io_engine_reason /* "" or why a fallback */,
        *wal_encoding, *wal_io_mode, *data_dir;
    unsigned cores;
    uint64_t memory_limit;
    uint64_t recovered_records, recovered_bytes, recovery_us;
    bool recovered_clean;
};
PDB_API const struct pdb_facts *pdb_facts(const struct pdb *db);

/* Live numbers of all cores, gathered by message. */
struct pdb_stats {
    struct pdb_call call;
    uint64_t collections_out, records_out, memory_bytes_out;
    bool want_metrics; /* set by the caller: also render metrics_out */
    /* Names of the operations that the caller's doors count, for the labels of their metrics; by
     * index, NULL: none. */
    const char *const *operation_names, *const *method_names;
    unsigned operation_count;
    bool poisoned_out; /* some log refuses writes */
    bool disk_full_out;
    struct pdb_progress progress_out; /* of the earliest phase that a core is in, over all cores */
    struct pdb_text metrics_out;      /* Prometheus text */
};
PDB_API void pdb_stats_start(struct pdb_stats *s);

struct pdb_check_options {
    const char *data_dir;
    const char *const *wal_dirs; /* NULL: "<data_dir>/wal" */
    size_t wal_dir_count;
    /* Makes bad indexes again and removes files that nothing names; damage is only told. */
    bool repair;
    void (*report)(void *arg, const char *line); /* each finding: a line of JSON */
    void *arg;
};
/* Offline check of a data directory (takes its lock). 0: clean. PDB_DATA_LOSS: damage.
 * PDB_FAILED_PRECONDITION: nothing is lost, but a repair has something to do. */
PDB_API int pdb_check(const struct pdb_check_options *options, struct pdb_error *error);

#endif
