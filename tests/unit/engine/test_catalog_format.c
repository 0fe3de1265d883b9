/* src/engine/catalog_format.c: bytes and back, and the golden files of every version of the
 * format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "engine/catalog.h"

#include <string.h>

#define TXT(literal)                                                                               \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

static const struct uuid products_uuid = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static const struct uuid shoes_uuid = {{0xf1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static const uint64_t born_version = 0x123456789ab;
static const struct uuid dropped_uuid = {{0xd, 1, 2}};

static const struct pdb_field product_fields[] = {{.name = TXT("image"),
                                                   .dimension = 512,
                                                   .metric = PDB_METRIC_COSINE,
                                                   .index = PDB_INDEX_HNSW,
                                                   .quantization = PDB_QUANTIZATION_BINARY,
                                                   .hnsw_m = 24,
                                                   .ef_construction = 300,
                                                   .quantization_bits = 5},
                                                  {.name = TXT("bits"),
                                                   .dimension = 9,
                                                   .metric = PDB_METRIC_HAMMING,
                                                   .index = PDB_INDEX_FLAT,
                                                   .quantization = PDB_QUANTIZATION_NONE}};
static const struct pdb_column product_columns[] = {{TXT("price"), PDB_COLUMN_FLOAT},
                                                    {TXT("a.b"), PDB_COLUMN_STRING_LIST}};
static const struct pdb_field shoe_field = {.dimension = 3,
                                            .metric = PDB_METRIC_DOT,
                                            .element = PDB_ELEMENT_INT8,
                                            .index = PDB_INDEX_IVF,
                                            .ivf_lists = 65536};

static const struct pdb_collection_config products = {.name = TXT("products"),
                                                      .fields = product_fields,
                                                      .field_count = 2,
                                                      .columns = product_columns,
                                                      .column_count = 2,
                                                      .sync = PDB_SYNC_PERIODIC,
                                                      .ttl_s = 86400,
                                                      .description = TXT("caf\xc3\xa9"),
                                                      .compression = PDB_COMPRESSION_ZSTD,
                                                      .vector_storage = PDB_VECTORS_MMAP,
                                                      .version_retention_s = 60};
static const struct pdb_collection_config shoes = {.name = TXT("shoes"),
                                                   .fields = &shoe_field,
                                                   .field_count = 1,
                                                   .compression = PDB_COMPRESSION_SNAPPY,
                                                   .vector_storage = PDB_VECTORS_DISK,
                                                   .version_retention_s =
                                                       PDB_VERSION_RETENTION_S_MAX,
                                                   .target_recall = 0.875f};

/* The file of two collections and a dropped one, in `out`. */
static void make_catalog(struct buffer *out)
{
    const struct catalog_times times[] = {{1700000000000000, 1700000000000001, 3},
                                          {1700000000000002, 1700000000000002, 1}};
    struct catalog_entry *entries[] = {catalog_entry_new(&products_uuid, &products, &times[0]),
                                       catalog_entry_new(&shoes_uuid, &shoes, &times[1])};
    buffer_init_heap(out, NULL, 0);
    catalog_encode_begin(out, 2);
    for (int i = 0; i < 2; i++) {
        assert_non_null(entries[i]);
        entries[i]->born_version = i == 0 ? 0 : born_version;
        catalog_encode_entry(out, entries[i]);
        catalog_entry_free(entries[i]);
    }
    catalog_encode_end(out, 7, 1700000000000003, &dropped_uuid, 1);
    assert_false(out->failed);
}

static void path_of(const char *file, char path_out[512])
{
    snprintf(path_out, 512, "%s/tests/format/catalog/%s", SOURCE_ROOT, file);
}

static size_t read_golden(const char *file, char *bytes, size_t size)
{
    char path[512];
    path_of(file, path);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t len = fread(bytes, 1, size, f);
    assert_int_equal(fclose(f), 0);
    return len;
}

