/* shard_files.c: the names in collections/, and what is done with them at start. shard_remove.c has
 * what is done later.
 *
 * The rules of cleaning up, all for the same reason (nothing may go that could be the only copy of
 * an acknowledged row):
 *
 *   *.tmp                       goes: it never had its name
 *   a segment, not named by the manifest    goes: made and never published, or already replaced
 *   an index of its vectors                 goes with it
 *   a segment, and no manifest at all       refuses the start: a folder is begun with a manifest,
 *                                           so it was lost
 *   a manifest below the highest            goes: a higher one appeared only when it was durable
 *   a folder of a dropped collection        goes: the catalog that says so is durable
 *   a folder that the catalog does not know stays, with a warning
 *   any other name                          stays
 *   a witness of a dropped collection       goes
 *   one of a collection that the catalog does not know    goes if there is no folder either
 *
 * A named segment whose Parquet file is missing refuses the start; a missing index is made again.
 */
#include "engine/shard_files.h"

#include "base/log.h"
#include "engine/engine_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

/* ---- names ---- */

void shard_files_root(char path_out[SHARD_FOLDER_MAX], const char *data_dir)
{
    (void)snprintf(path_out, SHARD_FOLDER_MAX, "%.4000s/collections", data_dir);
}

void shard_files_folder(char path_out[SHARD_FOLDER_MAX], const char *data_dir,
                        const struct uuid *collection)
{
    char text[UUID_TEXT_LEN + 1];
    uuid_format(collection, text);
    (void)snprintf(path_out, SHARD_FOLDER_MAX, "%.4000s/collections/%s", data_dir, text);
}

void shard_files_name(char name_out[SHARD_NAME_MAX], enum shard_file_kind kind, uint64_t number)
{
    switch (kind) {
    case SHARD_FILE_MANIFEST:
        (void)snprintf(name_out, SHARD_NAME_MAX, "MANIFEST-%010" PRIu64, number);
        break;
    case SHARD_FILE_PARQUET:
        (void)snprintf(name_out, SHARD_NAME_MAX, "%010" PRIu64 ".parquet", number);
        break;
    case SHARD_FILE_INDEX:
        (void)snprintf(name_out, SHARD_NAME_MAX, "%010" PRIu64 ".index", number);
        break;
    case SHARD_FILE_ANN:
    case SHARD_FILE_OTHER:
    case SHARD_FILE_TEMPORARY:
        name_out[0] = '\0';
        break;
    }
}

void shard_files_path(char path_out[SHARD_PATH_MAX], const char *folder, enum shard_file_kind kind,
                      uint64_t number)
{
    char name[SHARD_NAME_MAX];
    shard_files_name(name, kind, number);
    (void)snprintf(path_out, SHARD_PATH_MAX, "%.4095s/%s", folder, name);
}

void shard_files_ann_name(char name_out[SHARD_NAME_MAX], uint64_t number, uint32_t field)
{
    (void)snprintf(name_out, SHARD_NAME_MAX, "%010" PRIu64 "-%" PRIu32 ".ann", number, field);
}

void shard_files_ann_path(char path_out[SHARD_PATH_MAX], const char *folder, uint64_t number,
                          uint32_t field)
{
    char name[SHARD_NAME_MAX];
    shard_files_ann_name(name, number, field);
    (void)snprintf(path_out, SHARD_PATH_MAX, "%.4095s/%s", folder, name);
}

/* False: too large, or none. */
static bool take_number(const char **digits, uint64_t *number_out)
{
    const char *at = *digits;
    uint64_t number = 0;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
            return false;
    *number_out = number;
    bool any = at != *digits;
    *digits = at;
    return any;
}

bool shard_files_parse_ann(const char *name, uint64_t *number_out, uint32_t *field_out)
{
    char expected[SHARD_NAME_MAX];
    const char *at = name;
    uint64_t number, field;
    if (!take_number(&at, &number) || *at++ != '-' || !take_number(&at, &field) || number == 0 ||
        field >= PDB_FIELD_MAX)
        return false;
    shard_files_ann_name(expected, number, (uint32_t)field);
    *number_out = number;
    *field_out = (uint32_t)field;
    return strcmp(name, expected) == 0;
}

