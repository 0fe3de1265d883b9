/* buffer.c: see buffer.h. Capacity doubles; the old block is copied, because the allocator that a
 * caller may give has no realloc. */
#include "buffer.h"

#include <assert.h>
#include <string.h>

#include "pqfile/types.h"

enum { CAPACITY_MIN = 64 };

void pq_buffer_init(struct pq_buffer *b, const struct pqfile_allocator *allocator)
{
    *b = (struct pq_buffer){.allocator = allocator};
}

void pq_buffer_dispose(struct pq_buffer *b)
{
    if (b->data != NULL)
        b->allocator->release(b->allocator->context, b->data);
    pq_buffer_init(b, b->allocator);
}

void pq_buffer_clear(struct pq_buffer *b)
{
    b->len = 0;
    b->failed = false;
}

static bool grow(struct pq_buffer *b, size_t need)
{
    size_t capacity = b->capacity < CAPACITY_MIN ? CAPACITY_MIN : b->capacity;
    while (capacity < need)
        if (__builtin_mul_overflow(capacity, (size_t)2, &capacity))
            return false;
    uint8_t *data = b->allocator->allocate(b->allocator->context, capacity);
    if (data == NULL)
        return false;
    if (b->data != NULL) {
        memcpy(data, b->data, b->len);
        b->allocator->release(b->allocator->context, b->data);
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

uint8_t *pq_buffer_reserve(struct pq_buffer *b, size_t more)
{
    size_t need = 0;
    if (b->failed)
        return NULL;
    if (__builtin_add_overflow(b->len, more, &need) ||
        ((need > b->capacity || b->data == NULL) && !grow(b, need))) {
        b->failed = true;
        return NULL;
    }
    return b->data + b->len;
}

void pq_buffer_add(struct pq_buffer *b, const void *data, size_t len)
{
    assert(data != NULL || len == 0);
    uint8_t *to = pq_buffer_reserve(b, len);
    if (to == NULL || len == 0)
        return;
    memcpy(to, data, len);
    b->len += len;
}

void pq_buffer_add_byte(struct pq_buffer *b, uint8_t byte)
{
    uint8_t *to = pq_buffer_reserve(b, 1);
    if (to == NULL)
        return;
    *to = byte;
    b->len++;
}

void pq_buffer_add_u32(struct pq_buffer *b, uint32_t value)
{
    uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                        (uint8_t)(value >> 24)};
    pq_buffer_add(b, bytes, sizeof(bytes));
}

void pq_buffer_add_varint(struct pq_buffer *b, uint64_t value)
{
    for (; value > 0x7f; value >>= 7)
        pq_buffer_add_byte(b, (uint8_t)(value | 0x80));
    pq_buffer_add_byte(b, (uint8_t)value);
}

void pq_buffer_add_zeros(struct pq_buffer *b, size_t len)
{
    uint8_t *to = pq_buffer_reserve(b, len);
    if (to == NULL || len == 0)
        return;
    memset(to, 0, len);
    b->len += len;
}
