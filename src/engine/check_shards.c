/* check_shards.c: what lies in collections/: the manifest of each shard against its files, every
 * page of every segment, and each index against its segment.
 *
 * Damage of a Parquet file or a manifest is only told: nothing here could bring the rows back. An
 * index is made again by a repair, and files that no manifest names are removed; without a repair
 * it is told what one would do. */
#include "base/crc32c.h"
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
    bool index_bad;
};

static const char *severity_of(const struct check *check)
{
    return check->repair ? "removed" : "a repair would remove it";
}

/* ---- one segment ---- */

static void tell_line(void *arg, const char *line)
{
    struct shard_check *c = arg;
    char text[1024];
    (void)snprintf(text, sizeof(text), "%.600s: segment %" PRIu64 ": %.300s", c->folder,
                   c->segment->number, line);
    check_tell(c->check, CHECK_DAMAGE, "segment", text);
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
        check_tell(c->check, CHECK_MENDED, "index", text);
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
                   "%.500s: the index of segment %" PRIu64 " is missing or bad (%.300s); a repair, "
                   "or the next start, makes it again",
                   c->folder, c->segment->number, why);
    check_tell(c->check, CHECK_DERIVED, "index", text);
}

static void check_open(struct shard_check *c, const struct segment_open_options *options)
{
    struct segment *segment = NULL;
    struct trail trail = {0};
    bool index_bad = false;
    int rc = segment_open(options, &segment, &index_bad, &trail);
    if (rc < 0 && index_bad)
        check_index(c, options, trail.text);
    else if (rc < 0)
        tell_line(c, trail.text);
    if (rc < 0)
        return;
    struct segment_stats stats;
    segment_stats(segment, &stats);
    if (stats.rows != c->segment->rows)
        tell_line(c, "its rows are not as many as the manifest says");
    (void)segment_check(segment, tell_line, c, &trail);
    segment_free(segment);
}

static void check_segment(struct shard_check *c)
{
    char parquet_path[SHARD_PATH_MAX], index_path[SHARD_PATH_MAX];
    struct file_map parquet = {0}, index = {0};
    shard_files_path(parquet_path, c->folder, SHARD_FILE_PARQUET, c->segment->number);
    shard_files_path(index_path, c->folder, SHARD_FILE_INDEX, c->segment->number);
    int rc = file_map_open(c->check->io, parquet_path, FILE_MAP_NORMAL, &parquet);
    if (rc < 0) {
        tell_line(c, strerror(-rc));
        return;
    }
    (void)file_map_open(c->check->io, index_path, FILE_MAP_NORMAL, &index);
    struct segment_file_options file;
    part_file_options(
        &file, manifest_segment_is_foreign(c->segment) ? &c->segment->origin : &c->entry->uuid,
        &c->entry->config, c->segment->number);
    struct segment_open_options options = {
        .schema = file.schema,
        .parquet = {parquet.ptr, parquet.len},
        .index = {index.ptr, index.len},
    };
    if (parquet.len != c->segment->parquet_bytes)
        tell_line(c, "the Parquet file has another length than the manifest says");
    else if (crc32c(0, parquet.ptr, parquet.len) != c->segment->parquet_crc32c)
        tell_line(c, "the Parquet file does not fit the checksum in the manifest");
    check_open(c, &options);
    file_map_close(&parquet);
    file_map_close(&index);
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
        ((kind == SHARD_FILE_PARQUET || kind == SHARD_FILE_INDEX) && is_named(l->m, number));
    if (needed)
        return;
    (void)snprintf(text, sizeof(text), "%.600s/%.100s: no manifest names it; %s", l->c->folder,
                   name, severity_of(l->c->check));
    check_tell(l->c->check, l->c->check->repair ? CHECK_MENDED : CHECK_DERIVED, "leftover", text);
}

static void check_files(struct shard_check *c, const struct manifest *m)
{
    struct leftovers leftovers = {c, m};
    struct shard_files_cleaned cleaned = {0};
    struct trail trail = {0};
    (void)c->check->io->ops->list_dir(c->check->io, c->folder, see_file, &leftovers);
    if (c->check->repair)
        (void)shard_files_clean(c->check->io, c->folder, m, &cleaned, &trail);
    for (uint32_t i = 0; i < m->segment_count; i++) {
        c->segment = &m->segments[i];
        check_segment(c);
    }
}

static void check_shard(struct check *check, const struct catalog_entry *entry)
{
    struct trail trail = {0};
    struct manifest_file file = {0};
    struct shard_files_cleaned cleaned = {0};
    char folder[SHARD_FOLDER_MAX];
    shard_files_folder(folder, check->data_dir, &entry->uuid);
    struct shard_check c = {.check = check, .entry = entry, .folder = folder};
    int rc = manifest_load(check->io, folder, &entry->uuid, 0, &file, &trail);
    if (rc == PDB_NOT_FOUND) /* removes nothing but what a cut-off beginning has left */
        rc = check->repair ? shard_files_clean(check->io, folder, NULL, &cleaned, &trail) : 0;
    else if (rc == 0)
        check_files(&c, &file.manifest);
    if (rc < 0)
        check_tell(check, CHECK_DAMAGE, "manifest", trail.text);
    manifest_file_dispose(&file);
}

void check_shards(struct check *check)
{
    for (uint32_t i = 0; i < check->image.count; i++)
        check_shard(check, check->image.entries[i]);
}
