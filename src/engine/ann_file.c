/* ann_file.c: the header of an index file: whose index it is. The image behind it checks itself
 * (index/image.h). */
#include "engine/ann_file.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "engine/engine_internal.h"
#include "index/image.h"
#include "os/file_map.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum {
    AT_CRC = 8,
    AT_FORMAT = 12,
    AT_COLLECTION = 16,
    AT_SEGMENT = 32,
    AT_PARQUET_BYTES = 40,
    AT_PARQUET_CRC = 48,
    AT_FIELD = 52,
    AT_VECTORS = 56,
    AT_KIND = 60,
    AT_CODES = 64,
    AT_CODE_BITS = 68,
    AT_METRIC = 72,
    AT_DIMENSION = 76,
    AT_M = 80,
    AT_EF = 84,
    AT_LISTS = 88,
    AT_SEED = 96,
    AT_IMAGE_BYTES = 104,
};
#define MAGIC "PXDBANNF"

void ann_header_encode(const struct ann_header *header, uint8_t bytes_out[ANN_FILE_HEADER_BYTES])
{
    const struct index_spec *spec = &header->spec;
    memset(bytes_out, 0, ANN_FILE_HEADER_BYTES);
    memcpy(bytes_out, MAGIC, 8);
    bytes_put_u32(bytes_out + AT_FORMAT, ANN_FILE_FORMAT);
    memcpy(bytes_out + AT_COLLECTION, &header->of.collection, sizeof(struct uuid));
    bytes_put_u64(bytes_out + AT_SEGMENT, header->of.segment);
    bytes_put_u64(bytes_out + AT_PARQUET_BYTES, header->of.parquet_bytes);
    bytes_put_u32(bytes_out + AT_PARQUET_CRC, header->of.parquet_crc32c);
    bytes_put_u32(bytes_out + AT_FIELD, header->of.field);
    bytes_put_u32(bytes_out + AT_VECTORS, header->of.vector_count);
    bytes_put_u32(bytes_out + AT_KIND, (uint32_t)spec->kind);
    bytes_put_u32(bytes_out + AT_CODES, (uint32_t)spec->codes);
    bytes_put_u32(bytes_out + AT_CODE_BITS, spec->code_bits);
    bytes_put_u32(bytes_out + AT_METRIC, (uint32_t)spec->metric);
    bytes_put_u32(bytes_out + AT_DIMENSION, spec->dimension);
    bytes_put_u32(bytes_out + AT_M, spec->m);
    bytes_put_u32(bytes_out + AT_EF, spec->ef_construction);
    bytes_put_u32(bytes_out + AT_LISTS, spec->lists);
    bytes_put_u64(bytes_out + AT_SEED, spec->seed);
    bytes_put_u64(bytes_out + AT_IMAGE_BYTES, header->image_bytes);
    bytes_put_u32(bytes_out + AT_CRC,
                  crc32c(0, bytes_out + AT_FORMAT, ANN_FILE_HEADER_BYTES - AT_FORMAT));
}

int ann_header_decode(const uint8_t *bytes, size_t file_bytes, struct ann_header *header_out,
                      struct trail *trail)
{
    struct ann_header header;
    if (file_bytes < ANN_FILE_HEADER_BYTES || memcmp(bytes, MAGIC, 8) != 0)
        return trail_add(trail, PDB_DATA_LOSS, "no index file");
    if (bytes_get_u32(bytes + AT_CRC) !=
        crc32c(0, bytes + AT_FORMAT, ANN_FILE_HEADER_BYTES - AT_FORMAT))
        return trail_add(trail, PDB_DATA_LOSS, "the header does not fit its checksum");
    if (bytes_get_u32(bytes + AT_FORMAT) > ANN_FILE_FORMAT)
        return trail_add(trail, PDB_FAILED_PRECONDITION, "format %u is newer than this program",
                         bytes_get_u32(bytes + AT_FORMAT));
    memcpy(&header.of.collection, bytes + AT_COLLECTION, sizeof(struct uuid));
    header.of.segment = bytes_get_u64(bytes + AT_SEGMENT);
    header.of.parquet_bytes = bytes_get_u64(bytes + AT_PARQUET_BYTES);
    header.of.parquet_crc32c = bytes_get_u32(bytes + AT_PARQUET_CRC);
    header.of.field = bytes_get_u32(bytes + AT_FIELD);
    header.of.vector_count = bytes_get_u32(bytes + AT_VECTORS);
    header.spec = (struct index_spec){
        .kind = (enum index_kind)bytes_get_u32(bytes + AT_KIND),
        .codes = (enum quantize_kind)bytes_get_u32(bytes + AT_CODES),
        .code_bits = bytes_get_u32(bytes + AT_CODE_BITS),
        .metric = (enum pdb_metric)bytes_get_u32(bytes + AT_METRIC),
        .dimension = bytes_get_u32(bytes + AT_DIMENSION),
        .m = bytes_get_u32(bytes + AT_M),
        .ef_construction = bytes_get_u32(bytes + AT_EF),
        .lists = bytes_get_u32(bytes + AT_LISTS),
        .seed = bytes_get_u64(bytes + AT_SEED),
    };
    header.of.metric = header.spec.metric;
    header.of.dimension = header.spec.dimension;
    header.image_bytes = bytes_get_u64(bytes + AT_IMAGE_BYTES);
    if (header.image_bytes != file_bytes - ANN_FILE_HEADER_BYTES || header.image_bytes == 0)
        return trail_add(trail, PDB_DATA_LOSS, "%zu bytes instead of %" PRIu64, file_bytes,
                         header.image_bytes + ANN_FILE_HEADER_BYTES);
    *header_out = header;
    return 0;
}

