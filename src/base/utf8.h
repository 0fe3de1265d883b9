/* UTF-8 (RFC 3629): validation at memory speed and encoding of one code point. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The offset of the first byte that does not belong to valid UTF-8; `len` when all is valid. */
size_t utf8_invalid_at(const char *ptr, size_t len);
/* 1..4 bytes; `code_point` must be a scalar value. */
size_t utf8_encode(uint32_t code_point, char bytes_out[4]);

#endif
