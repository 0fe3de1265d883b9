/* bench/client/dataset.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/client/dataset.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

struct fixture {
    char folder[32];
    char path[96];
    struct dataset dataset;
    struct trail trail;
};

static int make(void **state)
{
    static struct fixture fx;
    memset(&fx, 0, sizeof(fx));
    (void)snprintf(fx.folder, sizeof(fx.folder), "/tmp/test_dataset_XXXXXX");
    *state = &fx;
    return mkdtemp(fx.folder) == NULL;
}

static int drop(void **state)
{
    struct fixture *fx = *state;
    dataset_dispose(&fx->dataset);
    (void)unlink(fx->path);
    return rmdir(fx->folder);
}

static void write_file(struct fixture *fx, const char *name, const void *bytes, size_t size)
{
    (void)unlink(fx->path);
    (void)snprintf(fx->path, sizeof(fx->path), "%s/%s", fx->folder, name);
    if (strstr(name, ".gz") != NULL) {
        gzFile file = gzopen(fx->path, "wb");
        assert_non_null(file);
        assert_int_equal(gzwrite(file, bytes, (unsigned)size), (int)size);
        assert_int_equal(gzclose(file), Z_OK);
        return;
    }
    FILE *file = fopen(fx->path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static int read_it(struct fixture *fx, size_t row_max)
{
    dataset_dispose(&fx->dataset);
    trail_reset(&fx->trail);
    return dataset_read(&fx->dataset, fx->path, row_max, &fx->trail);
}

static const uint8_t images[] = {0, 0, 8, 3, 0, 0,   0, 3, 0, 0, 0, 2, 0,  0,
                                 0, 2, 0, 1, 2, 255, 4, 5, 6, 7, 8, 9, 10, 11};

static void an_idx_file_becomes_rows_of_floats_compressed_or_not(void **state)
{
    struct fixture *fx = *state;
    static const char *const names[] = {"a-idx3-ubyte", "a-idx3-ubyte.gz"};
    for (size_t i = 0; i < 2; i++) {
        write_file(fx, names[i], images, sizeof(images));
        assert_int_equal(read_it(fx, 0), 0);
        assert_int_equal(fx->dataset.row_count, 3);
        assert_int_equal(fx->dataset.dimension, 4);
        assert_true(fx->dataset.values[3] == 255.0f && fx->dataset.values[11] == 11.0f);
        assert_int_equal(read_it(fx, 2), 0);
        assert_int_equal(fx->dataset.row_count, 2);
    }
}

static void an_idx_file_cut_anywhere_is_refused(void **state)
{
    struct fixture *fx = *state;
    for (size_t size = 0; size < sizeof(images); size++) {
        write_file(fx, "a-idx3-ubyte", images, size);
        assert_int_equal(read_it(fx, 0), PDB_INVALID_ARGUMENT);
    }
    uint8_t longer[sizeof(images) + 1] = {0};
    memcpy(longer, images, sizeof(images));
    write_file(fx, "a-idx3-ubyte", longer, sizeof(longer));
    assert_int_equal(read_it(fx, 0), PDB_INVALID_ARGUMENT);
}

static void an_idx_file_that_promises_too_much_is_refused_before_memory_is_taken(void **state)
{
    struct fixture *fx = *state;
    uint8_t head[sizeof(images)];
    memcpy(head, images, sizeof(images));
    memset(head + 8, 0xff, 8); /* 2^32 x 2^32 pixels */
    write_file(fx, "a-idx3-ubyte", head, sizeof(head));
    assert_int_equal(read_it(fx, 0), PDB_INVALID_ARGUMENT);
    memcpy(head, images, sizeof(images));
    memset(head + 4, 0xff, 4);
    write_file(fx, "a-idx3-ubyte", head, sizeof(head));
    assert_int_equal(read_it(fx, 0), PDB_INVALID_ARGUMENT);
}

static void labels_belong_to_the_rows_that_were_read(void **state)
{
    struct fixture *fx = *state;
    static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 3, 9, 0, 4};
    write_file(fx, "a-idx3-ubyte", images, sizeof(images));
    assert_int_equal(read_it(fx, 0), 0);
    write_file(fx, "a-idx1-ubyte.gz", labels, sizeof(labels));
    assert_int_equal(dataset_read_labels(&fx->dataset, fx->path, &fx->trail), 0);
    assert_int_equal(fx->dataset.labels[0], 9);
    assert_int_equal(fx->dataset.labels[2], 4);
    static const uint8_t fewer[] = {0, 0, 8, 1, 0, 0, 0, 2, 9, 0};
    write_file(fx, "b-idx1-ubyte", fewer, sizeof(fewer));
    assert_int_equal(dataset_read_labels(&fx->dataset, fx->path, &fx->trail), PDB_INVALID_ARGUMENT);
    assert_int_equal(fx->dataset.labels[2], 4);
}

