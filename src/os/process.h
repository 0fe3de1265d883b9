/* What this process uses. */
#ifndef OS_PROCESS_H
#define OS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes of RAM in use; 0: unknown. */
uint64_t process_rss_bytes(void);
/* Open descriptors, the one that counts them left out; 0: unknown. */
uint64_t process_open_fds(void);
/* The limit of open descriptors; 0: unknown. */
uint64_t process_fd_limit(void);
/* Raises the soft limit of open descriptors to the hard one; returns the limit that then holds. */
uint64_t process_raise_fd_limit(void);

/* What the processors have given a thread, since it began. */
struct process_thread_times {
    uint64_t ran_ns;
    uint64_t waited_ns; /* it could have run, but others had the processor */
};

/* For the calling thread, which alone may use it: a descriptor, or -1 where the kernel does not
 * count (CONFIG_SCHED_INFO). Close it with close(2). */
int process_thread_times_open(void);
/* False: unknown; -1 is fine for fd. One read, about a microsecond. */
bool process_thread_times(int fd, struct process_thread_times *out);

#endif
