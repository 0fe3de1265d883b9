/* segment_merge.c: a k-way merge of open segments, by a binary heap of cursors.
 *
 * Every segment is in order of id and, for one id, of falling version, and so is their merge. A row
 * goes when it ended at or before the oldest version that anybody reads, or expired long enough
 * ago; a row that goes cannot bring an older one back, because each row's end is marked on itself.
 * Counting them looks at the index files only, and finds the same rows: what is merged does not
 * change meanwhile, and what has ended is a copy.
 *
 * The inputs may be mapped for random access (single rows are looked up), so the kernel reads
 * nothing ahead of a merge. The merge does it itself, a window before the rows of each field, which
 * costs little where the pages are resident, and turns a disk that fails into an error instead of a
 * signal. Behind it the pages stay in the page cache, where searches find them. */
#include "engine/segment_merge.h"

#include "base/assert.h"
#include "base/text.h"

#include <inttypes.h>

#include "base/no_libc_heap.h"

enum { WINDOW_BYTES = 1 << 20 };

struct cursor {
    const struct segment_file *file;
    const struct segment_deletes *deletes;
    uint32_t row, row_count;
    bool begun;       /* its first window was asked for */
    uint64_t version; /* of the row */
    struct pdb_text id;
    size_t *populated; /* per field: bytes of the file up to here were asked for */
};

struct segment_merge {
    uint32_t field_count, cursor_count;
    uint32_t heap_count; /* cursors that are not at their end */
    uint64_t oldest_version;
    int64_t expired_before_us;
    bool counting; /* rows are only looked at */
    struct segment_merge_stats stats;
    const void **vectors;
    struct cursor **order; /* the binary heap */
    struct cursor cursors[];
};

/* ---- the cursors ---- */

static bool before(const struct cursor *a, const struct cursor *b)
{
    int order = text_compare(a->id, b->id);
    return order != 0 ? order < 0 : a->version > b->version;
}

static void sift_down(struct segment_merge *m, uint32_t i)
{
    struct cursor *moving = m->order[i];
    for (uint32_t child; (child = 2 * i + 1) < m->heap_count; i = child) {
        if (child + 1 < m->heap_count && before(m->order[child + 1], m->order[child]))
            child++;
        if (!before(m->order[child], moving))
            break;
        m->order[i] = m->order[child];
    }
    m->order[i] = moving;
}

static void look(struct cursor *c)
{
    c->id = segment_row_id(c->file->segment, c->row);
    c->version = segment_row_version(c->file->segment, c->row);
}

/* Past the row at the front. */
static void step(struct segment_merge *m)
{
    struct cursor *c = m->order[0];
    if (++c->row < c->row_count)
        look(c);
    else
        m->order[0] = m->order[--m->heap_count];
    if (m->heap_count != 0)
        sift_down(m, 0);
}

/* The next window of a field; what is two windows behind leaves our tables again if the file is
 * not to be resident. */
static int populate(struct cursor *c, uint32_t field, size_t from)
{
    const struct file_map *map = &c->file->parquet;
    int rc = file_map_populate(map, from, WINDOW_BYTES);
    c->populated[field] = from + WINDOW_BYTES;
    if (map->kept != 0 && from >= 2 * (size_t)WINDOW_BYTES)
        file_map_forget(map, from - 2 * (size_t)WINDOW_BYTES, WINDOW_BYTES);
    return rc;
}

/* Before the first row of an input. */
static int read_first(const struct segment_merge *m, struct cursor *c)
{
    uint64_t from, to;
    int rc = 0;
    for (uint32_t f = 0; f < m->field_count && rc == 0; f++)
        if (segment_vector_range(c->file->segment, f, c->row, 1, &from, &to))
            rc = populate(c, f, (size_t)from);
    return rc;
}

/* Ahead of the vectors that were just pointed at. */
static int read_ahead(struct segment_merge *m, struct cursor *c)
{
    const struct file_map *map = &c->file->parquet;
    int rc = 0;
    for (uint32_t f = 0; f < m->field_count && map->mapped && rc == 0; f++) {
        uintptr_t at = (uintptr_t)m->vectors[f], start = (uintptr_t)map->ptr;
        if (at < start || at - start >= map->len) /* none, or decompressed */
            continue;
        size_t offset = at - start, end = c->populated[f];
        if (offset + WINDOW_BYTES / 2 >= end)
            rc = populate(c, f, offset < end ? end : offset);
    }
    return rc;
}

/* ---- the source ---- */

static uint64_t ended_at(const struct cursor *c)
{
    return c->deletes != NULL ? segment_deletes_ended_at(c->deletes, c->row) : SEGMENT_NEVER;
}

