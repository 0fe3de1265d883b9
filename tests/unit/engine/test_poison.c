/* A log that fails, on the simulated disk: which answers come, and what goes on. */
#include "engine_fixture.h"

#include "engine/engine_internal.h"
#include "os/sim.h"

#include <errno.h>

struct sim_fixture {
    struct fixture fx;
    struct sim_disk *disk;
};

static void begin(struct sim_fixture *s)
{
    memset(s, 0, sizeof(*s));
    s->disk = sim_disk_new(7);
    assert_non_null(s->disk);
    struct io *io;
    assert_int_equal(sim_io_create(s->disk, &io), 0);
    assert_int_equal(io_wait_make_dir(io, "data"), 0);
    assert_int_equal(io_wait_sync_dir(io, "."), 0);
    io->ops->destroy(io);
    s->fx.arena = pdb_arena_new(0);
    s->fx.options = fixture_options("data", 1);
    s->fx.options.wal_on_error = PDB_WAL_READONLY;
    s->fx.options.memory_limit = (uint64_t)1 << 30;
    struct pdb_error error;
    if (engine_open_sim(&s->fx.options, s->disk, &s->fx.db, &error) < 0)
        fail_msg("%s", error.text);
}

static void end(struct sim_fixture *s)
{
    pdb_close(s->fx.db);
    pdb_arena_free(s->fx.arena);
    sim_disk_free(s->disk);
}

static void the_metrics_say(struct sim_fixture *s, const char *const *lines, size_t count)
{
    struct pdb_stats stats = {.want_metrics = true};
    assert_done(&s->fx, do_stats(&s->fx, &stats));
    char *text = strndup(stats.metrics_out.ptr, stats.metrics_out.len);
    assert_non_null(text);
    for (size_t i = 0; i < count; i++)
        if (strstr(text, lines[i]) == NULL)
            fail_msg("no line %s in\n%s", lines[i], text);
    free(text);
}

static void a_failed_log_refuses_writes_and_reads_go_on(void **state)
{
    (void)state;
    struct sim_fixture s;
    const float value = 1;
    begin(&s);
    create(&s.fx, "c", 1);
    assert_done(&s.fx, put(&s.fx, "c", "a", &value, 1, "{\"k\":1}"));
    static const char *const before[] = {"proximadb_wal_errors_total{core=\"0\",errno=\"EIO\"} 0\n",
                                         "proximadb_wal_poisoned{core=\"0\"} 0\n"};
    the_metrics_say(&s, before, 2);
    struct sim_faults broken = {.write_error = 1};
    sim_disk_set_faults(s.disk, &broken);
    assert_refused(&s.fx, put(&s.fx, "c", "b", &value, 1, NULL), PDB_UNAVAILABLE,
                   "the log failed under this write: whether it survives a restart is unknown");
    assert_true(s.fx.error.outcome_unknown);
    assert_refused(&s.fx, put(&s.fx, "c", "c", &value, 1, NULL), PDB_UNAVAILABLE,
                   "the log of core 0 has failed and takes no more writes; restart the server");
    assert_false(s.fx.error.outcome_unknown);
    static const char *const after[] = {
        "proximadb_wal_errors_total{core=\"0\",errno=\"EIO\"} 1\n",
        "proximadb_wal_errors_total{core=\"0\",errno=\"other\"} 0\n",
        "proximadb_wal_poisoned{core=\"0\"} 1\n",
        "proximadb_io_errors_total{op=\"write\",errno=\"EIO\"} 1\n"};
    the_metrics_say(&s, after, 4);
    struct sim_faults none = {0};
    sim_disk_set_faults(s.disk, &none);
    assert_int_equal(put(&s.fx, "c", "c", &value, 1, NULL), PDB_UNAVAILABLE);
    assert_int_equal(count_of(&s.fx, "c", NULL), 1);
    assert_int_equal(row_of(&s.fx, "c", "a").version, 1);
    assert_int_equal(row_of(&s.fx, "c", "b").version, 0);
    struct pdb_stats stats = {.want_metrics = false};
    assert_int_equal(do_stats(&s.fx, &stats), 0);
    assert_true(stats.poisoned_out);
    end(&s);
}

static void a_catalog_that_cannot_be_written_changes_nothing(void **state)
{
    (void)state;
    struct sim_fixture s;
    begin(&s);
    create(&s.fx, "a", 1);
    sim_disk_fail_at(s.disk, 1, EIO);
    assert_int_equal(create_with(&s.fx, "b", 1, PDB_METRIC_DOT, PDB_SYNC_ALWAYS), PDB_UNAVAILABLE);
    assert_string_equal(s.fx.error.text, "catalog: open of version 3: Input/output error");
    assert_false(s.fx.error.outcome_unknown);
    sim_disk_fail_at(s.disk, 1, ENOSPC);
    assert_int_equal(create_with(&s.fx, "b", 1, PDB_METRIC_DOT, PDB_SYNC_ALWAYS),
                     PDB_RESOURCE_EXHAUSTED);
    assert_int_equal(s.fx.error.http_status, 507);
    /* Nothing happened; the next attempt does. */
    assert_int_equal(count_of(&s.fx, "a", NULL), 0);
    create(&s.fx, "b", 1);
    end(&s);
}

/* Each I/O of a create fails once, in turn: it is refused, or its outcome is unknown; a restart
 * finds one or the other, whole. */
static void every_failing_step_of_a_create_leaves_a_sound_catalog(void **state)
{
    (void)state;
    bool done = false;
    unsigned failures = 0;
    for (uint64_t nth = 1; !done; nth++) {
        struct sim_fixture s;
        begin(&s);
        create(&s.fx, "a", 1);
        sim_disk_fail_at(s.disk, nth, EIO);
        int rc = create_with(&s.fx, "b", 1, PDB_METRIC_DOT, PDB_SYNC_ALWAYS);
        bool unknown = s.fx.error.outcome_unknown;
        sim_disk_fail_at(s.disk, 0, 0);
        pdb_close(s.fx.db);
        struct pdb_error error;
        if (engine_open_sim(&s.fx.options, s.disk, &s.fx.db, &error) < 0)
            fail_msg("step %u: %s", (unsigned)nth, error.text);
        struct pdb_collection_list all = {.limit = 0};
        assert_int_equal(do_list(&s.fx, &all), 0);
        if (rc == 0)
            assert_int_equal(all.count_out, 2);
        else if (!unknown)
            assert_int_equal(all.count_out, 1);
        failures += rc != 0;
        done = rc == 0 && nth > 20;
        end(&s);
    }
    assert_true(failures >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_log_refuses_writes_and_reads_go_on),
        cmocka_unit_test(a_catalog_that_cannot_be_written_changes_nothing),
        cmocka_unit_test(every_failing_step_of_a_create_leaves_a_sound_catalog),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
