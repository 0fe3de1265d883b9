/* recover.c: from the logs back to shards.
 *
 *     scan   each core reads its share of the logs (by number, not by owner) and sorts what it
 *            finds by the owner of the collection
 *     load   each core takes what all have found for it, orders it by collection and version,
 *            checks that no version is missing, reads the batches and puts their rows into the
 *            memtables
 *     open   each core's own log goes on behind its end; the other logs stay where they are and are
 *            read again at the next start
 *
 * So another number of cores needs no conversion: a collection's records may lie in several logs,
 * its versions put them in order. Between the phases the opener's thread has heard from all cores,
 * which makes the arrays of one safe to read by another.
 *
 * After an unclean stop in a weak sync mode, versions may have been told that no log holds. Such a
 * shard's counter jumps by 2^20, and the jump is logged before anything else: no version is ever
 * given twice. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/archive.h"
#include "engine/catalog.h"
#include "engine/engine_internal.h"
#include "engine/old_logs.h"
#include "engine/shard_files.h"
#include "engine/upkeep.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { PROGRESS_EVERY = 4096, VERSION_JUMP = 1 << 20 };

struct found { /* one record of one shard */
    struct uuid collection;
    uint64_t version;
    struct wal_place place;
    uint32_t type;
    bool behind; /* the stop of a replay */
};

struct found_list {
    struct found *items;
    size_t count, capacity;
};

struct jump {
    struct list_link link;
    struct wal_batch batch;
    struct wal_append_op append;
    struct engine_core *core;
};

struct recovery {
    struct wal_scan *scan;
    struct wal_scan_stats stats;
    struct found_list for_owner[REACTOR_MAX];
    struct arena arena;
    uint64_t records, skipped;
    struct uuid dropped; /* whose record was skipped last */
    /* Of a replay. */
    uint32_t stopped_log; /* the log that is read is behind its stop; UINT32_MAX: it is not */
    struct uuid ended;    /* the collection whose next versions lie behind the stop */
    bool has_ended;
    struct list jumps;
    unsigned jumps_under_way;
    int jump_rc;
};

static int no_memory(struct trail *trail)
{
    return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "recovery: out of memory");
}

/* ---- scan ---- */

static bool append_found(struct found_list *list, const struct found *item)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 256 : list->capacity * 2;
        struct found *items = heap_realloc(NULL, list->items, capacity * sizeof(*items));
        if (items == NULL)
            return false;
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = *item;
    return true;
}

/* A log ends with the first record behind the stop, whatever the times after it say: a clock that
 * was put back leaves no holes. */
static bool is_behind(struct engine_core *core, const struct wal_record_info *info)
{
    const struct replay_stop *stop = core->db->stop;
    struct recovery *recovery = core->recovery;
    if (stop == NULL)
        return false;
    if (recovery->stopped_log == info->place.log)
        return true;
    bool exact = stop->exact && uuid_equal(&stop->log, &info->log);
    if (exact ? info->lsn <= stop->lsn : info->time_us <= stop->time_us)
        return false;
    recovery->stopped_log = info->place.log;
    return true;
}

static int visit_record(void *arg, const struct wal_record_info *info)
{
    struct engine_core *core = arg;
    bool behind = is_behind(core, info);
    if (info->type == WAL_RECORD_CLOSE)
        return 0;
    if (engine_go_on(core, NULL) < 0)
        return PDB_CANCELLED;
    struct found item = {info->collection, info->version, info->place, info->type, behind};
    unsigned owner = catalog_owner(&info->collection, core->db->core_count);
    return append_found(&core->recovery->for_owner[owner], &item) ? 0 : PDB_RESOURCE_EXHAUSTED;
}

