/* fuzz_pqfile.c: a libFuzzer target. Any bytes must open or be refused; what opens is read in every
 * way there is, within small limits. The ways must agree as long as checksums protect the pages:
 * pq_check.c tells. The first byte chooses between memory and callback.
 *
 * Page checksums would stop nearly every mutation at the door, so they are not verified. A mutated
 * index may then well disagree with the pages, which is no finding; a crash, a hang, a value
 * outside its memory or an error without a message is. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pq_check.h"
#include "pqfile/pqfile.h"

/* NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LEVELS_MAX = 100000 };

struct file {
    const uint8_t *data;
    size_t size;
};

static int read_at(void *context, uint64_t offset, size_t len, void *buffer)
{
    const struct file *file = context;
    assert(offset <= file->size && len <= file->size - offset);
    memcpy(buffer, file->data + offset, len);
    return 0;
}

static void read_vectors(const struct pqfile_reader *reader, uint32_t group, uint32_t column)
{
    enum { ROWS = 16, DIMENSION = 4 };
    float values[ROWS * DIMENSION];
    uint8_t present[ROWS / 8];
    struct pqfile_cursor *cursor = NULL;
    size_t rows = 1;
    if (pqfile_cursor_open(reader, group, column, &cursor, NULL) < 0)
        return;
    for (int i = 0; i < 8 && rows != 0; i++)
        if (pqfile_cursor_read_vectors(cursor, DIMENSION, ROWS, values, present, &rows, NULL) < 0)
            break;
    pqfile_cursor_close(cursor);
}

/* A few bytes can say that a value comes a billion times; that is legal and takes its time. */
static bool is_large(const struct pqfile_metadata *m)
{
    uint64_t levels = 0;
    for (uint32_t g = 0; g < m->row_group_count; g++)
        for (uint32_t c = 0; c < m->column_count; c++)
            if (__builtin_add_overflow(levels, m->row_groups[g].chunks[c].level_count, &levels))
                return true;
    return levels > LEVELS_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct pqfile_reader_options options = {
        .skip_checksums = true,
        .page_bytes_max = 1 << 20,
        .memory_max = 4 << 20,
        .node_max = 64,
        .row_group_max = 16,
    };
    struct pqfile_reader *reader = NULL;
    struct pqfile_error error = {0};
    if (size == 0)
        return 0;
    bool in_memory = (data[0] & 1) == 0;
    struct file file = {.data = data + 1, .size = size - 1};
    struct pqfile_source source = {.size = file.size, .read_at = read_at, .context = &file};
    if (in_memory)
        source.memory = file.data;
    if (pqfile_open(&source, &options, &reader, &error) < 0) {
        assert(reader == NULL && error.code < 0 && error.message[0] != '\0');
        return 0;
    }
    const struct pqfile_metadata *m = pqfile_metadata(reader);
    if (is_large(m)) {
        pqfile_close(reader);
        return 0;
    }
    if (pq_check_file(reader, in_memory ? file.data : NULL, &error) < 0)
        assert(error.code < 0 && error.message[0] != '\0');
    for (uint32_t g = 0; g < m->row_group_count; g++)
        for (uint32_t c = 0; c < m->column_count; c++)
            read_vectors(reader, g, c);
    pqfile_close(reader);
    return 0;
}