/* What a decoded entry must have of what it was made from. */
static void assert_products(const struct catalog_entry *entry)
{
    const struct pdb_collection_config *c = &entry->config;
    assert_memory_equal(&entry->uuid, &products_uuid, sizeof(products_uuid));
    assert_int_equal(entry->created_at_us, 1700000000000000);
    assert_int_equal(entry->updated_at_us, 1700000000000001);
    assert_int_equal(entry->schema_version, 3);
    assert_true(text_equal(c->name, products.name));
    assert_true(text_equal(c->description, products.description));
    assert_int_equal(c->sync, PDB_SYNC_PERIODIC);
    assert_int_equal(c->ttl_s, 86400);
    assert_int_equal(c->version_retention_s, 60);
    assert_int_equal(c->field_count, 2);
    assert_true(text_equal(c->fields[1].name, product_fields[1].name));
    assert_int_equal(c->fields[1].dimension, 9);
    assert_int_equal(c->fields[1].metric, PDB_METRIC_HAMMING);
    assert_int_equal(c->fields[1].index, PDB_INDEX_FLAT);
    assert_int_equal(c->fields[1].quantization, PDB_QUANTIZATION_NONE);
    assert_int_equal(c->column_count, 2);
    assert_true(text_equal(c->columns[1].name, product_columns[1].name));
    assert_int_equal(c->columns[1].type, PDB_COLUMN_STRING_LIST);
}

struct decoded {
    struct arena arena;
    struct catalog_image image;
    struct trail trail;
};

static int decode(struct decoded *d, const void *bytes, size_t len)
{
    *d = (struct decoded){0};
    arena_init(&d->arena, 0);
    return catalog_decode(bytes, len, &d->arena, &d->image, &d->trail);
}

static void dispose(struct decoded *d)
{
    catalog_image_dispose(&d->image);
    arena_dispose(&d->arena);
}

static void the_writer_still_makes_the_golden_file(void **state)
{
    (void)state;
    struct buffer made;
    char golden[4096];
    make_catalog(&made);
    if (getenv("PDB_WRITE_GOLDEN") != NULL) {
        char path[512];
        path_of("v5.catalog", path);
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(made.ptr, 1, made.len, f), made.len);
        assert_int_equal(fclose(f), 0);
    }
    assert_int_equal(read_golden("v5.catalog", golden, sizeof(golden)), made.len);
    assert_memory_equal(golden, made.ptr, made.len);
    buffer_dispose(&made);
}

static void assert_storage(const struct catalog_image *image)
{
    const struct pdb_collection_config *first = &image->entries[0]->config;
    const struct pdb_collection_config *second = &image->entries[1]->config;
    assert_int_equal(first->compression, PDB_COMPRESSION_ZSTD);
    assert_int_equal(first->vector_storage, PDB_VECTORS_MMAP);
    assert_int_equal(second->compression, PDB_COMPRESSION_SNAPPY);
    assert_int_equal(second->vector_storage, PDB_VECTORS_DISK);
    assert_int_equal(second->version_retention_s, PDB_VERSION_RETENTION_S_MAX);
}

static void assert_indexes(const struct catalog_image *image)
{
    const struct pdb_collection_config *first = &image->entries[0]->config;
    const struct pdb_collection_config *second = &image->entries[1]->config;
    assert_int_equal(first->fields[0].index, PDB_INDEX_HNSW);
    assert_int_equal(first->fields[0].hnsw_m, 24);
    assert_int_equal(first->fields[0].ef_construction, 300);
    assert_int_equal(first->fields[0].quantization, PDB_QUANTIZATION_BINARY);
    assert_int_equal(first->fields[0].quantization_bits, 5);
    assert_int_equal(first->fields[1].hnsw_m, 0);
    assert_true(first->target_recall == 0);
    assert_int_equal(second->fields[0].index, PDB_INDEX_IVF);
    assert_int_equal(second->fields[0].ivf_lists, 65536);
    assert_true(second->target_recall == 0.875f);
}

