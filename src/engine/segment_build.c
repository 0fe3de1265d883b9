/* segment_build.c: rows into the two files of a segment, with the computation on a worker and the
 * I/O on the owner's loop.
 *
 * The build is a table of stages. In a stage a job is under way, or a write, or both; when neither
 * is left, `advance` looks at what came of them and enters the next stage:
 *
 *     OPENING            open the Parquet file's temporary name   count rows
 *     COUNTING                                                    count the rest
 *     INDEX_OPENING      open the index's temporary name          the first rows
 *     ROWS               write what the job before made           more rows; the index's rest
 *     LAST               write what the last job made
 *     COMMITTING         sync, rename the Parquet file            free the outputs
 *     INDEX_COMMITTING   rename the index, sync of the folder
 *     MAPPING                                                     map both, open the segment
 *     UNDOING            remove both files
 *
 * Two outputs take turns: while one is written the other is filled. Of the index they hold pieces,
 * each with its place in the file. Errors of the job and of the write are kept apart until both are
 * over, because the worker and the owner must not write to one place. A job that may not begin yet
 * (options.hold) counts as one that computes. A build that fails or is cancelled goes to UNDOING
 * from wherever it is; it always has a file to close or remove there, so `done` never runs inside
 * segment_build_cancel. */
#include "engine/segment_build.h"

#include "base/assert.h"
#include "base/container_of.h"
#include "base/crc32c.h"
#include "engine/engine_internal.h"
#include "os/failpoint.h"

#include <string.h>

#include "base/no_libc_heap.h"

enum {
    SLICE_BYTES = 1 << 20,      /* written at once: the rate limit's grain */
    SYNC_EVERY_BYTES = 16 << 20 /* so that no sync stands long before the log's */
};

enum stage {
    OPENING,
    COUNTING,
    INDEX_OPENING,
    ROWS,
    LAST,
    COMMITTING,
    INDEX_COMMITTING,
    MAPPING,
    UNDOING,
};

enum job_kind { JOB_COUNT, JOB_ROWS, JOB_INDEX, JOB_RELEASE, JOB_MAP };

/* What one job has made. */
struct output {
    struct buffer parquet; /* to be appended */
    struct buffer index;   /* struct piece, its bytes, the next ... */
};

struct piece {
    uint64_t offset, len;
};

struct segment_build {
    struct segment_build_options options;
    enum stage stage;
    bool computing, writing, cancelled;
    bool held;        /* computing, but for the job's start */
    bool index_begun; /* its file */
    int rc;           /* the first error */
    struct trail trail;
    uint64_t heap_peak;

    /* The worker's while computing. */
    struct job job;
    enum job_kind job_kind;
    int job_rc;
    struct trail job_trail;
    struct heap heap;
    struct segment_census census;
    struct segment_writer *writer;
    struct output outputs[2];
    unsigned filling; /* the output of the job under way, or of the last one */
    uint32_t crc;
    bool source_begun, counted, rows_over, index_over;
    struct segment_file *file;

    /* The owner's. */
    const char *rest; /* of the Parquet file's bytes, then of a piece of the index */
    size_t rest_len;
    bool in_piece;
    uint64_t piece_at;  /* where its rest goes */
    const char *pieces; /* the next one */
    size_t pieces_len;
    struct timer timer;
    struct file_write parquet_write, index_write;
};

static void advance(struct segment_build *b);

/* ---- rate ---- */

uint64_t segment_rate_take(struct segment_rate *rate, uint64_t now_ns, uint64_t bytes)
{
    if (rate->bytes_per_s == 0)
        return 0;
    if (rate->free_at_ns < now_ns)
        rate->free_at_ns = now_ns;
    uint64_t wait = rate->free_at_ns - now_ns;
    rate->free_at_ns += (uint64_t)((double)bytes * 1e9 / (double)rate->bytes_per_s);
    return wait;
}

/* ---- memory ---- */

/* The parts are what tests/unit/engine/test_segment_build.c has measured, with some room: the
 * arrays of a row group, which double as they grow, and of the index; two outputs of a group and
 * the step that it began in; pqfile's pages and what it keeps of each of them until the footer,
 * which is made, and kept once more for its sum, at the end; the hash of ids. */
