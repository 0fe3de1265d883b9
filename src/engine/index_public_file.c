/* index_public_file.c: an index alone as a file (docs/formats/index-file.md).
 *
 * A header of 4 KiB, the image of the index (index/image.h), the vectors as they lie in memory,
 * each on a multiple of 4 KiB so that either can be mapped. The file is derived from an array that
 * its owner has, so it is checked, not repaired.
 *
 * Written under another name and renamed when it is durable: whoever opens it sees all or none. */
#include "engine/index_public_internal.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "index/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum {
    FILE_FORMAT = 1,
    HEADER_BYTES = 128,
    ALIGNMENT = 4096,
    PATH_BYTES_MAX = 4096,
    CHECK_BYTES = 1 << 26, /* by one step */
};

static const char magic[8] = "PXDBVIDX";

struct header {
    enum pdb_metric metric;
    enum pdb_index_type type;
    enum pdb_quantization_type quantization;
    uint32_t dimension, row_count;
    uint64_t stride;
    uint64_t image_offset, image_bytes;     /* both 0: none */
    uint64_t vectors_offset, vectors_bytes; /* the same */
    uint32_t vectors_crc;
};

static int failed(struct trail *trail, const char *call, const char *path, int error)
{
    return trail_add(trail, error == ENOENT ? PDB_NOT_FOUND : PDB_UNAVAILABLE, "%s %s: %s", call,
                     path, strerror(error));
}

/* ---- the header ---- */

static void encode_header(const struct header *h, uint8_t bytes[HEADER_BYTES])
{
    memset(bytes, 0, HEADER_BYTES);
    memcpy(bytes, magic, sizeof magic);
    bytes_put_u32(bytes + 12, FILE_FORMAT);
    bytes_put_u16(bytes + 20, (uint16_t)h->metric);
    bytes_put_u16(bytes + 22, (uint16_t)h->type);
    bytes_put_u16(bytes + 24, (uint16_t)h->quantization);
    bytes_put_u32(bytes + 28, h->dimension);
    bytes_put_u32(bytes + 32, h->row_count);
    bytes_put_u32(bytes + 36, h->vectors_crc);
    bytes_put_u64(bytes + 40, h->stride);
    bytes_put_u64(bytes + 48, h->image_offset);
    bytes_put_u64(bytes + 56, h->image_bytes);
    bytes_put_u64(bytes + 64, h->vectors_offset);
    bytes_put_u64(bytes + 72, h->vectors_bytes);
    bytes_put_u32(bytes + 8, crc32c(0, bytes + 12, HEADER_BYTES - 12));
}

/* That a section is where the ones before it end, and what follows it. */
static bool follows(uint64_t *end, uint64_t offset, uint64_t bytes)
{
    if (bytes == 0)
        return offset == 0;
    uint64_t begin = bytes_align_up(*end, ALIGNMENT);
    return offset == begin && !__builtin_add_overflow(begin, bytes, end);
}

static bool header_is_sound(const struct header *h, uint64_t file_bytes)
{
    if (h->metric < PDB_METRIC_COSINE || h->metric > PDB_METRIC_HAMMING ||
        h->type < PDB_INDEX_FLAT || h->type > PDB_INDEX_IVF ||
        h->quantization < PDB_QUANTIZATION_NONE || h->quantization > PDB_QUANTIZATION_BINARY ||
        h->dimension < 1 || h->dimension > PDB_DIMENSION_MAX || h->row_count > HNSW_ROWS_MAX)
        return false;
    const size_t row_bytes = public_index_row_bytes(h->metric, h->dimension);
    if (h->vectors_bytes > 0 &&
        (h->stride < row_bytes || h->stride % 64 != 0 || h->stride > row_bytes + 64 ||
         h->vectors_bytes != h->row_count * h->stride))
        return false;
    if (h->row_count > 0 && h->image_bytes == 0 && h->vectors_bytes == 0)
        return false;
    uint64_t end = HEADER_BYTES;
    return follows(&end, h->image_offset, h->image_bytes) &&
           follows(&end, h->vectors_offset, h->vectors_bytes) && end == file_bytes;
}

