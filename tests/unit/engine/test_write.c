/* Writes: upsert, insert, update, delete, conditions, retries and every refusal, with its exact
 * text. */
#include "engine_fixture.h"

#include "base/text.h"

#include <math.h>

static const float v3[3] = {1, 2, 3};

static void an_upsert_is_read_back_with_all_it_has(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 3);
    assert_done(&fx, put(&fx, "c", "a", v3, 3, "{\"colour\":\"red\",\"n\":1}"));
    for (unsigned cores = 1; cores <= 2; cores++) {
        struct pdb_row row = row_of(&fx, "c", "a");
        assert_int_equal(row.version, 1);
        assert_true(same_text(row.id, "a"));
        assert_memory_equal(row.vectors[0], v3, sizeof(v3));
        assert_json(&fx, row.metadata, "{\"colour\":\"red\",\"n\":1}");
        assert_true(row.created_at_us > 0);
        assert_int_equal(row.created_at_us, row.updated_at_us);
        fixture_reopen(&fx, cores);
    }
    fixture_end(&fx);
}

static void an_upsert_replaces_but_keeps_the_time_of_creation(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    create(&fx, "c", 3);
    assert_done(&fx, put(&fx, "c", "a", v3, 3, "{\"old\":true}"));
    int64_t created_at_us = row_of(&fx, "c", "a").created_at_us;
    assert_done(&fx, put(&fx, "c", "a", v3, 3, "{\"new\":true}"));
    struct pdb_row row = row_of(&fx, "c", "a");
    assert_json(&fx, row.metadata, "{\"new\":true}");
    assert_int_equal(row.created_at_us, created_at_us);
    assert_true(row.updated_at_us > created_at_us);
    assert_int_equal(row.version, 2);
    assert_int_equal(count_of(&fx, "c", NULL), 1);
    fixture_end(&fx);
}