uint64_t segment_build_need(const struct segment_build_shape *shape)
{
    enum { FIXED = 2 << 20, OF_GROUP = 6, OF_ROW = 4, OF_CHUNK = 700, OF_PAGE = 250, OF_ID = 9 };
    const struct segment_schema *schema = shape->schema;
    uint64_t group = shape->row_group_bytes, row = shape->row_bytes + PDB_ID_BYTES_MAX;
    uint64_t groups = shape->bytes / group + shape->rows / (SEGMENT_BUILD_STEP_ROWS * 4) + 2;
    uint64_t leaves = 6 + 2 * (uint64_t)schema->column_count + schema->field_count;
    uint64_t pages = shape->bytes / (128 << 10) + groups * leaves;
    for (uint32_t f = 0; f < schema->field_count; f++)
        row += (uint64_t)schema->fields[f].dimension * sizeof(float);
    return FIXED + OF_GROUP * group + OF_ROW * row + groups * leaves * OF_CHUNK + pages * OF_PAGE +
           shape->rows * OF_ID;
}

/* ---- on the worker ---- */

static int take_bytes(void *arg, const void *bytes, size_t len)
{
    struct segment_build *b = arg;
    struct buffer *out = &b->outputs[b->filling].parquet;
    buffer_add(out, bytes, len);
    if (out->failed)
        return PDB_RESOURCE_EXHAUSTED;
    b->crc = crc32c(b->crc, bytes, len);
    return 0;
}

static int take_piece(void *arg, uint64_t offset, const void *bytes, size_t len)
{
    struct segment_build *b = arg;
    struct buffer *out = &b->outputs[b->filling].index;
    struct piece piece = {offset, len};
    buffer_add(out, &piece, sizeof(piece));
    buffer_add(out, bytes, len);
    return out->failed ? PDB_RESOURCE_EXHAUSTED : 0;
}

static int make_writer(struct segment_build *b)
{
    struct segment_writer_options options = {.schema = b->options.file.schema,
                                             .heap = &b->heap,
                                             .row_group_bytes = b->options.row_group_bytes,
                                             .hash_seed = b->options.file.hash_seed,
                                             .census = &b->census,
                                             .write = take_bytes,
                                             .write_index = take_piece,
                                             .arg = b};
    return segment_writer_new(&options, &b->writer, &b->job_trail);
}

static int begin_source(struct segment_build *b, bool counting)
{
    const struct segment_source *source = &b->options.source;
    if (b->source_begun)
        return 0;
    b->source_begun = true;
    return source->begin(source->arg, counting, &b->job_trail);
}

static int compute_count(struct segment_build *b)
{
    const struct segment_source *source = &b->options.source;
    int rc = begin_source(b, true);
    for (unsigned i = 0; rc == 0 && i < SEGMENT_BUILD_STEP_ROWS; i++) {
        struct pdb_row row;
        rc = source->next(source->arg, &row, &b->job_trail);
        if (rc == 0) {
            b->counted = true;
            b->source_begun = false;
            return 0;
        }
        if (rc > 0) {
            segment_census_add(&b->census, b->options.file.schema.field_count, &row);
            rc = 0;
        }
    }
    return rc;
}

static int compute_rows(struct segment_build *b)
{
    const struct segment_source *source = &b->options.source;
    struct output *out = &b->outputs[b->filling];
    uint64_t made_max =
        b->options.step_bytes != 0 ? b->options.step_bytes : SEGMENT_BUILD_STEP_BYTES;
    int rc = begin_source(b, false);
    if (rc == 0 && b->writer == NULL)
        rc = make_writer(b);
    for (unsigned i = 0;
         rc == 0 && i < SEGMENT_BUILD_STEP_ROWS && out->parquet.len + out->index.len < made_max;
         i++) {
        struct pdb_row row;
        rc = source->next(source->arg, &row, &b->job_trail);
        if (rc < 0)
            return rc;
        if (rc == 0) {
            b->rows_over = true;
            return segment_writer_finish(b->writer, &b->job_trail);
        }
        rc = segment_writer_add(b->writer, &row, &b->job_trail);
    }
    return rc;
}

