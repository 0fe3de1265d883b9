/* What the parts of doc_*.c share: the tags of docs/formats/document.md and reading of trusted
 * bytes. */
#ifndef BASE_DOC_INTERNAL_H
#define BASE_DOC_INTERNAL_H

#include "base/bytes.h"
#include "base/doc.h"

enum { DOC_VERSION = 1 };

enum doc_tag {
    DOC_TAG_NULL = 0x00,
    DOC_TAG_FALSE = 0x01,
    DOC_TAG_TRUE = 0x02,
    DOC_TAG_INT8 = 0x03,
    DOC_TAG_INT16 = 0x04,
    DOC_TAG_INT32 = 0x05,
    DOC_TAG_INT64 = 0x06,
    DOC_TAG_FLOAT = 0x07,
    DOC_TAG_STRING = 0x08, /* more than DOC_SHORT_STRING_MAX bytes */
    DOC_TAG_ARRAY = 0x09,
    DOC_TAG_OBJECT = 0x0a,
    DOC_TAG_SMALL_INT = 0x40,    /* 0x40..0x7f: 0..63 */
    DOC_TAG_SHORT_STRING = 0x80, /* 0x80..0xff: 0..127 bytes */
};

enum { DOC_SMALL_INT_MAX = 63, DOC_SHORT_STRING_MAX = 127, DOC_VARINT_MAX = 5 };

/* Bytes of one offset in the table of an object. The body includes the table, and a table of
 * narrower offsets only makes it smaller, so that the rule has one answer for any object. */
static inline unsigned doc_offset_width(uint32_t body_bytes)
{
    return body_bytes <= 0xff ? 1 : body_bytes <= 0xffff ? 2 : 4;
}

static inline uint32_t doc_offset(const uint8_t *table, unsigned width, uint32_t index)
{
    if (width == 1)
        return table[index];
    return width == 2 ? bytes_get_u16(table + 2 * (size_t)index)
                      : bytes_get_u32(table + 4 * (size_t)index);
}

/* Trusted: seven bits a byte, the low ones first. Moves *at. */
static inline uint32_t doc_varint(const uint8_t **at)
{
    uint32_t value = *(*at)++;
    if (value < 0x80)
        return value;
    value &= 0x7f;
    for (unsigned shift = 7;; shift += 7) {
        uint32_t byte = *(*at)++;
        value |= (byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
}

/* Trusted: the key of an entry; moves *at to its value. */
static inline struct pdb_text doc_key(const uint8_t **at)
{
    uint32_t len = doc_varint(at);
    struct pdb_text key = {(const char *)*at, len};
    *at += len;
    return key;
}

/* Trusted: reads the value at `at`, returns what lies behind it. */
const uint8_t *doc_read(const uint8_t *at, struct doc_value *value_out);

/* As doc_find, and *entry_out: where the member's entry (its key) begins. */
bool doc_find_entry(const struct doc_value *root, struct pdb_text path, const uint8_t **entry_out,
                    struct doc_value *value_out);

#endif
