/* What gRPC's requests and answers say of indexes: inside the codec only. */
#ifndef TRANSPORT_CODEC_PROTOBUF_INDEXES_H
#define TRANSPORT_CODEC_PROTOBUF_INDEXES_H

#include "transport/codec/protobuf_requests.h"

struct Proximadb__V1__IndexParams; /* generated */
struct Proximadb__V1__QuantizationParams;

/* One half of a change, whole: a number of the wire's enum, and parameters or NULL; neither
 * specified: it is not given. */
void protobuf_take_index(int type, const struct Proximadb__V1__IndexParams *params,
                         struct pdb_field_change *change_out);
void protobuf_take_quantization(int type, const struct Proximadb__V1__QuantizationParams *params,
                                struct pdb_field_change *change_out);
/* A field that is indexed so; `metric` is the wire's. */
struct pdb_field protobuf_vector_field(const char *name, uint32_t dimension, int metric,
                                       const struct pdb_field_change *how);

/* A checked SearchParams. What is given may not be 0: that tells the engine of what is not. */
int protobuf_read_params(struct protobuf_decoder *d, struct pdb_text message,
                         struct protobuf_place place, struct pdb_query *q);

/* The members of a VectorField that say how it is indexed. */
void protobuf_put_index(struct protobuf_writer *w, const struct pdb_field *field);
void protobuf_put_index_state(struct protobuf_writer *w, uint32_t number, struct pdb_text field,
                              const struct pdb_index_info *info);

#endif
