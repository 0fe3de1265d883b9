/* ann_set.c: see the header.
 *
 * The bits of ended rows are the bulk of a set: 125 KB for a million rows. They are copied only for
 * segments where something has ended since the set before, at most every 100 ms, and never for
 * segments without an index.
 *
 * A mark may be of a batch that is not visible yet: its rows are being put into the memtable. A
 * search by the set misses the older row then, and by its view the newer one. So a set says from
 * which version on it is good, and who reads an older one does not use it. */
#include "engine/ann_set.h"

#include "base/assert.h"
#include "base/bitset.h"
#include "base/bytes.h"
#include "engine/upkeep.h"

#include <string.h>

#include "base/no_libc_heap.h"

enum {
    REFRESH_NS = 100000000,
    RETRY_NS = 1000000000, /* without memory */
    COPY_ROWS = 1 << 14,   /* in one go, where rows have other numbers in the index */
};

static struct shard_part *part_at(struct list_link *link)
{
    return container_of(link, struct shard_part, link);
}

/* ---- shares: any core ---- */

static struct list *bucket_of(struct engine_core *core, const struct uuid *uuid)
{
    return &core->ann_shares[bytes_get_u64(uuid->bytes + 8) % ANN_SHARE_BUCKETS];
}

void ann_set_core_init(struct engine_core *core)
{
    list_init(&core->ann_sets);
    for (unsigned i = 0; i < ANN_SHARE_BUCKETS; i++)
        list_init(&core->ann_shares[i]);
}

static struct ann_share *find_newest(struct engine_core *core, const struct uuid *uuid)
{
    list_each (link, bucket_of(core, uuid)) {
        struct ann_share *share = container_of(link, struct ann_share, link);
        if (uuid_equal(&share->set->uuid, uuid))
            return share;
    }
    return NULL;
}

static void share_returns(struct reactor *here, struct mail *mail);

static void return_unused(struct engine_core *core, struct ann_share *share)
{
    if (share->newest || share->users != 0)
        return;
    unsigned owner = share->mail.from;
    share->mail.deliver = share_returns;
    mail_post(core->r, owner, &share->mail);
}

static void retire(struct engine_core *core, struct ann_share *share)
{
    list_remove(&share->link);
    share->newest = false;
    return_unused(core, share);
}

static void share_arrives(struct reactor *here, struct mail *mail)
{
    struct engine_core *core = engine_here(here);
    struct ann_share *share = container_of(mail, struct ann_share, mail);
    struct ann_share *before = find_newest(core, &share->set->uuid);
    if (before != NULL)
        retire(core, before);
    share->newest = true;
    list_push_back(bucket_of(core, &share->set->uuid), &share->link);
}

/* It is the newest: the owner has sent nothing since. */
static void recall_arrives(struct reactor *here, struct mail *mail)
{
    struct ann_share *share = container_of(mail, struct ann_share, recall);
    ASSERT(share->newest);
    retire(engine_here(here), share);
}

struct ann_share *ann_share_take(struct engine_core *core, const struct uuid *uuid)
{
    struct ann_share *share = find_newest(core, uuid);
    if (share != NULL)
        share->users++;
    return share;
}

void ann_share_give(struct engine_core *core, struct ann_share *share)
{
    ASSERT(share->users > 0);
    share->users--;
    return_unused(core, share);
}

/* ---- the owner: making and freeing ---- */

static void let_ended_go(struct shard *shard, struct ann_ended *ended)
{
    if (ended != NULL && --ended->refs == 0)
        heap_free(&shard->core->r->heap, ended);
}

static void free_set(struct ann_set *set)
{
    struct shard *shard = set->shard;
    struct engine_core *core = shard->core;
    for (uint32_t i = 0; i < set->count; i++) {
        struct ann_set_entry *entry = &set->entries[i];
        for (uint32_t f = 0; f < shard->field_count; f++) {
            if (entry->fields[f].ann != NULL)
                ann_let_go(shard, entry->fields[f].ann);
            let_ended_go(shard, entry->fields[f].ended);
        }
        part_let_go(entry->part);
    }
    list_remove(&set->link);
    heap_free(&core->r->heap, set);
    shard_leave(shard);
    upkeep_leave(core);
}

static void share_returns(struct reactor *here, struct mail *mail)
{
    (void)here;
    struct ann_set *set = container_of(mail, struct ann_share, mail)->set;
    ASSERT(set->shares_out > 0);
    if (--set->shares_out == 0)
        free_set(set);
}

static bool has_index(const struct shard_part *part)
{
    for (uint32_t f = 0; part->anns != NULL && f < part->shard->field_count; f++)
        if (part->anns[f] != NULL)
            return true;
    return false;
}

static uint32_t count_indexed(const struct shard *shard)
{
    uint32_t count = 0;
    list_each (link, &shard->parts)
        count += has_index(part_at(link));
    return count < PARTS_MAX ? count : PARTS_MAX; /* with more there is no view */
}

