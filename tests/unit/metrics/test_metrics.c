/* The exposition, read back by a strict parser of the text format: HELP and TYPE before a family's
 * series, names and labels well formed, no series twice, buckets cumulative and complete. */
#include "metrics/metrics.h"

#include "base/map.h"
#include "base/rng.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CORES = 3 };

static struct metrics cores[CORES], process;
static const struct metrics *const core_pointers[CORES] = {&cores[0], &cores[1], &cores[2]};
static const char *const operations[] = {"upsert", "search", "health"};
static const char *const methods[] = {"Upsert", "Search", ""};

static struct metrics_snapshot snapshot_of_all(void)
{
    return (struct metrics_snapshot){
        .cores = core_pointers,
        .core_count = CORES,
        .process = &process,
        .operations = operations,
        .methods = methods,
        .operation_count = 3,
        .version = TEXT_LIT("0.1.0"),
        .commit = TEXT_LIT("abc"),
        .io_engine = TEXT_LIT("threads"),
        .io_reason = TEXT_LIT("a \"quoted\\\n reason"),
    };
}

static int clear(void **state)
{
    (void)state;
    memset(cores, 0, sizeof(cores));
    memset(&process, 0, sizeof(process));
    return 0;
}

static char *exposition(const struct metrics_snapshot *s)
{
    struct buffer out;
    buffer_init_heap(&out, NULL, 0);
    metrics_write_prometheus(&out, s);
    buffer_add_byte(&out, '\0');
    assert_false(out.failed);
    return out.ptr;
}

static bool has_line(const char *text, const char *line)
{
    size_t len = strlen(line);
    for (const char *at = text; (at = strstr(at, line)) != NULL; at++) {
        if ((at == text || at[-1] == '\n') && at[len] == '\n')
            return true;
    }
    return false;
}

static void assert_line(const char *text, const char *line)
{
    if (!has_line(text, line))
        fail_msg("missing: %s", line);
}

/* ---- the parser ---- */

struct parse {
    char family[128], type[256];
    bool seen_help;
    struct map series; /* each series' text, by pointer into the copy */
    uint64_t bucket_last;
    double bound_last;
    char bucket_labels[1024];
    size_t lines;
};

static bool same_text(const void *owner, uint64_t value, const void *key, size_t key_len)
{
    (void)owner;
    const char *held = (const char *)(uintptr_t)value;
    return strlen(held) == key_len && memcmp(held, key, key_len) == 0;
}

static bool is_name(const char *at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool ok = (at[i] >= 'a' && at[i] <= 'z') || at[i] == '_' ||
                  (i > 0 && at[i] >= '0' && at[i] <= '9');
        if (!ok)
            return false;
    }
    return len > 0;
}

/* Behind {; returns what follows the }. The labels without le go to `others`. */
static char *parse_labels(char *at, char *others, double *le_out)
{
    *le_out = -1;
    for (;;) {
        char *equals = strchr(at, '=');
        assert_non_null(equals);
        assert_true(is_name(at, (size_t)(equals - at)));
        assert_int_equal(equals[1], '"');
        char *value = equals + 2, *end = value;
        for (; *end != '"'; end++) {
            assert_true(*end != '\0' && *end != '\n');
            if (*end == '\\') {
                end++;
                assert_true(*end == '\\' || *end == '"' || *end == 'n');
            }
        }
        if (strncmp(at, "le=", 3) == 0)
            *le_out = strncmp(value, "+Inf\"", 5) == 0 ? 1e300 : strtod(value, NULL);
        else
            strncat(others, at, (size_t)(end + 1 - at));
        at = end + 1;
        if (*at == '}')
            return at + 1;
        assert_int_equal(*at, ',');
        at++;
    }
}

