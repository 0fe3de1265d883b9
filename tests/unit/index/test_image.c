/* An index as bytes and back, and bytes that are no index: src/index/image_*.c. */
#include "image_fixture.h"

enum { DIMENSION = 20, ROWS = 700, CLUSTERS = 12 };

static struct built make(enum quantize_kind kind, enum pdb_metric metric, uint32_t rows, bool graph)
{
    struct data data = data_clustered(rows, DIMENSION, CLUSTERS, 1, 0, false);
    struct built built = {0};
    struct hnsw_params params = {.m = 4, .seed = 2}; /* small lists: several upper levels */
    build_codes(&built, &data, kind, metric);
    if (graph) {
        struct hnsw made;
        build_graph(&built, &params, 1, &made);
        index_set_graph(&built.index, &made);
    }
    data_free(&data);
    return built;
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    const enum pdb_metric metrics[] = {PDB_METRIC_EUCLIDEAN, PDB_METRIC_COSINE, PDB_METRIC_DOT};
    const uint32_t counts[] = {0, 1, 2, 50, ROWS};
    const size_t budgets[] = {1, 1000, SIZE_MAX};
    for (size_t m = 0; m < 3; m++)
        for (size_t c = 0; c < 5; c++)
            for (int kind = 0; kind < 3; kind++) {
                bool graph = kind == 2 && counts[c] > 0;
                struct built built =
                    make(kind == 1 ? QUANTIZE_SQ4 : QUANTIZE_SQ8, metrics[m], counts[c], graph);
                struct image image = image_of(&built.index);
                struct index opened;
                assert_int_equal(open_image(&image, budgets[(m + c) % 3], &built.heap, &opened),
                                 PDB_OK);
                assert_int_equal(opened.has_graph, graph);
                assert_int_equal(index_bytes(&opened), index_bytes(&built.index));
                assert_same_answers(&built.index, &opened);
                if (graph)
                    assert_sound(&opened.graph);
                index_dispose(&opened, &built.heap);
                index_dispose(&opened, &built.heap); /* legal */
                built_free(&built);
                free(image.bytes);
            }
}

static void every_changed_byte_is_noticed(void **state)
{
    (void)state;
    struct built built = make(QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, 120, true);
    struct image image = image_of(&built.index);
    struct index opened;
    for (size_t i = 0; i < image.length; i++) {
        image.bytes[i] ^= (uint8_t)(1u << (i % 8));
        assert_true(open_image(&image, SIZE_MAX, &built.heap, &opened) < 0);
        image.bytes[i] ^= (uint8_t)(1u << (i % 8));
    }
    assert_int_equal(open_image(&image, SIZE_MAX, &built.heap, &opened), PDB_OK);
    index_dispose(&opened, &built.heap);
    built_free(&built);
    free(image.bytes);
}

static void every_shorter_length_is_noticed(void **state)
{
    (void)state;
    struct built built = make(QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, 60, true);
    struct image image = image_of(&built.index);
    struct index opened;
    const size_t whole = image.length;
    for (image.length = 0; image.length < whole; image.length++)
        assert_int_equal(open_image(&image, SIZE_MAX, &built.heap, &opened), PDB_DATA_LOSS);
    built_free(&built);
    free(image.bytes);
}

/* With right checksums: what was written wrong, or by somebody. */
static void numbers_out_of_range_are_refused_whatever_the_checksum_says(void **state)
{
    (void)state;
    struct built built = make(QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, ROWS, true);
    struct image image = image_of(&built.index);
    struct index opened;
    const uint32_t nodes = built.index.graph.levels[1].node_count;
    const uint32_t top = built.index.graph.level_count;
    assert_true(top >= 2 && nodes > 2);
    const struct {
        uint8_t *at;
        uint32_t value;
    } wrong[] = {
        {contents_of(&image, INDEX_IMAGE_LINKS, 0), ROWS},
        {contents_of(&image, INDEX_IMAGE_LINKS, 0), HNSW_NONE}, /* a used slot behind it */
        {contents_of(&image, INDEX_IMAGE_LINKS, 1), nodes},
        {contents_of(&image, INDEX_IMAGE_LINKS, top), built.index.graph.levels[top].node_count},
        {contents_of(&image, INDEX_IMAGE_ROWS, 1), ROWS},
        {contents_of(&image, INDEX_IMAGE_ROWS, 1) + 4, 0}, /* not ascending */
        {contents_of(&image, INDEX_IMAGE_BELOW, 1), ROWS},
        {contents_of(&image, INDEX_IMAGE_BELOW, 2), nodes},
        {contents_of(&image, INDEX_IMAGE_BELOW, 2), nodes - 1}, /* exists, but is another row */
        {contents_of(&image, INDEX_IMAGE_MEAN, 0), 0x7fc00000u},
        {image.bytes + 80, built.index.graph.levels[top].node_count}, /* entry point */
        {image.bytes + 36, ROWS + 1},
        {image.bytes + 36, 0},
        {image.bytes + 40, 3},
        {image.bytes + 44, DIMENSION + 1},
        {image.bytes + 44, 0},
        {image.bytes + 48, DIMENSION + 1},
        {image.bytes + 52, 128},
        {image.bytes + 56, 0},          /* scale */
        {image.bytes + 56, 0x7f800000}, /* infinity */
        {image.bytes + 60, 0x7fc00000}, /* NaN */
        {image.bytes + 72, 5},
        {image.bytes + 72, 1000},
        {image.bytes + 72, 0},
        {image.bytes + 76, 1},
        {image.bytes + 76, 100},
        {image.bytes + 32, 3},
        {image.bytes + 12, 0},
        {section_of(&image, INDEX_IMAGE_LINKS, 1) + 16, 4},
        {section_of(&image, INDEX_IMAGE_LINKS, 1), INDEX_IMAGE_ROWS},
        {section_of(&image, INDEX_IMAGE_CODES, 0) + 8, 0},
        {section_of(&image, INDEX_IMAGE_CODES, 0) + 20, 1}, /* four gigabytes longer */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint32_t right = bytes_get_u32(wrong[i].at);
        bytes_put_u32(wrong[i].at, wrong[i].value);
        mend(&image);
        int rc = open_image(&image, 4096, &built.heap, &opened);
        if (rc != PDB_DATA_LOSS)
            fail_msg("case %zu: %d", i, rc);
        bytes_put_u32(wrong[i].at, right);
    }
    mend(&image);
    assert_int_equal(open_image(&image, 4096, &built.heap, &opened), PDB_OK);
    index_dispose(&opened, &built.heap);
    built_free(&built);
    free(image.bytes);
}

