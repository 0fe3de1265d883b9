/* archive_state.c: rounds. Every archive.interval_s core 0 asks each core to go on in another log
 * segment if there are records in the current one, and to say when everything before that is
 * stored. When all have said so, and every version of the catalog so far is stored, then everything
 * up to the moment of asking can be brought back, and STATE says so.
 *
 *     core 0: now, the newest catalog -> each core: rolls, now -> its feed stores -> core 0
 *     all are there, catalogs are there -> STATE with the least of these times -> the next round
 *
 * Times are read after what they cover was closed: a group carries the time of its closing, and
 * what is closed later has a later time. A catalog that is being changed when the round begins may
 * carry an earlier time than the round's and become durable behind it; then the round ends before
 * that change began.
 *
 * A round takes as long as the store does, and there is one at a time. Old logs without a core have
 * to be stored before the moment moves at all. */
#include "engine/archive_internal.h"

#include "base/assert.h"
#include "engine/catalog.h"
#include "engine/old_logs.h"
#include "os/failpoint.h"

#include <string.h>

#include "base/no_libc_heap.h"

static uint64_t interval_ns(const struct archive_master *m)
{
    return (uint64_t)m->core->db->options.archive_interval_s * 1000000000u;
}

static int64_t now_us(const struct archive_master *m)
{
    struct io *io = m->core->r->io;
    return io->ops->realtime_us(io);
}

void archive_tick_arm(struct archive_master *m, uint64_t in_ns)
{
    struct reactor *r = m->core->r;
    if (!m->stopped)
        (void)timer_set(r, &m->tick_timer, r->now_ns + in_ns);
}

/* ---- writing STATE ---- */

static void old_logs_are_known(struct archive_master *m)
{
    list_each (link, &m->old_logs) {
        struct archive_feed *feed = container_of(link, struct archive_feed, link);
        const struct archive_log *log = archive_known_log(m, &feed->log);
        feed->stored = feed->stored || (feed->over && log != NULL && log->ended);
    }
    old_logs_stored(m->core);
}

static void state_put(struct archive_put *put)
{
    struct archive_master *m = container_of(put, struct archive_master, state_put);
    bool good = put->rc == 0;
    buffer_dispose(&m->state_bytes);
    m->ticking = false;
    if (good) {
        FAILPOINT("archive.state");
        archive_works(m->core, &m->state_health);
        if (m->range_open)
            m->covered_us = m->ranges[m->range_count - 1].to_us;
        old_logs_are_known(m);
    } else if (!m->stopped) {
        archive_failed(m->core, &m->state_health, &put->trail);
    }
    archive_base_state_written(m, good);
    if (m->ending)
        engine_phase_done(m->core, 0, NULL);
    else
        archive_core_moved(m->core->archive);
    bool again = m->tick_again;
    m->tick_again = false;
    archive_tick_arm(m, !good   ? archive_retry_ns(m->core, &m->state_health) - m->core->r->now_ns
                        : again ? 0
                                : interval_ns(m));
}