/* Reads the number at `digits` and says whether the whole name is the one that is made of it. */
static bool is_named(const char *name, const char *digits, enum shard_file_kind kind,
                     uint64_t *number_out)
{
    char expected[SHARD_NAME_MAX];
    uint64_t number;
    if (!take_number(&digits, &number))
        return false;
    shard_files_name(expected, kind, number);
    *number_out = number;
    return number != 0 && strcmp(name, expected) == 0;
}

static enum shard_file_kind parse_final(const char *name, uint64_t *number_out)
{
    static const char manifest[] = "MANIFEST-";
    uint32_t field;
    if (strncmp(name, manifest, sizeof(manifest) - 1) == 0)
        return is_named(name, name + sizeof(manifest) - 1, SHARD_FILE_MANIFEST, number_out)
                   ? SHARD_FILE_MANIFEST
                   : SHARD_FILE_OTHER;
    if (is_named(name, name, SHARD_FILE_PARQUET, number_out))
        return SHARD_FILE_PARQUET;
    if (is_named(name, name, SHARD_FILE_INDEX, number_out))
        return SHARD_FILE_INDEX;
    return shard_files_parse_ann(name, number_out, &field) ? SHARD_FILE_ANN : SHARD_FILE_OTHER;
}

enum shard_file_kind shard_files_parse(const char *name, uint64_t *number_out)
{
    char stem[SHARD_NAME_MAX];
    size_t len = strlen(name);
    uint64_t number = 0;
    enum shard_file_kind kind = parse_final(name, &number);
    if (kind == SHARD_FILE_OTHER && len > 4 && len - 4 < sizeof(stem) &&
        strcmp(name + len - 4, ".tmp") == 0) {
        memcpy(stem, name, len - 4);
        stem[len - 4] = '\0';
        if (parse_final(stem, &number) != SHARD_FILE_OTHER)
            kind = SHARD_FILE_TEMPORARY;
    }
    *number_out = kind == SHARD_FILE_OTHER || kind == SHARD_FILE_TEMPORARY ? 0 : number;
    return kind;
}

/* ---- listings ---- */

/* A folder's names, NUL-terminated one after the other: it must not change while it is read. */
static void keep_name(void *arg, const char *name)
{
    struct buffer *names = arg;
    if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
        buffer_add(names, name, strlen(name) + 1);
}

/* 0 also for a missing folder. */
static int list_names(struct io *io, const char *folder, struct buffer *names_out,
                      struct trail *trail)
{
    buffer_init_heap(names_out, NULL, 0);
    int rc = io->ops->list_dir(io, folder, keep_name, names_out);
    if (rc == 0 && names_out->failed)
        rc = -ENOMEM;
    if (rc == 0 || rc == -ENOENT)
        return 0;
    buffer_dispose(names_out);
    return trail_add(trail, engine_errno_code(rc), "%s: cannot be listed: %s", folder,
                     strerror(-rc));
}

static const char *next_name(const struct buffer *names, size_t *at)
{
    if (*at >= names->len)
        return NULL;
    const char *name = names->ptr + *at;
    *at += strlen(name) + 1;
    return name;
}

static void remove_file(struct io *io, const char *folder, const char *name, uint32_t *count,
                        struct shard_files_cleaned *cleaned)
{
    char path[SHARD_FOLDER_MAX + 300];
    (void)snprintf(path, sizeof(path), "%.4095s/%.255s", folder, name);
    int64_t result = io_wait_unlink(io, path);
    if (result == 0) {
        ++*count;
    } else if (result != -ENOENT) {
        cleaned->failed++;
        LOG_WARN("engine", "%s: cannot be removed: %s", path, strerror((int)-result));
    }
}

/* ---- at start ---- */

int shard_files_make_root(struct io *io, const char *data_dir, struct trail *trail)
{
    char path[SHARD_FOLDER_MAX];
    shard_files_root(path, data_dir);
    int64_t result = io_wait_make_dir(io, path);
    if (result == 0 || result == -EEXIST)
        result = io_wait_sync_dir(io, data_dir);
    if (result < 0)
        return trail_add(trail, engine_errno_code(result), "%s: cannot be made: %s", path,
                         strerror((int)-result));
    return 0;
}

