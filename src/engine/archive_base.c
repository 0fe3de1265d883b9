/* archive_base.c: bases, so that a replay has somewhere to begin. Core 0, one at a time:
 *
 *     needs      each core says from which segment on its log has records that no segment file
 *                holds: the snapshot that follows holds at least all the others
 *     snapshot   as any, but it stays in its hidden folder, which a start removes
 *     send       its files, one after the other; those that an earlier base sent are there
 *     list       BASE, last: before it, there is no such base
 *     remove     the links go
 *     prune      when there are more than archive.keep, the oldest goes: STATE first, which then
 *                begins with the next one, then its objects (archive_prune.c)
 *
 * The first is taken at once, then one each archive.base_interval_s after the beginning of the
 * last; one comes early when a collection appeared whose rows no log holds. A failure leaves
 * objects that the next attempt finds, and is tried again. */
#include "engine/archive_internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "engine/catalog.h"
#include "os/failpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

static struct archive_master *master_of(struct archive_baser *b)
{
    return container_of(b, struct archive_master, base);
}

static void send_next(struct archive_baser *b);
static void begin(struct archive_baser *b);

/* ---- when ---- */

static uint64_t interval_s(const struct archive_master *m)
{
    return m->core->db->options.archive_base_interval_s;
}

void archive_base_arm(struct archive_master *m)
{
    struct archive_baser *b = &m->base;
    struct reactor *r = m->core->r;
    uint64_t in_s = 0;
    if (m->stopped || m->conflict || !m->loaded || b->state != ARCHIVE_BASE_IDLE)
        return;
    if (b->health.failures != 0) {
        (void)timer_set(r, &b->timer, archive_retry_ns(m->core, &b->health));
        return;
    }
    if (!b->wanted && m->base_count != 0) {
        int64_t since_us = r->io->ops->realtime_us(r->io) - m->bases[m->base_count - 1].begun_us;
        uint64_t since_s = since_us > 0 ? (uint64_t)since_us / 1000000 : 0;
        in_s = since_s < interval_s(m) ? interval_s(m) - since_s : 0;
    }
    (void)timer_set(r, &b->timer, r->now_ns + in_s * 1000000000u);
}

static void fires(struct timer *timer)
{
    struct archive_baser *b = container_of(timer, struct archive_baser, timer);
    const struct archive_master *m = master_of(b);
    if (b->state == ARCHIVE_BASE_IDLE && !m->stopped)
        begin(b);
}

void archive_base_wanted(struct engine_core *core)
{
    struct archive_master *m = archive_master(core);
    if (m == NULL)
        return;
    m->base.wanted = true;
    archive_base_arm(m); /* else behind the one under way */
}

/* ---- the end of one ---- */

static void clear(struct archive_baser *b)
{
    heap_free(NULL, b->needs);
    b->needs = NULL;
    b->need_count = b->need_capacity = 0;
    buffer_dispose(&b->list_bytes);
}

static void idle(struct archive_baser *b)
{
    struct archive_master *m = master_of(b);
    if (b->handover.image != NULL)
        snapshot_let_go(m->core->snapshots, b->handover.image);
    b->handover.image = NULL;
    clear(b);
    b->state = ARCHIVE_BASE_IDLE;
    archive_base_arm(m);
    archive_core_moved(m->core->archive);
}

/* ---- pruning ---- */

static void forget(struct archive_master *m, const struct archive_prune *prune)
{
    for (uint32_t i = 0; i < prune->log_count; i++) {
        struct archive_log *log = archive_known_log(m, &prune->logs[i].uuid);
        uint64_t first = prune->logs[i].seq;
        if (log == NULL)
            continue;
        if (first == UINT64_MAX && log->ended)
            *log = m->logs[--m->log_count];
        else if (first == UINT64_MAX) /* all that was there when it was looked at */
            continue;
        else if (first > log->first_seq && first < log->next_seq)
            log->first_seq = first;
    }
    if (prune->catalog_first > m->catalogs.first)
        m->catalogs.first = prune->catalog_first;
}

static void pruned(struct archive_prune *prune)
{
    struct archive_master *m = container_of(prune, struct archive_master, prune);
    if (prune->rc == 0) {
        archive_works(m->core, &prune->health);
        LOG_INFO("archive", "base %s is not kept any longer: %" PRIu64 " objects removed",
                 prune->gone, prune->objects);
        forget(m, prune);
    } else if (!m->stopped) {
        archive_failed(m->core, &prune->health, &prune->trail);
    }
    heap_free(NULL, prune->kept);
    heap_free(NULL, prune->logs);
    prune->kept = NULL;
    prune->logs = NULL;
    idle(&m->base);
}

