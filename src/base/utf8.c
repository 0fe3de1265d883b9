/* utf8.c: 32 bytes of ASCII at a time, everything else one character at a time by RFC 3629's table
 * (section 4), which refuses overlong forms, surrogates and what lies above U+10FFFF by the range
 * of the second byte. */
#include "base/utf8.h"

#include "base/bytes.h"

static const uint64_t high_bits = 0x8080808080808080u;

static size_t skip_ascii(const char *ptr, size_t at, size_t len)
{
    for (; len - at >= 32; at += 32) {
        uint64_t any = bytes_get_u64(ptr + at) | bytes_get_u64(ptr + at + 8) |
                       bytes_get_u64(ptr + at + 16) | bytes_get_u64(ptr + at + 24);
        if ((any & high_bits) != 0)
            break;
    }
    for (; len - at >= 8; at += 8) {
        if ((bytes_get_u64(ptr + at) & high_bits) != 0)
            break;
    }
    while (at < len && (signed char)ptr[at] >= 0)
        at++;
    return at;
}

static int is_tail(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* The length of the valid character that begins at `at`, a byte over 0x7f; 0: there is none. */
static size_t character_len(const uint8_t *at, size_t left)
{
    uint8_t lead = at[0];
    if (lead < 0xc2 || lead > 0xf4 || left < 2)
        return 0;
    if (lead < 0xe0)
        return is_tail(at[1]) ? 2 : 0;
    uint8_t min = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t max = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    size_t size = lead < 0xf0 ? 3 : 4;
    if (left < size || at[1] < min || at[1] > max || !is_tail(at[2]))
        return 0;
    return size == 3 || is_tail(at[3]) ? size : 0;
}

size_t utf8_invalid_at(const char *ptr, size_t len)
{
    const uint8_t *bytes = (const uint8_t *)ptr;
    size_t at = 0;
    while (at < len) {
        if (bytes[at] < 0x80) {
            at = skip_ascii(ptr, at, len);
            continue;
        }
        size_t size = character_len(bytes + at, len - at);
        if (size == 0)
            break;
        at += size;
    }
    return at;
}

size_t utf8_encode(uint32_t code_point, char bytes_out[4])
{
    if (code_point < 0x80) {
        bytes_out[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        bytes_out[0] = (char)(0xc0 | code_point >> 6);
        bytes_out[1] = (char)(0x80 | (code_point & 0x3f));
        return 2;
    }
    if (code_point < 0x10000) {
        bytes_out[0] = (char)(0xe0 | code_point >> 12);
        bytes_out[1] = (char)(0x80 | (code_point >> 6 & 0x3f));
        bytes_out[2] = (char)(0x80 | (code_point & 0x3f));
        return 3;
    }
    bytes_out[0] = (char)(0xf0 | code_point >> 18);
    bytes_out[1] = (char)(0x80 | (code_point >> 12 & 0x3f));
    bytes_out[2] = (char)(0x80 | (code_point >> 6 & 0x3f));
    bytes_out[3] = (char)(0x80 | (code_point & 0x3f));
    return 4;
}
