/* The log on a real filesystem with both engines: what the simulated disk cannot show. Runs in
 * TMPDIR, else /tmp. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "os/fs.h"
#include "wal_lab.h"

#include <ftw.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { APPENDS = 300, ROWS = 4, FLOATS = 100 };

/* One log on one real reactor. */
struct site {
    char root[256], dir[300];
    struct wal_options options;
    enum io_engine_choice engine;
    struct wal *wal;
    struct wal_stats stats; /* at the end */
    struct lab_op ops[APPENDS];
    int appended, done, failed, rc;
    struct reactor *r;
    struct turn_hook pump;
    bool finished;
    bool forget; /* everything is released as soon as it is answered */
    int error;   /* of wal_open */
    char text[TRAIL_TEXT_MAX];
    int pipe[2];
};

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *ftw)
{
    (void)info;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static void site_init(struct site *s, enum io_engine_choice engine, enum wal_io_mode mode)
{
    const char *tmp = getenv("TMPDIR");
    memset(s, 0, sizeof(*s));
    snprintf(s->root, sizeof(s->root), "%s/pdb-wal-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(s->root));
    snprintf(s->dir, sizeof(s->dir), "%s/0", s->root);
    s->engine = engine;
    s->options = (struct wal_options){
        .dir = s->dir,
        .io_mode = mode,
        .on_error = WAL_ON_ERROR_READONLY,
        .segment_bytes = 1 << 20,
        .batch_window_us = 1000,
        .period_ms = 10,
        .queue_bytes_max = 4 << 20,
        .allow_unsafe_fs = true, /* a container's file system may be one */
    };
    assert_int_equal(pipe(s->pipe), 0);
}

static void site_dispose(struct site *s)
{
    close(s->pipe[0]);
    close(s->pipe[1]);
    assert_int_equal(nftw(s->root, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static struct site *site_here(void)
{
    return reactor_here()->user[REACTOR_SLOT_TEST];
}

static void append_next(struct site *s, int index);

static void on_done(struct wal_append_op *op, int rc)
{
    struct site *s = site_here();
    struct lab_op *l = container_of(op, struct lab_op, op);
    l->done = true;
    l->rc = rc;
    s->failed += rc != 0;
    if (s->forget) {
        wal_release(s->wal, &op->batch->collection, op->batch->version);
        if (op->batch->version % 20 == 0)
            wal_roll_now(s->wal);
    }
    fixture_batch_free(&l->rows);
    if (++s->done == APPENDS) {
        char byte = 1;
        s->finished = true;
        assert_int_equal(write(s->pipe[1], &byte, 1), 1);
    } else if (s->appended < APPENDS) {
        append_next(s, s->appended++);
    }
}

static void append_next(struct site *s, int index)
{
    struct lab_op *l = &s->ops[index];
    fixture_batch_make(&l->rows, (uint64_t)index + 1, ROWS, FLOATS);
    l->op.batch = &l->rows.batch;
    l->op.sync = (enum pdb_sync_mode)(index % 4);
    l->op.done = on_done;
    wal_append(s->wal, &l->op);
}

static int start_writing(struct reactor *r, void *arg)
{
    struct site *s = arg;
    struct trail trail = {0};
    r->user[REACTOR_SLOT_TEST] = s;
    s->r = r;
    s->error = wal_open(r, &s->options, &s->wal, &trail);
    memcpy(s->text, trail.text, sizeof(s->text));
    if (s->error != 0)
        return s->error;
    for (; s->appended < 8; s->appended++)
        append_next(s, s->appended);
    return 0;
}

static void stop_writing(struct reactor *r, void *arg)
{
    struct site *s = arg;
    (void)r;
    wal_stats(s->wal, &s->stats);
    wal_close(s->wal);
    s->wal = NULL;
}

static int write_all(struct site *s)
{
    struct reactor_group *group = NULL;
    const char *reason = NULL;
    struct reactor_options options = {
        .count = 1, .io_engine = s->engine, .start = start_writing, .stop = stop_writing, .arg = s};
    int rc = reactor_group_start(&options, &group, &reason);
    if (rc != 0)
        return rc;
    char byte;
    assert_int_equal(read(s->pipe[0], &byte, 1), 1);
    reactor_group_stop(group);
    return 0;
}

/* Reads it back with plain system calls; rows in order, then CLOSE. */
static void verify(struct site *s, long expected, bool clean)
{
    struct io *io = NULL;
    const char *reason = NULL;
    struct lab_found found = {0};
    struct wal_scan *scan = NULL;
    struct trail trail = {0};
    struct wal_scan_stats stats;
    const char *dirs[] = {s->root};
    struct wal_scan_options options = {
        .dirs = dirs, .dir_count = 1, .check_bodies = true, .visit = lab_visit, .arg = &found};
    assert_int_equal(io_create(IO_ENGINE_THREADS, &io, &reason), 0);
    assert_int_equal(wal_scan_open(io, &options, &scan, &trail), 0);
    assert_int_equal(lab_rows_found(scan, &found, ROWS, FLOATS), expected);
    wal_scan_stats(scan, &stats);
    assert_int_equal(stats.clean, clean);
    wal_scan_close(scan);
    free(found.infos);
    io->ops->destroy(io);
}

static void every_engine_and_mode_writes_the_same_log(void **state)
{
    (void)state;
    static const enum io_engine_choice engines[] = {IO_ENGINE_AUTO, IO_ENGINE_THREADS};
    for (int e = 0; e < 2; e++) {
        for (int mode = WAL_IO_DIRECT; mode <= WAL_IO_BUFFERED; mode++) {
            struct site *s = malloc(sizeof(*s));
            site_init(s, engines[e], (enum wal_io_mode)mode);
            s->options.encoding = (enum wal_encoding)(e ^ mode);
            assert_int_equal(write_all(s), 0);
            assert_int_equal(s->failed, 0);
            verify(s, APPENDS, true);
            site_dispose(s);
            free(s);
        }
    }
}

/* What is left is the newest, without a hole, and the log opens. */
static void every_engine_truncates_and_recycles(void **state)
{
    (void)state;
    static const enum io_engine_choice engines[] = {IO_ENGINE_AUTO, IO_ENGINE_THREADS};
    for (int e = 0; e < 2; e++) {
        struct site *s = malloc(sizeof(*s));
        site_init(s, engines[e], e == 0 ? WAL_IO_DIRECT : WAL_IO_BUFFERED);
        s->forget = true;
        assert_int_equal(write_all(s), 0);
        assert_int_equal(s->failed, 0);
        assert_true(s->stats.truncated_lsn > 0);
        assert_true(s->stats.segments_live < 10);

        struct io *io = NULL;
        const char *reason = NULL, *dirs[] = {s->root};
        struct lab_found found = {0};
        struct wal_scan *scan = NULL;
        struct wal_scan_options options = {
            .dirs = dirs, .dir_count = 1, .check_bodies = true, .visit = lab_visit, .arg = &found};
        assert_int_equal(io_create(IO_ENGINE_THREADS, &io, &reason), 0);
        assert_int_equal(wal_scan_open(io, &options, &scan, NULL), 0);
        assert_in_range(found.count, 1, APPENDS); /* one is the CLOSE record */
        for (size_t i = 0; i + 1 < found.count; i++)
            assert_int_equal(found.infos[i].version, APPENDS - (found.count - 2) + i);
        wal_scan_close(scan);
        free(found.infos);
        io->ops->destroy(io);
        site_dispose(s);
        free(s);
    }
}

static void an_unsafe_filesystem_is_refused_with_what_to_do(void **state)
{
    (void)state;
    struct site *s = malloc(sizeof(*s));
    struct fs_facts facts;
    site_init(s, IO_ENGINE_THREADS, WAL_IO_DIRECT);
    s->options.allow_unsafe_fs = false;
    assert_int_equal(fs_probe(s->root, &facts), 0);
    int rc = write_all(s);
    if (facts.unsafe_sync) {
        assert_int_equal(rc, PDB_FAILED_PRECONDITION);
        assert_non_null(strstr(s->text, "wal.allow_unsafe_fs"));
    } else {
        assert_int_equal(rc, 0);
        verify(s, APPENDS, true);
    }
    site_dispose(s);
    free(s);
}

static void a_folder_that_cannot_be_made_is_told_by_name(void **state)
{
    (void)state;
    struct site *s = malloc(sizeof(*s));
    site_init(s, IO_ENGINE_THREADS, WAL_IO_DIRECT);
    FILE *file = fopen(s->dir, "w"); /* a file where the folder should be */
    assert_non_null(file);
    fclose(file);
    assert_int_equal(write_all(s), PDB_UNAVAILABLE);
    assert_non_null(strstr(s->text, s->dir));
    site_dispose(s);
    free(s);
}

/* In a child: no file may be as large as a segment. */
static void write_under_a_limit(struct site *s)
{
    struct rlimit limit = {.rlim_cur = 600 << 10, .rlim_max = 600 << 10};
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        _exit(1);
    s->options.on_error = WAL_ON_ERROR_ABORT;
    (void)write_all(s);
    _exit(s->failed != 0 ? 3 : 2);
}

static void a_file_size_limit_refuses_segments_and_loses_nothing(void **state)
{
    (void)state;
    struct site *s = malloc(sizeof(*s));
    site_init(s, IO_ENGINE_THREADS, WAL_IO_DIRECT);
    pid_t child = fork();
    if (child == 0)
        write_under_a_limit(s);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 3); /* EFBIG from allocating: refused, not poisoned */
    verify(s, 0, true);
    site_dispose(s);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_engine_and_mode_writes_the_same_log),
        cmocka_unit_test(every_engine_truncates_and_recycles),
        cmocka_unit_test(an_unsafe_filesystem_is_refused_with_what_to_do),
        cmocka_unit_test(a_folder_that_cannot_be_made_is_told_by_name),
        cmocka_unit_test(a_file_size_limit_refuses_segments_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
