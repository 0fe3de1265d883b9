/* pq_make.c: writes sample files of every encoding, codec, page version and nesting into a folder,
 * for other readers to read: pq_make FOLDER. One file a combination, all with the same columns.
 *
 * Row i's values are functions of i; samples.py says the same ones in Python. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "pqfile/pqfile.h"

enum {
    ROW_COUNT = 5000,
    GROUP_ROWS = 3000, /* two row groups of different size */
    BATCH_ROWS = 700,
    VECTOR_SIZE = 20,
    SHORT_SIZE = 3,
    LEVELS_MAX = BATCH_ROWS * 16,
    TEXT_BYTES = 1 << 18,
};

/* What a file is made with. */
struct variant {
    const char *name;
    enum pqfile_encoding numbers; /* INT32, INT64 */
    enum pqfile_encoding floats;
    enum pqfile_encoding booleans;
    enum pqfile_encoding texts;
    uint32_t dictionary_bytes;
    uint32_t alignment;
};

static const struct variant variants[] = {
    {.name = "plain"},
    {.name = "aligned", .alignment = 64},
    {.name = "encoded",
     .numbers = PQFILE_DELTA_BINARY_PACKED,
     .floats = PQFILE_BYTE_STREAM_SPLIT,
     .booleans = PQFILE_RLE},
    {.name = "split", .numbers = PQFILE_BYTE_STREAM_SPLIT, .floats = PQFILE_BYTE_STREAM_SPLIT},
    {.name = "dictionary",
     .numbers = PQFILE_RLE_DICTIONARY,
     .floats = PQFILE_RLE_DICTIONARY,
     .texts = PQFILE_RLE_DICTIONARY},
    {.name = "overflow", /* columns begin with a dictionary and go on in PLAIN */
     .numbers = PQFILE_RLE_DICTIONARY,
     .floats = PQFILE_RLE_DICTIONARY,
     .texts = PQFILE_RLE_DICTIONARY,
     .dictionary_bytes = 4000},
};

static const enum pqfile_codec codecs[] = {PQFILE_UNCOMPRESSED, PQFILE_SNAPPY, PQFILE_LZ4_RAW,
                                           PQFILE_ZSTD};

enum { BOOLEANS, NUMBERS, FLOATS, TEXTS, BLOOMED, OPTION_COUNT };

/* A batch of one column, with room for its levels and values. */
struct batch {
    uint8_t definition[LEVELS_MAX];
    uint8_t repetition[LEVELS_MAX];
    union {
        uint8_t bytes[LEVELS_MAX * 8];
        int32_t i32[LEVELS_MAX];
        int64_t i64[LEVELS_MAX];
        uint64_t u64[LEVELS_MAX];
        float f32[LEVELS_MAX];
        double f64[LEVELS_MAX];
        struct pqfile_bytes texts[LEVELS_MAX];
    } values;
    size_t levels;
    size_t count;
    char text[TEXT_BYTES];
    size_t text_len;
};

static struct pqfile_writer *writer;
static struct batch *batch;

static void check(int rc, const struct pqfile_error *error)
{
    if (rc == 0)
        return;
    (void)fprintf(stderr, "pq_make: %s\n", error->message);
    exit(1);
}

static int write_file(void *context, const void *bytes, size_t len)
{
    return fwrite(bytes, 1, len, context) == len ? 0 : -1;
}

static void add_level(uint8_t repetition, uint8_t definition)
{
    batch->repetition[batch->levels] = repetition;
    batch->definition[batch->levels++] = definition;
}

static void add_text(const void *bytes, size_t len)
{
    char *copy = batch->text + batch->text_len;
    if (len > 0)
        memcpy(copy, bytes, len);
    batch->text_len += len;
    batch->values.texts[batch->count++] = (struct pqfile_bytes){(const uint8_t *)copy, len};
}

static void add_word(const char *word, int number)
{
    char text[32];
    int len = snprintf(text, sizeof text, "%s%d", word, number);
    add_text(text, (size_t)len);
}

/* ---- columns: one function a column adds one row; the schema below names them ---- */

static void add_id(int i)
{
    char text[32];
    add_level(0, 0);
    add_text(text, (size_t)snprintf(text, sizeof text, "row-%06d", i));
}

