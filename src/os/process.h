/* What this process uses. */
#ifndef OS_PROCESS_H
#define OS_PROCESS_H

#include <stdint.h>

/* Bytes of RAM in use; 0: unknown. */
uint64_t process_rss_bytes(void);
/* Open descriptors, the one that counts them left out; 0: unknown. */
uint64_t process_open_fds(void);
/* The limit of open descriptors; 0: unknown. */
uint64_t process_fd_limit(void);
/* Raises the soft limit of open descriptors to the hard one; returns the limit that then holds. */
uint64_t process_raise_fd_limit(void);

#endif
