/* The examples of README.md, run: records with an id, numbers, an optional text and a vector are
 * written, found again by their id, and their vectors are read in place. */
#include "writer_fixture.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 3000, DIMENSION = 48 };

static const struct pqfile_column_options id_column = {.bloom = true, .page_rows = 256};
static const struct pqfile_column_options vector_column = {
    .value_alignment = 64, .page_bytes = 64 << 10, .no_statistics = true};

static const struct pqfile_field fields[] = {
    {.name = "id",
     .type = PQFILE_BYTE_ARRAY,
     .logical.kind = PQFILE_LOGICAL_STRING,
     .options = &id_column},
    {.name = "created_at",
     .type = PQFILE_INT64,
     .logical = {.kind = PQFILE_LOGICAL_TIMESTAMP, .unit = PQFILE_MICROS, .utc = true}},
    {.name = "price", .repetition = PQFILE_OPTIONAL, .type = PQFILE_DOUBLE},
    {.name = "city",
     .repetition = PQFILE_OPTIONAL,
     .type = PQFILE_BYTE_ARRAY,
     .logical.kind = PQFILE_LOGICAL_STRING},
    {.name = "vector",
     .repetition = PQFILE_OPTIONAL,
     .child_count = 1,
     .list_size = DIMENSION,
     .logical.kind = PQFILE_LOGICAL_LIST},
    {.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1},
    {.name = "element", .type = PQFILE_FLOAT, .options = &vector_column},
};

struct records {
    struct pqfile_bytes ids[ROWS];
    int64_t created_at[ROWS];
    double prices[ROWS];
    struct pqfile_bytes cities[ROWS];
    uint8_t has_price[(ROWS + 7) / 8]; /* and city */
    float vectors[ROWS * DIMENSION];
    char names[ROWS][8];
};

static struct records *make_records(void)
{
    static const char *const cities[] = {"Bergen", "Graz", "Porto"};
    struct records *r = calloc(1, sizeof *r);
    assert_non_null(r);
    for (size_t i = 0; i < ROWS; i++) {
        r->names[i][0] = 'i';
        r->names[i][1] = 'd';
        for (size_t digit = 0, n = i; digit < 4; digit++, n /= 10)
            r->names[i][5 - digit] = (char)('0' + n % 10);
        r->ids[i] = (struct pqfile_bytes){(const uint8_t *)r->names[i], 6};
        r->created_at[i] = 1700000000000000 + (int64_t)i;
        r->prices[i] = (double)i / 4.0;
        r->cities[i] = (struct pqfile_bytes){(const uint8_t *)cities[i % 3], strlen(cities[i % 3])};
        if (i % 5 != 0)
            r->has_price[i / 8] |= (uint8_t)(1U << i % 8);
        for (size_t j = 0; j < DIMENSION; j++)
            r->vectors[i * DIMENSION + j] = (float)(i + j * j);
    }
    return r;
}

static int write_records(struct pqfile_writer *writer, const struct records *r,
                         struct pqfile_error *error)
{
    int rc = pqfile_write_optional(writer, r->ids, NULL, ROWS, error);
    if (rc == 0)
        rc = pqfile_writer_end_column(writer, NULL, error);
    if (rc == 0)
        rc = pqfile_write_optional(writer, r->created_at, NULL, ROWS, error);
    if (rc == 0)
        rc = pqfile_writer_end_column(writer, NULL, error);
    if (rc == 0)
        rc = pqfile_write_optional(writer, r->prices, r->has_price, ROWS, error);
    if (rc == 0)
        rc = pqfile_writer_end_column(writer, NULL, error);
    if (rc == 0)
        rc = pqfile_write_optional(writer, r->cities, r->has_price, ROWS, error);
    if (rc == 0)
        rc = pqfile_writer_end_column(writer, NULL, error);
    if (rc == 0)
        rc = pqfile_write_vectors(writer, r->vectors, NULL, ROWS, error);
    if (rc == 0)
        rc = pqfile_writer_end_column(writer, NULL, error);
    return rc == 0 ? pqfile_writer_end_row_group(writer, error) : rc;
}

