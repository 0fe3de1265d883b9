/* A log, or a folder, that is missing refuses the start, instead of a database with fewer rows. */
#include "engine/engine_internal.h"
#include "engine_fixture.h"
#include "os/io.h"

enum { COLLECTIONS = 8 };

static const float one[1] = {1};

/* Rows in the logs of both cores. */
static void begin(struct fixture *fx)
{
    fixture_begin(fx, 2);
    for (int i = 0; i < COLLECTIONS; i++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "c%d", i);
        create(fx, name, 1);
        assert_done(fx, put(fx, name, "a", one, 1, NULL));
    }
    pdb_close(fx->db);
}

static uint64_t rows(struct fixture *fx)
{
    uint64_t count = 0;
    for (int i = 0; i < COLLECTIONS; i++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "c%d", i);
        count += count_of(fx, name, NULL);
    }
    return count;
}

static void assert_not_opened(struct fixture *fx, int code, const char *part)
{
    struct pdb_error error;
    assert_int_equal(pdb_open(&fx->options, &fx->db, &error), code);
    if (strstr(error.text, part) == NULL)
        fail_msg("'%s' says nothing of '%s'", error.text, part);
}

static void move(const struct fixture *fx, const char *from, const char *to)
{
    char a[320], b[320];
    (void)snprintf(a, sizeof(a), "%s/%s", fx->dir, from);
    (void)snprintf(b, sizeof(b), "%s/%s", fx->dir, to);
    assert_int_equal(rename(a, b), 0);
}

static void remove_empty(const struct fixture *fx, const char *name)
{
    char path[320];
    (void)snprintf(path, sizeof(path), "%s/%s", fx->dir, name);
    assert_int_equal(rmdir(path), 0);
}

static void start_snapshot(struct pdb_call *call)
{
    pdb_snapshot_create_start((struct pdb_snapshot_create *)(void *)call);
}

static void a_missing_log_refuses_the_start_on_any_number_of_cores(void **state)
{
    (void)state;
    struct fixture fx;
    begin(&fx);
    move(&fx, "wal/1", "away");
    for (unsigned cores = 1; cores <= 3; cores++) {
        fx.options.cores = cores;
        assert_not_opened(&fx, PDB_DATA_LOSS, "wal/1 is missing");
    }
    move(&fx, "away", "wal/1");
    fixture_open(&fx, 2);
    assert_int_equal(rows(&fx), COLLECTIONS);
    fixture_end(&fx);
}

/* As a restore leaves it: all in segments, and a list that says so. */
static void say_that_there_are_no_logs(struct fixture *fx)
{
    struct io *io;
    const char *reason;
    struct trail trail = {0};
    struct pdb_snapshot_create c = {.name = txt("s")};
    pdb_call_init(&c.call, fx->db, fx->arena, NULL);
    assert_int_equal(pdb_wait(&c.call, start_snapshot), 0);
    pdb_close(fx->db);
    assert_int_equal(io_create(IO_ENGINE_THREADS, &io, &reason), 0);
    assert_int_equal(log_list_say_none(io, fx->dir, &trail), 0);
    io->ops->destroy(io);
}

static void the_logs_of_a_lost_directory_do_not_undo_a_restore(void **state)
{
    (void)state;
    struct fixture fx;
    begin(&fx);
    fixture_open(&fx, 2);
    say_that_there_are_no_logs(&fx);
    for (unsigned cores = 1; cores <= 2; cores++) { /* one that was refused has changed nothing */
        fx.options.cores = cores;
        assert_not_opened(&fx, PDB_FAILED_PRECONDITION, "another data directory");
    }
    move(&fx, "wal", "away");
    for (int i = 0; i < 2; i++) { /* the second start has logs, its own */
        fixture_open(&fx, 2);
        assert_int_equal(rows(&fx), COLLECTIONS);
        assert_done(&fx, put(&fx, "c0", "a", one, 1, NULL));
        pdb_close(fx.db);
    }
    fixture_open(&fx, 1);
    fixture_end(&fx);
}

