/* segment_build.c: rows into the two files of a segment, with the computation on a worker and the
 * I/O on the owner's loop.
 *
 * The build is a table of stages. In a stage a job is under way, or a write, or both; when neither
 * is left, `advance` looks at what came of them and enters the next stage:
 *
 *     OPENING            open the Parquet file's temporary name   the first rows
 *     ROWS               write what the job before made           more rows
 *     LAST               write what the last rows made            the index
 *     COMMITTING         sync, rename
 *     INDEX_OPENING      open the index's temporary name
 *     INDEX_WRITING      write it
 *     INDEX_COMMITTING   rename, sync of the folder
 *     MAPPING                                                     map both, open the segment
 *     UNDOING            remove both files
 *
 * Two buffers take turns: while one is written the other is filled. Errors of the job and of the
 * write are kept apart until both are over, because the worker and the owner must not write to one
 * place. A build that fails or is cancelled goes to UNDOING from wherever it is; it always has a
 * file to close or remove there, so `done` never runs inside segment_build_cancel. */
#include "engine/segment_build.h"

#include "base/assert.h"
#include "base/container_of.h"
#include "base/crc32c.h"
#include "engine/engine_internal.h"
#include "engine/failpoint.h"

#include <string.h>

#include "base/no_libc_heap.h"

enum {
    SLICE_BYTES = 1 << 20,      /* written at once: the rate limit's grain */
    SYNC_EVERY_BYTES = 16 << 20 /* so that no sync stands long before the log's */
};

enum stage {
    OPENING,
    ROWS,
    LAST,
    COMMITTING,
    INDEX_OPENING,
    INDEX_WRITING,
    INDEX_COMMITTING,
    MAPPING,
    UNDOING,
};

enum job_kind { JOB_ROWS, JOB_INDEX, JOB_MAP };

struct segment_build {
    struct segment_build_options options;
    enum stage stage;
    bool computing, writing, cancelled;
    bool index_begun; /* its file */
    int rc;           /* the first error */
    struct trail trail;
    uint64_t heap_bytes;

    /* The worker's while computing. */
    struct job job;
    enum job_kind job_kind;
    int job_rc;
    struct trail job_trail;
    struct heap heap;
    struct segment_writer *writer;
    struct buffer buffers[2], index;
    unsigned filling; /* the buffer of the job under way, or of the last one */
    uint32_t crc;
    uint64_t rows;
    bool rows_over;
    struct segment_file *file;

