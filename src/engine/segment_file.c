/* segment_file.c: a segment with its two mapped files, and how one is opened at start.
 *
 * The Parquet file is the truth: missing, of another length or damaged, it is damage of the shard.
 * The index is derived: whatever is wrong with it, it is made again from the Parquet file, once,
 * and written back, so that the next start finds it. */
#include "engine/segment_build.h"

#include "base/log.h"
#include "engine/engine_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

static void close_parts(struct segment_file *file)
{
    segment_free(file->segment);
    file_map_close(&file->parquet);
    file_map_close(&file->index);
    file->segment = NULL;
}

void segment_file_unmap(struct segment_file *file)
{
    close_parts(file);
}

void segment_file_close(struct heap *heap, struct segment_file *file)
{
    if (file == NULL)
        return;
    close_parts(file);
    heap_free(heap, file);
}

uint64_t segment_file_heap_bytes(const struct segment_file *file)
{
    return file->heap.bytes_used + (file->index_in_memory ? file->index.len : 0);
}

void segment_file_manifest_entry(const struct segment_file *file, uint64_t schema_version,
                                 struct manifest_segment *entry_out)
{
    const struct segment_stats *stats = &file->stats;
    *entry_out = (struct manifest_segment){.number = stats->number,
                                           .rows = stats->rows,
                                           .parquet_bytes = stats->parquet_bytes,
                                           .index_bytes = file->index.len,
                                           .version_min = stats->version_min,
                                           .version_max = stats->version_max,
                                           .expires_min_us = stats->expires_min_us,
                                           .parquet_crc32c = file->parquet_crc32c,
                                           .schema_version = schema_version,
                                           .origin = file->origin};
}

static int map_file(struct io *io, const struct segment_file_options *options,
                    enum shard_file_kind kind, struct file_map *map_out, struct trail *trail)
{
    char path[SHARD_PATH_MAX];
    shard_files_path(path, options->folder, kind, options->schema.number);
    int rc = file_map_open(
        io, path, kind == SHARD_FILE_PARQUET ? options->parquet_advice : options->index_advice,
        map_out);
    if (rc < 0)
        return trail_add(trail, rc == -ENOENT ? PDB_DATA_LOSS : engine_errno_code(rc),
                         "%s: cannot be mapped: %s", path, strerror(-rc));
    return 0;
}

static int fail_open(const struct segment_file_options *options, int rc, struct trail *trail)
{
    char path[SHARD_PATH_MAX];
    shard_files_path(path, options->folder, SHARD_FILE_PARQUET, options->schema.number);
    return trail_add(trail, rc, "%s", path);
}

static struct segment_open_options open_options(const struct segment_file_options *options,
                                                struct segment_file *file)
{
    return (struct segment_open_options){
        .schema = options->schema,
        .parquet = {file->parquet.ptr, file->parquet.len},
        .index = {file->index.ptr, file->index.len},
        .heap = &file->heap,
    };
}

/* Both maps are there, or the index is empty. */
static int open_segment(const struct segment_file_options *options, struct segment_file *file,
                        bool *index_bad_out, struct trail *trail)
{
    struct segment_open_options how = open_options(options, file);
    *index_bad_out = false;
    int rc = segment_open(&how, &file->segment, index_bad_out, trail);
    if (rc < 0)
        return fail_open(options, rc, trail);
    segment_stats(file->segment, &file->stats);
    return 0;
}

int segment_file_open(struct io *io, const struct segment_file_options *options,
                      struct segment_file *file, bool *index_bad_out, struct trail *trail)
{
    *index_bad_out = false;
    int rc = map_file(io, options, SHARD_FILE_PARQUET, &file->parquet, trail);
    if (rc < 0)
        return rc;
    rc = map_file(io, options, SHARD_FILE_INDEX, &file->index, trail);
    if (rc == PDB_DATA_LOSS)
        *index_bad_out = file->index_was_missing = true;
    else if (rc == 0)
        rc = open_segment(options, file, index_bad_out, trail);
    if (rc < 0)
        close_parts(file);
    return rc;
}

/* ---- at start ---- */

struct index_file {
    struct io *io;
    int file, error; /* error: 0, or the first negative errno */
};

static int put_piece(void *arg, uint64_t offset, const void *bytes, size_t len)
{
    struct index_file *f = arg;
    const char *at = bytes;
    while (len != 0) {
        int64_t wrote = io_wait_write(f->io, f->file, at, len, offset, 0);
        if (wrote == -EINTR || wrote == -EAGAIN)
            continue;
        if (wrote <= 0) {
            f->error = wrote < 0 ? (int)wrote : -EIO;
            return PDB_UNAVAILABLE;
        }
        at += wrote;
        offset += (uint64_t)wrote;
        len -= (size_t)wrote;
    }
    return 0;
}

/* The new index, in the place of the bad one. 0, an error of the Parquet file, or PDB_UNAVAILABLE
 * with *error_out: it cannot be written. */
