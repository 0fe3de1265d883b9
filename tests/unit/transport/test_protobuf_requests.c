/* Requests of the gRPC door as the engine gets them. */
#include "protobuf_fixture.h"

static Proximadb__V1__Value string_value(char *text)
{
    Proximadb__V1__Value v = PROXIMADB__V1__VALUE__INIT;
    v.kind_case = PROXIMADB__V1__VALUE__KIND_STRING_VALUE;
    v.string_value = text;
    return v;
}

static Proximadb__V1__Value integer_value(int64_t number)
{
    Proximadb__V1__Value v = PROXIMADB__V1__VALUE__INIT;
    v.kind_case = PROXIMADB__V1__VALUE__KIND_INTEGER_VALUE;
    v.integer_value = number;
    return v;
}

/* A request with one record of everything: two vectors, nested metadata, times and versions. */
static struct pdb_text whole_write(void)
{
    static float floats[] = {1, -2.5f, 3};
    static char collection[] = "c", id[] = "a1", name[] = "image", retry[] = "r-1", k1[] = "z",
                k2[] = "list", k3[] = "nested", text[] = "caf\xc3\xa9";
    static uint8_t packed[] = {0, 0, 128, 63};
    Proximadb__V1__Value s = string_value(text), i = integer_value(-7),
                         l = PROXIMADB__V1__VALUE__INIT, n = PROXIMADB__V1__VALUE__INIT;
    Proximadb__V1__Value *items[] = {&s, &i};
    Proximadb__V1__ListValue list = PROXIMADB__V1__LIST_VALUE__INIT;
    list.n_values = 2;
    list.values = items;
    l.kind_case = PROXIMADB__V1__VALUE__KIND_LIST_VALUE;
    l.list_value = &list;
    Proximadb__V1__MapValue__FieldsEntry inner = PROXIMADB__V1__MAP_VALUE__FIELDS_ENTRY__INIT;
    Proximadb__V1__MapValue__FieldsEntry *inners[] = {&inner};
    inner.key = k1;
    inner.value = &i;
    Proximadb__V1__MapValue map = PROXIMADB__V1__MAP_VALUE__INIT;
    map.n_fields = 1;
    map.fields = inners;
    n.kind_case = PROXIMADB__V1__VALUE__KIND_MAP_VALUE;
    n.map_value = &map;
    Proximadb__V1__MapValue__FieldsEntry e1 = inner, e2 = inner, e3 = inner;
    e1.value = &s;
    e2.key = k2;
    e2.value = &l;
    e3.key = k3;
    e3.value = &n;
    Proximadb__V1__MapValue__FieldsEntry *entries[] = {&e1, &e2, &e3};
    Proximadb__V1__MapValue metadata = map;
    metadata.n_fields = 3;
    metadata.fields = entries;
    Proximadb__V1__Vector vector = PROXIMADB__V1__VECTOR__INIT;
    vector.packed.data = packed;
    vector.packed.len = sizeof(packed);
    Proximadb__V1__Record__VectorsEntry named = PROXIMADB__V1__RECORD__VECTORS_ENTRY__INIT;
    Proximadb__V1__Record__VectorsEntry *nameds[] = {&named};
    named.key = name;
    named.value = &vector;
    Proximadb__V1__Record record = PROXIMADB__V1__RECORD__INIT;
    Proximadb__V1__Record *records[] = {&record};
    record.id = id;
    record.n_vector = 3;
    record.vector = floats;
    record.n_vectors = 1;
    record.vectors = nameds;
    record.metadata = &metadata;
    record.maybe_expires_at_us_case = PROXIMADB__V1__RECORD__MAYBE_EXPIRES_AT_US_EXPIRES_AT_US;
    record.expires_at_us = 0;
    record.maybe_if_version_case = PROXIMADB__V1__RECORD__MAYBE_IF_VERSION_IF_VERSION;
    record.if_version = 17;
    Proximadb__V1__WriteRequest m = PROXIMADB__V1__WRITE_REQUEST__INIT;
    m.collection = collection;
    m.n_records = 1;
    m.records = records;
    m.request_id = retry;
    return pack(&m);
}