static void an_empty_place_where_a_log_was_refuses_the_start(void **state)
{
    (void)state;
    struct fixture fx;
    begin(&fx);
    move(&fx, "wal", "away"); /* a disk that is not mounted */
    assert_not_opened(&fx, PDB_DATA_LOSS, "wal/0 is missing");
    assert_not_opened(&fx, PDB_DATA_LOSS,
                      "wal/0 is missing"); /* the first try has made nothing up */
    char command[600];
    (void)snprintf(command, sizeof(command), "rm -rf %s/wal", fx.dir);
    assert_int_equal(system(command), 0);
    move(&fx, "away", "wal");
    fixture_open(&fx, 1);
    assert_int_equal(rows(&fx), COLLECTIONS);
    fixture_end(&fx);
}

static void a_log_outside_the_configured_directories_refuses_the_start(void **state)
{
    (void)state;
    struct fixture fx;
    char first[320], second[320];
    fixture_begin(&fx, 1);
    pdb_close(fx.db);
    (void)snprintf(first, sizeof(first), "%s/wal", fx.dir);
    (void)snprintf(second, sizeof(second), "%s/second", fx.dir);
    const char *both[2] = {first, second}, *only[1] = {second};
    fx.options.wal_dirs = both;
    fx.options.wal_dir_count = 2;
    fixture_open(&fx, 2);
    create(&fx, "c0", 1);
    assert_done(&fx, put(&fx, "c0", "a", one, 1, NULL));
    pdb_close(fx.db);
    fx.options.wal_dirs = only;
    fx.options.wal_dir_count = 1;
    assert_not_opened(&fx, PDB_FAILED_PRECONDITION, "wal/0");
    fx.options.wal_dirs = both;
    fx.options.wal_dir_count = 2;
    fixture_open(&fx, 2);
    assert_int_equal(count_of(&fx, "c0", NULL), 1);
    fixture_end(&fx);
}

static void the_data_directory_may_be_moved(void **state)
{
    (void)state;
    struct fixture fx;
    begin(&fx);
    char moved[300];
    (void)snprintf(moved, sizeof(moved), "%s-moved", fx.dir);
    assert_int_equal(rename(fx.dir, moved), 0);
    memcpy(fx.dir, moved, strlen(moved) + 1);
    fixture_open(&fx, 2);
    assert_int_equal(rows(&fx), COLLECTIONS);
    fixture_end(&fx);
}

static void a_damaged_list_refuses_the_start(void **state)
{
    (void)state;
    struct fixture fx;
    begin(&fx);
    char path[320], bytes[512];
    (void)snprintf(path, sizeof(path), "%s/catalog/LOGS", fx.dir);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    size_t len = fread(bytes, 1, sizeof(bytes), file);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(fseek(file, (long)i, SEEK_SET), 0);
        assert_true(fputc(bytes[i] ^ 1, file) >= 0);
        assert_int_equal(fflush(file), 0);
        if (i % 5 == 0)
            assert_not_opened(&fx, PDB_DATA_LOSS, "catalog/LOGS");
        assert_int_equal(fseek(file, (long)i, SEEK_SET), 0);
        assert_true(fputc(bytes[i], file) >= 0);
        assert_int_equal(fflush(file), 0);
    }
    assert_int_equal(fclose(file), 0);
    fixture_open(&fx, 2);
    assert_int_equal(rows(&fx), COLLECTIONS);
    fixture_end(&fx);
}

static void a_list_that_is_gone_refuses_the_start_unless_there_was_none(void **state)
{
    (void)state;
    struct fixture fx;
    char path[512];
    begin(&fx);
    move(&fx, "catalog/LOGS", "away");
    assert_not_opened(&fx, PDB_DATA_LOSS, "catalog/LOGS is missing");
    (void)snprintf(path, sizeof(path), "%s/catalog/witness/LOGS", fx.dir);
    assert_int_equal(unlink(path), 0); /* as a data directory from before there were witnesses */
    fixture_open(&fx, 2);
    assert_int_equal(rows(&fx), COLLECTIONS);
    fixture_end(&fx);
}

/* ---- folders of collections ---- */

static const char *uuid_of(struct fixture *fx, const char *name, char text[40])
{
    struct pdb_collection_get g = {.name = txt(name)};
    assert_done(fx, do_describe(fx, &g));
    (void)snprintf(text, 40, "%s", g.info_out.uuid);
    return text;
}

