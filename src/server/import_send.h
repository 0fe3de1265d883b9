/* import_send.h: batches of records to the server, over several connections at once. */
#ifndef SERVER_IMPORT_SEND_H
#define SERVER_IMPORT_SEND_H

#include "base/buffer.h"
#include "server/transfer.h"

#include <pthread.h>

enum { IMPORT_CONNECTIONS_MAX = 64, IMPORT_BATCH_BYTES = 4 << 20 };

/* Where a record came from. */
struct import_origin {
    size_t start; /* of its bytes in the batch */
    uint64_t row; /* of the file, as the reader counts them */
};

enum import_batch_state { BATCH_EMPTY, BATCH_FILLING, BATCH_READY, BATCH_SENDING };

struct import_batch {
    /* Set by who fills it. */
    struct buffer bytes; /* records as import_encode.h writes them */
    struct import_origin *origins;
    uint32_t count, capacity;
    uint64_t first; /* rows of all files before it */
    const char *path, *row_word;
    /* the sender's */
    enum import_batch_state state;
    uint64_t number;
};

struct import_send_options {
    const struct endpoint *endpoint;
    const char *path; /* of the request; a query is added */
    unsigned connections;
    uint32_t batch_rows;
    bool go_on; /* leaves out rows that the server refuses */
};

struct import_counts {
    uint64_t rows, bad_rows, request_bytes;
};

struct import_send;

/* 0, PDB_RESOURCE_EXHAUSTED or PDB_UNAVAILABLE (no thread). Options are copied. */
int import_send_start(const struct import_send_options *options, struct import_send **send_out,
                      struct trail *trail);
/* An empty batch to be filled; waits for one, at most `wait_ms`: NULL then, or once sending has
 * failed. */
struct import_batch *import_send_take(struct import_send *send, unsigned wait_ms);
/* Gives it to the senders; without records, just back. */
void import_send_put(struct import_send *send, struct import_batch *batch);
/* Whether a batch was refused for good; the trail of import_send_finish tells. */
bool import_send_failed(struct import_send *send);
void import_send_counts(struct import_send *send, struct import_counts *counts_out);
/* A row that the reader refused, with --continue. */
void import_send_count_bad(struct import_send *send);
/* Waits until all is sent (`drop`: what is not under way is dropped) and frees it. *stored_out: the
 * first row, counted over all files, that may not be stored. 0 or the error of the first batch that
 * failed. */
int import_send_finish(struct import_send *send, bool drop, uint64_t end,
                       struct import_counts *counts_out, uint64_t *stored_out, struct trail *trail);

#endif
