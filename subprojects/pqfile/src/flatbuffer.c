/* flatbuffer.c: see flatbuffer.h. */
#include "flatbuffer.h"

#include <assert.h>
#include <string.h>

enum { OFFSET_BYTES = 4, VTABLE_HEAD = 4, TABLE_ALIGNMENT = 8 };

static void align(struct pq_flat *flat, size_t alignment)
{
    size_t used = (flat->out->len - flat->start) % alignment;
    if (used != 0)
        pq_buffer_add_zeros(flat->out, alignment - used);
}

static void store(struct pq_flat *flat, size_t at, uint64_t value, size_t size)
{
    if (flat->out->failed)
        return;
    assert(at + size <= flat->out->len);
    memcpy(flat->out->data + at, &value, size); /* little-endian, as the host: see encoding.h */
}

void pq_flat_begin(struct pq_flat *flat, struct pq_buffer *out)
{
    flat->out = out;
    flat->start = out->len;
}

size_t pq_flat_place(struct pq_flat *flat)
{
    align(flat, OFFSET_BYTES);
    size_t place = flat->out->len;
    pq_buffer_add_u32(flat->out, 0);
    return place;
}

void pq_flat_point(struct pq_flat *flat, size_t place)
{
    align(flat, OFFSET_BYTES);
    store(flat, place, flat->out->len - place, OFFSET_BYTES);
}

struct pq_flat_table pq_flat_table(struct pq_flat *flat, size_t place, unsigned slot_count)
{
    struct pq_flat_table t;
    size_t vtable_bytes = VTABLE_HEAD + 2 * (size_t)slot_count;
    assert(slot_count <= PQ_FLAT_SLOT_MAX);
    align(flat, TABLE_ALIGNMENT);
    if (vtable_bytes % TABLE_ALIGNMENT != 0) /* the vtable ends where the table begins */
        pq_buffer_add_zeros(flat->out, TABLE_ALIGNMENT - vtable_bytes % TABLE_ALIGNMENT);
    t.vtable = flat->out->len;
    pq_buffer_add_zeros(flat->out, vtable_bytes);
    t.table = flat->out->len;
    store(flat, t.vtable, vtable_bytes, 2);
    store(flat, t.vtable + 2, OFFSET_BYTES, 2);
    pq_flat_point(flat, place);
    pq_buffer_add_u32(flat->out, (uint32_t)vtable_bytes); /* back to the vtable */
    return t;
}

void pq_flat_scalar(struct pq_flat *flat, struct pq_flat_table *t, unsigned slot, uint64_t value,
                    size_t size)
{
    align(flat, size);
    size_t at = flat->out->len;
    pq_buffer_add_zeros(flat->out, size);
    store(flat, at, value, size);
    store(flat, t->vtable + VTABLE_HEAD + 2 * (size_t)slot, at - t->table, 2);
    store(flat, t->vtable + 2, at + size - t->table, 2);
}

size_t pq_flat_offset(struct pq_flat *flat, struct pq_flat_table *t, unsigned slot)
{
    align(flat, OFFSET_BYTES);
    size_t place = flat->out->len;
    pq_flat_scalar(flat, t, slot, 0, OFFSET_BYTES);
    return place;
}

void pq_flat_text(struct pq_flat *flat, size_t place, const char *text)
{
    size_t len = strlen(text);
    pq_flat_point(flat, place);
    pq_buffer_add_u32(flat->out, (uint32_t)len);
    pq_buffer_add(flat->out, text, len + 1);
}

size_t pq_flat_vector(struct pq_flat *flat, size_t place, uint32_t count)
{
    pq_flat_point(flat, place);
    pq_buffer_add_u32(flat->out, count);
    size_t first = flat->out->len;
    pq_buffer_add_zeros(flat->out, (size_t)count * OFFSET_BYTES);
    return first;
}
