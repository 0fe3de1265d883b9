/* The log on the simulated disk: lives that end in a loss of power, one seed after the other.
 *
 *     test_wal_sim [--seed FIRST] [--count N] [--verbose]
 *
 * A seed decides everything: latencies, faults, modes, sizes, when the power goes. Each life
 * appends batches of random size in random modes, crashes (or stops cleanly), and then the log is
 * read and compared with a model:
 *
 *   1. what was acknowledged under `always` or `batch`, or before a flush, is there;
 *   2. batches are whole and have the bytes that were given;
 *   3. what is there is a prefix of what was tried, in order, without what was refused;
 *   4. what was once seen after a crash stays;
 *   5. a clean stop loses nothing, and only such a one looks like it;
 *   6. meanwhile collections are released up to versions that were acknowledged, segments are left
 *      early and held back: what was released may be gone, but only from the log's beginning on,
 *      and what is gone stays gone. Every log opens, whatever a crash has left of a truncation.
 *
 * Every eighth seed adds what no log can fully mask, misdirected writes: then a refusal is right,
 * wrong content never. A failing seed is printed with the command that repeats it. */
#include "../unit/wal/wal_lab.h"

#include "base/rng.h"

#include <stdio.h>
#include <time.h>

enum { LIVES_MAX = 4, MODEL_MAX = 4096, COUNT_DEFAULT = 5000, COLLECTIONS = 5 };

enum fate { MAYBE, CONFIRMED, REFUSED };

struct sim {
    struct lab lab;
    struct rng rng;
    uint64_t seed;
    bool hostile, verbose;
    /* by version - 1 */
    enum fate fate[MODEL_MAX];
    uint32_t rows[MODEL_MAX], floats[MODEL_MAX];
    size_t count, life_start;
    uint64_t released[COLLECTIONS]; /* by number % COLLECTIONS, as the fixture makes them */
    bool answered;                  /* something, with success, in this life */
    bool had_room;                  /* a clean stop could write its CLOSE record for sure */
    uint64_t closed_seq;            /* the last one that was told in this life */
    uint64_t begin_seq;             /* of the newest scan */
    const char *wrong;
};

static uint64_t below(struct sim *s, uint64_t bound)
{
    return rng_below(&s->rng, bound);
}

static bool fail(struct sim *s, const char *what)
{
    if (s->wrong == NULL)
        s->wrong = what;
    return false;
}

/* ---- one life ---- */

static void append_one(struct sim *s)
{
    if (s->count == MODEL_MAX || s->lab.op_count == LAB_OPS_MAX)
        return;
    struct lab_op *l = lab_op_new(&s->lab);
    bool large = below(s, 40) == 0;
    uint32_t rows = 1 + (uint32_t)below(s, large ? 60 : 6),
             floats = (uint32_t)below(s, large ? 3000 : 60);
    size_t version = ++s->count;
    s->rows[version - 1] = rows;
    s->floats[version - 1] = floats;
    s->fate[version - 1] = MAYBE;
    fixture_batch_make(&l->rows, version, rows, floats);
    l->op.batch = &l->rows.batch;
    l->op.sync = (enum pdb_sync_mode)below(s, 4);
    wal_append(s->lab.wal, &l->op);
}

static bool strong(const struct lab_op *l)
{
    return l->op.batch == NULL || l->op.sync == PDB_SYNC_ALWAYS || l->op.sync == PDB_SYNC_BATCH;
}

/* All up to it is on disk. */
static uint64_t durable_version(const struct sim *s)
{
    uint64_t version = s->life_start;
    for (size_t i = 0; i < s->lab.op_count; i++) {
        const struct lab_op *l = s->lab.ops[i];
        if (l->done && l->rc == 0 && l->op.batch != NULL && strong(l) &&
            l->op.batch->version > version)
            version = l->op.batch->version;
    }
    return version;
}

static void release(struct sim *s, uint64_t number, uint64_t version)
{
    struct uuid uuid = lab_collection(number);
    uint64_t *released = &s->released[number % COLLECTIONS];
    wal_release(s->lab.wal, &uuid, version);
    version = version == UINT64_MAX ? s->count : version;
    *released = version > *released ? version : *released;
}