static int compute_index(struct segment_build *b)
{
    uint64_t budget = b->options.step_bytes != 0 ? b->options.step_bytes : SEGMENT_BUILD_STEP_BYTES;
    int rc = segment_writer_index_step(b->writer, budget, &b->job_trail);
    if (rc > 0)
        return 0;
    b->index_over = true;
    segment_writer_free(b->writer);
    b->writer = NULL;
    return rc;
}

static int compute_map(struct segment_build *b)
{
    bool index_bad;
    int rc =
        segment_file_open(b->options.r->io, &b->options.file, b->file, &index_bad, &b->job_trail);
    if (rc == 0 && b->file->stats.rows != b->census.rows)
        rc = trail_add(&b->job_trail, PDB_DATA_LOSS, "the segment does not have its rows");
    return rc;
}

static void dispose_outputs(struct segment_build *b)
{
    for (unsigned i = 0; i < 2; i++) {
        buffer_dispose(&b->outputs[i].parquet);
        buffer_dispose(&b->outputs[i].index);
    }
}

static void compute(struct job *job)
{
    struct segment_build *b = container_of(job, struct segment_build, job);
    b->outputs[b->filling].parquet.len = b->outputs[b->filling].index.len = 0;
    switch (b->job_kind) {
    case JOB_COUNT:
        b->job_rc = compute_count(b);
        break;
    case JOB_ROWS:
        b->job_rc = compute_rows(b);
        break;
    case JOB_INDEX:
        b->job_rc = compute_index(b);
        break;
    case JOB_RELEASE: /* giving megabytes back takes milliseconds */
        dispose_outputs(b);
        break;
    case JOB_MAP:
        b->job_rc = compute_map(b);
        break;
    }
}

/* ---- on the owner ---- */

static void note_error(struct segment_build *b, int rc, const struct trail *trail)
{
    if (b->rc != 0)
        return;
    b->rc = rc;
    b->trail = *trail;
}

static void job_back(struct reactor *r, struct mail *mail)
{
    struct segment_build *b = container_of(mail, struct segment_build, job.back);
    (void)r;
    b->computing = false;
    b->heap_peak = b->heap.bytes_peak;
    if (b->job_rc < 0) {
        if (b->job_trail.len == 0)
            (void)trail_add(&b->job_trail, b->job_rc, "segment: %s", pdb_error_text(b->job_rc));
        note_error(b, b->job_rc, &b->job_trail);
    }
    advance(b);
}

static void give_job(struct segment_build *b)
{
    b->held = false;
    b->job = (struct job){.back.deliver = job_back, .compute = compute};
    job_start(b->options.r, b->options.worker, &b->job);
}

static void start_job(struct segment_build *b, enum job_kind kind)
{
    ASSERT(!b->computing);
    b->computing = true;
    b->job_kind = kind;
    b->job_rc = 0;
    trail_reset(&b->job_trail);
    b->held = kind < JOB_RELEASE && b->options.hold != NULL && b->options.hold(b->options.arg);
    if (!b->held)
        give_job(b);
}

/* A step of the file under way has ended. */
static void write_over(struct file_write *w, int rc)
{
    struct segment_build *b = w->arg;
    b->writing = false;
    if (rc < 0) {
        struct trail trail = {0};
        int code = engine_errno_code(rc);
        (void)trail_add_http(&trail, code, code == PDB_RESOURCE_EXHAUSTED ? 507 : 0,
                             "%s: cannot be written: %s", w->path, strerror(-rc));
        note_error(b, code, &trail);
    }
    advance(b);
}

static void write_next(struct segment_build *b);

static void slice_over(struct file_write *w, int rc)
{
    struct segment_build *b = w->arg;
    if (rc < 0 || b->cancelled)
        write_over(w, rc);
    else
        write_next(b);
}

static void put_slice(struct segment_build *b)
{
    size_t len = b->rest_len < SLICE_BYTES ? b->rest_len : SLICE_BYTES;
    const char *from = b->rest;
    uint64_t at = b->piece_at;
    b->rest += len;
    b->rest_len -= len;
    b->piece_at += len;
    if (b->in_piece)
        file_write_at(&b->index_write, at, from, len, slice_over);
    else
        file_write_append(&b->parquet_write, from, len, slice_over);
}

