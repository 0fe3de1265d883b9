/* A growing run of bytes on a counted heap or in an arena: what encoders write into. The first
 * failure sticks, so that an encoder checks once, at its end. */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include "base/arena.h"
#include "base/heap.h"

struct buffer {
    char *ptr;
    size_t len, capacity;
    struct arena *arena; /* where it grows; NULL: in `heap` */
    struct heap *heap;
    size_t len_max; /* 0: no limit */
    bool failed;    /* memory or the limit ran out; all later writes do nothing */
};

void buffer_init_arena(struct buffer *buffer, struct arena *arena, size_t len_max);
void buffer_init_heap(struct buffer *buffer, struct heap *heap, size_t len_max);
void buffer_dispose(struct buffer *buffer); /* only frees what lies in a heap */

/* Room for `size` more bytes at the end, which the caller fills and then adds to len; NULL:
 * failed. */
char *buffer_reserve(struct buffer *buffer, size_t size);
void buffer_add(struct buffer *buffer, const void *bytes, size_t size);
void buffer_add_text(struct buffer *buffer, struct pdb_text t);
void buffer_add_byte(struct buffer *buffer, char byte);
void buffer_add_u64(struct buffer *buffer, uint64_t value); /* decimal digits */
void buffer_add_i64(struct buffer *buffer, int64_t value);
/* As files have them: little-endian. */
void buffer_put_u16(struct buffer *buffer, uint16_t value);
void buffer_put_u32(struct buffer *buffer, uint32_t value);
void buffer_put_u64(struct buffer *buffer, uint64_t value);
void buffer_format(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define buffer_add_lit(buffer, literal) buffer_add((buffer), (literal), sizeof(literal) - 1)

#endif
