/* The memtable's structures, inside src/memtable.
 *
 *   ids (map) -> newest row of each id, "head" --older--> row --older--> row
 *                                              <--newer--     <--newer--
 *   set -> chunk, chunk, .., tail chunk            texts: block, block, .., block being written
 *            rows[capacity], vectors per field             ^ first_text .. last_text of a chunk:
 *            counted
 *
 * Rules (memtable_check tests them; numbers are cited by it):
 *   M1  A row is in the map if and only if it is a head; a head has no newer row.
 *   M2  Along `older`, ids are equal, versions do not rise, and a row ends no later than its newer
 *   one began. M3  Only the last chunk of a set has room; all others are full (capacity is cut when
 *   a chunk is closed early). M4  Rows below `collect.row` of the chunk being rewritten are gone:
 *       moved or dropped, in no chain and no map. They are kept as they were for snapshots that
 *   were taken before. M5  A text block counts the chunks that use it, and one more while it is the
 *   one being written. M6  rows_live: heads that did not end. rows_total: rows of the set that are
 *   not gone.
 *
 * A set is shared with snapshots and grows in place: a snapshot looks only at as many chunks as
 * there were, and at as many rows of the last one. When it must shrink or outgrow its memory while
 * shared, the memtable gets a copy. */
#ifndef MEMTABLE_MEMTABLE_INTERNAL_H
#define MEMTABLE_MEMTABLE_INTERNAL_H

#include "base/list.h"
#include "base/map.h"
#include "memtable/memtable.h"

enum {
    MEMTABLE_ALIGNMENT = 64,
#ifdef PDB_STRESS
    MEMTABLE_CHUNK_ROWS_MIN = 2,
    MEMTABLE_CHUNK_ROWS_STRESS = 8,
    MEMTABLE_TEXT_BYTES_MIN = 64,
    MEMTABLE_TEXT_BYTES_MAX = 256,
#else
    MEMTABLE_CHUNK_ROWS_MIN = 16,
    MEMTABLE_CHUNK_ROWS_STRESS = 0,
    MEMTABLE_TEXT_BYTES_MIN = 2048,
    MEMTABLE_TEXT_BYTES_MAX = 256 * 1024,
#endif
    MEMTABLE_CHUNKS_MAX = 1 << 24, /* of a set: the top 8 bits of a key are its reader's */
    MEMTABLE_CHUNK_BYTES = 4 << 20,
};

struct memtable_text {
    struct list_link link; /* in memtable.texts, in order of writing */
    uint32_t refs;
    size_t used, capacity;
    char bytes[];
};

struct memtable_row {
    const char *text; /* the id, then the metadata */
    struct memtable_row *older, *newer;
    uint64_t version;
    uint64_t ended_at; /* see memtable_ended */
    int64_t created_at_us, updated_at_us, expires_at_us;
    uint64_t present; /* a bit per vector field */
    uint32_t metadata_len;
    uint32_t index; /* in its chunk */
    uint16_t id_len;
    bool head;
};

/* One vector field of a chunk. */
struct memtable_column {
    char *vectors; /* capacity x field bytes; zeros where a row has none */
    /* Cosine: 0 of a zero vector, NaN where only the slow exact way is safe. Others: NULL. */
    float *inverse_norms;
};

struct memtable_chunk {
    uint32_t refs; /* sets that hold it, or 1 as a spare */
    uint32_t capacity, count;
    uint32_t ended_count;   /* rows that ended */
    int64_t expires_min_us; /* the lowest of its rows; INT64_MAX: none expires */
    struct memtable_text *first_text, *last_text;
    struct memtable_chunk *next_spare;
    size_t bytes; /* of the allocation */
    struct memtable_row *rows;
    struct memtable_column columns[];
};

struct memtable_set {
    uint32_t refs; /* snapshots, and the memtable */
    uint32_t count, capacity;
    struct memtable_chunk *chunks[];
};

struct memtable_snapshot {
    struct memtable *memtable;
    struct memtable_set *set;
    uint32_t chunk_count, tail_rows; /* what of the set belongs to it */
    uint32_t gone_chunk, gone_rows;  /* M4; UINT32_MAX: none */
    uint64_t at_version;
    int64_t now_us;
    uint64_t row_count;
};

struct memtable {
    struct heap *heap;
    struct memtable_pool *pool; /* may be NULL */
    struct hash_key hash_key;
    uint32_t field_count, chunk_rows;
    struct scan_field *fields;
    const void **vectors_out;                    /* for memtable_get */
    struct map ids;                              /* value: struct memtable_row * */
    struct memtable_set *set;                    /* NULL until the first prepare */
    struct memtable_chunk *spares, *spares_last; /* ready to become the tail, in this order */
    uint32_t spare_count;
    struct list texts;
    struct memtable_text *writing, *spare_text; /* NULL: none yet */
    size_t expected_ids;                        /* memtable_expect; 0: none, or done */
    size_t reserved_rows, reserved_text;        /* promised by prepare and not yet committed */
    uint64_t rows_live, rows_total;
    uint64_t version_oldest, version_newest; /* of commits; newest: of ends too */
    bool sealed;
    size_t bytes, snapshot_count;
    struct { /* the chunk being rewritten, or the search for one */
        bool rewriting;
        uint32_t chunk, row; /* next row to move, or to look at */
        uint32_t dead;       /* found so far while looking */
    } collect;
};

/* ---- memtable_pool.c ---- */

