/* view.c: reading all parts of a shard at one version, in steps. */
#include "engine/fetch.h"

#include "base/assert.h"
#include "base/bitset.h"
#include "base/log.h"
#include "engine/call.h"
#include "engine/catalog.h"

#include <string.h>

#include "base/no_libc_heap.h"

static const uint64_t key_mask = ((uint64_t)1 << VIEW_KEY_SHIFT) - 1;

static struct segment_read read_of(const struct shard_view *view, const struct shard_part *part)
{
    return (struct segment_read){part->segment, part->deletes, view->read.version, view->now_us};
}

static uint64_t tag_of(uint32_t part)
{
    return view_key(part, 0);
}

/* ---- life ---- */

/* Nor will it have a row that this reader sees. */
static bool is_empty(const struct shard_part *part)
{
    struct memtable_stats stats;
    if (part->memtable == NULL)
        return false;
    memtable_stats(part->memtable, &stats);
    return stats.rows_total == 0;
}

static uint32_t count_parts(const struct shard *shard)
{
    uint32_t count = 0;
    list_each (link, &shard->parts)
        count++;
    return count;
}

int view_open(struct pdb_call *call, struct shard_view *view)
{
    struct shard *shard = call_state(call)->shard;
    uint32_t count = count_parts(shard);
    *view = (struct shard_view){.shard = shard, .now_us = call_state(call)->now_us};
    if (shard->lost_segments != 0) {
        parts_tell_damage(shard, call);
        return PDB_DATA_LOSS;
    }
    view->parts =
        count <= PARTS_MAX ? arena_calloc(call->arena, count, sizeof(*view->parts)) : NULL;
    if (view->parts == NULL)
        return call_no_memory(call);
    shard_read_begin(shard, &view->read);
    list_each (link, &shard->parts) {
        struct shard_part *part = container_of(link, struct shard_part, link);
        struct view_part *mine = &view->parts[view->count];
        if (is_empty(part))
            continue;
        if (part->memtable != NULL && memtable_snapshot(part->memtable, view->read.version,
                                                        view->now_us, &mine->snapshot) < 0) {
            view_close(view);
            return call_no_memory(call);
        }
        mine->part = part;
        part_hold(part);
        view->count++;
    }
    return 0;
}

void view_close(struct shard_view *view)
{
    if (view->parts == NULL)
        return;
    for (uint32_t i = 0; i < view->count; i++) {
        memtable_snapshot_release(view->parts[i].snapshot);
        part_let_go(view->parts[i].part);
    }
    shard_read_end(&view->read);
    view->parts = NULL;
}

static uint64_t rows_of(const struct view_part *mine)
{
    return mine->snapshot != NULL ? memtable_snapshot_rows(mine->snapshot)
                                  : mine->part->file->stats.rows;
}

uint64_t view_rows(const struct shard_view *view)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < view->count; i++)
        sum += rows_of(&view->parts[i]);
    return sum;
}

bool view_sees(const struct shard_view *view, uint32_t part, uint32_t row)
{
    struct segment_read read = read_of(view, view->parts[part].part);
    return segment_visible(&read, row);
}

int view_check(const struct shard_view *view, struct pdb_call *call)
{
    for (uint32_t i = 0; i < view->count; i++) {
        struct shard_part *part = view->parts[i].part;
        if (part->segment != NULL && segment_damaged(part->segment))
            return part_tell_damage(part, call);
    }
    return 0;
}

bool view_row(const struct shard_view *view, uint64_t key, struct pdb_row *row_out,
              const void **vectors)
{
    const struct view_part *mine = &view->parts[key >> VIEW_KEY_SHIFT];
    if (mine->snapshot == NULL)
        return segment_row(mine->part->segment, (uint32_t)key, row_out, vectors);
    memtable_snapshot_row(mine->snapshot, key & key_mask, row_out, vectors);
    return true;
}

bool view_fetch(const struct shard_view *view, uint64_t key, struct fetch *fetch)
{
    const struct view_part *mine = &view->parts[key >> VIEW_KEY_SHIFT];
    return mine->snapshot != NULL || fetch_row(fetch, mine->part, (uint32_t)key);
}

/* ---- scans ---- */

struct tagged_visit {
    int (*visit)(void *arg, uint64_t key);
    void *arg;
    uint64_t tag;
};

static int visit_tagged(void *arg, uint64_t key)
{
    const struct tagged_visit *v = arg;
    return v->visit(v->arg, v->tag | key);
}

static int visit_tagged_row(void *arg, uint32_t row)
{
    return visit_tagged(arg, row);
}

