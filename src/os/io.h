/* The I/O table: all file work of the server goes through it, so that one engine can be the
 * kernel's ring, one a thread with plain system calls, and one a disk in memory that crashes on
 * command. Completion is by callback, on the thread that started the operation, from reap - never
 * from inside the starting call.
 *
 * Buffers and paths belong to the engine until the completion. Results are what the system call
 * returns: >= 0, or a negative errno; translating errno into PDB_ codes is the caller's (it knows
 * what failed). Operations in flight together are in no order, not even on one file. One struct io
 * per core. */
#ifndef OS_IO_H
#define OS_IO_H

#include "base/list.h"
#include "metrics/metrics.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct io;

/* Zeroed by the caller before its first use. */
struct io_op {
    /* Set by the caller. `result`: bytes, a descriptor, 0, or a negative errno. The op may be
     * reused inside. */
    void (*done)(struct io_op *op, int64_t result);
    /* The engine's, until done. */
    struct list_link link;
    struct {
        uint32_t kind, flags;
        uint32_t stage; /* operations of several steps: which one is under way */
        uint32_t parts; /* completions still to come: 2 for a write with its linked fdatasync */
        int32_t kept;   /* result of an earlier step */
        int file;
        void *buf;
        uint64_t len, offset;
        const char *path, *path_to;
        int64_t result;
        uint64_t started_ns; /* by io.clock_ns */
    } engine;
};

enum io_open_flags {
    IO_OPEN_READ = 1,
    IO_OPEN_WRITE = 2,
    IO_OPEN_CREATE = 4,
    IO_OPEN_EXCLUSIVE = 8,
    IO_OPEN_DIRECT = 16, /* O_DIRECT: whole aligned blocks */
    IO_OPEN_DSYNC = 32,  /* every write's completion means durable */
    IO_OPEN_DIRECTORY = 64,
    IO_OPEN_TRUNCATE = 128,
};

enum io_write_flags {
    /* Completes when the data is durable: a linked fdatasync, or RWF_DSYNC in `threads`; needless
     * on files opened with IO_OPEN_DSYNC. The linked pair is one operation with one completion: a
     * short write reports its length, nothing is durable then, and the caller submits the
     * remainder. */
    IO_WRITE_DURABLE = 1,
};

struct io_ops {
    const char *name; /* "uring", "threads", "sim" */
    void (*open)(struct io *io, struct io_op *op, const char *path, unsigned flags);
    void (*close)(struct io *io, struct io_op *op, int file);
    /* `len` and `offset` within 1 GiB and 2^62. May complete short. */
    void (*read)(struct io *io, struct io_op *op, int file, void *buf, size_t len, uint64_t offset);
    void (*write)(struct io *io, struct io_op *op, int file, const void *buf, size_t len,
                  uint64_t offset, unsigned flags);
    void (*sync)(struct io *io, struct io_op *op, int file); /* fdatasync; fsync for directories */
    void (*allocate)(struct io *io, struct io_op *op, int file, uint64_t offset, uint64_t len);
    void (*truncate)(struct io *io, struct io_op *op, int file, uint64_t len);
    void (*rename)(struct io *io, struct io_op *op, const char *from, const char *to);
    /* A second name for a file (a hard link): -EEXIST where `to` is there, -EXDEV on another
     * filesystem. Durable by sync_dir of the folder of `to`. */
    void (*link)(struct io *io, struct io_op *op, const char *from, const char *to);
    void (*unlink)(struct io *io, struct io_op *op,
                   const char *path); /* a file or an empty folder */
    void (*make_dir)(struct io *io, struct io_op *op, const char *path);
    /* Opens, syncs and closes a directory: makes renames in it durable. */
    void (*sync_dir)(struct io *io, struct io_op *op, const char *path);
    /* Takes an op whose fields the functions above have filled: the one entry that engines differ
     * in. */
    void (*start)(struct io *io, struct io_op *op);

    /* ---- synchronous, for start-up and checks only ---- */
    int (*list_dir)(struct io *io, const char *path, void (*visit)(void *arg, const char *name),
                    void *arg);
    int64_t (*file_size)(struct io *io, int file);          /* or a negative errno */
    int64_t (*free_space)(struct io *io, const char *path); /* bytes for us, or a negative errno */
    int64_t (*used_space)(struct io *io,
                          const char *path); /* of the same filesystem, the same way */