static void wrong_records_are_refused_with_their_place(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    create(&fx, "c", 3);
    float nan3[3] = {1, NAN, 3}, inf3[3] = {1, 2, INFINITY};
    char long_id[514];
    memset(long_id, 'x', 513);
    long_id[513] = '\0';
    struct pdb_vector good = {.values = v3, .count = 3}, with_nan = {.values = nan3, .count = 3},
                      with_inf = {.values = inf3, .count = 3};
    struct pdb_vector longer = {.values = v3, .count = 2},
                      unknown = {.field = txt("x"), .values = v3, .count = 3};
    struct pdb_vector bits = {.values = v3, .count = 1, .form = PDB_VECTOR_BYTES},
                      both[2] = {good, good};
    const struct {
        struct pdb_record record;
        const char *text;
    } rows[] = {
        {{.id = txt("b"), .vectors = &with_nan, .vector_count = 1},
         "vectors[1].vector[1]: NaN is not allowed"},
        {{.id = txt("b"), .vectors = &with_inf, .vector_count = 1},
         "vectors[1].vector[2]: infinity is not allowed"},
        {{.id = txt("b"), .vectors = &longer, .vector_count = 1},
         "vectors[1].vector: dimension 2, expected 3"},
        {{.id = txt("b"), .vectors = &unknown, .vector_count = 1},
         "vectors[1].vectors.x: the collection has no vector field 'x'"},
        {{.id = txt("b"), .vectors = &bits, .vector_count = 1},
         "vectors[1].vector: 1 bytes are no whole number of float32 values"},
        {{.id = txt("b"), .vectors = both, .vector_count = 2}, "vectors[1].vector: given twice"},
        {{.id = txt("a"), .vectors = &good, .vector_count = 1},
         "vectors[1].id: 'a' is the id of vectors[0] too"},
        {{.id = txt(long_id), .vectors = &good, .vector_count = 1},
         "vectors[1].id: expected 1 to 512 bytes, found 513"},
        {{.id = txt("b\xc3"), .vectors = &good, .vector_count = 1},
         "vectors[1].id: not valid UTF-8 at byte 1"},
        {{.id = txt("b"),
          .vectors = &good,
          .vector_count = 1,
          .metadata = doc(&fx, "[1]"),
          .has_metadata = true},
         "vectors[1].metadata: expected an object"},
        {{.id = txt("b"),
          .vectors = &good,
          .vector_count = 1,
          .metadata = txt("rubbish"),
          .has_metadata = true},
         "vectors[1].metadata: not a valid document"},
        {{.id = txt("b"),
          .vectors = &good,
          .vector_count = 1,
          .has_expires_at = true,
          .expires_at_us = -1},
         "vectors[1].expires_at: before 1970"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pdb_record records[2] = {{.id = txt("a"), .vectors = &good, .vector_count = 1},
                                        rows[i].record};
        struct pdb_write w = {.call.batch_name = "vectors",
                              .collection = txt("c"),
                              .records = records,
                              .record_count = 2};
        assert_refused(&fx, do_write(&fx, &w), PDB_INVALID_ARGUMENT, rows[i].text);
    }
    struct pdb_write none = {.call.batch_name = "vectors", .collection = txt("c")};
    assert_refused(&fx, do_write(&fx, &none), PDB_INVALID_ARGUMENT,
                   "vectors: expected 1 to 10000 records, found 0");
    none.collection = txt("d");
    assert_refused(&fx, do_write(&fx, &none), PDB_NOT_FOUND, "collection 'd' does not exist");
    assert_int_equal(count_of(&fx, "c", NULL), 0);
    fixture_end(&fx);
}

static void metadata_over_a_mebibyte_is_refused(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    create(&fx, "c", 3);
    char *json = malloc((1 << 20) + 64);
    assert_non_null(json);
    (void)snprintf(json, 16, "{\"k\":\"");
    memset(json + 6, 'x', 1 << 20);
    (void)snprintf(json + 6 + (1 << 20), 16, "\"}");
    assert_int_equal(put(&fx, "c", "a", v3, 3, json), PDB_INVALID_ARGUMENT);
    assert_non_null(strstr(fx.error.text, "records[0].metadata: "));
    assert_non_null(strstr(fx.error.text, " bytes, at most 1048576"));
    free(json);
    fixture_end(&fx);
}

static void an_insert_of_an_existing_id_fails_the_whole_batch(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 3);
    assert_done(&fx, put(&fx, "c", "b", v3, 3, NULL));
    struct pdb_vector vectors[2];
    struct pdb_record records[2] = {record("a", &vectors[0], v3, 3),
                                    record("b", &vectors[1], v3, 3)};
    struct pdb_write w = {
        .kind = PDB_WRITE_INSERT, .collection = txt("c"), .records = records, .record_count = 2};
    assert_refused(&fx, do_write(&fx, &w), PDB_ALREADY_EXISTS,
                   "records[1].id: record 'b' already exists");
    assert_int_equal(count_of(&fx, "c", NULL), 1);
    w.record_count = 1;
    assert_done(&fx, do_write(&fx, &w));
    assert_int_equal(w.version_out, 2);
    fixture_end(&fx);
}

static void ids_are_made_where_there_are_none(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 3);
    struct pdb_vector vectors[3];
    struct pdb_record records[3] = {record("", &vectors[0], v3, 3),
                                    record("given", &vectors[1], v3, 3),
                                    record("", &vectors[2], v3, 3)};
    struct pdb_write w = {.collection = txt("c"), .records = records, .record_count = 3};
    assert_done(&fx, do_write(&fx, &w));
    assert_int_equal(w.count_out, 3);
    assert_int_equal(w.ids_out[0].len, 36);
    assert_int_equal(w.ids_out[0].ptr[14], '7');
    assert_true(same_text(w.ids_out[1], "given"));
    assert_memory_not_equal(w.ids_out[0].ptr, w.ids_out[2].ptr, 36);
    char id[37] = "";
    memcpy(id, w.ids_out[2].ptr, 36);
    assert_int_equal(row_of(&fx, "c", id).version, 1);
    fixture_end(&fx);
}

