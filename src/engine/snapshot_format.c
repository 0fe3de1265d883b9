/* snapshot_format.c: the bytes of a snapshot's list. Entries of collections are those of the
 * catalog, so what a catalog of that format version can say, a snapshot can. A list comes from
 * outside too (an archive that was sent to us): nothing in it is believed. */
#include "engine/snapshot_format.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/text.h"
#include "engine/catalog.h"
#include "engine/validate.h"

#include <inttypes.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum {
    FORMAT_VERSION = 1,
    FLAG_SCHEDULED = 1,
    AT_VERSION = 8,
    AT_HEADER_LEN = 12,
    AT_CREATED_AT = 16,
    AT_BODY_LEN = 24,
    AT_BODY_CRC = 32,
    AT_FLAGS = 36,
    AT_PART_COUNT = 40,
    AT_CATALOG_VERSION = 44,
    AT_HEADER_CRC = 60,
    PART_BYTES_MIN = 4 + 20,
    STEP_PARTS = 8,
    FILE_BYTES_MIN = 2 + 12,
};
static const char magic[8] = {'P', 'D', 'B', 'S', 'N', 'A', 'P', 'S'};

/* ---- in memory ---- */

struct snapshot_image *snapshot_image_new(struct pdb_text name)
{
    struct snapshot_image *image = heap_calloc(NULL, 1, sizeof(*image));
    if (image == NULL)
        return NULL;
    arena_init(&image->arena, 0);
    image->refs = 1;
    image->name = arena_copy_text(&image->arena, name.len != 0 ? name.ptr : "", name.len);
    if (image->name.ptr == NULL) {
        snapshot_image_free(image);
        return NULL;
    }
    return image;
}

void snapshot_image_free(struct snapshot_image *image)
{
    if (image == NULL)
        return;
    for (uint32_t i = 0; i < image->part_count; i++)
        catalog_entry_free(image->parts[i].entry);
    arena_dispose(&image->arena);
    heap_free(NULL, image);
}

uint64_t snapshot_part_bytes(const struct snapshot_part *part)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < part->file_count; i++)
        sum += part->files[i].bytes;
    return sum;
}

/* ---- writing ---- */

static void add_text(struct buffer *out, const char *ptr, size_t len)
{
    buffer_put_u16(out, (uint16_t)len);
    buffer_add(out, ptr, len);
}

void snapshot_encode_begin(struct buffer *out, const struct snapshot_image *image)
{
    char *header = buffer_reserve(out, SNAPSHOT_HEADER_BYTES);
    if (header == NULL)
        return;
    memset(header, 0, SNAPSHOT_HEADER_BYTES);
    out->len += SNAPSHOT_HEADER_BYTES;
    add_text(out, image->name.ptr, image->name.len);
}

void snapshot_encode_part(struct buffer *out, const struct snapshot_part *part)
{
    size_t start = out->len;
    buffer_put_u32(out, 0); /* the length, below */
    buffer_put_u64(out, part->version);
    buffer_put_u64(out, part->rows);
    buffer_put_u32(out, part->file_count);
    for (uint32_t i = 0; i < part->file_count; i++) {
        const struct snapshot_file *file = &part->files[i];
        add_text(out, file->name, strlen(file->name));
        buffer_put_u64(out, file->bytes);
        buffer_put_u32(out, file->crc32c);
    }
    catalog_encode_entry(out, part->entry);
    if (!out->failed)
        bytes_put_u32(out->ptr + start, (uint32_t)(out->len - start - 4));
}

static void fill_header(struct buffer *out, const struct snapshot_image *image, uint32_t body_crc)
{
    char *header = out->ptr;
    size_t body_len = out->len - SNAPSHOT_HEADER_BYTES;
    memcpy(header, magic, sizeof(magic));
    bytes_put_u32(header + AT_VERSION, FORMAT_VERSION);
    bytes_put_u32(header + AT_HEADER_LEN, SNAPSHOT_HEADER_BYTES);
    bytes_put_u64(header + AT_CREATED_AT, (uint64_t)image->created_at_us);
    bytes_put_u64(header + AT_BODY_LEN, body_len);
    bytes_put_u32(header + AT_BODY_CRC, body_crc);
    bytes_put_u32(header + AT_FLAGS, image->scheduled ? FLAG_SCHEDULED : 0);
    bytes_put_u32(header + AT_PART_COUNT, image->part_count);
    bytes_put_u32(header + AT_CATALOG_VERSION, CATALOG_FORMAT_VERSION);
    bytes_put_u32(header + AT_HEADER_CRC, crc32c(0, header, AT_HEADER_CRC));
}

