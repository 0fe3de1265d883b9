/* Asking for memory ahead. Always inlined: a function that does nothing but prefetch has no effect
 * in the eyes of gcc, which then drops its calls. */
#ifndef INDEX_PREFETCH_H
#define INDEX_PREFETCH_H

#include "index/hnsw.h"

#define PREFETCH_INLINE static inline __attribute__((always_inline))

PREFETCH_INLINE void prefetch_bytes(const void *bytes, size_t count)
{
    for (size_t at = 0; at < count; at += 64)
        __builtin_prefetch((const char *)bytes + at, 0, 3);
}

PREFETCH_INLINE void prefetch_links(const struct hnsw *graph, uint32_t level, uint32_t node)
{
    uint32_t width = level == 0 ? graph->link_max0 : graph->link_max;
    prefetch_bytes(hnsw_links(graph, level, node), width * sizeof(uint32_t));
}

#endif
