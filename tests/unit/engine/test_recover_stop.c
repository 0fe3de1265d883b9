/* A recovery that its opener does not want any more. */
#include "engine_fixture.h"

enum { ROWS = 40, FLUSH_ROWS = 15 };

static unsigned asked, yes_at;

static bool stop(void *arg)
{
    (void)arg;
    return __atomic_add_fetch(&asked, 1, __ATOMIC_RELAXED) >= yes_at;
}

/* Given up at its first step, its second, ... until it has fewer: each time it says so, and the
 * last one, which is left alone, finds everything. */
static void a_recovery_can_be_given_up_at_any_step(void **state)
{
    (void)state;
    struct fixture fx;
    struct pdb_error error;
    fixture_begin(&fx, 2);
    fx.options.flush_rows = FLUSH_ROWS;
    fixture_reopen(&fx, 2);
    create(&fx, "c", 1);
    for (unsigned i = 0; i < ROWS; i++) {
        char id[8];
        const float value = (float)i;
        (void)snprintf(id, sizeof(id), "%u", i);
        assert_done(&fx, put(&fx, "c", id, &value, 1, NULL));
    }
    pdb_close(fx.db);
    fx.options.stop = stop;
    int rc = PDB_CANCELLED;
    for (yes_at = 1; rc == PDB_CANCELLED; yes_at++) {
        asked = 0;
        fx.db = NULL;
        rc = pdb_open(&fx.options, &fx.db, &error);
        if (rc != 0) {
            assert_int_equal(rc, PDB_CANCELLED);
            assert_null(fx.db);
        }
    }
    assert_int_equal(rc, 0);
    assert_true(yes_at > ROWS - FLUSH_ROWS); /* at least once for each record of the log */
    assert_int_equal(count_of(&fx, "c", NULL), ROWS);
    fixture_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_recovery_can_be_given_up_at_any_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
