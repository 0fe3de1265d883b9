/* wal_retired.c: logs without a writer. A start with fewer cores finds logs that no core goes on
 * with; their records are needed until their rows are durable elsewhere, and then the log goes.
 *
 *     read -> held -> emptied -> (the owner says so) -> rename the directory -> sync above
 *          -> unlink its files, one after the other -> remove the directory -> sync above -> gone
 *
 * Nothing is ever written to such a log, so it cannot say that it begins later: it goes as a whole
 * or not at all. The rename is what does it. Before, a scan finds the whole log; behind it, the
 * name gone-<log uuid> is no log's, and what a crash leaves is swept by the next start. The sync
 * behind the rename comes before the first unlink: else a crash could bring the old name back with
 * half of the files. If that sync fails, this process removes nothing more, because a later one
 * could succeed over nothing; the next start finds the log under one of its names, whole.
 *
 * The owner's own list of logs must not name it any more before the rename is started (see wal.h):
 * a listed log that is missing refuses the start, while one that is there and not listed is read as
 * any other. */
#include "base/assert.h"
#include "base/log.h"
#include "os/failpoint.h"
#include "wal/wal_internal.h"

#include <stdio.h>

#include "base/no_libc_heap.h"

enum { NAME_BYTES_MAX = 64, SWEEP_AT_ONCE = 16 };

enum retired_state {
    RETIRED_HELD,
    RETIRED_EMPTIED, /* told, or about to be */
    RETIRED_RENAME,
    RETIRED_SYNC_RENAME,
    RETIRED_UNLINK,
    RETIRED_REMOVE,
    RETIRED_SYNC,
    RETIRED_GONE,
    RETIRED_STUCK, /* nobody knows which name the disk has: left to the next start */
};

struct retired_name {
    char text[NAME_BYTES_MAX];
};

struct wal_retired {
    struct reactor *r;
    struct io *io;
    struct wal_retired_options options;
    char dir[WAL_PATH_MAX], above[WAL_PATH_MAX], gone[WAL_PATH_MAX], path[WAL_PATH_MAX];
    struct uuid uuid;
    uint64_t end_seq; /* of the segment with its last group; 0: it has none */
    struct wal_ledger ledger;
    struct retired_name *names; /* of everything in the directory */
    size_t name_count, name_capacity;
    enum retired_state state;
    bool busy; /* an operation is under way */
    bool stop, no_memory;
    int error; /* of the last attempt */
    struct io_op op;
    struct task task;
    struct timer retry;
};

static int told(struct trail *trail, int64_t error, const char *what, const char *path)
{
    const char *name = strerrorname_np((int)-error);
    return trail_add(trail, PDB_UNAVAILABLE, "%s %s: %s", what, path,
                     name != NULL ? name : "error");
}

/* ---- removing ---- */

static void start(struct wal_retired *log)
{
    const struct io_ops *ops = log->io->ops;
    log->busy = true;
    switch (log->state) {
    case RETIRED_RENAME:
        ops->rename(log->io, &log->op, log->dir, log->gone);
        return;
    case RETIRED_SYNC_RENAME:
    case RETIRED_SYNC:
        ops->sync_dir(log->io, &log->op, log->above);
        return;
    case RETIRED_UNLINK: {
        int len = snprintf(log->path, sizeof(log->path), "%s/%s", log->gone,
                           log->names[log->name_count - 1].text);
        ASSERT(len > 0 && len < WAL_PATH_MAX); /* wal_retired_open has seen to it */
        ops->unlink(log->io, &log->op, log->path);
        return;
    }
    case RETIRED_REMOVE:
        ops->unlink(log->io, &log->op, log->gone);
        return;
    case RETIRED_HELD:
    case RETIRED_EMPTIED:
    case RETIRED_GONE:
    case RETIRED_STUCK:
        break;
    }
    ASSERT(false);
}

