/* What is there after a restart: on the same and on another number of cores, after clean and
 * unclean stops, and what refuses to start. */
#include "engine_fixture.h"

#include <fcntl.h>
#include <sys/wait.h>

enum { COLLECTIONS = 5, ROUNDS = 120 };

/* What the test believes: version and value of each id; 0: not there. */
struct model {
    uint64_t version[COLLECTIONS][16];
    float value[COLLECTIONS][16];
};

static void name_of(int c, char name[8])
{
    (void)snprintf(name, 8, "c%d", c);
}

static void write_some(struct fixture *fx, struct model *model, unsigned seed)
{
    srand(seed);
    for (int i = 0; i < ROUNDS; i++) {
        int c = rand() % COLLECTIONS, id = rand() % 16;
        char name[8], id_text[8];
        float value = (float)(rand() % 1000);
        name_of(c, name);
        (void)snprintf(id_text, sizeof(id_text), "id%d", id);
        if (rand() % 4 != 0) {
            struct pdb_vector vector;
            struct pdb_record r = record(id_text, &vector, &value, 1);
            struct pdb_write w = {.collection = txt(name), .records = &r, .record_count = 1};
            assert_done(fx, do_write(fx, &w));
            model->version[c][id] = w.version_out;
            model->value[c][id] = value;
        } else {
            struct pdb_text ids = txt(id_text);
            struct pdb_delete d = {.collection = txt(name), .ids = &ids, .id_count = 1};
            assert_done(fx, do_delete(fx, &d));
            assert_int_equal(d.count_out, model->version[c][id] != 0);
            model->version[c][id] = 0;
        }
    }
}

static void compare(struct fixture *fx, const struct model *model)
{
    for (int c = 0; c < COLLECTIONS; c++) {
        char name[8];
        uint64_t live = 0;
        name_of(c, name);
        for (int id = 0; id < 16; id++) {
            char id_text[8];
            (void)snprintf(id_text, sizeof(id_text), "id%d", id);
            struct pdb_row row = row_of(fx, name, id_text);
            assert_int_equal(row.version, model->version[c][id]);
            if (row.version != 0)
                assert_memory_equal(row.vectors[0], &model->value[c][id], sizeof(float));
            live += row.version != 0;
        }
        assert_int_equal(count_of(fx, name, NULL), live);
    }
}

static void cores_may_change_from_start_to_start(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model = {0};
    fixture_begin(&fx, 1);
    for (int c = 0; c < COLLECTIONS; c++) {
        char name[8];
        name_of(c, name);
        create(&fx, name, 1);
    }
    static const unsigned cores[] = {2, 1, 4, 3, 1, 2};
    for (unsigned i = 0; i < sizeof(cores) / sizeof(cores[0]); i++) {
        write_some(&fx, &model, i + 1);
        compare(&fx, &model);
        fixture_reopen(&fx, cores[i]);
        assert_true(pdb_facts(fx.db)->recovered_clean);
        compare(&fx, &model);
    }
    fixture_end(&fx);
}

static void both_encodings_and_engines_read_each_other(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model = {0};
    fixture_begin(&fx, 2);
    for (int c = 0; c < COLLECTIONS; c++) {
        char name[8];
        name_of(c, name);
        create(&fx, name, 1);
    }
    for (unsigned i = 0; i < 4; i++) {
        write_some(&fx, &model, 100 + i);
        fx.options.wal_encoding = i % 2 == 0 ? PDB_WAL_AVRO : PDB_WAL_BINARY;
        fx.options.io_engine = i / 2 == 0 ? PDB_IO_THREADS : PDB_IO_AUTO;
        fx.options.wal_io_mode = i == 2 ? PDB_WAL_BUFFERED : PDB_WAL_DIRECT;
        fixture_reopen(&fx, 2);
        compare(&fx, &model);
    }
    fixture_end(&fx);
}

static void several_log_directories_are_all_read(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model = {0};
    char first[300], second[300];
    fixture_begin(&fx, 1);
    pdb_close(fx.db);
    (void)snprintf(first, sizeof(first), "%s/wal", fx.dir);
    (void)snprintf(second, sizeof(second), "%s/log-b", fx.dir);
    const char *const dirs[2] = {first, second};
    fx.options.wal_dirs = dirs;
    fx.options.wal_dir_count = 2;
    fixture_open(&fx, 2);
    for (int c = 0; c < COLLECTIONS; c++) {
        char name[8];
        name_of(c, name);
        create(&fx, name, 1);
    }
    write_some(&fx, &model, 7);
    fixture_reopen(&fx, 1);
    compare(&fx, &model);
    fixture_end(&fx);
}