void archive_state_write(struct archive_master *m)
{
    struct archive_state state = {
        .identity = m->core->db->archive_identity,
        .written_at_us = now_us(m),
        .catalog_first = m->catalogs.first,
        .catalog_next = m->catalogs.next,
        .ranges = m->ranges,
        .range_count = m->range_count,
        .logs = m->logs,
        .log_count = m->log_count,
        .closed = !m->range_open,
    };
    ASSERT(!m->state_put.busy);
    m->ticking = true;
    buffer_init_heap(&m->state_bytes, NULL, 0);
    archive_state_encode(&m->state_bytes, &state);
    struct archive_put *put = &m->state_put;
    archive_state_key(put->key, &state.identity);
    put->bytes = m->state_bytes.ptr;
    put->len = m->state_bytes.len;
    put->replace = true;
    put->done = state_put;
    if (m->state_bytes.failed) {
        put->rc = trail_add(&put->trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
        state_put(put);
        return;
    }
    archive_put_start(m->core, ARCHIVE_WORKER_LOGS, put);
}

/* ---- the end of a round ---- */

static bool add_range(struct archive_master *m, int64_t from_us, int64_t to_us)
{
    if (m->range_count == m->range_capacity) {
        uint32_t capacity = 2 * m->range_capacity + 8;
        struct archive_range *ranges =
            heap_realloc(NULL, m->ranges, capacity * sizeof(struct archive_range));
        if (ranges == NULL)
            return false;
        m->ranges = ranges;
        m->range_capacity = capacity;
    }
    m->ranges[m->range_count++] = (struct archive_range){from_us, to_us};
    return true;
}

/* All up to that moment is stored. */
static void cover(struct archive_master *m, int64_t to_us)
{
    if (m->range_open) {
        struct archive_range *last = &m->ranges[m->range_count - 1];
        last->to_us = last->to_us > to_us ? last->to_us : to_us;
    } else if (m->range_due && to_us >= m->range_from_us) {
        if (m->range_count != 0 && m->ranges[m->range_count - 1].to_us > m->range_from_us)
            return; /* the clock was set back: when it has caught up */
        m->range_open = add_range(m, m->range_from_us, to_us);
        m->range_due = !m->range_open;
    }
}

static bool note_old_logs(struct archive_master *m)
{
    bool all = true;
    list_each (link, &m->old_logs) {
        const struct archive_feed *feed = container_of(link, struct archive_feed, link);
        const struct archive_log log = {feed->log, feed->first_seq, feed->next_seq, feed->over};
        all = archive_note_log(m, &log) && all && feed->over;
    }
    return all;
}

bool archive_cover(struct archive_master *m, int64_t to_us)
{
    bool all = note_old_logs(m);
    for (unsigned i = 0; i < m->core->db->core_count; i++)
        all = archive_note_log(m, &m->core->db->cores[i].archive->tick_log) && all;
    if (all)
        cover(m, to_us);
    return all;
}

static void round_done(struct archive_master *m)
{
    if (m->stopped)
        return;
    (void)archive_cover(m, m->tick_us - 1);
    archive_state_write(m);
}

static void part_done(struct archive_master *m)
{
    ASSERT(m->tick_left != 0);
    if (--m->tick_left == 0)
        round_done(m);
}

/* ---- catalogs ---- */

void archive_tick_catalog(struct archive_master *m)
{
    if (!m->tick_catalog_waits || m->catalogs.next <= m->tick_catalog)
        return;
    m->tick_catalog_waits = false;
    part_done(m);
}

/* ---- each core ---- */

static void tick_returns(struct reactor *here, struct mail *mail)
{
    const struct archive_core *ac = container_of(mail, struct archive_core, tick_mail);
    struct archive_master *m = archive_master(engine_here(here));
    if (ac->tick_us < m->tick_us)
        m->tick_us = ac->tick_us;
    part_done(m);
}

void archive_core_moved(struct archive_core *ac)
{
    const struct archive_feed *feed = &ac->feed;
    if (ac->ticking && feed->begun && feed->next_seq >= ac->tick_seq) {
        ac->ticking = false;
        ac->tick_log = (struct archive_log){feed->log, feed->first_seq, feed->next_seq, false};
        ac->tick_mail.deliver = tick_returns;
        mail_post(ac->core->r, 0, &ac->tick_mail);
    }
    archive_core_quiet(ac);
}

static void tick_arrives(struct reactor *here, struct mail *mail)
{
    struct archive_core *ac = container_of(mail, struct archive_core, tick_mail);
    struct engine_core *core = engine_here(here);
    if (ac->quieting)
        return; /* the round ends with the server */
    ac->ticking = true;
    ac->tick_seq = wal_roll_records(core->wal);
    ac->tick_us = here->io->ops->realtime_us(here->io);
    archive_core_moved(ac);
}

/* ---- the beginning of a round ---- */

static void tick_fires(struct timer *timer)
{
    archive_tick(container_of(timer, struct archive_master, tick_timer));
}

void archive_tick_init(struct archive_master *m)
{
    m->tick_timer.fire = tick_fires;
    m->state_health.what = "STATE";
}

void archive_tick(struct archive_master *m)
{
    if (!m->loaded || m->conflict || m->stopped)
        return;
    if (m->ticking) {
        m->tick_again = true;
        return;
    }
    timer_cancel(m->core->r, &m->tick_timer);
    m->ticking = true;
    int64_t now = now_us(m), changing_us = catalog_changing_since(m->core->master);
    m->tick_us = changing_us < now ? changing_us : now;
    m->tick_catalog = catalog_newest(m->core->master)->version;
    m->tick_catalog_waits = true;
    m->tick_left = m->core->db->core_count + 1;
    for (unsigned i = 0; i < m->core->db->core_count; i++) {
        struct mail *mail = &m->core->db->cores[i].archive->tick_mail;
        mail->deliver = tick_arrives;
        mail_post(m->core->r, i, mail);
    }
    archive_tick_catalog(m);
}
