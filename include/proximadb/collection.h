/* Collections: their schema, their settings, and the calls that manage them. */
#ifndef PROXIMADB_COLLECTION_H
#define PROXIMADB_COLLECTION_H

#include <proximadb/call.h>

struct pdb_field {
    struct pdb_text name; /* "" is the default field */
    uint32_t dimension;   /* 1..PDB_DIMENSION_MAX; bits for hamming */
    enum pdb_metric metric;
    enum pdb_index_type index;
    enum pdb_quantization_type quantization;
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
    struct pdb_collection_info info_out;
};
PDB_API void pdb_collection_update_start(struct pdb_collection_update *c);

struct pdb_collection_delete {
    struct pdb_call call;
    struct pdb_text name;
};
PDB_API void pdb_collection_delete_start(struct pdb_collection_delete *c);

#endif
