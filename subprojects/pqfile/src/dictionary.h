/* dictionary.h: distinct values of a column while it is written, numbered in order of appearance.
 * Their bytes stand as the dictionary page stores them; a hash table of numbers finds them. */
#ifndef PQFILE_DICTIONARY_H
#define PQFILE_DICTIONARY_H

#include "buffer.h"
#include "memory.h"
#include "pqfile/types.h"

struct pq_dictionary {
    const struct pqfile_allocator *allocator;
    uint32_t width;    /* of a value; 0: BYTE_ARRAY */
    uint32_t count;    /* entries */
    uint32_t *slots;   /* number + 1 of an entry; 0: free */
    size_t slot_count; /* 0 or a power of two, at least twice `count` */
    uint64_t *hashes;  /* of entries: pq_bloom_hash() */
    size_t hash_capacity;
    uint64_t *starts; /* of entries in `plain`, BYTE_ARRAY's after their length */
    size_t start_capacity;
    struct pq_buffer plain; /* entries in PLAIN */
};

void pq_dictionary_init(struct pq_dictionary *d, const struct pqfile_allocator *allocator,
                        enum pqfile_type type, uint32_t type_length);
void pq_dictionary_dispose(struct pq_dictionary *d);

/* Forgets the entries, keeps the memory. */
void pq_dictionary_clear(struct pq_dictionary *d);

/* Numbers `count` values as in struct pqfile_batch into indices_out. 0, or PQFILE_NO_MEMORY: then
 * some may have been added. */
int pq_dictionary_add(struct pq_dictionary *d, const void *values, size_t count,
                      uint32_t *indices_out);

#endif
