/* segment_check.c: reads all of a segment and compares, for `proximadb check` and tests.
 *
 * Two independent proofs. The sums say whether any byte of either file differs from what was
 * written: the index holds one of the whole Parquet file, and each of its own bytes is under one.
 * The comparison says whether what was written makes sense: every row of the Parquet file against
 * every array of the index, in both directions, with the order of rows and the finiteness of
 * vectors. Each finding is one line; a comparison that runs out of step stops after some lines.
 *
 * Any thread may check: memory is not taken from the segment's heap, which belongs to its core. */
#include "segment/segment_index_internal.h"
#include "segment/segment_parquet_internal.h"

#include "base/crc32c.h"
#include "base/doc.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <vecmath/vecmath.h>

#include "base/no_libc_heap.h"

enum { FINDINGS_MAX = 50, LINE_BYTES = 1024 };

struct check {
    const struct segment *s;
    struct segment_rows rows;
    void (*report)(void *arg, const char *line);
    void *arg;
    struct trail *trail;
    uint32_t findings;
    uint32_t ordinals[PDB_FIELD_MAX]; /* of the next vector of each field */
};

static void finding(struct check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void finding(struct check *c, const char *format, ...)
{
    char line[LINE_BYTES];
    int used = snprintf(line, sizeof(line), "segment %" PRIu64 ": ", c->s->number);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line + used, sizeof(line) - (size_t)used, format, args);
    va_end(args);
    c->findings++;
    if (c->findings <= FINDINGS_MAX)
        c->report(c->arg, line);
    else if (c->findings == FINDINGS_MAX + 1)
        c->report(c->arg, "more findings are not listed");
}

/* ---- sums ---- */

static void check_index_sums(struct check *c)
{
    const struct segment_bytes *index = &c->s->index;
    struct segment_header header;
    struct segment_section section;
    struct trail why = {0};
    int rc = segment_header_get(index->ptr, index->len, &header, &why);
    uint64_t expected = rc == 0 ? segment_header_bytes(header.section_count) : 0;
    for (uint32_t i = 0; rc == 0 && i < header.section_count; i++)
        rc = segment_section_get(index->ptr, &header, i, &expected, &section, &why);
    if (rc < 0)
        finding(c, "index: %s", why.text);
}

static void check_parquet_sums(struct check *c)
{
    const struct segment_bytes *parquet = &c->s->parquet;
    uint64_t page = 0;
    if (crc32c(0, parquet->ptr, parquet->len) != c->s->parquet_crc)
        finding(c, "Parquet file: the checksum of the whole file differs");
    (void)segment_verify_step(c->s, &page, UINT64_MAX);
    for (uint32_t f = 0; f < c->s->field_count; f++)
        for (uint32_t p = 0; p < c->s->fields[f].page_count; p++)
            if (!segment_page_good(c->s, f, p))
                finding(c, "Parquet file: page %u of vectors of field %u at %" PRIu64 ": checksum",
                        p, f, c->s->fields[f].pages[p].offset);
}

/* ---- one row ---- */

static void check_order(struct check *c, uint32_t row)
{
    const struct segment *s = c->s;
    struct pdb_text id = segment_id(s, row);
    uint32_t found = 0;
    int order = row > 0 ? text_compare(segment_id(s, row - 1), id) : -1;
    if (order > 0 || (order == 0 && s->versions[row - 1] <= s->versions[row]))
        finding(c, "row %u is out of order", row);
    if (order != 0 && (!segment_index_find(s, id, &found) || found != row))
        finding(c, "row %u is not found by its id", row);
    if (s->versions[row] < s->version_min || s->versions[row] > s->version_max)
        finding(c, "row %u: version %" PRIu64 " is beyond what the index says", row,
                s->versions[row]);
    int64_t expires_us = s->expires_us != NULL ? s->expires_us[row] : 0;
    if (expires_us != 0 && expires_us < s->expires_min_us)
        finding(c, "row %u expires earlier than the index says", row);
}

static void check_numbers(struct check *c, uint32_t row, const struct pdb_row *expected)
{
    const struct segment *s = c->s;
    struct pdb_text doc = segment_doc(s, row);
    int64_t expires_us = s->expires_us != NULL ? s->expires_us[row] : 0;
    if (!text_equal(segment_id(s, row), expected->id))
        finding(c, "row %u: the ids differ", row);
    if (s->versions[row] != expected->version)
        finding(c, "row %u: the versions differ", row);
    if (s->created_us[row] != expected->created_at_us ||
        s->updated_us[row] != expected->updated_at_us || expires_us != expected->expires_at_us)
        finding(c, "row %u: the times differ", row);
    if (!text_equal(doc, expected->metadata))
        finding(c, "row %u: the metadata differ", row);
    if (doc_validate(doc.ptr, doc.len) < 0)
        finding(c, "row %u: the index's document is not valid", row);
}