static void parse_head(struct parse *p, const char *line)
{
    char name[128], rest[128];
    assert_int_equal(sscanf(line + 7, "%127s %127[^\n]", name, rest), 2);
    if (line[2] == 'H') {
        assert_string_not_equal(name, p->family);
        (void)snprintf(p->family, sizeof(p->family), "%s", name);
        p->seen_help = true;
        p->type[0] = '\0';
        p->bucket_labels[0] = '\0';
        return;
    }
    assert_true(p->seen_help);
    assert_string_equal(name, p->family);
    (void)snprintf(p->type, sizeof(p->type), "%s", rest);
    bool total = strlen(name) > 6 && strcmp(name + strlen(name) - 6, "_total") == 0;
    assert_int_equal(total, strcmp(rest, "counter") == 0);
    assert_int_equal(strncmp(name, "proximadb_", 10), 0);
}

static void parse_bucket(struct parse *p, const char *suffix, const char *others, double le,
                         uint64_t value)
{
    if (strcmp(suffix, "_bucket") == 0) {
        assert_true(le >= 0);
        if (strcmp(p->bucket_labels, others) != 0 || p->bound_last > 1e299) {
            (void)snprintf(p->bucket_labels, sizeof(p->bucket_labels), "%s", others);
            p->bucket_last = 0;
            p->bound_last = -1;
        }
        assert_true(le > p->bound_last);
        assert_true(value >= p->bucket_last);
        p->bound_last = le;
        p->bucket_last = value;
    } else if (strcmp(suffix, "_count") == 0) {
        assert_int_equal(value, p->bucket_last);
        assert_true(p->bound_last > 1e299);
    } else {
        assert_string_equal(suffix, "_sum");
    }
}

static void parse_sample(struct parse *p, char *line)
{
    char others[1024] = "";
    double le = -1;
    size_t name_len = strcspn(line, "{ ");
    char *at = line + name_len;
    size_t family_len = strlen(p->family);
    assert_true(is_name(line, name_len));
    assert_true(p->type[0] != '\0');
    assert_int_equal(strncmp(line, p->family, family_len), 0);
    if (*at == '{')
        at = parse_labels(at + 1, others, &le);
    assert_int_equal(*at, ' ');
    *at = '\0';
    char *end = NULL;
    double value = strtod(at + 1, &end);
    assert_true(end != at + 1 && *end == '\0' && value >= 0);

    uint64_t hash = 1469598103934665603u;
    for (const char *c = line; *c != '\0'; c++)
        hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    uint64_t found = 0;
    if (map_find(&p->series, hash, line, strlen(line), &found))
        fail_msg("twice: %s", line);
    assert_int_equal(map_reserve(&p->series, 1), 0);
    map_put(&p->series, hash, line, strlen(line), (uint64_t)(uintptr_t)line, NULL);

    char suffix[16];
    (void)snprintf(suffix, sizeof(suffix), "%.*s", (int)(name_len - family_len), line + family_len);
    if (strcmp(p->type, "histogram") == 0)
        parse_bucket(p, suffix, others, le, (uint64_t)value);
    else
        assert_string_equal(suffix, "");
}

static size_t check_format(const char *text)
{
    struct parse p = {.lines = 0};
    size_t len = strlen(text);
    char *copy = test_malloc(len + 1);
    memcpy(copy, text, len + 1);
    assert_true(len > 0 && text[len - 1] == '\n');
    map_init(&p.series, NULL, same_text, NULL);
    for (char *line = copy, *end; *line != '\0'; line = end + 1) {
        end = strchr(line, '\n');
        *end = '\0';
        if (line[0] == '#')
            parse_head(&p, line);
        else
            parse_sample(&p, line);
        p.lines++;
    }
    map_dispose(&p.series);
    test_free(copy);
    return p.lines;
}

/* ---- tests ---- */

static void an_idle_server_has_a_well_formed_exposition(void **state)
{
    (void)state;
    struct metrics_snapshot s = snapshot_of_all();
    char *text = exposition(&s);
    assert_true(check_format(text) > 300);
    assert_line(text, "proximadb_build_info{version=\"0.1.0\",commit=\"abc\"} 1");
    assert_line(
        text,
        "proximadb_io_engine_info{engine=\"threads\",reason=\"a \\\"quoted\\\\\\n reason\"} 1");
    assert_line(text, "proximadb_wal_poisoned{core=\"2\"} 0");
    assert_null(strstr(text, "proximadb_http_requests_total{"));
    free(text);
}