/* c0 has all of its rows in a segment and nothing in the log, c1 is empty. */
static void begin_flushed(struct fixture *fx, char folder[64], char witness[64])
{
    char uuid[40], command[512];
    fixture_begin(fx, 1);
    create(fx, "c0", 1);
    create(fx, "c1", 1);
    assert_done(fx, put(fx, "c0", "a", one, 1, NULL));
    struct pdb_snapshot_create c = {.name = txt("s")};
    pdb_call_init(&c.call, fx->db, fx->arena, NULL);
    assert_int_equal(pdb_wait(&c.call, start_snapshot), 0);
    (void)snprintf(folder, 64, "collections/%s", uuid_of(fx, "c0", uuid));
    (void)snprintf(witness, 64, "catalog/witness/%s", uuid);
    pdb_close(fx->db);
    (void)snprintf(command, sizeof(command),
                   "cd '%s' && rm -r wal catalog/LOGS catalog/witness/LOGS",
                   fx->dir); /* nothing is in it that is not in segments */
    assert_int_equal(system(command), 0);
}

static void a_folder_that_is_gone_refuses_the_start(void **state)
{
    (void)state;
    struct fixture fx;
    char folder[64], witness[64];
    begin_flushed(&fx, folder, witness);
    move(&fx, folder, "away");
    assert_not_opened(&fx, PDB_DATA_LOSS, folder);
    move(&fx, "away", folder);
    move(&fx, "collections", "away"); /* all of them */
    assert_not_opened(&fx, PDB_DATA_LOSS, folder);
    remove_empty(&fx, "collections");
    move(&fx, "away", "collections");
    fixture_open(&fx, 1);
    assert_int_equal(count_of(&fx, "c0", NULL), 1);
    pdb_close(fx.db);
    move(&fx, folder, "away"); /* given up, as the message says how */
    move(&fx, witness, "witness");
    fixture_open(&fx, 1);
    assert_int_equal(count_of(&fx, "c0", NULL), 0);
    assert_int_equal(count_of(&fx, "c1", NULL), 0);
    fixture_end(&fx);
}

static void a_start_makes_the_witnesses_that_older_ones_did_not(void **state)
{
    (void)state;
    struct fixture fx;
    char folder[64], witness[64];
    begin_flushed(&fx, folder, witness);
    move(&fx, witness, "witness");
    fixture_open(&fx, 1);
    assert_int_equal(count_of(&fx, "c0", NULL), 1);
    pdb_close(fx.db);
    move(&fx, folder, "away");
    assert_not_opened(&fx, PDB_DATA_LOSS, folder);
    pdb_arena_free(fx.arena);
    remove_tree(fx.dir);
}

static bool is_there(const struct fixture *fx, const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", fx->dir, name);
    return access(path, F_OK) == 0;
}

/* Behind a drop at the latest the next start removes what is left. */
static void a_dropped_collection_leaves_no_witness(void **state)
{
    (void)state;
    struct fixture fx;
    char folder[64], witness[64];
    begin_flushed(&fx, folder, witness);
    fixture_open(&fx, 1);
    assert_true(is_there(&fx, witness));
    struct pdb_collection_delete d = {.name = txt("c0")};
    assert_done(&fx, do_drop(&fx, &d));
    fixture_reopen(&fx, 1);
    assert_false(is_there(&fx, folder));
    assert_false(is_there(&fx, witness));
    assert_int_equal(count_of(&fx, "c1", NULL), 0);
    fixture_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_log_refuses_the_start_on_any_number_of_cores),
        cmocka_unit_test(the_logs_of_a_lost_directory_do_not_undo_a_restore),
        cmocka_unit_test(an_empty_place_where_a_log_was_refuses_the_start),
        cmocka_unit_test(a_log_outside_the_configured_directories_refuses_the_start),
        cmocka_unit_test(the_data_directory_may_be_moved),
        cmocka_unit_test(a_damaged_list_refuses_the_start),
        cmocka_unit_test(a_list_that_is_gone_refuses_the_start_unless_there_was_none),
        cmocka_unit_test(a_folder_that_is_gone_refuses_the_start),
        cmocka_unit_test(a_start_makes_the_witnesses_that_older_ones_did_not),
        cmocka_unit_test(a_dropped_collection_leaves_no_witness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