static int decode_header(const uint8_t bytes[HEADER_BYTES], uint64_t file_bytes, struct header *h,
                         struct trail *trail)
{
    if (memcmp(bytes, magic, sizeof magic) != 0)
        return trail_add(trail, PDB_DATA_LOSS, "not an index");
    if (bytes_get_u32(bytes + 8) != crc32c(0, bytes + 12, HEADER_BYTES - 12))
        return trail_add(trail, PDB_DATA_LOSS, "header: checksum");
    if (bytes_get_u32(bytes + 12) > FILE_FORMAT || bytes_get_u32(bytes + 16) >> 16 != 0)
        return trail_add(trail, PDB_FAILED_PRECONDITION, "written by a newer version");
    *h = (struct header){
        .metric = (enum pdb_metric)bytes_get_u16(bytes + 20),
        .type = (enum pdb_index_type)bytes_get_u16(bytes + 22),
        .quantization = (enum pdb_quantization_type)bytes_get_u16(bytes + 24),
        .dimension = bytes_get_u32(bytes + 28),
        .row_count = bytes_get_u32(bytes + 32),
        .vectors_crc = bytes_get_u32(bytes + 36),
        .stride = bytes_get_u64(bytes + 40),
        .image_offset = bytes_get_u64(bytes + 48),
        .image_bytes = bytes_get_u64(bytes + 56),
        .vectors_offset = bytes_get_u64(bytes + 64),
        .vectors_bytes = bytes_get_u64(bytes + 72),
    };
    if (!header_is_sound(h, file_bytes))
        return trail_add(trail, PDB_DATA_LOSS, "header: contradicts itself or the file's length");
    return 0;
}

/* ---- writing ---- */

/* A file being written; the first error stays. */
struct output {
    FILE *file;
    int error; /* errno */
    uint64_t at;
};

static void put(struct output *out, const void *bytes, size_t length)
{
    if (out->error == 0 && length > 0 && fwrite(bytes, 1, length, out->file) != length)
        out->error = errno != 0 ? errno : EIO;
    out->at += length;
}

static void put_zeros(struct output *out, size_t length)
{
    static const uint8_t zeros[ALIGNMENT];
    for (size_t some; length > 0; length -= some) {
        some = length < sizeof zeros ? length : sizeof zeros;
        put(out, zeros, some);
    }
}

static void put_image(struct output *out, const struct index_image_plan *plan)
{
    put(out, plan->head, plan->head_bytes);
    for (uint32_t i = 0; i < plan->part_count; i++) {
        const struct index_image_part *part = &plan->parts[i];
        put(out, part->bytes, part->length);
        put_zeros(out, part->padded - part->length);
    }
}

/* Rows of whole lines, whatever the distance between those in memory. out NULL: only their sum. */
static uint32_t put_vectors(const struct pdb_index *index, uint64_t stride, struct output *out)
{
    static const uint8_t zeros[64];
    const size_t bytes = public_index_row_bytes(index->metric, index->dimension);
    const size_t gap = stride - bytes;
    uint32_t crc = 0;
    if (index->stride == stride && index->vectors_memory != NULL) {
        crc = crc32c(0, index->vectors, index->row_count * stride);
        if (out != NULL)
            put(out, index->vectors, index->row_count * stride);
        return crc;
    }
    for (uint32_t row = 0; row < index->row_count; row++) {
        const char *vector = index->vectors + (size_t)row * index->stride;
        crc = crc32c(crc32c(crc, vector, bytes), zeros, gap);
        if (out != NULL) {
            put(out, vector, bytes);
            put(out, zeros, gap);
        }
    }
    return crc;
}

/* The header of what is there, and a plan of the image. */
static struct header plan_file(const struct pdb_index *index, struct index_image_plan *plan)
{
    struct header h = {
        .metric = index->metric,
        .type = index->type,
        .quantization = index->quantization,
        .dimension = index->dimension,
        .row_count = index->row_count,
        .stride = public_index_stride(index->metric, index->dimension),
    };
    uint64_t end = HEADER_BYTES;
    if (index->has_index) {
        index_image_plan(&index->index, plan);
        h.image_offset = bytes_align_up(end, ALIGNMENT);
        h.image_bytes = plan->image_bytes;
        end = h.image_offset + h.image_bytes;
    }
    if (index->vectors != NULL && index->row_count > 0) {
        h.vectors_offset = bytes_align_up(end, ALIGNMENT);
        h.vectors_bytes = index->row_count * h.stride;
        h.vectors_crc = put_vectors(index, h.stride, NULL);
    }
    return h;
}