static void if_version_holds_or_refuses(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 3);
    struct pdb_vector vector;
    struct pdb_record r = record("a", &vector, v3, 3);
    struct pdb_write w = {
        .call.batch_name = "vectors", .collection = txt("c"), .records = &r, .record_count = 1};
    r.has_if_version = true;
    r.if_version = 4;
    assert_refused(&fx, do_write(&fx, &w), PDB_FAILED_PRECONDITION,
                   "vectors[0].if_version: record 'a' does not exist, expected version 4");
    assert_true(fx.error.has_current_version);
    assert_int_equal(fx.error.current_version, 0);
    r.if_version = 0;
    assert_done(&fx, do_write(&fx, &w));
    assert_refused(&fx, do_write(&fx, &w), PDB_FAILED_PRECONDITION,
                   "vectors[0].if_version: record 'a' exists with version 1, expected none");
    r.if_version = 1;
    assert_done(&fx, do_write(&fx, &w));
    assert_refused(&fx, do_write(&fx, &w), PDB_FAILED_PRECONDITION,
                   "vectors[0].if_version: record 'a' has version 2, expected 1");
    assert_int_equal(fx.error.current_version, 2);
    struct pdb_text id = txt("a");
    struct pdb_delete d = {
        .collection = txt("c"), .ids = &id, .id_count = 1, .has_if_version = true, .if_version = 1};
    assert_refused(&fx, do_delete(&fx, &d), PDB_FAILED_PRECONDITION,
                   "if_version: record 'a' has version 2, expected 1");
    d.if_version = 2;
    assert_done(&fx, do_delete(&fx, &d));
    assert_int_equal(d.count_out, 1);
    /* Deleted and made again: the version goes on. */
    r.if_version = 0;
    assert_done(&fx, do_write(&fx, &w));
    assert_int_equal(w.version_out, 4);
    fixture_end(&fx);
}

static void an_update_merges_metadata_and_keeps_other_vectors(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    struct pdb_field fields[2] = {{.name = txt("a"), .dimension = 3, .metric = PDB_METRIC_DOT},
                                  {.name = txt("b"), .dimension = 2, .metric = PDB_METRIC_DOT}};
    struct pdb_collection_create c = {
        .config = {.name = txt("c"), .fields = fields, .field_count = 2}};
    assert_done(&fx, do_create(&fx, &c));
    const float b2[2] = {8, 9}, b2_new[2] = {6, 7};
    struct pdb_vector vectors[2] = {{.field = txt("a"), .values = v3, .count = 3},
                                    {.field = txt("b"), .values = b2, .count = 2}};
    struct pdb_record r = {
        .id = txt("x"),
        .vectors = vectors,
        .vector_count = 2,
        .has_metadata = true,
        .metadata = doc(&fx, "{\"deep\":{\"a\":1,\"b\":2},\"gone\":true,\"kept\":\"k\"}")};
    struct pdb_write w = {.collection = txt("c"), .records = &r, .record_count = 1};
    assert_done(&fx, do_write(&fx, &w));
    struct pdb_text unset = txt("gone");
    vectors[0] = (struct pdb_vector){.field = txt("b"), .values = b2_new, .count = 2};
    r.vector_count = 1;
    r.metadata = doc(&fx, "{\"deep\":{\"b\":3}}");
    r.unset = &unset;
    r.unset_count = 1;
    w.kind = PDB_WRITE_UPDATE;
    assert_done(&fx, do_write(&fx, &w));
    for (unsigned cores = 1; cores <= 2; cores++) {
        struct pdb_row row = row_of(&fx, "c", "x");
        assert_json(&fx, row.metadata, "{\"deep\":{\"a\":1,\"b\":3},\"kept\":\"k\"}");
        assert_memory_equal(row.vectors[0], v3, sizeof(v3));
        assert_memory_equal(row.vectors[1], b2_new, sizeof(b2_new));
        fixture_reopen(&fx, cores);
    }
    struct pdb_text unset_vector = txt("a");
    r = (struct pdb_record){
        .id = txt("x"), .unset_vectors = &unset_vector, .unset_vector_count = 1};
    assert_done(&fx, do_write(&fx, &w));
    struct pdb_row row = row_of(&fx, "c", "x");
    assert_null(row.vectors[0]);
    assert_memory_equal(row.vectors[1], b2_new, sizeof(b2_new));
    r = (struct pdb_record){.id = txt("y")};
    assert_refused(&fx, do_write(&fx, &w), PDB_NOT_FOUND,
                   "records[0].id: record 'y' does not exist");
    r = (struct pdb_record){.vector_count = 0};
    assert_refused(&fx, do_write(&fx, &w), PDB_INVALID_ARGUMENT, "records[0].id: missing");
    fixture_end(&fx);
}

