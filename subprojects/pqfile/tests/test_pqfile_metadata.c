/* Tests src/metadata_*.c, reading: footers, page headers and indexes that were put together by
 * hand, because no writer makes them. */
#include "pqfile_fixture.h"

#include "memory.h"
#include "metadata.h"
#include "thrift.h"

enum { FILE_BYTES = 1000, OLD_MAX = 1, OLD_MIN = 2, NULL_COUNT = 3, MAX = 5, MIN = 6 };

/* A footer with one column in one row group; each test changes what it is about. */
struct footer {
    int32_t type;
    int32_t type_length; /* 0: none */
    int32_t converted;   /* -1: none */
    int32_t chunk_type;
    int64_t rows, group_rows, levels;
    int64_t data_offset, dictionary_offset, stored_bytes;
    int64_t index_offset;
    int32_t children; /* of the root */
    bool encrypted_chunk;
    const char *path; /* of another file */
    bool no_orders;
    int16_t bound_ids[2]; /* fields of Statistics; 0: none */
    const void *bounds[2];
    size_t bound_len;
    int64_t null_count;
};

static struct footer plain_footer(int32_t type)
{
    return (struct footer){.type = type,
                           .converted = -1,
                           .chunk_type = type,
                           .rows = 10,
                           .group_rows = 10,
                           .levels = 10,
                           .data_offset = 4,
                           .stored_bytes = 100,
                           .children = 1,
                           .null_count = 2};
}

static void write_schema(struct pq_thrift_writer *w, const struct footer *f)
{
    pq_thrift_write_list(w, 2, PQ_THRIFT_STRUCT, 2);
    pq_thrift_write_begin(w);
    pq_thrift_write_binary(w, 4, "root", 4);
    pq_thrift_write_i32(w, 5, f->children);
    pq_thrift_write_end(w);
    pq_thrift_write_begin(w);
    pq_thrift_write_i32(w, 1, f->type);
    if (f->type_length != 0)
        pq_thrift_write_i32(w, 2, f->type_length);
    pq_thrift_write_i32(w, 3, PQFILE_REQUIRED);
    pq_thrift_write_binary(w, 4, "c", 1);
    if (f->converted >= 0)
        pq_thrift_write_i32(w, 6, f->converted);
    pq_thrift_write_end(w);
}

static void write_chunk(struct pq_thrift_writer *w, const struct footer *f)
{
    pq_thrift_write_begin(w);
    if (f->path != NULL)
        pq_thrift_write_binary(w, 1, f->path, strlen(f->path));
    pq_thrift_write_struct(w, 3);
    pq_thrift_write_i32(w, 1, f->chunk_type);
    pq_thrift_write_list(w, 2, PQ_THRIFT_I32, 1);
    pq_thrift_write_i32_element(w, PQFILE_PLAIN);
    pq_thrift_write_i32(w, 4, PQFILE_UNCOMPRESSED);
    pq_thrift_write_i64(w, 5, f->levels);
    pq_thrift_write_i64(w, 6, f->stored_bytes);
    pq_thrift_write_i64(w, 7, f->stored_bytes);
    pq_thrift_write_i64(w, 9, f->data_offset);
    if (f->dictionary_offset != 0)
        pq_thrift_write_i64(w, 11, f->dictionary_offset);
    pq_thrift_write_struct(w, 12);
    for (int i = 0; i < 2; i++)
        if (f->bound_ids[i] != 0)
            pq_thrift_write_binary(w, f->bound_ids[i], f->bounds[i], f->bound_len);
    pq_thrift_write_i64(w, NULL_COUNT, f->null_count);
    pq_thrift_write_end(w);
    pq_thrift_write_end(w);
    if (f->index_offset != 0) {
        pq_thrift_write_i64(w, 4, f->index_offset);
        pq_thrift_write_i32(w, 5, 10);
    }
    if (f->encrypted_chunk) {
        pq_thrift_write_struct(w, 8);
        pq_thrift_write_end(w);
    }
    pq_thrift_write_end(w);
}

