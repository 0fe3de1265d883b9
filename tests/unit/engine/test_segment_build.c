/* Building a segment: rows on a worker, files on the loop, whatever fails and whenever it is
 * cancelled or the power goes; and opening it again at start. */
#include "engine/segment_build.h"

#include "base/crc32c.h"
#include "base/doc.h"
#include "engine/segment_merge.h"
#include "files_fixture.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>

enum { DIMENSION = 24, NUMBER = 7 };
#ifdef PDB_STRESS /* row groups of a few rows: their metadata is most of it */
enum { MANY = 40000 };
#else
enum { MANY = 100000 }; /* several jobs and buffers */
#endif
#define FOLDER  "shard"
#define PARQUET FOLDER "/0000000007.parquet"
#define INDEX   FOLDER "/0000000007.index"

static const struct pdb_field fields[1] = {
    {.name = {"", 0}, .dimension = DIMENSION, .metric = PDB_METRIC_EUCLIDEAN}};

/* Rows "00000000", "00000001", ... */
struct rows {
    unsigned passes;
    uint32_t count, next, fail_at; /* fail_at: the row that cannot be had; UINT32_MAX: none */
    char id[16];
    float values[DIMENSION];
    const void *vectors[1];
};

struct lab {
    struct disk d;
    struct reactor_group *group;
    struct reactor *r;
    struct rows rows;
    struct segment_rate rate;
    struct segment_build *build;
    struct segment_file *file;
    bool over;
    int rc;
    struct trail trail;
    size_t heap_before;
};

static int begin_rows(void *arg, bool counting, struct trail *trail)
{
    struct rows *rows = arg;
    (void)trail;
    rows->passes++;
    assert_int_equal(counting, rows->passes == 1);
    rows->next = 0;
    return 0;
}

static int next_row(void *arg, struct pdb_row *row_out, struct trail *trail)
{
    struct rows *rows = arg;
    if (rows->next == rows->fail_at)
        return trail_add(trail, PDB_DATA_LOSS, "row %u cannot be read", rows->next);
    if (rows->next == rows->count)
        return 0;
    int len = snprintf(rows->id, sizeof(rows->id), "%08u", rows->next);
    for (unsigned i = 0; i < DIMENSION; i++)
        rows->values[i] = (float)(rows->next * 31 % 1009 + i);
    rows->vectors[0] = rows->values;
    *row_out = (struct pdb_row){.id = {rows->id, (size_t)len},
                                .vectors = rows->vectors,
                                .version = 1 + rows->next % 50,
                                .created_at_us = 5,
                                .updated_at_us = 6};
    rows->next++;
    return 1;
}

static struct segment_file_options file_options(void)
{
    return (struct segment_file_options){
        .folder = FOLDER,
        .schema = {.collection = {{1}},
                   .number = NUMBER,
                   .fields = fields,
                   .field_count = 1,
                   .vectors_in_place = true},
        .hash_seed = 99,
        .index_advice = FILE_MAP_WILLNEED,
    };
}

static void lab_start(struct lab *lab)
{
    lab->group = disk_reactors(&lab->d);
    lab->r = reactor_group_at(lab->group, 0);
    struct timer first = {0}; /* the timers' own memory is not a build's */
    assert_int_equal(timer_set(lab->r, &first, UINT64_MAX), 0);
    timer_cancel(lab->r, &first);
    lab->heap_before = lab->r->heap.bytes_used;
}

static void lab_begin(struct lab *lab, uint64_t seed, uint32_t count)
{
    memset(lab, 0, sizeof(*lab));
    lab->d = disk_begin(seed);
    lab->rows.count = count;
    lab->rows.fail_at = UINT32_MAX;
    assert_int_equal(io_wait_make_dir(lab->d.io, FOLDER), 0);
    assert_int_equal(io_wait_sync_dir(lab->d.io, "/"), 0);
    lab_start(lab);
}

static void lab_end(struct lab *lab)
{
    segment_file_close(&lab->r->heap, lab->file);
    reactor_group_stop(lab->group);
    disk_end(&lab->d);
}

static void done(struct segment_build *build, int rc, struct segment_file *file,
                 const struct trail *trail)
{
    struct lab *lab = segment_build_arg(build);
    assert_ptr_equal(build, lab->build);
    assert_false(lab->over);
    assert_int_equal(trail == NULL, rc == 0);
    lab->over = true;
    lab->rc = rc;
    lab->file = file;
    if (trail != NULL)
        lab->trail = *trail;
}

