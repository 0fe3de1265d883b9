/* writer_options.c: what may be asked of a column, and what is meant by leaving it open. */
#include <assert.h>

#include "codec.h"
#include "error.h"
#include "writer_internal.h"

enum { PAGE_BYTES_MAX = 1 << 30, VERSION_DEFAULT = 2 };

static const double fpp_default = 0.01;

static uint32_t or_default(uint32_t given, uint32_t fallback)
{
    return given == 0 ? fallback : given;
}

static bool encoding_fits(enum pqfile_encoding encoding, enum pqfile_type type)
{
    switch (encoding) {
    case PQFILE_PLAIN:
        return true;
    case PQFILE_RLE:
        return type == PQFILE_BOOLEAN;
    case PQFILE_RLE_DICTIONARY:
        return type != PQFILE_BOOLEAN;
    case PQFILE_DELTA_BINARY_PACKED:
        return type == PQFILE_INT32 || type == PQFILE_INT64;
    case PQFILE_BYTE_STREAM_SPLIT:
        return type != PQFILE_BOOLEAN && type != PQFILE_BYTE_ARRAY;
    case PQFILE_PLAIN_DICTIONARY:
    case PQFILE_BIT_PACKED:
    case PQFILE_DELTA_LENGTH_BYTE_ARRAY:
    case PQFILE_DELTA_BYTE_ARRAY:
    default:
        return false;
    }
}

static bool is_byte(const struct pqfile_node *node)
{
    const struct pqfile_logical *logical = &node->logical;
    return node->type == PQFILE_INT32 && logical->kind == PQFILE_LOGICAL_INTEGER &&
           logical->bits == 8 && logical->is_signed;
}

static const char *why_not(const struct pqfile_column_options *o, const struct pq_column *column)
{
    if (!encoding_fits(o->encoding, column->node->type))
        return "the encoding does not fit the type";
    if (!pq_codec_is_writable(o->codec))
        return "the codec is not written";
    if (o->page_version > 2)
        return "page_version is 1 or 2";
    if (o->page_bytes > PAGE_BYTES_MAX || o->dictionary_bytes > PAGE_BYTES_MAX)
        return "pages and dictionaries have at most 2^30 bytes";
    if (o->page_rows > INT32_MAX)
        return "pages have at most 2^31 rows";
    if (o->value_alignment > PQFILE_ALIGNMENT_MAX ||
        (o->value_alignment & (o->value_alignment - 1)) != 0)
        return "value_alignment is no power of two up to 4096";
    if (o->value_alignment > 1 && !column->direct &&
        !(o->as_bytes && o->codec == PQFILE_UNCOMPRESSED))
        return "only PLAIN, uncompressed values of fixed width are aligned";
    if (o->as_bytes && !is_byte(column->node))
        return "only INT32 that is an INTEGER of 8 bits with sign is stored as bytes";
    if (o->as_bytes && (o->encoding != PQFILE_RLE_DICTIONARY || o->page_version == 1 ||
                        !o->no_statistics || o->bloom))
        return "bytes are RLE_DICTIONARY in version 2 pages, without statistics";
    if (o->bloom && column->node->type == PQFILE_BOOLEAN)
        return "a bloom filter of booleans";
    if (!(o->bloom_fpp >= 0.0 && o->bloom_fpp < 1.0))
        return "bloom_fpp is between 0 and 1";
    return NULL;
}

int pq_column_options(struct pq_column *column, const struct pqfile_column_options *given,
                      struct pqfile_error *error)
{
    const struct pqfile_node *node = column->node;
    struct pqfile_column_options *o = &column->options;
    *o = *given;
    column->direct = o->encoding == PQFILE_PLAIN && o->codec == PQFILE_UNCOMPRESSED &&
                     node->type != PQFILE_BOOLEAN && node->type != PQFILE_BYTE_ARRAY;
    const char *why = why_not(o, column);
    if (why != NULL)
        return pq_error(error, PQFILE_INVALID, "field \"%.80s\": %s", node->name, why);
    if (o->as_bytes)
        column->width = 1;
    o->page_version = o->page_version == 0 ? VERSION_DEFAULT : o->page_version;
    o->page_bytes = or_default(o->page_bytes, PQFILE_PAGE_BYTES_DEFAULT);
    o->page_rows = or_default(o->page_rows, PQFILE_PAGE_ROWS_DEFAULT);
    o->dictionary_bytes = or_default(o->dictionary_bytes, PQFILE_DICTIONARY_BYTES_DEFAULT);
    o->bound_bytes = or_default(o->bound_bytes, PQFILE_BOUND_BYTES_DEFAULT);
    o->bloom_fpp = o->bloom_fpp > 0.0 ? o->bloom_fpp : fpp_default;
    return 0;
}
