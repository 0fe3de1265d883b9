/* Random schemas, options, rows and batches, written and read back: what comes out is what went in,
 * however it was cut, and all ways to it agree (pq_check.h). A failing run is a number: the
 * seed. */
#include "writer_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pq_check.h"

enum {
    SEED_COUNT = 300,
    FIELD_MAX = 24,
    COLUMN_MAX = 24,
    ROW_MAX = 600,
    LEVEL_MAX = 40000,
    DEPTH_MAX = 5,
    WIDTH_MAX = 20,
};

/* One column's rows, whole: the model. */
struct column {
    struct pqfile_batch rows;
    uint8_t *definition;
    uint8_t *repetition;
    size_t *row_levels; /* where row i's levels begin; one more at the end */
    size_t *row_values;
    uint8_t *values; /* numbers and bytes of fixed length */
    struct pqfile_bytes *texts;
    uint8_t *text; /* the texts' bytes */
    size_t text_len;
};

struct trial {
    uint64_t random;
    struct pqfile_field fields[FIELD_MAX];
    char names[FIELD_MAX][8];
    struct pqfile_column_options options[FIELD_MAX];
    size_t field_count;
    size_t row_count;
    struct column columns[COLUMN_MAX];
    struct maker maker;
};

static uint64_t next(struct trial *t)
{
    t->random += 0x9e3779b97f4a7c15U; /* splitmix64 */
    uint64_t z = t->random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static size_t below(struct trial *t, size_t n)
{
    return (size_t)(next(t) % n);
}

static bool chance(struct trial *t, size_t percent)
{
    return below(t, 100) < percent;
}

/* ---- schemas ---- */

static enum pqfile_encoding choose_encoding(struct trial *t, enum pqfile_type type)
{
    static const enum pqfile_encoding for_integers[] = {
        PQFILE_PLAIN, PQFILE_RLE_DICTIONARY, PQFILE_BYTE_STREAM_SPLIT, PQFILE_DELTA_BINARY_PACKED};
    if (type == PQFILE_BOOLEAN)
        return chance(t, 50) ? PQFILE_RLE : PQFILE_PLAIN;
    if (type == PQFILE_BYTE_ARRAY)
        return for_integers[below(t, 2)];
    return for_integers[below(t, type == PQFILE_INT32 || type == PQFILE_INT64 ? 4 : 3)];
}

static void choose_options(struct trial *t, struct pqfile_field *field,
                           struct pqfile_column_options *o)
{
    static const enum pqfile_codec codecs[] = {PQFILE_UNCOMPRESSED, PQFILE_SNAPPY, PQFILE_ZSTD,
                                               PQFILE_LZ4_RAW};
    *o = (struct pqfile_column_options){
        .encoding = choose_encoding(t, field->type),
        .codec = codecs[below(t, 4)],
        .page_version = (uint8_t)below(t, 3),
        .page_bytes = (uint32_t)(1 + below(t, 4000)),
        .page_rows = (uint32_t)(1 + below(t, 300)),
        .dictionary_bytes = (uint32_t)(1 + below(t, 3000)),
        .bound_bytes = (uint32_t)(1 + below(t, 12)),
        .no_statistics = chance(t, 20),
        .no_page_index = chance(t, 20),
        .bloom = field->type != PQFILE_BOOLEAN && chance(t, 30),
        .bloom_distinct = below(t, 2) * 100,
    };
    bool direct = o->encoding == PQFILE_PLAIN && o->codec == PQFILE_UNCOMPRESSED &&
                  field->type != PQFILE_BOOLEAN && field->type != PQFILE_BYTE_ARRAY;
    if (direct)
        o->value_alignment = 1U << below(t, 8);
    field->options = o;
}

static void add_leaf(struct trial *t, struct pqfile_field *field, struct pqfile_column_options *o)
{
    static const enum pqfile_type types[] = {
        PQFILE_BOOLEAN, PQFILE_INT32,      PQFILE_INT64,      PQFILE_FLOAT,
        PQFILE_DOUBLE,  PQFILE_BYTE_ARRAY, PQFILE_BYTE_ARRAY, PQFILE_FIXED_LEN_BYTE_ARRAY};
    field->type = types[below(t, 8)];
    if (field->type == PQFILE_FIXED_LEN_BYTE_ARRAY)
        field->type_length = (uint32_t)(1 + below(t, WIDTH_MAX));
    if (field->type == PQFILE_BYTE_ARRAY && chance(t, 50))
        field->logical.kind = PQFILE_LOGICAL_STRING;
    if (field->type == PQFILE_INT32 && chance(t, 30))
        field->logical = (struct pqfile_logical){.kind = PQFILE_LOGICAL_INTEGER, .bits = 32};
    choose_options(t, field, o);
}

/* Depth first, as the fields stand: `missing[depth]` children of the open groups are still to
 * come. */
static void make_schema(struct trial *t)
{
    size_t missing[DEPTH_MAX + 1] = {1 + below(t, 4)};
    size_t depth = 0;
    while (depth > 0 || missing[0] > 0) {
        struct pqfile_field *field = &t->fields[t->field_count];
        (void)snprintf(t->names[t->field_count], sizeof t->names[0], "f%zu", t->field_count);
        field->name = t->names[t->field_count];
        field->repetition = (enum pqfile_repetition)below(t, 3);
        missing[depth]--;
        size_t room = FIELD_MAX - t->field_count - 1;
        for (size_t i = 0; i <= depth; i++)
            room -= missing[i];
        if (depth < DEPTH_MAX && room >= 2 && chance(t, 40)) {
            field->child_count = (uint32_t)(1 + below(t, 2));
            missing[++depth] = field->child_count;
        } else {
            add_leaf(t, field, &t->options[t->field_count]);
        }
        t->field_count++;
        while (depth > 0 && missing[depth] == 0)
            depth--;
    }
}

/* ---- rows ---- */

static void add_value(struct trial *t, struct column *c, const struct pqfile_field *leaf)
{
    size_t width = pqfile_value_size(leaf->type, leaf->type_length);
    size_t i = c->rows.value_count++;
    if (leaf->type == PQFILE_BYTE_ARRAY) {
        size_t len = chance(t, 70) ? below(t, 4) : below(t, WIDTH_MAX);
        for (size_t j = 0; j < len; j++)
            c->text[c->text_len + j] = (uint8_t)('a' + below(t, 3));
        c->texts[i] = (struct pqfile_bytes){c->text + c->text_len, len};
        c->text_len += len;
        return;
    }
    /* few different ones, so that dictionaries and runs have something to do */
    uint64_t number = chance(t, 60) ? below(t, 5) : next(t);
    uint8_t bytes[WIDTH_MAX] = {0};
    if (leaf->type == PQFILE_BOOLEAN)
        number &= 1;
    memcpy(bytes, &number, sizeof number);
    memcpy(c->values + i * width, bytes, width);
}

static void add_level(struct column *c, unsigned repetition, unsigned definition)
{
    assert_true(c->rows.level_count < LEVEL_MAX);
    c->repetition[c->rows.level_count] = (uint8_t)repetition;
    c->definition[c->rows.level_count++] = (uint8_t)definition;
}

/* Levels and values of one row from path[0] on, whose parents are there; recursion is as deep as
 * the schema. `repeated`: repeated nodes above path[0]. */
static void add_row(struct trial *t, struct column *c, const struct pqfile_field *const *path,
                    unsigned repetition, unsigned definition, unsigned repeated)
{
    const struct pqfile_field *field = path[0];
    size_t count = 1;
    if (field->repetition != PQFILE_REQUIRED)
        count = chance(t, 25) ? 0 : field->repetition == PQFILE_REPEATED ? 1 + below(t, 3) : 1;
    if (count == 0) {
        add_level(c, repetition, definition);
        return;
    }
    definition += field->repetition != PQFILE_REQUIRED;
    repeated += field->repetition == PQFILE_REPEATED;
    for (size_t i = 0; i < count; i++) {
        unsigned level = i == 0 ? repetition : repeated;
        if (field->child_count > 0) {
            add_row(t, c, path + 1, level, definition, repeated);
        } else {
            add_level(c, level, definition);
            add_value(t, c, field);
        }
    }
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count + 1, size);
    assert_non_null(memory);
    return memory;
}

