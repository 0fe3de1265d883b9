/* Tests src/server/config*.c, and holds deploy/proximadb.toml and docs/operating/configuration.md
 * against the table of keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/config_internal.h"

enum { TEXT_SIZE = 32 << 10 };

/* One attempt to load, and its outcome. */
struct fixture {
    char path[64]; /* of the configuration file, when there is one */
    struct arena arena;
    struct trail trail;
    struct config config;
    int rc;
};

static int setup(void **state)
{
    struct fixture *fx = calloc(1, sizeof *fx);
    assert_non_null(fx);
    *state = fx;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fx = *state;
    if (fx->path[0] != '\0')
        (void)unlink(fx->path);
    arena_dispose(&fx->arena);
    free(fx);
    return 0;
}

static void write_file(struct fixture *fx, const char *text, size_t len)
{
    if (fx->path[0] == '\0') {
        (void)snprintf(fx->path, sizeof fx->path, "/tmp/pdb-config-XXXXXX");
        int fd = mkstemp(fx->path);
        assert_true(fd >= 0);
        (void)close(fd);
    }
    FILE *file = fopen(fx->path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

/* Loads with up to 8 arguments and variables, given as NULL-terminated lists. A list whose first
 * argument is "@" begins with --config and the fixture's file. */
static int load(struct fixture *fx, const char *const *arguments, const char *const *environment)
{
    const char *all[16];
    size_t count = 0;
    if (arguments != NULL && arguments[0] != NULL && strcmp(arguments[0], "@") == 0) {
        all[count++] = "--config";
        all[count++] = fx->path;
        arguments++;
    }
    for (; arguments != NULL && *arguments != NULL; arguments++)
        all[count++] = *arguments;
    uint64_t fail_at = fx->arena.fail_at;
    arena_dispose(&fx->arena);
    arena_init(&fx->arena, 0);
    fx->arena.fail_at = fail_at;
    trail_reset(&fx->trail);
    memset(&fx->config, 0xa5, sizeof fx->config);
    const struct config_start start = {all, count, environment};
    fx->rc = config_load(&start, &fx->arena, &fx->trail, &fx->config);
    return fx->rc;
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void must_load(struct fixture *fx, const char *const *arguments,
                      const char *const *environment)
{
    if (load(fx, arguments, environment) < 0)
        fail_msg("%s", fx->trail.text);
}

/* Expects exactly this text; a leading "@" stands for the file's path. */
static void must_refuse(struct fixture *fx, const char *const *arguments,
                        const char *const *environment, const char *expected)
{
    char text[1024];
    (void)snprintf(text, sizeof text, "%s%s", expected[0] == '@' ? fx->path : "",
                   expected[0] == '@' ? expected + 1 : expected);
    if (load(fx, arguments, environment) == 0)
        fail_msg("accepted; expected: %s", text);
    assert_string_equal(fx->trail.text, text);
    assert_int_equal(fx->rc, PDB_INVALID_ARGUMENT);
    assert_int_equal(((unsigned char *)&fx->config)[0], 0xa5); /* untouched */
}

static void file_is_refused(struct fixture *fx, const char *text, const char *expected)
{
    write_file(fx, text, strlen(text));
    must_refuse(fx, LIST("@"), NULL, expected);
}

/* ---- defaults and ways in ---- */

static void defaults_are_those_of_the_design(void **state)
{
    struct fixture *fx = *state;
    must_load(fx, NULL, NULL);
    const struct config *c = &fx->config;
    assert_int_equal(c->server.listen.count, 2);
    assert_string_equal(c->server.listen.items[0], "127.0.0.1:5678");
    assert_string_equal(c->server.listen.items[1], "127.0.0.1:5679");
    assert_int_equal(c->listener_count, 2);
    assert_string_equal(c->listeners[1].address, "127.0.0.1");
    assert_int_equal(c->listeners[1].port, 5679);
    assert_false(c->exposed);
    assert_int_equal(c->server.cores, 0);
    assert_false(c->server.insecure);
    assert_int_equal(c->server.cors_origins.count, 0);
    assert_null(c->tls.cert);
    assert_string_equal(c->storage.data_dir, "./data");
    assert_int_equal(c->storage.memory_limit, 0);
    assert_int_equal(c->storage.flush_rows, 1000000);
    assert_int_equal(c->storage.flush_bytes, 256 << 20);
    assert_int_equal(c->storage.flush_age_s, 300);
    assert_int_equal(c->storage.segments_max, 8);
    assert_int_equal(c->storage.compaction_rate_bytes_per_s, 0);
    assert_int_equal(c->snapshots.interval_s, 0);
    assert_int_equal(c->snapshots.keep, 7);
    assert_null(c->archive.url);
    assert_int_equal(c->archive.interval_s, 60);
    assert_int_equal(c->archive.base_interval_s, 86400);
    assert_int_equal(c->archive.keep, 7);
    assert_int_equal(c->disk.min_free_bytes, UINT64_C(2) << 30);
    assert_int_equal(c->wal.encoding, PDB_WAL_BINARY);
    assert_int_equal(c->wal.io_mode, PDB_WAL_DIRECT);
    assert_int_equal(c->wal.batch_window_us, 1000);
    assert_int_equal(c->wal.period_ms, 200);
    assert_int_equal(c->wal.segment_bytes, 64 << 20);
    assert_int_equal(c->wal.max_bytes, UINT64_C(4) << 30);
    assert_int_equal(c->wal.on_error, PDB_WAL_ABORT);
    assert_int_equal(c->wal.dirs.count, 0);
    assert_int_equal(c->io.engine, PDB_IO_AUTO);
    assert_true(c->reactor.pin);
    assert_int_equal(c->log.level, LOG_LEVEL_INFO);
    assert_null(c->log.file);
    assert_int_equal(c->limits.body_bytes, 64 << 20);
    assert_int_equal(c->limits.inflight_body_bytes_per_core, 256 << 20);
    assert_int_equal(c->limits.url_bytes, 8 << 10);
    assert_int_equal(c->limits.header_bytes, 16 << 10);
    assert_int_equal(c->limits.connections, 20000);
    assert_int_equal(c->limits.connections_per_address, 256);
    assert_int_equal(c->limits.request_deadline_s, 60);
    assert_int_equal(c->limits.filter_leaves, 1024);
    assert_int_equal(c->limits.metadata_bytes, 1 << 20);
    assert_null(c->file_path);
    assert_false(c->print);
}

/* Two lists of the same defaults: this one is for people, the api's for programs that embed it. */
static void default_limits_are_those_of_the_api(void **state)
{
    struct fixture *fx = *state;
    must_load(fx, NULL, NULL);
    struct config api = {.limits = api_limits_default};
    for (size_t i = 0; i < config_row_count; i++) {
        if (strncmp(config_rows[i].name, "limits.", 7) != 0)
            continue;
        uint64_t expected = config_fetch(&api, &config_rows[i]).number;
        if (config_fetch(&fx->config, &config_rows[i]).number != expected)
            fail_msg("%s is not %llu", config_rows[i].name, (unsigned long long)expected);
    }
}

static void the_strongest_source_wins(void **state)
{
    struct fixture *fx = *state;
    static const char text[] =
        "[server]\ncores = 2\nshutdown_timeout_s = 5\n[storage]\ndata_dir = 'f'\n";
    write_file(fx, text, sizeof text - 1);
    must_load(fx, LIST("@", "--cores", "4"),
              LIST("PROXIMADB_SERVER__CORES=3", "PROXIMADB_STORAGE__DATA_DIR=e", "HOME=/"));
    assert_int_equal(fx->config.server.cores, 4);
    assert_string_equal(fx->config.storage.data_dir, "e");
    assert_int_equal(fx->config.server.shutdown_timeout_s, 5);
    assert_int_equal(fx->config.wal.period_ms, 200);
    assert_string_equal(fx->config.file_path, fx->path);

    static const struct {
        const char *key;
        enum config_source source;
        uint32_t line;
    } origins[] = {{"server.cores", CONFIG_FLAG, 0},
                   {"storage.data_dir", CONFIG_ENVIRONMENT, 0},
                   {"server.shutdown_timeout_s", CONFIG_FILE, 3},
                   {"wal.period_ms", CONFIG_DEFAULT, 0}};
    for (size_t i = 0; i < 4; i++) {
        const struct config_row *row = config_row_find(origins[i].key, strlen(origins[i].key));
        assert_int_equal(fx->config.origins[row - config_rows].source, origins[i].source);
        assert_int_equal(fx->config.origins[row - config_rows].line, origins[i].line);
    }
}

static void every_kind_of_value_comes_from_the_file(void **state)
{
    struct fixture *fx = *state;
    static const char text[] =
        "server.listen = ['[::1]:80', 'localhost:0']\n"
        "server.cors_origins = ['https://a.example', 'http://b:8080', '*']\n"
        "wal = {on_error = 'readonly', dirs = ['/a', '/b'], segment_bytes = 2097152}\n"
        "[reactor]\npin = false\n[storage]\nmemory_limit = '4 GiB'\n"
        "[tls]\ncert = 'c.pem'\nkey = \"k.pem\"\n[log]\nfile = ''\n";
    write_file(fx, text, sizeof text - 1);
    must_load(fx, LIST("@"), NULL);
    const struct config *c = &fx->config;
    assert_string_equal(c->listeners[0].address, "::1");
    assert_int_equal(c->listeners[0].port, 80);
    assert_string_equal(c->listeners[1].address, "127.0.0.1");
    assert_int_equal(c->listeners[1].port, 0);
    assert_int_equal(c->server.cors_origins.count, 3);
    assert_int_equal(c->wal.on_error, PDB_WAL_READONLY);
    assert_string_equal(c->wal.dirs.items[1], "/b");
    assert_int_equal(c->wal.segment_bytes, 2 << 20);
    assert_false(c->reactor.pin);
    assert_int_equal(c->storage.memory_limit, UINT64_C(4) << 30);
    assert_string_equal(c->tls.cert, "c.pem");
    assert_null(c->log.file);
}

static void every_kind_of_value_comes_from_the_environment(void **state)
{
    struct fixture *fx = *state;
    must_load(fx, NULL,
              LIST("PROXIMADB_SERVER__LISTEN= 127.0.0.1:1 ,[::1]:2", "PROXIMADB_WAL__ENCODING=avro",
                   "PROXIMADB_REACTOR__PIN=false", "PROXIMADB_LIMITS__BODY_BYTES=1MiB",
                   "PROXIMADB_DISK__MIN_FREE_BYTES=0", "PROXIMADB_STORAGE__FLUSH_ROWS=8",
                   "PROXIMADB_STORAGE__FLUSH_BYTES=1MiB", "PROXIMADB_STORAGE__FLUSH_AGE_S=1",
                   "PROXIMADB_STORAGE__SEGMENTS_MAX=3", "PROXIMADB_WAL__MAX_BYTES=128MiB",
                   "PROXIMADB_STORAGE__COMPACTION_RATE_BYTES_PER_S=5MiB",
                   "PROXIMADB_SNAPSHOTS__INTERVAL_S=3600", "PROXIMADB_SNAPSHOTS__KEEP=24",
                   "PROXIMADB_ARCHIVE__URL=s3://bucket/archive", "PROXIMADB_ARCHIVE__INTERVAL_S=5",
                   "PROXIMADB_ARCHIVE__BASE_INTERVAL_S=3600", "PROXIMADB_ARCHIVE__KEEP=3",
                   "PROXIMADB_TLS__CERT=", "PROXIMADB_WAL__DIRS=", "PROXIMADB_LIMITS__K=7"));
    const struct config *c = &fx->config;
    assert_int_equal(c->server.listen.count, 2);
    assert_string_equal(c->server.listen.items[0], "127.0.0.1:1");
    assert_string_equal(c->listeners[1].address, "::1");
    assert_int_equal(c->wal.encoding, PDB_WAL_AVRO);
    assert_false(c->reactor.pin);
    assert_int_equal(c->limits.body_bytes, 1 << 20);
    assert_int_equal(c->disk.min_free_bytes, 0);
    assert_int_equal(c->storage.flush_rows, 8);
    assert_int_equal(c->storage.flush_bytes, 1 << 20);
    assert_int_equal(c->storage.flush_age_s, 1);
    assert_int_equal(c->storage.segments_max, 3);
    assert_int_equal(c->storage.compaction_rate_bytes_per_s, 5 << 20);
    assert_int_equal(c->snapshots.interval_s, 3600);
    assert_int_equal(c->snapshots.keep, 24);
    assert_string_equal(c->archive.url, "s3://bucket/archive");
    assert_int_equal(c->archive.interval_s, 5);
    assert_int_equal(c->archive.base_interval_s, 3600);
    assert_int_equal(c->archive.keep, 3);
    assert_int_equal(c->wal.max_bytes, 128 << 20);
    assert_null(c->tls.cert);
    assert_int_equal(c->wal.dirs.count, 0);
    assert_int_equal(c->limits.k, 7);
}

static void flags_take_their_value_in_two_ways(void **state)
{
    struct fixture *fx = *state;
    must_load(
        fx,
        LIST("--listen", "127.0.0.1:1", "--data-dir=/d=x", "--listen=[::1]:2", "--print-config"),
        LIST("PROXIMADB_SERVER__LISTEN=127.0.0.1:9"));
    assert_int_equal(fx->config.server.listen.count, 2);
    assert_string_equal(fx->config.server.listen.items[1], "[::1]:2");
    assert_string_equal(fx->config.storage.data_dir, "/d=x");
    assert_true(fx->config.print);
}

static void variables_of_others_are_left_alone(void **state)
{
    struct fixture *fx = *state;
    must_load(fx, NULL,
              LIST("PROXIMADB_SIMD=scalar", "PROXIMADB_PORT=tcp://10.0.0.1:5678",
                   "PROXIMADB_SERVICE_HOST=x__y", "PROXIMADBX__Y=1", "proximadb_server__cores=x",
                   "PROXIMADB_", "NOTHING", "PROXIMADB_SERVER__CORES"));
    assert_int_equal(fx->config.server.cores, 0);
}

/* The environment's syntax of each default must be accepted by the table's own rules through both
 * ways in. */
static void every_key_can_be_set_by_file_and_by_environment(void **state)
{
    struct fixture *fx = *state;
    must_load(fx, NULL, NULL);
    struct buffer printed;
    buffer_init_heap(&printed, NULL, 0);
    config_print(&fx->config, &printed);
    write_file(fx, printed.ptr, printed.len);
    buffer_dispose(&printed);
    must_load(fx, LIST("@"), NULL);
    for (size_t i = 0; i < config_row_count; i++)
        assert_int_equal(fx->config.origins[i].source, CONFIG_FILE);
    for (size_t i = 0; i < config_row_count; i++) {
        char variable[256];
        size_t len;
        config_env_name(&config_rows[i], variable);
        len = strlen(variable);
        (void)snprintf(variable + len, sizeof variable - len, "=%s", config_rows[i].fallback);
        must_load(fx, NULL, LIST(variable));
        assert_int_equal(fx->config.origins[i].source, CONFIG_ENVIRONMENT);
    }
}

static void the_table_fits_the_structure(void **state)
{
    (void)state;
    static const size_t sizes[] = {[CONFIG_BOOL] = sizeof(bool),
                                   [CONFIG_CHOICE] = sizeof(enum log_level),
                                   [CONFIG_TEXT] = sizeof(char *),
                                   [CONFIG_LIST] = sizeof(struct config_list)};
    for (size_t i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];
        bool is_number = row->kind == CONFIG_INTEGER || row->kind == CONFIG_SIZE;
        assert_true(is_number ? row->size == 4 || row->size == 8 : row->size == sizes[row->kind]);
        if (is_number)
            assert_true(row->max > row->min && (row->size == 8 || row->max <= UINT32_MAX));
        assert_true(strlen(row->help) > 0 && row->help[strlen(row->help) - 1] == '.');
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(row->name, config_rows[j].name);
            assert_true(row->offset != config_rows[j].offset);
        }
    }
}

/* ---- refusals ---- */

static void unknown_names_are_refused_with_the_nearest_one(void **state)
{
    struct fixture *fx = *state;
    file_is_refused(fx, "[server]\nlisen = []\n",
                    "@:2:1: unknown key 'server.lisen'; did you mean 'server.listen'?");
    file_is_refused(fx, "[storage]\nData-Dir = 'x'\n",
                    "@:2:1: unknown key 'storage.Data-Dir'; did you mean 'storage.data_dir'?");
    file_is_refused(fx, "[server]\ndata_dir = 'x'\n",
                    "@:2:1: unknown key 'server.data_dir'; did you mean 'storage.data_dir'?");
    file_is_refused(fx, "[server]\nzebra = 1\n", "@:2:1: unknown key 'server.zebra'");
    file_is_refused(fx, "\n[sever]\ncores = 1\n",
                    "@:2:2: unknown section 'sever'; did you mean 'server'?");
    file_is_refused(fx, "[zebra]\n", "@:1:2: unknown section 'zebra'");
    file_is_refused(fx, "cores = 1\n", "@:1:1: unknown key 'cores'");
    file_is_refused(fx, "\"server.cores\" = 1\n",
                    "@:1:1: unknown key '\"server.cores\"'; did you mean 'server.cores'?");
    file_is_refused(fx, "[server.tls]\ncert = 'x'\n", "@:1:9: unknown key 'server.tls'");
    file_is_refused(fx, "server = 1\n",
                    "@:1:10: expected a section, such as [server], not a value");
    must_refuse(fx, NULL, LIST("PROXIMADB_SERVER__CORE=1"),
                "unknown environment variable PROXIMADB_SERVER__CORE; did you mean "
                "PROXIMADB_SERVER__CORES?");
    must_refuse(fx, NULL, LIST("PROXIMADB_ZEBRA__X=1"),
                "unknown environment variable PROXIMADB_ZEBRA__X");
    must_refuse(fx, LIST("--core", "1"), NULL, "unknown flag '--core'; did you mean '--cores'?");
    must_refuse(fx, LIST("--zebra=1"), NULL,
                "unknown flag '--zebra'; there are --config, --data-dir, --listen, --cores, "
                "--print-config");
    must_refuse(fx, LIST("data"), NULL, "unexpected argument 'data'; flags begin with --");
}

static void wrong_types_are_refused_with_both_types(void **state)
{
    struct fixture *fx = *state;
    file_is_refused(
        fx, "[server]\ncores = 'two'\n",
        "@:2:9: server.cores: expected an integer from 0 to 64; found the string \"two\"");
    file_is_refused(fx, "[server]\ncores = 2.0\n",
                    "@:2:9: server.cores: expected an integer from 0 to 64; found a float");
    file_is_refused(fx, "[server]\ninsecure = 1\n",
                    "@:2:12: server.insecure: expected true or false; found the integer 1");
    file_is_refused(
        fx, "[server]\nlisten = 'localhost:1'\n",
        "@:2:10: server.listen: expected at least one text; found the string \"localhost:1\"");
    file_is_refused(fx, "[server]\nlisten = [\n  '*:1',\n  2]\n",
                    "@:4:3: server.listen: expected at least one text; found the integer 2");
    file_is_refused(
        fx, "[storage]\ndata_dir = 2024-01-01\n",
        "@:2:12: storage.data_dir: expected text that is not empty; found a local date");
    file_is_refused(fx, "[log]\nlevel = true\n",
                    "@:2:9: log.level: expected one of \"debug\", \"info\", \"warn\", \"error\"; "
                    "found a boolean");
    file_is_refused(fx, "[log.file]\n", "@:1:1: log.file: expected text; found a table");
    file_is_refused(fx, "[[wal]]\n", "@:1:3: expected a section, such as [server], not a value");
}

static void values_out_of_range_are_refused(void **state)
{
    struct fixture *fx = *state;
    file_is_refused(fx, "server.cores = 65\n",
                    "@:1:16: server.cores: expected an integer from 0 to 64; found 65");
    file_is_refused(fx, "server.cores = -1\n",
                    "@:1:16: server.cores: expected an integer from 0 to 64; found the integer -1");
    file_is_refused(fx, "limits.k = 0\n",
                    "@:1:12: limits.k: expected an integer from 1 to 10000; found 0");
    file_is_refused(fx, "wal.encoding = 'Avro'\n",
                    "@:1:16: wal.encoding: expected one of \"binary\", \"avro\"; found \"Avro\"");
    file_is_refused(fx, "wal.segment_bytes = '1500KiB'\n",
                    "@:1:21: wal.segment_bytes: expected a multiple of 1 MiB in bytes or with a "
                    "unit (KiB, MiB, GiB, "
                    "TiB), from 1 MiB to 4 GiB; found 1536000");
    file_is_refused(fx, "storage.memory_limit = '4GB'\n",
                    "@:1:24: storage.memory_limit: expected 0, or a size in bytes or with a unit "
                    "(KiB, MiB, GiB, TiB), "
                    "from 64 MiB; found \"4GB\"");
    file_is_refused(fx, "storage.flush_rows = 0\n",
                    "@:1:22: storage.flush_rows: expected an integer from 1 to 4294967295; found "
                    "0");
    file_is_refused(fx, "storage.flush_bytes = '1KiB'\n",
                    "@:1:23: storage.flush_bytes: expected a size in bytes or with a unit (KiB, "
                    "MiB, GiB, TiB), from 64 KiB to 1 TiB; found 1024");
    file_is_refused(fx, "storage.compaction_rate_bytes_per_s = 1\n",
                    "@:1:39: storage.compaction_rate_bytes_per_s: expected 0, or a size in bytes "
                    "or with a unit (KiB, MiB, GiB, TiB), from 1 MiB to 1 TiB; found 1");
    file_is_refused(fx, "storage.data_dir = ''\n",
                    "@:1:20: storage.data_dir: expected text that is not empty; found \"\"");
    file_is_refused(
        fx, "storage.data_dir = \"a\\u0000b\"\n",
        "@:1:20: storage.data_dir: expected text without NUL bytes; found \"a\" and more");
    file_is_refused(fx, "server.listen = []\n",
                    "@:1:17: server.listen: expected at least one text; found none");
    file_is_refused(fx, "wal.dirs = ['/a', '']\n",
                    "@:1:19: wal.dirs: expected items that are not empty");
    file_is_refused(fx, "wal.dirs = ['/a', '/b', '/a']\n",
                    "@:1:12: wal.dirs: expected different items; found \"/a\" twice");
    must_refuse(fx, NULL, LIST("PROXIMADB_SERVER__CORES=1x"),
                "environment variable PROXIMADB_SERVER__CORES: expected an integer from 0 to 64; "
                "found \"1x\"");
    must_refuse(fx, NULL, LIST("PROXIMADB_REACTOR__PIN="),
                "environment variable PROXIMADB_REACTOR__PIN: expected true or false; found \"\"");
    must_refuse(fx, NULL, LIST("PROXIMADB_LOG__FILE=a\xff"),
                "environment variable PROXIMADB_LOG__FILE: expected valid UTF-8; found a wrong "
                "byte after \"a...\"");
    must_refuse(fx, NULL, LIST("PROXIMADB_DISK__MIN_FREE_BYTES=99999999999TiB"),
                "environment variable PROXIMADB_DISK__MIN_FREE_BYTES: expected a size in bytes or "
                "with a unit (KiB, MiB, "
                "GiB, TiB), from 0; found \"99999999999TiB\"");
    must_refuse(fx, LIST("--cores", "18446744073709551616"), NULL,
                "flag --cores: expected an integer from 0 to 64; found \"18446744073709551616\"");
    must_refuse(fx, LIST("--data-dir="), NULL,
                "flag --data-dir: expected text that is not empty; found \"\"");
}

static void addresses_are_numeric_with_a_port(void **state)
{
    struct fixture *fx = *state;
    static const char *const wrong[] = {"",
                                        "5678",
                                        ":5678",
                                        "127.0.0.1",
                                        "127.0.0.1:",
                                        "127.0.0.1:65536",
                                        "127.0.0.1:+1",
                                        "::1:5678",
                                        "[::1]",
                                        "[::1]5678",
                                        "[127.0.0.1]:1",
                                        "[]:1",
                                        "[:1",
                                        "example.com:1",
                                        "127.1:1",
                                        "127.0.0.1:00001:2",
                                        "*:",
                                        "[::1%lo]:1",
                                        "1.2.3.4.5.6.7.8.9.0.1.2.3.4.5.6.7.8.9.0.1.2.3.4.5:1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char flag[128];
        (void)snprintf(flag, sizeof flag, "--listen=%s", wrong[i]);
        assert_int_equal(load(fx, LIST(flag), LIST("PROXIMADB_SERVER__INSECURE=true")),
                         PDB_INVALID_ARGUMENT);
        assert_true(strncmp(fx->trail.text, "flag --listen: expected ", 24) == 0);
    }
    must_refuse(fx, LIST("--listen", "example.com:1"), NULL,
                "flag --listen: expected ADDRESS:PORT with a numeric address, such as "
                "127.0.0.1:5678, [::1]:5678 or "
                "*:5678; found \"example.com:1\"");
    must_refuse(fx, LIST("--listen=127.0.0.1:1", "--listen=127.0.0.1:1"), NULL,
                "flag --listen: expected different items; found \"127.0.0.1:1\" twice");
    must_load(fx, LIST("--listen=127.0.0.1:0", "--listen=127.0.0.1:0"), NULL);
}

static void origins_have_no_path(void **state)
{
    struct fixture *fx = *state;
    static const char *const wrong[] = {"example.com", "https://", "https://a/",
                                        "https://a/b", "ftp://a",  "https://a?b",
                                        "https://u@a", "null",     "https://a b"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char variable[128];
        (void)snprintf(variable, sizeof variable, "PROXIMADB_SERVER__CORS_ORIGINS=%s", wrong[i]);
        assert_int_equal(load(fx, NULL, LIST(variable)), PDB_INVALID_ARGUMENT);
        assert_non_null(strstr(fx->trail.text, "scheme://host"));
    }
}

static void flags_need_one_value_each(void **state)
{
    struct fixture *fx = *state;
    must_refuse(fx, LIST("--cores"), NULL, "--cores: needs a value");
    must_refuse(fx, LIST("--config"), NULL, "--config: needs a value");
    must_refuse(fx, LIST("--config="), NULL, "--config: expected the path of a file");
    must_refuse(fx, LIST("--config=a", "--config=b"), NULL, "--config: given twice");
    must_refuse(fx, LIST("--cores=1", "--cores=1"), NULL, "--cores: given twice");
    must_refuse(fx, LIST("--print-config=1"), NULL, "--print-config: takes no value");
}

static void a_weaker_source_is_checked_although_it_loses(void **state)
{
    struct fixture *fx = *state;
    write_file(fx, "server.cores = 'x'\n", 19);
    must_refuse(fx, LIST("@", "--cores=1"), NULL,
                "@:1:16: server.cores: expected an integer from 0 to 64; found the string \"x\"");
}

static void files_that_cannot_be_read_or_parsed_are_named(void **state)
{
    struct fixture *fx = *state;
    must_refuse(fx, LIST("--config", "/nonexistent/x.toml"), NULL,
                "cannot read the configuration /nonexistent/x.toml: No such file or directory");
    must_refuse(fx, LIST("--config", "/"), NULL, "cannot read the configuration /: Is a directory");
    file_is_refused(fx, "[server]\ncores == 1\n", "@:2:8: expected a value, found '='");
    file_is_refused(fx, "[server]\n[server]\n",
                    "@:2:2: cannot define 'server': already defined on line 1 (table)");

    char *large = malloc(CONFIG_FILE_BYTES_MAX + 2);
    assert_non_null(large);
    memset(large, '\n', CONFIG_FILE_BYTES_MAX + 2);
    write_file(fx, large, CONFIG_FILE_BYTES_MAX);
    must_load(fx, LIST("@"), NULL);
    write_file(fx, large, CONFIG_FILE_BYTES_MAX + 1);
    free(large);
    assert_int_equal(load(fx, LIST("@"), NULL), PDB_INVALID_ARGUMENT);
    assert_non_null(strstr(fx->trail.text, "is larger than 262144 bytes"));
}

/* ---- rules between keys ---- */

static void other_machines_need_tls_or_a_word(void **state)
{
    struct fixture *fx = *state;
    static const char *const open[] = {
        "--listen=*:1",           "--listen=0.0.0.0:1",       "--listen=[::]:1",
        "--listen=192.168.1.2:1", "--listen=[2001:db8::1]:1", "--listen=[::ffff:10.0.0.1]:1"};
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        assert_int_equal(load(fx, LIST("--listen=127.0.0.1:2", open[i]), NULL),
                         PDB_INVALID_ARGUMENT);
        assert_non_null(strstr(fx->trail.text, "server.insecure = true"));
        must_load(fx, LIST(open[i]), LIST("PROXIMADB_SERVER__INSECURE=true"));
        assert_true(fx->config.exposed);
        must_load(fx, LIST(open[i]), LIST("PROXIMADB_TLS__CERT=c", "PROXIMADB_TLS__KEY=k"));
        assert_true(fx->config.exposed);
    }
    static const char *const closed[] = {"--listen=127.0.0.1:1", "--listen=127.9.9.9:1",
                                         "--listen=[::1]:1", "--listen=localhost:1",
                                         "--listen=[::ffff:127.0.0.1]:1"};
    for (size_t i = 0; i < sizeof closed / sizeof closed[0]; i++) {
        must_load(fx, LIST(closed[i]), NULL);
        assert_false(fx->config.exposed);
    }
    must_refuse(fx, NULL, LIST("PROXIMADB_SERVER__LISTEN=0.0.0.0:5678"),
                "server.listen (environment PROXIMADB_SERVER__LISTEN): other machines can reach "
                "0.0.0.0:5678, and there is "
                "no TLS: set tls.cert and tls.key, listen on 127.0.0.1, or set server.insecure = "
                "true to let everybody who "
                "reaches it read and change all data");
}