static void add_flag(int i)
{
    add_level(0, i % 7 != 3);
    if (i % 7 != 3)
        batch->values.bytes[batch->count++] = i % 3 == 0;
}

static void add_small(int i)
{
    add_level(0, 0);
    batch->values.i32[batch->count++] = i * 7 - 1000;
}

static void add_big(int i)
{
    add_level(0, i % 5 != 0);
    if (i % 5 != 0)
        batch->values.i64[batch->count++] = (int64_t)(i - 2500) * 97000291;
}

static void add_u64(int i)
{
    add_level(0, 0);
    batch->values.u64[batch->count++] = (uint64_t)i * 0x9e3779b97f4a7c15U;
}

static void add_time(int i)
{
    add_level(0, i % 11 != 0);
    if (i % 11 != 0)
        batch->values.i64[batch->count++] = 1700000000000000 + (int64_t)i * 1000000;
}

static void add_f32(int i)
{
    add_level(0, i % 4 != 1);
    if (i % 4 != 1)
        batch->values.f32[batch->count++] = (float)i * 0.5F - 100.0F;
}

static void add_f64(int i)
{
    add_level(0, 0);
    batch->values.f64[batch->count++] = (double)i / 3.0;
}

static void add_word_column(int i)
{
    add_level(0, i % 6 != 2);
    if (i % 6 != 2)
        add_word("word", i % 50);
}

static void add_blob(int i)
{
    uint8_t bytes[16];
    add_level(0, 1);
    for (int j = 0; j < i % 13; j++)
        bytes[j] = (uint8_t)(i + j);
    add_text(bytes, (size_t)(i % 13));
}

static void add_code(int i)
{
    add_level(0, 0);
    for (int j = 0; j < 6; j++)
        batch->values.bytes[batch->count * 6 + (size_t)j] = (uint8_t)(i >> j);
    batch->count++;
}

static void add_tags(int i)
{
    int n = i % 4 + 1;
    if (i % 8 == 1 || i % 8 == 2) {
        add_level(0, i % 8 == 1 ? 0 : 1);
        return;
    }
    for (int j = 0; j < n; j++) {
        bool present = (i + j) % 5 != 0;
        add_level(j > 0, present ? 3 : 2);
        if (present)
            add_word("tag", i + j);
    }
}

static void add_x(int i)
{
    add_level(0, i % 10 == 3 ? 0 : i % 3 == 0 ? 1 : 2);
    if (i % 10 != 3 && i % 3 != 0)
        batch->values.i32[batch->count++] = i;
}

static void add_y(int i)
{
    add_level(0, i % 10 != 3);
    if (i % 10 != 3)
        batch->values.f64[batch->count++] = (double)i * 2.0;
}

/* Row i: i % 3 lists of j % 3 numbers. */
static void add_matrix(int i)
{
    if (i % 3 == 0)
        add_level(0, i % 2 == 0 ? 0 : 1);
    for (int j = 0; j < i % 3; j++) {
        if ((i + j) % 3 == 0)
            add_level(j > 0, 2);
        for (int k = 0; k < (i + j) % 3; k++) {
            add_level(k > 0 ? 2 : j > 0, 3);
            batch->values.i32[batch->count++] = i * 100 + j * 10 + k;
        }
    }
}

struct column {
    void (*add)(int row); /* NULL: vectors */
    size_t vector_size;
};

static const struct column columns[] = {
    {add_id, 0},     {add_flag, 0},       {add_small, 0}, {add_big, 0},         {add_u64, 0},
    {add_time, 0},   {add_f32, 0},        {add_f64, 0},   {add_word_column, 0}, {add_blob, 0},
    {add_code, 0},   {NULL, VECTOR_SIZE}, {add_tags, 0},  {add_x, 0},           {add_y, 0},
    {add_matrix, 0}, {NULL, SHORT_SIZE},
};

/* ---- files ---- */