static void fill_column(struct trial *t, struct column *c, const struct pqfile_field *const *path)
{
    c->definition = allocate(LEVEL_MAX, 1);
    c->repetition = allocate(LEVEL_MAX, 1);
    c->row_levels = allocate(t->row_count + 1, sizeof *c->row_levels);
    c->row_values = allocate(t->row_count + 1, sizeof *c->row_values);
    c->values = allocate(LEVEL_MAX, WIDTH_MAX);
    c->texts = allocate(LEVEL_MAX, sizeof *c->texts);
    c->text = allocate(LEVEL_MAX, WIDTH_MAX);
    for (size_t row = 0; row < t->row_count; row++) {
        if (c->rows.level_count > LEVEL_MAX - 1000)
            t->row_count = row; /* later columns have fewer rows then; so has this one */
        c->row_levels[row] = c->rows.level_count;
        c->row_values[row] = c->rows.value_count;
        add_row(t, c, path, 0, 0, 0);
    }
    c->row_levels[t->row_count] = c->rows.level_count;
    c->row_values[t->row_count] = c->rows.value_count;
}

static void free_column(struct column *c)
{
    free(c->definition);
    free(c->repetition);
    free(c->row_levels);
    free(c->row_values);
    free(c->values);
    free(c->texts);
    free(c->text);
}

