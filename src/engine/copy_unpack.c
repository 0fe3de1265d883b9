/* copy_unpack.c: an archive of a snapshot, as it comes, becomes a folder of Parquet files.
 *
 *     SNAPSHOT         in memory: collections, their settings, each file's length and checksum
 *     <uuid>/MANIFEST  in memory: the segments, and which of their rows have ended
 *     <uuid>/<n>.parquet   to the folder, under a name made of n
 *     <uuid>/<n>.index     passed by; other collections, too
 *
 * The order is that of the list (docs/formats/snapshot.md), so at each header it is known what must
 * follow, and a name in a header is only compared. Nothing that the archive claims is allocated
 * before it has come. */
#include <proximadb/copy.h>

#include "base/crc32c.h"
#include "engine/copy_folder.h"
#include "engine/snapshot_format.h"
#include "engine/snapshot_tar.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { EXTENSION_BYTES_MAX = 1 << 20 };

enum unpack_state {
    UNPACK_HEADER, /* collecting a block */
    UNPACK_MEMORY, /* SNAPSHOT or the manifest */
    UNPACK_FILE,   /* a Parquet file */
    UNPACK_SKIP,   /* what is not needed, and what fills blocks */
    UNPACK_ENDED,  /* zeros; anything may follow */
};

struct pdb_unpack {
    struct pdb_unpack_options options;
    struct io *io;
    struct arena arena;
    struct copy_folder folder;
    struct snapshot_image *image;     /* NULL: the list has not come yet */
    const struct snapshot_part *part; /* the collection */
    uint32_t part_at, file_at;        /* what the next header must name */
    struct manifest manifest;
    bool has_manifest;
    uint32_t segment_at; /* the next of the manifest whose file must come */
    enum unpack_state state;
    char block[SNAPSHOT_TAR_BLOCK];
    size_t have;          /* of the block */
    struct buffer memory; /* SNAPSHOT; then the manifest, which stays */
    uint64_t left, skip, at;
    uint32_t crc;
    int file; /* -1: none */
};

/* ---- what a header may announce ---- */

static int wrong(struct trail *trail, const char *why)
{
    return trail_add(trail, PDB_INVALID_ARGUMENT, "archive: %s", why);
}

static int fail_errno(const struct pdb_unpack *u, int64_t result, struct trail *trail)
{
    return trail_add(trail, PDB_UNAVAILABLE, "%s: %s", u->options.folder, strerror((int)-result));
}

static const struct snapshot_file *file_of(const struct pdb_unpack *u)
{
    return &u->image->parts[u->part_at].files[u->file_at];
}

static void skip(struct pdb_unpack *u, uint64_t bytes)
{
    u->skip = bytes;
    u->state = bytes != 0 ? UNPACK_SKIP : UNPACK_HEADER;
}

/* The file under way is complete. */
static void go_past(struct pdb_unpack *u)
{
    if (++u->file_at == u->image->parts[u->part_at].file_count) {
        u->part_at++;
        u->file_at = 0;
    }
}

static int begin_list(struct pdb_unpack *u, const struct snapshot_tar_entry *entry,
                      struct trail *trail)
{
    if (strcmp(entry->name, "SNAPSHOT") != 0 || entry->bytes == 0 ||
        entry->bytes > SNAPSHOT_LIST_BYTES_MAX)
        return wrong(trail, "it does not begin with the list of a snapshot");
    u->left = entry->bytes;
    u->at = 0;
    u->state = UNPACK_MEMORY;
    return 0;
}

/* The manifest names a segment for each of these; the list and it must agree. */
static int begin_segment(struct pdb_unpack *u, uint64_t number, struct trail *trail)
{
    const struct snapshot_file *file = file_of(u);
    char path[SHARD_PATH_MAX];
    if (!u->has_manifest || u->segment_at == u->manifest.segment_count)
        return wrong(trail, "a file that its manifest does not name");
    const struct manifest_segment *segment = &u->manifest.segments[u->segment_at];
    if (segment->number != number || segment->parquet_bytes != file->bytes ||
        segment->parquet_crc32c != file->crc32c)
        return wrong(trail, "its list and its manifest do not agree");
    shard_files_path(path, u->options.folder, SHARD_FILE_PARQUET, number);
    int64_t result = io_wait_open(u->io, path, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_EXCLUSIVE);
    if (result < 0)
        return fail_errno(u, result, trail);
    u->file = (int)result;
    u->state = UNPACK_FILE;
    return 0;
}

