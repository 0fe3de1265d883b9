/* Lists: src/index/ivf*.c, image_lists.c. What all kinds have in common is in test_make.c. */
#include "image_fixture.h"
#include "index/make_internal.h"
#include "make_fixture.h"

enum { DIMENSION = 20, ROWS = 1800, QUERIES = 40, CLUSTERS = 12 };

static const enum quantize_kind codes[] = {QUANTIZE_SQ8, QUANTIZE_SQ4, QUANTIZE_PQ, QUANTIZE_NONE};
enum { CODES = sizeof codes / sizeof codes[0] };

static struct index_spec lists_spec(enum quantize_kind kind, enum pdb_metric metric, uint32_t lists)
{
    struct index_spec spec = spec_of(INDEX_IVF, kind, metric, DIMENSION);
    spec.lists = lists;
    return spec;
}

static struct built made_of(const struct data *data, enum quantize_kind kind,
                            enum pdb_metric metric, uint32_t lists)
{
    const struct index_spec spec = lists_spec(kind, metric, lists);
    struct built built;
    make_built(&built, data, &spec, 1);
    return built;
}

static struct data rows_of_seed(uint32_t count, uint64_t draw)
{
    return data_clustered(count, DIMENSION, CLUSTERS, 1, draw, false);
}

/* Each row once, ascending in its list; lists and groups from nothing to all. */
static void assert_lists_sound(const struct index *index)
{
    const struct ivf *ivf = &index->ivf;
    const uint32_t n = index->codes.row_count;
    uint8_t *seen = calloc(n, 1);
    assert_non_null(seen);
    assert_true(index->has_lists);
    assert_int_equal(ivf->groups[0], 0);
    assert_int_equal(ivf->lists[0], 0);
    assert_int_equal(ivf->groups[ivf->group_count], ivf->list_count);
    assert_int_equal(ivf->lists[ivf->list_count], n);
    for (uint32_t g = 0; g < ivf->group_count; g++)
        assert_true(ivf->groups[g] <= ivf->groups[g + 1]);
    for (uint32_t list = 0; list < ivf->list_count; list++) {
        assert_true(ivf->lists[list] <= ivf->lists[list + 1]);
        for (uint32_t place = ivf->lists[list]; place < ivf->lists[list + 1]; place++) {
            assert_true(ivf->rows[place] < n);
            assert_false(seen[ivf->rows[place]]);
            assert_true(place == ivf->lists[list] || ivf->rows[place - 1] < ivf->rows[place]);
            seen[ivf->rows[place]] = 1;
        }
    }
    free(seen);
}

static void every_row_has_one_place(void **state)
{
    (void)state;
    const uint32_t counts[] = {1, 2, 31, 32, 33, 100, ROWS};
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
        for (uint32_t lists = 0; lists <= 200; lists += 100) {
            struct data data = rows_of_seed(counts[c], 0);
            struct built built = made_of(&data, QUANTIZE_PQ, PDB_METRIC_EUCLIDEAN, lists);
            assert_lists_sound(&built.index);
            built_free(&built);
            data_free(&data);
        }
}

static void lists_are_near_their_centroids_and_about_as_long(void **state)
{
    (void)state;
    struct data data = rows_of_seed(ROWS, 0);
    struct built built = made_of(&data, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, 100);
    const struct ivf *ivf = &built.index.ivf;
    double squares = 0;
    assert_true(ivf->list_count > 90 && ivf->group_count > 1);
    for (uint32_t list = 0; list < ivf->list_count; list++) {
        double size = ivf->lists[list + 1] - ivf->lists[list];
        squares += size * size;
    }
    /* 1: all as long. Rows lie in a list as long as this many means, on average */
    assert_true(squares * ivf->list_count / ((double)ROWS * ROWS) < 2);
    built_free(&built);
    data_free(&data);
}

