/* check_snapshots.c: what lies in snapshots/.
 *
 * Of each one: its list validates; every file that it names is there, of the length and checksum
 * that it says; the manifest of each collection is the one of that version and names the files of
 * the list; as many rows live as the list says. The rows themselves are not read again: a file
 * whose checksum is that of the list is the one that was checked when it was live.
 *
 * An index that is missing or bad is taken out of the list by a repair: a restore makes it again.
 * Another file that is bad makes a snapshot that cannot be restored; nothing here could bring it
 * back. What a crash has left, and files that no list names, are removed by a repair. */
#include "base/crc32c.h"
#include "engine/check_internal.h"
#include "engine/snapshot_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

struct snapshot_check {
    struct check *check;
    struct snapshot_image *image;
    struct snapshot_part *part;
    char folder[SNAPSHOT_FOLDER_MAX]; /* of the snapshot */
    bool changed;                     /* the list is to be written again */
};

static void tell(const struct snapshot_check *c, const char *what)
{
    char text[2048];
    (void)snprintf(text, sizeof(text), "%.1200s: %.700s", c->folder, what);
    check_tell(
        c->check, CHECK_DAMAGE, "snapshot",
        CHECK_BY_HAND("the snapshot cannot be restored, others and live data are not touched; "
                      "delete it with DELETE /v1/snapshots/<name>"),
        text);
}

static void part_folder(const struct snapshot_check *c, char path_out[SNAPSHOT_PATH_MAX])
{
    snapshot_part_folder(path_out, c->folder, &c->part->entry->uuid);
}

/* ---- files ---- */

/* NULL, or what is wrong with it. */
static const char *check_file(const struct snapshot_check *c, const struct snapshot_file *file)
{
    char folder[SNAPSHOT_PATH_MAX], path[SNAPSHOT_PATH_MAX + SHARD_NAME_MAX];
    struct file_map map = {0};
    part_folder(c, folder);
    (void)snprintf(path, sizeof(path), "%s/%s", folder, file->name);
    int rc = file_map_open(c->check->io, path, FILE_MAP_NORMAL, &map);
    if (rc < 0)
        return rc == -ENOENT ? "is missing" : strerror(-rc);
    const char *wrong = NULL;
    if (map.len != file->bytes)
        wrong = "has another length than the list says";
    else if (file_map_populate(&map, 0, map.len) < 0)
        wrong = "cannot be read";
    else if (crc32c(0, map.ptr, map.len) != file->crc32c)
        wrong = "does not fit the checksum in the list";
    file_map_close(&map);
    return wrong;
}

/* Out of the list, and out of the folder. */
static void drop_index(struct snapshot_check *c, uint32_t at)
{
    struct snapshot_part *part = c->part;
    char folder[SNAPSHOT_PATH_MAX], path[SNAPSHOT_PATH_MAX + SHARD_NAME_MAX];
    part_folder(c, folder);
    (void)snprintf(path, sizeof(path), "%s/%s", folder, part->files[at].name);
    (void)io_wait_unlink(c->check->io, path);
    part->file_count--;
    memmove(&part->files[at], &part->files[at + 1],
            (part->file_count - at) * sizeof(part->files[0]));
    c->changed = true;
}

/* True: it was an index and is out of the list now. */
static bool tell_file(struct snapshot_check *c, uint32_t at, const char *wrong)
{
    const struct snapshot_file *file = &c->part->files[at];
    char what[512], text[2048];
    uint64_t number;
    (void)snprintf(what, sizeof(what), "collection '%.*s': %s %.200s",
                   CALL_TEXT(c->part->entry->config.name), file->name, wrong);
    if (shard_files_parse(file->name, &number) != SHARD_FILE_INDEX) {
        tell(c, what);
        return false;
    }
    (void)snprintf(text, sizeof(text), "%.1200s: %.700s", c->folder, what);
    bool repair = c->check->repair;
    check_tell(c->check, repair ? CHECK_MENDED : CHECK_DERIVED, "snapshot_index",
               repair
                   ? "taken out of the list: a restore makes it again"
                   : "a repair takes it out of the list, and a restore makes it again; until then "
                     "the snapshot cannot be restored",
               text);
    if (repair)
        drop_index(c, at);
    return repair;
}