static void write_footer(struct pq_buffer *out, const struct footer *f)
{
    struct pq_thrift_writer w;
    pq_thrift_writer_open(&w, out);
    pq_thrift_write_begin(&w);
    pq_thrift_write_i32(&w, 1, 2);
    write_schema(&w, f);
    pq_thrift_write_i64(&w, 3, f->rows);
    pq_thrift_write_list(&w, 4, PQ_THRIFT_STRUCT, 1);
    pq_thrift_write_begin(&w);
    pq_thrift_write_list(&w, 1, PQ_THRIFT_STRUCT, 1);
    write_chunk(&w, f);
    pq_thrift_write_i64(&w, 2, f->stored_bytes);
    pq_thrift_write_i64(&w, 3, f->group_rows);
    pq_thrift_write_end(&w);
    if (!f->no_orders) {
        pq_thrift_write_list(&w, 7, PQ_THRIFT_STRUCT, 1);
        pq_thrift_write_begin(&w);
        pq_thrift_write_struct(&w, 1);
        pq_thrift_write_end(&w);
        pq_thrift_write_end(&w);
    }
    pq_thrift_write_end(&w);
}

struct parsed {
    struct pqfile_allocator allocator;
    struct pq_arena arena;
    struct pqfile_metadata metadata;
    struct pqfile_error error;
};

static int parse_bytes(const uint8_t *data, size_t len, struct parsed *p)
{
    static const struct pq_metadata_limits limits = {
        .file_bytes = FILE_BYTES, .node_max = 100, .depth_max = 8, .row_group_max = 10};
    *p = (struct parsed){.allocator = pq_allocator(NULL)};
    pq_arena_init(&p->arena, &p->allocator, 1 << 20);
    return pq_metadata_read(data, len, &limits, &p->arena, &p->metadata, &p->error);
}

static int parse(const struct footer *f, struct parsed *p)
{
    struct pqfile_allocator allocator = pq_allocator(NULL);
    struct pq_buffer out;
    pq_buffer_init(&out, &allocator);
    write_footer(&out, f);
    assert_false(out.failed);
    uint8_t *data = exact_copy(out.data, out.len);
    int rc = parse_bytes(data, out.len, p);
    free(data);
    pq_buffer_dispose(&out);
    return rc;
}

static void assert_refused(const struct footer *f, int code, const char *within)
{
    struct parsed p;
    int rc = parse(f, &p);
    pq_arena_dispose(&p.arena);
    if (rc != code || p.error.code != code || strstr(p.error.message, within) == NULL)
        fail_msg("%d \"%s\", not %d \"%s\"", rc, p.error.message, code, within);
}

static void a_footer_is_read(void **state)
{
    (void)state;
    struct footer f = plain_footer(PQFILE_INT32);
    struct parsed p;
    f.dictionary_offset = 4;
    f.data_offset = 50;
    assert_int_equal(parse(&f, &p), 0);
    const struct pqfile_metadata *m = &p.metadata;
    assert_int_equal(m->node_count, 2);
    assert_int_equal(m->column_count, 1);
    assert_string_equal(m->nodes[1].name, "c");
    assert_int_equal(m->row_groups[0].chunks[0].start, 4);
    assert_int_equal(m->row_groups[0].chunks[0].data_offset, 50);
    assert_int_equal(m->row_groups[0].chunks[0].encodings, 1);
    assert_int_equal(m->row_groups[0].chunks[0].statistics.null_count, 2);
    pq_arena_dispose(&p.arena);
}

#define REFUSES(CHANGE, CODE, WITHIN)                                                              \
    do {                                                                                           \
        struct footer f = plain_footer(PQFILE_INT32);                                              \
        CHANGE;                                                                                    \
        assert_refused(&f, CODE, WITHIN);                                                          \
    } while (0)

