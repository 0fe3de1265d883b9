/* segment_index_layout.c: where the sections of an .index lie, and how their bytes get there.
 *
 * A section's place follows from the lengths of those before it, and its length from a census of
 * the rows. So with a census all places are known before the first row, and what the builder has
 * gathered can leave at any time: each section grows at its own place. The pages of vectors are
 * listed last, because nobody knows their number before they are written; they are few. The hash of
 * ids is filled at random, so that it stays in memory until the end: 8 bytes an id.
 *
 * Rejected: gathering all in memory (it was a third of the rows, and with large documents all of
 * them), and parts in files of their own that are put together at the end (everything is written
 * twice and read once). The census costs another look at ids and lengths, a tenth of a
 * microsecond a row.
 *
 * Rows that are not those that were counted would write over a neighbour: every section knows its
 * end, and what does not fit, or does not fill it, is an error. */
#include "segment/segment_index_internal.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/text.h"

#include "base/no_libc_heap.h"

enum {
    IDS_PER_BUCKET = 8,
    COLUMN_SECTIONS = 10, /* most sections that belong to no field */
    FIELD_SECTIONS = 4,
    SECTIONS_MAX = COLUMN_SECTIONS + FIELD_SECTIONS * PDB_FIELD_MAX,
    CHUNK_BYTES = 4096,
};
_Static_assert(SECTIONS_MAX <= (int)SEGMENT_SECTIONS_MAX, "a reader accepts what is written");

/* `finish` takes several calls. */
enum finishing { FINISH_SECTIONS, FINISH_HASH, FINISH_ENDS };

struct part {
    struct buffer *from; /* written as it is; NULL: made from others */
    uint64_t written;
};

struct segment_index_layout {
    struct segment_index_sink sink;
    struct segment_census census;
    struct hash_key hash_key;
    uint64_t hash_seed;
    uint64_t bytes; /* of the file, as far as it is laid out */
    bool give_back; /* arrays that were written are not filled again */
    enum finishing finishing;
    int rc; /* the first error */
    uint64_t id_offset, doc_offset;
    uint32_t vectors[PDB_FIELD_MAX]; /* in the words that were written */
    uint32_t bucket_count;
    uint8_t *buckets, *header;
    char last_id[PDB_ID_BYTES_MAX]; /* the last one that is in a bucket */
    size_t last_len;
    uint32_t count;
    struct segment_section sections[SECTIONS_MAX];
    struct part parts[SECTIONS_MAX];
};

/* ---- bytes that leave ---- */

/* The next bytes of a section. */
static void emit(struct segment_index_layout *l, uint32_t i, const void *bytes, size_t len)
{
    struct segment_section *section = &l->sections[i];
    struct part *part = &l->parts[i];
    if (l->rc < 0 || len == 0)
        return;
    if (len > section->length - part->written) {
        l->rc = PDB_DATA_LOSS;
        return;
    }
    section->crc = crc32c(section->crc, bytes, len);
    l->rc = l->sink.write(l->sink.arg, section->offset + part->written, bytes, len);
    part->written += len;
}

/* Its zeros, up to the next section. */
static void end_section(struct segment_index_layout *l, uint32_t i)
{
    static const uint8_t zeros[SEGMENT_ALIGNMENT];
    struct segment_section *section = &l->sections[i];
    size_t pad = bytes_align_up(section->length, SEGMENT_ALIGNMENT) - section->length;
    if (l->rc == 0 && l->parts[i].written != section->length)
        l->rc = PDB_DATA_LOSS;
    if (l->rc < 0 || pad == 0)
        return;
    section->crc = crc32c(section->crc, zeros, pad);
    l->rc = l->sink.write(l->sink.arg, section->offset + section->length, zeros, pad);
}

static void empty(const struct segment_index_builder *b, struct buffer *array)
{
    array->len = 0;
    if (!b->layout->give_back)
        return;
    buffer_dispose(array);
    buffer_init_heap(array, b->heap, 0);
}

/* ---- the layout ---- */