    uint64_t (*now_ns)(struct io *io);                      /* monotonic; virtual in `sim` */
    int64_t (*realtime_us)(struct io *io);                  /* CLOCK_REALTIME; virtual in `sim` */
    void (*random)(struct io *io, void *bytes, size_t len); /* seeded in `sim` */

    /* ---- the turn ---- */
    /* Hands what was started to the kernel. Returns operations in flight. */
    size_t (*submit)(struct io *io);
    /* Runs `done` of at most `max` completed operations; returns how many. */
    size_t (*reap)(struct io *io, size_t max);
    /* True if reap (or another submit) would find something to do. */
    bool (*ready)(struct io *io);
    /* A descriptor that polls readable when completions arrive; -1 in `sim`. The io keeps it
     * open. */
    int (*event_fd)(struct io *io);
    /* Tells another core's engine to become readable (MSG_RING, sent by the next submit, or
     * eventfd). Callable from the thread of `from` only. */
    void (*wake)(struct io *from, struct io *to);
    /* The same from any thread, also one without an io. `to` must outlive the call. */
    void (*wake_any)(struct io *to);
    /* Blocks until something is ready or the time is over (embedders without h2o's loop). timeout <
     * 0: for ever. */
    void (*wait)(struct io *io, int64_t timeout_ns);
    /* Finishes what is in flight, then frees. */
    void (*destroy)(struct io *io);
};

/* Every engine's struct begins with this. */
struct io {
    const struct io_ops *ops;
    /* now_ns as the owner has read it last: a reactor does at the begin of a turn and after each
     * step of a task. Operations are timed by it and read no clock themselves, so one that is
     * started in the middle of a step seems longer by the time since the step began. */
    uint64_t clock_ns;
    struct {
        struct { /* by METRICS_IO_ */
            struct histogram took;
            uint64_t errors[METRICS_ERRNO_END];
        } by_op[METRICS_IO_END];
        uint64_t short_total, overflow_total;
    } stats;
};

enum io_engine_choice { IO_ENGINE_AUTO, IO_ENGINE_URING, IO_ENGINE_THREADS };

/* Must be called on the thread that will use it. 0 or a negative errno; *reason_out (static or
 * thread-local text) says why `auto` chose threads, or why `uring` failed: errno,
 * kernel.io_uring_disabled, seccomp mode, and what would help; else NULL. */
int io_create(enum io_engine_choice choice, struct io **io_out, const char **reason_out);

/* Start-up convenience: starts nothing else meanwhile; runs the loop until `op` is done and returns
 * its result.
 * -EIO when the io is a simulated one whose disk has crashed. */
int64_t io_wait_open(struct io *io, const char *path, unsigned flags);
int64_t io_wait_close(struct io *io, int file);
int64_t io_wait_read(struct io *io, int file, void *buf, size_t len, uint64_t offset);
int64_t io_wait_write(struct io *io, int file, const void *buf, size_t len, uint64_t offset,
                      unsigned flags);
int64_t io_wait_sync(struct io *io, int file);
int64_t io_wait_allocate(struct io *io, int file, uint64_t offset, uint64_t len);
int64_t io_wait_truncate(struct io *io, int file, uint64_t len);
int64_t io_wait_rename(struct io *io, const char *from, const char *to);
int64_t io_wait_link(struct io *io, const char *from, const char *to);
int64_t io_wait_unlink(struct io *io, const char *path);
int64_t io_wait_make_dir(struct io *io, const char *path);
int64_t io_wait_sync_dir(struct io *io, const char *path);

/* Writes a whole small file atomically and durably: temporary name ("<name>.tmp"), write, sync,
 * rename, sync of the directory. 0 or a negative errno; a failure before the rename leaves the old
 * file as it was. */
int io_replace_file(struct io *io, const char *directory, const char *name, const void *bytes,
                    size_t len);
/* Reads a whole file of at most len_max bytes into a heap block (heap_free(NULL, ...)), with a NUL
 * behind them. 0 or a negative errno: -EFBIG when it is longer, -ENOMEM. */
int io_read_file(struct io *io, const char *path, size_t len_max, void **bytes_out,
                 size_t *len_out);

#endif
