/* Whatever arrives as a message of gRPC: every request's decoder, told by the first byte. What is
 * decoded must hold together: ids and metadata valid, vectors readable. */
#include "base/assert.h"
#include "base/utf8.h"
#include "transport/codec/protobuf_requests.h"
#include "transport/grpc/reflection.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern const unsigned char proto_descriptor_set[];
extern const size_t proto_descriptor_set_len;

static void touch(const struct pdb_record *r)
{
    volatile uint8_t sum = 0;
    ASSERT(utf8_invalid_at(r->id.ptr, r->id.len) == r->id.len);
    ASSERT(!r->has_metadata || doc_validate(r->metadata.ptr, r->metadata.len) == 0);
    for (uint32_t i = 0; i < r->vector_count; i++) {
        size_t bytes = r->vectors[i].count * (r->vectors[i].form == PDB_VECTOR_F32 ? 4u : 1u);
        for (size_t at = 0; at < bytes; at++)
            sum = (uint8_t)(sum + ((const uint8_t *)r->vectors[i].values)[at]);
    }
}

static void decode_write(struct protobuf_decoder *d, bool update, struct pdb_text message)
{
    struct protobuf_write_decoder w;
    int rc = 0;
    protobuf_write_open(&w, update, d->arena, d->limits, message, d->trail);
    while ((rc = protobuf_write_step(&w)) > 0)
        continue;
    if (rc == 0 && w.needs_dimension) {
        w.packed.vector_bytes = 4;
        rc = protobuf_write_finish(&w);
    }
    for (uint32_t i = 0; rc == 0 && i < w.count; i++)
        touch(&w.records[i]);
    ASSERT(rc == 0 || d->trail->len != 0);
}

static void decode_search(struct protobuf_decoder *d, bool batch, struct pdb_text message)
{
    struct protobuf_search_decoder s;
    int rc = 0;
    protobuf_search_open(&s, batch, d->arena, d->limits, message, d->trail);
    while ((rc = protobuf_search_step(&s)) > 0)
        continue;
    ASSERT(rc == 0 || d->trail->len != 0);
    for (uint32_t i = 0; rc == 0 && i < s.count; i++)
        ASSERT(s.queries[i].filter.len == 0 ||
               doc_validate(s.queries[i].filter.ptr, s.queries[i].filter.len) == 0);
}

static void decode_small(struct protobuf_decoder *d, unsigned which, struct pdb_text message)
{
    struct pdb_collection_config config = {0};
    struct pdb_collection_update update = {0};
    struct pdb_get get = {0};
    struct pdb_delete delete = {0};
    struct pdb_scroll scroll = {0};
    struct reflection_set set;
    struct pdb_text answer;
    switch (which) {
    case 0:
        (void)protobuf_decode_collection(d, message, &config);
        break;
    case 1:
        (void)protobuf_decode_collection_update(d, message, &update);
        break;
    case 2:
        (void)protobuf_decode_get(d, message, &get);
        break;
    case 3:
        (void)protobuf_decode_delete(d, message, &delete);
        break;
    case 4:
        (void)protobuf_decode_scroll(d, message, &scroll);
        break;
    default:
        reflection_open(
            &set, (struct pdb_text){(const char *)proto_descriptor_set, proto_descriptor_set_len});
        (void)reflection_answer(&set, message, d->arena, d->trail, &answer);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct arena arena;
    struct trail trail = {0};
    arena_init(&arena, 64 << 20);
    struct protobuf_decoder d = {.arena = &arena, .limits = &api_limits_default, .trail = &trail};
    struct pdb_text message = {(const char *)data + 1, size - 1};
    unsigned which = data[0] % 10;
    if (which < 2)
        decode_write(&d, which == 1, message);
    else if (which < 4)
        decode_search(&d, which == 3, message);
    else
        decode_small(&d, which - 4, message);
    arena_dispose(&arena);
    return 0;
}
