/* thrift.h: the compact protocol of Apache Thrift, as far as Parquet uses it.
 *
 * Reader: walks bytes that somebody else wrote. A failure sticks: once anything was wrong, `failed`
 * is set, every further value is 0 and every loop ends, so that code which reads a struct looks
 * like the struct and asks once, at its end. Nothing is believed before it is compared with the
 * bytes that are left: a list cannot have more elements than bytes, a string cannot be longer.
 *
 *     struct pq_thrift_field field;
 *     pq_thrift_begin(&reader);
 *     while (pq_thrift_next(&reader, &field)) {
 *         switch (field.id) {
 *         case 1: rows = pq_thrift_i64(&reader, field.type); break;
 *         default: pq_thrift_skip(&reader, field.type);
 *         }
 *     }
 *     if (reader.failed) ...
 *
 * Writer: into a pq_buffer, whose failure sticks likewise.
 *
 * Source: thrift/doc/specs/thrift-compact-protocol.md of Apache Thrift. Maps, doubles and UUIDs are
 * skipped correctly but never read or written: no struct of Parquet has them. */
#ifndef PQFILE_THRIFT_H
#define PQFILE_THRIFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

/* What a field or an element is. A boolean field carries its value in its type. */
enum pq_thrift_type {
    PQ_THRIFT_STOP = 0,
    PQ_THRIFT_TRUE = 1, /* also the element type of a list of booleans */
    PQ_THRIFT_FALSE = 2,
    PQ_THRIFT_I8 = 3,
    PQ_THRIFT_I16 = 4,
    PQ_THRIFT_I32 = 5,
    PQ_THRIFT_I64 = 6,
    PQ_THRIFT_DOUBLE = 7,
    PQ_THRIFT_BINARY = 8,
    PQ_THRIFT_LIST = 9,
    PQ_THRIFT_SET = 10,
    PQ_THRIFT_MAP = 11,
    PQ_THRIFT_STRUCT = 12,
    PQ_THRIFT_UUID = 13,
};

enum { PQ_THRIFT_DEPTH_MAX = 24 }; /* structs inside structs; Parquet's own metadata needs 8 */

struct pq_thrift_field {
    uint8_t type; /* enum pq_thrift_type */
    int16_t id;
};

struct pq_thrift_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
    bool is_short;  /* failed because bytes were missing: more of them might help */
    uint32_t depth; /* open structs */
    int16_t last_id[PQ_THRIFT_DEPTH_MAX + 1]; /* per open struct: the field before */
};

void pq_thrift_open(struct pq_thrift_reader *r, const uint8_t *data, size_t len);

/* Opens the struct at the cursor; pq_thrift_next closes it by returning false. */
void pq_thrift_begin(struct pq_thrift_reader *r);

/* The next field of the innermost struct. False at its end and after a failure. Its value must then
 * be read or skipped. */
bool pq_thrift_next(struct pq_thrift_reader *r, struct pq_thrift_field *field_out);

/* Skips a value of any type, whatever it contains. */
void pq_thrift_skip(struct pq_thrift_reader *r, uint8_t type);

/* Values. `type` is the field's: another type than the one asked for is a failure, except that
 * integers of other widths are taken when the value fits. */
bool pq_thrift_bool(struct pq_thrift_reader *r, uint8_t type);
int32_t pq_thrift_i32(struct pq_thrift_reader *r, uint8_t type);
int64_t pq_thrift_i64(struct pq_thrift_reader *r, uint8_t type);

/* Bytes inside the input; they live as long as it does. NULL and 0 after a failure; never NULL
 * otherwise. */
const uint8_t *pq_thrift_binary(struct pq_thrift_reader *r, uint8_t type, size_t *len_out);

/* The head of a list or set: how many elements of which type follow. The count is at most the bytes
 * left. Elements that are booleans are read by pq_thrift_bool_element. */
uint32_t pq_thrift_list(struct pq_thrift_reader *r, uint8_t type, uint8_t *element_type_out);
bool pq_thrift_bool_element(struct pq_thrift_reader *r);

/* ---- writer ---- */

struct pq_thrift_writer {
    struct pq_buffer *out; /* the caller's; its `failed` is this writer's */
    uint32_t depth;
    int16_t last_id[PQ_THRIFT_DEPTH_MAX + 1];
};

void pq_thrift_writer_open(struct pq_thrift_writer *w, struct pq_buffer *out);

/* A struct that is the top, or an element of a list, is opened by begin alone; one that is a field
 * by field_struct. Both are closed by end. */
void pq_thrift_write_begin(struct pq_thrift_writer *w);
void pq_thrift_write_end(struct pq_thrift_writer *w);
void pq_thrift_write_struct(struct pq_thrift_writer *w, int16_t id);

void pq_thrift_write_bool(struct pq_thrift_writer *w, int16_t id, bool value);
void pq_thrift_write_i8(struct pq_thrift_writer *w, int16_t id, int8_t value);
void pq_thrift_write_i16(struct pq_thrift_writer *w, int16_t id, int16_t value);
void pq_thrift_write_i32(struct pq_thrift_writer *w, int16_t id, int32_t value);
void pq_thrift_write_i64(struct pq_thrift_writer *w, int16_t id, int64_t value);
void pq_thrift_write_binary(struct pq_thrift_writer *w, int16_t id, const void *data, size_t len);

/* The head of a list field; exactly `count` elements must follow. */
void pq_thrift_write_list(struct pq_thrift_writer *w, int16_t id, uint8_t element_type,
                          size_t count);
void pq_thrift_write_i32_element(struct pq_thrift_writer *w, int32_t value);
void pq_thrift_write_i64_element(struct pq_thrift_writer *w, int64_t value);
void pq_thrift_write_bool_element(struct pq_thrift_writer *w, bool value);
void pq_thrift_write_binary_element(struct pq_thrift_writer *w, const void *data, size_t len);

#endif