static void next_state(struct wal_retired *log)
{
    switch (log->state) {
    case RETIRED_RENAME:
        log->state = RETIRED_SYNC_RENAME;
        return;
    case RETIRED_SYNC_RENAME:
        log->state = log->name_count != 0 ? RETIRED_UNLINK : RETIRED_REMOVE;
        return;
    case RETIRED_UNLINK:
        if (--log->name_count == 0)
            log->state = RETIRED_REMOVE;
        return;
    case RETIRED_REMOVE:
        log->state = RETIRED_SYNC;
        return;
    case RETIRED_SYNC:
        log->state = RETIRED_GONE;
        return;
    case RETIRED_HELD:
    case RETIRED_EMPTIED:
    case RETIRED_GONE:
    case RETIRED_STUCK:
        break;
    }
    ASSERT(false);
}

static void step_failed(struct wal_retired *log, int error)
{
    bool stuck = log->state == RETIRED_SYNC_RENAME;
    if (log->error == 0) {
        const char *name = strerrorname_np(-error);
        LOG_WARN("wal", "the old log %s cannot be removed: %s; tried again %s", log->dir,
                 name != NULL ? name : "error", stuck ? "by the next start" : "every 5 s");
    }
    log->error = error;
    if (stuck)
        log->state = RETIRED_STUCK;
    else
        (void)timer_set(log->r, &log->retry, log->r->now_ns + WAL_REMOVE_RETRY_NS);
}

static void visit_step(enum retired_state state)
{
    if (state == RETIRED_RENAME)
        FAILPOINT("wal.retired_renamed");
    if (state == RETIRED_SYNC_RENAME)
        FAILPOINT("wal.retired_durable");
    if (state == RETIRED_UNLINK)
        FAILPOINT("wal.retired_file");
    if (state == RETIRED_REMOVE)
        FAILPOINT("wal.retired_folder");
    if (state == RETIRED_SYNC)
        FAILPOINT("wal.retired_gone");
}

static void on_step(struct io_op *op, int64_t result)
{
    struct wal_retired *log = container_of(op, struct wal_retired, op);
    log->busy = false;
    if (log->stop)
        return;
    bool is_unlink = log->state == RETIRED_UNLINK || log->state == RETIRED_REMOVE;
    bool absent = is_unlink && result == -ENOENT;
    bool foreign = log->state == RETIRED_REMOVE && (result == -ENOTEMPTY || result == -EEXIST);
    if (result == -EINTR || result == -EAGAIN) {
        start(log);
        return;
    }
    if (result < 0 && !absent && !foreign) {
        step_failed(log, (int)result);
        return;
    }
    if (foreign)
        LOG_WARN("wal", "%s stays: it has files that are not the log's", log->gone);
    log->error = 0;
    visit_step(log->state);
    next_state(log);
    if (log->state != RETIRED_GONE)
        start(log);
    else
        log->options.removed(log->options.arg, log);
}

static void on_retry(struct timer *timer)
{
    start(container_of(timer, struct wal_retired, retry));
}

void wal_retired_remove(struct wal_retired *log)
{
    ASSERT(log->state == RETIRED_EMPTIED);
    log->state = RETIRED_RENAME;
    start(log);
}

/* ---- holding ---- */

static void tell_emptied(struct task *task)
{
    struct wal_retired *log = container_of(task, struct wal_retired, task);
    log->options.emptied(log->options.arg, log);
}

static void look(struct wal_retired *log)
{
    if (log->state != RETIRED_HELD || wal_ledger_held_from(&log->ledger) != UINT64_MAX)
        return;
    log->state = RETIRED_EMPTIED;
    task_queue(log->r, &log->task);
}

void wal_retired_release(struct wal_retired *log, const struct uuid *collection, uint64_t version)
{
    if (wal_ledger_release(&log->ledger, collection, version))
        look(log);
}

bool wal_retired_holder(const struct wal_retired *log, struct uuid *collection_out,
                        uint64_t *version_out)
{
    return wal_ledger_holder(&log->ledger, collection_out, version_out);
}

void wal_retired_collections(const struct wal_retired *log,
                             void (*visit)(void *arg, const struct uuid *collection,
                                           uint64_t version),
                             void *arg)
{
    wal_ledger_collections(&log->ledger, visit, arg);
}

uint64_t wal_retired_bytes(const struct wal_retired *log)
{
    return log->ledger.bytes;
}

/* What lies behind the log's last group was only made ahead: with its core back, the log would go
 * on there. */