static void a_record_with_everything_is_decoded(void **state)
{
    (void)state;
    struct protobuf_write_decoder w;
    struct pdb_text message = whole_write();
    assert_int_equal(decode_write(&w, false, message), 0);
    assert_text(w.collection, "c");
    assert_text(w.request_id, "r-1");
    assert_int_equal(w.count, 1);
    const struct pdb_record *r = &w.records[0];
    assert_text(r->id, "a1");
    assert_int_equal(r->vector_count, 2);
    assert_text(r->vectors[0].field, "");
    assert_int_equal(r->vectors[0].form, PDB_VECTOR_F32);
    assert_int_equal(r->vectors[0].count, 3);
    const float expected[] = {1, -2.5f, 3};
    assert_memory_equal(r->vectors[0].values, expected, sizeof(expected));
    const char *at = r->vectors[0].values;
    assert_true(at > message.ptr && at < message.ptr + message.len); /* not a copy */
    assert_text(r->vectors[1].field, "image");
    assert_int_equal(r->vectors[1].form, PDB_VECTOR_BYTES);
    assert_int_equal(r->vectors[1].count, 4);
    assert_true(r->has_metadata && r->has_expires_at && r->has_if_version);
    assert_doc(r->metadata,
               "{\"list\":[\"caf\xc3\xa9\",-7],\"nested\":{\"z\":-7},\"z\":\"caf\xc3\xa9\"}");
    assert_int_equal(r->expires_at_us, 0);
    assert_int_equal(r->if_version, 17);
}

/* No prefix of a message may crash, and one cut within a field is an error. */
static void a_write_cut_at_every_byte_is_refused_or_whole(void **state)
{
    (void)state;
    struct pdb_text message = whole_write();
    unsigned refused = 0;
    for (size_t len = 0; len < message.len; len++) {
        struct protobuf_write_decoder w;
        trail_reset(&trail);
        int rc = decode_write(&w, false, exact(message.ptr, len));
        refused += rc == PDB_INVALID_ARGUMENT;
        assert_true(rc == 0 || (rc == PDB_INVALID_ARGUMENT && trail.len != 0));
    }
    assert_int_equal(refused,
                     message.len - 3); /* whole: nothing, after collection, after the record */
}

static void every_failing_allocation_of_a_write_is_told(void **state)
{
    (void)state;
    struct pdb_text message = whole_write();
    unsigned failures = 0;
    for (uint64_t n = 1;; n++, failures++) {
        struct arena failing;
        struct protobuf_write_decoder w;
        int rc = 0;
        arena_init(&failing, 0);
        failing.fail_at = n;
        trail_reset(&trail);
        protobuf_write_open(&w, false, &failing, &api_limits_default, message, &trail);
        while ((rc = protobuf_write_step(&w)) > 0)
            continue;
        arena_dispose(&failing);
        if (rc == 0)
            break;
        assert_int_equal(rc, PDB_RESOURCE_EXHAUSTED);
        assert_int_not_equal(trail.len, 0);
    }
    assert_true(failures >= 4);
}

/* records[0] = body, as a whole request. */
static int write_record(bool update, const char *body, size_t len)
{
    struct protobuf_writer writer;
    struct protobuf_write_decoder w;
    struct pdb_text bytes;
    trail_reset(&trail);
    protobuf_writer_open(&writer, &arena);
    protobuf_put_bytes(&writer, 2, body, len);
    assert_int_equal(protobuf_writer_finish(&writer, &bytes), 0);
    return decode_write(&w, update, bytes);
}
#define WRITE_RECORD(literal) write_record(false, literal, sizeof(literal) - 1)

