/* A process is killed at a moment of chance, again and again on the same data: what was
 * acknowledged is there, no batch is there by half, nothing is there that was never tried. The
 * victim (crash_writer.c) runs as a process of its own; what it says before it dies is the journal.
 * Some kills come while it recovers from the one before. */
#include "engine_fixture.h"

#include "crash.h"

#include <signal.h>
#include <sys/wait.h>

#ifdef PDB_STRESS
enum { CYCLES = 6 };
#else
enum { CYCLES = 20 };
#endif

struct thread_model {
    unsigned value
        [CRASH_SLOTS]; /* n of the batch that wrote it, 0: absent; of all that was acknowledged */
    unsigned attempt, mask; /* n of the batch that was tried and not acknowledged; 0: none */
    char kind;
    unsigned last_n;
    uint64_t last_version;
};

static void apply(unsigned value[CRASH_SLOTS], const struct thread_model *t)
{
    for (unsigned slot = 0; slot < CRASH_SLOTS; slot++)
        if ((t->mask >> slot & 1) != 0)
            value[slot] = t->kind == 'u' ? t->attempt : 0;
}

static void hear(struct thread_model models[CRASH_THREADS], const char *line)
{
    unsigned thread, n, mask;
    unsigned long long version;
    char kind;
    if (sscanf(line, "A %u %u %c %u", &thread, &n, &kind, &mask) == 4) {
        struct thread_model *t = &models[thread];
        t->attempt = n;
        t->mask = mask;
        t->kind = kind;
        t->last_n = n;
    } else if (sscanf(line, "K %u %u %llu", &thread, &n, &version) == 3) {
        struct thread_model *t = &models[thread];
        assert_int_equal(n, t->attempt);
        assert_true(version >= t->last_version);
        apply(t->value, t);
        t->attempt = 0;
        t->last_version = version;
    }
}

