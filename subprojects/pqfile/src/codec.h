/* codec.h: compression of pages by Debian's libraries, and the checksum of pages.
 *
 * What a compressed page says of its own size is not believed: the page header's size is the limit
 * and must be met exactly. No codec here allocates by what the data claims (ZSTD's window is the
 * output buffer), so that a bomb costs what the header admits to and is then an error. */
#ifndef PQFILE_CODEC_H
#define PQFILE_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "pqfile/types.h"

/* One of those below. */
bool pq_codec_is_readable(enum pqfile_codec codec); /* all but LZO, BROTLI, LZ4 */
bool pq_codec_is_writable(enum pqfile_codec codec); /* UNCOMPRESSED, SNAPPY, ZSTD, LZ4_RAW */

/* Appends `len` bytes, compressed. `level` counts for ZSTD, 0 is its default. 0;
 * PQFILE_NO_MEMORY; PQFILE_LIMIT: more than the codec can take at once (2 GiB). A failed codec
 * leaves `out` as it was. */
int pq_compress(enum pqfile_codec codec, int level, const void *data, size_t len,
                struct pq_buffer *out);

/* Fills `out` with exactly `raw_len` bytes. 0; PQFILE_CORRUPT: not this codec's bytes, or another
 * length; PQFILE_NO_MEMORY; PQFILE_UNSUPPORTED. */
int pq_decompress(enum pqfile_codec codec, const void *data, size_t len, void *out, size_t raw_len);

/* CRC-32 as in gzip. Of nothing it is 0; a checksum of several pieces goes on with the one
 * before. */
uint32_t pq_crc32(uint32_t crc, const void *data, size_t len);

#endif
