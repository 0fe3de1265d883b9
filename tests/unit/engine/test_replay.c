/* src/engine/recover_replay.c and the stop in recover.c: the logs of a database are replayed in
 * another folder up to each moment that they know, and what comes back is compared with a model. */
#include "history_fixture.h"

enum { LOG_NUMBER = 1000 };

/* A folder as a restore from an archive makes it; its logs begin with number LOG_NUMBER. */
static void make_folder(struct history *h, char folder[256])
{
    fixture_dir(folder);
    shell("mkdir '%s/wal' && cp -r '%s/catalog' '%s/' && rm -rf '%s/catalog/LOGS' "
          "'%s/catalog/witness' && "
          "for n in $(ls '%s/wal'); do cp -r '%s/wal/'$n '%s/wal/'$((n + %d)); done",
          folder, h->fx.dir, folder, folder, folder, h->fx.dir, h->fx.dir, folder, LOG_NUMBER);
}

static struct fixture replayed(const char *folder, unsigned cores, const struct replay_stop *stop)
{
    struct fixture fx = {.arena = pdb_arena_new(0), .options = fixture_options(folder, cores)};
    struct pdb_error error;
    (void)snprintf(fx.dir, sizeof(fx.dir), "%s", folder);
    fx.options.data_dir = fx.dir;
    if (engine_open_replay(&fx.options, stop, &fx.db, &error) < 0)
        fail_msg("replay: %s", error.text);
    return fx;
}

/* Replays in a folder of its own; then the logs go and the database is opened as any other. */
static void replay_to(struct history *h, unsigned cores, const struct replay_stop *stop)
{
    char folder[256];
    make_folder(h, folder);
    struct fixture fx = replayed(folder, cores, stop);
    compare(h, &fx, stop);
    pdb_close(fx.db);
    shell("rm -rf '%s/wal' '%s/catalog/LOGS' '%s/catalog/witness/LOGS'", folder, folder, folder);
    fx.options.data_dir = fx.dir;
    fixture_open(&fx, 2);
    compare(h, &fx, stop);
    fixture_end(&fx);
}

/* ---- the claims ---- */

static void a_replay_to_a_time_has_exactly_the_groups_up_to_it(void **state)
{
    (void)state;
    struct history h;
    history_begin(&h, 2);
    change_some(&h, 1, 60);
    keep_history(&h);
    for (size_t i = 0; i < h.count; i += 6) {
        struct replay_stop stop = {.time_us = h.changes[i].time_us};
        replay_to(&h, 1 + (unsigned)i % 3, &stop);
        stop.time_us--;
        replay_to(&h, 2, &stop);
    }
    struct replay_stop never = {.time_us = 0}, all = {.time_us = INT64_MAX};
    replay_to(&h, 2, &never);
    replay_to(&h, 2, &all);
    history_end(&h);
}

static void a_replay_to_a_record_ends_its_log_right_behind_it(void **state)
{
    (void)state;
    struct history h;
    history_begin(&h, 2);
    change_some(&h, 2, 60);
    keep_history(&h);
    for (size_t i = 0; i < h.count; i += 5) {
        const struct change *change = &h.changes[i];
        struct replay_stop stop = {change->time_us, true, change->log, change->lsn};
        replay_to(&h, 1 + (unsigned)i % 2, &stop);
    }
    history_end(&h);
}

static void a_collection_that_went_on_in_other_logs_ends_where_the_stop_is(void **state)
{
    (void)state;
    struct history h;
    static const unsigned cores[] = {3, 1, 2};
    history_begin(&h, 2);
    for (unsigned i = 0; i < 3; i++) {
        change_some(&h, 10 + i, 25);
        fixture_reopen(&h.fx, cores[i]);
    }
    change_some(&h, 20, 25);
    keep_history(&h);
    for (size_t i = 3; i < h.count; i += 12) {
        const struct change *change = &h.changes[i];
        struct replay_stop stop = {change->time_us, i % 2 != 0, change->log, change->lsn};
        replay_to(&h, 2, &stop);
    }
    history_end(&h);
}

