/* snapshot_tar.c: headers of tar archives.
 *
 *     0 name[100]  100 mode[8]  108 uid[8]  116 gid[8]  124 size[12]  136 mtime[12]
 *     148 checksum[8]  156 type  157 link[100]  257 "ustar" NUL "00"  345 prefix[155]
 *
 * Numbers are octal digits; a size whose first bit is set is big-endian binary in the others. */
#include "engine/snapshot_tar.h"

#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum {
    AT_MODE = 100,
    AT_UID = 108,
    AT_GID = 116,
    AT_SIZE = 124,
    AT_TIME = 136,
    AT_SUM = 148,
    AT_TYPE = 156,
    AT_MAGIC = 257,
    AT_PREFIX = 345,
    NAME_BYTES = 100,
    SIZE_BYTES = 12,
    SUM_BYTES = 8,
    PREFIX_BYTES = 155,
};

/* The checksum's own place counts as spaces. */
static unsigned sum_of(const char *block)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < SNAPSHOT_TAR_BLOCK; i++)
        sum += i >= AT_SUM && i < AT_SUM + SUM_BYTES ? ' ' : (unsigned char)block[i];
    return sum;
}

static void put_octal(char *at, unsigned digits, uint64_t value)
{
    at[digits] = '\0';
    while (digits-- != 0) {
        at[digits] = (char)('0' + (value & 7));
        value >>= 3;
    }
}

static void put_size(char *at, uint64_t bytes)
{
    if (bytes < UINT64_C(1) << 33) {
        put_octal(at, SIZE_BYTES - 1, bytes);
        return;
    }
    memset(at, 0, SIZE_BYTES);
    at[0] = (char)0x80;
    for (unsigned i = 0; i < 8; i++)
        at[SIZE_BYTES - 1 - i] = (char)(bytes >> 8 * i);
}

void snapshot_tar_encode(char block_out[SNAPSHOT_TAR_BLOCK], const char *name, uint64_t bytes,
                         int64_t time_s)
{
    memset(block_out, 0, SNAPSHOT_TAR_BLOCK);
    memcpy(block_out, name, strnlen(name, NAME_BYTES));
    put_octal(block_out + AT_MODE, 7, 0640);
    put_octal(block_out + AT_UID, 7, 0);
    put_octal(block_out + AT_GID, 7, 0);
    put_size(block_out + AT_SIZE, bytes);
    put_octal(block_out + AT_TIME, 11, time_s > 0 ? (uint64_t)time_s : 0);
    block_out[AT_TYPE] = '0';
    memcpy(block_out + AT_MAGIC, "ustar\00000", 8);
    put_octal(block_out + AT_SUM, 6, sum_of(block_out));
    block_out[AT_SUM + 7] = ' ';
}

/* Leading spaces, digits, then a space, a NUL, or the end of the field. */
static bool take_octal(const char *at, unsigned len, uint64_t *value_out)
{
    uint64_t value = 0;
    unsigned i = 0;
    while (i < len && at[i] == ' ')
        i++;
    for (; i < len && at[i] >= '0' && at[i] <= '7'; i++)
        value = value << 3 | (uint64_t)(at[i] - '0'); /* at most 12 digits */
    *value_out = value;
    return i == len || at[i] == ' ' || at[i] == '\0';
}

static bool take_size(const char *at, uint64_t *bytes_out)
{
    if (((unsigned char)at[0] & 0x80) == 0)
        return take_octal(at, SIZE_BYTES, bytes_out);
    uint64_t bytes = 0;
    for (unsigned i = 1; i < SIZE_BYTES; i++) {
        if (bytes >> 55 != 0)
            return false;
        bytes = bytes << 8 | (unsigned char)at[i];
    }
    *bytes_out = bytes;
    return true;
}

static enum snapshot_tar_kind kind_of(char type)
{
    switch (type) {
    case '0':
    case '\0':
        return SNAPSHOT_TAR_FILE;
    case '5':
        return SNAPSHOT_TAR_FOLDER;
    case 'x':
    case 'g':
        return SNAPSHOT_TAR_EXTENSION;
    default:
        return SNAPSHOT_TAR_OTHER;
    }
}

static bool is_zero(const char *block)
{
    for (unsigned i = 0; i < SNAPSHOT_TAR_BLOCK; i++)
        if (block[i] != 0)
            return false;
    return true;
}

void snapshot_tar_decode(const char block[SNAPSHOT_TAR_BLOCK], struct snapshot_tar_entry *entry_out)
{
    uint64_t sum;
    *entry_out = (struct snapshot_tar_entry){.kind = SNAPSHOT_TAR_WRONG};
    if (is_zero(block)) {
        entry_out->kind = SNAPSHOT_TAR_ZEROS;
        return;
    }
    if (!take_octal(block + AT_SUM, SUM_BYTES, &sum) || sum != sum_of(block) ||
        !take_size(block + AT_SIZE, &entry_out->bytes))
        return;
    entry_out->kind = kind_of(block[AT_TYPE]);
    bool prefixed = memcmp(block + AT_MAGIC, "ustar", 6) == 0 && block[AT_PREFIX] != '\0';
    (void)snprintf(entry_out->name, sizeof(entry_out->name), "%.*s%s%.*s",
                   prefixed ? PREFIX_BYTES : 0, block + AT_PREFIX, prefixed ? "/" : "", NAME_BYTES,
                   block);
}
