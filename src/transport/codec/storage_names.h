/* The names of a collection's storage settings, the same for JSON and protobuf. */
#ifndef TRANSPORT_CODEC_STORAGE_NAMES_H
#define TRANSPORT_CODEC_STORAGE_NAMES_H

#include <proximadb/types.h>

/* Static, in lower case. */
const char *compression_name(enum pdb_compression compression);
const char *vector_storage_name(enum pdb_vector_storage storage);

/* What `name` means; false if it is none of these. */
bool compression_of(struct pdb_text name, enum pdb_compression *compression_out);
bool vector_storage_of(struct pdb_text name, enum pdb_vector_storage *storage_out);

#define COMPRESSION_NAMES    "none, snappy, lz4, zstd"
#define VECTOR_STORAGE_NAMES "memory, mmap, disk"

#endif
