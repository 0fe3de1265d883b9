/* check.c: reads a closed data directory: the catalog, every log, whether the two agree, and every
 * shard's segments. One JSON line per finding. Only a repair changes anything, and only what can be
 * made again or is not needed. */
#include "base/buffer.h"
#include "base/json.h"
#include "engine/check_internal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

void check_tell(struct check *check, enum check_severity severity, const char *kind,
                const char *text)
{
    static const char *const names[] = {"damage", "derived", "mended"};
    struct buffer line;
    arena_reset(&check->lines);
    buffer_init_arena(&line, &check->lines, 0);
    buffer_format(&line, "{\"severity\":\"%s\",\"kind\":\"%s\",\"text\":", names[severity], kind);
    json_write_string(&line, (struct pdb_text){text, strlen(text)});
    buffer_add(&line, "}", 2); /* with its NUL */
    check->findings += severity == CHECK_DAMAGE;
    check->derived += severity == CHECK_DERIVED;
    if (!line.failed)
        check->report(check->arg, line.ptr);
}

static void tell(struct check *check, const char *kind, const char *text)
{
    check_tell(check, CHECK_DAMAGE, kind, text);
}

/* The log counts its damage itself; what else it tells, such as a torn tail, is none. */
static void pass_line(void *arg, const char *line)
{
    struct check *check = arg;
    check->report(check->arg, line);
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

static int visit_record(void *arg, const struct wal_record_info *info)
{
    struct check *check = arg;
    if (info->type == WAL_RECORD_CLOSE || uuid_equal(&info->collection, &check->last_unknown) ||
        check_knows(check, &info->collection))
        return 0;
    char uuid[UUID_TEXT_LEN + 1], text[128];
    uuid_format(&info->collection, uuid);
    (void)snprintf(text, sizeof(text),
                   "the log has records of collection %s, which the catalog does not know", uuid);
    tell(check, "unknown_collection", text);
    check->last_unknown = info->collection; /* once in a row */
    return 0;
}

static int check_logs(struct check *check, struct io *io, const char *const *dirs, size_t dir_count)
{
    struct trail trail = {0};
    int listed_rc = check_log_list(check, dirs, dir_count, &trail);
    if (listed_rc < 0)
        tell(check, "log_list", trail.text);
    trail = (struct trail){0};
    int rc = wal_check(io, dirs, dir_count, pass_line, check, &trail);
    if (rc < 0 && rc != PDB_DATA_LOSS)
        tell(check, "log", trail.text);
    if (rc < 0)
        return rc;
    struct wal_scan_options options = {
        .dirs = dirs, .dir_count = dir_count, .stride = 1, .visit = visit_record, .arg = check};
    struct wal_scan *scan = NULL;
    rc = wal_scan_open(io, &options, &scan, &trail);
    if (rc < 0)
        tell(check, "log", trail.text);
    else
        wal_scan_close(scan);
    return rc;
}

static int check_all(struct check *check, struct io *io, const char *data_dir,
                     const char *const *dirs, size_t dir_count)
{
    struct trail trail = {0};
    char path[4200];
    const char *default_dirs[1] = {path};
    (void)snprintf(path, sizeof(path), "%.4000s/wal", data_dir);
    int rc = catalog_read(io, data_dir, &check->arena, &check->image, &trail);
    if (rc < 0)
        tell(check, "catalog",
             rc == PDB_NOT_FOUND ? "there is no catalog: not a data directory" : trail.text);
    int log_rc =
        check_logs(check, io, dir_count != 0 ? dirs : default_dirs, dir_count != 0 ? dir_count : 1);
    if (rc == 0)
        check_shards(check);
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