static void hamming_takes_bits_and_zeros_and_ones(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    struct pdb_field field = {.dimension = 10, .metric = PDB_METRIC_HAMMING};
    struct pdb_collection_create c = {
        .config = {.name = txt("h"), .fields = &field, .field_count = 1}};
    assert_done(&fx, do_create(&fx, &c));
    const float ones[10] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    float half[10] = {1, 0.5f};
    const unsigned char packed[2] = {0x01, 0x02}, spare[2] = {0x01, 0x06};
    assert_done(&fx, put(&fx, "h", "floats", ones, 10, NULL));
    assert_refused(&fx, put(&fx, "h", "x", half, 10, NULL), PDB_INVALID_ARGUMENT,
                   "records[0].vector[1]: expected 0 or 1, as the metric is hamming");
    struct pdb_vector vector = {.values = packed, .count = 2, .form = PDB_VECTOR_BYTES};
    struct pdb_record r = {.id = txt("bits"), .vectors = &vector, .vector_count = 1};
    struct pdb_write w = {.collection = txt("h"), .records = &r, .record_count = 1};
    assert_done(&fx, do_write(&fx, &w));
    assert_memory_equal(row_of(&fx, "h", "floats").vectors[0], packed, 2);
    assert_memory_equal(row_of(&fx, "h", "bits").vectors[0], packed, 2);
    vector.values = spare;
    assert_refused(&fx, do_write(&fx, &w), PDB_INVALID_ARGUMENT,
                   "records[0].vector: the spare bits of the last byte must be 0");
    vector.count = 3;
    assert_refused(&fx, do_write(&fx, &w), PDB_INVALID_ARGUMENT,
                   "records[0].vector: 3 bytes of packed bits, expected 2");
    fixture_end(&fx);
}

static void create_typed(struct fixture *fx, const char *name, enum pdb_element_type element)
{
    struct pdb_field field = {.dimension = 4, .metric = PDB_METRIC_DOT, .element = element};
    struct pdb_collection_create c = {
        .config = {.name = txt(name), .fields = &field, .field_count = 1}};
    assert_done(fx, do_create(fx, &c));
}

static int put_bytes(struct fixture *fx, const char *name, const void *values, uint32_t count,
                     enum pdb_element_type element)
{
    struct pdb_vector vector = {
        .values = values, .count = count, .form = PDB_VECTOR_BYTES, .element = element};
    struct pdb_record r = {.id = txt("bytes"), .vectors = &vector, .vector_count = 1};
    struct pdb_write w = {.collection = txt(name), .records = &r, .record_count = 1};
    return do_write(fx, &w);
}

static void halves_and_bytes_are_made_of_floats_or_given_as_they_are(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    create_typed(&fx, "h", PDB_ELEMENT_FLOAT16);
    create_typed(&fx, "b", PDB_ELEMENT_INT8);
    const float values[4] = {1, -128, 0.1f, 65519}, bytes_of[4] = {1, -128, 127, 0};
    const uint16_t halves[4] = {0x3c00, 0xd800, 0x2e66, 0x7bff};
    const int8_t bytes[4] = {1, -128, 127, 0};
    assert_done(&fx, put(&fx, "h", "floats", values, 4, NULL));
    assert_memory_equal(row_of(&fx, "h", "floats").vectors[0], halves, sizeof(halves));
    assert_done(&fx, put_bytes(&fx, "h", halves, 8, PDB_ELEMENT_FLOAT16));
    assert_memory_equal(row_of(&fx, "h", "bytes").vectors[0], halves, sizeof(halves));
    assert_done(&fx, put(&fx, "b", "floats", bytes_of, 4, NULL));
    assert_memory_equal(row_of(&fx, "b", "floats").vectors[0], bytes, sizeof(bytes));
    assert_done(&fx, put_bytes(&fx, "b", bytes, 4, PDB_ELEMENT_INT8));
    assert_memory_equal(row_of(&fx, "b", "bytes").vectors[0], bytes, sizeof(bytes));
    assert_done(&fx, put_bytes(&fx, "b", bytes_of, 16, PDB_ELEMENT_FLOAT32));
    assert_memory_equal(row_of(&fx, "b", "bytes").vectors[0], bytes, sizeof(bytes));
    fixture_end(&fx);
}

