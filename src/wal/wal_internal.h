/* What the files of src/wal share. Who owns what:
 *
 *     wal_scan.c      reading logs: where each begins and ends, what lies in it
 *     wal_recover.c   making a directory writable again behind what a scan found
 *     wal_append.c    the queue of appends and the encoding into the group being built
 *     wal_sync.c      closing a group, its write, acknowledgements, poison
 *     wal_roll.c      segments: made ahead, taken, closed
 *     wal_ledger.c    who still needs which segment
 *     wal_truncate.c  moving the log's beginning on; recycling and removing files
 *     wal_retired.c   logs without a writer
 *     wal_open.c      life of a log and its figures */
#ifndef WAL_WAL_INTERNAL_H
#define WAL_WAL_INTERNAL_H

#include "base/hash.h"
#include "base/map.h"
#include "metrics/metrics.h"
#include "wal/wal_format.h"

#include <errno.h>
#include <inttypes.h>

enum {
    WAL_PATH_MAX = 1024,
    WAL_WINDOW_BYTES = 1 << 20, /* what a scan reads at once */
    WAL_PEEK_BYTES = 64 << 10,  /* the same while it hops over headers */
#ifdef PDB_STRESS
    WAL_GROUP_BYTES = 32 << 10,
    WAL_GROUP_BYTES_FIRST = 4 << 10,
    WAL_STEP_BYTES = 1, /* a yield after every row */
    WAL_ZERO_STEP_BYTES = 64 << 10,
#else
    WAL_GROUP_BYTES = 4 << 20,         /* soft cap of a group: see wal_sync.c for the measurement */
    WAL_GROUP_BYTES_FIRST = 256 << 10, /* a group's buffer begins with this and grows to the cap */
    WAL_STEP_BYTES = 64 << 10,         /* encoded between two looks at the clock */
    WAL_ZERO_STEP_BYTES = 256 << 10,
#endif
    WAL_READY_TARGET = 2, /* segments made ahead; the last one is for deletes and marks */
    WAL_READY_MAX = 4,
    WAL_FREE_MAX = 2,      /* files of truncated segments that wait for their next use */
    WAL_RESUBMIT_MAX = 64, /* of one write without progress */
};

#define WAL_QUEUE_WAIT_NS   ((uint64_t)1000 * 1000 * 1000)
#define WAL_IDLE_NS         ((uint64_t)100 * 1000 * 1000)
#define WAL_REMOVE_RETRY_NS ((uint64_t)5 * 1000 * 1000 * 1000)
#define WAL_MAKE_RETRY_NS   ((uint64_t)5 * 1000 * 1000 * 1000)
#define WAL_SPACE_CHECK_NS  ((uint64_t)1000 * 1000 * 1000)

/* ---- reading ---- */

struct wal_scan_segment {
    uint64_t seq, size, file_bytes;
    struct uuid uuid;
    uint32_t block_bytes;
    bool known;    /* the header has been read */
    bool recycled; /* may hold bytes of an earlier life behind its groups */
    uint32_t format;
    struct wal_begin first; /* where the chain is at its first group; group_seq 0: it has none */
    uint64_t valid_end;     /* behind the last valid group; 4096 in one without groups */
    uint64_t
        dirty_end; /* behind the last byte that is not zero; only looked for behind the log's end */
};

/* Where the log goes on. */
struct wal_scan_point {
    uint32_t segment;
    uint64_t offset, group_seq, lsn;
    uint32_t prev_group_crc;
};

struct wal_scan_log {
    char *path;
    struct wal_scan_segment *segments; /* by seq; from `first` on without gaps */
    uint32_t segment_count, segment_capacity;
    uint32_t first; /* the first live one; those before it are leftovers of a truncation */
    bool known;     /* the log's uuid, from the header that was read first */
    struct uuid uuid;
    struct wal_begin begin; /* as the newest group says */
    struct wal_scan_point end;
    bool clean; /* its last group ends with a CLOSE record, or it has no group */
};

struct wal_scan {
    struct io *io;
    struct heap *heap;
    struct wal_scan_log *logs;
    uint32_t log_count, log_capacity;
    struct wal_scan_stats stats;
    struct wal_avro *avro;
    /* the one open file, and what was read of it */
    struct {
        int file;
        uint32_t log, segment;
        uint8_t *bytes;
        uint64_t start, len;
        uint64_t ahead; /* read at once */
    } window;
    /* the file that is being read, for findings */
    char bad_path[WAL_PATH_MAX];
    uint64_t bad_offset;
};

