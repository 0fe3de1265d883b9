/* engine.c: opening and closing a database, as phases.
 *
 * A phase is a function that every core runs on its own thread; the opener's thread posts it as
 * mail and waits until all have said that they are through (maybe much later: a phase may wait for
 * I/O). So start-up needs no lock between cores and no barrier inside them, what one core leaves
 * behind in a phase may be read by all in the next, and a simulated database goes through the same
 * code with the opener turning the reactors.
 *
 *     open    catalog (core 0) -> adopt -> scan logs -> segments -> load -> open logs
 *             -> list them (core 0) -> serve (the host's core_start)
 *     replay  as open, then flush everything (recover_replay.c); archives are restored that way
 *     close   stop (core_stop) -> drain calls -> end flushes and merges -> store what the archive
 *             lacks, as long as that may take -> flush mail to core 0 -> close logs -> free
 *
 * An error in a phase stops the opening: the phases of closing run for what is there. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/uuid.h"
#include "engine/archive.h"
#include "engine/archive_internal.h"
#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/old_logs.h"
#include "engine/recall.h"
#include "engine/snapshot.h"
#include "engine/upkeep.h"
#include "os/sim.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <vecmath/vecmath.h>

#include "base/no_libc_heap.h"

enum { CLOSE_MS = 10000 };

int engine_errno_code(int64_t result)
{
    switch (-result) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOMEM:
        return PDB_RESOURCE_EXHAUSTED;
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOTDIR:
    case ENAMETOOLONG:
    case ENOENT:
        return PDB_FAILED_PRECONDITION;
    default:
        return PDB_UNAVAILABLE;
    }
}

static void set_error(struct pdb_error *error, int code, const struct trail *trail)
{
    *error = (struct pdb_error){.code = code};
    (void)snprintf(error->text, sizeof(error->text), "%s",
                   trail->len != 0 ? trail->text : pdb_error_text(code));
}

/* ---- phases ---- */

void engine_phase_done(struct engine_core *core, int rc, const struct trail *trail)
{
    struct pdb *db = core->db;
    (void)pthread_mutex_lock(&db->phase_lock);
    if (rc < 0 && db->phase_error.code == 0)
        set_error(&db->phase_error, rc, trail);
    ASSERT(db->phase_left > 0);
    if (--db->phase_left == 0)
        (void)pthread_cond_signal(&db->phase_changed);
    (void)pthread_mutex_unlock(&db->phase_lock);
}

static void phase_arrives(struct reactor *here, struct mail *mail)
{
    (void)here;
    struct engine_core *core = container_of(mail, struct engine_core, phase_mail);
    core->phase_run(core);
}

void engine_pump(struct pdb *db)
{
    bool any = false;
    for (unsigned i = 0; i < db->core_count; i++)
        any = reactor_turn(db->cores[i].r) || any;
    if (any)
        return;
    uint64_t step_ns = 1000000000; /* to the next timer or completion, whichever comes first */
    for (unsigned i = 0; i < db->core_count; i++) {
        int64_t wait_ns = reactor_wait_ns(db->cores[i].r);
        if (wait_ns >= 0 && (uint64_t)wait_ns < step_ns)
            step_ns = (uint64_t)wait_ns;
    }
    sim_advance(db->sim, step_ns);
}

static bool phase_over(struct pdb *db)
{
    (void)pthread_mutex_lock(&db->phase_lock);
    bool over = db->phase_left == 0;
    (void)pthread_mutex_unlock(&db->phase_lock);
    return over;
}

/* On the first `core_count` cores; 0 or the first error, which is kept in db->phase_error. */
static int run_phase(struct pdb *db, unsigned core_count, void (*run)(struct engine_core *core))
{
    db->phase_error = (struct pdb_error){0};
    db->phase_left = core_count;
    for (unsigned i = 0; i < core_count; i++) {
        db->cores[i].phase_run = run;
        db->cores[i].phase_mail.deliver = phase_arrives;
        mail_post_external(db->group, i, &db->cores[i].phase_mail);
    }
    while (db->sim != NULL && !phase_over(db))
        engine_pump(db);
    (void)pthread_mutex_lock(&db->phase_lock);
    while (db->phase_left != 0)
        (void)pthread_cond_wait(&db->phase_changed, &db->phase_lock);
    (void)pthread_mutex_unlock(&db->phase_lock);
    return db->phase_error.code;
}

