/* Parts that nobody reads go by and by: memtables on the loop, segments on the worker; and what is
 * on its way at the end goes then (leaks are the sanitizer's to find). */
#include "attack.h"

#include "engine/upkeep.h"

enum { DIMENSION = 1024, BATCH = 100, PUMPS_MAX = 1000000 };

static void put_batch(struct fixture *fx, int first)
{
    static float values[BATCH][DIMENSION];
    struct pdb_vector vectors[BATCH];
    struct pdb_record records[BATCH];
    char ids[BATCH][16];
    for (int i = 0; i < BATCH; i++) {
        values[i][0] = (float)(first + i);
        (void)snprintf(ids[i], sizeof(ids[i]), "id-%06d", first + i);
        records[i] = record(ids[i], &vectors[i], values[i], DIMENSION);
    }
    struct pdb_write w = {.collection = txt("c"), .records = records, .record_count = BATCH};
    assert_done(fx, do_write(fx, &w));
    pdb_arena_reset(fx->arena);
}

static uint32_t segments_of(const struct engine_core *core)
{
    uint32_t count = 0;
    list_each (link, &core->shard_list)
        list_each (at, &container_of(link, struct shard, link)->parts)
            count += container_of(at, struct shard_part, link)->segment != NULL;
    return count;
}

/* Writes until a memtable is sealed and in a segment, and is on the list of those that go. */
static int flush_one(struct fixture *fx, int first)
{
    struct engine_core *core = &fx->db->cores[0];
    uint32_t before = segments_of(core);
    int pumps = 0;
    for (int i = 0; i < 12; i++, first += BATCH)
        put_batch(fx, first);
    struct shard *shard = container_of(core->shard_list.anchor.next, struct shard, link);
    upkeep_flush_soon(shard);
    while (segments_of(core) == before) {
        engine_pump(fx->db);
        assert_true(++pumps < PUMPS_MAX);
    }
    return first;
}

static void rest(struct fixture *fx)
{
    const struct engine_core *core = &fx->db->cores[0];
    for (int pumps = 0; core->upkeep_active != 0; pumps++) {
        engine_pump(fx->db);
        assert_true(pumps < PUMPS_MAX);
    }
    assert_true(list_empty(&core->discards) && list_empty(&core->unmappings));
}

static void begin(struct fixture *fx, struct sim_disk **disk_out)
{
    *disk_out = sim_disk_new(1);
    sim_fixture(fx, sim_open(*disk_out, 1));
    create(fx, "c", DIMENSION);
}

static void a_flushed_memtable_leaves_its_chunks_and_the_pool_forgets_them(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk);
    const struct engine_core *core = &fx.db->cores[0];
    (void)flush_one(&fx, 0);
    rest(&fx);
    for (int pumps = 0; core->memtable_pool.count != 0; pumps++) {
        engine_pump(fx.db); /* the sweep looks once a second */
        assert_true(pumps < PUMPS_MAX);
    }
    assert_true(core->r->heap.bytes_used < 12 * BATCH * DIMENSION * sizeof(float));
    assert_int_equal(count_of(&fx, "c", NULL), 12 * BATCH);
    pdb_close(fx.db);
    pdb_arena_free(fx.arena);
    sim_disk_free(disk);
}

static void a_dropped_collection_goes_with_all_its_parts(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk);
    (void)flush_one(&fx, flush_one(&fx, 0));
    struct pdb_collection_delete d = {.name = txt("c")};
    assert_done(&fx, do_drop(&fx, &d));
    rest(&fx);
    assert_true(list_empty(&fx.db->cores[0].shard_list));
    assert_int_equal(fx.db->cores[0].segment_bytes, 0);
    pdb_close(fx.db);
    pdb_arena_free(fx.arena);
    sim_disk_free(disk);
}

static void what_is_on_its_way_goes_at_the_end(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk);
    (void)flush_one(&fx, 0);
    struct pdb_collection_delete d = {.name = txt("c")};
    assert_done(&fx, do_drop(&fx, &d));
    const struct engine_core *core = &fx.db->cores[0];
    for (int pumps = 0; list_empty(&core->unmappings) && list_empty(&core->discards); pumps++) {
        engine_pump(fx.db);
        assert_true(pumps < PUMPS_MAX);
    }
    pdb_close(fx.db);
    pdb_arena_free(fx.arena);
    sim_disk_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flushed_memtable_leaves_its_chunks_and_the_pool_forgets_them),
        cmocka_unit_test(a_dropped_collection_goes_with_all_its_parts),
        cmocka_unit_test(what_is_on_its_way_goes_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
