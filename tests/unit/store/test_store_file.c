/* A folder as a store: what only a folder can suffer - links, strangers' files, races between
 * processes, full disks, rot. */
#include "base/clock.h"
#include "store/store_internal.h"

#include "store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static char folder[64];

static int set_up(void **state)
{
    fixture_folder(folder);
    *state = fixture_open(folder);
    return 0;
}

static int tear_down(void **state)
{
    store_close(*state);
    fixture_remove(folder);
    return 0;
}

static const char *inside(const char *name)
{
    static char path[2][192];
    static unsigned next;
    char *to = path[next++ % 2];
    (void)snprintf(to, sizeof(path[0]), "%s/%s", folder, name);
    return to;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void links_lead_nowhere(void **state)
{
    struct store *store = *state;
    struct store_info info;
    struct fixture_keys keys = {0};
    char outside[64];
    fixture_folder(outside);
    assert_int_equal(symlink(outside, inside("out")), 0);
    assert_int_equal(symlink("/etc/passwd", inside("file")), 0);
    assert_true(fixture_put(store, "out/x", "1", STORE_ALWAYS, NULL, NULL) < 0);
    assert_true(store_head(store, NULL, TEXT_LIT("out/x"), &info) < 0);
    assert_int_equal(store_head(store, NULL, TEXT_LIT("file"), &info), PDB_PERMISSION_DENIED);
    assert_string_equal(fixture_list(store, "", "", &keys), "");
    /* A put replaces the link itself, not what it points to. */
    assert_int_equal(fixture_put(store, "file", "ours", STORE_ALWAYS, NULL, NULL), 0);
    fixture_expect(store, "file", "ours");
    fixture_remove(outside);
}

static void strangers_files_are_not_shown(void **state)
{
    struct store *store = *state;
    struct fixture_keys keys = {0};
    struct store_info info;
    write_file(inside(".hidden"), "x");
    write_file(inside("with blank"), "x");
    assert_int_equal(mkfifo(inside("pipe"), 0600), 0);
    assert_int_equal(mkdir(inside("empty"), 0700), 0);
    write_file(inside("copied"), "in by hand");
    assert_string_equal(fixture_list(store, "", "", &keys), "copied");
    fixture_expect(store, "copied", "in by hand");
    assert_int_equal(store_head(store, NULL, TEXT_LIT("pipe"), &info), PDB_NOT_FOUND);
    assert_int_equal(store_head(store, NULL, TEXT_LIT("empty"), &info), PDB_NOT_FOUND);
    assert_int_equal(store_delete(store, NULL, TEXT_LIT("empty")), 0);
    assert_int_equal(fixture_put(store, "empty", "x", STORE_ALWAYS, NULL, NULL),
                     PDB_INVALID_ARGUMENT);
    assert_true(fixture_put(store, "copied/x", "x", STORE_ALWAYS, NULL, NULL) < 0);
}

static void a_failed_put_leaves_no_file(void **state)
{
    struct store *store = *state;
    struct fixture_keys keys = {0};
    char command[160];
    assert_int_equal(fixture_put(store, "k", "1", STORE_ALWAYS, NULL, NULL), 0);
    assert_int_equal(fixture_put(store, "k", "2", STORE_IF_ABSENT, NULL, NULL), PDB_ALREADY_EXISTS);
    assert_int_equal(fixture_put(store, "k", "2", STORE_IF_MATCH, "x", NULL),
                     PDB_FAILED_PRECONDITION);
    (void)snprintf(command, sizeof(command), "test -z \"$(find %s -name '.tmp*')\"", folder);
    assert_int_equal(system(command), 0);
    assert_string_equal(fixture_list(store, "", "", &keys), "k");
}

/* A file size limit fails a write in the middle as a full disk does. */
static void a_full_disk_keeps_the_old_object(void **state)
{
    struct store *store = *state;
    static char large[256 * 1024];
    char command[160];
    struct rlimit old, small = {.rlim_cur = 64 * 1024};
    memset(large, 'x', sizeof(large) - 1);
    assert_int_equal(fixture_put(store, "k", "old", STORE_ALWAYS, NULL, NULL), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int rc = fixture_put(store, "k", large, STORE_ALWAYS, NULL, NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(rc, PDB_RESOURCE_EXHAUSTED);
    fixture_expect(store, "k", "old");
    (void)snprintf(command, sizeof(command), "test -z \"$(find %s -name '.tmp*')\"", folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(fixture_put(store, "k", large, STORE_ALWAYS, NULL, NULL), 0);
    fixture_expect(store, "k", large);
}

static void a_failed_get_removes_its_file(void **state)
{
    struct store *store = *state;
    static char large[256 * 1024];
    uint64_t len = 0;
    struct rlimit old, small = {.rlim_cur = 64 * 1024};
    memset(large, 'x', sizeof(large) - 1);
    assert_int_equal(fixture_put(store, "k", large, STORE_ALWAYS, NULL, NULL), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    struct store_get_request get = {
        .key = TEXT_LIT("k"), .len = STORE_TO_END, .path = inside(".got")};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int rc = store_get(store, NULL, &get, &len, NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(rc, PDB_RESOURCE_EXHAUSTED);
    assert_int_equal(access(get.path, F_OK), -1);
}

static void rot_is_found_where_attributes_are_kept(void **state)
{
    struct store *store = *state;
    void *bytes = NULL;
    size_t len = 0;
    char crc[8];
    assert_int_equal(fixture_put(store, "k", "0123456789", STORE_ALWAYS, NULL, NULL), 0);
    if (getxattr(inside("k"), "user.proximadb.crc32c", crc, sizeof(crc)) != sizeof(crc)) {
        /* UNTESTED: on a filesystem without user attributes there is no checksum to hold against.
         * */
        skip();
    }
    int file = open(inside("k"), O_WRONLY);
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, "x", 1, 5), 1);
    assert_int_equal(close(file), 0);
    assert_int_equal(store_get_all(store, NULL, TEXT_LIT("k"), 100, NULL, &bytes, &len),
                     PDB_DATA_LOSS);
    char part[4];
    uint64_t part_len = 0;
    struct store_get_request get = {
        .key = TEXT_LIT("k"), .offset = 0, .len = 4, .to = part, .to_size = sizeof(part)};
    assert_int_equal(store_get(store, NULL, &get, &part_len, NULL), 0); /* a part has no sum */
}

/* Each process tries to be the one that creates, then the one that replaces. */
static int contend(unsigned number)
{
    struct store *store = NULL;
    struct store_info info;
    char text[16];
    int won = 0;
    (void)snprintf(text, sizeof(text), "%u", number);
    if (store_open(text_of(folder), NULL, NULL, &store) != 0)
        return 99;
    for (unsigned i = 0; i < 20; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "new/%u", i);
        won += fixture_put(store, key, text, STORE_IF_ABSENT, NULL, NULL) == 0;
        if (store_head(store, NULL, TEXT_LIT("shared"), &info) != 0)
            return 98;
        won += fixture_put(store, "shared", text, STORE_IF_MATCH, "first", NULL) == 0;
    }
    store_close(store);
    return won;
}

static void one_of_several_processes_creates_each_key(void **state)
{
    struct store *store = *state;
    int sum = 0;
    pid_t pids[4];
    assert_int_equal(fixture_put(store, "shared", "x", STORE_ALWAYS, NULL, NULL), 0);
    for (unsigned i = 0; i < 4; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0)
            _exit(contend(i));
    }
    for (unsigned i = 0; i < 4; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 20);
        sum += WEXITSTATUS(status);
    }
    assert_int_equal(sum, 20);
    fixture_expect(store, "shared", "x");
}

static int increment(unsigned times)
{
    struct store *store = NULL;
    if (store_open(text_of(folder), NULL, NULL, &store) != 0)
        return 1;
    while (times != 0) {
        struct store_info info;
        char to[16] = "", text[16];
        uint64_t len = 0;
        struct store_get_request get = {
            .key = TEXT_LIT("n"), .len = STORE_TO_END, .to = to, .to_size = sizeof(to) - 1};
        if (store_get(store, NULL, &get, &len, &info) != 0)
            return 2;
        to[len] = '\0';
        (void)snprintf(text, sizeof(text), "%d", (int)strtol(to, NULL, 10) + 1);
        int rc = fixture_put(store, "n", text, STORE_IF_MATCH, info.etag, NULL);
        if (rc != 0 && rc != PDB_FAILED_PRECONDITION)
            return 3;
        times -= rc == 0;
    }
    store_close(store);
    return 0;
}

static void a_counter_kept_by_etags_loses_no_increment(void **state)
{
    struct store *store = *state;
    pid_t pids[3];
    assert_int_equal(fixture_put(store, "n", "0", STORE_ALWAYS, NULL, NULL), 0);
    for (unsigned i = 0; i < 3; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0)
            _exit(increment(20));
    }
    for (unsigned i = 0; i < 3; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    fixture_expect(store, "n", "60");
}

static void a_lock_that_is_never_released_does_not_hold_a_call_with_a_deadline(void **state)
{
    struct store *store = *state;
    const struct store_put_request put = {.key = TEXT_LIT("k"), .bytes = "x", .len = 1};
    int lock = open(inside(".lock"), O_RDWR | O_CREAT, 0600);
    assert_true(lock >= 0);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    const struct store_call call = {.deadline_ns = clock_monotonic_ns() + 30000000};
    assert_int_equal(store_put(store, &call, &put, NULL), PDB_DEADLINE_EXCEEDED);
    assert_int_equal(store_delete(store, &call, TEXT_LIT("k")), PDB_DEADLINE_EXCEEDED);
    assert_int_equal(close(lock), 0);
    assert_int_equal(store_put(store, NULL, &put, NULL), 0);
}

static void a_list_without_memory_says_so(void **state)
{
    struct store *store = *state;
    int rc = PDB_RESOURCE_EXHAUSTED;
    for (unsigned i = 0; i < 70; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "k/%u", i);
        assert_int_equal(fixture_put(store, key, "x", STORE_ALWAYS, NULL, NULL), 0);
    }
    for (uint64_t n = 1; rc == PDB_RESOURCE_EXHAUSTED; n++) {
        struct fixture_keys keys = {0};
        struct store_list_request request = {.visit = fixture_collect, .arg = &keys};
        store->arena_fail_at = n;
        rc = store_list(store, NULL, &request);
        assert_true(n < 1000);
    }
    assert_int_equal(rc, 0);
}

static void a_missing_folder_is_told_at_the_start(void **state)
{
    struct store *store = NULL;
    struct trail trail = {0};
    (void)state;
    assert_int_equal(store_open(TEXT_LIT("/nowhere/at/all"), NULL, &trail, &store), PDB_NOT_FOUND);
    assert_non_null(strstr(trail.text, "/nowhere/at/all"));
    write_file(inside("plain"), "x");
    assert_int_equal(store_open(text_of(inside("plain")), NULL, NULL, &store), PDB_NOT_FOUND);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(links_lead_nowhere),
        EACH(strangers_files_are_not_shown),
        EACH(a_failed_put_leaves_no_file),
        EACH(a_full_disk_keeps_the_old_object),
        EACH(a_failed_get_removes_its_file),
        EACH(rot_is_found_where_attributes_are_kept),
        EACH(one_of_several_processes_creates_each_key),
        EACH(a_counter_kept_by_etags_loses_no_increment),
        EACH(a_lock_that_is_never_released_does_not_hold_a_call_with_a_deadline),
        EACH(a_list_without_memory_says_so),
        EACH(a_missing_folder_is_told_at_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