/* Runs the victim and kills it after `line_count` lines; then hears out what it had said. */
static void run_victim(const char *dir, const char *engine, unsigned seed, unsigned first,
                       unsigned line_count, const char *failpoint,
                       struct thread_model models[CRASH_THREADS])
{
    int ends[2];
    char cores[8], seed_text[16], first_text[16], line[128];
    (void)snprintf(cores, sizeof(cores), "%u", 1 + seed % 2);
    (void)snprintf(seed_text, sizeof(seed_text), "%u", seed);
    (void)snprintf(first_text, sizeof(first_text), "%u", first);
    assert_int_equal(pipe(ends), 0);
    pid_t victim = fork();
    assert_true(victim >= 0);
    if (victim == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        if (failpoint != NULL)
            (void)setenv("PROXIMADB_FAILPOINT", failpoint, 1);
        (void)execl(CRASH_WRITER, "crash_writer", dir, engine, cores, seed_text, first_text,
                    (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    FILE *journal = fdopen(ends[0], "r");
    assert_non_null(journal);
    for (unsigned heard = 0; fgets(line, sizeof(line), journal) != NULL; heard++) {
        hear(models, line);
        if (heard == line_count)
            assert_int_equal(kill(victim, SIGKILL), 0);
    }
    (void)fclose(journal);
    int status;
    assert_int_equal(waitpid(victim, &status, 0), victim);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void judge_thread(struct fixture *fx, unsigned thread, struct thread_model *t)
{
    unsigned found[CRASH_SLOTS], with[CRASH_SLOTS];
    for (unsigned slot = 0; slot < CRASH_SLOTS; slot++) {
        char id[16];
        (void)crash_id(id, thread, slot);
        struct pdb_row row = row_of(fx, crash_collection(thread), id);
        found[slot] = row.version != 0 ? (unsigned)*(const float *)row.vectors[0] : 0;
    }
    memcpy(with, t->value, sizeof(with));
    if (t->attempt != 0)
        apply(with, t);
    if (memcmp(found, t->value, sizeof(found)) != 0 && memcmp(found, with, sizeof(found)) != 0)
        fail_msg("thread %u: what is there is neither what was acknowledged nor that and its last "
                 "attempt %u",
                 thread, t->attempt);
    memcpy(t->value, found, sizeof(found));
    t->attempt = 0;
}

static void judge(struct fixture *fx, struct thread_model models[CRASH_THREADS])
{
    uint64_t live[2] = {0, 0};
    for (unsigned i = 0; i < CRASH_THREADS; i++) {
        judge_thread(fx, i, &models[i]);
        for (unsigned slot = 0; slot < CRASH_SLOTS; slot++)
            live[i % 2] += models[i].value[slot] != 0;
    }
    assert_int_equal(count_of(fx, "always", NULL), live[0]);
    assert_int_equal(count_of(fx, "batch", NULL), live[1]);
    /* Scroll, count and search agree. */
    const float one = 1;
    struct pdb_query q = {.vector = {.values = &one, .count = 1}, .k = 1000};
    struct pdb_search s = {.collection = txt("always"), .queries = &q, .query_count = 1};
    struct pdb_scroll c = {.collection = txt("always"), .limit = 1000};
    assert_done(fx, do_search(fx, &s));
    assert_done(fx, do_scroll(fx, &c));
    assert_int_equal(s.results_out[0].count, live[0]);
    assert_int_equal(c.row_count_out, live[0]);
}

static void cycles(const char *engine)
{
    struct fixture fx = {.db = NULL};
    struct thread_model models[CRASH_THREADS] = {{.last_n = 0}};
    fixture_dir(fx.dir);
    fx.arena = pdb_arena_new(0);
    unsigned first = 1, seed = 11;
    for (unsigned cycle = 0; cycle < CYCLES; cycle++) {
        srand(seed + cycle);
        if (cycle % 4 == 3) /* killed while it opens */
            run_victim(fx.dir, engine, seed + cycle, first, 0, NULL, models);
        run_victim(fx.dir, engine, seed + cycle, first, 3 + (unsigned)rand() % 120, NULL, models);
        fx.options = crash_options(fx.dir, engine, 1 + cycle % 3);
        fixture_open(&fx, fx.options.cores);
        judge(&fx, models);
        pdb_close(fx.db);
        pdb_arena_reset(fx.arena);
        for (unsigned i = 0; i < CRASH_THREADS; i++)
            first = models[i].last_n >= first ? models[i].last_n + 1 : first;
    }
    pdb_arena_free(fx.arena);
    remove_tree(fx.dir);
}

#ifdef PDB_FAILPOINTS
/* Killed before and after each durable step, at its first visits. */
static void nothing_acknowledged_is_lost_at_any_durable_step(void **state)
{
    (void)state;
    static const char *const names[] = {"catalog.written",  "catalog.synced",  "catalog.renamed",
                                        "catalog.current",  "catalog.durable", "wal.append",
                                        "wal.acknowledged", "write.answer"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct fixture fx = {.db = NULL};
        struct thread_model models[CRASH_THREADS] = {{.last_n = 0}};
        unsigned first = 1;
        fixture_dir(fx.dir);
        fx.arena = pdb_arena_new(0);
        for (unsigned visit = 1; visit <= 4; visit++) {
            char spec[64];
            (void)snprintf(spec, sizeof(spec), "%s:kill:%u", names[i], visit * visit);
            run_victim(fx.dir, "auto", visit, first, 400, spec, models);
            fx.options = crash_options(fx.dir, "auto", 1 + visit % 2);
            fixture_open(&fx, fx.options.cores);
            struct pdb_collection_list all = {.limit = 0};
            assert_done(&fx, do_list(&fx, &all));
            if (all.count_out == 2)
                judge(&fx, models);
            pdb_close(fx.db);
            pdb_arena_reset(fx.arena);
            for (unsigned t = 0; t < CRASH_THREADS; t++)
                first = models[t].last_n >= first ? models[t].last_n + 1 : first;
        }
        pdb_arena_free(fx.arena);
        remove_tree(fx.dir);
    }
}
#endif

static void nothing_acknowledged_is_lost_with_io_uring(void **state)
{
    (void)state;
    cycles("auto");
}

static void nothing_acknowledged_is_lost_with_threads(void **state)
{
    (void)state;
    cycles("threads");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_acknowledged_is_lost_with_io_uring),
        cmocka_unit_test(nothing_acknowledged_is_lost_with_threads),
#ifdef PDB_FAILPOINTS
        cmocka_unit_test(nothing_acknowledged_is_lost_at_any_durable_step),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
