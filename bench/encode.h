/* Requests as bytes: protobuf with the gRPC prefix, JSON or Avro. Pure, except for memory. */
#ifndef BENCH_ENCODE_H
#define BENCH_ENCODE_H

#include "base/trail.h"
#include "bench/client/body.h"
#include "bench/client/dataset.h"

#include <proximadb/types.h>

enum encode_format { ENCODE_PACKED, ENCODE_RECORDS, ENCODE_AVRO };

/* Rows as JSON arrays, "[0.5,1]", made once so that no float is printed while the clock runs. */
struct encode_text {
    char *bytes;
    size_t *offsets; /* row i: offsets[i] .. offsets[i + 1] */
};

/* With `threads` threads. 0 or PDB_RESOURCE_EXHAUSTED. */
int encode_text_make(struct encode_text *text_out, const struct dataset *dataset, unsigned threads);
void encode_text_dispose(struct encode_text *text);

struct encode_target {
    bool grpc; /* else REST */
    enum encode_format format;
    const char *collection;
    const struct dataset *rows;
    const struct encode_text
        *text; /* of `rows`; needed by REST, except for packed and Avro writes */
    struct pdb_text
        filter; /* searches: as encode_filter made it (gRPC), or JSON (REST); len 0: none */
    struct pdb_text params; /* searches: a SearchParams message (gRPC), or JSON; len 0: none */
    uint32_t k;
};

enum { ENCODE_GRPC_PREFIX = 5 };

/* The 5 bytes before a gRPC message: not compressed, big-endian length. */
void encode_grpc_prefix(char prefix_out[ENCODE_GRPC_PREFIX], uint32_t message_bytes);

/* A batch of rows first_id .. first_id + count - 1. The id of a row is its decimal number; row n
 * has the vector and label n modulo the size of the data set. Rows with labels get the metadata
 * {"label": n}. 0 or PDB_RESOURCE_EXHAUSTED. */
int encode_upsert(struct body *body, const struct encode_target *target, uint64_t first_id,
                  size_t count);

/* A search with row `row` of target->rows. */
int encode_search(struct body *body, const struct encode_target *target, size_t row);

/* A filter in JSON as the contract's Filter message, in the arena. 0, PDB_INVALID_ARGUMENT (the
 * trail says where) or PDB_RESOURCE_EXHAUSTED. */
int encode_filter(struct arena *arena, struct pdb_text json, struct pdb_text *message_out,
                  struct trail *trail);

#endif