static struct segment_build_options build_options(struct lab *lab)
{
    return (struct segment_build_options){.r = lab->r,
                                          .worker = 1,
                                          .file = file_options(),
                                          .source = {begin_rows, next_row, &lab->rows},
                                          .row_group_bytes = 1 << 20,
                                          .kind = SEGMENT_BUILD_FLUSH,
                                          .done = done,
                                          .arg = lab};
}

static bool lab_turn(struct lab *lab)
{
    return disk_turn(&lab->d, lab->group);
}

static void run_with(struct lab *lab, const struct segment_build_options *options)
{
    assert_int_equal(segment_build_start(options, &lab->build), 0);
    while (!lab->over && lab_turn(lab))
        continue;
}

static void run(struct lab *lab)
{
    struct segment_build_options options = build_options(lab);
    run_with(lab, &options);
}

/* What a manifest would say of `count` rows in the file that is there. */
static struct manifest_segment entry_of(struct lab *lab, uint32_t count)
{
    struct manifest_segment entry = {
        .number = NUMBER, .rows = count, .version_min = 1, .version_max = 50};
    void *bytes;
    size_t len;
    if (sim_read_file(lab->d.io, PARQUET, &bytes, &len) == 0) {
        entry.parquet_bytes = len;
        entry.parquet_crc32c = crc32c(0, bytes, len);
        heap_free(NULL, bytes);
    }
    return entry;
}

static void expect_rows(const struct segment_file *file, uint32_t count)
{
    assert_non_null(file);
    assert_int_equal(file->stats.rows, count);
    for (uint32_t i = 0; i < count; i += 1 + count / 97) {
        char id[16];
        uint32_t row;
        struct pdb_row found;
        const void *vectors[1];
        int len = snprintf(id, sizeof(id), "%08u", i);
        assert_true(
            segment_find(file->segment, (struct pdb_text){id, (size_t)len}, UINT64_MAX, &row));
        assert_int_equal(row, i);
        assert_true(segment_row(file->segment, row, &found, vectors));
        assert_int_equal(found.version, 1 + i % 50);
        assert_true(((const float *)vectors[0])[3] == (float)(i * 31 % 1009 + 3));
    }
}

/* ---- building ---- */

static void rows_become_two_files_and_an_open_segment(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 5000, MANY};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct lab *lab = test_malloc(sizeof(*lab));
        lab_begin(lab, i, counts[i]);
        run(lab);
        assert_int_equal(lab->rc, 0);
        expect_rows(lab->file, counts[i]);
        assert_int_equal(disk_list(&lab->d, FOLDER).count, 2);
        assert_true(disk_has(&lab->d, INDEX));
        struct manifest_segment entry, expected = entry_of(lab, counts[i]);
        segment_file_manifest_entry(lab->file, 4, &entry);
        assert_int_equal(entry.number, NUMBER);
        assert_int_equal(entry.parquet_bytes, expected.parquet_bytes);
        assert_int_equal(entry.parquet_crc32c, expected.parquet_crc32c);
        assert_int_equal(entry.rows, counts[i]);
        assert_int_equal(entry.version_min, 1);
        assert_int_equal(entry.expires_min_us, INT64_MAX);
        assert_int_equal(entry.schema_version, 4);
        segment_file_close(&lab->r->heap, lab->file);
        lab->file = NULL;
        assert_int_equal(lab->r->heap.bytes_used, lab->heap_before);
        lab_end(lab);
        test_free(lab);
    }
}

static void no_rows_make_no_file(void **state)
{
    (void)state;
    struct lab *lab = test_malloc(sizeof(*lab));
    lab_begin(lab, 1, 0);
    run(lab);
    assert_int_equal(lab->rc, 0);
    assert_null(lab->file);
    assert_int_equal(disk_list(&lab->d, FOLDER).count, 0);
    assert_int_equal(lab->r->heap.bytes_used, lab->heap_before);
    lab_end(lab);
    test_free(lab);
}

