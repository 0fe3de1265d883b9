/* lock.c: one process per data directory. The lock is flock() on <data>/LOCK: it ends with the
 * process however that dies, so there is no stale lock to clean up; the text in it (the owner's
 * pid) is for people only. A killed process's ring can keep descriptors alive for a moment, so
 * taking it is tried 5 times, 50 ms apart. This is the one file of the engine that makes system
 * calls on files itself: it runs before there is a reactor, on the opener's thread. */
#include "engine/engine_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum { LOCK_TRIES = 5, LOCK_PAUSE_MS = 50 };

/* The directory's name must be durable before anything in it is promised; also one that is there
 * may have been made by a process that was killed. A parent that may not be read is not ours. */
static int sync_parent(const char *data_dir, struct trail *trail)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof(path), "%s/..", data_dir) >= sizeof(path))
        return 0; /* refused below */
    int parent = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return 0;
    int rc = fsync(parent) == 0 || errno == EINVAL || errno == EROFS ? 0 : -errno;
    (void)close(parent);
    return rc == 0
               ? 0
               : trail_add(trail, PDB_UNAVAILABLE, "%s: cannot be synced: %s", path, strerror(-rc));
}

static int make_data_dir(const char *data_dir, struct trail *trail)
{
    if (mkdir(data_dir, 0700) == 0 || errno == EEXIST) {
        struct stat st;
        if (stat(data_dir, &st) == 0 && S_ISDIR(st.st_mode))
            return sync_parent(data_dir, trail);
        return trail_add(trail, PDB_FAILED_PRECONDITION, "data directory '%s': not a directory",
                         data_dir);
    }
    return trail_add(trail, PDB_FAILED_PRECONDITION, "data directory '%s': cannot be made: %s",
                     data_dir, strerror(errno));
}

static int try_lock(int file)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(file, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        struct timespec pause = {0, (long)LOCK_PAUSE_MS * 1000 * 1000};
        (void)nanosleep(&pause, NULL);
    }
    return -EWOULDBLOCK;
}

int lock_take(const char *data_dir, int *file_out, struct trail *trail)
{
    int rc = make_data_dir(data_dir, trail);
    if (rc < 0)
        return rc;
    char path[4096];
    if ((size_t)snprintf(path, sizeof(path), "%s/LOCK", data_dir) >= sizeof(path))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "data directory: the path is too long");
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0)
        return trail_add(trail, PDB_FAILED_PRECONDITION, "%s: cannot be opened: %s", path,
                         strerror(errno));
    rc = try_lock(file);
    if (rc < 0) {
        char owner[32] = "";
        ssize_t n = pread(file, owner, sizeof(owner) - 1, 0);
        owner[n > 0 ? n : 0] = '\0';
        owner[strcspn(owner, "\n")] = '\0';
        (void)close(file);
        if (rc == -EWOULDBLOCK)
            return trail_add(trail, PDB_UNAVAILABLE,
                             "data directory '%s' is in use by another process (pid %s)", data_dir,
                             owner);
        return trail_add(trail, PDB_FAILED_PRECONDITION, "%s: cannot be locked: %s", path,
                         strerror(-rc));
    }
    char text[32];
    int len = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(file, 0) != 0 || pwrite(file, text, (size_t)len, 0) != len) {
        rc = errno;
        (void)close(file);
        return trail_add(trail, PDB_FAILED_PRECONDITION, "%s: cannot be written: %s", path,
                         strerror(rc));
    }
    *file_out = file;
    return 0;
}

void lock_release(int file)
{
    if (file >= 0)
        (void)close(file);
}