static bool names_segment(const struct manifest *m, uint64_t number)
{
    uint32_t low = 0, high = m->segment_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (m->segments[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < m->segment_count && m->segments[low].number == number;
}

/* Every named Parquet file is among the names, and without a manifest there is none. */
static int check_names(const char *folder, const struct buffer *names, const struct manifest *m,
                       struct trail *trail)
{
    uint64_t number;
    uint32_t found = 0;
    const char *name;
    for (size_t at = 0; (name = next_name(names, &at)) != NULL;) {
        enum shard_file_kind kind = shard_files_parse(name, &number);
        if (kind != SHARD_FILE_PARQUET)
            continue;
        if (m == NULL)
            return trail_add(trail, PDB_DATA_LOSS, "%s: has %s, but its manifest is missing",
                             folder, name);
        found += names_segment(m, number);
    }
    for (uint32_t i = 0; m != NULL && found < m->segment_count && i < m->segment_count; i++) {
        char path[SHARD_NAME_MAX];
        bool there = false;
        shard_files_name(path, SHARD_FILE_PARQUET, m->segments[i].number);
        for (size_t at = 0; !there && (name = next_name(names, &at)) != NULL;)
            there = strcmp(name, path) == 0;
        if (!there)
            return trail_add(trail, PDB_DATA_LOSS,
                             "%s/%s: the manifest names this file, but it is missing", folder,
                             path);
    }
    return 0;
}

static void clean_name(struct io *io, const char *folder, const char *name,
                       const struct manifest *m, struct shard_files_cleaned *cleaned)
{
    uint64_t number;
    switch (shard_files_parse(name, &number)) {
    case SHARD_FILE_TEMPORARY:
        remove_file(io, folder, name, &cleaned->temporaries, cleaned);
        break;
    case SHARD_FILE_MANIFEST:
        if (m != NULL && number < m->number)
            remove_file(io, folder, name, &cleaned->manifests, cleaned);
        break;
    case SHARD_FILE_PARQUET:
    case SHARD_FILE_INDEX:
    case SHARD_FILE_ANN:
        if (m == NULL || !names_segment(m, number))
            remove_file(io, folder, name, &cleaned->segments, cleaned);
        break;
    case SHARD_FILE_OTHER:
        break;
    }
}

int shard_files_clean(struct io *io, const char *folder, const struct manifest *m,
                      struct shard_files_cleaned *cleaned, struct trail *trail)
{
    struct buffer names;
    int rc = list_names(io, folder, &names, trail);
    if (rc < 0)
        return rc;
    rc = check_names(folder, &names, m, trail);
    const char *name;
    for (size_t at = 0; rc == 0 && (name = next_name(&names, &at)) != NULL;)
        clean_name(io, folder, name, m, cleaned);
    buffer_dispose(&names);
    return rc;
}

/* A dropped collection's folder. */
static int remove_folder(struct io *io, const char *folder, struct shard_files_cleaned *cleaned,
                         struct trail *trail)
{
    struct buffer names;
    uint64_t number;
    uint32_t removed = 0;
    int rc = list_names(io, folder, &names, trail);
    if (rc < 0)
        return rc;
    const char *name;
    for (size_t at = 0; (name = next_name(&names, &at)) != NULL;)
        if (shard_files_parse(name, &number) != SHARD_FILE_OTHER)
            remove_file(io, folder, name, &removed, cleaned);
    buffer_dispose(&names);
    int64_t result = io_wait_unlink(io, folder);
    if (result == 0 || result == -ENOENT) {
        cleaned->collections++;
        return 0;
    }
    cleaned->failed++;
    LOG_WARN("engine", "%s: the folder of a dropped collection cannot be removed: %s", folder,
             strerror((int)-result));
    return 0;
}

/* ---- witnesses ---- */

void shard_witness_path(char path_out[SHARD_PATH_MAX], const char *data_dir, const char *name)
{
    (void)snprintf(path_out, SHARD_PATH_MAX, "%.4000s/catalog/witness/%.40s", data_dir, name);
}

bool shard_witness_is_there(struct io *io, const char *data_dir, const char *name)
{
    char path[SHARD_PATH_MAX];
    shard_witness_path(path, data_dir, name);
    int64_t file = io_wait_open(io, path, IO_OPEN_READ);
    if (file >= 0)
        (void)io_wait_close(io, (int)file);
    return file >= 0;
}

void shard_witness_make(struct io *io, const char *data_dir, const char *name)
{
    char path[SHARD_PATH_MAX];
    shard_witness_path(path, data_dir, "");
    path[strlen(path) - 1] = '\0';
    (void)io_wait_make_dir(io, path);
    shard_witness_path(path, data_dir, name);
    int64_t file = io_wait_open(io, path, IO_OPEN_WRITE | IO_OPEN_CREATE);
    if (file >= 0)
        (void)io_wait_close(io, (int)file);
}

void shard_witness_keep(struct io *io, const char *data_dir, const struct uuid *collection)
{
    char text[UUID_TEXT_LEN + 1];
    uuid_format(collection, text);
    if (!shard_witness_is_there(io, data_dir, text))
        shard_witness_make(io, data_dir, text);
}

static void see_manifest(void *arg, const char *name)
{
    bool *found = arg;
    uint64_t number;
    *found = *found || shard_files_parse(name, &number) == SHARD_FILE_MANIFEST;
}

int shard_witness_check(struct io *io, const char *data_dir, const struct uuid *collection,
                        struct trail *trail)
{
    char folder[SHARD_FOLDER_MAX], text[UUID_TEXT_LEN + 1];
    bool found = false;
    uuid_format(collection, text);
    shard_files_folder(folder, data_dir, collection);
    if (!shard_witness_is_there(io, data_dir, text))
        return 0;
    (void)io->ops->list_dir(io, folder, see_manifest, &found);
    if (found)
        return 0;
    return trail_add(trail, PDB_DATA_LOSS,
                     "%s: this folder, or the manifest in it, is missing, and no log has its rows: "
                     "put it back, or remove catalog/witness/%s to begin with an empty collection",
                     folder, text);
}

/* True: nobody needs it. */
static bool is_idle_witness(struct io *io, const char *data_dir, const struct uuid *uuid,
                            enum shard_files_known known)
{
    struct trail ignored = {0};
    struct buffer names;
    char folder[SHARD_FOLDER_MAX];
    if (known != SHARD_FILES_UNKNOWN)
        return known == SHARD_FILES_DROPPED;
    shard_files_folder(folder, data_dir, uuid);
    if (list_names(io, folder, &names, &ignored) < 0)
        return false;
    bool idle = names.len == 0;
    buffer_dispose(&names);
    return idle;
}

static int sweep_witnesses(struct io *io, const char *data_dir,
                           enum shard_files_known (*known)(void *arg, const struct uuid *uuid),
                           void *arg, struct trail *trail)
{
    char path[SHARD_PATH_MAX];
    struct buffer names;
    struct uuid uuid;
    shard_witness_path(path, data_dir, "");
    int rc = list_names(io, path, &names, trail);
    if (rc < 0)
        return rc;
    const char *name;
    for (size_t at = 0; (name = next_name(&names, &at)) != NULL;) {
        if (uuid_parse(name, strlen(name), &uuid) < 0 ||
            !is_idle_witness(io, data_dir, &uuid, known(arg, &uuid)))
            continue;
        shard_witness_path(path, data_dir, name);
        (void)io_wait_unlink(io, path);
    }
    buffer_dispose(&names);
    return 0;
}

int shard_files_sweep(struct io *io, const char *data_dir,
                      enum shard_files_known (*known)(void *arg, const struct uuid *collection),
                      void *arg, struct shard_files_cleaned *cleaned, struct trail *trail)
{
    char root[SHARD_FOLDER_MAX], folder[SHARD_FOLDER_MAX], text[UUID_TEXT_LEN + 1];
    struct buffer names;
    shard_files_root(root, data_dir);
    int rc = list_names(io, root, &names, trail);
    if (rc < 0)
        return rc;
    const char *name;
    for (size_t at = 0; rc == 0 && (name = next_name(&names, &at)) != NULL;) {
        struct uuid uuid;
        if (uuid_parse(name, strlen(name), &uuid) < 0)
            continue;
        uuid_format(&uuid, text);
        if (strcmp(text, name) != 0)
            continue; /* another spelling is not ours */
        enum shard_files_known answer = known(arg, &uuid);
        shard_files_folder(folder, data_dir, &uuid);
        if (answer == SHARD_FILES_DROPPED) {
            rc = remove_folder(io, folder, cleaned, trail);
        } else if (answer == SHARD_FILES_UNKNOWN) {
            cleaned->unknown++;
            LOG_WARN("engine", "%s: the catalog does not know this collection; left as it is",
                     folder);
        }
    }
    buffer_dispose(&names);
    return rc == 0 ? sweep_witnesses(io, data_dir, known, arg, trail) : rc;
}