/* "<dir>/<seq>.wal", 16 hexadecimal digits. 0 or PDB_INVALID_ARGUMENT: too long. */
int wal_segment_path(const char *dir, uint64_t seq, char path_out[WAL_PATH_MAX]);

/* A scan of one log's own directory, not yet read. */
int wal_scan_begin(struct io *io, struct heap *heap, const char *dir, struct wal_scan **scan_out,
                   struct trail *trail);
/* A scan that knows the logs of all directories, none read. */
int wal_scan_list(struct io *io, const struct wal_scan_options *options, struct wal_scan **scan_out,
                  struct trail *trail);
/* Reads one log of it. */
int wal_scan_log(struct wal_scan *scan, uint32_t log, const struct wal_scan_options *options,
                 struct trail *trail);

/* ---- who needs what ---- */

/* A live segment: it has its name, and its place in the chain. */
struct wal_live {
    struct list_link link; /* of the ledger's; not linked while it is only made ahead */
    uint64_t seq, file_bytes, records;
    uint64_t used_bytes;    /* header and groups; set when it is closed */
    struct wal_begin first; /* where the chain is at its first group; group_seq 0: it has none */
    struct list pins;       /* of wal_pin.in_segment */
    bool closed;            /* nothing is written to it any more, and its file is closed */
    bool whole;             /* as large as a new one: it can be used again */
};

struct wal_holding { /* a collection that needs something of this log */
    struct list_link link;
    struct uuid collection;
    struct list pins; /* of wal_pin.link, oldest segment first */
};

struct wal_pin {
    struct list_link link, in_segment;
    struct wal_holding *holding;
    struct wal_live *live;
    uint64_t version; /* the highest of the collection in the segment */
};

struct wal_ledger {
    struct heap *heap;
    struct hash_key key;
    struct map map; /* collection to wal_holding */
    struct list holdings, segments;
    uint64_t bytes; /* of the files in it */
    struct wal_pin *spare_pin;
    struct wal_holding *spare_holding;
};

void wal_ledger_init(struct wal_ledger *l, struct heap *heap, struct io *io);
void wal_ledger_dispose(struct wal_ledger *l);
/* A heap block with seq, file_bytes and flags set; the ledger's from now on. */
void wal_ledger_push(struct wal_ledger *l, struct wal_live *live);
struct wal_live *wal_ledger_oldest(const struct wal_ledger *l); /* NULL: none */
struct wal_live *wal_ledger_newest(const struct wal_ledger *l);
void wal_ledger_resize(struct wal_ledger *l, struct wal_live *live, uint64_t file_bytes);
void wal_ledger_drop_oldest(struct wal_ledger *l); /* nobody needs it */
/* True: the next note cannot fail. */
bool wal_ledger_prepare(struct wal_ledger *l);
void wal_ledger_note(struct wal_ledger *l, struct wal_live *live, const struct uuid *collection,
                     uint64_t version);
/* True if a segment is needed by one less. */
bool wal_ledger_release(struct wal_ledger *l, const struct uuid *collection, uint64_t version);
/* `dir`: the log's. */
void wal_ledger_segments(const struct wal_ledger *l, const char *dir,
                         void (*visit)(void *arg, const struct wal_segment_info *info), void *arg);
uint64_t wal_ledger_held_from(const struct wal_ledger *l); /* UINT64_MAX: nobody needs any */
bool wal_ledger_holder(const struct wal_ledger *l, struct uuid *collection_out,
                       uint64_t *version_out);
void wal_ledger_collections(const struct wal_ledger *l,
                            void (*visit)(void *arg, const struct uuid *collection,
                                          uint64_t version),
                            void *arg);

/* Fills an empty ledger from the scan of one log: the visitor, its argument, and the end, where the
 * segments before index `end` become live as they are now. 0 or PDB_RESOURCE_EXHAUSTED. */
struct wal_ledger_scan {
    struct wal_ledger *ledger;
    const struct wal_scan *scan;
};
int wal_ledger_visit(void *arg, const struct wal_record_info *info);
int wal_ledger_finish(struct wal_ledger *l, const struct wal_scan_log *log, uint32_t end,
                      uint64_t segment_bytes);

/* ---- writing ---- */

/* A segment that is open for writing, or being made or closed. */
struct wal_segment {
    struct list_link link;
    struct io_op op;
    struct wal *wal;
    int file;
    uint64_t seq, size;
    uint64_t offset; /* where the next group goes; moves when a group is closed */
    uint32_t block_bytes;
    struct uuid uuid;
    struct wal_live *live; /* the ledger's once it is linked there */
};