static void every_slot_that_moves_is_seen(void **state)
{
    (void)state;
    struct metrics_snapshot s = snapshot_of_all();
    for (unsigned i = 0; i < METRICS_VALUE_COUNT; i++)
        metrics_set(&cores[0], i, 1000 + i);
    for (unsigned i = 0; i < METRICS_HISTOGRAM_COUNT; i++)
        metrics_time(&cores[0], i, 1000 * (uint64_t)(i + 1));
    char *text = exposition(&s);
    check_format(text);
    /* All but the operations without a name (three and `other` have one, of the methods two and
     * `other`). */
    unsigned shown = 0;
    for (unsigned i = 0; i < METRICS_VALUE_COUNT; i++) {
        char value[32];
        (void)snprintf(value, sizeof(value), "} %u\n", 1000 + i);
        shown += strstr(text, value) != NULL;
    }
    /* Slots in seconds show another number, those without labels have no brace. */
    unsigned unnamed = (METRICS_OPERATIONS_MAX - 4) * METRICS_STATUS_END +
                       (METRICS_OPERATIONS_MAX - 3) * METRICS_CODE_END;
    assert_true(shown + unnamed <= METRICS_VALUE_COUNT);
    assert_true(shown + unnamed + 45 >= METRICS_VALUE_COUNT);
    assert_line(text, "proximadb_uptime_seconds 0.000001");
    free(text);
}

static void cores_are_shown_apart_or_added(void **state)
{
    (void)state;
    struct metrics_snapshot s = snapshot_of_all();
    for (unsigned core = 0; core < CORES; core++) {
        metrics_add(&cores[core], METRICS_REACTOR_BUSY_AT, 1500000000 * (uint64_t)core);
        metrics_add(&cores[core], METRICS_IO_OPS_AT + METRICS_IO_SYNC, 10 + core);
        metrics_add(&cores[core],
                    METRICS_WRITES_AT +
                        METRICS_PLACE(RESULT, METRICS_WRITE_DELETE, METRICS_RESULT_REFUSED),
                    2);
        metrics_add(&cores[core],
                    METRICS_HTTP_REQUESTS_AT + METRICS_PLACE(STATUS, 1, metrics_status(404)), 1);
        metrics_add(&cores[core],
                    METRICS_GRPC_REQUESTS_AT + METRICS_PLACE(CODE, METRICS_OPERATIONS_MAX - 1, 12),
                    1);
        metrics_time(&cores[core], METRICS_IO_DURATION_IN + METRICS_IO_READ, 3000000);
        metrics_set(&cores[core], METRICS_SEGMENTS_AT + METRICS_STATE_QUARANTINED, core);
        metrics_add(&cores[core], METRICS_COMPACTION_BYTES_AT + METRICS_MOVED_WRITTEN, 100 + core);
        metrics_add(&cores[core], METRICS_FLUSH_ERRORS_AT + METRICS_FAULT_EXHAUSTED, 1);
        metrics_add(&cores[core], METRICS_INDEX_REBUILDS_AT + METRICS_REBUILD_DAMAGED, 2);
        metrics_time(&cores[core], METRICS_FLUSH_IN, 3000000);
        histogram_record_count(&cores[core].histograms[METRICS_WAL_GROUP_RECORDS_IN], 7);
    }
    metrics_set(&process, METRICS_MEMORY_AT + METRICS_MEMORY_RSS, 123456);
    metrics_set(&process, METRICS_UPTIME_AT, 1234567890);
    metrics_set(&process, METRICS_DISK_AT + METRICS_PLACE(DISK, METRICS_DIR_WAL, METRICS_DISK_FREE),
                5);
    char *text = exposition(&s);
    check_format(text);
    assert_line(text, "proximadb_reactor_busy_seconds_total{core=\"0\"} 0");
    assert_line(text, "proximadb_reactor_busy_seconds_total{core=\"1\"} 1.5");
    assert_line(text, "proximadb_reactor_busy_seconds_total{core=\"2\"} 3");
    assert_line(text, "proximadb_io_ops_total{op=\"sync\"} 33");
    assert_line(text, "proximadb_writes_total{op=\"delete\",result=\"refused\"} 6");
    assert_line(text, "proximadb_http_requests_total{operation=\"search\",status=\"404\"} 3");
    assert_line(text, "proximadb_grpc_requests_total{method=\"other\",code=\"UNIMPLEMENTED\"} 3");
    assert_line(text, "proximadb_io_duration_seconds_bucket{op=\"read\",le=\"0.002\"} 0");
    assert_line(text, "proximadb_io_duration_seconds_bucket{op=\"read\",le=\"0.005\"} 3");
    assert_line(text, "proximadb_io_duration_seconds_bucket{op=\"read\",le=\"+Inf\"} 3");
    assert_line(text, "proximadb_io_duration_seconds_sum{op=\"read\"} 0.009");
    assert_line(text, "proximadb_io_duration_seconds_count{op=\"read\"} 3");
    assert_line(text, "proximadb_wal_group_records_bucket{core=\"1\",le=\"5\"} 0");
    assert_line(text, "proximadb_wal_group_records_bucket{core=\"1\",le=\"10\"} 1");
    assert_line(text, "proximadb_wal_group_records_sum{core=\"1\"} 7");
    assert_line(text, "proximadb_segments{core=\"2\",state=\"quarantined\"} 2");
    assert_line(text, "proximadb_segments{core=\"2\",state=\"disk\"} 0");
    assert_line(text, "proximadb_compaction_bytes_total{core=\"1\",kind=\"written\"} 101");
    assert_line(text, "proximadb_flush_errors_total{core=\"0\",reason=\"exhausted\"} 1");
    assert_line(text, "proximadb_index_rebuilds_total{core=\"1\",reason=\"damaged\"} 2");
    assert_line(text, "proximadb_flush_duration_seconds_count{core=\"2\"} 1");
    assert_line(text, "proximadb_memory_bytes{kind=\"rss\"} 123456");
    assert_line(text, "proximadb_uptime_seconds 1.23456789");
    assert_line(text, "proximadb_disk_bytes{dir=\"wal\",kind=\"free\"} 5");
    free(text);
}

