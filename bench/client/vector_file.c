/* vector_file.c: readers of idx, fvecs and npy.
 *
 * Files come from outside: each length is checked before memory is taken for it, and a file that is
 * shorter than it says, or an idx file that is longer, is refused. Everything is read through zlib,
 * which passes uncompressed files through, so that there is one way to read.
 *
 *   idx    2 zero bytes, type (8: byte), number of dimensions; a big-endian u32 for each; the bytes
 *   fvecs  per row: int32 dimension, then so many float32
 *   npy    "\x93NUMPY" major minor, length of the header (2 bytes in version 1, else 4), the header
 *          as a Python dictionary, the values */
#include "bench/client/vector_file.h"

#include "base/bytes.h"

#include <errno.h>
#include <proximadb/types.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vecmath/elements.h>
#include <zlib.h>

enum { ROWS_MAX = 2000000000, HEADER_MAX = 65536, READ_MAX = 1 << 30 };

/* Exactly `size` bytes: 0, or PDB_INVALID_ARGUMENT when the file ends or its compression is
 * broken. */
static int take(struct vector_file *f, void *bytes_out, size_t size, struct trail *trail)
{
    char *at = bytes_out;
    while (size > 0) {
        unsigned step = size < READ_MAX ? (unsigned)size : READ_MAX;
        int got = gzread(f->file, at, step);
        if (got <= 0) {
            int code = 0;
            const char *text = gzerror(f->file, &code);
            return trail_add(trail, PDB_INVALID_ARGUMENT, "%s",
                             got < 0 && code != Z_OK ? text : "the file ends too early");
        }
        at += got;
        size -= (size_t)got;
    }
    return 0;
}

/* -1 at the end. */
static int next_byte(struct vector_file *f)
{
    gzFile file = f->file; /* gzgetc is a macro that looks inside */
    return gzgetc(file);
}

static uint32_t big_endian(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* ---- headers ---- */

static int open_idx(struct vector_file *f, struct trail *trail)
{
    uint8_t head[16];
    int rc = take(f, head, sizeof(head), trail);
    if (rc < 0)
        return rc;
    if (head[0] != 0 || head[1] != 0 || head[2] != 8 || head[3] != 3)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "not an idx file of bytes with 3 dimensions");
    uint64_t dimension = (uint64_t)big_endian(head + 8) * big_endian(head + 12);
    f->value = VECTOR_FILE_BYTES;
    f->dimension = dimension <= PDB_DIMENSION_MAX ? (size_t)dimension : SIZE_MAX;
    f->row_count = big_endian(head + 4);
    return 0;
}

static int open_fvecs(struct vector_file *f, struct trail *trail)
{
    uint8_t head[4];
    int rc = take(f, head, sizeof(head), trail);
    if (rc < 0)
        return rc;
    f->dimension = bytes_get_u32(head);
    f->row_count = VECTOR_FILE_ROWS_UNKNOWN;
    f->head_taken = true;
    return 0;
}

/* Finds "(rows, columns)" behind 'shape'. */
static bool parse_npy_shape(struct vector_file *f, const char *header)
{
    const char *at = strstr(header, "'shape'");
    at = at != NULL ? strchr(at, '(') : NULL;
    if (at == NULL)
        return false;
    char *end = NULL;
    unsigned long long rows = strtoull(at + 1, &end, 10);
    if (end == at + 1 || *end != ',')
        return false;
    at = end + 1;
    unsigned long long columns = strtoull(at, &end, 10);
    if (end == at || *end != ')' || rows > ROWS_MAX || columns > PDB_DIMENSION_MAX)
        return false;
    f->row_count = rows;
    f->dimension = (size_t)columns;
    return true;
}

