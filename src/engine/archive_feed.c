/* archive_feed.c: the segments of one log, one after the other, into the store.
 *
 * A feed asks its log for the segment that is next; it keeps no list of its own. What is stored the
 * log may give up (wal_hold_from), not before; so a store that fails holds the log, until the disk
 * is too full for writes (rule W17), and a crash between storing and noting it finds the segment
 * still there, or, if it was given up meanwhile, finds it in the store (archive_load.c).
 *
 * Nothing is asked of the store before it is known what it has: begin tells. */
#include "engine/archive_internal.h"

#include "base/log.h"
#include "os/failpoint.h"

#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

struct look {
    uint64_t seq; /* that is looked for */
    uint64_t first, last, used_bytes, lag_bytes;
    bool any, found, complete;
    char path[SNAPSHOT_PATH_MAX];
};

static void see(void *arg, const struct wal_segment_info *info)
{
    struct look *look = arg;
    look->first = look->any ? look->first : info->seq;
    look->last = info->seq;
    look->any = true;
    if (info->seq >= look->seq && info->complete)
        look->lag_bytes += info->used_bytes;
    if (info->seq != look->seq)
        return;
    look->found = true;
    look->complete = info->complete;
    look->used_bytes = info->used_bytes;
    (void)snprintf(look->path, sizeof(look->path), "%s", info->path);
}

static struct look look_for(const struct archive_feed *feed, uint64_t seq)
{
    struct look look = {.seq = seq};
    if (feed->wal != NULL)
        wal_segments(feed->wal, see, &look);
    else
        wal_retired_segments(feed->old, see, &look);
    return look;
}

uint64_t archive_feed_first_local(const struct archive_feed *feed)
{
    struct look look = look_for(feed, 0);
    if (look.any)
        return look.first;
    return feed->wal != NULL ? wal_written_seq(feed->wal) : 1;
}

uint64_t archive_feed_lag(const struct archive_feed *feed)
{
    return look_for(feed, feed->next_seq).lag_bytes;
}

/* ---- storing ---- */

static void put_done(struct archive_put *put)
{
    struct archive_feed *feed = container_of(put, struct archive_feed, put);
    struct engine_core *core = feed->core;
    if (put->rc < 0) {
        if (!feed->stopped) {
            archive_failed(core, &feed->health, &put->trail);
            (void)timer_set(core->r, &feed->retry, archive_retry_ns(core, &feed->health));
        }
        archive_core_moved(core->archive);
        return;
    }
    FAILPOINT("archive.segment");
    archive_works(core, &feed->health);
    feed->next_seq++;
    if (feed->wal != NULL)
        wal_hold_from(feed->wal, feed->next_seq);
    archive_feed_kick(feed);
    archive_core_moved(core->archive);
}

static void retry_fires(struct timer *timer)
{
    struct archive_feed *feed = container_of(timer, struct archive_feed, retry);
    archive_feed_kick(feed);
}

void archive_feed_kick(struct archive_feed *feed)
{
    struct engine_core *core = feed->core;
    if (!feed->begun || feed->stopped || feed->over || feed->put.busy || feed->retry.slot != 0)
        return;
    struct look look = look_for(feed, feed->next_seq);
    if (!look.found) {
        feed->over = feed->old != NULL;
        return;
    }
    if (!look.complete)
        return;
    struct archive_put *put = &feed->put;
    archive_wal_key(put->key, &core->db->archive_identity, &feed->log, feed->next_seq);
    memcpy(put->path, look.path, sizeof(put->path));
    put->len = look.used_bytes;
    put->look_first = feed->health.failures != 0 || feed->next_seq < feed->look_until;
    put->done = put_done;
    archive_put_start(core, ARCHIVE_WORKER_LOGS, put);
}

/* ---- life ---- */

void archive_feed_init(struct archive_feed *feed, struct engine_core *core, struct wal *wal,
                       struct wal_retired *old)
{
    *feed = (struct archive_feed){.core = core, .wal = wal, .old = old};
    feed->log = wal != NULL ? wal_log_uuid(wal) : wal_retired_uuid(old);
    feed->retry.fire = retry_fires;
    if (wal != NULL)
        (void)snprintf(feed->what, sizeof(feed->what), "segments of the log of core %u", core->id);
    else
        (void)snprintf(feed->what, sizeof(feed->what), "segments of the old log %.60s",
                       wal_retired_dir(old));
    feed->health.what = feed->what;
}

enum archive_begun archive_feed_begin(struct archive_feed *feed, const struct archive_log *known,
                                      uint64_t behind)
{
    uint64_t first = archive_feed_first_local(feed);
    if (known != NULL && feed->wal != NULL && behind > wal_written_seq(feed->wal))
        return ARCHIVE_CONFLICT;
    bool gap = known != NULL ? behind < first : first > 1;
    feed->first_seq = known != NULL && !gap ? known->first_seq : first;
    feed->next_seq = known != NULL && known->next_seq > first ? known->next_seq : first;
    feed->look_until = known != NULL ? behind : 0;
    return gap ? ARCHIVE_GAP : ARCHIVE_GOES_ON;
}

void archive_feed_go(struct archive_feed *feed)
{
    feed->begun = true;
    if (feed->wal != NULL)
        wal_hold_from(feed->wal, feed->next_seq);
    archive_feed_kick(feed);
}

void archive_feed_stop(struct archive_feed *feed)
{
    feed->stopped = true;
    timer_cancel(feed->core->r, &feed->retry);
    archive_put_cancel(&feed->put);
}