static void an_error_of_the_source_ends_it_without_a_trace(void **state)
{
    (void)state;
    static const uint32_t rows[] = {0, 1, MANY - 1};
    for (size_t i = 0; i < 3; i++) {
        struct lab *lab = test_malloc(sizeof(*lab));
        lab_begin(lab, i, MANY);
        lab->rows.fail_at = rows[i];
        run(lab);
        assert_int_equal(lab->rc, PDB_DATA_LOSS);
        assert_non_null(strstr(lab->trail.text, "cannot be read"));
        assert_int_equal(disk_list(&lab->d, FOLDER).count, 0);
        assert_int_equal(lab->r->heap.bytes_used, lab->heap_before);
        lab_end(lab);
        test_free(lab);
    }
}

static uint64_t ios_of_a_build(uint32_t count)
{
    struct lab *lab = test_malloc(sizeof(*lab));
    lab_begin(lab, 1, count);
    uint64_t before = sim_disk_op_count(lab->d.sim);
    run(lab);
    uint64_t ios = sim_disk_op_count(lab->d.sim) - before;
    lab_end(lab);
    test_free(lab);
    return ios;
}

static void whichever_io_fails_nothing_is_left(void **state)
{
    (void)state;
    uint64_t count = ios_of_a_build(8000);
    assert_true(count > 10);
    for (uint64_t n = 1; n <= count; n++) {
        struct lab *lab = test_malloc(sizeof(*lab));
        lab_begin(lab, n, 8000);
        sim_disk_fail_at(lab->d.sim, n, ENOSPC);
        run(lab);
        assert_int_equal(lab->rc, PDB_RESOURCE_EXHAUSTED);
        assert_int_not_equal(lab->trail.len, 0);
        assert_null(lab->file);
        assert_int_equal(disk_list(&lab->d, FOLDER).count, 0);
        assert_int_equal(lab->r->heap.bytes_used, lab->heap_before);
        lab_end(lab);
        test_free(lab);
    }
}

static void memory_that_runs_out_is_an_error_and_nothing_is_left(void **state)
{
    (void)state;
    unsigned failed = 0, succeeded = 0;
    for (size_t bytes = 4096; bytes < (64 << 20); bytes = bytes * 5 / 4) {
        struct lab *lab = test_malloc(sizeof(*lab));
        lab_begin(lab, 1, 3000);
        struct segment_build_options options = build_options(lab);
        options.heap_bytes_max = bytes;
        run_with(lab, &options);
        assert_true(lab->rc == 0 || lab->rc == PDB_RESOURCE_EXHAUSTED);
        assert_int_equal(disk_list(&lab->d, FOLDER).count, lab->rc == 0 ? 2 : 0);
        failed += lab->rc != 0;
        succeeded += lab->rc == 0;
        lab_end(lab);
        test_free(lab);
    }
    assert_true(failed > 10 && succeeded > 5);
    for (uint64_t n = 1; n <= 2; n++) { /* of the owner's heap: not started */
        struct lab *lab = test_malloc(sizeof(*lab));
        lab_begin(lab, 1, 3000);
        struct segment_build_options options = build_options(lab);
        lab->r->heap.fail_at = lab->r->heap.allocation_count + n;
        assert_int_equal(segment_build_start(&options, &lab->build), PDB_RESOURCE_EXHAUSTED);
        lab->r->heap.fail_at = 0;
        assert_int_equal(lab->r->heap.bytes_used, lab->heap_before);
        lab_end(lab);
        test_free(lab);
    }
}

static void cancelled_at_any_turn_it_ends_once_and_leaves_nothing(void **state)
{
    (void)state;
    bool finished = false;
    for (unsigned turns = 0; !finished; turns++) {
        struct lab *lab = test_malloc(sizeof(*lab));
        lab_begin(lab, turns, 8000);
        struct segment_build_options options = build_options(lab);
        lab->rate.bytes_per_s = 10 << 20; /* it waits for a timer at times */
        options.rate = &lab->rate;
        assert_int_equal(segment_build_start(&options, &lab->build), 0);
        for (unsigned i = 0; i < turns && !lab->over; i++)
            assert_true(lab_turn(lab));
        finished = lab->over;
        if (!finished) {
            segment_build_cancel(lab->build);
            assert_false(lab->over);
            while (!lab->over)
                assert_true(lab_turn(lab));
            assert_int_equal(lab->rc, PDB_CANCELLED);
            assert_null(lab->file);
            assert_int_equal(disk_list(&lab->d, FOLDER).count, 0);
            assert_int_equal(lab->r->heap.bytes_used, lab->heap_before);
        }
        lab_end(lab);
        test_free(lab);
    }
}