static void fill_entry(struct ann_set_entry *entry, struct shard_part *part)
{
    entry->part = part;
    entry->number = part->file->stats.number;
    entry->file = part->file;
    part_hold(part);
    for (uint32_t f = 0; f < part->shard->field_count; f++) {
        entry->fields[f].ann = part->anns[f];
        if (part->anns[f] != NULL)
            ann_hold(part->anns[f]);
    }
}

/* Struct and arrays are one block. NULL without memory. */
static struct ann_set *begin_set(struct shard *shard, uint32_t count)
{
    struct engine_core *core = shard->core;
    size_t shares =
               offsetof(struct ann_set, shares) + core->db->core_count * sizeof(struct ann_share),
           entries = count * sizeof(struct ann_set_entry),
           fields = (size_t)count * shard->field_count * sizeof(struct ann_set_field);
    struct ann_set *set = heap_alloc_aligned(&core->r->heap, 64, shares + entries + fields);
    if (set == NULL)
        return NULL;
    memset(set, 0, shares + entries + fields);
    set->shard = shard;
    set->uuid = shard->uuid;
    set->entries = (struct ann_set_entry *)(void *)((char *)set + shares);
    struct ann_set_field *next = (struct ann_set_field *)(void *)(set->entries + count);
    list_each (link, &shard->parts) {
        if (set->count == count || !has_index(part_at(link)))
            continue;
        set->entries[set->count].fields = next;
        fill_entry(&set->entries[set->count++], part_at(link));
        next += shard->field_count;
    }
    list_push_back(&core->ann_sets, &set->link);
    shard->users++;
    upkeep_enter(core);
    return set;
}

/* ---- the owner: which rows have ended ---- */

/* The same bits as in the set before, or as those of an earlier field: NULL if there are none. */
static struct ann_ended *find_same(const struct ann_set *set, const struct ann_set_entry *entry,
                                   uint32_t f, uint64_t ended_count)
{
    for (uint32_t other = 0; other < f; other++)
        if (entry->fields[other].ann != NULL && entry->fields[other].ann->rows == NULL &&
            entry->fields[f].ann->rows == NULL)
            return entry->fields[other].ended;
    const struct ann_set *before = set->shard->ann.newest;
    for (uint32_t i = 0; before != NULL && i < before->count; i++) {
        const struct ann_set_field *field = &before->entries[i].fields[f];
        if (before->entries[i].part == entry->part && field->ended != NULL &&
            field->ended->ended_count == ended_count && field->ann == entry->fields[f].ann)
            return field->ended;
    }
    return NULL;
}

/* False without memory. */
static bool begin_ended(struct ann_set *set, const struct ann_set_entry *entry, uint32_t f)
{
    struct ann_set_field *field = &entry->fields[f];
    uint64_t ended_count = segment_deletes_count(entry->part->deletes);
    uint32_t row_count = field->ann->index.codes.row_count;
    size_t words = bitset_words(row_count);
    struct ann_ended *same = find_same(set, entry, f, ended_count);
    if (same != NULL) {
        field->ended = same;
        same->refs++;
        set->next_row = row_count;
        return true;
    }
    field->ended = heap_calloc(&set->shard->core->r->heap, 1,
                               sizeof(struct ann_ended) + words * sizeof(uint64_t));
    if (field->ended == NULL)
        return false;
    field->ended->refs = 1;
    field->ended->ended_count = ended_count;
    if (field->ann->rows != NULL)
        return true;
    memcpy(field->ended->words, segment_deletes_bits(entry->part->deletes),
           words * sizeof(uint64_t));
    field->ended->count = (uint32_t)ended_count;
    set->next_row = row_count;
    return true;
}

static void copy_rows(struct ann_set *set, const struct ann_set_entry *entry, uint32_t f)
{
    struct ann_ended *ended = entry->fields[f].ended;
    const struct ann *ann = entry->fields[f].ann;
    const uint64_t *bits = segment_deletes_bits(entry->part->deletes);
    uint32_t row_count = ann->index.codes.row_count, end = row_count;
    if (end - set->next_row > COPY_ROWS)
        end = set->next_row + COPY_ROWS;
    for (; set->next_row < end; set->next_row++) {
        if (!bitset_test(bits, ann->rows[set->next_row]))
            continue;
        bitset_set(ended->words, set->next_row);
        ended->count++;
    }
}

/* 1: all is copied, 0: more to do, or PDB_RESOURCE_EXHAUSTED. */
static int copy_next(struct ann_set *set)
{
    const struct shard *shard = set->shard;
    if (set->next_field == shard->field_count) {
        set->next_field = 0;
        set->next_entry++;
    }
    if (set->next_entry == set->count)
        return 1;
    const struct ann_set_entry *entry = &set->entries[set->next_entry];
    const struct ann_set_field *field = &entry->fields[set->next_field];
    if (field->ann != NULL && segment_deletes_count(entry->part->deletes) != 0) {
        if (field->ended == NULL && !begin_ended(set, entry, set->next_field))
            return PDB_RESOURCE_EXHAUSTED;
        if (set->next_row < field->ann->index.codes.row_count) {
            copy_rows(set, entry, set->next_field);
            if (set->next_row < field->ann->index.codes.row_count)
                return 0;
        }
    }
    set->next_row = 0;
    set->next_field++;
    return 0;
}

