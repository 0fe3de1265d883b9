/* ann_build.c: the phases of an index as jobs.
 *
 * Only the owner's core decides; a worker is told a stretch of parts, works until the stretch or
 * its time is over, and says where it has stopped. So no two threads ever share a counter, and what
 * one has written is seen by the next through the mail that hands it over. A stretch is at most
 * half of what each worker would get if the rest were divided now, so that all of them come to the
 * end of a phase at about the same time.
 *
 * Phases without parts for several workers go on in the job that has begun them: a round trip
 * through the owner would cost more than they do.
 *
 * The clock is the io's: on a simulated one no time passes within a job, and nothing depends on the
 * machine. */
#include "engine/ann_build.h"

#include "base/assert.h"
#include "engine/engine_internal.h"
#include "engine/segment_merge.h"
#include "os/file_map.h"

#include "base/no_libc_heap.h"

enum {
    JOB_NS = 5000000,
    LATE_NS = 3000000, /* a helper that begins so late after it was asked ... */
    REST_FACTOR = 10,  /* ... is left out for so many times as long */
    REST_NS_MAX = 500000000,
};

enum job_kind { JOB_BEGIN, JOB_PARTS, JOB_ADVANCE, JOB_END };

struct stretch {
    uint32_t from, to;
};

struct helper {
    struct job job;
    struct ann_build *build;
    enum job_kind kind;
    unsigned number; /* of the worker's core */
    bool busy, useless;
    struct heap heap; /* of its scratch */
    struct index_worker *scratch;
    struct stretch parts;
    uint64_t progress_done, progress_total;
    uint64_t asked_ns, begun_ns, rest_until_ns;
    int rc;
};

struct ann_build {
    struct ann_build_options options;
    unsigned helper_count, busy_count;
    bool cancelled;
    int rc; /* the first error */
    /* the worker's in BEGIN, ADVANCE and END; in PARTS all may read them */
    struct ann *ann;
    struct index_make *make;
    bool prepared;
    uint32_t *base_rows; /* of options.base; NULL: it is not used */
    uint32_t base_next;
    const struct segment *segment;
    /* the owner's */
    struct stretch left[2 * ANN_WORKERS_MAX]; /* of this phase, to be handed out */
    unsigned left_count;
    uint64_t progress_done, progress_total;
    struct helper helpers[ANN_WORKERS_MAX];
};

/* ---- on workers ---- */

static uint64_t clock_ns(const struct ann_build *b)
{
    struct io *io = b->options.core->r->io;
    return io->ops->now_ns(io);
}

static const float *vector_of(const void *owner, uint32_t row, float *room)
{
    const struct ann_build *b = owner;
    return segment_vector_f32(b->segment, b->options.field, ann_row(b->ann, row), room);
}

/* The index's row behind a row of the segment, which has a vector. */
static uint32_t rank_of(const struct ann_build *b, uint32_t row)
{
    const uint32_t *rows = b->ann->rows;
    uint32_t low = 0, high = segment_vector_count(b->segment, b->options.field);
    if (rows == NULL)
        return row;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (rows[middle] > row)
            high = middle;
        else
            low = middle;
    }
    return low;
}

/* What the rows of the base are now. True when all are known. */
static bool map_base(struct helper *h)
{
    struct ann_build *b = h->build;
    const struct ann *base = b->options.base;
    for (uint32_t count = base->index.codes.row_count; b->base_next < count; b->base_next++) {
        uint32_t there = 0;
        bool found = segment_merge_find(b->segment, b->options.base_segment,
                                        ann_row(base, b->base_next), &there);
        b->base_rows[b->base_next] = found ? rank_of(b, there) : INDEX_ROW_GONE;
        if (b->base_next % 256 == 255 && clock_ns(b) - h->begun_ns >= JOB_NS) {
            b->base_next++;
            return b->base_next == count;
        }
    }
    return true;
}

static int prepare(struct ann_build *b)
{
    const struct ann_build_options *o = &b->options;
    if (b->prepared)
        return 0;
    b->prepared = true;
    if (o->base != NULL) { /* without memory: from nothing */
        b->base_rows =
            heap_alloc(&b->helpers[0].heap, o->base->index.codes.row_count * sizeof(uint32_t));
    }
    return ann_list_rows(b->ann, b->segment, o->field, o->row_count);
}

