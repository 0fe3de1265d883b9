/* An open segment's structures, inside src/segment.
 *
 * Everything is read in place from the bytes of the .index, whose sections begin on 64-byte
 * boundaries (docs/formats/segment.md); only what is not in the file lies in the heap: this struct,
 * a state for each vector page, and the vectors when their pages are compressed.
 *
 * Vectors are counted by ordinal: the place of a row's vector among all vectors of its field, in
 * order of rows. Without missing vectors the ordinal is the row. Pages hold whole vectors, in order
 * of ordinals.
 *
 * What segment_open has checked, so that readers need not: every array has the length that the row
 * count asks for; offsets of ids and documents rise and end where their bytes end; ids have 1 to
 * PDB_ID_BYTES_MAX bytes; ranks agree with the present bits; pages of a field follow each other
 * from ordinal 0 to vector_count, are not empty, and lie within the Parquet file. Documents are
 * trusted to the section's checksum; rows named by the id index are compared with row_count when
 * used. */
#ifndef SEGMENT_SEGMENT_INTERNAL_H
#define SEGMENT_SEGMENT_INTERNAL_H

#include "base/assert.h"
#include "base/hash.h"
#include "segment/segment.h"
#include "segment/segment_format.h"

#include <stdatomic.h>

enum {
    SEGMENT_RANK_ROWS = 512, /* rows for each entry of `ranks`: one line of present bits */
    SEGMENT_BUCKET_SLOTS = 10,
};

/* Offsets of texts that lie one behind the other, count + 1 of them, 4 or 8 bytes each. */
struct segment_offsets {
    const void *at;
    bool wide;
};

/* As on disk: one page of a vector column. */
struct segment_page {
    uint64_t offset; /* of its first vector in the Parquet file; 0: not in place */
    uint32_t first;  /* ordinal of its first vector */
    uint32_t count;
    uint32_t crc; /* CRC-32C of the vectors as they are in memory */
    uint32_t zero;
};

/* As on disk: one line of the id index. Slots are filled from the front. */
struct segment_bucket {
    uint32_t rows[SEGMENT_BUCKET_SLOTS]; /* the first row of an id, its newest version */
    uint16_t tags[SEGMENT_BUCKET_SLOTS]; /* the low bits of the id's hash */
    uint16_t count;
    uint16_t overflowed; /* 1: ids of this bucket went on to the next */
};
_Static_assert(sizeof(struct segment_page) == 24, "on disk");
_Static_assert(sizeof(struct segment_bucket) == 64, "on disk");

struct segment_page_note {
    _Atomic uint8_t state;
};
enum segment_page_state { SEGMENT_PAGE_UNKNOWN, SEGMENT_PAGE_GOOD, SEGMENT_PAGE_BAD };

struct segment_field {
    uint32_t dimension;
    enum pdb_metric metric;
    enum pdb_element_type element;
    uint32_t bytes; /* of one vector */
    uint32_t vector_count;
    const uint64_t *present; /* a bit a row; NULL: every row has a vector */
    const uint32_t *ranks;   /* vectors before row i * SEGMENT_RANK_ROWS; NULL with `present` */
    /* By ordinal; NULL unless the metric is cosine. 0 of a zero vector, NaN where only the slow
     * exact way is safe (as in a memtable). */
    const float *inverse_norms;
    const struct segment_page *pages;
    uint32_t page_count;
    uint32_t page_vectors; /* of the first page: a guess for all */
    uint32_t first_state;  /* of its pages in page_states */
    uint8_t *heap_vectors; /* ordinal x bytes, decompressed; NULL: in place */
};

struct segment {
    struct heap *heap;
    struct uuid collection;
    uint64_t number;
    struct segment_bytes parquet, index;
    uint32_t row_count;
    uint32_t field_count;
    struct segment_field *fields;
    struct segment_offsets id_offsets, doc_offsets;
    const char *ids, *docs;
    const uint64_t *versions;
    const int64_t *created_us, *updated_us; /* updated_us may be the same array */
    const int64_t *expires_us;              /* 0: never. NULL: no row expires */
    const struct segment_bucket *buckets;
    uint32_t bucket_count;
    struct hash_key hash_key;
    uint64_t version_min, version_max;
    int64_t expires_min_us; /* INT64_MAX: no row expires */
    uint64_t heap_bytes, vector_bytes;
    uint32_t parquet_crc; /* of the whole file, as it was written */
    uint32_t page_total;  /* of all fields */
    /* enum segment_page_state of each page; then one more: not 0 once a page was found bad. */
    struct segment_page_note *page_states;
};

/* ---- reading in place ---- */

static inline uint64_t segment_offset(const struct segment_offsets *offsets, uint32_t i)
{
    return offsets->wide ? ((const uint64_t *)offsets->at)[i] : ((const uint32_t *)offsets->at)[i];
}

static inline struct pdb_text segment_id(const struct segment *s, uint32_t row)
{
    uint64_t from = segment_offset(&s->id_offsets, row);
    return (struct pdb_text){s->ids + from, segment_offset(&s->id_offsets, row + 1) - from};
}

/* The document; len 0: {}. */
static inline struct pdb_text segment_doc(const struct segment *s, uint32_t row)
{
    uint64_t from = segment_offset(&s->doc_offsets, row);
    return (struct pdb_text){s->docs + from, segment_offset(&s->doc_offsets, row + 1) - from};
}

static inline bool segment_has_vector(const struct segment_field *field, uint32_t row)
{
    return field->present == NULL || (field->present[row / 64] >> (row % 64) & 1) != 0;
}

/* Vectors in rows before `row`, which may be row_count: the ordinal of the row's own, or of the
 * next one that there is. */
static inline uint32_t segment_ordinal(const struct segment_field *field, uint32_t row)
{
    if (field->present == NULL)
        return row;
    uint32_t before = field->ranks[row / SEGMENT_RANK_ROWS];
    for (uint32_t word = row / SEGMENT_RANK_ROWS * (SEGMENT_RANK_ROWS / 64); word < row / 64;
         word++)
        before += (uint32_t)__builtin_popcountll(field->present[word]);
    if (row % 64 == 0)
        return before;
    uint64_t mask = ((uint64_t)1 << (row % 64)) - 1;
    return before + (uint32_t)__builtin_popcountll(field->present[row / 64] & mask);
}

/* ---- segment_pages.c ---- */

/* The page (of this field, from 0) that holds the vector; ordinal < vector_count. */
uint32_t segment_page_of(const struct segment_field *field, uint32_t ordinal);
/* Its first vector; the others follow. Not verified. */
const char *segment_page_vectors(const struct segment *s, uint32_t field, uint32_t page);
/* False: the page is damaged (and so is the segment, from now on). Reads the whole page the first
 * time, costs one load later. Any thread. */
bool segment_page_good(const struct segment *s, uint32_t field, uint32_t page);

/* ---- segment_rebuild.c ---- */

/* Decompresses the vectors of a field whose pages are not in place, and compares them with the
 * pages' sums. 0, PDB_DATA_LOSS, PDB_RESOURCE_EXHAUSTED. */
int segment_load_vectors(struct segment *s, uint32_t field, struct trail *trail);

/* ---- segment_index.c ---- */

/* The first row of `id` (its newest version; older ones follow); false: the id is not there. One
 * cache miss before the id itself. */
bool segment_index_find(const struct segment *s, struct pdb_text id, uint32_t *row_out);

#endif