static void slice_due(struct timer *timer)
{
    put_slice(container_of(timer, struct segment_build, timer));
}

static bool take_next_piece(struct segment_build *b)
{
    struct piece piece;
    if (b->pieces_len == 0)
        return false;
    memcpy(&piece, b->pieces, sizeof(piece));
    b->in_piece = true;
    b->piece_at = piece.offset;
    b->rest = b->pieces + sizeof(piece);
    b->rest_len = piece.len;
    b->pieces += sizeof(piece) + piece.len;
    b->pieces_len -= sizeof(piece) + piece.len;
    return true;
}

static void write_next(struct segment_build *b)
{
    struct reactor *r = b->options.r;
    if (b->rest_len == 0 && !take_next_piece(b)) {
        write_over(b->in_piece ? &b->index_write : &b->parquet_write, 0);
        return;
    }
    size_t len = b->rest_len < SLICE_BYTES ? b->rest_len : SLICE_BYTES;
    uint64_t wait =
        b->options.rate != NULL ? segment_rate_take(b->options.rate, r->now_ns, len) : 0;
    /* A timer that cannot be set is memory that is short; writing soon gives some back. */
    if (wait == 0 || timer_set(r, &b->timer, r->now_ns + wait) < 0)
        put_slice(b);
}

static void write_output(struct segment_build *b, const struct output *out)
{
    b->writing = true;
    b->in_piece = false;
    b->rest = out->parquet.ptr;
    b->rest_len = out->parquet.len;
    b->pieces = out->index.ptr;
    b->pieces_len = out->index.len;
    write_next(b);
}

/* ---- the stages ---- */

static void begin_file(struct segment_build *b, struct file_write *w, enum shard_file_kind kind)
{
    static const struct file_write_points points[2][2] = {
        {{.opened = "flush.opened",
          .written = "flush.written",
          .synced = "flush.synced",
          .renamed = "flush.renamed",
          .failing = "flush.step"},
         {.opened = "flush.index_opened",
          .written = "flush.index_written",
          .renamed = "flush.index_renamed",
          .durable = "flush.durable",
          .failing = "flush.index_step"}},
        {{.opened = "compact.opened",
          .written = "compact.written",
          .synced = "compact.synced",
          .renamed = "compact.renamed",
          .failing = "compact.step"},
         {.opened = "compact.index_opened",
          .written = "compact.index_written",
          .renamed = "compact.index_renamed",
          .durable = "compact.durable",
          .failing = "compact.index_step"}},
    };
    char name[SHARD_NAME_MAX];
    shard_files_name(name, kind, b->options.file.schema.number);
    b->writing = true;
    file_write_begin(w, b->options.r->io, b->options.file.folder, name,
                     &points[b->options.kind][kind == SHARD_FILE_INDEX], write_over);
    w->arg = b;
    w->sync_every = SYNC_EVERY_BYTES;
}

static void commit_file(struct segment_build *b, struct file_write *w, unsigned flags)
{
    b->writing = true;
    file_write_commit(w, flags, write_over);
}

static void undo(struct segment_build *b);

/* The output of the last job is written while the next one computes. */
static void go_on(struct segment_build *b)
{
    const struct output *made = &b->outputs[b->filling];
    bool more = !b->index_over;
    b->stage = more ? ROWS : LAST;
    if (more) {
        b->filling ^= 1;
        start_job(b, b->rows_over ? JOB_INDEX : JOB_ROWS);
    }
    if (made->parquet.len + made->index.len != 0)
        write_output(b, made);
    else if (!more)
        advance(b);
}

static void counted(struct segment_build *b)
{
    if (!b->counted) {
        b->stage = COUNTING;
        start_job(b, JOB_COUNT);
    } else if (b->census.rows == 0) {
        undo(b);
    } else {
        b->stage = INDEX_OPENING;
        b->index_begun = true;
        begin_file(b, &b->index_write, SHARD_FILE_INDEX);
        start_job(b, JOB_ROWS);
    }
}

