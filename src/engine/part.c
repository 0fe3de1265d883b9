/* part.c: the parts of a shard, and the two things that writes do to older ones: look for the row
 * of an id, and end it. */
#include "engine/part.h"

#include "base/assert.h"
#include "base/log.h"
#include "engine/ann.h"
#include "engine/call.h"
#include "engine/catalog.h"

#include "base/no_libc_heap.h"

/* ---- life ---- */

static struct shard_part *new_part(struct shard *shard)
{
    struct shard_part *part = heap_calloc(&shard->core->r->heap, 1, sizeof(*part));
    if (part == NULL)
        return NULL;
    part->shard = shard;
    part->refs = 1;
    return part;
}

struct shard_part *part_of_memtable(struct shard *shard)
{
    struct shard_part *part = new_part(shard);
    if (part == NULL)
        return NULL;
    struct memtable_options options = {
        .heap = &shard->core->r->heap,
        .pool = &shard->core->memtable_pool,
        .hash_key = shard->core->db->hash_key,
        .fields = shard->fields,
        .field_count = shard->field_count,
    };
    if (memtable_new(&options, &part->memtable) < 0) {
        heap_free(&shard->core->r->heap, part);
        return NULL;
    }
    return part;
}

struct shard_part *part_of_segment(struct shard *shard, struct segment_file *file)
{
    struct heap *heap = &shard->core->r->heap;
    struct shard_part *part = new_part(shard);
    if (part == NULL) {
        segment_file_close(heap, file);
        return NULL;
    }
    part->file = file;
    part->segment = file->segment;
    part->resident_bytes = segment_file_heap_bytes(file);
    if (shard->entry == NULL || shard->entry->config.vector_storage == PDB_VECTORS_MEMORY)
        part->mapped_bytes = file->stats.vector_bytes + file->stats.index_bytes;
    part->resident_bytes += part->mapped_bytes;
    shard->core->segment_bytes += part->resident_bytes;
    shard->core->memory.mapped += part->mapped_bytes;
    part->anns = heap_calloc(heap, shard->field_count, sizeof(*part->anns));
    if (part->anns == NULL ||
        segment_deletes_new(heap, (uint32_t)file->stats.rows, &part->deletes) < 0) {
        part_let_go(part);
        return NULL;
    }
    return part;
}

void part_keep_schema(struct shard_part *part, struct arena *arena, uint64_t schema_version)
{
    part->schema_version = schema_version;
    part->schema = *arena;
    *arena = (struct arena){0};
}

void part_file_options(struct segment_file_options *options, const struct uuid *uuid,
                       const struct pdb_collection_config *config, uint64_t number)
{
    bool in_memory = config->vector_storage == PDB_VECTORS_MEMORY;
    *options = (struct segment_file_options){
        .schema = {.collection = *uuid,
                   .number = number,
                   .fields = config->fields,
                   .field_count = config->field_count,
                   .columns = config->columns,
                   .column_count = config->column_count,
                   .compression = config->compression,
                   .vectors_in_place = !in_memory || config->compression == PDB_COMPRESSION_NONE},
        .parquet_advice = in_memory                                    ? FILE_MAP_WILLNEED
                          : config->vector_storage == PDB_VECTORS_DISK ? FILE_MAP_RANDOM
                                                                       : FILE_MAP_NORMAL,
        .index_advice = FILE_MAP_WILLNEED,
    };
}

void part_set_ann(struct shard_part *part, uint32_t field, struct ann *ann)
{
    struct shard *shard = part->shard;
    struct ann *old = part->anns[field];
    uint64_t less = old != NULL ? old->bytes : 0, more = ann != NULL ? ann->bytes : 0;
    part->anns[field] = ann;
    part->resident_bytes += more - less;
    shard->core->segment_bytes += more - less;
    ann_let_go(shard, old);
    ann_set_changed(shard);
    memory_note_change(shard->core);
}

void part_hold(struct shard_part *part)
{
    part->refs++;
}

void part_let_go(struct shard_part *part)
{
    ASSERT(part->refs > 0);
    if (--part->refs != 0)
        return;
    struct engine_core *core = part->shard->core;
    if (part->successor != NULL)
        part_let_go(part->successor);
    for (uint32_t f = 0; part->anns != NULL && f < part->shard->field_count; f++)
        ann_let_go(part->shard, part->anns[f]);
    heap_free(&core->r->heap, (void *)part->anns);
    part->anns = NULL;
    core->segment_bytes -= part->resident_bytes;
    core->memory.mapped -= part->mapped_bytes;
    discard_part(core, part);
}

void part_remove(struct shard_part *part)
{
    list_remove(&part->link);
    part_let_go(part);
}

/* ---- what writes ask ---- */

/* Newest first: what is written again was mostly written lately. */
#define parts_each_newest(at, shard)                                                               \
    for (struct list_link * (at) = (shard)->parts.anchor.prev; (at) != &(shard)->parts.anchor;     \
         (at) = (at)->prev)

static struct shard_part *part_at(struct list_link *link)
{
    return container_of(link, struct shard_part, link);
}

/* The live row of an id in a segment: its newest, unless it ended. */
static bool find_live(const struct shard_part *part, struct pdb_text id, uint32_t *row_out)
{
    return segment_find(part->segment, id, SEGMENT_NEVER - 1, row_out) &&
           segment_deletes_ended_at(part->deletes, *row_out) == SEGMENT_NEVER;
}

