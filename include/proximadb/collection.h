/* Collections: their schema, their settings, and the calls that manage them. */
#ifndef PROXIMADB_COLLECTION_H
#define PROXIMADB_COLLECTION_H

#include <proximadb/call.h>

struct pdb_field {
    struct pdb_text name; /* "" is the default field */
    uint32_t dimension;   /* 1..PDB_DIMENSION_MAX; bits for hamming */
    enum pdb_metric metric;
    enum pdb_element_type element; /* FLOAT32 for hamming */
    enum pdb_index_type index;
    enum pdb_quantization_type quantization;
    /* 0: the default, which is good for almost everybody */
    uint32_t hnsw_m;            /* links a row: 4 to 32, even */
    uint32_t ef_construction;   /* 8 to 2000 */
    uint32_t ivf_lists;         /* 1 to 65536 */
    uint32_t quantization_bits; /* of PDB_QUANTIZATION_BINARY: 1 to 8 */
};

struct pdb_column {
    struct pdb_text name; /* dotted path allowed */
    enum pdb_column_type type;
};

struct pdb_collection_config {
    struct pdb_text name; /* [A-Za-z0-9_][A-Za-z0-9_.-]{0,127} */
    const struct pdb_field *fields;
    uint32_t field_count;
    const struct pdb_column *columns;
    uint32_t column_count;
    enum pdb_sync_mode sync;
    uint64_t ttl_s;              /* default lifetime of its records; 0: none */
    struct pdb_text description; /* at most 4 KiB */
    /* How files written from now on are made; what is there keeps its form until it is merged. */
    enum pdb_compression compression;
    enum pdb_vector_storage vector_storage;
    /* How long a version that was replaced or deleted stays readable by pdb_get.as_of; 0: until the
     * next flush or compaction. At most PDB_VERSION_RETENTION_S_MAX. */
    uint64_t version_retention_s;
    /* What searches that do not say it themselves aim at: 0.5 to 1. 0: PDB_TARGET_RECALL_DEFAULT */
    float target_recall;
};

enum pdb_index_state {
    PDB_INDEX_STATE_READY,    /* every segment that is to have an index has the wanted one */
    PDB_INDEX_STATE_WAITING,  /* some have to be built, none is being built */
    PDB_INDEX_STATE_BUILDING, /* one is being built */
    PDB_INDEX_STATE_FAILED,   /* the last build failed (memory, disk); it is tried again */
};

/* The indexes of one vector field over all segments. Rows without an index are searched exactly. */
struct pdb_index_info {
    enum pdb_index_state state;
    uint64_t rows, rows_indexed; /* of segments: with a vector; of these, in an index */
    uint64_t rows_wanted;        /* of segments large enough for an index of the wanted kind */
    uint64_t bytes;              /* of the indexes in memory */
    uint32_t indexes;            /* how many segments have one */
    float progress;              /* 0 to 1, of what is to be built */
    uint64_t eta_s;              /* until all is built, by the speed so far; 0: done or unknown */
    bool has_recall;             /* recall_estimate is known */
    float recall_estimate;       /* of recent searches, as measured by exact ones */
};

struct pdb_collection_info {
    struct pdb_collection_config config;
    char uuid[37];
    int64_t created_at_us, updated_at_us;
    uint64_t record_count, memory_bytes;
    uint64_t version;                  /* of the last acknowledged batch */
    uint64_t memtable_rows;            /* newest versions that are in no sealed segment */
    uint64_t segment_rows, tombstones; /* rows of segments; those replaced or deleted since */
    uint64_t segment_bytes;            /* of the segments' files */
    uint32_t segment_count;
    uint32_t owner_core;
    const struct pdb_index_info *indexes; /* of each field, in order; in the arena of the call */
};

/* Every call: see call.h. Texts and results live in the call's arena. */

struct pdb_collection_create {
    struct pdb_call call;
    struct pdb_collection_config config;
    struct pdb_collection_info info_out;
};
/* INVALID_ARGUMENT, ALREADY_EXISTS, RESOURCE_EXHAUSTED (limit of collections). */
PDB_API void pdb_collection_create_start(struct pdb_collection_create *c);

struct pdb_collection_list {
    struct pdb_call call;
    uint32_t limit; /* 0: all */
    /* name of the last one seen; len 0: from the start. Order of names, bytewise. */
    struct pdb_text after;
    const struct pdb_collection_info *infos_out;
    uint32_t count_out;
    bool more_out;
};
PDB_API void pdb_collection_list_start(struct pdb_collection_list *c);

struct pdb_collection_get {
    struct pdb_call call;
    struct pdb_text name;
    struct pdb_collection_info info_out;
};
PDB_API void pdb_collection_get_start(struct pdb_collection_get *c);

/* How one vector field is to be indexed from now on. */
struct pdb_field_change {
    struct pdb_text name; /* "": the default field */
    bool has_index, has_quantization;
    enum pdb_index_type index; /* with all of its parameters */
    uint32_t hnsw_m, ef_construction, ivf_lists;
    enum pdb_quantization_type quantization;
    uint32_t quantization_bits;
};

/* Changes what may change; has_* says what is given. New columns are checked against the rows that
 * are there: a row of another type refuses the change (FAILED_PRECONDITION, naming its id). */
struct pdb_collection_update {
    struct pdb_call call;
    struct pdb_text name;
    bool has_sync, has_ttl, has_description;
    bool has_compression, has_vector_storage, has_version_retention;
    enum pdb_sync_mode sync;
    uint64_t ttl_s;
    struct pdb_text description;
    enum pdb_compression compression;
    enum pdb_vector_storage vector_storage;
    uint64_t version_retention_s;
    const struct pdb_column *add_columns;
    uint32_t add_column_count;
    bool has_target_recall;
    float target_recall;
    /* Indexes are then rebuilt in the background; searches use the old ones until then. */
    const struct pdb_field_change *field_changes;
    uint32_t field_change_count;
    struct pdb_collection_info info_out;
};
PDB_API void pdb_collection_update_start(struct pdb_collection_update *c);

struct pdb_collection_delete {
    struct pdb_call call;
    struct pdb_text name;
};
PDB_API void pdb_collection_delete_start(struct pdb_collection_delete *c);

#endif
