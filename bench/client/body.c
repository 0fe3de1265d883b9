/* body.c: a request as pieces, so that 256 rows of 768 floats travel from the data set to the
 * socket without a copy of ours. Pieces inside the scratch buffer are kept as offsets until the
 * end, because the buffer moves when it grows. */
#include "bench/client/body.h"

#include "base/assert.h"

#include <proximadb/error.h>
#include <string.h>

void body_init(struct body *body)
{
    *body = (struct body){0};
    buffer_init_heap(&body->scratch, NULL, 0);
}

void body_dispose(struct body *body)
{
    if (body != NULL)
        buffer_dispose(&body->scratch);
}

void body_reset(struct body *body)
{
    body->scratch.len = 0;
    body->scratch.failed = false;
    body->piece_count = 0;
    body->run_start = 0;
    body->bytes = 0;
}

static void end_run(struct body *body)
{
    size_t len = body->scratch.len - body->run_start;
    if (len == 0)
        return;
    ASSERT(body->piece_count < BODY_PIECE_MAX);
    body->pieces[body->piece_count++] = (struct body_piece){NULL, body->run_start, len};
    body->run_start = body->scratch.len;
}

void body_point(struct body *body, const void *ptr, size_t len)
{
    if (len == 0)
        return;
    end_run(body);
    ASSERT(body->piece_count < BODY_PIECE_MAX);
    body->pieces[body->piece_count++] = (struct body_piece){ptr, 0, len};
}

int body_finish(struct body *body)
{
    if (body->scratch.failed)
        return PDB_RESOURCE_EXHAUSTED;
    end_run(body);
    body->bytes = 0;
    for (unsigned i = 0; i < body->piece_count; i++) {
        if (body->pieces[i].ptr == NULL)
            body->pieces[i].ptr = body->scratch.ptr + body->pieces[i].offset;
        body->bytes += body->pieces[i].len;
    }
    return 0;
}

size_t body_copy(const struct body *body, size_t offset, void *out, size_t size)
{
    size_t done = 0;
    for (unsigned i = 0; i < body->piece_count && done < size; i++) {
        const struct body_piece *piece = &body->pieces[i];
        if (offset >= piece->len) {
            offset -= piece->len;
            continue;
        }
        size_t step = piece->len - offset < size - done ? piece->len - offset : size - done;
        memcpy((char *)out + done, piece->ptr + offset, step);
        done += step;
        offset = 0;
    }
    return done;
}