static void the_rate_is_kept_over_all_builds(void **state)
{
    (void)state;
    struct lab *lab = test_malloc(sizeof(*lab));
    lab_begin(lab, 1, MANY);
    struct segment_build_options options = build_options(lab);
    lab->rate.bytes_per_s = 4 << 20;
    options.rate = &lab->rate;
    uint64_t began = lab->r->now_ns;
    run_with(lab, &options);
    assert_int_equal(lab->rc, 0);
    uint64_t bytes = lab->file->parquet.len + lab->file->index.len;
    double seconds = (double)(lab->r->now_ns - began) / 1e9;
    double expected = (double)(bytes - (2 << 20)) / (double)lab->rate.bytes_per_s;
    assert_true(seconds >= expected && seconds < expected + 1.5);
    lab_end(lab);
    test_free(lab);
}

static void a_rate_lets_bytes_go_at_once_after_a_rest(void **state)
{
    (void)state;
    struct segment_rate rate = {.bytes_per_s = 1000};
    assert_int_equal(segment_rate_take(&rate, 5000000000, 500), 0);
    assert_int_equal(segment_rate_take(&rate, 5000000000, 500), 500000000);
    assert_int_equal(segment_rate_take(&rate, 5700000000, 1), 300000000);
    assert_int_equal(segment_rate_take(&rate, 99000000000, 1000000), 0);
    rate.bytes_per_s = 0;
    assert_int_equal(segment_rate_take(&rate, 99000000001, 1), 0);
}

/* ---- standing aside ---- */

enum { IDLE_TURNS = 500 };

struct holding {
    struct lab *lab;
    unsigned asked, held;
    bool held_now;
};

static struct holding *holding; /* the test's */

/* Every second job waits. */
static bool hold_it(void *arg)
{
    assert_ptr_equal(arg, holding->lab);
    holding->held_now = holding->asked++ % 2 == 0;
    holding->held += holding->held_now;
    return holding->held_now;
}

static void a_build_that_is_held_waits_between_two_jobs(void **state)
{
    (void)state;
    struct lab *lab = test_malloc(sizeof(*lab));
    struct holding here = {.lab = lab};
    holding = &here;
    lab_begin(lab, 1, MANY);
    struct segment_build_options options = build_options(lab);
    options.hold = hold_it;
    assert_int_equal(segment_build_start(&options, &lab->build), 0);
    while (!lab->over) {
        assert_true(lab_turn(lab));
        if (!here.held_now)
            continue;
        unsigned asked = here.asked;
        for (unsigned i = 0; i < IDLE_TURNS; i++) /* what is written meanwhile ends */
            assert_true(lab_turn(lab));
        assert_false(lab->over);
        assert_int_equal(here.asked, asked); /* no job has begun, and so none has ended */
        here.held_now = false;
        segment_build_resume(lab->build);
    }
    assert_int_equal(lab->rc, 0);
    assert_true(here.held >= 2);
    expect_rows(lab->file, MANY);
    lab_end(lab);
    test_free(lab);
}

static void a_build_that_is_held_can_be_cancelled(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 3; n++) {
        struct lab *lab = test_malloc(sizeof(*lab));
        struct holding here = {.lab = lab};
        holding = &here;
        lab_begin(lab, n, MANY);
        struct segment_build_options options = build_options(lab);
        options.hold = hold_it;
        assert_int_equal(segment_build_start(&options, &lab->build), 0);
        while (here.held < n) {
            segment_build_resume(lab->build);
            assert_true(lab_turn(lab));
        }
        assert_false(lab->over);
        segment_build_cancel(lab->build);
        while (!lab->over)
            assert_true(lab_turn(lab));
        assert_int_equal(lab->rc, PDB_CANCELLED);
        assert_int_equal(disk_list(&lab->d, FOLDER).count, 0);
        lab_end(lab);
        test_free(lab);
    }
}

/* ---- memory ---- */

/* Rows of one shape, after another. */
struct shape {
    const char *name;
    uint32_t rows, dimension, id_len, doc_len, columns;
    uint64_t row_group_bytes;
};