static int begin_file(struct pdb_unpack *u, const struct snapshot_tar_entry *entry,
                      struct trail *trail)
{
    if (u->part_at == u->image->part_count)
        return wrong(trail, "more files than its list has");
    const struct snapshot_part *part = &u->image->parts[u->part_at];
    const struct snapshot_file *file = file_of(u);
    char uuid[UUID_TEXT_LEN + 1], name[SNAPSHOT_TAR_NAME_MAX];
    uint64_t number = 0;
    uuid_format(&part->entry->uuid, uuid);
    (void)snprintf(name, sizeof(name), "%s/%s", uuid, file->name);
    if (strcmp(entry->name, name) != 0 || entry->bytes != file->bytes)
        return wrong(trail, "a file that is not the next one of its list");
    u->left = entry->bytes;
    u->at = 0;
    u->crc = 0;
    enum shard_file_kind kind = shard_files_parse(file->name, &number);
    if (part != u->part || kind == SHARD_FILE_INDEX) {
        skip(u, entry->bytes + snapshot_tar_padding(entry->bytes));
        go_past(u);
        return 0;
    }
    if (kind == SHARD_FILE_PARQUET)
        return begin_segment(u, number, trail);
    if (file->bytes > MANIFEST_BYTES_MAX)
        return wrong(trail, "a manifest that is too large");
    buffer_dispose(&u->memory);
    buffer_init_heap(&u->memory, NULL, MANIFEST_BYTES_MAX);
    u->state = UNPACK_MEMORY;
    return 0;
}

static int begin_entry(struct pdb_unpack *u, struct trail *trail)
{
    struct snapshot_tar_entry entry;
    snapshot_tar_decode(u->block, &entry);
    switch (entry.kind) {
    case SNAPSHOT_TAR_FILE:
        return u->image == NULL ? begin_list(u, &entry, trail) : begin_file(u, &entry, trail);
    case SNAPSHOT_TAR_FOLDER:
    case SNAPSHOT_TAR_EXTENSION:
        if (entry.bytes > EXTENSION_BYTES_MAX)
            return wrong(trail, "an extended header that is too long");
        skip(u, entry.bytes + snapshot_tar_padding(entry.bytes));
        return 0;
    case SNAPSHOT_TAR_ZEROS:
        u->state = UNPACK_ENDED;
        return 0;
    case SNAPSHOT_TAR_OTHER:
    case SNAPSHOT_TAR_WRONG:
        break;
    }
    return wrong(trail, entry.kind == SNAPSHOT_TAR_OTHER ? "a link or a device"
                                                         : "no header of a tar archive");
}

/* ---- what has come ---- */

static int take_list(struct pdb_unpack *u, struct trail *trail)
{
    int rc = snapshot_decode(u->memory.ptr, u->memory.len, &u->image, trail);
    if (rc < 0)
        return trail_add(trail, rc, "archive");
    const char *name = u->options.collection;
    for (uint32_t i = 0; i < u->image->part_count; i++) {
        const struct snapshot_part *part = &u->image->parts[i];
        if (name != NULL ? text_equal(part->entry->config.name, text_of(name))
                         : u->image->part_count == 1)
            u->part = part;
    }
    if (u->part == NULL)
        return trail_add(trail, PDB_NOT_FOUND, "archive: collection '%s' is not in it",
                         name != NULL ? name : "");
    copy_folder_begin(&u->folder, u->part->entry, u->part->version);
    return 0;
}

static int take_manifest(struct pdb_unpack *u, struct trail *trail)
{
    if (u->crc != file_of(u)->crc32c)
        return trail_add(trail, PDB_DATA_LOSS, "archive: its manifest does not fit its checksum");
    int rc = manifest_decode(u->memory.ptr, u->memory.len, &u->arena, &u->manifest, trail);
    if (rc < 0)
        return trail_add(trail, rc, "archive: its manifest");
    u->has_manifest = true;
    go_past(u);
    return 0;
}

/* To the end of SNAPSHOT or the manifest. */
static int end_memory(struct pdb_unpack *u, struct trail *trail)
{
    int rc = u->image == NULL ? take_list(u, trail) : take_manifest(u, trail);
    if (rc == 0)
        skip(u, snapshot_tar_padding(u->at));
    return rc;
}

static int end_file(struct pdb_unpack *u, struct trail *trail)
{
    const struct snapshot_file *file = file_of(u);
    int64_t result = io_wait_sync(u->io, u->file);
    int64_t closed = io_wait_close(u->io, u->file);
    u->file = -1;
    if (result < 0 || closed < 0)
        return fail_errno(u, result < 0 ? result : closed, trail);
    if (u->crc != file->crc32c)
        return trail_add(trail, PDB_DATA_LOSS, "archive: %s does not fit its checksum", file->name);
    copy_folder_segment(&u->folder, &u->manifest.segments[u->segment_at++]);
    skip(u, snapshot_tar_padding(file->bytes));
    go_past(u);
    return 0;
}

static int write_all(struct pdb_unpack *u, const char *bytes, size_t len, struct trail *trail)
{
    while (len != 0) {
        int64_t result = io_wait_write(u->io, u->file, bytes, len, u->at, 0);
        if (result == -EINTR || result == -EAGAIN)
            continue;
        if (result <= 0)
            return fail_errno(u, result < 0 ? result : -ENOSPC, trail);
        bytes += result;
        len -= (size_t)result;
        u->at += (uint64_t)result;
    }
    return 0;
}

/* ---- bytes ---- */

