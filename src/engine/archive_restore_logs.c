/* archive_restore_logs.c: segments of logs out of the archive.
 *
 * Each one is fetched into a folder of its own and read whole, as a log that begins there: what is
 * damaged is told with the object's name, and what is learned is the time of its newest record.
 * Then it takes its place in the log. A log is fetched until it has a record behind the target: the
 * replay will end before that one.
 *
 * So all that a restore needs may be more than memory or disk can hold at once: logs are fetched
 * and replayed in rounds (archive_restore.c), always the log next whose fetched part ends first.
 * Times in a log rise, but for a clock that was put back: therefore the highest so far counts. */
#include "engine/archive_restore.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

static int no_memory(struct trail *trail)
{
    return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "restore: out of memory");
}

/* ---- which ---- */

static const struct archive_need *need_of(const struct archive_base *base, const struct uuid *log)
{
    for (uint32_t i = 0; i < base->need_count; i++)
        if (uuid_equal(&base->needs[i].uuid, log))
            return &base->needs[i];
    return NULL;
}

static int segments_lost(const struct uuid *log, uint64_t from, uint64_t to, struct trail *trail)
{
    char text[UUID_TEXT_LEN + 1];
    uuid_format(log, text);
    return trail_add(trail, PDB_DATA_LOSS,
                     "the archive does not have segments %" PRIu64 " to %" PRIu64 " of log %s",
                     from, to, text);
}

int restore_logs_begin(struct restore *r, struct trail *trail)
{
    restore_logs_end(r);
    r->logs = arena_array(&r->arena, struct restore_log, r->state.log_count);
    if (r->logs == NULL)
        return no_memory(trail);
    for (uint32_t i = 0; i < r->state.log_count; i++) {
        const struct archive_log *log = &r->state.logs[i];
        const struct archive_need *need = need_of(&r->base, &log->uuid);
        uint64_t first =
            need != NULL ? need->seq : 1; /* a log that the base does not know is new */
        if (first < log->first_seq && first < log->next_seq)
            return segments_lost(&log->uuid, first, log->first_seq - 1, trail);
        r->logs[r->log_count++] = (struct restore_log){
            .uuid = log->uuid,
            .next = first < log->next_seq ? first : log->next_seq,
            .end = log->next_seq,
            .time_us = INT64_MIN,
        };
    }
    return 0;
}

void restore_logs_end(struct restore *r)
{
    for (uint32_t i = 0; i < r->log_count; i++)
        heap_free(NULL, r->logs[i].segments);
    r->log_count = 0;
    r->log_bytes = 0;
}

struct restore_log *restore_laggard(struct restore *r)
{
    struct restore_log *laggard = NULL;
    for (uint32_t i = 0; i < r->log_count; i++) {
        struct restore_log *log = &r->logs[i];
        if (log->reached || log->next == log->end)
            continue;
        if (laggard == NULL || log->time_us < laggard->time_us)
            laggard = log;
    }
    return laggard;
}

/* ---- one segment ---- */

struct look { /* at the records of one segment */
    struct restore *r;
    const struct uuid *log;
    struct restore_wanted *wanted; /* NULL: none is */
    int64_t time_us;               /* the highest */
    uint64_t first_lsn, last_lsn;  /* 0: it has no records */
    bool reached, foreign;
};

static bool is_wanted(const struct restore_wanted *wanted, const struct wal_record_info *info)
{
    if (!wanted->by_version)
        return info->lsn == wanted->lsn;
    return info->type != WAL_RECORD_CLOSE && info->version == wanted->version &&
           uuid_equal(&info->collection, &wanted->collection);
}

static int see_record(void *arg, const struct wal_record_info *info)
{
    struct look *look = arg;
    const struct replay_stop *stop = &look->r->stop;
    look->foreign = look->foreign || !uuid_equal(look->log, &info->log);
    look->first_lsn = look->first_lsn != 0 ? look->first_lsn : info->lsn;
    look->last_lsn = info->lsn;
    look->time_us = info->time_us > look->time_us ? info->time_us : look->time_us;
    bool exact = stop->exact && uuid_equal(&stop->log, &info->log);
    look->reached =
        look->reached || (exact ? info->lsn > stop->lsn : info->time_us > stop->time_us);
    if (look->wanted != NULL && !look->wanted->found && is_wanted(look->wanted, info)) {
        look->wanted->found = true;
        look->wanted->stop = (struct replay_stop){info->time_us, true, info->log, info->lsn};
    }
    return 0;
}

