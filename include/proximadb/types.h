/* The vocabulary of the database: plain values, open to every layer and to every program. */
#ifndef PROXIMADB_TYPES_H
#define PROXIMADB_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes with a length; need not end with NUL. Owned by whoever made it. */
struct pdb_text {
    const char *ptr; /* may be NULL only when len is 0 */
    size_t len;
};

/* Hard limits of the formats; configured limits may be lower, never higher. */
enum {
    PDB_ID_BYTES_MAX = 512,
    PDB_NAME_BYTES_MAX = 128,
    PDB_DIMENSION_MAX = 65535,
    PDB_FIELD_MAX = 64,   /* vector fields of a collection */
    PDB_COLUMN_MAX = 256, /* declared columns of a collection */
    PDB_METADATA_BYTES_MAX = 1 << 20,
    PDB_BATCH_RECORDS_MAX = 10000,
    PDB_K_MAX = 10000,
    PDB_VERSION_RETENTION_S_MAX = 10 * 365 * 86400,
    PDB_EF_MAX = 16384,
    PDB_NPROBE_MAX = 65536,
};

#define PDB_TARGET_RECALL_DEFAULT 0.97f

enum pdb_metric {
    PDB_METRIC_UNSPECIFIED,
    /* score: similarity, higher is better; a zero vector scores 0 against everything */
    PDB_METRIC_COSINE,
    PDB_METRIC_DOT,       /* score: inner product, higher is better */
    PDB_METRIC_EUCLIDEAN, /* score: L2 distance (not squared), lower is better */
    PDB_METRIC_MANHATTAN, /* score: L1 distance, lower is better */
    PDB_METRIC_HAMMING,   /* score: bits that differ, lower is better; the dimension counts bits */
};

/* What one value of a vector is, wherever it is kept: in the log, in memory, on disk. Scores are
 * computed on the stored values; queries stay float32. Numbers are on disk. */
enum pdb_element_type {
    PDB_ELEMENT_FLOAT32, /* also of hamming, whose vectors are packed bits */
    PDB_ELEMENT_FLOAT16, /* IEEE 754 half precision, rounded to nearest even when it is stored */
    PDB_ELEMENT_INT8,    /* integers from -128 to 127 */
};

/* Bytes of one vector as it is stored. */
static inline uint32_t pdb_vector_bytes(uint32_t dimension, enum pdb_metric metric,
                                        enum pdb_element_type element)
{
    if (metric == PDB_METRIC_HAMMING)
        return (dimension + 7) / 8;
    return element == PDB_ELEMENT_FLOAT32   ? dimension * 4
           : element == PDB_ELEMENT_FLOAT16 ? dimension * 2
                                            : dimension;
}

/* How sealed segments are searched. Numbers are on disk. */
enum pdb_index_type {
    PDB_INDEX_AUTO, /* flat for small segments, else a graph */
    PDB_INDEX_FLAT, /* every row is scored */
    PDB_INDEX_HNSW,
    PDB_INDEX_IVF,
};

/* What an index is navigated by instead of full vectors. Numbers are on disk. */
enum pdb_quantization_type {
    PDB_QUANTIZATION_AUTO,
    PDB_QUANTIZATION_NONE,
    PDB_QUANTIZATION_SQ8,    /* a byte a dimension */
    PDB_QUANTIZATION_SQ4,    /* half a byte */
    PDB_QUANTIZATION_PQ,     /* 4 bits for each of `dimension / 2` parts, or fewer */
    PDB_QUANTIZATION_BINARY, /* quantization_bits a dimension, 1 by default */
};

/* How the columns of new segment files are compressed; vectors of PDB_VECTORS_MMAP and _DISK never
 * are. */
enum pdb_compression {
    PDB_COMPRESSION_NONE,
    PDB_COMPRESSION_SNAPPY,
    PDB_COMPRESSION_LZ4,
    PDB_COMPRESSION_ZSTD,
};

/* Where the full vectors of sealed segments are kept while the collection is served. */
enum pdb_vector_storage {
    PDB_VECTORS_MEMORY,
    PDB_VECTORS_MMAP, /* the file is mapped: the system decides what is resident */
    PDB_VECTORS_DISK, /* only codes and graph are resident: rows are read for exact scores */
};

enum pdb_column_type {
    PDB_COLUMN_UNSPECIFIED,
    PDB_COLUMN_STRING,
    PDB_COLUMN_INTEGER,
    PDB_COLUMN_FLOAT,
    PDB_COLUMN_BOOLEAN,
    PDB_COLUMN_DATETIME, /* RFC 3339 text */
    PDB_COLUMN_STRING_LIST,
    PDB_COLUMN_INTEGER_LIST,
    PDB_COLUMN_FLOAT_LIST,
    PDB_COLUMN_GEO, /* {"lat": degrees, "lon": degrees} */
    PDB_COLUMN_TEXT,
};

/* What an acknowledgement promises: docs/operating/durability.md. */
enum pdb_sync_mode { PDB_SYNC_ALWAYS, PDB_SYNC_BATCH, PDB_SYNC_PERIODIC, PDB_SYNC_NEVER };

/* One resulting row of a write: what is logged, kept and returned. All memory is the maker's. */
struct pdb_row {
    struct pdb_text id;
    /* One per vector field, NULL where the row has none: dimension values of the field's element
     * type, or for hamming (dimension + 7) / 8 packed bytes (bit i is byte i / 8, bit i % 8; the
     * spare bits are 0). Little-endian, at any address. */
    const void *const *vectors;
    struct pdb_text metadata; /* a document (docs/formats/document.md), an object; len 0: {} */
    uint64_t version;
    int64_t created_at_us, updated_at_us;
    int64_t expires_at_us; /* 0: never */
    bool deleted;          /* a delete: only id and version count */
};

#endif
