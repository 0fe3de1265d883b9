/* buffer.h: bytes that grow. A failed allocation sticks: `failed` is set, further additions do
 * nothing, and whoever builds something long asks once, at its end. */
#ifndef PQFILE_BUFFER_H
#define PQFILE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pqfile_allocator;

struct pq_buffer {
    uint8_t *data; /* NULL until something was added */
    size_t len;
    size_t capacity;
    bool failed;
    const struct pqfile_allocator *allocator; /* outlives the buffer */
};

void pq_buffer_init(struct pq_buffer *b, const struct pqfile_allocator *allocator);

/* Releases the memory; the buffer is then as after init. A zeroed buffer is legal. */
void pq_buffer_dispose(struct pq_buffer *b);

/* Empties it, keeps the memory, forgets a failure. */
void pq_buffer_clear(struct pq_buffer *b);

/* Makes room for `more` bytes behind `len` and returns where they go, uninitialised; the caller
 * adds to `len` what he has written. NULL after a failure. `more` may be 0. */
uint8_t *pq_buffer_reserve(struct pq_buffer *b, size_t more);

void pq_buffer_add(struct pq_buffer *b, const void *data, size_t len);
void pq_buffer_add_byte(struct pq_buffer *b, uint8_t byte);
void pq_buffer_add_u32(struct pq_buffer *b, uint32_t value);    /* little-endian */
void pq_buffer_add_varint(struct pq_buffer *b, uint64_t value); /* ULEB128 */
void pq_buffer_add_zeros(struct pq_buffer *b, size_t len);

#endif
