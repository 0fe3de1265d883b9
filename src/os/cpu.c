/* Processors and memory as the kernel tells them: affinity masks, /proc and the cgroup files of
 * version 2, which are the ones a container sees at /sys/fs/cgroup. A limit may sit on any level
 * above us, so all are read and the smallest counts. */
#include "os/cpu.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

enum { PATH_SIZE = 1024 };
static const char CGROUP_ROOT[] = "/sys/fs/cgroup";

unsigned cpu_allowed(unsigned *ids_out, unsigned max)
{
    cpu_set_t set;
    unsigned count = 0;
    CPU_ZERO(&set);
    if (sched_getaffinity(getpid(), sizeof(set), &set) != 0)
        return 0;
    for (unsigned i = 0; i != CPU_SETSIZE; ++i) {
        if (!CPU_ISSET(i, &set))
            continue;
        if (count < max)
            ids_out[count] = i;
        ++count;
    }
    return count;
}

int cpu_pin(unsigned id)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (id >= CPU_SETSIZE)
        return -EINVAL;
    CPU_SET(id, &set);
    return -pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

void cpu_features_text(char *text_out, size_t size)
{
    if (size == 0)
        return;
    text_out[0] = '\0';
#if defined(__x86_64__)
    const struct {
        const char *name;
        int present;
    } features[] = {
        {"sse4.2", __builtin_cpu_supports("sse4.2")},
        {"avx", __builtin_cpu_supports("avx")},
        {"avx2", __builtin_cpu_supports("avx2")},
        {"fma", __builtin_cpu_supports("fma")},
        {"avx512f", __builtin_cpu_supports("avx512f")},
        {"avx512bw", __builtin_cpu_supports("avx512bw")},
        {"avx512vl", __builtin_cpu_supports("avx512vl")},
        {"avx512vnni", __builtin_cpu_supports("avx512vnni")},
    };
    size_t used = 0;
    for (size_t i = 0; i != sizeof(features) / sizeof(features[0]); ++i) {
        if (!features[i].present)
            continue;
        int n =
            snprintf(text_out + used, size - used, "%s%s", used != 0 ? " " : "", features[i].name);
        if (n < 0 || (size_t)n >= size - used) {
            text_out[used] = '\0'; /* whole words only */
            return;
        }
        used += (size_t)n;
    }
#elif defined(__aarch64__)
    (void)snprintf(text_out, size, "neon");
#endif
}

uint64_t cpu_ram_bytes(void)
{
    struct sysinfo info;
    uint64_t bytes;
    if (sysinfo(&info) != 0 ||
        __builtin_mul_overflow(info.totalram, (uint64_t)info.mem_unit, &bytes))
        return 0;
    return bytes;
}

/* The first line of a small file; false if there is none. */
static bool read_line(const char *path, char line_out[256])
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool got = fgets(line_out, 256, file) != NULL;
    (void)fclose(file);
    return got;
}

/* Our folder below CGROUP_ROOT, from the line "0::/path" of version 2. */
static bool own_cgroup(char path_out[PATH_SIZE])
{
    char line[PATH_SIZE];
    bool found = false;
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file == NULL)
        return false;
    while (!found && fgets(line, sizeof(line), file) != NULL)
        found = strncmp(line, "0::/", 4) == 0;
    (void)fclose(file);
    if (!found)
        return false;
    line[strcspn(line, "\n")] = '\0';
    int n = snprintf(path_out, PATH_SIZE, "%s%s", CGROUP_ROOT, line + 3);
    return n > 0 && n < PATH_SIZE;
}

/* Calls `visit` with the first line of `name` in our cgroup and each one above it. */
static void each_level(const char *name, void (*visit)(void *arg, const char *line), void *arg)
{
    char folder[PATH_SIZE], path[PATH_SIZE + 32], line[256];
    if (!own_cgroup(folder))
        return;
    for (;;) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
        if (read_line(path, line))
            visit(arg, line);
        char *slash = strrchr(folder, '/');
        if (strlen(folder) <= sizeof(CGROUP_ROOT) - 1 || slash == NULL)
            return;
        *slash = '\0';
    }
}

static void take_memory(void *arg, const char *line)
{
    uint64_t *smallest = arg;
    char *end;
    uint64_t bytes = strtoull(line, &end, 10); /* "max": no number */
    if (end != line && bytes != 0 && (*smallest == 0 || bytes < *smallest))
        *smallest = bytes;
}

uint64_t cpu_cgroup_memory_max(void)
{
    uint64_t bytes = 0;
    each_level("memory.max", take_memory, &bytes);
    return bytes;
}

static void take_quota(void *arg, const char *line)
{
    unsigned *smallest = arg;
    char *end;
    uint64_t quota = strtoull(line, &end, 10), period;
    if (end == line || (period = strtoull(end, NULL, 10)) == 0)
        return;
    uint64_t count = (quota + period - 1) / period;
    if (count != 0 && count <= CPU_MAX && (*smallest == 0 || count < *smallest))
        *smallest = (unsigned)count;
}

unsigned cpu_cgroup_quota(void)
{
    unsigned count = 0;
    each_level("cpu.max", take_quota, &count);
    return count;
}