static void release_some(struct sim *s)
{
    uint64_t durable = durable_version(s), number = below(s, COLLECTIONS);
    bool all_done = s->lab.done_count == s->lab.op_count;
    if (below(s, 3) == 0) {
        for (uint64_t i = 0; i < COLLECTIONS; i++)
            release(s, i, all_done && below(s, 2) == 0 ? UINT64_MAX : durable);
    } else if (durable != 0) {
        release(s, number, below(s, 2) == 0 ? durable : 1 + below(s, durable));
    }
}

static void on_closed(void *arg, uint64_t seq, const char *path)
{
    struct lab *lab = arg;
    struct sim *s = container_of(lab, struct sim, lab);
    char expected[WAL_PATH_MAX];
    if (seq <= s->closed_seq || wal_segment_path("wal/0", seq, expected) != 0 ||
        strcmp(path, expected) != 0)
        s->wrong = "segments are told out of order";
    s->closed_seq = seq;
}

static void truncate_some(struct sim *s)
{
    if (below(s, 10) == 0)
        release_some(s);
    if (below(s, 20) == 0)
        wal_roll_now(s->lab.wal);
    if (below(s, 80) == 0)
        wal_hold_from(s->lab.wal, below(s, 2) == 0 ? UINT64_MAX : 1 + below(s, 20));
}

static void set_faults(struct sim *s)
{
    struct sim_faults faults = {.latency_max_ns = below(s, 3) * 700000};
    if (below(s, 6) == 0)
        faults.latency_max_ns = 1500 * 1000000ull; /* some that wait are refused */
    if (below(s, 4) == 0)
        faults.short_write = 0.1;
    if (below(s, 10) == 0)
        faults.write_error = 0.01;
    if (below(s, 8) == 0)
        faults.bytes_max = (3 + below(s, 6)) << 20;
    if (below(s, 6) == 0)
        faults.sync_error = 0.1;
    if (s->hostile)
        faults.misdirected_write = 0.02;
    sim_disk_set_faults(s->lab.disk, &faults);
}

static void no_faults(struct sim *s)
{
    struct sim_faults none = {0};
    sim_disk_set_faults(s->lab.disk, &none);
    sim_disk_fail_at(s->lab.disk, 0, 0);
}

/* A refusal takes along what was appended before it was told: else a shard's versions would get a
 * hole. */
static bool refused_with_followers(struct sim *s)
{
    const struct lab_op *refused = NULL;
    for (size_t i = 0; i < s->lab.op_count; i++) {
        const struct lab_op *l = s->lab.ops[i];
        if (!l->done || l->op.batch == NULL)
            continue;
        if (l->rc == PDB_RESOURCE_EXHAUSTED)
            refused = refused == NULL || l->done_at > refused->done_at ? l : refused;
        else if (l->rc == 0 && refused != NULL && l->appended_at <= refused->done_at)
            return fail(s, "a refusal was overtaken");
    }
    return true;
}

/* What this life's answers have promised, at the moment of the crash. */
static bool settle(struct sim *s)
{
    size_t promised = 0;
    s->answered = false;
    for (size_t i = 0; i < s->lab.op_count; i++) {
        const struct lab_op *l = s->lab.ops[i];
        if (!l->done || l->op.batch == NULL)
            continue;
        size_t index = (size_t)l->op.batch->version - 1;
        s->answered = s->answered || l->rc == 0;
        if (l->rc == PDB_RESOURCE_EXHAUSTED)
            s->fate[index] = REFUSED;
        else if (l->rc != 0 && l->rc != PDB_UNAVAILABLE)
            return fail(s, "an append ended with an error that is none of its own");
        else if (l->rc == 0 && strong(l) && index + 1 > promised)
            promised = index + 1;
    }
    /* An acknowledgement covers all before it. */
    for (size_t i = s->life_start; i < promised; i++)
        if (s->fate[i] == MAYBE)
            s->fate[i] = CONFIRMED;
    if (!refused_with_followers(s))
        return false;
    return !s->lab.out_of_order || fail(s, "acknowledged out of order");
}

static bool same_batch(struct sim *s, struct wal_scan *scan, const struct wal_record_info *info)
{
    struct arena arena = {0};
    struct wal_batch batch;
    struct fixture_batch expected;
    size_t index = (size_t)info->version - 1;
    fixture_batch_make(&expected, info->version, s->rows[index], s->floats[index]);
    bool same = wal_read_batch(scan, &info->place, &arena, &batch, NULL) == 0 &&
                fixture_batch_equal(&expected.batch, &batch);
    fixture_batch_free(&expected);
    arena_dispose(&arena);
    return same;
}

