/* Collections: create, describe, list, update, delete, on 1, 2 and 4 cores, and what is left of
 * them after a restart. */
#include "engine_fixture.h"

static void a_new_collection_is_described_as_it_was_made(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    struct pdb_field fields[2] = {
        {.name = txt("image"), .dimension = 8, .metric = PDB_METRIC_COSINE},
        {.name = txt("bits"), .dimension = 12, .metric = PDB_METRIC_HAMMING}};
    struct pdb_column columns[1] = {{txt("price"), PDB_COLUMN_FLOAT}};
    struct pdb_collection_create c = {
        .config = {.name = txt("things"),
                   .fields = fields,
                   .field_count = 2,
                   .columns = columns,
                   .column_count = 1,
                   .sync = PDB_SYNC_BATCH,
                   .ttl_s = 60,
                   .description = txt("what we have"),
                   .compression = PDB_COMPRESSION_LZ4,
                   .vector_storage = PDB_VECTORS_DISK,
                   .version_retention_s = 3600},
    };
    assert_done(&fx, do_create(&fx, &c));
    assert_int_equal(strlen(c.info_out.uuid), 36);
    for (int restarted = 0; restarted < 2; restarted++) {
        struct pdb_collection_get g = {.name = txt("things")};
        assert_done(&fx, do_describe(&fx, &g));
        assert_string_equal(g.info_out.uuid, c.info_out.uuid);
        assert_int_equal(g.info_out.created_at_us, c.info_out.created_at_us);
        assert_int_equal(g.info_out.config.field_count, 2);
        assert_true(same_text(g.info_out.config.fields[1].name, "bits"));
        assert_int_equal(g.info_out.config.fields[1].dimension, 12);
        assert_int_equal(g.info_out.config.fields[1].metric, PDB_METRIC_HAMMING);
        assert_true(same_text(g.info_out.config.columns[0].name, "price"));
        assert_int_equal(g.info_out.config.columns[0].type, PDB_COLUMN_FLOAT);
        assert_int_equal(g.info_out.config.sync, PDB_SYNC_BATCH);
        assert_int_equal(g.info_out.config.ttl_s, 60);
        assert_true(same_text(g.info_out.config.description, "what we have"));
        assert_int_equal(g.info_out.config.compression, PDB_COMPRESSION_LZ4);
        assert_int_equal(g.info_out.config.vector_storage, PDB_VECTORS_DISK);
        assert_int_equal(g.info_out.config.version_retention_s, 3600);
        fixture_reopen(&fx, 2);
    }
    fixture_end(&fx);
}

static void each_wrong_config_is_refused_with_its_place(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    struct pdb_field good = {.dimension = 3, .metric = PDB_METRIC_DOT}, twice[2] = {good, good};
    struct pdb_field no_dimension = {.metric = PDB_METRIC_DOT}, no_metric = {.dimension = 3},
                     huge = {.dimension = 65536, .metric = PDB_METRIC_DOT};
    struct pdb_column columns[2] = {{txt("a"), PDB_COLUMN_STRING}, {txt("a"), PDB_COLUMN_FLOAT}};
    struct pdb_column untyped[1] = {{txt("a"), PDB_COLUMN_UNSPECIFIED}};
    const struct {
        struct pdb_collection_config config;
        const char *text;
    } rows[] = {
        {{.name = txt(""), .fields = &good, .field_count = 1},
         "name: expected 1 to 128 characters of A-Z a-z 0-9 _ . - that do not start with . or -"},
        {{.name = txt("a/b"), .fields = &good, .field_count = 1},
         "name: expected 1 to 128 characters of A-Z a-z 0-9 _ . - that do not start with . or -"},
        {{.name = txt("a")}, "fields: expected 1 to 64 vector fields, found 0"},
        {{.name = txt("a"), .fields = &no_dimension, .field_count = 1},
         "dimension: expected 1 to 65535, found 0"},
        {{.name = txt("a"), .fields = &huge, .field_count = 1},
         "dimension: expected 1 to 65535, found 65536"},
        {{.name = txt("a"), .fields = &no_metric, .field_count = 1},
         "metric: expected one of cosine, dot, euclidean, manhattan, hamming"},
        {{.name = txt("a"), .fields = twice, .field_count = 2},
         "fields[1].name: '' is the name of fields[0] too"},
        {{.name = txt("a"),
          .fields = &good,
          .field_count = 1,
          .columns = columns,
          .column_count = 2},
         "columns[1].name: 'a' is declared already"},
        {{.name = txt("a"),
          .fields = &good,
          .field_count = 1,
          .columns = untyped,
          .column_count = 1},
         "columns[0].type: expected one of string, integer, float, boolean, datetime, string[], "
         "integer[], float[], geo, text"},
        {{.name = txt("a"), .fields = &good, .field_count = 1, .description = txt("\xff")},
         "description: not valid UTF-8"},
        {{.name = txt("a"),
          .fields = &good,
          .field_count = 1,
          .compression = (enum pdb_compression)4},
         "storage.compression: expected one of none, snappy, lz4, zstd"},
        {{.name = txt("a"),
          .fields = &good,
          .field_count = 1,
          .vector_storage = (enum pdb_vector_storage)3},
         "storage.vectors: expected one of memory, mmap, disk"},
        {{.name = txt("a"),
          .fields = &good,
          .field_count = 1,
          .version_retention_s = (uint64_t)PDB_VERSION_RETENTION_S_MAX + 1},
         "storage.version_retention_s: at most 315360000 seconds, found 315360001"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pdb_collection_create c = {.config = rows[i].config};
        assert_refused(&fx, do_create(&fx, &c), PDB_INVALID_ARGUMENT, rows[i].text);
    }
    fixture_end(&fx);
}

static void a_name_exists_once(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "one", 3);
    assert_refused(&fx, create_with(&fx, "one", 3, PDB_METRIC_DOT, PDB_SYNC_ALWAYS),
                   PDB_ALREADY_EXISTS, "collection 'one' already exists");
    fixture_end(&fx);
}