void snapshot_encode_end(struct buffer *out, const struct snapshot_image *image)
{
    const char *body = out->ptr + SNAPSHOT_HEADER_BYTES;
    if (!out->failed)
        fill_header(out, image, crc32c(0, body, out->len - SNAPSHOT_HEADER_BYTES));
}

bool snapshot_encode_step(struct snapshot_encoder *e, struct buffer *out,
                          const struct snapshot_image *image)
{
    if (out->len == 0)
        snapshot_encode_begin(out, image);
    for (unsigned i = 0; i < STEP_PARTS && e->part < image->part_count; i++)
        snapshot_encode_part(out, &image->parts[e->part++]);
    if (out->failed)
        return true;
    size_t from = SNAPSHOT_HEADER_BYTES + e->summed;
    e->crc = crc32c(e->crc, out->ptr + from, out->len - from);
    e->summed = out->len - SNAPSHOT_HEADER_BYTES;
    if (e->part < image->part_count)
        return false;
    fill_header(out, image, e->crc);
    return true;
}

/* ---- reading ---- */

static struct pdb_text take_text(struct bytes_reader *r)
{
    size_t len = bytes_take_u16(r);
    const uint8_t *at = bytes_take(r, len);
    return (struct pdb_text){(const char *)at, at != NULL ? len : 0};
}

/* Where a file stands: the manifest first, then segments by number, the index behind its Parquet
 * file; 0: it has no place here. */
static uint64_t file_rank(const char *name, bool first)
{
    uint64_t number;
    switch (shard_files_parse(name, &number)) {
    case SHARD_FILE_MANIFEST:
        return first && number == SNAPSHOT_NUMBER ? 1 : 0;
    case SHARD_FILE_PARQUET:
        return first || number > UINT64_MAX / 4 ? 0 : 2 * number;
    case SHARD_FILE_INDEX:
        return first || number > UINT64_MAX / 4 ? 0 : 2 * number + 1;
    case SHARD_FILE_ANN: /* made again after a restore */
    case SHARD_FILE_TEMPORARY:
    case SHARD_FILE_OTHER:
        break;
    }
    return 0;
}