/* ---- opening: the phases ---- */

static int make_wal_dirs(struct engine_core *core, struct trail *trail)
{
    struct pdb *db = core->db;
    for (size_t i = 0; i < db->wal_dir_count; i++) {
        int64_t result = io_wait_make_dir(core->r->io, db->wal_dirs[i]);
        if (result < 0 && result != -EEXIST)
            return trail_add(trail, engine_errno_code(result), "%s: cannot be made: %s",
                             db->wal_dirs[i], strerror((int)-result));
    }
    int64_t result = io_wait_sync_dir(core->r->io, db->options.data_dir);
    if (result < 0)
        return trail_add(trail, engine_errno_code(result), "%s: cannot be synced: %s",
                         db->options.data_dir, strerror((int)-result));
    return 0;
}

static void phase_catalog(struct engine_core *core)
{
    struct trail trail = {0};
    struct arena arena;
    struct catalog_image image;
    arena_init(&arena, 0);
    int rc = catalog_load(core->r->io, core->db->options.data_dir, &arena, &image, &trail);
    if (rc == 0) {
        rc = catalog_master_start(core, &image);
        catalog_image_dispose(&image);
        if (rc < 0)
            (void)trail_add(&trail, rc, "catalog: out of memory");
    }
    if (rc == 0)
        rc = archive_open(core, &trail);
    if (rc == 0) /* before a directory is made in the place of a missing disk */
        rc = log_list_check(core->db, core->r->io, &trail);
    if (rc == 0)
        rc = make_wal_dirs(core, &trail);
    if (rc == 0)
        rc = wal_sweep(core->r->io, core->db->wal_dirs, core->db->wal_dir_count, &trail);
    arena_dispose(&arena);
    core->db->opened_at_ns = core->r->now_ns; /* a reactor's clock is its own thread's to read */
    engine_phase_done(core, rc, &trail);
}

static void phase_adopt(struct engine_core *core)
{
    struct catalog_snapshot *snapshot = catalog_newest(core->db->cores[0].master);
    struct trail trail = {0};
    int rc = 0;
    for (uint32_t i = 0; i < snapshot->count && rc == 0; i++) {
        struct shard *shard;
        if (catalog_owner(&snapshot->entries[i]->uuid, core->db->core_count) == core->id)
            rc = shard_open(core, snapshot->entries[i], &shard);
    }
    if (rc < 0)
        (void)trail_add(&trail, rc, "out of memory for the collections of the catalog");
    catalog_adopt(core, snapshot);
    engine_phase_done(core, rc, &trail);
}

static void phase_list_logs(struct engine_core *core)
{
    struct trail trail = {0};
    int rc = log_list_add(core->db, core->r->io, &trail);
    if (rc == 0 && core->db->stop == NULL)
        rc = old_logs_open(core, &trail);
    if (rc == 0)
        recover_release_dropped(core);
    engine_phase_done(core, rc, &trail);
}

static void phase_serve(struct engine_core *core)
{
    struct pdb *db = core->db;
    struct pdb_error error = {0};
    struct trail trail = {0};
    recover_dispose(core);
    core->compaction_rate.bytes_per_s = db->options.compaction_rate_bytes_per_s;
    upkeep_release_all(core);
    upkeep_warm_start(core);
    expire_start(core);
    if (core->id == 0) {
        snapshots_start(core);
        archive_start(core);
    }
    memory_note_change(core);
    int rc = 0;
    if (db->options.core_start != NULL) {
        rc = db->options.core_start(db, core->r, db->options.arg, &error);
        core->serving = rc == 0;
    }
    if (rc < 0)
        (void)trail_add(&trail, rc, "%s", error.text[0] != '\0' ? error.text : pdb_error_text(rc));
    engine_phase_done(core, rc, &trail);
}

/* ---- closing: the phases ---- */

static void phase_stop(struct engine_core *core)
{
    struct pdb *db = core->db;
    if (core->serving && db->options.core_stop != NULL)
        db->options.core_stop(db, core->r, db->options.arg);
    core->serving = false;
    engine_phase_done(core, 0, NULL);
}

