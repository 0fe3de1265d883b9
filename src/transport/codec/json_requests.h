/* REST bodies to the engine's requests. Everything decoded lives in the arena or points into the
 * body.
 *
 * Unknown and duplicate fields are refused; every error names the byte offset in the body. 0,
 * PDB_INVALID_ARGUMENT or PDB_RESOURCE_EXHAUSTED, told in the trail. */
#ifndef TRANSPORT_CODEC_JSON_REQUESTS_H
#define TRANSPORT_CODEC_JSON_REQUESTS_H

#include "api/api.h"
#include "base/json.h"
#include "transport/codec/packed_batch.h"

struct json_decoder {
    struct json_reader reader;
    struct arena *arena;
    struct doc_builder *docs; /* made when first needed */
    const struct api_limits *limits;
    uint32_t floats_hint; /* length of the last vector */
    float *scratch;       /* PDB_DIMENSION_MAX + 1 floats, made when first needed */
};

void json_decoder_open(struct json_decoder *d, struct arena *arena, const struct api_limits *limits,
                       struct pdb_text body, struct trail *trail);

int json_decode_collection(struct json_decoder *d, struct pdb_collection_config *config_out);
int json_decode_collection_update(struct json_decoder *d, struct pdb_collection_update *update_out);
int json_decode_get(struct json_decoder *d, struct pdb_get *get_out);
int json_decode_delete(struct json_decoder *d, struct pdb_delete *delete_out);
int json_decode_scroll(struct json_decoder *d, struct pdb_scroll *scroll_out);
int json_decode_count(struct json_decoder *d, struct pdb_count *count_out);
int json_decode_snapshot(struct json_decoder *d, struct pdb_snapshot_create *create_out);
int json_decode_restore(struct json_decoder *d, struct pdb_snapshot_restore *restore_out);
int json_decode_search(struct json_decoder *d, struct pdb_query *query_out);

/* {"searches":[..]}, one query a step. */
struct json_search_batch_decoder {
    struct json_decoder d;
    struct pdb_query *queries; /* in the arena */
    uint32_t count, capacity;
    /* where it stands */
    bool entered, in_queries, first_key, first_query;
    uint32_t seen;
};
void json_search_batch_open(struct json_search_batch_decoder *b, struct arena *arena,
                            const struct api_limits *limits, struct pdb_text body,
                            struct trail *trail);
/* 1: there is more; 0: the whole body is decoded; negative: an error. */
int json_search_batch_step(struct json_search_batch_decoder *b);

/* A write's body may be 64 MiB: it is decoded in steps, one record at a time. */
struct json_write_decoder {
    struct json_decoder d;
    enum pdb_write_kind kind;
    struct pdb_record *records;
    uint32_t count, capacity;
    struct pdb_text request_id;
    /* where it stands */
    bool entered, in_records, first_key, first_record;
    uint32_t seen;
    struct {
        bool decoding; /* its base64, in pieces */
        struct packed_batch batch;
        struct pdb_text text;
        size_t text_at;
    } packed;
};
void json_write_decoder_open(struct json_write_decoder *w, enum pdb_write_kind kind,
                             struct arena *arena, const struct api_limits *limits,
                             struct pdb_text body, struct trail *trail);
/* Decodes one record or field. 1: there is more; 0: the whole body is decoded; negative: an
 * error. */
int json_write_decoder_step(struct json_write_decoder *w);

#endif
