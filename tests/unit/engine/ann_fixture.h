/* A database on a simulated disk whose segments have indexes: rows whose vectors follow from their
 * number, so that a test can say which row must be found. */
#ifndef ANN_FIXTURE_H
#define ANN_FIXTURE_H

#include "attack.h"

#include "base/rng.h"
#include "engine/ann.h"
#include "engine/catalog.h"
#include "engine/upkeep_internal.h"
#include "index/search.h"
#include "wal/wal_internal.h"

enum { ANN_DIMENSION = 16, ANN_BATCH = 200, ANN_PUMPS_MAX = 4000000 };

static inline void ann_vector(unsigned row, float *values)
{
    struct rng rng;
    rng_seed(&rng, row + 1);
    for (int d = 0; d < ANN_DIMENSION; d++)
        values[d] = (float)rng_normal(&rng);
}

static inline struct shard *ann_shard(const struct fixture *fx)
{
    for (unsigned i = 0; i < fx->db->core_count; i++)
        if (!list_empty(&fx->db->cores[i].shard_list))
            return container_of(fx->db->cores[i].shard_list.anchor.next, struct shard, link);
    fail_msg("there is no shard");
    return NULL;
}

static inline void ann_create(struct fixture *fx, const char *name, enum pdb_index_type index,
                              enum pdb_quantization_type quantization)
{
    struct pdb_field field = {.dimension = ANN_DIMENSION,
                              .metric = PDB_METRIC_EUCLIDEAN,
                              .index = index,
                              .quantization = quantization};
    struct pdb_collection_create c = {
        .config = {.name = txt(name), .fields = &field, .field_count = 1}};
    assert_done(fx, do_create(fx, &c));
}

/* What a PATCH does. */
static inline void ann_alter(struct fixture *fx, const char *name,
                             const struct pdb_field_change *change)
{
    struct pdb_collection_update u = {
        .name = txt(name), .field_changes = change, .field_change_count = 1};
    assert_done(fx, do_alter(fx, &u));
}

/* Rows first to first + count - 1; every `skip`-th has no vector (0: all have one). */
static inline void ann_put(struct fixture *fx, const char *name, unsigned first, unsigned count,
                           unsigned skip)
{
    static float values[ANN_BATCH][ANN_DIMENSION];
    struct pdb_vector vectors[ANN_BATCH];
    struct pdb_record records[ANN_BATCH];
    char ids[ANN_BATCH][16];
    while (count > 0) {
        unsigned batch = count < ANN_BATCH ? count : ANN_BATCH;
        for (unsigned i = 0; i < batch; i++) {
            ann_vector(first + i, values[i]);
            (void)snprintf(ids[i], sizeof(ids[i]), "id-%06u", first + i);
            records[i] = record(ids[i], &vectors[i], values[i], ANN_DIMENSION);
            if (skip != 0 && (first + i) % skip == 0)
                records[i].vector_count = 0;
        }
        struct pdb_write w = {.collection = txt(name), .records = records, .record_count = batch};
        assert_done(fx, do_write(fx, &w));
        pdb_arena_reset(fx->arena);
        first += batch;
        count -= batch;
    }
}

static inline unsigned ann_segments(const struct shard *shard)
{
    unsigned count = 0;
    list_each (link, &shard->parts)
        count += container_of(link, struct shard_part, link)->segment != NULL;
    return count;
}

static inline struct shard_part *ann_part(const struct shard *shard, unsigned which)
{
    list_each (link, &shard->parts) {
        struct shard_part *part = container_of(link, struct shard_part, link);
        if (part->segment != NULL && which-- == 0)
            return part;
    }
    fail_msg("there is no such segment");
    return NULL;
}

static inline struct pdb_index_info ann_info(const struct fixture *fx)
{
    struct pdb_index_info info;
    ann_state(ann_shard(fx), 0, &info);
    return info;
}

#define ann_pump_until(fx, condition)                                                              \
    do {                                                                                           \
        for (int pumps_ = 0; !(condition); pumps_++) {                                             \
            engine_pump((fx)->db);                                                                 \
            assert_true(pumps_ < ANN_PUMPS_MAX);                                                   \
        }                                                                                          \
    } while (0)

/* The memtable becomes a segment. */
static inline void ann_flush(struct fixture *fx)
{
    struct shard *shard = ann_shard(fx);
    upkeep_flush_soon(shard);
    ann_pump_until(fx, shard->upkeep->flushed_version == shard->version_visible);
}

/* All indexes are there, and in their files. */
static inline void ann_rest(struct fixture *fx)
{
    ann_pump_until(fx, ann_info(fx).state == PDB_INDEX_STATE_READY &&
                           list_empty(&ann_shard(fx)->upkeep->ann_ops));
}

/* The disk and the database on it, after a close or (`crash`) a loss of power. */
static inline void ann_reopen(struct fixture *fx, struct sim_disk *disk, bool crash)
{
    unsigned cores = fx->db->core_count;
    if (crash) {
        sim_disk_crash(disk);
        engine_abandon_sim(fx->db, wal_abandon);
    } else {
        pdb_close(fx->db);
    }
    fx->db = sim_open(disk, cores);
}

static inline void ann_path(const struct fixture *fx, uint64_t segment, char path_out[4200])
{
    char folder[SHARD_FOLDER_MAX];
    shard_files_folder(folder, ".", &ann_shard(fx)->uuid);
    shard_files_ann_path(path_out, folder, segment, 0);
}

/* The row of the database that is nearest to the vector of row `number`, by the index alone. */
static inline unsigned ann_nearest(const struct shard_part *part, unsigned number)
{
    const struct ann *ann = part->anns[0];
    struct index_scratch *scratch;
    struct index_search search;
    struct index_candidate found[64];
    float values[ANN_DIMENSION];
    assert_int_equal(index_scratch_open(NULL, ann->index.codes.row_count, ANN_DIMENSION, &scratch),
                     0);
    ann_vector(number, values);
    struct index_query query = {.vector = values, .k = 1, .ef = 200};
    index_search_begin(&search, scratch, &ann->index, &query);
    while (!index_search_step(&search, 1000))
        ;
    assert_true(index_search_end(&search, found) >= 1);
    index_scratch_close(scratch, NULL);
    struct pdb_text id = segment_row_id(part->segment, ann_row(ann, found[0].row));
    return (unsigned)strtoul(id.ptr + 3, NULL, 10);
}

static inline void ann_begin_on(struct fixture *fx, struct sim_disk *disk, unsigned cores)
{
    sim_fixture(fx, sim_open(disk, cores));
}

static inline void ann_end(struct fixture *fx, struct sim_disk *disk)
{
    pdb_close(fx->db);
    pdb_arena_free(fx->arena);
    sim_disk_free(disk);
}

#endif
