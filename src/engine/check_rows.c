/* check_rows.c: the rows of all segments of a shard together, as one walk in order of id.
 *
 * Segments are in order of id, and of one id the newest version comes first, so a heap of cursors
 * gives all rows of an id one after the other, the newest first, whatever segment they lie in. What
 * holds then: only the first may live (a row that was replaced or deleted has ended), and versions
 * fall. The cursors need a segment's ids and versions, which lie in its index, and no page of the
 * Parquet file. */
#include "engine/check_internal.h"

#include "base/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/no_libc_heap.h"

enum { FINDINGS_MAX = 20, LINE_BYTES = 512 };

struct walk {
    struct check_rows **heap; /* cursors with rows left, the first row on top */
    uint32_t count;
    uint64_t version;
    void (*report)(void *arg, const char *line);
    void *arg;
    uint32_t findings;
};

static void finding(struct walk *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void finding(struct walk *w, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    w->findings++;
    if (w->findings <= FINDINGS_MAX)
        w->report(w->arg, line);
    else if (w->findings == FINDINGS_MAX + 1)
        w->report(w->arg, "more findings are not listed");
}

/* ---- cursors ---- */

static void next_ended(struct check_rows *at)
{
    at->has_ended = manifest_ended_next(&at->ended, &at->ended_row, &at->ended_at);
}

static bool is_before(const struct check_rows *a, const struct check_rows *b)
{
    int order =
        text_compare(segment_row_id(a->segment, a->row), segment_row_id(b->segment, b->row));
    if (order != 0)
        return order < 0;
    return segment_row_version(a->segment, a->row) > segment_row_version(b->segment, b->row);
}

static void sift_down(struct walk *w, uint32_t at)
{
    for (;;) {
        uint32_t first = at;
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < w->count; child++)
            if (is_before(w->heap[child], w->heap[first]))
                first = child;
        if (first == at)
            return;
        struct check_rows *swapped = w->heap[at];
        w->heap[at] = w->heap[first];
        w->heap[first] = swapped;
        at = first;
    }
}

/* The top cursor is behind its row. */
static void advance(struct walk *w)
{
    struct check_rows *top = w->heap[0];
    if (top->has_ended && top->ended_row == top->row)
        next_ended(top);
    if (++top->row == top->entry->rows)
        w->heap[0] = w->heap[--w->count];
    sift_down(w, 0);
}

/* ---- rows ---- */

/* The row before, of the same id: a newer one. */
static void check_pair(struct walk *w, const struct check_rows *at, uint64_t version, bool lives,
                       uint64_t newer)
{
    struct pdb_text id = segment_row_id(at->segment, at->row);
    int len = id.len > 64 ? 64 : (int)id.len;
    if (version == newer)
        finding(w, "id '%.*s' has version %" PRIu64 " twice, the second time in segment %" PRIu64,
                len, id.ptr, version, at->entry->number);
    else if (lives)
        finding(w,
                "id '%.*s': version %" PRIu64 " in segment %" PRIu64
                " has not ended, though there is version %" PRIu64,
                len, id.ptr, version, at->entry->number, newer);
}

static void check_row(struct walk *w, const struct check_rows *at, uint64_t version, bool lives)
{
    struct pdb_text id = segment_row_id(at->segment, at->row);
    int len = id.len > 64 ? 64 : (int)id.len;
    if (version > w->version)
        finding(w,
                "id '%.*s': version %" PRIu64 " in segment %" PRIu64
                " is newer than the manifest, which says %" PRIu64,
                len, id.ptr, version, at->entry->number, w->version);
    if (!lives && at->ended_at != 0 && at->ended_at <= version)
        finding(w,
                "id '%.*s': version %" PRIu64 " in segment %" PRIu64 " ended at version %" PRIu64
                ", before it was written",
                len, id.ptr, version, at->entry->number, at->ended_at);
}

static void walk_rows(struct walk *w)
{
    struct pdb_text last = {NULL, 0};
    uint64_t newer = 0;
    while (w->count != 0 && w->findings <= FINDINGS_MAX) {
        const struct check_rows *at = w->heap[0];
        struct pdb_text id = segment_row_id(at->segment, at->row);
        uint64_t version = segment_row_version(at->segment, at->row);
        bool lives = !at->has_ended || at->ended_row != at->row;
        check_row(w, at, version, lives);
        if (last.ptr != NULL && text_equal(last, id))
            check_pair(w, at, version, lives, newer);
        last = id;
        newer = version;
        advance(w);
    }
}

int check_rows(struct check_rows *segments, uint32_t count, uint64_t version,
               void (*report)(void *arg, const char *line), void *arg)
{
    struct walk w = {.version = version, .report = report, .arg = arg};
    w.heap = heap_calloc(NULL, (size_t)count + 1, sizeof(struct check_rows *));
    if (w.heap == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t i = 0; i < count; i++) {
        segments[i].row = 0;
        manifest_ended_begin(segments[i].entry, &segments[i].ended);
        next_ended(&segments[i]);
        w.heap[w.count++] = &segments[i];
    }
    for (uint32_t i = w.count; i-- > 0;)
        sift_down(&w, i);
    walk_rows(&w);
    heap_free(NULL, w.heap);
    return 0;
}
