/* The life of a shard's files on a disk that loses power at every I/O of it: folder, flushes with
 * ends of older rows, a merge, dead files removed. After each crash a start finds a manifest not
 * older than the last acknowledged one, cleans up, opens every segment, and sees exactly the rows
 * of that version; then life goes on, and is cut again. */
#include "engine/segment_merge.h"
#include "files_fixture.h"

#include <stdlib.h>

enum {
    DIMENSION = 4,
    BATCHES = 5,
    BATCH_ROWS = 90,
    BATCH_STEP = 30, /* keys of batch v: v * BATCH_STEP and the BATCH_ROWS from there */
    MERGE_AT = 3,    /* segments */
    LIVE_MAX = 8,
    SEEDS = 2,
};

static const struct uuid uuid = {{7}};
#define FOLDER "data/collections/07000000-0000-0000-0000-000000000000"

static const struct pdb_field fields[1] = {
    {.name = {"", 0}, .dimension = DIMENSION, .metric = PDB_METRIC_DOT}};

struct live {
    struct segment_file *file;
    struct segment_deletes *deletes;
};

struct life {
    struct disk d;
    struct reactor_group *group;
    struct reactor *r;
    /* the shard */
    struct live live[LIVE_MAX];
    uint32_t live_count;
    uint64_t version, next_segment, manifest; /* manifest 0: no folder yet */
    uint64_t acknowledged;                    /* version of the last save that has answered */
    /* what goes on */
    struct shard_begin begin;
    struct manifest_save save;
    struct shard_remove remove;
    struct segment_build *build;
    struct segment_merge *merge;
    struct segment_file *built;
    struct buffer bytes;
    bool over;
    int rc;
    uint32_t next_row; /* of the batch being flushed */
    char id[16];
    float values[DIMENSION];
    const void *vectors[1];
};

static bool wait(struct life *l)
{
    while (!l->over && disk_turn(&l->d, l->group))
        continue;
    if (l->over)
        assert_int_equal(l->rc, 0);
    return l->over;
}

static void end_step(struct life *l, int rc)
{
    assert_false(l->over);
    l->over = true;
    l->rc = rc;
}

static void folder_begun(struct shard_begin *begin, int rc, const struct trail *trail)
{
    (void)trail;
    end_step(container_of(begin, struct life, begin), rc);
}

static void manifest_saved(struct manifest_save *save, int rc, const struct trail *trail)
{
    (void)trail;
    end_step(container_of(save, struct life, save), rc);
}

static void files_removed(struct shard_remove *remove)
{
    end_step(container_of(remove, struct life, remove), 0);
}

static void segment_built(struct segment_build *build, int rc, struct segment_file *file,
                          const struct trail *trail)
{
    struct life *l = segment_build_arg(build);
    (void)trail;
    l->build = NULL;
    l->built = file;
    end_step(l, rc);
}

/* ---- steps; false: the power has gone ---- */

static int begin_batch(void *arg, bool counting, struct trail *trail)
{
    struct life *l = arg;
    (void)counting;
    (void)trail;
    l->next_row = 0;
    return 0;
}

static int next_of_batch(void *arg, struct pdb_row *row_out, struct trail *trail)
{
    struct life *l = arg;
    (void)trail;
    if (l->next_row == BATCH_ROWS)
        return 0;
    uint64_t version = l->version + 1;
    int len =
        snprintf(l->id, sizeof(l->id), "%06u", (unsigned)(version * BATCH_STEP) + l->next_row++);
    l->vectors[0] = l->values;
    l->values[0] = (float)version;
    *row_out =
        (struct pdb_row){.id = {l->id, (size_t)len}, .vectors = l->vectors, .version = version};
    return 1;
}

