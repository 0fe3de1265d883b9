/* Which segments have indexes, what is in them, and that they come and go with what they belong
 * to. */
#include "ann_fixture.h"

/* ---- what is wanted ---- */

static bool wanted(struct pdb_field field, uint64_t rows, struct index_spec *spec_out)
{
    if (field.dimension == 0)
        field.dimension = 768;
    if (field.metric == 0)
        field.metric = PDB_METRIC_COSINE;
    return ann_wanted(&field, rows, spec_out);
}

static void auto_is_a_graph_where_a_scan_is_not_cheap(void **state)
{
    (void)state;
    struct index_spec spec;
    assert_false(wanted((struct pdb_field){.dimension = 768}, 3500, &spec));
    assert_true(wanted((struct pdb_field){.dimension = 768}, 4500, &spec));
    assert_int_equal(spec.kind, INDEX_HNSW);
    assert_int_equal(spec.codes, QUANTIZE_SQ8);
    assert_int_equal(spec.m, HNSW_M_DEFAULT);
    assert_int_equal(spec.ef_construction, HNSW_EF_DEFAULT);
    assert_false(wanted((struct pdb_field){.dimension = 100}, 15000, &spec));
    assert_true(wanted((struct pdb_field){.dimension = 100}, 18000, &spec));
    assert_false(wanted((struct pdb_field){.dimension = 65535}, 100, &spec));
}

static void flat_has_codes_only_if_they_are_asked_for(void **state)
{
    (void)state;
    struct index_spec spec;
    struct pdb_field field = {.index = PDB_INDEX_FLAT};
    assert_false(wanted(field, 1000000, &spec));
    field.quantization = PDB_QUANTIZATION_NONE;
    assert_false(wanted(field, 1000000, &spec));
    field.quantization = PDB_QUANTIZATION_SQ4;
    assert_true(wanted(field, 1000000, &spec));
    assert_int_equal(spec.kind, INDEX_FLAT);
    assert_int_equal(spec.codes, QUANTIZE_SQ4);
    assert_int_equal(spec.m, 0);
}

static void a_graph_that_is_asked_for_begins_early(void **state)
{
    (void)state;
    struct index_spec spec;
    struct pdb_field field = {.index = PDB_INDEX_HNSW, .hnsw_m = 24, .ef_construction = 77};
    assert_false(wanted(field, 10, &spec));
    assert_true(wanted(field, 300, &spec));
    assert_int_equal(spec.m, 24);
    assert_int_equal(spec.ef_construction, 77);
    struct index_spec other = spec;
    assert_true(ann_spec_equal(&spec, &other));
    other.m = 16;
    assert_false(ann_spec_equal(&spec, &other));
}

/* ---- life ---- */

static void a_flushed_segment_is_indexed_in_the_background(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(1);
    ann_begin_on(&fx, disk, 2);
    ann_create(&fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_AUTO);
    ann_put(&fx, "c", 0, 1000, 0);
    ann_flush(&fx);
    struct shard *shard = ann_shard(&fx);
    struct shard_part *part = ann_part(shard, 0);
    uint64_t before = shard->core->segment_bytes;
    assert_null(part->anns[0]);
    assert_int_equal(ann_info(&fx).rows_wanted, 1000);
    assert_int_equal(ann_info(&fx).rows_indexed, 0);
    ann_rest(&fx);
    const struct ann *ann = part->anns[0];
    assert_non_null(ann);
    assert_null(ann->rows);
    assert_int_equal(ann->index.codes.row_count, 1000);
    assert_true(ann->index.has_graph);
    for (unsigned i = 0; i < 1000; i += 7)
        assert_int_equal(ann_nearest(part, i), i);
    struct pdb_index_info info = ann_info(&fx);
    assert_int_equal(info.rows, 1000);
    assert_int_equal(info.rows_indexed, 1000);
    assert_int_equal(info.indexes, 1);
    assert_int_equal(info.bytes, ann->bytes);
    assert_true(info.progress >= 1 && info.eta_s == 0);
    assert_int_equal(shard->core->segment_bytes, before + ann->bytes);
    assert_int_equal(shard->core->memory.builds, 0);
    assert_int_equal(shard->core->memory.indexes, 0);
    ann_end(&fx, disk);
}