/* The fields from below the root to every leaf. Returns the number of leaves. */
static size_t for_each_leaf(struct trial *t)
{
    const struct pqfile_field *path[DEPTH_MAX + 1];
    size_t missing[DEPTH_MAX + 1], depth = 0, columns = 0;
    for (size_t i = 0; i < t->field_count; i++) {
        path[depth] = &t->fields[i];
        missing[depth] = t->fields[i].child_count;
        if (missing[depth] > 0) {
            depth++;
            continue;
        }
        fill_column(t, &t->columns[columns++], path);
        while (depth > 0 && --missing[depth - 1] == 0)
            depth--;
    }
    return columns;
}

/* ---- writing and reading ---- */

/* Rows `first` to `end` of a column as a batch. */
static struct pqfile_batch cut(const struct column *c, const struct pqfile_node *leaf, size_t first,
                               size_t end)
{
    size_t level = c->row_levels[first], value = c->row_values[first];
    size_t width = pqfile_value_size(leaf->type, leaf->type_length);
    struct pqfile_batch batch = {.row_count = end - first,
                                 .level_count = c->row_levels[end] - level,
                                 .value_count = c->row_values[end] - value,
                                 .definition = c->definition + level,
                                 .repetition = c->repetition + level,
                                 .values = c->values + value * width};
    if (leaf->type == PQFILE_BYTE_ARRAY)
        batch.values = c->texts + value;
    return batch;
}

static const struct pqfile_node *leaf_of(const struct pqfile_metadata *m, size_t column)
{
    return &m->nodes[m->columns[column]];
}

/* Which field a column is, before there is a footer. */
static struct pqfile_node node_of(const struct trial *t, size_t column)
{
    size_t i = 0;
    for (;; i++)
        if (t->fields[i].child_count == 0 && column-- == 0)
            return (struct pqfile_node){.type = t->fields[i].type,
                                        .type_length = t->fields[i].type_length};
}

static void write_group(struct trial *t, size_t columns, size_t first, size_t end)
{
    struct maker *m = &t->maker;
    for (size_t c = 0; c < columns; c++) {
        struct pqfile_node leaf = node_of(t, c);
        for (size_t row = first; row < end;) {
            size_t step = 1 + below(t, chance(t, 50) ? 10 : 300);
            size_t stop = end - row < step ? end : row + step;
            struct pqfile_batch batch = cut(&t->columns[c], &leaf, row, stop);
            maker_ok(m, pqfile_write(m->writer, &batch, &m->error));
            row = stop;
        }
        maker_end_column(m, c + 1 == columns);
    }
}

static void assert_same(const struct pqfile_batch *got, const struct pqfile_batch *expected,
                        const struct pqfile_node *leaf)
{
    size_t width = pqfile_value_size(leaf->type, leaf->type_length);
    assert_int_equal(got->row_count, expected->row_count);
    assert_int_equal(got->level_count, expected->level_count);
    assert_int_equal(got->value_count, expected->value_count);
    if (leaf->definition_max > 0)
        assert_memory_equal(got->definition, expected->definition, got->level_count);
    if (leaf->repetition_max > 0)
        assert_memory_equal(got->repetition, expected->repetition, got->level_count);
    if (got->value_count == 0)
        return;
    if (leaf->type != PQFILE_BYTE_ARRAY) {
        assert_memory_equal(got->values, expected->values, got->value_count * width);
        return;
    }
    const struct pqfile_bytes *a = got->values, *b = expected->values;
    for (size_t i = 0; i < got->value_count; i++) {
        assert_int_equal(a[i].len, b[i].len);
        if (a[i].len > 0)
            assert_memory_equal(a[i].data, b[i].data, a[i].len);
    }
}

