/* A damaged Parquet file of a segment: rebuilding its index must end with an answer, and an index
 * that was made must open and be read to the end.
 *
 * The first byte chooses the file (vectors in place or compressed) and how the input is meant: as
 * the whole file, or as edits of a sound one (2 bytes place, 1 byte value), which soon reach the
 * footer and the headers of pages, that no checksum covers. */
#include "segment_made.h"

#include "base/bytes.h"

enum { LEN_MAX = 64 << 10, COMPRESSED = 1, WHOLE = 2, EDIT_BYTES = 3 };

static void edit(uint8_t *bytes, size_t len, const uint8_t *edits, size_t edits_len)
{
    for (; edits_len >= EDIT_BYTES; edits += EDIT_BYTES, edits_len -= EDIT_BYTES)
        bytes[len - 1 - bytes_get_u16(edits) % len] = edits[2];
}

static void rebuild(const struct segment_open_options *options)
{
    struct buffer index;
    struct trail trail = {0};
    struct segment *s = NULL;
    bool index_bad = false;
    struct segment_open_options with_index = *options;
    buffer_init_heap(&index, NULL, 0);
    int rc = segment_index_rebuild(options, 1, &index, &trail);
    if (rc < 0 && trail.len == 0)
        abort(); /* every refusal says why */
    if (rc == 0) {
        with_index.index = (struct segment_bytes){(const uint8_t *)index.ptr, index.len};
        if (segment_open(&with_index, &s, &index_bad, &trail) < 0)
            abort();
        made_read_all(s);
    }
    segment_free(s);
    buffer_dispose(&index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct buffer parquet[2], index[2];
    if (parquet[0].len == 0) {
        made_segment(true, &parquet[0], &index[0]);
        made_segment(false, &parquet[1], &index[1]);
    }
    if (size < 2 || size - 1 > LEN_MAX)
        return 0;
    bool compressed = (data[0] & COMPRESSED) != 0, whole = (data[0] & WHOLE) != 0;
    const struct buffer *from = &parquet[compressed];
    size_t len = whole ? size - 1 : from->len;
    uint8_t *bytes = malloc(len);
    if (bytes == NULL)
        return 0;
    memcpy(bytes, whole ? data + 1 : (const uint8_t *)from->ptr, len);
    if (!whole)
        edit(bytes, len, data + 1, size - 1);
    struct segment_open_options options = {.schema = made_schema(!compressed),
                                           .parquet = {bytes, len}};
    struct segment_open_options opened = options;
    opened.index =
        (struct segment_bytes){(const uint8_t *)index[compressed].ptr, index[compressed].len};
    struct segment *s = NULL;
    bool index_bad = false;
    struct trail trail = {0};
    if (segment_open(&opened, &s, &index_bad, &trail) == 0)
        made_read_all(s);
    segment_free(s);
    rebuild(&options);
    free(bytes);
    return 0;
}