static int make_dir(struct io *io, const char *path, struct trail *trail)
{
    int64_t result = io_wait_make_dir(io, path);
    if (result < 0 && result != -EEXIST)
        return trail_add(trail, engine_errno_code(result), "%s: cannot be made: %s", path,
                         strerror((int)-result));
    return 0;
}

static int scan_fetched(struct look *look, struct trail *trail)
{
    struct restore *r = look->r;
    char dir[RESTORE_PATH_MAX];
    const char *const dirs[1] = {dir};
    struct wal_scan *scan = NULL;
    struct wal_scan_stats stats;
    (void)snprintf(dir, sizeof(dir), "%s/fetch", r->work);
    const struct wal_scan_options options = {.dirs = dirs,
                                             .dir_count = 1,
                                             .check_bodies = true,
                                             .from_lowest = true,
                                             .visit = see_record,
                                             .arg = look};
    int rc = wal_scan_open(r->io, &options, &scan, trail);
    if (rc < 0)
        return rc;
    wal_scan_stats(scan, &stats);
    wal_scan_close(scan);
    if (stats.torn_bytes != 0)
        return trail_add(trail, PDB_DATA_LOSS, "its last group is not whole");
    if (look->foreign)
        return trail_add(trail, PDB_DATA_LOSS, "it belongs to another log");
    return 0;
}

/* Into "<work>/fetch/0/<seq>.wal", which is told. */
static int fetch_file(struct restore *r, struct look *look, uint64_t seq,
                      char path_out[RESTORE_PATH_MAX], uint64_t *bytes_out, struct trail *trail)
{
    char key[ARCHIVE_KEY_SIZE], dir[RESTORE_PATH_MAX];
    const struct store_call call = {.trail = trail};
    (void)snprintf(dir, sizeof(dir), "%s/fetch", r->work);
    int rc = make_dir(r->io, dir, trail);
    (void)snprintf(dir, sizeof(dir), "%s/fetch/0", r->work);
    if (rc == 0)
        rc = make_dir(r->io, dir, trail);
    if (rc < 0)
        return rc;
    (void)snprintf(path_out, RESTORE_PATH_MAX, "%s/fetch/0/%016" PRIx64 ".wal", r->work, seq);
    archive_wal_key(key, &r->identity, look->log, seq);
    const struct store_get_request get = {
        .key = text_of(key), .len = STORE_TO_END, .path = path_out};
    rc = store_get(r->store, &call, &get, bytes_out, NULL);
    if (rc < 0)
        return restore_lost(rc, trail);
    r->bytes += *bytes_out;
    struct trail why = {0};
    rc = scan_fetched(look, &why);
    return rc < 0 ? trail_add(trail, rc, "%s: %s", key, why.text) : 0;
}

static int remove_file(struct restore *r, const char *path, struct trail *trail)
{
    int64_t result = io_wait_unlink(r->io, path);
    return result < 0 ? trail_add(trail, engine_errno_code(result), "%s: cannot be removed: %s",
                                  path, strerror((int)-result))
                      : 0;
}

/* ---- into the log ---- */

static void segment_path(const struct restore *r, const struct restore_log *log, uint64_t seq,
                         char path_out[RESTORE_PATH_MAX])
{
    (void)snprintf(path_out, RESTORE_PATH_MAX, "%s/wal/%u/%016" PRIx64 ".wal", r->data,
                   RESTORE_LOG_FIRST + (unsigned)(log - r->logs), seq);
}

static int place_segment(struct restore *r, struct restore_log *log, const char *path, uint64_t seq,
                         struct trail *trail)
{
    char to[RESTORE_PATH_MAX];
    (void)snprintf(to, sizeof(to), "%s/wal/%u", r->data,
                   RESTORE_LOG_FIRST + (unsigned)(log - r->logs));
    int rc = make_dir(r->io, to, trail);
    if (rc < 0)
        return rc;
    segment_path(r, log, seq, to);
    int64_t result = io_wait_rename(r->io, path, to);
    return result < 0 ? trail_add(trail, engine_errno_code(result), "%s: cannot be named: %s", to,
                                  strerror((int)-result))
                      : 0;
}

