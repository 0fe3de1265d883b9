/* memtable_put.c: prepare and commit. A commit is a copy into reserved memory and a few links: it
 * cannot fail, and nothing of it is visible to readers of earlier versions, so it needs no second
 * phase. */
#include "memtable/memtable_internal.h"

#include "base/assert.h"

#include "base/no_libc_heap.h"

enum { EXPECTED_FRACTION = 16 };

bool memtable_row_equal(const void *owner, uint64_t value, const void *key, size_t key_len)
{
    (void)owner;
    const struct memtable_row *row = memtable_row_of(value);
    return row->id_len == key_len && memcmp(row->text, key, key_len) == 0;
}

struct memtable_row *memtable_find(const struct memtable *m, struct pdb_text id)
{
    uint64_t value = 0;
    if (!map_find(&m->ids, memtable_hash(m, id), id.ptr, id.len, &value))
        return NULL;
    return memtable_row_of(value);
}

void memtable_expect(struct memtable *m, const struct memtable *before)
{
    m->expected_ids = before->ids.count;
}

/* Only speed: without memory the map grows as it must. */
static void reserve_expected(struct memtable *m)
{
    if (m->expected_ids == 0 || m->ids.count < m->expected_ids / EXPECTED_FRACTION)
        return;
    if (m->expected_ids > m->ids.count)
        (void)map_reserve(&m->ids, m->expected_ids - m->ids.count);
    m->expected_ids = 0;
}

int memtable_prepare(struct memtable *m, size_t row_count, size_t text_bytes)
{
    ASSERT(!m->sealed || row_count == 0);
    reserve_expected(m);
    int rc = map_reserve(&m->ids, row_count);
    if (rc == 0)
        rc = memtable_reserve(m, row_count, text_bytes);
    if (rc == 0) {
        m->reserved_rows = row_count;
        m->reserved_text = text_bytes;
    }
    memtable_trim(m); /* after a failure: what this call got; else what an abandoned batch left */
    return rc;
}

/* Bytes for one row's text, counted for its chunk. */
static char *take_text(struct memtable *m, struct memtable_chunk *chunk, size_t len)
{
    struct memtable_text *text = m->writing;
    if (text == NULL || text->capacity - text->used < len) {
        struct memtable_text *full = text;
        text = m->spare_text;
        ASSERT(text != NULL && text->capacity >= len);
        m->spare_text = NULL;
        m->writing = text;
        text->refs = 1;
        list_push_back(&m->texts, &text->link);
        if (full != NULL)
            memtable_text_unref(m, full);
    }
    if (chunk->last_text != text) {
        text->refs++;
        chunk->last_text = text;
        if (chunk->first_text == NULL)
            chunk->first_text = text;
    }
    char *bytes = text->bytes + text->used;
    text->used += len;
    return bytes;
}

/* The tail, with room; a spare chunk when the last one is full. */
static struct memtable_chunk *tail_with_room(struct memtable *m)
{
    struct memtable_chunk *tail = memtable_tail(m);
    if (tail != NULL && tail->count < tail->capacity)
        return tail;
    struct memtable_chunk *chunk = m->spares;
    ASSERT(chunk != NULL && m->set->count < m->set->capacity);
    m->spares = chunk->next_spare;
    m->spare_count--;
    if (m->spares == NULL)
        m->spares_last = NULL;
    chunk->next_spare = NULL;
    m->set->chunks[m->set->count++] = chunk; /* its one reference becomes the set's */
    return chunk;
}

static void copy_vectors(const struct memtable *m, struct memtable_chunk *chunk,
                         struct memtable_row *row, const void *const *vectors)
{
    for (uint32_t f = 0; f < m->field_count; f++) {
        const struct scan_field *field = &m->fields[f];
        const void *from = vectors != NULL ? vectors[f] : NULL;
        char *to = chunk->columns[f].vectors + (size_t)row->index * field->bytes;
        if (from == NULL)
            memset(to, 0, field->bytes);
        else
            memcpy(to, from, field->bytes);
        row->present |= (uint64_t)(from != NULL) << f;
        if (chunk->columns[f].inverse_norms != NULL)
            chunk->columns[f].inverse_norms[row->index] =
                scan_inverse_norm(to, field->dimension, field->element);
    }
}

struct memtable_row *memtable_append(struct memtable *m, const struct pdb_row *row)
{
    ASSERT(!m->sealed);
    ASSERT(row->id.len >= 1 && row->id.len <= PDB_ID_BYTES_MAX && row->metadata.len <= UINT32_MAX);
    struct memtable_chunk *chunk = tail_with_room(m);
    char *text = take_text(m, chunk, row->id.len + row->metadata.len);
    memcpy(text, row->id.ptr, row->id.len);
    if (row->metadata.len != 0)
        memcpy(text + row->id.len, row->metadata.ptr, row->metadata.len);
    uint32_t index = chunk->count++;
    struct memtable_row *copy = &chunk->rows[index];
    *copy = (struct memtable_row){.text = text,
                                  .version = row->version,
                                  .ended_at = MEMTABLE_NEVER,
                                  .created_at_us = row->created_at_us,
                                  .updated_at_us = row->updated_at_us,
                                  .expires_at_us = row->expires_at_us,
                                  .metadata_len = (uint32_t)row->metadata.len,
                                  .index = index,
                                  .id_len = (uint16_t)row->id.len};
    if (row->expires_at_us != 0 && row->expires_at_us < chunk->expires_min_us)
        chunk->expires_min_us = row->expires_at_us;
    copy_vectors(m, chunk, copy, row->vectors);
    m->rows_total++;
    return copy;
}

void memtable_end_row(struct memtable *m, struct memtable_row *row, uint64_t version)
{
    ASSERT(memtable_ended(row) == MEMTABLE_NEVER && version >= row->version);
    __atomic_store_n(&row->ended_at, version, __ATOMIC_RELAXED);
    memtable_chunk_of(m, row)->ended_count++;
}

static void put_row(struct memtable *m, const struct pdb_row *row, struct memtable_row *older)
{
    struct memtable_row *copy = memtable_append(m, row);
    copy->head = true;
    copy->older = older;
    if (older != NULL) {
        older->newer = copy;
        older->head = false;
    }
    if (older != NULL && memtable_ended(older) == MEMTABLE_NEVER)
        memtable_end_row(m, older, row->version);
    else
        m->rows_live++;
    /* The new row's text is the key from now on: the older one's may be freed first. */
    map_put(&m->ids, memtable_hash(m, row->id), row->id.ptr, row->id.len, memtable_value_of(copy),
            NULL);
}

bool memtable_end(struct memtable *m, struct pdb_text id, uint64_t version)
{
    struct memtable_row *newest = memtable_find(m, id);
    if (m->version_newest < version) /* snapshots are never ahead of it */
        m->version_newest = version;
    if (newest == NULL || memtable_ended(newest) != MEMTABLE_NEVER)
        return false;
    memtable_end_row(m, newest, version);
    m->rows_live--;
    return true;
}

void memtable_commit(struct memtable *m, const struct pdb_row *row)
{
    size_t text_bytes = row->id.len + row->metadata.len;
    ASSERT(row->version >= m->version_newest && row->version < MEMTABLE_NEVER);
    if (m->version_oldest == 0)
        m->version_oldest = row->version;
    if (row->deleted) {
        (void)memtable_end(m, row->id, row->version);
        return;
    }
    ASSERT(m->reserved_rows > 0 && m->reserved_text >= text_bytes);
    m->version_newest = row->version;
    put_row(m, row, memtable_find(m, row->id));
    m->reserved_rows--;
    m->reserved_text -= text_bytes;
}