static void put_file(const struct pdb_index *index, struct output *out)
{
    struct index_image_plan plan;
    uint8_t bytes[HEADER_BYTES];
    const struct header h = plan_file(index, &plan);
    encode_header(&h, bytes);
    put(out, bytes, sizeof bytes);
    if (h.image_bytes > 0) {
        put_zeros(out, h.image_offset - out->at);
        put_image(out, &plan);
    }
    if (h.vectors_bytes > 0) {
        put_zeros(out, h.vectors_offset - out->at);
        (void)put_vectors(index, h.stride, out);
    }
    if (out->error == 0 && (fflush(out->file) != 0 || fsync(fileno(out->file)) != 0))
        out->error = errno;
}

/* The folder that a name is in, so that the name itself is durable. 0 or errno. */
static int sync_folder(const char *path)
{
    char folder[PATH_BYTES_MAX];
    const char *slash = strrchr(path, '/');
    (void)snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash - path + 1),
                   slash == NULL ? "." : path);
    int file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = file < 0 || fsync(file) != 0 ? errno : 0;
    if (file >= 0)
        (void)close(file);
    return error;
}

static int save(const struct pdb_index *index, const char *path, struct trail *trail)
{
    char temporary[PATH_BYTES_MAX];
    if (path[0] == '\0' || strlen(path) > sizeof temporary - sizeof ".tmp")
        return trail_add(trail, PDB_INVALID_ARGUMENT, "path: expected 1 to %zu bytes",
                         sizeof temporary - sizeof ".tmp");
    (void)snprintf(temporary, sizeof temporary, "%s.tmp", path);
    struct output out = {.file = fopen(temporary, "wbe")};
    if (out.file == NULL)
        return failed(trail, "cannot create", temporary, errno);
    put_file(index, &out);
    if (fclose(out.file) != 0 && out.error == 0)
        out.error = errno;
    if (out.error == 0 && rename(temporary, path) != 0)
        out.error = errno;
    if (out.error != 0) {
        (void)unlink(temporary);
        return failed(trail, "cannot write", temporary, out.error);
    }
    int error = sync_folder(path);
    return error != 0 ? failed(trail, "cannot sync the folder of", path, error) : 0;
}

int pdb_index_save(const struct pdb_index *index, const char *path, struct pdb_error *error)
{
    struct trail trail = {0};
    (void)save(index, path, &trail);
    return public_index_error(&trail, error);
}

/* ---- reading ---- */

/* A file being loaded. */
struct input {
    const char *path;
    int file;
    uint64_t bytes;
    struct header header;
    enum pdb_index_load how;
};

