/* The write-ahead log of one core: every acknowledged change of every shard of that core, in order.
 * Rules and reasons: the design essay in wal_append.c; bytes: docs/formats/wal.md; rule numbers:
 * docs/invariants.md.
 *
 * Life:  wal_scan (at start, any core, any number of logs) -> wal_open -> wal_append ... ->
 * wal_close. One write per group, one group in flight (depth 1): what is acknowledged is a prefix
 * without holes. The first error of a write or sync poisons the log: every waiter and all later
 * appends get PDB_UNAVAILABLE, for ever.
 *
 * Meanwhile wal_release tells what the log may forget, and its oldest segments go: the design essay
 * in wal_truncate.c. Logs that this start has no core for are read, released and removed by
 * wal_retired. */
#ifndef WAL_WAL_H
#define WAL_WAL_H

#include "base/arena.h"
#include "base/trail.h"
#include "base/uuid.h"
#include "os/io.h"
#include "reactor/reactor.h"

#include <proximadb/types.h>

enum wal_encoding { WAL_ENCODING_BINARY, WAL_ENCODING_AVRO };
enum wal_io_mode { WAL_IO_DIRECT, WAL_IO_BUFFERED };
enum wal_on_error { WAL_ON_ERROR_ABORT, WAL_ON_ERROR_READONLY };

struct wal_options {
    const char *dir;            /* this log's own directory, "<wal dir>/<core>"; made if missing */
    enum wal_encoding encoding; /* of new records; both are always readable */
    enum wal_io_mode io_mode;
    enum wal_on_error on_error; /* abort: exit 70 at once, a restart recovers */
    uint64_t segment_bytes;     /* 64 MiB; multiple of 1 MiB */
    uint64_t batch_window_us, period_ms;
    uint64_t queue_bytes_max; /* 4 MiB, or one record */
    uint64_t min_free_bytes;  /* appends get RESOURCE_EXHAUSTED (507) below it */
    bool allow_unsafe_fs;
    /* Called once, when the log is poisoned and on_error is readonly. */
    void (*poisoned)(void *arg, int error);
    /* May be NULL. A segment is complete and durable: nothing is written to this file any more,
     * and it stays until it is released and not held. In the order of `seq`. `path` lives during
     * the call. Those that were complete when the log was opened are not told: wal_segments. Not
     * called by wal_open and wal_close. */
    void (*closed)(void *arg, uint64_t seq, const char *path);
    void *arg;
};

enum wal_record_type {
    WAL_RECORD_ROWS = 1, /* one batch of resulting rows of one shard: upserted and deleted ones */
    WAL_RECORD_VERSION_JUMP = 2, /* the shard's version counter moved on without rows (after an
                                    unclean stop in a weak mode) */
    WAL_RECORD_CLOSE = 3,        /* a clean stop; proves the group before it */
};

/* The retry key of a write, logged with its batch. */
struct wal_request {
    uint8_t hash[16];       /* of the request_id text; all zero: none */
    uint32_t body_checksum; /* of the request, to tell a retry from a reuse */
    int64_t time_us;
};

/* One batch, as the shard has prepared it. */
struct wal_batch {
    enum wal_record_type type;
    struct uuid collection;
    uint32_t shard;
    uint64_t version; /* of the batch: all its rows carry it */
    struct wal_request request;
    uint32_t field_count;
    const uint32_t
        *field_bytes; /* bytes of a vector of each field (float32 x dimension, or bits) */
    uint32_t row_count;
    const struct pdb_row *rows;
};

/* An append under way; the caller's memory until `done`. */
struct wal_append_op {
    struct list_link link;
    const struct wal_batch *batch; /* and all it points to: must live until `done` */
    enum pdb_sync_mode sync;
    /* 0: acknowledged as the sync mode promises. PDB_UNAVAILABLE: the log is poisoned, the outcome
     * is unknown. PDB_RESOURCE_EXHAUSTED: no disk space or memory, too large, or the queue stayed
     * full for 1 s; nothing was logged, and every append that was queued behind this one fails with
     * it, so that no shard's versions get a hole. Called from the reactor's loop in append order,
     * never from inside wal_append. The op may be reused inside. */
    void (*done)(struct wal_append_op *op, int rc);
    uint64_t lsn; /* given when the record joins a group */
    /* In `done` with PDB_RESOURCE_EXHAUSTED: it was for want of a segment, so the disk is full. */
    bool disk_full;
    /* the log's own state */
    struct {
        uint64_t body_bytes, queued_at_ns, group_seq;
        bool delete_only, settled;
        int rc;
    } priv;
};

struct wal;

/* ---- recovery: reading ---- */

/* Where a record lies; opaque to callers but copyable and sortable by them. */
struct wal_place {
    uint32_t log,
        segment; /* indices into the scan; the same for every scan of the same directories */
    uint64_t offset, len; /* of the whole record */
    uint64_t lsn;         /* its header is only valid at this one */
};

/* What the scan tells of each record, in log order, after checking the header and (when
 * check_bodies) the body. */
