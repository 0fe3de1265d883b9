/* Damaged, cut, swapped and newer files: each byte of both files, each length, and arrays that lie
 * under right checksums. */
#include "segment_fixture.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include "segment/segment_parquet_internal.h"

enum { DAMAGE_ROWS = 8 };

/* A small segment whose bytes a test may change; opens nothing. */
static void make_small(struct fixture *fx, uint64_t seed, bool in_place)
{
    struct trail trail = {0};
    fixture_init(fx, seed, DAMAGE_ROWS);
    fx->row_group_bytes = 8000;
    fx->schema.vectors_in_place = in_place;
    fx->schema.compression = PDB_COMPRESSION_SNAPPY;
    assert_int_equal(fixture_write(fx, &trail), 0);
}

static int try_open(struct fixture *fx, bool *index_bad_out)
{
    struct segment_open_options options = fixture_options(fx);
    struct trail trail = {0};
    segment_free(fx->segment);
    fx->segment = NULL;
    *index_bad_out = false;
    int rc = segment_open(&options, &fx->segment, index_bad_out, &trail);
    assert_int_equal(rc == 0, fx->segment != NULL);
    assert_true(rc == 0 || (trail.len > 0 && trail.code == rc));
    return rc;
}

static void no_byte_of_an_index_changes_unnoticed(void **state)
{
    (void)state;
    struct fixture fx;
    make_small(&fx, 1, true);
    for (size_t i = 0; i < fx.index.len; i++) {
        bool index_bad = false;
        char before = fx.index.ptr[i];
        fx.index.ptr[i] = (char)(before ^ (1 << (i % 8)));
        assert_int_equal(try_open(&fx, &index_bad), PDB_DATA_LOSS);
        assert_true(index_bad);
        fx.index.ptr[i] = before;
    }
    fixture_dispose(&fx);
}

/* The sections of two indexes of one segment, but not the sum of the whole Parquet file. */
static bool same_sections(const struct buffer *a, const struct buffer *b)
{
    struct segment_header ha, hb;
    if (a->len != b->len || segment_header_get((const uint8_t *)a->ptr, a->len, &ha, NULL) < 0 ||
        segment_header_get((const uint8_t *)b->ptr, b->len, &hb, NULL) < 0)
        return false;
    size_t from = segment_header_bytes(ha.section_count);
    return ha.section_count == hb.section_count &&
           memcmp(a->ptr + from, b->ptr + from, a->len - from) == 0;
}

/* True if a vector that is used in place lies at that byte. */
static bool is_vector_byte(const struct segment *s, size_t at)
{
    for (uint32_t f = 0; f < s->field_count; f++)
        for (uint32_t p = 0; p < s->fields[f].page_count; p++) {
            const struct segment_page *page = &s->fields[f].pages[p];
            if (page->offset != 0 && at >= page->offset &&
                at < page->offset + (uint64_t)page->count * s->fields[f].bytes)
                return true;
        }
    return false;
}

/* A rebuild from a changed file fails, or does not depend on what was changed. */
static void try_rebuild(struct fixture *fx, size_t at)
{
    struct trail trail = {0};
    struct buffer again;
    struct segment_open_options options = fixture_options(fx);
    buffer_init_heap(&again, NULL, 0);
    int rc = segment_index_rebuild(&options, fx->hash_seed, &again, &trail);
    if (rc == 0 && !same_sections(&again, &fx->index))
        fail_msg("byte %zu of %zu: a rebuild made something else", at, fx->parquet.len);
    assert_true(rc == 0 || (trail.len > 0 && rc != PDB_INTERNAL));
    buffer_dispose(&again);
}

/* A changed byte of the Parquet file: opening refuses it, or the pages' sums do before a vector is
 * used, or it is no byte that serving looks at; the check finds it in any case; and a rebuild fails
 * or does not depend on it. */
static void try_damaged_parquet(struct fixture *fx, size_t at)
{
    struct trail trail = {0};
    bool index_bad = false;
    int rc = try_open(fx, &index_bad), lines = 0;
    assert_false(index_bad);
    if (rc == 0) {
        uint64_t page = 0;
        while (!segment_verify_step(fx->segment, &page, 1))
            ;
        assert_int_equal(segment_damaged(fx->segment), is_vector_byte(fx->segment, at));
        assert_int_equal(segment_check(fx->segment, fixture_ignore, &lines, &trail), PDB_DATA_LOSS);
        assert_true(lines > 0);
    } else {
        assert_int_equal(rc, PDB_DATA_LOSS);
    }
    try_rebuild(fx, at);
}