static bool build(struct life *l, struct segment_source source)
{
    struct segment_build_options options = {
        .r = l->r,
        .worker = 1,
        .file = {.folder = FOLDER,
                 .schema = {.collection = uuid,
                            .number = l->next_segment,
                            .fields = fields,
                            .field_count = 1,
                            .vectors_in_place = true}},
        .source = source,
        .done = segment_built,
        .arg = l,
    };
    l->over = false;
    assert_int_equal(segment_build_start(&options, &l->build), 0);
    return wait(l);
}

static bool save(struct life *l, uint64_t version)
{
    struct manifest_encoder e;
    struct manifest m = {.collection = uuid,
                         .number = l->manifest + 1,
                         .version = version,
                         .next_segment = l->next_segment};
    l->bytes.len = 0;
    manifest_encode_begin(&e, &l->bytes, &m);
    for (uint32_t i = 0; i < l->live_count; i++) {
        struct manifest_segment entry;
        segment_file_manifest_entry(l->live[i].file, 1, &entry);
        manifest_encode_segment(&e, &entry);
    }
    for (uint32_t i = 0; i < l->live_count; i++)
        while (manifest_encode_ended(&e, l->live[i].file->stats.number, l->live[i].deletes, 11))
            continue;
    assert_int_equal(manifest_encode_end(&e), 0);
    l->save = (struct manifest_save){.io = l->r->io,
                                     .folder = FOLDER,
                                     .number = m.number,
                                     .oldest = l->manifest,
                                     .bytes = l->bytes.ptr,
                                     .len = l->bytes.len,
                                     .done = manifest_saved};
    l->over = false;
    manifest_save_start(&l->save);
    if (!wait(l))
        return false;
    l->manifest = m.number;
    l->version = l->acknowledged = version;
    return true;
}

static void add_live(struct life *l, struct segment_file *file)
{
    struct live *live = &l->live[l->live_count++];
    assert_true(l->live_count <= LIVE_MAX);
    live->file = file;
    assert_int_equal(segment_deletes_new(NULL, (uint32_t)file->stats.rows, &live->deletes), 0);
    assert_int_equal(segment_deletes_reserve(live->deletes, (uint32_t)file->stats.rows), 0);
}

static bool flush(struct life *l)
{
    uint32_t older = l->live_count, row;
    if (!build(l, (struct segment_source){begin_batch, next_of_batch, l}))
        return false;
    l->next_segment++;
    add_live(l, l->built);
    for (uint32_t i = 0; i < BATCH_ROWS; i++) { /* what the batch has replaced ends */
        struct pdb_text id = segment_row_id(l->built->segment, i);
        for (uint32_t s = 0; s < older; s++)
            if (segment_find(l->live[s].file->segment, id, l->version, &row))
                segment_deletes_mark(l->live[s].deletes, row, l->version + 1);
    }
    l->built = NULL;
    return save(l, l->version + 1);
}

/* What has ended in an old segment ends in the one that took its rows. */
static void carry_ends(const struct live *from, struct live *to)
{
    uint32_t at = 0, row, there;
    uint64_t ended_at;
    while (segment_deletes_next(from->deletes, &at, &row, &ended_at))
        if (segment_merge_find(to->file->segment, from->file->segment, row, &there))
            segment_deletes_mark(to->deletes, there, ended_at);
}

