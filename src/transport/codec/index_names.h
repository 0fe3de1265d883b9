/* The names of kinds of indexes and codes, and of an index's states. */
#ifndef TRANSPORT_CODEC_INDEX_NAMES_H
#define TRANSPORT_CODEC_INDEX_NAMES_H

#include <proximadb/collection.h>

/* Static, in lower case. */
const char *index_type_name(enum pdb_index_type type);
const char *quantization_type_name(enum pdb_quantization_type type);
const char *index_state_name(enum pdb_index_state state);

/* What `name` means; false if it is none of these. */
bool index_type_of(struct pdb_text name, enum pdb_index_type *type_out);
bool quantization_type_of(struct pdb_text name, enum pdb_quantization_type *type_out);

#define INDEX_TYPE_NAMES        "auto, flat, hnsw, ivf"
#define QUANTIZATION_TYPE_NAMES "auto, none, sq8, sq4, pq, binary"

#endif