/* ---- the manifest ---- */

static bool is_listed(const struct snapshot_part *part, const struct manifest_segment *segment)
{
    char name[SHARD_NAME_MAX];
    shard_files_name(name, SHARD_FILE_PARQUET, segment->number);
    for (uint32_t i = 1; i < part->file_count; i++)
        if (strcmp(part->files[i].name, name) == 0)
            return part->files[i].bytes == segment->parquet_bytes &&
                   part->files[i].crc32c == segment->parquet_crc32c;
    return false;
}

static void compare_manifest(struct snapshot_check *c, const struct manifest *m)
{
    const struct snapshot_part *part = c->part;
    uint64_t rows = 0;
    uint32_t parquet_count = 0;
    bool ends_agree = true;
    for (uint32_t i = 0; i < m->segment_count; i++) {
        struct manifest_ended ended;
        uint32_t row;
        uint64_t ended_at;
        rows += m->segments[i].rows - m->segments[i].ended_count;
        manifest_ended_begin(&m->segments[i], &ended);
        while (manifest_ended_next(&ended, &row, &ended_at))
            ends_agree = ends_agree && ended_at <= part->version;
        if (!is_listed(part, &m->segments[i]))
            tell(c, "the manifest names a segment that the list does not have, or has another of");
        if (m->segments[i].version_max > part->version)
            tell(c, "a segment has rows that are newer than the snapshot");
    }
    for (uint32_t i = 1; i < part->file_count; i++) {
        uint64_t number;
        parquet_count += shard_files_parse(part->files[i].name, &number) == SHARD_FILE_PARQUET;
    }
    if (parquet_count != m->segment_count)
        tell(c, "the list has a segment that the manifest does not name");
    if (!ends_agree)
        tell(c, "a row has ended behind the snapshot's version");
    if (rows != part->rows)
        tell(c, "not as many rows live as the list says");
}

static void check_manifest(struct snapshot_check *c)
{
    char folder[SNAPSHOT_PATH_MAX];
    struct manifest_file file = {0};
    struct trail trail = {0};
    part_folder(c, folder);
    int rc = manifest_load(c->check->io, folder, &c->part->entry->uuid, 0, &file, &trail);
    if (rc < 0)
        tell(c, rc == PDB_NOT_FOUND ? "a manifest is missing" : trail.text);
    else if (file.manifest.number != SNAPSHOT_NUMBER || file.manifest.version != c->part->version)
        tell(c, "a manifest is that of another snapshot");
    else
        compare_manifest(c, &file.manifest);
    manifest_file_dispose(&file);
}

/* ---- one snapshot ---- */

static void see_file(void *arg, const char *name)
{
    const struct snapshot_check *c = arg;
    char folder[SNAPSHOT_PATH_MAX], text[2048];
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return;
    for (uint32_t i = 0; i < c->part->file_count; i++)
        if (strcmp(name, c->part->files[i].name) == 0)
            return;
    part_folder(c, folder);
    (void)snprintf(text, sizeof(text), "%.1250s/%.255s: the snapshot's list does not name it",
                   folder, name);
    check_tell_leftover(c->check, text);
    if (c->check->repair) {
        (void)snprintf(text, sizeof(text), "%.1250s/%.255s", folder, name);
        (void)io_wait_unlink(c->check->io, text);
    }
}

static void check_part(struct snapshot_check *c)
{
    char folder[SNAPSHOT_PATH_MAX];
    bool manifest_good = true;
    for (uint32_t i = 0; i < c->part->file_count;) {
        const char *wrong = check_file(c, &c->part->files[i]);
        manifest_good = manifest_good && (i != 0 || wrong == NULL);
        if (wrong == NULL || !tell_file(c, i, wrong))
            i++;
    }
    if (manifest_good)
        check_manifest(c);
    part_folder(c, folder);
    (void)c->check->io->ops->list_dir(c->check->io, folder, see_file, c);
}