void recover_scan(struct engine_core *core)
{
    struct trail trail = {0};
    struct recovery *recovery = heap_calloc(NULL, 1, sizeof(*recovery));
    core->recovery = recovery;
    if (recovery == NULL) {
        engine_phase_done(core, no_memory(&trail), &trail);
        return;
    }
    arena_init(&recovery->arena, 0);
    list_init(&recovery->jumps);
    recovery->stopped_log = UINT32_MAX;
    struct wal_scan_options options = {
        .dirs = core->db->wal_dirs,
        .dir_count = core->db->wal_dir_count,
        .first = core->id,
        .stride = core->db->core_count,
        .check_bodies = true,
        .from_lowest = core->db->stop != NULL,
        .visit = visit_record,
        .arg = core,
    };
    int rc = wal_scan_open(core->r->io, &options, &recovery->scan, &trail);
    if (rc == 0)
        wal_scan_stats(recovery->scan, &recovery->stats);
    if (rc == 0 && core->db->has_no_logs && recovery->stats.records != 0)
        rc = trail_add(&trail, PDB_FAILED_PRECONDITION,
                       "wal.dirs: there are logs of another data directory, and this one, which "
                       "was brought back out of an archive, has none: to replay them would undo "
                       "that; move them away or name other directories");
    engine_phase_done(core, rc, &trail);
}

/* ---- load ---- */

static int order_found(const void *a, const void *b)
{
    const struct found *left = a, *right = b;
    int order = memcmp(&left->collection, &right->collection, sizeof(left->collection));
    if (order != 0)
        return order;
    return left->version < right->version ? -1 : left->version > right->version;
}

