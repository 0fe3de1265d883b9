/* store_answer.c: the head of an answer, of any dialect: sizes, times, etags, our own metadata.
 * What cannot be read counts as absent; lengths are checked again where they matter. */
#include "store/store_http_internal.h"

#include <curl/curl.h>
#include <string.h>
#include <strings.h>

#include "base/no_libc_heap.h"

enum { DATE_TEXT_SIZE = 64, RETRY_AFTER_MAX_S = 30 };

static bool named(struct pdb_text name, const char *wanted)
{
    return name.len == strlen(wanted) && strncasecmp(name.ptr, wanted, name.len) == 0;
}

/* "x-amz-meta-crc32c", "x-goog-meta-crc32c", "x-ms-meta-crc32c". */
static bool named_meta(struct pdb_text name, const char *wanted)
{
    static const char *const prefixes[] = {"x-amz-meta-", "x-goog-meta-", "x-ms-meta-"};
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        size_t len = strlen(prefixes[i]);
        if (name.len > len && strncasecmp(name.ptr, prefixes[i], len) == 0)
            return named((struct pdb_text){name.ptr + len, name.len - len}, wanted);
    }
    return false;
}

/* Digits at the front of `*text`, taken off it. */
static bool take_number(struct pdb_text *text, uint64_t *number_out)
{
    uint64_t number = 0;
    size_t at = 0;
    for (; at < text->len && text->ptr[at] >= '0' && text->ptr[at] <= '9'; at++) {
        if (at == 18)
            return false;
        number = number * 10 + (uint64_t)(text->ptr[at] - '0');
    }
    *text = (struct pdb_text){text->ptr + at, text->len - at};
    *number_out = number;
    return at != 0;
}

static bool take_byte(struct pdb_text *text, char c)
{
    if (text->len == 0 || text->ptr[0] != c)
        return false;
    *text = (struct pdb_text){text->ptr + 1, text->len - 1};
    return true;
}

/* "bytes 0-9/100" (RFC 9110, section 14.4). */
static void read_range(struct store_answer *a, struct pdb_text value)
{
    uint64_t first = 0, last = 0, total = 0;
    const struct pdb_text unit = TEXT_LIT("bytes ");
    if (!text_starts_with(value, unit))
        return;
    struct pdb_text rest = {value.ptr + unit.len, value.len - unit.len};
    if (!take_number(&rest, &first) || !take_byte(&rest, '-') || !take_number(&rest, &last) ||
        !take_byte(&rest, '/') || !take_number(&rest, &total) || rest.len != 0 || first > last ||
        last >= total)
        return;
    a->has_range = true;
    a->range_first = first;
    a->range_total = total;
}

static void read_crc(struct store_answer *a, struct pdb_text value)
{
    uint32_t crc = 0;
    if (value.len != 8)
        return;
    for (size_t i = 0; i < 8; i++) {
        char c = value.ptr[i];
        bool digit = c >= '0' && c <= '9', letter = c >= 'a' && c <= 'f';
        if (!digit && !letter)
            return;
        crc = crc << 4 | (uint32_t)(digit ? c - '0' : c - 'a' + 10);
    }
    a->info.crc32c = crc;
    a->info.has_crc32c = true;
}

static void read_date(struct store_answer *a, struct pdb_text value)
{
    char text[DATE_TEXT_SIZE];
    if (value.len >= sizeof(text))
        return;
    memcpy(text, value.ptr, value.len);
    text[value.len] = '\0';
    time_t seconds = curl_getdate(text, NULL);
    if (seconds > 0 && (int64_t)seconds <= INT64_MAX / 1000000)
        a->info.modified_us = (int64_t)seconds * 1000000;
}

static void copy(struct pdb_text value, char *to, size_t size)
{
    size_t len = value.len < size ? value.len : 0;
    memcpy(to, value.ptr, len);
    to[len] = '\0';
}

void store_answer_header(struct store_answer *a, struct pdb_text name, struct pdb_text value)
{
    uint64_t number = 0;
    struct pdb_text rest = value;
    if (named(name, "content-length")) {
        a->has_length = take_number(&rest, &a->length) && rest.len == 0;
        a->info.size = a->has_length ? a->length : 0;
    } else if (named(name, "content-range")) {
        read_range(a, value);
    } else if (named(name, "etag") && !a->generation) {
        store_etag_set(&a->info, value.ptr, value.len);
    } else if (named(name, "x-goog-generation")) {
        store_etag_set(&a->info, value.ptr, value.len);
        a->generation = true;
    } else if (named(name, "last-modified")) {
        read_date(a, value);
    } else if (named(name, "retry-after") && take_number(&rest, &number) && rest.len == 0) {
        a->retry_after_ms =
            number < RETRY_AFTER_MAX_S ? (uint32_t)number * 1000 : RETRY_AFTER_MAX_S * 1000;
    } else if (named_meta(name, "crc32c")) {
        read_crc(a, value);
    } else if (named_meta(name, "writeid")) {
        copy(value, a->write_id, sizeof(a->write_id));
    } else if (named(name, "x-ms-error-code")) {
        copy(value, a->error_code, sizeof(a->error_code));
    }
}