static void write_list(struct snapshot_check *c)
{
    struct buffer out;
    buffer_init_heap(&out, NULL, SNAPSHOT_LIST_BYTES_MAX);
    struct snapshot_encoder encoder = {0};
    while (!snapshot_encode_step(&encoder, &out, c->image))
        continue;
    int rc = out.failed ? -ENOMEM
                        : io_replace_file(c->check->io, c->folder, "SNAPSHOT", out.ptr, out.len);
    if (rc < 0)
        tell(c, "its list cannot be written again");
    buffer_dispose(&out);
}

static int read_list(struct snapshot_check *c, const char *name, struct trail *trail)
{
    char path[SNAPSHOT_PATH_MAX];
    void *bytes = NULL;
    size_t len = 0;
    (void)snprintf(path, sizeof(path), "%s/SNAPSHOT", c->folder);
    int rc = io_read_file(c->check->io, path, SNAPSHOT_LIST_BYTES_MAX, &bytes, &len);
    if (rc < 0)
        return trail_add(trail, PDB_DATA_LOSS, "SNAPSHOT cannot be read: %s", strerror(-rc));
    rc = snapshot_decode(bytes, len, &c->image, trail);
    heap_free(NULL, bytes);
    if (rc < 0)
        return trail_add(trail, rc, "SNAPSHOT");
    if (c->image->name.len == strlen(name) &&
        memcmp(c->image->name.ptr, name, c->image->name.len) == 0)
        return 0;
    return trail_add(trail, PDB_DATA_LOSS, "SNAPSHOT is that of another one");
}

static void check_snapshot(struct check *check, const char *name)
{
    struct snapshot_check c = {.check = check};
    struct trail trail = {0};
    (void)snprintf(c.folder, sizeof(c.folder), "%.900s/snapshots/%.150s", check->data_dir, name);
    if (read_list(&c, name, &trail) < 0) {
        tell(&c, trail.text);
    } else {
        for (uint32_t i = 0; i < c.image->part_count; i++) {
            c.part = &c.image->parts[i];
            check_part(&c);
        }
        if (c.changed)
            write_list(&c);
    }
    snapshot_image_free(c.image);
}

/* ---- all ---- */

/* As a start does it: what was being restored goes before its mark. */
static void check_mark(struct check *check, const char *path, const char *uuid_text)
{
    char folder[SHARD_FOLDER_MAX], root[SHARD_FOLDER_MAX];
    struct uuid uuid;
    if (check->repair && uuid_parse(uuid_text, strlen(uuid_text), &uuid) == 0 &&
        !check_knows(check, &uuid)) {
        shard_files_root(root, check->data_dir);
        shard_files_folder(folder, check->data_dir, &uuid);
        snapshot_remove_tree(check->io, folder, 1);
        (void)io_wait_sync_dir(check->io, root);
    }
    if (check->repair)
        snapshot_remove_tree(check->io, path, 0);
}

static void see_name(struct check *check, const char *name)
{
    char path[SNAPSHOT_FOLDER_MAX], text[SNAPSHOT_FOLDER_MAX + 64];
    (void)snprintf(path, sizeof(path), "%.900s/snapshots/%.240s", check->data_dir, name);
    switch (snapshot_name_kind(name)) {
    case SNAPSHOT_NAME_GOOD:
        check_snapshot(check, name);
        return;
    case SNAPSHOT_NAME_MARK:
        check_mark(check, path, strchr(name, '-') + 1);
        break;
    case SNAPSHOT_NAME_CUT_OFF:
        if (check->repair)
            snapshot_remove_tree(check->io, path, 2);
        break;
    case SNAPSHOT_NAME_OTHER:
        return;
    }
    (void)snprintf(text, sizeof(text), "%s: it was cut off", path);
    check_tell_leftover(check, text);
}

static void keep_name(void *arg, const char *name)
{
    struct buffer *names = arg;
    if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
        buffer_add(names, name, strlen(name) + 1);
}

void check_snapshots(struct check *check)
{
    char root[SNAPSHOT_FOLDER_MAX];
    struct buffer names;
    (void)snprintf(root, sizeof(root), "%.900s/snapshots", check->data_dir);
    buffer_init_heap(&names, NULL, 0);
    (void)check->io->ops->list_dir(check->io, root, keep_name, &names);
    for (size_t at = 0; !names.failed && at < names.len; at += strlen(names.ptr + at) + 1)
        see_name(check, names.ptr + at);
    buffer_dispose(&names);
}