bool view_scan_step(struct shard_view *view, struct view_cursor *cursor,
                    const struct filter *filter, size_t row_budget,
                    int (*visit)(void *arg, uint64_t key), void *arg)
{
    if (cursor->part == view->count)
        return true;
    const struct view_part *mine = &view->parts[cursor->part];
    struct tagged_visit v = {visit, arg, tag_of(cursor->part)};
    bool complete;
    if (mine->snapshot != NULL) {
        complete = memtable_scan_step(mine->snapshot, &cursor->memtable, filter, row_budget,
                                      visit_tagged, &v);
    } else {
        struct segment_read read = read_of(view, mine->part);
        complete = segment_scan_step(&read, &cursor->row, filter, row_budget, visit_tagged_row, &v);
    }
    if (complete)
        *cursor = (struct view_cursor){.part = cursor->part + 1};
    return cursor->part == view->count;
}

/* ---- searches ---- */

void view_search_begin(struct view_search *search, struct shard_view *view)
{
    search->view = view;
    search->part = 0;
    search->begun = false;
    memset(search->skip, 0, sizeof(search->skip));
    scan_query_begin(&search->query);
}

uint64_t view_search_rows(const struct view_search *search)
{
    uint64_t sum = 0;
    for (uint32_t i = search->part; i < search->view->count; i++)
        sum += bitset_test(search->skip, i) ? 0 : rows_of(&search->view->parts[i]);
    return sum;
}

static void begin_part(struct view_search *search)
{
    const struct view_part *mine = &search->view->parts[search->part];
    if (mine->snapshot != NULL) {
        search->memtable = (struct memtable_search){
            .snapshot = mine->snapshot, .key_tag = tag_of(search->part), .query = &search->query};
        memtable_search_begin(&search->memtable);
    } else {
        search->segment = (struct segment_search){.read = read_of(search->view, mine->part),
                                                  .key_tag = tag_of(search->part),
                                                  .query = &search->query};
        segment_search_begin(&search->segment);
        search->window_from = search->ready_to = 0;
    }
    search->begun = true;
}

/* Where the next rows lie is known to be in memory, or was asked for and has come. The margin is
 * what one step may go beyond. */
static bool is_ready(struct view_search *search, const struct shard_part *part, struct fetch *fetch)
{
    enum { MARGIN_BYTES = 1 << 19, WINDOW_BYTES = 2 << 20 };
    uint64_t from, to;
    uint32_t field = search->query.field_index, row = search->segment.next_row;
    if (part->file->parquet.kept == 0 ||
        !segment_vector_range(part->segment, field, row, 1, &from, &to))
        return true;
    if (!search->asked && from + MARGIN_BYTES <= search->ready_to)
        return true;
    if (!search->asked) {
        if (search->window_from < from)
            file_map_forget(&part->file->parquet, search->window_from, from - search->window_from);
        search->window_from = from;
        search->asked =
            !fetch_vectors(fetch, part->file, field, row, WINDOW_BYTES, &search->ready_to);
        return !search->asked;
    }
    search->asked = false;
    return true;
}

bool view_search_step(struct view_search *search, size_t row_budget, struct fetch *fetch)
{
    while (search->part < search->view->count && bitset_test(search->skip, search->part))
        search->part++;
    if (search->query.topk.capacity == 0 || search->part == search->view->count)
        return true;
    if (!search->begun)
        begin_part(search);
    const struct view_part *mine = &search->view->parts[search->part];
    if (mine->snapshot == NULL && !is_ready(search, mine->part, fetch))
        return false;
    bool complete = mine->snapshot != NULL ? memtable_search_step(&search->memtable, row_budget)
                                           : segment_search_step(&search->segment, row_budget);
    if (complete) {
        search->part++;
        search->begun = false;
    }
    return search->part == search->view->count;
}

/* ---- scrolls ---- */

int view_scroll_begin(struct view_scroll *scroll, struct shard_view *view, struct arena *arena)
{
    scroll->view = view;
    scroll->part = 0;
    scroll->begun = false;
    scroll->count = 0;
    scroll->keys = arena_array(arena, uint64_t, scroll->limit);
    scroll->found = arena_calloc(arena, view->count, sizeof(*scroll->found));
    scroll->found_count = arena_calloc(arena, view->count, sizeof(*scroll->found_count));
    if (scroll->keys == NULL || scroll->found == NULL || scroll->found_count == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t i = 0; i < view->count; i++) {
        scroll->found[i] = arena_array(arena, uint64_t, scroll->limit);
        if (scroll->found[i] == NULL)
            return PDB_RESOURCE_EXHAUSTED;
    }
    return 0;
}

static int keep_row(void *arg, uint32_t row)
{
    struct view_scroll *scroll = arg;
    scroll->found[scroll->part][scroll->found_count[scroll->part]++] = row;
    return scroll->found_count[scroll->part] == scroll->limit;
}