struct wal_record_info {
    enum wal_record_type type;
    enum wal_encoding encoding;
    struct uuid collection;
    uint32_t shard, row_count;
    uint64_t version, lsn;
    int64_t time_us; /* of its group: when that was closed */
    struct uuid log;
    struct wal_place place;
};

struct wal_scan; /* the logs of a data directory, read-only */

/* `visit` sees every record of the logs with index % stride == first. Nonzero from it stops the
 * scan with that code. */
struct wal_scan_options {
    const char *const *dirs; /* "<wal dir>" each: its numbered subdirectories are the logs */
    size_t dir_count;
    unsigned first, stride; /* this caller's share of the logs, so that cores can scan in parallel;
                               0, 1: all */
    bool check_bodies;
    /* Each log begins with its lowest segment, whatever its groups say: for logs out of an archive,
     * which keeps what the log has given up. */
    bool from_lowest;
    int (*visit)(void *arg, const struct wal_record_info *info);
    void *arg;
    struct heap *heap; /* what the scan's memory is counted in; may be NULL */
};

/* Syncs and checks every log under the directories and finds each log's end. A torn tail is
 * counted, not an error. PDB_DATA_LOSS with file and offset: a valid group lies behind an invalid
 * one, a file is missing, foreign or damaged. PDB_FAILED_PRECONDITION: written by a newer version.
 * PDB_UNAVAILABLE: a file cannot be opened, synced or read. A directory that does not exist holds
 * no logs. Blocks. */
int wal_scan_open(struct io *io, const struct wal_scan_options *options, struct wal_scan **scan_out,
                  struct trail *trail);
void wal_scan_close(struct wal_scan *scan);

struct wal_scan_stats {
    uint64_t logs, segments, groups, records, bytes, torn_bytes;
    uint64_t leftovers; /* files before the first live segment: a truncation was not finished */
    bool clean;         /* every log that was ever written to ends with a CLOSE record */
};
void wal_scan_stats(const struct wal_scan *scan, struct wal_scan_stats *stats_out);

/* Reads one record found by a scan of the same directories (maybe by another core's scan) and
 * decodes it into the arena: the batch's rows point into the arena. Verifies header and body.
 * Blocks. */
int wal_read_batch(struct wal_scan *scan, const struct wal_place *place, struct arena *arena,
                   struct wal_batch *batch_out, struct trail *trail);

/* ---- writing ---- */

/* Goes on behind what lies in this directory (cuts the torn tail off, syncs, starts a new segment)
 * or starts a new log. Start-up only: waits for its I/O. The log writes through r->io from then on.
 * A full disk is no error: see wal_room. PDB_FAILED_PRECONDITION: a filesystem whose sync cannot be
 * trusted; else as wal_scan_open. */
int wal_open(struct reactor *r, const struct wal_options *options, struct wal **wal_out,
             struct trail *trail);
/* The caller has seen all its appends done. Writes what weak modes left over and the CLOSE record
 * if the log is sound (waits for its I/O), then frees. NULL is legal. */
void wal_close(struct wal *w);

/* Queues. Records reach the disk in the order of the calls. The body is encoded into the group in
 * budgeted steps. */
void wal_append(struct wal *w, struct wal_append_op *op);
/* True if an append now would have to wait for room (the sender should hold its clients back). */
bool wal_congested(const struct wal *w);
/* The same for a batch that encodes to about so many bytes: a sender who asks can refuse his
 * clients at once, while an append that waits here is told in its turn, behind what the disk works
 * on. */
bool wal_would_wait(const struct wal *w, uint64_t body_bytes);
bool wal_poisoned(const struct wal *w);
/* 0, or PDB_RESOURCE_EXHAUSTED (507) while the disk is full: checked before a write is prepared.
 * Deletes may pass (rule W18). PDB_UNAVAILABLE: poisoned. */
int wal_room(struct wal *w, bool delete_only, struct trail *trail);
/* Everything appended so far durable, whatever its sync mode; `done` as for an append. `batch` is
 * not read. */
void wal_flush(struct wal *w, struct wal_append_op *op);

struct wal_stats {
    uint64_t groups, records, bytes, pad_bytes, queue_waits, segment_waits, segments_live,
        segments_ready, queue_bytes, durable_lsn;
    uint64_t live_bytes;    /* of the files from the oldest to the one being written */
    uint64_t needed_bytes;  /* the same without those that are only held (wal_hold_from) */
    uint64_t truncated_lsn; /* all records up to it have been given up, durably */
    uint64_t segments_recycled, segments_removed; /* since the start */
};
void wal_stats(const struct wal *w, struct wal_stats *stats_out);

/* ---- forgetting ---- */

/* None of this collection's records with a version <= `version` is needed from this log any more:
 * whatever they brought is durable elsewhere, under names that are durable. UINT64_MAX: the
 * collection was dropped, durably, and the caller has seen its last append done. For a collection
 * without records here it does nothing, so a caller who does not know in which logs a shard's
 * records lie tells all of them. Cheap: the work is queued. A failure of that work is tried again
 * every 5 s and loses nothing; only a failed write of the log itself poisons it. */
