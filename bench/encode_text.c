/* encode_text.c: rows as JSON text, made before the clock runs. Printing a float so that it reads
 * back the same costs more than the server needs to parse it; a client that printed while measuring
 * would measure itself. Whole numbers, as pixels are, take a short way. Threads each print a range
 * of rows into a buffer of their own; then the buffers are put one behind the other. */
#include "bench/encode.h"

#include "base/assert.h"
#include "base/heap.h"
#include "base/json.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

enum { THREADS_MAX = 64 };

struct printer {
    const struct dataset *dataset;
    size_t first, count;
    struct buffer out;
    size_t *ends; /* ends[first + i]: where the i-th row of this range ends in `out` */
    pthread_t thread;
    bool started;
};

static void print_row(struct buffer *out, const float *values, size_t dimension)
{
    buffer_add_byte(out, '[');
    for (size_t i = 0; i < dimension; i++) {
        float value = values[i];
        if (i != 0)
            buffer_add_byte(out, ',');
        if (fabsf(value) < 1e6f && truncf(value) == value)
            buffer_add_i64(out, (int64_t)value);
        else
            json_write_float(out, value);
    }
    buffer_add_byte(out, ']');
}

static void *print_range(void *arg)
{
    struct printer *printer = arg;
    const struct dataset *dataset = printer->dataset;
    for (size_t row = printer->first; row < printer->first + printer->count; row++) {
        print_row(&printer->out, dataset->values + row * dataset->dimension, dataset->dimension);
        printer->ends[row] = printer->out.len;
    }
    return NULL;
}

static int join(struct encode_text *text, struct printer *printers, unsigned threads)
{
    size_t all = 0;
    for (unsigned i = 0; i < threads; i++) {
        if (printers[i].out.failed)
            return PDB_RESOURCE_EXHAUSTED;
        all += printers[i].out.len;
    }
    text->bytes = heap_alloc(NULL, all);
    if (text->bytes == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    size_t at = 0;
    for (unsigned i = 0; i < threads; i++) {
        const struct printer *p = &printers[i];
        if (p->out.len != 0)
            memcpy(text->bytes + at, p->out.ptr, p->out.len);
        for (size_t row = p->first; row < p->first + p->count; row++)
            text->offsets[row + 1] += at;
        at += p->out.len;
    }
    return 0;
}

int encode_text_make(struct encode_text *text_out, const struct dataset *dataset, unsigned threads)
{
    struct encode_text text = {0};
    struct printer printers[THREADS_MAX] = {0};
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    ASSERT(threads > 0);
    text.offsets = heap_calloc(NULL, dataset->row_count + 1, sizeof(*text.offsets));
    if (text.offsets == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (unsigned i = 0; i < threads; i++) {
        size_t first = dataset->row_count * i / threads;
        size_t end = dataset->row_count * (i + 1) / threads;
        printers[i] = (struct printer){
            .dataset = dataset, .first = first, .count = end - first, .ends = text.offsets + 1};
        buffer_init_heap(&printers[i].out, NULL, 0);
        printers[i].started =
            pthread_create(&printers[i].thread, NULL, print_range, &printers[i]) == 0;
    }
    for (unsigned i = 0; i < threads; i++) {
        if (printers[i].started)
            (void)pthread_join(printers[i].thread, NULL);
        else
            (void)print_range(&printers[i]);
    }
    int rc = join(&text, printers, threads);
    for (unsigned i = 0; i < threads; i++)
        buffer_dispose(&printers[i].out);
    if (rc < 0) {
        encode_text_dispose(&text);
        return rc;
    }
    *text_out = text;
    return 0;
}

void encode_text_dispose(struct encode_text *text)
{
    if (text == NULL)
        return;
    heap_free(NULL, text->bytes);
    heap_free(NULL, text->offsets);
    *text = (struct encode_text){0};
}
