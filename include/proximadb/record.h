/* Records: writing, reading by id, deleting, scrolling and counting. */
#ifndef PROXIMADB_RECORD_H
#define PROXIMADB_RECORD_H

#include <proximadb/collection.h>

enum pdb_vector_form {
    /* `count` float32, little-endian, any alignment. Of a hamming field they must be 0s and 1s, and
     * are packed; of float16 they are rounded to nearest; of int8 they must be integers. */
    PDB_VECTOR_F32,
    /* `count` bytes: values of type `element`, little-endian; or packed bits for hamming */
    PDB_VECTOR_BYTES,
};

struct pdb_vector {
    struct pdb_text field;
    const void *values;
    uint32_t count;
    enum pdb_vector_form form;
    /* Of PDB_VECTOR_BYTES: float32 (0), or what the field stores. */
    enum pdb_element_type element;
};

struct pdb_record {
    struct pdb_text id; /* len 0: the server makes one (UUIDv7); not in updates */
    const struct pdb_vector *vectors;
    uint32_t vector_count;
    struct pdb_text metadata; /* a document, an object (base/doc.h; pdb_doc_from_json) */
    bool has_metadata;
    bool has_expires_at;   /* else the collection's ttl */
    int64_t expires_at_us; /* 0: never */
    bool has_if_version;
    uint64_t if_version; /* 0: must not exist */
    /* PDB_WRITE_UPDATE only */
    const struct pdb_text *unset; /* dotted metadata paths to remove */
    uint32_t unset_count;
    const struct pdb_text *unset_vectors; /* fields to remove */
    uint32_t unset_vector_count;
};

enum pdb_write_kind {
    PDB_WRITE_UPSERT,
    PDB_WRITE_INSERT, /* an existing id fails the batch: ALREADY_EXISTS */
    /* a missing id fails the batch: NOT_FOUND; metadata merges, vectors replace */
    PDB_WRITE_UPDATE,
};

/* One batch: all of it or none of it; no reader ever sees half. Duplicate ids in it are
 * INVALID_ARGUMENT. FAILED_PRECONDITION: if_version (names id and current version), or request_id
 * reused with another body. RESOURCE_EXHAUSTED: memory limit, log queue, disk (http_status 507).
 * UNAVAILABLE with outcome_unknown: the log failed under it. */
struct pdb_write {
    struct pdb_call call;
    enum pdb_write_kind kind;
    struct pdb_text collection;
    const struct pdb_record *records;
    uint32_t record_count;
    struct pdb_text request_id; /* len 0: none */
    /* results */
    uint64_t count_out, version_out; /* every record got this version */
    const struct pdb_text *ids_out;  /* record_count */
};
PDB_API void pdb_write_start(struct pdb_write *w);

/* Either ids (missing ones are skipped) or a filter. */
struct pdb_delete {
    struct pdb_call call;
    struct pdb_text collection;
    const struct pdb_text *ids;
    uint32_t id_count;
    struct pdb_text filter; /* a document; used when has_filter */
    bool has_filter;
    bool has_if_version; /* with exactly one id */
    uint64_t if_version;
    struct pdb_text request_id;
    uint64_t count_out, version_out;
};
PDB_API void pdb_delete_start(struct pdb_delete *d);

enum pdb_include { PDB_INCLUDE_METADATA = 1, PDB_INCLUDE_VECTORS = 2, PDB_INCLUDE_TIMES = 4 };

/* Rows in results: row.vectors has one entry per field of `fields_out` when PDB_INCLUDE_VECTORS was
 * asked for, else NULL.
 *
 * With as_of every record is answered as it was when version as_of was the collection's newest: the
 * one of its versions that is not above it. OUT_OF_RANGE: as_of lies above the newest version, or
 * below the oldest that is still kept (the text names it); replaced versions are kept for
 * version_retention_s, and maybe longer. */
struct pdb_get {
    struct pdb_call call;
    struct pdb_text collection;
    const struct pdb_text *ids;
    uint32_t id_count;
    unsigned include;
    bool has_as_of;
    uint64_t as_of; /* 0: before the first write */
    const struct pdb_field *fields_out;
    uint32_t field_count_out;
    const struct pdb_row *rows_out; /* id_count; of a missing one the id is set and version is 0 */
};
PDB_API void pdb_get_start(struct pdb_get *g);

struct pdb_scroll {
    struct pdb_call call;
    struct pdb_text collection;
    struct pdb_text filter; /* a document, len 0: all */
    uint32_t limit;
    struct pdb_text cursor; /* from next_cursor_out; len 0: from the start */
    unsigned include;
    const struct pdb_field *fields_out;
    uint32_t field_count_out;
    const struct pdb_row *rows_out; /* in order of id, bytewise */
    uint32_t row_count_out;
    struct pdb_text next_cursor_out; /* len 0: the end */
};
PDB_API void pdb_scroll_start(struct pdb_scroll *s);

struct pdb_count {
    struct pdb_call call;
    struct pdb_text collection;
    struct pdb_text filter;
    uint64_t count_out;
};
PDB_API void pdb_count_start(struct pdb_count *c);

/* The values of a row's vector as float32: `dimension` of them. Packed bits become 0s and 1s. */
PDB_API void pdb_vector_values(const struct pdb_field *field, const void *vector,
                               float *values_out);

/* JSON text to a document in the arena and back: for programs that hold metadata and filters as
 * JSON. */
PDB_API int pdb_doc_from_json(struct arena *arena, struct pdb_text json, struct pdb_text *doc_out,
                              struct pdb_error *error);
PDB_API int pdb_doc_to_json(struct arena *arena, struct pdb_text doc, struct pdb_text *json_out);

#endif