static void no_byte_of_a_parquet_file_changes_unnoticed(void **state)
{
    (void)state;
    for (int in_place = 0; in_place < 2; in_place++) {
        struct fixture fx;
        make_small(&fx, 2 + (uint64_t)in_place, in_place != 0);
        for (size_t i = 0; i < fx.parquet.len; i += in_place != 0 ? 3 : 5) {
            char before = fx.parquet.ptr[i];
            fx.parquet.ptr[i] = (char)(before ^ (1 << (i % 8)));
            try_damaged_parquet(&fx, i);
            fx.parquet.ptr[i] = before;
        }
        fixture_dispose(&fx);
    }
}

/* Parquet has no sum over the footer, and the index that has one is lost when it is rebuilt. */
static void no_bit_of_a_footer_leads_a_rebuild_astray(void **state)
{
    (void)state;
    struct fixture fx;
    uint32_t crc = 0;
    size_t footer_bytes = 0;
    make_small(&fx, 24, false);
    assert_true(
        segment_footer_crc((const uint8_t *)fx.parquet.ptr, fx.parquet.len, &crc, &footer_bytes));
    for (size_t i = fx.parquet.len - footer_bytes; i < fx.parquet.len; i++)
        for (int bit = 0; bit < 8; bit++) {
            fx.parquet.ptr[i] = (char)(fx.parquet.ptr[i] ^ (1 << bit));
            try_rebuild(&fx, i);
            fx.parquet.ptr[i] = (char)(fx.parquet.ptr[i] ^ (1 << bit));
        }
    fixture_dispose(&fx);
}

static void cut_files_are_refused(void **state)
{
    (void)state;
    struct fixture fx;
    bool index_bad = false;
    make_small(&fx, 4, true);
    size_t whole = fx.index.len;
    for (fx.index.len = 0; fx.index.len < whole; fx.index.len++) {
        assert_int_equal(try_open(&fx, &index_bad), PDB_DATA_LOSS);
        assert_true(index_bad);
    }
    whole = fx.parquet.len;
    for (fx.parquet.len = 0; fx.parquet.len < whole; fx.parquet.len++) {
        struct trail trail = {0};
        struct buffer again;
        struct segment_open_options options = fixture_options(&fx);
        buffer_init_heap(&again, NULL, 0);
        assert_int_equal(try_open(&fx, &index_bad), PDB_DATA_LOSS);
        assert_false(index_bad);
        assert_int_equal(segment_index_rebuild(&options, 1, &again, &trail), PDB_DATA_LOSS);
        buffer_dispose(&again);
    }
    assert_int_equal(try_open(&fx, &index_bad), 0);
    fixture_dispose(&fx);
}

static void files_of_other_segments_are_told_apart(void **state)
{
    (void)state;
    struct fixture fx, other;
    bool index_bad = false;
    make_small(&fx, 5, true);
    make_small(&other, 6, true);
    struct buffer own = fx.index;
    fx.index = other.index;
    assert_int_equal(try_open(&fx, &index_bad), PDB_DATA_LOSS);
    assert_true(index_bad);
    fx.index = own;
    own = fx.parquet;
    fx.parquet = other.parquet;
    assert_int_equal(try_open(&fx, &index_bad), PDB_DATA_LOSS);
    assert_false(index_bad);
    struct trail trail = {0};
    struct buffer again;
    struct segment_open_options options = fixture_options(&fx);
    buffer_init_heap(&again, NULL, 0);
    assert_int_equal(segment_index_rebuild(&options, 1, &again, &trail), PDB_DATA_LOSS);
    buffer_dispose(&again);
    fx.parquet = own;
    fixture_dispose(&other);
    fixture_dispose(&fx);
}

static void a_schema_with_other_fields_is_refused(void **state)
{
    (void)state;
    struct fixture fx;
    bool index_bad = false;
    struct pdb_field fields[FIXTURE_FIELDS];
    make_small(&fx, 7, true);
    memcpy(fields, fixture_fields, sizeof(fields));
    fields[2].dimension++;
    fx.schema.fields = fields;
    assert_int_equal(try_open(&fx, &index_bad), PDB_DATA_LOSS);
    fields[2].dimension--;
    fields[1].metric = PDB_METRIC_EUCLIDEAN;
    assert_int_equal(try_open(&fx, &index_bad), PDB_DATA_LOSS);
    fx.schema.fields = fixture_fields;
    fx.schema.field_count--;
    assert_int_equal(try_open(&fx, &index_bad), PDB_DATA_LOSS);
    fixture_dispose(&fx);
}

