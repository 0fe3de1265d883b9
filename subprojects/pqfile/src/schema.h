/* schema.h: from declared fields to the nodes of a footer, checked. */
#ifndef PQFILE_SCHEMA_H
#define PQFILE_SCHEMA_H

#include "memory.h"
#include "pqfile/writer.h"

/* Builds nodes and columns of `metadata_out` from fields, in memory of the arena; nothing else of
 * it is touched. Field i becomes node i + 1. PQFILE_INVALID names the field that makes no sense. */
int pq_schema_build(const struct pqfile_field *fields, size_t field_count, struct pq_arena *arena,
                    struct pqfile_metadata *metadata_out, struct pqfile_error *error);

#endif
