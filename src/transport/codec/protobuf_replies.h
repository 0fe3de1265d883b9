/* The engine's results as gRPC replies (proto/proximadb/v1), packed bytes in the arena.
 *
 * Replies with many rows are written in steps: call until it is not 1; 0: complete, finish the
 * writer. Memory that ran out shows when the writer is finished. */
#ifndef TRANSPORT_CODEC_PROTOBUF_REPLIES_H
#define TRANSPORT_CODEC_PROTOBUF_REPLIES_H

#include "api/api.h"
#include "transport/codec/protobuf_docs.h"

struct protobuf_reply {
    struct protobuf_writer writer;
    uint32_t next, inner; /* the row, or the list of hits and the hit in it, that comes next */
};

void protobuf_reply_open(struct protobuf_reply *r, struct arena *arena);

void protobuf_encode_collection(struct protobuf_reply *r, const struct pdb_collection_info *info);
void protobuf_encode_deleted(struct protobuf_reply *r, uint64_t count); /* DeleteResponse */
void protobuf_encode_flag(struct protobuf_reply *r, bool flag); /* DeleteCollectionResponse */
void protobuf_encode_count(struct protobuf_reply *r, uint64_t count);
void protobuf_encode_recall(struct protobuf_reply *r, const struct pdb_recall *recall);
void protobuf_encode_text(struct protobuf_reply *r, struct pdb_text text); /* GetInfo, GetMetrics */
void protobuf_encode_bulk(struct protobuf_reply *r, uint64_t records, uint64_t batches,
                          uint64_t took_us);

void protobuf_encode_snapshot(struct protobuf_reply *r, const struct pdb_snapshot_info *info);
int protobuf_encode_snapshots_step(struct protobuf_reply *r, const struct pdb_snapshot_list *list);
int protobuf_encode_collections_step(struct protobuf_reply *r,
                                     const struct pdb_collection_list *list);
int protobuf_encode_write_step(struct protobuf_reply *r, const struct pdb_write *write);
int protobuf_encode_get_step(struct protobuf_reply *r, const struct pdb_get *get);
int protobuf_encode_scroll_step(struct protobuf_reply *r, const struct pdb_scroll *scroll);
/* `batch`: a SearchBatchResponse, else a SearchResponse. */
int protobuf_encode_search_step(struct protobuf_reply *r, const struct pdb_search *search,
                                bool batch);

#endif