static void certificate_and_key_belong_together(void **state)
{
    struct fixture *fx = *state;
    must_refuse(fx, NULL, LIST("PROXIMADB_TLS__CERT=c"),
                "tls.cert (environment PROXIMADB_TLS__CERT): needs tls.key, the private key of the "
                "certificate");
    char expected[256];
    write_file(fx, "\n[tls]\nkey = 'k'\n", 17);
    (void)snprintf(expected, sizeof expected,
                   "tls.key (file %s:3): needs tls.cert, the certificate of the key", fx->path);
    must_refuse(fx, LIST("@"), NULL, expected);
}

static void the_largest_request_must_be_able_to_arrive(void **state)
{
    struct fixture *fx = *state;
    must_refuse(fx, NULL, LIST("PROXIMADB_LIMITS__BODY_BYTES=512MiB"),
                "limits.inflight_body_bytes_per_core (default): must be at least "
                "limits.body_bytes, or the largest request "
                "could never arrive");
}

static void a_log_may_hold_two_files_at_least(void **state)
{
    struct fixture *fx = *state;
    must_refuse(fx, NULL, LIST("PROXIMADB_WAL__MAX_BYTES=100MiB"),
                "wal.max_bytes (environment PROXIMADB_WAL__MAX_BYTES): must be at least "
                "twice wal.segment_bytes: the file being written and one that flushes can free");
    must_load(fx, NULL, LIST("PROXIMADB_WAL__MAX_BYTES=4MiB", "PROXIMADB_WAL__SEGMENT_BYTES=2MiB"));
}

