/* Whatever arrives as an Avro batch. A decoded record must hold together, and no input may make the
 * decoder take more memory than a few times its size. */
#include "base/assert.h"
#include "base/utf8.h"
#include "transport/codec/avro_records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct trail trail = {0};
    struct avro_records_decoder d;
    volatile uint8_t sum = 0;
    int rc = 0;
    arena_init(&arena, 0);
    avro_records_open(&d, &arena, &api_limits_default, (struct pdb_text){(const char *)data, size},
                      "vectors", &trail);
    while ((rc = avro_records_step(&d)) > 0)
        continue;
    ASSERT(rc == 0 || trail.len != 0);
    for (uint32_t i = 0; i < d.count; i++) {
        const struct pdb_record *r = &d.records[i];
        ASSERT(utf8_invalid_at(r->id.ptr, r->id.len) == r->id.len);
        ASSERT(!r->has_metadata || doc_validate(r->metadata.ptr, r->metadata.len) == 0);
        for (uint32_t v = 0; v < r->vector_count; v++)
            for (uint32_t at = 0; at < r->vectors[v].count; at++)
                sum = (uint8_t)(sum + ((const uint8_t *)r->vectors[v].values)[at]);
    }
    ASSERT(arena.bytes_used <= (1u << 20) + 256 * size);
    arena_dispose(&arena);
    return 0;
}
