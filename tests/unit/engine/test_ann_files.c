/* Indexes outlive the process in files that are checked when they are read; whatever is wrong with
 * them, they are made again and the rows stay. They follow the settings, and go with their
 * segments. */
#include "ann_fixture.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "engine/ann_file.h"

#include <errno.h>

static void begin(struct fixture *fx, struct sim_disk **disk_out, uint64_t seed, unsigned rows)
{
    *disk_out = sim_disk_new(seed);
    ann_begin_on(fx, *disk_out, 2);
    ann_create(fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_AUTO);
    ann_put(fx, "c", 0, rows, 0);
    ann_flush(fx);
    ann_rest(fx);
}

static uint64_t builds(const struct fixture *fx)
{
    const struct metrics *m = ann_shard(fx)->core->metrics;
    return m->values[METRICS_INDEX_BUILDS_AT + METRICS_RESULT_OK];
}

/* Of files that are there and bad; those of segments (.index) count too. */
static uint64_t rebuilds(const struct fixture *fx)
{
    const struct metrics *m = ann_shard(fx)->core->metrics;
    return m->values[METRICS_INDEX_REBUILDS_AT + METRICS_REBUILD_DAMAGED];
}

static size_t file_bytes(struct fixture *fx, struct sim_disk *disk, uint64_t segment)
{
    char path[4200];
    size_t len = 0;
    ann_path(fx, segment, path);
    return sim_disk_bytes(disk, path, &len) != NULL ? len : 0;
}

static bool file_is_there(struct fixture *fx, uint64_t segment)
{
    char path[4200];
    struct io *io = ann_shard(fx)->core->r->io;
    ann_path(fx, segment, path);
    int64_t file = io_wait_open(io, path, IO_OPEN_READ);
    if (file >= 0)
        assert_int_equal(io_wait_close(io, (int)file), 0);
    return file >= 0;
}

static void assert_finds(struct fixture *fx, unsigned rows)
{
    const struct shard_part *part = ann_part(ann_shard(fx), 0);
    assert_non_null(part->anns[0]);
    for (unsigned i = 0; i < rows; i += 13)
        assert_int_equal(ann_nearest(part, i), i);
}

static void a_restart_reads_what_was_written(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk, 1, 800);
    assert_int_equal(builds(&fx), 1);
    assert_true(file_bytes(&fx, disk, 1) > 800 * ANN_DIMENSION);
    for (int i = 0; i < 2; i++) {
        ann_reopen(&fx, disk, i == 1);
        assert_null(ann_part(ann_shard(&fx), 0)->anns[0]);
        ann_rest(&fx);
        assert_int_equal(builds(&fx), 0);
        assert_non_null(ann_part(ann_shard(&fx), 0)->anns[0]->image);
        assert_finds(&fx, 800);
        assert_int_equal(ann_shard(&fx)->core->memory.builds, 0);
        assert_int_equal(ann_shard(&fx)->core->memory.indexes, 0);
    }
    ann_end(&fx, disk);
}

static void ranks_of_rows_are_found_again(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(2);
    ann_begin_on(&fx, disk, 1);
    ann_create(&fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_AUTO);
    ann_put(&fx, "c", 0, 900, 3);
    ann_flush(&fx);
    ann_rest(&fx);
    ann_reopen(&fx, disk, false);
    ann_rest(&fx);
    assert_int_equal(builds(&fx), 0);
    const struct shard_part *part = ann_part(ann_shard(&fx), 0);
    assert_int_equal(part->anns[0]->index.codes.row_count, 600);
    for (unsigned i = 1; i < 900; i += 3)
        assert_int_equal(ann_nearest(part, i), i);
    ann_end(&fx, disk);
}

/* Every byte of the file is under a checksum: wherever one is wrong, it is noticed. */
static void a_flipped_bit_is_noticed_and_the_index_made_again(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    char path[4200];
    begin(&fx, &disk, 3, 400);
    ann_path(&fx, 1, path);
    size_t len = file_bytes(&fx, disk, 1);
    for (size_t at = 3; at < len; at += len / 9) {
        size_t length;
        uint8_t *bytes = sim_disk_bytes(disk, path, &length);
        bytes[at] ^= 4;
        ann_reopen(&fx, disk, false);
        ann_rest(&fx);
        assert_int_equal(rebuilds(&fx), 1);
        assert_int_equal(builds(&fx), 1);
        assert_finds(&fx, 400);
        ann_reopen(&fx, disk, false); /* and the new file is good */
        ann_rest(&fx);
        assert_int_equal(rebuilds(&fx) + builds(&fx), 0);
    }
    ann_end(&fx, disk);
}

