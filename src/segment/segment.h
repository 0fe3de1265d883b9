/* A segment: a sealed, immutable part of a shard's rows. Two files: <n>.parquet is the truth, and
 * <n>.index is derived from it (point look-ups, documents, times, norms, where each vector lies)
 * and can be made again. Pure computation over bytes that the caller has mapped or read: no I/O, no
 * threads, no clock. Formats: docs/formats/segment.md.
 *
 * Rows are numbered 0.. in order of id (bytewise); of one id the newest version comes first. The
 * files never change. What ends a row of them later is kept beside them, in struct
 * segment_deletes, by the shard, which stores it in its manifest. A reader carries one read version
 * v and sees the rows with version <= v < ended_at, as in a memtable.
 *
 * An open segment may be read by several threads at once; only the notes about verified vector
 * pages change, atomically. */
#ifndef SEGMENT_SEGMENT_H
#define SEGMENT_SEGMENT_H

#include "base/buffer.h"
#include "base/heap.h"
#include "base/trail.h"
#include "base/uuid.h"
#include "filter/filter.h"
#include "segment/scan.h"

#include <proximadb/collection.h>

#define SEGMENT_NEVER UINT64_MAX /* ended_at of a row that did not end */

enum { SEGMENT_ROWS_MAX = 1 << 30 };

/* What the columns of a segment are: from the catalog. Pointers must outlive whatever is made from
 * it. */
struct segment_schema {
    struct uuid collection;
    uint64_t number; /* of the segment in its shard: the <n> of its names */
    const struct pdb_field *fields;
    uint32_t field_count;
    /* Declared columns get a typed column each where a value fits it; all else of the metadata is
     * JSON text in column "metadata". */
    const struct pdb_column *columns;
    uint32_t column_count;
    enum pdb_compression compression;
    /* Vector columns stay uncompressed, PLAIN and 64-byte aligned, to be used in place. Set unless
     * compression is wanted and storage.vectors is `memory`. */
    bool vectors_in_place;
};

/* ---- making (segment_write.c) ---- */

/* What the rows of a segment come to. Who counts them before they are written spares the writer
 * from holding an index of all of them. */
struct segment_census {
    uint64_t rows, ids; /* ids: different ones */
    uint64_t id_bytes, doc_bytes;
    uint32_t vectors[PDB_FIELD_MAX];
    bool updated_differs, expires_any;
    uint16_t last_len; /* of the id of the last row */
    char last_id[PDB_ID_BYTES_MAX];
};
/* The next row, in the order of the writer. Of the vectors it is only looked whether they are
 * NULL. */
void segment_census_add(struct segment_census *census, uint32_t field_count,
                        const struct pdb_row *row);

struct segment_writer;

struct segment_writer_options {
    struct segment_schema schema;
    struct heap *heap;        /* may be NULL; of the thread that uses the writer */
    uint64_t row_group_bytes; /* 0: 32 MiB */
    uint64_t hash_seed;       /* of the id index: random */
    /* Takes the next bytes of the Parquet file; 0, or what the writer's call then returns. */
    int (*write)(void *arg, const void *bytes, size_t len);
    /* Of exactly the rows that will be added; the index is then written as it grows, by
     * write_index, which takes bytes for a place in the file, each place once. NULL: it is gathered
     * in memory until segment_writer_index. */
    const struct segment_census *census; /* used by segment_writer_new only */
    int (*write_index)(void *arg, uint64_t offset, const void *bytes, size_t len);
    void *arg;
};

/* 0, PDB_RESOURCE_EXHAUSTED. Writes the first bytes. */
int segment_writer_new(const struct segment_writer_options *options,
                       struct segment_writer **writer_out, struct trail *trail);
/* The next row, in order of id and, for one id, of falling version; vectors and texts are copied.
 * 0, PDB_RESOURCE_EXHAUSTED, or what `write` returned; the writer is then only good for freeing. */
int segment_writer_add(struct segment_writer *w, const struct pdb_row *row, struct trail *trail);
/* The rest of the Parquet file. PDB_INVALID_ARGUMENT: no row was added. */
int segment_writer_finish(struct segment_writer *w, struct trail *trail);
/* After finish, without a census, once: the whole .index, appended to the buffer. */
int segment_writer_index(struct segment_writer *w, struct buffer *index_out, struct trail *trail);
/* After finish, with a census: the rest of the index, about `budget` bytes of it. 1: more to do, 0:
 * all is written, or an error: PDB_DATA_LOSS when these were not the rows that were counted. */
int segment_writer_index_step(struct segment_writer *w, uint64_t budget, struct trail *trail);

