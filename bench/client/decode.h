/* Replies as values. They come from outside: every length is checked. Pure, except for memory. */
#ifndef BENCH_DECODE_H
#define BENCH_DECODE_H

#include "base/arena.h"
#include "base/trail.h"

#include <proximadb/types.h>
#include <stdint.h>

#define DECODE_ROW_UNKNOWN UINT32_MAX /* an id that is not a row number of ours */

struct decode_hit {
    uint32_t row; /* the id as a number, or DECODE_ROW_UNKNOWN */
    float score;
};

/* The message of a unary gRPC reply: 0, or PDB_INTERNAL when it is not exactly one uncompressed
 * message. */
int decode_grpc_prefix(struct pdb_text reply, struct pdb_text *message_out);

/* How many records a write says it wrote. 0 or PDB_INTERNAL. */
int decode_write(bool grpc, struct pdb_text reply, struct arena *arena, uint64_t *upserted_out);

/* The hits in their order; at most `capacity` are stored, *count_out counts all. 0 or
 * PDB_INTERNAL. */
int decode_search(bool grpc, struct pdb_text reply, struct arena *arena,
                  struct decode_hit *hits_out, size_t capacity, size_t *count_out);

/* The code (as gRPC counts them) and message of a REST error; the status alone decides when there
 * is no such body. */
int decode_rest_error(int http_status, struct pdb_text reply, struct arena *arena,
                      char *message_out, size_t message_bytes);

/* A member of a JSON object, as number; `fallback` when it is not there. */
uint64_t decode_json_u64(struct pdb_text json, struct arena *arena, const char *key,
                         uint64_t fallback);

#endif