static void the_limit_of_collections_is_kept(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    pdb_close(fx.db);
    fx.options.collections_max = 2;
    fixture_open(&fx, 1);
    create(&fx, "a", 3);
    create(&fx, "b", 3);
    assert_refused(&fx, create_with(&fx, "c", 3, PDB_METRIC_DOT, PDB_SYNC_ALWAYS),
                   PDB_RESOURCE_EXHAUSTED, "limit of collections: there are 2 already");
    fixture_end(&fx);
}

static void a_list_comes_in_order_and_in_pages(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 4);
    static const char *const names[] = {"d", "b", "a", "e", "c"};
    const float values[2] = {1, 2};
    for (size_t i = 0; i < 5; i++) {
        create(&fx, names[i], 2);
        for (size_t k = 0; k <= i; k++) {
            char id[8];
            (void)snprintf(id, sizeof(id), "%zu", k);
            assert_done(&fx, put(&fx, names[i], id, values, 2, NULL));
        }
    }
    struct pdb_collection_list all = {.limit = 0};
    assert_done(&fx, do_list(&fx, &all));
    assert_int_equal(all.count_out, 5);
    assert_false(all.more_out);
    static const uint64_t records[] = {3, 2, 5, 1, 4};
    for (size_t i = 0; i < 5; i++) {
        const char name[2] = {(char)('a' + i), '\0'};
        assert_true(same_text(all.infos_out[i].config.name, name));
        assert_int_equal(all.infos_out[i].record_count, records[i]);
        assert_int_equal(all.infos_out[i].version, records[i]);
    }
    struct pdb_collection_list page = {.limit = 2, .after = txt("b")};
    assert_done(&fx, do_list(&fx, &page));
    assert_int_equal(page.count_out, 2);
    assert_true(page.more_out);
    assert_true(same_text(page.infos_out[0].config.name, "c"));
    fixture_end(&fx);
}

static void settings_change_and_stay_changed(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "one", 3);
    struct pdb_collection_update u = {.name = txt("one"),
                                      .has_sync = true,
                                      .sync = PDB_SYNC_PERIODIC,
                                      .has_ttl = true,
                                      .ttl_s = 5,
                                      .has_description = true,
                                      .description = txt("new")};
    assert_done(&fx, do_alter(&fx, &u));
    assert_int_equal(u.info_out.config.ttl_s, 5);
    fixture_reopen(&fx, 2);
    struct pdb_collection_get g = {.name = txt("one")};
    assert_done(&fx, do_describe(&fx, &g));
    assert_int_equal(g.info_out.config.sync, PDB_SYNC_PERIODIC);
    assert_int_equal(g.info_out.config.ttl_s, 5);
    assert_true(same_text(g.info_out.config.description, "new"));
    assert_true(g.info_out.updated_at_us > g.info_out.created_at_us);
    u.name = txt("two");
    assert_refused(&fx, do_alter(&fx, &u), PDB_NOT_FOUND, "collection 'two' does not exist");
    fixture_end(&fx);
}

