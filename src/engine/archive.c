/* archive.c: the life of the archive. Everything that changes is in files that become complete and
 * then never change: segments of logs, versions of the catalog, segments of collections. So an
 * archive is a matter of putting each of them where nothing is, once, and of a promise that nothing
 * is removed here before:
 *
 *     each core   the segments of its log, in order (archive_feed.c); the log keeps them so long
 *     core 0      versions of the catalog (archive_catalog.c), old logs, rounds that establish up
 *                 to which moment all of it is stored (archive_state.c), bases (archive_base.c)
 *
 * A store may hang for minutes, so no call of it runs on a core or on a core's worker: two outside
 * workers do nothing else, one for what the logs wait for, one for bases. Each call is a job on
 * memory of its own; it is asked to end when the server stops, and ends then within a second.
 *
 * A store that fails stops nothing but the archive: puts are tried again, for ever; meanwhile the
 * logs grow until writes are refused for want of disk space (rule W17).
 *
 * Start: nothing is put before core 0 has read what the store has. Where that does not reach what
 * is here, something is lost in between, because the archive was off: the range of time that can be
 * brought back ends there, and the next begins with a new base. Where it goes beyond what is here,
 * the data directory is an older copy of the archive's: then nothing is written at all.
 *
 * Stop: each core goes on in a last segment and waits until the one before it is stored, within the
 * time that is left for it; what does not get through is put by the next start. */
#include "engine/archive_internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "engine/old_logs.h"
#include "os/failpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

#define RESTORE_US_MAX ((int64_t)600 * 1000000)

/* ---- whether it works ---- */

void archive_failed(struct engine_core *core, struct archive_health *health,
                    const struct trail *trail)
{
    health->failures++;
    metrics_add(core->metrics, METRICS_ARCHIVE_FAILURES_AT, 1);
    if (health->failing)
        return;
    health->failing = true;
    if (trail->code == PDB_DATA_LOSS)
        LOG_ERROR("archive", "%s: %s", health->what, trail->text);
    else
        LOG_WARN("archive",
                 "%s cannot be stored, it is tried again and nothing is given up before: %s",
                 health->what, trail->text);
}

void archive_works(struct engine_core *core, struct archive_health *health)
{
    (void)core;
    health->failures = 0;
    if (!health->failing)
        return;
    health->failing = false;
    LOG_INFO("archive", "%s: stored again", health->what);
}

uint64_t archive_retry_ns(const struct engine_core *core, const struct archive_health *health)
{
    uint64_t pause_s = ARCHIVE_RETRY_FIRST_S;
    for (unsigned i = 1; i < health->failures && pause_s < ARCHIVE_RETRY_MAX_S; i++)
        pause_s *= 2;
    pause_s = pause_s < ARCHIVE_RETRY_MAX_S ? pause_s : ARCHIVE_RETRY_MAX_S;
    return core->r->now_ns + pause_s * 1000000000u;
}

/* ---- who we are ---- */

static int told(struct trail *trail, int64_t result, const char *what, const char *path)
{
    return trail_add(trail, engine_errno_code(result), "archive: %s %s: %s", what, path,
                     strerror((int)-result));
}

static int make_identity(struct io *io, const char *data_dir, const char *dir,
                         struct archive_identity *identity, struct trail *trail)
{
    struct buffer bytes;
    io->ops->random(io, identity->uuid.bytes, sizeof(identity->uuid.bytes));
    identity->uuid.bytes[6] = (uint8_t)((identity->uuid.bytes[6] & 0x0f) | 0x40);
    identity->uuid.bytes[8] = (uint8_t)((identity->uuid.bytes[8] & 0x3f) | 0x80);
    identity->created_at_us = io->ops->realtime_us(io);
    int64_t result = io_wait_make_dir(io, dir);
    if (result == -EEXIST)
        result = 0;
    if (result >= 0)
        result = io_wait_sync_dir(io, data_dir);
    if (result < 0)
        return told(trail, result, "make", dir);
    buffer_init_heap(&bytes, NULL, 0);
    archive_identity_encode(&bytes, identity);
    int rc = bytes.failed ? -ENOMEM : io_replace_file(io, dir, "IDENTITY", bytes.ptr, bytes.len);
    buffer_dispose(&bytes);
    return rc < 0 ? told(trail, rc, "write IDENTITY in", dir) : 0;
}

