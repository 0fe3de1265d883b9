/* old_logs.c: logs that this start has no core for, because there were more cores once or the log
 * directories were other ones. They are read like all others; here they are given up as soon as
 * segments hold what they hold. Core 0 looks after them.
 *
 *     all released (wal_retired), and in the archive, if there is one
 *         -> catalog/LOGS without it, durably -> its files go
 *
 * Each sweep asks the owner of the shard that holds the oldest such record to flush. */
#include "engine/old_logs.h"

#include "base/log.h"
#include "base/text.h"
#include "engine/archive.h"
#include "engine/catalog.h"
#include "engine/file_write.h"
#include "engine/upkeep.h"

#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { PATH_BYTES = 4200, RETRY_AFTER_S = 5 };

enum old_log_state {
    OLD_LOG_NEEDED,
    OLD_LOG_EMPTIED, /* nothing in it is needed: waits to be forgotten */
    OLD_LOG_WRITING, /* the list without it, or waiting to try that again */
    OLD_LOG_GOING,   /* is listed no more, and its files go: that holds nobody up */
};

struct old_log {
    struct list_link link; /* core->old_logs */
    struct engine_core *core;
    struct wal_retired *log;
    enum old_log_state state;
    struct file_write file;
    struct buffer bytes;
    struct timer retry;
    char dir[PATH_BYTES];
};

static struct old_log *log_at(struct list_link *link)
{
    return container_of(link, struct old_log, link);
}

static void drop(struct old_log *old)
{
    struct engine_core *core = old->core;
    archive_drop_old_log(core, old->log);
    timer_cancel(core->r, &old->retry);
    list_remove(&old->link);
    buffer_dispose(&old->bytes);
    heap_free(&core->r->heap, old);
}

/* ---- forgetting one ---- */

static void forget_next(struct engine_core *core);

static void removed(void *arg, struct wal_retired *log)
{
    struct old_log *old = arg;
    LOG_INFO("engine", "the old log in %s is not needed any more and was removed",
             wal_retired_dir(log));
    wal_retired_close(log);
    drop(old);
}

static void retry_fires(struct timer *timer)
{
    struct old_log *old = container_of(timer, struct old_log, retry);
    old->state = OLD_LOG_EMPTIED;
    forget_next(old->core);
}

static void failed(struct old_log *old)
{
    struct engine_core *core = old->core;
    old->retry.fire = retry_fires;
    (void)timer_set(core->r, &old->retry, core->r->now_ns + (uint64_t)RETRY_AFTER_S * 1000000000);
    upkeep_leave(core);
}

static void abandoned(struct file_write *file, int rc)
{
    (void)rc;
    failed(container_of(file, struct old_log, file));
}

static void committed(struct file_write *file, int rc)
{
    struct old_log *old = container_of(file, struct old_log, file);
    struct engine_core *core = old->core;
    if (rc < 0 && file->naming) { /* either list may be in force: both are good */
        failed(old);
        return;
    }
    if (rc < 0) {
        file_write_abandon(file, abandoned);
        return;
    }
    log_list_forget(core->db, wal_retired_dir(old->log));
    old->state = OLD_LOG_GOING;
    wal_retired_remove(old->log);
    upkeep_leave(core);
    forget_next(core);
}

static void appended(struct file_write *file, int rc)
{
    if (rc < 0)
        file_write_abandon(file, abandoned);
    else
        file_write_commit(file, FILE_WRITE_SYNC | FILE_WRITE_SYNC_DIR, committed);
}

static void opened(struct file_write *file, int rc)
{
    struct old_log *old = container_of(file, struct old_log, file);
    if (rc < 0)
        file_write_abandon(file, abandoned);
    else
        file_write_append(file, old->bytes.ptr, old->bytes.len, appended);
}

static bool is_writing(const struct engine_core *core)
{
    list_each (link, &core->old_logs)
        if (log_at(link)->state == OLD_LOG_WRITING)
            return true;
    return false;
}

static void forget(struct old_log *old)
{
    struct engine_core *core = old->core;
    upkeep_enter(core);
    old->state = OLD_LOG_WRITING;
    buffer_dispose(&old->bytes);
    buffer_init_heap(&old->bytes, &core->r->heap, 0);
    log_list_encode(core->db, wal_retired_dir(old->log), &old->bytes);
    if (old->bytes.failed) {
        failed(old);
        return;
    }
    (void)snprintf(old->dir, sizeof(old->dir), "%.4000s/catalog", core->db->options.data_dir);
    file_write_begin(&old->file, core->r->io, old->dir, "LOGS", NULL, opened);
}

