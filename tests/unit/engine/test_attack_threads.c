/* Calls from many threads against a real database, while collections come and go under them. */
#include "engine_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>

enum { BATCH = 2000, DIMENSION = 64, DROPS = 30 };

struct job {
    struct fixture *fx;
    _Atomic bool stop;
    _Atomic unsigned answers;
};

static bool legal(int rc)
{
    return rc == 0 || rc == PDB_NOT_FOUND || rc == PDB_RESOURCE_EXHAUSTED;
}

/* Batches so large that they are prepared in many steps. */
static void *write_batches(void *arg)
{
    struct job *job = arg;
    struct fixture fx = *job->fx;
    fx.arena = pdb_arena_new(0);
    static float values[DIMENSION];
    static char ids[BATCH][16];
    struct pdb_vector *vectors = calloc(BATCH, sizeof(*vectors));
    struct pdb_record *records = calloc(BATCH, sizeof(*records));
    struct pdb_text metadata = doc(&fx, "{\"n\":1,\"text\":\"abcdefghijklmnopqrstuvwxyz\"}");
    for (int i = 0; i < BATCH; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "%d", i);
        records[i] = record(ids[i], &vectors[i], values, DIMENSION);
        records[i].metadata = metadata;
        records[i].has_metadata = true;
    }
    struct arena *kept = fx.arena;
    fx.arena = pdb_arena_new(0);
    for (unsigned i = 0; !atomic_load(&job->stop); i++) {
        struct pdb_write w = {.collection = txt("c"),
                              .records = records,
                              .record_count = BATCH,
                              .kind = i % 2 == 0 ? PDB_WRITE_UPSERT : PDB_WRITE_UPDATE};
        int rc = do_write(&fx, &w);
        if (!legal(rc))
            fail_msg("%d: %s", rc, fx.error.text);
        atomic_fetch_add(&job->answers, 1);
        pdb_arena_reset(fx.arena);
    }
    pdb_arena_free(fx.arena);
    pdb_arena_free(kept);
    free(records);
    free(vectors);
    return NULL;
}

static void a_drop_may_come_between_the_steps_of_a_write(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", DIMENSION);
    struct job job = {.fx = &fx};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_batches, &job), 0);
    for (int i = 0; i < DROPS; i++) {
        unsigned before = atomic_load(&job.answers);
        while (atomic_load(&job.answers) < before + 2)
            (void)sched_yield();
        struct pdb_collection_delete d = {.name = txt("c")};
        assert_done(&fx, do_drop(&fx, &d));
        create(&fx, "c", DIMENSION);
    }
    atomic_store(&job.stop, true);
    (void)pthread_join(thread, NULL);
    fixture_end(&fx);
}

static unsigned open_files(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    (void)closedir(dir);
    return count;
}

static void a_catalog_that_cannot_be_written_keeps_no_file_open(void **state)
{
    (void)state;
    struct fixture fx;
    struct rlimit before, small;
    fixture_begin(&fx, 1);
    create(&fx, "c", 1);
    unsigned files = open_files();
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 16;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (int i = 0; i < 20; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "n%d", i);
        assert_int_equal(create_with(&fx, name, 1, PDB_METRIC_DOT, PDB_SYNC_ALWAYS),
                         PDB_RESOURCE_EXHAUSTED);
        assert_int_equal(fx.error.http_status, 507);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(open_files() <= files + 4); /* the log may be making a segment */
    create(&fx, "d", 1);
    fixture_reopen(&fx, 1);
    assert_int_equal(count_of(&fx, "d", NULL), 0);
    fixture_end(&fx);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drop_may_come_between_the_steps_of_a_write),
        cmocka_unit_test(a_catalog_that_cannot_be_written_keeps_no_file_open),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