static bool merge(struct life *l)
{
    struct segment_merge_input inputs[LIVE_MAX];
    struct segment_deletes *copies[LIVE_MAX];
    uint64_t numbers[LIVE_MAX];
    uint32_t count = l->live_count;
    for (uint32_t i = 0; i < count; i++) {
        copies[i] = segment_deletes_copy(l->live[i].deletes, NULL);
        assert_non_null(copies[i]);
        inputs[i] = (struct segment_merge_input){l->live[i].file, copies[i]};
        numbers[i] = l->live[i].file->stats.number;
    }
    struct segment_merge_options options = {
        .inputs = inputs, .input_count = count, .field_count = 1, .oldest_version = l->version - 1};
    assert_int_equal(segment_merge_new(NULL, &options, &l->merge), 0);
    bool alive = build(l, segment_merge_source(l->merge));
    if (alive) {
        struct live old[LIVE_MAX];
        memcpy(old, l->live, sizeof(old));
        l->next_segment++;
        l->live_count = 0;
        add_live(l, l->built);
        l->built = NULL;
        for (uint32_t i = 0; i < count; i++)
            carry_ends(&old[i], &l->live[0]);
        alive = save(l, l->version);
        for (uint32_t i = 0; i < count; i++) {
            segment_file_close(&l->r->heap, old[i].file);
            segment_deletes_free(old[i].deletes);
        }
    }
    if (!alive && l->build != NULL) { /* before what it reads from goes */
        segment_build_drop(l->build);
        l->build = NULL;
    }
    segment_merge_free(NULL, l->merge);
    for (uint32_t i = 0; i < count; i++)
        segment_deletes_free(copies[i]);
    if (!alive)
        return false;
    l->remove = (struct shard_remove){.io = l->r->io,
                                      .folder = FOLDER,
                                      .numbers = numbers,
                                      .count = count,
                                      .done = files_removed};
    l->over = false;
    shard_remove_start(&l->remove);
    return wait(l);
}

static bool begin_folder(struct life *l)
{
    memset(&l->begin, 0, sizeof(l->begin));
    l->begin.io = l->r->io;
    l->begin.data_dir = "data";
    l->begin.collection = uuid;
    l->begin.done = folder_begun;
    l->over = false;
    shard_begin_start(&l->begin);
    if (!wait(l))
        return false;
    l->manifest = 1;
    return true;
}

static bool live_on(struct life *l)
{
    if (l->manifest == 0 && !begin_folder(l))
        return false;
    while (l->version < BATCHES) {
        if (!flush(l))
            return false;
        if (l->live_count >= MERGE_AT && !merge(l))
            return false;
    }
    return true;
}

/* ---- starts ---- */

static void load_segments(struct life *l, const struct manifest *m)
{
    for (uint32_t i = 0; i < m->segment_count; i++) {
        const struct manifest_segment *entry = &m->segments[i];
        struct segment_file_options options = {.folder = FOLDER,
                                               .schema = {.collection = uuid,
                                                          .number = entry->number,
                                                          .fields = fields,
                                                          .field_count = 1,
                                                          .vectors_in_place = true}};
        struct segment_file *file;
        struct trail trail = {0};
        struct manifest_ended ended;
        uint32_t row;
        uint64_t ended_at;
        if (segment_load(l->d.io, &l->r->heap, &options, entry, &file, &trail) != 0)
            fail_msg("%s", trail.text);
        add_live(l, file);
        manifest_ended_begin(entry, &ended);
        while (manifest_ended_next(&ended, &row, &ended_at))
            segment_deletes_mark(l->live[i].deletes, row, ended_at);
    }
}

/* As recovery does it. */
static void start(struct life *l)
{
    struct manifest_file file = {0};
    struct shard_files_cleaned cleaned = {0};
    struct trail trail = {0};
    l->group = disk_reactors(&l->d);
    l->r = reactor_group_at(l->group, 0);
    int rc = manifest_load(l->d.io, FOLDER, &uuid, 0, &file, &trail);
    if (rc != 0 && rc != PDB_NOT_FOUND)
        fail_msg("%s", trail.text);
    const struct manifest *m = rc == 0 ? &file.manifest : NULL;
    if (shard_files_clean(l->d.io, FOLDER, m, &cleaned, &trail) != 0)
        fail_msg("%s", trail.text);
    l->manifest = m != NULL ? m->number : 0;
    l->version = m != NULL ? m->version : 0;
    l->next_segment = m != NULL ? m->next_segment : 1;
    assert_true(l->version >= l->acknowledged);
    assert_true(disk_list(&l->d, FOLDER).count <= (m != NULL ? 1 + 2 * m->segment_count : 0));
    if (m != NULL)
        load_segments(l, m);
    manifest_file_dispose(&file);
}