static void plan_section(struct segment_index_layout *l, enum segment_section_kind kind,
                         uint32_t field, uint64_t length, struct buffer *from)
{
    ASSERT(l->count < SECTIONS_MAX);
    l->sections[l->count] = (struct segment_section){
        .kind = (uint16_t)kind, .field = (uint16_t)field, .length = length};
    l->parts[l->count++] = (struct part){.from = from};
}

static void plan_offsets(struct segment_index_layout *l, enum segment_section_kind kind,
                         uint64_t text_bytes)
{
    bool wide = text_bytes > UINT32_MAX;
    plan_section(l, kind, 0, (l->census.rows + 1) * (wide ? 8 : 4), NULL);
    l->sections[l->count - 1].flags = wide ? SEGMENT_WIDE : 0;
}

static void plan_field(struct segment_index_layout *l, struct segment_index_builder *b, uint32_t f)
{
    struct segment_index_field *field = &b->fields[f];
    uint64_t rows = l->census.rows, vectors = l->census.vectors[f];
    if (vectors != rows) {
        plan_section(l, SEGMENT_PRESENT, f, (rows + 63) / 64 * sizeof(uint64_t), NULL);
        plan_section(l, SEGMENT_RANKS, f, (rows / SEGMENT_RANK_ROWS + 1) * sizeof(uint32_t), NULL);
    }
    if (field->entry.metric == PDB_METRIC_COSINE)
        plan_section(l, SEGMENT_INVERSE_NORMS, f, vectors * sizeof(float), &field->norms);
}

static void plan_sections(struct segment_index_layout *l, struct segment_index_builder *b)
{
    const struct segment_census *c = &l->census;
    uint64_t numbers = c->rows * sizeof(uint64_t);
    plan_section(l, SEGMENT_FIELDS, 0, b->field_count * sizeof(struct segment_field_entry), NULL);
    plan_offsets(l, SEGMENT_ID_OFFSETS, c->id_bytes);
    plan_section(l, SEGMENT_ID_BYTES, 0, c->id_bytes, &b->ids);
    plan_section(l, SEGMENT_ID_HASH, 0, (uint64_t)l->bucket_count * sizeof(struct segment_bucket),
                 NULL);
    plan_section(l, SEGMENT_VERSIONS, 0, numbers, &b->versions);
    plan_section(l, SEGMENT_CREATED, 0, numbers, &b->created);
    if (c->updated_differs)
        plan_section(l, SEGMENT_UPDATED, 0, numbers, &b->updated);
    if (c->expires_any)
        plan_section(l, SEGMENT_EXPIRES, 0, numbers, &b->expires);
    plan_offsets(l, SEGMENT_DOC_OFFSETS, c->doc_bytes);
    plan_section(l, SEGMENT_DOC_BYTES, 0, c->doc_bytes, &b->docs);
    for (uint32_t f = 0; f < b->field_count; f++)
        plan_field(l, b, f);
    for (uint32_t f = 0; f < b->field_count; f++)
        plan_section(l, SEGMENT_VECTOR_PAGES, f, 0, &b->fields[f].pages);
}

/* The places of all sections whose lengths are known by now, from `first` on. */
static void place_sections(struct segment_index_layout *l, uint32_t first)
{
    for (uint32_t i = first; i < l->count; i++) {
        l->sections[i].offset = l->bytes;
        l->bytes += bytes_align_up(l->sections[i].length, SEGMENT_ALIGNMENT);
    }
}