/* ---- indexes under right sums ---- */

/* The index taken apart, to be changed and put together again. */
struct parts {
    struct segment_header header;
    struct segment_section sections[64];
};

static void take_apart(const struct fixture *fx, struct parts *parts)
{
    const uint8_t *bytes = (const uint8_t *)fx->index.ptr;
    assert_int_equal(segment_header_get(bytes, fx->index.len, &parts->header, NULL), 0);
    uint64_t expected = segment_header_bytes(parts->header.section_count);
    for (uint32_t i = 0; i < parts->header.section_count; i++)
        assert_int_equal(
            segment_section_get(bytes, &parts->header, i, &expected, &parts->sections[i], NULL), 0);
}

static void put_together(struct fixture *fx, struct parts *parts)
{
    uint8_t *bytes = (uint8_t *)fx->index.ptr;
    for (uint32_t i = 0; i < parts->header.section_count; i++) {
        struct segment_section *section = &parts->sections[i];
        section->crc =
            crc32c(0, bytes + section->offset, bytes_align_up(section->length, SEGMENT_ALIGNMENT));
    }
    segment_header_put(&parts->header, parts->sections, bytes);
}

static struct segment_section *find_section(struct parts *parts, uint16_t kind, uint16_t field)
{
    for (uint32_t i = 0; i < parts->header.section_count; i++)
        if (parts->sections[i].kind == kind && parts->sections[i].field == field)
            return &parts->sections[i];
    return NULL;
}

static void newer_indexes_are_refused_only_if_they_say_so(void **state)
{
    (void)state;
    struct fixture fx;
    struct parts parts;
    bool index_bad = true;
    /* One whose table has room for another section before the first one. */
    for (uint64_t seed = 8;; seed++) {
        make_small(&fx, seed, true);
        take_apart(&fx, &parts);
        uint32_t count = parts.header.section_count;
        if (segment_header_bytes(count) == segment_header_bytes(count + 1))
            break;
        fixture_dispose(&fx);
    }
    parts.header.flags = 0x20000;
    put_together(&fx, &parts);
    assert_int_equal(try_open(&fx, &index_bad), PDB_FAILED_PRECONDITION);
    assert_false(index_bad);
    parts.header.flags = 1;
    put_together(&fx, &parts);
    assert_int_equal(try_open(&fx, &index_bad), 0);
    /* A section of which this version knows nothing; its 64 bytes are at the end. */
    uint32_t last = parts.header.section_count++;
    memset(buffer_reserve(&fx.index, 64), 0, 64);
    parts.sections[last] = (struct segment_section){
        .kind = 999, .field = 7, .offset = fx.index.len, .length = 60, .flags = 2};
    fx.index.len += 64;
    parts.header.index_bytes = fx.index.len;
    put_together(&fx, &parts);
    assert_int_equal(try_open(&fx, &index_bad), 0);
    fixture_compare(&fx);
    parts.sections[last].flags = 0x80000000;
    put_together(&fx, &parts);
    assert_int_equal(try_open(&fx, &index_bad), PDB_FAILED_PRECONDITION);
    assert_false(index_bad);
    bytes_put_u32(fx.index.ptr + 12, SEGMENT_FORMAT + 1);
    bytes_put_u32(fx.index.ptr + 8,
                  crc32c(0, fx.index.ptr + 12, bytes_get_u32(fx.index.ptr + 16) - 12));
    assert_int_equal(try_open(&fx, &index_bad), PDB_FAILED_PRECONDITION);
    assert_false(index_bad);
    fixture_dispose(&fx);
}

/* Every byte of the arrays that lead elsewhere, changed under right sums: the index is refused when
 * it is opened, or the check finds it; nothing is read out of bounds. */