/* All that any core has found for this one, in order. */
static int gather(struct engine_core *core, struct found_list *mine)
{
    for (unsigned i = 0; i < core->db->core_count; i++) {
        const struct found_list *list = &core->db->cores[i].recovery->for_owner[core->id];
        mine->count += list->count;
    }
    mine->items = heap_calloc(NULL, mine->count + 1, sizeof(struct found));
    if (mine->items == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    size_t at = 0;
    for (unsigned i = 0; i < core->db->core_count; i++) {
        const struct found_list *list = &core->db->cores[i].recovery->for_owner[core->id];
        if (list->count != 0)
            memcpy(&mine->items[at], list->items, list->count * sizeof(struct found));
        at += list->count;
    }
    if (mine->count > 1)
        qsort(mine->items, mine->count, sizeof(struct found), order_found);
    return 0;
}

static int check_version(const struct shard *shard, const struct found *item, struct trail *trail)
{
    uint64_t expected = shard->version_queued + 1;
    if (item->version == expected ||
        (item->type == WAL_RECORD_VERSION_JUMP && item->version > expected))
        return 0;
    const struct pdb_text name = shard->entry->config.name;
    if (item->version < expected)
        return trail_add(trail, PDB_DATA_LOSS,
                         "collection '%.*s' (%s): version %" PRIu64 " is in the log twice",
                         CALL_TEXT(name), shard->uuid_text, item->version);
    return trail_add(trail, PDB_DATA_LOSS,
                     "collection '%.*s' (%s): versions %" PRIu64 " to %" PRIu64
                     " are missing from the log",
                     CALL_TEXT(name), shard->uuid_text, expected, item->version - 1);
}

static int restore_request(struct shard *shard, const struct wal_batch *batch)
{
    static const uint8_t none[16];
    int64_t now_us = shard->core->r->now_realtime_us;
    if (memcmp(batch->request.hash, none, sizeof(none)) == 0 ||
        batch->request.time_us <= now_us - DEDUP_KEEP_US)
        return 0;
    struct dedup_entry *entry = dedup_begin(&shard->dedup, &batch->request, NULL);
    if (entry == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    dedup_finish(&shard->dedup, entry, batch->version, batch->row_count, now_us);
    return 0;
}

static int check_fields(const struct shard *shard, const struct wal_batch *batch,
                        struct trail *trail)
{
    bool same = batch->field_count == shard->field_count;
    for (uint32_t f = 0; same && f < batch->field_count; f++)
        same = batch->field_bytes[f] == shard->field_bytes[f];
    if (same)
        return 0;
    return trail_add(trail, PDB_DATA_LOSS,
                     "collection '%.*s' (%s): version %" PRIu64
                     " in the log has other vector fields than the catalog says",
                     CALL_TEXT(shard->entry->config.name), shard->uuid_text, batch->version);
}

static int put_rows(struct shard *shard, const struct wal_batch *batch, struct trail *trail)
{
    uint64_t text_bytes = 0;
    uint32_t row_count = 0;
    int rc = batch->row_count != 0 ? check_fields(shard, batch, trail) : 0;
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < batch->row_count; i++) {
        if (batch->rows[i].deleted)
            continue;
        row_count++;
        text_bytes += batch->rows[i].id.len + batch->rows[i].metadata.len;
    }
    if (memtable_prepare(shard->memtable, row_count, text_bytes) < 0 ||
        parts_reserve_ends(shard, batch->row_count) < 0 || restore_request(shard, batch) < 0)
        return no_memory(trail);
    for (uint32_t i = 0; i < batch->row_count; i++) {
        memtable_commit(shard->memtable, &batch->rows[i]);
        parts_end_older(shard, batch->rows[i].id, batch->rows[i].version);
        shard->expiring = shard->expiring || batch->rows[i].expires_at_us != 0;
    }
    shard->core->rows_recovered += batch->row_count;
    return 0;
}

/* A collection may go on in another log, whose clock may say something else: its first version
 * behind the stop ends it. */
static bool is_over(struct recovery *recovery, const struct found *item)
{
    if (item->behind) {
        recovery->ended = item->collection;
        recovery->has_ended = true;
    }
    return recovery->has_ended && uuid_equal(&recovery->ended, &item->collection);
}

static int load_record(struct engine_core *core, const struct found *item, struct trail *trail)
{
    struct recovery *recovery = core->recovery;
    struct shard *shard = shard_find(core, &item->collection);
    if (shard == NULL) {
        /* Records come sorted by collection: a dropped one is looked up once, not for each. */
        bool same = recovery->skipped != 0 && uuid_equal(&recovery->dropped, &item->collection);
        if (same || core->db->stop != NULL || /* made after the stop */
            catalog_is_dropped(core->db->cores[0].master, &item->collection)) {
            recovery->dropped = item->collection;
            recovery->skipped++;
            return 0;
        }
        char text[UUID_TEXT_LEN + 1];
        uuid_format(&item->collection, text);
        return trail_add(trail, PDB_DATA_LOSS,
                         "the log has records of collection %s, which the catalog does not know",
                         text);
    }
    if (item->version <= upkeep_flushed_version(shard))
        return 0; /* its rows are in segments */
    if (is_over(recovery, item))
        return 0;
    int rc = check_version(shard, item, trail);
    if (rc < 0)
        return rc;
    if (item->type == WAL_RECORD_ROWS) {
        struct wal_batch batch;
        if ((rc = wal_read_batch(recovery->scan, &item->place, &recovery->arena, &batch, trail)) <
            0)
            return rc;
        if ((rc = put_rows(shard, &batch, trail)) < 0)
            return rc;
        arena_reset(&recovery->arena);
    }
    shard->version_queued = shard->version_visible = item->version;
    upkeep_after_commit(shard);
    recovery->records++;
    return 0;
}

/* A collection without a manifest is one that was never flushed: then all of it is in the log, or
 * it has no rows. */
static int check_folders(struct engine_core *core, struct trail *trail)
{
    int rc = 0;
    list_each (link, &core->shard_list) {
        const struct shard *shard = container_of(link, struct shard, link);
        if (rc == 0 && shard->version_queued == 0)
            rc = shard_witness_check(core->r->io, core->db->options.data_dir, &shard->uuid, trail);
    }
    return rc;
}

void recover_load(struct engine_core *core)
{
    struct trail trail = {0};
    struct found_list mine = {0};
    int rc = gather(core, &mine);
    if (rc < 0)
        (void)no_memory(&trail);
    for (size_t i = 0; rc == 0 && i < mine.count; i++) {
        if ((rc = engine_go_on(core, &trail)) == 0)
            rc = load_record(core, &mine.items[i], &trail);
        if ((i + 1) % PROGRESS_EVERY == 0)
            LOG_INFO("engine", "recovery: core %u has loaded %zu of %zu records", core->id, i + 1,
                     mine.count);
    }
    heap_free(NULL, mine.items);
    if (rc == 0)
        rc = check_folders(core, &trail);
    engine_phase_done(core, rc, &trail);
}

/* ---- open ---- */

static void jump_is_over(struct wal_append_op *append, int rc)
{
    struct jump *jump = container_of(append, struct jump, append);
    struct engine_core *core = jump->core;
    struct recovery *recovery = core->recovery;
    struct trail trail = {0};
    if (rc < 0)
        recovery->jump_rc = rc;
    if (--recovery->jumps_under_way != 0)
        return;
    if (recovery->jump_rc < 0)
        (void)trail_add(&trail, recovery->jump_rc, "recovery: core %u cannot write to its log",
                        core->id);
    engine_phase_done(core, recovery->jump_rc, &trail);
}

static bool was_clean(const struct pdb *db)
{
    bool clean = true;
    for (unsigned i = 0; i < db->core_count; i++)
        clean = clean && db->cores[i].recovery->stats.clean;
    return clean;
}

/* A mode that was ever changed may have been a weak one; each change moves updated_at on
 * (catalog_change.c). */
static bool may_have_lost_versions(const struct shard *shard)
{
    const struct catalog_entry *entry = shard->entry;
    return entry->config.sync == PDB_SYNC_PERIODIC || entry->config.sync == PDB_SYNC_NEVER ||
           entry->updated_at_us != entry->created_at_us;
}

static int make_jumps(struct engine_core *core)
{
    struct recovery *recovery = core->recovery;
    list_each (link, &core->shard_list) {
        struct shard *shard = container_of(link, struct shard, link);
        if (!may_have_lost_versions(shard))
            continue;
        struct jump *jump = arena_new(&recovery->arena, struct jump);
        if (jump == NULL)
            return PDB_RESOURCE_EXHAUSTED;
        shard->version_queued += VERSION_JUMP;
        shard->version_visible = shard->version_queued;
        jump->core = core;
        jump->batch = (struct wal_batch){.type = WAL_RECORD_VERSION_JUMP,
                                         .collection = shard->uuid,
                                         .version = shard->version_queued};
        jump->append = (struct wal_append_op){
            .batch = &jump->batch, .sync = PDB_SYNC_ALWAYS, .done = jump_is_over};
        list_push_back(&recovery->jumps, &jump->link);
        recovery->jumps_under_way++;
    }
    return 0;
}

static void log_is_poisoned(void *arg, int error)
{
    struct engine_core *core = arg;
    core->poisoned = true;
    LOG_ERROR("engine",
              "the log of core %u has failed: %s; it takes no more writes until a restart",
              core->id, strerror(error < 0 ? -error : error));
}

/* Collections that were dropped, in the log of this core. */
struct dropped_list {
    struct engine_core *core;
    struct uuid *uuids;
    size_t count, capacity;
    bool failed;
};

static void visit_logged(void *arg, const struct uuid *uuid, uint64_t version)
{
    struct dropped_list *list = arg;
    struct arena *arena = &list->core->recovery->arena;
    (void)version;
    if (!catalog_is_dropped(list->core->db->cores[0].master, uuid) || list->failed)
        return;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        struct uuid *uuids = arena_grow(arena, list->uuids, list->capacity * sizeof(*uuids),
                                        capacity * sizeof(*uuids));
        list->failed = uuids == NULL;
        if (list->failed)
            return;
        list->uuids = uuids;
        list->capacity = capacity;
    }
    list->uuids[list->count++] = *uuid;
}