struct shaped {
    const struct shape *shape;
    struct pdb_field field;
    struct pdb_column columns[20];
    char column_names[20][4];
    uint32_t next;
    char id[PDB_ID_BYTES_MAX];
    float *values;
    const void *vectors[1];
    struct arena arena;
    struct pdb_text document;
};

static int begin_shape(void *arg, bool counting, struct trail *trail)
{
    struct shaped *s = arg;
    (void)counting;
    (void)trail;
    s->next = 0;
    return 0;
}

static int next_shape(void *arg, struct pdb_row *row_out, struct trail *trail)
{
    struct shaped *s = arg;
    char number[12];
    (void)trail;
    if (s->next == s->shape->rows)
        return 0;
    memset(s->id, 'x', sizeof(s->id));
    (void)snprintf(number, sizeof(number), "%08u", s->next++);
    memcpy(s->id, number, 8);
    *row_out = (struct pdb_row){.id = {s->id, s->shape->id_len},
                                .vectors = s->vectors,
                                .metadata = s->document,
                                .version = 1 + s->next * 7919ull % 1000,
                                .created_at_us = s->next,
                                .updated_at_us = s->next + 1,
                                .expires_at_us = s->next};
    return 1;
}

/* {"c00": "xxx...", "c01": ..., "rest": "xxx..."} */
static void make_document(struct shaped *s)
{
    struct doc_builder *b = doc_builder_new(&s->arena, 2 << 20);
    uint32_t parts = s->shape->columns + 1;
    char *text = test_malloc(s->shape->doc_len + 1);
    memset(text, 'y', s->shape->doc_len);
    struct pdb_text part = {text, s->shape->doc_len / parts};
    assert_non_null(b);
    assert_int_equal(doc_begin_object(b), 0);
    for (uint32_t i = 0; i < parts; i++) {
        struct pdb_text name = i < s->shape->columns ? s->columns[i].name : TEXT_LIT("rest");
        assert_int_equal(doc_add_key(b, name), 0);
        assert_int_equal(doc_add_string(b, part), 0);
    }
    assert_int_equal(doc_end(b), 0);
    assert_int_equal(doc_builder_finish(b, &s->document, NULL), 0);
    test_free(text);
}

static void shaped_begin(struct shaped *s, const struct shape *shape)
{
    *s = (struct shaped){.shape = shape,
                         .field = {.dimension = shape->dimension, .metric = PDB_METRIC_COSINE}};
    s->values = test_calloc(shape->dimension, sizeof(float));
    s->values[0] = 1;
    s->vectors[0] = s->values;
    for (uint32_t i = 0; i < shape->columns; i++) {
        (void)snprintf(s->column_names[i], sizeof(s->column_names[i]), "c%02u", i);
        s->columns[i] = (struct pdb_column){{s->column_names[i], 3},
                                            i % 2 == 0 ? PDB_COLUMN_TEXT : PDB_COLUMN_STRING};
    }
    if (shape->doc_len != 0)
        make_document(s);
}

/* The most that the build held, which is not more than what is asked for it. */
static uint64_t build_shape(const struct shape *shape, uint64_t *need_out)
{
    struct lab *lab = test_malloc(sizeof(*lab));
    struct shaped shaped;
    shaped_begin(&shaped, shape);
    lab_begin(lab, 1, 0);
    struct segment_build_options options = build_options(lab);
    options.source = (struct segment_source){begin_shape, next_shape, &shaped};
    options.file.schema.fields = &shaped.field;
    options.file.schema.columns = shaped.columns;
    options.file.schema.column_count = shape->columns;
    options.row_group_bytes = shape->row_group_bytes;
    options.step_bytes = shape->row_group_bytes / 2;
    uint64_t row = shape->dimension * sizeof(float) + 2ull * shape->id_len + 2ull * shape->doc_len;
    struct segment_build_shape asked = {.schema = &options.file.schema,
                                        .row_group_bytes = shape->row_group_bytes,
                                        .rows = shape->rows,
                                        .bytes = shape->rows * (row + 50),
                                        .row_bytes = shape->doc_len};
    *need_out = segment_build_need(&asked);
    uint64_t most = 0;
    assert_int_equal(segment_build_start(&options, &lab->build), 0);
    while (!lab->over) {
        uint64_t peak = segment_build_heap_peak(lab->build);
        most = peak > most ? peak : most;
        assert_true(lab_turn(lab));
    }
    assert_int_equal(lab->rc, 0);
    assert_int_equal(lab->file->stats.rows, shape->rows);
    lab_end(lab);
    test_free(lab);
    test_free(shaped.values);
    arena_dispose(&shaped.arena);
    return most;
}