struct used {
    uint64_t end_seq;
    void (*visit)(void *arg, const struct wal_segment_info *info);
    void *arg;
};

static void visit_used(void *arg, const struct wal_segment_info *info)
{
    const struct used *used = arg;
    if (info->seq <= used->end_seq)
        used->visit(used->arg, info);
}

void wal_retired_segments(const struct wal_retired *log,
                          void (*visit)(void *arg, const struct wal_segment_info *info), void *arg)
{
    struct used used = {log->end_seq, visit, arg};
    wal_ledger_segments(&log->ledger, log->dir, visit_used, &used);
}

struct uuid wal_retired_uuid(const struct wal_retired *log)
{
    return log->uuid;
}

uint64_t wal_retired_needed_from(const struct wal_retired *log)
{
    return wal_ledger_held_from(&log->ledger);
}

const char *wal_retired_dir(const struct wal_retired *log)
{
    return log->dir;
}

/* ---- opening ---- */

static void collect_name(void *arg, const char *name)
{
    struct wal_retired *log = arg;
    size_t len = strlen(name);
    if (len >= NAME_BYTES_MAX || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return; /* a foreign file: the directory stays, under its new name */
    if (log->name_count == log->name_capacity) {
        size_t capacity = 2 * log->name_capacity + 16;
        struct retired_name *names =
            heap_realloc(&log->r->heap, log->names, capacity * sizeof(*names));
        if (names == NULL) {
            log->no_memory = true;
            return;
        }
        log->names = names;
        log->name_capacity = capacity;
    }
    memcpy(log->names[log->name_count++].text, name, len + 1);
}

static int read_log(struct wal_retired *log, struct trail *trail)
{
    struct wal_scan *scan = NULL;
    int rc = wal_scan_begin(log->io, &log->r->heap, log->dir, &scan, trail);
    if (rc < 0)
        return rc;
    struct wal_ledger_scan ledger = {&log->ledger, scan};
    const struct wal_scan_options options = {.visit = wal_ledger_visit, .arg = &ledger};
    rc = wal_scan_log(scan, 0, &options, trail);
    if (rc == 0)
        rc = wal_ledger_finish(&log->ledger, &scan->logs[0], scan->logs[0].segment_count, 0);
    if (rc == PDB_RESOURCE_EXHAUSTED)
        (void)trail_add(trail, rc, "memory for the log of %s", log->dir);
    char text[UUID_TEXT_LEN + 1];
    const struct wal_scan_log *found = &scan->logs[0];
    log->uuid = found->uuid;
    if (rc == 0 && found->end.group_seq > found->begin.group_seq)
        log->end_seq = found->segments[found->end.segment].seq;
    uuid_format(&log->uuid, text);
    int len = snprintf(log->gone, sizeof(log->gone), "%s/gone-%s", log->above, text);
    ASSERT(len > 0 && len < WAL_PATH_MAX);
    wal_scan_close(scan);
    return rc;
}

static int list_names(struct wal_retired *log, struct trail *trail)
{
    int rc = log->io->ops->list_dir(log->io, log->dir, collect_name, log);
    if (rc < 0)
        return told(trail, rc, "list", log->dir);
    return log->no_memory
               ? trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for the log of %s", log->dir)
               : 0;
}

static void dispose(struct wal_retired *log)
{
    timer_cancel(log->r, &log->retry);
    task_cancel(&log->task);
    wal_ledger_dispose(&log->ledger);
    heap_free(&log->r->heap, log->names);
    heap_free(&log->r->heap, log);
}

int wal_retired_open(struct reactor *r, const struct wal_retired_options *options,
                     struct wal_retired **log_out, struct trail *trail)
{
    size_t len = strlen(options->dir);
    const char *slash = strrchr(options->dir, '/');
    if (len + 2 * NAME_BYTES_MAX > WAL_PATH_MAX || slash == NULL || slash == options->dir)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "the path of a log without a core: %.200s",
                         options->dir);
    struct wal_retired *log = heap_calloc(&r->heap, 1, sizeof(*log));
    if (log == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for the log of %s", options->dir);
    log->r = r;
    log->io = r->io;
    log->options = *options;
    memcpy(log->dir, options->dir, len + 1);
    memcpy(log->above, options->dir, (size_t)(slash - options->dir));
    log->options.dir = log->dir;
    log->op.done = on_step;
    log->retry.fire = on_retry;
    log->task = (struct task){.run = tell_emptied, .name = "wal retired"};
    wal_ledger_init(&log->ledger, &r->heap, r->io);
    int rc = read_log(log, trail);
    if (rc == 0)
        rc = list_names(log, trail);
    if (rc < 0) {
        dispose(log);
        return rc;
    }
    look(log);
    *log_out = log;
    return 0;
}

void wal_retired_close(struct wal_retired *log)
{
    if (log == NULL)
        return;
    log->stop = true;
    while (log->busy) {
        (void)log->io->ops->submit(log->io);
        if (log->io->ops->reap(log->io, 64) == 0)
            log->io->ops->wait(log->io, -1);
    }
    dispose(log);
}

void wal_retired_abandon(struct wal_retired *log)
{
    if (log != NULL)
        dispose(log);
}

/* ---- sweeping ---- */

struct sweep {
    char names[SWEEP_AT_ONCE][NAME_BYTES_MAX];
    size_t count;
    bool gone_only;
};

static void collect_sweep(void *arg, const char *name)
{
    struct sweep *sweep = arg;
    bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    bool wanted = !dots && (!sweep->gone_only || strncmp(name, "gone-", 5) == 0);
    if (wanted && sweep->count < SWEEP_AT_ONCE && strlen(name) < NAME_BYTES_MAX)
        memcpy(sweep->names[sweep->count++], name, strlen(name) + 1);
}

static int list_sweep(struct io *io, const char *dir, struct sweep *sweep, struct trail *trail)
{
    sweep->count = 0;
    int rc = io->ops->list_dir(io, dir, collect_sweep, sweep);
    return rc < 0 && rc != -ENOENT ? told(trail, rc, "list", dir) : 0;
}

/* 1: removed; 0: it was not there, or is not the log's. */
static int remove_one(struct io *io, const char *dir, const char *name, struct trail *trail)
{
    char path[WAL_PATH_MAX + NAME_BYTES_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    int64_t result = io_wait_unlink(io, path);
    if (result == -ENOTEMPTY || result == -EEXIST || result == -EISDIR) {
        LOG_WARN("wal", "%s stays: it has files that are not a log's", path);
        return 0;
    }
    if (result < 0 && result != -ENOENT)
        return told(trail, result, "remove", path);
    FAILPOINT("wal.swept");
    return result >= 0;
}

/* All files of a removed log, then its directory. As remove_one. */
static int sweep_one(struct io *io, const char *dir, const char *name, struct trail *trail)
{
    char path[WAL_PATH_MAX];
    struct sweep files = {.gone_only = false};
    int removed, len = snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (len <= 0 || len >= WAL_PATH_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "path too long: %s", dir);
    do {
        int rc = list_sweep(io, path, &files, trail);
        removed = 0;
        for (size_t i = 0; rc >= 0 && i < files.count; i++) {
            rc = remove_one(io, path, files.names[i], trail);
            removed += rc;
        }
        if (rc < 0)
            return rc;
    } while (removed != 0);
    return remove_one(io, dir, name, trail);
}

static int sweep_dir(struct io *io, const char *dir, struct trail *trail)
{
    struct sweep gone = {.gone_only = true};
    int removed, total = 0;
    do {
        int rc = list_sweep(io, dir, &gone, trail);
        removed = 0;
        for (size_t i = 0; rc >= 0 && i < gone.count; i++) {
            rc = sweep_one(io, dir, gone.names[i], trail);
            removed += rc;
        }
        if (rc < 0)
            return rc;
        total += removed;
    } while (removed != 0);
    int64_t result = total != 0 ? io_wait_sync_dir(io, dir) : 0;
    return result < 0 ? told(trail, result, "sync", dir) : 0;
}

int wal_sweep(struct io *io, const char *const *dirs, size_t dir_count, struct trail *trail)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < dir_count; i++)
        rc = sweep_dir(io, dirs[i], trail);
    return rc;
}
