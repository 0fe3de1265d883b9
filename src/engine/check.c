/* check.c: reads a closed data directory: the catalog, every log, whether the two agree, every
 * shard's segments, and whether logs and manifests join without a gap, and the snapshots. One JSON
 * line per finding, each with what a repair does about it, or would do, or what is left to people.
 * Only a repair changes anything, and only what can be made again or is not needed. */
#include "base/buffer.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/check_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

void check_tell(struct check *check, enum check_severity severity, const char *kind,
                const char *action, const char *text)
{
    static const char *const names[] = {"damage", "derived", "mended"};
    struct buffer line;
    arena_reset(&check->lines);
    buffer_init_arena(&line, &check->lines, 0);
    buffer_format(&line, "{\"severity\":\"%s\",\"kind\":\"%s\",\"text\":", names[severity], kind);
    json_write_string(&line, (struct pdb_text){text, strlen(text)});
    buffer_add_lit(&line, ",\"action\":");
    json_write_string(&line, (struct pdb_text){action, strlen(action)});
    buffer_add(&line, "}", 2); /* with its NUL */
    check->findings += severity == CHECK_DAMAGE;
    check->derived += severity == CHECK_DERIVED;
    if (!line.failed)
        check->report(check->arg, line.ptr);
}

void check_tell_leftover(struct check *check, const char *text)
{
    check_tell(check, check->repair ? CHECK_MENDED : CHECK_DERIVED, "leftover",
               check->repair ? "removed" : "a repair removes it, and so does the next start", text);
}

/* The log counts its damage itself; what else it tells, such as a torn tail, is none. */
static void pass_line(void *arg, const char *line)
{
    static const char damage[] = "{\"severity\":\"damage\"";
    struct check *check = arg;
    size_t len = strlen(line);
    struct buffer out;
    const char *action =
        strncmp(line, damage, sizeof(damage) - 1) == 0
            ? CHECK_BY_HAND("the start is refused; bring the file back, or restore a snapshot into "
                            "a new data directory")
            : "none is needed: the next start does what the text says";
    arena_reset(&check->lines);
    buffer_init_arena(&out, &check->lines, 0);
    buffer_add(&out, line, len != 0 && line[len - 1] == '}' ? len - 1 : len);
    buffer_add_lit(&out, ",\"action\":");
    json_write_string(&out, text_of(action));
    buffer_add(&out, "}", 2);
    check->report(check->arg, out.failed ? line : out.ptr);
}

bool check_knows(const struct check *check, const struct uuid *uuid)
{
    for (uint32_t i = 0; i < check->image.count; i++)
        if (uuid_equal(&check->image.entries[i]->uuid, uuid))
            return true;
    for (uint32_t i = 0; i < check->image.dropped_count; i++)
        if (uuid_equal(&check->image.dropped[i], uuid))
            return true;
    return false;
}

static void keep_record(struct check *check, const struct wal_record_info *info)
{
    if (check->record_count == check->record_capacity && !check->records_lost) {
        size_t capacity = check->record_capacity == 0 ? 1024 : 2 * check->record_capacity;
        struct check_record *records =
            heap_realloc(NULL, check->records, capacity * sizeof(*records));
        check->records_lost = records == NULL;
        if (records != NULL) {
            check->records = records;
            check->record_capacity = capacity;
        }
    }
    if (!check->records_lost)
        check->records[check->record_count++] = (struct check_record){
            info->collection, info->version, info->type == WAL_RECORD_VERSION_JUMP};
}

static int order_records(const void *a, const void *b)
{
    const struct check_record *left = a, *right = b;
    int order = memcmp(&left->collection, &right->collection, sizeof(left->collection));
    if (order != 0)
        return order;
    return left->version < right->version ? -1 : left->version > right->version;
}