static int write_new_index(struct io *io, const struct segment_file_options *options,
                           struct segment_file *file, int *error_out, struct trail *trail)
{
    char path[SHARD_PATH_MAX], temporary[SHARD_PATH_MAX + 4];
    struct segment_open_options how = open_options(options, file);
    how.index = (struct segment_bytes){NULL, 0};
    shard_files_path(path, options->folder, SHARD_FILE_INDEX, options->schema.number);
    (void)snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    int64_t opened = io_wait_open(io, temporary, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE);
    struct index_file f = {.io = io, .file = (int)opened};
    *error_out = opened < 0 ? (int)opened : 0;
    if (opened < 0)
        return PDB_UNAVAILABLE;
    int rc = segment_index_rebuild_to(&how, options->hash_seed, put_piece, &f, trail);
    int64_t then = io_wait_close(io, f.file);
    if (rc == 0 && then == 0)
        then = io_wait_rename(io, temporary, path);
    if (rc == 0 && then == 0)
        then = io_wait_sync_dir(io, options->folder);
    if (rc == 0 && then == 0)
        then = file_map_open(io, path, options->index_advice, &file->index);
    if (rc == 0 && then == 0)
        return 0;
    (void)io_wait_unlink(io, temporary);
    *error_out = f.error != 0 ? f.error : (int)then;
    return rc < 0 ? rc : PDB_UNAVAILABLE;
}

static int rebuild_in_memory(const struct segment_file_options *options, struct segment_file *file,
                             struct trail *trail)
{
    struct buffer index;
    buffer_init_heap(&index, NULL, 0); /* it becomes the map's */
    struct segment_open_options how = open_options(options, file);
    how.index = (struct segment_bytes){NULL, 0};
    int rc = segment_index_rebuild(&how, options->hash_seed, &index, trail);
    if (rc < 0) {
        buffer_dispose(&index);
        return rc;
    }
    file_map_of_block(index.ptr, index.len, &file->index);
    file->index_in_memory = true;
    return 0;
}

static int rebuild_index(struct io *io, const struct segment_file_options *options,
                         struct segment_file *file, struct trail *trail)
{
    struct trail why = {0};
    bool index_bad;
    int error, rc = write_new_index(io, options, file, &error, &why);
    if (rc == PDB_UNAVAILABLE) {
        char path[SHARD_PATH_MAX];
        shard_files_path(path, options->folder, SHARD_FILE_INDEX, options->schema.number);
        LOG_WARN("engine", "%s: cannot be written, and is kept in memory: %s", path,
                 strerror(-error));
        rc = rebuild_in_memory(options, file, trail);
    } else if (rc < 0) {
        *trail = why;
    }
    if (rc < 0)
        return fail_open(options, rc, trail);
    return open_segment(options, file, &index_bad, trail);
}

static int load(struct io *io, const struct segment_file_options *options,
                struct segment_file *file, struct trail *trail)
{
    struct trail why = {0};
    bool index_bad;
    int rc = segment_file_open(io, options, file, &index_bad, &why);
    if (rc == 0)
        return 0;
    if (!index_bad) {
        *trail = why;
        return rc;
    }
    LOG_WARN("engine", "%s: its index is made again", why.text);
    file->index_was_bad = !file->index_was_missing;
    rc = map_file(io, options, SHARD_FILE_PARQUET, &file->parquet, trail);
    return rc == 0 ? rebuild_index(io, options, file, trail) : rc;
}

/* What the manifest says of it, and what it is. */
static int compare(const struct segment_file_options *options, const struct segment_file *file,
                   const struct manifest_segment *entry, struct trail *trail)
{
    if (file->parquet.len == entry->parquet_bytes && file->stats.rows == entry->rows &&
        file->stats.version_max <= entry->version_max)
        return 0;
    (void)trail_add(trail, PDB_DATA_LOSS,
                    "%zu bytes and %" PRIu64 " rows; the manifest says %" PRIu64 " and %" PRIu64,
                    file->parquet.len, file->stats.rows, entry->parquet_bytes, entry->rows);
    return fail_open(options, PDB_DATA_LOSS, trail);
}

int segment_load(struct io *io, struct heap *heap, const struct segment_file_options *options,
                 const struct manifest_segment *entry, struct segment_file **file_out,
                 struct trail *trail)
{
    struct segment_file *file = heap_calloc(heap, 1, sizeof(*file));
    if (file == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
    int rc = load(io, options, file, trail);
    if (rc == 0)
        rc = compare(options, file, entry, trail);
    if (rc < 0) {
        segment_file_close(heap, file);
        return rc;
    }
    file->parquet_crc32c = entry->parquet_crc32c;
    file->origin = entry->origin;
    *file_out = file;
    return 0;
}

int segment_load_on_worker(struct io *io, const struct segment_file_options *options,
                           const struct manifest_segment *entry, struct segment_file *file,
                           struct trail *trail)
{
    struct trail why = {0};
    bool index_bad;
    int rc = segment_file_open(io, options, file, &index_bad, &why);
    if (rc < 0 && !index_bad) {
        *trail = why;
        return rc;
    }
    if (rc < 0) {
        rc = map_file(io, options, SHARD_FILE_PARQUET, &file->parquet, trail);
        if (rc == 0)
            rc = rebuild_in_memory(options, file, trail);
        if (rc == 0)
            rc = open_segment(options, file, &index_bad, trail);
    }
    if (rc == 0)
        rc = compare(options, file, entry, trail);
    if (rc < 0)
        close_parts(file);
    file->parquet_crc32c = entry->parquet_crc32c;
    file->origin = entry->origin;
    return rc;
}
