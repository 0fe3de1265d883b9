/* check_shards.c: what lies in collections/: the manifest of each shard against its files, every
 * page of every segment, each index against its segment, the segments of a shard against each
 * other, and folders that belong to nobody.
 *
 * Damage of a Parquet file or a manifest is only told: nothing here could bring the rows back. An
 * index is made again by a repair (one of vectors is removed, and the next start makes it again),
 * and files that no manifest names are removed; without a repair it is told what one would do. */
#include "base/crc32c.h"
#include "engine/ann_file.h"
#include "engine/check_internal.h"
#include "engine/part.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

struct shard_check {
    struct check *check;
    const struct catalog_entry *entry;
    const struct manifest_segment *segment;
    const char *folder;
    struct opened *opened; /* all that could be opened and agree with the manifest */
    uint32_t opened_count;
};

struct opened {
    struct check_rows rows;
    struct segment *segment;
    struct file_map parquet, index;
};

static const char by_hand[] = CHECK_BY_HAND(
    "its collection takes no writes and answers with DATA_LOSS; put the file back, or "
    "restore the collection from a snapshot");

/* ---- one segment ---- */

static void tell_line(void *arg, const char *line)
{
    struct shard_check *c = arg;
    char text[1024];
    (void)snprintf(text, sizeof(text), "%.600s: segment %" PRIu64 ": %.300s", c->folder,
                   c->segment->number, line);
    check_tell(c->check, CHECK_DAMAGE, "segment", by_hand, text);
}

static void tell_rows(void *arg, const char *line)
{
    struct shard_check *c = arg;
    char text[1024];
    (void)snprintf(text, sizeof(text), "%.600s: %.400s", c->folder, line);
    check_tell(c->check, CHECK_DAMAGE, "rows",
               CHECK_BY_HAND("searches may find a row twice, or one that was replaced; restore the "
                             "collection from a snapshot"),
               text);
}

static int write_index(struct shard_check *c, const struct buffer *index)
{
    char name[SHARD_NAME_MAX];
    shard_files_name(name, SHARD_FILE_INDEX, c->segment->number);
    return io_replace_file(c->check->io, c->folder, name, index->ptr, index->len);
}

static void rebuild(struct shard_check *c, const struct segment_open_options *options)
{
    struct trail trail = {0};
    struct buffer index;
    char text[1024];
    uint64_t seed;
    buffer_init_heap(&index, NULL, 0);
    c->check->io->ops->random(c->check->io, &seed, sizeof(seed));
    int rc = segment_index_rebuild(options, seed, &index, &trail);
    if (rc == 0 && write_index(c, &index) < 0)
        rc = trail_add(&trail, PDB_UNAVAILABLE, "the new index cannot be written");
    if (rc < 0) {
        tell_line(c, trail.text);
    } else {
        (void)snprintf(text, sizeof(text),
                       "%.600s: the index of segment %" PRIu64 " was made again", c->folder,
                       c->segment->number);
        check_tell(c->check, CHECK_MENDED, "index", "made again from the Parquet file", text);
    }
    buffer_dispose(&index);
}

static void check_index(struct shard_check *c, const struct segment_open_options *options,
                        const char *why)
{
    char text[1024];
    if (c->check->repair) {
        rebuild(c, options);
        return;
    }
    (void)snprintf(text, sizeof(text),
                   "%.500s: the index of segment %" PRIu64 " is missing or bad (%.300s)", c->folder,
                   c->segment->number, why);
    check_tell(c->check, CHECK_DERIVED, "index",
               "a repair makes it again from the Parquet file, and so does the next start", text);
}

/* What the manifest says of a segment. */
static bool check_numbers(struct shard_check *c, const struct segment *segment)
{
    const struct manifest_segment *m = c->segment;
    struct segment_stats stats;
    segment_stats(segment, &stats);
    if (stats.rows != m->rows)
        tell_line(c, "its rows are not as many as the manifest says");
    else if (stats.version_min != m->version_min || stats.version_max != m->version_max)
        tell_line(c, "its versions are not those that the manifest says");
    else if (stats.expires_min_us != m->expires_min_us)
        tell_line(c, "its rows expire at another time than the manifest says");
    else
        return true;
    return false;
}

