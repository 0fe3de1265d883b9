/* The one table of metrics: names, types, units, labels and help. The slots of metrics.h, the
 * exposition and the documentation test come from it. Names have `proximadb_` in front, base units,
 * unit last, `_total` on counters only. What no code can move is not here: tidy_metrics looks.
 *
 * A label has a short list of fixed values, so that a family is a small array: an index per label,
 * no look-up by name while counting. Only operations get their names at the scrape, because the
 * list belongs to a higher layer. */
#ifndef METRICS_FAMILIES_H
#define METRICS_FAMILIES_H

/* Tables: laid out by hand, because the formatter never comes to an end with them. */
/* clang-format off */

/* ---- label values: V(set, NAME, text) ---- */

#define METRICS_NONE_VALUES(V) V(NONE, ONLY, "")
#define METRICS_MEMORY_VALUES(V)                                                                   \
    V(MEMORY, RSS, "rss") V(MEMORY, HEAP, "heap") V(MEMORY, LIMIT, "limit")
#define METRICS_DIR_VALUES(V) V(DIR, DATA, "data") V(DIR, WAL, "wal")
#define METRICS_DISK_VALUES(V) V(DISK, FREE, "free") V(DISK, USED, "used")
#define METRICS_IO_VALUES(V)                                                                       \
    V(IO, OPEN, "open") V(IO, READ, "read") V(IO, WRITE, "write") V(IO, SYNC, "sync")              \
    V(IO, ALLOCATE, "allocate") V(IO, RENAME, "rename") V(IO, UNLINK, "unlink")                    \
    V(IO, OTHER, "other")
#define METRICS_ERRNO_VALUES(V)                                                                    \
    V(ERRNO, EIO, "EIO") V(ERRNO, ENOSPC, "ENOSPC") V(ERRNO, EDQUOT, "EDQUOT")                     \
    V(ERRNO, EROFS, "EROFS") V(ERRNO, EACCES, "EACCES") V(ERRNO, ENOENT, "ENOENT")                 \
    V(ERRNO, EMFILE, "EMFILE") V(ERRNO, ENOMEM, "ENOMEM") V(ERRNO, OTHER, "other")
#define METRICS_SEGMENT_VALUES(V) V(SEGMENT, LIVE, "live") V(SEGMENT, READY, "ready")
#define METRICS_STATE_VALUES(V)                                                                    \
    V(STATE, MEMORY, "memory") V(STATE, DISK, "disk") V(STATE, QUARANTINED, "quarantined")
#define METRICS_SNAPSHOT_VALUES(V)                                                                 \
    V(SNAPSHOT, ASKED, "asked") V(SNAPSHOT, SCHEDULED, "scheduled")
#define METRICS_MOVED_VALUES(V) V(MOVED, READ, "read") V(MOVED, WRITTEN, "written")
#define METRICS_REBUILD_VALUES(V)                                                                  \
    V(REBUILD, MISSING, "missing") V(REBUILD, DAMAGED, "damaged")
#define METRICS_WRITE_VALUES(V)                                                                    \
    V(WRITE, UPSERT, "upsert") V(WRITE, INSERT, "insert") V(WRITE, UPDATE, "update")               \
    V(WRITE, DELETE, "delete")
#define METRICS_RESULT_VALUES(V)                                                                   \
    V(RESULT, OK, "ok") V(RESULT, REFUSED, "refused") V(RESULT, EXHAUSTED, "exhausted")            \
    V(RESULT, CANCELLED, "cancelled") V(RESULT, FAILED, "failed")
#define METRICS_MADE_VALUES(V) V(MADE, OK, "ok") V(MADE, FAILED, "failed")
#define METRICS_FAULT_VALUES(V)                                                                    \
    V(FAULT, EXHAUSTED, "exhausted") V(FAULT, DAMAGED, "damaged")                                  \
    V(FAULT, UNAVAILABLE, "unavailable") V(FAULT, OTHER, "other")
#define METRICS_WRITE_STAGE_VALUES(V)                                                              \
    V(WRITE_STAGE, PREPARE, "prepare") V(WRITE_STAGE, LOG, "log")                                  \
    V(WRITE_STAGE, PUBLISH, "publish")
