/* UUIDs (RFC 9562): version 7 (time and random) for ids, version 4 bits for identities of files. */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uuid {
    uint8_t bytes[16];
};

enum { UUID_TEXT_LEN = 36 };

/* Version 7 from a time in ms and 74 random bits (of random[0], random[1]): a pure function, so
 * that a retry makes the same ids. */
void uuid_make_v7(uint64_t unix_ms, const uint64_t random[2], struct uuid *uuid_out);
/* From the system's random source; 0 or PDB_UNAVAILABLE. */
int uuid_random(struct uuid *uuid_out);
void uuid_format(const struct uuid *uuid, char text_out[UUID_TEXT_LEN + 1]);
int uuid_parse(const char *ptr, size_t len, struct uuid *uuid_out);
bool uuid_equal(const struct uuid *a, const struct uuid *b);

#endif