/* Runs `body` in a child that then dies without closing. */
static void die_after(struct fixture *fx, void (*body)(struct fixture *fx))
{
    pdb_close(fx->db);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        fixture_open(fx, fx->options.cores);
        body(fx);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    fixture_open(fx, fx->options.cores);
}

static void put_one(struct fixture *fx)
{
    const float value = 1;
    assert_done(fx, put(fx, "weak", "a", &value, 1, NULL));
    assert_done(fx, put(fx, "safe", "a", &value, 1, NULL));
}

static void an_unclean_stop_in_a_weak_mode_jumps_the_version(void **state)
{
    (void)state;
    struct fixture fx;
    const float value = 1;
    fixture_begin(&fx, 1);
    assert_done(&fx, create_with(&fx, "weak", 1, PDB_METRIC_DOT, PDB_SYNC_NEVER));
    assert_done(&fx, create_with(&fx, "safe", 1, PDB_METRIC_DOT, PDB_SYNC_ALWAYS));
    put_one(&fx);
    die_after(&fx, put_one);
    assert_false(pdb_facts(fx.db)->recovered_clean);
    assert_int_equal(row_of(&fx, "safe", "a").version, 2);
    struct pdb_collection_get g = {.name = txt("weak")};
    assert_done(&fx, do_describe(&fx, &g));
    assert_true(g.info_out.version >= (1 << 20) + 1);
    uint64_t jumped = g.info_out.version;
    assert_done(&fx, put(&fx, "weak", "b", &value, 1, NULL));
    fixture_reopen(&fx, 2);
    assert_true(pdb_facts(fx.db)->recovered_clean);
    assert_int_equal(row_of(&fx, "weak", "b").version, jumped + 1);
    fixture_end(&fx);
}

static void what_was_acknowledged_survives_a_process_that_dies(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "weak", 1);
    create(&fx, "safe", 1);
    die_after(&fx, put_one);
    assert_int_equal(row_of(&fx, "weak", "a").version, 1);
    assert_int_equal(row_of(&fx, "safe", "a").version, 1);
    fixture_end(&fx);
}

static void a_second_process_is_refused(void **state)
{
    (void)state;
    struct fixture fx;
    struct pdb *second;
    struct pdb_error error;
    char expected[400];
    fixture_begin(&fx, 1);
    assert_int_equal(pdb_open(&fx.options, &second, &error), PDB_UNAVAILABLE);
    (void)snprintf(expected, sizeof(expected),
                   "data directory '%s' is in use by another process (pid %ld)", fx.dir,
                   (long)getpid());
    assert_string_equal(error.text, expected);
    fixture_end(&fx);
}

static void a_wrong_directory_is_refused(void **state)
{
    (void)state;
    struct pdb *db;
    struct pdb_error error;
    struct pdb_options options = fixture_options("/dev/null", 1);
    assert_int_equal(pdb_open(&options, &db, &error), PDB_FAILED_PRECONDITION);
    assert_string_equal(error.text, "data directory '/dev/null': not a directory");
    options.data_dir = "/nonexistent/parent/data";
    assert_int_equal(pdb_open(&options, &db, &error), PDB_FAILED_PRECONDITION);
    options.cores = 65;
    assert_int_equal(pdb_open(&options, &db, &error), PDB_INVALID_ARGUMENT);
    assert_string_equal(error.text, "cores: at most 64, found 65");
    options.cores = 1;
    options.simd = "abacus";
    assert_int_equal(pdb_open(&options, &db, &error), PDB_INVALID_ARGUMENT);
}

/* ---- damage ---- */

static void flip_byte(const char *dir, const char *file, off_t offset)
{
    char path[400];
    unsigned char byte;
    (void)snprintf(path, sizeof(path), "%s/%s", dir, file);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    assert_int_equal(close(fd), 0);
}

static void count_line(void *arg, const char *line)
{
    assert_true(line[0] == '{' && line[strlen(line) - 1] == '}');
    (*(unsigned *)arg)++;
}

static int check_dir(const char *dir, unsigned *findings, struct pdb_error *error)
{
    struct pdb_check_options options = {.data_dir = dir, .report = count_line, .arg = findings};
    return pdb_check(&options, error);
}