/* Nobody needs the record any more. */
static bool is_released(const struct sim *s, size_t index)
{
    return index + 1 <= s->released[(index + 1) % COLLECTIONS];
}

/* Records before the log's beginning: all were released, or never logged. */
static bool skip_forgotten(struct sim *s, size_t first)
{
    for (size_t i = 0; i < first; i++) {
        if (s->fate[i] == CONFIRMED && !is_released(s, i))
            return fail(s, "an acknowledged record is lost at the log's beginning");
        if (s->fate[i] == MAYBE && !is_released(s, i) && first != s->count)
            return fail(s, "a hole at the log's beginning");
        s->fate[i] = REFUSED; /* gone: must never come back */
    }
    return true;
}

/* Compares the records with the model; the model then knows what is there for good. */
static bool compare(struct sim *s, struct wal_scan *scan, const struct lab_found *found, bool clean)
{
    size_t next = 0; /* index that the next record may have at the lowest */
    size_t first = s->count;
    for (size_t i = found->count; i > 0; i--)
        if (found->infos[i - 1].type == WAL_RECORD_ROWS && found->infos[i - 1].version != 0 &&
            found->infos[i - 1].version <= s->count)
            first = (size_t)found->infos[i - 1].version - 1;
    if (clean && first == s->count) {
        for (size_t i = 0; i < s->count; i++)
            if (s->fate[i] == MAYBE && !is_released(s, i))
                return fail(s, "a clean stop lost a record, and all others");
    }
    if (!skip_forgotten(s, first))
        return false;
    for (size_t i = 0; i < found->count; i++) {
        const struct wal_record_info *info = &found->infos[i];
        if (info->type != WAL_RECORD_ROWS)
            continue;
        if (info->version == 0 || info->version > s->count)
            return fail(s, "a record that was never tried");
        size_t index = (size_t)info->version - 1;
        for (; next < index; next++)
            if (s->fate[next] != REFUSED)
                return fail(s, "a hole, or a lost record");
        if (index < next)
            return fail(s, "out of order, or twice");
        if (s->fate[index] == REFUSED)
            return fail(s, "a refused record is there");
        if (!same_batch(s, scan, info))
            return fail(s, "a record with other bytes");
        s->fate[index] = CONFIRMED;
        next = index + 1;
    }
    for (size_t i = next; i < s->count; i++) {
        if (s->fate[i] == CONFIRMED)
            return fail(s, "an acknowledged record is lost");
        if (s->fate[i] == MAYBE && clean)
            return fail(s, "a clean stop lost a record");
        s->fate[i] = REFUSED; /* gone: must never come back */
    }
    s->life_start = s->count;
    return true;
}

/* -1: refused, which only a hostile disk may cause. */
static int verify(struct sim *s, bool clean)
{
    struct lab_found found;
    struct wal_scan *scan = NULL;
    int rc = lab_scan(&s->lab, &found, &scan);
    if (rc != 0) {
        free(found.infos);
        if (s->hostile)
            return -1;
        fail(s, "the scan refuses a log that only crashed");
        return 1;
    }
    struct wal_scan_stats stats;
    wal_scan_stats(scan, &stats);
    bool good = compare(s, scan, &found, clean);
    if (good && stats.clean != clean && (clean ? s->had_room : s->answered))
        good = fail(s, clean ? "a clean stop is not seen" : "a crash is taken for a clean stop");
    s->begin_seq = scan->log_count != 0 ? scan->logs[0].begin.seq : 0;
    wal_scan_close(scan);
    free(found.infos);
    if (!good && s->hostile && strcmp(s->wrong, "a record with other bytes") != 0) {
        s->wrong = NULL; /* a misdirected last write looks like none */
        return -1;
    }
    return good ? 0 : 1;
}