#define METRICS_SEARCH_STAGE_VALUES(V)                                                             \
    V(SEARCH_STAGE, QUEUE, "queue") V(SEARCH_STAGE, PLAN, "plan")                                  \
    V(SEARCH_STAGE, MEMTABLE, "memtable") V(SEARCH_STAGE, SEGMENTS, "segments")                    \
    V(SEARCH_STAGE, MERGE, "merge") V(SEARCH_STAGE, FETCH, "fetch")
#define METRICS_OPERATION_VALUES(V) V(OPERATION, FIRST, "")
#define METRICS_METHOD_VALUES(V) V(METHOD, FIRST, "")
#define METRICS_STATUS_VALUES(V)                                                                   \
    V(STATUS, 200, "200") V(STATUS, 201, "201") V(STATUS, 204, "204") V(STATUS, 400, "400")        \
    V(STATUS, 401, "401") V(STATUS, 403, "403") V(STATUS, 404, "404") V(STATUS, 405, "405")        \
    V(STATUS, 406, "406") V(STATUS, 409, "409") V(STATUS, 412, "412") V(STATUS, 413, "413")        \
    V(STATUS, 414, "414") V(STATUS, 415, "415") V(STATUS, 429, "429") V(STATUS, 431, "431")        \
    V(STATUS, 499, "499") V(STATUS, 500, "500") V(STATUS, 501, "501") V(STATUS, 503, "503")        \
    V(STATUS, 504, "504") V(STATUS, 507, "507") V(STATUS, OTHER, "other")
#define METRICS_CODE_VALUES(V)                                                                     \
    V(CODE, 0, "OK") V(CODE, 1, "CANCELLED") V(CODE, 2, "UNKNOWN") V(CODE, 3, "INVALID_ARGUMENT")  \
    V(CODE, 4, "DEADLINE_EXCEEDED") V(CODE, 5, "NOT_FOUND") V(CODE, 6, "ALREADY_EXISTS")           \
    V(CODE, 7, "PERMISSION_DENIED") V(CODE, 8, "RESOURCE_EXHAUSTED")                               \
    V(CODE, 9, "FAILED_PRECONDITION") V(CODE, 10, "ABORTED") V(CODE, 11, "OUT_OF_RANGE")           \
    V(CODE, 12, "UNIMPLEMENTED") V(CODE, 13, "INTERNAL") V(CODE, 14, "UNAVAILABLE")                \
    V(CODE, 15, "DATA_LOSS") V(CODE, 16, "UNAUTHENTICATED")
#define METRICS_PROTO_VALUES(V)                                                                    \
    V(PROTO, NEW, "new") V(PROTO, TLS, "tls") V(PROTO, HTTP1, "http1") V(PROTO, HTTP2, "http2")
#define METRICS_REJECT_VALUES(V)                                                                   \
    V(REJECT, LIMIT, "limit") V(REJECT, ADDRESS, "address") V(REJECT, MEMORY, "memory")            \
    V(REJECT, TLS, "tls")
#define METRICS_ABUSE_VALUES(V)                                                                    \
    V(ABUSE, RESET, "reset") V(ABUSE, CONTINUATION, "continuation") V(ABUSE, CONTROL, "control")   \
    V(ABUSE, WINDOW, "window") V(ABUSE, OTHER, "other")
#define METRICS_LIMIT_VALUES(V)                                                                    \
    V(LIMIT, BODY, "body") V(LIMIT, INFLIGHT, "inflight") V(LIMIT, HEADER, "header")               \
    V(LIMIT, DEADLINE, "deadline") V(LIMIT, IDLE, "idle") V(LIMIT, MEMORY, "memory")               \
    V(LIMIT, OTHER, "other")