static void a_bad_record_is_named(void **state)
{
    (void)state;
    assert_int_equal(WRITE_RECORD("\x0a\x02\xc3\x28"), PDB_INVALID_ARGUMENT);
    assert_string_equal(trail.text, "records[0].id: invalid UTF-8");
    assert_int_equal(WRITE_RECORD("\x12\x04"
                                  "aaaa"
                                  "\x3a\x04"
                                  "bbbb"),
                     PDB_INVALID_ARGUMENT);
    assert_told("records[0]: a vector has either floats or packed bytes");
    assert_int_equal(WRITE_RECORD("\x1a\x03\x0a\x01"
                                  "f"),
                     PDB_INVALID_ARGUMENT);
    assert_told("records[0].vectors: field 'f' has no values");
    assert_int_equal(WRITE_RECORD("\x12\x04"
                                  "aaaa"
                                  "\x1a\x08\x12\x06\x0a\x04"
                                  "bbbb"),
                     PDB_INVALID_ARGUMENT);
    assert_told("records[0].vectors: field '' is given twice");
    assert_int_equal(WRITE_RECORD("\x22\x05\x0a\x03\x0a\x01k"), PDB_INVALID_ARGUMENT);
    assert_told("records[0].metadata: a key without a value");
    assert_int_equal(WRITE_RECORD("\x22\x07\x0a\x05\x0a\x01k\x12\x00"), PDB_INVALID_ARGUMENT);
    assert_told("records[0].metadata: a Value without a kind");
    assert_int_equal(WRITE_RECORD("\x22\x00\x22\x00"), PDB_INVALID_ARGUMENT);
    assert_told("records[0].metadata: given twice");
    /* {"k": null, "k": null} */
    assert_int_equal(
        WRITE_RECORD("\x22\x12\x0a\x07\x0a\x01k\x12\x02\x08\x00\x0a\x07\x0a\x01k\x12\x02\x08\x00"),
        PDB_INVALID_ARGUMENT);
    assert_told("records[0].metadata: duplicate key");
    /* {"k": NaN} */
    assert_int_equal(WRITE_RECORD("\x22\x10\x0a\x0e\x0a\x01k\x12\x09\x21\0\0\0\0\0\0\xf8\x7f"),
                     PDB_INVALID_ARGUMENT);
    assert_told("records[0].metadata: ");
}

static void unpacked_floats_are_gathered(void **state)
{
    (void)state;
    struct protobuf_writer writer;
    struct protobuf_write_decoder w;
    struct pdb_text bytes;
    protobuf_writer_open(&writer, &arena);
    protobuf_begin(&writer, 2, 20);
    protobuf_put_float(&writer, 2, 1);
    protobuf_put_float(&writer, 2, 2);
    protobuf_end(&writer);
    assert_int_equal(protobuf_writer_finish(&writer, &bytes), 0);
    assert_int_equal(decode_write(&w, false, bytes), 0);
    assert_int_equal(w.records[0].vectors[0].count, 2);
    const float expected[] = {1, 2};
    assert_memory_equal(w.records[0].vectors[0].values, expected, sizeof(expected));
}

static void only_one_form_of_batch_is_taken(void **state)
{
    (void)state;
    struct protobuf_write_decoder w;
    assert_int_equal(decode_write(&w, false, exact("\x12\x00\x22\x01\x00", 5)),
                     PDB_INVALID_ARGUMENT);
    assert_told("exactly one of records, packed and avro_records");
    assert_int_equal(decode_write(&w, false, exact("\x22\x01\x00\x22\x01\x00", 6)),
                     PDB_INVALID_ARGUMENT);
    assert_int_equal(decode_write(&w, false, exact("", 0)), 0);
    assert_int_equal(w.count, 0); /* the api refuses an empty batch for all doors */
}

static void more_records_than_the_limit_are_refused(void **state)
{
    (void)state;
    static char body[2 * (PDB_BATCH_RECORDS_MAX + 1)];
    for (size_t i = 0; i < sizeof(body); i += 2)
        body[i] = 0x12;
    struct protobuf_write_decoder w;
    assert_int_equal(decode_write(&w, false, (struct pdb_text){body, sizeof(body) - 2}), 0);
    assert_int_equal(w.count, PDB_BATCH_RECORDS_MAX);
    assert_int_equal(decode_write(&w, false, (struct pdb_text){body, sizeof(body)}),
                     PDB_INVALID_ARGUMENT);
    assert_told("limits.batch_records (10000)");
}

