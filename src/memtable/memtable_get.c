/* memtable_get.c: the newest row of an id at a version: one look-up, then back along the id's
 * chain. */
#include "memtable/memtable_internal.h"

#include "base/no_libc_heap.h"

void memtable_row_out(const struct memtable *m, struct memtable_row *row, struct pdb_row *row_out,
                      const void **vectors)
{
    const struct memtable_chunk *chunk = memtable_chunk_of(m, row);
    for (uint32_t f = 0; vectors != NULL && f < m->field_count; f++) {
        vectors[f] = row->present >> f & 1
                         ? chunk->columns[f].vectors + (size_t)row->index * m->fields[f].bytes
                         : NULL;
    }
    *row_out = (struct pdb_row){.id = memtable_id(row),
                                .vectors = vectors,
                                .metadata = memtable_metadata(row),
                                .version = row->version,
                                .created_at_us = row->created_at_us,
                                .updated_at_us = row->updated_at_us,
                                .expires_at_us = row->expires_at_us};
}

bool memtable_get(struct memtable *m, struct pdb_text id, uint64_t at_version,
                  struct pdb_row *row_out, uint64_t *version_out)
{
    struct memtable_row *row = memtable_find(m, id);
    if (at_version == MEMTABLE_NEVER) /* "the newest" must be below the end of what did not end */
        at_version--;
    while (row != NULL && row->version > at_version)
        row = row->older;
    bool alive = row != NULL && memtable_ended(row) > at_version;
    if (version_out != NULL)
        *version_out = alive ? row->version : row != NULL ? memtable_ended(row) : 0;
    if (alive && row_out != NULL)
        memtable_row_out(m, row, row_out, m->vectors_out);
    return alive;
}

struct newest_visit {
    struct memtable *memtable;
    void (*visit)(void *arg, const struct pdb_row *row);
    void *arg;
};

static void visit_newest(void *arg, uint64_t value)
{
    const struct newest_visit *v = arg;
    struct memtable_row *row = memtable_row_of(value);
    struct pdb_row out = {.id = memtable_id(row),
                          .version = memtable_ended(row),
                          .deleted = memtable_ended(row) != MEMTABLE_NEVER};
    if (!out.deleted)
        memtable_row_out(v->memtable, row, &out, v->memtable->vectors_out);
    v->visit(v->arg, &out);
}

void memtable_each_newest(struct memtable *m, void (*visit)(void *arg, const struct pdb_row *row),
                          void *arg)
{
    struct newest_visit v = {m, visit, arg};
    map_each(&m->ids, visit_newest, &v);
}