static void a_file_cut_short_or_missing_is_made_again(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    char path[4200];
    begin(&fx, &disk, 4, 400);
    ann_path(&fx, 1, path);
    size_t whole = file_bytes(&fx, disk, 1);
    static const size_t lengths[] = {0, 1, 127, 128, 129, 4096};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        assert_int_equal(sim_disk_resize(disk, path, lengths[i]), 0);
        ann_reopen(&fx, disk, false);
        ann_rest(&fx);
        assert_int_equal(builds(&fx), 1);
        assert_int_equal(file_bytes(&fx, disk, 1), whole);
        assert_finds(&fx, 400);
    }
    struct io *io = ann_shard(&fx)->core->r->io;
    assert_int_equal(io_wait_unlink(io, path), 0);
    ann_reopen(&fx, disk, false);
    ann_rest(&fx);
    assert_int_equal(builds(&fx), 1);
    assert_int_equal(rebuilds(&fx), 0);
    ann_end(&fx, disk);
}

static void anothers_index_is_not_taken(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    char path[4200], other[4200];
    begin(&fx, &disk, 5, 400);
    ann_put(&fx, "c", 1000, 400, 0);
    ann_flush(&fx);
    ann_rest(&fx);
    assert_int_equal(ann_segments(ann_shard(&fx)), 2);
    ann_path(&fx, 1, path);
    ann_path(&fx, 2, other);
    struct io *io = ann_shard(&fx)->core->r->io;
    assert_int_equal(io_wait_unlink(io, path), 0);
    assert_int_equal(io_wait_rename(io, other, path), 0);
    ann_reopen(&fx, disk, false);
    ann_rest(&fx);
    assert_int_equal(rebuilds(&fx), 1);
    assert_int_equal(builds(&fx), 2);
    assert_finds(&fx, 400);
    ann_end(&fx, disk);
}

/* Right checksums, but an index of other vectors: longer ones would be read past the end of every
 * query. */
static void an_index_of_another_kind_is_not_taken_whatever_its_checksums_say(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    char path[4200];
    size_t length;
    begin(&fx, &disk, 21, 400);
    ann_path(&fx, 1, path);
    const struct {
        size_t at;
        uint16_t value;
    } wrong[] = {{42, PDB_METRIC_DOT}, {44, 64}, {44, ANN_DIMENSION - 1}, {72, 6}};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        uint8_t *image = sim_disk_bytes(disk, path, &length) + ANN_FILE_HEADER_BYTES;
        const bool in_header = wrong[i].at == 72; /* m: the graph's would not fit its sections */
        uint8_t *at = in_header ? image - ANN_FILE_HEADER_BYTES + 80 : image + wrong[i].at;
        bytes_put_u16(at, wrong[i].value);
        bytes_put_u32(image + 8, crc32c(0, image + 12, bytes_get_u32(image + 16) - 12));
        image -= ANN_FILE_HEADER_BYTES;
        bytes_put_u32(image + 8, crc32c(0, image + 12, ANN_FILE_HEADER_BYTES - 12));
        ann_reopen(&fx, disk, false);
        ann_rest(&fx);
        assert_int_equal(rebuilds(&fx), 1);
        assert_int_equal(builds(&fx), 1);
        assert_finds(&fx, 400);
    }
    ann_end(&fx, disk);
}

static void a_disk_that_fails_leaves_the_index_in_use(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth < 12; nth++) {
        struct fixture fx;
        struct sim_disk *disk = sim_disk_new(60 + nth);
        ann_begin_on(&fx, disk, 1);
        ann_create(&fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_AUTO);
        ann_put(&fx, "c", 0, 400, 0);
        ann_flush(&fx);
        struct shard_part *part = ann_part(ann_shard(&fx), 0);
        ann_pump_until(&fx, part->anns[0] != NULL);
        sim_disk_fail_at(disk, nth, EIO);
        ann_rest(&fx);
        sim_disk_fail_at(disk, 0, 0);
        assert_finds(&fx, 400);
        ann_reopen(&fx, disk, false);
        ann_rest(&fx);
        assert_finds(&fx, 400);
        ann_end(&fx, disk);
    }
}

