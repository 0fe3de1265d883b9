/* memtable_check.c: walks everything and compares it with the rules of memtable_internal.h. Slow,
 * and meant to be: tests call it after every failed allocation. It allocates nothing itself. */
#include "memtable/memtable_internal.h"

#include "base/no_libc_heap.h"

#define FAIL(trail, ...) return trail_add((trail), PDB_INTERNAL, __VA_ARGS__)

struct tally {
    uint64_t rows, heads, alive;
};

/* True if `row` lies in a chunk of the set and is not gone. */
static bool is_current(const struct memtable *m, const struct memtable_row *row)
{
    for (uint32_t c = 0; m->set != NULL && c < m->set->count; c++) {
        const struct memtable_chunk *chunk = m->set->chunks[c];
        if (row >= chunk->rows && row < chunk->rows + chunk->count)
            return !m->collect.rewriting || c != m->collect.chunk || row->index >= m->collect.row;
    }
    return false;
}

static int check_links(const struct memtable *m, const struct memtable_row *row,
                       struct trail *trail)
{
    const struct memtable_row *older = row->older;
    struct pdb_text id = memtable_id(row);
    if (row->head != (memtable_find(m, id) == row))
        FAIL(trail, "M1: %.*s version %ju: head is %d", TEXT_ARG(id), (uintmax_t)row->version,
             row->head);
    if (row->head && row->newer != NULL)
        FAIL(trail, "M1: %.*s: the head has a newer row", TEXT_ARG(id));
    if (row->newer != NULL && (row->newer->older != row || !is_current(m, row->newer)))
        FAIL(trail, "M2: %.*s: newer does not point back", TEXT_ARG(id));
    if (memtable_ended(row) != MEMTABLE_NEVER && memtable_ended(row) < row->version)
        FAIL(trail, "M2: %.*s: ended before it began", TEXT_ARG(id));
    if (!row->head && memtable_ended(row) == MEMTABLE_NEVER)
        FAIL(trail, "M2: %.*s: neither newest nor ended", TEXT_ARG(id));
    if (older == NULL)
        return 0;
    if (!is_current(m, older) || older->newer != row || !text_equal(memtable_id(older), id))
        FAIL(trail, "M2: %.*s: older does not point back", TEXT_ARG(id));
    if (older->version > row->version || memtable_ended(older) > row->version)
        FAIL(trail, "M2: %.*s: versions rise along the chain", TEXT_ARG(id));
    return 0;
}

static int check_gone(const struct memtable_row *row, struct trail *trail)
{
    if (row->head || row->newer != NULL || row->older != NULL)
        FAIL(trail, "M4: a row that is gone is linked");
    return 0;
}

static int check_chunk(const struct memtable *m, uint32_t c, struct tally *tally,
                       struct trail *trail)
{
    struct memtable_chunk *chunk = m->set->chunks[c];
    uint32_t gone = m->collect.rewriting && c == m->collect.chunk ? m->collect.row : 0;
    uint32_t ended = 0;
    if (chunk->count > chunk->capacity || chunk->count == 0 ||
        (c + 1 < m->set->count && chunk->count != chunk->capacity))
        FAIL(trail, "M3: chunk %u holds %u of %u rows", c, chunk->count, chunk->capacity);
    for (uint32_t r = 0; r < chunk->count; r++) {
        struct memtable_row *row = &chunk->rows[r];
        if (row->index != r || memtable_chunk_of(m, row) != chunk)
            FAIL(trail, "M3: chunk %u row %u does not find its chunk", c, r);
        if (row->expires_at_us != 0 && row->expires_at_us < chunk->expires_min_us)
            FAIL(trail, "M3: chunk %u row %u expires before the chunk's lowest", c, r);
        ended += memtable_ended(row) != MEMTABLE_NEVER;
        int rc = r < gone ? check_gone(row, trail) : check_links(m, row, trail);
        if (rc < 0)
            return rc;
        tally->heads += row->head;
        tally->alive += row->head && memtable_ended(row) == MEMTABLE_NEVER;
        tally->rows += r >= gone;
    }
    if (ended != chunk->ended_count)
        FAIL(trail, "M3: chunk %u counts %u ended rows, has %u", c, chunk->ended_count, ended);
    return 0;
}

/* How many chunks of the set use the block; chunks that only snapshots hold are not known here. */
static uint32_t users_of(const struct memtable *m, const struct memtable_text *text)
{
    uint32_t users = text == m->writing;
    for (uint32_t c = 0; m->set != NULL && c < m->set->count; c++) {
        const struct memtable_chunk *chunk = m->set->chunks[c];
        const struct memtable_text *at = chunk->first_text;
        while (at != NULL && at != text && at != chunk->last_text)
            at = container_of(at->link.next, struct memtable_text, link);
        users += at == text;
    }
    return users;
}

static int check_texts(const struct memtable *m, struct trail *trail)
{
    const struct memtable_text *last = NULL;
    list_each (link, &m->texts) {
        const struct memtable_text *text = container_of(link, struct memtable_text, link);
        uint32_t users = users_of(m, text);
        bool exact = m->snapshot_count == 0;
        if (text->refs < users || (exact && text->refs != users) || text->refs == 0)
            FAIL(trail, "M5: a text block counts %u users, has %u", text->refs, users);
        if (text->used > text->capacity)
            FAIL(trail, "M5: a text block is overfull");
        last = text;
    }
    if (m->writing != NULL && last != m->writing)
        FAIL(trail, "M5: the block being written is not the last");
    return 0;
}

static int check_reservation(const struct memtable *m, struct trail *trail)
{
    const struct memtable_chunk *tail = memtable_tail(m);
    size_t room = tail != NULL ? tail->capacity - tail->count : 0, spares = 0;
    for (const struct memtable_chunk *spare = m->spares; spare != NULL; spare = spare->next_spare) {
        room += spare->capacity;
        spares++;
    }
    if (room < m->reserved_rows || spares != m->spare_count)
        FAIL(trail, "reservation: room for %zu of %zu rows", room, m->reserved_rows);
    size_t text = m->writing != NULL ? m->writing->capacity - m->writing->used : 0;
    if (text < m->reserved_text &&
        (m->spare_text == NULL || m->spare_text->capacity < m->reserved_text))
        FAIL(trail, "reservation: no room for %zu bytes of text", m->reserved_text);
    return 0;
}

int memtable_check(const struct memtable *m, struct trail *trail)
{
    struct tally tally = {0};
    for (uint32_t c = 0; m->set != NULL && c < m->set->count; c++) {
        int rc = check_chunk(m, c, &tally, trail);
        if (rc < 0)
            return rc;
    }
    if (tally.heads != m->ids.count)
        FAIL(trail, "M1: %ju heads, %zu ids in the map", (uintmax_t)tally.heads, m->ids.count);
    if (tally.alive != m->rows_live || tally.rows != m->rows_total)
        FAIL(trail, "M6: counts %ju live of %ju rows, has %ju of %ju", (uintmax_t)m->rows_live,
             (uintmax_t)m->rows_total, (uintmax_t)tally.alive, (uintmax_t)tally.rows);
    int rc = check_texts(m, trail);
    return rc < 0 ? rc : check_reservation(m, trail);
}
