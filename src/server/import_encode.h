/* import_encode.h: records as Avro (proto/avro/vector_record.avsc): what the server reads in place.
 * Pure. */
#ifndef SERVER_IMPORT_ENCODE_H
#define SERVER_IMPORT_ENCODE_H

#include "server/import_reader.h"

/* Appends one record; buffer->failed tells. */
void import_encode_record(struct buffer *out, const struct import_record *record);

enum { IMPORT_HEAD_MAX = 10 };
/* What stands before `count` encoded records, one block of an array; returns its length. Behind
 * them stands one byte, 0. */
size_t import_encode_head(char head_out[IMPORT_HEAD_MAX], uint32_t count);

#endif
