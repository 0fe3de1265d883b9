/* Little-endian access to unaligned bytes, checked reading, and small integer helpers. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "formats are little-endian and read in place"
#endif

#define BYTES_DEFINE(bits)                                                                         \
    static inline uint##bits##_t bytes_get_u##bits(const void *at)                                 \
    {                                                                                              \
        uint##bits##_t value;                                                                      \
        memcpy(&value, at, sizeof(value));                                                         \
        return value;                                                                              \
    }                                                                                              \
    static inline void bytes_put_u##bits(void *at, uint##bits##_t value)                           \
    {                                                                                              \
        memcpy(at, &value, sizeof(value));                                                         \
    }
BYTES_DEFINE(16)
BYTES_DEFINE(32)
BYTES_DEFINE(64)
#undef BYTES_DEFINE

/* `alignment`: a power of two. The caller has checked that there is no overflow. */
static inline size_t bytes_align_up(size_t value, size_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

/* A cursor over bytes that came from outside: every read is checked, the first failure sticks. */
struct bytes_reader {
    const uint8_t *at, *end;
    bool failed;
};

static inline struct bytes_reader bytes_reader_of(const void *ptr, size_t len)
{
    const uint8_t *at = ptr;
    return (struct bytes_reader){at, at + len, false};
}

static inline size_t bytes_left(const struct bytes_reader *r)
{
    return (size_t)(r->end - r->at);
}

/* The next `size` bytes, or NULL and failed. */
static inline const uint8_t *bytes_take(struct bytes_reader *r, size_t size)
{
    if (r->failed || bytes_left(r) < size) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *at = r->at;
    r->at += size;
    return at;
}

static inline uint8_t bytes_take_u8(struct bytes_reader *r)
{
    const uint8_t *at = bytes_take(r, 1);
    return at != NULL ? *at : 0;
}

static inline uint16_t bytes_take_u16(struct bytes_reader *r)
{
    const uint8_t *at = bytes_take(r, 2);
    return at != NULL ? bytes_get_u16(at) : 0;
}

static inline uint32_t bytes_take_u32(struct bytes_reader *r)
{
    const uint8_t *at = bytes_take(r, 4);
    return at != NULL ? bytes_get_u32(at) : 0;
}

static inline uint64_t bytes_take_u64(struct bytes_reader *r)
{
    const uint8_t *at = bytes_take(r, 8);
    return at != NULL ? bytes_get_u64(at) : 0;
}

#endif
