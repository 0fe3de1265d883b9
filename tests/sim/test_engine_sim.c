/* The whole engine on the simulated disk: lives that end in a loss of power, one seed after the
 * other.
 *
 *     test_engine_sim [--seed FIRST] [--count N] [--crashes 0]
 *
 * Without crashes nothing may be left in memory (LeakSanitizer): a crash abandons calls under way.
 *
 * A seed decides everything: cores, sizes, latencies, faults, what is written, when the power goes.
 * Each life opens the database (now and then on a disk that goes away meanwhile), compares what it
 * finds with the model, then runs writers side by side, each with one batch under way, readers
 * between them, and somebody who drops, makes and alters collections. Memtables hold a few rows and
 * logs a few kilobytes, so that flushes, merges, truncation and old logs are under way at most
 * moments. A life ends with a loss of power, a killed process, or a close, at any moment.
 *
 * Proved after each start: nothing acknowledged is lost (in weak modes: only the last), batches are
 * whole, versions grow, retained versions read as they were, a retry is answered as before, and
 * get, scroll, count and search agree. A failing seed is printed with the command that repeats
 * it. */
#include "engine_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIVES = 6, COUNT_DEFAULT = 300, TURNS_MAX = 20000 };

const char *const sim_names[SIM_COLLECTIONS] = {"one", "two", "three"};

uint64_t sim_below(struct sim *s, uint64_t bound)
{
    return rng_below(&s->rng, bound);
}

void sim_wrong(struct sim *s, const char *what)
{
    if (s->wrong == NULL)
        s->wrong = what;
}

/* ---- opening and closing ---- */

static struct pdb_options choose_options(struct sim *s)
{
    return (struct pdb_options){
        .data_dir = "data",
        .cores = 1 + (unsigned)sim_below(s, 3),
        .memory_limit = (uint64_t)1 << 30,
        .wal_encoding = (enum pdb_wal_encoding)sim_below(s, 2),
        .wal_on_error = PDB_WAL_READONLY,
        .wal_segment_bytes = 1 << 20,
        .wal_max_bytes = sim_below(s, 2) == 0 ? 1 : (uint64_t)3 << 20,
        .flush_rows = 2 + sim_below(s, 40),
        .flush_bytes = sim_below(s, 4) == 0 ? 20000 : 0,
        .flush_age_s = 1 + (uint32_t)sim_below(s, 4),
        .segments_max = 1 + (uint32_t)sim_below(s, 6),
        .compaction_rate_bytes_per_s = sim_below(s, 3) == 0 ? 20000 : 0,
        .ttl_sweep_ms = 1 + (uint32_t)sim_below(s, 400),
        .ttl_grace_s_plus_one = 1 + (uint32_t)sim_below(s, 3),
        .archive_interval_s = 1 + (uint32_t)sim_below(s, 4),
        .archive_base_interval_s = 1 + sim_below(s, 20),
        .archive_keep = 1 + (uint32_t)sim_below(s, 3),
        .disk_min_free_bytes = UINT64_MAX,
        .allow_unsafe_fs = true,
        .simd = "scalar",
    };
}

/* On a disk that goes away somewhere on the way, as a start that the power interrupts. */
static void open_and_fail(struct sim *s, const struct pdb_options *options)
{
    struct pdb *db;
    struct pdb_error error;
    sim_disk_break_at(s->disk, 1 + sim_below(s, sim_below(s, 2) == 0 ? 400 : 40));
    if (engine_open_sim_archived(options, s->disk, s->archive, &db, &error) == 0)
        pdb_close(db);
    sim_disk_break_at(s->disk, 0);
    if (sim_below(s, 2) == 0)
        sim_disk_crash(s->disk);
}

static bool open_db(struct sim *s)
{
    struct sim_faults none = {0};
    struct pdb_options options = choose_options(s);
    struct pdb_error error;
    sim_disk_set_faults(s->disk, &none);
    sim_disk_fail_at(s->disk, 0, 0);
    while (sim_below(s, 4) == 0)
        open_and_fail(s, &options);
    if (engine_open_sim_archived(&options, s->disk, s->archive, &s->db, &error) == 0)
        return true;
    printf("open: %s\n", error.text);
    sim_wrong(s, "it does not open");
    return false;
}

static void count_work(struct sim *s)
{
    for (unsigned i = 0; i < s->db->core_count; i++) {
        const struct metrics *m = s->db->cores[i].metrics;
        s->sum->flushes += m->values[METRICS_FLUSHES_AT];
        s->sum->merges += m->values[METRICS_COMPACTIONS_AT];
        s->poisoned = s->poisoned || s->db->cores[i].poisoned;
    }
    s->sum->lives++;
}

static void set_faults(struct sim *s)
{
    struct sim_faults faults = {.latency_max_ns = sim_below(s, 3) * 400000};
    if (sim_below(s, 4) == 0)
        faults.short_write = 0.1;
    if (sim_below(s, 8) == 0)
        faults.write_error = 0.005;
    if (sim_below(s, 8) == 0)
        faults.sync_error = 0.03;
    if (sim_below(s, 5) == 0)
        faults.bytes_max = (4 + sim_below(s, 24)) << 20; /* no next log segment, no flush */
    sim_disk_set_faults(s->disk, &faults);
    if (sim_below(s, 8) == 0)
        sim_disk_fail_at(s->disk, 1 + sim_below(s, 2000), sim_below(s, 2) == 0 ? EIO : ENOSPC);
    if (sim_below(s, 16) == 0)
        sim_disk_break_at(s->disk, 1 + sim_below(s, 2000));
}