/* Segments lie in order of id: the page begins where `after` would be. */
static bool scroll_segment(struct view_scroll *scroll, const struct shard_part *part,
                           size_t row_budget)
{
    struct segment_read read = read_of(scroll->view, part);
    if (!scroll->begun)
        scroll->row = segment_lower_bound(part->segment, scroll->after);
    scroll->begun = true;
    bool complete =
        segment_scan_step(&read, &scroll->row, scroll->filter, row_budget, keep_row, scroll);
    return complete || scroll->found_count[scroll->part] == scroll->limit;
}

static bool scroll_memtable(struct view_scroll *scroll, struct memtable_snapshot *snapshot,
                            size_t row_budget)
{
    if (!scroll->begun)
        scroll->memtable = (struct memtable_scroll){.snapshot = snapshot,
                                                    .after = scroll->after,
                                                    .filter = scroll->filter,
                                                    .keys = scroll->found[scroll->part],
                                                    .limit = scroll->limit};
    scroll->begun = true;
    bool complete = memtable_scroll_step(&scroll->memtable, row_budget);
    scroll->found_count[scroll->part] = complete ? scroll->memtable.count : 0;
    return complete;
}

static struct pdb_text id_behind(const struct view_scroll *scroll, uint32_t part, size_t at)
{
    const struct view_part *mine = &scroll->view->parts[part];
    uint64_t key = scroll->found[part][at];
    if (mine->snapshot == NULL)
        return segment_row_id(mine->part->segment, (uint32_t)key);
    struct pdb_row row;
    memtable_snapshot_row(mine->snapshot, key, &row, NULL);
    return row.id;
}

/* No id is in two lists: a reader sees one row of it. */
static bool merge_one(struct view_scroll *scroll, size_t *taken)
{
    uint32_t best = UINT32_MAX;
    struct pdb_text best_id = {NULL, 0};
    for (uint32_t i = 0; i < scroll->view->count; i++) {
        if (taken[i] == scroll->found_count[i])
            continue;
        struct pdb_text id = id_behind(scroll, i, taken[i]);
        if (best == UINT32_MAX || text_compare(id, best_id) < 0) {
            best = i;
            best_id = id;
        }
    }
    if (best == UINT32_MAX)
        return false;
    scroll->keys[scroll->count++] = tag_of(best) | scroll->found[best][taken[best]++];
    return true;
}

static void merge_found(struct view_scroll *scroll)
{
    size_t taken[PARTS_MAX] = {0};
    while (scroll->count < scroll->limit && merge_one(scroll, taken))
        continue;
}

bool view_scroll_step(struct view_scroll *scroll, size_t row_budget)
{
    if (scroll->part < scroll->view->count) {
        const struct view_part *mine = &scroll->view->parts[scroll->part];
        bool complete = mine->snapshot != NULL ? scroll_memtable(scroll, mine->snapshot, row_budget)
                                               : scroll_segment(scroll, mine->part, row_budget);
        if (!complete)
            return false;
        scroll->part++;
        scroll->begun = false;
        if (scroll->part < scroll->view->count)
            return false;
    }
    merge_found(scroll);
    return true;
}

/* ---- one row ---- */

static enum view_found get_from_segment(const struct shard_part *part, struct pdb_text id,
                                        const struct shard_get *how, struct pdb_row *row_out)
{
    struct segment_read read = {part->segment, part->deletes, how->version, how->now_us};
    uint32_t row;
    if (!segment_find(part->segment, id, how->version, &row) || !segment_visible(&read, row))
        return VIEW_MISSING;
    if (how->vectors != NULL && how->fetch != NULL && !fetch_row(how->fetch, part, row))
        return VIEW_WAITING;
    return segment_row(part->segment, row, row_out, how->vectors) ? VIEW_FOUND : VIEW_DAMAGED;
}

static enum view_found get_from(const struct shard_part *part, struct pdb_text id,
                                const struct shard_get *how, struct pdb_row *row_out)
{
    if (part->memtable == NULL)
        return get_from_segment(part, id, how, row_out);
    bool found = memtable_get(part->memtable, id, how->version, row_out, NULL) &&
                 !shard_row_expired(row_out, how->now_us);
    return found ? VIEW_FOUND : VIEW_MISSING;
}

enum view_found shard_get_row(struct shard *shard, struct pdb_text id, const struct shard_get *how,
                              struct pdb_row *row_out)
{
    for (struct list_link *link = shard->parts.anchor.prev; link != &shard->parts.anchor;
         link = link->prev) {
        enum view_found found =
            get_from(container_of(link, struct shard_part, link), id, how, row_out);
        if (found != VIEW_MISSING)
            return found;
    }
    return shard->lost_segments == 0 ? VIEW_MISSING : VIEW_DAMAGED; /* it may lie in a lost one */
}
