/* ann_state.c: what is told of a field's indexes: how far they are, and for how long yet.
 *
 * Nothing is kept for it but the speed of the last index that was finished: the rest is counted
 * when somebody asks, over some tens of segments. Progress is over the rows of all segments that
 * are to have an index, those of a merge that waits for its own included. */
#include "engine/ann_build.h"
#include "engine/catalog.h"
#include "engine/upkeep_internal.h"

#include "base/no_libc_heap.h"

struct counting {
    double rows_wanted, rows_made;
    double rows_per_s; /* of those being made; 0: not known */
    bool building, waiting;
};

static void add_op(const struct ann_op *op, struct counting *c)
{
    const struct ann *old = op->part->anns[op->field];
    uint64_t done = 0, total = 0;
    if (op->cancelled || (op->kind != ANN_OP_LOAD && op->kind != ANN_OP_BUILD))
        return;
    c->building = true;
    if (op->build != NULL)
        ann_build_progress(op->build, &done, &total);
    if (total == 0 || (old != NULL && ann_spec_equal(&old->spec, &op->spec)))
        return;
    double share = done < total ? (double)done / (double)total : 1;
    double rows = share * segment_vector_count(op->part->segment, op->field);
    double seconds = (double)(op->shard->core->r->now_ns - op->begun_ns) / 1e9;
    c->rows_made += rows;
    if (seconds > 0)
        c->rows_per_s += rows / seconds;
}

/* True: it is to have an index. */
static bool add_wanted(const struct shard *shard, const struct shard_part *part, uint32_t field,
                       struct counting *c)
{
    const struct ann *ann = part->anns[field];
    double rows = segment_vector_count(part->segment, field);
    struct index_spec spec;
    if (!upkeep_index_wants(shard, part, field, &spec))
        return false;
    c->rows_wanted += rows;
    if (ann != NULL && ann_spec_equal(&ann->spec, &spec))
        c->rows_made += rows;
    else
        c->waiting = true;
    return true;
}

static void add_part(const struct shard *shard, const struct shard_part *part, uint32_t field,
                     struct pdb_index_info *info, struct counting *c)
{
    const struct ann *ann = part->anns[field];
    uint64_t rows = segment_vector_count(part->segment, field);
    info->rows += rows;
    if (ann != NULL) {
        info->rows_indexed += rows;
        info->bytes += ann->bytes;
        info->indexes++;
    }
    if (add_wanted(shard, part, field, c))
        info->rows_wanted += rows;
}

static void count(const struct shard *shard, uint32_t field, struct pdb_index_info *info,
                  struct counting *c)
{
    list_each (link, &shard->parts) {
        const struct shard_part *part = container_of(link, struct shard_part, link);
        if (part->segment != NULL)
            add_part(shard, part, field, info, c);
    }
    list_each (link, &shard->upkeep->detached) {
        const struct change *change = container_of(link, struct change, detached_link);
        if (change->waits)
            (void)add_wanted(shard, change->part, field, c);
    }
    list_each (link, &shard->upkeep->ann_ops) {
        const struct ann_op *op = container_of(link, struct ann_op, link);
        if (op->field == field)
            add_op(op, c);
    }
}

void ann_state(const struct shard *shard, uint32_t field, struct pdb_index_info *info_out)
{
    const struct upkeep *u = shard->upkeep;
    struct counting c = {0};
    *info_out = (struct pdb_index_info){.progress = 1};
    if (shard->entry == NULL)
        return;
    count(shard, field, info_out, &c);
    info_out->state = c.building        ? PDB_INDEX_STATE_BUILDING
                      : !c.waiting      ? PDB_INDEX_STATE_READY
                      : u->index_failed ? PDB_INDEX_STATE_FAILED
                                        : PDB_INDEX_STATE_WAITING;
    if (!c.waiting)
        return;
    double left = c.rows_wanted > c.rows_made ? c.rows_wanted - c.rows_made : 0;
    double speed = c.rows_per_s > 0 ? c.rows_per_s : u->index_rows_per_s;
    info_out->progress = (float)(1 - left / c.rows_wanted);
    if (speed > 0)
        info_out->eta_s = (uint64_t)(left / speed) + 1;
}
