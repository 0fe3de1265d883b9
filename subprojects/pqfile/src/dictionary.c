/* dictionary.c: see dictionary.h. Open addressing with linear steps, at most half full; a table of
 * numbers is small enough to be rebuilt from the hashes when it grows. The caller ends dictionaries
 * that grow past a megabyte or so, so numbers of 32 bits are plenty. */
#include "dictionary.h"

#include <assert.h>
#include <string.h>

#include "bloom.h"

enum { SLOTS_MIN = 256, LENGTH_BYTES = 4 };

void pq_dictionary_init(struct pq_dictionary *d, const struct pqfile_allocator *allocator,
                        enum pqfile_type type, uint32_t type_length)
{
    *d = (struct pq_dictionary){.allocator = allocator};
    if (type != PQFILE_BYTE_ARRAY)
        d->width = (uint32_t)pqfile_value_size(type, type_length);
    pq_buffer_init(&d->plain, allocator);
}

void pq_dictionary_dispose(struct pq_dictionary *d)
{
    pq_release(d->allocator, d->slots);
    pq_release(d->allocator, d->hashes);
    pq_release(d->allocator, d->starts);
    pq_buffer_dispose(&d->plain);
    d->slots = NULL;
    d->hashes = d->starts = NULL;
}

void pq_dictionary_clear(struct pq_dictionary *d)
{
    if (d->slots != NULL)
        memset(d->slots, 0, d->slot_count * sizeof *d->slots);
    d->count = 0;
    pq_buffer_clear(&d->plain);
}

static int grow_slots(struct pq_dictionary *d)
{
    size_t slot_count = d->slot_count == 0 ? SLOTS_MIN : d->slot_count * 2;
    uint32_t *slots = pq_allocate_zeroed(d->allocator, slot_count, sizeof *slots);
    if (slots == NULL)
        return PQFILE_NO_MEMORY;
    for (uint32_t i = 0; i < d->count; i++) {
        size_t at = d->hashes[i] & (slot_count - 1);
        while (slots[at] != 0)
            at = (at + 1) & (slot_count - 1);
        slots[at] = i + 1;
    }
    pq_release(d->allocator, d->slots);
    d->slots = slots;
    d->slot_count = slot_count;
    return 0;
}

static bool is_entry(const struct pq_dictionary *d, uint32_t entry, uint64_t hash,
                     struct pqfile_bytes value)
{
    if (d->hashes[entry] != hash)
        return false;
    const uint8_t *bytes = d->plain.data + d->starts[entry];
    if (d->width == 0) {
        uint32_t len;
        memcpy(&len, bytes - LENGTH_BYTES, sizeof len);
        if (len != value.len)
            return false;
    }
    return value.len == 0 || memcmp(bytes, value.data, value.len) == 0;
}

static int append(struct pq_dictionary *d, uint64_t hash, struct pqfile_bytes value)
{
    size_t need = (size_t)d->count + 1;
    if (d->count == UINT32_MAX - 1 ||
        pq_grow(d->allocator, &d->hashes, &d->hash_capacity, need, sizeof *d->hashes) < 0 ||
        pq_grow(d->allocator, &d->starts, &d->start_capacity, need, sizeof *d->starts) < 0)
        return PQFILE_NO_MEMORY;
    if (d->width == 0)
        pq_buffer_add_u32(&d->plain, (uint32_t)value.len);
    d->hashes[d->count] = hash;
    d->starts[d->count] = d->plain.len;
    pq_buffer_add(&d->plain, value.data, value.len);
    if (d->plain.failed)
        return PQFILE_NO_MEMORY;
    d->count++;
    return 0;
}

static int add_one(struct pq_dictionary *d, struct pqfile_bytes value, uint32_t *index_out)
{
    if ((size_t)d->count * 2 >= d->slot_count && grow_slots(d) < 0)
        return PQFILE_NO_MEMORY;
    uint64_t hash = pq_bloom_hash(value.data, value.len);
    size_t at = hash & (d->slot_count - 1);
    for (; d->slots[at] != 0; at = (at + 1) & (d->slot_count - 1)) {
        if (is_entry(d, d->slots[at] - 1, hash, value)) {
            *index_out = d->slots[at] - 1;
            return 0;
        }
    }
    int rc = append(d, hash, value);
    if (rc < 0)
        return rc;
    d->slots[at] = d->count;
    *index_out = d->count - 1;
    return 0;
}

int pq_dictionary_add(struct pq_dictionary *d, const void *values, size_t count,
                      uint32_t *indices_out)
{
    const struct pqfile_bytes *texts = d->width == 0 ? values : NULL;
    const uint8_t *fixed = values;
    for (size_t i = 0; i < count; i++) {
        struct pqfile_bytes value =
            texts != NULL ? texts[i] : (struct pqfile_bytes){fixed + i * d->width, d->width};
        int rc = add_one(d, value, &indices_out[i]);
        if (rc < 0)
            return rc;
    }
    return 0;
}
