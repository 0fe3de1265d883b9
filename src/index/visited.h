/* Which rows a walk has seen: a byte each that holds the number of the walk. A new walk is a new
 * number; only every 255th clears anything. A search takes two numbers, one for the levels above,
 * so it pays n / 127 bytes, not n / 8. */
#ifndef INDEX_VISITED_H
#define INDEX_VISITED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct visited {
    uint8_t *marks;
    size_t count;
    uint8_t epoch; /* marks of this number count; 0 never does */
};

static inline void visited_next(struct visited *visited)
{
    if (++visited->epoch == 0) {
        memset(visited->marks, 0, visited->count);
        visited->epoch = 1;
    }
}

static inline bool visited_test(const struct visited *visited, uint32_t i)
{
    return visited->marks[i] == visited->epoch;
}

/* True if it was marked before. */
static inline bool visited_test_and_set(struct visited *visited, uint32_t i)
{
    bool seen = visited->marks[i] == visited->epoch;
    visited->marks[i] = visited->epoch;
    return seen;
}

#endif
