/* pq_dump.c: prints a Parquet file as lines of JSON, for tests that compare it with what other
 * readers see: the footer, every node of the schema, every column of every row group with its
 * levels and values. Numbers are exact: floats are the hexadecimal digits of their bits (most
 * significant first), bytes are hexadecimal.
 *
 *     pq_dump [--callback] [--rows N] FILE    --callback: not mapped, but read through read_at
 *                                             --rows: rows asked for at once (1000)
 *     pq_dump --check FILE                    says nothing, unless the ways to reach the same rows
 *                                             disagree: see pq_check.c */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pq_check.h"
#include "pqfile/pqfile.h"

static int read_at(void *context, uint64_t offset, size_t len, void *buffer)
{
    const int *fd = context;
    uint8_t *to = buffer;
    while (len != 0) {
        ssize_t got = pread(*fd, to, len, (off_t)offset);
        if (got <= 0)
            return -1;
        to += got;
        offset += (uint64_t)got;
        len -= (size_t)got;
    }
    return 0;
}

static void print_text(const char *key, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    printf("\"%s\": \"", key);
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == '"' || bytes[i] == '\\' || bytes[i] < 0x20)
            printf("\\u%04x", bytes[i]);
        else
            putchar(bytes[i]);
    }
    putchar('"');
}

static void print_hex(const uint8_t *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    putchar('"');
    for (size_t i = 0; i < len; i++) {
        putchar(digits[data[i] >> 4]);
        putchar(digits[data[i] & 15]);
    }
    putchar('"');
}

static void print_value(const struct pqfile_node *leaf, const void *values, size_t i)
{
    const uint8_t *at =
        (const uint8_t *)values + i * pqfile_value_size(leaf->type, leaf->type_length);
    int32_t i32;
    int64_t i64;
    switch (leaf->type) {
    case PQFILE_BOOLEAN:
        printf("%u", *at);
        break;
    case PQFILE_INT32:
        memcpy(&i32, at, sizeof(i32));
        printf("%" PRId32, i32);
        break;
    case PQFILE_INT64:
        memcpy(&i64, at, sizeof(i64));
        printf("%" PRId64, i64);
        break;
    case PQFILE_FLOAT:
        memcpy(&i32, at, sizeof(i32));
        printf("\"%08" PRIx32 "\"", (uint32_t)i32);
        break;
    case PQFILE_DOUBLE:
        memcpy(&i64, at, sizeof(i64));
        printf("\"%016" PRIx64 "\"", (uint64_t)i64);
        break;
    case PQFILE_BYTE_ARRAY: {
        struct pqfile_bytes bytes;
        memcpy(&bytes, at, sizeof(bytes));
        print_hex(bytes.data, bytes.len);
        break;
    }
    case PQFILE_INT96:
    case PQFILE_FIXED_LEN_BYTE_ARRAY:
        print_hex(at, leaf->type_length);
        break;
    }
}

static void print_footer(const struct pqfile_metadata *m)
{
    printf("{\"kind\": \"file\", \"rows\": %" PRIu64 ", \"row_groups\": %u, \"columns\": %u, ",
           m->row_count, m->row_group_count, m->column_count);
    print_text("created_by", m->created_by.data, m->created_by.len);
    printf(", \"keys\": [");
    for (uint32_t i = 0; i < m->key_value_count; i++) {
        printf("%s{", i == 0 ? "" : ", ");
        print_text("key", m->key_values[i].key.data, m->key_values[i].key.len);
        printf("}");
    }
    printf("]}\n");
    for (uint32_t i = 0; i < m->node_count; i++) {
        const struct pqfile_node *n = &m->nodes[i];
        printf("{\"kind\": \"node\", \"index\": %u, \"parent\": %u, \"children\": %u, "
               "\"end\": %u, \"repetition\": %d, ",
               i, n->parent, n->child_count, n->end, (int)n->repetition);
        print_text("name", n->name, n->name_len);
        printf(", \"definition_max\": %u, \"repetition_max\": %u, \"logical\": %d",
               n->definition_max, n->repetition_max, (int)n->logical.kind);
        if (n->column != UINT32_MAX)
            printf(", \"column\": %u, \"type\": \"%s\", \"type_length\": %u", n->column,
                   pqfile_type_name(n->type), n->type_length);
        printf("}\n");
    }
}

static void print_bound(const char *key, bool has, struct pqfile_bytes bound)
{
    if (!has)
        return;
    printf(", \"%s\": ", key);
    print_hex(bound.data, bound.len);
}

static void print_chunk(const struct pqfile_chunk *c)
{
    const struct pqfile_statistics *s = &c->statistics;
    printf("\"codec\": \"%s\", \"encodings\": [", pqfile_codec_name(c->codec));
    bool is_first = true;
    for (int e = 0; e < 10; e++) {
        if ((c->encodings & (1u << e)) == 0)
            continue;
        printf("%s\"%s\"", is_first ? "" : ", ", pqfile_encoding_name((enum pqfile_encoding)e));
        is_first = false;
    }
    printf("], \"levels\": %" PRIu64 ", \"offset_index\": %s, \"column_index\": %s, "
           "\"bloom\": %s",
           c->level_count, c->offset_index_bytes != 0 ? "true" : "false",
           c->column_index_bytes != 0 ? "true" : "false", c->has_bloom ? "true" : "false");
    print_bound("min", s->has_min, s->min);
    print_bound("max", s->has_max, s->max);
    if (s->has_null_count)
        printf(", \"null_count\": %" PRIu64, s->null_count);
}