static void a_packed_batch_points_into_the_message(void **state)
{
    (void)state;
    static char id1[] = "a", id2[] = "b", *ids[] = {id1, id2}, field[] = "f";
    static uint8_t vectors[] = "11112222";
    Proximadb__V1__MapValue map = PROXIMADB__V1__MAP_VALUE__INIT, *maps[] = {&map, &map};
    Proximadb__V1__PackedBatch packed = PROXIMADB__V1__PACKED_BATCH__INIT;
    Proximadb__V1__WriteRequest m = PROXIMADB__V1__WRITE_REQUEST__INIT;
    packed.n_ids = 2;
    packed.ids = ids;
    packed.vectors.data = vectors;
    packed.vectors.len = 8;
    packed.field = field;
    packed.n_metadata = 2;
    packed.metadata = maps;
    m.packed = &packed;
    struct protobuf_write_decoder w;
    struct pdb_text message = pack(&m);
    assert_int_equal(decode_write(&w, false, message), 0);
    assert_int_equal(w.count, 2);
    assert_text(w.records[1].id, "b");
    assert_text(w.records[1].vectors[0].field, "f");
    assert_int_equal(w.records[1].vectors[0].form, PDB_VECTOR_BYTES);
    assert_memory_equal(w.records[1].vectors[0].values, "2222", 4);
    assert_doc(w.records[1].metadata, "{}");
    const char *at = w.records[1].vectors[0].values;
    assert_true(at > message.ptr && at < message.ptr + message.len);

    assert_int_equal(w.records[1].vectors[0].element, PDB_ELEMENT_FLOAT32);
    packed.type = PROXIMADB__V1__ELEMENT_TYPE__ELEMENT_TYPE_INT8;
    assert_int_equal(decode_write(&w, false, pack(&m)), 0);
    assert_int_equal(w.records[1].vectors[0].element, PDB_ELEMENT_INT8);
    packed.type = (Proximadb__V1__ElementType)4;
    assert_int_equal(decode_write(&w, false, pack(&m)), PDB_INVALID_ARGUMENT);
    assert_told("packed.type: expected one of float32, float16, int8");
    packed.type = PROXIMADB__V1__ELEMENT_TYPE__ELEMENT_TYPE_UNSPECIFIED;

    packed.n_ids = packed.n_metadata = 0; /* then the dimension has to be looked up */
    assert_int_equal(decode_write(&w, false, pack(&m)), 0);
    assert_true(w.needs_dimension);
    w.packed.vector_bytes = 4;
    assert_int_equal(protobuf_write_finish(&w), 0);
    assert_int_equal(w.count, 2);
    assert_int_equal(w.records[0].id.len, 0);

    packed.n_ids = 2;
    packed.vectors.len = 7;
    assert_int_equal(decode_write(&w, false, pack(&m)), PDB_INVALID_ARGUMENT);
    assert_told("packed.vectors: 7 bytes do not divide into 2");
}

static void an_update_has_its_own_numbers(void **state)
{
    (void)state;
    static char id[] = "a", u1[] = "price", *unset[] = {u1}, u2[] = "image",
                *unset_vectors[] = {u2};
    Proximadb__V1__RecordUpdate record = PROXIMADB__V1__RECORD_UPDATE__INIT, *records[] = {&record};
    Proximadb__V1__UpdateRequest m = PROXIMADB__V1__UPDATE_REQUEST__INIT;
    record.id = id;
    record.n_unset = record.n_unset_vectors = 1;
    record.unset = unset;
    record.unset_vectors = unset_vectors;
    record.maybe_expires_at_us_case =
        PROXIMADB__V1__RECORD_UPDATE__MAYBE_EXPIRES_AT_US_EXPIRES_AT_US;
    record.expires_at_us = -5;
    record.maybe_if_version_case = PROXIMADB__V1__RECORD_UPDATE__MAYBE_IF_VERSION_IF_VERSION;
    record.if_version = 3;
    m.n_records = 1;
    m.records = records;
    m.request_id = id;
    struct protobuf_write_decoder w;
    assert_int_equal(decode_write(&w, true, pack(&m)), 0);
    const struct pdb_record *r = &w.records[0];
    assert_text(w.request_id, "a");
    assert_true(r->unset_count == 1 && r->unset_vector_count == 1 && r->has_expires_at &&
                r->has_if_version);
    assert_text(r->unset[0], "price");
    assert_text(r->unset_vectors[0], "image");
    assert_int_equal(r->expires_at_us, -5);
    assert_int_equal(r->if_version, 3);
    assert_false(r->has_metadata);
}

