/* archive_restore.c: a data directory as it was at a moment of the past.
 *
 *     find      the archive, the moment (of a record, if that is asked for), the base and the
 *               catalog that it begins with
 *     place     the base's files and the catalog in a hidden folder beside the target
 *     replay    the logs behind the base, in rounds: segments are fetched, a database is opened on
 *               the folder that replays them up to a time and puts all of it into segments, and
 *               what was replayed is given up. The last round ends at the moment.
 *     appear    without logs, under the target's name
 *
 * A round ends before the time up to which every log was fetched, so each round finds whole
 * prefixes of all logs; what it has read too much is skipped by the next, by version. Memory and
 * disk are bounded by a round, not by the time between two bases.
 *
 * Exactness: rows carry their versions in the logs, so a replay brings back what was there, and
 * where it ends is decided by times and numbers in the logs alone (recover_replay.c). The catalog
 * of the moment says which collections there are, and their settings. */
#include "engine/archive_restore.h"

#include "base/log.h"
#include "engine/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { LOG_SEGMENT_BYTES = 1 << 20 };
#define ROUND_BYTES ((uint64_t)1 << 30)

static const struct pdb_progress nothing = {0};

int restore_go_on(struct restore *r, const char *phase, uint64_t done, uint64_t total,
                  struct trail *trail)
{
    const struct pdb_archive_restore *o = r->options;
    const struct pdb_progress progress = {phase, done, total};
    if (o->progress != NULL)
        o->progress(&progress, o->arg);
    return o->stop != NULL && o->stop(o->arg)
               ? trail_add(trail, PDB_CANCELLED, "stopped before it was done")
               : 0;
}

/* ---- the moment ---- */

static int find_log(const struct restore *r, const struct archive_log **log_out,
                    struct trail *trail)
{
    const char *wanted = r->options->log;
    char names[300] = "", text[UUID_TEXT_LEN + 1];
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->state.log_count; i++) {
        uuid_format(&r->state.logs[i].uuid, text);
        size_t len = strlen(names);
        (void)snprintf(names + len, sizeof(names) - len, "%s%s", len != 0 ? ", " : "", text);
        if (wanted != NULL && strncmp(text, wanted, strlen(wanted)) != 0)
            continue;
        *log_out = &r->state.logs[i];
        count++;
    }
    if (count == 1)
        return 0;
    return trail_add(trail, count == 0 ? PDB_NOT_FOUND : PDB_INVALID_ARGUMENT,
                     "%s log of the archive is meant; it has %s",
                     count == 0 ? "no" : "more than one", names[0] != '\0' ? names : "none");
}

static int find_lsn(struct restore *r, struct trail *trail)
{
    const struct archive_log *log = NULL;
    struct restore_wanted wanted = {.lsn = r->options->lsn};
    int rc = find_log(r, &log, trail);
    if (rc == 0)
        rc = restore_find_lsn(r, log, &wanted, trail);
    if (rc == 0)
        r->stop = wanted.stop;
    return rc;
}

static int find_version(struct restore *r, struct trail *trail)
{
    struct restore_wanted wanted = {.by_version = true, .version = r->options->version};
    struct catalog_image image;
    const struct catalog_entry *entry = NULL;
    int rc = restore_find_collection(r, r->options->collection, &image, &entry, trail);
    if (rc < 0)
        return rc;
    wanted.collection = entry->uuid;
    if (wanted.version <= entry->born_version)
        rc = trail_add(trail, PDB_OUT_OF_RANGE,
                       "collection '%s' was restored from a snapshot with version %" PRIu64
                       ": it can be brought back to later ones",
                       r->options->collection, entry->born_version);
    if (rc == 0)
        rc = restore_find_base_before(r, entry, wanted.version, trail);
    catalog_image_dispose(&image);
    if (rc == 0)
        rc = restore_find_version(r, &wanted, trail);
    if (rc < 0)
        return rc;
    r->stop = wanted.stop;
    return 0;
}

static int find_moment(struct restore *r, struct trail *trail)
{
    switch (r->options->target) {
    case PDB_ARCHIVE_TIME:
        r->stop.time_us = r->options->time_us;
        return 0;
    case PDB_ARCHIVE_LSN:
        return find_lsn(r, trail);
    case PDB_ARCHIVE_VERSION:
        return find_version(r, trail);
    case PDB_ARCHIVE_LATEST:
        break;
    }
    if (r->state.range_count == 0)
        return trail_add(trail, PDB_OUT_OF_RANGE, "the archive has no base yet");
    r->stop.time_us = r->state.ranges[r->state.range_count - 1].to_us;
    return 0;
}

/* ---- the replay ---- */

static void replay_tells(const struct pdb_progress *progress, void *arg)
{
    struct restore *r = arg;
    const struct pdb_progress mine = {"replay", progress->done, progress->total};
    if (r->options->progress != NULL && progress->phase != NULL)
        r->options->progress(&mine, r->options->arg);
}

static bool replay_asks(void *arg)
{
    const struct restore *r = arg;
    return r->options->stop != NULL && r->options->stop(r->options->arg);
}

