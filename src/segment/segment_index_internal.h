/* Makes an .index row by row: for the writer, and again from a Parquet file. Inside src/segment. */
#ifndef SEGMENT_SEGMENT_INDEX_INTERNAL_H
#define SEGMENT_SEGMENT_INDEX_INTERNAL_H

#include "base/buffer.h"
#include "segment/segment_internal.h"

struct segment_index_field {
    struct segment_field_entry entry;
    struct buffer present; /* a bit a row, whole words */
    struct buffer norms;   /* float by ordinal; cosine only */
    struct buffer pages;   /* struct segment_page */
};

/* Everything lies in the heap until segment_index_write. Ids and documents are held as lengths:
 * offsets are made at the end, when their width is known. */
struct segment_index_builder {
    struct heap *heap;
    struct uuid collection;
    uint64_t number;
    uint32_t row_count, id_count; /* id_count: different ones */
    struct buffer ids, id_lens;   /* uint16_t */
    struct buffer docs, doc_lens; /* uint32_t */
    struct buffer versions, created, updated, expires;
    bool updated_differs, expires_any;
    uint64_t version_min, version_max;
    int64_t expires_min_us;
    uint32_t field_count;
    struct segment_index_field *fields;
};

/* Bytes of one vector. */
static inline uint32_t segment_vector_bytes(uint32_t dimension, enum pdb_metric metric)
{
    return metric == PDB_METRIC_HAMMING ? (dimension + 7) / 8 : dimension * (uint32_t)sizeof(float);
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

/* The Parquet file that the index belongs to. */
struct segment_index_source {
    uint64_t parquet_bytes;
    uint32_t parquet_crc, footer_crc;
    uint64_t hash_seed;
};
/* Appends the whole .index; gives its own memory back as it goes, so it is done once. 0 or
 * PDB_RESOURCE_EXHAUSTED: nothing was appended. */
int segment_index_write(struct segment_index_builder *b, const struct segment_index_source *source,
                        struct buffer *index_out);

/* The key of the id index's hash. */
struct hash_key segment_hash_key(uint64_t seed);
/* Where an id belongs: its bucket, and its tag. */
uint32_t segment_hash_place(uint64_t hash, uint32_t bucket_count, uint16_t *tag_out);

#endif
