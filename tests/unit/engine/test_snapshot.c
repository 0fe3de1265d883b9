/* Snapshots that are taken, listed, described and deleted, with what lies on the disk. */
#include "snapshot_fixture.h"

static void a_snapshot_tells_what_it_holds(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model = {0};
    struct pdb_snapshot_info info;
    fixture_begin(&fx, 2);
    rng_seed(&model.rng, 1);
    create(&fx, "c", MODEL_DIMENSION);
    model_changes(&fx, &model, "c", 200);
    assert_done(&fx, take_snapshot(&fx, "first", "c", &info));
    assert_true(same_text(info.name, "first"));
    assert_int_equal(info.part_count, 1);
    assert_true(same_text(info.parts[0].collection, "c"));
    assert_int_equal(info.parts[0].version, model.version);
    assert_int_equal(info.parts[0].rows, model_live(&model));
    assert_int_equal(info.parts[0].bytes, info.bytes);
    assert_true(info.bytes > 0 && info.created_at_us > 0 && !info.scheduled);
    struct pdb_snapshot_get g = {.name = txt("first")};
    assert_done(&fx, do_snapshot_get(&fx, &g));
    assert_string_equal(g.info_out.parts[0].uuid, info.parts[0].uuid);
    fixture_end(&fx);
}

static void a_snapshot_is_there_after_a_restart_and_leftovers_are_not(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model = {0};
    char path[2048];
    fixture_begin(&fx, 2);
    rng_seed(&model.rng, 2);
    create(&fx, "c", MODEL_DIMENSION);
    model_changes(&fx, &model, "c", 50);
    assert_done(&fx, take_snapshot(&fx, "kept", "c", NULL));
    (void)snprintf(path, sizeof(path),
                   "mkdir -p %s/snapshots/.a.0.tmp/b %s/snapshots/.c.0.gone/d && "
                   "touch %s/snapshots/.a.0.tmp/b/e && touch %s/snapshots/.c.0.gone/SNAPSHOT",
                   fx.dir, fx.dir, fx.dir, fx.dir);
    assert_int_equal(system(path), 0);
    fixture_reopen(&fx, 1);
    assert_int_equal(count_names(fx.dir, "snapshots"), 1);
    struct pdb_snapshot_get g = {.name = txt("kept")};
    assert_done(&fx, do_snapshot_get(&fx, &g));
    assert_int_equal(g.info_out.parts[0].version, model.version);
    assert_int_equal(g.info_out.parts[0].rows, model_live(&model));
    fixture_end(&fx);
}

static void all_collections_are_taken_also_empty_ones(void **state)
{
    (void)state;
    struct fixture fx;
    struct pdb_snapshot_info info;
    fixture_begin(&fx, 2);
    create(&fx, "b", 2);
    create(&fx, "a", 2);
    create(&fx, "c", 2);
    assert_done(&fx, put(&fx, "b", "x", (float[]){1, 2}, 2, NULL));
    assert_done(&fx, take_snapshot(&fx, "all", "", &info));
    assert_int_equal(info.part_count, 3);
    assert_true(same_text(info.parts[0].collection, "a"));
    assert_true(same_text(info.parts[1].collection, "b"));
    assert_true(same_text(info.parts[2].collection, "c"));
    assert_int_equal(info.parts[0].rows, 0);
    assert_int_equal(info.parts[1].rows, 1);
    fixture_end(&fx);
}

static void an_idle_collection_is_not_flushed_again(void **state)
{
    (void)state;
    struct fixture fx;
    struct pdb_snapshot_info first, second;
    fixture_begin(&fx, 1);
    create(&fx, "c", 2);
    assert_done(&fx, put(&fx, "c", "x", (float[]){1, 2}, 2, NULL));
    assert_done(&fx, take_snapshot(&fx, "one", "c", &first));
    assert_done(&fx, take_snapshot(&fx, "two", "c", &second));
    assert_int_equal(first.parts[0].version, second.parts[0].version);
    assert_int_equal(first.bytes, second.bytes);
    fixture_end(&fx);
}

static void a_name_is_made_of_the_time_and_is_taken_once(void **state)
{
    (void)state;
    struct fixture fx;
    struct pdb_snapshot_info info;
    fixture_begin(&fx, 1);
    create(&fx, "c", 2);
    assert_done(&fx, take_snapshot(&fx, "", "c", &info));
    assert_int_equal(info.name.len, 23);
    assert_done(&fx, take_snapshot(&fx, "n", "c", NULL));
    assert_refused(&fx, take_snapshot(&fx, "n", "c", NULL), PDB_ALREADY_EXISTS,
                   "snapshot 'n' already exists");
    assert_refused(&fx, take_snapshot(&fx, "m", "none", NULL), PDB_NOT_FOUND,
                   "collection 'none' does not exist");
    assert_int_equal(take_snapshot(&fx, ".m", "c", NULL), PDB_INVALID_ARGUMENT);
    assert_int_equal(take_snapshot(&fx, "a/b", "c", NULL), PDB_INVALID_ARGUMENT);
    assert_int_equal(count_names(fx.dir, "snapshots"), 2);
    fixture_end(&fx);
}