static void lying_arrays_are_found(void **state)
{
    (void)state;
    static const struct {
        uint16_t kind, field;
        size_t step, used; /* of each `step` bytes the first `used` mean something; 0: all */
    } arrays[] = {
        {SEGMENT_FIELDS, 0, 32, 24},       {SEGMENT_ID_OFFSETS, 0, 0, 0},
        {SEGMENT_DOC_OFFSETS, 0, 0, 0},    {SEGMENT_PRESENT, 1, 8, 3},
        {SEGMENT_RANKS, 1, 0, 0},          {SEGMENT_VECTOR_PAGES, 1, 24, 20},
        {SEGMENT_VECTOR_PAGES, 4, 24, 20}, {SEGMENT_VERSIONS, 0, 0, 0},
        {SEGMENT_CREATED, 0, 0, 0},        {SEGMENT_ID_BYTES, 0, 0, 0},
        {SEGMENT_DOC_BYTES, 0, 0, 0},      {SEGMENT_INVERSE_NORMS, 0, 4, 0},
    };
    struct fixture fx;
    struct parts parts;
    /* One with rows that lack a vector of field 1. */
    for (uint64_t seed = 9;; seed++) {
        make_small(&fx, seed, true);
        take_apart(&fx, &parts);
        if (find_section(&parts, SEGMENT_PRESENT, 1) != NULL)
            break;
        fixture_dispose(&fx);
    }
    for (size_t a = 0; a < sizeof(arrays) / sizeof(arrays[0]); a++) {
        struct segment_section *section = find_section(&parts, arrays[a].kind, arrays[a].field);
        assert_non_null(section);
        for (size_t i = 0; i < section->length; i++) {
            bool used = arrays[a].step == 0 || i % arrays[a].step < arrays[a].used;
            bool index_bad = false;
            int lines = 0;
            char *at = fx.index.ptr + section->offset + i, before = *at;
            *at = (char)(before ^ (1 << (i % 8)));
            put_together(&fx, &parts);
            int rc = try_open(&fx, &index_bad);
            assert_true(rc == 0 || (rc == PDB_DATA_LOSS && index_bad));
            if (rc == 0)
                rc = segment_check(fx.segment, fixture_ignore, &lines, NULL);
            if (used && rc == 0)
                fail_msg("section %u: byte %zu", arrays[a].kind, i);
            *at = before;
        }
        put_together(&fx, &parts);
    }
    fixture_dispose(&fx);
}

/* The id index may lie about any slot: look-ups end, and find the right row or none. */
static void a_lying_id_index_finds_no_wrong_row(void **state)
{
    (void)state;
    struct fixture fx;
    struct parts parts;
    make_small(&fx, 10, true);
    take_apart(&fx, &parts);
    struct segment_section *section = find_section(&parts, SEGMENT_ID_HASH, 0);
    assert_non_null(section);
    for (size_t i = 0; i < section->length; i++) {
        bool index_bad = false;
        char *at = fx.index.ptr + section->offset + i, before = *at;
        *at = (char)(before ^ 0xff);
        put_together(&fx, &parts);
        assert_int_equal(try_open(&fx, &index_bad), 0);
        for (uint32_t row = 0; row < fx.count; row++) {
            uint32_t found = row;
            if (segment_index_find(fx.segment, fx.rows[row].row.id, &found))
                assert_true(text_equal(segment_id(fx.segment, found), fx.rows[row].row.id));
        }
        *at = before;
    }
    fixture_dispose(&fx);
}

/* ---- Parquet files that are sound and yet no segment ---- */

struct foreign_row {
    const char *id;
    int64_t version;
    const char *metadata;
};

static int foreign_sink(void *context, const void *bytes, size_t len)
{
    buffer_add(context, bytes, len);
    return 0;
}

static void put_column(struct pqfile_writer *w, const void *values, size_t count, bool optional)
{
    uint8_t present[] = {1, 1, 1, 1};
    struct pqfile_batch batch = {.row_count = count,
                                 .level_count = count,
                                 .value_count = count,
                                 .definition = optional ? present : NULL,
                                 .values = values};
    assert_int_equal(pqfile_write(w, &batch, NULL), 0);
    assert_int_equal(pqfile_writer_end_column(w, NULL, NULL), 0);
}

