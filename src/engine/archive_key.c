/* archive_key.c: how the objects of an archive are named. Numbers have leading zeros, so that the
 * order of keys, in which stores list, is the order of the things. */
#include "engine/archive_format.h"

#include "base/assert.h"
#include "engine/catalog.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/no_libc_heap.h"

enum {
    SEQ_DIGITS = 16,
    VERSION_DIGITS = 20,
    CRC_DIGITS = 8,
    NAME_LEN = 23, /* 20260131T235959.123456Z */
};

/* ---- writing ---- */

static void set_key(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity, const char *rest)
{
    char text[UUID_TEXT_LEN + 1];
    uuid_format(identity, text);
    int len = snprintf(key_out, ARCHIVE_KEY_SIZE, "%s/%s", text, rest);
    ASSERT(len > 0 && len < ARCHIVE_KEY_SIZE);
}

void archive_prefix(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity)
{
    set_key(key_out, identity, "");
}

void archive_identity_key(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity)
{
    set_key(key_out, identity, "IDENTITY");
}

void archive_state_key(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity)
{
    set_key(key_out, identity, "STATE");
}

void archive_wal_prefix(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity,
                        const struct uuid *log)
{
    char rest[64] = "wal/", text[UUID_TEXT_LEN + 1];
    if (log != NULL) {
        uuid_format(log, text);
        (void)snprintf(rest, sizeof(rest), "wal/%s/", text);
    }
    set_key(key_out, identity, rest);
}

void archive_wal_key(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity,
                     const struct uuid *log, uint64_t seq)
{
    char rest[96], text[UUID_TEXT_LEN + 1];
    uuid_format(log, text);
    (void)snprintf(rest, sizeof(rest), "wal/%s/%016" PRIx64 ".wal", text, seq);
    set_key(key_out, identity, rest);
}

void archive_catalog_prefix(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity)
{
    set_key(key_out, identity, "catalog/");
}

void archive_catalog_key(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity,
                         uint64_t version)
{
    char rest[64];
    (void)snprintf(rest, sizeof(rest), "catalog/%020" PRIu64 ".catalog", version);
    set_key(key_out, identity, rest);
}

void archive_segments_prefix(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity)
{
    set_key(key_out, identity, "segments/");
}

void archive_base_prefix(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity,
                         const char *base)
{
    char rest[64] = "bases/";
    if (base != NULL)
        (void)snprintf(rest, sizeof(rest), "bases/%.*s/", ARCHIVE_NAME_SIZE - 1, base);
    set_key(key_out, identity, rest);
}

void archive_base_key(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity, const char *base)
{
    char rest[64];
    (void)snprintf(rest, sizeof(rest), "bases/%.*s/BASE", ARCHIVE_NAME_SIZE - 1, base);
    set_key(key_out, identity, rest);
}

void archive_file_key(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity, const char *base,
                      const struct snapshot_part *part, uint32_t file)
{
    const struct snapshot_file *f = &part->files[file];
    char rest[192], text[UUID_TEXT_LEN + 1];
    ASSERT(file < part->file_count);
    uuid_format(&part->entry->uuid, text);
    if (file == 0)
        (void)snprintf(rest, sizeof(rest), "bases/%.*s/%s/%s", ARCHIVE_NAME_SIZE - 1, base, text,
                       f->name);
    else
        (void)snprintf(rest, sizeof(rest), "segments/%s/%s-%08" PRIx32, text, f->name, f->crc32c);
    set_key(key_out, identity, rest);
}

void archive_base_name(char name_out[ARCHIVE_NAME_SIZE], int64_t begun_us)
{
    char text[20] = "";
    int64_t in_range = begun_us < 0 ? 0 : begun_us; /* a clock before 1970 */
    time_t seconds = (time_t)(in_range / 1000000);
    struct tm tm;
    if (gmtime_r(&seconds, &tm) != NULL)
        (void)strftime(text, sizeof(text), "%Y%m%dT%H%M%S", &tm);
    (void)snprintf(name_out, ARCHIVE_NAME_SIZE, "%s.%06dZ", text, (int)(in_range % 1000000));
}

/* ---- reading ---- */

/* Up to the next '/' or the end; the rest is behind it. */
static struct pdb_text next_part(struct pdb_text *rest)
{
    const char *slash = rest->len != 0 ? memchr(rest->ptr, '/', rest->len) : NULL;
    struct pdb_text part = {rest->ptr, slash != NULL ? (size_t)(slash - rest->ptr) : rest->len};
    size_t used = part.len + (slash != NULL);
    if (used != 0)
        *rest = (struct pdb_text){rest->ptr + used, rest->len - used};
    return part;
}

static bool strip_tail(struct pdb_text *t, struct pdb_text tail)
{
    if (t->len < tail.len || memcmp(t->ptr + t->len - tail.len, tail.ptr, tail.len) != 0)
        return false;
    t->len -= tail.len;
    return true;
}