/* ---- printing ---- */

static void what_is_printed_can_be_loaded_and_means_the_same(void **state)
{
    struct fixture *fx = *state;
    write_file(fx, "[log]\nlevel = 'debug'\n", 22);
    must_load(fx, LIST("@", "--cores=3", "--data-dir=a\"b\\c\xc3\xa9\x01"),
              LIST("PROXIMADB_WAL__DIRS=/x,/y", "PROXIMADB_LIMITS__BODY_BYTES=1536KiB",
                   "PROXIMADB_LIMITS__URL_BYTES=1001", "PROXIMADB_REACTOR__PIN=false"));
    struct buffer first, second;
    buffer_init_heap(&first, NULL, 0);
    buffer_init_heap(&second, NULL, 0);
    config_print(&fx->config, &first);
    assert_false(first.failed);
    buffer_add_byte(&first, '\0');
    char expected[160];
    (void)snprintf(expected, sizeof expected,
                   "level = \"debug\"                                 # file %s:2\n", fx->path);
    assert_non_null(strstr(first.ptr, expected));
    assert_non_null(
        strstr(first.ptr, "cores = 3                                       # flag --cores\n"));
    assert_non_null(strstr(first.ptr,
                           "dirs = [\"/x\", \"/y\"]                             # environment "
                           "PROXIMADB_WAL__DIRS\n"));
    assert_non_null(
        strstr(first.ptr, "period_ms = 200                                 # default\n"));
    assert_non_null(strstr(first.ptr, "body_bytes = \"1536KiB\" "));
    assert_non_null(strstr(first.ptr, "url_bytes = 1001 "));
    assert_non_null(strstr(first.ptr, "\n[server]\nlisten = "));

    struct config before = fx->config;
    struct arena kept = fx->arena;
    fx->arena = (struct arena){0};
    write_file(fx, first.ptr, first.len - 1);
    must_load(fx, LIST("@"), NULL);
    for (size_t i = 0; i < config_row_count; i++) {
        second.len = 0;
        first.len = 0;
        struct config_value old = config_fetch(&before, &config_rows[i]);
        struct config_value new = config_fetch(&fx->config, &config_rows[i]);
        config_print_value(&config_rows[i], &old, &first);
        config_print_value(&config_rows[i], &new, &second);
        assert_int_equal(first.len, second.len);
        assert_memory_equal(first.ptr, second.ptr, first.len);
    }
    arena_dispose(&kept);
    buffer_dispose(&first);
    buffer_dispose(&second);
}