/* It may take several jobs; at its end there is b->make. */
static int compute_begin(struct helper *h)
{
    struct ann_build *b = h->build;
    const struct ann_build_options *o = &b->options;
    int rc = prepare(b);
    if (rc < 0 || (b->base_rows != NULL && !map_base(h)))
        return rc;
    uint32_t count = segment_vector_count(b->segment, o->field);
    struct index_rows rows = {.count = count, .vector = vector_of, .owner = b};
    if (b->base_rows != NULL) {
        rows.base = &o->base->index;
        rows.base_rows = b->base_rows;
    }
    return index_make_begin(&b->options.spec, &rows, &b->ann->heap, &b->make);
}

static int open_scratch(struct helper *h)
{
    if (h->scratch != NULL)
        return 0;
    return index_worker_open(h->build->make, &h->heap, &h->scratch);
}

static void compute_parts(struct helper *h)
{
    struct ann_build *b = h->build;
    h->rc = open_scratch(h);
    while (h->rc == 0 && h->parts.from < h->parts.to) {
        index_make_part(b->make, h->parts.from++, h->scratch);
        if (clock_ns(b) - h->begun_ns >= JOB_NS)
            break;
    }
}

/* To the next phase that is worth handing out, or that has not been done when the time is over. */
static void compute_advance(struct helper *h)
{
    struct ann_build *b = h->build;
    h->rc = open_scratch(h);
    if (h->rc < 0)
        return;
    do {
        index_make_advance(b->make);
        h->parts = (struct stretch){0, index_make_parts(b->make)};
        if (h->parts.to != 1 || clock_ns(b) - h->begun_ns >= JOB_NS)
            break;
        index_make_part(b->make, 0, h->scratch);
    } while (true);
    index_make_progress(b->make, &h->progress_done, &h->progress_total);
}

/* The scratches were those of other workers, which are through with them. */
static void compute_end(struct ann_build *b)
{
    for (unsigned i = 0; i < b->helper_count; i++) {
        index_worker_close(b->helpers[i].scratch, &b->helpers[i].heap);
        b->helpers[i].scratch = NULL;
    }
    b->ann->merged = b->make != NULL && index_make_merges(b->make);
    b->ann->repaired = b->make != NULL ? index_make_repaired(b->make) : 0;
    if (b->rc < 0 || b->make == NULL)
        index_make_abandon(b->make);
    else
        b->rc = index_make_end(b->make, &b->ann->index);
    b->make = NULL;
    heap_free(&b->helpers[0].heap, b->base_rows);
    b->base_rows = NULL;
    if (b->options.forget != NULL)
        file_map_forget(b->options.forget, 0, b->options.forget->len);
    if (b->rc < 0)
        ann_clear(b->ann);
    b->ann->bytes = b->ann->heap.bytes_used;
}

static void compute(struct job *job)
{
    struct helper *h = container_of(job, struct helper, job);
    struct ann_build *b = h->build;
    h->begun_ns = clock_ns(b);
    switch (h->kind) {
    case JOB_BEGIN:
        h->rc = compute_begin(h);
        h->parts = (struct stretch){0, b->make != NULL ? index_make_parts(b->make) : 0};
        break;
    case JOB_PARTS:
        compute_parts(h);
        break;
    case JOB_ADVANCE:
        compute_advance(h);
        break;
    case JOB_END:
        compute_end(b);
        break;
    }
}

/* ---- on the owner ---- */

static void job_back(struct reactor *r, struct mail *mail);

static void ask(struct helper *h, enum job_kind kind)
{
    struct ann_build *b = h->build;
    ASSERT(!h->busy);
    h->kind = kind;
    h->busy = true;
    h->rc = 0;
    b->busy_count++;
    h->asked_ns = clock_ns(b);
    h->job = (struct job){.back.deliver = job_back, .compute = compute};
    job_start(b->options.core->r, h->number, &h->job);
}

static uint32_t count_left(const struct ann_build *b)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < b->left_count; i++)
        count += b->left[i].to - b->left[i].from;
    return count;
}

static void put_back(struct ann_build *b, struct stretch parts)
{
    if (parts.from == parts.to)
        return;
    ASSERT(b->left_count < 2 * ANN_WORKERS_MAX);
    b->left[b->left_count++] = parts;
}

/* A stretch is divided only while there are fewer than helpers; each of these brings one back at
 * most. So there are never more than twice as many. */
static struct stretch take(struct ann_build *b)
{
    uint32_t share = count_left(b) / (2 * b->helper_count) + 1;
    struct stretch *last = &b->left[b->left_count - 1], taken = *last;
    if (taken.to - taken.from > share && b->left_count <= b->helper_count)
        taken.to = taken.from + share;
    last->from = taken.to;
    b->left_count -= last->from == last->to;
    return taken;
}