bool check_has_records(const struct check *check, const struct uuid *uuid)
{
    size_t low = 0, high = check->record_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (memcmp(&check->records[middle].collection, uuid, sizeof(*uuid)) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < check->record_count && uuid_equal(&check->records[low].collection, uuid);
}

static int visit_record(void *arg, const struct wal_record_info *info)
{
    struct check *check = arg;
    if (info->type != WAL_RECORD_CLOSE)
        keep_record(check, info);
    if (info->type == WAL_RECORD_CLOSE || uuid_equal(&info->collection, &check->last_unknown) ||
        check_knows(check, &info->collection))
        return 0;
    char uuid[UUID_TEXT_LEN + 1], text[128];
    uuid_format(&info->collection, uuid);
    (void)snprintf(text, sizeof(text),
                   "the log has records of collection %s, which the catalog does not know", uuid);
    check_tell(check, CHECK_DAMAGE, "unknown_collection",
               CHECK_BY_HAND("the start is refused; put the catalog back that knows it"), text);
    check->last_unknown = info->collection; /* once in a row */
    return 0;
}

static void tell_log(struct check *check, const struct trail *trail)
{
    check_tell(check, CHECK_DAMAGE, "log", CHECK_BY_HAND("the start is refused; see the text"),
               trail->text);
}

static int check_logs(struct check *check, struct io *io, const char *const *dirs, size_t dir_count)
{
    struct trail trail = {0};
    int listed_rc = check_log_list(check, dirs, dir_count, &trail);
    if (listed_rc < 0)
        check_tell(check, CHECK_DAMAGE, "log_list",
                   CHECK_BY_HAND("the start is refused; see the text"), trail.text);
    trail = (struct trail){0};
    int rc = wal_check(io, dirs, dir_count, pass_line, check, &trail);
    if (rc < 0 && rc != PDB_DATA_LOSS)
        tell_log(check, &trail);
    if (rc < 0)
        return rc;
    struct wal_scan_options options = {
        .dirs = dirs, .dir_count = dir_count, .stride = 1, .visit = visit_record, .arg = check};
    struct wal_scan *scan = NULL;
    rc = wal_scan_open(io, &options, &scan, &trail);
    if (rc < 0)
        tell_log(check, &trail);
    else
        wal_scan_close(scan);
    if (check->record_count > 1)
        qsort(check->records, check->record_count, sizeof(check->records[0]), order_records);
    return rc;
}

/* ---- logs against manifests ---- */

static void tell_versions(struct check *check, const struct catalog_entry *entry, const char *what,
                          uint64_t from, uint64_t to)
{
    char uuid[UUID_TEXT_LEN + 1], text[512];
    uuid_format(&entry->uuid, uuid);
    (void)snprintf(text, sizeof(text),
                   "collection '%.*s' (%s): versions %" PRIu64 " to %" PRIu64 " %s",
                   (int)entry->config.name.len, entry->config.name.ptr, uuid, from, to, what);
    check_tell(
        check, CHECK_DAMAGE, "log_versions",
        CHECK_BY_HAND("the start is refused; bring the missing log or manifest back, or take "
                      "away the log that does not belong here"),
        text);
}

/* The records of one collection, in order: what the manifest does not hold follows it one by
 * one. */
static void check_collection(struct check *check, const struct catalog_entry *entry,
                             uint64_t version, const struct check_record *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct check_record *record = &records[i];
        if (record->version <= version) {
            if (i > 0 && record->version == records[i - 1].version)
                tell_versions(check, entry, "are in the log twice", record->version,
                              record->version);
            continue;
        }
        if (record->version != version + 1 && !record->jump) {
            tell_versions(check, entry, "are missing from the log", version + 1,
                          record->version - 1);
            return;
        }
        version = record->version;
    }
}