/* True: it agrees with all there is to compare it with, and is kept open in `o`. */
static bool check_open(struct shard_check *c, const struct segment_open_options *options,
                       struct opened *o)
{
    struct trail trail = {0};
    bool index_bad = false;
    int rc = segment_open(options, &o->segment, &index_bad, &trail);
    if (rc < 0 && index_bad)
        check_index(c, options, trail.text);
    else if (rc < 0)
        tell_line(c, trail.text);
    if (rc < 0)
        return false;
    bool good = check_numbers(c, o->segment);
    rc = segment_check(o->segment, tell_line, c, &trail);
    if (rc < 0 && rc != PDB_DATA_LOSS)
        tell_line(c, trail.text);
    o->rows = (struct check_rows){.segment = o->segment, .entry = c->segment};
    return good && rc == 0;
}

static void close_segment(struct opened *o)
{
    segment_free(o->segment);
    file_map_close(&o->parquet);
    file_map_close(&o->index);
    *o = (struct opened){0};
}

/* Only what was read and is bad goes: a disk or memory that failed says nothing of the file. */
static void tell_ann(struct shard_check *c, uint32_t field, int rc, const char *why)
{
    char text[1024], name[SHARD_NAME_MAX], path[SHARD_PATH_MAX];
    bool bad = rc == PDB_DATA_LOSS || rc == PDB_FAILED_PRECONDITION;
    bool repair = bad && c->check->repair;
    const char *action = bad ? "the next start makes it again from the vectors"
                             : "left as it is: it could not be read; check again";
    shard_files_ann_name(name, c->segment->number, field);
    shard_files_ann_path(path, c->folder, c->segment->number, field);
    if (repair)
        repair = io_wait_unlink(c->check->io, path) == 0;
    if (repair)
        action = "removed: the next start makes it again from the vectors";
    (void)snprintf(text, sizeof(text), "%.500s/%.60s: %.400s", c->folder, name, why);
    check_tell(c->check, repair ? CHECK_MENDED : CHECK_DERIVED, "index", action, text);
}

/* Those that are there: a missing one may never have been wanted. */
static void check_anns(struct shard_check *c, const struct segment *segment)
{
    struct ann_identity of = {.collection = c->entry->uuid,
                              .segment = c->segment->number,
                              .parquet_bytes = c->segment->parquet_bytes,
                              .parquet_crc32c = c->segment->parquet_crc32c};
    for (of.field = 0; of.field < c->entry->config.field_count; of.field++) {
        struct trail trail = {0};
        of.vector_count = segment_vector_count(segment, of.field);
        of.metric = c->entry->config.fields[of.field].metric;
        of.dimension = c->entry->config.fields[of.field].dimension;
        int rc = ann_file_check(c->check->io, c->folder, &of, &trail);
        if (rc < 0 && rc != PDB_NOT_FOUND)
            tell_ann(c, of.field, rc, trail.text);
    }
}

static void check_segment(struct shard_check *c)
{
    char parquet_path[SHARD_PATH_MAX], index_path[SHARD_PATH_MAX];
    struct opened *o = &c->opened[c->opened_count];
    shard_files_path(parquet_path, c->folder, SHARD_FILE_PARQUET, c->segment->number);
    shard_files_path(index_path, c->folder, SHARD_FILE_INDEX, c->segment->number);
    int rc = file_map_open(c->check->io, parquet_path, FILE_MAP_NORMAL, &o->parquet);
    if (rc < 0) {
        tell_line(c, strerror(-rc));
        return;
    }
    (void)file_map_open(c->check->io, index_path, FILE_MAP_NORMAL, &o->index);
    struct segment_file_options file;
    part_file_options(
        &file, manifest_segment_is_foreign(c->segment) ? &c->segment->origin : &c->entry->uuid,
        &c->entry->config, c->segment->number);
    struct segment_open_options options = {
        .schema = file.schema,
        .parquet = {o->parquet.ptr, o->parquet.len},
        .index = {o->index.ptr, o->index.len},
    };
    if (o->parquet.len != c->segment->parquet_bytes)
        tell_line(c, "the Parquet file has another length than the manifest says");
    else if (crc32c(0, o->parquet.ptr, o->parquet.len) != c->segment->parquet_crc32c)
        tell_line(c, "the Parquet file does not fit the checksum in the manifest");
    bool good = check_open(c, &options, o);
    if (o->segment != NULL)
        check_anns(c, o->segment);
    if (good)
        c->opened_count++;
    else
        close_segment(o);
}