static int take_files(struct bytes_reader *r, struct snapshot_image *image,
                      struct snapshot_part *part, struct trail *trail)
{
    uint32_t count = bytes_take_u32(r);
    uint64_t last = 0;
    if (r->failed || count == 0 || count > bytes_left(r) / FILE_BYTES_MIN)
        return trail_add(trail, PDB_DATA_LOSS, "the number of files is wrong");
    part->files = arena_array(&image->arena, struct snapshot_file, count);
    if (part->files == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
    for (uint32_t i = 0; i < count; i++) {
        struct snapshot_file *file = &part->files[i];
        struct pdb_text name = take_text(r);
        file->bytes = bytes_take_u64(r);
        file->crc32c = bytes_take_u32(r);
        if (r->failed || name.len == 0 || name.len >= sizeof(file->name) ||
            memchr(name.ptr, '\0', name.len) != NULL || file->bytes > INT64_MAX / 4)
            return trail_add(trail, PDB_DATA_LOSS, "file %" PRIu32 " is wrong", i);
        memcpy(file->name, name.ptr, name.len);
        file->name[name.len] = '\0';
        uint64_t rank = file_rank(file->name, i == 0);
        if (rank <= last)
            return trail_add(trail, PDB_DATA_LOSS, "file %" PRIu32 " has a wrong name", i);
        last = i == 0 ? 1 : rank;
    }
    part->file_count = count;
    return 0;
}

static int take_part(struct bytes_reader *r, uint32_t format, struct snapshot_image *image,
                     struct trail *trail)
{
    struct snapshot_part *part = &image->parts[image->part_count];
    size_t len = bytes_take_u32(r);
    const uint8_t *at = bytes_take(r, len);
    if (at == NULL)
        return trail_add(trail, PDB_DATA_LOSS, "cut off");
    struct bytes_reader one = bytes_reader_of(at, len);
    *part = (struct snapshot_part){0};
    part->version = bytes_take_u64(&one);
    part->rows = bytes_take_u64(&one);
    int rc = take_files(&one, image, part, trail);
    if (rc < 0)
        return rc;
    rc = catalog_decode_entry(&one, format, &image->arena, &part->entry, trail);
    if (rc < 0)
        return rc;
    image->part_count++;
    image->bytes += snapshot_part_bytes(part);
    if (image->part_count > 1 &&
        text_compare(part[-1].entry->config.name, part->entry->config.name) >= 0)
        return trail_add(trail, PDB_DATA_LOSS, "collections are not in order");
    return 0;
}

static int take_body(struct bytes_reader *r, const char *header, struct snapshot_image *image,
                     struct trail *trail)
{
    uint32_t count = bytes_get_u32(header + AT_PART_COUNT);
    if (count > bytes_left(r) / PART_BYTES_MIN)
        return trail_add(trail, PDB_DATA_LOSS, "the number of collections is wrong");
    image->created_at_us = (int64_t)bytes_get_u64(header + AT_CREATED_AT);
    image->scheduled = (bytes_get_u32(header + AT_FLAGS) & FLAG_SCHEDULED) != 0;
    image->parts = arena_array(&image->arena, struct snapshot_part, count);
    if (image->parts == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
    uint32_t format = bytes_get_u32(header + AT_CATALOG_VERSION);
    for (uint32_t i = 0; i < count; i++) {
        int rc = take_part(r, format, image, trail);
        if (rc < 0)
            return trail_add(trail, rc, "collection %" PRIu32 " of %" PRIu32, i, count);
    }
    if (bytes_left(r) != 0)
        return trail_add(trail, PDB_DATA_LOSS, "the list is too long");
    return 0;
}

static int check_header(const char *header, size_t len, struct trail *trail)
{
    if (len < SNAPSHOT_HEADER_BYTES || memcmp(header, magic, sizeof(magic)) != 0)
        return trail_add(trail, PDB_DATA_LOSS, "not the list of a snapshot");
    if (bytes_get_u32(header + AT_HEADER_CRC) != crc32c(0, header, AT_HEADER_CRC))
        return trail_add(trail, PDB_DATA_LOSS, "offset 0: the header's checksum is wrong");
    uint32_t format = bytes_get_u32(header + AT_VERSION);
    uint32_t catalog = bytes_get_u32(header + AT_CATALOG_VERSION);
    if (format > FORMAT_VERSION || catalog > CATALOG_FORMAT_VERSION)
        return trail_add(trail, PDB_FAILED_PRECONDITION,
                         "format version %" PRIu32 ".%" PRIu32
                         ": written by a newer proximadb; this one reads up to %d.%d",
                         format, catalog, FORMAT_VERSION, CATALOG_FORMAT_VERSION);
    size_t body_len = len - SNAPSHOT_HEADER_BYTES;
    if (bytes_get_u32(header + AT_HEADER_LEN) != SNAPSHOT_HEADER_BYTES ||
        bytes_get_u64(header + AT_BODY_LEN) != body_len)
        return trail_add(trail, PDB_DATA_LOSS, "offset 0: the length is wrong");
    if (bytes_get_u32(header + AT_BODY_CRC) != crc32c(0, header + SNAPSHOT_HEADER_BYTES, body_len))
        return trail_add(trail, PDB_DATA_LOSS, "offset %d: the body's checksum is wrong",
                         SNAPSHOT_HEADER_BYTES);
    return 0;
}

int snapshot_decode(const void *bytes, size_t len, struct snapshot_image **image_out,
                    struct trail *trail)
{
    int rc = check_header(bytes, len, trail);
    if (rc < 0)
        return rc;
    const char *header = bytes;
    struct bytes_reader r =
        bytes_reader_of(header + SNAPSHOT_HEADER_BYTES, len - SNAPSHOT_HEADER_BYTES);
    struct pdb_text name = take_text(&r);
    struct trail ignored = {0};
    if (r.failed || validate_collection_name(name, &ignored) < 0)
        return trail_add(trail, PDB_DATA_LOSS, "the name is wrong");
    struct snapshot_image *image = snapshot_image_new(name);
    if (image == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
    rc = take_body(&r, header, image, trail);
    if (rc < 0) {
        snapshot_image_free(image);
        return rc;
    }
    *image_out = image;
    return 0;
}
