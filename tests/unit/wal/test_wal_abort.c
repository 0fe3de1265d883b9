/* src/wal/wal_sync.c: on_error = abort ends the process with 70 before anything is acknowledged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "wal_lab.h"

#include <sys/wait.h>
#include <unistd.h>

static void fail_a_write(void)
{
    struct lab lab;
    lab_init(&lab, 1);
    lab.options.on_error = WAL_ON_ERROR_ABORT;
    if (lab_open(&lab) != 0)
        _exit(1);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
    lab_run_ms(&lab, 300);
    sim_disk_fail_at(lab.disk, 1, EIO);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
    _exit(2); /* answered, in whatever way */
}

static void a_failed_write_ends_the_process_with_70(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0)
        fail_a_write();
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 70);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_failed_write_ends_the_process_with_70)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