int ann_header_compare(const struct ann_header *header, const struct ann_identity *of,
                       struct trail *trail)
{
    const struct ann_identity *was = &header->of;
    if (uuid_equal(&was->collection, &of->collection) && was->segment == of->segment &&
        was->field == of->field && was->parquet_bytes == of->parquet_bytes &&
        was->parquet_crc32c == of->parquet_crc32c && was->vector_count == of->vector_count &&
        was->metric == of->metric && was->dimension == of->dimension)
        return 0;
    return trail_add(trail, PDB_DATA_LOSS, "made from other rows");
}

int ann_header_fits(const struct ann_header *header, const struct index *index, struct trail *trail)
{
    const struct index_spec *spec = &header->spec;
    const struct quantizer *quantizer = &index->quantizer;
    const bool graph = spec->kind == INDEX_HNSW, lists = spec->kind == INDEX_IVF;
    if (index->codes.row_count == header->of.vector_count && quantizer->kind == spec->codes &&
        quantizer->metric == spec->metric && quantizer->dimension == spec->dimension &&
        (spec->code_bits == 0 || quantizer->bits == spec->code_bits) &&
        (graph || lists || spec->kind == INDEX_FLAT) && index->has_graph == graph &&
        index->has_lists == lists && (!graph || spec->m == 0 || index->graph.link_max == spec->m))
        return 0;
    return trail_add(trail, PDB_DATA_LOSS, "the index is another than the header says");
}

static int check_image(const struct file_map *map, const struct ann_header *header,
                       struct trail *trail)
{
    struct index_image_reader reader;
    struct index index;
    /* An image wants to lie on 64 bytes, and is never written to. */
    void *image = (void *)(uintptr_t)(map->ptr + ANN_FILE_HEADER_BYTES);
    void *copy = NULL;
    if ((uintptr_t)image % INDEX_IMAGE_ALIGNMENT != 0) {
        copy = heap_alloc_aligned(NULL, INDEX_IMAGE_ALIGNMENT, header->image_bytes);
        if (copy == NULL)
            return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for it");
        memcpy(copy, image, header->image_bytes);
        image = copy;
    }
    int rc = index_image_open(&reader, image, header->image_bytes, trail);
    while (rc == 0 && (rc = index_image_step(&reader, SIZE_MAX, trail)) == 1)
        rc = 0;
    if (rc == 0 && (rc = index_image_finish(&reader, NULL, &index)) == 0) {
        rc = ann_header_fits(header, &index, trail);
        index_dispose(&index, NULL);
    }
    heap_free(NULL, copy);
    return rc;
}

/* Never PDB_FAILED_PRECONDITION, which says something of what was read. */
static int unreadable(int rc, struct trail *trail)
{
    bool memory = rc == -ENOMEM || rc == -EFBIG;
    return trail_add(trail, memory ? PDB_RESOURCE_EXHAUSTED : PDB_UNAVAILABLE, "%s", strerror(-rc));
}

int ann_file_check(struct io *io, const char *folder, const struct ann_identity *of,
                   struct trail *trail)
{
    char path[SHARD_PATH_MAX];
    struct file_map map = {0};
    struct ann_header header;
    shard_files_ann_path(path, folder, of->segment, of->field);
    int rc = file_map_open(io, path, FILE_MAP_NORMAL, &map);
    if (rc == -ENOENT)
        return PDB_NOT_FOUND;
    if (rc < 0)
        return unreadable(rc, trail);
    if ((rc = file_map_populate(&map, 0, map.len)) < 0) { /* a later touch would be a SIGBUS */
        file_map_close(&map);
        return unreadable(rc, trail);
    }
    rc = ann_header_decode(map.ptr, map.len, &header, trail);
    if (rc == 0)
        rc = ann_header_compare(&header, of, trail);
    if (rc == 0)
        rc = check_image(&map, &header, trail);
    file_map_close(&map);
    return rc;
}