static void free_build(struct segment_build *b)
{
    struct heap *heap = &b->options.r->heap;
    segment_writer_free(b->writer);
    dispose_outputs(b);
    segment_file_close(heap, b->file);
    ASSERT(b->heap.bytes_used == 0);
    heap_free(heap, b);
}

static void tell(struct segment_build *b)
{
    struct segment_file *file = b->rc == 0 && b->census.rows != 0 ? b->file : NULL;
    if (file != NULL) {
        file->parquet_crc32c = b->crc;
        b->file = NULL;
    }
    b->options.done(b, b->rc, file, b->rc < 0 ? &b->trail : NULL);
    free_build(b);
}

static void undone(struct file_write *w, int rc)
{
    struct segment_build *b = w->arg;
    (void)rc;
    if (w == &b->index_write) {
        file_write_abandon(&b->parquet_write, undone);
        return;
    }
    tell(b);
}

static void undo(struct segment_build *b)
{
    b->stage = UNDOING;
    file_write_abandon(b->index_begun ? &b->index_write : &b->parquet_write, undone);
}

static void enter_next(struct segment_build *b)
{
    switch (b->stage) {
    case OPENING:
    case COUNTING:
        counted(b);
        break;
    case INDEX_OPENING:
    case ROWS:
        go_on(b);
        break;
    case LAST:
        b->stage = COMMITTING;
        start_job(b, JOB_RELEASE);
        commit_file(b, &b->parquet_write, FILE_WRITE_SYNC);
        break;
    case COMMITTING:
        /* Not synced: its checksums tell whether it arrived, and it can be made again. */
        b->stage = INDEX_COMMITTING;
        commit_file(b, &b->index_write, FILE_WRITE_SYNC_DIR);
        break;
    case INDEX_COMMITTING:
        b->stage = MAPPING;
        start_job(b, JOB_MAP);
        break;
    case MAPPING:
        tell(b);
        break;
    case UNDOING:
        break;
    }
}

static void advance(struct segment_build *b)
{
    if (b->computing || b->writing)
        return;
    if (b->cancelled) {
        trail_reset(&b->trail);
        b->rc = trail_add(&b->trail, PDB_CANCELLED, "the making of a segment was cancelled");
    }
    if (b->rc < 0)
        undo(b);
    else
        enter_next(b);
}

/* ---- the outside ---- */

int segment_build_start(const struct segment_build_options *options,
                        struct segment_build **build_out)
{
    struct heap *heap = &options->r->heap;
    struct segment_build *b = heap_calloc(heap, 1, sizeof(*b));
    struct segment_file *file = heap_calloc(heap, 1, sizeof(*file));
    if (b == NULL || file == NULL) {
        heap_free(heap, b);
        heap_free(heap, file);
        return PDB_RESOURCE_EXHAUSTED;
    }
    b->options = *options;
    b->file = file;
    b->heap.bytes_max = options->heap_bytes_max;
    b->heap.large_by_pages = true; /* what was reserved for it is given to others at its end */
    b->timer.fire = slice_due;
    for (unsigned i = 0; i < 2; i++) {
        buffer_init_heap(&b->outputs[i].parquet, &b->heap, 0);
        buffer_init_heap(&b->outputs[i].index, &b->heap, 0);
    }
    b->stage = OPENING;
    begin_file(b, &b->parquet_write, SHARD_FILE_PARQUET);
    start_job(b, JOB_COUNT);
    *build_out = b;
    return 0;
}

void *segment_build_arg(const struct segment_build *build)
{
    return build->options.arg;
}

uint64_t segment_build_heap_peak(const struct segment_build *build)
{
    return build->heap_peak;
}

void segment_build_resume(struct segment_build *build)
{
    if (build->held)
        give_job(build);
}

void segment_build_cancel(struct segment_build *build)
{
    build->cancelled = true;
    if (build->held)
        build->held = build->computing = false;
    if (build->timer.slot != 0) {
        timer_cancel(build->options.r, &build->timer);
        build->writing = false;
    }
    if (build->stage != UNDOING)
        advance(build); /* does nothing where a job or an I/O will come back */
}

void segment_build_drop(struct segment_build *build)
{
    if (build == NULL)
        return;
    timer_cancel(build->options.r, &build->timer);
    free_build(build);
}