static void write_vectors(int first, int end, size_t size)
{
    static float vectors[BATCH_ROWS * VECTOR_SIZE];
    static double pairs[BATCH_ROWS * SHORT_SIZE];
    uint8_t present[BATCH_ROWS / 8 + 1] = {0};
    struct pqfile_error error;
    for (int i = first; i < end; i++) {
        size_t row = (size_t)(i - first);
        if (i % 9 != 4)
            present[row / 8] |= (uint8_t)(1U << row % 8);
        for (size_t j = 0; j < size; j++) {
            if (size == VECTOR_SIZE)
                vectors[row * size + j] = (float)i + (float)j * 0.25F;
            else
                pairs[row * size + j] = (double)i - (double)j;
        }
    }
    if (size == VECTOR_SIZE)
        check(pqfile_write_vectors(writer, vectors, present, (size_t)(end - first), &error),
              &error);
    else
        check(pqfile_write_vectors(writer, pairs, NULL, (size_t)(end - first), &error), &error);
}

static void write_rows(const struct column *column, int first, int end)
{
    struct pqfile_error error;
    if (column->add == NULL) {
        write_vectors(first, end, column->vector_size);
        return;
    }
    batch->levels = batch->count = batch->text_len = 0;
    for (int i = first; i < end; i++)
        column->add(i);
    struct pqfile_batch rows = {.row_count = (size_t)(end - first),
                                .level_count = batch->levels,
                                .value_count = batch->count,
                                .definition = batch->definition,
                                .repetition = batch->repetition,
                                .values = &batch->values};
    check(pqfile_write(writer, &rows, &error), &error);
}

static void write_group(int first, int end)
{
    struct pqfile_error error;
    for (size_t c = 0; c < sizeof columns / sizeof columns[0]; c++) {
        for (int i = first; i < end; i += BATCH_ROWS)
            write_rows(&columns[c], i, i + BATCH_ROWS < end ? i + BATCH_ROWS : end);
        check(pqfile_writer_end_column(writer, NULL, &error), &error);
    }
    check(pqfile_writer_end_row_group(writer, &error), &error);
}

static void fill_options(struct pqfile_column_options *options, const struct variant *variant,
                         enum pqfile_codec codec, uint8_t page_version)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        options[i] = (struct pqfile_column_options){.codec = codec,
                                                    .page_version = page_version,
                                                    .page_bytes = 6000,
                                                    .page_rows = 1000,
                                                    .dictionary_bytes = variant->dictionary_bytes};
    options[BOOLEANS].encoding = variant->booleans;
    options[NUMBERS].encoding = variant->numbers;
    options[FLOATS].encoding = variant->floats;
    options[TEXTS].encoding = options[BLOOMED].encoding = variant->texts;
    options[BLOOMED].bloom = true;
    if (codec == PQFILE_UNCOMPRESSED)
        options[FLOATS].value_alignment = options[NUMBERS].value_alignment = variant->alignment;
}

static const struct pqfile_field sample_fields[] = {
    {.name = "id", .type = PQFILE_BYTE_ARRAY, .logical.kind = PQFILE_LOGICAL_STRING},
    {.name = "flag", .repetition = PQFILE_OPTIONAL, .type = PQFILE_BOOLEAN},
    {.name = "small", .type = PQFILE_INT32, .field_id = 7},
    {.name = "big", .repetition = PQFILE_OPTIONAL, .type = PQFILE_INT64},
    {.name = "u64", .type = PQFILE_INT64, .logical = {.kind = PQFILE_LOGICAL_INTEGER, .bits = 64}},
    {.name = "time",
     .repetition = PQFILE_OPTIONAL,
     .type = PQFILE_INT64,
     .logical = {.kind = PQFILE_LOGICAL_TIMESTAMP, .unit = PQFILE_MICROS, .utc = true}},
    {.name = "f32", .repetition = PQFILE_OPTIONAL, .type = PQFILE_FLOAT},
    {.name = "f64", .type = PQFILE_DOUBLE},
    {.name = "word",
     .repetition = PQFILE_OPTIONAL,
     .type = PQFILE_BYTE_ARRAY,
     .logical.kind = PQFILE_LOGICAL_STRING},
    {.name = "blob", .repetition = PQFILE_OPTIONAL, .type = PQFILE_BYTE_ARRAY},
    {.name = "code", .type = PQFILE_FIXED_LEN_BYTE_ARRAY, .type_length = 6},
    {.name = "vector",
     .repetition = PQFILE_OPTIONAL,
     .child_count = 1,
     .list_size = VECTOR_SIZE,
     .logical.kind = PQFILE_LOGICAL_LIST},
    {.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1},
    {.name = "element", .type = PQFILE_FLOAT},
    {.name = "tags",
     .repetition = PQFILE_OPTIONAL,
     .child_count = 1,
     .logical.kind = PQFILE_LOGICAL_LIST},
    {.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1},
    {.name = "element",
     .repetition = PQFILE_OPTIONAL,
     .type = PQFILE_BYTE_ARRAY,
     .logical.kind = PQFILE_LOGICAL_STRING},
    {.name = "place", .repetition = PQFILE_OPTIONAL, .child_count = 2},
    {.name = "x", .repetition = PQFILE_OPTIONAL, .type = PQFILE_INT32},
    {.name = "y", .type = PQFILE_DOUBLE},
    {.name = "matrix",
     .repetition = PQFILE_OPTIONAL,
     .child_count = 1,
     .logical.kind = PQFILE_LOGICAL_LIST},
    {.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1},
    {.name = "element", .child_count = 1, .logical.kind = PQFILE_LOGICAL_LIST},
    {.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1},
    {.name = "element", .type = PQFILE_INT32},
    {.name = "short",
     .child_count = 1,
     .list_size = SHORT_SIZE,
     .logical.kind = PQFILE_LOGICAL_LIST},
    {.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1},
    {.name = "element", .type = PQFILE_DOUBLE},
};