static void print_pages(const struct pqfile_reader *reader, uint32_t group, uint32_t column)
{
    struct pqfile_pages *pages = NULL;
    struct pqfile_page page;
    struct pqfile_error error;
    bool is_first = true;
    printf(", \"pages\": [");
    if (pqfile_pages_open(reader, group, column, &pages, &error) == 0) {
        while (pqfile_pages_next(pages, &page, &error) == 0 && page.level_count != 0) {
            printf("%s{\"version\": %u, \"rows\": %u, \"levels\": %u, \"values\": %u, "
                   "\"encoding\": \"%s\", \"in_place\": %s}",
                   is_first ? "" : ", ", page.version, page.row_count, page.level_count,
                   page.value_count, pqfile_encoding_name(page.encoding),
                   page.in_place ? "true" : "false");
            is_first = false;
        }
        pqfile_pages_close(pages);
    }
    printf("]");
}

static void print_batch(const struct pqfile_node *leaf, const struct pqfile_batch *b)
{
    printf("{\"kind\": \"batch\", \"rows\": %zu, \"definition\": [", b->row_count);
    for (size_t i = 0; b->definition != NULL && i < b->level_count; i++)
        printf("%s%u", i == 0 ? "" : ",", b->definition[i]);
    printf("], \"repetition\": [");
    for (size_t i = 0; b->repetition != NULL && i < b->level_count; i++)
        printf("%s%u", i == 0 ? "" : ",", b->repetition[i]);
    printf("], \"values\": [");
    for (size_t i = 0; i < b->value_count; i++) {
        if (i != 0)
            putchar(',');
        print_value(leaf, b->values, i);
    }
    printf("]}\n");
}

static int print_column(const struct pqfile_reader *reader, uint32_t group, uint32_t column,
                        size_t rows, struct pqfile_error *error)
{
    const struct pqfile_metadata *m = pqfile_metadata(reader);
    const struct pqfile_node *leaf = &m->nodes[m->columns[column]];
    struct pqfile_cursor *cursor = NULL;
    struct pqfile_batch batch = {0};
    printf("{\"kind\": \"chunk\", \"row_group\": %u, \"column\": %u, \"rows\": %" PRIu64 ", ",
           group, column, m->row_groups[group].row_count);
    print_chunk(&m->row_groups[group].chunks[column]);
    print_pages(reader, group, column);
    printf("}\n");
    int rc = pqfile_cursor_open(reader, group, column, &cursor, error);
    if (rc < 0)
        return rc;
    while ((rc = pqfile_cursor_read(cursor, rows, &batch, error)) == 0 && batch.row_count != 0)
        print_batch(leaf, &batch);
    pqfile_cursor_close(cursor);
    return rc;
}

static int print_file(const struct pqfile_reader *reader, size_t rows, struct pqfile_error *error)
{
    const struct pqfile_metadata *m = pqfile_metadata(reader);
    print_footer(m);
    for (uint32_t g = 0; g < m->row_group_count; g++)
        for (uint32_t c = 0; c < m->column_count; c++) {
            int rc = print_column(reader, g, c, rows, error);
            if (rc < 0)
                return rc;
        }
    return 0;
}

struct arguments {
    const char *path;
    size_t rows;
    bool callback;
    bool check;
};

static bool parse(int argc, char **argv, struct arguments *a)
{
    *a = (struct arguments){.rows = 1000};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--callback") == 0)
            a->callback = true;
        else if (strcmp(argv[i], "--check") == 0)
            a->check = true;
        else if (strcmp(argv[i], "--rows") == 0 && i + 1 < argc)
            a->rows = strtoul(argv[++i], NULL, 10);
        else if (a->path == NULL)
            a->path = argv[i];
        else
            return false;
    }
    return a->path != NULL && a->rows != 0;
}

static int run(const struct arguments *a, struct pqfile_source *source)
{
    struct pqfile_reader *reader = NULL;
    struct pqfile_error error = {0};
    int rc = pqfile_open(source, NULL, &reader, &error);
    if (rc == 0)
        rc = a->check ? pq_check_file(reader, source->memory, &error)
                      : print_file(reader, a->rows, &error);
    pqfile_close(reader);
    if (rc < 0)
        (void)fprintf(stderr, "%s: %s\n", a->path, error.message);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct arguments a;
    struct stat st;
    if (!parse(argc, argv, &a)) {
        (void)fprintf(stderr, "usage: pq_dump [--callback] [--rows N] [--check] FILE\n");
        return EXIT_FAILURE;
    }
    int fd = open(a.path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        (void)fprintf(stderr, "%s: %s\n", a.path, strerror(errno));
        return EXIT_FAILURE;
    }
    struct pqfile_source source = {
        .size = (uint64_t)st.st_size, .read_at = read_at, .context = &fd};
    void *map = MAP_FAILED;
    if (!a.callback && st.st_size != 0) {
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        source.memory = map == MAP_FAILED ? NULL : map;
    }
    int status = run(&a, &source);
    if (map != MAP_FAILED)
        (void)munmap(map, (size_t)st.st_size);
    (void)close(fd);
    return status;
}
