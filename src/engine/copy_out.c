/* copy_out.c: segments of a closed data directory, copied as they are.
 *
 * A segment never changes, so a copy of its Parquet file is an export; what the file cannot tell is
 * which of its rows were replaced or deleted since, and manifest.json says that. Rows that are only
 * in the log would be missing without a word, so they refuse the copy. manifest.json comes last: a
 * folder without it is unfinished. */
#include <proximadb/copy.h>

#include "base/crc32c.h"
#include "base/json.h"
#include "engine/catalog.h"
#include "engine/engine_internal.h"
#include "engine/shard_files.h"
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
    struct buffer json;
    uint64_t rows, bytes; /* copied; rows that have ended do not count */
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

/* ---- manifest.json ---- */

static void add_names(struct buffer *out, const struct pdb_collection_config *config)
{
    static const char *const metrics[] = {"unspecified", "cosine",    "dot",
                                          "euclidean",   "manhattan", "hamming"};
    static const char *const types[] = {"unspecified", "string",   "integer",  "float",
                                        "boolean",     "datetime", "string[]", "integer[]",
                                        "float[]",     "geo",      "text"};
    buffer_add_lit(out, ",\"fields\":[");
    for (uint32_t i = 0; i < config->field_count; i++) {
        buffer_add_text(out, i != 0 ? TEXT_LIT(",{\"name\":") : TEXT_LIT("{\"name\":"));
        json_write_string(out, config->fields[i].name);
        buffer_format(out, ",\"dimension\":%u,\"metric\":\"%s\"}", config->fields[i].dimension,
                      metrics[config->fields[i].metric]);
    }
    buffer_add_lit(out, "],\"columns\":[");
    for (uint32_t i = 0; i < config->column_count; i++) {
        buffer_add_text(out, i != 0 ? TEXT_LIT(",{\"name\":") : TEXT_LIT("{\"name\":"));
        json_write_string(out, config->columns[i].name);
        buffer_format(out, ",\"type\":\"%s\"}", types[config->columns[i].type]);
    }
    buffer_add_byte(out, ']');
}

static void begin_json(struct copy *c)
{
    char uuid[UUID_TEXT_LEN + 1];
    uuid_format(&c->entry->uuid, uuid);
    buffer_add_lit(&c->json, "{\"format\":1,\"collection\":{\"name\":");
    json_write_string(&c->json, c->entry->config.name);
    buffer_format(&c->json, ",\"uuid\":\"%s\"", uuid);
    add_names(&c->json, &c->entry->config);
    buffer_format(&c->json, "},\"version\":%" PRIu64 ",\"segments\":[",
                  c->manifest.manifest.version);
}

/* Rows that have ended, as runs: [[first,count],...]. */
static void add_ended(struct copy *c, const struct manifest_segment *segment)
{
    struct manifest_ended ended;
    uint64_t at;
    uint32_t row, first = 0, count = 0;
    bool any = false;
    manifest_ended_begin(segment, &ended);
    buffer_add_lit(&c->json, ",\"ended\":[");
    for (bool more = true; more;) {
        more = manifest_ended_next(&ended, &row, &at);
        if (more && count != 0 && row == first + count) {
            count++;
            continue;
        }
        if (count != 0) {
            buffer_format(&c->json, "%s[%u,%u]", any ? "," : "", first, count);
            any = true;
        }
        first = more ? row : 0;
        count = more ? 1 : 0;
    }
    buffer_add_byte(&c->json, ']');
}

static void add_segment(struct copy *c, const struct manifest_segment *segment, const char *name,
                        bool first)
{
    buffer_format(
        &c->json,
        "%s{\"file\":\"%s\",\"rows\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"crc32c\":\"%08x\"",
        first ? "" : ",", name, segment->rows, segment->parquet_bytes, segment->parquet_crc32c);
    add_ended(c, segment);
    buffer_add_byte(&c->json, '}');
}

/* ---- files ---- */

static int write_file(const struct copy *c, const char *name, const void *bytes, size_t len,
                      struct trail *trail)
{
    int error = io_replace_file(c->io, c->options->folder, name, bytes, len);
    return error == 0 ? 0
                      : trail_add(trail, PDB_UNAVAILABLE, "%s/%s: %s", c->options->folder, name,
                                  strerror(-error));
}

static int copy_segment(struct copy *c, const char *folder, const struct manifest_segment *segment,
                        bool first, struct trail *trail)
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
    if (rc == 0)
        rc = write_file(c, name, map.ptr, map.len, trail);
    file_map_close(&map);
    if (rc < 0)
        return rc;
    add_segment(c, segment, name, first);
    c->rows += segment->rows - segment->ended_count;
    c->bytes += segment->parquet_bytes;
    if (c->options->progress != NULL)
        c->options->progress(c->options->arg, c->rows, c->bytes);
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
    int64_t error = io_wait_make_dir(c->io, c->options->folder);
    if (error < 0)
        return trail_add(trail, error == -EEXIST ? PDB_ALREADY_EXISTS : PDB_UNAVAILABLE, "%s: %s",
                         c->options->folder, strerror((int)-error));
    const struct manifest *m = &c->manifest.manifest;
    begin_json(c);
    for (uint32_t i = 0; i < m->segment_count && rc == 0; i++)
        rc = copy_segment(c, folder, &m->segments[i], i == 0, trail);
    buffer_format(&c->json, "],\"rows\":%" PRIu64 "}\n", c->rows);
    if (rc == 0 && c->json.failed)
        rc = trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for manifest.json");
    return rc < 0 ? rc : write_file(c, "manifest.json", c->json.ptr, c->json.len, trail);
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
        buffer_init_heap(&c.json, NULL, 0);
        rc = copy_all(&c, &trail);
        manifest_file_dispose(&c.manifest);
        catalog_image_dispose(&c.image);
        buffer_dispose(&c.json);
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