static bool take_number(struct pdb_text t, unsigned base, size_t digits, uint64_t *value_out)
{
    uint64_t value = 0;
    if (t.len != digits)
        return false;
    for (size_t i = 0; i < t.len; i++) {
        char c = t.ptr[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                                : 99;
        if (digit >= base || __builtin_mul_overflow(value, (uint64_t)base, &value) ||
            __builtin_add_overflow(value, (uint64_t)digit, &value))
            return false;
    }
    *value_out = value;
    return true;
}

static bool take_name(struct pdb_text t, char name_out[ARCHIVE_NAME_SIZE])
{
    static const char shape[NAME_LEN + 1] = "00000000T000000.000000Z";
    if (t.len != NAME_LEN)
        return false;
    for (size_t i = 0; i < NAME_LEN; i++) {
        bool digit = t.ptr[i] >= '0' && t.ptr[i] <= '9';
        if (shape[i] == '0' ? !digit : t.ptr[i] != shape[i])
            return false;
    }
    memcpy(name_out, t.ptr, NAME_LEN);
    name_out[NAME_LEN] = '\0';
    return true;
}

/* Only as uuid_format writes it: one thing has one key. */
static bool take_uuid(struct pdb_text t, struct uuid *uuid_out)
{
    char text[UUID_TEXT_LEN + 1];
    struct uuid uuid;
    if (uuid_parse(t.ptr, t.len, &uuid) < 0)
        return false;
    uuid_format(&uuid, text);
    if (!text_equal(t, text_of(text)))
        return false;
    *uuid_out = uuid;
    return true;
}

/* <number>.<parquet or index>-<crc> */
static bool is_segment_name(struct pdb_text t)
{
    char name[SHARD_NAME_MAX];
    uint64_t crc, number;
    if (t.len < CRC_DIGITS + 2 || t.len - CRC_DIGITS - 1 >= sizeof(name))
        return false;
    size_t len = t.len - CRC_DIGITS - 1;
    if (t.ptr[len] != '-' ||
        !take_number((struct pdb_text){t.ptr + len + 1, CRC_DIGITS}, 16, CRC_DIGITS, &crc))
        return false;
    memcpy(name, t.ptr, len);
    name[len] = '\0';
    enum shard_file_kind kind = shard_files_parse(name, &number);
    return kind == SHARD_FILE_PARQUET || kind == SHARD_FILE_INDEX;
}

static enum archive_object parse_base(struct pdb_text rest, struct archive_parsed *p)
{
    char name[SHARD_NAME_MAX];
    uint64_t number;
    if (!take_name(next_part(&rest), p->name))
        return ARCHIVE_OTHER;
    if (text_equal(rest, TEXT_LIT("BASE")))
        return ARCHIVE_BASE;
    struct uuid collection;
    if (!take_uuid(next_part(&rest), &collection) || rest.len >= sizeof(name))
        return ARCHIVE_OTHER;
    memcpy(name, rest.ptr, rest.len);
    name[rest.len] = '\0';
    return shard_files_parse(name, &number) == SHARD_FILE_MANIFEST ? ARCHIVE_MANIFEST
                                                                   : ARCHIVE_OTHER;
}

static enum archive_object parse_rest(struct pdb_text rest, struct archive_parsed *p)
{
    struct uuid collection;
    struct pdb_text kind = next_part(&rest);
    if (text_equal(kind, TEXT_LIT("bases")))
        return parse_base(rest, p);
    if (text_equal(kind, TEXT_LIT("IDENTITY")) && rest.len == 0)
        return ARCHIVE_IDENTITY;
    if (text_equal(kind, TEXT_LIT("STATE")) && rest.len == 0)
        return ARCHIVE_STATE;
    if (text_equal(kind, TEXT_LIT("wal")) && take_uuid(next_part(&rest), &p->log) &&
        strip_tail(&rest, TEXT_LIT(".wal")) && take_number(rest, 16, SEQ_DIGITS, &p->number))
        return ARCHIVE_WAL;
    if (text_equal(kind, TEXT_LIT("catalog")) && strip_tail(&rest, TEXT_LIT(".catalog")) &&
        take_number(rest, 10, VERSION_DIGITS, &p->number))
        return ARCHIVE_CATALOG;
    if (text_equal(kind, TEXT_LIT("segments")) && take_uuid(next_part(&rest), &collection) &&
        is_segment_name(rest))
        return ARCHIVE_SEGMENT;
    return ARCHIVE_OTHER;
}

enum archive_object archive_parse(struct pdb_text key, struct archive_parsed *parsed_out)
{
    struct archive_parsed parsed = {0};
    enum archive_object kind = ARCHIVE_OTHER;
    if (take_uuid(next_part(&key), &parsed.identity))
        kind = parse_rest(key, &parsed);
    if (kind != ARCHIVE_OTHER)
        *parsed_out = parsed;
    return kind;
}