static void phase_drain(struct engine_core *core)
{
    core->closing = true;
    snapshots_stop(core);
    upkeep_end_waits(core);
    recall_stop(core);
    if (core->calls_active == 0)
        engine_phase_done(core, 0, NULL);
    else
        core->draining = true;
}

static void flush_returns(struct reactor *here, struct mail *mail)
{
    (void)mail;
    engine_phase_done(engine_here(here), 0, NULL);
}

static void flush_arrives(struct reactor *here, struct mail *mail)
{
    unsigned from = mail->from;
    mail->deliver = flush_returns;
    mail_post(here, from, mail);
}

/* Behind this all mail that had to do with the archive has been read. */
static void phase_flush(struct engine_core *core)
{
    core->flush_mail.deliver = flush_arrives;
    mail_post(core->r, 0, &core->flush_mail);
}

static void phase_close(struct engine_core *core)
{
    recover_dispose(core);
    archive_free(core);
    timer_cancel(core->r, &core->sweep_timer);
    task_cancel(&core->sweep_task);
    recall_free(core);
    timer_cancel(core->r, &core->stall_timer);
    timer_cancel(core->r, &core->memory.timer);
    if (core->wal != NULL)
        wal_close(core->wal);
    core->wal = NULL;
    old_logs_close(core);
    list_each_safe(link, following, &core->shard_list)
        shard_free(container_of(link, struct shard, link));
    list_each_safe(link, following, &core->staged)
        shard_free(container_of(link, struct shard, link));
    discard_rest(core);
    map_dispose(&core->shards);
    core->catalog = NULL;
    engine_phase_done(core, 0, NULL);
}

static void phase_free_catalog(struct engine_core *core)
{
    snapshots_free(core);
    catalog_master_stop(core);
    engine_phase_done(core, 0, NULL);
}

/* ---- options ---- */

static const char *keep_text(struct pdb *db, const char *text)
{
    return arena_copy_text(&db->texts, text, strlen(text)).ptr;
}

int pdb_core_count(const struct pdb_options *options, unsigned *count_out)
{
    unsigned count = options->cores;
    if (count > REACTOR_MAX)
        return PDB_INVALID_ARGUMENT;
    if (count == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        cpu_set_t set;
        if (sched_getaffinity(0, sizeof(set), &set) == 0)
            cores = CPU_COUNT(&set);
        count = cores < 1 ? 1 : cores > REACTOR_MAX ? REACTOR_MAX : (unsigned)cores;
    }
    *count_out = count;
    return 0;
}

static void set_defaults(struct pdb_options *o)
{
    (void)pdb_core_count(o, &o->cores); /* too many are refused before */
    if (o->memory_limit == 0)
        o->memory_limit = memory_default_limit();
    if (o->wal_segment_bytes == 0)
        o->wal_segment_bytes = (uint64_t)64 << 20;
    if (o->wal_batch_window_us == 0)
        o->wal_batch_window_us = 1000;
    if (o->wal_period_ms == 0)
        o->wal_period_ms = 200;
    if (o->wal_max_bytes == 0)
        o->wal_max_bytes = (uint64_t)4 << 30;
    if (o->flush_rows == 0)
        o->flush_rows = 1000000;
    if (o->flush_bytes == 0)
        o->flush_bytes = (uint64_t)256 << 20;
    if (o->flush_age_s == 0)
        o->flush_age_s = 300;
    if (o->segments_max == 0)
        o->segments_max = 8;
    if (o->snapshot_keep == 0)
        o->snapshot_keep = 7;
    if (o->archive_interval_s == 0)
        o->archive_interval_s = 60;
    if (o->archive_base_interval_s == 0)
        o->archive_base_interval_s = 86400;
    if (o->archive_keep == 0)
        o->archive_keep = 7;
    if (o->disk_min_free_bytes == 0)
        o->disk_min_free_bytes = (uint64_t)2 << 30;
    if (o->collections_max == 0)
        o->collections_max = 65536;
    if (o->ttl_sweep_ms == 0)
        o->ttl_sweep_ms = 1000;
    if (o->ttl_grace_s_plus_one == 0)
        o->ttl_grace_s_plus_one = 3601;
    if (o->filter_depth_max == 0)
        o->filter_depth_max = 32;
    if (o->filter_leaves_max == 0)
        o->filter_leaves_max = 1024;
}

