/* A batch as Avro binary (proto/avro/vector_record.avsc): an array of records in blocks, without a
 * container file header. It is the body of a REST upsert or insert with content type
 * application/avro, and `avro_records` of a gRPC WriteRequest. */
#ifndef TRANSPORT_CODEC_AVRO_RECORDS_H
#define TRANSPORT_CODEC_AVRO_RECORDS_H

#include "api/api.h"
#include "base/bytes.h"
#include "base/doc.h"
#include "base/trail.h"

struct avro_records_decoder {
    struct pdb_record *records; /* in the arena; ids and vectors point into the body */
    uint32_t count, capacity;
    /* where it stands */
    const struct api_limits *limits;
    struct arena *arena;
    struct doc_builder *docs; /* made when first needed */
    const char *name;         /* of the batch in error texts: "avro_records[3].id: ..." */
    struct trail *trail;
    struct bytes_reader at;
    uint64_t block_left;      /* items of the block that are still to come */
    const uint8_t *block_end; /* of a block that told its size; else NULL */
    const uint8_t *body;
};

/* Nothing is read yet. Body, limits, name and trail must stay until the last step. */
void avro_records_open(struct avro_records_decoder *d, struct arena *arena,
                       const struct api_limits *limits, struct pdb_text body, const char *name,
                       struct trail *trail);

/* Decodes one record or the head of a block. 1: there is more; 0: the whole body is decoded,
 * records and count are the batch; PDB_INVALID_ARGUMENT, PDB_RESOURCE_EXHAUSTED with the trail
 * told. */
int avro_records_step(struct avro_records_decoder *d);

#endif