static void a_build_holds_no_more_than_what_is_asked_for_it(void **state)
{
    (void)state;
    static const struct shape shapes[] = {
        {"few", 10, 8, 8, 0, 0, 1 << 20},
        {"tiny rows", 400000, 1, 8, 0, 0, 1 << 20},
        {"short vectors", 200000, 32, 16, 0, 0, 1 << 20},
        {"long vectors", 30000, 768, 16, 0, 0, 1 << 20},
        {"the same in larger groups", 30000, 768, 16, 0, 0, 4 << 20},
        {"vectors as long as may be", 60, PDB_DIMENSION_MAX, 16, 0, 0, 1 << 20},
        {"long ids", 60000, 4, 512, 0, 0, 1 << 20},
        {"documents", 40000, 8, 16, 900, 0, 1 << 20},
        {"columns", 40000, 8, 16, 900, 20, 1 << 20},
        {"many columns in small groups", 20000, 8, 16, 400, 20, 256 << 10},
        {"documents as large as may be", 30, 8, 16, (1 << 20) - 300, 3, 1 << 20},
        {"the same in small groups", 30, 8, 16, (1 << 20) - 300, 0, 256 << 10},
        {"small groups", 30000, 128, 16, 100, 2, 256 << 10},
    };
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        uint64_t need = 0, most = build_shape(&shapes[i], &need);
        print_message("%s: %.1f MiB of %.1f\n", shapes[i].name, (double)most / (1 << 20),
                      (double)need / (1 << 20));
        assert_true(most <= need);
    }
}

/* Not ids, documents and times of all rows: a hash of their ids, and what the footer says. */
static void memory_hardly_grows_with_the_rows(void **state)
{
    (void)state;
    const struct shape one = {"", 20000, 32, 32, 300, 0, 1 << 20};
    struct shape ten = one;
    ten.rows *= 10;
    uint64_t need, of_one = build_shape(&one, &need), of_ten = build_shape(&ten, &need);
    assert_true(of_ten < of_one + (ten.rows - one.rows) * 24ull);
}

/* ---- the power, and the next start ---- */

static void restart(struct lab *lab)
{
    if (!lab->over)
        segment_build_drop(lab->build);
    segment_file_close(&lab->r->heap, lab->file);
    lab->file = NULL;
    if (!lab->d.cut)
        sim_disk_crash(lab->d.sim);
    lab->d.cut = true;
    reactor_group_stop(lab->group);
    disk_restart(&lab->d);
    lab_start(lab);
}

static int load(struct lab *lab, uint32_t count, struct trail *trail)
{
    struct segment_file_options options = file_options();
    struct manifest_segment entry = entry_of(lab, count);
    return segment_load(lab->d.io, &lab->r->heap, &options, &entry, &lab->file, trail);
}

static void a_finished_segment_survives_the_power_and_an_unfinished_one_is_cleaned_up(void **state)
{
    (void)state;
    enum { ROWS = 4000 };
    uint64_t count = ios_of_a_build(ROWS);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        for (uint64_t n = 1; n <= count + 1; n++) {
            struct lab *lab = test_malloc(sizeof(*lab));
            struct trail trail = {0};
            lab_begin(lab, seed, ROWS);
            disk_cut_at(&lab->d, n);
            run(lab);
            bool finished = lab->over;
            assert_int_equal(finished, n > count);
            restart(lab);
            if (finished) {
                assert_int_equal(load(lab, ROWS, &trail), 0); /* its index may have torn */
                expect_rows(lab->file, ROWS);
            } else {
                struct shard_files_cleaned cleaned = {0};
                struct manifest m = {.number = 1};
                assert_int_equal(shard_files_clean(lab->d.io, FOLDER, &m, &cleaned, &trail), 0);
                assert_int_equal(disk_list(&lab->d, FOLDER).count, 0);
            }
            lab_end(lab);
            test_free(lab);
        }
    }
}