static int read_identity(struct pdb *db, struct io *io, struct archive_identity *identity,
                         struct trail *trail)
{
    char dir[SNAPSHOT_PATH_MAX], path[SNAPSHOT_PATH_MAX];
    void *bytes = NULL;
    size_t len = 0;
    (void)snprintf(dir, sizeof(dir), "%.1000s/archive", db->options.data_dir);
    (void)snprintf(path, sizeof(path), "%.1000s/archive/IDENTITY", db->options.data_dir);
    int rc = io_read_file(io, path, ARCHIVE_OBJECT_BYTES_MAX, &bytes, &len);
    if (rc == -ENOENT)
        return make_identity(io, db->options.data_dir, dir, identity, trail);
    if (rc < 0)
        return told(trail, rc, "read", path);
    rc = archive_identity_decode(bytes, len, identity, trail);
    heap_free(NULL, bytes);
    return rc < 0 ? trail_add(trail, rc, "%s", path) : 0;
}

bool archive_is_on(const struct pdb *db)
{
    return db->archive != NULL;
}

int archive_open(struct engine_core *core, struct trail *trail)
{
    struct pdb *db = core->db;
    const char *url = db->options.archive_url;
    struct archive_identity identity = {0};
    int rc = 0;
    if (db->archive == NULL && (url == NULL || url[0] == '\0'))
        return 0;
    if (db->archive == NULL)
        rc = store_open(text_of(url), NULL, trail, &db->archive);
    if (rc < 0)
        return trail_add(trail, rc, "archive.url");
    rc = read_identity(db, core->r->io, &identity, trail);
    db->archive_identity = identity.uuid;
    db->archive_created_us = identity.created_at_us;
    return rc;
}

void archive_close(struct pdb *db)
{
    if (!db->archive_lent)
        store_close(db->archive);
    db->archive = NULL;
}

/* ---- start ---- */

int archive_hold(struct engine_core *core)
{
    if (!archive_is_on(core->db))
        return 0;
    struct archive_core *ac = heap_calloc(NULL, 1, sizeof(*ac));
    struct archive_master *m = core->id == 0 ? heap_calloc(NULL, 1, sizeof(*m)) : NULL;
    if (ac == NULL || (core->id == 0 && m == NULL)) {
        heap_free(NULL, ac);
        heap_free(NULL, m);
        return PDB_RESOURCE_EXHAUSTED;
    }
    wal_hold_from(core->wal, 0);
    ac->core = core;
    ac->master = m;
    archive_feed_init(&ac->feed, core, core->wal, NULL);
    core->archive = ac;
    if (m == NULL)
        return 0;
    m->core = core;
    m->load.identity =
        (struct archive_identity){core->db->archive_identity, core->db->archive_created_us};
    m->load_health.what = "what the store has";
    list_init(&m->old_logs);
    archive_catalogs_look(m);
    archive_tick_init(m);
    archive_base_init(m);
    return 0;
}