    /* The owner's. */
    struct file_write *write; /* the file that is written now */
    const char *rest;         /* of the buffer */
    size_t rest_len;
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

/* ---- on the worker ---- */

static int take_bytes(void *arg, const void *bytes, size_t len)
{
    struct segment_build *b = arg;
    struct buffer *out = &b->buffers[b->filling];
    buffer_add(out, bytes, len);
    if (out->failed)
        return PDB_RESOURCE_EXHAUSTED;
    b->crc = crc32c(b->crc, bytes, len);
    return 0;
}

static int make_writer(struct segment_build *b)
{
    struct segment_writer_options options = {.schema = b->options.file.schema,
                                             .heap = &b->heap,
                                             .row_group_bytes = b->options.row_group_bytes,
                                             .hash_seed = b->options.file.hash_seed,
                                             .write = take_bytes,
                                             .arg = b};
    return segment_writer_new(&options, &b->writer, &b->job_trail);
}

static int compute_rows(struct segment_build *b)
{
    const struct segment_source *source = &b->options.source;
    struct buffer *out = &b->buffers[b->filling];
    out->len = 0;
    for (unsigned i = 0; i < SEGMENT_BUILD_STEP_ROWS && out->len < SEGMENT_BUILD_STEP_BYTES; i++) {
        struct pdb_row row;
        int rc = source->next(source->arg, &row, &b->job_trail);
        if (rc < 0)
            return rc;
        if (rc == 0) {
            b->rows_over = true;
            return b->writer != NULL ? segment_writer_finish(b->writer, &b->job_trail) : 0;
        }
        if (b->writer == NULL && (rc = make_writer(b)) < 0)
            return rc;
        if ((rc = segment_writer_add(b->writer, &row, &b->job_trail)) < 0)
            return rc;
        b->rows++;
    }
    return 0;
}

/* The buffer that is not being written is of no more use. */
static int compute_index(struct segment_build *b)
{
    buffer_dispose(&b->buffers[b->filling ^ 1]);
    int rc = segment_writer_index(b->writer, &b->index, &b->job_trail);
    segment_writer_free(b->writer);
    b->writer = NULL;
    return rc;
}

static int compute_map(struct segment_build *b)
{
    bool index_bad;
    int rc =
        segment_file_open(b->options.r->io, &b->options.file, b->file, &index_bad, &b->job_trail);
    if (rc == 0 && b->file->stats.rows != b->rows)
        rc = trail_add(&b->job_trail, PDB_DATA_LOSS, "the segment does not have its rows");
    return rc;
}

static void compute(struct job *job)
{
    struct segment_build *b = container_of(job, struct segment_build, job);
    switch (b->job_kind) {
    case JOB_ROWS:
        b->job_rc = compute_rows(b);
        break;
    case JOB_INDEX:
        b->job_rc = compute_index(b);
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
    b->heap_bytes = b->heap.bytes_used;
    if (b->job_rc < 0) {
        if (b->job_trail.len == 0)
            (void)trail_add(&b->job_trail, b->job_rc, "segment: %s", pdb_error_text(b->job_rc));
        note_error(b, b->job_rc, &b->job_trail);
    }
    advance(b);
}

static void start_job(struct segment_build *b, enum job_kind kind)
{
    ASSERT(!b->computing);
    b->computing = true;
    b->job_kind = kind;
    b->job_rc = 0;
    trail_reset(&b->job_trail);
    b->job = (struct job){.back.deliver = job_back, .compute = compute};
    job_start(b->options.r, b->options.worker, &b->job);
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

static void write_slice(struct segment_build *b);

static void slice_over(struct file_write *w, int rc)
{
    struct segment_build *b = w->arg;
    if (rc < 0 || b->rest_len == 0 || b->cancelled)
        write_over(w, rc);
    else
        write_slice(b);
}

static void append_slice(struct segment_build *b)
{
    size_t len = b->rest_len < SLICE_BYTES ? b->rest_len : SLICE_BYTES;
    const char *at = b->rest;
    b->rest += len;
    b->rest_len -= len;
    file_write_append(b->write, at, len, slice_over);
}

static void slice_due(struct timer *timer)
{
    append_slice(container_of(timer, struct segment_build, timer));
}

static void write_slice(struct segment_build *b)
{
    struct reactor *r = b->options.r;
    size_t len = b->rest_len < SLICE_BYTES ? b->rest_len : SLICE_BYTES;
    uint64_t wait =
        b->options.rate != NULL ? segment_rate_take(b->options.rate, r->now_ns, len) : 0;
    /* A timer that cannot be set is memory that is short; writing soon gives some back. */
    if (wait == 0 || timer_set(r, &b->timer, r->now_ns + wait) < 0)
        append_slice(b);
}

static void write_buffer(struct segment_build *b, struct file_write *w, const struct buffer *bytes)
{
    b->writing = true;
    b->write = w;
    b->rest = bytes->ptr;
    b->rest_len = bytes->len;
    write_slice(b);
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

/* The bytes of the last job are written while the next one computes. */
static void next_rows(struct segment_build *b)
{
    struct buffer *made = &b->buffers[b->filling];
    if (b->rows_over && b->rows == 0) {
        undo(b);
        return;
    }
    b->stage = b->rows_over ? LAST : ROWS;
    if (b->rows_over) {
        start_job(b, JOB_INDEX);
    } else {
        b->filling ^= 1;
        start_job(b, JOB_ROWS);
    }
    if (made->len != 0)
        write_buffer(b, &b->parquet_write, made);
}

static void free_build(struct segment_build *b)
{
    struct heap *heap = &b->options.r->heap;
    segment_writer_free(b->writer);
    buffer_dispose(&b->buffers[0]);
    buffer_dispose(&b->buffers[1]);
    buffer_dispose(&b->index);
    segment_file_close(heap, b->file);
    ASSERT(b->heap.bytes_used == 0);
    heap_free(heap, b);
}

static void tell(struct segment_build *b)
{
    struct segment_file *file = b->rc == 0 && b->rows != 0 ? b->file : NULL;
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
    case ROWS:
        next_rows(b);
        break;
    case LAST:
        b->stage = COMMITTING;
        commit_file(b, &b->parquet_write, FILE_WRITE_SYNC);
        break;
    case COMMITTING:
        b->stage = INDEX_OPENING;
        b->index_begun = true;
        begin_file(b, &b->index_write, SHARD_FILE_INDEX);
        break;
    case INDEX_OPENING:
        b->stage = INDEX_WRITING;
        write_buffer(b, &b->index_write, &b->index);
        break;
    case INDEX_WRITING:
        /* Not synced: its checksums tell whether it arrived, and it can be made again. */
        b->stage = INDEX_COMMITTING;
        commit_file(b, &b->index_write, FILE_WRITE_SYNC_DIR);
        break;
    case INDEX_COMMITTING:
        b->stage = MAPPING;
        buffer_dispose(&b->index);
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
    b->timer.fire = slice_due;
    buffer_init_heap(&b->buffers[0], &b->heap, 0);
    buffer_init_heap(&b->buffers[1], &b->heap, 0);
    buffer_init_heap(&b->index, &b->heap, 0);
    b->stage = OPENING;
    begin_file(b, &b->parquet_write, SHARD_FILE_PARQUET);
    start_job(b, JOB_ROWS);
    *build_out = b;
    return 0;
}

void *segment_build_arg(const struct segment_build *build)
{
    return build->options.arg;
}

void segment_build_cancel(struct segment_build *build)
{
    build->cancelled = true;
    if (build->timer.slot == 0)
        return; /* a job or an I/O will come back */
    timer_cancel(build->options.r, &build->timer);
    build->writing = false;
    advance(build);
}

uint64_t segment_build_heap_bytes(const struct segment_build *build)
{
    return build->heap_bytes;
}

void segment_build_drop(struct segment_build *build)
{
    if (build == NULL)
        return;
    timer_cancel(build->options.r, &build->timer);
    free_build(build);
}