static bool parse_npy_value(struct vector_file *f, const char *header)
{
    static const char *const kinds[] = {
        [VECTOR_FILE_FLOATS] = "'descr': '<f4'",
        [VECTOR_FILE_DOUBLES] = "'descr': '<f8'",
        [VECTOR_FILE_HALVES] = "'descr': '<f2'",
        [VECTOR_FILE_BYTES] = "'descr': '|i1'",
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strstr(header, kinds[i]) == NULL)
            continue;
        f->value = (enum vector_file_value)i;
        return true;
    }
    return false;
}

static int open_npy(struct vector_file *f, struct trail *trail)
{
    uint8_t head[12];
    int rc = take(f, head, 10, trail);
    if (rc < 0)
        return rc;
    if (memcmp(head, "\x93NUMPY", 6) != 0 || head[6] < 1 || head[6] > 3)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "not a .npy file of version 1, 2 or 3");
    size_t header_bytes = bytes_get_u16(head + 8);
    if (head[6] >= 2) {
        if ((rc = take(f, head + 10, 2, trail)) < 0)
            return rc;
        header_bytes = bytes_get_u32(head + 8);
    }
    if (header_bytes > HEADER_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "header of %zu bytes", header_bytes);
    char header[HEADER_MAX + 1];
    if ((rc = take(f, header, header_bytes, trail)) < 0)
        return rc;
    header[header_bytes] = '\0';
    if (!parse_npy_value(f, header) || strstr(header, "'fortran_order': False") == NULL ||
        !parse_npy_shape(f, header))
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "must be a two-dimensional '<f2', '<f4', '<f8' or '|i1' array in C order");
    return 0;
}

static bool ends_with(const char *path, const char *end)
{
    size_t path_len = strlen(path);
    size_t end_len = strlen(end);
    return path_len >= end_len && strcmp(path + path_len - end_len, end) == 0;
}

enum vector_file_format vector_file_format(const char *path)
{
    if (ends_with(path, "idx3-ubyte") || ends_with(path, "idx3-ubyte.gz"))
        return VECTOR_FILE_IDX;
    if (ends_with(path, ".fvecs"))
        return VECTOR_FILE_FVECS;
    return ends_with(path, ".npy") ? VECTOR_FILE_NPY : VECTOR_FILE_NONE;
}

int vector_file_open(struct vector_file *file_out, const char *path, enum vector_file_format format,
                     struct trail *trail)
{
    struct vector_file f = {.format = format, .file = gzopen(path, "rb")};
    if (f.file == NULL)
        return trail_add(trail, PDB_NOT_FOUND, "%s: %s", path, strerror(errno));
    (void)gzbuffer(f.file, 1 << 18);
    int rc = format == VECTOR_FILE_IDX     ? open_idx(&f, trail)
             : format == VECTOR_FILE_FVECS ? open_fvecs(&f, trail)
                                           : open_npy(&f, trail);
    if (rc == 0 && (f.dimension == 0 || f.dimension > PDB_DIMENSION_MAX))
        rc = trail_add(trail, PDB_INVALID_ARGUMENT, "dimension %zu, must be 1..%d", f.dimension,
                       PDB_DIMENSION_MAX);
    if (rc == 0 && f.row_count > ROWS_MAX && f.row_count != VECTOR_FILE_ROWS_UNKNOWN)
        rc = trail_add(trail, PDB_INVALID_ARGUMENT, "%llu rows, at most %d",
                       (unsigned long long)f.row_count, ROWS_MAX);
    if (rc < 0) {
        vector_file_close(&f);
        return trail_add(trail, rc, "%s", path);
    }
    *file_out = f;
    return 0;
}

void vector_file_close(struct vector_file *file)
{
    if (file->file != NULL)
        (void)gzclose(file->file);
    *file = (struct vector_file){0};
}

uint64_t vector_file_offset(const struct vector_file *file)
{
    z_off_t offset = gzoffset(file->file);
    return offset > 0 ? (uint64_t)offset : 0;
}

/* ---- rows ---- */

