/* disk_groups: how fast this disk takes the log's groups when nothing else is done: the limit that
 * ingest is compared with.
 *
 *     disk_groups DIRECTORY GROUP_BYTES SECONDS [direct|buffered]
 *
 * Writes groups of one size one after another (depth 1, as the log does) into files of 64 MiB that
 *     were filled with zeros before, O_DIRECT|O_DSYNC or write and fdatasync;
 * prints one JSON line. Preparing the files is not timed: the server prepares its segments ahead,
 * too, and its own preparing is part of its figure. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SEGMENT_BYTES = 64 << 20, SEGMENT_COUNT = 4, BLOCK = 4096 };

static double now_s(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void die(const char *what)
{
    fprintf(stderr, "disk_groups: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_segment(const char *dir, int index, char *zeros, bool direct)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/disk_groups-%d.tmp", dir, index);
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC | (direct ? O_DIRECT | O_DSYNC : 0),
                  0600);
    if (fd < 0)
        die(path);
    (void)unlink(path); /* gone with the process */
    for (off_t at = 0; at < SEGMENT_BYTES; at += 1 << 20)
        if (pwrite(fd, zeros, 1 << 20, at) != 1 << 20)
            die("fill");
    if (fsync(fd) != 0)
        die("fsync");
    return fd;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: disk_groups DIRECTORY GROUP_BYTES SECONDS [direct|buffered]\n");
        return 2;
    }
    size_t group = ((size_t)strtoull(argv[2], NULL, 10) + BLOCK - 1) / BLOCK * BLOCK;
    double seconds = strtod(argv[3], NULL);
    bool direct = argc < 5 || strcmp(argv[4], "direct") == 0;
    if (group == 0 || group > SEGMENT_BYTES || seconds <= 0 || seconds > 600)
        return 2;
    size_t buffer_bytes = group > 1 << 20 ? group : 1 << 20;
    char *buffer = aligned_alloc(BLOCK, (buffer_bytes + BLOCK - 1) / BLOCK * BLOCK);
    if (buffer == NULL)
        die("memory");
    memset(buffer, 0, buffer_bytes);
    int fds[SEGMENT_COUNT];
    for (int i = 0; i < SEGMENT_COUNT; i++)
        fds[i] = open_segment(argv[1], i, buffer, direct);
    for (size_t i = 0; i < group; i++)
        buffer[i] = (char)(i * 2654435761u >> 13);
    double start = now_s(), end = start + seconds, now = start;
    uint64_t groups = 0;
    off_t at = 0;
    int segment = 0;
    while (now < end) {
        if (at + (off_t)group > SEGMENT_BYTES) {
            at = 0;
            segment = (segment + 1) % SEGMENT_COUNT;
        }
        if (pwrite(fds[segment], buffer, group, at) != (ssize_t)group ||
            (!direct && fdatasync(fds[segment]) != 0))
            die("write");
        at += (off_t)group;
        groups++;
        now = now_s();
    }
    printf("{\"groups\":%llu,\"group_bytes\":%zu,\"seconds\":%.3f,\"bytes_per_s\":%.0f,\"mode\":\"%"
           "s\"}\n",
           (unsigned long long)groups, group, now - start, (double)(groups * group) / (now - start),
           direct ? "direct" : "buffered");
    free(buffer);
    return 0;
}