/* ---- filters ---- */

static Proximadb__V1__Filter condition(Proximadb__V1__Condition *c)
{
    Proximadb__V1__Filter f = PROXIMADB__V1__FILTER__INIT;
    f.node_case = PROXIMADB__V1__FILTER__NODE_CONDITION;
    f.condition = c;
    return f;
}

static int count_with(Proximadb__V1__Filter *filter, struct pdb_text *doc_out)
{
    Proximadb__V1__CountRequest m = PROXIMADB__V1__COUNT_REQUEST__INIT;
    struct protobuf_decoder d = decoder();
    struct pdb_count count = {0};
    trail_reset(&trail);
    m.filter = filter;
    int rc = protobuf_decode_count(&d, pack(&m), &count);
    *doc_out = count.filter;
    return rc;
}

static void a_filter_becomes_the_document_of_the_json_door(void **state)
{
    (void)state;
    static char price[] = "price", kind[] = "kind", shoe[] = "shoe";
    Proximadb__V1__Value twenty = integer_value(20), name = string_value(shoe);
    Proximadb__V1__Condition lt = PROXIMADB__V1__CONDITION__INIT, eq = lt, exists = lt;
    lt.key = price;
    lt.operator_ = PROXIMADB__V1__OPERATOR__OPERATOR_LT;
    lt.value = &twenty;
    eq.key = exists.key = kind;
    eq.operator_ = PROXIMADB__V1__OPERATOR__OPERATOR_EQ;
    eq.value = &name;
    exists.operator_ = PROXIMADB__V1__OPERATOR__OPERATOR_EXISTS;
    Proximadb__V1__Filter a = condition(&lt), b = condition(&eq), e = condition(&exists);
    Proximadb__V1__Filter not = PROXIMADB__V1__FILTER__INIT, or = not, and = not ;
    Proximadb__V1__Filter *two[] = {&a, &b}, *both[] = {& or, &not };
    Proximadb__V1__FilterGroup group = PROXIMADB__V1__FILTER_GROUP__INIT, outer = group;
    group.n_filters = 2;
    group.filters = two;
    or.node_case = PROXIMADB__V1__FILTER__NODE_OR;
    or.or_ = &group;
    not .node_case = PROXIMADB__V1__FILTER__NODE_NOT;
    not .not_ = &e;
    outer.n_filters = 2;
    outer.filters = both;
    and.node_case = PROXIMADB__V1__FILTER__NODE_AND;
    and.and_ = &outer;
    struct pdb_text doc;
    assert_int_equal(count_with(&and, &doc), 0);
    assert_doc(doc, "{\"$and\":[{\"$or\":[{\"price\":{\"$lt\":20}},{\"kind\":{\"$eq\":\"shoe\"}}]},"
                    "{\"$not\":{\"kind\":{\"$exists\":true}}}]}");
}