static void secrets_are_neither_printed_nor_quoted(void **state)
{
    struct fixture *fx = *state;
    static const char *const choices[] = {"one", NULL};
    static const struct config_row rows[] = {
        {.name = "x.text",
         .kind = CONFIG_TEXT,
         .wrong = config_wrong_origin,
         .traits = CONFIG_SECRET},
        {.name = "x.choice", .kind = CONFIG_CHOICE, .choices = choices, .traits = CONFIG_SECRET},
        {.name = "x.number", .kind = CONFIG_INTEGER, .traits = CONFIG_SECRET},
    };
    for (size_t i = 0; i < 3; i++) {
        struct config_complaint complaint = {{0}};
        struct config_value value;
        int rc = config_value_from_text(&rows[i], "4711", &fx->arena, &complaint, &value);
        assert_int_equal(rc, PDB_INVALID_ARGUMENT);
        assert_null(strstr(complaint.text, "4711"));
        static const char text[] = "a = '4711'\nb = 4711\n";
        struct toml_document *doc;
        assert_int_equal(toml_parse(text, sizeof text - 1, &doc, NULL), 0);
        const struct toml_value *at = toml_root(doc)->as.children.first;
        for (; at != NULL; at = at->next) {
            const struct toml_value *blamed;
            rc = config_value_from_toml(&rows[i], at, &fx->arena, &complaint, &blamed, &value);
            assert_int_equal(rc, PDB_INVALID_ARGUMENT);
            assert_null(strstr(complaint.text, "4711"));
        }
        toml_free(doc);
    }
    struct buffer out;
    buffer_init_heap(&out, NULL, 0);
    struct config_value value = {.text = "hunter2"};
    config_print_value(&rows[0], &value, &out);
    assert_int_equal(out.len, strlen("\"<redacted>\""));
    assert_memory_equal(out.ptr, "\"<redacted>\"", out.len);
    buffer_dispose(&out);
}

