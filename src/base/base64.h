/* Base64 (RFC 4648 section 4, padded; the URL alphabet by flag). */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

size_t base64_encoded_len(size_t len); /* with padding */
void base64_encode(const void *bytes, size_t len, char *text_out);
/* Upper bound of the decoded length. */
size_t base64_decoded_max(size_t len);
/* Strict: no space, right padding, no stray bits. 0 or PDB_INVALID_ARGUMENT with the offset in
 * *bad_out. */
int base64_decode(const char *text, size_t len, bool url, void *bytes_out, size_t *len_out,
                  size_t *bad_out);

#endif
