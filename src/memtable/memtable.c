/* memtable.c: life and memory of a memtable: chunks, text blocks, sets and the reservation.
 *
 * A chunk is one allocation: header, columns, row headers, inverse norms, then each field's vectors
 * on a 64-byte border. Capacities double from a few rows up to chunk_rows, so that 65,536 small
 * collections fit in memory and a large one has few chunks. What prepare reserves is whole spare
 * chunks and one spare text block; commits take them in order. Chunks of full size come from the
 * core's pool and go back there.
 *
 * Text never straddles blocks. If T bytes are reserved, either the block being written has T bytes
 * left, or the spare one has T in all: rows fill the first as long as they fit and then go on in
 * the second, which is why one spare is enough whatever the sizes of the rows. */
#include "memtable/memtable_internal.h"

#include "base/assert.h"
#include "base/bytes.h"

#include "base/no_libc_heap.h"

void *memtable_alloc(struct memtable *m, size_t alignment, size_t bytes)
{
    void *ptr = heap_alloc_aligned(m->heap, alignment, bytes);
    if (ptr != NULL)
        m->bytes += bytes;
    return ptr;
}

void memtable_release(struct memtable *m, void *ptr, size_t bytes)
{
    if (ptr == NULL)
        return;
    ASSERT(m->bytes >= bytes);
    m->bytes -= bytes;
    heap_free(m->heap, ptr);
}

/* ---- text blocks ---- */

void memtable_text_unref(struct memtable *m, struct memtable_text *text)
{
    ASSERT(text->refs > 0);
    if (--text->refs > 0)
        return;
    list_remove(&text->link);
    memtable_release(m, text, sizeof(*text) + text->capacity);
}

static void drop_spare_text(struct memtable *m)
{
    if (m->spare_text == NULL)
        return;
    memtable_release(m, m->spare_text, sizeof(*m->spare_text) + m->spare_text->capacity);
    m->spare_text = NULL;
}