static void more_lists_looked_at_find_more_until_all_is_found(void **state)
{
    (void)state;
    const enum pdb_metric metrics[] = {PDB_METRIC_EUCLIDEAN, PDB_METRIC_COSINE, PDB_METRIC_DOT};
    struct data data = rows_of_seed(ROWS, 0), queries = rows_of_seed(QUERIES, 1);
    for (size_t m = 0; m < 3; m++)
        for (size_t c = 0; c < CODES; c++) {
            struct built built = made_of(&data, codes[c], metrics[m], 80);
            struct index_query how = {.k = 10, .want = 60, .nprobe = 1};
            double one = recall_of(&built, &data, &queries, &how, NULL);
            how.nprobe = 0;
            double usual = recall_of(&built, &data, &queries, &how, NULL);
            how.nprobe = 80;
            double all = recall_of(&built, &data, &queries, &how, NULL);
            assert_true(one < usual && usual <= all + 0.001);
            assert_recall(usual, 0.95);
            assert_recall(all, 0.99);
            built_free(&built);
        }
    data_free(&data);
    data_free(&queries);
}

/* A list near a query may be of a group whose middle is far from it: with only the nearest eighth
 * of groups looked at .974 were found, and no more by 16 lists. */
static void few_lists_of_many_find_what_is_near(void **state)
{
    (void)state;
    enum { WIDE = 32, MANY = 200 };
    struct data data = data_clustered(20000, WIDE, MANY, 1, 0, false);
    struct data queries = data_clustered(300, WIDE, MANY, 1, 1, false);
    struct index_spec spec = spec_of(INDEX_IVF, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, WIDE);
    spec.lists = 500;
    struct built built;
    make_built(&built, &data, &spec, 1);
    const struct index_query how = {.k = 10, .want = 12, .nprobe = 8};
    assert_recall(recall_of(&built, &data, &queries, &how, NULL), 0.99);
    built_free(&built);
    data_free(&data);
    data_free(&queries);
}

/* More than a pool ranks. The count of lists is made up, and only the plan is looked at. */
static void more_lists_than_can_be_ranked_are_all_looked_at(void **state)
{
    (void)state;
    struct data data = rows_of_seed(ROWS, 0);
    struct built built = made_of(&data, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, 100);
    const uint32_t lists = built.index.ivf.list_count;
    struct index_scratch *scratch;
    struct index_search search;
    assert_int_equal(index_scratch_open(NULL, ROWS, DIMENSION, &scratch), 0);
    struct index_query query = {
        .vector = vector_of(&data, 0), .k = 10, .gamma = -1, .nprobe = INDEX_EF_MAX};
    built.index.ivf.list_count = 2 * INDEX_EF_MAX;
    index_search_begin(&search, scratch, &built.index, &query);
    assert_false(search.lists.every);
    assert_int_equal(search.lists.ranked_max, INDEX_EF_MAX);
    query.nprobe++;
    index_search_begin(&search, scratch, &built.index, &query);
    assert_true(search.lists.every);
    built.index.ivf.list_count = lists;
    index_scratch_close(scratch, NULL);
    built_free(&built);
    data_free(&data);
}

/* ---- rows that may not be returned ---- */

static bool odd_rows(const void *owner, uint32_t row)
{
    (void)owner;
    return row % 2 == 1;
}

/* One row in `each` is allowed. Count 0: the search is not told how many. */
static void check_mask(const struct built *built, const struct data *data,
                       const struct data *queries, uint32_t each, bool told)
{
    uint64_t *allowed = calloc((size_t)ROWS / 64 + 1, sizeof *allowed);
    uint64_t *dead = calloc((size_t)ROWS / 64 + 1, sizeof *dead);
    struct index_query how = {.k = 10, .want = 60};
    uint32_t count = 0;
    assert_true(allowed != NULL && dead != NULL);
    for (uint32_t row = 0; row < ROWS; row++) {
        const bool in = row % each == each / 2;
        count += in;
        (in ? allowed : dead)[row / 64] |= (uint64_t)1 << (row % 64);
    }
    how.allowed_count = told ? count : 0;
    how.k = count < 10 ? count : 10;
    how.allowed = allowed;
    assert_recall(recall_of(built, data, queries, &how, allowed), 0.95);
    how.allowed = NULL;
    how.dead = dead;
    assert_recall(recall_of(built, data, queries, &how, allowed), 0.95);
    free(allowed);
    free(dead);
}

