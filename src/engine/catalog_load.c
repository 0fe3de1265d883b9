/* catalog_load.c: finds the catalog at start.
 *
 * Files appear by rename after their sync, so a named file that does not validate is damage, never
 * unfinished work. A missing CURRENT is a new data directory only when nothing but a first, empty
 * version lies beside it; anything more and CURRENT has been lost. */
#include "engine/catalog.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

struct listing {
    uint64_t highest; /* version of a catalog file; 0: none */
};

static void see_name(void *arg, const char *name)
{
    struct listing *listing = arg;
    uint64_t version;
    int end = 0;
    if (sscanf(name, "%" SCNu64 ".catalog%n", &version, &end) == 1 && end > 0 &&
        name[end] == '\0' && version > listing->highest)
        listing->highest = version;
}

static int make_dir(struct io *io, const char *path, struct trail *trail)
{
    int64_t result = io_wait_make_dir(io, path);
    if (result < 0 && result != -EEXIST)
        return trail_add(trail, engine_errno_code(result), "%s: cannot be made: %s", path,
                         strerror((int)-result));
    return 0;
}

/* 0 and bytes; PDB_NOT_FOUND without a line in the trail. */
static int read_file(struct io *io, const char *path, size_t len_max, void **bytes_out,
                     size_t *len_out, struct trail *trail)
{
    int rc = io_read_file(io, path, len_max, bytes_out, len_out);
    if (rc == -ENOENT)
        return PDB_NOT_FOUND;
    return rc < 0 ? trail_add(trail, engine_errno_code(rc), "%s: cannot be read: %s", path,
                              strerror(-rc))
                  : 0;
}

static int read_current(struct io *io, const char *dir, uint64_t *version_out, struct trail *trail)
{
    char path[4200];
    void *bytes;
    size_t len;
    (void)snprintf(path, sizeof(path), "%s/CURRENT", dir);
    int rc = read_file(io, path, 63, &bytes, &len, trail);
    if (rc < 0)
        return rc;
    rc = catalog_current_parse(bytes, len, version_out, trail);
    heap_free(NULL, bytes);
    return rc;
}

static int read_version(struct io *io, const char *dir, uint64_t version, struct arena *arena,
                        struct catalog_image *image_out, struct trail *trail)
{
    char path[4200];
    void *bytes;
    size_t len;
    (void)snprintf(path, sizeof(path), "%s/%" PRIu64 ".catalog", dir, version);
    int rc = read_file(io, path, CATALOG_FILE_BYTES_MAX, &bytes, &len, trail);
    if (rc == PDB_NOT_FOUND)
        return trail_add(trail, PDB_DATA_LOSS,
                         "%s: catalog/CURRENT names this file, but it is missing", path);
    if (rc < 0)
        return rc;
    struct catalog_image image;
    rc = catalog_decode(bytes, len, arena, &image, trail);
    heap_free(NULL, bytes);
    if (rc < 0)
        return trail_add(trail, rc, "%s", path);
    if (image.version != version) {
        catalog_image_dispose(&image);
        return trail_add(trail, PDB_DATA_LOSS, "%s: holds version %" PRIu64, path, image.version);
    }
    *image_out = image;
    return 0;
}

int catalog_read(struct io *io, const char *data_dir, struct arena *arena,
                 struct catalog_image *image_out, struct trail *trail)
{
    char dir[4100];
    if ((size_t)snprintf(dir, sizeof(dir), "%s/catalog", data_dir) > 4000)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "data directory: the path is too long");
    uint64_t version;
    int rc = read_current(io, dir, &version, trail);
    if (rc == 0)
        return read_version(io, dir, version, arena, image_out, trail);
    if (rc != PDB_NOT_FOUND)
        return rc;
    struct listing listing = {0};
    (void)io->ops->list_dir(io, dir, see_name, &listing);
    if (listing.highest == 0)
        return PDB_NOT_FOUND;
    rc = listing.highest > 1 ? PDB_DATA_LOSS : read_version(io, dir, 1, arena, image_out, trail);
    if (rc == 0 && image_out->count == 0 && image_out->dropped_count == 0) {
        catalog_image_dispose(image_out);
        return PDB_NOT_FOUND; /* the very first start was cut off */
    }
    if (rc == 0)
        catalog_image_dispose(image_out);
    return trail_add(trail, PDB_DATA_LOSS,
                     "%s/CURRENT is missing, but version %" PRIu64 " is there", dir,
                     listing.highest);
}

static int save_first(struct io *io, const char *data_dir, const char *dir, struct arena *arena,
                      struct trail *trail)
{
    struct buffer out;
    buffer_init_arena(&out, arena, 0);
    catalog_encode_begin(&out, 0);
    catalog_encode_end(&out, 1, io->ops->realtime_us(io), NULL, 0);
    if (out.failed)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "catalog: out of memory");
    char current[64];
    size_t current_len = catalog_current_format(1, current);
    int rc = io_replace_file(io, dir, "1.catalog", out.ptr, out.len);
    if (rc == 0)
        rc = io_replace_file(io, dir, "CURRENT", current, current_len);
    if (rc == 0)
        rc = (int)io_wait_sync_dir(io, data_dir);
    if (rc == 0)
        return 0;
    return trail_add(trail, engine_errno_code(rc), "%s: the first catalog cannot be written: %s",
                     dir, strerror(-rc));
}

int catalog_load(struct io *io, const char *data_dir, struct arena *arena,
                 struct catalog_image *image_out, struct trail *trail)
{
    char dir[4100], archive[4200];
    (void)snprintf(dir, sizeof(dir), "%s/catalog", data_dir);
    /* A killed process may have left names that are not durable yet. Files of collections that this
     * catalog calls dropped are removed next: an older one must not come back. */
    int rc = (int)io_wait_sync_dir(io, dir);
    if (rc < 0 && rc != -ENOENT)
        return trail_add(trail, engine_errno_code(rc), "%s: cannot be synced: %s", dir,
                         strerror(-rc));
    rc = catalog_read(io, data_dir, arena, image_out, trail);
    if (rc != PDB_NOT_FOUND)
        return rc;
    (void)snprintf(archive, sizeof(archive), "%s/archive", dir);
    if ((rc = make_dir(io, dir, trail)) < 0 || (rc = make_dir(io, archive, trail)) < 0 ||
        (rc = save_first(io, data_dir, dir, arena, trail)) < 0)
        return rc;
    *image_out = (struct catalog_image){.version = 1};
    return 0;
}