static void the_golden_file_reads_back_as_it_was_made(void **state)
{
    (void)state;
    char bytes[4096];
    struct decoded d;
    assert_int_equal(decode(&d, bytes, read_golden("v5.catalog", bytes, sizeof(bytes))), 0);
    assert_int_equal(d.image.version, 7);
    assert_int_equal(d.image.count, 2);
    assert_products(d.image.entries[0]);
    assert_storage(&d.image);
    assert_int_equal(d.image.entries[0]->born_version, 0);
    assert_int_equal(d.image.entries[1]->born_version, born_version);
    assert_indexes(&d.image);
    assert_int_equal(d.image.entries[0]->config.fields[0].element, PDB_ELEMENT_FLOAT32);
    assert_int_equal(d.image.entries[1]->config.fields[0].element, PDB_ELEMENT_INT8);
    assert_int_equal(d.image.entries[1]->field_bytes[0], 3);
    assert_int_equal(d.image.dropped_count, 1);
    assert_memory_equal(d.image.dropped, &dropped_uuid, sizeof(dropped_uuid));
    dispose(&d);
}

/* It knew no element types: all were float32. */
static void a_catalog_of_version_4_still_reads(void **state)
{
    (void)state;
    char bytes[4096];
    struct decoded d;
    assert_int_equal(decode(&d, bytes, read_golden("v4.catalog", bytes, sizeof(bytes))), 0);
    assert_products(d.image.entries[0]);
    assert_storage(&d.image);
    assert_indexes(&d.image);
    assert_int_equal(d.image.entries[1]->config.fields[0].element, PDB_ELEMENT_FLOAT32);
    assert_int_equal(d.image.entries[1]->field_bytes[0], 12);
    dispose(&d);
}

/* It knew no parameters of indexes. */
static void a_catalog_of_version_3_still_reads(void **state)
{
    (void)state;
    char bytes[4096];
    struct decoded d;
    assert_int_equal(decode(&d, bytes, read_golden("v3.catalog", bytes, sizeof(bytes))), 0);
    assert_int_equal(d.image.count, 2);
    assert_products(d.image.entries[0]);
    assert_storage(&d.image);
    assert_int_equal(d.image.entries[1]->born_version, born_version);
    for (int i = 0; i < 2; i++) {
        const struct pdb_field *field = &d.image.entries[i]->config.fields[0];
        assert_int_equal(field->index, PDB_INDEX_AUTO);
        assert_int_equal(field->quantization, PDB_QUANTIZATION_AUTO);
        assert_true(field->hnsw_m == 0 && field->ef_construction == 0 && field->ivf_lists == 0 &&
                    field->quantization_bits == 0);
        assert_true(d.image.entries[i]->config.target_recall == 0);
    }
    dispose(&d);
}

/* It knew nothing of collections that begin with rows. */
static void a_catalog_of_version_2_still_reads(void **state)
{
    (void)state;
    char bytes[4096];
    struct decoded d;
    assert_int_equal(decode(&d, bytes, read_golden("v2.catalog", bytes, sizeof(bytes))), 0);
    assert_int_equal(d.image.count, 2);
    assert_products(d.image.entries[0]);
    assert_storage(&d.image);
    assert_int_equal(d.image.entries[0]->born_version, 0);
    assert_int_equal(d.image.entries[1]->born_version, 0);
    dispose(&d);
}

/* It knew neither compression nor places of vectors, and any retention. */
static void a_catalog_of_version_1_still_reads(void **state)
{
    (void)state;
    char bytes[4096];
    struct decoded d;
    assert_int_equal(decode(&d, bytes, read_golden("v1.catalog", bytes, sizeof(bytes))), 0);
    assert_int_equal(d.image.version, 7);
    assert_int_equal(d.image.count, 2);
    assert_products(d.image.entries[0]);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(d.image.entries[i]->config.compression, PDB_COMPRESSION_NONE);
        assert_int_equal(d.image.entries[i]->config.vector_storage, PDB_VECTORS_MEMORY);
    }
    assert_int_equal(d.image.entries[1]->config.version_retention_s, PDB_VERSION_RETENTION_S_MAX);
    assert_int_equal(d.image.dropped_count, 1);
    dispose(&d);
}

/* Makes the checksums right again after a change of the bytes. */
static void seal(char *bytes, size_t len)
{
    bytes_put_u32(bytes + 40, crc32c(0, bytes + CATALOG_HEADER_BYTES, len - CATALOG_HEADER_BYTES));
    bytes_put_u32(bytes + 60, crc32c(0, bytes, 60));
}