static void only_rows_that_may_be_are_returned_and_as_many_as_there_are(void **state)
{
    (void)state;
    struct data data = rows_of_seed(ROWS, 0), queries = rows_of_seed(20, 1);
    const uint32_t each[] = {2, 10, 100, 500, 1001};
    for (size_t c = 0; c < CODES; c++) {
        struct built built = made_of(&data, codes[c], PDB_METRIC_EUCLIDEAN, 80);
        for (size_t i = 0; i < sizeof each / sizeof each[0]; i++) {
            check_mask(&built, &data, &queries, each[i], true);
            check_mask(&built, &data, &queries, each[i], false);
        }
        built_free(&built);
    }
    data_free(&data);
    data_free(&queries);
}

static void a_callback_has_the_last_word(void **state)
{
    (void)state;
    struct data data = rows_of_seed(ROWS, 0), queries = rows_of_seed(20, 1);
    struct index_scratch *scratch = NULL;
    static struct hits hits;
    assert_int_equal(index_scratch_open(NULL, ROWS, DIMENSION, &scratch), PDB_OK);
    for (size_t c = 0; c < CODES; c++) {
        struct built built = made_of(&data, codes[c], PDB_METRIC_COSINE, 80);
        for (uint32_t i = 0; i < queries.count; i++) {
            const struct index_query query = {
                .vector = vector_of(&queries, i), .k = 10, .accepts = odd_rows};
            find(&built.index, &data, scratch, &query, 7, &hits);
            assert_int_equal(hits.count, 10);
            for (uint32_t j = 0; j < hits.count; j++)
                assert_int_equal(hits.hit[j].row % 2, 1);
        }
        built_free(&built);
    }
    index_scratch_close(scratch, NULL);
    data_free(&data);
    data_free(&queries);
}

static void results_do_not_depend_on_the_budget_of_steps(void **state)
{
    (void)state;
    struct data data = rows_of_seed(ROWS, 0), queries = rows_of_seed(20, 1);
    const uint32_t budgets[] = {1, 10, 1500, UINT32_MAX};
    struct index_scratch *scratch = NULL;
    static struct hits first, hits;
    assert_int_equal(index_scratch_open(NULL, ROWS, DIMENSION, &scratch), PDB_OK);
    for (size_t c = 0; c < CODES; c++) {
        struct built built = made_of(&data, codes[c], PDB_METRIC_DOT, 80);
        for (uint32_t i = 0; i < queries.count; i++)
            for (size_t b = 0; b < sizeof budgets / sizeof budgets[0]; b++) {
                const struct index_query query = {.vector = vector_of(&queries, i), .k = 10};
                find(&built.index, &data, scratch, &query, budgets[b], b == 0 ? &first : &hits);
                if (b == 0)
                    continue;
                assert_int_equal(hits.count, first.count);
                assert_memory_equal(hits.hit, first.hit, first.count * sizeof first.hit[0]);
                assert_int_equal(hits.stats.distances, first.stats.distances);
            }
        built_free(&built);
    }
    index_scratch_close(scratch, NULL);
    data_free(&data);
    data_free(&queries);
}

static void as_many_rows_as_asked_for_come_back(void **state)
{
    (void)state;
    struct data data = rows_of_seed(ROWS, 0), queries = rows_of_seed(5, 1);
    const uint32_t ks[] = {1, 100, 900};
    struct built built = made_of(&data, QUANTIZE_PQ, PDB_METRIC_EUCLIDEAN, 200);
    for (size_t i = 0; i < 3; i++) {
        struct index_query how = {.k = ks[i], .want = ks[i] + 50};
        assert_recall(recall_of(&built, &data, &queries, &how, NULL), 0.9);
        how.nprobe = 1; /* too few rows in it: more are looked at */
        (void)recall_of(&built, &data, &queries, &how, NULL);
    }
    built_free(&built);
    data_free(&data);
    data_free(&queries);
}

/* ---- data that has no lists ---- */