static bool keep_paths(struct pdb *db, const struct pdb_options *from)
{
    static const char *const only_default[1] = {NULL};
    const char *const *dirs = from->wal_dir_count != 0 ? from->wal_dirs : only_default;
    db->wal_dir_count = from->wal_dir_count != 0 ? from->wal_dir_count : 1;
    db->wal_dirs = arena_array(&db->texts, const char *, db->wal_dir_count);
    db->core_log_dirs = arena_array(&db->texts, const char *, db->core_count);
    if (db->wal_dirs == NULL || db->core_log_dirs == NULL)
        return false;
    for (size_t i = 0; i < db->wal_dir_count; i++) {
        db->wal_dirs[i] = dirs[i] != NULL
                              ? keep_text(db, dirs[i])
                              : arena_format(&db->texts, "%s/wal", db->options.data_dir).ptr;
        if (db->wal_dirs[i] == NULL)
            return false;
    }
    for (unsigned i = 0; i < db->core_count; i++) {
        db->core_log_dirs[i] =
            arena_format(&db->texts, "%s/%u", db->wal_dirs[i % db->wal_dir_count], i).ptr;
        if (db->core_log_dirs[i] == NULL)
            return false;
    }
    return true;
}

static int check_options(const struct pdb_options *o, struct trail *trail)
{
    if (o->cores > REACTOR_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "cores: at most %d, found %u", REACTOR_MAX,
                         o->cores);
    if (o->data_dir != NULL && (o->data_dir[0] == '\0' || strlen(o->data_dir) > 900))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "data_dir: expected 1 to 900 bytes");
    if (o->wal_segment_bytes % (1 << 20) != 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "wal_segment_bytes: expected a multiple of 1 MiB");
    if ((unsigned)o->io_engine > PDB_IO_THREADS || (unsigned)o->wal_encoding > PDB_WAL_AVRO ||
        (unsigned)o->wal_io_mode > PDB_WAL_BUFFERED || (unsigned)o->wal_on_error > PDB_WAL_READONLY)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "options: a choice has an unknown value");
    return 0;
}

static int select_kernels(const char *simd, struct trail *trail)
{
    char why[256] = "";
    if (vecmath_select(simd, why, sizeof(why)) == 0)
        return 0;
    return trail_add(trail, PDB_INVALID_ARGUMENT, "simd: %s", why);
}

/* ---- making and freeing ---- */

static void db_free(struct pdb *db)
{
    lock_release(db->lock_file);
    (void)pthread_cond_destroy(&db->phase_changed);
    (void)pthread_mutex_destroy(&db->phase_lock);
    arena_dispose(&db->texts);
    heap_free(NULL, db->cores);
    heap_free(NULL, db);
}