static int read_at(const struct input *in, uint64_t offset, void *bytes, size_t length,
                   struct trail *trail)
{
    char *to = bytes;
    while (length > 0) {
        ssize_t done = pread(in->file, to, length, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return failed(trail, "cannot read", in->path, errno);
        if (done == 0)
            return trail_add(trail, PDB_DATA_LOSS, "the file ends early");
        to += done;
        offset += (uint64_t)done;
        length -= (size_t)done;
    }
    return 0;
}

static int open_input(struct input *in, struct trail *trail)
{
    struct stat facts;
    uint8_t bytes[HEADER_BYTES];
    in->file = open(in->path, O_RDONLY | O_CLOEXEC);
    if (in->file < 0)
        return failed(trail, "cannot open", in->path, errno);
    if (fstat(in->file, &facts) != 0)
        return failed(trail, "cannot read", in->path, errno);
    if (!S_ISREG(facts.st_mode) || facts.st_size < HEADER_BYTES)
        return trail_add(trail, PDB_DATA_LOSS, "not an index");
    in->bytes = (uint64_t)facts.st_size;
    int rc = read_at(in, 0, bytes, sizeof bytes, trail);
    return rc < 0 ? rc : decode_header(bytes, in->bytes, &in->header, trail);
}

/* A section, in memory of the index or where it is mapped. */
static int load_section(const struct input *in, struct pdb_index *index, uint64_t offset,
                        uint64_t bytes, bool map, void **memory_out, void **section_out,
                        struct trail *trail)
{
    if (map) {
        index->mapped_bytes += bytes;
        *section_out = (char *)index->map + offset;
        return 0;
    }
    void *memory = public_index_memory(index, bytes);
    if (memory == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    *memory_out = *section_out = memory;
    return read_at(in, offset, memory, bytes, trail);
}

/* That the image is the one that the header tells of. */
static bool image_agrees(const struct index *index, const struct header *h)
{
    return index->codes.row_count == h->row_count && index->quantizer.dimension == h->dimension &&
           index->quantizer.metric == h->metric &&
           public_index_quantization(index->quantizer.kind) == h->quantization;
}

static int load_image(const struct input *in, struct pdb_index *index, struct trail *trail)
{
    const struct header *h = &in->header;
    void *image = NULL;
    struct index_image_reader reader;
    int rc = load_section(in, index, h->image_offset, h->image_bytes, in->how == PDB_INDEX_LOAD_MAP,
                          &index->image_memory, &image, trail);
    if (rc == 0)
        rc = index_image_open(&reader, image, h->image_bytes, trail);
    while (rc == 0 && (rc = index_image_step(&reader, CHECK_BYTES, trail)) > 0)
        rc = 0;
    if (rc < 0)
        return rc;
    rc = index_image_finish(&reader, &index->heap, &index->index);
    if (rc < 0)
        return trail_add(trail, rc, "no memory");
    index->has_index = true;
    if (!image_agrees(&index->index, h))
        return trail_add(trail, PDB_DATA_LOSS, "header and index are not of the same rows");
    return 0;
}

static int load_vectors(const struct input *in, struct pdb_index *index, struct trail *trail)
{
    const struct header *h = &in->header;
    const bool map = in->how == PDB_INDEX_LOAD_MAP || in->how == PDB_INDEX_LOAD_MAP_VECTORS;
    void *vectors = NULL;
    int rc = load_section(in, index, h->vectors_offset, h->vectors_bytes, map,
                          &index->vectors_memory, &vectors, trail);
    if (rc < 0)
        return rc;
    if (!map && crc32c(0, vectors, h->vectors_bytes) != h->vectors_crc)
        return trail_add(trail, PDB_DATA_LOSS, "vectors: checksum");
    index->vectors = vectors;
    index->stride = h->stride;
    return 0;
}

static int map_file(const struct input *in, struct pdb_index *index, struct trail *trail)
{
    void *map = mmap(NULL, in->bytes, PROT_READ, MAP_PRIVATE, in->file, 0);
    if (map == MAP_FAILED)
        return failed(trail, "cannot map", in->path, errno);
    index->map = map;
    index->map_bytes = in->bytes;
    return 0;
}

static int fill(const struct input *in, struct pdb_index *index, struct trail *trail)
{
    const struct header *h = &in->header;
    const bool wants_vectors = in->how != PDB_INDEX_LOAD_WITHOUT_VECTORS || h->image_bytes == 0;
    int rc = 0;
    index->metric = h->metric;
    index->dimension = h->dimension;
    index->row_count = h->row_count;
    index->type = h->type;
    index->quantization = h->quantization;
    if (in->how == PDB_INDEX_LOAD_MAP || in->how == PDB_INDEX_LOAD_MAP_VECTORS)
        rc = map_file(in, index, trail);
    if (rc == 0 && h->image_bytes > 0)
        rc = load_image(in, index, trail);
    if (rc == 0 && h->vectors_bytes > 0 && wants_vectors)
        rc = load_vectors(in, index, trail);
    return rc;
}

static int load(const char *path, enum pdb_index_load how, struct pdb_index **index_out,
                struct trail *trail)
{
    struct input in = {.path = path, .file = -1, .how = how};
    struct pdb_index *index = NULL;
    if ((unsigned)how > PDB_INDEX_LOAD_WITHOUT_VECTORS)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "how: an unknown value");
    public_index_select_kernels();
    int rc = open_input(&in, trail);
    if (rc == 0 && (index = public_index_new(0)) == NULL)
        rc = trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    if (rc == 0)
        rc = fill(&in, index, trail);
    if (in.file >= 0)
        (void)close(in.file);
    if (rc < 0) {
        pdb_index_destroy(index);
        return rc;
    }
    *index_out = index;
    return 0;
}

int pdb_index_load(const char *path, enum pdb_index_load how, struct pdb_index **index_out,
                   struct pdb_error *error)
{
    struct trail trail = {0};
    if (load(path, how, index_out, &trail) < 0)
        (void)trail_add(&trail, trail.code, "index %s", path);
    return public_index_error(&trail, error);
}