static void what_halves_and_bytes_cannot_hold_is_refused_with_its_place(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    create_typed(&fx, "h", PDB_ELEMENT_FLOAT16);
    create_typed(&fx, "b", PDB_ELEMENT_INT8);
    create_typed(&fx, "f", PDB_ELEMENT_FLOAT32);
    const float large[4] = {0, 0, -65520, 0}, broken[4] = {0, 0.5f, 0, 0}, over[4] = {0, 0, 0, 128};
    const uint16_t infinite[4] = {0, 0x7c00, 0, 0}, nan[4] = {0, 0, 0, 0xfe00};
    assert_refused(&fx, put(&fx, "h", "x", large, 4, NULL), PDB_INVALID_ARGUMENT,
                   "records[0].vector[2]: -65520 is out of range of float16, which ends at 65504");
    assert_refused(&fx, put(&fx, "b", "x", broken, 4, NULL), PDB_INVALID_ARGUMENT,
                   "records[0].vector[1]: 0.5 is no integer from -128 to 127, as int8 wants");
    assert_refused(&fx, put(&fx, "b", "x", over, 4, NULL), PDB_INVALID_ARGUMENT,
                   "records[0].vector[3]: 128 is no integer from -128 to 127, as int8 wants");
    assert_refused(&fx, put(&fx, "b", "x", over, 3, NULL), PDB_INVALID_ARGUMENT,
                   "records[0].vector: dimension 3, expected 4");
    assert_refused(&fx, put_bytes(&fx, "h", infinite, 8, PDB_ELEMENT_FLOAT16), PDB_INVALID_ARGUMENT,
                   "records[0].vector[1]: infinity is not allowed");
    assert_refused(&fx, put_bytes(&fx, "h", nan, 8, PDB_ELEMENT_FLOAT16), PDB_INVALID_ARGUMENT,
                   "records[0].vector[3]: NaN is not allowed");
    assert_refused(&fx, put_bytes(&fx, "h", nan, 7, PDB_ELEMENT_FLOAT16), PDB_INVALID_ARGUMENT,
                   "records[0].vector: 7 bytes are no whole number of float16 values");
    assert_refused(&fx, put_bytes(&fx, "h", nan, 4, PDB_ELEMENT_FLOAT16), PDB_INVALID_ARGUMENT,
                   "records[0].vector: dimension 2, expected 4");
    assert_refused(
        &fx, put_bytes(&fx, "h", nan, 4, PDB_ELEMENT_INT8), PDB_INVALID_ARGUMENT,
        "records[0].vector: int8 values, but the field has float16; give those, or float32");
    assert_refused(
        &fx, put_bytes(&fx, "f", nan, 8, PDB_ELEMENT_FLOAT16), PDB_INVALID_ARGUMENT,
        "records[0].vector: float16 values, but the field has float32; give those, or float32");
    struct pdb_field field = {
        .dimension = 8, .metric = PDB_METRIC_HAMMING, .element = PDB_ELEMENT_INT8};
    struct pdb_collection_create c = {
        .config = {.name = txt("bits"), .fields = &field, .field_count = 1}};
    assert_refused(&fx, do_create(&fx, &c), PDB_INVALID_ARGUMENT,
                   "type: vectors of the metric hamming are bits; leave it out");
    field.metric = PDB_METRIC_DOT;
    field.element = (enum pdb_element_type)3;
    assert_refused(&fx, do_create(&fx, &c), PDB_INVALID_ARGUMENT,
                   "type: expected one of float32, float16, int8");
    fixture_end(&fx);
}

/* Every query is float32; a stored one is widened. */
static void searches_score_halves_and_bytes(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create_typed(&fx, "h", PDB_ELEMENT_FLOAT16);
    create_typed(&fx, "b", PDB_ELEMENT_INT8);
    const float a[4] = {1, 2, 3, 4}, b[4] = {-128, 127, 0, 100}, wanted[4] = {0.5f, 1, -1, 0.25f};
    const int8_t stored_wanted[4] = {1, 1, 1, 1};
    for (int i = 0; i < 2; i++) {
        const char *name = i == 0 ? "h" : "b";
        assert_done(&fx, put(&fx, name, "a", a, 4, NULL));
        assert_done(&fx, put(&fx, name, "b", b, 4, NULL));
        struct pdb_query query = {.vector = {.values = wanted, .count = 4}, .k = 2};
        struct pdb_search s = {.collection = txt(name), .queries = &query, .query_count = 1};
        assert_done(&fx, do_search(&fx, &s));
        assert_int_equal(s.results_out[0].count, 2);
        assert_true(text_equal(s.results_out[0].hits[0].row.id, txt("b")));
        assert_true(s.results_out[0].hits[0].score == 88.0f);
        assert_true(s.results_out[0].hits[1].score == 0.5f);
        query = (struct pdb_query){.id = txt("a"), .k = 2};
        s = (struct pdb_search){.collection = txt(name), .queries = &query, .query_count = 1};
        assert_done(&fx, do_search(&fx, &s));
        assert_int_equal(s.results_out[0].count, 1);
        assert_true(s.results_out[0].hits[0].score == 526.0f);
    }
    struct pdb_query query = {.vector = {.values = stored_wanted,
                                         .count = 4,
                                         .form = PDB_VECTOR_BYTES,
                                         .element = PDB_ELEMENT_INT8},
                              .k = 1};
    struct pdb_search s = {.collection = txt("b"), .queries = &query, .query_count = 1};
    assert_done(&fx, do_search(&fx, &s));
    assert_true(s.results_out[0].hits[0].score == 99.0f);
    fixture_end(&fx);
}