/* Each takes at least one byte, or ends what has no bytes left; *used_out: how many. */
static int take_block(struct pdb_unpack *u, const char *bytes, size_t len, size_t *used_out,
                      struct trail *trail)
{
    size_t step = sizeof(u->block) - u->have < len ? sizeof(u->block) - u->have : len;
    memcpy(u->block + u->have, bytes, step);
    u->have += step;
    *used_out = step;
    if (u->have < sizeof(u->block))
        return 0;
    u->have = 0;
    return begin_entry(u, trail);
}

static int take_content(struct pdb_unpack *u, const char *bytes, size_t len, size_t *used_out,
                        struct trail *trail)
{
    size_t step = u->left < len ? (size_t)u->left : len;
    bool file = u->state == UNPACK_FILE;
    int rc = 0;
    u->crc = crc32c(u->crc, bytes, step);
    u->left -= step;
    *used_out = step;
    if (file) {
        rc = write_all(u, bytes, step, trail);
    } else {
        buffer_add(&u->memory, bytes, step);
        u->at += step;
        if (u->memory.failed)
            rc = trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for the archive's list");
    }
    if (rc < 0 || u->left != 0)
        return rc;
    return file ? end_file(u, trail) : end_memory(u, trail);
}

static int take(struct pdb_unpack *u, const char *bytes, size_t len, size_t *used_out,
                struct trail *trail)
{
    switch (u->state) {
    case UNPACK_HEADER:
        return take_block(u, bytes, len, used_out, trail);
    case UNPACK_MEMORY:
    case UNPACK_FILE:
        return take_content(u, bytes, len, used_out, trail);
    case UNPACK_SKIP:
        *used_out = u->skip < len ? (size_t)u->skip : len;
        skip(u, u->skip - *used_out);
        return 0;
    case UNPACK_ENDED:
        break;
    }
    *used_out = len;
    return 0;
}

static int tell(struct pdb_error *error, int rc, const struct trail *trail)
{
    if (rc < 0 && error != NULL) {
        error->code = rc;
        (void)snprintf(error->text, sizeof(error->text), "%s", trail->text);
    }
    return rc;
}

int pdb_unpack_write(struct pdb_unpack *unpack, const void *bytes, size_t len,
                     struct pdb_error *error)
{
    struct trail trail = {0};
    const char *at = bytes;
    int rc = 0;
    while (rc == 0 && len != 0) {
        size_t used = 0;
        rc = take(unpack, at, len, &used, &trail);
        at += used;
        len -= used;
        while (rc == 0 && unpack->left == 0 && unpack->state == UNPACK_FILE) /* an empty one */
            rc = end_file(unpack, &trail);
    }
    return tell(error, rc, &trail);
}

/* ---- life ---- */

int pdb_unpack_open(const struct pdb_unpack_options *options, struct pdb_unpack **unpack_out,
                    struct pdb_error *error)
{
    struct trail trail = {0};
    const char *reason = NULL;
    struct pdb_unpack *u = heap_calloc(NULL, 1, sizeof(*u));
    if (u == NULL)
        return tell(error, trail_add(&trail, PDB_RESOURCE_EXHAUSTED, "no memory"), &trail);
    u->options = *options;
    u->file = -1;
    arena_init(&u->arena, 0);
    buffer_init_heap(&u->memory, NULL, SNAPSHOT_LIST_BYTES_MAX);
    int rc = 0;
    if (io_create(IO_ENGINE_AUTO, &u->io, &reason) < 0)
        rc = trail_add(&trail, PDB_UNAVAILABLE, "no I/O engine: %s",
                       reason != NULL ? reason : "unknown");
    copy_folder_init(&u->folder, u->io, options->folder, options->describe);
    if (rc == 0)
        rc = copy_folder_make(&u->folder, &trail);
    if (rc < 0) {
        pdb_unpack_close(u);
        return tell(error, rc, &trail);
    }
    *unpack_out = u;
    return 0;
}

int pdb_unpack_finish(struct pdb_unpack *unpack, uint64_t *rows_out, struct pdb_error *error)
{
    struct trail trail = {0};
    struct pdb_unpack *u = unpack;
    int rc = 0;
    if (u->image == NULL || u->part_at != u->image->part_count || u->state != UNPACK_ENDED ||
        !u->has_manifest || u->segment_at != u->manifest.segment_count)
        rc = wrong(&trail, "it ends too early");
    if (rc == 0)
        rc = copy_folder_end(&u->folder, &trail);
    if (rc == 0)
        *rows_out = u->folder.rows;
    return tell(error, rc, &trail);
}

void pdb_unpack_close(struct pdb_unpack *unpack)
{
    if (unpack == NULL)
        return;
    if (unpack->file >= 0)
        (void)io_wait_close(unpack->io, unpack->file);
    copy_folder_dispose(&unpack->folder, unpack->has_manifest ? &unpack->manifest : NULL);
    snapshot_image_free(unpack->image);
    buffer_dispose(&unpack->memory);
    arena_dispose(&unpack->arena);
    if (unpack->io != NULL)
        unpack->io->ops->destroy(unpack->io);
    heap_free(NULL, unpack);
}
