/* base64.c: RFC 4648 section 4. Decoding turns each character to its value by arithmetic instead of
 * a table of 256 bytes; four values at a time, and the last group by itself because only there
 * padding is legal. */
#include "base/base64.h"

#include <proximadb/error.h>
#include <stdint.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_encoded_len(size_t len)
{
    return (len + 2) / 3 * 4;
}

size_t base64_decoded_max(size_t len)
{
    return len / 4 * 3 + 3;
}

void base64_encode(const void *bytes, size_t len, char *text_out)
{
    const uint8_t *at = bytes;
    char *out = text_out;
    for (; len >= 3; len -= 3, at += 3) {
        uint32_t group = (uint32_t)at[0] << 16 | (uint32_t)at[1] << 8 | at[2];
        *out++ = alphabet[group >> 18];
        *out++ = alphabet[group >> 12 & 63];
        *out++ = alphabet[group >> 6 & 63];
        *out++ = alphabet[group & 63];
    }
    if (len == 0)
        return;
    uint32_t group = (uint32_t)at[0] << 16 | (len == 2 ? (uint32_t)at[1] << 8 : 0);
    *out++ = alphabet[group >> 18];
    *out++ = alphabet[group >> 12 & 63];
    *out++ = len == 2 ? alphabet[group >> 6 & 63] : '=';
    *out = '=';
}

/* 0..63, or more than 63 for what is not in the alphabet. */
static uint32_t character_value(char c, bool url)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0') + 52;
    if (c == (url ? '-' : '+'))
        return 62;
    return c == (url ? '_' : '/') ? 63 : 64;
}

static int bad_at(size_t offset, size_t *bad_out)
{
    if (bad_out != NULL)
        *bad_out = offset;
    return PDB_INVALID_ARGUMENT;
}

/* The last group: 2..4 characters without padding, whose unused bits must be zero. */
static int decode_last(const char *text, size_t offset, size_t count, bool url, uint8_t *out,
                       size_t *bad_out)
{
    uint32_t group = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t value = character_value(text[offset + i], url);
        if (value > 63)
            return bad_at(offset + i, bad_out);
        group |= value << (18 - 6 * i);
    }
    if ((group & (count == 2 ? 0xffffu : count == 3 ? 0xffu : 0u)) != 0)
        return bad_at(offset + count - 1, bad_out);
    for (size_t i = 0; i + 1 < count; i++)
        out[i] = (uint8_t)(group >> (16 - 8 * i));
    return 0;
}

int base64_decode(const char *text, size_t len, bool url, void *bytes_out, size_t *len_out,
                  size_t *bad_out)
{
    if (len == 0) {
        *len_out = 0;
        return 0;
    }
    if (len % 4 != 0)
        return bad_at(len, bad_out);
    uint8_t *out = bytes_out;
    size_t offset = 0;
    for (; len - offset > 4; offset += 4, out += 3) {
        uint32_t group = 0;
        for (size_t i = 0; i < 4; i++) {
            uint32_t value = character_value(text[offset + i], url);
            if (value > 63)
                return bad_at(offset + i, bad_out);
            group = group << 6 | value;
        }
        out[0] = (uint8_t)(group >> 16);
        out[1] = (uint8_t)(group >> 8);
        out[2] = (uint8_t)group;
    }
    size_t padding = text[len - 1] != '=' ? 0 : text[len - 2] != '=' ? 1 : 2;
    size_t count = 4 - padding;
    int rc = decode_last(text, offset, count, url, out, bad_out);
    if (rc < 0)
        return rc;
    *len_out = offset / 4 * 3 + count - 1;
    return 0;
}
