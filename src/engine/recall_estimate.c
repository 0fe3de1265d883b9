/* recall_estimate.c: recent searches are measured one by one, as long as there are new ones.
 *
 * With each sweep of the core (a second) at most one search is run again, of the shard that was
 * measured longest ago, if the core has not much else to do. What an exact search costs is measured
 * too: the next one waits a hundred times as long, so that all of it takes less than a hundredth of
 * the core however large the collections are. Only fields that have an index are measured: without
 * one every search is exact. */
#include "engine/recall.h"

#include "engine/ann.h"
#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/part.h"

#include <string.h>

#include "base/no_libc_heap.h"

enum {
    COST_FACTOR = 100,
    BUSY_PERCENT_MAX = 80, /* of the time since the last sweep */
};
static const uint64_t pause_max_ns = (uint64_t)3600 * 1000000000;

struct recall_core {
    struct engine_core *core;
    struct recall_pair pair;
    struct arena arena; /* of the search that is run */
    struct uuid uuid;   /* its collection */
    uint32_t field;
    bool running;
    uint64_t next_ns; /* not before */
    uint64_t looked_ns, busy_ns;
    uint64_t turn;           /* counts measurements */
    struct shard *candidate; /* of this sweep, until its end */
};

/* ---- whose turn it is ---- */

static struct recall_core *recall_here(struct engine_core *core)
{
    if (core->recall == NULL) {
        core->recall = heap_calloc(&core->r->heap, 1, sizeof(struct recall_core));
        if (core->recall != NULL)
            core->recall->core = core;
    }
    return core->recall;
}

/* A bit of each field that some segment has an index of. */
static uint64_t indexed_fields(const struct shard *shard)
{
    uint64_t fields = 0;
    list_each (link, &shard->parts) {
        const struct shard_part *part = container_of(link, struct shard_part, link);
        for (uint32_t i = 0; part->segment != NULL && i < shard->field_count; i++)
            fields |= (uint64_t)(part->anns[i] != NULL) << i;
    }
    return fields;
}

void recall_look(struct shard *shard)
{
    struct engine_core *core = shard->core;
    if (core->closing || shard->entry == NULL || !recall_has_unmeasured(shard))
        return;
    struct recall_core *rc = recall_here(core);
    if (rc == NULL || rc->running || core->r->now_ns < rc->next_ns)
        return;
    if (rc->candidate == NULL || shard->recall_turn < rc->candidate->recall_turn) {
        if (rc->candidate != NULL)
            shard_leave(rc->candidate);
        shard->users++; /* a step of the sweep may end here */
        rc->candidate = shard;
    }
}

static bool core_is_busy(struct recall_core *rc)
{
    const struct reactor *r = rc->core->r;
    uint64_t passed = r->now_ns - rc->looked_ns, busy = r->stats.busy_ns - rc->busy_ns;
    bool first = rc->looked_ns == 0;
    rc->looked_ns = r->now_ns;
    rc->busy_ns = r->stats.busy_ns;
    return first || busy > passed / 100 * BUSY_PERCENT_MAX;
}

/* ---- one search ---- */

static void measured(struct recall_pair *pair)
{
    struct recall_core *rc = container_of(pair, struct recall_core, pair);
    struct engine_core *core = rc->core;
    struct shard *shard = shard_find(core, &rc->uuid);
    if (pair->error.code == 0 && pair->any && shard != NULL)
        recall_add(shard, rc->field, pair->recall);
    uint64_t cost_ns = (pair->took_us[RECALL_BY_INDEX] + pair->took_us[RECALL_EXACT]) * 1000;
    uint64_t pause_ns = cost_ns < pause_max_ns / COST_FACTOR ? cost_ns * COST_FACTOR : pause_max_ns;
    rc->next_ns = core->r->now_ns + pause_ns;
    rc->running = false;
    recall_pair_dispose(pair);
    arena_dispose(&rc->arena);
}

static bool prepare(struct recall_core *rc, struct shard *shard)
{
    struct recall_sample sample;
    const struct pdb_collection_config *config = &shard->entry->config;
    shard->recall_turn = ++rc->turn;
    if (recall_take_unmeasured(shard, indexed_fields(shard), &rc->arena, &sample) <= 0)
        return false;
    rc->uuid = shard->uuid;
    rc->field = sample.field;
    rc->pair = (struct recall_pair){
        .db = rc->core->db,
        .collection = arena_copy_text(&rc->arena, config->name.ptr, config->name.len),
        .query = sample.query,
        .done = measured,
    };
    struct pdb_text field = config->fields[sample.field].name;
    rc->pair.query.field = arena_copy_text(&rc->arena, field.len != 0 ? field.ptr : "", field.len);
    rc->pair.query.vector.field = rc->pair.query.field;
    return rc->pair.collection.ptr != NULL && rc->pair.query.field.ptr != NULL;
}

void recall_sweep(struct engine_core *core)
{
    struct recall_core *rc = core->recall;
    if (rc == NULL)
        return;
    struct shard *shard = rc->candidate;
    bool busy = core_is_busy(rc);
    rc->candidate = NULL;
    if (shard == NULL)
        return;
    bool begins = !busy && !core->closing && shard->entry != NULL && prepare(rc, shard);
    shard_leave(shard);
    if (!begins) {
        arena_dispose(&rc->arena);
        return;
    }
    rc->running = true;
    recall_pair_start(&rc->pair);
}

/* ---- the end ---- */

void recall_stop(struct engine_core *core)
{
    struct recall_core *rc = core->recall;
    if (rc == NULL)
        return;
    struct shard *shard = rc->candidate;
    rc->candidate = NULL;
    if (shard != NULL)
        shard_leave(shard);
    if (rc->running)
        recall_pair_cancel(&rc->pair);
}

void recall_free(struct engine_core *core)
{
    struct recall_core *rc = core->recall;
    if (rc == NULL)
        return;
    recall_pair_dispose(&rc->pair);
    arena_dispose(&rc->arena);
    heap_free(&core->r->heap, rc);
    core->recall = NULL;
}