/* A touch of those pages would have been a SIGBUS. */
static int fail_read(const struct cursor *c, struct trail *trail)
{
    return trail_add(trail, PDB_DATA_LOSS, "segment %" PRIu64 ", row %" PRIu32 ": cannot be read",
                     c->file->stats.number, c->row);
}

/* The row at the front: 1 and the row, 0 if it goes, or an error. */
static int take(struct segment_merge *m, struct cursor *c, struct pdb_row *row_out,
                struct trail *trail)
{
    uint64_t end = ended_at(c);
    if (end <= m->oldest_version) {
        m->stats.rows_ended++;
        return 0;
    }
    if (!m->counting && !c->begun && read_first(m, c) < 0)
        return fail_read(c, trail);
    c->begun = true;
    if (m->counting)
        segment_row_unread(c->file->segment, c->row, row_out, m->vectors);
    else if (!segment_row(c->file->segment, c->row, row_out, m->vectors))
        return trail_add(trail, PDB_DATA_LOSS,
                         "segment %" PRIu64 ", row %" PRIu32 ": its page is damaged",
                         c->file->stats.number, c->row);
    if (row_out->expires_at_us != 0 && row_out->expires_at_us <= m->expired_before_us) {
        m->stats.rows_expired++;
        return 0;
    }
    if (!m->counting && read_ahead(m, c) < 0)
        return fail_read(c, trail);
    m->stats.rows++;
    return 1;
}

static int next(void *arg, struct pdb_row *row_out, struct trail *trail)
{
    struct segment_merge *m = arg;
    while (m->heap_count != 0) {
        struct cursor *c = m->order[0];
        int rc = take(m, c, row_out, trail);
        step(m); /* what the row points to lies in the mapped files */
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int begin(void *arg, bool counting, struct trail *trail)
{
    struct segment_merge *m = arg;
    (void)trail;
    m->counting = counting;
    m->stats = (struct segment_merge_stats){0};
    m->heap_count = 0;
    for (uint32_t i = 0; i < m->cursor_count; i++) {
        struct cursor *c = &m->cursors[i];
        c->row = 0;
        c->begun = false;
        if (c->row_count == 0)
            continue;
        look(c);
        m->order[m->heap_count++] = c;
    }
    for (uint32_t i = m->heap_count / 2; i-- != 0;)
        sift_down(m, i);
    return 0;
}

struct segment_source segment_merge_source(struct segment_merge *merge)
{
    return (struct segment_source){.begin = begin, .next = next, .arg = merge};
}

/* ---- making and freeing ---- */

static void add_cursors(struct segment_merge *m, const struct segment_merge_options *options,
                        size_t *populated)
{
    for (uint32_t i = 0; i < options->input_count; i++) {
        const struct segment_merge_input *input = &options->inputs[i];
        m->cursors[m->cursor_count++] =
            (struct cursor){.file = input->file,
                            .deletes = input->deletes,
                            .row_count = (uint32_t)input->file->stats.rows,
                            .populated = populated + (size_t)i * m->field_count};
    }
}

int segment_merge_new(struct heap *heap, const struct segment_merge_options *options,
                      struct segment_merge **merge_out)
{
    size_t count = options->input_count, fields = options->field_count;
    size_t cursors = count * sizeof(struct cursor), order = count * sizeof(struct cursor *);
    size_t vectors = fields * sizeof(void *), populated = count * fields * sizeof(size_t);
    /* One block: all parts are of pointers' alignment. */
    char *block =
        heap_calloc(heap, 1, sizeof(struct segment_merge) + cursors + order + vectors + populated);
    if (block == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    struct segment_merge *m = (void *)block;
    char *rest = block + sizeof(struct segment_merge) + cursors;
    m->order = (void *)rest;
    m->vectors = (void *)(rest + order);
    m->field_count = options->field_count;
    m->oldest_version = options->oldest_version;
    m->expired_before_us = options->expired_before_us;
    add_cursors(m, options, (void *)(rest + order + vectors));
    *merge_out = m;
    return 0;
}

void segment_merge_free(struct heap *heap, struct segment_merge *merge)
{
    heap_free(heap, merge);
}

/* ---- when the build is done ---- */

void segment_merge_stats(const struct segment_merge *merge, struct segment_merge_stats *stats_out)
{
    *stats_out = merge->stats;
}

bool segment_merge_find(const struct segment *to, const struct segment *from, uint32_t row,
                        uint32_t *row_out)
{
    uint64_t version = segment_row_version(from, row);
    return segment_find(to, segment_row_id(from, row), version, row_out) &&
           segment_row_version(to, *row_out) == version;
}