static void a_vector_in_any_form_gives_its_values(void **state)
{
    (void)state;
    const uint16_t halves[3] = {0x3c00, 0xd800, 0x7bff};
    const int8_t bytes[3] = {1, -128, 127};
    const uint8_t bits[1] = {5};
    const float floats[3] = {1, -128, 65504}, from_bytes[3] = {1, -128, 127},
                of_bits[3] = {1, 0, 1};
    struct pdb_field field = {
        .dimension = 3, .metric = PDB_METRIC_DOT, .element = PDB_ELEMENT_FLOAT16};
    float values[3];
    pdb_vector_values(&field, halves, values);
    assert_memory_equal(values, floats, sizeof(values));
    field.element = PDB_ELEMENT_INT8;
    pdb_vector_values(&field, bytes, values);
    assert_memory_equal(values, from_bytes, sizeof(values));
    field.element = PDB_ELEMENT_FLOAT32;
    pdb_vector_values(&field, floats, values);
    assert_memory_equal(values, floats, sizeof(values));
    field.metric = PDB_METRIC_HAMMING;
    pdb_vector_values(&field, bits, values);
    assert_memory_equal(values, of_bits, sizeof(values));
}

static void a_retry_gets_the_first_answer_also_after_a_restart(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 3);
    struct pdb_vector vector;
    struct pdb_record r = record("", &vector, v3, 3);
    struct pdb_write w = {.kind = PDB_WRITE_INSERT,
                          .collection = txt("c"),
                          .records = &r,
                          .record_count = 1,
                          .request_id = txt("once")};
    assert_done(&fx, do_write(&fx, &w));
    char id[37] = "";
    memcpy(id, w.ids_out[0].ptr, 36);
    assert_done(&fx, put(&fx, "c", "other", v3, 3, NULL));
    for (unsigned cores = 1; cores <= 4; cores *= 2) {
        w.ids_out = NULL;
        assert_done(&fx, do_write(&fx, &w));
        assert_int_equal(w.version_out, 1);
        assert_int_equal(w.count_out, 1);
        assert_memory_equal(w.ids_out[0].ptr, id, 36);
        assert_int_equal(count_of(&fx, "c", NULL), 2);
        fixture_reopen(&fx, cores);
    }
    const float other[3] = {3, 2, 1};
    vector.values = other;
    assert_refused(&fx, do_write(&fx, &w), PDB_FAILED_PRECONDITION,
                   "request_id 'once' was used before for another request");
    fixture_end(&fx);
}

static void a_retried_delete_tells_what_the_first_deleted(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    create(&fx, "c", 3);
    assert_done(&fx, put(&fx, "c", "a", v3, 3, NULL));
    struct pdb_text ids[3] = {txt("a"), txt("missing"), txt("a")};
    struct pdb_delete d = {
        .collection = txt("c"), .ids = ids, .id_count = 3, .request_id = txt("d1")};
    assert_done(&fx, do_delete(&fx, &d));
    assert_int_equal(d.count_out, 1);
    /* Without its memory a retry would delete this one. */
    assert_done(&fx, put(&fx, "c", "a", v3, 3, NULL));
    fixture_reopen(&fx, 1);
    d.count_out = 0;
    assert_done(&fx, do_delete(&fx, &d));
    assert_int_equal(d.count_out, 1);
    assert_int_equal(d.version_out, 2);
    assert_int_equal(count_of(&fx, "c", NULL), 1);
    /* One that deletes nothing is remembered as well. */
    struct pdb_text missing = txt("late");
    struct pdb_delete none = {
        .collection = txt("c"), .ids = &missing, .id_count = 1, .request_id = txt("d2")};
    assert_done(&fx, do_delete(&fx, &none));
    assert_int_equal(none.count_out, 0);
    assert_done(&fx, put(&fx, "c", "late", v3, 3, NULL));
    fixture_reopen(&fx, 1);
    assert_done(&fx, do_delete(&fx, &none));
    assert_int_equal(none.count_out, 0);
    assert_int_equal(row_of(&fx, "c", "late").deleted, false);
    assert_int_equal(count_of(&fx, "c", NULL), 2);
    fixture_end(&fx);
}

