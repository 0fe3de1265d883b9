/* Damaged files: every sample of the fuzzer's corpus is cut after every byte, and every one of its
 * bits is flipped. Each time the file must be refused, or give what the undamaged one gives: never
 * crash, hang, or read outside the file, which is copied to its exact size for the sanitizers.
 *
 * Checksums cover what is behind a page header and nothing else. That flips in headers, footer and
 * indexes never give other values either is the work of the reader's own checks: counts against
 * counts, lengths used up, indexes against pages. It holds for single bits of these samples; the
 * format promises nothing of the kind. Samples of writers without checksums must only not crash. */
#include <dirent.h>
#include <stdio.h>

#include "pqfile_fixture.h"

enum { SAMPLE_BYTES_MAX = 1 << 16, SAMPLES_MAX = 64, BATCH_ROWS = 5 };

struct bytes {
    uint8_t *data;
    size_t len;
};

/* ---- what a file gives, as one hash ---- */

static uint64_t hash_add(uint64_t hash, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t hash_batch(uint64_t hash, const struct pqfile_node *leaf,
                           const struct pqfile_batch *b)
{
    size_t size = pqfile_value_size(leaf->type, leaf->type_length);
    if (b->definition != NULL)
        hash = hash_add(hash, b->definition, b->level_count);
    if (b->repetition != NULL)
        hash = hash_add(hash, b->repetition, b->level_count);
    if (leaf->type != PQFILE_BYTE_ARRAY)
        return hash_add(hash, b->values, b->value_count * size);
    const struct pqfile_bytes *texts = b->values;
    for (size_t i = 0; i < b->value_count; i++) {
        hash = hash_add(hash, &texts[i].len, sizeof(texts[i].len));
        hash = hash_add(hash, texts[i].data, texts[i].len);
    }
    return hash;
}

static int hash_column(const struct pqfile_reader *reader, uint32_t group, uint32_t column,
                       uint64_t *hash)
{
    const struct pqfile_metadata *m = pqfile_metadata(reader);
    struct pqfile_cursor *cursor = NULL;
    struct pqfile_batch batch = {0};
    int rc = pqfile_cursor_open(reader, group, column, &cursor, NULL);
    if (rc < 0)
        return rc;
    while ((rc = pqfile_cursor_read(cursor, BATCH_ROWS, &batch, NULL)) == 0 && batch.row_count != 0)
        *hash = hash_batch(*hash, &m->nodes[m->columns[column]], &batch);
    uint64_t rows = m->row_groups[group].row_count;
    if (rc == 0 && rows != 0) /* and once more from the middle, by the page index if there is one */
        rc = pqfile_cursor_seek(cursor, rows / 2, NULL);
    while (rc == 0 && rows != 0 &&
           (rc = pqfile_cursor_read(cursor, BATCH_ROWS, &batch, NULL)) == 0 && batch.row_count != 0)
        *hash = hash_batch(*hash, &m->nodes[m->columns[column]], &batch);
    pqfile_cursor_close(cursor);
    return rc;
}

static void touch_pages(const struct pqfile_reader *reader, uint32_t group, uint32_t column)
{
    struct pqfile_pages *pages = NULL;
    struct pqfile_page_index *index = NULL;
    struct pqfile_bloom *bloom = NULL;
    struct pqfile_page page;
    if (pqfile_pages_open(reader, group, column, &pages, NULL) == 0)
        while (pqfile_pages_next(pages, &page, NULL) == 0 && page.level_count != 0)
            (void)pqfile_page_verify(reader, &page, NULL);
    pqfile_pages_close(pages);
    (void)pqfile_page_index_open(reader, group, column, &index, NULL);
    pqfile_page_index_close(index);
    if (pqfile_bloom_open(reader, group, column, &bloom, NULL) == 0)
        (void)pqfile_bloom_may_contain(bloom, "a", 1);
    pqfile_bloom_close(bloom);
}

/* Reads everything. 0 and a hash of all levels and values, or an error. */
static int read_all(const uint8_t *data, size_t len, uint64_t *hash_out)
{
    static const struct pqfile_reader_options options = {.page_bytes_max = 1 << 20,
                                                         .memory_max = 8 << 20};
    struct pqfile_source source = {.size = len, .memory = data};
    struct pqfile_reader *reader = NULL;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    int rc = pqfile_open(&source, &options, &reader, NULL);
    if (rc < 0)
        return rc;
    const struct pqfile_metadata *m = pqfile_metadata(reader);
    hash = hash_add(hash, &m->row_count, sizeof(m->row_count));
    hash = hash_add(hash, &m->column_count, sizeof(m->column_count));
    for (uint32_t g = 0; rc == 0 && g < m->row_group_count; g++)
        for (uint32_t c = 0; rc == 0 && c < m->column_count; c++) {
            touch_pages(reader, g, c);
            rc = hash_column(reader, g, c, &hash);
        }
    pqfile_close(reader);
    if (rc == 0)
        *hash_out = hash;
    return rc;
}

/* ---- samples ---- */

static struct bytes load(const char *name)
{
    char path[512];
    static uint8_t buffer[SAMPLE_BYTES_MAX];
    assert_true(snprintf(path, sizeof(path), "%s/%s", CORPUS, name) < (int)sizeof(path));
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t len = fread(buffer, 1, sizeof(buffer), file);
    assert_int_equal(fclose(file), 0);
    assert_in_range(len, 2, sizeof(buffer) - 1);
    /* The first byte is the fuzzer's. */
    return (struct bytes){exact_copy(buffer + 1, len - 1), len - 1};
}

static void each_sample(void (*test)(const char *name, const struct bytes *file))
{
    DIR *folder = opendir(CORPUS);
    assert_non_null(folder);
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        struct bytes file = load(entry->d_name);
        test(entry->d_name, &file);
        free(file.data);
        count++;
    }
    assert_int_equal(closedir(folder), 0);
    assert_in_range(count, 15, SAMPLES_MAX);
}

