/* bandwidth.h: how fast one thread of this machine can read memory at all. */
#ifndef KERNELS_BANDWIDTH_H
#define KERNELS_BANDWIDTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One way to read a buffer from front to back. Returns a value made of everything that was read, so
 * that no read can be left out. `bytes` is a multiple of 4096. */
struct read_method {
    const char *name;
    uint64_t (*read)(const void *buffer, size_t bytes);
    bool (*supported)(void);
};

/* The methods, `count_out` of them; a constant array. */
const struct read_method *read_methods(size_t *count_out);

#endif