static void a_loss_of_power_at_any_time_loses_no_row(void **state)
{
    (void)state;
    for (uint64_t turns = 1; turns < 4000; turns = turns * 3 / 2 + 1) {
        struct fixture fx;
        struct sim_disk *disk = sim_disk_new(100 + turns);
        ann_begin_on(&fx, disk, 2);
        ann_create(&fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_AUTO);
        ann_put(&fx, "c", 0, 600, 0);
        upkeep_flush_soon(ann_shard(&fx));
        for (uint64_t i = 0; i < turns; i++)
            sim_turn(fx.db);
        ann_reopen(&fx, disk, true);
        ann_flush(&fx);
        ann_rest(&fx);
        assert_int_equal(count_of(&fx, "c", NULL), 600);
        assert_finds(&fx, 600);
        ann_end(&fx, disk);
    }
}

/* ---- settings ---- */

static void a_change_of_settings_makes_new_ones_and_the_old_serve_until_then(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk, 7, 600);
    struct shard_part *part = ann_part(ann_shard(&fx), 0);
    const struct ann *old = part->anns[0];
    struct pdb_field_change change = {
        .has_index = true, .index = PDB_INDEX_HNSW, .hnsw_m = 8, .ef_construction = 40};
    ann_alter(&fx, "c", &change);
    assert_ptr_equal(part->anns[0], old);
    assert_int_not_equal(ann_info(&fx).state, PDB_INDEX_STATE_READY);
    assert_int_equal(ann_info(&fx).rows_indexed, 600);
    assert_true(ann_info(&fx).progress < 1);
    ann_rest(&fx);
    assert_int_equal(part->anns[0]->spec.m, 8);
    assert_int_equal(part->anns[0]->index.graph.link_max, 8);
    assert_int_equal(ann_info(&fx).indexes, 1);
    assert_finds(&fx, 600);
    ann_reopen(&fx, disk, false);
    ann_rest(&fx);
    assert_int_equal(builds(&fx), 0);
    assert_int_equal(ann_part(ann_shard(&fx), 0)->anns[0]->spec.m, 8);
    ann_end(&fx, disk);
}

static void a_restart_before_the_new_one_serves_the_old(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk, 8, 600);
    struct pdb_field_change change = {.has_index = true, .index = PDB_INDEX_HNSW, .hnsw_m = 8};
    ann_alter(&fx, "c", &change);
    for (int i = 0; i < 4; i++) /* the catalog before has come home */
        sim_turn(fx.db);
    ann_reopen(&fx, disk, true);
    struct shard_part *part = ann_part(ann_shard(&fx), 0);
    ann_pump_until(&fx, part->anns[0] != NULL);
    assert_int_equal(part->anns[0]->spec.m, HNSW_M_DEFAULT);
    ann_rest(&fx);
    assert_int_equal(part->anns[0]->spec.m, 8);
    ann_end(&fx, disk);
}

static void flat_gives_the_indexes_up_and_their_files(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk, 9, 600);
    struct shard *shard = ann_shard(&fx);
    uint64_t before = shard->core->segment_bytes, bytes = ann_info(&fx).bytes;
    struct pdb_field_change change = {.has_index = true, .index = PDB_INDEX_FLAT};
    ann_alter(&fx, "c", &change);
    ann_rest(&fx);
    assert_null(ann_part(shard, 0)->anns[0]);
    assert_int_equal(ann_info(&fx).rows_wanted, 0);
    assert_int_equal(ann_info(&fx).bytes, 0);
    assert_int_equal(shard->core->segment_bytes, before - bytes);
    assert_false(file_is_there(&fx, 1));
    change.index = PDB_INDEX_HNSW;
    ann_alter(&fx, "c", &change);
    ann_rest(&fx);
    assert_finds(&fx, 600);
    ann_end(&fx, disk);
}

