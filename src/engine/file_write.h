/* Writes one new file from beginning to end, without ever showing half of it under its name:
 * appended to <name>.tmp, synced, renamed, the folder synced. On the owner's loop; every call
 * starts one step, whose `done` runs from the loop, never from inside the call.
 *
 *     begin -> append* -> commit
 *                   \---> abandon (also instead of, or after a failed, commit)
 *
 * The first error stays, and after it only abandon is legal: after a failed write or sync the file
 * is never synced again, because a second sync may succeed with the data gone.
 */
#ifndef ENGINE_FILE_WRITE_H
#define ENGINE_FILE_WRITE_H

#include "os/io.h"

enum { FILE_WRITE_PATH_MAX = 4200 };

struct file_write;

/* rc: 0, or the first error, a negative errno. The writer may be used for the next step, or freed,
 * inside. */
typedef void file_write_done(struct file_write *w, int rc);

enum file_write_flags {
    FILE_WRITE_SYNC = 1,     /* the bytes are durable before they get the name */
    FILE_WRITE_SYNC_DIR = 2, /* and the name is durable when commit is done */
};

/* Names of the failpoints behind each step (`failing`: any of them ends as if the disk had failed);
 * NULL: none. */
struct file_write_points {
    const char *opened, *written, *synced, *renamed, *durable, *failing;
};

struct file_write {
    struct io_op op;
    struct io *io;
    file_write_done *done;
    const struct file_write_points *points;
    void *arg;         /* the caller's; set after begin */
    uint64_t bytes;    /* of the file so far: where the next append goes */
    uint64_t at;       /* where the write under way goes on */
    uint64_t unsynced; /* since the last sync */
    /* Set after begin by callers that write much: a sync whenever so many bytes wait for one, so
     * that the last one is short and does not stand before the log's. 0: only at the end. */
    uint64_t sync_every;
    const char *rest; /* of the buffer under way */
    size_t rest_len;
    int file;  /* -1: closed */
    int error; /* 0, or the first one */
    unsigned step, flags;
    bool busy;    /* a step is under way */
    bool naming;  /* the rename was begun: after an error the file may have its name or not */
    bool renamed; /* the file has its name, however durably */
    char directory[FILE_WRITE_PATH_MAX], path[FILE_WRITE_PATH_MAX], temporary[FILE_WRITE_PATH_MAX];
};

/* Makes <directory>/<name>.tmp, replacing a leftover. The texts are copied; together under 4090
 * bytes (our own names: an assert). `points` must outlive the writer and may be NULL. */
void file_write_begin(struct file_write *w, struct io *io, const char *directory, const char *name,
                      const struct file_write_points *points, file_write_done *done);
/* `bytes` belong to the writer until done; len > 0. They are written in small pieces, so that
 * neither a reactor that copies them into the page cache nor the log behind them waits for long. */
void file_write_append(struct file_write *w, const void *bytes, size_t len, file_write_done *done);
/* The same at a place of the file, which may leave a hole before it for later. */
void file_write_at(struct file_write *w, uint64_t offset, const void *bytes, size_t len,
                   file_write_done *done);
/* flags of enum file_write_flags. An error with `naming` set: it is unknown whether a restart would
 * find the file. */
void file_write_commit(struct file_write *w, unsigned flags, file_write_done *done);
/* Closes and removes the file, under whichever name it has; legal at any time between two steps.
 * Not durably: a restart may find it, and clean it away. done gets 0 always. */
void file_write_abandon(struct file_write *w, file_write_done *done);

#endif
