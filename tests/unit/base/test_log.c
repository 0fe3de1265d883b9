/* The log writes to a pipe or a file that the test reads back. */
#include "base/log.h"

#include "base/arena.h"
#include "base/json.h"

#include <fcntl.h>
#include <proximadb/error.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { THREADS = 4, LINES = 400 };

static char path[64];

static int make_path(void **state)
{
    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/test_log_XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static struct pdb_text read_file(struct arena *arena)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    struct buffer out;
    buffer_init_arena(&out, arena, 0);
    for (;;) {
        char *at = buffer_reserve(&out, 65536);
        ssize_t got = read(fd, at, 65536);
        assert_true(got >= 0);
        if (got == 0)
            break;
        out.len += (size_t)got;
    }
    buffer_add_byte(&out, '\0');
    (void)close(fd);
    return (struct pdb_text){out.ptr, out.len - 1};
}

static void start(enum log_level level, bool json)
{
    struct log_options options = {.level = level, .json = json, .path = path};
    assert_int_equal(log_start(&options), 0);
}

/* A line of its own site each time: no limit. */
static void write_line(enum log_level level, int thread, int line)
{
    struct log_site site = {0};
    log_write(&site, level, "test", "thread=%d line=%d", thread, line);
}

static void *write_lines(void *arg)
{
    int thread = *(int *)arg;
    assert_int_equal(log_thread_attach(thread), 0);
    for (int line = 0; line < LINES; line++)
        write_line(LOG_LEVEL_INFO, thread, line);
    log_thread_detach();
    return NULL;
}

/* Reads the fields of a JSON line; fails the test if it is not one. */
static void parse_line(struct arena *arena, struct pdb_text line, int64_t *core_out,
                       struct pdb_text *level_out, struct pdb_text *msg_out)
{
    struct json_reader r;
    struct trail trail = {0};
    struct pdb_text key, value;
    bool first = true;
    unsigned fields = 0;
    json_open(&r, line.ptr, line.len, 4, &trail);
    assert_int_equal(json_enter_object(&r), 0);
    while (json_object_next(&r, arena, &first, &key) > 0) {
        fields++;
        if (text_equal(key, TEXT_LIT("core"))) {
            *core_out = -1;
            if (json_peek(&r) == JSON_NULL)
                assert_int_equal(json_read_null(&r), 0);
            else
                assert_int_equal(json_read_i64(&r, core_out), 0);
            continue;
        }
        assert_int_equal(json_read_string(&r, arena, &value), 0);
        if (text_equal(key, TEXT_LIT("level")))
            *level_out = value;
        else if (text_equal(key, TEXT_LIT("msg")))
            *msg_out = value;
        else
            assert_true(text_equal(key, TEXT_LIT("ts")) || text_equal(key, TEXT_LIT("module")));
    }
    if (json_finish(&r) != 0 || fields != 5)
        fail_msg("%.*s: %s", TEXT_ARG(line), trail.text);
}

/* The next line of the text, or false. */
static bool next_line(struct pdb_text *rest, struct pdb_text *line_out)
{
    if (rest->len == 0)
        return false;
    const char *end = memchr(rest->ptr, '\n', rest->len);
    assert_non_null(end);
    *line_out = (struct pdb_text){rest->ptr, (size_t)(end - rest->ptr)};
    rest->len -= line_out->len + 1;
    rest->ptr = end + 1;
    return true;
}

static void lines_of_all_threads_arrive_whole_and_in_their_order(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 0};
    pthread_t threads[THREADS];
    int numbers[THREADS], next[THREADS] = {0};
    uint64_t dropped = log_dropped_total();
    start(LOG_LEVEL_DEBUG, true);
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    log_stop();
    struct pdb_text rest = read_file(&arena), line, level, msg;
    uint64_t seen = 0;
    for (; next_line(&rest, &line); seen++) {
        int64_t core = -2;
        int thread = -1, number = -1;
        parse_line(&arena, line, &core, &level, &msg);
        char copy[64];
        (void)snprintf(copy, sizeof(copy), "%.*s", TEXT_ARG(msg));
        assert_int_equal(sscanf(copy, "thread=%d line=%d", &thread, &number), 2);
        assert_int_equal(core, thread);
        assert_true(number >=
                    next[thread]); /* in order; a full ring leaves gaps, which are counted */
        next[thread] = number + 1;
        assert_true(text_equal(level, TEXT_LIT("INFO")));
    }
    assert_int_equal(seen + (log_dropped_total() - dropped), THREADS * LINES);
    assert_true(seen > 0);
    arena_dispose(&arena);
}

