/* archive_restore_build.c: the folder in which a data directory is brought back.
 *
 *     <parent>/.<name>.restore/LOCK         one restore at a time
 *                              fetch/       the segment of a log that is being looked at
 *                              data/        becomes <parent>/<name> in one rename, at last
 *
 * What a cut restore has left is cleared by the next one to the same place: nothing of it is worth
 * going on with, since objects are fetched faster than they are compared. */
#include "engine/archive_restore.h"

#include "base/crc32c.h"
#include "base/log.h"
#include "os/file_map.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { TREE_DEPTH_MAX = 8, DATA_DIR_MAX = 900 };

static int io_failed(struct trail *trail, int64_t result, const char *path, const char *what)
{
    return trail_add(trail, engine_errno_code(result), "%s: %s: %s", path, what,
                     strerror((int)-result));
}

/* ---- trees ---- */

static void keep_name(void *arg, const char *name)
{
    struct buffer *names = arg;
    if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
        buffer_add(names, name, strlen(name) + 1);
}

/* 0 or a negative errno; -ENOENT is none. */
static int64_t list_names(struct io *io, const char *path, struct buffer *names_out)
{
    buffer_init_heap(names_out, NULL, 0);
    int64_t result = io->ops->list_dir(io, path, keep_name, names_out);
    if (result == -ENOENT)
        result = 0;
    return result == 0 && names_out->failed ? -ENOMEM : result;
}

/* Our own: at most so many folders deep. */
static int64_t remove_tree(struct io *io, const char *path, unsigned depth)
{
    struct buffer names;
    int64_t result = io_wait_unlink(io, path);
    if (result >= 0 || result == -ENOENT || depth == 0)
        return result == -ENOENT ? 0 : result;
    result = list_names(io, path, &names);
    for (size_t at = 0; result >= 0 && at < names.len; at += strlen(names.ptr + at) + 1) {
        char inner[RESTORE_PATH_MAX];
        int len = snprintf(inner, sizeof(inner), "%s/%s", path, names.ptr + at);
        result = len > 0 && (size_t)len < sizeof(inner) ? remove_tree(io, inner, depth - 1)
                                                        : -ENAMETOOLONG;
    }
    buffer_dispose(&names);
    return result >= 0 ? io_wait_unlink(io, path) : result;
}

