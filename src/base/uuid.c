/* uuid.c: RFC 9562. Version 7 begins with the time, so that ids made together lie together. */
#include "base/uuid.h"

#include <errno.h>
#include <proximadb/error.h>
#include <string.h>
#include <sys/random.h>

static void set_version(struct uuid *uuid, unsigned version)
{
    uuid->bytes[6] = (uint8_t)((uuid->bytes[6] & 0x0f) | version << 4);
    uuid->bytes[8] = (uint8_t)((uuid->bytes[8] & 0x3f) | 0x80); /* variant 10 */
}

void uuid_make_v7(uint64_t unix_ms, const uint64_t random[2], struct uuid *uuid_out)
{
    for (int i = 0; i < 6; i++)
        uuid_out->bytes[i] = (uint8_t)(unix_ms >> (40 - 8 * i));
    uuid_out->bytes[6] = (uint8_t)(random[0] >> 8);
    uuid_out->bytes[7] = (uint8_t)random[0];
    memcpy(uuid_out->bytes + 8, &random[1], 8);
    set_version(uuid_out, 7);
}

int uuid_random(struct uuid *uuid_out)
{
    struct uuid uuid;
    ssize_t got = 0;
    do {
        got = getrandom(uuid.bytes, sizeof(uuid.bytes), 0); /* up to 256 bytes never come short */
    } while (got < 0 && errno == EINTR);
    if (got != sizeof(uuid.bytes))
        return PDB_UNAVAILABLE;
    set_version(&uuid, 4);
    *uuid_out = uuid;
    return 0;
}

void uuid_format(const struct uuid *uuid, char text_out[UUID_TEXT_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";
    char *at = text_out;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = digits[uuid->bytes[i] >> 4];
        *at++ = digits[uuid->bytes[i] & 15];
    }
    *at = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int uuid_parse(const char *ptr, size_t len, struct uuid *uuid_out)
{
    if (len != UUID_TEXT_LEN)
        return PDB_INVALID_ARGUMENT;
    struct uuid uuid = {{0}};
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            if (*ptr++ != '-')
                return PDB_INVALID_ARGUMENT;
        }
        int high = hex_value(ptr[0]), low = hex_value(ptr[1]);
        if (high < 0 || low < 0)
            return PDB_INVALID_ARGUMENT;
        uuid.bytes[i] = (uint8_t)(high << 4 | low);
        ptr += 2;
    }
    *uuid_out = uuid;
    return 0;
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}
