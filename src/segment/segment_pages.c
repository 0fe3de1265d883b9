/* segment_pages.c: the pages of vectors, and what is known about their soundness.
 *
 * Vectors that are used in place are not read when a segment is opened: with a million rows that
 * would be half a gigabyte. Each page is summed before its first use, or earlier by whoever calls
 * segment_verify_step from idle time. The notes are the only thing that changes in an open segment.
 * They are relaxed atomics: a page's bytes never change, so that two threads at worst sum it twice,
 * and nothing is handed over by a note. A bad page never becomes good again. */
#include "segment/segment_internal.h"

#include "base/crc32c.h"

#include "base/no_libc_heap.h"

uint32_t segment_page_of(const struct segment_field *field, uint32_t ordinal)
{
    ASSERT(ordinal < field->vector_count);
    uint32_t low = 0, high = field->page_count;      /* pages[low].first <= ordinal */
    uint32_t middle = ordinal / field->page_vectors; /* right but where pages are of other sizes */
    while (high - low > 1) {
        if (middle <= low || middle >= high)
            middle = low + (high - low) / 2;
        if (field->pages[middle].first > ordinal) {
            high = middle;
        } else {
            low = middle;
            if (ordinal - field->pages[middle].first < field->pages[middle].count)
                break;
        }
    }
    return low;
}

const char *segment_page_vectors(const struct segment *s, uint32_t field, uint32_t page)
{
    const struct segment_field *f = &s->fields[field];
    const uint8_t *at = f->heap_vectors != NULL
                            ? f->heap_vectors + (size_t)f->pages[page].first * f->bytes
                            : s->parquet.ptr + f->pages[page].offset;
    return (const char *)at;
}

static bool sum_page(const struct segment *s, uint32_t field, uint32_t page)
{
    const struct segment_field *f = &s->fields[field];
    size_t bytes = (size_t)f->pages[page].count * f->bytes;
    bool good = crc32c(0, segment_page_vectors(s, field, page), bytes) == f->pages[page].crc;
    uint8_t state = good ? SEGMENT_PAGE_GOOD : SEGMENT_PAGE_BAD;
    if (!good)
        atomic_store_explicit(&s->page_states[s->page_total].state, 1, memory_order_relaxed);
    atomic_store_explicit(&s->page_states[f->first_state + page].state, state,
                          memory_order_relaxed);
    return good;
}

bool segment_page_good(const struct segment *s, uint32_t field, uint32_t page)
{
    ASSERT(field < s->field_count && page < s->fields[field].page_count);
    _Atomic uint8_t *state = &s->page_states[s->fields[field].first_state + page].state;
    uint8_t now = atomic_load_explicit(state, memory_order_relaxed);
    return now == SEGMENT_PAGE_UNKNOWN ? sum_page(s, field, page) : now == SEGMENT_PAGE_GOOD;
}

bool segment_verify_step(const struct segment *s, uint64_t *page, uint64_t byte_budget)
{
    for (uint32_t f = 0; f < s->field_count; f++) {
        const struct segment_field *field = &s->fields[f];
        while (*page >= field->first_state && *page < field->first_state + field->page_count) {
            uint32_t own = (uint32_t)*page - field->first_state;
            uint64_t bytes = (uint64_t)field->pages[own].count * field->bytes;
            (void)segment_page_good(s, f, own);
            *page += 1;
            if (bytes >= byte_budget)
                return *page >= s->page_total;
            byte_budget -= bytes;
        }
    }
    return true;
}

bool segment_damaged(const struct segment *s)
{
    return atomic_load_explicit(&s->page_states[s->page_total].state, memory_order_relaxed) != 0;
}

bool segment_vector_range(const struct segment *s, uint32_t f, uint32_t row, uint64_t bytes,
                          uint64_t *from_out, uint64_t *to_out)
{
    const struct segment_field *field = &s->fields[f];
    uint32_t ordinal = row < s->row_count ? segment_ordinal(field, row) : field->vector_count;
    if (field->heap_vectors != NULL || ordinal >= field->vector_count)
        return false;
    uint32_t page = segment_page_of(field, ordinal);
    *from_out = *to_out = field->pages[page].offset;
    for (; page < field->page_count && (*to_out == *from_out || *to_out - *from_out < bytes);
         page++)
        *to_out = field->pages[page].offset + (uint64_t)field->pages[page].count * field->bytes;
    return true;
}