static int replay(struct restore *r, const struct replay_stop *stop, struct trail *trail)
{
    const struct pdb_options options = {
        .data_dir = r->data,
        .cores = r->options->cores,
        .memory_limit = r->options->memory_limit,
        .no_pin = true,
        .wal_segment_bytes = LOG_SEGMENT_BYTES,
        .disk_min_free_bytes = UINT64_MAX,
        .allow_unsafe_fs = true, /* the logs of the replay hold nothing */
        .progress = replay_tells,
        .stop = replay_asks,
        .arg = r,
    };
    struct pdb *db = NULL;
    struct pdb_error error = {0};
    int rc = engine_open_replay(&options, stop, &db, &error);
    if (rc < 0)
        return trail_add(trail, rc, "replay: %s", error.text);
    pdb_close(db);
    return restore_clean_round(r, trail);
}

static uint64_t round_bytes(const struct restore *r)
{
    uint64_t memory = r->options->memory_limit;
    if (r->options->round_bytes != 0)
        return r->options->round_bytes;
    if (memory == 0)
        memory = memory_default_limit();
    return memory / 4 < ROUND_BYTES ? memory / 4 : ROUND_BYTES;
}

/* Before this time all of all logs was fetched. */
static int64_t fetched_until(struct restore *r)
{
    const struct restore_log *laggard = restore_laggard(r);
    if (laggard == NULL || laggard->time_us > r->stop.time_us)
        return r->stop.time_us;
    return laggard->time_us == INT64_MIN ? INT64_MIN + 1 : laggard->time_us;
}

static int replay_rounds(struct restore *r, struct trail *trail)
{
    int64_t done_us = INT64_MIN;
    for (;;) {
        struct restore_log *log;
        while ((log = restore_laggard(r)) != NULL &&
               (r->log_bytes < round_bytes(r) || fetched_until(r) - 1 <= done_us)) {
            int rc = restore_go_on(r, "logs", r->bytes, 0, trail);
            if (rc == 0)
                rc = restore_fetch(r, log, trail);
            if (rc < 0)
                return rc;
        }
        if (log == NULL)
            return replay(r, &r->stop, trail);
        const struct replay_stop stop = {.time_us = fetched_until(r) - 1};
        int rc = replay(r, &stop, trail);
        if (rc < 0)
            return rc;
        done_us = stop.time_us;
        restore_forget(r, done_us);
    }
}

/* ---- the whole ---- */

static int run(struct restore *r, struct trail *trail)
{
    int rc;
    if ((rc = store_open(text_of(r->options->url), NULL, trail, &r->store)) < 0 ||
        (rc = restore_find_identity(r, trail)) < 0 || (rc = restore_prepare(r, trail)) < 0 ||
        (rc = find_moment(r, trail)) < 0 ||
        (rc = restore_find_base(r, r->stop.time_us, trail)) < 0 ||
        (rc = restore_find_catalog(r, trail)) < 0 || (rc = restore_logs_begin(r, trail)) < 0 ||
        (rc = restore_place_base(r, trail)) < 0 || (rc = restore_place_catalog(r, trail)) < 0 ||
        (rc = replay_rounds(r, trail)) < 0)
        return rc;
    return restore_appear(r, trail);
}

static void tell(const struct restore *r, struct pdb_archive_restored *out)
{
    *out = (struct pdb_archive_restored){
        .time_us = r->stop.time_us, .collections = r->image.count, .bytes = r->bytes};
    uuid_format(&r->identity, out->identity);
    (void)snprintf(out->base, sizeof(out->base), "%s", r->base.name);
}

static void dispose(struct restore *r)
{
    restore_logs_end(r);
    restore_drop_base(r);
    if (r->has_image)
        catalog_image_dispose(&r->image);
    heap_free(NULL, r->catalog);
    restore_clear(r);
    store_close(r->store);
    arena_dispose(&r->arena);
    r->io->ops->destroy(r->io);
    heap_free(NULL, r);
}

static int fail(struct pdb_error *error, int rc, const struct trail *trail)
{
    if (error != NULL) {
        *error = (struct pdb_error){.code = rc};
        (void)snprintf(error->text, sizeof(error->text), "%s",
                       trail->len != 0 ? trail->text : pdb_error_text(rc));
    }
    return rc;
}

int pdb_archive_restore(const struct pdb_archive_restore *options,
                        struct pdb_archive_restored *restored_out, struct pdb_error *error)
{
    struct trail trail = {0};
    const char *reason = NULL;
    struct restore *r = heap_calloc(NULL, 1, sizeof(*r));
    if (error != NULL)
        *error = (struct pdb_error){0};
    if (r == NULL || io_create(IO_ENGINE_AUTO, &r->io, &reason) < 0) {
        heap_free(NULL, r);
        int rc = trail_add(&trail, PDB_UNAVAILABLE, "no I/O engine: %s",
                           reason != NULL ? reason : "out of memory");
        return fail(error, rc, &trail);
    }
    r->options = options;
    r->lock_file = -1;
    arena_init(&r->arena, 0);
    int rc = run(r, &trail);
    if (rc == 0 && restored_out != NULL)
        tell(r, restored_out);
    if (rc == 0 && options->progress != NULL)
        options->progress(&nothing, options->arg);
    dispose(r);
    return rc < 0 ? fail(error, rc, &trail) : 0;
}