static void check_versions(struct check *check)
{
    if (check->records_lost || check->versions == NULL) {
        check_tell(check, CHECK_DAMAGE, "memory", CHECK_BY_HAND("check with more memory"),
                   "no memory to compare logs and manifests");
        return;
    }
    for (size_t from = 0, to; from < check->record_count; from = to) {
        const struct uuid *uuid = &check->records[from].collection;
        to = from + 1;
        while (to < check->record_count && uuid_equal(&check->records[to].collection, uuid))
            to++;
        for (uint32_t i = 0; i < check->image.count; i++)
            if (uuid_equal(&check->image.entries[i]->uuid, uuid) &&
                check->versions[i] != UINT64_MAX)
                check_collection(check, check->image.entries[i], check->versions[i],
                                 &check->records[from], to - from);
    }
}

/* ---- all ---- */

static int check_all(struct check *check, struct io *io, const char *data_dir,
                     const char *const *dirs, size_t dir_count)
{
    struct trail trail = {0};
    char path[4200];
    const char *default_dirs[1] = {path};
    (void)snprintf(path, sizeof(path), "%.4000s/wal", data_dir);
    int rc = catalog_read(io, data_dir, &check->arena, &check->image, &trail);
    if (rc < 0)
        check_tell(check, CHECK_DAMAGE, "catalog",
                   CHECK_BY_HAND("the start is refused; put catalog/ back"),
                   rc == PDB_NOT_FOUND ? "there is no catalog: not a data directory" : trail.text);
    int log_rc =
        check_logs(check, io, dir_count != 0 ? dirs : default_dirs, dir_count != 0 ? dir_count : 1);
    if (rc == 0) {
        check->versions = arena_array(&check->arena, uint64_t, check->image.count);
        check_shards(check);
        if (log_rc == 0)
            check_versions(check);
        check_snapshots(check);
    }
    heap_free(NULL, check->records);
    catalog_image_dispose(&check->image);
    return rc < 0 ? rc : log_rc;
}

/* What the findings come to. */
static int conclude(const struct check *check, int rc, struct trail *trail)
{
    if (rc == 0 && check->findings != 0)
        rc = PDB_DATA_LOSS;
    if (rc == 0 && check->derived != 0)
        return trail_add(trail, PDB_FAILED_PRECONDITION,
                         "nothing is lost, but something is to be mended, see above");
    if (rc < 0)
        (void)trail_add(trail, rc, "%s",
                        rc == PDB_DATA_LOSS ? "damage was found, see above"
                                            : "the check could not be finished, see above");
    return rc;
}

int pdb_check(const struct pdb_check_options *options, struct pdb_error *error)
{
    struct trail trail = {0};
    struct pdb_error ignored;
    const char *reason = NULL;
    struct io *io = NULL;
    int lock_file = -1;
    if (error == NULL)
        error = &ignored;
    *error = (struct pdb_error){0};
    int rc = access(options->data_dir, F_OK) == 0
                 ? lock_take(options->data_dir, &lock_file, &trail)
                 : trail_add(&trail, PDB_NOT_FOUND, "data directory '%s' does not exist",
                             options->data_dir);
    if (rc == 0 && io_create(IO_ENGINE_AUTO, &io, &reason) < 0) {
        rc = trail_add(&trail, PDB_UNAVAILABLE, "no I/O engine: %s",
                       reason != NULL ? reason : "unknown");
        lock_release(lock_file);
    }
    if (rc == 0) {
        struct check check = {.report = options->report,
                              .arg = options->arg,
                              .io = io,
                              .data_dir = options->data_dir,
                              .repair = options->repair};
        arena_init(&check.arena, 0);
        arena_init(&check.lines, 0);
        rc = check_all(&check, io, options->data_dir, options->wal_dirs, options->wal_dir_count);
        rc = conclude(&check, rc, &trail);
        arena_dispose(&check.lines);
        arena_dispose(&check.arena);
        io->ops->destroy(io);
        lock_release(lock_file);
    }
    if (rc < 0) {
        error->code = rc;
        (void)snprintf(error->text, sizeof(error->text), "%s", trail.text);
    }
    return rc;
}