/* Opens; sometimes an I/O fails on the way, and the power goes then. */
static bool open_log(struct sim *s)
{
    s->lab.options.encoding = below(s, 4) == 0 ? WAL_ENCODING_AVRO : WAL_ENCODING_BINARY;
    s->lab.options.io_mode = below(s, 3) == 0 ? WAL_IO_BUFFERED : WAL_IO_DIRECT;
    s->lab.options.queue_bytes_max = below(s, 3) == 0 ? 8 << 10 : 4 << 20;
    s->lab.options.closed = on_closed;
    s->closed_seq = 0;
    for (uint64_t tries = below(s, 3); tries > 0; tries--) {
        sim_disk_fail_at(s->lab.disk, 1 + below(s, 60), EIO);
        int rc = lab_open(&s->lab);
        sim_disk_fail_at(s->lab.disk, 0, 0);
        if (rc != 0 && rc != PDB_UNAVAILABLE)
            return fail(s, "an I/O error while opening is told as something else");
        lab_crash(&s->lab);
    }
    return lab_open(&s->lab) == 0 || fail(s, "the log does not open");
}

static void work(struct sim *s)
{
    uint64_t turns = below(s, 120);
    for (uint64_t t = 0; t < turns; t++) {
        for (uint64_t n = below(s, 4); n > 0; n--)
            append_one(s);
        truncate_some(s);
        if (below(s, 30) == 0)
            lab_run_ms(&s->lab, below(s, 250));
        else if (below(s, 3) == 0)
            lab_turn(&s->lab);
        else
            (void)reactor_turn(s->lab.r);
    }
}

static int live(struct sim *s)
{
    no_faults(s);
    if (!open_log(s))
        return s->hostile ? -1 : 1;
    set_faults(s);
    work(s);
    bool clean = below(s, 4) == 0;
    if (clean) {
        lab_wait_all(&s->lab);
        clean = !wal_poisoned(s->lab.wal);
    }
    if (clean) {
        if (!settle(s))
            return 1;
        no_faults(s);
        s->had_room = s->lab.wal->ready_count != 0;
        lab_stop(&s->lab);
        lab_boot(&s->lab);
    } else {
        /* Also a poisoned one: after a failed sync the cache shows what the disk may not have, and
         * only a process that dies with its machine cannot be deceived by it. */
        if (!settle(s))
            return 1;
        lab_crash(&s->lab);
    }
    no_faults(s);
    lab_forget_ops(&s->lab);
    return verify(s, clean);
}

static const char *run_seed(uint64_t seed, bool verbose)
{
    struct sim *s = calloc(1, sizeof(*s));
    s->seed = seed;
    s->verbose = verbose;
    s->hostile = seed % 8 == 7;
    rng_seed(&s->rng, seed);
    lab_init(&s->lab, seed ^ 0x5eed);
    uint64_t lives = 1 + below(s, LIVES_MAX);
    int rc = 0;
    for (uint64_t life = 0; rc == 0 && life < lives; life++) {
        s->lab.last_done_version = 0;
        rc = live(s);
        if (verbose)
            printf("seed %llu life %llu: %zu tried, begins at %llu, rc %d %s\n",
                   (unsigned long long)seed, (unsigned long long)life, s->count,
                   (unsigned long long)s->begin_seq, rc, s->lab.trail.text);
    }
    if (rc == 0 && !open_log(s)) /* once more: what it leaves must open as well */
        rc = s->hostile ? -1 : 1;
    const char *wrong = s->hostile && rc < 0 ? NULL : s->wrong;
    if (s->lab.wal != NULL)
        lab_crash(&s->lab);
    lab_dispose(&s->lab);
    free(s);
    return wrong;
}

int main(int argc, char **argv)
{
    uint64_t first = 0, count = COUNT_DEFAULT;
    bool verbose = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            first = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--count") == 0 && i + 1 < argc)
            count = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--verbose") == 0)
            verbose = true;
        else {
            fprintf(stderr, "usage: %s [--seed FIRST] [--count N] [--verbose]\n", argv[0]);
            return 2;
        }
    }
    for (uint64_t seed = first; seed < first + count; seed++) {
        const char *wrong = run_seed(seed, verbose);
        if (wrong != NULL) {
            fprintf(stderr, "seed %llu: %s\nrepeat: %s --seed %llu --count 1 --verbose\n",
                    (unsigned long long)seed, wrong, argv[0], (unsigned long long)seed);
            return 1;
        }
    }
    printf("%llu seeds from %llu: no violation\n", (unsigned long long)count,
           (unsigned long long)first);
    return 0;
}