static struct lab *lab_built(uint32_t count)
{
    struct lab *lab = test_malloc(sizeof(*lab));
    lab_begin(lab, 1, count);
    run(lab);
    assert_int_equal(lab->rc, 0);
    segment_file_close(&lab->r->heap, lab->file);
    lab->file = NULL;
    return lab;
}

static void a_missing_or_damaged_index_is_made_again_once(void **state)
{
    (void)state;
    for (unsigned damage = 0; damage < 4; damage++) {
        struct lab *lab = lab_built(3000);
        struct trail trail = {0};
        size_t len;
        assert_int_equal(io_wait_sync_dir(lab->d.io, FOLDER), 0);
        uint8_t *bytes = sim_disk_bytes(lab->d.sim, INDEX, &len);
        assert_non_null(bytes);
        if (damage == 0)
            assert_int_equal(io_wait_unlink(lab->d.io, INDEX), 0);
        else if (damage == 1)
            assert_int_equal(sim_disk_resize(lab->d.sim, INDEX, 0), 0);
        else
            assert_int_equal(sim_disk_resize(lab->d.sim, INDEX, damage == 2 ? len / 2 : len + 4096),
                             0);
        assert_int_equal(load(lab, 3000, &trail), 0);
        assert_false(lab->file->index_in_memory);
        expect_rows(lab->file, 3000);
        segment_file_close(&lab->r->heap, lab->file);
        lab->file = NULL;
        uint64_t before = sim_disk_op_count(lab->d.sim);
        assert_int_equal(load(lab, 3000, &trail), 0); /* two files are mapped, one is summed */
        assert_int_equal(sim_disk_op_count(lab->d.sim), before + 3);
        lab_end(lab);
        test_free(lab);
    }
}

static void an_index_that_cannot_be_written_stays_in_memory(void **state)
{
    (void)state;
    struct lab *lab = lab_built(3000);
    struct trail trail = {0};
    assert_int_equal(io_wait_unlink(lab->d.io, INDEX), 0);
    /* the entry's read, both maps, the Parquet file again, then the index's temporary file */
    sim_disk_fail_at(lab->d.sim, 5, ENOSPC);
    assert_int_equal(load(lab, 3000, &trail), 0);
    assert_true(lab->file->index_in_memory);
    assert_true(segment_file_heap_bytes(lab->file) >= lab->file->index.len);
    expect_rows(lab->file, 3000);
    assert_false(disk_has(&lab->d, INDEX));
    lab_end(lab);
    test_free(lab);
}

static void a_parquet_file_that_is_not_the_manifests_is_damage(void **state)
{
    (void)state;
    struct lab *lab = lab_built(3000);
    struct segment_file_options options = file_options();
    struct manifest_segment entry = entry_of(lab, 3000);
    struct trail trail = {0};
    entry.rows = 2999;
    assert_int_equal(segment_load(lab->d.io, &lab->r->heap, &options, &entry, &lab->file, &trail),
                     PDB_DATA_LOSS);
    entry.rows = 3000;
    entry.parquet_bytes++;
    assert_int_equal(segment_load(lab->d.io, &lab->r->heap, &options, &entry, &lab->file, &trail),
                     PDB_DATA_LOSS);
    entry.parquet_bytes--;
    trail_reset(&trail);
    assert_int_equal(sim_disk_resize(lab->d.sim, PARQUET, entry.parquet_bytes - 1), 0);
    assert_int_equal(segment_load(lab->d.io, &lab->r->heap, &options, &entry, &lab->file, &trail),
                     PDB_DATA_LOSS);
    assert_non_null(strstr(trail.text, PARQUET));
    assert_int_equal(io_wait_unlink(lab->d.io, PARQUET), 0);
    trail_reset(&trail);
    assert_int_equal(segment_load(lab->d.io, &lab->r->heap, &options, &entry, &lab->file, &trail),
                     PDB_DATA_LOSS);
    assert_non_null(strstr(trail.text, PARQUET));
    assert_int_equal(lab->r->heap.bytes_used, lab->heap_before);
    lab_end(lab);
    test_free(lab);
}

/* ---- on real threads and files ---- */

struct real {
    struct lab lab;
    char folder[40];
    enum file_map_advice advice;
    sem_t finished;
};