static void one_row_many_times_is_found_as_often_as_asked(void **state)
{
    (void)state;
    struct data data = rows_of_seed(ROWS, 0), queries = rows_of_seed(QUERIES, 1);
    for (uint32_t row = 500; row < ROWS; row++)
        memcpy(vector_of(&data, row), vector_of(&data, 0), DIMENSION * sizeof(float));
    for (size_t c = 0; c < CODES; c++) {
        struct built built = made_of(&data, codes[c], PDB_METRIC_EUCLIDEAN, 100);
        const struct index_query how = {.k = 10, .want = 60};
        assert_lists_sound(&built.index);
        assert_recall(recall_of(&built, &data, &queries, &how, NULL), 0.95);
        built_free(&built);
    }
    data_free(&data);
    data_free(&queries);
}

static void constant_columns_and_zero_rows_are_no_trouble(void **state)
{
    (void)state;
    const enum pdb_metric metrics[] = {PDB_METRIC_EUCLIDEAN, PDB_METRIC_COSINE, PDB_METRIC_DOT};
    struct data data = rows_of_seed(1000, 0), queries = rows_of_seed(20, 1);
    for (uint32_t row = 0; row < data.count; row++)
        for (uint32_t j = 0; j < DIMENSION; j++)
            if (j % 3 != 0 || row % 100 == 0)
                vector_of(&data, row)[j] = row % 100 == 0 ? 0 : 5;
    struct data same = data_new(1000, DIMENSION);
    for (size_t m = 0; m < 3; m++)
        for (size_t c = 0; c < CODES; c++) {
            const struct index_query how = {.k = 10, .want = 60};
            struct built built = made_of(&data, codes[c], metrics[m], 0);
            assert_recall(recall_of(&built, &data, &queries, &how, NULL), 0.9);
            built_free(&built);
            built = made_of(&same, codes[c], metrics[m], 0);
            assert_lists_sound(&built.index);
            assert_recall(recall_of(&built, &same, &queries, &how, NULL), 1);
            built_free(&built);
        }
    data_free(&same);
    data_free(&data);
    data_free(&queries);
}

static void extreme_values_do_not_leave_the_numbers(void **state)
{
    (void)state;
    const float magnitudes[] = {1e-30f, 1e15f, 3e38f};
    struct data queries = rows_of_seed(10, 1);
    for (size_t m = 0; m < 3; m++)
        for (size_t c = 0; c < CODES; c++) {
            struct data data = rows_of_seed(600, 0);
            for (size_t i = 0; i < (size_t)data.count * DIMENSION; i++)
                data.vectors[i] = data.vectors[i] > 0 ? magnitudes[m] : -magnitudes[m];
            struct built built = made_of(&data, codes[c], PDB_METRIC_EUCLIDEAN, 0);
            assert_lists_sound(&built.index);
            const struct index_query how = {.k = 10};
            (void)recall_of(&built, &data, &queries, &how, NULL); /* as many as asked for */
            built_free(&built);
            data_free(&data);
        }
    data_free(&queries);
}

static void too_many_lists_are_refused(void **state)
{
    (void)state;
    struct data data = rows_of_seed(100, 0);
    const struct source source = {&data, NOT_BROKEN};
    const struct index_rows rows = rows_of(&source);
    struct index_make *make = NULL;
    const struct index_spec spec = lists_spec(QUANTIZE_PQ, PDB_METRIC_COSINE, IVF_LISTS_MAX + 1);
    assert_int_equal(index_make_begin(&spec, &rows, NULL, &make), PDB_INVALID_ARGUMENT);
    data_free(&data);
}

/* So that whoever builds can look for other work: some queries meet half of the lists. */
static void measuring_is_a_part_for_each_query(void **state)
{
    (void)state;
    struct data data = rows_of_seed(ROWS, 0);
    const struct source source = {&data, NOT_BROKEN};
    const struct index_rows rows = rows_of(&source);
    const struct index_spec spec = lists_spec(QUANTIZE_SQ4, PDB_METRIC_EUCLIDEAN, 0);
    struct heap heap = {0};
    struct index_make *make = NULL;
    struct index_worker *worker = NULL;
    struct index index;
    bool met = false;
    assert_int_equal(index_make_begin(&spec, &rows, &heap, &make), PDB_OK);
    assert_int_equal(index_worker_open(make, &heap, &worker), PDB_OK);
    for (uint32_t parts; (parts = index_make_parts(make)) > 0; index_make_advance(make)) {
        met |= parts == make_query_count(&spec, data.count);
        for (uint32_t i = 0; i < parts; i++)
            index_make_part(make, i, worker);
    }
    assert_int_equal(index_make_end(make, &index), PDB_OK);
    const struct calibration *found = &index.calibration;
    assert_true(found->query_count > 0 && found->step_count > 1);
    assert_true(met);
    index_worker_close(worker, &heap);
    index_dispose(&index, &heap);
    data_free(&data);
}

