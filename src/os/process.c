/* Read from /proc and by getrlimit, when asked for: a scrape every few seconds, not a hot path. */
#include "os/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

uint64_t process_rss_bytes(void)
{
    uint64_t total, resident;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return 0;
    int fields = fscanf(file, "%" SCNu64 " %" SCNu64, &total, &resident);
    (void)fclose(file);
    return fields == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

uint64_t process_open_fds(void)
{
    uint64_t count = 0;
    const struct dirent *entry;
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        return 0;
    while ((entry = readdir(dir)) != NULL)
        count += entry->d_name[0] != '.';
    (void)closedir(dir);
    return count != 0 ? count - 1 : 0;
}

uint64_t process_fd_limit(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (uint64_t)limit.rlim_cur : 0;
}

uint64_t process_raise_fd_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    return process_fd_limit();
}

int process_thread_times_open(void)
{
    return open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
}

bool process_thread_times(int fd, struct process_thread_times *out)
{
    char text[96];
    ssize_t len = fd >= 0 ? pread(fd, text, sizeof(text) - 1, 0) : -1;
    if (len <= 0)
        return false;
    text[len] = '\0';
    return sscanf(text, "%" SCNu64 " %" SCNu64, &out->ran_ns, &out->waited_ns) == 2;
}
