/* codec.c: see codec.h. The libraries take memory of their own by malloc: ZSTD's contexts and
 * zlib's window, bounded by their levels. They are made and dropped for every page; a page is large
 * enough that this does not show. */
#include "codec.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

#include <lz4.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

enum { GZIP_OR_ZLIB = 32 }; /* added to the window bits: accept both heads */

bool pq_codec_is_readable(enum pqfile_codec codec)
{
    return pq_codec_is_writable(codec) || codec == PQFILE_GZIP;
}

bool pq_codec_is_writable(enum pqfile_codec codec)
{
    return codec == PQFILE_UNCOMPRESSED || codec == PQFILE_SNAPPY || codec == PQFILE_ZSTD ||
           codec == PQFILE_LZ4_RAW;
}

/* ---- compress ---- */

static int compress_snappy(const void *data, size_t len, struct pq_buffer *out)
{
    size_t bytes = snappy_max_compressed_length(len);
    char *to = (char *)pq_buffer_reserve(out, bytes);
    if (to == NULL)
        return PQFILE_NO_MEMORY;
    if (snappy_compress(data, len, to, &bytes) != SNAPPY_OK)
        return PQFILE_NO_MEMORY;
    out->len += bytes;
    return PQFILE_OK;
}

static int compress_lz4(const void *data, size_t len, struct pq_buffer *out)
{
    if (len > LZ4_MAX_INPUT_SIZE)
        return PQFILE_LIMIT;
    int bound = LZ4_compressBound((int)len);
    char *to = (char *)pq_buffer_reserve(out, (size_t)bound);
    if (to == NULL)
        return PQFILE_NO_MEMORY;
    int bytes = LZ4_compress_default(data, to, (int)len, bound);
    if (bytes <= 0)
        return PQFILE_NO_MEMORY;
    out->len += (size_t)bytes;
    return PQFILE_OK;
}

static int compress_zstd(int level, const void *data, size_t len, struct pq_buffer *out)
{
    size_t bound = ZSTD_compressBound(len);
    uint8_t *to = pq_buffer_reserve(out, bound);
    if (to == NULL)
        return PQFILE_NO_MEMORY;
    size_t bytes = ZSTD_compress(to, bound, data, len, level == 0 ? ZSTD_defaultCLevel() : level);
    if (ZSTD_isError(bytes))
        return PQFILE_NO_MEMORY;
    out->len += bytes;
    return PQFILE_OK;
}

int pq_compress(enum pqfile_codec codec, int level, const void *data, size_t len,
                struct pq_buffer *out)
{
    assert(pq_codec_is_writable(codec));
    const void *from = data == NULL ? "" : data;
    if (len > INT_MAX)
        return PQFILE_LIMIT;
    if (codec == PQFILE_SNAPPY)
        return compress_snappy(from, len, out);
    if (codec == PQFILE_LZ4_RAW)
        return compress_lz4(from, len, out);
    if (codec == PQFILE_ZSTD)
        return compress_zstd(level, from, len, out);
    pq_buffer_add(out, from, len);
    return out->failed ? PQFILE_NO_MEMORY : PQFILE_OK;
}

/* ---- decompress ---- */

static int decompress_snappy(const void *data, size_t len, void *out, size_t raw_len)
{
    size_t claimed = 0;
    if (snappy_uncompressed_length(data, len, &claimed) != SNAPPY_OK || claimed != raw_len)
        return PQFILE_CORRUPT;
    return snappy_uncompress(data, len, out, &claimed) == SNAPPY_OK ? PQFILE_OK : PQFILE_CORRUPT;
}

static int decompress_lz4(const void *data, size_t len, void *out, size_t raw_len)
{
    if (len > INT_MAX || raw_len > INT_MAX)
        return PQFILE_CORRUPT;
    int bytes = LZ4_decompress_safe(data, out, (int)len, (int)raw_len);
    return bytes >= 0 && (size_t)bytes == raw_len ? PQFILE_OK : PQFILE_CORRUPT;
}

static int decompress_zstd(const void *data, size_t len, void *out, size_t raw_len)
{
    ZSTD_DCtx *context = ZSTD_createDCtx();
    if (context == NULL)
        return PQFILE_NO_MEMORY;
    size_t bytes = ZSTD_decompressDCtx(context, out, raw_len, data, len);
    (void)ZSTD_freeDCtx(context);
    return !ZSTD_isError(bytes) && bytes == raw_len ? PQFILE_OK : PQFILE_CORRUPT;
}

static int decompress_gzip(const void *data, size_t len, void *out, size_t raw_len)
{
    if (len > UINT_MAX || raw_len > UINT_MAX)
        return PQFILE_CORRUPT;
    z_stream z = {0};
    int rc = inflateInit2(&z, MAX_WBITS + GZIP_OR_ZLIB);
    if (rc != Z_OK)
        return PQFILE_NO_MEMORY;
    uint8_t *input = NULL; /* zlib's input is not const, though it never writes to it */
    memcpy(&input, &data, sizeof(input));
    z.next_in = input;
    z.avail_in = (unsigned)len;
    z.next_out = out;
    z.avail_out = (unsigned)raw_len;
    do { /* gzip members may stand behind each other */
        rc = inflate(&z, Z_FINISH);
    } while (rc == Z_STREAM_END && z.avail_in != 0 && inflateReset(&z) == Z_OK);
    bool is_whole = rc == Z_STREAM_END && z.avail_out == 0;
    (void)inflateEnd(&z);
    return rc == Z_MEM_ERROR ? PQFILE_NO_MEMORY : is_whole ? PQFILE_OK : PQFILE_CORRUPT;
}

int pq_decompress(enum pqfile_codec codec, const void *data, size_t len, void *out, size_t raw_len)
{
    uint8_t nothing = 0;
    const void *from = data == NULL ? &nothing : data;
    void *to = out == NULL ? &nothing : out;
    assert(out != NULL || raw_len == 0);
    if (len == 0 && raw_len == 0)
        return PQFILE_OK; /* some writers compress nothing to nothing */
    if (codec == PQFILE_SNAPPY)
        return decompress_snappy(from, len, to, raw_len);
    if (codec == PQFILE_LZ4_RAW)
        return decompress_lz4(from, len, to, raw_len);
    if (codec == PQFILE_ZSTD)
        return decompress_zstd(from, len, to, raw_len);
    if (codec == PQFILE_GZIP)
        return decompress_gzip(from, len, to, raw_len);
    if (codec != PQFILE_UNCOMPRESSED)
        return PQFILE_UNSUPPORTED;
    if (len != raw_len)
        return PQFILE_CORRUPT;
    memcpy(to, from, len);
    return PQFILE_OK;
}