/* Another processor's kernels may round a norm in another way. */
static bool norms_agree(float a, float b)
{
    if (isnan(a) || isnan(b))
        return isnan(a) && isnan(b);
    return fabsf(a - b) <= 1e-4f * fabsf(a);
}

static void check_vector(struct check *c, uint32_t row, uint32_t f, const void *expected)
{
    const struct segment_field *field = &c->s->fields[f];
    bool there = segment_has_vector(field, row);
    if (there != (expected != NULL) || segment_ordinal(field, row) != c->ordinals[f]) {
        finding(c, "row %u: index and Parquet file disagree on vector %u", row, f);
        return;
    }
    if (!there)
        return;
    uint32_t ordinal = c->ordinals[f]++;
    uint32_t page = segment_page_of(field, ordinal);
    const char *vector = segment_page_vectors(c->s, f, page) +
                         (size_t)(ordinal - field->pages[page].first) * field->bytes;
    if (memcmp(vector, expected, field->bytes) != 0)
        finding(c, "row %u: vector %u of the index's place differs", row, f);
    if (field->metric != PDB_METRIC_HAMMING &&
        scan_first_nonfinite(expected, field->dimension, field->element) != field->dimension)
        finding(c, "row %u: vector %u is not finite", row, f);
    if (field->inverse_norms != NULL &&
        !norms_agree(scan_inverse_norm(expected, field->dimension, field->element),
                     field->inverse_norms[ordinal]))
        finding(c, "row %u: the norm of vector %u differs", row, f);
}

static void check_row(struct check *c, uint32_t row, const struct pdb_row *expected)
{
    check_order(c, row);
    check_numbers(c, row, expected);
    for (uint32_t f = 0; f < c->s->field_count; f++)
        check_vector(c, row, f, expected->vectors[f]);
}

/* ---- all rows ---- */

static bool schema_agrees(const struct check *c)
{
    const struct segment *s = c->s;
    const struct segment_schema *schema = &c->rows.schema;
    bool same = uuid_equal(&s->collection, &schema->collection) && s->number == schema->number &&
                s->field_count == schema->field_count;
    for (uint32_t f = 0; same && f < s->field_count; f++)
        same = s->fields[f].dimension == schema->fields[f].dimension &&
               s->fields[f].metric == schema->fields[f].metric &&
               s->fields[f].element == schema->fields[f].element;
    return same;
}

static int check_rows(struct check *c)
{
    struct trail why = {0};
    struct pdb_row expected;
    uint32_t row = 0;
    int rc = segment_rows_open(&c->rows, NULL, &c->s->parquet, &why);
    if (rc == 0 && !schema_agrees(c)) {
        finding(c, "the Parquet file's schema is not the index's");
        return 0;
    }
    if (rc == 0)
        rc = 1;
    while (rc > 0 && c->findings <= FINDINGS_MAX) {
        rc = segment_rows_next(&c->rows, &expected, &why);
        if (rc > 0 && row == c->s->row_count) {
            finding(c, "the Parquet file has more rows than the index");
            return 0;
        }
        if (rc > 0)
            check_row(c, row++, &expected);
    }
    if (rc == PDB_RESOURCE_EXHAUSTED)
        return trail_add(c->trail, rc, "%s", why.text);
    if (rc < 0)
        finding(c, "%s", why.text);
    else if (rc == 0 && row != c->s->row_count)
        finding(c, "the Parquet file has %u rows, the index %u", row, c->s->row_count);
    return 0;
}

int segment_check(const struct segment *s, void (*report)(void *arg, const char *line), void *arg,
                  struct trail *trail)
{
    struct check *c = heap_calloc(NULL, 1, sizeof(*c));
    if (c == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for a check");
    c->s = s;
    c->report = report;
    c->arg = arg;
    c->trail = trail;
    check_index_sums(c);
    int rc = 0;
    if (c->findings == 0) { /* the arrays are still what was checked when they were opened */
        check_parquet_sums(c);
        rc = check_rows(c);
    }
    if (rc == 0 && c->findings > 0)
        rc = trail_add(trail, PDB_DATA_LOSS, "%u findings", c->findings);
    segment_rows_close(&c->rows);
    heap_free(NULL, c);
    return rc < 0 ? trail_add(trail, rc, "segment %" PRIu64, s->number) : 0;
}