void wal_release(struct wal *w, const struct uuid *collection, uint64_t version);
/* Who keeps the oldest segment that anybody needs: released up to this version, this collection
 * would not any more. False: everything is released. */
bool wal_holder(const struct wal *w, struct uuid *collection_out, uint64_t *version_out);
/* Every collection with records that are not released, and the highest version of them. `visit`
 * must not release. */
void wal_collections(const struct wal *w,
                     void (*visit)(void *arg, const struct uuid *collection, uint64_t version),
                     void *arg);

/* Segments with a number >= `seq` stay, released or not, until it is called again with a higher one
 * (archive, snapshots). UINT64_MAX, as at first: none is held. */
void wal_hold_from(struct wal *w, uint64_t seq);
/* Ends the current segment if there is a group in it: the log goes on in the next one as soon as it
 * is there; what weak modes have in memory is written. Then `closed` tells. */
void wal_roll_now(struct wal *w);
/* The live segments up to the one being written, oldest first. `complete`: as `closed` tells. */
struct wal_segment_info {
    uint64_t seq, file_bytes;
    uint64_t used_bytes; /* header and groups, when complete: what lies behind is not of the log */
    const char *path;    /* lives during the visit */
    bool complete;
};
void wal_segments(const struct wal *w,
                  void (*visit)(void *arg, const struct wal_segment_info *info), void *arg);

/* ---- for archives ---- */

/* The same as long as the log lives, whatever its directory is called. */
struct uuid wal_log_uuid(const struct wal *w);
/* The segment being written, or the next to be. */
uint64_t wal_written_seq(const struct wal *w);
/* The first segment with a record that is not released: none before it is needed for a recovery.
 * At most the one being written. */
uint64_t wal_needed_from(const struct wal *w);
/* Goes on in the next segment (wal_roll_now) if there are records in the current one. Returns the
 * first number behind every record of a group that was closed so far: when all segments before it
 * are complete and stored, so are these. */
uint64_t wal_roll_records(struct wal *w);

/* ---- logs without a writer ---- */

/* A log that this start has no core for. Its records are released as those of any log; when none is
 * needed, the log goes as a whole. The order is
 *
 *     all released -> `emptied`: the owner durably forgets that there must be such a log, and calls
 *     wal_retired_remove -> the directory is renamed to gone-<uuid> (from then on no scan sees it),
 *     the directory above it synced -> files, directory removed -> `removed`
 *
 * A crash before the rename leaves a whole log, which the next start retires again; one behind it
 * leaves a directory that wal_sweep removes. Never is a half-removed log under a log's name, and
 * never is a log missing that is still listed. A collection that was dropped must be known as such
 * until `removed`: a start in between reads its records once more. */
struct wal_retired;

struct wal_retired_options {
    const char *dir; /* "<wal dir>/<number>" */
    /* From the reactor's loop, once, perhaps soon after the opening. */
    void (*emptied)(void *arg, struct wal_retired *log);
    /* From the reactor's loop, once; wal_retired_close is legal inside. */
    void (*removed)(void *arg, struct wal_retired *log);
    void *arg;
};

/* Reads the log's headers. Start-up only: waits for its I/O. Errors as wal_scan_open. */
int wal_retired_open(struct reactor *r, const struct wal_retired_options *options,
                     struct wal_retired **log_out, struct trail *trail);
void wal_retired_release(struct wal_retired *log, const struct uuid *collection, uint64_t version);
bool wal_retired_holder(const struct wal_retired *log, struct uuid *collection_out,
                        uint64_t *version_out);
void wal_retired_collections(const struct wal_retired *log,
                             void (*visit)(void *arg, const struct uuid *collection,
                                           uint64_t version),
                             void *arg);
uint64_t wal_retired_bytes(const struct wal_retired *log);
/* As those of a log; all segments are complete. UINT64_MAX: no record is needed. */
void wal_retired_segments(const struct wal_retired *log,
                          void (*visit)(void *arg, const struct wal_segment_info *info), void *arg);
struct uuid wal_retired_uuid(const struct wal_retired *log);
uint64_t wal_retired_needed_from(const struct wal_retired *log);
const char *wal_retired_dir(const struct wal_retired *log);
/* Only after `emptied`. Errors are tried again every 5 s. */
void wal_retired_remove(struct wal_retired *log);
/* Waits for the one I/O that may be under way, then frees; what is left of the work is done by
 * later starts. NULL is legal. */
void wal_retired_close(struct wal_retired *log);

/* Removes what a crash has left of removed logs under these directories. At a start, by one core,
 * before anything is scanned. Blocks. PDB_UNAVAILABLE. */
int wal_sweep(struct io *io, const char *const *dirs, size_t dir_count, struct trail *trail);

/* Offline: reads everything, one finding per call of `report` (JSON line without newline). 0 clean,
 * PDB_DATA_LOSS damage. */
int wal_check(struct io *io, const char *const *dirs, size_t dir_count,
              void (*report)(void *arg, const char *line), void *arg, struct trail *trail);

#endif