static void footers_that_lie_are_refused(void **state)
{
    (void)state;
    REFUSES(f.rows = 11, PQFILE_CORRUPT, "row groups have 10 rows, the file 11");
    REFUSES(f.rows = -1, PQFILE_CORRUPT, "structure");
    REFUSES(f.group_rows = -1, PQFILE_CORRUPT, "row group 0, structure");
    REFUSES(f.levels = 9, PQFILE_CORRUPT, "values do not fit the rows");
    REFUSES(f.levels = -1, PQFILE_CORRUPT, "outside the file");
    REFUSES(f.chunk_type = PQFILE_INT64, PQFILE_CORRUPT, "column 0, type 2, but INT32");
    REFUSES(f.stored_bytes = 997, PQFILE_CORRUPT, "outside the file");
    REFUSES(f.stored_bytes = INT64_MAX, PQFILE_CORRUPT, "outside the file");
    REFUSES(f.stored_bytes = -1, PQFILE_CORRUPT, "outside the file");
    REFUSES(f.stored_bytes = 0, PQFILE_CORRUPT, "outside the file");
    REFUSES(f.data_offset = 3, PQFILE_CORRUPT, "outside the file");
    REFUSES(f.data_offset = INT64_MAX, PQFILE_CORRUPT, "outside the file");
    REFUSES(f.data_offset = INT64_MIN, PQFILE_CORRUPT, "outside the file");
    REFUSES((f.dictionary_offset = 4, f.data_offset = 200), PQFILE_CORRUPT, "outside the file");
    REFUSES(f.index_offset = 995, PQFILE_CORRUPT, "outside the file");
    REFUSES(f.index_offset = -1, PQFILE_CORRUPT, "outside the file");
    REFUSES(f.children = 2, PQFILE_CORRUPT, "fewer nodes than children");
    REFUSES(f.children = 0, PQFILE_CORRUPT, "more nodes than children");
    REFUSES(f.children = -1, PQFILE_CORRUPT, "negative");
    REFUSES(f.type = 8, PQFILE_UNSUPPORTED, "node 1: type 8");
    REFUSES(f.type = PQFILE_FIXED_LEN_BYTE_ARRAY, PQFILE_CORRUPT, "values of 0 bytes");
    REFUSES(f.path = "other", PQFILE_UNSUPPORTED, "another file");
    REFUSES(f.encrypted_chunk = true, PQFILE_UNSUPPORTED, "encrypted");
}

/* ---- statistics ---- */

static struct pqfile_statistics statistics_of(const struct footer *f, struct parsed *p)
{
    assert_int_equal(parse(f, p), 0);
    return p->metadata.row_groups[0].chunks[0].statistics;
}

/* Whether bounds of this length in these fields are believed. */
static void assert_bounds(struct footer f, int16_t min_id, int16_t max_id, const void *min,
                          const void *max, size_t len, bool expected)
{
    struct parsed p;
    f.bound_ids[0] = min_id;
    f.bound_ids[1] = max_id;
    f.bounds[0] = min;
    f.bounds[1] = max;
    f.bound_len = len;
    struct pqfile_statistics s = statistics_of(&f, &p);
    assert_true(s.has_min == expected && s.has_max == expected);
    if (expected) {
        assert_int_equal(s.min.len, len);
        assert_memory_equal(s.max.data, max, len);
    }
    pq_arena_dispose(&p.arena);
}

static void bounds_are_believed_only_where_their_order_is_known(void **state)
{
    (void)state;
    enum { CONVERTED_UINT_32 = 13, CONVERTED_INTERVAL = 21 };
    static const uint8_t low[12] = {1, 2, 3, 4}, high[12] = {4, 3, 2, 5};
    struct footer numbers = plain_footer(PQFILE_INT32), unsigneds = numbers, orderless = numbers;
    struct footer texts = plain_footer(PQFILE_BYTE_ARRAY), old96 = plain_footer(PQFILE_INT96);
    struct footer interval = plain_footer(PQFILE_FIXED_LEN_BYTE_ARRAY);
    unsigneds.converted = CONVERTED_UINT_32;
    orderless.no_orders = true;
    interval.converted = CONVERTED_INTERVAL;
    interval.type_length = 12;
    assert_bounds(numbers, MIN, MAX, low, high, 4, true);
    assert_bounds(numbers, OLD_MIN, OLD_MAX, low, high, 4, true);
    assert_bounds(numbers, MIN, MAX, low, high, 3, false);
    assert_bounds(numbers, OLD_MIN, OLD_MAX, low, high, 5, false);
    assert_bounds(unsigneds, MIN, MAX, low, high, 4, true);
    assert_bounds(unsigneds, OLD_MIN, OLD_MAX, low, high, 4, false);
    assert_bounds(orderless, MIN, MAX, low, high, 4, false);
    assert_bounds(orderless, OLD_MIN, OLD_MAX, low, high, 4, true);
    assert_bounds(texts, MIN, MAX, low, high, 3, true);
    assert_bounds(texts, OLD_MIN, OLD_MAX, low, high, 3, false);
    assert_bounds(old96, MIN, MAX, low, high, 12, false);
    assert_bounds(interval, MIN, MAX, low, high, 12, false);
}

static void a_nan_takes_both_bounds_with_it(void **state)
{
    (void)state;
    float nan_value = __builtin_nanf(""), one = 1;
    double nan_double = __builtin_nan(""), two = 2;
    assert_bounds(plain_footer(PQFILE_FLOAT), MIN, MAX, &nan_value, &one, 4, false);
    assert_bounds(plain_footer(PQFILE_FLOAT), MIN, MAX, &one, &nan_value, 4, false);
    assert_bounds(plain_footer(PQFILE_DOUBLE), OLD_MIN, OLD_MAX, &two, &nan_double, 8, false);
    assert_bounds(plain_footer(PQFILE_DOUBLE), MIN, MAX, &two, &two, 8, true);
}

