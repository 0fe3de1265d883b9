/* check.c: reads a closed data directory without changing it: the catalog, then every log, then
 * whether the two agree. One JSON line per finding. */
#include "base/buffer.h"
#include "base/json.h"
#include "engine/catalog.h"
#include "engine/engine_internal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

struct check {
    void (*report)(void *arg, const char *line);
    void *arg;
    struct arena arena;
    struct catalog_image image;
    uint64_t findings;
    struct uuid last_unknown;
};

static void tell(struct check *check, const char *kind, const char *text)
{
    struct buffer line;
    buffer_init_arena(&line, &check->arena, 0);
    buffer_format(&line, "{\"severity\":\"damage\",\"kind\":\"%s\",\"text\":", kind);
    json_write_string(&line, (struct pdb_text){text, strlen(text)});
    buffer_add(&line, "}", 2); /* with its NUL */
    check->findings++;
    if (!line.failed)
        check->report(check->arg, line.ptr);
}

/* The log counts its damage itself; what else it tells, such as a torn tail, is none. */
static void pass_line(void *arg, const char *line)
{
    struct check *check = arg;
    check->report(check->arg, line);
}

static bool is_known(const struct check *check, const struct uuid *uuid)
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
        is_known(check, &info->collection))
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
    catalog_image_dispose(&check->image);
    return rc < 0 ? rc : log_rc;
}

int pdb_check(const char *data_dir, const char *const *wal_dirs, size_t wal_dir_count,
              void (*report)(void *arg, const char *line), void *arg, struct pdb_error *error)
{
    struct trail trail = {0};
    struct pdb_error ignored;
    const char *reason = NULL;
    struct io *io = NULL;
    int lock_file = -1;
    if (error == NULL)
        error = &ignored;
    *error = (struct pdb_error){0};
    int rc = access(data_dir, F_OK) == 0
                 ? lock_take(data_dir, &lock_file, &trail)
                 : trail_add(&trail, PDB_NOT_FOUND, "data directory '%s' does not exist", data_dir);
    if (rc == 0 && io_create(IO_ENGINE_AUTO, &io, &reason) < 0) {
        rc = trail_add(&trail, PDB_UNAVAILABLE, "no I/O engine: %s",
                       reason != NULL ? reason : "unknown");
        lock_release(lock_file);
    }
    if (rc == 0) {
        struct check check = {.report = report, .arg = arg};
        arena_init(&check.arena, 0);
        rc = check_all(&check, io, data_dir, wal_dirs, wal_dir_count);
        if (rc == 0 && check.findings != 0)
            rc = PDB_DATA_LOSS;
        if (rc < 0)
            (void)trail_add(&trail, rc, "%s",
                            rc == PDB_DATA_LOSS ? "damage was found, see above"
                                                : "the check could not be finished, see above");
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
