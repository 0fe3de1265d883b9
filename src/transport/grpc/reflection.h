/* The descriptors behind server reflection: files, symbols and services of an embedded
 * FileDescriptorSet, found without unpacking it. Pure. */
#ifndef TRANSPORT_GRPC_REFLECTION_H
#define TRANSPORT_GRPC_REFLECTION_H

#include "transport/codec/protobuf_wire.h"

enum { REFLECTION_FILES_MAX = 64 };

struct reflection_set {
    struct pdb_text files[REFLECTION_FILES_MAX]; /* each a FileDescriptorProto */
    size_t count;
};

/* Of the embedded descriptors, or of others in tests. */
void reflection_open(struct reflection_set *set, struct pdb_text descriptor_set);

/* Their index in `files`, or -1. A symbol: a message, enum, service or method, a field, oneof or
 * enum value, by its full name. */
int reflection_find_file(const struct reflection_set *set, struct pdb_text name);
int reflection_find_symbol(const struct reflection_set *set, struct pdb_text symbol);

/* Answers one ServerReflectionRequest (v1 and v1alpha are the same on the wire): 0 and the packed
 * response, or an error told in the trail. */
int reflection_answer(const struct reflection_set *set, struct pdb_text request,
                      struct arena *arena, struct trail *trail, struct pdb_text *response_out);

#endif