static int db_new(const struct pdb_options *options, struct sim_disk *sim, struct pdb **db_out,
                  struct trail *trail)
{
    int rc;
    if ((rc = check_options(options, trail)) < 0 || (rc = select_kernels(options->simd, trail)) < 0)
        return rc;
    struct pdb *db = heap_calloc(NULL, 1, sizeof(*db));
    if (db == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
    (void)pthread_mutex_init(&db->phase_lock, NULL);
    (void)pthread_cond_init(&db->phase_changed, NULL);
    arena_init(&db->texts, 0);
    db->lock_file = -1;
    db->sim = sim;
    db->options = *options;
    set_defaults(&db->options);
    db->core_count = db->options.cores;
    db->options.data_dir = keep_text(db, options->data_dir != NULL ? options->data_dir : "./data");
    db->cores = heap_calloc(NULL, db->core_count, sizeof(struct engine_core));
    struct uuid random;
    if (db->cores == NULL || db->options.data_dir == NULL || !keep_paths(db, options) ||
        (options->archive_url != NULL &&
         (db->options.archive_url = keep_text(db, options->archive_url)) == NULL) ||
        uuid_random(&random) < 0) {
        db_free(db);
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
    }
    memcpy(&db->hash_key, &random, sizeof(db->hash_key));
    for (unsigned i = 0; i < db->core_count; i++) {
        db->cores[i].db = db;
        db->cores[i].id = i;
    }
    *db_out = db;
    return 0;
}

static int start_core(struct reactor *r, void *arg)
{
    struct pdb *db = arg;
    struct engine_core *core = &db->cores[r->id];
    core->r = r;
    core->metrics = heap_calloc(&r->heap, 1, sizeof(*core->metrics));
    if (core->metrics == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    r->user[REACTOR_SLOT_METRICS] = core->metrics;
    r->user[REACTOR_SLOT_ENGINE] = core;
    list_init(&core->awaiting_catalog);
    list_init(&core->stalled);
    list_init(&core->upkeep_ops);
    list_init(&core->discards);
    list_init(&core->unmappings);
    memtable_pool_init(&core->memtable_pool, &r->heap);
    list_init(&core->flush_line);
    list_init(&core->merge_line);
    list_init(&core->held_merges);
    list_init(&core->index_line);
    list_init(&core->ann_frees);
    list_init(&core->staged);
    list_init(&core->old_logs);
    shard_table_init(core);
    ann_set_core_init(core);
    walk_pool_init(core);
    return 0;
}

static void stop_core(struct reactor *r, void *arg)
{
    struct pdb *db = arg;
    heap_free(&r->heap, db->cores[r->id].fetch_sink);
    walk_pool_dispose(&db->cores[r->id]);
    heap_free(&r->heap, r->user[REACTOR_SLOT_METRICS]);
    r->user[REACTOR_SLOT_METRICS] = NULL;
    r->user[REACTOR_SLOT_ENGINE] = NULL;
}

static int start_reactors(struct pdb *db, struct trail *trail)
{
    static const enum io_engine_choice choices[] = {IO_ENGINE_AUTO, IO_ENGINE_URING,
                                                    IO_ENGINE_THREADS};
    struct reactor_options options = {
        .count = db->core_count,
        .pin = !db->options.no_pin,
        .spin_us = db->options.spin_us,
        .io_engine = choices[db->options.io_engine],
        .host = db->options.host,
        .outside_workers =
            db->archive != NULL || db->options.archive_url != NULL ? ARCHIVE_WORKERS : 0,
        .start = start_core,
        .stop = stop_core,
        .arg = db,
        .sim = db->sim,
    };
    const char *reason = NULL;
    int rc = reactor_group_start(&options, &db->group, &reason);
    if (rc < 0)
        return trail_add(trail, rc, "the reactors cannot start: %s",
                         reason != NULL ? reason : pdb_error_text(rc));
    db->facts.io_engine_reason = keep_text(db, reason != NULL ? reason : "");
    if (reason != NULL)
        LOG_WARN("engine", "io_uring is not used: %s", reason);
    return 0;
}

static void fill_facts(struct pdb *db)
{
    struct pdb_facts *facts = &db->facts;
    facts->version = PDB_VERSION;
    facts->simd = vecmath_isa_name();
    facts->io_engine = db->cores[0].r->io->ops->name;
    if (facts->io_engine_reason == NULL)
        facts->io_engine_reason = "";
    facts->wal_encoding = db->options.wal_encoding == PDB_WAL_AVRO ? "avro" : "binary";
    facts->wal_io_mode = db->options.wal_io_mode == PDB_WAL_BUFFERED ? "buffered" : "direct";
    facts->data_dir = db->options.data_dir;
    facts->cores = db->core_count;
    facts->memory_limit = db->options.memory_limit;
}

static void tear_down(struct pdb *db)
{
    if (db->group != NULL) {
        (void)run_phase(db, db->core_count, phase_stop);
        (void)run_phase(db, db->core_count, phase_drain);
        (void)run_phase(db, db->core_count, upkeep_quiet);
        (void)run_phase(db, db->core_count, archive_quiet);
        (void)run_phase(db, 1, archive_end);
        (void)run_phase(db, db->core_count, phase_flush);
        (void)run_phase(db, db->core_count, phase_close);
        (void)run_phase(db, 1, phase_free_catalog);
        reactor_group_stop(db->group);
    }
    archive_close(db);
    db_free(db);
}

static int open_phases(struct pdb *db)
{
    int rc;
    uint64_t started_ns = clock_monotonic_ns();
    if ((rc = run_phase(db, 1, phase_catalog)) < 0 ||
        (rc = run_phase(db, db->core_count, phase_adopt)) < 0 ||
        (rc = run_phase(db, db->core_count, recover_scan)) < 0 ||
        (rc = run_phase(db, db->core_count, recover_segments)) < 0 ||
        (rc = run_phase(db, db->core_count, recover_load)) < 0 ||
        (rc = run_phase(db, db->core_count, recover_open_log)) < 0 ||
        (rc = run_phase(db, 1, phase_list_logs)) < 0)
        return rc;
    recover_facts(db, started_ns);
    fill_facts(db);
    rc = run_phase(db, db->core_count, phase_serve);
    return rc == 0 && db->stop != NULL ? run_phase(db, db->core_count, recover_settle) : rc;
}

static int open_db(struct pdb *db, struct pdb_error *error)
{
    struct trail trail = {0};
    int rc = db->sim != NULL ? 0 : lock_take(db->options.data_dir, &db->lock_file, &trail);
    if (rc == 0)
        rc = start_reactors(db, &trail);
    if (rc < 0) {
        set_error(error, rc, &trail);
        return rc;
    }
    rc = open_phases(db);
    if (rc < 0)
        *error = db->phase_error;
    return rc;
}

static int open_with(const struct pdb_options *options, struct sim_disk *sim, struct store *archive,
                     const struct replay_stop *stop, struct pdb **db_out, struct pdb_error *error)
{
    struct trail trail = {0};
    struct pdb *db = NULL;
    struct pdb_error ignored;
    if (error == NULL)
        error = &ignored;
    *error = (struct pdb_error){0};
    int rc = db_new(options, sim, &db, &trail);
    if (rc < 0) {
        set_error(error, rc, &trail);
        return rc;
    }
    db->stop = stop;
    db->replays = stop != NULL;
    db->archive = archive;
    db->archive_lent = archive != NULL;
    rc = open_db(db, error);
    db->stop = NULL; /* the caller's; all that looks at it has run */
    if (rc < 0) {
        tear_down(db);
        return rc;
    }
    *db_out = db;
    return 0;
}

int pdb_open(const struct pdb_options *options, struct pdb **db_out, struct pdb_error *error)
{
    return open_with(options, NULL, NULL, NULL, db_out, error);
}

int engine_open_replay(const struct pdb_options *options, const struct replay_stop *stop,
                       struct pdb **db_out, struct pdb_error *error)
{
    return open_with(options, NULL, NULL, stop, db_out, error);
}

int engine_open_sim(const struct pdb_options *options, struct sim_disk *disk, struct pdb **db_out,
                    struct pdb_error *error)
{
    return open_with(options, disk, NULL, NULL, db_out, error);
}

int engine_open_sim_archived(const struct pdb_options *options, struct sim_disk *disk,
                             struct store *archive, struct pdb **db_out, struct pdb_error *error)
{
    return open_with(options, disk, archive, NULL, db_out, error);
}

void engine_abandon_sim(struct pdb *db, void (*drop_log)(struct wal *w))
{
    snapshots_free(&db->cores[0]); /* what it holds of shards goes first */
    for (unsigned i = 0; i < db->core_count; i++) {
        struct engine_core *core = &db->cores[i];
        recover_dispose(core);
        archive_free(core);
        drop_log(core->wal);
        recall_free(core);
        upkeep_abandon(core);
        list_each_safe(link, following, &core->shard_list)
            shard_free(container_of(link, struct shard, link));
        list_each_safe(link, following, &core->staged)
            shard_free(container_of(link, struct shard, link));
        discard_rest(core);
        map_dispose(&core->shards);
    }
    catalog_master_stop(&db->cores[0]);
    reactor_group_stop(db->group);
    archive_close(db);
    db_free(db);
}

void pdb_close(struct pdb *db)
{
    pdb_close_within(db, CLOSE_MS);
}

void pdb_close_within(struct pdb *db, uint32_t ms)
{
    if (db == NULL)
        return;
    db->stop_ms = ms;
    tear_down(db);
}

const char *pdb_version(void)
{
    return PDB_VERSION;
}

const struct pdb_facts *pdb_facts(const struct pdb *db)
{
    return &db->facts;
}