static int remove_below(struct restore *r, const char *folder, const char *name,
                        struct trail *trail)
{
    char path[RESTORE_PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    int64_t result = remove_tree(r->io, path, TREE_DEPTH_MAX);
    return result < 0 ? io_failed(trail, result, path, "cannot be removed") : 0;
}

static int make_below(struct restore *r, const char *folder, const char *name, struct trail *trail)
{
    char path[RESTORE_PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s%s%s", folder, name[0] != '\0' ? "/" : "", name);
    int64_t result = io_wait_make_dir(r->io, path);
    return result < 0 ? io_failed(trail, result, path, "cannot be made") : 0;
}

static int sync_dir(struct restore *r, const char *path, struct trail *trail)
{
    int64_t result = io_wait_sync_dir(r->io, path);
    return result < 0 ? io_failed(trail, result, path, "cannot be synced") : 0;
}

/* ---- beginning ---- */

static int set_paths(struct restore *r, struct trail *trail)
{
    const char *dir = r->options->data_dir;
    size_t len = strlen(dir);
    while (len > 1 && dir[len - 1] == '/')
        len--;
    size_t at = len;
    while (at > 0 && dir[at - 1] != '/')
        at--;
    size_t name_len = len - at;
    bool dots = name_len <= 2 && strspn(dir + at, ".") >= name_len;
    if (name_len == 0 || dots || len > DATA_DIR_MAX || name_len >= sizeof(r->name) - 16)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "data directory '%s': expected the path of a folder that can be made",
                         dir);
    (void)snprintf(r->name, sizeof(r->name), "%.*s", (int)name_len, dir + at);
    if (at == 0)
        (void)snprintf(r->parent, sizeof(r->parent), ".");
    else
        (void)snprintf(r->parent, sizeof(r->parent), "%.*s", (int)(at == 1 ? 1 : at - 1), dir);
    int work = snprintf(r->work, sizeof(r->work), "%s/.%s.restore", r->parent, r->name);
    int data = snprintf(r->data, sizeof(r->data), "%.1000s/data", r->work);
    (void)snprintf(r->target, sizeof(r->target), "%.700s/%s", r->parent, r->name);
    return work > 0 && data > 0 && data <= DATA_DIR_MAX
               ? 0
               : trail_add(trail, PDB_INVALID_ARGUMENT, "data directory: the path is too long");
}

static int check_target(struct restore *r, struct trail *trail)
{
    struct buffer names;
    int64_t result = list_names(r->io, r->target, &names);
    bool empty = names.len == 0;
    buffer_dispose(&names);
    if (result < 0)
        return io_failed(trail, result, r->target, "cannot be looked at");
    return empty ? 0
                 : trail_add(trail, PDB_ALREADY_EXISTS,
                             "data directory '%s' is there already, and not empty", r->target);
}

int restore_prepare(struct restore *r, struct trail *trail)
{
    int rc = set_paths(r, trail);
    if (rc == 0)
        rc = check_target(r, trail);
    if (rc == 0)
        rc = lock_take(r->work, &r->lock_file, trail);
    if (rc == 0)
        rc = remove_below(r, r->work, "data", trail);
    if (rc == 0)
        rc = remove_below(r, r->work, "fetch", trail);
    if (rc == 0)
        rc = make_below(r, r->data, "", trail);
    if (rc == 0)
        rc = make_below(r, r->data, "catalog", trail);
    if (rc == 0)
        rc = make_below(r, r->data, "catalog/archive", trail);
    if (rc == 0)
        rc = make_below(r, r->data, "collections", trail);
    if (rc == 0)
        rc = make_below(r, r->data, "wal", trail);
    return rc;
}

/* ---- the base ---- */

static int check_file(struct restore *r, const char *path, const struct snapshot_file *file,
                      struct trail *trail)
{
    struct file_map map = {0};
    int error = file_map_open(r->io, path, FILE_MAP_NORMAL, &map);
    if (error == 0 && map.len != 0)
        error = file_map_populate(&map, 0, map.len);
    bool same = error == 0 && map.len == file->bytes && crc32c(0, map.ptr, map.len) == file->crc32c;
    file_map_close(&map);
    if (error < 0)
        return io_failed(trail, error, path, "cannot be read");
    return same ? 0
                : trail_add(trail, PDB_DATA_LOSS,
                            "it does not have the length or checksum that its base tells");
}

static int fetch_file(struct restore *r, const struct snapshot_part *part, uint32_t at,
                      const char *folder, struct trail *trail)
{
    const struct snapshot_file *file = &part->files[at];
    char key[ARCHIVE_KEY_SIZE], path[SHARD_PATH_MAX];
    uint64_t bytes = 0;
    const struct store_call call = {.trail = trail};
    archive_file_key(key, &r->identity, r->base.name, part, at);
    (void)snprintf(path, sizeof(path), "%s/%s", folder, file->name);
    const struct store_get_request get = {.key = text_of(key), .len = STORE_TO_END, .path = path};
    int rc = store_get(r->store, &call, &get, &bytes, NULL);
    if (rc < 0)
        return restore_lost(rc, trail);
    r->bytes += bytes;
    rc = check_file(r, path, file, trail);
    return rc < 0 ? trail_add(trail, rc, "%s", key) : 0;
}

static int place_part(struct restore *r, const struct snapshot_part *part, struct trail *trail)
{
    char folder[SHARD_FOLDER_MAX];
    shard_files_folder(folder, r->data, &part->entry->uuid);
    int64_t result = io_wait_make_dir(r->io, folder);
    if (result < 0)
        return io_failed(trail, result, folder, "cannot be made");
    for (uint32_t i = 0; i < part->file_count; i++) {
        int rc = restore_go_on(r, "base", r->done, r->total, trail);
        if (rc == 0)
            rc = fetch_file(r, part, i, folder, trail);
        if (rc < 0)
            return rc;
        r->done += part->files[i].bytes;
    }
    return sync_dir(r, folder, trail);
}

static const struct snapshot_part *part_of(const struct restore *r, const struct uuid *uuid)
{
    for (uint32_t i = 0; i < r->base.image->part_count; i++)
        if (uuid_equal(&r->base.image->parts[i].entry->uuid, uuid))
            return &r->base.image->parts[i];
    return NULL;
}

/* Its first rows came out of a snapshot, and no base has them: the next base was made after this
 * moment. */
static int born_elsewhere(const struct catalog_entry *entry, struct trail *trail)
{
    return trail_add(trail, PDB_DATA_LOSS,
                     "collection '%.*s' cannot be brought back to this moment: it had been "
                     "restored from a snapshot, and the archive has no base of it from before; go "
                     "back to a moment before that restore, or to one after the next base",
                     (int)entry->config.name.len, entry->config.name.ptr);
}

int restore_place_base(struct restore *r, struct trail *trail)
{
    char path[RESTORE_PATH_MAX];
    r->done = r->total = 0;
    for (uint32_t i = 0; i < r->image.count; i++) {
        const struct catalog_entry *entry = r->image.entries[i];
        const struct snapshot_part *part = part_of(r, &entry->uuid);
        if (part == NULL && entry->born_version != 0)
            return born_elsewhere(entry, trail);
        for (uint32_t f = 0; part != NULL && f < part->file_count; f++)
            r->total += part->files[f].bytes;
    }
    for (uint32_t i = 0; i < r->image.count; i++) {
        const struct snapshot_part *part = part_of(r, &r->image.entries[i]->uuid);
        int rc = part != NULL ? place_part(r, part, trail) : 0;
        if (rc < 0)
            return rc;
    }
    (void)snprintf(path, sizeof(path), "%s/collections", r->data);
    return sync_dir(r, path, trail);
}

int restore_place_catalog(struct restore *r, struct trail *trail)
{
    char dir[RESTORE_PATH_MAX], name[64], current[64];
    (void)snprintf(dir, sizeof(dir), "%s/catalog", r->data);
    (void)snprintf(name, sizeof(name), "%" PRIu64 ".catalog", r->image.version);
    size_t len = catalog_current_format(r->image.version, current);
    int error = io_replace_file(r->io, dir, name, r->catalog, r->catalog_len);
    if (error == 0)
        error = io_replace_file(r->io, dir, "CURRENT", current, len);
    return error < 0 ? io_failed(trail, error, dir, "cannot be written") : 0;
}

/* ---- the end ---- */

/* The replay's own logs, which are empty, and the list of them with its witness. Those fetched have
 * large numbers. */
int restore_clean_round(struct restore *r, struct trail *trail)
{
    char wal[RESTORE_PATH_MAX];
    struct buffer names;
    (void)snprintf(wal, sizeof(wal), "%s/wal", r->data);
    int64_t result = list_names(r->io, wal, &names);
    int rc = result < 0 ? io_failed(trail, result, wal, "cannot be listed") : 0;
    for (size_t at = 0; rc == 0 && at < names.len; at += strlen(names.ptr + at) + 1) {
        unsigned number = 0;
        bool fetched = sscanf(names.ptr + at, "%u", &number) == 1 && number >= RESTORE_LOG_FIRST;
        if (!fetched)
            rc = remove_below(r, wal, names.ptr + at, trail);
    }
    buffer_dispose(&names);
    if (rc == 0)
        rc = remove_below(r, r->data, "catalog/LOGS", trail);
    return rc == 0 ? remove_below(r, r->data, "catalog/witness/LOGS", trail) : rc;
}

int restore_appear(struct restore *r, struct trail *trail)
{
    int rc = remove_below(r, r->data, "wal", trail);
    if (rc == 0)
        rc = remove_below(r, r->data, "LOCK", trail);
    if (rc == 0)
        rc = log_list_say_none(r->io, r->data, trail);
    if (rc == 0)
        rc = sync_dir(r, r->data, trail);
    if (rc < 0)
        return rc;
    int64_t result = io_wait_rename(r->io, r->data, r->target);
    if (result == -ENOTEMPTY || result == -EEXIST)
        return trail_add(trail, PDB_ALREADY_EXISTS, "data directory '%s' is not empty any more",
                         r->target);
    if (result < 0)
        return io_failed(trail, result, r->target, "cannot be named");
    return sync_dir(r, r->parent, trail);
}

void restore_clear(struct restore *r)
{
    if (r->lock_file < 0)
        return;
    int64_t result = remove_tree(r->io, r->work, TREE_DEPTH_MAX);
    if (result < 0)
        LOG_WARN("restore", "%s cannot be removed: %s", r->work, strerror((int)-result));
    lock_release(r->lock_file);
    r->lock_file = -1;
}