/* A block of MEMTABLE_CHUNK_BYTES, aligned to MEMTABLE_ALIGNMENT; `pool` may be NULL. */
void *memtable_pool_take(struct memtable_pool *pool, struct heap *heap);
void memtable_pool_give(struct memtable_pool *pool, struct heap *heap, void *ptr);

/* ---- memtable.c: memory ---- */

void *memtable_alloc(struct memtable *m, size_t alignment, size_t bytes);
void memtable_release(struct memtable *m, void *ptr, size_t bytes);
/* Room for that many rows and text bytes in all, reservations included. 0 or
 * PDB_RESOURCE_EXHAUSTED; what it got stays. */
int memtable_reserve(struct memtable *m, size_t row_count, size_t text_bytes);
/* Frees spare chunks that the standing reservation does not need. */
void memtable_trim(struct memtable *m);
void memtable_text_unref(struct memtable *m, struct memtable_text *text);
void memtable_set_release(struct memtable *m, struct memtable_set *set);
/* Takes one chunk out of the memtable's set; a shared set is copied. 0 or PDB_RESOURCE_EXHAUSTED:
 * unchanged. */
int memtable_set_remove(struct memtable *m, uint32_t index);

/* ---- memtable_put.c ---- */

/* Copies a row to the tail and links nothing. Its room must have been reserved. */
struct memtable_row *memtable_append(struct memtable *m, const struct pdb_row *row);
/* Marks a row as ended in its chunk's count too. Live heads are counted by the caller. */
void memtable_end_row(struct memtable *m, struct memtable_row *row, uint64_t version);
struct memtable_row *memtable_find(const struct memtable *m, struct pdb_text id);
bool memtable_row_equal(const void *owner, uint64_t value, const void *key, size_t key_len);

/* ---- memtable_get.c ---- */

/* Fills row_out; `vectors`: field_count pointers, or NULL. */
void memtable_row_out(const struct memtable *m, struct memtable_row *row, struct pdb_row *row_out,
                      const void **vectors);

/* ---- memtable_snapshot.c ---- */

/* A run of rows of one chunk. */
struct memtable_range {
    struct memtable_chunk *chunk;
    uint32_t chunk_index, first, count;
};

/* The rows at the cursor, up to the next multiple of batch_rows, and the cursor behind them; false
 * at the end. */
bool memtable_next_range(const struct memtable_snapshot *s, struct memtable_cursor *cursor,
                         uint32_t batch_rows, struct memtable_range *range_out);
/* True if no row is left; moves the cursor over what is empty or gone. */
bool memtable_at_end(const struct memtable_snapshot *s, struct memtable_cursor *cursor);

/* ---- small helpers ---- */

/* Rows as values of the id map. */
static inline struct memtable_row *memtable_row_of(uint64_t value)
{
    struct memtable_row *row;
    _Static_assert(sizeof(void *) == sizeof(value), "a pointer is a value");
    memcpy(&row, &value, sizeof(value));
    return row;
}

static inline uint64_t memtable_value_of(const struct memtable_row *row)
{
    return (uint64_t)(uintptr_t)row;
}

static inline struct pdb_text memtable_id(const struct memtable_row *row)
{
    return (struct pdb_text){row->text, row->id_len};
}

static inline struct pdb_text memtable_metadata(const struct memtable_row *row)
{
    return (struct pdb_text){row->text + row->id_len, row->metadata_len};
}

/* Rows lie behind the chunk's header and columns. */
static inline size_t memtable_rows_offset(const struct memtable *m)
{
    return sizeof(struct memtable_chunk) + m->field_count * sizeof(struct memtable_column);
}

static inline struct memtable_chunk *memtable_chunk_of(const struct memtable *m,
                                                       struct memtable_row *row)
{
    return (void *)((char *)(row - row->index) - memtable_rows_offset(m));
}

/* Once a memtable is sealed, a worker reads its rows while the owner core still ends some. Only
 * this field changes then, so it is read and written atomically; relaxed, because nothing is
 * ordered by it: a worker that misses an end is told of it later by the owner, who made it. */
static inline uint64_t memtable_ended(const struct memtable_row *row)
{
    return __atomic_load_n(&row->ended_at, __ATOMIC_RELAXED);
}

static inline bool memtable_visible(const struct memtable_snapshot *s,
                                    const struct memtable_row *row)
{
    return row->version <= s->at_version && memtable_ended(row) > s->at_version &&
           (row->expires_at_us == 0 || row->expires_at_us > s->now_us);
}

/* Keys: a tag that the memtable does not look at << 56 | chunk << 32 | row. */
static inline uint64_t memtable_key(uint32_t chunk, uint32_t row)
{
    return (uint64_t)chunk << 32 | row;
}

static inline uint32_t memtable_key_chunk(uint64_t key)
{
    return (uint32_t)(key >> 32) & (MEMTABLE_CHUNKS_MAX - 1);
}

static inline struct memtable_row *memtable_row_of_key(const struct memtable_snapshot *s,
                                                       uint64_t key)
{
    return &s->set->chunks[memtable_key_chunk(key)]->rows[(uint32_t)key];
}

static inline struct memtable_chunk *memtable_tail(const struct memtable *m)
{
    return m->set != NULL && m->set->count != 0 ? m->set->chunks[m->set->count - 1] : NULL;
}

static inline uint64_t memtable_hash(const struct memtable *m, struct pdb_text id)
{
    return hash_bytes(&m->hash_key, id.ptr, id.len);
}

#endif