struct segment_writer_stats {
    uint64_t rows, parquet_bytes;
    uint64_t version_min, version_max;
    int64_t expires_min_us; /* INT64_MAX: no row expires */
};
void segment_writer_stats(const struct segment_writer *w, struct segment_writer_stats *stats_out);
void segment_writer_free(struct segment_writer *w); /* NULL is legal */

/* ---- opening (segment_open.c) ---- */

struct segment;

/* A mapped or read file; must outlive the segment. Aligned to 8 bytes or more. */
struct segment_bytes {
    const uint8_t *ptr;
    size_t len;
};

struct segment_open_options {
    struct segment_schema schema;
    struct segment_bytes parquet, index; /* index.len 0: none */
    struct heap *heap;                   /* counts what the segment needs beside the bytes */
};

/* Checks the index (header, bounds of every array, a crc32c of every section) and that it belongs
 * to this Parquet file (length, footer checksum, schema). Does not read vector pages, unless they
 * are compressed: then they are decompressed here. PDB_DATA_LOSS: the trail says which file and
 * where; *index_bad_out: only the index is missing or bad (segment_index_rebuild). Others:
 * PDB_FAILED_PRECONDITION (a newer format), PDB_RESOURCE_EXHAUSTED. */
int segment_open(const struct segment_open_options *options, struct segment **segment_out,
                 bool *index_bad_out, struct trail *trail);
void segment_free(struct segment *s); /* NULL is legal */

/* The .index of a Parquet file, made by reading all of it (every page checksum is checked). 0,
 * PDB_DATA_LOSS, PDB_RESOURCE_EXHAUSTED. */
int segment_index_rebuild(const struct segment_open_options *options, uint64_t hash_seed,
                          struct buffer *index_out, struct trail *trail);
/* The same, to a file: `write` takes bytes for a place in it, as
 * segment_writer_options.write_index, and what it returns ends the work. Reads the rows twice, and
 * needs 9 bytes of memory a row instead of the whole index. */
int segment_index_rebuild_to(const struct segment_open_options *options, uint64_t hash_seed,
                             int (*write)(void *arg, uint64_t offset, const void *bytes,
                                          size_t len),
                             void *arg, struct trail *trail);
/* Reads everything and compares: every page checksum, order and uniqueness of (id, version), the
 * index against the Parquet rows, finite values. `report` gets each finding as a line of text. 0,
 * PDB_DATA_LOSS, PDB_RESOURCE_EXHAUSTED. Any thread: what it needs is not taken from the segment's
 * heap. */
int segment_check(const struct segment *s, void (*report)(void *arg, const char *line), void *arg,
                  struct trail *trail);

struct segment_stats {
    uint64_t number, rows, parquet_bytes, index_bytes, heap_bytes;
    uint64_t vector_bytes; /* of the Parquet file's pages that searches read */
    uint64_t version_min, version_max;
    int64_t expires_min_us;
};
void segment_stats(const struct segment *s, struct segment_stats *stats_out);

/* Vector pages carry checksums, looked at before their first use. Verifies pages from *page on
 * until `byte_budget` is used up; true when all are done. Any thread. */
bool segment_verify_step(const struct segment *s, uint64_t *page, uint64_t byte_budget);
/* Where in the Parquet file the vectors of `field` lie from the row's page on: whole pages, at
 * least one, and more until there are `bytes`. Of a row without a vector: from the next one on.
 * False: there is none, or the vectors are in memory. */
bool segment_vector_range(const struct segment *s, uint32_t field, uint32_t row, uint64_t bytes,
                          uint64_t *from_out, uint64_t *to_out);
/* True once a page was found to be damaged: readers must then fail with PDB_DATA_LOSS. */
bool segment_damaged(const struct segment *s);

/* ---- deletes (segment_deletes.c): which rows ended, and when ---- */

struct segment_deletes;

int segment_deletes_new(struct heap *heap, uint32_t row_count, struct segment_deletes **out);
void segment_deletes_free(struct segment_deletes *d); /* NULL is legal */
/* Room for `more` marks, so that they cannot fail; it replaces an earlier reservation. 0 or
 * PDB_RESOURCE_EXHAUSTED. */
int segment_deletes_reserve(struct segment_deletes *d, uint32_t more);
/* The row ends at `version` (0: at one that need not be remembered); of two marks the lower version
 * stays. Room must be reserved. */
void segment_deletes_mark(struct segment_deletes *d, uint32_t row, uint64_t version);
/* SEGMENT_NEVER: it has not ended. 0: it ended before what is remembered. */
uint64_t segment_deletes_ended_at(const struct segment_deletes *d, uint32_t row);
/* Nobody will read below `oldest_version` any more: versions up to it need not be remembered, only
 * that the rows ended. Budgeted by entries; true while there is more to do. */