/* ---- images ---- */

static void lists_are_written_and_read_back(void **state)
{
    (void)state;
    const enum pdb_metric metrics[] = {PDB_METRIC_EUCLIDEAN, PDB_METRIC_COSINE, PDB_METRIC_DOT};
    const uint32_t counts[] = {1, 40, ROWS};
    const size_t budgets[] = {1, 1000, SIZE_MAX};
    for (size_t m = 0; m < 3; m++)
        for (size_t n = 0; n < 3; n++)
            for (size_t c = 0; c < CODES; c++) {
                struct data data = rows_of_seed(counts[n], 0);
                struct built built = made_of(&data, codes[c], metrics[m], 0);
                struct image image = image_of(&built.index);
                struct index opened;
                assert_int_equal(open_image(&image, budgets[m], &built.heap, &opened), PDB_OK);
                assert_int_equal(index_bytes(&opened), index_bytes(&built.index));
                assert_lists_sound(&opened);
                assert_same_answers(&built.index, &opened);
                index_dispose(&opened, &built.heap);
                built_free(&built);
                data_free(&data);
                free(image.bytes);
            }
}

/* Equal rows are one group, and the others' lists do not come to be. */
static void fewer_lists_than_wanted_are_written_and_read_back(void **state)
{
    (void)state;
    struct data data = data_new(1200, DIMENSION);
    for (size_t c = 0; c < CODES; c++) {
        struct built built = made_of(&data, codes[c], PDB_METRIC_EUCLIDEAN, 0);
        assert_true(built.index.ivf.list_count < ivf_list_count(0, data.count));
        struct image image = image_of(&built.index);
        struct index opened;
        assert_int_equal(open_image(&image, SIZE_MAX, &built.heap, &opened), PDB_OK);
        assert_int_equal(index_bytes(&opened), index_bytes(&built.index));
        assert_lists_sound(&opened);
        assert_same_answers(&built.index, &opened);
        index_dispose(&opened, &built.heap);
        built_free(&built);
        free(image.bytes);
    }
    data_free(&data);
}

static void every_changed_byte_and_every_shorter_length_is_noticed(void **state)
{
    (void)state;
    struct data data = rows_of_seed(70, 0);
    struct built built = made_of(&data, QUANTIZE_PQ, PDB_METRIC_EUCLIDEAN, 4);
    struct image image = image_of(&built.index);
    struct index opened;
    const size_t whole = image.length;
    for (size_t i = 0; i < image.length; i++) {
        image.bytes[i] ^= (uint8_t)(1u << (i % 8));
        assert_true(open_image(&image, SIZE_MAX, &built.heap, &opened) < 0);
        image.bytes[i] ^= (uint8_t)(1u << (i % 8));
    }
    for (image.length = 0; image.length < whole; image.length++)
        assert_int_equal(open_image(&image, SIZE_MAX, &built.heap, &opened), PDB_DATA_LOSS);
    built_free(&built);
    data_free(&data);
    free(image.bytes);
}