static void statuses_and_errnos_find_their_place(void **state)
{
    (void)state;
    assert_int_equal(metrics_status(200), METRICS_STATUS_200);
    assert_int_equal(metrics_status(507), METRICS_STATUS_507);
    assert_int_equal(metrics_status(418), METRICS_STATUS_OTHER);
    assert_int_equal(metrics_status(1200), METRICS_STATUS_OTHER);
    assert_int_equal(metrics_status(-1), METRICS_STATUS_OTHER);
    assert_int_equal(metrics_errno(EIO), METRICS_ERRNO_EIO);
    assert_int_equal(metrics_errno(-ENOSPC), METRICS_ERRNO_ENOSPC);
    assert_int_equal(metrics_errno(ENOMEM), METRICS_ERRNO_ENOMEM);
    assert_int_equal(metrics_errno(EINTR), METRICS_ERRNO_OTHER);
}

static void merging_two_cores_adds_everything(void **state)
{
    (void)state;
    for (unsigned i = 0; i < METRICS_VALUE_COUNT; i++) {
        cores[0].values[i] = i;
        cores[1].values[i] = 2 * (uint64_t)i;
    }
    for (unsigned i = 0; i < METRICS_HISTOGRAM_COUNT; i++) {
        metrics_time(&cores[0], i, 5);
        metrics_time(&cores[1], i, 7);
    }
    metrics_merge(&cores[0], &cores[1]);
    for (unsigned i = 0; i < METRICS_VALUE_COUNT; i++)
        assert_int_equal(cores[0].values[i], 3 * (uint64_t)i);
    for (unsigned i = 0; i < METRICS_HISTOGRAM_COUNT; i++) {
        assert_int_equal(histogram_count(&cores[0].histograms[i]), 2);
        assert_int_equal(cores[0].histograms[i].sum_ns, 12);
    }
}