static int reserve(struct restore_log *log, struct trail *trail)
{
    if (log->count < log->capacity)
        return 0;
    uint32_t capacity = log->capacity == 0 ? 16 : log->capacity * 2;
    struct restore_segment *segments =
        heap_realloc(NULL, log->segments, capacity * sizeof(*segments));
    if (segments == NULL)
        return no_memory(trail);
    log->segments = segments;
    log->capacity = capacity;
    return 0;
}

int restore_fetch(struct restore *r, struct restore_log *log, struct trail *trail)
{
    char path[RESTORE_PATH_MAX];
    uint64_t bytes = 0;
    struct look look = {.r = r, .log = &log->uuid, .time_us = log->time_us};
    int rc = reserve(log, trail);
    if (rc == 0)
        rc = fetch_file(r, &look, log->next, path, &bytes, trail);
    if (rc == 0)
        rc = place_segment(r, log, path, log->next, trail);
    if (rc < 0)
        return rc;
    log->segments[log->count++] = (struct restore_segment){log->next, bytes, look.time_us};
    log->time_us = look.time_us;
    log->reached = look.reached;
    log->next++;
    r->log_bytes += bytes;
    return 0;
}

void restore_forget(struct restore *r, int64_t time_us)
{
    for (uint32_t i = 0; i < r->log_count; i++) {
        struct restore_log *log = &r->logs[i];
        uint32_t gone = 0;
        while (gone < log->count && log->segments[gone].time_us <= time_us) {
            char path[RESTORE_PATH_MAX];
            segment_path(r, log, log->segments[gone].seq, path);
            if (io_wait_unlink(r->io, path) < 0)
                break; /* it is read once more, and skipped by its versions */
            r->log_bytes -= log->segments[gone++].bytes;
        }
        if (gone == 0)
            continue;
        memmove(log->segments, log->segments + gone, (log->count - gone) * sizeof(*log->segments));
        log->count -= gone;
    }
}

/* ---- looking for a record ---- */

/* Fetches a segment, looks at it and removes it. */
static int probe(struct restore *r, struct look *look, uint64_t seq, struct trail *trail)
{
    char path[RESTORE_PATH_MAX];
    uint64_t bytes = 0;
    int rc = restore_go_on(r, "search", r->bytes, 0, trail);
    if (rc == 0)
        rc = fetch_file(r, look, seq, path, &bytes, trail);
    return rc < 0 ? rc : remove_file(r, path, trail);
}

/* Segments are in the order of their lsns; some have no records. */
int restore_find_lsn(struct restore *r, const struct archive_log *log,
                     struct restore_wanted *wanted, struct trail *trail)
{
    uint64_t low = log->first_seq, high = log->next_seq;
    while (low < high && !wanted->found) {
        uint64_t middle = low + (high - low) / 2, at = middle;
        struct look look = {.r = r, .log = &log->uuid, .wanted = wanted, .time_us = INT64_MIN};
        int rc = probe(r, &look, at, trail);
        while (rc == 0 && look.first_lsn == 0 && ++at < high)
            rc = probe(r, &look, at, trail);
        if (rc < 0)
            return rc;
        if (look.first_lsn == 0 || wanted->lsn < look.first_lsn)
            high = middle;
        else
            low = at + 1;
    }
    if (wanted->found)
        return 0;
    char text[UUID_TEXT_LEN + 1];
    uuid_format(&log->uuid, text);
    return trail_add(trail, PDB_OUT_OF_RANGE, "record %" PRIu64 " of log %s is not in the archive",
                     wanted->lsn, text);
}

int restore_find_version(struct restore *r, struct restore_wanted *wanted, struct trail *trail)
{
    struct restore_log *log;
    int rc = restore_logs_begin(r, trail);
    r->stop = (struct replay_stop){.time_us = INT64_MAX};
    while (rc == 0 && !wanted->found && (log = restore_laggard(r)) != NULL) {
        struct look look = {.r = r, .log = &log->uuid, .wanted = wanted, .time_us = log->time_us};
        rc = probe(r, &look, log->next, trail);
        log->time_us = look.time_us;
        log->next++;
    }
    restore_logs_end(r);
    if (rc == 0 && !wanted->found)
        rc = trail_add(trail, PDB_OUT_OF_RANGE, "version %" PRIu64 " is not in the archive",
                       wanted->version);
    return rc;
}