static void stop(struct life *l)
{
    if (l->build != NULL)
        segment_build_drop(l->build);
    segment_file_close(&l->r->heap, l->built);
    l->build = NULL;
    l->built = NULL;
    for (uint32_t i = 0; i < l->live_count; i++) {
        segment_file_close(&l->r->heap, l->live[i].file);
        segment_deletes_free(l->live[i].deletes);
    }
    l->live_count = 0;
    reactor_group_stop(l->group);
}

static unsigned rows_of(uint64_t version, unsigned key)
{
    return key >= version * BATCH_STEP && key < version * BATCH_STEP + BATCH_ROWS;
}

/* Each key has the version of the last batch that had it, once. */
static void expect_version(struct life *l)
{
    for (unsigned key = 0; key < (BATCHES + 2) * BATCH_STEP + BATCH_ROWS; key++) {
        uint64_t expected = l->version;
        while (expected > 0 && !rows_of(expected, key))
            expected--;
        char id[16];
        unsigned seen = 0;
        int len = snprintf(id, sizeof(id), "%06u", key);
        for (uint32_t i = 0; i < l->live_count; i++) {
            struct segment_read read = {.segment = l->live[i].file->segment,
                                        .deletes = l->live[i].deletes,
                                        .at_version = l->version};
            uint32_t row;
            if (!segment_find(read.segment, (struct pdb_text){id, (size_t)len}, l->version, &row) ||
                !segment_visible(&read, row))
                continue;
            assert_int_equal(segment_row_version(read.segment, row), expected);
            seen++;
        }
        assert_int_equal(seen, expected != 0);
    }
}

static struct life *life_new(uint64_t seed)
{
    struct life *l = test_calloc(1, sizeof(*l));
    struct trail trail = {0};
    l->d = disk_begin(seed);
    assert_int_equal(io_wait_make_dir(l->d.io, "data"), 0);
    assert_int_equal(io_wait_sync_dir(l->d.io, "/"), 0);
    assert_int_equal(shard_files_make_root(l->d.io, "data", &trail), 0);
    buffer_init_heap(&l->bytes, NULL, 0);
    return l;
}

static void life_free(struct life *l)
{
    buffer_dispose(&l->bytes);
    disk_end(&l->d);
    test_free(l);
}

static uint64_t ios_of_a_life(void)
{
    struct life *l = life_new(1);
    start(l);
    uint64_t before = sim_disk_op_count(l->d.sim);
    assert_true(live_on(l));
    uint64_t count = sim_disk_op_count(l->d.sim) - before;
    expect_version(l);
    assert_int_equal(l->version, BATCHES);
    assert_int_equal(l->live_count, BATCHES - MERGE_AT + 1 - (MERGE_AT - 1));
    stop(l);
    life_free(l);
    return count;
}

static void every_start_finds_what_was_acknowledged_wherever_the_power_went(void **state)
{
    (void)state;
    uint64_t count = ios_of_a_life();
    assert_true(count > 100);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        for (uint64_t n = 1; n <= count; n++) {
            struct life *l = life_new(seed * 1000 + n);
            /* cut at n, then twice more soon after, then never */
            const uint64_t cuts[] = {n, 1 + (n * 7 + seed) % 40, 1 + (n * 3 + seed) % 17, 0};
            for (size_t i = 0; i < 4; i++) {
                start(l);
                expect_version(l);
                if (cuts[i] != 0)
                    disk_cut_at(&l->d, cuts[i]);
                bool finished = live_on(l);
                assert_true(finished || cuts[i] != 0);
                expect_version(l);
                stop(l);
                disk_restart(&l->d);
            }
            start(l);
            assert_int_equal(l->version, BATCHES);
            expect_version(l);
            stop(l);
            life_free(l);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_start_finds_what_was_acknowledged_wherever_the_power_went),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