static void close_db(struct sim *s)
{
    struct sim_faults none = {0};
    bool healthy = sim_below(s, 4) != 0;
    if (healthy) {
        sim_disk_set_faults(s->disk, &none);
        sim_disk_break_at(s->disk, 0);
    }
    if (sim_below(s, 2) == 0)
        sim_finish_calls(s);
    count_work(s);
    pdb_close(s->db);
    s->db = NULL;
    sim_end_calls(s);
    s->clean = healthy && !s->poisoned;
    sim_disk_break_at(s->disk, 0);
}

static void end_life(struct sim *s)
{
    s->clean = false;
    if (sim_below(s, 4) == 0 || s->sum->no_crashes) {
        close_db(s);
        return;
    }
    count_work(s);
    if (sim_below(s, 3) == 0)
        sim_disk_kill(s->disk);
    else
        sim_disk_crash(s->disk);
    engine_abandon_sim(s->db, wal_abandon);
    s->db = NULL;
    sim_disk_break_at(s->disk, 0);
    sim_forget_calls(s);
}

/* ---- a life ---- */

/* For a while one core gets no memory: writes are refused, flushes and merges begin again later. */
static uint64_t squeeze(struct sim *s)
{
    struct heap *heap = &s->db->cores[sim_below(s, s->db->core_count)].r->heap;
    uint64_t ended = 0;
    heap->fail_at = heap->allocation_count + 1 + sim_below(s, 60);
    for (uint64_t left = sim_below(s, 400); left > 0 && s->wrong == NULL; left--) {
        ended += sim_turn_writers(s);
        engine_pump(s->db);
    }
    heap->fail_at = 0;
    return ended;
}

/* Until enough was written, or the disk has done a certain number of operations. */
static void run(struct sim *s)
{
    uint64_t batches = sim_below(s, sim_below(s, 4) == 0 ? 900 : 200);
    uint64_t until_op =
        sim_below(s, 2) == 0 ? UINT64_MAX : sim_disk_op_count(s->disk) + sim_below(s, 3000);
    uint64_t squeeze_of = sim_below(s, 4) == 0 ? 300 : UINT64_MAX;
    uint64_t pause_of = 20 + sim_below(s, 1000), ended = 0;
    for (unsigned turn = 0; ended < batches && turn < TURNS_MAX && s->wrong == NULL; turn++) {
        ended += sim_turn_writers(s);
        sim_turn_admin(s);
        if (sim_below(s, 200) == 0)
            sim_read_something(s);
        if (sim_below(s, squeeze_of) == 0)
            ended += squeeze(s);
        /* Time goes by: sweeps, flushes by age, merges of what is quiet. */
        if (sim_below(s, pause_of) == 0)
            sim_pause(s, sim_below(s, 3) == 0 ? 30000 : 1500, until_op);
        engine_pump(s->db);
        if (sim_disk_op_count(s->disk) >= until_op)
            return;
    }
}

static void live(struct sim *s)
{
    if (!open_db(s))
        return;
    s->poisoned = false;
    sim_compare_all(s);
    set_faults(s);
    if (s->wrong == NULL)
        run(s);
    end_life(s);
}

static struct sim *begin(uint64_t seed, struct sim_sum *sum)
{
    struct sim *s = calloc(1, sizeof(*s));
    struct io *io;
    if (s == NULL)
        abort();
    rng_seed(&s->rng, seed);
    s->sum = sum;
    s->clean = true;
    s->disk = sim_disk_new(seed);
    if (s->disk == NULL || sim_io_create(s->disk, &io) < 0)
        abort();
    (void)io_wait_make_dir(io, "data");
    (void)io_wait_sync_dir(io, ".");
    io->ops->destroy(io);
    sim_begin_calls(s);
    sim_archive_begin(s);
    return s;
}

static bool run_seed(uint64_t seed, struct sim_sum *sum)
{
    struct sim *s = begin(seed, sum);
    for (unsigned life = 0; life < LIVES && s->wrong == NULL; life++)
        live(s);
    sim_archive_end(s);
    bool well = s->wrong == NULL;
    if (!well)
        printf("seed %llu: %s; again: test_engine_sim --seed %llu --count 1\n",
               (unsigned long long)seed, s->wrong, (unsigned long long)seed);
    sim_dispose_calls(s);
    sim_disk_free(s->disk);
    free(s);
    return well;
}

/* A crash leaves behind what calls held: LeakSanitizer looks only at lives without one. */
static bool leaks_are_told;
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return !leaks_are_told;
}

int main(int argc, char **argv)
{
    uint64_t first = 1, count = COUNT_DEFAULT;
    struct sim_sum sum = {0};
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0)
            first = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--count") == 0)
            count = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--crashes") == 0)
            sum.no_crashes = strtoull(argv[i + 1], NULL, 10) == 0;
    }
    leaks_are_told = sum.no_crashes;
    bool well = true;
    for (uint64_t seed = first; well && seed < first + count; seed++)
        well = run_seed(seed, &sum);
    printf("%llu seeds, %llu lives, %llu batches, %llu flushes, %llu merges, %llu drops, "
           "%llu old versions read, %llu retries, %llu archives with %llu bases\n",
           (unsigned long long)count, (unsigned long long)sum.lives,
           (unsigned long long)sum.batches, (unsigned long long)sum.flushes,
           (unsigned long long)sum.merges, (unsigned long long)sum.drops,
           (unsigned long long)sum.old_reads, (unsigned long long)sum.retries,
           (unsigned long long)sum.archived, (unsigned long long)sum.bases);
    if (well && count >= 50 &&
        (sum.flushes < count || sum.merges < count / 2 || sum.drops == 0 ||
         sum.bases < count / 4)) {
        printf("too little happened behind the writes: this proves nothing\n");
        return 1;
    }
    return well ? 0 : 1;
}
