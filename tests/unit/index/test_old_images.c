/* Images as format 1 wrote them, whose codes are filled up to whole lines (tests/format/index):
 * read, written again, merged. They are of 40 rows with numbers that anybody can compute. */
#include "image_fixture.h"
#include "make_fixture.h"

#include <stdio.h>

enum { DIMENSION = 784, ROWS = 40 };

static const struct old {
    const char *name;
    enum quantize_kind kind;
    uint32_t stride;
    bool graph, lists, changed; /* changed: the format of today has another stride */
} olds[] = {
    {"v1_hnsw_sq8", QUANTIZE_SQ8, 832, true, false, true},
    {"v1_flat_sq4", QUANTIZE_SQ4, 448, false, false, true},
    {"v1_flat_binary", QUANTIZE_BINARY, 128, false, false, false},
    {"v1_ivf_sq8", QUANTIZE_SQ8, 832, false, true, true},
};
enum { OLD_COUNT = sizeof olds / sizeof olds[0] };

static struct data rows_of_olds(void)
{
    struct data data = data_new(ROWS, DIMENSION);
    for (uint32_t i = 0; i < ROWS; i++)
        for (uint32_t j = 0; j < DIMENSION; j++)
            vector_of(&data, i)[j] = (float)((i * 37 + j * 11 + i * j) % 101) - 50.0f;
    return data;
}

static struct image read_old(const struct old *old)
{
    struct image image = {0};
    char path[512];
    void *memory = NULL;
    (void)snprintf(path, sizeof path, "%s/tests/format/index/%s.image", SOURCE_ROOT, old->name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    image.length = (size_t)ftell(file);
    rewind(file);
    assert_int_equal(posix_memalign(&memory, INDEX_IMAGE_ALIGNMENT, image.length), 0);
    image.bytes = memory;
    assert_int_equal(fread(image.bytes, 1, image.length, file), image.length);
    (void)fclose(file);
    assert_int_equal(bytes_get_u32(image.bytes + 12), INDEX_IMAGE_FORMAT_LINES);
    return image;
}

static void assert_every_row_finds_itself(const struct index *index, const struct data *data)
{
    struct heap heap = {0};
    struct index_scratch *scratch = NULL;
    static struct hits hits;
    assert_int_equal(index_scratch_open(&heap, data->count, data->dimension, &scratch), PDB_OK);
    for (uint32_t row = 0; row < data->count; row++) {
        const struct index_query query = {
            .vector = vector_of(data, row), .k = 5, .gamma = -1, .nprobe = ROWS};
        find(index, data, scratch, &query, 1000, &hits);
        assert_int_equal(hits.count, 5);
        assert_int_equal(hits.hit[0].row, row);
        assert_true(hits.hit[0].distance == 0);
    }
    index_scratch_close(scratch, &heap);
    assert_int_equal(heap.bytes_used, 0);
}

static void they_are_read_and_every_row_is_found(void **state)
{
    (void)state;
    struct data data = rows_of_olds();
    for (size_t i = 0; i < OLD_COUNT; i++) {
        struct image image = read_old(&olds[i]);
        struct heap heap = {0};
        struct index index;
        assert_int_equal(open_image(&image, 1000, &heap, &index), PDB_OK);
        assert_int_equal(index.quantizer.kind, olds[i].kind);
        assert_int_equal(index.quantizer.stride, olds[i].stride);
        assert_int_equal(index.has_graph, olds[i].graph);
        assert_int_equal(index.has_lists, olds[i].lists);
        assert_every_row_finds_itself(&index, &data);
        if (index.has_graph)
            assert_sound(&index.graph);
        index_dispose(&index, &heap);
        assert_int_equal(heap.bytes_used, 0);
        free(image.bytes);
    }
    data_free(&data);
}

/* An index keeps the strides it came with, and its image says so. Where those of both formats are
 * the same, it is of the new one. */
static void they_are_written_again_as_they_were(void **state)
{
    (void)state;
    for (size_t i = 0; i < OLD_COUNT; i++) {
        struct image image = read_old(&olds[i]);
        struct heap heap = {0};
        struct index index;
        assert_int_equal(open_image(&image, SIZE_MAX, &heap, &index), PDB_OK);
        struct image again = image_of(&index);
        if (!olds[i].changed) {
            bytes_put_u32(image.bytes + 12, INDEX_IMAGE_FORMAT);
            mend(&image);
        }
        assert_int_equal(again.length, image.length);
        assert_memory_equal(again.bytes, image.bytes, image.length);
        index_dispose(&index, &heap);
        free(again.bytes);
        free(image.bytes);
    }
}

/* Of a new format and with old strides, or the other way about: neither was ever written. */
static void strides_of_another_format_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < OLD_COUNT; i++) {
        struct image image = read_old(&olds[i]);
        struct heap heap = {0};
        struct index index;
        if (!olds[i].changed) {
            free(image.bytes);
            continue;
        }
        bytes_put_u32(image.bytes + 12, INDEX_IMAGE_FORMAT);
        mend(&image);
        assert_int_equal(open_image(&image, SIZE_MAX, &heap, &index), PDB_DATA_LOSS);
        bytes_put_u32(image.bytes + 12, INDEX_IMAGE_FORMAT_LINES);
        bytes_put_u32(image.bytes + 52, olds[i].stride / 2);
        mend(&image);
        assert_int_equal(open_image(&image, SIZE_MAX, &heap, &index), PDB_DATA_LOSS);
        assert_int_equal(heap.bytes_used, 0);
        free(image.bytes);
    }
}

/* Codes are copied, at the shorter stride. */
static void a_new_index_grows_from_an_old_one(void **state)
{
    (void)state;
    struct data data = rows_of_olds();
    struct image image = read_old(&olds[0]);
    const struct source source = {&data, NOT_BROKEN};
    const struct index_spec spec =
        spec_of(INDEX_HNSW, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, DIMENSION);
    struct index_rows rows = rows_of(&source);
    struct heap heap = {0};
    struct index old;
    struct built merged = {0};
    uint32_t base_rows[ROWS];
    for (uint32_t row = 0; row < ROWS; row++)
        base_rows[row] = row;
    assert_int_equal(open_image(&image, SIZE_MAX, &heap, &old), PDB_OK);
    rows.base = &old;
    rows.base_rows = base_rows;
    assert_int_equal(make_all(&spec, &rows, 1, &merged.heap, &merged.index), PDB_OK);
    assert_true(merged.heap.bytes_peak <= index_make_bytes(&spec, ROWS, 1));
    const size_t stride = merged.index.quantizer.stride;
    assert_int_equal(stride, DIMENSION);
    for (uint32_t row = 0; row < ROWS; row++) /* as they were */
        assert_memory_equal(merged.index.codes.bytes + row * stride,
                            old.codes.bytes + (size_t)row * old.quantizer.stride, stride);
    assert_every_row_finds_itself(&merged.index, &data);
    struct image now = image_of(&merged.index);
    assert_int_equal(bytes_get_u32(now.bytes + 12), INDEX_IMAGE_FORMAT);
    free(now.bytes);
    built_free(&merged);
    index_dispose(&old, &heap);
    assert_int_equal(heap.bytes_used, 0);
    free(image.bytes);
    data_free(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_read_and_every_row_is_found),
        cmocka_unit_test(they_are_written_again_as_they_were),
        cmocka_unit_test(strides_of_another_format_are_refused),
        cmocka_unit_test(a_new_index_grows_from_an_old_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