int segment_index_plan(struct segment_index_builder *b, const struct segment_census *census,
                       uint64_t hash_seed, const struct segment_index_sink *sink)
{
    ASSERT(b->layout == NULL && census->rows > 0);
    if (census->rows > SEGMENT_ROWS_MAX)
        return PDB_RESOURCE_EXHAUSTED;
    struct segment_index_layout *l = heap_calloc(b->heap, 1, sizeof(*l));
    if (l == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    b->layout = l;
    l->sink = *sink;
    l->census = *census;
    l->hash_seed = hash_seed;
    l->hash_key = segment_hash_key(hash_seed);
    l->bucket_count = (uint32_t)(census->ids / IDS_PER_BUCKET + 1);
    plan_sections(l, b);
    l->buckets = heap_calloc(b->heap, l->bucket_count, sizeof(struct segment_bucket));
    l->header = heap_calloc(b->heap, 1, segment_header_bytes(l->count));
    if (l->buckets == NULL || l->header == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    l->bytes = segment_header_bytes(l->count);
    place_sections(l, 0);
    return 0;
}

void segment_index_layout_free(struct segment_index_builder *b)
{
    if (b->layout == NULL)
        return;
    heap_free(b->heap, b->layout->buckets);
    heap_free(b->heap, b->layout->header);
    heap_free(b->heap, b->layout);
    b->layout = NULL;
}

/* ---- what is made from the arrays ---- */

static size_t put_offset(const struct segment_index_layout *l, uint32_t i, uint8_t *to,
                         uint64_t offset)
{
    if ((l->sections[i].flags & SEGMENT_WIDE) == 0) {
        bytes_put_u32(to, (uint32_t)offset);
        return sizeof(uint32_t);
    }
    bytes_put_u64(to, offset);
    return sizeof(uint64_t);
}

/* Where each text begins; `lens`: of 2 or 4 bytes each. */
static void emit_offsets(struct segment_index_layout *l, uint32_t i, const struct buffer *lens,
                         size_t len_bytes, uint64_t *offset)
{
    uint8_t chunk[CHUNK_BYTES];
    size_t len = 0;
    for (const char *at = lens->ptr, *end = at + lens->len; at != end; at += len_bytes) {
        len += put_offset(l, i, chunk + len, *offset);
        *offset += len_bytes == sizeof(uint16_t) ? bytes_get_u16(at) : bytes_get_u32(at);
        if (len == sizeof(chunk)) {
            emit(l, i, chunk, len);
            len = 0;
        }
    }
    emit(l, i, chunk, len);
}

static void put_in_bucket(uint8_t *buckets, uint32_t bucket_count, uint32_t at, uint16_t tag,
                          uint32_t row)
{
    struct segment_bucket bucket;
    for (;;) {
        uint8_t *line = buckets + (size_t)at * sizeof(bucket);
        memcpy(&bucket, line, sizeof(bucket));
        bool full = bucket.count == SEGMENT_BUCKET_SLOTS;
        if (full) {
            bucket.overflowed = 1;
        } else {
            bucket.rows[bucket.count] = row;
            bucket.tags[bucket.count++] = tag;
        }
        memcpy(line, &bucket, sizeof(bucket));
        if (!full)
            return;
        at = at + 1 < bucket_count ? at + 1 : 0; /* there is room: 8 a bucket on average */
    }
}

/* The first row of each id. */
static void fill_hash(struct segment_index_layout *l, const struct segment_index_builder *b)
{
    struct pdb_text last = {l->last_id, l->last_len};
    const char *at = b->ids.ptr;
    if (b->written + (uint64_t)b->id_lens.len / sizeof(uint16_t) > l->census.rows ||
        b->seen.ids > l->census.ids) {
        l->rc = PDB_DATA_LOSS; /* there might be no room */
        return;
    }
    for (uint32_t row = b->written; row < b->row_count; row++) {
        size_t place = (size_t)(row - b->written) * sizeof(uint16_t);
        struct pdb_text id = {at, bytes_get_u16(b->id_lens.ptr + place)};
        at += id.len;
        if (row == 0 || !text_equal(id, last)) {
            uint16_t tag = 0;
            uint64_t hash = hash_bytes(&l->hash_key, id.ptr, id.len);
            uint32_t bucket = segment_hash_place(hash, l->bucket_count, &tag);
            put_in_bucket(l->buckets, l->bucket_count, bucket, tag, row);
        }
        last = id;
    }
    if (last.ptr != l->last_id && last.len != 0) {
        memcpy(l->last_id, last.ptr, last.len);
        l->last_len = last.len;
    }
}

/* The section of that kind and field; count: there is none. */
static uint32_t find(const struct segment_index_layout *l, enum segment_section_kind kind,
                     uint32_t field)
{
    uint32_t i = 0;
    while (i < l->count && (l->sections[i].kind != kind || l->sections[i].field != field))
        i++;
    return i;
}

static void emit_rank(struct segment_index_layout *l, uint32_t i, uint32_t rank)
{
    uint8_t bytes[sizeof(rank)];
    bytes_put_u32(bytes, rank);
    emit(l, i, bytes, sizeof(bytes));
}

/* Whole words of presence, and the ranks that follow from them. A word that may still change stays,
 * unless it is the `end`. */
static void emit_present(struct segment_index_layout *l, struct segment_index_builder *b,
                         uint32_t f, bool end)
{
    struct segment_index_field *field = &b->fields[f];
    uint32_t present = find(l, SEGMENT_PRESENT, f), rank_words = SEGMENT_RANK_ROWS / 64;
    size_t words = field->present.len / sizeof(uint64_t);
    if (!end && words > 0 && b->row_count % 64 != 0)
        words--;
    for (size_t w = 0; w < words && present < l->count; w++) {
        if ((field->present_first / 64 + w) % rank_words == 0)
            emit_rank(l, present + 1, l->vectors[f]);
        uint64_t word = bytes_get_u64(field->present.ptr + w * sizeof(word));
        l->vectors[f] += (uint32_t)__builtin_popcountll(word);
    }
    if (present < l->count)
        emit(l, present, field->present.ptr, words * sizeof(uint64_t));
    size_t left = field->present.len - words * sizeof(uint64_t);
    if (left != 0)
        memmove(field->present.ptr, field->present.ptr + words * sizeof(uint64_t), left);
    field->present.len = left;
    field->present_first += (uint32_t)words * 64;
    if (end && present < l->count && b->row_count % SEGMENT_RANK_ROWS == 0)
        emit_rank(l, present + 1, l->vectors[f]);
}

/* ---- as rows come ---- */

int segment_index_flush(struct segment_index_builder *b)
{
    struct segment_index_layout *l = b->layout;
    struct buffer *const arrays[] = {&b->ids,      &b->id_lens, &b->docs,    &b->doc_lens,
                                     &b->versions, &b->created, &b->updated, &b->expires};
    emit_offsets(l, find(l, SEGMENT_ID_OFFSETS, 0), &b->id_lens, sizeof(uint16_t), &l->id_offset);
    emit_offsets(l, find(l, SEGMENT_DOC_OFFSETS, 0), &b->doc_lens, sizeof(uint32_t),
                 &l->doc_offset);
    if (l->rc == 0)
        fill_hash(l, b);
    for (uint32_t i = 0; i < l->count; i++) {
        struct buffer *from = l->parts[i].from;
        if (from == NULL || l->sections[i].kind == SEGMENT_VECTOR_PAGES)
            continue;
        emit(l, i, from->ptr, from->len);
        empty(b, from);
    }
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) /* some have no section */
        empty(b, arrays[i]);
    for (uint32_t f = 0; f < b->field_count; f++)
        emit_present(l, b, f, false);
    b->written = b->row_count;
    return l->rc;
}

/* ---- the end ---- */

static void end_offsets(struct segment_index_layout *l, enum segment_section_kind kind,
                        uint64_t offset)
{
    uint8_t last[sizeof(uint64_t)];
    uint32_t i = find(l, kind, 0);
    emit(l, i, last, put_offset(l, i, last, offset));
}

static void finish_sections(struct segment_index_layout *l, struct segment_index_builder *b)
{
    uint32_t fields = find(l, SEGMENT_FIELDS, 0), pages = find(l, SEGMENT_VECTOR_PAGES, 0);
    (void)segment_index_flush(b);
    end_offsets(l, SEGMENT_ID_OFFSETS, l->id_offset);
    end_offsets(l, SEGMENT_DOC_OFFSETS, l->doc_offset);
    for (uint32_t f = 0; f < b->field_count; f++) {
        emit_present(l, b, f, true);
        emit(l, fields, &b->fields[f].entry, sizeof(b->fields[f].entry));
    }
    for (uint32_t i = pages; i < l->count; i++)
        l->sections[i].length = l->parts[i].from->len;
    if (pages < l->count)
        l->bytes = l->sections[pages].offset;
    place_sections(l, pages);
    for (uint32_t i = pages; i < l->count; i++)
        emit(l, i, l->parts[i].from->ptr, l->parts[i].from->len);
}

static void finish_hash(struct segment_index_layout *l, uint64_t budget)
{
    uint32_t i = find(l, SEGMENT_ID_HASH, 0);
    uint64_t at = l->parts[i].written, left = l->sections[i].length - at;
    emit(l, i, l->buckets + at, left < budget ? left : budget);
    if (left <= budget)
        l->finishing = FINISH_ENDS;
}

static void write_header(struct segment_index_layout *l, const struct segment_index_builder *b,
                         const struct segment_index_source *source)
{
    uint32_t flags = 0;
    for (uint32_t f = 0; f < b->field_count; f++)
        flags |= b->fields[f].entry.element != PDB_ELEMENT_FLOAT32 ? SEGMENT_NARROW : 0;
    struct segment_header header = {.flags = flags,
                                    .collection = b->collection,
                                    .number = b->number,
                                    .row_count = b->row_count,
                                    .parquet_bytes = source->parquet_bytes,
                                    .parquet_crc = source->parquet_crc,
                                    .footer_crc = source->footer_crc,
                                    .index_bytes = l->bytes,
                                    .hash_seed = l->hash_seed,
                                    .version_min = b->version_min,
                                    .version_max = b->version_max,
                                    .expires_min_us = b->expires_min_us,
                                    .section_count = l->count};
    segment_header_put(&header, l->sections, l->header);
    l->rc = l->sink.write(l->sink.arg, 0, l->header, segment_header_bytes(l->count));
}

int segment_index_finish(struct segment_index_builder *b, const struct segment_index_source *source,
                         uint64_t budget)
{
    struct segment_index_layout *l = b->layout;
    ASSERT(b->row_count > 0 && budget > 0);
    if (l->finishing == FINISH_SECTIONS) {
        finish_sections(l, b);
        l->finishing = FINISH_HASH;
    } else if (l->finishing == FINISH_HASH) {
        finish_hash(l, budget);
    }
    if (l->rc < 0)
        return l->rc;
    if (l->finishing != FINISH_ENDS)
        return 1;
    for (uint32_t i = 0; i < l->count; i++)
        end_section(l, i);
    if (l->rc == 0)
        write_header(l, b, source);
    return l->rc;
}

/* ---- all of it in memory ---- */

static int put_in_buffer(void *arg, uint64_t offset, const void *bytes, size_t len)
{
    struct buffer *out = arg;
    memcpy(out->ptr + out->len + offset, bytes, len);
    return 0;
}

int segment_index_write(struct segment_index_builder *b, const struct segment_index_source *source,
                        uint64_t hash_seed, struct buffer *index_out)
{
    ASSERT(b->row_count > 0);
    const struct segment_index_sink sink = {put_in_buffer, index_out};
    int rc = segment_index_plan(b, &b->seen, hash_seed, &sink);
    if (rc < 0)
        return rc;
    struct segment_index_layout *l = b->layout;
    l->give_back = true;
    uint64_t bytes = l->bytes;
    for (uint32_t f = 0; f < b->field_count; f++)
        bytes += bytes_align_up(b->fields[f].pages.len, SEGMENT_ALIGNMENT);
    if (buffer_reserve(index_out, bytes) == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    while ((rc = segment_index_finish(b, source, UINT64_MAX)) > 0)
        continue;
    if (rc == 0) {
        ASSERT(l->bytes == bytes);
        index_out->len += bytes;
    }
    return rc;
}