/* Whether every data page has a checksum. */
static bool has_checksums(const struct bytes *file)
{
    struct pqfile_source source = {.size = file->len, .memory = file->data};
    struct pqfile_reader *reader = NULL;
    bool has_all = true;
    assert_int_equal(pqfile_open(&source, NULL, &reader, NULL), 0);
    const struct pqfile_metadata *m = pqfile_metadata(reader);
    for (uint32_t g = 0; g < m->row_group_count; g++)
        for (uint32_t c = 0; c < m->column_count; c++) {
            struct pqfile_pages *pages = NULL;
            struct pqfile_page page;
            assert_int_equal(pqfile_pages_open(reader, g, c, &pages, NULL), 0);
            while (pqfile_pages_next(pages, &page, NULL) == 0 && page.level_count != 0)
                has_all = has_all && pqfile_page_verify(reader, &page, NULL) == 0;
            pqfile_pages_close(pages);
        }
    pqfile_close(reader);
    return has_all;
}

static void cut_everywhere(const char *name, const struct bytes *file)
{
    for (size_t len = 0; len < file->len; len++) {
        uint64_t hash = 0;
        uint8_t *data = exact_copy(file->data, len);
        if (read_all(data, len, &hash) == 0)
            fail_msg("%s is read though cut after %zu bytes", name, len);
        free(data);
    }
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    each_sample(cut_everywhere);
}

static size_t flips, refused, protected_samples;

static void flip_everywhere(const char *name, const struct bytes *file)
{
    uint64_t right = 0, hash = 0;
    bool is_protected = has_checksums(file);
    assert_int_equal(read_all(file->data, file->len, &right), 0);
    protected_samples += is_protected;
    for (size_t bit = 0; bit < file->len * 8; bit++) {
        file->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        int rc = read_all(file->data, file->len, &hash);
        file->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        flips++;
        refused += rc < 0;
        if (is_protected && rc == 0 && hash != right)
            fail_msg("%s: bit %zu of byte %zu gives other values", name, bit % 8, bit / 8);
    }
}

static void a_flipped_bit_is_refused_or_changes_no_value(void **state)
{
    (void)state;
    flips = refused = protected_samples = 0;
    each_sample(flip_everywhere);
    assert_true(refused > flips / 2);
    assert_true(protected_samples > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(a_flipped_bit_is_refused_or_changes_no_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