/* A group being built or written. */
struct wal_group {
    uint8_t *bytes; /* aligned to the block; header first */
    size_t capacity;
    uint64_t len;  /* header and whole records */
    uint64_t room; /* bytes that it may grow to: the soft cap, and the segment's end */
    uint64_t group_seq, first_lsn, due_ns;
    uint32_t records;
    bool open;   /* bound to a segment; records may join */
    bool urgent; /* somebody waits: close as soon as the disk is free */
    struct wal_segment *segment;
    uint64_t offset;        /* in the segment; set when it is closed */
    struct wal_begin begin; /* what it says; set when it is closed */
    bool last;              /* nothing more goes to its segment: close the file behind it */
};

enum wal_make_state {
    WAL_MAKE_IDLE,
    WAL_MAKE_OPEN,
    WAL_MAKE_ALLOCATE,
    WAL_MAKE_HEADER,
    WAL_MAKE_ZERO,
    WAL_MAKE_SYNC,
    WAL_MAKE_RENAME,
    WAL_MAKE_SYNC_DIR,
    WAL_MAKE_CLOSE,
    WAL_MAKE_REOPEN,
    WAL_MAKE_DROP_CLOSE, /* undoing after an error */
    WAL_MAKE_DROP_UNLINK,
};

struct wal_maker {
    struct io_op op;
    enum wal_make_state state;
    struct wal_segment *segment;
    uint8_t *zeros; /* WAL_ZERO_STEP_BYTES; the first block is the header's while it is written */
    uint64_t zero_at;
    bool recycled;        /* the file was used before: has its size, needs no zeros */
    bool must_zero;       /* the filesystem cannot allocate: written zeros do it */
    int error;            /* of the last attempt; 0: none */
    bool paused;          /* a zero step waits for the group in flight */
    uint64_t large_bytes; /* of the segment that a large record waits for; 0: none */
    bool stop;
    char path[WAL_PATH_MAX], path_temporary[WAL_PATH_MAX];
    struct timer retry;
};

enum wal_remove_state {
    WAL_REMOVE_IDLE,
    WAL_REMOVE_RENAME,
    WAL_REMOVE_UNLINK,
    WAL_REMOVE_SYNC_DIR,
    WAL_REMOVE_DISCARD,
};

/* Takes away what lies before the log's durable beginning; wal_truncate.c. */
struct wal_remover {
    struct io_op op;
    enum wal_remove_state state;
    uint64_t kept[WAL_FREE_MAX]; /* free-<n> whose new names are not durable yet */
    uint32_t kept_count;
    bool unsynced; /* names were changed since the last sync of the directory */
    bool doubtful; /* a sync of the directory failed: the kept ones are not used again */
    int error;     /* of the last attempt; 0: none */
    char path[WAL_PATH_MAX], path_free[WAL_PATH_MAX];
    struct timer retry;
};

struct wal {
    struct reactor *r;
    struct io *io;
    struct wal_options options;
    char dir[WAL_PATH_MAX];
    struct metrics *metrics; /* this core's; NULL in tests */
    struct wal_avro *avro;
    bool direct; /* opened O_DIRECT|O_DSYNC */
    uint32_t block_bytes;
    struct uuid log_uuid;

    /* appends: waiting -> queue -> order */
    struct list waiting; /* no room in the queue */
    struct list queue;   /* not yet in a group */
    struct list order;   /* in a group; acknowledged from the front */
    struct list failed;  /* refused, to be told */
    uint64_t queue_bytes;
    bool encoding; /* the queue's first is half-way in the group being built */
    struct wal_encoder encoder;
    bool segment_wanted; /* the queue's first waits for a segment */

    struct wal_group groups[2];
    struct wal_group *filling, *writing; /* writing: NULL when the disk is free */
    struct io_op write_op;
    uint64_t write_done; /* bytes of the group in flight that are on disk */
    unsigned resubmits;

    uint64_t next_group_seq, next_lsn, durable_group_seq, durable_lsn;
    uint64_t life_group_seq; /* the first group since the opening */
    uint32_t prev_group_crc;
    bool idle_due; /* data was written since the last empty group */
    int poison;    /* 0, or the negative errno that did it */
    bool low_space;
    uint64_t space_checked_ns;

    struct list ready; /* segments made ahead, by seq */
    uint32_t ready_count;
    uint64_t last_seq; /* of the newest segment that has a live name */
    struct wal_segment *current;
    struct list closing; /* segments on their way out */
    struct wal_maker maker;