/* ---- memory ---- */

static void every_allocation_may_fail(void **state)
{
    struct fixture *fx = *state;
    static const char text[] =
        "server.listen = ['127.0.0.1:1', '[::1]:2']\nwal.dirs = ['/a', '/b']\nlog.file = 'x'\n";
    write_file(fx, text, sizeof text - 1);
    uint64_t n = 1;
    for (;; n++) {
        fx->arena.fail_at = n;
        if (load(fx, LIST("@", "--data-dir=d", "--listen=127.0.0.1:3"),
                 LIST("PROXIMADB_LOG__FILE=y")) == 0)
            break;
        assert_int_equal(fx->rc, PDB_RESOURCE_EXHAUSTED);
        assert_string_equal(fx->trail.text, "configuration: out of memory");
    }
    assert_true(n > 15);
    fx->arena.fail_at = 0;
}

/* ---- files held against the table ---- */

static char *read_source(const char *name)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", SOURCE_ROOT, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("cannot open %s", path);
    char *text = calloc(1, TEXT_SIZE);
    assert_non_null(text);
    size_t len = fread(text, 1, TEXT_SIZE - 1, file);
    assert_true(len > 0 && len < TEXT_SIZE - 1);
    (void)fclose(file);
    return text;
}

/* "#key = value" becomes "key = value"; other comments stay. */
static void uncomment_keys(char *text)
{
    char *out = text;
    bool line_start = true;
    for (const char *c = text; *c != '\0'; c++) {
        if (line_start && *c == '#' && c[1] != ' ' && c[1] != '\n') {
            line_start = false;
            continue;
        }
        line_start = *c == '\n';
        *out++ = *c;
    }
    *out = '\0';
}

