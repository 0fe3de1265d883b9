/* segment_index.c: the id index: from an id to its first row.
 *
 * Buckets of one cache line hold up to ten rows, each with 16 bits of the id's hash, filled to
 * eight on average: 8 bytes an id. The line that the hash names nearly always answers: of the ids
 * 2 or 3 in 100 did not fit and stand in a line behind it, and a wrong tag makes one in several
 * thousand look-ups read another id. The hash is keyed by a random seed in the file, so that nobody
 * can choose ids that fill one place.
 *
 * Rejected: a sorted array alone (twenty misses for a million rows), and a table of hashes with a
 * directory (5.5 bytes an id, but three misses). */
#include "segment/segment_index_internal.h"

#include "base/no_libc_heap.h"

struct hash_key segment_hash_key(uint64_t seed)
{
    return (struct hash_key){hash_u64(seed ^ 0x736567), hash_u64(seed ^ 0x69647800)};
}

uint32_t segment_hash_place(uint64_t hash, uint32_t bucket_count, uint16_t *tag_out)
{
    *tag_out = (uint16_t)hash;
    return (uint32_t)((hash >> 32) * bucket_count >> 32);
}

bool segment_index_find(const struct segment *s, struct pdb_text id, uint32_t *row_out)
{
    uint16_t tag = 0;
    uint64_t hash = hash_bytes(&s->hash_key, id.ptr, id.len);
    uint32_t at = segment_hash_place(hash, s->bucket_count, &tag);
    for (uint32_t probed = 0; probed < s->bucket_count; probed++) {
        const struct segment_bucket *bucket = &s->buckets[at];
        uint32_t count =
            bucket->count < SEGMENT_BUCKET_SLOTS ? bucket->count : SEGMENT_BUCKET_SLOTS;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t row = bucket->rows[i];
            if (bucket->tags[i] == tag && row < s->row_count &&
                text_equal(segment_id(s, row), id)) {
                *row_out = row;
                return true;
            }
        }
        if (bucket->overflowed == 0)
            return false;
        at = at + 1 < s->bucket_count ? at + 1 : 0;
    }
    return false;
}