static void quick_changes_end_with_the_last(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk, 10, 600);
    for (uint32_t i = 0; i < 20; i++) {
        struct pdb_field_change change = {.has_index = true,
                                          .index = i % 5 == 4 ? PDB_INDEX_FLAT : PDB_INDEX_HNSW,
                                          .hnsw_m = i % 5 == 4 ? 0 : 4 + 2 * (i % 4)};
        ann_alter(&fx, "c", &change);
        for (uint32_t turn = 0; turn < i * 7; turn++)
            sim_turn(fx.db);
    }
    struct pdb_field_change last = {.has_index = true, .index = PDB_INDEX_HNSW, .hnsw_m = 12};
    ann_alter(&fx, "c", &last);
    ann_rest(&fx);
    assert_int_equal(ann_part(ann_shard(&fx), 0)->anns[0]->spec.m, 12);
    assert_finds(&fx, 600);
    ann_reopen(&fx, disk, false);
    ann_rest(&fx);
    assert_int_equal(builds(&fx), 0);
    assert_int_equal(ann_part(ann_shard(&fx), 0)->anns[0]->spec.m, 12);
    ann_end(&fx, disk);
}

/* One dimension outweighs the others a thousand times: a byte a dimension says nothing of these. */
static void rows_that_codes_do_not_fit_are_indexed_by_their_vectors(void **state)
{
    (void)state;
    enum { ROWS = 1200 };
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(16);
    ann_begin_on(&fx, disk, 2);
    ann_create(&fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_AUTO);
    for (unsigned i = 0; i < ROWS; i++) {
        float values[ANN_DIMENSION];
        char id[16];
        ann_vector(i, values);
        values[0] = i % 2 == 0 ? 100000.0F : -100000.0F;
        (void)snprintf(id, sizeof(id), "id-%06u", i);
        assert_int_equal(put(&fx, "c", id, values, ANN_DIMENSION, NULL), 0);
    }
    ann_flush(&fx);
    ann_rest(&fx);
    for (int life = 0; life < 2; life++) {
        const struct ann *ann = ann_part(ann_shard(&fx), 0)->anns[0];
        assert_int_equal(ann->index.quantizer.kind, QUANTIZE_NONE);
        assert_int_equal(builds(&fx), life == 0 ? 2 : 0);
        assert_int_equal(ann_info(&fx).rows_indexed, ROWS);
        ann_reopen(&fx, disk, false);
        ann_rest(&fx);
    }
    struct pdb_field_change change = {.has_quantization = true,
                                      .quantization = PDB_QUANTIZATION_SQ8};
    ann_alter(&fx, "c", &change);
    ann_rest(&fx);
    assert_int_equal(ann_part(ann_shard(&fx), 0)->anns[0]->index.quantizer.kind, QUANTIZE_SQ8);
    ann_end(&fx, disk);
}

/* ---- merges ---- */

static void fill_segments(struct fixture *fx, unsigned from, unsigned count, unsigned rows)
{
    for (unsigned i = from; i < from + count; i++) {
        ann_put(fx, "c", i * rows, rows, 0);
        ann_flush(fx);
    }
}

/* At no time is a segment of the merged size in the list without its index. */
static void a_merged_segment_comes_with_its_index(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk, 11, 300);
    struct shard *shard = ann_shard(&fx);
    fill_segments(&fx, 1, 7, 300);
    ann_rest(&fx);
    bool waited = false;
    for (int pumps = 0; ann_segments(shard) != 1; pumps++) {
        assert_true(pumps < ANN_PUMPS_MAX);
        sim_turn(fx.db);
        waited |= !list_empty(&shard->upkeep->detached);
        list_each (link, &shard->parts) {
            const struct shard_part *part = container_of(link, struct shard_part, link);
            if (part->segment != NULL && part->file->stats.rows > 300)
                assert_non_null(part->anns[0]);
        }
    }
    assert_true(waited);
    ann_rest(&fx);
    assert_finds(&fx, 2400);
    uint64_t number = ann_part(shard, 0)->file->stats.number;
    ann_pump_until(&fx, shard->upkeep->merge == NULL && list_empty(&shard->upkeep->detached));
    for (uint64_t n = 1; n <= number; n++)
        assert_int_equal(file_is_there(&fx, n), n == number);
    ann_reopen(&fx, disk, false);
    ann_rest(&fx);
    assert_int_equal(builds(&fx), 0);
    assert_finds(&fx, 2400);
    ann_end(&fx, disk);
}

