/* reader.c: opens a file. The end of a Parquet file is the footer, its length as four bytes, and
 * the magic, which also stands at the start. Everything of the footer is copied into the reader's
 * arena, so that its bytes can go. */
#include <assert.h>
#include <string.h>

#include "error.h"
#include "reader_internal.h"

enum { FILE_BYTES_MIN = PQ_MAGIC_BYTES + PQ_FOOTER_TAIL };

static const char magic_encrypted[PQ_MAGIC_BYTES] = {'P', 'A', 'R', 'E'};

int pq_source_get(const struct pqfile_reader *reader, uint64_t offset, size_t len, uint8_t *scratch,
                  const uint8_t **data_out)
{
    const struct pqfile_source *s = &reader->source;
    assert(offset <= s->size && len <= s->size - offset);
    if (s->memory != NULL) {
        *data_out = (const uint8_t *)s->memory + offset;
        return PQFILE_OK;
    }
    if (len != 0 && s->read_at(s->context, offset, len, scratch) != 0)
        return PQFILE_IO;
    *data_out = scratch;
    return PQFILE_OK;
}

static void set_defaults(struct pqfile_reader_options *o)
{
    if (o->footer_bytes_max == 0)
        o->footer_bytes_max = PQFILE_FOOTER_BYTES_MAX_DEFAULT;
    if (o->page_bytes_max == 0)
        o->page_bytes_max = PQFILE_PAGE_BYTES_MAX_DEFAULT;
    if (o->memory_max == 0)
        o->memory_max = PQFILE_MEMORY_MAX_DEFAULT;
    if (o->node_max == 0)
        o->node_max = PQFILE_NODE_MAX_DEFAULT;
    if (o->depth_max == 0)
        o->depth_max = PQFILE_DEPTH_MAX_DEFAULT;
    if (o->depth_max > PQFILE_DEPTH_MAX_CAP)
        o->depth_max = PQFILE_DEPTH_MAX_CAP;
    if (o->row_group_max == 0)
        o->row_group_max = PQFILE_ROW_GROUP_MAX_DEFAULT;
}

/* Where the footer lies. */
static int find_footer(const struct pqfile_reader *reader, uint64_t *offset_out, uint32_t *len_out,
                       struct pqfile_error *error)
{
    uint8_t scratch[PQ_FOOTER_TAIL];
    const uint8_t *data = NULL;
    uint64_t size = reader->source.size;
    if (size < FILE_BYTES_MIN)
        return pq_error(error, PQFILE_CORRUPT, "too short for a Parquet file");
    if (pq_source_get(reader, 0, PQ_MAGIC_BYTES, scratch, &data) < 0)
        return pq_error_plain(error, PQFILE_IO);
    bool is_encrypted = memcmp(data, magic_encrypted, PQ_MAGIC_BYTES) == 0;
    if (!is_encrypted && memcmp(data, pq_magic, PQ_MAGIC_BYTES) != 0)
        return pq_error(error, PQFILE_CORRUPT, "does not begin as a Parquet file");
    if (pq_source_get(reader, size - PQ_FOOTER_TAIL, PQ_FOOTER_TAIL, scratch, &data) < 0)
        return pq_error_plain(error, PQFILE_IO);
    const uint8_t *end_magic = data + PQ_FOOTER_TAIL - PQ_MAGIC_BYTES;
    if (memcmp(end_magic, magic_encrypted, PQ_MAGIC_BYTES) == 0 && is_encrypted)
        return pq_error(error, PQFILE_UNSUPPORTED, "encrypted");
    if (is_encrypted || memcmp(end_magic, pq_magic, PQ_MAGIC_BYTES) != 0)
        return pq_error(error, PQFILE_CORRUPT, "does not end as a Parquet file");
    uint32_t len = 0;
    memcpy(&len, data, sizeof(len));
    if (len > size - FILE_BYTES_MIN)
        return pq_error(error, PQFILE_CORRUPT, "footer: longer than the file");
    if (len > reader->options.footer_bytes_max)
        return pq_error(error, PQFILE_LIMIT, "footer: %u bytes", len);
    *offset_out = size - PQ_FOOTER_TAIL - len;
    *len_out = len;
    return PQFILE_OK;
}