/* STATE does not name the oldest any more. */
static void prune(struct archive_master *m)
{
    struct archive_prune *p = &m->prune;
    uint32_t keep = m->base_count - 1;
    p->kept = heap_calloc(NULL, keep + (size_t)1, sizeof(struct archive_base_note));
    if (p->kept == NULL) {
        idle(&m->base);
        return;
    }
    memcpy(p->gone, m->bases[0].name, sizeof(p->gone));
    memmove(m->bases, m->bases + 1, keep * sizeof(m->bases[0]));
    m->base_count = keep;
    memcpy(p->kept, m->bases, keep * sizeof(m->bases[0]));
    p->kept_count = keep;
    p->identity = m->core->db->archive_identity;
    p->done = pruned;
    m->base.state = ARCHIVE_BASE_PRUNE;
    archive_prune_start(m->core, p);
}

/* No range begins before the second base. */
static void cut_ranges(struct archive_master *m)
{
    int64_t from_us = m->bases[1].ended_us;
    uint32_t gone = 0;
    while (gone < m->range_count && m->ranges[gone].to_us < from_us)
        gone++;
    memmove(m->ranges, m->ranges + gone, (m->range_count - gone) * sizeof(m->ranges[0]));
    m->range_count -= gone;
    if (m->range_count != 0 && m->ranges[0].from_us < from_us)
        m->ranges[0].from_us = from_us;
    if (m->range_count == 0 && m->range_open) { /* nothing has been covered since that base */
        m->range_open = false;
        m->range_due = true;
        m->range_from_us = from_us;
    }
}

static void prune_if_due(struct archive_baser *b)
{
    struct archive_master *m = master_of(b);
    uint32_t keep = m->core->db->options.archive_keep;
    if (m->stopped || !b->good || m->base_count <= keep || m->base_count < 2) {
        idle(b);
        return;
    }
    b->state = ARCHIVE_BASE_PRUNE_STATE;
    if (m->ticking) /* its STATE is the old one: behind it */
        return;
    cut_ranges(m);
    archive_state_write(m);
}

void archive_base_state_written(struct archive_master *m, bool good)
{
    struct archive_baser *b = &m->base;
    if (b->state != ARCHIVE_BASE_PRUNE_STATE)
        return;
    bool cut = m->range_count == 0 || m->ranges[0].from_us >= m->bases[1].ended_us;
    if (m->stopped || !good) /* with the next base, then */
        idle(b);
    else if (cut)
        prune(m);
    else
        prune_if_due(b);
}

/* ---- the links go ---- */

static void removed(struct snapshot_remove *remove)
{
    struct archive_baser *b = container_of(remove, struct archive_baser, remove);
    FAILPOINT("archive.base_removed");
    prune_if_due(b);
}

static void remove_links(struct archive_baser *b)
{
    b->state = ARCHIVE_BASE_REMOVE;
    b->remove.image = b->handover.image;
    b->remove.folder = b->handover.folder;
    snapshot_remove_start(&b->remove, master_of(b)->core->r->io, removed);
}

static void fail(struct archive_baser *b, const struct trail *trail)
{
    struct archive_master *m = master_of(b);
    b->good = false;
    if (!m->stopped)
        archive_failed(m->core, &b->health, trail);
    if (b->handover.image != NULL)
        remove_links(b);
    else
        idle(b);
}

/* ---- BASE ---- */

static bool note_base(struct archive_master *m, const struct archive_base *base)
{
    if (m->base_count == m->base_capacity) {
        uint32_t capacity = 2 * m->base_capacity + 8;
        struct archive_base_note *bases =
            heap_realloc(NULL, m->bases, capacity * sizeof(struct archive_base_note));
        if (bases == NULL)
            return false;
        m->bases = bases;
        m->base_capacity = capacity;
    }
    struct archive_base_note *note = &m->bases[m->base_count++];
    memcpy(note->name, base->name, sizeof(note->name));
    note->begun_us = base->begun_us;
    note->ended_us = base->ended_us;
    return true;
}

static void list_put(struct archive_put *put)
{
    struct archive_baser *b = container_of(put, struct archive_baser, put);
    struct archive_master *m = master_of(b);
    if (put->rc < 0) {
        fail(b, &put->trail);
        return;
    }
    FAILPOINT("archive.base");
    archive_works(m->core, &b->health);
    b->good = note_base(m, &b->base);
    if (b->good && !m->range_open && !m->range_due) {
        m->range_due = true;
        m->range_from_us = b->base.ended_us;
    }
    metrics_add(m->core->metrics, METRICS_ARCHIVE_BASES_PUT_AT, 1);
    LOG_INFO("archive",
             "base %s: %u collections, %" PRIu64 " bytes, %" PRIu64 " sent, took_us=%" PRIu64,
             b->base.name, b->handover.image->part_count, b->handover.image->bytes, b->sent_bytes,
             (m->core->r->now_ns - b->begun_ns) / 1000);
    remove_links(b);
    archive_tick(m); /* so that it can be used soon */
}