static void a_filter_that_says_nothing_is_refused(void **state)
{
    (void)state;
    static char dollar[] = "$or", key[] = "k";
    Proximadb__V1__Filter nothing = PROXIMADB__V1__FILTER__INIT;
    Proximadb__V1__Value one = integer_value(1);
    struct pdb_text doc;
    assert_int_equal(count_with(&nothing, &doc), PDB_INVALID_ARGUMENT);
    assert_told("filter: a filter needs one of and, or, not, condition");
    Proximadb__V1__Condition c = PROXIMADB__V1__CONDITION__INIT;
    Proximadb__V1__Filter f = condition(&c);
    assert_int_equal(count_with(&f, &doc), PDB_INVALID_ARGUMENT);
    assert_told("without a key");
    c.key = key;
    c.value = &one;
    assert_int_equal(count_with(&f, &doc), PDB_INVALID_ARGUMENT);
    assert_told("without an operator");
    c.operator_ = PROXIMADB__V1__OPERATOR__OPERATOR_GT;
    c.value = NULL;
    assert_int_equal(count_with(&f, &doc), PDB_INVALID_ARGUMENT);
    assert_told("without a value");
    c.key = dollar; /* would be read as an operator */
    c.value = &one;
    assert_int_equal(count_with(&f, &doc), PDB_INVALID_ARGUMENT);
    assert_told("must not begin with '$'");
}

/* ---- the others ---- */

static void a_search_has_its_defaults(void **state)
{
    (void)state;
    static float floats[] = {1, 2};
    static char id[] = "a";
    Proximadb__V1__SearchQuery q = PROXIMADB__V1__SEARCH_QUERY__INIT;
    Proximadb__V1__SearchRequest m = PROXIMADB__V1__SEARCH_REQUEST__INIT;
    struct protobuf_search_decoder s;
    int rc = 0;
    q.n_vector = 2;
    q.vector = floats;
    m.query = &q;
    protobuf_search_open(&s, false, &arena, &api_limits_default, pack(&m), &trail);
    while ((rc = protobuf_search_step(&s)) > 0)
        continue;
    assert_int_equal(rc, 0);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.queries[0].k, 10);
    assert_int_equal(s.queries[0].include, PDB_INCLUDE_METADATA);
    assert_int_equal(s.queries[0].vector.count, 2);
    assert_false(s.queries[0].has_min_score);

    q.id = id; /* both */
    protobuf_search_open(&s, false, &arena, &api_limits_default, pack(&m), &trail);
    while ((rc = protobuf_search_step(&s)) > 0)
        continue;
    assert_int_equal(rc, PDB_INVALID_ARGUMENT);
    assert_told("query: exactly one of vector, packed_vector and id");
    protobuf_search_open(&s, false, &arena, &api_limits_default, exact("", 0), &trail);
    assert_int_equal(protobuf_search_step(&s), PDB_INVALID_ARGUMENT);
    assert_told("query: missing");
}

static void a_query_takes_all_its_fields(void **state)
{
    (void)state;
    static char collection[] = "c", field[] = "image", id[] = "a";
    static Proximadb__V1__Include include[] = {PROXIMADB__V1__INCLUDE__INCLUDE_VECTORS,
                                               PROXIMADB__V1__INCLUDE__INCLUDE_TIMES};
    Proximadb__V1__SearchParams params = PROXIMADB__V1__SEARCH_PARAMS__INIT;
    Proximadb__V1__SearchQuery q = PROXIMADB__V1__SEARCH_QUERY__INIT, *queries[] = {&q, &q};
    Proximadb__V1__SearchBatchRequest m = PROXIMADB__V1__SEARCH_BATCH_REQUEST__INIT;
    params.maybe_ef_case = PROXIMADB__V1__SEARCH_PARAMS__MAYBE_EF_EF;
    params.ef = 64;
    params.exact = true;
    q.id = id;
    q.field = field;
    q.k = 3;
    q.n_include = 2;
    q.include = include;
    q.params = &params;
    q.maybe_min_score_case = PROXIMADB__V1__SEARCH_QUERY__MAYBE_MIN_SCORE_MIN_SCORE;
    q.min_score = 0.5f;
    m.collection = collection;
    m.n_queries = 2;
    m.queries = queries;
    struct protobuf_search_decoder s;
    int rc = 0;
    protobuf_search_open(&s, true, &arena, &api_limits_default, pack(&m), &trail);
    while ((rc = protobuf_search_step(&s)) > 0)
        continue;
    assert_int_equal(rc, 0);
    assert_text(s.collection, "c");
    assert_int_equal(s.count, 2);
    const struct pdb_query *read = &s.queries[1];
    assert_text(read->id, "a");
    assert_text(read->field, "image");
    assert_true(read->k == 3 && read->ef == 64 && read->exact && read->has_min_score);
    assert_int_equal(read->include, PDB_INCLUDE_VECTORS | PDB_INCLUDE_TIMES);
    assert_true(read->min_score > 0.49f && read->min_score < 0.51f);

    q.min_score = __builtin_inff();
    protobuf_search_open(&s, true, &arena, &api_limits_default, pack(&m), &trail);
    while ((rc = protobuf_search_step(&s)) > 0)
        continue;
    assert_int_equal(rc, PDB_INVALID_ARGUMENT);
    assert_told("queries[0].min_score: must be finite");
}

