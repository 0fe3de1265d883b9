/* ann_state.c: what is told of a field's indexes: how far they are, and for how long yet.
 *
 * Nothing is kept for it but the speed of the last index that was finished: the rest is counted
 * when somebody asks, over some tens of segments. */
#include "engine/ann_build.h"
#include "engine/catalog.h"
#include "engine/upkeep_internal.h"

#include "base/no_libc_heap.h"

struct counting {
    double rows_made;  /* rows of indexes that are there and wanted, and what is done of others */
    double rows_per_s; /* 0: not known */
    bool building, waiting;
};

static void add_op(const struct shard *shard, const struct ann_op *op, struct counting *c)
{
    uint64_t done = 0, total = 0;
    if (op->build != NULL)
        ann_build_progress(op->build, &done, &total);
    double share = total != 0 && done < total ? (double)done / (double)total : 0;
    double rows = share * segment_vector_count(op->part->segment, op->field);
    double seconds = (double)(shard->core->r->now_ns - op->begun_ns) / 1e9;
    c->building = true;
    c->rows_made += rows;
    if (seconds > 0)
        c->rows_per_s += rows / seconds;
}

static void add_part(const struct shard *shard, const struct shard_part *part, uint32_t field,
                     struct pdb_index_info *info, struct counting *c)
{
    const struct ann *ann = part->anns[field];
    uint64_t rows = segment_vector_count(part->segment, field);
    struct index_spec spec;
    info->rows += rows;
    if (ann != NULL) {
        info->rows_indexed += rows;
        info->bytes += ann->bytes;
        info->indexes++;
    }
    if (segment_damaged(part->segment) ||
        !ann_wanted(&shard->entry->config.fields[field], rows, &spec))
        return;
    info->rows_wanted += rows;
    if (ann != NULL && ann_spec_equal(&ann->spec, &spec))
        c->rows_made += (double)rows;
    else
        c->waiting = true;
}

void ann_state(const struct shard *shard, uint32_t field, struct pdb_index_info *info_out)
{
    struct pdb_index_info *info = info_out;
    const struct upkeep *u = shard->upkeep;
    struct counting c = {0};
    *info = (struct pdb_index_info){.progress = 1};
    if (shard->entry == NULL)
        return;
    list_each (link, &shard->parts) {
        const struct shard_part *part = container_of(link, struct shard_part, link);
        if (part->segment != NULL)
            add_part(shard, part, field, info, &c);
    }
    list_each (link, &u->ann_ops) {
        const struct ann_op *op = container_of(link, struct ann_op, link);
        if (op->field == field && !op->cancelled)
            add_op(shard, op, &c);
    }
    info->state = c.building        ? PDB_INDEX_STATE_BUILDING
                  : !c.waiting      ? PDB_INDEX_STATE_READY
                  : u->index_failed ? PDB_INDEX_STATE_FAILED
                                    : PDB_INDEX_STATE_WAITING;
    double wanted = (double)info->rows_wanted;
    if (!c.waiting || wanted <= 0)
        return;
    double made = c.rows_made < wanted ? c.rows_made : wanted;
    double speed = c.rows_per_s > 0 ? c.rows_per_s : u->index_rows_per_s;
    info->progress = (float)(made / wanted);
    if (speed > 0)
        info->eta_s = (uint64_t)((wanted - made) / speed) + 1;
}
