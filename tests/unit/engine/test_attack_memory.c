/* Memory runs out at every allocation of every call, in the core's heap and in the caller's arena:
 * the call is refused or done, once; nothing of a refused one is there; the next one works. */
#include "attack.h"

#include "engine/shard.h"

enum { ROWS = 40, DIMENSION = 4, K_MAX = 400 };

struct room {
    struct fixture fx;
    struct sim_disk *disk;
    struct arena *requests; /* what the calls ask for */
    struct pdb_record records[ROWS];
    struct pdb_vector vectors[ROWS];
    char ids[ROWS][24], request_id[24];
    float values[DIMENSION];
};

static struct pdb_text request_doc(struct room *room, const char *json)
{
    struct fixture maker = {.arena = room->requests};
    return doc(&maker, json);
}

static int write_rows(struct room *room, int round)
{
    struct pdb_text metadata = request_doc(room, "{\"n\":1,\"s\":\"text\"}");
    for (int i = 0; i < ROWS; i++) {
        (void)snprintf(room->ids[i], sizeof(room->ids[i]), "%d-%d", round, i);
        room->records[i] = record(room->ids[i], &room->vectors[i], room->values, DIMENSION);
        room->records[i].metadata = metadata;
        room->records[i].has_metadata = true;
    }
    (void)snprintf(room->request_id, sizeof(room->request_id), "r%d", round);
    struct pdb_write w = {.collection = txt("c"),
                          .records = room->records,
                          .record_count = ROWS,
                          .request_id = txt(room->request_id)};
    return do_write(&room->fx, &w);
}

static int update_rows(struct room *room, int round)
{
    struct pdb_text id = txt("base"), patch = request_doc(room, "{\"more\":[1,2,3]}");
    (void)round;
    struct pdb_record r = {.id = id, .metadata = patch, .has_metadata = true};
    struct pdb_write w = {
        .kind = PDB_WRITE_UPDATE, .collection = txt("c"), .records = &r, .record_count = 1};
    return do_write(&room->fx, &w);
}

static int search(struct room *room, int round)
{
    (void)round;
    struct pdb_query query = {.vector = {.values = room->values, .count = DIMENSION},
                              .k = 100,
                              .include = PDB_INCLUDE_VECTORS | PDB_INCLUDE_METADATA,
                              .filter = request_doc(room, "{\"n\":1}")};
    struct pdb_search s = {.collection = txt("c"), .queries = &query, .query_count = 1};
    return do_search(&room->fx, &s);
}

static int scroll(struct room *room, int round)
{
    (void)round;
    struct pdb_scroll s = {
        .collection = txt("c"), .limit = 10, .include = PDB_INCLUDE_VECTORS | PDB_INCLUDE_METADATA};
    return do_scroll(&room->fx, &s);
}

static int create_one(struct room *room, int round)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "n%d", round);
    return create_with(&room->fx, name, DIMENSION, PDB_METRIC_COSINE, PDB_SYNC_ALWAYS);
}

static int create_and_write(struct room *room, int round)
{
    char name[16];
    int rc = create_one(room, 1000 + round);
    (void)snprintf(name, sizeof(name), "n%d", 1000 + round);
    return rc < 0 && rc != PDB_ALREADY_EXISTS
               ? rc
               : put(&room->fx, name, "x", room->values, DIMENSION, NULL);
}

static int alter(struct room *room, int round)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "col%d", round);
    struct pdb_column column = {.name = txt(name), .type = PDB_COLUMN_INTEGER};
    struct pdb_collection_update u = {
        .name = txt("c"), .add_columns = &column, .add_column_count = 1};
    int rc = do_alter(&room->fx, &u);
    return rc == PDB_INVALID_ARGUMENT ? 0 : rc; /* 256 columns are enough */
}

static int delete_rows(struct room *room, int round)
{
    struct pdb_delete d = {.collection = txt("c"), .has_filter = true};
    char json[64];
    (void)snprintf(json, sizeof(json), "{\"gone\":%d}", round);
    d.filter = request_doc(room, json);
    return do_delete(&room->fx, &d);
}

