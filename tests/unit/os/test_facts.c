/* What the machine tells about itself: never a failure, and consistent with what was done. */
#include "os/cpu.h"
#include "os/fs.h"
#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void a_thread_can_be_pinned_to_each_allowed_processor(void **state)
{
    (void)state;
    unsigned ids[CPU_MAX];
    cpu_set_t before;
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    unsigned count = cpu_allowed(ids, CPU_MAX);
    assert_true(count != 0);
    for (unsigned i = 0; i != count && i != CPU_MAX; ++i) {
        assert_int_equal(cpu_pin(ids[i]), 0);
        assert_int_equal(sched_getcpu(), (int)ids[i]);
    }
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
    assert_int_equal(cpu_allowed(ids, 1), count);
    assert_int_equal(cpu_pin(UINT32_MAX), -EINVAL);
}

static void features_are_whole_words_within_the_space_given(void **state)
{
    (void)state;
    char all[256], few[10];
    cpu_features_text(all, sizeof(all));
    memset(few, 'x', sizeof(few));
    cpu_features_text(few, sizeof(few));
    assert_true(strlen(few) < sizeof(few));
    assert_int_equal(strncmp(all, few, strlen(few)), 0);
    char after = all[strlen(few)];
    assert_true(after == ' ' || after == '\0' || few[0] == '\0');
    cpu_features_text(few, 0);
}

static void memory_is_known(void **state)
{
    (void)state;
    uint64_t ram = cpu_ram_bytes(), rss = process_rss_bytes();
    assert_true(ram > 64u << 20);
    assert_true(rss > 100000 && rss < ram);
    (void)cpu_cgroup_memory_max(); /* 0 is legal */
    assert_true(cpu_cgroup_quota() <= CPU_MAX);
}

static void open_descriptors_are_counted(void **state)
{
    (void)state;
    uint64_t before = process_open_fds();
    assert_true(before >= 1);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(process_open_fds(), before + 1);
    (void)close(fd);
    assert_int_equal(process_open_fds(), before);
    assert_true(process_raise_fd_limit() >= before);
    assert_int_equal(process_raise_fd_limit(), process_fd_limit());
}

static void a_filesystem_has_a_kind_and_a_missing_path_an_error(void **state)
{
    (void)state;
    struct fs_facts here, proc;
    assert_int_equal(fs_probe(".", &here), 0);
    assert_non_null(here.name);
    assert_false(here.read_only);
    assert_int_equal(fs_probe("/proc", &proc), 0);
    assert_int_equal(proc.kind, FS_OTHER);
    assert_true(here.device != proc.device);
    assert_int_equal(fs_probe("/nonexistent/path", &here), -ENOENT);
    assert_int_equal(fs_set_no_copy("/nonexistent/path"), -ENOENT);
}

static void direct_alignment_is_one_that_a_direct_write_accepts(void **state)
{
    (void)state;
    char path[] = "test_facts_XXXXXX";
    uint32_t memory = 0, offset = 0;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    int rc = io_direct_alignment(path, &memory, &offset);
    if (rc == 0) {
        assert_true(memory != 0 && (memory & (memory - 1)) == 0);
        assert_true(offset != 0 && (offset & (offset - 1)) == 0);
        size_t align = memory > sizeof(void *) ? memory : sizeof(void *);
        void *buf = NULL;
        assert_int_equal(posix_memalign(&buf, align, offset), 0);
        memset(buf, 1, offset);
        fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, buf, offset, offset), offset);
        (void)close(fd);
        free(buf);
    } else {
        assert_int_equal(rc, -EOPNOTSUPP);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(io_direct_alignment(path, &memory, &offset), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_can_be_pinned_to_each_allowed_processor),
        cmocka_unit_test(features_are_whole_words_within_the_space_given),
        cmocka_unit_test(memory_is_known),
        cmocka_unit_test(open_descriptors_are_counted),
        cmocka_unit_test(a_filesystem_has_a_kind_and_a_missing_path_an_error),
        cmocka_unit_test(direct_alignment_is_one_that_a_direct_write_accepts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