static void a_list_goes_on_where_it_stopped(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 2);
    assert_done(&fx, take_snapshot(&fx, "b", "c", NULL));
    assert_done(&fx, take_snapshot(&fx, "c", "c", NULL));
    assert_done(&fx, take_snapshot(&fx, "a", "c", NULL));
    struct pdb_snapshot_list l = {.limit = 2};
    assert_done(&fx, do_snapshots(&fx, &l));
    assert_int_equal(l.count_out, 2);
    assert_true(l.more_out);
    assert_true(same_text(l.infos_out[0].name, "a") && same_text(l.infos_out[1].name, "b"));
    l = (struct pdb_snapshot_list){.limit = 2, .after = l.infos_out[1].name};
    assert_done(&fx, do_snapshots(&fx, &l));
    assert_int_equal(l.count_out, 1);
    assert_false(l.more_out);
    assert_true(same_text(l.infos_out[0].name, "c"));
    fixture_end(&fx);
}

static void a_deleted_snapshot_gives_its_name_and_files_back(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model = {0};
    fixture_begin(&fx, 2);
    rng_seed(&model.rng, 3);
    create(&fx, "c", MODEL_DIMENSION);
    model_changes(&fx, &model, "c", 80);
    assert_done(&fx, take_snapshot(&fx, "s", "c", NULL));
    assert_done(&fx, delete_snapshot(&fx, "s"));
    assert_int_equal(count_names(fx.dir, "snapshots"), 0);
    assert_int_equal(count_snapshots(&fx), 0);
    assert_refused(&fx, delete_snapshot(&fx, "s"), PDB_NOT_FOUND, "snapshot 's' does not exist");
    assert_done(&fx, take_snapshot(&fx, "s", "c", NULL));
    model_changes(&fx, &model, "c", 80);
    model_compare(&fx, &model, "c");
    fixture_reopen(&fx, 2);
    model_compare(&fx, &model, "c");
    assert_int_equal(count_snapshots(&fx), 1);
    fixture_end(&fx);
}

static void a_damaged_list_is_told_and_can_be_deleted(void **state)
{
    (void)state;
    struct fixture fx;
    char path[512];
    fixture_begin(&fx, 1);
    create(&fx, "c", 2);
    assert_done(&fx, take_snapshot(&fx, "s", "c", NULL));
    (void)snprintf(path, sizeof(path), "%s/snapshots/s/SNAPSHOT", fx.dir);
    assert_int_equal(truncate(path, 70), 0);
    fixture_reopen(&fx, 1);
    assert_int_equal(count_snapshots(&fx), 0);
    struct pdb_snapshot_get g = {.name = txt("s")};
    assert_refused(&fx, do_snapshot_get(&fx, &g), PDB_DATA_LOSS,
                   "snapshot 's' is damaged: SNAPSHOT: offset 0: the length is wrong");
    assert_int_equal(take_snapshot(&fx, "s", "c", NULL), PDB_ALREADY_EXISTS);
    assert_done(&fx, delete_snapshot(&fx, "s"));
    assert_done(&fx, take_snapshot(&fx, "s", "c", NULL));
    fixture_end(&fx);
}

static void scheduled_ones_come_by_the_clock_and_only_the_newest_are_kept(void **state)
{
    (void)state;
    struct fixture fx;
    struct pdb_text oldest = {NULL, 0};
    memset(&fx, 0, sizeof(fx));
    fixture_dir(fx.dir);
    fx.options = fixture_options(fx.dir, 1);
    fx.options.snapshot_interval_s = 1;
    fx.options.snapshot_keep = 2;
    fx.arena = pdb_arena_new(0);
    fixture_open(&fx, 1);
    create(&fx, "c", 2);
    assert_done(&fx, take_snapshot(&fx, "mine", "c", NULL));
    struct pdb_snapshot_list l;
    do { /* until the first scheduled one that was seen has gone */
        l = (struct pdb_snapshot_list){0};
        assert_done(&fx, do_snapshots(&fx, &l));
        if (l.count_out > 1 && oldest.len == 0)
            oldest = l.infos_out[0].name;
    } while (oldest.len == 0 ||
             (l.count_out > 1 && memcmp(l.infos_out[0].name.ptr, oldest.ptr, oldest.len) == 0));
    assert_true(l.count_out <= 4);
    assert_true(l.infos_out[0].scheduled);
    assert_true(same_text(l.infos_out[l.count_out - 1].name, "mine"));
    fixture_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_tells_what_it_holds),
        cmocka_unit_test(a_snapshot_is_there_after_a_restart_and_leftovers_are_not),
        cmocka_unit_test(all_collections_are_taken_also_empty_ones),
        cmocka_unit_test(an_idle_collection_is_not_flushed_again),
        cmocka_unit_test(a_name_is_made_of_the_time_and_is_taken_once),
        cmocka_unit_test(a_list_goes_on_where_it_stopped),
        cmocka_unit_test(a_deleted_snapshot_gives_its_name_and_files_back),
        cmocka_unit_test(a_damaged_list_is_told_and_can_be_deleted),
        cmocka_unit_test(scheduled_ones_come_by_the_clock_and_only_the_newest_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