static void the_sample_says_every_default(void **state)
{
    struct fixture *fx = *state;
    char *text = read_source("deploy/proximadb.toml");
    write_file(fx, text, strlen(text));
    must_load(fx, LIST("@"), NULL);
    for (size_t i = 0; i < config_row_count; i++)
        assert_int_equal(fx->config.origins[i].source, CONFIG_DEFAULT);

    uncomment_keys(text);
    write_file(fx, text, strlen(text));
    free(text);
    must_load(fx, LIST("@"), NULL);
    struct buffer expected, found;
    buffer_init_heap(&expected, NULL, 0);
    buffer_init_heap(&found, NULL, 0);
    for (size_t i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];
        if (fx->config.origins[i].source != CONFIG_FILE)
            fail_msg("deploy/proximadb.toml lacks %s", row->name);
        struct config_complaint complaint;
        struct config_value fallback, value = config_fetch(&fx->config, row);
        assert_int_equal(
            config_value_from_text(row, row->fallback, &fx->arena, &complaint, &fallback), 0);
        expected.len = found.len = 0;
        config_print_value(row, &fallback, &expected);
        config_print_value(row, &value, &found);
        if (expected.len != found.len || memcmp(expected.ptr, found.ptr, found.len) != 0)
            fail_msg("deploy/proximadb.toml: %s should be %.*s", row->name, (int)expected.len,
                     expected.ptr);
    }
    buffer_dispose(&expected);
    buffer_dispose(&found);
}

