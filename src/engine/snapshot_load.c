/* snapshot_load.c: the snapshots that are there at start, and the removal of what was cut off. */
#include "engine/snapshot_internal.h"

#include "base/log.h"
#include "base/text.h"
#include "engine/validate.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

static const char restore_mark[] = ".restore-";

static void keep_name(void *arg, const char *name)
{
    struct buffer *names = arg;
    if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
        buffer_add(names, name, strlen(name) + 1);
}

static int list_names(struct io *io, const char *folder, struct buffer *names)
{
    buffer_init_heap(names, NULL, 0);
    int rc = io->ops->list_dir(io, folder, keep_name, names);
    if (rc == 0 && names->failed)
        rc = -ENOMEM;
    if (rc < 0)
        buffer_dispose(names);
    return rc;
}

/* ---- what was cut off ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

void snapshot_remove_tree(struct io *io, const char *folder, unsigned depth)
{
    struct buffer names;
    if (depth != 0 && list_names(io, folder, &names) == 0) {
        for (size_t at = 0; at < names.len; at += strlen(names.ptr + at) + 1) {
            char path[SNAPSHOT_PATH_MAX];
            int len = snprintf(path, sizeof(path), "%s/%s", folder, names.ptr + at);
            if (len > 0 && (size_t)len < sizeof(path) && io_wait_unlink(io, path) < 0)
                snapshot_remove_tree(io, path, depth - 1);
        }
        buffer_dispose(&names);
    }
    int64_t result = io_wait_unlink(io, folder);
    if (result < 0 && result != -ENOENT)
        LOG_WARN("engine", "%s: cannot be removed: %s", folder, strerror((int)-result));
}

enum snapshot_name snapshot_name_kind(const char *name)
{
    struct trail ignored = {0};
    if (strncmp(name, restore_mark, sizeof(restore_mark) - 1) == 0)
        return SNAPSHOT_NAME_MARK;
    if (name[0] == '.' && (ends_with(name, ".tmp") || ends_with(name, ".gone")))
        return SNAPSHOT_NAME_CUT_OFF;
    return validate_collection_name(text_of(name), &ignored) == 0 ? SNAPSHOT_NAME_GOOD
                                                                  : SNAPSHOT_NAME_OTHER;
}

static bool catalog_knows(const struct engine_core *core, const struct uuid *uuid)
{
    const struct catalog_snapshot *catalog = core->catalog;
    for (uint32_t i = 0; i < catalog->count; i++)
        if (uuid_equal(&catalog->entries[i]->uuid, uuid))
            return true;
    return catalog_is_dropped(core->master, uuid);
}

/* The folder of the collection goes first, durably: without the mark nobody would know it. */
static void undo_restore(struct engine_core *core, const char *mark, const char *uuid_text)
{
    struct io *io = core->r->io;
    struct uuid uuid;
    char folder[SHARD_FOLDER_MAX], root[SHARD_FOLDER_MAX];
    if (uuid_parse(uuid_text, strlen(uuid_text), &uuid) < 0)
        return;
    if (!catalog_knows(core, &uuid)) {
        shard_files_root(root, core->db->options.data_dir);
        shard_files_folder(folder, core->db->options.data_dir, &uuid);
        snapshot_remove_tree(io, folder, 1);
        (void)io_wait_sync_dir(io, root); /* its witness is looked at next */
    }
    snapshot_remove_tree(io, mark, 0);
}

/* ---- the lists ---- */

static int read_list(struct engine_core *core, struct pdb_text name,
                     struct snapshot_image **image_out, struct trail *trail)
{
    char path[SNAPSHOT_PATH_MAX], folder[SNAPSHOT_FOLDER_MAX];
    void *bytes = NULL;
    size_t len = 0;
    snapshot_folder(folder, core->db, name);
    (void)snprintf(path, sizeof(path), "%s/SNAPSHOT", folder);
    int rc = io_read_file(core->r->io, path, SNAPSHOT_LIST_BYTES_MAX, &bytes, &len);
    if (rc == -ENOMEM)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "%s: out of memory", path);
    if (rc < 0)
        return trail_add(trail, PDB_DATA_LOSS, "SNAPSHOT cannot be read: %s", strerror(-rc));
    struct snapshot_image *image = NULL;
    rc = snapshot_decode(bytes, len, &image, trail);
    heap_free(NULL, bytes);
    if (rc < 0)
        return trail_add(trail, rc, "SNAPSHOT");
    if (!text_equal(image->name, name)) {
        snapshot_image_free(image);
        return trail_add(trail, PDB_DATA_LOSS, "SNAPSHOT is that of another one");
    }
    *image_out = image;
    return 0;
}

static int load_one(struct engine_core *core, struct pdb_text name, struct trail *trail)
{
    struct trail why = {0};
    struct snapshot_image *image = NULL;
    int rc = read_list(core, name, &image, &why);
    if (rc == PDB_RESOURCE_EXHAUSTED)
        return trail_add(trail, rc, "%s", why.text);
    if (rc < 0) {
        LOG_ERROR("engine", "snapshot %.*s is damaged and cannot be restored: %s", (int)name.len,
                  name.ptr, why.text);
        image = snapshot_image_new(name);
        if (image == NULL)
            return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "snapshots: out of memory");
        image->damaged = true;
        (void)snprintf(image->why, sizeof(image->why), "%.*s", (int)sizeof(image->why) - 1,
                       why.text);
    }
    snapshot_insert(core->snapshots, image);
    return 0;
}

static int see_name(struct engine_core *core, const char *name, struct trail *trail)
{
    char path[SNAPSHOT_FOLDER_MAX];
    snapshot_folder(path, core->db, text_of(name));
    switch (snapshot_name_kind(name)) {
    case SNAPSHOT_NAME_MARK:
        undo_restore(core, path, name + sizeof(restore_mark) - 1);
        break;
    case SNAPSHOT_NAME_CUT_OFF:
        snapshot_remove_tree(core->r->io, path, 2);
        break;
    case SNAPSHOT_NAME_GOOD:
        return load_one(core, text_of(name), trail);
    case SNAPSHOT_NAME_OTHER:
        break;
    }
    return 0;
}

static int make_root(struct engine_core *core, const char *root, struct trail *trail)
{
    struct io *io = core->r->io;
    int64_t result = io_wait_make_dir(io, root);
    if (result == 0 || result == -EEXIST)
        result = io_wait_sync_dir(io, core->db->options.data_dir);
    if (result < 0)
        return trail_add(trail, engine_errno_code(result), "%s: cannot be made: %s", root,
                         strerror((int)-result));
    return 0;
}

int snapshots_load(struct engine_core *core, struct trail *trail)
{
    char root[SNAPSHOT_FOLDER_MAX];
    struct buffer names;
    struct snapshots *all = heap_calloc(NULL, 1, sizeof(*all));
    if (all == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "snapshots: out of memory");
    all->core = core;
    list_init(&all->images);
    list_init(&all->queue);
    list_init(&all->uploads);
    list_init(&all->dead);
    core->snapshots = all;
    snapshot_root(root, core->db);
    int rc = make_root(core, root, trail);
    if (rc < 0)
        return rc;
    rc = list_names(core->r->io, root, &names);
    if (rc < 0)
        return trail_add(trail, engine_errno_code(rc), "%s: cannot be listed: %s", root,
                         strerror(-rc));
    for (size_t at = 0; rc == 0 && at < names.len; at += strlen(names.ptr + at) + 1)
        rc = see_name(core, names.ptr + at, trail);
    buffer_dispose(&names);
    return rc;
}
