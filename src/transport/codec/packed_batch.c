/* packed_batch.c: from columns to records. Nothing is copied: the i-th vector is a slice of the one
 * run of bytes. */
#include "transport/codec/packed_batch.h"

#include "base/text.h"

#include "base/no_libc_heap.h"

bool packed_batch_needs_dimension(const struct packed_batch *batch)
{
    return batch->id_count == 0 && batch->metadata_count == 0 && batch->vectors.len != 0 &&
           batch->vector_bytes == 0;
}

static int check(const struct packed_batch *b, size_t count, const struct api_limits *limits,
                 struct trail *trail)
{
    if (count > limits->batch_records)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "packed: %zu records are more than limits.batch_records (%u)", count,
                         limits->batch_records);
    if (b->metadata_count != 0 && b->metadata_count != count)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "packed.metadata: %zu documents for %zu ids: give none or one each",
                         b->metadata_count, count);
    if (b->vectors.len == 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "packed.vectors: must not be empty");
    if (b->vectors.len % count != 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "packed.vectors: %zu bytes do not divide into %zu vectors of one size",
                         b->vectors.len, count);
    if (b->vector_bytes != 0 && b->vectors.len / count != b->vector_bytes)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "packed.vectors: %zu bytes are not %zu vectors of %zu bytes, which the "
                         "field '%.*s' has",
                         b->vectors.len, count, b->vector_bytes,
                         b->field.len < 64 ? (int)b->field.len : 64,
                         b->field.len != 0 ? b->field.ptr : "");
    if (b->vectors.len / count > PDB_DIMENSION_MAX * sizeof(float))
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "packed.vectors: %zu bytes for each vector: at most %zu",
                         b->vectors.len / count, PDB_DIMENSION_MAX * sizeof(float));
    return 0;
}

int packed_batch_records(const struct packed_batch *batch, struct arena *arena,
                         const struct api_limits *limits, struct pdb_record **records_out,
                         uint32_t *count_out, struct trail *trail)
{
    size_t count = batch->id_count != 0         ? batch->id_count
                   : batch->metadata_count != 0 ? batch->metadata_count
                   : batch->vector_bytes != 0   ? batch->vectors.len / batch->vector_bytes
                                                : 0;
    if (count == 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         batch->vectors.len == 0
                             ? "packed: must not be empty"
                             : "packed.vectors: not even one whole vector, or how many is unknown: "
                               "give ids");
    int rc = check(batch, count, limits, trail);
    if (rc < 0)
        return rc;
    struct pdb_record *records = arena_calloc(arena, count, sizeof(*records));
    struct pdb_vector *vectors = arena_array(arena, struct pdb_vector, count);
    if (records == NULL || vectors == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "packed: no memory for the records");
    size_t bytes = batch->vectors.len / count;
    for (size_t i = 0; i < count; i++) {
        vectors[i] = (struct pdb_vector){.field = batch->field,
                                         .values = batch->vectors.ptr + i * bytes,
                                         .count = (uint32_t)bytes,
                                         .form = PDB_VECTOR_BYTES,
                                         .element = batch->element};
        records[i].vectors = &vectors[i];
        records[i].vector_count = 1;
        if (batch->id_count != 0)
            records[i].id = batch->ids[i];
        if (batch->metadata_count != 0) {
            records[i].metadata = batch->metadata[i];
            records[i].has_metadata = true;
        }
    }
    *records_out = records;
    *count_out = (uint32_t)count;
    return 0;
}