/* Without memory they are given up by a later start. */
void recover_release_dropped(struct engine_core *core)
{
    struct dropped_list list = {.core = core};
    wal_collections(core->wal, visit_logged, &list);
    old_logs_each_collection(core, visit_logged, &list);
    for (size_t i = 0; i < list.count; i++) {
        wal_release(core->wal, &list.uuids[i], UINT64_MAX);
        old_logs_release(core, &list.uuids[i], UINT64_MAX);
    }
}

static int open_log(struct engine_core *core, struct trail *trail)
{
    const struct pdb_options *o = &core->db->options;
    struct wal_options options = {
        .dir = core->db->core_log_dirs[core->id],
        .encoding = o->wal_encoding == PDB_WAL_AVRO ? WAL_ENCODING_AVRO : WAL_ENCODING_BINARY,
        .io_mode = o->wal_io_mode == PDB_WAL_BUFFERED ? WAL_IO_BUFFERED : WAL_IO_DIRECT,
        .on_error =
            o->wal_on_error == PDB_WAL_READONLY ? WAL_ON_ERROR_READONLY : WAL_ON_ERROR_ABORT,
        .segment_bytes = o->wal_segment_bytes,
        .batch_window_us = o->wal_batch_window_us,
        .period_ms = o->wal_period_ms,
        .queue_bytes_max = (uint64_t)4 << 20,
        .min_free_bytes = o->disk_min_free_bytes == UINT64_MAX ? 0 : o->disk_min_free_bytes,
        .allow_unsafe_fs = o->allow_unsafe_fs,
        .poisoned = log_is_poisoned,
        .closed = archive_log_closed,
        .arg = core,
    };
    int rc = wal_open(core->r, &options, &core->wal, trail);
    if (rc == 0 && (rc = archive_hold(core)) < 0)
        (void)trail_add(trail, rc, "out of memory for the archive");
    return rc;
}