bool parts_newest_row(struct shard *shard, struct pdb_text id, struct pdb_row *row_out)
{
    parts_each_newest(link, shard)
    {
        struct shard_part *part = part_at(link);
        uint32_t row;
        if (part->memtable != NULL) {
            if (memtable_get(part->memtable, id, SEGMENT_NEVER - 1, row_out, NULL))
                return true;
        } else if (find_live(part, id, &row)) {
            if (!segment_row(part->segment, row, row_out, shard->vectors_out))
                (void)segment_row(part->segment, row, row_out, NULL);
            return true;
        }
    }
    return false;
}

static int reserve_ends(struct shard_part *part, uint64_t row_count)
{
    if (row_count > UINT32_MAX)
        return PDB_RESOURCE_EXHAUSTED;
    if (part->memtable == NULL && segment_deletes_reserve(part->deletes, (uint32_t)row_count) < 0)
        return PDB_RESOURCE_EXHAUSTED;
    return part->successor != NULL ? reserve_ends(part->successor, row_count) : 0;
}

int parts_reserve_ends(struct shard *shard, uint64_t row_count)
{
    list_each (link, &shard->parts)
        if (reserve_ends(part_at(link), row_count) < 0)
            return PDB_RESOURCE_EXHAUSTED;
    return 0;
}

/* The newest row of the id in the successor is the one that has just ended, or, if that was left
 * out because it had expired, one that ended before: then the earlier end stays. */
static void end_in_successor(const struct shard_part *part, struct pdb_text id, uint64_t version)
{
    uint32_t row;
    const struct shard_part *successor = part->successor;
    if (successor != NULL && segment_find(successor->segment, id, version - 1, &row))
        segment_deletes_mark(successor->deletes, row, version);
}

void parts_end_older(struct shard *shard, struct pdb_text id, uint64_t version)
{
    parts_each_newest(link, shard)
    {
        struct shard_part *part = part_at(link);
        uint32_t row;
        bool ended = false;
        if (part == shard->active) {
            continue;
        } else if (part->memtable != NULL) {
            ended = memtable_end(part->memtable, id, version);
        } else if (find_live(part, id, &row)) {
            segment_deletes_mark(part->deletes, row, version);
            ended = true;
        }
        if (ended) {
            end_in_successor(part, id, version);
            return;
        }
    }
}

/* ---- numbers ---- */

static void add_segment(const struct shard_part *part, struct parts_stats *stats)
{
    uint64_t ended = segment_deletes_count(part->deletes);
    stats->rows_live += part->file->stats.rows - ended;
    stats->memory_bytes += part->resident_bytes;
    stats->segments++;
    stats->damaged += segment_damaged(part->segment);
    stats->segment_rows += part->file->stats.rows;
    stats->segment_bytes += part->file->stats.parquet_bytes + part->file->stats.index_bytes;
    stats->tombstones += ended;
    stats->expired_rows += part->expired_rows;
    for (uint32_t f = 0; f < part->shard->field_count; f++)
        stats->ann_bytes += part->anns[f] != NULL ? part->anns[f]->bytes : 0;
}

void parts_stats(const struct shard *shard, struct parts_stats *stats_out)
{
    *stats_out = (struct parts_stats){0};
    list_each (link, &shard->parts) {
        const struct shard_part *part = container_of(link, struct shard_part, link);
        struct memtable_stats stats;
        if (part->memtable == NULL) {
            add_segment(part, stats_out);
            continue;
        }
        memtable_stats(part->memtable, &stats);
        stats_out->rows_live += stats.rows_live;
        stats_out->memtable_rows += stats.rows_live;
        stats_out->memory_bytes += stats.bytes;
    }
}

/* ---- damage ---- */

void part_log_damage(struct shard_part *part)
{
    if (!part->damage_told)
        LOG_ERROR("engine",
                  "collection %s: segment %llu is damaged and out of use: a page does not fit its "
                  "checksum; restore it from a snapshot, or see `proximadb check`",
                  part->shard->uuid_text, (unsigned long long)part->file->stats.number);
    part->damage_told = true;
}

int part_tell_damage(struct shard_part *part, struct pdb_call *call)
{
    part_log_damage(part);
    return call_fail(call, PDB_DATA_LOSS,
                     "segment %llu of collection '%.*s' is damaged: a page does not fit its "
                     "checksum",
                     (unsigned long long)part->file->stats.number,
                     CALL_TEXT(call_state(call)->entry->config.name));
}

void parts_tell_damage(struct shard *shard, struct pdb_call *call)
{
    if (shard->lost_segments != 0) {
        (void)call_fail(call, PDB_DATA_LOSS,
                        "collection '%.*s' has %u damaged segment%s, the first is %llu: restore it "
                        "from a snapshot, or see `proximadb check`",
                        CALL_TEXT(call_state(call)->entry->config.name), shard->lost_segments,
                        shard->lost_segments == 1 ? "" : "s",
                        (unsigned long long)shard->lost_first);
        return;
    }
    list_each (link, &shard->parts) {
        struct shard_part *part = part_at(link);
        if (part->segment != NULL && segment_damaged(part->segment)) {
            (void)part_tell_damage(part, call);
            return;
        }
    }
    (void)call_fail(call, PDB_DATA_LOSS, "a segment is damaged");
}