bool segment_deletes_forget(struct segment_deletes *d, uint64_t oldest_version, size_t budget);
uint64_t segment_deletes_count(const struct segment_deletes *d);
/* Of these, the ones whose version is remembered. */
uint64_t segment_deletes_remembered(const struct segment_deletes *d);
/* In order of row: from *row on, the next row that ended; false at the end. *row is then behind
 * it. */
bool segment_deletes_next(const struct segment_deletes *d, uint32_t *row, uint32_t *row_out,
                          uint64_t *ended_at_out);
/* A bit for each row that ended: row i is bit i % 64 of word i / 64. Bits behind the last row are
 * 0. */
const uint64_t *segment_deletes_bits(const struct segment_deletes *d);
/* A copy for a worker to read. NULL without memory. */
struct segment_deletes *segment_deletes_copy(const struct segment_deletes *d, struct heap *heap);

/* ---- reading (segment_read.c) ---- */

/* What one reader sees of a segment. */
struct segment_read {
    const struct segment *segment;
    const struct segment_deletes *deletes; /* may be NULL: none */
    uint64_t at_version;
    int64_t now_us;
};

/* The row of `id` with the highest version <= at_version, ended or not; false: there is none. */
bool segment_find(const struct segment *s, struct pdb_text id, uint64_t at_version,
                  uint32_t *row_out);
/* Fills row_out; `vectors`: field_count pointers of the caller's, or NULL. Everything points into
 * the mapped bytes. False: the row's vector page is damaged (only when vectors is not NULL). */
bool segment_row(const struct segment *s, uint32_t row, struct pdb_row *row_out,
                 const void **vectors);
/* The same without a look at the pages: pointers to vectors tell only whether there is one. */
void segment_row_unread(const struct segment *s, uint32_t row, struct pdb_row *row_out,
                        const void **vectors);
/* Rows with a vector of this field. */
uint32_t segment_vector_count(const struct segment *s, uint32_t field);
/* Whether the row has a vector of this field. */
bool segment_has_vector_of(const struct segment *s, uint32_t field, uint32_t row);
/* The vector of a row that has one, as `dimension` floats (of hamming: its packed bits): in place
 * where it is stored so, else widened into `room` (dimension floats), which is then returned. NULL:
 * its page is damaged. Any thread. */
const float *segment_vector_f32(const struct segment *s, uint32_t field, uint32_t row, float *room);
/* Cheap parts of a row. */
struct pdb_text segment_row_id(const struct segment *s, uint32_t row);
uint64_t segment_row_version(const struct segment *s, uint32_t row);
struct pdb_text segment_row_metadata(const struct segment *s, uint32_t row);
/* Hints that the row is looked at soon, so that the many lines of many rows come at once: what
 * segment_visible and segment_row look up; and, when that has come, the row's id and document. */
void segment_prefetch_row(const struct segment *s, uint32_t row);
void segment_prefetch_texts(const struct segment *s, uint32_t row);
/* version <= at_version < ended_at, and not expired. */
bool segment_visible(const struct segment_read *read, uint32_t row);

/* As memtable_search: shares topk (and what it knows of the worst kept) with searches of other
 * parts of the shard; keys are key_tag | row. */
struct segment_search {
    struct segment_read read;
    uint32_t next_row;
    uint64_t key_tag;
    struct scan_query *query; /* shared by all parts of the shard */
};
void segment_search_begin(struct segment_search *search);
/* Looks at about `row_budget` rows (whole batches, so that the answer does not depend on the
 * budget); true when the scan is complete, or the segment is found damaged. Allocates nothing. */
bool segment_search_step(struct segment_search *search, size_t row_budget);

/* The distances of single rows, each of which has a vector, as a search finds them: `query` has
 * been begun. count: at most SCAN_BATCH_ROWS. False: a page is damaged. */
bool segment_distances(const struct segment *s, const struct scan_query *query,
                       const uint32_t *rows, uint32_t count, float *distances_out);

/* Visits visible rows that match, from *next_row on, in order of id; as memtable_scan_step. */
bool segment_scan_step(const struct segment_read *read, uint32_t *next_row,
                       const struct filter *filter, size_t row_budget,
                       int (*visit)(void *arg, uint32_t row), void *arg);
/* The first row whose id is greater than `after` (len 0: row 0). */
uint32_t segment_lower_bound(const struct segment *s, struct pdb_text after);

#endif