/* S(set, label name, values) */
#define METRICS_SETS(S)                                                                            \
    S(NONE, "", METRICS_NONE_VALUES)                                                               \
    S(MEMORY, "kind", METRICS_MEMORY_VALUES)                                                       \
    S(DIR, "dir", METRICS_DIR_VALUES)                                                              \
    S(DISK, "kind", METRICS_DISK_VALUES)                                                           \
    S(IO, "op", METRICS_IO_VALUES)                                                                 \
    S(ERRNO, "errno", METRICS_ERRNO_VALUES)                                                        \
    S(SEGMENT, "state", METRICS_SEGMENT_VALUES)                                                    \
    S(STATE, "state", METRICS_STATE_VALUES)                                                        \
    S(SNAPSHOT, "kind", METRICS_SNAPSHOT_VALUES)                                                   \
    S(MOVED, "kind", METRICS_MOVED_VALUES)                                                         \
    S(REBUILD, "reason", METRICS_REBUILD_VALUES)                                                   \
    S(WRITE, "op", METRICS_WRITE_VALUES)                                                           \
    S(RESULT, "result", METRICS_RESULT_VALUES)                                                     \
    S(MADE, "result", METRICS_MADE_VALUES)                                                         \
    S(FAULT, "reason", METRICS_FAULT_VALUES)                                                       \
    S(WRITE_STAGE, "stage", METRICS_WRITE_STAGE_VALUES)                                            \
    S(SEARCH_STAGE, "stage", METRICS_SEARCH_STAGE_VALUES)                                          \
    S(STATUS, "status", METRICS_STATUS_VALUES)                                                     \
    S(CODE, "code", METRICS_CODE_VALUES)                                                           \
    S(PROTO, "proto", METRICS_PROTO_VALUES)                                                        \
    S(REJECT, "reason", METRICS_REJECT_VALUES)                                                     \
    S(ABUSE, "kind", METRICS_ABUSE_VALUES)                                                         \
    S(LIMIT, "limit", METRICS_LIMIT_VALUES)                                                        \
    S(OPERATION, "operation", METRICS_OPERATION_VALUES)                                            \
    S(METHOD, "method", METRICS_METHOD_VALUES)

/* ---- counters and gauges: F(slot, name, type, unit, scope, set, second set, help) ----
 * unit: how a slot's integer is shown; NS is shown in seconds. scope: CORE shows each core by
 * itself, ALL adds them. */