/* ---- the owner: publishing ---- */

static void recall_all(struct ann_set *set)
{
    struct engine_core *core = set->shard->core;
    for (unsigned i = 0; i < core->db->core_count; i++) {
        set->shares[i].recall.deliver = recall_arrives;
        mail_post(core->r, i, &set->shares[i].recall);
    }
}

/* Of the batch that is being put into the memtable, if there is one. */
static uint64_t newest_mark(const struct shard *shard)
{
    if (!shard->committing || list_empty(&shard->flight))
        return shard->version_visible;
    return container_of(shard->flight.anchor.next, struct write_op, link)->version;
}

static void publish(struct shard *shard, struct ann_set *set)
{
    struct engine_core *core = shard->core;
    set->version = newest_mark(shard);
    set->shares_out = core->db->core_count;
    for (unsigned i = 0; i < core->db->core_count; i++) {
        set->shares[i].set = set;
        set->shares[i].mail.deliver = share_arrives;
        mail_post(core->r, i, &set->shares[i].mail);
    }
    shard->ann.newest = set;
    shard->ann.published_ns = core->r->now_ns;
}

static bool may_publish(const struct shard *shard)
{
    return shard->entry != NULL && !shard->core->closing &&
           shard_find(shard->core, &shard->uuid) == shard;
}

static void timer_fires(struct timer *timer)
{
    ann_set_changed(container_of(timer, struct shard, ann.timer));
}

static void publish_later(struct shard *shard, uint64_t due_ns)
{
    shard->ann.timer.fire = timer_fires;
    if (shard->ann.timer.slot == 0 && timer_set(shard->core->r, &shard->ann.timer, due_ns) < 0)
        ann_set_changed(shard);
}

static void drop_making(struct shard *shard)
{
    struct ann_set *set = shard->ann.making;
    shard->ann.making = NULL;
    if (set != NULL)
        free_set(set);
}

/* False: there is nothing to make now. */
static bool begin_making(struct shard *shard)
{
    struct ann_publisher *p = &shard->ann;
    uint32_t count = count_indexed(shard);
    p->again = false;
    timer_cancel(shard->core->r, &p->timer);
    if (count == 0) {
        if (p->newest != NULL)
            recall_all(p->newest);
        p->newest = NULL;
        return false;
    }
    p->making = begin_set(shard, count);
    if (p->making == NULL)
        publish_later(shard, shard->core->r->now_ns + RETRY_NS);
    return p->making != NULL;
}

static void publish_run(struct task *task)
{
    struct shard *shard = container_of(task, struct shard, ann.task);
    struct ann_publisher *p = &shard->ann;
    struct reactor *r = shard->core->r;
    if (!may_publish(shard) || (p->making == NULL && !begin_making(shard)))
        return;
    int rc;
    while ((rc = copy_next(p->making)) == 0 && !reactor_slice_over(r))
        continue;
    if (rc == 0) {
        task_queue(r, task);
    } else if (rc < 0) {
        shard->users++;
        drop_making(shard);
        publish_later(shard, r->now_ns + RETRY_NS);
        shard_leave(shard);
    } else {
        struct ann_set *set = p->making;
        p->making = NULL;
        publish(shard, set);
        if (p->again)
            task_queue(r, task);
    }
}

void ann_set_changed(struct shard *shard)
{
    struct ann_publisher *p = &shard->ann;
    if (!may_publish(shard))
        return;
    p->again = true;
    p->task.run = publish_run;
    p->task.name = "ann.publish";
    p->task.bulk = true;
    task_queue(shard->core->r, &p->task);
}

void ann_set_refresh(struct shard *shard)
{
    struct ann_publisher *p = &shard->ann;
    uint64_t due_ns = p->published_ns + REFRESH_NS;
    if (!may_publish(shard) || p->newest == NULL || p->making != NULL || list_linked(&p->task.link))
        return;
    if (due_ns <= shard->core->r->now_ns)
        ann_set_changed(shard);
    else
        publish_later(shard, due_ns);
}

/* ---- the end ---- */

void ann_set_withdraw(struct shard *shard)
{
    struct ann_publisher *p = &shard->ann;
    shard->users++;
    task_cancel(&p->task);
    timer_cancel(shard->core->r, &p->timer);
    drop_making(shard);
    if (p->newest != NULL)
        recall_all(p->newest);
    p->newest = NULL;
    shard_leave(shard);
}

void ann_set_abandon(struct engine_core *core)
{
    while (!list_empty(&core->ann_sets)) {
        struct ann_set *set = container_of(core->ann_sets.anchor.next, struct ann_set, link);
        struct shard *shard = set->shard;
        shard->ann.newest = shard->ann.making = NULL;
        shard->users++; /* who drops the core's shards frees it */
        free_set(set);
        if (--shard->users == 0 && shard->entry == NULL)
            shard_free(shard);
    }
}
