/* buffer.c: doubling growth, by a quarter once it is large: what is reserved and not used counts as
 * used memory. A failure sets `failed` and leaves what was written in place; encoders
 * look once, at their end, instead of after each of their thousand small writes. */
#include "base/buffer.h"

#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/no_libc_heap.h"

enum { CAPACITY_FIRST = 256, DOUBLING_MAX = 512 << 10, DIGITS_MAX = 20 };

void buffer_init_arena(struct buffer *buffer, struct arena *arena, size_t len_max)
{
    *buffer = (struct buffer){.arena = arena, .len_max = len_max};
}

void buffer_init_heap(struct buffer *buffer, struct heap *heap, size_t len_max)
{
    *buffer = (struct buffer){.heap = heap, .len_max = len_max};
}

void buffer_dispose(struct buffer *buffer)
{
    if (buffer == NULL)
        return;
    if (buffer->arena == NULL)
        heap_free(buffer->heap, buffer->ptr);
    buffer->ptr = NULL;
    buffer->len = buffer->capacity = 0;
}

static bool grow(struct buffer *buffer, size_t need)
{
    size_t max = buffer->len_max != 0 ? buffer->len_max : SIZE_MAX / 2;
    if (need > max)
        return false;
    size_t capacity = buffer->capacity != 0 ? buffer->capacity : CAPACITY_FIRST;
    while (capacity < need) {
        size_t more = capacity <= DOUBLING_MAX ? capacity : capacity / 4;
        capacity = capacity <= max / 2 ? capacity + more : max;
    }
    if (capacity > max)
        capacity = max;
    char *ptr = buffer->arena != NULL
                    ? arena_grow(buffer->arena, buffer->ptr, buffer->capacity, capacity)
                    : heap_realloc(buffer->heap, buffer->ptr, capacity);
    if (ptr == NULL)
        return false;
    buffer->ptr = ptr;
    buffer->capacity = capacity;
    return true;
}

char *buffer_reserve(struct buffer *buffer, size_t size)
{
    if (buffer->failed)
        return NULL;
    size_t need = 0;
    bool enough = size <= buffer->capacity - buffer->len && buffer->ptr != NULL;
    if (!enough && (__builtin_add_overflow(buffer->len, size, &need) || !grow(buffer, need))) {
        buffer->failed = true;
        return NULL;
    }
    return buffer->ptr + buffer->len;
}

void buffer_add(struct buffer *buffer, const void *bytes, size_t size)
{
    if (size == 0)
        return;
    char *at = buffer_reserve(buffer, size);
    if (at == NULL)
        return;
    memcpy(at, bytes, size);
    buffer->len += size;
}

void buffer_add_text(struct buffer *buffer, struct pdb_text t)
{
    buffer_add(buffer, t.ptr, t.len);
}

void buffer_add_byte(struct buffer *buffer, char byte)
{
    char *at = buffer_reserve(buffer, 1);
    if (at == NULL)
        return;
    *at = byte;
    buffer->len++;
}

void buffer_add_u64(struct buffer *buffer, uint64_t value)
{
    char digits[DIGITS_MAX];
    char *end = digits + DIGITS_MAX, *at = end;
    do {
        *--at = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    buffer_add(buffer, at, (size_t)(end - at));
}

void buffer_add_i64(struct buffer *buffer, int64_t value)
{
    if (value < 0)
        buffer_add_byte(buffer, '-');
    buffer_add_u64(buffer, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void buffer_put_u16(struct buffer *buffer, uint16_t value)
{
    char bytes[2];
    bytes_put_u16(bytes, value);
    buffer_add(buffer, bytes, sizeof(bytes));
}

void buffer_put_u32(struct buffer *buffer, uint32_t value)
{
    char bytes[4];
    bytes_put_u32(bytes, value);
    buffer_add(buffer, bytes, sizeof(bytes));
}

void buffer_put_u64(struct buffer *buffer, uint64_t value)
{
    char bytes[8];
    bytes_put_u64(bytes, value);
    buffer_add(buffer, bytes, sizeof(bytes));
}

void buffer_format(struct buffer *buffer, const char *format, ...)
{
    if (buffer->failed)
        return;
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    char small[CAPACITY_FIRST];
    int formatted = vsnprintf(small, sizeof(small), format, args);
    va_end(args);
    size_t len = formatted > 0 ? (size_t)formatted : 0;
    if (formatted < 0) {
        buffer->failed = true;
    } else if (len < sizeof(small)) {
        buffer_add(buffer, small, len);
    } else {
        /* vsnprintf wants room for its NUL, which is not part of the text and must not meet
         * len_max. */
        size_t len_max = buffer->len_max;
        buffer->len_max = len_max != 0 ? len_max + 1 : 0;
        char *at = buffer_reserve(buffer, len + 1);
        buffer->len_max = len_max;
        if (at != NULL && vsnprintf(at, len + 1, format, again) == formatted)
            buffer->len += len;
    }
    va_end(again);
}
