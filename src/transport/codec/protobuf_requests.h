/* gRPC requests (proto/proximadb/v1) to the engine's. Texts, ids and vectors point into the message
 * wherever it lies in one piece; everything else is in the arena.
 *
 * Every message is checked first (protobuf_check). 0, PDB_INVALID_ARGUMENT or
 * PDB_RESOURCE_EXHAUSTED, told in the trail with the path of what is wrong. */
#ifndef TRANSPORT_CODEC_PROTOBUF_REQUESTS_H
#define TRANSPORT_CODEC_PROTOBUF_REQUESTS_H

#include "api/api.h"
#include "transport/codec/avro_records.h"
#include "transport/codec/packed_batch.h"
#include "transport/codec/protobuf_docs.h"

struct protobuf_decoder {
    struct arena *arena;
    const struct api_limits *limits;
    struct trail *trail;
    struct doc_builder *docs; /* made when first needed */
};

int protobuf_decode_collection(struct protobuf_decoder *d, struct pdb_text message,
                               struct pdb_collection_config *config_out);
int protobuf_decode_collection_list(struct protobuf_decoder *d, struct pdb_text message,
                                    struct pdb_collection_list *list_out);
int protobuf_decode_collection_get(struct protobuf_decoder *d, struct pdb_text message,
                                   struct pdb_text *name_out);
int protobuf_decode_collection_update(struct protobuf_decoder *d, struct pdb_text message,
                                      struct pdb_collection_update *update_out);
int protobuf_decode_collection_delete(struct protobuf_decoder *d, struct pdb_text message,
                                      struct pdb_text *name_out);
int protobuf_decode_get(struct protobuf_decoder *d, struct pdb_text message,
                        struct pdb_get *get_out);
int protobuf_decode_delete(struct protobuf_decoder *d, struct pdb_text message,
                           struct pdb_delete *delete_out);
int protobuf_decode_scroll(struct protobuf_decoder *d, struct pdb_text message,
                           struct pdb_scroll *scroll_out);
int protobuf_decode_count(struct protobuf_decoder *d, struct pdb_text message,
                          struct pdb_count *count_out);

int protobuf_decode_recall(struct protobuf_decoder *d, struct pdb_text message,
                           struct pdb_recall *recall_out);

int protobuf_decode_snapshot_create(struct protobuf_decoder *d, struct pdb_text message,
                                    struct pdb_snapshot_create *create_out);
int protobuf_decode_snapshot_list(struct protobuf_decoder *d, struct pdb_text message,
                                  struct pdb_snapshot_list *list_out);
/* GetSnapshotRequest, DeleteSnapshotRequest and DownloadSnapshotRequest are the same on the
 * wire. */
int protobuf_decode_snapshot_name(struct protobuf_decoder *d, struct pdb_text message,
                                  struct pdb_text *name_out);
int protobuf_decode_snapshot_restore(struct protobuf_decoder *d, struct pdb_text message,
                                     struct pdb_snapshot_restore *restore_out);
/* One message of an upload, read in place. */
int protobuf_decode_snapshot_piece(struct protobuf_decoder *d, struct pdb_text message,
                                   struct pdb_text *name_out, struct pdb_text *data_out);

/* Search (one query) and SearchBatch, one query a step. */
struct protobuf_search_decoder {
    struct protobuf_decoder d;
    struct pdb_text collection;
    struct pdb_query *queries;
    uint32_t count, capacity;
    bool batch;
    struct protobuf_reader at;
};
void protobuf_search_open(struct protobuf_search_decoder *s, bool batch, struct arena *arena,
                          const struct api_limits *limits, struct pdb_text message,
                          struct trail *trail);
/* 1: there is more; 0: the whole message is decoded; negative: an error. */
int protobuf_search_step(struct protobuf_search_decoder *s);

/* WriteRequest and UpdateRequest may be as large as the body limit: one record, or one field of the
 * columnar form, a step. */
enum protobuf_write_form { PROTOBUF_NO_RECORDS, PROTOBUF_RECORDS, PROTOBUF_PACKED, PROTOBUF_AVRO };

struct protobuf_text_list {
    struct pdb_text *texts;
    uint32_t count, capacity;
};

struct protobuf_write_decoder {
    struct protobuf_decoder d;
    bool update; /* UpdateRequest */
    struct pdb_text collection, request_id;
    struct pdb_record *records;
    uint32_t count, capacity;
    /* After the last step: nothing in the batch says how many vectors there are. Look up the field
     * `packed.field` of the collection, set packed.vector_bytes and call protobuf_write_finish. */
    bool needs_dimension;
    struct packed_batch packed;
    /* where it stands */
    enum protobuf_write_form form;
    struct protobuf_reader at, packed_at;
    bool in_packed, in_avro;
    struct protobuf_text_list ids, metadata;
    struct avro_records_decoder avro;
};
void protobuf_write_open(struct protobuf_write_decoder *w, bool update, struct arena *arena,
                         const struct api_limits *limits, struct pdb_text message,
                         struct trail *trail);
/* 1: there is more; 0: the whole message is decoded; negative: an error. */
int protobuf_write_step(struct protobuf_write_decoder *w);
int protobuf_write_finish(struct protobuf_write_decoder *w);

/* ---- shared by the files of this codec ---- */

/* NULL: no memory, told. */
struct doc_builder *protobuf_docs(struct protobuf_decoder *d);
int protobuf_no_memory(struct protobuf_decoder *d);
/* The value of a field of ElementType. */
int protobuf_read_element(struct protobuf_decoder *d, struct protobuf_place place,
                          const struct protobuf_field *f, enum pdb_element_type *element_out);
/* Text of a message that was not checked as a whole. */
int protobuf_read_text(struct protobuf_decoder *d, struct protobuf_place place, const char *member,
                       struct pdb_text bytes, struct pdb_text *text_out);
/* Appends; 0 or PDB_RESOURCE_EXHAUSTED. */
int protobuf_text_add(struct protobuf_decoder *d, struct protobuf_text_list *list,
                      struct pdb_text text);

#endif