void recover_open_log(struct engine_core *core)
{
    struct trail trail = {0};
    wal_scan_close(core->recovery->scan);
    core->recovery->scan = NULL;
    int rc = open_log(core, &trail);
    if (rc == 0) {
        struct wal_stats stats;
        wal_stats(core->wal, &stats);
        core->log_begun = stats.segments_live != 0;
        recover_release_dropped(core);
    }
    /* A replay brings back versions as they were; nobody writes before the folder is closed. */
    if (rc == 0 && core->db->stop == NULL && !was_clean(core->db) && make_jumps(core) < 0)
        rc = no_memory(&trail);
    if (rc < 0 || core->recovery->jumps_under_way == 0) {
        engine_phase_done(core, rc, &trail);
        return;
    }
    struct list_link *link;
    while ((link = list_pop_front(&core->recovery->jumps)) != NULL)
        wal_append(core->wal, &container_of(link, struct jump, link)->append);
}

void recover_dispose(struct engine_core *core)
{
    struct recovery *recovery = core->recovery;
    if (recovery == NULL)
        return;
    if (recovery->scan != NULL)
        wal_scan_close(recovery->scan);
    for (unsigned i = 0; i < REACTOR_MAX; i++)
        heap_free(NULL, recovery->for_owner[i].items);
    arena_dispose(&recovery->arena);
    heap_free(NULL, recovery);
    core->recovery = NULL;
}

void recover_facts(struct pdb *db, uint64_t started_ns)
{
    struct pdb_facts *facts = &db->facts;
    struct wal_scan_stats sum = {0};
    uint64_t skipped = 0, rows = 0;
    facts->recovered_clean = was_clean(db);
    for (unsigned i = 0; i < db->core_count; i++) {
        const struct recovery *recovery = db->cores[i].recovery;
        facts->recovered_records += recovery->records;
        sum.bytes += recovery->stats.bytes;
        sum.torn_bytes += recovery->stats.torn_bytes;
        sum.segments += recovery->stats.segments;
        skipped += recovery->skipped;
        rows += db->cores[i].rows_recovered;
    }
    facts->recovered_bytes = sum.bytes;
    db->recovered_torn_bytes = sum.torn_bytes;
    facts->recovery_us = (clock_monotonic_ns() - started_ns) / 1000;
    LOG_INFO("engine",
             "recovered records=%" PRIu64 " rows=%" PRIu64 " bytes=%" PRIu64 " segments=%" PRIu64
             " skipped=%" PRIu64 " torn_bytes=%" PRIu64 " clean=%s took_us=%" PRIu64,
             facts->recovered_records, rows, sum.bytes, sum.segments, skipped, sum.torn_bytes,
             facts->recovered_clean ? "yes" : "no", facts->recovery_us);
}