/* A large segment and some small ones: its graph is copied, without the rows that have ended. */
static void a_merge_begins_with_the_largest_graph(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(17);
    ann_begin_on(&fx, disk, 2);
    ann_create(&fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_AUTO);
    ann_put(&fx, "c", 0, 2600, 7);
    ann_flush(&fx);
    ann_rest(&fx);
    for (unsigned i = 1; i < 200; i += 7) /* ends in the large one, and is written again */
        ann_put(&fx, "c", i, 1, 0);
    ann_put(&fx, "c", 5000, 300, 5);
    ann_flush(&fx);
    struct shard *shard = ann_shard(&fx);
    ann_pump_until(&fx, ann_segments(shard) == 1 && list_empty(&shard->upkeep->detached) &&
                            shard->upkeep->merge == NULL);
    ann_rest(&fx);
    const struct ann *ann = ann_part(shard, 0)->anns[0];
    assert_true(ann->merged);
    for (unsigned i = 1; i < 2600; i++)
        if (i % 7 != 0 && i % 3 == 0)
            assert_int_equal(ann_nearest(ann_part(shard, 0), i), i);
    for (unsigned i = 5001; i < 5300; i++)
        if (i % 5 != 0)
            assert_int_equal(ann_nearest(ann_part(shard, 0), i), i);
    ann_end(&fx, disk);
}

static void flushes_go_on_while_a_merge_waits(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk, 12, 300);
    struct shard *shard = ann_shard(&fx);
    fill_segments(&fx, 1, 7, 300);
    ann_pump_until(&fx, !list_empty(&shard->upkeep->detached));
    assert_null(shard->upkeep->merge);
    fill_segments(&fx, 8, 1, 20);
    assert_false(list_empty(&shard->upkeep->detached));
    ann_pump_until(&fx, list_empty(&shard->upkeep->detached));
    ann_rest(&fx);
    assert_int_equal(count_of(&fx, "c", NULL), 2400);
    ann_end(&fx, disk);
}

/* What ends while the merge waits has ended in the new segment, too. */
static void deletes_while_a_merge_waits_are_brought_over(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk, 13, 300);
    struct shard *shard = ann_shard(&fx);
    fill_segments(&fx, 1, 7, 300);
    ann_pump_until(&fx, !list_empty(&shard->upkeep->detached));
    for (unsigned i = 0; i < 2400; i += 100) {
        char id[16];
        (void)snprintf(id, sizeof(id), "id-%06u", i);
        struct pdb_text ids[1] = {txt(id)};
        struct pdb_delete d = {.collection = txt("c"), .ids = ids, .id_count = 1};
        assert_done(&fx, do_delete(&fx, &d));
    }
    ann_pump_until(&fx, list_empty(&shard->upkeep->detached) && ann_segments(shard) == 1);
    assert_int_equal(count_of(&fx, "c", NULL), 2376);
    assert_int_equal(row_of(&fx, "c", "id-000100").version, 0);
    assert_int_not_equal(row_of(&fx, "c", "id-000101").version, 0);
    ann_end(&fx, disk);
}

static void a_merge_that_waits_is_finished_by_a_close_and_lost_by_a_crash(void **state)
{
    (void)state;
    for (int crash = 0; crash < 2; crash++) {
        struct fixture fx;
        struct sim_disk *disk;
        begin(&fx, &disk, 14, 300);
        fill_segments(&fx, 1, 7, 300);
        ann_pump_until(&fx, !list_empty(&ann_shard(&fx)->upkeep->detached));
        ann_reopen(&fx, disk, crash != 0);
        assert_int_equal(ann_segments(ann_shard(&fx)), crash != 0 ? 8 : 1);
        assert_int_equal(count_of(&fx, "c", NULL), 2400);
        ann_rest(&fx);
        ann_end(&fx, disk);
    }
}

static void a_drop_ends_a_merge_that_waits(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk, 15, 300);
    struct engine_core *core = ann_shard(&fx)->core;
    fill_segments(&fx, 1, 7, 300);
    ann_pump_until(&fx, !list_empty(&ann_shard(&fx)->upkeep->detached));
    struct pdb_collection_delete d = {.name = txt("c")};
    assert_done(&fx, do_drop(&fx, &d));
    ann_pump_until(&fx, core->upkeep_active == 0);
    assert_int_equal(core->segment_bytes, 0);
    assert_int_equal(core->memory.builds, 0);
    assert_int_equal(core->memory.indexes, 0);
    ann_end(&fx, disk);
}