static void fvecs_rows_are_read_until_the_end_and_must_agree_in_dimension(void **state)
{
    struct fixture *fx = *state;
    enum { ROWS = 3000 };
    static struct {
        uint32_t dimension;
        float values[2];
    } rows[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) {
        rows[i].dimension = 2;
        rows[i].values[0] = (float)i;
        rows[i].values[1] = -(float)i;
    }
    write_file(fx, "a.fvecs", rows, sizeof(rows));
    assert_int_equal(read_it(fx, 0), 0);
    assert_int_equal(fx->dataset.row_count, ROWS);
    assert_true(fx->dataset.values[2 * (ROWS - 1) + 1] == -(float)(ROWS - 1));
    assert_int_equal(read_it(fx, 7), 0);
    assert_int_equal(fx->dataset.row_count, 7);
    for (size_t cut = 1; cut < sizeof(rows[0]); cut++) {
        write_file(fx, "a.fvecs", rows, sizeof(rows) - cut);
        assert_int_equal(read_it(fx, 0), PDB_INVALID_ARGUMENT);
    }
    rows[ROWS / 2].dimension = 3;
    write_file(fx, "a.fvecs", rows, sizeof(rows));
    assert_int_equal(read_it(fx, 0), PDB_INVALID_ARGUMENT);
}

static size_t make_npy(uint8_t *out, unsigned major, const char *header)
{
    static const float values[] = {1, 2, 3, 4, 5, 6};
    size_t len = strlen(header);
    size_t at = 0;
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (uint8_t)major;
    out[7] = 0;
    at = 8;
    out[at++] = (uint8_t)len;
    out[at++] = (uint8_t)(len >> 8);
    if (major == 2) {
        out[at++] = 0;
        out[at++] = 0;
    }
    memcpy(out + at, header, len);
    memcpy(out + at + len, values, sizeof(values));
    return at + len + sizeof(values);
}

static void npy_of_both_versions_is_read_and_other_types_are_refused(void **state)
{
    struct fixture *fx = *state;
    uint8_t bytes[512];
    for (unsigned major = 1; major <= 2; major++) {
        size_t size = make_npy(bytes, major,
                               "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }   \n");
        write_file(fx, "a.npy", bytes, size);
        assert_int_equal(read_it(fx, 0), 0);
        assert_int_equal(fx->dataset.row_count, 3);
        assert_int_equal(fx->dataset.dimension, 2);
        assert_true(fx->dataset.values[5] == 6.0f);
    }
    static const char *const wrong[] = {
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }\n",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 0), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2), }\n",
        "{'descr': '<f4', 'fortran_order': False}\n",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        write_file(fx, "a.npy", bytes, make_npy(bytes, 1, wrong[i]));
        assert_int_equal(read_it(fx, 0), PDB_INVALID_ARGUMENT);
    }
}

static void npy_of_doubles_and_of_version_3_is_read_too(void **state)
{
    struct fixture *fx = *state;
    static const char header[] = "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 3), }\n";
    static const double values[] = {0.1, -2, 1e300};
    uint8_t bytes[256] = "\x93NUMPY\x03";
    bytes[8] = sizeof(header) - 1;
    memcpy(bytes + 12, header, sizeof(header) - 1);
    memcpy(bytes + 12 + sizeof(header) - 1, values, sizeof(values));
    write_file(fx, "a.npy", bytes, 12 + sizeof(header) - 1 + sizeof(values));
    assert_int_equal(read_it(fx, 0), 0);
    assert_int_equal(fx->dataset.row_count, 1);
    assert_true(fx->dataset.values[0] == 0.1f && fx->dataset.values[1] == -2.0f);
}

static void unknown_names_and_missing_files_are_told_apart(void **state)
{
    struct fixture *fx = *state;
    write_file(fx, "a.csv", "1,2", 3);
    assert_int_equal(read_it(fx, 0), PDB_INVALID_ARGUMENT);
    assert_int_equal(dataset_read(&fx->dataset, "/nonexistent/a.npy", 0, &fx->trail),
                     PDB_NOT_FOUND);
}