static void rows_without_a_vector_are_left_out(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(2);
    ann_begin_on(&fx, disk, 1);
    ann_create(&fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_AUTO);
    ann_put(&fx, "c", 0, 900, 3);
    ann_flush(&fx);
    ann_rest(&fx);
    const struct shard_part *part = ann_part(ann_shard(&fx), 0);
    const struct ann *ann = part->anns[0];
    assert_non_null(ann);
    assert_int_equal(ann->index.codes.row_count, 600);
    assert_non_null(ann->rows);
    for (unsigned i = 0; i < 600; i++)
        assert_int_not_equal(ann->rows[i] % 3, 0);
    for (unsigned i = 1; i < 900; i += 3)
        assert_int_equal(ann_nearest(part, i), i);
    ann_end(&fx, disk);
}

static void a_small_segment_has_none(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(3);
    ann_begin_on(&fx, disk, 1);
    ann_create(&fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_AUTO);
    ann_put(&fx, "c", 0, 10, 0);
    ann_flush(&fx);
    assert_int_equal(ann_info(&fx).state, PDB_INDEX_STATE_READY);
    assert_int_equal(ann_info(&fx).rows_wanted, 0);
    assert_int_equal(ann_shard(&fx)->core->index_builds, 0);
    ann_end(&fx, disk);
}

static void an_index_without_room_for_it_waits_and_nothing_else_does(void **state)
{
    (void)state;
    const uint64_t others = (uint64_t)800 << 20; /* of 1 GiB: no write is refused */
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(6);
    ann_begin_on(&fx, disk, 1);
    fx.db->options.memory_limit = (uint64_t)1 << 30;
    ann_create(&fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_AUTO);
    struct shard *shard = ann_shard(&fx);
    struct engine_core *core = shard->core;
    core->segment_bytes += others;
    for (unsigned i = 0; i < 3; i++) {
        ann_put(&fx, "c", i * 1000, 1000, 0);
        ann_flush(&fx);
        upkeep_sweep_core(core);
        assert_int_equal(ann_segments(shard), i + 1);
        assert_int_equal(core->index_builds, 0);
        assert_int_equal(core->memory.indexes, 0);
        assert_true(shard->upkeep->index_short);
        assert_int_equal(ann_info(&fx).state, PDB_INDEX_STATE_WAITING);
        assert_int_equal(ann_info(&fx).rows_indexed, 0);
    }
    core->segment_bytes -= others;
    upkeep_sweep_core(core);
    assert_true(core->memory.indexes > 0);
    ann_rest(&fx);
    assert_int_equal(ann_info(&fx).rows_indexed, 3000);
    assert_int_equal(core->memory.indexes, 0);
    ann_end(&fx, disk);
}

static void a_dropped_collection_ends_its_builds(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(4);
    ann_begin_on(&fx, disk, 2);
    ann_create(&fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_AUTO);
    ann_put(&fx, "c", 0, 2000, 0);
    struct shard *shard = ann_shard(&fx);
    struct engine_core *core = shard->core;
    upkeep_flush_soon(shard);
    ann_pump_until(&fx, core->index_builds == 1);
    struct pdb_collection_delete d = {.name = txt("c")};
    assert_done(&fx, do_drop(&fx, &d));
    ann_pump_until(&fx, core->upkeep_active == 0);
    assert_int_equal(core->index_builds, 0);
    assert_int_equal(core->memory.builds, 0);
    assert_int_equal(core->memory.indexes, 0);
    assert_int_equal(core->segment_bytes, 0);
    ann_end(&fx, disk);
}

static void a_build_under_way_ends_with_the_database(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(5);
    ann_begin_on(&fx, disk, 2);
    ann_create(&fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_AUTO);
    ann_put(&fx, "c", 0, 2000, 0);
    struct shard *shard = ann_shard(&fx);
    upkeep_flush_soon(shard);
    ann_pump_until(&fx, shard->core->index_builds == 1);
    ann_end(&fx, disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_is_a_graph_where_a_scan_is_not_cheap),
        cmocka_unit_test(flat_has_codes_only_if_they_are_asked_for),
        cmocka_unit_test(a_graph_that_is_asked_for_begins_early),
        cmocka_unit_test(a_flushed_segment_is_indexed_in_the_background),
        cmocka_unit_test(rows_without_a_vector_are_left_out),
        cmocka_unit_test(a_small_segment_has_none),
        cmocka_unit_test(an_index_without_room_for_it_waits_and_nothing_else_does),
        cmocka_unit_test(a_dropped_collection_ends_its_builds),
        cmocka_unit_test(a_build_under_way_ends_with_the_database),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