/* ---- one shard ---- */

struct leftovers {
    struct shard_check *c;
    const struct manifest *m;
};

static bool is_named(const struct manifest *m, uint64_t number)
{
    for (uint32_t i = 0; m != NULL && i < m->segment_count; i++)
        if (m->segments[i].number == number)
            return true;
    return false;
}

static void see_file(void *arg, const char *name)
{
    struct leftovers *l = arg;
    uint64_t number;
    char text[1024];
    enum shard_file_kind kind = shard_files_parse(name, &number);
    bool needed =
        kind == SHARD_FILE_OTHER || (kind == SHARD_FILE_MANIFEST && number == l->m->number) ||
        ((kind == SHARD_FILE_PARQUET || kind == SHARD_FILE_INDEX || kind == SHARD_FILE_ANN) &&
         is_named(l->m, number));
    if (needed)
        return;
    (void)snprintf(text, sizeof(text), "%.600s/%.100s: no manifest names it", l->c->folder, name);
    check_tell_leftover(l->c->check, text);
}

static int compare_rows(struct shard_check *c, uint64_t version)
{
    struct check_rows *rows = heap_calloc(NULL, (size_t)c->opened_count + 1, sizeof(*rows));
    if (rows == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t i = 0; i < c->opened_count; i++)
        rows[i] = c->opened[i].rows;
    int rc = check_rows(rows, c->opened_count, version, tell_rows, c);
    heap_free(NULL, rows);
    return rc;
}

static void check_segments(struct shard_check *c, const struct manifest *m)
{
    c->opened = heap_calloc(NULL, (size_t)m->segment_count + 1, sizeof(*c->opened));
    if (c->opened == NULL) {
        tell_rows(c, "no memory for its segments");
        return;
    }
    for (uint32_t i = 0; i < m->segment_count; i++) {
        c->segment = &m->segments[i];
        check_segment(c);
    }
    if (c->opened_count == m->segment_count && compare_rows(c, m->version) < 0)
        tell_rows(c, "no memory to compare its segments");
    for (uint32_t i = 0; i < c->opened_count; i++)
        close_segment(&c->opened[i]);
    heap_free(NULL, c->opened);
}

static void check_files(struct shard_check *c, const struct manifest *m)
{
    struct leftovers leftovers = {c, m};
    struct shard_files_cleaned cleaned = {0};
    struct trail trail = {0};
    (void)c->check->io->ops->list_dir(c->check->io, c->folder, see_file, &leftovers);
    if (c->check->repair)
        (void)shard_files_clean(c->check->io, c->folder, m, &cleaned, &trail);
    check_segments(c, m);
}