/* Two rows without fields, as a writer without our care would write them. */
static void make_foreign(struct fixture *fx, const struct foreign_row rows[2])
{
    static const char uuid[] = "01020300-0000-0000-0000-000000000000";
    static const char schema[] = "{\"fields\":[],\"columns\":[],\"compression\":\"none\","
                                 "\"vectors_in_place\":true}";
    static const char *const values[][2] = {{SEGMENT_KEY_FORMAT, "1"},
                                            {SEGMENT_KEY_COLLECTION, uuid},
                                            {SEGMENT_KEY_NUMBER, "5"},
                                            {SEGMENT_KEY_SCHEMA, schema}};
    struct pqfile_key_value pairs[4];
    for (int i = 0; i < 4; i++)
        pairs[i] = (struct pqfile_key_value){{(const uint8_t *)values[i][0], strlen(values[i][0])},
                                             {(const uint8_t *)values[i][1], strlen(values[i][1])},
                                             true};
    struct segment_columns columns;
    struct segment_layout layout;
    struct pqfile_writer *w = NULL;
    struct pqfile_sink sink = {foreign_sink, &fx->parquet};
    struct pqfile_writer_options options = {.key_values = pairs, .key_value_count = 4};
    *fx = (struct fixture){.schema = {.collection = {{1, 2, 3}}, .number = 5}};
    buffer_init_heap(&fx->parquet, NULL, 0);
    buffer_init_heap(&fx->index, NULL, 0);
    assert_int_equal(segment_columns_init(&columns, NULL, NULL, 0), 0);
    assert_int_equal(segment_layout_init(&layout, NULL, &fx->schema, &columns), 0);
    assert_int_equal(
        pqfile_writer_open(layout.fields, layout.field_count, &options, &sink, &w, NULL), 0);
    struct pqfile_bytes ids[2], metadata[2];
    int64_t versions[2];
    for (int i = 0; i < 2; i++) {
        ids[i] = (struct pqfile_bytes){(const uint8_t *)rows[i].id, strlen(rows[i].id)};
        versions[i] = rows[i].version;
        metadata[i] =
            (struct pqfile_bytes){(const uint8_t *)rows[i].metadata, strlen(rows[i].metadata)};
    }
    put_column(w, ids, 2, false);
    put_column(w, versions, 2, false);
    put_column(w, versions, 2, false);
    put_column(w, versions, 2, false);
    put_column(w, versions, 2, true);
    put_column(w, metadata, 2, true);
    assert_int_equal(pqfile_writer_end_row_group(w, NULL), 0);
    assert_int_equal(pqfile_writer_finish(w, NULL, NULL), 0);
    pqfile_writer_close(w);
    segment_layout_dispose(&layout);
    segment_columns_dispose(&columns);
}

static void only_rows_of_a_segment_are_rebuilt(void **state)
{
    (void)state;
    static const struct {
        struct foreign_row rows[2];
        int rc;
    } files[] = {
        {{{"a", 1, "{}"}, {"b", 1, "{\"x\":1}"}}, 0},
        {{{"a", 2, "{}"}, {"a", 1, "{}"}}, 0},
        {{{"b", 1, "{}"}, {"a", 1, "{}"}}, PDB_DATA_LOSS},
        {{{"a", 1, "{}"}, {"a", 2, "{}"}}, PDB_DATA_LOSS},
        {{{"a", 1, "{}"}, {"a", 1, "{}"}}, PDB_DATA_LOSS},
        {{{"", 1, "{}"}, {"a", 1, "{}"}}, PDB_DATA_LOSS},
        {{{"a", 1, "{"}, {"b", 1, "{}"}}, PDB_DATA_LOSS},
        {{{"a", 1, "[]"}, {"b", 1, "{}"}}, PDB_DATA_LOSS},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        struct fixture fx;
        struct trail trail = {0};
        make_foreign(&fx, files[i].rows);
        struct segment_open_options options = fixture_options(&fx);
        int rc = segment_index_rebuild(&options, 1, &fx.index, &trail);
        if (rc != files[i].rc)
            fail_msg("file %zu: %d %s", i, rc, trail.text);
        if (rc == 0) {
            fixture_open(&fx);
            assert_int_equal(segment_check(fx.segment, fixture_print, NULL, &trail), 0);
        }
        fixture_dispose(&fx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_byte_of_an_index_changes_unnoticed),
        cmocka_unit_test(no_byte_of_a_parquet_file_changes_unnoticed),
        cmocka_unit_test(no_bit_of_a_footer_leads_a_rebuild_astray),
        cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(files_of_other_segments_are_told_apart),
        cmocka_unit_test(a_schema_with_other_fields_is_refused),
        cmocka_unit_test(newer_indexes_are_refused_only_if_they_say_so),
        cmocka_unit_test(lying_arrays_are_found),
        cmocka_unit_test(a_lying_id_index_finds_no_wrong_row),
        cmocka_unit_test(only_rows_of_a_segment_are_rebuilt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