int archive_add_old_log(struct engine_core *core, struct wal_retired *log)
{
    struct archive_master *m = archive_master(core);
    if (m == NULL)
        return 0;
    struct archive_feed *feed = heap_calloc(NULL, 1, sizeof(*feed));
    if (feed == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    archive_feed_init(feed, core, NULL, log);
    list_push_back(&m->old_logs, &feed->link);
    return 0;
}

static struct archive_feed *feed_of(const struct engine_core *core, const struct wal_retired *log)
{
    const struct archive_master *m = archive_master(core);
    if (m == NULL)
        return NULL;
    list_each (link, &m->old_logs) {
        struct archive_feed *feed = container_of(link, struct archive_feed, link);
        if (feed->old == log)
            return feed;
    }
    return NULL;
}

bool archive_log_stored(const struct engine_core *core, const struct wal_retired *log)
{
    const struct archive_feed *feed = feed_of(core, log);
    return feed == NULL || feed->stored;
}

void archive_drop_old_log(struct engine_core *core, const struct wal_retired *log)
{
    struct archive_feed *feed = feed_of(core, log);
    if (feed == NULL)
        return;
    ASSERT(!feed->put.busy);
    timer_cancel(core->r, &feed->retry);
    list_remove(&feed->link);
    heap_free(NULL, feed);
}

/* ---- what is known ---- */

struct archive_log *archive_known_log(const struct archive_master *m, const struct uuid *log)
{
    for (uint32_t i = 0; i < m->log_count; i++)
        if (uuid_equal(&m->logs[i].uuid, log))
            return &m->logs[i];
    return NULL;
}

bool archive_note_log(struct archive_master *m, const struct archive_log *log)
{
    struct archive_log *known = archive_known_log(m, &log->uuid);
    if (known != NULL) { /* a feed does not hear of what was pruned */
        uint64_t first_seq = known->first_seq;
        *known = *log;
        known->first_seq = first_seq > log->first_seq ? first_seq : log->first_seq;
        return true;
    }
    if (m->log_count == m->log_capacity) {
        uint32_t capacity = 2 * m->log_capacity + 16;
        struct archive_log *logs =
            heap_realloc(NULL, m->logs, capacity * sizeof(struct archive_log));
        if (logs == NULL)
            return false;
        m->logs = logs;
        m->log_capacity = capacity;
    }
    m->logs[m->log_count++] = *log;
    return true;
}

static void *copy_of(const void *from, size_t count, size_t size)
{
    void *to = heap_calloc(NULL, count + 1, size);
    if (to != NULL && count != 0)
        memcpy(to, from, count * size);
    return to;
}

/* What was loaded, as ours. */
static bool take_over(struct archive_master *m)
{
    const struct archive_state *s = &m->load.state;
    m->logs = copy_of(s->logs, s->log_count, sizeof(*m->logs));
    m->ranges = copy_of(s->ranges, s->range_count, sizeof(*m->ranges));
    m->bases = copy_of(m->load.bases, m->load.base_count, sizeof(*m->bases));
    if (m->logs == NULL || m->ranges == NULL || m->bases == NULL) {
        heap_free(NULL, m->logs);
        heap_free(NULL, m->ranges);
        heap_free(NULL, m->bases);
        m->logs = NULL;
        m->ranges = NULL;
        m->bases = NULL;
        return false;
    }
    m->log_count = s->log_count;
    m->log_capacity = s->log_count + 1;
    m->range_count = s->range_count;
    m->range_capacity = s->range_count + 1;
    m->base_count = m->load.base_count;
    m->base_capacity = m->load.base_count + 1;
    return true;
}

/* ---- the beginning ---- */

/* Ours are in the order in which they were loaded. */
static uint64_t behind_of(const struct archive_master *m, const struct archive_log *log)
{
    return log != NULL ? m->load.behind[log - m->logs] : 0;
}

/* A log that has not ended is not here any more: what it had behind its last stored segment is
 * lost. */
static bool lost_logs(const struct archive_master *m)
{
    for (uint32_t i = 0; i < m->log_count; i++) {
        bool here = m->logs[i].ended;
        for (unsigned k = 0; k < m->core->db->core_count; k++)
            here = here || uuid_equal(&m->core->db->cores[k].archive->feed.log, &m->logs[i].uuid);
        list_each (link, &m->old_logs)
            here = here || uuid_equal(&container_of(link, struct archive_feed, link)->log,
                                      &m->logs[i].uuid);
        if (!here)
            return true;
    }
    return false;
}

/* The last range grows, or the next one begins with the newest base, or with a new one. */
static void choose_range(struct archive_master *m)
{
    const struct archive_base_note *newest =
        m->base_count != 0 ? &m->bases[m->base_count - 1] : NULL;
    const struct archive_range *last = m->range_count != 0 ? &m->ranges[m->range_count - 1] : NULL;
    if (m->gap) {
        LOG_WARN("archive", "something was given up since it was last stored: moments from then "
                            "to the end of the base that is taken now cannot be brought back");
        m->base.wanted = true;
    } else if (last != NULL && !m->load.state.closed) {
        m->range_open = true;
    } else if (newest != NULL && (last == NULL || newest->ended_us > last->to_us)) {
        m->range_due = true;
        m->range_from_us = newest->ended_us;
    } else {
        m->base.wanted = true;
    }
}

static void go_arrives(struct reactor *here, struct mail *mail)
{
    struct archive_core *ac = container_of(mail, struct archive_core, begin_mail);
    (void)here;
    if (!ac->quieting)
        archive_feed_go(&ac->feed);
}

/* A collection out of a snapshot has rows that no log has, and a stop may have come before the base
 * that was to hold them. A restore may begin long before its collection is there: one base too many
 * is no harm. */
static bool base_is_due(const struct archive_master *m)
{
    const struct catalog_snapshot *catalog = m->core->catalog;
    for (uint32_t i = 0; m->base_count != 0 && i < catalog->count; i++) {
        const struct catalog_entry *entry = catalog->entries[i];
        int64_t newest_us = m->bases[m->base_count - 1].begun_us;
        if (entry->born_version != 0 && entry->created_at_us > newest_us - RESTORE_US_MAX)
            return true;
    }
    return false;
}

static void begun(struct archive_master *m)
{
    const struct archive_state *known = m->load.found ? &m->load.state : NULL;
    char text[UUID_TEXT_LEN + 1];
    enum archive_begun catalogs = archive_catalogs_begin(m, known, m->load.catalog_behind);
    m->conflict = m->conflict || catalogs == ARCHIVE_CONFLICT;
    m->gap = m->gap || catalogs == ARCHIVE_GAP || (known != NULL && lost_logs(m)) ||
             (known == NULL && m->base_count != 0);
    list_each (link, &m->old_logs) {
        struct archive_feed *feed = container_of(link, struct archive_feed, link);
        const struct archive_log *stored = archive_known_log(m, &feed->log);
        enum archive_begun log = archive_feed_begin(feed, stored, behind_of(m, stored));
        m->gap = m->gap || (log == ARCHIVE_GAP && known != NULL);
    }
    uuid_format(&m->core->db->archive_identity, text);
    if (m->conflict) {
        LOG_ERROR("archive",
                  "%s/%s has more than this data directory ever had: it is an older copy. Nothing "
                  "is stored, and logs are kept; remove archive/IDENTITY here to begin an archive "
                  "of its own",
                  store_name(m->core->db->archive), text);
        return;
    }
    m->loaded = true;
    for (unsigned i = 0; i < m->core->db->core_count; i++) {
        struct archive_core *ac = m->core->db->cores[i].archive;
        ac->begin_mail.deliver = go_arrives;
        mail_post(m->core->r, i, &ac->begin_mail);
    }
    list_each (link, &m->old_logs)
        archive_feed_go(container_of(link, struct archive_feed, link));
    choose_range(m);
    LOG_INFO("archive", "%s/%s: %u bases, %u logs", store_name(m->core->db->archive), text,
             m->base_count, m->log_count);
    archive_catalogs_kick(m);
    archive_tick(m);
    m->base.wanted = m->base.wanted || base_is_due(m);
    archive_base_arm(m);
}

static void begin_returns(struct reactor *here, struct mail *mail)
{
    const struct archive_core *ac = container_of(mail, struct archive_core, begin_mail);
    struct archive_master *m = archive_master(engine_here(here));
    m->conflict = m->conflict || ac->begun == ARCHIVE_CONFLICT;
    m->gap = m->gap || (ac->begun == ARCHIVE_GAP && m->load.found);
    if (--m->begin_left == 0 && !m->stopped)
        begun(m);
}

static void begin_arrives(struct reactor *here, struct mail *mail)
{
    struct archive_core *ac = container_of(mail, struct archive_core, begin_mail);
    if (ac->quieting)
        return;
    ac->begun =
        archive_feed_begin(&ac->feed, ac->begin_known ? &ac->begin_log : NULL, ac->begin_behind);
    mail->deliver = begin_returns;
    mail_post(here, 0, mail);
}

static void loaded(struct archive_load *load)
{
    struct archive_master *m = container_of(load, struct archive_master, load);
    struct engine_core *core = m->core;
    if (load->rc == 0 && !take_over(m))
        load->rc = trail_add(&load->trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
    if (m->stopped) {
        archive_core_moved(core->archive);
        return;
    }
    if (load->rc < 0) {
        archive_failed(core, &m->load_health, &load->trail);
        (void)timer_set(core->r, &m->load_retry, archive_retry_ns(core, &m->load_health));
        return;
    }
    archive_works(core, &m->load_health);
    m->begin_left = core->db->core_count;
    for (unsigned i = 0; i < core->db->core_count; i++) {
        struct archive_core *ac = core->db->cores[i].archive;
        const struct archive_log *log = archive_known_log(m, &ac->feed.log);
        ac->begin_known = log != NULL;
        if (log != NULL)
            ac->begin_log = *log;
        ac->begin_behind = behind_of(m, log);
        ac->begin_mail.deliver = begin_arrives;
        mail_post(core->r, i, &ac->begin_mail);
    }
}

static void load_again(struct timer *timer)
{
    struct archive_master *m = container_of(timer, struct archive_master, load_retry);
    archive_load_start(m->core, &m->load);
}

void archive_start(struct engine_core *core)
{
    struct archive_master *m = archive_master(core);
    if (m == NULL)
        return;
    m->load.done = loaded;
    m->load_retry.fire = load_again;
    archive_load_start(core, &m->load);
}

void archive_log_closed(void *arg, uint64_t seq, const char *path)
{
    struct engine_core *core = arg;
    (void)seq;
    (void)path;
    if (core->archive == NULL)
        return;
    archive_feed_kick(&core->archive->feed);
    archive_core_moved(core->archive);
}

/* ---- stop ---- */

/* Core 0: what it does besides its log. */
static bool master_is_through(const struct archive_master *m)
{
    bool through = m->loaded && m->catalogs.next > catalog_newest(m->core->master)->version;
    list_each (link, &m->old_logs)
        through = through && container_of(link, struct archive_feed, link)->over;
    return through;
}

static bool master_fails(const struct archive_master *m)
{
    bool fails = !m->loaded || m->catalogs.retry.slot != 0;
    list_each (link, &m->old_logs)
        fails = fails || container_of(link, struct archive_feed, link)->retry.slot != 0;
    return fails;
}

static void master_stop(struct archive_master *m)
{
    m->stopped = true;
    timer_cancel(m->core->r, &m->load_retry);
    timer_cancel(m->core->r, &m->tick_timer);
    if (m->load.busy)
        store_cancel(&m->load.cancel);
    archive_catalogs_stop(m);
    archive_put_cancel(&m->state_put);
    list_each (link, &m->old_logs)
        archive_feed_stop(container_of(link, struct archive_feed, link));
    archive_base_stop(m);
}

static bool master_is_busy(const struct archive_master *m)
{
    bool busy = m->load.busy || m->catalogs.put.busy || m->state_put.busy || archive_base_busy(m);
    list_each (link, &m->old_logs)
        busy = busy || container_of(link, struct archive_feed, link)->put.busy;
    return busy;
}

void archive_core_quiet(struct archive_core *ac)
{
    struct archive_feed *feed = &ac->feed;
    struct archive_master *m = ac->master;
    if (!ac->quieting || ac->closed)
        return;
    bool through = feed->begun && feed->next_seq >= ac->quiet_seq;
    bool fails = !feed->begun || feed->retry.slot != 0 || wal_poisoned(ac->core->wal);
    if (m != NULL) {
        through = through && master_is_through(m);
        fails = fails || master_fails(m);
    }
    if (!through && !fails && !feed->stopped && ac->core->r->now_ns < ac->quiet_until_ns)
        return;
    ac->quiet_all = ac->quiet_all || through;
    if (!feed->stopped) {
        archive_feed_stop(feed);
        if (m != NULL)
            master_stop(m);
    }
    if (feed->put.busy || (m != NULL && master_is_busy(m)))
        return;
    ac->closed = true;
    ac->tick_log = (struct archive_log){feed->log, feed->first_seq, feed->next_seq, false};
    timer_cancel(ac->core->r, &ac->quiet_timer);
    engine_phase_done(ac->core, 0, NULL);
}

static void quiet_fires(struct timer *timer)
{
    archive_core_quiet(container_of(timer, struct archive_core, quiet_timer));
}

void archive_quiet(struct engine_core *core)
{
    struct archive_core *ac = core->archive;
    struct reactor *r = core->r;
    if (ac == NULL || core->wal == NULL) {
        engine_phase_done(core, 0, NULL);
        return;
    }
    ac->quieting = true;
    ac->quiet_seq = wal_roll_records(core->wal);
    ac->quiet_us = r->io->ops->realtime_us(r->io);
    ac->quiet_until_ns = r->now_ns + (uint64_t)core->db->stop_ms * 1000000;
    ac->quiet_timer.fire = quiet_fires;
    if (timer_set(r, &ac->quiet_timer, ac->quiet_until_ns) < 0)
        ac->quiet_until_ns = 0;
    if (ac->master != NULL) /* a base takes too long */
        archive_base_stop(ac->master);
    archive_core_quiet(ac);
}

/* The last STATE has the time that is left of the same limit. */
static void end_fires(struct timer *timer)
{
    const struct archive_core *ac = container_of(timer, struct archive_core, quiet_timer);
    archive_put_cancel(&ac->master->state_put);
}

void archive_end(struct engine_core *core)
{
    struct archive_master *m = archive_master(core);
    bool all = m != NULL && m->loaded && !m->conflict;
    int64_t to_us = INT64_MAX;
    for (unsigned i = 0; all && i < core->db->core_count; i++) {
        const struct archive_core *ac = core->db->cores[i].archive;
        all = ac->closed && ac->quiet_all;
        to_us = ac->quiet_us < to_us ? ac->quiet_us : to_us;
    }
    if (!all) {
        engine_phase_done(core, 0, NULL);
        return;
    }
    m->ending = true;
    (void)archive_cover(m, to_us - 1);
    core->archive->quiet_timer.fire = end_fires;
    uint64_t until_ns = core->archive->quiet_until_ns;
    if (timer_set(core->r, &core->archive->quiet_timer,
                  until_ns > core->r->now_ns ? until_ns : core->r->now_ns) == 0)
        archive_state_write(m);
    else
        engine_phase_done(core, 0, NULL);
}

static void free_master(struct archive_master *m)
{
    struct list_link *link;
    timer_cancel(m->core->r, &m->load_retry);
    timer_cancel(m->core->r, &m->tick_timer);
    timer_cancel(m->core->r, &m->catalogs.retry);
    timer_cancel(m->core->r, &m->base.timer);
    while ((link = list_pop_front(&m->old_logs)) != NULL) {
        struct archive_feed *feed = container_of(link, struct archive_feed, link);
        timer_cancel(m->core->r, &feed->retry);
        heap_free(NULL, feed);
    }
    archive_base_free(m);
    arena_dispose(&m->load.arena);
    buffer_dispose(&m->state_bytes);
    heap_free(NULL, m->logs);
    heap_free(NULL, m->ranges);
    heap_free(NULL, m->bases);
    heap_free(NULL, m);
}

void archive_free(struct engine_core *core)
{
    struct archive_core *ac = core->archive;
    if (ac == NULL)
        return;
    timer_cancel(core->r, &ac->feed.retry);
    timer_cancel(core->r, &ac->quiet_timer);
    if (ac->master != NULL)
        free_master(ac->master);
    core->archive = NULL;
    heap_free(NULL, ac);
}

/* ---- figures ---- */

void archive_stats(const struct engine_core *core, struct archive_stats *stats_out)
{
    const struct archive_master *m = archive_master(core);
    *stats_out = (struct archive_stats){0};
    if (core->archive != NULL)
        stats_out->lag_bytes = archive_feed_lag(&core->archive->feed);
    if (m == NULL)
        return;
    stats_out->covered_us = m->covered_us;
    stats_out->bases = m->base_count;
    stats_out->base_us = m->base_count != 0 ? m->bases[m->base_count - 1].ended_us : 0;
}