static void wrong_deletes_are_refused(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    create(&fx, "c", 3);
    struct pdb_text ids[2] = {txt("a"), txt("")};
    struct pdb_delete d = {.collection = txt("c")};
    assert_refused(&fx, do_delete(&fx, &d), PDB_INVALID_ARGUMENT,
                   "ids: expected 1 to 10000 ids, found 0");
    d.ids = ids;
    d.id_count = 2;
    assert_refused(&fx, do_delete(&fx, &d), PDB_INVALID_ARGUMENT,
                   "ids[1]: expected 1 to 512 bytes, found 0");
    d.has_if_version = true;
    assert_refused(&fx, do_delete(&fx, &d), PDB_INVALID_ARGUMENT,
                   "if_version: only with exactly one id");
    d.has_filter = true;
    d.filter = doc(&fx, "{}");
    assert_refused(&fx, do_delete(&fx, &d), PDB_INVALID_ARGUMENT,
                   "give either ids or a filter, and if_version only with one id");
    d = (struct pdb_delete){
        .collection = txt("c"), .has_filter = true, .filter = doc(&fx, "{\"a\":{\"$nope\":1}}")};
    assert_int_equal(do_delete(&fx, &d), PDB_INVALID_ARGUMENT);
    assert_non_null(strstr(fx.error.text, "filter.a.$nope"));
    fixture_end(&fx);
}

static void a_delete_by_filter_takes_what_matches(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 3);
    for (int i = 0; i < 300; i++) {
        char id[8], json[32];
        (void)snprintf(id, sizeof(id), "%d", i);
        (void)snprintf(json, sizeof(json), "{\"n\":%d}", i % 3);
        assert_done(&fx, put(&fx, "c", id, v3, 3, json));
    }
    struct pdb_delete d = {
        .collection = txt("c"), .has_filter = true, .filter = doc(&fx, "{\"n\":1}")};
    assert_done(&fx, do_delete(&fx, &d));
    assert_int_equal(d.count_out, 100);
    assert_int_equal(count_of(&fx, "c", NULL), 200);
    assert_int_equal(count_of(&fx, "c", "{\"n\":1}"), 0);
    fixture_reopen(&fx, 2);
    assert_int_equal(count_of(&fx, "c", NULL), 200);
    assert_done(&fx, do_delete(&fx, &d));
    assert_int_equal(d.count_out, 0);
    fixture_end(&fx);
}

static void expired_records_are_never_seen_and_then_removed(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    pdb_close(fx.db);
    fx.options.ttl_grace_s_plus_one = 1; /* none */
    fixture_open(&fx, 2);
    create(&fx, "c", 3);
    struct pdb_vector vector;
    for (int i = 0; i < 600; i++) {
        char id[8];
        (void)snprintf(id, sizeof(id), "%d", i);
        struct pdb_record r = record(id, &vector, v3, 3);
        r.has_expires_at = true;
        r.expires_at_us = i % 2 == 0 ? 1 : 0; /* long ago; never */
        struct pdb_write w = {.collection = txt("c"), .records = &r, .record_count = 1};
        assert_done(&fx, do_write(&fx, &w));
    }
    assert_int_equal(count_of(&fx, "c", NULL), 300);
    assert_int_equal(row_of(&fx, "c", "0").version, 0);
    assert_int_equal(row_of(&fx, "c", "1").expires_at_us, 0);
    struct pdb_query q = {.vector = {.values = v3, .count = 3}, .k = 10000};
    struct pdb_search s = {.collection = txt("c"), .queries = &q, .query_count = 1};
    assert_done(&fx, do_search(&fx, &s));
    assert_int_equal(s.results_out[0].count, 300);
    /* An expired id counts as missing for a condition. */
    struct pdb_record r = record("0", &vector, v3, 3);
    r.has_if_version = true;
    struct pdb_write w = {.collection = txt("c"), .records = &r, .record_count = 1};
    assert_done(&fx, do_write(&fx, &w));
    /* The sweep takes them away, but for up to a third in chunks that are not worth rewriting. */
    struct pdb_collection_get g = {.name = txt("c")};
    do {
        assert_done(&fx, do_describe(&fx, &g));
    } while (g.info_out.record_count > 451);
    assert_int_equal(count_of(&fx, "c", NULL), 301);
    fixture_end(&fx);
}