static bool is_free(const struct ann_build *b, const struct helper *h)
{
    return !h->busy && !h->useless &&
           (h == b->helpers || b->options.core->r->now_ns >= h->rest_until_ns);
}

static void hand_out(struct ann_build *b)
{
    for (unsigned i = 0; i < b->helper_count && b->left_count != 0; i++) {
        if (!is_free(b, &b->helpers[i]))
            continue;
        b->helpers[i].parts = take(b);
        ask(&b->helpers[i], JOB_PARTS);
    }
}

static void tell(struct ann_build *b)
{
    struct heap *heap = &b->options.core->r->heap;
    if (b->rc < 0) {
        heap_free(heap, b->ann);
        b->ann = NULL;
    } else {
        b->ann->spec = b->options.spec;
    }
    b->options.done(b, b->rc, b->ann);
    heap_free(heap, b);
}

static void note_late(struct ann_build *b, struct helper *h)
{
    uint64_t late_ns = h->begun_ns > h->asked_ns ? h->begun_ns - h->asked_ns : 0;
    if (late_ns < LATE_NS)
        return;
    uint64_t rest_ns = late_ns * REST_FACTOR;
    h->rest_until_ns = b->options.core->r->now_ns + (rest_ns < REST_NS_MAX ? rest_ns : REST_NS_MAX);
}

/* A helper without memory for its scratch goes; the first one has to have it. */
static void note_error(struct ann_build *b, struct helper *h)
{
    if (h->rc == 0)
        return;
    if (h->kind == JOB_PARTS && h != b->helpers) {
        h->useless = true;
        return;
    }
    if (b->rc == 0)
        b->rc = h->rc;
}

static void go_on(struct ann_build *b)
{
    if (b->cancelled && b->rc == 0)
        b->rc = PDB_CANCELLED;
    if (b->rc == 0)
        hand_out(b);
    if (b->busy_count != 0)
        return;
    if (b->rc == 0 && b->make == NULL)
        ask(&b->helpers[0], JOB_BEGIN);
    else if (b->rc == 0 && index_make_parts(b->make) != 0)
        ask(&b->helpers[0], JOB_ADVANCE);
    else
        ask(&b->helpers[0], JOB_END);
}

static void job_back(struct reactor *r, struct mail *mail)
{
    struct helper *h = container_of(mail, struct helper, job.back);
    struct ann_build *b = h->build;
    (void)r;
    h->busy = false;
    b->busy_count--;
    if (h->kind == JOB_END) {
        tell(b);
        return;
    }
    note_late(b, h);
    note_error(b, h);
    if (h->kind == JOB_ADVANCE) {
        b->progress_done = h->progress_done;
        b->progress_total = h->progress_total;
    }
    put_back(b, h->parts);
    h->parts = (struct stretch){0};
    go_on(b);
}

/* ---- the outside ---- */

int ann_build_start(const struct ann_build_options *options, struct ann_build **build_out)
{
    struct engine_core *core = options->core;
    struct ann_build *b = heap_calloc(&core->r->heap, 1, sizeof(*b));
    ASSERT(options->worker_count >= 1 && options->worker_count <= ANN_WORKERS_MAX);
    if (b == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    b->ann = ann_new(core);
    if (b->ann == NULL) {
        heap_free(&core->r->heap, b);
        return PDB_RESOURCE_EXHAUSTED;
    }
    b->options = *options;
    b->segment = options->segment;
    b->helper_count = options->worker_count;
    for (unsigned i = 0; i < b->helper_count; i++) {
        b->helpers[i].build = b;
        b->helpers[i].heap.large_by_pages = true;
        b->helpers[i].number = (core->id + i) % core->db->core_count;
    }
    ask(&b->helpers[0], JOB_BEGIN);
    *build_out = b;
    return 0;
}

void *ann_build_arg(const struct ann_build *build)
{
    return build->options.arg;
}

void ann_build_cancel(struct ann_build *build)
{
    build->cancelled = true; /* a job is always under way, and will be back */
}

void ann_build_progress(const struct ann_build *build, uint64_t *done_out, uint64_t *total_out)
{
    *done_out = build->progress_done;
    *total_out = build->progress_total;
}

void ann_build_drop(struct ann_build *build)
{
    if (build == NULL)
        return;
    struct heap *heap = &build->options.core->r->heap;
    build->rc = PDB_CANCELLED;
    compute_end(build);
    heap_free(heap, build->ann);
    heap_free(heap, build);
}