/* Reads rows from `from` to `end` of a row group that begins at row `base` of the model. */
static void read_rows(struct trial *t, struct pqfile_cursor *cursor, const struct column *c,
                      const struct pqfile_node *leaf, size_t base, size_t from, size_t end)
{
    struct maker *m = &t->maker;
    struct pqfile_batch batch;
    while (from < end) {
        size_t step = 1 + below(t, chance(t, 50) ? 5 : 400);
        assert_int_equal(pqfile_cursor_row(cursor), from);
        maker_ok(m, pqfile_cursor_read(cursor, step, &batch, &m->error));
        assert_in_range(batch.row_count, 1, step);
        struct pqfile_batch expected = cut(c, leaf, base + from, base + from + batch.row_count);
        assert_same(&batch, &expected, leaf);
        from += batch.row_count;
    }
}

static void read_column(struct trial *t, const struct pqfile_reader *reader, uint32_t group,
                        uint32_t column)
{
    struct maker *m = &t->maker;
    const struct pqfile_metadata *meta = pqfile_metadata(reader);
    const struct pqfile_node *leaf = leaf_of(meta, column);
    size_t base = (size_t)meta->row_groups[group].first_row;
    size_t count = (size_t)meta->row_groups[group].row_count;
    struct pqfile_cursor *cursor = NULL;
    struct pqfile_batch batch;
    maker_ok(m, pqfile_cursor_open(reader, group, column, &cursor, &m->error));
    read_rows(t, cursor, &t->columns[column], leaf, base, 0, count);
    maker_ok(m, pqfile_cursor_read(cursor, 1, &batch, &m->error));
    assert_int_equal(batch.row_count, 0);
    for (int i = 0; i < 3; i++) {
        size_t from = below(t, count + 1);
        size_t end = from + below(t, count - from + 1);
        maker_ok(m, pqfile_cursor_seek(cursor, from, &m->error));
        read_rows(t, cursor, &t->columns[column], leaf, base, from, end);
    }
    pqfile_cursor_close(cursor);
}

static void read_all(struct trial *t, size_t columns)
{
    struct maker *m = &t->maker;
    struct pqfile_reader *reader = maker_read(m);
    const struct pqfile_metadata *meta = pqfile_metadata(reader);
    assert_int_equal(meta->column_count, columns);
    assert_int_equal(meta->row_count, t->row_count);
    for (uint32_t group = 0; group < meta->row_group_count; group++)
        for (uint32_t column = 0; column < columns; column++)
            read_column(t, reader, group, column);
    maker_ok(m, pq_check_file(reader, m->file.data, &m->error));
    maker_end(m, reader);
}

static void run(uint64_t seed)
{
    struct trial *t = allocate(1, sizeof *t);
    t->random = seed;
    make_schema(t);
    t->row_count = below(t, ROW_MAX);
    size_t columns = for_each_leaf(t);
    maker_begin(&t->maker, t->fields, t->field_count, NULL);
    size_t middle = below(t, t->row_count + 1);
    write_group(t, columns, 0, middle);
    write_group(t, columns, middle, t->row_count);
    read_all(t, columns);
    for (size_t i = 0; i < columns; i++)
        free_column(&t->columns[i]);
    free(t);
}

struct seeds {
    uint64_t first;
    uint64_t end;
    uint64_t at;
};

static void what_is_read_is_what_was_written(void **state)
{
    struct seeds *seeds = *state;
    for (seeds->at = seeds->first; seeds->at < seeds->end; seeds->at++)
        run(seeds->at);
}

static int tell_seed(void **state)
{
    const struct seeds *seeds = *state;
    if (seeds->at < seeds->end)
        print_error("seed %llu\n", (unsigned long long)seeds->at);
    return 0;
}

/* An argument is a single seed to run. */
int main(int argc, char **argv)
{
    struct seeds seeds = {0, SEED_COUNT, 0};
    if (argc > 1) {
        seeds.first = strtoull(argv[1], NULL, 10);
        seeds.end = seeds.first + 1;
    }
    const struct CMUnitTest tests[] = {
        {"what_is_read_is_what_was_written", what_is_read_is_what_was_written, NULL, tell_seed,
         &seeds},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