static void ten_thousand_collections_stay_within_the_cap(void **state)
{
    (void)state;
    enum { COUNT = 10000, NAME = 32 };
    struct metrics_collection *list = test_calloc(COUNT, sizeof(*list));
    char *names = test_calloc(COUNT, NAME);
    for (size_t i = 0; i < COUNT; i++) {
        char *name = names + i * NAME;
        int len = i == 17 ? snprintf(name, NAME, "other") : snprintf(name, NAME, "c\"%zu", i);
        list[i].name = (struct pdb_text){name, (size_t)len};
        list[i].rows = 1;
        list[i].bytes = 100;
        histogram_record(&list[i].search[METRICS_PLAN_FLAT], 1000000);
    }
    struct metrics_snapshot s = snapshot_of_all();
    s.collections = list;
    s.collection_count = COUNT;
    char *text = exposition(&s);
    size_t lines = check_format(text);
    assert_true(lines < 1000 * 32 + 3000);
    assert_line(text, "proximadb_memtable_rows{collection=\"c\\\"0\"} 1");
    assert_line(text, "proximadb_memtable_rows{collection=\"c\\\"999\"} 1");
    assert_null(strstr(text, "c\\\"1000\""));
    assert_line(text, "proximadb_memtable_rows{collection=\"other\"} 9001");
    assert_line(text, "proximadb_memtable_bytes{collection=\"other\"} 900100");
    assert_line(text,
                "proximadb_search_duration_seconds_count{collection=\"other\",plan=\"flat\"} 9001");
    free(text);
    test_free(list);
    test_free(names);
}

static void recall_is_told_of_each_field_where_it_is_known(void **state)
{
    (void)state;
    const struct metrics_recall recalls[] = {{{"", 0}, 1}, {{"image", 5}, 0.96875}};
    const struct metrics_collection list[] = {
        {.name = {"a", 1}, .recalls = recalls, .recall_count = 2}, {.name = {"b", 1}}};
    struct metrics_snapshot s = snapshot_of_all();
    s.collections = list;
    s.collection_count = 2;
    char *text = exposition(&s);
    (void)check_format(text);
    assert_line(text, "proximadb_recall_estimate{collection=\"a\",field=\"\"} 1");
    assert_line(text, "proximadb_recall_estimate{collection=\"a\",field=\"image\"} 0.96875");
    assert_null(strstr(text, "recall_estimate{collection=\"b\""));
    free(text);
}

static void a_label_too_long_is_cut_and_stays_well_formed(void **state)
{
    (void)state;
    char reason[2000];
    memset(reason, '"', sizeof(reason));
    for (size_t len = 600; len < sizeof(reason); len += 199) {
        struct metrics_snapshot s = snapshot_of_all();
        s.io_reason = (struct pdb_text){reason, len};
        s.io_engine = (struct pdb_text){reason, len % 7};
        char *text = exposition(&s);
        check_format(text);
        free(text);
    }
}

static void a_failed_allocation_marks_the_buffer(void **state)
{
    (void)state;
    struct metrics_snapshot s = snapshot_of_all();
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        struct heap heap = {.fail_at = n};
        struct buffer out;
        buffer_init_heap(&out, &heap, 0);
        metrics_write_prometheus(&out, &s);
        done = !out.failed;
        assert_true(done || n < 100);
        buffer_dispose(&out);
        assert_int_equal(heap.bytes_used, 0);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, clear)
    const struct CMUnitTest tests[] = {
        TEST(an_idle_server_has_a_well_formed_exposition),
        TEST(every_slot_that_moves_is_seen),
        TEST(cores_are_shown_apart_or_added),
        TEST(statuses_and_errnos_find_their_place),
        TEST(merging_two_cores_adds_everything),
        TEST(ten_thousand_collections_stay_within_the_cap),
        TEST(recall_is_told_of_each_field_where_it_is_known),
        TEST(a_label_too_long_is_cut_and_stays_well_formed),
        TEST(a_failed_allocation_marks_the_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