#define METRICS_VALUES(F)                                                                          \
    F(UPTIME, "uptime_seconds", GAUGE, NS, ALL, NONE, NONE, "Time since the process started")      \
    F(READY, "ready", GAUGE, ONE, ALL, NONE, NONE, "1 if requests are served, else 0")             \
    F(MEMORY, "memory_bytes", GAUGE, ONE, ALL, MEMORY, NONE, "Memory by kind")                     \
    F(DISK, "disk_bytes", GAUGE, ONE, ALL, DIR, DISK,                                              \
      "Space of the filesystem of a directory; of several log directories, the fullest")           \
    F(OPEN_FDS, "open_fds", GAUGE, ONE, ALL, NONE, NONE, "Open file descriptors")                  \
    F(REACTOR_BUSY, "reactor_busy_seconds_total", COUNTER, NS, CORE, NONE, NONE,                   \
      "Time in which the reactor had work")                                                        \
    F(REACTOR_STALLS, "reactor_stalls_total", COUNTER, ONE, CORE, NONE, NONE,                      \
      "Steps that took over 500 microseconds")                                                     \
    F(REACTOR_STEP, "reactor_longest_step_seconds", GAUGE, NS, CORE, NONE, NONE,                   \
      "The longest step of a task since the start")                                                \
    F(REACTOR_TURN, "reactor_longest_turn_seconds", GAUGE, NS, CORE, NONE, NONE,                   \
      "The longest turn of the loop since the start, sockets left out")                            \
    F(MAILBOX_MESSAGES, "mailbox_messages_total", COUNTER, ONE, CORE, NONE, NONE,                  \
      "Messages taken from other cores")                                                           \
    F(MAILBOX_DEPTH, "mailbox_depth", GAUGE, ONE, CORE, NONE, NONE,                                \
      "Messages waiting, to be taken or for room to be sent")                                      \
    F(TASK_QUEUE_DEPTH, "task_queue_depth", GAUGE, ONE, CORE, NONE, NONE, "Tasks waiting")         \
    F(WORKER_BUSY, "worker_busy_seconds_total", COUNTER, NS, CORE, NONE, NONE,                     \
      "Time that workers took for this core's jobs")                                               \
    F(WORKER_PRESSED, "worker_pressed_seconds_total", COUNTER, NS, CORE, NONE, NONE,               \
      "Of it, at usual priority, because others had left next to nothing")                         \
    F(WORKER_JOBS, "worker_jobs", GAUGE, ONE, CORE, NONE, NONE,                                    \
      "Jobs of this core that workers have or wait for them")                                      \
    F(IO_OPS, "io_ops_total", COUNTER, ONE, ALL, IO, NONE, "Disk operations finished")             \
    F(IO_ERRORS, "io_errors_total", COUNTER, ONE, ALL, IO, ERRNO, "Disk operations that failed")   \
    F(IO_SHORT, "io_short_total", COUNTER, ONE, ALL, NONE, NONE,                                   \
      "Reads and writes that moved less than asked for")                                           \
    F(URING_CQ_OVERFLOW, "uring_cq_overflow_total", COUNTER, ONE, ALL, NONE, NONE,                 \
      "Completions that found the ring full")                                                      \
    F(WAL_GROUPS, "wal_groups_total", COUNTER, ONE, CORE, NONE, NONE, "Groups written to the log") \
    F(WAL_RECORDS, "wal_records_total", COUNTER, ONE, CORE, NONE, NONE,                            \
      "Records written to the log")                                                                \
    F(WAL_BYTES, "wal_bytes_total", COUNTER, ONE, CORE, NONE, NONE,                                \
      "Bytes written to the log, padding included")                                                \
    F(WAL_PAD_BYTES, "wal_pad_bytes_total", COUNTER, ONE, CORE, NONE, NONE,                        \
      "Padding written to the log")                                                                \
    F(WAL_QUEUE_BYTES, "wal_queue_bytes", GAUGE, ONE, CORE, NONE, NONE,                            \
      "Bytes that wait to be written to the log")                                                  \
    F(WAL_QUEUE_WAITS, "wal_queue_waits_total", COUNTER, ONE, CORE, NONE, NONE,                    \
      "Writes held up by a full log queue")                                                        \
    F(WAL_SEGMENTS, "wal_segments", GAUGE, ONE, CORE, SEGMENT, NONE, "Log segments by state")      \
    F(WAL_SEGMENT_WAITS, "wal_segment_waits_total", COUNTER, ONE, CORE, NONE, NONE,                \
      "Groups held up by a segment that was not ready")                                            \
    F(WAL_DURABLE_LSN, "wal_durable_lsn", GAUGE, ONE, CORE, NONE, NONE,                            \
      "Log position that is on disk")                                                              \
    F(WAL_TRUNCATED_LSN, "wal_truncated_lsn", GAUGE, ONE, CORE, NONE, NONE,                        \
      "Log position up to which the log was given up")                                             \
    F(WAL_ERRORS, "wal_errors_total", COUNTER, ONE, CORE, ERRNO, NONE,                             \
      "Writes of the log that failed: the first ends its writes until a restart")                  \
    F(WAL_POISONED, "wal_poisoned", GAUGE, ONE, CORE, NONE, NONE,                                  \
      "1 if the log takes no more writes, else 0")                                                 \
    F(WAL_LIVE_BYTES, "wal_live_bytes", GAUGE, ONE, CORE, NONE, NONE,                              \
      "Bytes of log files that are still needed")                                                  \
    F(WAL_ARCHIVE_LAG, "wal_archive_lag_bytes", GAUGE, ONE, CORE, NONE, NONE,                      \
      "Bytes of complete log segments that are not archived yet")                                  \
    F(ARCHIVE_COVERED, "archive_covered_time_seconds", GAUGE, NS, ALL, NONE, NONE,                 \
      "Up to when everything can be brought back from the archive; 0: nothing can")                \
    F(ARCHIVE_LAG, "archive_lag_seconds", GAUGE, NS, ALL, NONE, NONE,                              \
      "How long ago that was")                                                                     \
    F(ARCHIVE_OBJECTS, "archive_objects_total", COUNTER, ONE, ALL, NONE, NONE,                     \
      "Objects put into the archive")                                                              \
    F(ARCHIVE_BYTES, "archive_bytes_total", COUNTER, ONE, ALL, NONE, NONE,                         \
      "Bytes put into the archive")                                                                \
    F(ARCHIVE_FAILURES, "archive_failures_total", COUNTER, ONE, ALL, NONE, NONE,                   \
      "Attempts to archive something that failed")                                                 \
    F(ARCHIVE_BASES_PUT, "archive_bases_taken_total", COUNTER, ONE, ALL, NONE, NONE,               \
      "Bases put into the archive")                                                                \
    F(ARCHIVE_BASES, "archive_bases", GAUGE, ONE, ALL, NONE, NONE, "Bases in the archive")         \
    F(ARCHIVE_BASE_TIME, "archive_base_time_seconds", GAUGE, NS, ALL, NONE, NONE,                  \
      "When the newest base in the archive ended; 0: there is none")                               \
    F(RECOVERY_DURATION, "recovery_duration_seconds", GAUGE, NS, ALL, NONE, NONE,                  \
      "Time the last start took to replay the log")                                                \
    F(RECOVERY_RECORDS, "recovery_records", GAUGE, ONE, ALL, NONE, NONE,                           \
      "Records the last start replayed")                                                           \
    F(RECOVERY_TRUNCATED, "recovery_truncated_bytes", GAUGE, ONE, ALL, NONE, NONE,                 \
      "Bytes of torn tails the last start cut off")                                                \
    F(RECOVERY_CORRUPT, "recovery_corrupt_total", COUNTER, ONE, ALL, NONE, NONE,                   \
      "Files of segments that the last start found damaged or missing")                            \
    F(WRITES, "writes_total", COUNTER, ONE, ALL, WRITE, RESULT, "Records written by result")       \
    F(CONDITIONAL_FAILURES, "conditional_failures_total", COUNTER, ONE, ALL, NONE, NONE,           \
      "Writes refused because of if_version")                                                      \
    F(REQUEST_ID_HITS, "request_id_hits_total", COUNTER, ONE, ALL, NONE, NONE,                     \
      "Repeated writes answered from memory")                                                      \
    F(EXPIRED_ROWS, "expired_rows", GAUGE, ONE, ALL, NONE, NONE,                                   \
      "Rows of segments that are past their time and its grace, as last counted")                  \
    F(SEGMENTS, "segments", GAUGE, ONE, CORE, STATE, NONE, "Sealed segments by state")             \
    F(SEGMENT_ROWS, "segment_rows", GAUGE, ONE, CORE, NONE, NONE, "Rows in sealed segments")       \
    F(SEGMENT_BYTES, "segment_bytes", GAUGE, ONE, CORE, NONE, NONE,                                \
      "Bytes of segment files on disk")                                                            \
    F(TOMBSTONES, "tombstones", GAUGE, ONE, CORE, NONE, NONE,                                      \
      "Rows of segments that were replaced or deleted")                                            \
    F(SEALS, "seal_total", COUNTER, ONE, CORE, NONE, NONE,                                         \
      "Memtables that became a segment")                                                           \
    F(FLUSHES, "flushes_total", COUNTER, ONE, CORE, NONE, NONE,                                    \
      "Segments written to disk from memory")                                                      \
    F(FLUSH_BYTES, "flush_bytes_total", COUNTER, ONE, CORE, NONE, NONE,                            \
      "Bytes of files that flushes wrote")                                                         \
    F(FLUSH_ERRORS, "flush_errors_total", COUNTER, ONE, CORE, FAULT, NONE,                         \
      "Flushes and compactions that failed and are repeated")                                      \
    F(COMPACTIONS, "compactions_total", COUNTER, ONE, CORE, NONE, NONE,                            \
      "Merges of segments that were put in force")                                                 \
    F(COMPACTION_BYTES, "compaction_bytes_total", COUNTER, ONE, CORE, MOVED, NONE,                 \
      "Bytes of files that compactions read and wrote")                                            \
    F(MANIFEST_WRITES, "manifest_writes_total", COUNTER, ONE, CORE, NONE, NONE,                    \
      "Manifests put in force")                                                                    \
    F(INDEX_REBUILDS, "index_rebuilds_total", COUNTER, ONE, CORE, REBUILD, NONE,                   \
      "Index files made again from their segment")                                                 \
    F(INDEX_BUILDS, "index_builds_total", COUNTER, ONE, CORE, MADE, NONE,                          \
      "Indexes of vectors that were made by result")                                               \
    F(INDEX_BUILDS_RUNNING, "index_builds_running", GAUGE, ONE, CORE, NONE, NONE,                  \
      "Indexes of vectors being made or read")                                                     \
    F(INDEX_BUILD_ROWS, "index_build_rows_total", COUNTER, ONE, CORE, NONE, NONE,                  \
      "Rows of the indexes that were made")                                                        \
    F(INDEX_BUILD_BYTES, "index_build_bytes_total", COUNTER, ONE, CORE, NONE, NONE,                \
      "Bytes of memory of the indexes that were made")                                             \
    F(INDEX_BYTES, "index_bytes", GAUGE, ONE, CORE, NONE, NONE,                                    \
      "Bytes of memory of the indexes of vectors in use")                                          \
    F(SNAPSHOTS, "snapshots", GAUGE, ONE, ALL, SNAPSHOT, NONE,                                     \
      "Snapshots that are there and can be restored")                                              \
    F(SNAPSHOTS_DAMAGED, "snapshots_damaged", GAUGE, ONE, ALL, NONE, NONE,                         \
      "Snapshots whose list does not validate")                                                    \
    F(SNAPSHOT_BYTES, "snapshot_bytes", GAUGE, ONE, ALL, SNAPSHOT, NONE,                           \
      "Bytes of the files of snapshots, shared with live data or not")                             \
    F(SNAPSHOTS_TAKEN, "snapshots_taken_total", COUNTER, ONE, ALL, SNAPSHOT, RESULT,               \
      "Snapshots that were asked for by result")                                                   \
    F(SNAPSHOT_RESTORES, "snapshot_restores_total", COUNTER, ONE, ALL, RESULT, NONE,               \
      "Collections of snapshots that were to be restored by result")                               \
    F(SNAPSHOT_LAST, "snapshot_last_success_time_seconds", GAUGE, NS, ALL, SNAPSHOT, NONE,         \
      "When the newest snapshot was begun, since 1970; 0: there was none")                         \
    F(SNAPSHOT_INTERVAL, "snapshot_schedule_interval_seconds", GAUGE, NS, ALL, NONE, NONE,         \
      "Time between scheduled snapshots; 0: none are")                                             \
    F(SNAPSHOT_NEXT, "snapshot_schedule_next_time_seconds", GAUGE, NS, ALL, NONE, NONE,            \
      "When the next scheduled snapshot is due, since 1970; 0: none is")                           \
    F(SEARCH_WALKS, "search_index_walks_total", COUNTER, ONE, ALL, NONE, NONE,                     \
      "Segments searched by their index")                                                          \
    F(SEARCH_DISTANCES, "search_index_distances_total", COUNTER, ONE, ALL, NONE, NONE,             \
      "Rows that indexes scored by codes")                                                         \
    F(SEARCH_EXPANDED, "search_index_expanded_total", COUNTER, ONE, ALL, NONE, NONE,               \
      "Rows whose links searches followed")                                                        \
    F(SEARCH_CAPPED, "search_index_capped_total", COUNTER, ONE, ALL, NONE, NONE,                   \
      "Walks that ef has cut short")                                                               \
    F(SEARCH_CODE_SCANS, "search_index_scans_total", COUNTER, ONE, ALL, NONE, NONE,                \
      "Indexes whose codes were all scanned by a search")                                          \
    F(SEARCH_RERANKED, "search_reranked_total", COUNTER, ONE, ALL, NONE, NONE,                     \
      "Rows of indexes that were scored by their vectors")                                         \
    F(SEARCH_STALE, "search_stale_candidates_total", COUNTER, ONE, ALL, NONE, NONE,                \
      "Candidates of other cores that had ended meanwhile")                                        \
    F(SEARCH_SETTLED_AGAIN, "search_settled_again_total", COUNTER, ONE, ALL, NONE, NONE,           \
      "Searches that the owner repeated because too few candidates were left")                     \
    F(HTTP_REQUESTS, "http_requests_total", COUNTER, ONE, ALL, OPERATION, STATUS,                  \
      "HTTP requests answered")                                                                    \
    F(GRPC_REQUESTS, "grpc_requests_total", COUNTER, ONE, ALL, METHOD, CODE,                       \
      "gRPC calls answered")                                                                       \
    F(CONNECTIONS, "connections", GAUGE, ONE, ALL, PROTO, NONE, "Open connections")                \
    F(CONNECTIONS_REJECTED, "connections_rejected_total", COUNTER, ONE, ALL, REJECT, NONE,         \
      "Connections closed by a limit")                                                             \
    F(H2_ABUSE, "h2_abuse_total", COUNTER, ONE, ALL, ABUSE, NONE,                                  \
      "HTTP/2 connections closed for abuse")                                                       \
    F(LIMIT_EXCEEDED, "limit_exceeded_total", COUNTER, ONE, ALL, LIMIT, NONE,                      \
      "Requests refused by a limit")                                                               \
    F(LOG_DROPPED, "log_dropped_total", COUNTER, ONE, ALL, NONE, NONE, "Log lines dropped")