/* Squared distance of two rows of a data set. */
static double apart(const struct dataset *a, size_t i, const struct dataset *b, size_t j)
{
    double sum = 0;
    for (size_t d = 0; d < a->dimension; d++) {
        double delta =
            (double)a->values[i * a->dimension + d] - (double)b->values[j * b->dimension + d];
        sum += delta * delta;
    }
    return sum;
}

/* Twenty rows of two clusters: of any row some other is far nearer than the farthest, and rows of
 * another seed lie around the same centres. */
static void clusters_are_shared_by_rows_of_other_seeds(void **state)
{
    struct fixture *fx = *state;
    struct dataset other;
    struct dataset_shape shape = {
        .row_count = 20, .dimension = 64, .seed = 5, .cluster_count = 2, .cluster_seed = 9};
    assert_int_equal(dataset_generate(&fx->dataset, &shape, &fx->trail), 0);
    shape.seed = 6;
    assert_int_equal(dataset_generate(&other, &shape, &fx->trail), 0);
    for (size_t i = 0; i < 20; i++) {
        double nearest = 1e30, farthest = 0;
        for (size_t j = 0; j < 20; j++) {
            double distance = apart(&other, i, &fx->dataset, j);
            nearest = distance < nearest ? distance : nearest;
            farthest = distance > farthest ? distance : farthest;
        }
        assert_true(apart(&other, i, &fx->dataset, i) > 0);
        assert_true(nearest * 2 < farthest);
    }
    dataset_dispose(&other);
}

static void the_same_seed_makes_the_same_rows(void **state)
{
    struct fixture *fx = *state;
    struct dataset other;
    assert_int_equal(
        dataset_generate(
            &fx->dataset,
            &(struct dataset_shape){.row_count = 50, .dimension = 30, .seed = 5, .label_count = 10},
            &fx->trail),
        0);
    assert_int_equal(
        dataset_generate(
            &other,
            &(struct dataset_shape){.row_count = 50, .dimension = 30, .seed = 5, .label_count = 10},
            &fx->trail),
        0);
    assert_memory_equal(fx->dataset.values, other.values, 50 * 30 * sizeof(float));
    assert_memory_equal(fx->dataset.labels, other.labels, 50 * sizeof(int32_t));
    dataset_dispose(&other);
    assert_int_equal(
        dataset_generate(&other,
                         &(struct dataset_shape){.row_count = 50, .dimension = 30, .seed = 6},
                         &fx->trail),
        0);
    assert_memory_not_equal(fx->dataset.values, other.values, 50 * 30 * sizeof(float));
    assert_null(other.labels);
    for (size_t i = 0; i < 50; i++)
        assert_in_range(fx->dataset.labels[i], 0, 9);
    dataset_dispose(&other);
    assert_int_equal(
        dataset_generate(&other, &(struct dataset_shape){.row_count = 1, .dimension = 0, .seed = 6},
                         &fx->trail),
        PDB_INVALID_ARGUMENT);
    assert_int_equal(
        dataset_generate(&other,
                         &(struct dataset_shape){.row_count = 1, .dimension = 65536, .seed = 6},
                         &fx->trail),
        PDB_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_idx_file_becomes_rows_of_floats_compressed_or_not, make,
                                        drop),
        cmocka_unit_test_setup_teardown(an_idx_file_cut_anywhere_is_refused, make, drop),
        cmocka_unit_test_setup_teardown(
            an_idx_file_that_promises_too_much_is_refused_before_memory_is_taken, make, drop),
        cmocka_unit_test_setup_teardown(labels_belong_to_the_rows_that_were_read, make, drop),
        cmocka_unit_test_setup_teardown(
            fvecs_rows_are_read_until_the_end_and_must_agree_in_dimension, make, drop),
        cmocka_unit_test_setup_teardown(npy_of_both_versions_is_read_and_other_types_are_refused,
                                        make, drop),
        cmocka_unit_test_setup_teardown(npy_of_doubles_and_of_version_3_is_read_too, make, drop),
        cmocka_unit_test_setup_teardown(unknown_names_and_missing_files_are_told_apart, make, drop),
        cmocka_unit_test_setup_teardown(clusters_are_shared_by_rows_of_other_seeds, make, drop),
        cmocka_unit_test_setup_teardown(the_same_seed_makes_the_same_rows, make, drop),
    };
    return cmocka_run_group_tests_name("bench/dataset", tests, NULL, NULL);
}