static void the_documentation_has_a_line_for_every_key(void **state)
{
    struct fixture *fx = *state;
    char *text = read_source("docs/operating/configuration.md");
    size_t missing = 0;
    for (size_t i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];
        struct config_complaint complaint;
        struct config_value fallback;
        assert_int_equal(
            config_value_from_text(row, row->fallback, &fx->arena, &complaint, &fallback), 0);
        struct buffer line;
        buffer_init_heap(&line, NULL, 0);
        buffer_format(&line, "\n| `%s` | `", row->name);
        config_print_value(row, &fallback, &line);
        buffer_format(&line, "` | %s |\n", row->help);
        buffer_add_byte(&line, '\0');
        assert_false(line.failed);
        if (strstr(text, line.ptr) == NULL) {
            print_error("docs/operating/configuration.md lacks the line%s", line.ptr);
            missing++;
        }
        buffer_dispose(&line);
    }
    free(text);
    assert_int_equal(missing, 0);
}

#define CLAIM(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(defaults_are_those_of_the_design),
        CLAIM(default_limits_are_those_of_the_api),
        CLAIM(the_strongest_source_wins),
        CLAIM(every_kind_of_value_comes_from_the_file),
        CLAIM(every_kind_of_value_comes_from_the_environment),
        CLAIM(flags_take_their_value_in_two_ways),
        CLAIM(variables_of_others_are_left_alone),
        CLAIM(every_key_can_be_set_by_file_and_by_environment),
        CLAIM(the_table_fits_the_structure),
        CLAIM(unknown_names_are_refused_with_the_nearest_one),
        CLAIM(wrong_types_are_refused_with_both_types),
        CLAIM(values_out_of_range_are_refused),
        CLAIM(addresses_are_numeric_with_a_port),
        CLAIM(origins_have_no_path),
        CLAIM(flags_need_one_value_each),
        CLAIM(a_weaker_source_is_checked_although_it_loses),
        CLAIM(files_that_cannot_be_read_or_parsed_are_named),
        CLAIM(other_machines_need_tls_or_a_word),
        CLAIM(certificate_and_key_belong_together),
        CLAIM(the_largest_request_must_be_able_to_arrive),
        CLAIM(a_log_may_hold_two_files_at_least),
        CLAIM(what_is_printed_can_be_loaded_and_means_the_same),
        CLAIM(secrets_are_neither_printed_nor_quoted),
        CLAIM(every_allocation_may_fail),
        CLAIM(the_sample_says_every_default),
        CLAIM(the_documentation_has_a_line_for_every_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
