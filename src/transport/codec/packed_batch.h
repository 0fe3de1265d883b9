/* The columnar form of a batch, from any door: ids beside one run of packed vectors of equal
 * size. */
#ifndef TRANSPORT_CODEC_PACKED_BATCH_H
#define TRANSPORT_CODEC_PACKED_BATCH_H

#include "api/api.h"
#include "base/arena.h"
#include "base/trail.h"

/* Everything points into the request. How many records there are follows from the ids, else from
 * the metadata, else from vector_bytes. */
struct packed_batch {
    const struct pdb_text *ids; /* NULL: the server makes them */
    size_t id_count;
    /* A vector: dimension values of type `element`, little-endian, or packed bits. */
    struct pdb_text vectors, field;
    enum pdb_element_type element;
    const struct pdb_text *metadata; /* documents; NULL or one per vector */
    size_t metadata_count;
    size_t
        vector_bytes; /* of one vector, where the caller knows the field's dimension; 0: unknown */
};

/* True if the batch says nothing of how many records it has: the caller must look up the field and
 * set vector_bytes. */
bool packed_batch_needs_dimension(const struct packed_batch *batch);

/* Records in the arena that point into the batch, with vectors of form PDB_VECTOR_BYTES (the engine
 * knows metric and dimension). 0, PDB_INVALID_ARGUMENT ("packed.vectors: ..."),
 * PDB_RESOURCE_EXHAUSTED. */
int packed_batch_records(const struct packed_batch *batch, struct arena *arena,
                         const struct api_limits *limits, struct pdb_record **records_out,
                         uint32_t *count_out, struct trail *trail);

#endif
