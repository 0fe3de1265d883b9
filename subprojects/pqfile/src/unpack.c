/* unpack.c: see unpack.h. One loop per bit width, all from one template, so that every shift and
 * mask is a constant; with a variable width the same loop takes three times as long. A value is cut
 * out of the eight bytes it starts in. Near the end of the input those would reach too far, so the
 * last groups are unpacked from a copy. */
#include "unpack.h"

#include <string.h>

enum { GROUP = 8, GROUP_BYTES_MAX = 64, LOAD_BYTES = 8 };

static inline uint64_t load(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static inline uint64_t mask_of(unsigned width)
{
    return width == 64 ? ~UINT64_C(0) : (UINT64_C(1) << width) - 1;
}

/* The value that starts `bit` bits behind `in`; both constants once this is inlined. */
static inline __attribute__((always_inline)) uint64_t cut(const uint8_t *in, unsigned bit,
                                                          unsigned width)
{
    unsigned shift = bit % 8;
    uint64_t value = load(in + bit / 8) >> shift;
    if (shift + width > 64)
        value |= (uint64_t)in[bit / 8 + LOAD_BYTES] << (64 - shift);
    return value & mask_of(width);
}

/* How many groups can be read with loads of eight bytes and none behind `end`. */
static size_t groups_loadable(const uint8_t *in, const uint8_t *end, size_t groups, unsigned width)
{
    size_t last = (GROUP - 1) * width / 8 + LOAD_BYTES; /* of a group, from its start */
    size_t left = (size_t)(end - in);
    if (left < last)
        return 0;
    size_t loadable = (left - last) / width + 1;
    return loadable < groups ? loadable : groups;
}

/* The formatter never comes to an end with these. */
/* clang-format off */
#define WIDTHS_TO_8(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#define WIDTHS_TO_32(X) WIDTHS_TO_8(X) \
    X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) \
    X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31) X(32)
#define WIDTHS_TO_64(X) WIDTHS_TO_32(X) \
    X(33) X(34) X(35) X(36) X(37) X(38) X(39) X(40) X(41) X(42) X(43) \
    X(44) X(45) X(46) X(47) X(48) X(49) X(50) X(51) X(52) X(53) X(54) \
    X(55) X(56) X(57) X(58) X(59) X(60) X(61) X(62) X(63) X(64)
/* clang-format on */

/* Macros, because the loops differ in the type of `out` alone. */
#define DEFINE_UNPACK(NAME, TYPE, WIDTHS)                                                          \
    static inline __attribute__((always_inline)) void NAME##_loop(                                 \
        const uint8_t *in, size_t groups, unsigned width, TYPE *out)                               \
    {                                                                                              \
        for (size_t g = 0; g < groups; g++, in += width, out += GROUP)                             \
            for (unsigned i = 0; i < GROUP; i++)                                                   \
                out[i] = (TYPE)cut(in, i * width, width);                                          \
    }                                                                                              \
    static void NAME##_groups(const uint8_t *in, size_t groups, unsigned width, TYPE *out)         \
    {                                                                                              \
        switch (width) {                                                                           \
            WIDTHS(NAME##_CASE)                                                                    \
        default:                                                                                   \
            memset(out, 0, groups *GROUP * sizeof(*out));                                          \
        }                                                                                          \
    }                                                                                              \
    void NAME(const uint8_t *in, const uint8_t *end, size_t groups, unsigned width, TYPE *out)     \
    {                                                                                              \
        size_t bulk = width == 0 ? groups : groups_loadable(in, end, groups, width);               \
        NAME##_groups(in, bulk, width, out);                                                       \
        for (size_t g = bulk; g < groups; g++) {                                                   \
            uint8_t copy[GROUP_BYTES_MAX + LOAD_BYTES] = {0};                                      \
            memcpy(copy, in + g * width, width);                                                   \
            NAME##_groups(copy, 1, width, out + g * GROUP);                                        \
        }                                                                                          \
    }

#define UNPACK_CASE(NAME, W)                                                                       \
    case W:                                                                                        \
        NAME##_loop(in, groups, W, out);                                                           \
        return;
#define pq_unpack_u8_CASE(W)  UNPACK_CASE(pq_unpack_u8, W)
#define pq_unpack_u32_CASE(W) UNPACK_CASE(pq_unpack_u32, W)
#define pq_unpack_u64_CASE(W) UNPACK_CASE(pq_unpack_u64, W)

DEFINE_UNPACK(pq_unpack_u8, uint8_t, WIDTHS_TO_8)
DEFINE_UNPACK(pq_unpack_u32, uint32_t, WIDTHS_TO_32)
DEFINE_UNPACK(pq_unpack_u64, uint64_t, WIDTHS_TO_64)

void pq_pack(struct pq_packer *p, uint64_t value, unsigned width)
{
    p->bits |= value << p->fill;
    if (p->fill + width < 64) {
        p->fill += width;
        return;
    }
    memcpy(p->to, &p->bits, sizeof(p->bits));
    p->to += sizeof(p->bits);
    p->bits = p->fill == 0 ? 0 : value >> (64 - p->fill);
    p->fill = p->fill + width - 64;
}

void pq_pack_flush(struct pq_packer *p)
{
    for (; p->fill != 0; p->fill = p->fill > 8 ? p->fill - 8 : 0) {
        *p->to++ = (uint8_t)p->bits;
        p->bits >>= 8;
    }
}