static void encode_list(struct job *job)
{
    struct archive_baser *b = container_of(job, struct archive_baser, list_job);
    struct buffer list;
    struct snapshot_encoder encoder = {0};
    buffer_init_heap(&list, NULL, SNAPSHOT_LIST_BYTES_MAX);
    buffer_init_heap(&b->list_bytes, NULL, ARCHIVE_OBJECT_BYTES_MAX);
    while (!snapshot_encode_step(&encoder, &list, b->handover.image))
        continue;
    archive_base_encode(&b->list_bytes, &b->base, list.ptr, list.len);
    b->list_rc = list.failed || b->list_bytes.failed ? PDB_RESOURCE_EXHAUSTED : 0;
    buffer_dispose(&list);
}

static void list_encoded(struct reactor *here, struct mail *mail)
{
    struct archive_baser *b = container_of(mail, struct archive_baser, list_job.back);
    struct archive_master *m = master_of(b);
    struct trail trail = {0};
    (void)here;
    if (b->list_rc < 0 || m->stopped) {
        (void)trail_add(&trail, PDB_RESOURCE_EXHAUSTED, "no memory for the list of the base");
        fail(b, &trail);
        return;
    }
    struct archive_put *put = &b->put;
    archive_base_key(put->key, &m->core->db->archive_identity, b->base.name);
    put->bytes = b->list_bytes.ptr;
    put->len = b->list_bytes.len;
    put->look_first = false;
    put->done = list_put;
    archive_put_start(m->core, ARCHIVE_WORKER_BASES, put);
}

static void put_list(struct archive_baser *b)
{
    struct archive_master *m = master_of(b);
    b->state = ARCHIVE_BASE_LIST;
    b->base.needs = b->needs;
    b->base.need_count = b->need_count;
    b->list_job = (struct job){.compute = encode_list, .back.deliver = list_encoded};
    job_start(m->core->r, m->core->r->count + ARCHIVE_WORKER_BASES, &b->list_job);
}

/* ---- files ---- */

static void file_put(struct archive_put *put)
{
    struct archive_baser *b = container_of(put, struct archive_baser, put);
    if (put->rc < 0) {
        fail(b, &put->trail);
        return;
    }
    FAILPOINT("archive.base_file");
    b->sent_bytes += put->sent_bytes;
    b->file++;
    send_next(b);
}

static void send_next(struct archive_baser *b)
{
    struct archive_master *m = master_of(b);
    const struct snapshot_image *image = b->handover.image;
    struct trail trail = {0};
    char folder[SNAPSHOT_PATH_MAX];
    while (b->part < image->part_count && b->file == image->parts[b->part].file_count) {
        b->part++;
        b->file = 0;
    }
    if (m->stopped) {
        (void)trail_add(&trail, PDB_CANCELLED, "the server stops");
        fail(b, &trail);
        return;
    }
    if (b->part == image->part_count) {
        put_list(b);
        return;
    }
    const struct snapshot_part *part = &image->parts[b->part];
    struct archive_put *put = &b->put;
    archive_file_key(put->key, &m->core->db->archive_identity, b->base.name, part, b->file);
    snapshot_part_folder(folder, b->handover.folder, &part->entry->uuid);
    (void)snprintf(put->path, sizeof(put->path), "%.1220s/%s", folder, part->files[b->file].name);
    put->bytes = NULL;
    put->len = part->files[b->file].bytes;
    put->look_first = b->file != 0; /* manifests are of this base alone */
    put->done = file_put;
    archive_put_start(m->core, ARCHIVE_WORKER_BASES, put);
}

/* ---- the snapshot ---- */

static void taken(struct pdb_call *call)
{
    struct archive_baser *b = container_of(call, struct archive_baser, create.call);
    if (call->error.code != 0) {
        struct trail trail = {0};
        (void)trail_add(&trail, call->error.code, "the snapshot was not taken: %s",
                        call->error.text);
        fail(b, &trail);
        return;
    }
    FAILPOINT("archive.base_taken");
    b->base.ended_us = b->handover.ended_us;
    b->base.catalog_version = b->handover.catalog_version;
    b->base.image = b->handover.image;
    b->part = b->file = 0;
    b->sent_bytes = 0;
    b->state = ARCHIVE_BASE_SEND;
    send_next(b);
}

