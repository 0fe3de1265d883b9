/* What a request must be before it leaves its home core: pure checks against the schema, each error
 * with the path of the offending value. Conversions (bits packed from floats, rows made of records)
 * happen here too, in the call's arena. */
#ifndef ENGINE_VALIDATE_H
#define ENGINE_VALIDATE_H

#include "base/arena.h"
#include "base/hash.h"
#include "base/trail.h"

#include <proximadb/proximadb.h>

struct catalog_entry;

/* Name, fields, columns, settings of a collection. */
int validate_config(const struct pdb_collection_config *config, struct trail *trail);
int validate_collection_name(struct pdb_text name, struct trail *trail);
/* `path` is put before the message: "ids[3]". */
int validate_id(struct pdb_text id, const char *path, struct trail *trail);

/* ---- of indexes (validate_index.c) ---- */

/* Type and parameters of index and quantization; `path` is put before: "" or "fields[3].". */
int validate_field_index(const struct pdb_field *field, const char *path, struct trail *trail);
/* 0: the default; else 0.5 to 1. */
bool validate_is_recall(float target);
int validate_target_recall(float target, struct trail *trail);
/* Each names another field of the collection, and what becomes of it is valid. */
int validate_field_changes(const struct pdb_collection_config *config,
                           const struct pdb_field_change *changes, uint32_t change_count,
                           struct trail *trail);
void validate_apply_change(struct pdb_field *field, const struct pdb_field_change *change);
/* What a query says of how it is answered; `path`: "params", "queries[3].params". */
int validate_search_params(const struct pdb_query *query, const char *path, struct trail *trail);

/* Where a value lies, for messages: "<list>[<index>].vector" or ".vectors.<field>"; no list:
 * "vector". */
struct validate_place {
    const char *list; /* "" or NULL: none */
    uint32_t index;
};
/* The place of a vector of that field. */
enum { VALIDATE_PATH_BYTES = 192 };
void validate_vector_path(struct validate_place place, struct pdb_text field,
                          char path_out[VALIDATE_PATH_BYTES]);

/* Checks one vector against its field and gives the bytes as a row holds them: the caller's own, or
 * made in the arena. (validate_vector.c) */
int validate_vector(const struct pdb_field *field, const struct pdb_vector *vector,
                    struct validate_place place, struct arena *arena, const void **values_out,
                    struct trail *trail);
/* The same for a query: float32 whatever the field stores, or packed bits. */
int validate_query_vector(const struct pdb_field *field, const struct pdb_vector *vector,
                          struct validate_place place, struct arena *arena, const void **values_out,
                          struct trail *trail);
/* The index of the field of that name, or PDB_INVALID_ARGUMENT. */
int validate_field(const struct catalog_entry *entry, struct pdb_text name,
                   struct validate_place place, uint32_t *index_out, struct trail *trail);

/* A batch, record by record: so that a caller can stop between two and go on in another turn. */
struct validate_batch {
    const struct catalog_entry *entry;
    enum pdb_write_kind kind;
    const char *list; /* how the door calls the records */
    const struct pdb_record *records;
    uint32_t record_count, next;
    bool want_checksum;
    uint32_t checksum; /* crc32c over everything that the write says, if wanted */
    int64_t now_us;
    const struct hash_key *hash_key;
    struct arena *arena;
    struct pdb_row *rows_out; /* record_count: id, vectors, metadata, expires_at_us */
    uint64_t text_bytes;      /* ids and metadata */
    uint32_t *slots;          /* open addressing over ids: index + 1 */
    size_t slot_count;
};
/* Sizes and memory. The fields above `rows_out` are set. */
int validate_batch_begin(struct validate_batch *batch, struct trail *trail);
/* The next record. */
int validate_batch_next(struct validate_batch *batch, struct trail *trail);

#endif