/* 1: there is a row, 0: the end of the file came where it may come. */
static int take_fvecs_head(struct vector_file *f, struct trail *trail)
{
    uint8_t head[4];
    if (f->head_taken) {
        f->head_taken = false;
        return 1;
    }
    int first = next_byte(f);
    if (first == -1)
        return gzeof(f->file) ? 0 : trail_add(trail, PDB_INVALID_ARGUMENT, "unreadable");
    head[0] = (uint8_t)first;
    int rc = take(f, head + 1, sizeof(head) - 1, trail);
    if (rc < 0)
        return rc;
    if (bytes_get_u32(head) != f->dimension)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "row %llu has dimension %u, the first %zu",
                         (unsigned long long)f->row, bytes_get_u32(head), f->dimension);
    return 1;
}

static int take_pixels(struct vector_file *f, float *values_out, struct trail *trail)
{
    uint8_t pixels[PDB_DIMENSION_MAX];
    int rc = take(f, pixels, f->dimension, trail);
    for (size_t i = 0; i < f->dimension && rc == 0; i++)
        values_out[i] = (float)pixels[i];
    return rc;
}

/* Halves and bytes with a sign. */
static int take_narrow(struct vector_file *f, float *values_out, struct trail *trail)
{
    uint8_t narrow[2 * PDB_DIMENSION_MAX];
    bool halves = f->value == VECTOR_FILE_HALVES;
    int rc = take(f, narrow, f->dimension * (halves ? 2 : 1), trail);
    if (rc == 0 && halves)
        vecmath_widen_f16(narrow, f->dimension, values_out);
    else if (rc == 0)
        vecmath_widen_i8(narrow, f->dimension, values_out);
    return rc;
}

static int take_doubles(struct vector_file *f, float *values_out, struct trail *trail)
{
    double wide[512];
    size_t left = f->dimension;
    while (left > 0) {
        size_t step = left < 512 ? left : 512;
        int rc = take(f, wide, step * sizeof(wide[0]), trail);
        if (rc < 0)
            return rc;
        for (size_t i = 0; i < step; i++)
            *values_out++ = (float)wide[i];
        left -= step;
    }
    return 0;
}

/* 1: a row was read, 0: the end. */
static int take_row(struct vector_file *f, float *values_out, struct trail *trail)
{
    int rc = 1;
    if (f->format == VECTOR_FILE_FVECS)
        rc = take_fvecs_head(f, trail);
    else if (f->row == f->row_count)
        rc = 0;
    if (rc <= 0) {
        bool longer = rc == 0 && f->format == VECTOR_FILE_IDX && next_byte(f) != -1;
        return longer ? trail_add(trail, PDB_INVALID_ARGUMENT, "bytes after the last image") : rc;
    }
    if (f->format == VECTOR_FILE_IDX)
        rc = take_pixels(f, values_out, trail);
    else if (f->value == VECTOR_FILE_DOUBLES)
        rc = take_doubles(f, values_out, trail);
    else if (f->value != VECTOR_FILE_FLOATS)
        rc = take_narrow(f, values_out, trail);
    else
        rc = take(f, values_out, f->dimension * sizeof(float), trail);
    if (rc < 0)
        return rc;
    f->row++;
    return 1;
}

int vector_file_read(struct vector_file *file, float *values_out, size_t row_max, size_t *count_out,
                     struct trail *trail)
{
    size_t count = 0;
    while (count < row_max) {
        int rc = take_row(file, values_out + count * file->dimension, trail);
        if (rc < 0)
            return rc;
        if (rc == 0)
            break;
        count++;
    }
    *count_out = count;
    return 0;
}

int vector_file_skip(struct vector_file *file, uint64_t row_count, struct trail *trail)
{
    float row[PDB_DIMENSION_MAX];
    size_t count = 1;
    int rc = 0;
    for (uint64_t i = 0; i < row_count && rc == 0 && count != 0; i++)
        rc = vector_file_read(file, row, 1, &count, trail);
    return rc;
}