/* Its manifest is not to be had on a disk that is gone: the next start merges again. */
static void a_close_does_not_wait_for_a_disk_that_is_gone(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk, 18, 300);
    fill_segments(&fx, 1, 7, 300);
    ann_pump_until(&fx, !list_empty(&ann_shard(&fx)->upkeep->detached));
    sim_disk_break_at(disk, 1);
    pdb_close(fx.db);
    sim_disk_break_at(disk, 0);
    fx.db = sim_open(disk, 2);
    assert_int_equal(ann_segments(ann_shard(&fx)), 8);
    assert_int_equal(count_of(&fx, "c", NULL), 2400);
    ann_end(&fx, disk);
}

/* Merges whose files wait for the snapshot are over, and no reason for others not to wait. */
static void merges_wait_while_a_snapshot_holds_the_files_of_others(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk, 19, 300);
    struct shard *shard = ann_shard(&fx);
    upkeep_pin(shard);
    for (unsigned round = 0; round < 3; round++) {
        fill_segments(&fx, 8 * round + 1, round == 2 ? 7 : 8, 300);
        for (int pumps = 0; ann_segments(shard) > 8; pumps++) {
            assert_true(pumps < ANN_PUMPS_MAX);
            sim_turn(fx.db);
            list_each (link, &shard->parts) {
                const struct shard_part *part = container_of(link, struct shard_part, link);
                if (part->segment != NULL && part->file->stats.rows > 300)
                    assert_non_null(part->anns[0]);
            }
        }
    }
    upkeep_unpin(shard);
    ann_pump_until(&fx, list_empty(&shard->upkeep->detached));
    assert_int_equal(count_of(&fx, "c", NULL), 7200);
    ann_end(&fx, disk);
}

/* As when its publishing finds no memory: nobody needs the index that is being made for it. */
static void a_merge_that_is_given_up_ends_the_making_of_its_index(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk, 20, 300);
    struct shard *shard = ann_shard(&fx);
    struct upkeep *u = shard->upkeep;
    fill_segments(&fx, 1, 7, 300);
    ann_pump_until(&fx, !list_empty(&u->detached));
    struct change *change = container_of(u->detached.anchor.next, struct change, detached_link);
    struct ann_op *op = NULL;
    list_each (link, &u->ann_ops)
        if (container_of(link, struct ann_op, link)->part == change->part)
            op = container_of(link, struct ann_op, link);
    assert_non_null(op);
    assert_int_equal(op->kind, ANN_OP_BUILD);
    u->retry_ns = UINT64_MAX; /* it is not begun again at once */
    change->waits = false;
    change_over(change);
    assert_true(op->cancelled);
    ann_pump_until(&fx, list_empty(&u->ann_ops));
    assert_int_equal(shard->core->memory.builds, 0);
    assert_int_equal(shard->core->memory.indexes, 0);
    ann_end(&fx, disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restart_reads_what_was_written),
        cmocka_unit_test(ranks_of_rows_are_found_again),
        cmocka_unit_test(a_flipped_bit_is_noticed_and_the_index_made_again),
        cmocka_unit_test(a_file_cut_short_or_missing_is_made_again),
        cmocka_unit_test(anothers_index_is_not_taken),
        cmocka_unit_test(an_index_of_another_kind_is_not_taken_whatever_its_checksums_say),
        cmocka_unit_test(a_disk_that_fails_leaves_the_index_in_use),
        cmocka_unit_test(a_loss_of_power_at_any_time_loses_no_row),
        cmocka_unit_test(a_change_of_settings_makes_new_ones_and_the_old_serve_until_then),
        cmocka_unit_test(a_restart_before_the_new_one_serves_the_old),
        cmocka_unit_test(flat_gives_the_indexes_up_and_their_files),
        cmocka_unit_test(quick_changes_end_with_the_last),
        cmocka_unit_test(rows_that_codes_do_not_fit_are_indexed_by_their_vectors),
        cmocka_unit_test(a_merged_segment_comes_with_its_index),
        cmocka_unit_test(a_merge_begins_with_the_largest_graph),
        cmocka_unit_test(flushes_go_on_while_a_merge_waits),
        cmocka_unit_test(deletes_while_a_merge_waits_are_brought_over),
        cmocka_unit_test(a_merge_that_waits_is_finished_by_a_close_and_lost_by_a_crash),
        cmocka_unit_test(a_drop_ends_a_merge_that_waits),
        cmocka_unit_test(a_close_does_not_wait_for_a_disk_that_is_gone),
        cmocka_unit_test(merges_wait_while_a_snapshot_holds_the_files_of_others),
        cmocka_unit_test(a_merge_that_is_given_up_ends_the_making_of_its_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