    struct wal_ledger ledger; /* the live segments up to the current one */
    struct wal_begin begin;   /* what the next group says; its group_seq 0: itself is the first */
    struct wal_begin begin_durable; /* what the newest durable group says */
    bool mark_due;                  /* no closed group says `begin` yet */
    bool roll_due;                  /* the next group goes to the next segment */
    bool stopping;
    uint64_t hold_from;
    uint64_t untold_seq;              /* the first segment that `closed` was not told of */
    uint64_t free_seqs[WAL_FREE_MAX]; /* numbers of free-<n> that can be used */
    uint32_t free_count;
    struct wal_remover remover;
    struct task truncate_task;

    struct task encode_task;
    struct turn_hook close_hook;
    struct timer close_timer, idle_timer, wait_timer;
    struct wal_stats stats;
};

/* wal_recover.c: finds the end, cuts what is torn, keeps what is ready. Sets uuid, counters and
 * segments. */
int wal_recover(struct wal *w, struct trail *trail);

/* wal_append.c */
void wal_append_init(struct wal *w);
void wal_encode_more(struct wal *w); /* queues the task */
void wal_deliver(struct wal *w);     /* tells what can be told */
void wal_space_check(struct wal *w); /* at most once a second */

/* wal_sync.c */
void wal_sync_init(struct wal *w);
/* What records may take of a segment: the last block is for the mark that gives segments up, so
 * that this never needs a new one. */
uint64_t wal_segment_room(const struct wal_segment *segment);
/* Opens the group being built, bound to the current segment; false: that has no room for such a
 * record. 0 bytes: an empty group. */
bool wal_group_begin(struct wal *w, uint64_t record_bytes);
bool wal_group_fits(const struct wal *w, uint64_t record_bytes);
/* Memory for one more record; false: none. Moves the group's bytes. */
bool wal_group_reserve(struct wal *w, uint64_t record_bytes);
/* The record at the group's end is whole but for its header. Gives the lsn. */
uint64_t wal_group_add(struct wal *w, struct wal_record_header *header);
/* The group must be on disk by then; 0: as soon as the disk is free. */
void wal_group_due(struct wal *w, uint64_t due_ns);
void wal_group_close_if_due(struct wal *w); /* at the end of this turn */
void wal_group_close(struct wal *w);        /* now; nothing is in flight */

/* The file whose space a truncated segment gave. 0 or PDB_INVALID_ARGUMENT: too long. */
int wal_free_path(const char *dir, uint64_t seq, char path_out[WAL_PATH_MAX]);

/* wal_truncate.c */
void wal_truncate_init(struct wal *w);
void wal_truncate_more(struct wal *w); /* queues the task: something has changed */
bool wal_truncate_wanted(const struct wal *w);
bool wal_idle_shrink(struct wal *w);   /* true: an idle log goes on in a fresh segment */
void wal_truncate_stop(struct wal *w); /* blocking, at the end */
/* Opening a group: the segment is to be left. Nothing when there is no other one. */
void wal_roll_if_due(struct wal *w);

/* wal_roll.c */
void wal_roll_init(struct wal *w);
/* Makes w->current a segment with room for a group with this record. 0; PDB_UNAVAILABLE: it is
 * being made, the encoder is woken; PDB_RESOURCE_EXHAUSTED: there is no space. */
int wal_roll(struct wal *w, uint64_t record_bytes, bool reserve);
void wal_make_more(struct wal *w);   /* towards WAL_READY_TARGET */
void wal_make_resume(struct wal *w); /* a group was written: one more step of zeros may go */
int wal_make_now(struct wal *w);     /* blocking, at start-up: 0 or a negative errno */
void wal_make_stop(struct wal *w);   /* blocking, at the end */
void wal_make_again(struct wal *w);  /* there may be room now: no waiting for the retry */
void wal_segment_retire(struct wal *w, struct wal_segment *segment, bool cut);
bool wal_no_space_error(int error); /* of an allocation: harmless there */
unsigned wal_open_flags(const struct wal *w);
/* The filesystem has no O_DIRECT: goes on with buffered writes, one warning. */
void wal_fall_back(struct wal *w);

/* wal_fs.c: refuses filesystems whose sync cannot be trusted; warns of what is weaker than it
 * looks. */
int wal_fs_check(const struct io *io, const struct wal_options *options, uint32_t *block_bytes_out,
                 struct trail *trail);

/* Runs the I/O engine until *busy is false; start-up and stop only. */
void wal_pump(struct wal *w, bool (*busy)(const struct wal *w));

/* Tests, after a simulated crash: frees everything without a single I/O. */
void wal_abandon(struct wal *w);
void wal_retired_abandon(struct wal_retired *log);

#endif