static void take(struct archive_baser *b)
{
    struct archive_master *m = master_of(b);
    b->state = ARCHIVE_BASE_SNAPSHOT;
    arena_reset(&b->arena);
    b->handover = (struct snapshot_handover){0};
    b->create = (struct pdb_snapshot_create){.handover = &b->handover};
    pdb_call_init(&b->create.call, m->core->db, &b->arena, taken);
    b->create.name = text_of(b->base.name);
    pdb_snapshot_create_start(&b->create);
}

/* ---- what a replay needs besides ---- */

static bool add_need(struct archive_baser *b, const struct archive_need *need)
{
    if (b->need_count == b->need_capacity) {
        uint32_t capacity = 2 * b->need_capacity + 16;
        struct archive_need *needs =
            heap_realloc(NULL, b->needs, capacity * sizeof(struct archive_need));
        if (needs == NULL)
            return false;
        b->needs = needs;
        b->need_capacity = capacity;
    }
    b->needs[b->need_count++] = *need;
    return true;
}

/* Those of this start, old ones, and logs that have ended: of these nothing is needed. */
static bool gather_needs(struct archive_baser *b)
{
    struct archive_master *m = master_of(b);
    bool good = true;
    for (unsigned i = 0; i < m->core->db->core_count; i++)
        good = good && add_need(b, &m->core->db->cores[i].archive->need);
    list_each (link, &m->old_logs) {
        const struct archive_feed *feed = container_of(link, struct archive_feed, link);
        const struct archive_need need = {feed->log, wal_retired_needed_from(feed->old)};
        good = good && add_need(b, &need);
    }
    uint32_t live = b->need_count;
    for (uint32_t i = 0; good && i < m->log_count; i++) {
        bool named = false;
        for (uint32_t k = 0; k < live; k++)
            named = named || uuid_equal(&b->needs[k].uuid, &m->logs[i].uuid);
        const struct archive_need none = {m->logs[i].uuid, UINT64_MAX};
        good = named || add_need(b, &none);
    }
    return good;
}

static void need_returns(struct reactor *here, struct mail *mail)
{
    struct archive_master *m = archive_master(engine_here(here));
    struct archive_baser *b = &m->base;
    (void)mail;
    if (--b->needs_left != 0)
        return;
    struct trail trail = {0};
    if (m->stopped || !gather_needs(b)) {
        (void)trail_add(&trail, PDB_RESOURCE_EXHAUSTED, "no memory for a base");
        fail(b, &trail);
        return;
    }
    take(b);
}

static void need_arrives(struct reactor *here, struct mail *mail)
{
    struct archive_core *ac = container_of(mail, struct archive_core, need_mail);
    if (ac->closed)
        return;
    const struct wal *wal = engine_here(here)->wal;
    ac->need = (struct archive_need){wal_log_uuid(wal), wal_needed_from(wal)};
    mail->deliver = need_returns;
    mail_post(here, 0, mail);
}

static void begin(struct archive_baser *b)
{
    struct archive_master *m = master_of(b);
    struct reactor *r = m->core->r;
    b->state = ARCHIVE_BASE_NEEDS;
    b->wanted = false;
    b->good = false;
    b->begun_ns = r->now_ns;
    b->base = (struct archive_base){.identity = m->core->db->archive_identity,
                                    .begun_us = r->io->ops->realtime_us(r->io)};
    archive_base_name(b->base.name, b->base.begun_us);
    b->needs_left = m->core->db->core_count;
    for (unsigned i = 0; i < m->core->db->core_count; i++) {
        struct mail *mail = &m->core->db->cores[i].archive->need_mail;
        mail->deliver = need_arrives;
        mail_post(r, i, mail);
    }
}

/* ---- life ---- */

void archive_base_init(struct archive_master *m)
{
    m->base.timer.fire = fires;
    m->base.health.what = "a base";
    m->prune.health.what = "removing a base that is not kept";
}

void archive_base_stop(struct archive_master *m)
{
    timer_cancel(m->core->r, &m->base.timer);
    archive_put_cancel(&m->base.put);
    if (m->prune.busy)
        store_cancel(&m->prune.cancel);
    if (m->base.state == ARCHIVE_BASE_PRUNE_STATE && !m->state_put.busy)
        idle(&m->base); /* the round that it waits for does not end */
}

bool archive_base_busy(const struct archive_master *m)
{
    return m->base.state != ARCHIVE_BASE_IDLE && m->base.state != ARCHIVE_BASE_NEEDS;
}

void archive_base_free(struct archive_master *m)
{
    snapshot_image_free(m->base.handover.image);
    clear(&m->base);
    arena_dispose(&m->base.arena);
    heap_free(NULL, m->prune.kept);
    heap_free(NULL, m->prune.logs);
}