static void numbers_out_of_range_are_refused_whatever_the_checksum_says(void **state)
{
    (void)state;
    struct data data = rows_of_seed(ROWS, 0);
    struct built built = made_of(&data, QUANTIZE_PQ, PDB_METRIC_DOT, 100);
    struct image image = image_of(&built.index);
    const struct ivf *ivf = &built.index.ivf;
    struct index opened;
    uint8_t *lists = contents_of(&image, INDEX_IMAGE_LISTS, 0);
    uint8_t *places = contents_of(&image, INDEX_IMAGE_PLACES, 0);
    uint8_t *groups = contents_of(&image, INDEX_IMAGE_GROUPS, 0);
    const uint32_t nan = 0x7fc00000;
    const struct {
        uint8_t *at;
        uint32_t value;
    } wrong[] = {
        {contents_of(&image, INDEX_IMAGE_CODEBOOK, 0), nan},
        {contents_of(&image, INDEX_IMAGE_LIST_MEAN, 0), nan},
        {contents_of(&image, INDEX_IMAGE_SUMS, 0), nan},
        {groups, 1},
        {groups + 4, ivf->list_count + 1},
        {groups + 8, 0}, /* not ascending */
        {groups + (size_t)ivf->group_count * 4, ivf->list_count - 1},
        {lists, 1},
        {lists + 4, ROWS + 1},
        {lists + (size_t)ivf->list_count * 4, ROWS - 1},
        {places, ROWS},
        {places, UINT32_MAX},
        {places + 4, ivf->rows[0]}, /* twice */
        {image.bytes + 96, 0},      /* lists */
        {image.bytes + 96, ivf->list_count + 1},
        {image.bytes + 96, IVF_LISTS_MAX + 1},
        {image.bytes + 100, 0}, /* groups */
        {image.bytes + 100, IVF_GROUPS_MAX + 1},
        {image.bytes + 104, 0}, /* columns of a part */
        {image.bytes + 104, 17},
        {image.bytes + 108, nan}, /* scale */
        {image.bytes + 112, nan}, /* R */
        {image.bytes + 20, 0},    /* no lists, but sections of them */
    };
    assert_true(ivf->groups[1] > 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint32_t right = bytes_get_u32(wrong[i].at);
        bytes_put_u32(wrong[i].at, wrong[i].value);
        mend(&image);
        assert_int_equal(open_image(&image, 640, &built.heap, &opened), PDB_DATA_LOSS);
        bytes_put_u32(wrong[i].at, right);
    }
    mend(&image);
    assert_int_equal(open_image(&image, 640, &built.heap, &opened), PDB_OK);
    index_dispose(&opened, &built.heap);
    built_free(&built);
    data_free(&data);
    free(image.bytes);
}

static void opening_may_run_out_of_memory(void **state)
{
    (void)state;
    struct data data = rows_of_seed(100, 0);
    struct built built = made_of(&data, QUANTIZE_PQ, PDB_METRIC_EUCLIDEAN, 0);
    struct image image = image_of(&built.index);
    for (uint64_t n = 1; n <= 3; n++) {
        struct heap heap = {.fail_at = n};
        struct index opened;
        assert_int_equal(open_image(&image, SIZE_MAX, &heap, &opened), PDB_RESOURCE_EXHAUSTED);
        assert_int_equal(heap.bytes_used, 0);
    }
    built_free(&built);
    data_free(&data);
    free(image.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_has_one_place),
        cmocka_unit_test(lists_are_near_their_centroids_and_about_as_long),
        cmocka_unit_test(more_lists_looked_at_find_more_until_all_is_found),
        cmocka_unit_test(few_lists_of_many_find_what_is_near),
        cmocka_unit_test(more_lists_than_can_be_ranked_are_all_looked_at),
        cmocka_unit_test(only_rows_that_may_be_are_returned_and_as_many_as_there_are),
        cmocka_unit_test(a_callback_has_the_last_word),
        cmocka_unit_test(results_do_not_depend_on_the_budget_of_steps),
        cmocka_unit_test(as_many_rows_as_asked_for_come_back),
        cmocka_unit_test(one_row_many_times_is_found_as_often_as_asked),
        cmocka_unit_test(constant_columns_and_zero_rows_are_no_trouble),
        cmocka_unit_test(extreme_values_do_not_leave_the_numbers),
        cmocka_unit_test(too_many_lists_are_refused),
        cmocka_unit_test(measuring_is_a_part_for_each_query),
        cmocka_unit_test(lists_are_written_and_read_back),
        cmocka_unit_test(fewer_lists_than_wanted_are_written_and_read_back),
        cmocka_unit_test(every_changed_byte_and_every_shorter_length_is_noticed),
        cmocka_unit_test(numbers_out_of_range_are_refused_whatever_the_checksum_says),
        cmocka_unit_test(opening_may_run_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
