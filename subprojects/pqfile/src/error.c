/* error.c: see error.h; and the static texts of types.h. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int pq_error(struct pqfile_error *error, int code, const char *format, ...)
{
    if (error == NULL)
        return code;
    va_list args;
    va_start(args, format);
    error->code = code;
    if (vsnprintf(error->message, sizeof error->message, format, args) < 0)
        error->message[0] = '\0';
    va_end(args);
    return code;
}

int pq_error_at(struct pqfile_error *error, int code, const char *format, ...)
{
    if (error == NULL)
        return code;
    char inner[PQFILE_MESSAGE_SIZE];
    memcpy(inner, error->message, sizeof inner);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n;
    for (const char *c = ", "; *c != '\0' && len < sizeof error->message - 1; c++)
        error->message[len++] = *c;
    for (const char *c = inner; *c != '\0' && len < sizeof error->message - 1; c++)
        error->message[len++] = *c;
    error->message[len < sizeof error->message ? len : sizeof error->message - 1] = '\0';
    error->code = code;
    return code;
}

int pq_error_plain(struct pqfile_error *error, int code)
{
    return pq_error(error, code, "%s", pqfile_code_text(code));
}

const char *pqfile_code_text(int code)
{
    switch (code) {
    case PQFILE_OK:
        return "no error";
    case PQFILE_NO_MEMORY:
        return "out of memory";
    case PQFILE_CORRUPT:
        return "corrupt file";
    case PQFILE_UNSUPPORTED:
        return "not supported";
    case PQFILE_LIMIT:
        return "over a limit";
    case PQFILE_INVALID:
        return "invalid argument";
    case PQFILE_IO:
        return "input or output failed";
    default:
        return "unknown error";
    }
}

const char *pqfile_type_name(enum pqfile_type type)
{
    static const char *const names[] = {"BOOLEAN", "INT32",  "INT64",      "INT96",
                                        "FLOAT",   "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"};
    size_t i = (size_t)type;
    return i < sizeof names / sizeof names[0] ? names[i] : "unknown type";
}

const char *pqfile_codec_name(enum pqfile_codec codec)
{
    static const char *const names[] = {"UNCOMPRESSED", "SNAPPY", "GZIP", "LZO",
                                        "BROTLI",       "LZ4",    "ZSTD", "LZ4_RAW"};
    size_t i = (size_t)codec;
    return i < sizeof names / sizeof names[0] ? names[i] : "unknown codec";
}

const char *pqfile_encoding_name(enum pqfile_encoding encoding)
{
    static const char *const names[] = {
        "PLAIN",          "unknown encoding",    "PLAIN_DICTIONARY",        "RLE",
        "BIT_PACKED",     "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY",
        "RLE_DICTIONARY", "BYTE_STREAM_SPLIT"};
    size_t i = (size_t)encoding;
    return i < sizeof names / sizeof names[0] ? names[i] : "unknown encoding";
}

size_t pqfile_value_size(enum pqfile_type type, uint32_t type_length)
{
    switch (type) {
    case PQFILE_BOOLEAN:
        return 1;
    case PQFILE_INT32:
    case PQFILE_FLOAT:
        return 4;
    case PQFILE_INT64:
    case PQFILE_DOUBLE:
        return 8;
    case PQFILE_INT96:
        return 12;
    case PQFILE_BYTE_ARRAY:
        return sizeof(struct pqfile_bytes);
    case PQFILE_FIXED_LEN_BYTE_ARRAY:
        return type_length;
    default:
        return 0;
    }
}