static void includes_have_a_default_and_can_be_none(void **state)
{
    (void)state;
    struct protobuf_decoder d = decoder();
    struct pdb_get get = {0};
    assert_int_equal(protobuf_decode_get(&d, exact("", 0), &get), 0);
    assert_int_equal(get.include, PDB_INCLUDE_METADATA | PDB_INCLUDE_VECTORS | PDB_INCLUDE_TIMES);
    assert_int_equal(protobuf_decode_get(&d, exact("\x1a\x01\x00", 3), &get), 0);
    assert_int_equal(get.include, 0);
    assert_int_equal(protobuf_decode_get(&d, exact("\x18\x01\x18\x03", 4), &get), 0);
    assert_int_equal(get.include, PDB_INCLUDE_METADATA | PDB_INCLUDE_TIMES);
}

static void a_collection_takes_all_its_fields(void **state)
{
    (void)state;
    static char name[] = "products", column_name[] = "price", description[] = "d", gzip[] = "gzip",
                zstd[] = "zstd", disk[] = "disk";
    Proximadb__V1__Column column = PROXIMADB__V1__COLUMN__INIT, *columns[] = {&column};
    Proximadb__V1__Storage storage = PROXIMADB__V1__STORAGE__INIT;
    Proximadb__V1__CreateCollectionRequest m = PROXIMADB__V1__CREATE_COLLECTION_REQUEST__INIT;
    column.name = column_name;
    column.type = PROXIMADB__V1__COLUMN_TYPE__COLUMN_TYPE_FLOAT;
    storage.maybe_version_retention_s_case =
        PROXIMADB__V1__STORAGE__MAYBE_VERSION_RETENTION_S_VERSION_RETENTION_S;
    storage.version_retention_s = 60;
    m.name = name;
    m.dimension = 4;
    m.metric = PROXIMADB__V1__METRIC__METRIC_HAMMING;
    m.index = PROXIMADB__V1__INDEX_TYPE__INDEX_TYPE_FLAT;
    m.quantization = PROXIMADB__V1__QUANTIZATION_TYPE__QUANTIZATION_TYPE_NONE;
    m.n_columns = 1;
    m.columns = columns;
    m.sync = PROXIMADB__V1__SYNC_MODE__SYNC_MODE_PERIODIC;
    m.maybe_ttl_s_case = PROXIMADB__V1__CREATE_COLLECTION_REQUEST__MAYBE_TTL_S_TTL_S;
    m.ttl_s = 9;
    m.description = description;
    m.storage = &storage;
    struct protobuf_decoder d = decoder();
    struct pdb_collection_config c = {0};
    assert_int_equal(protobuf_decode_collection(&d, pack(&m), &c), 0);
    assert_text(c.name, "products");
    assert_int_equal(c.field_count, 1);
    assert_true(c.fields[0].dimension == 4 && c.fields[0].metric == PDB_METRIC_HAMMING &&
                c.fields[0].index == PDB_INDEX_FLAT &&
                c.fields[0].quantization == PDB_QUANTIZATION_NONE);
    assert_int_equal(c.column_count, 1);
    assert_int_equal(c.columns[0].type, PDB_COLUMN_FLOAT);
    assert_true(c.sync == PDB_SYNC_PERIODIC && c.ttl_s == 9 && c.version_retention_s == 60);

    assert_true(c.compression == PDB_COMPRESSION_NONE && c.vector_storage == PDB_VECTORS_MEMORY);
    storage.compression = zstd;
    storage.vectors = disk;
    assert_int_equal(protobuf_decode_collection(&d, pack(&m), &c), 0);
    assert_true(c.compression == PDB_COMPRESSION_ZSTD && c.vector_storage == PDB_VECTORS_DISK);

    storage.compression = gzip;
    assert_int_equal(protobuf_decode_collection(&d, pack(&m), &c), PDB_INVALID_ARGUMENT);
    assert_told("storage.compression: 'gzip' is not one of none, snappy, lz4, zstd");
}