enum { FIELD_COUNT = sizeof sample_fields / sizeof sample_fields[0] };

static void choose_options(struct pqfile_field *fields, const struct pqfile_column_options *o)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        enum pqfile_type type = fields[i].type;
        int which = i == 0 ? BLOOMED : TEXTS;
        if (type == PQFILE_BOOLEAN)
            which = BOOLEANS;
        else if (type == PQFILE_INT32 || type == PQFILE_INT64)
            which = NUMBERS;
        else if (type == PQFILE_FLOAT || type == PQFILE_DOUBLE)
            which = FLOATS;
        fields[i].options = fields[i].child_count > 0 ? NULL : &o[which];
    }
}

static void write_sample(FILE *file, const struct pqfile_column_options *o)
{
    static const uint8_t key[] = "sample", value[] = "yes";
    struct pqfile_key_value pair = {.key = {key, 6}, .value = {value, 3}, .has_value = true};
    struct pqfile_writer_options options = {.key_values = &pair, .key_value_count = 1};
    struct pqfile_sink sink = {write_file, file};
    struct pqfile_error error;
    struct pqfile_field fields[FIELD_COUNT];
    memcpy(fields, sample_fields, sizeof fields);
    choose_options(fields, o);
    check(pqfile_writer_open(fields, FIELD_COUNT, &options, &sink, &writer, &error), &error);
    write_group(0, GROUP_ROWS);
    write_group(GROUP_ROWS, ROW_COUNT);
    check(pqfile_writer_finish(writer, NULL, &error), &error);
    pqfile_writer_close(writer);
}

static void make(const char *folder, const struct variant *variant, enum pqfile_codec codec,
                 uint8_t page_version)
{
    struct pqfile_column_options options[OPTION_COUNT];
    char path[4096];
    int len = snprintf(path, sizeof path, "%s/%s-%s-v%d.parquet", folder, variant->name,
                       pqfile_codec_name(codec), page_version);
    FILE *file = len < (int)sizeof path ? fopen(path, "wb") : NULL;
    if (file == NULL) {
        (void)fprintf(stderr, "pq_make: %s cannot be made\n", path);
        exit(1);
    }
    fill_options(options, variant, codec, page_version);
    write_sample(file, options);
    if (fclose(file) != 0) {
        (void)fprintf(stderr, "pq_make: %s cannot be written\n", path);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: pq_make FOLDER\n");
        return 2;
    }
    if (mkdir(argv[1], 0777) != 0 && errno != EEXIST) {
        (void)fprintf(stderr, "pq_make: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    batch = calloc(1, sizeof *batch);
    if (batch == NULL)
        return 1;
    for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++)
        for (size_t c = 0; c < sizeof codecs / sizeof codecs[0]; c++)
            for (uint8_t version = 1; version <= 2; version++)
                make(argv[1], &variants[v], codecs[c], version);
    free(batch);
    return 0;
}