/* As long replays are made: in several rounds, each on what the one before has left. */
static void a_replay_goes_on_where_the_one_before_has_ended(void **state)
{
    (void)state;
    struct history h;
    char folder[256];
    history_begin(&h, 2);
    change_some(&h, 3, 120);
    keep_history(&h);
    make_folder(&h, folder);
    for (size_t i = 7; i < h.count; i += 16) {
        struct replay_stop stop = {.time_us = h.changes[i].time_us};
        struct fixture fx = replayed(folder, 1 + (unsigned)i % 2, &stop);
        compare(&h, &fx, &stop);
        pdb_close(fx.db);
        pdb_arena_free(fx.arena);
        shell("rm -rf '%s'/wal/? '%s/catalog/LOGS' '%s/catalog/witness/LOGS'", folder, folder,
              folder);
    }
    remove_tree(folder);
    history_end(&h);
}

/* The catalog of the stop does not have them, and neither do its dropped ones. */
static void records_of_collections_that_the_catalog_does_not_have_are_skipped(void **state)
{
    (void)state;
    struct history h;
    char folder[256], before[300];
    history_begin(&h, 2);
    change_some(&h, 4, 20);
    (void)snprintf(before, sizeof(before), "%s/before", h.fx.dir);
    shell("cp -r '%s/catalog' '%s'", h.fx.dir, before);
    create(&h.fx, "later", 1);
    const float value = 1;
    assert_done(&h.fx, put(&h.fx, "later", "x", &value, 1, NULL));
    change_some(&h, 5, 20);
    keep_history(&h);
    make_folder(&h, folder);
    shell("rm -rf '%s/catalog' && mv '%s' '%s/catalog' && rm -rf '%s/catalog/LOGS' "
          "'%s/catalog/witness'",
          folder, before, folder, folder, folder);
    struct replay_stop stop = {.time_us = h.changes[30].time_us};
    struct fixture fx = replayed(folder, 2, &stop);
    compare(&h, &fx, &stop);
    struct pdb_collection_get g = {.name = txt("later")};
    assert_int_equal(do_describe(&fx, &g), PDB_NOT_FOUND);
    pdb_close(fx.db);
    pdb_arena_free(fx.arena);
    remove_tree(folder);
    history_end(&h);
}

static void a_version_that_no_log_has_refuses_the_replay(void **state)
{
    (void)state;
    struct history h;
    char folder[256];
    history_begin(&h, 1);
    change_some(&h, 7, 320); /* each takes a block of 4 KiB: more than one segment */
    keep_history(&h);
    make_folder(&h, folder);
    shell("rm \"$(ls '%s'/wal/1000/*.wal | head -1)\"", folder);
    struct pdb_options options = fixture_options(folder, 1);
    struct replay_stop stop = {.time_us = INT64_MAX};
    struct pdb *db = NULL;
    struct pdb_error error;
    assert_int_equal(engine_open_replay(&options, &stop, &db, &error), PDB_DATA_LOSS);
    assert_non_null(strstr(error.text, "are missing from the log"));
    remove_tree(folder);
    history_end(&h);
}

/* After a kill, versions of weak modes jump; a moment of the past has the versions that it had. */
static void versions_do_not_jump_in_a_replay(void **state)
{
    (void)state;
    struct history h;
    history_begin(&h, 1);
    struct pdb_collection_update u = {
        .name = txt("b"), .has_sync = true, .sync = PDB_SYNC_PERIODIC};
    assert_done(&h.fx, do_alter(&h.fx, &u));
    change_some(&h, 6, 40);
    shell("cp -r '%s/wal' '%s/killed'", h.fx.dir, h.fx.dir); /* nobody has closed these logs */
    keep_history(&h);
    shell("rm -rf '%s/wal' && mv '%s/killed' '%s/wal'", h.fx.dir, h.fx.dir, h.fx.dir);
    struct replay_stop stop = {.time_us = h.changes[20].time_us};
    replay_to(&h, 1, &stop);
    history_end(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replay_to_a_time_has_exactly_the_groups_up_to_it),
        cmocka_unit_test(a_replay_to_a_record_ends_its_log_right_behind_it),
        cmocka_unit_test(a_collection_that_went_on_in_other_logs_ends_where_the_stop_is),
        cmocka_unit_test(a_replay_goes_on_where_the_one_before_has_ended),
        cmocka_unit_test(records_of_collections_that_the_catalog_does_not_have_are_skipped),
        cmocka_unit_test(a_version_that_no_log_has_refuses_the_replay),
        cmocka_unit_test(versions_do_not_jump_in_a_replay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
