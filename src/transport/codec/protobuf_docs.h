/* Metadata and filters: messages to documents (base/doc.h) and back. */
#ifndef TRANSPORT_CODEC_PROTOBUF_DOCS_H
#define TRANSPORT_CODEC_PROTOBUF_DOCS_H

#include "transport/codec/protobuf_wire.h"

/* Both take a message that passed protobuf_check and leave the builder ready for use whatever
 * happens. 0, PDB_INVALID_ARGUMENT or PDB_RESOURCE_EXHAUSTED, told in the trail under
 * `place`.`member`. */

/* A MapValue. */
int protobuf_read_map(struct pdb_text message, struct doc_builder *docs,
                      struct protobuf_place place, const char *member, struct trail *trail,
                      struct pdb_text *doc_out);
/* A Filter to the document that the JSON door would have made of it, so that one compiler serves
 * both: {"$and":[{"price":{"$lt":20}}, ..]}. A filter without a node is refused, because an old
 * server would take a node that it does not know for "everything". */
int protobuf_read_filter(struct pdb_text message, struct doc_builder *docs,
                         struct protobuf_place place, const char *member, struct trail *trail,
                         struct pdb_text *doc_out);

/* An object's members as the fields of a MapValue, which the caller has begun. */
void protobuf_put_map(struct protobuf_writer *w, const struct doc_value *object);

#endif