static void factors_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
    struct built built = make(QUANTIZE_SQ4, PDB_METRIC_EUCLIDEAN, 50, false);
    struct image image = image_of(&built.index);
    struct index opened;
    bytes_put_u32(contents_of(&image, INDEX_IMAGE_SUMS, 0) + 8, 0x7fc00000u);
    mend(&image);
    assert_int_equal(open_image(&image, SIZE_MAX, &built.heap, &opened), PDB_DATA_LOSS);
    built_free(&built);
    free(image.bytes);
}

static void what_a_newer_version_wrote_is_refused_as_that(void **state)
{
    (void)state;
    struct built built = make(QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, 50, true);
    struct image image = image_of(&built.index);
    struct index opened;
    bytes_put_u32(image.bytes + 12, INDEX_IMAGE_FORMAT + 1);
    seal(&image);
    assert_int_equal(open_image(&image, SIZE_MAX, &built.heap, &opened), PDB_FAILED_PRECONDITION);
    bytes_put_u32(image.bytes + 12, INDEX_IMAGE_FORMAT);
    bytes_put_u32(image.bytes + 20, 0x80000000u);
    seal(&image);
    assert_int_equal(open_image(&image, SIZE_MAX, &built.heap, &opened), PDB_FAILED_PRECONDITION);
    bytes_put_u32(image.bytes + 20, 1); /* not required: may be ignored */
    bytes_put_u32(section_of(&image, INDEX_IMAGE_CODES, 0) + 4, 0x80000000u);
    seal(&image);
    assert_int_equal(open_image(&image, SIZE_MAX, &built.heap, &opened), PDB_FAILED_PRECONDITION);
    bytes_put_u32(section_of(&image, INDEX_IMAGE_CODES, 0) + 4, 1);
    seal(&image);
    assert_int_equal(open_image(&image, SIZE_MAX, &built.heap, &opened), PDB_OK);
    index_dispose(&opened, &built.heap);
    built_free(&built);
    free(image.bytes);
}

/* A section of an unknown kind behind the others. */
static void sections_of_unknown_kinds_are_passed_over(void **state)
{
    (void)state;
    struct built built = make(QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, 50, false);
    struct image image = image_of(&built.index), wider = {0};
    struct index opened;
    void *memory = NULL;
    const uint32_t sections = bytes_get_u32(image.bytes + 32);
    assert_int_equal(sections % 2, 1); /* so that the table has room for one more */
    wider.length = image.length + 64;
    assert_int_equal(posix_memalign(&memory, INDEX_IMAGE_ALIGNMENT, wider.length), 0);
    wider.bytes = memory;
    memset(wider.bytes, 7, wider.length);
    memcpy(wider.bytes, image.bytes, image.length);
    uint8_t *at = wider.bytes + INDEX_IMAGE_HEADER_BYTES + sections * INDEX_IMAGE_SECTION_BYTES;
    bytes_put_u16(at, 99);
    bytes_put_u64(at + 8, image.length);
    bytes_put_u64(at + 16, 64);
    bytes_put_u32(wider.bytes + 32, sections + 1);
    bytes_put_u64(wider.bytes + 24, wider.length);
    mend(&wider);
    assert_int_equal(open_image(&wider, 64, &built.heap, &opened), PDB_OK);
    assert_same_answers(&built.index, &opened);
    index_dispose(&opened, &built.heap);
    built_free(&built);
    free(image.bytes);
    free(wider.bytes);
}

