/* copy_out.c: segments of a closed data directory, copied as they are (copy_folder.c).
 *
 * Rows that are only in the log would be missing without a word, so they refuse the copy. */
#include <proximadb/copy.h>

#include "base/crc32c.h"
#include "engine/copy_folder.h"
#include "engine/engine_internal.h"
#include "os/file_map.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

struct copy {
    const struct pdb_copy_options *options;
    struct io *io;
    struct arena arena;
    struct catalog_image image;
    const struct catalog_entry *entry;
    struct manifest_file manifest;
    struct copy_folder folder;
};

/* ---- what must be so ---- */

static int find_collection(struct copy *c, struct trail *trail)
{
    struct pdb_text name = text_of(c->options->collection);
    int rc = catalog_read(c->io, c->options->data_dir, &c->arena, &c->image, trail);
    if (rc < 0)
        return trail_add(trail, rc, "%s",
                         rc == PDB_NOT_FOUND ? "there is no catalog: not a data directory"
                                             : "the catalog");
    for (uint32_t i = 0; i < c->image.count; i++)
        if (text_equal(c->image.entries[i]->config.name, name))
            c->entry = c->image.entries[i];
    return c->entry != NULL ? 0
                            : trail_add(trail, PDB_NOT_FOUND, "collection '%s' does not exist",
                                        c->options->collection);
}

static int see_record(void *arg, const struct wal_record_info *info)
{
    const struct copy *c = arg;
    bool later = info->type != WAL_RECORD_CLOSE && uuid_equal(&info->collection, &c->entry->uuid) &&
                 info->version > c->manifest.manifest.version;
    return later ? PDB_FAILED_PRECONDITION : 0;
}

static int check_log(struct copy *c, struct trail *trail)
{
    char path[SHARD_FOLDER_MAX];
    const char *default_dirs[1] = {path};
    bool given = c->options->wal_dir_count != 0;
    (void)snprintf(path, sizeof(path), "%.4000s/wal", c->options->data_dir);
    struct wal_scan_options options = {.dirs = given ? c->options->wal_dirs : default_dirs,
                                       .dir_count = given ? c->options->wal_dir_count : 1,
                                       .stride = 1,
                                       .visit = see_record,
                                       .arg = c};
    struct wal_scan *scan = NULL;
    struct trail why = {0};
    int rc = wal_scan_open(c->io, &options, &scan, &why);
    if (rc == PDB_FAILED_PRECONDITION && why.code == 0)
        return trail_add(trail, rc,
                         "the log holds rows of '%s' that no segment has yet: start the server and "
                         "export from it, or wait until it has flushed them",
                         c->options->collection);
    if (rc < 0)
        return trail_add(trail, rc, "the log: %s", why.text);
    wal_scan_close(scan);
    return 0;
}

/* ---- files ---- */

static int copy_segment(struct copy *c, const char *folder, const struct manifest_segment *segment,
                        struct trail *trail)
{
    char path[SHARD_PATH_MAX], name[SHARD_NAME_MAX];
    struct file_map map = {0};
    shard_files_path(path, folder, SHARD_FILE_PARQUET, segment->number);
    shard_files_name(name, SHARD_FILE_PARQUET, segment->number);
    int error = file_map_open(c->io, path, FILE_MAP_NORMAL, &map);
    if (error < 0)
        return trail_add(trail, PDB_DATA_LOSS, "%.3000s: %s", path, strerror(-error));
    int rc = 0;
    if (map.len != segment->parquet_bytes || crc32c(0, map.ptr, map.len) != segment->parquet_crc32c)
        rc = trail_add(trail, PDB_DATA_LOSS, "%.3000s: does not fit the checksum in the manifest",
                       path);
    if (rc == 0) {
        error = io_replace_file(c->io, c->options->folder, name, map.ptr, map.len);
        rc = error == 0 ? 0
                        : trail_add(trail, PDB_UNAVAILABLE, "%s/%s: %s", c->options->folder, name,
                                    strerror(-error));
    }
    file_map_close(&map);
    if (rc < 0)
        return rc;
    copy_folder_segment(&c->folder, segment);
    if (c->options->progress != NULL)
        c->options->progress(c->options->arg, c->folder.rows, c->folder.bytes);
    return 0;
}

static int copy_all(struct copy *c, struct trail *trail)
{
    char folder[SHARD_FOLDER_MAX];
    int rc = find_collection(c, trail);
    if (rc < 0)
        return rc;
    shard_files_folder(folder, c->options->data_dir, &c->entry->uuid);
    rc = manifest_load(c->io, folder, &c->entry->uuid, 0, &c->manifest, trail);
    if (rc < 0 && rc != PDB_NOT_FOUND) /* nothing was flushed yet: all there is is in the log */
        return rc;
    rc = check_log(c, trail);
    if (rc < 0)
        return rc;
    rc = copy_folder_make(&c->folder, trail);
    if (rc < 0)
        return rc;
    const struct manifest *m = &c->manifest.manifest;
    copy_folder_begin(&c->folder, c->entry, m->version);
    for (uint32_t i = 0; i < m->segment_count && rc == 0; i++)
        rc = copy_segment(c, folder, &m->segments[i], trail);
    return rc < 0 ? rc : copy_folder_end(&c->folder, trail);
}

int pdb_copy(const struct pdb_copy_options *options, struct pdb_error *error)
{
    struct trail trail = {0};
    struct pdb_error ignored;
    const char *reason = NULL;
    int lock_file = -1;
    struct copy c = {.options = options};
    if (error == NULL)
        error = &ignored;
    *error = (struct pdb_error){0};
    int rc = access(options->data_dir, F_OK) == 0
                 ? lock_take(options->data_dir, &lock_file, &trail)
                 : trail_add(&trail, PDB_NOT_FOUND, "data directory '%s' does not exist",
                             options->data_dir);
    if (rc == 0 && io_create(IO_ENGINE_AUTO, &c.io, &reason) < 0) {
        rc = trail_add(&trail, PDB_UNAVAILABLE, "no I/O engine: %s",
                       reason != NULL ? reason : "unknown");
        lock_release(lock_file);
    } else if (rc == 0) {
        arena_init(&c.arena, 0);
        copy_folder_init(&c.folder, c.io, options->folder, options->describe);
        rc = copy_all(&c, &trail);
        copy_folder_dispose(&c.folder, &c.manifest.manifest);
        manifest_file_dispose(&c.manifest);
        catalog_image_dispose(&c.image);
        arena_dispose(&c.arena);
        c.io->ops->destroy(c.io);
        lock_release(lock_file);
    }
    if (rc < 0) {
        error->code = rc;
        (void)snprintf(error->text, sizeof(error->text), "%s", trail.text);
    }
    return rc;
}