/* One after the other: each list is the one before without one line. */
static void forget_next(struct engine_core *core)
{
    if (core->closing || is_writing(core))
        return;
    list_each (link, &core->old_logs) {
        struct old_log *old = log_at(link);
        if (old->state == OLD_LOG_EMPTIED && archive_log_stored(core, old->log)) {
            forget(old);
            return;
        }
    }
}

static void emptied(void *arg, struct wal_retired *log)
{
    struct old_log *old = arg;
    (void)log;
    old->state = OLD_LOG_EMPTIED;
    forget_next(old->core);
}

/* ---- start ---- */

struct found_logs {
    struct engine_core *core;
    const char *wal_dir;
    int rc;
    struct trail *trail;
};

static bool is_of_this_start(const struct pdb *db, const char *path)
{
    for (unsigned i = 0; i < db->core_count; i++)
        if (strcmp(db->core_log_dirs[i], path) == 0)
            return true;
    return false;
}

static bool is_number(const char *name)
{
    size_t len = strspn(name, "0123456789");
    return len != 0 && len <= 9 && name[len] == '\0';
}

static void take_log(void *arg, const char *name)
{
    struct found_logs *found = arg;
    struct engine_core *core = found->core;
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof(path), "%.4000s/%.100s", found->wal_dir, name);
    if (found->rc < 0 || !is_number(name) || is_of_this_start(core->db, path))
        return;
    struct old_log *old = heap_calloc(&core->r->heap, 1, sizeof(*old));
    if (old == NULL) {
        found->rc = trail_add(found->trail, PDB_RESOURCE_EXHAUSTED, "out of memory for old logs");
        return;
    }
    old->core = core;
    (void)snprintf(old->dir, sizeof(old->dir), "%s", path);
    list_push_back(&core->old_logs, &old->link);
}

static int open_logs(struct engine_core *core, struct trail *trail)
{
    list_each (link, &core->old_logs) {
        struct old_log *old = log_at(link);
        struct wal_retired_options options = {
            .dir = old->dir, .emptied = emptied, .removed = removed, .arg = old};
        int rc = wal_retired_open(core->r, &options, &old->log, trail);
        if (rc < 0)
            return rc;
        if (archive_add_old_log(core, old->log) < 0)
            return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "out of memory for old logs");
    }
    return 0;
}

int old_logs_open(struct engine_core *core, struct trail *trail)
{
    struct found_logs found = {.core = core, .trail = trail};
    for (size_t i = 0; i < core->db->wal_dir_count; i++) {
        found.wal_dir = core->db->wal_dirs[i];
        (void)core->r->io->ops->list_dir(core->r->io, found.wal_dir, take_log, &found);
    }
    return found.rc < 0 ? found.rc : open_logs(core, trail);
}

/* ---- what upkeep calls ---- */

void old_logs_each_collection(struct engine_core *core,
                              void (*visit)(void *arg, const struct uuid *uuid, uint64_t version),
                              void *arg)
{
    list_each (link, &core->old_logs)
        wal_retired_collections(log_at(link)->log, visit, arg);
}

void old_logs_release(struct engine_core *core, const struct uuid *uuid, uint64_t version)
{
    list_each_safe(link, following, &core->old_logs)
    {
        struct old_log *old = log_at(link);
        if (old->state == OLD_LOG_NEEDED)
            wal_retired_release(old->log, uuid, version);
    }
}

bool old_logs_holder(const struct engine_core *core, struct uuid *uuid_out)
{
    uint64_t version;
    list_each (link, &core->old_logs) {
        const struct old_log *old = log_at(link);
        if (old->state == OLD_LOG_NEEDED && wal_retired_holder(old->log, uuid_out, &version))
            return true;
    }
    return false;
}

void old_logs_stored(struct engine_core *core)
{
    forget_next(core);
}

void old_logs_close(struct engine_core *core)
{
    list_each_safe(link, following, &core->old_logs)
    {
        wal_retired_close(log_at(link)->log);
        drop(log_at(link));
    }
}