/* What an update does not give stays; what it gives is there after a restart. */
static void storage_settings_change_one_by_one(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "one", 3);
    static const struct {
        enum pdb_compression compression;
        enum pdb_vector_storage vector_storage;
        uint64_t version_retention_s;
    } after[] = {{PDB_COMPRESSION_ZSTD, PDB_VECTORS_MEMORY, 0},
                 {PDB_COMPRESSION_ZSTD, PDB_VECTORS_MMAP, 0},
                 {PDB_COMPRESSION_ZSTD, PDB_VECTORS_MMAP, PDB_VERSION_RETENTION_S_MAX},
                 {PDB_COMPRESSION_NONE, PDB_VECTORS_MMAP, PDB_VERSION_RETENTION_S_MAX}};
    for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++) {
        struct pdb_collection_update u = {.name = txt("one"),
                                          .has_compression = i == 0 || i == 3,
                                          .compression = after[i].compression,
                                          .has_vector_storage = i == 1,
                                          .vector_storage = PDB_VECTORS_MMAP,
                                          .has_version_retention = i == 2,
                                          .version_retention_s = PDB_VERSION_RETENTION_S_MAX};
        assert_done(&fx, do_alter(&fx, &u));
        fixture_reopen(&fx, 2);
        struct pdb_collection_get g = {.name = txt("one")};
        assert_done(&fx, do_describe(&fx, &g));
        const struct pdb_collection_config *c = &g.info_out.config;
        assert_int_equal(c->compression, after[i].compression);
        assert_int_equal(c->vector_storage, after[i].vector_storage);
        assert_int_equal(c->version_retention_s, after[i].version_retention_s);
    }
    struct pdb_collection_update bad = {.name = txt("one"),
                                        .has_compression = true,
                                        .compression = (enum pdb_compression)9,
                                        .has_version_retention = true,
                                        .version_retention_s = 1};
    assert_refused(&fx, do_alter(&fx, &bad), PDB_INVALID_ARGUMENT,
                   "storage.compression: expected one of none, snappy, lz4, zstd");
    struct pdb_collection_get g = {.name = txt("one")};
    assert_done(&fx, do_describe(&fx, &g));
    assert_int_equal(g.info_out.config.version_retention_s, PDB_VERSION_RETENTION_S_MAX);
    fixture_end(&fx);
}

/* The same for how fields are indexed: each half by itself, with all of its parameters. */
static void indexes_of_fields_change_one_by_one(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    struct pdb_field fields[2] = {
        {.name = txt("a"), .dimension = 4, .metric = PDB_METRIC_DOT, .ef_construction = 50},
        {.name = txt("b"), .dimension = 4, .metric = PDB_METRIC_MANHATTAN}};
    struct pdb_collection_create c = {
        .config = {.name = txt("one"), .fields = fields, .field_count = 2, .target_recall = 0.9f}};
    assert_done(&fx, do_create(&fx, &c));
    const struct pdb_field_change steps[2][2] = {
        {{.name = txt("b"), .has_index = true, .index = PDB_INDEX_HNSW, .hnsw_m = 6},
         {.name = txt("a"),
          .has_quantization = true,
          .quantization = PDB_QUANTIZATION_BINARY,
          .quantization_bits = 3}},
        {{.name = txt("a"), .has_index = true, .index = PDB_INDEX_IVF, .ivf_lists = 5},
         {.name = txt("b"), .has_index = true, .index = PDB_INDEX_FLAT}}};
    for (int i = 0; i < 2; i++) {
        struct pdb_collection_update u = {.name = txt("one"),
                                          .field_changes = steps[i],
                                          .field_change_count = 2,
                                          .has_target_recall = i == 1,
                                          .target_recall = 0.6f};
        assert_done(&fx, do_alter(&fx, &u));
        assert_int_equal(u.info_out.config.fields[0].quantization, PDB_QUANTIZATION_BINARY);
        fixture_reopen(&fx, 2);
        struct pdb_collection_get g = {.name = txt("one")};
        assert_done(&fx, do_describe(&fx, &g));
        const struct pdb_field *a = &g.info_out.config.fields[0], *b = a + 1;
        assert_int_equal(a->quantization, PDB_QUANTIZATION_BINARY);
        assert_int_equal(a->quantization_bits, 3);
        assert_int_equal(a->index, i == 0 ? PDB_INDEX_AUTO : PDB_INDEX_IVF);
        assert_int_equal(a->ef_construction, i == 0 ? 50 : 0);
        assert_int_equal(a->ivf_lists, i == 0 ? 0 : 5);
        assert_int_equal(b->index, i == 0 ? PDB_INDEX_HNSW : PDB_INDEX_FLAT);
        assert_int_equal(b->hnsw_m, i == 0 ? 6 : 0);
        assert_true(g.info_out.config.target_recall == (i == 0 ? 0.9f : 0.6f));
    }
    const struct pdb_field_change bad = {
        .name = txt("b"), .has_quantization = true, .quantization = PDB_QUANTIZATION_PQ};
    struct pdb_collection_update u = {
        .name = txt("one"), .field_changes = &bad, .field_change_count = 1};
    assert_refused(&fx, do_alter(&fx, &u), PDB_INVALID_ARGUMENT,
                   "fields[0].quantization.type: expected auto or none, as the metric is "
                   "manhattan");
    u = (struct pdb_collection_update){
        .name = txt("one"), .has_target_recall = true, .target_recall = 2};
    assert_refused(&fx, do_alter(&fx, &u), PDB_INVALID_ARGUMENT,
                   "target_recall: expected 0.5 to 1");
    fixture_end(&fx);
}

