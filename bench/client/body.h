/* The body of a request as a few pieces: small ones encoded into a reused buffer, large ones
 * pointing at the rows. */
#ifndef BENCH_BODY_H
#define BENCH_BODY_H

#include "base/buffer.h"

enum { BODY_PIECE_MAX = 8 };

struct body_piece {
    const char *ptr; /* NULL until body_finish: at `offset` of the scratch buffer */
    size_t offset, len;
};

struct body {
    struct buffer scratch;
    struct body_piece pieces[BODY_PIECE_MAX];
    unsigned piece_count;
    size_t run_start; /* where the scratch bytes that belong to no piece yet start */
    size_t bytes;     /* of all pieces; valid after body_finish */
};

/* Scratch memory is kept from use to use. */
void body_init(struct body *body);
void body_dispose(struct body *body);
void body_reset(struct body *body);

/* What is written to body->scratch before and after comes before and after these bytes, which must
 * live until the request is answered. At most 3 calls. */
void body_point(struct body *body, const void *ptr, size_t len);

/* Ends the body. 0, or PDB_RESOURCE_EXHAUSTED: memory ran out while it was written. */
int body_finish(struct body *body);

/* Copies at most `size` bytes from `offset` of the finished body; returns how many. For tests. */
size_t body_copy(const struct body *body, size_t offset, void *out, size_t size);

#endif
