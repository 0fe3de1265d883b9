/* The engine's results as REST bodies, JSON in a buffer. */
#ifndef TRANSPORT_CODEC_JSON_RESPONSES_H
#define TRANSPORT_CODEC_JSON_RESPONSES_H

#include "api/api.h"
#include "base/buffer.h"

void json_encode_error(struct buffer *out, const struct pdb_error *error);
void json_encode_collection(struct buffer *out, const struct pdb_collection_info *info);
/* Its settings alone, as the object that a create takes. */
void json_encode_collection_config(struct buffer *out, const struct pdb_collection_config *config);
void json_encode_recall(struct buffer *out, const struct pdb_recall *recall);
void json_encode_collections(struct buffer *out, const struct pdb_collection_list *list);
void json_encode_snapshot(struct buffer *out, const struct pdb_snapshot_info *info);
void json_encode_snapshots(struct buffer *out, const struct pdb_snapshot_list *list);
/* `verb`: "upserted", "inserted", "updated". */
void json_encode_write(struct buffer *out, const struct pdb_write *w, const char *verb);
/* One record, as GET .../vectors/{id} answers it. */
void json_encode_row(struct buffer *out, const struct pdb_row *row, const struct pdb_field *fields,
                     uint32_t field_count, unsigned include);

/* Results of many rows are encoded one row a step: a page of vectors takes longer than a reactor
 * may be held. Exactly one of the pointers is set. */
struct json_rows_encoder {
    struct buffer *out;
    const struct pdb_get *get;
    const struct pdb_scroll *scroll;
    const struct pdb_search *search;
    bool batch; /* a search of many queries, answered as a list of results */
    /* where it stands */
    bool opened, row_seen;
    uint32_t query, row;
};
/* True when all is encoded (or the buffer failed). */
bool json_encode_rows_step(struct json_rows_encoder *e);

#endif