static void a_column_is_added_only_when_all_rows_fit_it(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "one", 1);
    const float values[1] = {1};
    assert_done(&fx, put(&fx, "one", "a", values, 1, "{\"price\":1.5}"));
    assert_done(&fx, put(&fx, "one", "b", values, 1, "{\"price\":\"cheap\"}"));
    struct pdb_column column = {txt("price"), PDB_COLUMN_FLOAT};
    struct pdb_collection_update u = {
        .name = txt("one"), .add_columns = &column, .add_column_count = 1};
    assert_refused(
        &fx, do_alter(&fx, &u), PDB_FAILED_PRECONDITION,
        "columns: record 'b' does not fit: metadata.price: expected float, found string");
    /* Refused: nothing holds new rows to it. */
    assert_done(&fx, put(&fx, "one", "c", values, 1, "{\"price\":\"dear\"}"));
    assert_done(&fx, put(&fx, "one", "b", values, 1, "{\"price\":2}"));
    assert_done(&fx, put(&fx, "one", "c", values, 1, NULL));
    assert_done(&fx, do_alter(&fx, &u));
    assert_int_equal(u.info_out.config.column_count, 1);
    assert_refused(&fx, put(&fx, "one", "d", values, 1, "{\"price\":\"dear\"}"),
                   PDB_INVALID_ARGUMENT, "records[0].metadata.price: expected float, found string");
    assert_refused(&fx, do_alter(&fx, &u), PDB_INVALID_ARGUMENT,
                   "columns[1].name: 'price' is declared already");
    fixture_end(&fx);
}

static void a_deleted_collection_is_gone_and_its_name_free(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    const float values[1] = {1};
    create(&fx, "one", 1);
    create(&fx, "two", 1);
    assert_done(&fx, put(&fx, "one", "a", values, 1, NULL));
    assert_done(&fx, put(&fx, "two", "a", values, 1, NULL));
    struct pdb_collection_delete d = {.name = txt("one")};
    assert_done(&fx, do_drop(&fx, &d));
    assert_refused(&fx, put(&fx, "one", "a", values, 1, NULL), PDB_NOT_FOUND,
                   "collection 'one' does not exist");
    assert_refused(&fx, do_drop(&fx, &d), PDB_NOT_FOUND, "collection 'one' does not exist");
    /* The log still has its records: they are skipped. */
    fixture_reopen(&fx, 1);
    assert_refused(&fx, put(&fx, "one", "a", values, 1, NULL), PDB_NOT_FOUND,
                   "collection 'one' does not exist");
    assert_int_equal(count_of(&fx, "two", NULL), 1);
    create(&fx, "one", 2);
    assert_int_equal(count_of(&fx, "one", NULL), 0);
    fixture_reopen(&fx, 2);
    assert_int_equal(count_of(&fx, "one", NULL), 0);
    fixture_end(&fx);
}

static void old_catalogs_are_archived_and_limited(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    for (int i = 0; i < 24; i++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "c%d", i);
        create(&fx, name, 1);
    }
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/catalog/archive", fx.dir);
    pdb_close(fx.db);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    unsigned files = 0;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        files += strstr(entry->d_name, ".catalog") != NULL;
    (void)closedir(dir);
    assert_in_range(files, 1, 16);
    fixture_open(&fx, 1);
    struct pdb_collection_list all = {.limit = 0};
    assert_done(&fx, do_list(&fx, &all));
    assert_int_equal(all.count_out, 24);
    fixture_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_collection_is_described_as_it_was_made),
        cmocka_unit_test(each_wrong_config_is_refused_with_its_place),
        cmocka_unit_test(a_name_exists_once),
        cmocka_unit_test(the_limit_of_collections_is_kept),
        cmocka_unit_test(a_list_comes_in_order_and_in_pages),
        cmocka_unit_test(settings_change_and_stay_changed),
        cmocka_unit_test(storage_settings_change_one_by_one),
        cmocka_unit_test(indexes_of_fields_change_one_by_one),
        cmocka_unit_test(a_column_is_added_only_when_all_rows_fit_it),
        cmocka_unit_test(a_deleted_collection_is_gone_and_its_name_free),
        cmocka_unit_test(old_catalogs_are_archived_and_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
