/* Facts about processors and memory, and the placing of threads. */
#ifndef OS_CPU_H
#define OS_CPU_H

#include <stddef.h>
#include <stdint.h>

enum { CPU_MAX = 1024 };

/* Numbers of the processors that this process may use, ascending; at most `max` are stored. Returns
 * how many there are in all. On a thread that was pinned it still tells the process's (main
 * thread's) set. */
unsigned cpu_allowed(unsigned *ids_out, unsigned max);
/* Processors' worth of time that the cgroup grants, rounded up; 0: no limit. */
unsigned cpu_cgroup_quota(void);
/* Ties the calling thread to one processor. 0 or a negative errno. */
int cpu_pin(unsigned id);
/* The features that matter to kernels, as "avx2 fma f16c avx512f ..."; "" when none is known. Cut
 * to `size`. */
void cpu_features_text(char *text_out, size_t size);

/* Bytes of RAM of the machine; 0: unknown. */
uint64_t cpu_ram_bytes(void);
/* The memory limit of the cgroup that this process is in, or of one above it; 0: none. */
uint64_t cpu_cgroup_memory_max(void);

#endif