/* Reads ahead, and lets go of pages behind it, as a merge of mapped files does. */
static void merge_alone(const struct segment_file *file, uint32_t count)
{
    struct segment_merge_input input = {file, NULL};
    struct segment_merge_options options = {.inputs = &input, .input_count = 1, .field_count = 1};
    struct segment_merge *merge;
    struct pdb_row row;
    uint32_t rows = 0;
    assert_int_equal(segment_merge_new(NULL, &options, &merge), 0);
    struct segment_source source = segment_merge_source(merge);
    assert_int_equal(source.begin(source.arg, false, NULL), 0);
    for (; source.next(source.arg, &row, NULL) == 1; rows++)
        assert_true(((const float *)row.vectors[0])[5] == (float)(rows * 31 % 1009 + 5));
    assert_int_equal(rows, count);
    segment_merge_free(NULL, merge);
}

static void really_done(struct segment_build *build, int rc, struct segment_file *file,
                        const struct trail *trail)
{
    struct real *real = segment_build_arg(build);
    (void)trail;
    real->lab.rc = rc;
    if (rc == 0) {
        expect_rows(file, real->lab.rows.count);
        assert_true(file->parquet.mapped);
        merge_alone(file, real->lab.rows.count);
    }
    segment_file_close(&reactor_here()->heap, file);
    (void)sem_post(&real->finished);
}

static int build_really(struct reactor *r, void *arg)
{
    struct real *real = arg;
    if (r->id != 0)
        return 0;
    struct segment_build_options options = build_options(&real->lab);
    options.r = r;
    options.file.folder = real->folder;
    options.file.parquet_advice = real->advice;
    options.done = really_done;
    options.arg = real;
    return segment_build_start(&options, &real->lab.build);
}

static void real_engines_build_the_same(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct real *real = test_calloc(1, sizeof(*real));
        struct reactor_group *group;
        const char *reason;
        char path[100];
        real->lab.rows = (struct rows){.count = 60000, .fail_at = UINT32_MAX};
        real->advice = i == 0 ? FILE_MAP_RANDOM : FILE_MAP_NORMAL;
        (void)sem_init(&real->finished, 0, 0);
        (void)snprintf(real->folder, sizeof(real->folder), "/tmp/segment_build.XXXXXX");
        assert_non_null(mkdtemp(real->folder));
        struct reactor_options options = {.count = 2,
                                          .io_engine = i == 0 ? IO_ENGINE_AUTO : IO_ENGINE_THREADS,
                                          .start = build_really,
                                          .arg = real};
        assert_int_equal(reactor_group_start(&options, &group, &reason), 0);
        while (sem_wait(&real->finished) != 0)
            continue;
        reactor_group_stop(group);
        assert_int_equal(real->lab.rc, 0);
        (void)snprintf(path, sizeof(path), "%s/0000000007.parquet", real->folder);
        assert_int_equal(remove(path), 0);
        (void)snprintf(path, sizeof(path), "%s/0000000007.index", real->folder);
        assert_int_equal(remove(path), 0);
        assert_int_equal(remove(real->folder), 0);
        (void)sem_destroy(&real->finished);
        test_free(real);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_become_two_files_and_an_open_segment),
        cmocka_unit_test(no_rows_make_no_file),
        cmocka_unit_test(an_error_of_the_source_ends_it_without_a_trace),
        cmocka_unit_test(whichever_io_fails_nothing_is_left),
        cmocka_unit_test(memory_that_runs_out_is_an_error_and_nothing_is_left),
        cmocka_unit_test(cancelled_at_any_turn_it_ends_once_and_leaves_nothing),
        cmocka_unit_test(the_rate_is_kept_over_all_builds),
        cmocka_unit_test(a_rate_lets_bytes_go_at_once_after_a_rest),
        cmocka_unit_test(a_build_that_is_held_waits_between_two_jobs),
        cmocka_unit_test(a_build_that_is_held_can_be_cancelled),
        cmocka_unit_test(a_build_holds_no_more_than_what_is_asked_for_it),
        cmocka_unit_test(memory_hardly_grows_with_the_rows),
        cmocka_unit_test(a_finished_segment_survives_the_power_and_an_unfinished_one_is_cleaned_up),
        cmocka_unit_test(a_missing_or_damaged_index_is_made_again_once),
        cmocka_unit_test(an_index_that_cannot_be_written_stays_in_memory),
        cmocka_unit_test(a_parquet_file_that_is_not_the_manifests_is_damage),
        cmocka_unit_test(real_engines_build_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