static void a_later_format_is_refused_as_newer(void **state)
{
    (void)state;
    char bytes[4096];
    struct decoded d;
    size_t len = read_golden("v5.catalog", bytes, sizeof(bytes));
    bytes_put_u32(bytes + 8, 6);
    seal(bytes, len);
    assert_int_equal(decode(&d, bytes, len), PDB_FAILED_PRECONDITION);
    assert_non_null(strstr(d.trail.text, "written by a newer proximadb; this one reads up to 5"));
    dispose(&d);
}

/* Before the list of dropped collections: the second one's compression and place of vectors, its
 * birth, the recall it aims at, the 13 bytes of its field's index, and its element type. */
static void an_unknown_setting_is_refused_with_its_name(void **state)
{
    (void)state;
    static const char *const says[] = {"storage.compression: expected one of",
                                       "storage.vectors: expected one of",
                                       "type: expected one of float32, float16, int8"};
    static const char unknown[] = {4, 3, 3};
    for (int i = 0; i < 3; i++) {
        char bytes[4096];
        struct decoded d;
        size_t len = read_golden("v5.catalog", bytes, sizeof(bytes));
        size_t end = len - 4 - sizeof(dropped_uuid);
        bytes[i == 2 ? end - 1 : end - 1 - 13 - 4 - 8 - 2 + (size_t)i] = unknown[i];
        seal(bytes, len);
        assert_int_equal(decode(&d, bytes, len), PDB_DATA_LOSS);
        assert_non_null(strstr(d.trail.text, says[i]));
        dispose(&d);
    }
}

static void an_entry_that_is_longer_than_known_is_read(void **state)
{
    (void)state;
    char bytes[4096];
    struct decoded d;
    size_t len = read_golden("v5.catalog", bytes, sizeof(bytes));
    size_t tail = 4 + sizeof(dropped_uuid), at = len - tail;
    memmove(bytes + at + 3, bytes + at, tail);
    memset(bytes + at, 0x55, 3);
    len += 3;
    size_t second = CATALOG_HEADER_BYTES + 4;
    second += 4 + bytes_get_u32(bytes + second);
    bytes_put_u32(bytes + second, bytes_get_u32(bytes + second) + 3);
    bytes_put_u64(bytes + 32, len - CATALOG_HEADER_BYTES);
    seal(bytes, len);
    assert_int_equal(decode(&d, bytes, len), 0);
    assert_int_equal(d.image.entries[1]->born_version, born_version);
    dispose(&d);
}

static void every_flipped_bit_and_every_cut_is_detected(void **state)
{
    (void)state;
    static const char *const files[] = {"v1.catalog", "v2.catalog", "v3.catalog", "v4.catalog",
                                        "v5.catalog"};
    for (int f = 0; f < 5; f++) {
        char bytes[4096];
        struct decoded d;
        size_t len = read_golden(files[f], bytes, sizeof(bytes));
        for (size_t bit = 0; bit < len * 8; bit++) {
            bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
            assert_int_equal(decode(&d, bytes, len), PDB_DATA_LOSS);
            dispose(&d);
            bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
        }
        for (size_t cut = 0; cut < len; cut++) {
            assert_int_equal(decode(&d, bytes, cut), PDB_DATA_LOSS);
            dispose(&d);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_writer_still_makes_the_golden_file),
        cmocka_unit_test(the_golden_file_reads_back_as_it_was_made),
        cmocka_unit_test(a_catalog_of_version_1_still_reads),
        cmocka_unit_test(a_catalog_of_version_2_still_reads),
        cmocka_unit_test(a_catalog_of_version_3_still_reads),
        cmocka_unit_test(a_catalog_of_version_4_still_reads),
        cmocka_unit_test(a_later_format_is_refused_as_newer),
        cmocka_unit_test(an_unknown_setting_is_refused_with_its_name),
        cmocka_unit_test(an_entry_that_is_longer_than_known_is_read),
        cmocka_unit_test(every_flipped_bit_and_every_cut_is_detected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