/* ---- histograms: the same columns; unit NS, ONE (histogram_record_count) or RATIO
 * (histogram_record_ratio) ---- */

#define METRICS_HISTOGRAMS(F)                                                                      \
    F(REACTOR_LOOP, "reactor_loop_duration_seconds", HISTOGRAM, NS, CORE, NONE, NONE,              \
      "Time of one turn of the reactor that had work, sockets left out")                           \
    F(IO_DURATION, "io_duration_seconds", HISTOGRAM, NS, ALL, IO, NONE,                            \
      "Time of disk operations from their start until the core is told")                           \
    F(WAL_COMMIT, "wal_commit_duration_seconds", HISTOGRAM, NS, CORE, NONE, NONE,                  \
      "Time from queueing a record to its sync")                                                   \
    F(WAL_GROUP_RECORDS, "wal_group_records", HISTOGRAM, ONE, CORE, NONE, NONE,                    \
      "Records of one group")                                                                      \
    F(FLUSH, "flush_duration_seconds", HISTOGRAM, NS, CORE, NONE, NONE,                            \
      "Time from sealing a memtable to its segment's manifest")                                    \
    F(COMPACTION, "compaction_duration_seconds", HISTOGRAM, NS, CORE, NONE, NONE,                  \
      "Time of one merge of segments")                                                             \
    F(INDEX_BUILD, "index_build_duration_seconds", HISTOGRAM, NS, CORE, NONE, NONE,                \
      "Time of making one index of vectors")                                                       \
    F(SNAPSHOT, "snapshot_duration_seconds", HISTOGRAM, NS, ALL, NONE, NONE,                       \
      "Time of taking a snapshot, once its turn has come")                                         \
    F(WRITE, "write_duration_seconds", HISTOGRAM, NS, ALL, NONE, NONE, "Time of write requests")   \
    F(WRITE_STAGE, "write_stage_duration_seconds", HISTOGRAM, NS, ALL, WRITE_STAGE, NONE,          \
      "Time of the stages of a write")                                                             \
    F(SEARCH_STAGE, "search_stage_duration_seconds", HISTOGRAM, NS, ALL, SEARCH_STAGE, NONE,       \
      "Time of the stages of a search")                                                            \
    F(SEARCH_VISITED, "search_visited", HISTOGRAM, ONE, ALL, NONE, NONE,                           \
      "Rows a search looked at")                                                                   \
    F(SEARCH_SELECTIVITY, "search_filter_selectivity", HISTOGRAM, RATIO, ALL, NONE, NONE,          \
      "Share of the rows that passed the filter")                                                  \
    F(HTTP_DURATION, "http_request_duration_seconds", HISTOGRAM, NS, ALL, OPERATION, NONE,         \
      "Time from a complete HTTP request to its answer")                                           \
    F(GRPC_DURATION, "grpc_request_duration_seconds", HISTOGRAM, NS, ALL, METHOD, NONE,            \
      "Time from a complete gRPC call to its answer")                                              \
    F(SCRAPE, "scrape_duration_seconds", HISTOGRAM, NS, ALL, NONE, NONE,                           \
      "Time from asking the cores for their metrics to the text, this scrape left out")

/* clang-format on */

#endif