/* The version that its manifest says, UINT64_MAX: none can be read. */
static uint64_t check_shard(struct check *check, const struct catalog_entry *entry)
{
    struct trail trail = {0};
    struct manifest_file file = {0};
    struct shard_files_cleaned cleaned = {0};
    char folder[SHARD_FOLDER_MAX];
    shard_files_folder(folder, check->data_dir, &entry->uuid);
    struct shard_check c = {.check = check, .entry = entry, .folder = folder};
    int rc = manifest_load(check->io, folder, &entry->uuid, 0, &file, &trail);
    uint64_t version = rc == 0 ? file.manifest.version : 0;
    if (rc == PDB_NOT_FOUND) { /* removes nothing but what a cut-off beginning has left */
        rc = check_has_records(check, &entry->uuid)
                 ? 0
                 : shard_witness_check(check->io, check->data_dir, &entry->uuid, &trail);
        if (rc == 0 && check->repair)
            rc = shard_files_clean(check->io, folder, NULL, &cleaned, &trail);
    } else if (rc == 0) {
        check_files(&c, &file.manifest);
    }
    if (rc < 0)
        check_tell(check, CHECK_DAMAGE, "manifest",
                   CHECK_BY_HAND("the start is refused; put the folder back, or restore the "
                                 "collection from a snapshot in another data directory"),
                   trail.text);
    manifest_file_dispose(&file);
    return rc < 0 ? UINT64_MAX : version;
}

/* ---- folders of nobody ---- */

static enum shard_files_known known(void *arg, const struct uuid *uuid)
{
    const struct check *check = arg;
    for (uint32_t i = 0; i < check->image.dropped_count; i++)
        if (uuid_equal(&check->image.dropped[i], uuid))
            return SHARD_FILES_DROPPED;
    return check_knows(check, uuid) ? SHARD_FILES_LIVE : SHARD_FILES_UNKNOWN;
}

/* A restore that was cut off has left it. */
static bool is_being_restored(const struct check *check, const char *name)
{
    char path[SHARD_PATH_MAX];
    (void)snprintf(path, sizeof(path), "%.4000s/snapshots/.restore-%.40s", check->data_dir, name);
    int64_t file = io_wait_open(check->io, path, IO_OPEN_READ | IO_OPEN_DIRECTORY);
    if (file >= 0)
        (void)io_wait_close(check->io, (int)file);
    return file >= 0;
}

static void check_folder(struct check *check, const char *name, const struct uuid *uuid)
{
    char text[1024];
    enum shard_files_known answer = known(check, uuid);
    if (answer == SHARD_FILES_LIVE || is_being_restored(check, name))
        return;
    (void)snprintf(text, sizeof(text), "%.800s/collections/%.40s: %s", check->data_dir, name,
                   answer == SHARD_FILES_DROPPED ? "its collection was dropped"
                                                 : "the catalog does not know this collection");
    if (answer == SHARD_FILES_DROPPED)
        check_tell_leftover(check, text);
    else
        check_tell(check, CHECK_DAMAGE, "unknown_folder",
                   CHECK_BY_HAND("no start touches it; put the catalog back that knows it, or "
                                 "remove it"),
                   text);
}

static void keep_folder(void *arg, const char *name)
{
    struct buffer *names = arg;
    struct uuid uuid;
    if (uuid_parse(name, strlen(name), &uuid) == 0)
        buffer_add(names, name, strlen(name) + 1);
}

static void check_folders(struct check *check)
{
    char root[SHARD_FOLDER_MAX];
    struct buffer names;
    struct uuid uuid;
    struct shard_files_cleaned cleaned = {0};
    struct trail trail = {0};
    shard_files_root(root, check->data_dir);
    buffer_init_heap(&names, NULL, 0);
    (void)check->io->ops->list_dir(check->io, root, keep_folder, &names);
    for (size_t at = 0; !names.failed && at < names.len; at += strlen(names.ptr + at) + 1)
        if (uuid_parse(names.ptr + at, strlen(names.ptr + at), &uuid) == 0)
            check_folder(check, names.ptr + at, &uuid);
    buffer_dispose(&names);
    if (check->repair)
        (void)shard_files_sweep(check->io, check->data_dir, known, check, &cleaned, &trail);
}

void check_shards(struct check *check)
{
    for (uint32_t i = 0; i < check->image.count; i++) {
        uint64_t version = check_shard(check, check->image.entries[i]);
        if (check->versions != NULL)
            check->versions[i] = version;
    }
    check_folders(check);
}