/* A section of kind 0, and all sections once more: what was checked of the first ones would be
 * looked for where the second ones are, which may be shorter. */
static void a_table_that_begins_again_is_refused(void **state)
{
    (void)state;
    struct built built = make(QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, 50, false);
    struct image image = image_of(&built.index), twice = {0};
    struct index opened;
    void *memory = NULL;
    const uint32_t sections = bytes_get_u32(image.bytes + 32), all = 2 * sections + 1;
    const size_t head = bytes_get_u32(image.bytes + 16), body = image.length - head;
    const size_t used = INDEX_IMAGE_HEADER_BYTES + (size_t)all * INDEX_IMAGE_SECTION_BYTES;
    const size_t wider = bytes_align_up(used, INDEX_IMAGE_ALIGNMENT);
    twice.length = wider + 2 * body;
    assert_int_equal(posix_memalign(&memory, INDEX_IMAGE_ALIGNMENT, twice.length), 0);
    twice.bytes = memory;
    memset(twice.bytes, 0, twice.length);
    memcpy(twice.bytes, image.bytes, INDEX_IMAGE_HEADER_BYTES);
    memcpy(twice.bytes + wider, image.bytes + head, body);
    memcpy(twice.bytes + wider + body, image.bytes + head, body);
    for (uint32_t i = 0; i < all; i++) {
        const uint32_t from = i < sections ? i : i - sections - 1;
        uint8_t *at = twice.bytes + INDEX_IMAGE_HEADER_BYTES + i * INDEX_IMAGE_SECTION_BYTES;
        const uint8_t *old =
            image.bytes + INDEX_IMAGE_HEADER_BYTES + from * INDEX_IMAGE_SECTION_BYTES;
        uint64_t shift = wider - head + (i > sections ? body : 0);
        if (i != sections)
            memcpy(at, old, INDEX_IMAGE_SECTION_BYTES);
        bytes_put_u64(at + 8, i == sections ? wider + body : bytes_get_u64(old + 8) + shift);
    }
    bytes_put_u32(twice.bytes + 16, (uint32_t)wider);
    bytes_put_u64(twice.bytes + 24, twice.length);
    bytes_put_u32(twice.bytes + 32, all);
    mend(&twice);
    assert_int_equal(open_image(&twice, SIZE_MAX, &built.heap, &opened), PDB_DATA_LOSS);
    built_free(&built);
    free(image.bytes);
    free(twice.bytes);
}

static void what_was_measured_is_kept_if_it_is_possible_and_of_this_kind(void **state)
{
    (void)state;
    struct built built = make(QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, 120, true);
    struct calibration *c = &built.index.calibration;
    struct index opened;
    *c = (struct calibration){.query_count = 20, .effort_kind = EFFORT_GAMMA, .step_count = 1};
    c->efforts[0] = 0.25f;
    c->points[1][0].recall.recall[2] = 0.5f;
    struct image image = image_of(&built.index);
    assert_int_equal(open_image(&image, 64, &built.heap, &opened), PDB_OK);
    assert_memory_equal(&opened.calibration, c, sizeof *c);
    index_dispose(&opened, &built.heap);
    free(image.bytes);

    c->effort_kind = EFFORT_EF; /* of another metric */
    image = image_of(&built.index);
    assert_int_equal(open_image(&image, SIZE_MAX, &built.heap, &opened), PDB_OK);
    assert_int_equal(opened.calibration.query_count, 0);
    index_dispose(&opened, &built.heap);
    free(image.bytes);

    c->efforts[0] = NAN;
    image = image_of(&built.index);
    assert_int_equal(open_image(&image, SIZE_MAX, &built.heap, &opened), PDB_DATA_LOSS);
    free(image.bytes);
    built_free(&built);
}

static void opening_may_run_out_of_memory(void **state)
{
    (void)state;
    struct built built = make(QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, 50, true);
    struct image image = image_of(&built.index);
    struct heap heap = {.fail_at = 1};
    struct index opened;
    assert_int_equal(open_image(&image, SIZE_MAX, &heap, &opened), PDB_RESOURCE_EXHAUSTED);
    assert_int_equal(heap.bytes_used, 0);
    built_free(&built);
    free(image.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(every_changed_byte_is_noticed),
        cmocka_unit_test(every_shorter_length_is_noticed),
        cmocka_unit_test(numbers_out_of_range_are_refused_whatever_the_checksum_says),
        cmocka_unit_test(factors_that_are_no_numbers_are_refused),
        cmocka_unit_test(what_a_newer_version_wrote_is_refused_as_that),
        cmocka_unit_test(sections_of_unknown_kinds_are_passed_over),
        cmocka_unit_test(a_table_that_begins_again_is_refused),
        cmocka_unit_test(what_was_measured_is_kept_if_it_is_possible_and_of_this_kind),
        cmocka_unit_test(opening_may_run_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
