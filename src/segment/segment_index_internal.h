/* Makes an .index row by row: for the writer, and again from a Parquet file. Inside src/segment. */
#ifndef SEGMENT_SEGMENT_INDEX_INTERNAL_H
#define SEGMENT_SEGMENT_INDEX_INTERNAL_H

#include "base/buffer.h"
#include "segment/segment_internal.h"

struct segment_index_field {
    struct segment_field_entry entry;
    struct buffer present;  /* a bit a row, whole words, from row present_first on */
    uint32_t present_first; /* a multiple of 64 */
    struct buffer norms;    /* float by ordinal; cosine only */
    struct buffer pages;    /* struct segment_page: all of them */
};

struct segment_index_layout;

/* Rows are gathered in the arrays below. Once the file is laid out (segment_index_plan) they can be
 * written and forgotten at any time: then only the hash of ids and the pages' places stay, 8 bytes
 * an id. Without a census the file is laid out at the end, and everything lies in the heap till
 * then. Ids and documents are held as lengths: the width of offsets comes with the layout. */
struct segment_index_builder {
    struct heap *heap;
    struct uuid collection;
    uint64_t number;
    uint32_t row_count;
    struct segment_census seen;   /* so far */
    uint32_t written;             /* rows that the arrays do not hold any more */
    struct buffer ids, id_lens;   /* uint16_t */
    struct buffer docs, doc_lens; /* uint32_t */
    struct buffer versions, created, updated, expires;
    uint64_t version_min, version_max;
    uint64_t last_version; /* of the row before; its id is in `seen` */
    int64_t expires_min_us;
    uint32_t field_count;
    struct segment_index_field *fields;
    struct segment_index_layout *layout; /* NULL: not yet */
};

/* Bytes of one vector. */
static inline uint32_t segment_vector_bytes(const struct pdb_field *field)
{
    return pdb_vector_bytes(field->dimension, field->metric, field->element);
}

/* 0 or PDB_RESOURCE_EXHAUSTED; to be disposed of in any case. */
int segment_index_init(struct segment_index_builder *b, struct heap *heap,
                       const struct segment_schema *schema);
void segment_index_dispose(struct segment_index_builder *b);
/* Copies the row. 0 or PDB_RESOURCE_EXHAUSTED (also: too many rows); the builder is then only good
 * for disposing. The order of rows is the caller's care. */
int segment_index_add(struct segment_index_builder *b, const struct pdb_row *row);
/* The next page of a field's vectors: `count` of them, at `offset` in the Parquet file, or 0.
 * Errors as above. */
int segment_index_add_page(struct segment_index_builder *b, uint32_t field, uint64_t offset,
                           uint32_t count, uint32_t crc);

/* Bytes that segment_index_flush would write and give back. */
uint64_t segment_index_pending(const struct segment_index_builder *b);

/* ---- segment_index_layout.c ---- */

/* Where the file goes: `write` takes bytes for a place in it, each place once. */
struct segment_index_sink {
    int (*write)(void *arg, uint64_t offset, const void *bytes, size_t len);
    void *arg;
};

/* Lays the file out for the rows that were counted: before the first row, or after the last. 0 or
 * PDB_RESOURCE_EXHAUSTED. */
int segment_index_plan(struct segment_index_builder *b, const struct segment_census *census,
                       uint64_t hash_seed, const struct segment_index_sink *sink);
/* Writes what the arrays hold and empties them. 0, PDB_RESOURCE_EXHAUSTED, what `write` returned,
 * or PDB_DATA_LOSS: these are not the rows that were counted. */
int segment_index_flush(struct segment_index_builder *b);

/* The Parquet file that the index belongs to. */
struct segment_index_source {
    uint64_t parquet_bytes;
    uint32_t parquet_crc, footer_crc;
};
/* After the last row and page: writes the rest, about `budget` bytes a call; the header comes last.
 * 1: more to do, 0: all is written, or an error as above. */
int segment_index_finish(struct segment_index_builder *b, const struct segment_index_source *source,
                         uint64_t budget);
/* Plan, flush and finish at once: the whole .index, appended to the buffer. Gives its own memory
 * back as it goes. 0 or PDB_RESOURCE_EXHAUSTED: nothing was appended. */
int segment_index_write(struct segment_index_builder *b, const struct segment_index_source *source,
                        uint64_t hash_seed, struct buffer *index_out);
void segment_index_layout_free(struct segment_index_builder *b);

/* The key of the id index's hash. */
struct hash_key segment_hash_key(uint64_t seed);
/* Where an id belongs: its bucket, and its tag. */
uint32_t segment_hash_place(uint64_t hash, uint32_t bucket_count, uint16_t *tag_out);

#endif