static int reserve_text(struct memtable *m, size_t text_bytes)
{
    struct memtable_text *writing = m->writing, *spare = m->spare_text;
    if (text_bytes == 0 || (writing != NULL && writing->capacity - writing->used >= text_bytes))
        return 0;
    if (spare != NULL && spare->capacity >= text_bytes)
        return 0;
    size_t capacity = writing != NULL ? 2 * writing->capacity : 0, bytes = 0;
    if (capacity > MEMTABLE_TEXT_BYTES_MAX)
        capacity = MEMTABLE_TEXT_BYTES_MAX;
    if (capacity < MEMTABLE_TEXT_BYTES_MIN)
        capacity = MEMTABLE_TEXT_BYTES_MIN;
    if (capacity < text_bytes) /* with some to spare for rows that are moved meanwhile */
        capacity = text_bytes <= SIZE_MAX / 2 ? text_bytes + text_bytes / 16 : text_bytes;
    if (__builtin_add_overflow(capacity, sizeof(*spare), &bytes))
        return PDB_RESOURCE_EXHAUSTED;
    spare = memtable_alloc(m, alignof(struct memtable_text), bytes);
    if (spare == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    *spare = (struct memtable_text){.capacity = capacity};
    drop_spare_text(m);
    m->spare_text = spare;
    return 0;
}

/* ---- chunks ---- */

/* Bytes of a chunk of `capacity` rows; 0 on overflow. With `chunk`, also sets its pointers. */
static size_t lay_out(const struct memtable *m, size_t capacity, struct memtable_chunk *chunk)
{
    char *base = (char *)chunk;
    size_t at = memtable_rows_offset(m), bytes = 0;
    if (capacity > SIZE_MAX / 4 / sizeof(struct memtable_row))
        return 0;
    if (chunk != NULL)
        chunk->rows = (void *)(base + at);
    at += capacity * sizeof(struct memtable_row);
    for (uint32_t f = 0; f < m->field_count; f++) {
        bool norms = m->fields[f].metric == PDB_METRIC_COSINE;
        if (chunk != NULL)
            chunk->columns[f].inverse_norms = norms ? (void *)(base + at) : NULL;
        at += norms ? capacity * sizeof(float) : 0;
    }
    for (uint32_t f = 0; f < m->field_count; f++) {
        at = bytes_align_up(at, MEMTABLE_ALIGNMENT);
        if (chunk != NULL)
            chunk->columns[f].vectors = base + at;
        if (__builtin_mul_overflow(capacity, (size_t)m->fields[f].bytes, &bytes) ||
            __builtin_add_overflow(at, bytes, &at) || at > SIZE_MAX / 2)
            return 0;
    }
    return at;
}

/* Chunks of full size are all of one size, whatever their rows: the pool's. */
static size_t block_bytes(size_t bytes)
{
    return bytes > MEMTABLE_CHUNK_BYTES / 4 * 3 && bytes <= MEMTABLE_CHUNK_BYTES
               ? MEMTABLE_CHUNK_BYTES
               : bytes;
}

static struct memtable_chunk *chunk_new(struct memtable *m, size_t capacity)
{
    size_t bytes = lay_out(m, capacity, NULL);
    if (bytes == 0)
        return NULL;
    bytes = block_bytes(bytes);
    struct memtable_chunk *chunk = bytes == MEMTABLE_CHUNK_BYTES
                                       ? memtable_pool_take(m->pool, m->heap)
                                       : heap_alloc_aligned(m->heap, MEMTABLE_ALIGNMENT, bytes);
    if (chunk == NULL)
        return NULL;
    m->bytes += bytes;
    *chunk = (struct memtable_chunk){
        .refs = 1, .capacity = (uint32_t)capacity, .expires_min_us = INT64_MAX, .bytes = bytes};
    (void)lay_out(m, capacity, chunk);
    return chunk;
}

static void chunk_unref(struct memtable *m, struct memtable_chunk *chunk)
{
    ASSERT(chunk->refs > 0);
    if (--chunk->refs > 0)
        return;
    struct memtable_text *last = chunk->last_text;
    for (struct memtable_text *text = chunk->first_text; text != NULL;) {
        struct list_link *following = text->link.next;
        bool more = text != last;
        memtable_text_unref(m, text);
        text = more ? container_of(following, struct memtable_text, link) : NULL;
    }
    if (chunk->bytes != MEMTABLE_CHUNK_BYTES) {
        memtable_release(m, chunk, chunk->bytes);
        return;
    }
    m->bytes -= chunk->bytes;
    memtable_pool_give(m->pool, m->heap, chunk);
}

/* Rows of the next chunk: as many as there are, within limits, so that sizes double. */
static size_t next_capacity(const struct memtable *m, size_t missing)
{
    size_t capacity = m->rows_total > missing ? (size_t)m->rows_total : missing;
    if (capacity < MEMTABLE_CHUNK_ROWS_MIN)
        capacity = MEMTABLE_CHUNK_ROWS_MIN;
    return capacity < m->chunk_rows ? capacity : m->chunk_rows;
}

static size_t tail_room(const struct memtable *m)
{
    const struct memtable_chunk *tail = memtable_tail(m);
    return tail != NULL ? tail->capacity - tail->count : 0;
}

static int reserve_set(struct memtable *m, size_t chunk_count);

static int reserve_chunks(struct memtable *m, size_t row_count)
{
    size_t room = tail_room(m);
    for (const struct memtable_chunk *spare = m->spares; spare != NULL; spare = spare->next_spare)
        room += spare->capacity;
    while (room < row_count) {
        struct memtable_chunk *chunk = chunk_new(m, next_capacity(m, row_count - room));
        if (chunk == NULL)
            return PDB_RESOURCE_EXHAUSTED;
        if (m->spares != NULL)
            m->spares_last->next_spare = chunk;
        else
            m->spares = chunk;
        m->spares_last = chunk;
        m->spare_count++;
        room += chunk->capacity;
    }
    return reserve_set(m, (m->set != NULL ? m->set->count : 0) + (size_t)m->spare_count);
}

void memtable_trim(struct memtable *m)
{
    size_t room = tail_room(m);
    struct memtable_chunk **at = &m->spares;
    m->spares_last = NULL;
    for (; *at != NULL && room < m->reserved_rows; at = &(*at)->next_spare) {
        room += (*at)->capacity;
        m->spares_last = *at;
    }
    struct memtable_chunk *extra = *at;
    *at = NULL;
    while (extra != NULL) {
        struct memtable_chunk *following = extra->next_spare;
        m->spare_count--;
        chunk_unref(m, extra);
        extra = following;
    }
    if (m->reserved_text == 0)
        drop_spare_text(m);
}

int memtable_reserve(struct memtable *m, size_t row_count, size_t text_bytes)
{
    int rc = reserve_chunks(m, row_count);
    return rc < 0 ? rc : reserve_text(m, text_bytes);
}

/* ---- sets ---- */

static size_t set_bytes(size_t capacity)
{
    return sizeof(struct memtable_set) + capacity * sizeof(struct memtable_chunk *);
}

/* Replaces the memtable's set by one with room for `capacity` chunks, without the chunk at
 * `without`. */
static int set_copy(struct memtable *m, size_t capacity, uint32_t without)
{
    struct memtable_set *old = m->set;
    struct memtable_set *set = memtable_alloc(m, alignof(struct memtable_set), set_bytes(capacity));
    if (set == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    *set = (struct memtable_set){.refs = 1, .capacity = (uint32_t)capacity};
    for (uint32_t i = 0; old != NULL && i < old->count; i++) {
        if (i == without)
            continue;
        old->chunks[i]->refs++;
        set->chunks[set->count++] = old->chunks[i];
    }
    m->set = set;
    memtable_set_release(m, old);
    return 0;
}

static int reserve_set(struct memtable *m, size_t chunk_count)
{
    if (m->set != NULL && m->set->capacity >= chunk_count)
        return 0;
    size_t capacity = m->set != NULL ? 2 * (size_t)m->set->capacity : 4;
    while (capacity < chunk_count)
        capacity *= 2;
    return capacity <= MEMTABLE_CHUNKS_MAX ? set_copy(m, capacity, UINT32_MAX)
                                           : PDB_RESOURCE_EXHAUSTED;
}

void memtable_set_release(struct memtable *m, struct memtable_set *set)
{
    if (set == NULL || --set->refs > 0)
        return;
    for (uint32_t i = 0; i < set->count; i++)
        chunk_unref(m, set->chunks[i]);
    memtable_release(m, set, set_bytes(set->capacity));
}

int memtable_set_remove(struct memtable *m, uint32_t index)
{
    struct memtable_set *set = m->set;
    ASSERT(index < set->count);
    if (set->refs > 1)
        return set_copy(m, set->capacity, index);
    struct memtable_chunk *chunk = set->chunks[index];
    set->count--;
    for (uint32_t i = index; i < set->count; i++)
        set->chunks[i] = set->chunks[i + 1];
    chunk_unref(m, chunk);
    return 0;
}

/* ---- life ---- */

static uint32_t choose_chunk_rows(const struct memtable *m, uint32_t asked)
{
    if (asked != 0)
        return asked;
    if (MEMTABLE_CHUNK_ROWS_STRESS != 0)
        return MEMTABLE_CHUNK_ROWS_STRESS;
    /* 64 rows are whole lines of every array: what is beside the rows, borders between the arrays
     * included, does not grow with them. */
    size_t beside = lay_out(m, 1, NULL) + (size_t)m->field_count * MEMTABLE_ALIGNMENT;
    size_t row_bytes = (lay_out(m, 65, NULL) - lay_out(m, 1, NULL)) / 64;
    if (beside > MEMTABLE_CHUNK_BYTES || row_bytes == 0)
        return 1;
    size_t rows = (MEMTABLE_CHUNK_BYTES - beside) / row_bytes;
    return rows > 1 ? (uint32_t)rows : 1;
}

int memtable_new(const struct memtable_options *options, struct memtable **memtable_out)
{
    ASSERT(options->field_count <= PDB_FIELD_MAX);
    size_t count = options->field_count;
    struct memtable *m = heap_calloc(options->heap, 1, sizeof(*m));
    struct scan_field *fields = heap_calloc(options->heap, count, sizeof(*fields));
    const void **vectors = heap_calloc(options->heap, count, sizeof(*vectors));
    if (m == NULL || fields == NULL || vectors == NULL) {
        heap_free(options->heap, m);
        heap_free(options->heap, fields);
        heap_free(options->heap, (void *)vectors);
        return PDB_RESOURCE_EXHAUSTED;
    }
    for (size_t f = 0; f < count; f++) {
        fields[f] = options->fields[f];
        ASSERT(fields[f].dimension != 0);
        ASSERT(fields[f].bytes ==
               pdb_vector_bytes(fields[f].dimension, fields[f].metric, fields[f].element));
    }
    m->heap = options->heap;
    m->pool = options->pool;
    m->hash_key = options->hash_key;
    m->field_count = options->field_count;
    m->fields = fields;
    m->vectors_out = vectors;
    m->chunk_rows = choose_chunk_rows(m, options->chunk_rows);
    map_init(&m->ids, m->heap, memtable_row_equal, m);
    list_init(&m->texts);
    *memtable_out = m;
    return 0;
}

void memtable_free(struct memtable *m)
{
    if (m == NULL)
        return;
    ASSERT(m->snapshot_count == 0);
    m->reserved_rows = m->reserved_text = 0;
    memtable_set_release(m, m->set);
    m->set = NULL;
    memtable_trim(m);
    if (m->writing != NULL)
        memtable_text_unref(m, m->writing);
    ASSERT(list_empty(&m->texts) && m->bytes == 0);
    map_dispose(&m->ids);
    heap_free(m->heap, m->fields);
    heap_free(m->heap, (void *)m->vectors_out);
    heap_free(m->heap, m);
}

/* Nobody looks any more: the order of rows and what links them may go to pieces. */
bool memtable_free_step(struct memtable *m)
{
    ASSERT(m->snapshot_count == 0);
    struct memtable_set *set = m->set;
    if (set == NULL || set->count == 0) {
        memtable_free(m);
        return true;
    }
    ASSERT(set->refs == 1);
    chunk_unref(m, set->chunks[--set->count]);
    return false;
}

void memtable_stats(const struct memtable *m, struct memtable_stats *stats_out)
{
    size_t slots = m->ids.now.slot_count + m->ids.old.slot_count;
    *stats_out = (struct memtable_stats){
        .rows_live = m->rows_live,
        .rows_total = m->rows_total,
        .version_oldest = m->version_oldest,
        .version_newest = m->version_newest,
        .chunks = m->set != NULL ? m->set->count : 0,
        .bytes = m->bytes + slots * 2 * sizeof(uint64_t) + sizeof(*m) +
                 m->field_count * (sizeof(m->fields[0]) + sizeof(m->vectors_out[0]))};
}