static int parse_footer(struct pqfile_reader *reader, const uint8_t *data, size_t len,
                        struct pqfile_error *error)
{
    struct pq_metadata_limits limits = {
        .file_bytes = reader->source.size - PQ_FOOTER_TAIL - len,
        .node_max = reader->options.node_max,
        .depth_max = reader->options.depth_max,
        .row_group_max = reader->options.row_group_max,
    };
    return pq_metadata_read(data, len, &limits, &reader->arena, &reader->metadata, error);
}

static int read_footer(struct pqfile_reader *reader, struct pqfile_error *error)
{
    uint64_t offset = 0;
    uint32_t len = 0;
    uint8_t *scratch = NULL;
    const uint8_t *data = NULL;
    int rc = find_footer(reader, &offset, &len, error);
    if (rc < 0)
        return rc;
    if (reader->source.memory == NULL && len != 0) {
        scratch = pq_allocate(&reader->allocator, len);
        if (scratch == NULL)
            return pq_error_plain(error, PQFILE_NO_MEMORY);
    }
    rc = pq_source_get(reader, offset, len, scratch, &data);
    if (rc < 0)
        rc = pq_error_plain(error, rc);
    else
        rc = parse_footer(reader, data, len, error);
    pq_release(&reader->allocator, scratch);
    return rc;
}

int pqfile_open(const struct pqfile_source *source, const struct pqfile_reader_options *options,
                struct pqfile_reader **reader_out, struct pqfile_error *error_out)
{
    struct pqfile_allocator allocator = pq_allocator(options == NULL ? NULL : &options->allocator);
    if (source->memory == NULL && source->read_at == NULL)
        return pq_error(error_out, PQFILE_INVALID, "a source needs memory or a function");
    struct pqfile_reader *reader = pq_allocate_zeroed(&allocator, 1, sizeof(*reader));
    if (reader == NULL)
        return pq_error_plain(error_out, PQFILE_NO_MEMORY);
    reader->allocator = allocator;
    reader->source = *source;
    if (options != NULL)
        reader->options = *options;
    set_defaults(&reader->options);
    pq_arena_init(&reader->arena, &reader->allocator, reader->options.memory_max);
    int rc = read_footer(reader, error_out);
    if (rc < 0) {
        pqfile_close(reader);
        return rc;
    }
    *reader_out = reader;
    return PQFILE_OK;
}

void pqfile_close(struct pqfile_reader *reader)
{
    if (reader == NULL)
        return;
    struct pqfile_allocator allocator = reader->allocator;
    pq_arena_dispose(&reader->arena);
    pq_release(&allocator, reader);
}

const struct pqfile_metadata *pqfile_metadata(const struct pqfile_reader *reader)
{
    return &reader->metadata;
}

/* Whether a path ends with a node's name; then the name and the dot before it are cut off. */
static bool cut_name(const struct pqfile_node *node, const char *path, size_t *len, bool is_first)
{
    if (*len < node->name_len || (node->name_len != 0 && memcmp(path + *len - node->name_len,
                                                                node->name, node->name_len) != 0))
        return false;
    *len -= node->name_len;
    if (is_first)
        return *len == 0;
    if (*len == 0 || path[*len - 1] != '.')
        return false;
    --*len;
    return true;
}

int64_t pqfile_find_column(const struct pqfile_metadata *metadata, const char *path)
{
    for (uint32_t i = 0; i < metadata->column_count; i++) {
        uint32_t node = metadata->columns[i];
        size_t len = strlen(path);
        while (node != 0 &&
               cut_name(&metadata->nodes[node], path, &len, metadata->nodes[node].parent == 0))
            node = metadata->nodes[node].parent;
        if (node == 0)
            return i;
    }
    return -1;
}

const struct pqfile_key_value *pqfile_find_key(const struct pqfile_metadata *metadata,
                                               const char *key)
{
    size_t len = strlen(key);
    for (uint32_t i = 0; i < metadata->key_value_count; i++) {
        const struct pqfile_key_value *pair = &metadata->key_values[i];
        if (pair->key.len == len && memcmp(pair->key.data, key, len) == 0)
            return pair;
    }
    return NULL;
}