static void zeros_as_bounds_stand_for_both_signs(void **state)
{
    (void)state;
    struct parsed p;
    struct footer f = plain_footer(PQFILE_FLOAT);
    float plus = 0.0F, minus = -0.0F;
    f.bound_ids[0] = MIN;
    f.bound_ids[1] = MAX;
    f.bounds[0] = &plus;
    f.bounds[1] = &minus;
    f.bound_len = 4;
    struct pqfile_statistics s = statistics_of(&f, &p);
    assert_memory_equal(s.min.data, &minus, 4);
    assert_memory_equal(s.max.data, &plus, 4);
    pq_arena_dispose(&p.arena);
}

static void a_negative_count_of_nulls_is_no_count(void **state)
{
    (void)state;
    struct parsed p;
    struct footer f = plain_footer(PQFILE_INT32);
    f.null_count = -1;
    assert_false(statistics_of(&f, &p).has_null_count);
    pq_arena_dispose(&p.arena);
}

/* ---- old meanings ---- */

static void converted_types_become_logical_ones(void **state)
{
    (void)state;
    static const struct {
        int32_t type, converted;
        struct pqfile_logical logical;
    } rows[] = {
        {PQFILE_BYTE_ARRAY, 0, {.kind = PQFILE_LOGICAL_STRING}},
        {PQFILE_INT32, 6, {.kind = PQFILE_LOGICAL_DATE}},
        {PQFILE_INT64, 10, {PQFILE_LOGICAL_TIMESTAMP, PQFILE_MICROS, true, false, 0, 0, 0}},
        {PQFILE_INT32, 11, {.kind = PQFILE_LOGICAL_INTEGER, .bits = 8}},
        {PQFILE_INT64, 18, {.kind = PQFILE_LOGICAL_INTEGER, .bits = 64, .is_signed = true}},
        {PQFILE_BYTE_ARRAY, 19, {.kind = PQFILE_LOGICAL_JSON}},
        {PQFILE_INT32, 99, {.kind = PQFILE_LOGICAL_NONE}},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct parsed p;
        struct footer f = plain_footer(rows[i].type);
        f.converted = rows[i].converted;
        assert_int_equal(parse(&f, &p), 0);
        struct pqfile_logical got = p.metadata.nodes[1].logical;
        assert_int_equal(got.kind, rows[i].logical.kind);
        assert_int_equal(got.unit, rows[i].logical.unit);
        assert_int_equal(got.bits, rows[i].logical.bits);
        assert_true(got.utc == rows[i].logical.utc);
        assert_true(got.is_signed == rows[i].logical.is_signed);
        assert_int_equal(p.metadata.nodes[1].converted, rows[i].converted);
        pq_arena_dispose(&p.arena);
    }
}

/* ---- bombs ---- */

static void counts_that_the_bytes_cannot_hold_are_refused(void **state)
{
    (void)state;
    static const uint8_t rows[][12] = {
        {0x29, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07}, /* 2^31 nodes */
        {0x29, 0xfc, 0x7f},                         /* 127 nodes of nothing */
        {0x39, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07}, /* 2^31 of what comes next */
        {0x59, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07}, /* 2^31 keys */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct parsed p;
        assert_int_equal(parse_bytes(rows[i], sizeof(rows[i]), &p), PQFILE_CORRUPT);
        assert_true(p.arena.bytes < 1 << 16);
        pq_arena_dispose(&p.arena);
    }
}

static void write_chain(struct pq_buffer *out, uint32_t depth)
{
    struct pq_thrift_writer w;
    pq_thrift_writer_open(&w, out);
    pq_thrift_write_begin(&w);
    pq_thrift_write_list(&w, 2, PQ_THRIFT_STRUCT, depth + 1);
    for (uint32_t i = 0; i <= depth; i++) {
        pq_thrift_write_begin(&w);
        if (i == depth)
            pq_thrift_write_i32(&w, 1, PQFILE_INT32);
        if (i != 0)
            pq_thrift_write_i32(&w, 3, PQFILE_REPEATED);
        pq_thrift_write_binary(&w, 4, "n", 1);
        if (i != depth)
            pq_thrift_write_i32(&w, 5, 1);
        pq_thrift_write_end(&w);
    }
    pq_thrift_write_i64(&w, 3, 0);
    pq_thrift_write_list(&w, 4, PQ_THRIFT_STRUCT, 0);
    pq_thrift_write_end(&w);
}

