/* copy_folder.c: manifest.json, and the folder around it.
 *
 * A segment never changes, so a copy of its Parquet file is an export; what the file cannot tell is
 * which of its rows were replaced or deleted since, and manifest.json says that. The collection's
 * settings are written by the caller's function: their JSON is the business of a door. */
#include "engine/copy_folder.h"

#include "base/clock.h"
#include "base/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { FORMAT = 1 };

static const char manifest_name[] = "manifest.json";

void copy_folder_init(struct copy_folder *f, struct io *io, const char *path,
                      pdb_describe_fn *describe)
{
    *f = (struct copy_folder){.io = io, .path = path, .describe = describe};
    buffer_init_heap(&f->json, NULL, 0);
}

int copy_folder_make(struct copy_folder *f, struct trail *trail)
{
    if (strlen(f->path) > DATA_DIR_BYTES_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "the folder's name is too long");
    int64_t error = io_wait_make_dir(f->io, f->path);
    if (error < 0)
        return trail_add(trail, error == -EEXIST ? PDB_ALREADY_EXISTS : PDB_UNAVAILABLE, "%s: %s",
                         f->path, strerror((int)-error));
    f->made = true;
    return 0;
}

/* ---- manifest.json ---- */

static void add_time(struct buffer *out, const char *key, int64_t realtime_us)
{
    char text[CLOCK_TEXT_SIZE];
    clock_format_us(realtime_us, text);
    buffer_format(out, "\"%s\":\"%s\"", key, text);
}

void copy_folder_begin(struct copy_folder *f, const struct catalog_entry *entry, uint64_t version)
{
    char uuid[UUID_TEXT_LEN + 1];
    uuid_format(&entry->uuid, uuid);
    buffer_format(&f->json, "{\"format\":%d,\"writer\":\"proximadb %s\",", FORMAT, PDB_VERSION);
    add_time(&f->json, "exported_at", clock_realtime_us());
    buffer_add_lit(&f->json, ",\"collection\":");
    f->describe(&f->json, &entry->config);
    buffer_format(&f->json, ",\"source\":{\"uuid\":\"%s\",", uuid);
    add_time(&f->json, "created_at", entry->created_at_us);
    buffer_add_byte(&f->json, ',');
    add_time(&f->json, "updated_at", entry->updated_at_us);
    buffer_format(&f->json, "},\"version\":%" PRIu64 ",\"segments\":[", version);
}

/* Rows that have ended, as runs: [[first,count],...]. */
static void add_ended(struct buffer *out, const struct manifest_segment *segment)
{
    struct manifest_ended ended;
    uint64_t at;
    uint32_t row, first = 0, count = 0;
    bool any = false;
    manifest_ended_begin(segment, &ended);
    buffer_add_lit(out, ",\"ended\":[");
    for (bool more = true; more;) {
        more = manifest_ended_next(&ended, &row, &at);
        if (more && count != 0 && row == first + count) {
            count++;
            continue;
        }
        if (count != 0) {
            buffer_format(out, "%s[%u,%u]", any ? "," : "", first, count);
            any = true;
        }
        first = more ? row : 0;
        count = more ? 1 : 0;
    }
    buffer_add_byte(out, ']');
}

void copy_folder_segment(struct copy_folder *f, const struct manifest_segment *segment)
{
    char name[SHARD_NAME_MAX];
    shard_files_name(name, SHARD_FILE_PARQUET, segment->number);
    buffer_format(&f->json,
                  "%s\n{\"file\":\"%s\",\"rows\":%" PRIu64 ",\"live_rows\":%" PRIu64
                  ",\"bytes\":%" PRIu64 ",\"crc32c\":\"%08x\",\"versions\":[%" PRIu64 ",%" PRIu64
                  "]",
                  f->segment_count++ != 0 ? "," : "", name, segment->rows,
                  segment->rows - segment->ended_count, segment->parquet_bytes,
                  segment->parquet_crc32c, segment->version_min, segment->version_max);
    add_ended(&f->json, segment);
    buffer_add_byte(&f->json, '}');
    f->rows += segment->rows - segment->ended_count;
    f->bytes += segment->parquet_bytes;
}

int copy_folder_end(struct copy_folder *f, struct trail *trail)
{
    buffer_format(&f->json, "],\"rows\":%" PRIu64 "}\n", f->rows);
    if (f->json.failed)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for manifest.json");
    int error = io_replace_file(f->io, f->path, manifest_name, f->json.ptr, f->json.len);
    if (error < 0)
        return trail_add(trail, PDB_UNAVAILABLE, "%s/%s: %s", f->path, manifest_name,
                         strerror(-error));
    f->finished = true;
    return 0;
}

/* ---- the end ---- */

void copy_folder_dispose(struct copy_folder *f, const struct manifest *manifest)
{
    char path[SHARD_PATH_MAX];
    buffer_dispose(&f->json);
    if (!f->made || f->finished)
        return;
    for (uint32_t i = 0; manifest != NULL && i < manifest->segment_count; i++) {
        shard_files_path(path, f->path, SHARD_FILE_PARQUET, manifest->segments[i].number);
        (void)io_wait_unlink(f->io, path);
    }
    (void)snprintf(path, sizeof(path), "%.4000s/%s", f->path, manifest_name);
    (void)io_wait_unlink(f->io, path);
    (void)io_wait_unlink(f->io, f->path);
}