static void begin(struct room *room, unsigned cores)
{
    memset(room, 0, sizeof(*room));
    room->disk = sim_disk_new(1);
    room->requests = pdb_arena_new(0);
    assert_non_null(room->requests);
    sim_fixture(&room->fx, sim_open(room->disk, cores));
    create(&room->fx, "c", DIMENSION);
    assert_done(&room->fx, put(&room->fx, "c", "base", room->values, DIMENSION, "{\"n\":1}"));
}

static void end(struct room *room)
{
    pdb_close(room->fx.db);
    pdb_arena_free(room->fx.arena);
    pdb_arena_free(room->requests);
    sim_disk_free(room->disk);
}

static void shards_are_sound(struct pdb *db)
{
    for (unsigned i = 0; i < db->core_count; i++) {
        list_each (link, &db->cores[i].shard_list) {
            struct shard *shard = container_of(link, struct shard, link);
            struct trail trail = {0};
            if (memtable_check(shard->memtable, &trail) < 0)
                fail_msg("%s", trail.text);
            assert_true(list_empty(&shard->queue) && list_empty(&shard->flight));
            assert_int_equal(shard->pending_rows, 0);
            assert_int_equal(shard->users, 0);
        }
    }
}

static void sweep(int (*call)(struct room *room, int round), const char *what)
{
    struct room room;
    int refused = 0;
    begin(&room, 2);
    for (int k = 1; k <= K_MAX; k++) {
        struct pdb *db = room.fx.db;
        uint64_t before = count_of(&room.fx, "c", NULL);
        for (unsigned i = 0; i < 2; i++) {
            struct heap *heap = &db->cores[i].r->heap;
            heap->fail_at = heap->allocation_count + (uint64_t)k;
        }
        int rc = call(&room, k);
        bool reached = false;
        for (unsigned i = 0; i < 2; i++) {
            struct heap *heap = &db->cores[i].r->heap;
            reached = reached || heap->allocation_count >= heap->fail_at;
            heap->fail_at = 0;
        }
        if (rc != 0 && rc != PDB_RESOURCE_EXHAUSTED)
            fail_msg("%s, allocation %d: %d %s", what, k, rc, room.fx.error.text);
        refused += rc != 0;
        sim_run(db, 10000000000); /* what waits for memory tries again */
        if (rc != 0)
            assert_int_equal(count_of(&room.fx, "c", NULL), before);
        shards_are_sound(db);
        if (rc != 0)
            assert_done(&room.fx, call(&room, k));
        pdb_arena_reset(room.fx.arena);
        if (!reached)
            break;
    }
    print_message("%s: refused %d times\n", what, refused);
    end(&room);
}

static void every_allocation_of_the_core_may_fail(void **state)
{
    (void)state;
    sweep(write_rows, "write");
    sweep(update_rows, "update");
    sweep(search, "search");
    sweep(scroll, "scroll");
    sweep(create_one, "create");
    sweep(create_and_write, "create and write");
    sweep(alter, "alter");
    sweep(delete_rows, "delete");
}

static void every_size_of_the_callers_arena_will_do_or_refuse(void **state)
{
    (void)state;
    static int (*const calls[])(struct room * room, int round) = {
        write_rows, update_rows, search, scroll, create_one, alter, delete_rows};
    for (size_t c = 0; c < sizeof(calls) / sizeof(calls[0]); c++) {
        struct room room;
        begin(&room, 2);
        struct arena *roomy = room.fx.arena;
        int rc = -1;
        for (size_t bytes = 256; rc != 0 && bytes < 1 << 22; bytes += bytes / 16) {
            uint64_t before = count_of(&room.fx, "c", NULL);
            room.fx.arena = pdb_arena_new(bytes);
            assert_non_null(room.fx.arena);
            rc = calls[c](&room, (int)(bytes % 100000));
            pdb_arena_free(room.fx.arena);
            room.fx.arena = roomy;
            if (rc != 0 && rc != -1 && rc != PDB_RESOURCE_EXHAUSTED)
                fail_msg("call %zu, %zu bytes: %d %s", c, bytes, rc, room.fx.error.text);
            sim_run(room.fx.db, 1000000);
            if (rc != 0)
                assert_int_equal(count_of(&room.fx, "c", NULL), before);
            shards_are_sound(room.fx.db);
            pdb_arena_reset(roomy);
        }
        assert_int_equal(rc, 0);
        end(&room);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_of_the_core_may_fail),
        cmocka_unit_test(every_size_of_the_callers_arena_will_do_or_refuse),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