static struct pqfile_reader *make_file(struct maker *m, const struct records *r)
{
    maker_begin(m, fields, FIELD_COUNT(fields), NULL);
    maker_ok(m, write_records(m->writer, r, &m->error));
    return maker_read(m);
}

/* Points rows[i] to row i's floats within the mapped file. */
static int find_vectors(const struct pqfile_reader *reader, uint32_t column, const uint8_t *map,
                        const float **rows, struct pqfile_error *error)
{
    struct pqfile_pages *pages = NULL;
    struct pqfile_page page;
    int rc = pqfile_pages_open(reader, 0, column, &pages, error);
    while (rc == 0 && (rc = pqfile_pages_next(pages, &page, error)) == 0 && page.level_count > 0) {
        assert_true(page.in_place && page.value_count == page.row_count * DIMENSION);
        const float *values = (const float *)(const void *)(map + page.values_offset);
        for (uint32_t i = 0; i < page.row_count; i++)
            rows[page.first_row + i] = values + (size_t)i * DIMENSION;
    }
    pqfile_pages_close(pages);
    return rc;
}

static void vectors_are_read_in_place(void **state)
{
    (void)state;
    struct maker m;
    struct records *r = make_records();
    const float **rows = calloc(ROWS, sizeof *rows);
    struct pqfile_reader *reader = make_file(&m, r);
    int64_t column = pqfile_find_column(pqfile_metadata(reader), "vector.list.element");
    assert_non_null(rows);
    assert_int_equal(column, 4);
    maker_ok(&m, find_vectors(reader, (uint32_t)column, m.file.data, rows, &m.error));
    for (size_t i = 0; i < ROWS; i++)
        assert_memory_equal(rows[i], r->vectors + i * DIMENSION, DIMENSION * sizeof(float));
    free(rows);
    maker_end(&m, reader);
    free(r);
}

/* The row with an id of a file sorted by id: asks the filter, the page index, then one page. */
static int64_t find_id(const struct pqfile_reader *reader, const char *id,
                       struct pqfile_error *error)
{
    struct pqfile_bloom *bloom = NULL;
    struct pqfile_cursor *cursor = NULL;
    struct pqfile_page_index *index = NULL;
    struct pqfile_batch batch = {0};
    int64_t found = -1;
    assert_int_equal(pqfile_bloom_open(reader, 0, 0, &bloom, error), 0);
    bool may = pqfile_bloom_may_contain(bloom, id, strlen(id));
    pqfile_bloom_close(bloom);
    if (!may)
        return -1;
    assert_int_equal(pqfile_page_index_open(reader, 0, 0, &index, error), 0);
    const struct pqfile_page_index_view *view = pqfile_page_index(index);
    uint32_t page = 0;
    while (page + 1 < view->page_count &&
           memcmp(view->entries[page].max.data, id, view->entries[page].max.len) < 0)
        page++;
    uint64_t first = view->entries[page].first_row, count = view->entries[page].row_count;
    pqfile_page_index_close(index);
    assert_int_equal(pqfile_cursor_open(reader, 0, 0, &cursor, error), 0);
    assert_int_equal(pqfile_cursor_seek(cursor, first, error), 0);
    while (count > 0 && found < 0) {
        assert_int_equal(pqfile_cursor_read(cursor, count, &batch, error), 0);
        const struct pqfile_bytes *ids = batch.values;
        for (size_t i = 0; i < batch.row_count && found < 0; i++)
            if (ids[i].len == strlen(id) && memcmp(ids[i].data, id, ids[i].len) == 0)
                found = (int64_t)(first + i);
        first += batch.row_count;
        count -= batch.row_count;
    }
    pqfile_cursor_close(cursor);
    return found;
}

static void a_row_is_found_by_its_id(void **state)
{
    (void)state;
    struct maker m;
    struct records *r = make_records();
    struct pqfile_reader *reader = make_file(&m, r);
    assert_int_equal(find_id(reader, "id0000", &m.error), 0);
    assert_int_equal(find_id(reader, "id1777", &m.error), 1777);
    assert_int_equal(find_id(reader, "id2999", &m.error), 2999);
    assert_int_equal(find_id(reader, "id3000", &m.error), -1);
    maker_end(&m, reader);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_read_in_place),
        cmocka_unit_test(a_row_is_found_by_its_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