static void a_schema_too_deep_is_refused(void **state)
{
    (void)state;
    struct pqfile_allocator allocator = pq_allocator(NULL);
    for (uint32_t depth = 1; depth < 20; depth++) {
        struct pq_buffer out;
        struct parsed p;
        pq_buffer_init(&out, &allocator);
        write_chain(&out, depth);
        int rc = parse_bytes(out.data, out.len, &p);
        assert_int_equal(rc, depth <= 9 ? PQFILE_OK : PQFILE_LIMIT); /* 8 groups below the root */
        if (rc == 0)
            assert_int_equal(p.metadata.nodes[depth].repetition_max, depth);
        pq_arena_dispose(&p.arena);
        pq_buffer_dispose(&out);
    }
}

/* ---- page headers ---- */

static void a_page_header_cut_short_says_so(void **state)
{
    (void)state;
    struct pqfile_allocator allocator = pq_allocator(NULL);
    struct pq_buffer out;
    struct pq_page_header header = {.type = PQ_PAGE_DATA_V2,
                                    .raw_bytes = 1000,
                                    .stored_bytes = 500,
                                    .has_crc = true,
                                    .crc = 0xdeadbeef,
                                    .level_count = 70,
                                    .encoding = PQFILE_RLE_DICTIONARY,
                                    .null_count = 3,
                                    .row_count = 60,
                                    .definition_bytes = 9,
                                    .repetition_bytes = 8,
                                    .is_compressed = true};
    struct pq_page_header back;
    size_t used = 0;
    bool is_short = false;
    pq_buffer_init(&out, &allocator);
    pq_page_header_write(&out, &header, 0, 0, 1);
    for (size_t len = 0; len < out.len; len++) {
        uint8_t *data = exact_copy(out.data, len);
        assert_int_equal(pq_page_header_read(data, len, &back, &used, &is_short, NULL),
                         PQFILE_CORRUPT);
        assert_true(is_short);
        free(data);
    }
    assert_int_equal(pq_page_header_read(out.data, out.len, &back, &used, &is_short, NULL), 0);
    assert_int_equal(used, out.len);
    assert_int_equal(back.crc, 0xdeadbeef);
    assert_int_equal(back.null_count, 3);
    assert_int_equal(back.repetition_bytes, 8);
    assert_true(back.is_compressed && back.has_crc);
    pq_buffer_dispose(&out);
}

static void page_headers_that_lie_are_refused(void **state)
{
    (void)state;
    static const uint8_t rows[][12] = {
        {0x15, 0x00, 0x15, 0x01, 0x15, 0x02, 0x2c, 0x00, 0x00}, /* negative size */
        {0x15, 0x00, 0x15, 0x02, 0x15, 0x02, 0x00},             /* a data page without its header */
        {0x15, 0x04, 0x15, 0x02, 0x15, 0x02, 0x2c, 0x00, 0x00}, /* with another's */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pq_page_header header;
        size_t used = 0;
        bool is_short = true;
        assert_int_equal(
            pq_page_header_read(rows[i], sizeof(rows[i]), &header, &used, &is_short, NULL),
            PQFILE_CORRUPT);
        assert_false(is_short);
    }
}

/* ---- page index ---- */

static int read_offsets(const struct pqfile_page_entry *entries, uint32_t count, uint64_t row_count)
{
    struct pqfile_allocator allocator = pq_allocator(NULL);
    struct pqfile_page_index_view view = {.page_count = count, .entries = entries}, back;
    struct pq_arena arena;
    struct pq_buffer out;
    pq_buffer_init(&out, &allocator);
    pq_arena_init(&arena, &allocator, 1 << 20);
    pq_offset_index_write(&out, &view);
    int rc = pq_offset_index_read(out.data, out.len, row_count, &arena, &back, NULL);
    if (rc == 0)
        assert_int_equal(back.entries[count - 1].row_count,
                         row_count - entries[count - 1].first_row);
    pq_arena_dispose(&arena);
    pq_buffer_dispose(&out);
    return rc;
}

