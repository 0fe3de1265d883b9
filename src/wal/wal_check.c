/* wal_check.c: reads every log whole, for `proximadb check`.
 *
 * Everything that recovery would look at and more: each body is decoded, and each log is read even
 * if another one is damaged. One JSON object per finding:
 *
 *     {"severity":"damage","file":"...","offset":4096,"text":"..."}     data is lost or in doubt
 *     {"severity":"info","file":"...","text":"..."}                     torn tail of an unclean
 * stop
 *
 * Nothing is changed. Torn bytes are no damage: they were never acknowledged (or are the honest
 * limit of one copy, docs/invariants.md). */
#include "base/buffer.h"
#include "base/json.h"
#include "wal/wal_internal.h"

#include "base/no_libc_heap.h"

enum { LINE_MAX_BYTES = 4096, ARENA_MAX_BYTES = 1 << 30 };

struct check {
    struct wal_scan *scan;
    struct wal_scan
        *bodies; /* a second window, since the first one is in use while records are told */
    struct arena arena;
    struct trail *trail;
    void (*report)(void *arg, const char *line);
    void *arg;
    bool damaged;
};

static void report_line(struct check *check, const char *severity, const char *file,
                        const uint64_t *offset, const char *text)
{
    struct buffer line;
    buffer_init_heap(&line, NULL, LINE_MAX_BYTES);
    buffer_format(&line, "{\"severity\":\"%s\",\"file\":", severity);
    json_write_string(&line, text_of(file));
    if (offset != NULL)
        buffer_format(&line, ",\"offset\":%" PRIu64, *offset);
    buffer_add_lit(&line, ",\"text\":");
    json_write_string(&line, text_of(text));
    buffer_add(&line, "}", 2);
    check->report(check->arg,
                  line.failed ? "{\"severity\":\"damage\",\"text\":\"no memory for the report\"}"
                              : line.ptr);
    buffer_dispose(&line);
}

static void report_damage(struct check *check, const struct wal_scan *scan,
                          const struct trail *trail)
{
    check->damaged = true;
    report_line(check, "damage", scan->bad_path, &scan->bad_offset, trail->text);
}

static int decode_record(void *arg, const struct wal_record_info *info)
{
    struct check *check = arg;
    struct trail trail = {0};
    struct wal_batch batch;
    int rc = wal_read_batch(check->bodies, &info->place, &check->arena, &batch, &trail);
    arena_reset(&check->arena);
    if (rc == PDB_RESOURCE_EXHAUSTED)
        return trail_add(check->trail, rc, "%s", trail.text);
    if (rc < 0)
        report_damage(check, check->bodies, &trail);
    return 0;
}

static int check_log(struct check *check, uint32_t log)
{
    const struct wal_scan_options options = {
        .check_bodies = true, .visit = decode_record, .arg = check};
    struct trail trail = {0};
    uint64_t torn = check->scan->stats.torn_bytes;
    int rc = wal_scan_log(check->scan, log, &options, &trail);
    if (rc == PDB_RESOURCE_EXHAUSTED)
        return trail_add(check->trail, rc, "check %s", check->scan->logs[log].path);
    if (rc < 0)
        report_damage(check, check->scan, &trail);
    if (rc == 0 && check->scan->logs[log].first != 0)
        report_line(check, "info", check->scan->logs[log].path, NULL,
                    "files before the log's beginning: an unfinished truncation; a start removes "
                    "them");
    if (rc == 0 && check->scan->stats.torn_bytes != torn)
        report_line(check, "info", check->scan->logs[log].path, NULL,
                    "torn tail of an unclean stop; a start cuts it");
    else if (rc == 0 && !check->scan->logs[log].clean)
        report_line(check, "info", check->scan->logs[log].path, NULL,
                    "no CLOSE record: the last stop was not clean");
    return 0;
}

int wal_check(struct io *io, const char *const *dirs, size_t dir_count,
              void (*report)(void *arg, const char *line), void *arg, struct trail *trail)
{
    const struct wal_scan_options options = {.dirs = dirs, .dir_count = dir_count};
    struct check check = {.trail = trail, .report = report, .arg = arg};
    arena_init(&check.arena, ARENA_MAX_BYTES);
    int rc = wal_scan_list(io, &options, &check.scan, trail);
    if (rc == 0)
        rc = wal_scan_list(io, &options, &check.bodies, trail);
    for (uint32_t i = 0; rc == 0 && i < check.scan->log_count; i++)
        rc = check_log(&check, i);
    wal_scan_close(check.scan);
    wal_scan_close(check.bodies);
    arena_dispose(&check.arena);
    if (rc == 0 && check.damaged)
        rc = trail_add(trail, PDB_DATA_LOSS, "the log is damaged");
    return rc;
}