static void an_update_takes_only_the_storage_it_is_given(void **state)
{
    (void)state;
    static char name[] = "c", lz4[] = "lz4", mmap[] = "mmap", tape[] = "tape", none[] = "";
    Proximadb__V1__Storage storage = PROXIMADB__V1__STORAGE__INIT;
    Proximadb__V1__UpdateCollectionRequest m = PROXIMADB__V1__UPDATE_COLLECTION_REQUEST__INIT;
    struct protobuf_decoder d = decoder();
    m.collection = name;
    struct pdb_collection_update u = {.ttl_s = 0};
    assert_int_equal(protobuf_decode_collection_update(&d, pack(&m), &u), 0);
    assert_false(u.has_compression || u.has_vector_storage || u.has_version_retention);

    m.storage = &storage;
    storage.compression = lz4;
    assert_int_equal(protobuf_decode_collection_update(&d, pack(&m), &u), 0);
    assert_true(u.has_compression && u.compression == PDB_COMPRESSION_LZ4);
    assert_false(u.has_vector_storage || u.has_version_retention);

    u = (struct pdb_collection_update){.ttl_s = 0};
    storage.compression = none;
    storage.vectors = mmap;
    storage.maybe_version_retention_s_case =
        PROXIMADB__V1__STORAGE__MAYBE_VERSION_RETENTION_S_VERSION_RETENTION_S;
    assert_int_equal(protobuf_decode_collection_update(&d, pack(&m), &u), 0);
    assert_false(u.has_compression);
    assert_true(u.has_vector_storage && u.vector_storage == PDB_VECTORS_MMAP);
    assert_true(u.has_version_retention && u.version_retention_s == 0);

    storage.vectors = tape;
    assert_int_equal(protobuf_decode_collection_update(&d, pack(&m), &u), PDB_INVALID_ARGUMENT);
    assert_told("storage.vectors: 'tape' is not one of memory, mmap, disk");
}

static void a_get_may_name_a_version(void **state)
{
    (void)state;
    struct protobuf_decoder d = decoder();
    struct pdb_get get = {0};
    assert_int_equal(protobuf_decode_get(&d, exact("", 0), &get), 0);
    assert_false(get.has_as_of);
    assert_int_equal(protobuf_decode_get(&d, exact("\x20\x00", 2), &get), 0);
    assert_true(get.has_as_of && get.as_of == 0);
    assert_int_equal(protobuf_decode_get(&d, exact("\x20\xac\x02", 3), &get), 0);
    assert_true(get.has_as_of && get.as_of == 300);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_record_with_everything_is_decoded),
        TEST(a_write_cut_at_every_byte_is_refused_or_whole),
        TEST(every_failing_allocation_of_a_write_is_told),
        TEST(a_bad_record_is_named),
        TEST(unpacked_floats_are_gathered),
        TEST(only_one_form_of_batch_is_taken),
        TEST(more_records_than_the_limit_are_refused),
        TEST(a_packed_batch_points_into_the_message),
        TEST(an_update_has_its_own_numbers),
        TEST(a_filter_becomes_the_document_of_the_json_door),
        TEST(a_filter_that_says_nothing_is_refused),
        TEST(a_search_has_its_defaults),
        TEST(a_query_takes_all_its_fields),
        TEST(includes_have_a_default_and_can_be_none),
        TEST(a_collection_takes_all_its_fields),
        TEST(an_update_takes_only_the_storage_it_is_given),
        TEST(a_get_may_name_a_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