static void an_offset_index_out_of_order_is_refused(void **state)
{
    (void)state;
    struct pqfile_page_entry e[] = {{.offset = 4, .stored_bytes = 10},
                                    {.offset = 14, .stored_bytes = 10, .first_row = 5},
                                    {.offset = 30, .stored_bytes = 10, .first_row = 9}};
    assert_int_equal(read_offsets(e, 3, 12), 0);
    assert_int_equal(read_offsets(e, 3, 8), PQFILE_CORRUPT); /* a page behind the last row */
    e[2].first_row = 4;
    assert_int_equal(read_offsets(e, 3, 12), PQFILE_CORRUPT); /* rows go back */
    e[2].first_row = 9;
    e[1].offset = 13;
    assert_int_equal(read_offsets(e, 3, 12), PQFILE_CORRUPT); /* pages overlap */
    e[1].offset = 14;
    e[0].first_row = 1;
    assert_int_equal(read_offsets(e, 3, 12), PQFILE_CORRUPT); /* no page for row 0 */
}

static void a_column_index_needs_an_entry_for_every_page(void **state)
{
    (void)state;
    struct pqfile_allocator allocator = pq_allocator(NULL);
    struct pqfile_bytes bound = {(const uint8_t *)"abcd", 4};
    struct pqfile_page_entry e[2] = {
        {.min = bound, .max = bound, .has_null_count = true, .null_count = 3},
        {.is_null = true, .has_null_count = true, .null_count = 9}};
    struct pqfile_page_index_view view = {
        .page_count = 2, .entries = e, .has_bounds = true, .order = PQFILE_ASCENDING};
    struct pq_arena arena;
    struct pq_buffer out;
    pq_buffer_init(&out, &allocator);
    pq_arena_init(&arena, &allocator, 1 << 20);
    pq_column_index_write(&out, &view);
    struct pqfile_page_entry blank[3] = {{0}};
    struct pqfile_page_index_view back = {.page_count = 2, .entries = blank};
    assert_int_equal(pq_column_index_read(out.data, out.len, &arena, &back, NULL), 0);
    assert_true(back.has_bounds && back.order == PQFILE_ASCENDING);
    assert_memory_equal(back.entries[0].min.data, "abcd", 4);
    assert_true(back.entries[1].is_null && back.entries[1].null_count == 9);
    for (uint32_t count = 1; count <= 3; count += 2) {
        back = (struct pqfile_page_index_view){.page_count = count, .entries = blank};
        assert_int_equal(pq_column_index_read(out.data, out.len, &arena, &back, NULL),
                         PQFILE_CORRUPT);
        assert_false(back.has_bounds);
    }
    pq_arena_dispose(&arena);
    pq_buffer_dispose(&out);
}

static void bloom_filters_of_another_kind_are_said_to_be(void **state)
{
    (void)state;
    static const uint8_t odd[] = {0x15, 0x42, 0x1c, 0x1c, 0, 0, 0x1c, 0x1c,
                                  0,    0,    0x1c, 0x1c, 0, 0, 0};
    static const uint8_t other[] = {0x15, 0x40, 0x1c, 0x2c, 0, 0, 0x1c, 0x1c,
                                    0,    0,    0x1c, 0x1c, 0, 0, 0};
    uint32_t bytes = 0;
    size_t used = 0;
    assert_int_equal(pq_bloom_header_read(odd, sizeof(odd), &bytes, &used, NULL), PQFILE_CORRUPT);
    assert_int_equal(pq_bloom_header_read(other, sizeof(other), &bytes, &used, NULL),
                     PQFILE_UNSUPPORTED);
    assert_int_equal(pq_bloom_header_read(other, 5, &bytes, &used, NULL), PQFILE_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_footer_is_read),
        cmocka_unit_test(footers_that_lie_are_refused),
        cmocka_unit_test(bounds_are_believed_only_where_their_order_is_known),
        cmocka_unit_test(a_nan_takes_both_bounds_with_it),
        cmocka_unit_test(zeros_as_bounds_stand_for_both_signs),
        cmocka_unit_test(a_negative_count_of_nulls_is_no_count),
        cmocka_unit_test(converted_types_become_logical_ones),
        cmocka_unit_test(counts_that_the_bytes_cannot_hold_are_refused),
        cmocka_unit_test(a_schema_too_deep_is_refused),
        cmocka_unit_test(a_page_header_cut_short_says_so),
        cmocka_unit_test(page_headers_that_lie_are_refused),
        cmocka_unit_test(an_offset_index_out_of_order_is_refused),
        cmocka_unit_test(a_column_index_needs_an_entry_for_every_page),
        cmocka_unit_test(bloom_filters_of_another_kind_are_said_to_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