static void a_collections_ttl_is_the_default(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    struct pdb_field field = {.dimension = 3, .metric = PDB_METRIC_DOT};
    struct pdb_collection_create c = {
        .config = {.name = txt("c"), .fields = &field, .field_count = 1, .ttl_s = 1000}};
    assert_done(&fx, do_create(&fx, &c));
    assert_done(&fx, put(&fx, "c", "a", v3, 3, NULL));
    struct pdb_row row = row_of(&fx, "c", "a");
    assert_in_range(row.expires_at_us - row.created_at_us, 990000000, 1000000000);
    fixture_end(&fx);
}

static void past_the_memory_limit_writes_are_refused_and_reads_go_on(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    pdb_close(fx.db);
    fx.options.memory_limit = 24 << 20;
    fixture_open(&fx, 1);
    create(&fx, "big", 4096);
    float *values = calloc(4096, sizeof(float));
    assert_non_null(values);
    int written = 0, rc = 0;
    for (; written < 4000; written++) {
        char id[8];
        (void)snprintf(id, sizeof(id), "%d", written);
        rc = put(&fx, "big", id, values, 4096, NULL);
        if (rc != 0)
            break;
        pdb_arena_reset(fx.arena);
    }
    assert_int_equal(rc, PDB_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(fx.error.text, "storage.memory_limit: "));
    assert_in_range(written, 100, 1600);
    assert_int_equal(count_of(&fx, "big", NULL), written);
    /* Deleting needs no room. */
    struct pdb_delete d = {.collection = txt("big"), .has_filter = true, .filter = doc(&fx, "{}")};
    assert_done(&fx, do_delete(&fx, &d));
    assert_int_equal(d.count_out, written);
    /* And gives it back. */
    do {
        rc = put(&fx, "big", "again", values, 4096, NULL);
    } while (rc == PDB_RESOURCE_EXHAUSTED);
    assert_done(&fx, rc);
    free(values);
    fixture_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_upsert_is_read_back_with_all_it_has),
        cmocka_unit_test(an_upsert_replaces_but_keeps_the_time_of_creation),
        cmocka_unit_test(wrong_records_are_refused_with_their_place),
        cmocka_unit_test(metadata_over_a_mebibyte_is_refused),
        cmocka_unit_test(an_insert_of_an_existing_id_fails_the_whole_batch),
        cmocka_unit_test(ids_are_made_where_there_are_none),
        cmocka_unit_test(if_version_holds_or_refuses),
        cmocka_unit_test(an_update_merges_metadata_and_keeps_other_vectors),
        cmocka_unit_test(hamming_takes_bits_and_zeros_and_ones),
        cmocka_unit_test(halves_and_bytes_are_made_of_floats_or_given_as_they_are),
        cmocka_unit_test(what_halves_and_bytes_cannot_hold_is_refused_with_its_place),
        cmocka_unit_test(searches_score_halves_and_bytes),
        cmocka_unit_test(a_vector_in_any_form_gives_its_values),
        cmocka_unit_test(a_retry_gets_the_first_answer_also_after_a_restart),
        cmocka_unit_test(a_retried_delete_tells_what_the_first_deleted),
        cmocka_unit_test(wrong_deletes_are_refused),
        cmocka_unit_test(a_delete_by_filter_takes_what_matches),
        cmocka_unit_test(expired_records_are_never_seen_and_then_removed),
        cmocka_unit_test(a_collections_ttl_is_the_default),
        cmocka_unit_test(past_the_memory_limit_writes_are_refused_and_reads_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