static void a_message_is_escaped_whatever_it_holds(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 0};
    start(LOG_LEVEL_DEBUG, true);
    struct log_site site = {0};
    log_write(&site, LOG_LEVEL_ERROR, "test", "a\"b\\c\nd\te\x01 \xff\xc3\xa4\xed\xa0\x80");
    log_write(&site, LOG_LEVEL_WARN, "test", "%3000d", 1);
    log_stop();
    struct pdb_text rest = read_file(&arena), line, level, msg;
    int64_t core = 0;
    assert_true(next_line(&rest, &line));
    parse_line(&arena, line, &core, &level, &msg);
    assert_int_equal(core, -1);
    assert_true(text_equal(level, TEXT_LIT("ERROR")));
    static const char want[] =
        "a\"b\\c\nd\te\x01 \xef\xbf\xbd\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd";
    assert_true(text_equal(msg, TEXT_LIT(want)));
    assert_true(next_line(&rest, &line));
    parse_line(&arena, line, &core, &level, &msg);
    assert_true(msg.len > 1000 && msg.len < 3000); /* cut, and still JSON */
    assert_false(next_line(&rest, &line));
    arena_dispose(&arena);
}

static void lower_levels_are_left_out(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 0};
    start(LOG_LEVEL_WARN, false);
    assert_int_equal(log_thread_attach(7), 0);
    write_line(LOG_LEVEL_DEBUG, 0, 1);
    write_line(LOG_LEVEL_INFO, 0, 2);
    write_line(LOG_LEVEL_WARN, 0, 3);
    write_line(LOG_LEVEL_ERROR, 0, 4);
    struct log_site site = {0};
    log_write(&site, LOG_LEVEL_WARN, "test", "a \"name\"\nforged");
    log_thread_detach();
    log_stop();
    struct pdb_text text = read_file(&arena);
    assert_null(strstr(text.ptr, "line=1"));
    assert_null(strstr(text.ptr, "line=2"));
    assert_non_null(strstr(text.ptr, "Z WARN  [7] test: thread=0 line=3\n"));
    assert_non_null(strstr(text.ptr, "Z ERROR [7] test: thread=0 line=4\n"));
    assert_non_null(strstr(text.ptr, "Z WARN  [7] test: a \"name\"\\nforged\n"));
    arena_dispose(&arena);
}

static void repeats_of_a_site_are_limited_and_told(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 0};
    struct log_site site = {0};
    start(LOG_LEVEL_INFO, false);
    for (int i = 0; i < 50; i++)
        log_write(&site, LOG_LEVEL_INFO, "test", "number=%d", i);
    assert_int_equal(site.in_window, 10);
    assert_int_equal(site.left_out, 40);
    site.window_start_ns -= 1000000001; /* as if a second had passed */
    log_write(&site, LOG_LEVEL_INFO, "test", "number=%d", 50);
    log_stop();
    struct pdb_text text = read_file(&arena);
    assert_non_null(strstr(text.ptr, "number=9\n"));
    assert_null(strstr(text.ptr, "number=10\n"));
    const char *told = strstr(text.ptr, "left out 40 lines");
    assert_non_null(told);
    assert_non_null(strstr(told, "number=50\n"));
    arena_dispose(&arena);
}

/* A pipe that nobody reads: lines are dropped and counted, the writers do not wait, and stop comes
 * to an end. */
static void a_blocked_output_drops_and_never_blocks_the_writers(void **state)
{
    (void)state;
    int ends[2], saved = dup(STDERR_FILENO);
    assert_true(saved >= 0);
    assert_int_equal(pipe(ends), 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    struct log_options options = {.level = LOG_LEVEL_INFO, .json = true};
    int rc = log_start(&options);
    uint64_t dropped = log_dropped_total();
    if (rc == 0)
        rc = log_thread_attach(0);
    for (int i = 0; rc == 0 && i < 20000;
         i++) /* some 2 MB into 64 KiB of pipe and 64 KiB of ring */
        write_line(LOG_LEVEL_INFO, 0, i);
    uint64_t now = log_dropped_total();
    log_thread_detach();
    log_stop();
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    (void)close(saved);
    (void)close(ends[0]);
    (void)close(ends[1]);
    assert_int_equal(rc, 0);
    assert_true(now - dropped > 10000);
}

static void starting_twice_or_where_nothing_can_be_written_is_an_error(void **state)
{
    (void)state;
    start(LOG_LEVEL_INFO, true);
    struct log_options options = {.level = LOG_LEVEL_INFO, .path = path};
    assert_int_equal(log_start(&options), PDB_FAILED_PRECONDITION);
    log_stop();
    log_stop();
    options.path = "/nonexistent/dir/log";
    assert_true(log_start(&options) < 0);
    assert_int_equal(log_thread_attach(1), 0);
    assert_int_equal(log_thread_attach(2), 0); /* again: only the number changes */
    log_thread_detach();
    log_thread_detach();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_path, remove_path)
    const struct CMUnitTest tests[] = {
        TEST(lines_of_all_threads_arrive_whole_and_in_their_order),
        TEST(a_message_is_escaped_whatever_it_holds),
        TEST(lower_levels_are_left_out),
        TEST(repeats_of_a_site_are_limited_and_told),
        TEST(a_blocked_output_drops_and_never_blocks_the_writers),
        TEST(starting_twice_or_where_nothing_can_be_written_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