static void every_flipped_bit_of_a_catalog_is_noticed(void **state)
{
    (void)state;
    struct fixture fx;
    struct pdb_error error;
    fixture_begin(&fx, 1);
    create(&fx, "c", 4);
    pdb_close(fx.db);
    char path[400];
    (void)snprintf(path, sizeof(path), "%s/catalog/2.catalog", fx.dir);
    off_t size = 0;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    size = lseek(fd, 0, SEEK_END);
    (void)close(fd);
    assert_true(size > 64);
    for (off_t at = 0; at < size; at++) {
        unsigned findings = 0;
        flip_byte(fx.dir, "catalog/2.catalog", at);
        assert_true(check_dir(fx.dir, &findings, &error) < 0);
        assert_true(findings > 0);
        flip_byte(fx.dir, "catalog/2.catalog", at);
    }
    unsigned findings = 0;
    assert_int_equal(check_dir(fx.dir, &findings, &error), 0);
    assert_int_equal(findings, 0);
    flip_byte(fx.dir, "catalog/2.catalog", 70);
    struct pdb *db;
    assert_int_equal(pdb_open(&fx.options, &db, &error), PDB_DATA_LOSS);
    assert_non_null(strstr(error.text, "2.catalog: offset 64: the body's checksum is wrong"));
    flip_byte(fx.dir, "catalog/2.catalog", 70);
    flip_byte(fx.dir, "catalog/CURRENT", 0);
    assert_int_equal(pdb_open(&fx.options, &db, &error), PDB_DATA_LOSS);
    assert_string_equal(error.text, "catalog/CURRENT is damaged");
    (void)snprintf(path, sizeof(path), "%s/catalog/CURRENT", fx.dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(pdb_open(&fx.options, &db, &error), PDB_DATA_LOSS);
    assert_non_null(strstr(error.text, "CURRENT is missing, but version 2 is there"));
    pdb_arena_free(fx.arena);
    remove_tree(fx.dir);
}

static void records_of_an_unknown_collection_refuse_the_start(void **state)
{
    (void)state;
    struct fixture fx;
    struct pdb *db;
    struct pdb_error error;
    const float value = 1;
    char command[800];
    fixture_begin(&fx, 1);
    create(&fx, "c", 1);
    assert_done(&fx, put(&fx, "c", "a", &value, 1, NULL));
    pdb_close(fx.db);
    (void)snprintf(command, sizeof(command), "rm -r '%s/catalog'", fx.dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(pdb_open(&fx.options, &db, &error), PDB_DATA_LOSS);
    assert_non_null(strstr(error.text, "which the catalog does not know"));
    unsigned findings = 0;
    assert_true(check_dir(fx.dir, &findings, &error) < 0);
    assert_int_equal(findings, 1);
    pdb_arena_free(fx.arena);
    remove_tree(fx.dir);
}

static void a_missing_log_is_told_with_its_versions(void **state)
{
    (void)state;
    struct fixture fx;
    struct pdb *db;
    struct pdb_error error;
    const float value = 1;
    char command[1200];
    fixture_begin(&fx, 1);
    create(&fx, "c", 1);
    for (int i = 0; i < 3; i++)
        assert_done(&fx, put(&fx, "c", "a", &value, 1, NULL));
    pdb_close(fx.db);
    /* Without the list of logs, as before there was one; with it the start would be refused. */
    (void)snprintf(command, sizeof(command),
                   "mv '%s/wal/0' '%s/lost' && rm '%s/catalog/LOGS' '%s/catalog/witness/LOGS'",
                   fx.dir, fx.dir, fx.dir, fx.dir);
    assert_int_equal(system(command), 0);
    fixture_open(&fx, 1);
    assert_done(&fx, put(&fx, "c", "a", &value, 1, NULL));
    pdb_close(fx.db);
    /* Now both: the version 1 of the new log comes twice. */
    (void)snprintf(command, sizeof(command), "mv '%s/lost' '%s/wal/1'", fx.dir, fx.dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(pdb_open(&fx.options, &db, &error), PDB_DATA_LOSS);
    assert_non_null(strstr(error.text, "version 1 is in the log twice"));
    pdb_arena_free(fx.arena);
    remove_tree(fx.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cores_may_change_from_start_to_start),
        cmocka_unit_test(both_encodings_and_engines_read_each_other),
        cmocka_unit_test(several_log_directories_are_all_read),
        cmocka_unit_test(an_unclean_stop_in_a_weak_mode_jumps_the_version),
        cmocka_unit_test(what_was_acknowledged_survives_a_process_that_dies),
        cmocka_unit_test(a_second_process_is_refused),
        cmocka_unit_test(a_wrong_directory_is_refused),
        cmocka_unit_test(every_flipped_bit_of_a_catalog_is_noticed),
        cmocka_unit_test(records_of_an_unknown_collection_refuse_the_start),
        cmocka_unit_test(a_missing_log_is_told_with_its_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
