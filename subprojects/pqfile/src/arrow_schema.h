/* arrow_schema.h: the writer's way to arrow.h: into a buffer, of fields already checked. */
#ifndef PQFILE_ARROW_SCHEMA_H
#define PQFILE_ARROW_SCHEMA_H

#include "buffer.h"
#include "pqfile/writer.h"

/* Fills `base64`, without a NUL, with what pqfile_arrow_schema() gives. pq_schema_build() must have
 * accepted the fields. 0 or PQFILE_NO_MEMORY. */
int pq_arrow_schema_encode(const struct pqfile_field *fields, size_t field_count,
                           const struct pqfile_allocator *allocator, struct pq_buffer *base64,
                           struct pqfile_error *error);

#endif
