/* search: what a search by index costs in the engine beside its walk, and how one collection's
 * searches spread over cores.
 *
 *     search [rows] [dimension] [cores] [in flight]
 *
 * Clustered rows of one collection, in one segment with its index. First the index alone, on this
 * thread: walk and re-ranking, ns of processor time a query. Then the same queries through
 * pdb_search on 1 core and on `cores`, each core with so many in flight, the next begun where one
 * ends; no network, no copying of metadata. Busy time is that of the reactors' threads. */
#include "index/search.h"
#include "base/log.h"
#include "base/rng.h"
#include "engine/catalog.h"
#include "engine/part.h"

#include <proximadb/proximadb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { K = 10, QUERIES = 2000, SECONDS = 5, CENTRES = 100, BATCH = 500, CORES_MAX = 16 };

static uint32_t row_count = 20000, dimension = 128, core_max = 2, flight_count = 16;
static float *queries;
static struct pdb *db;
static struct arena *arena;

/* ---- data ---- */

static void draw(struct rng *rng, const float *centres, float *out)
{
    const float *centre = centres + (rng_next(rng) % CENTRES) * dimension;
    for (uint32_t d = 0; d < dimension; d++)
        out[d] = centre[d] + 0.5f * (float)rng_normal(rng);
}

static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "search: %s: %s\n", what, why);
    exit(1);
}

static void start_create(struct pdb_call *call)
{
    pdb_collection_create_start((struct pdb_collection_create *)(void *)call);
}

static void start_get(struct pdb_call *call)
{
    pdb_collection_get_start((struct pdb_collection_get *)(void *)call);
}

static void start_write(struct pdb_call *call)
{
    pdb_write_start((struct pdb_write *)(void *)call);
}

static void run(struct pdb_call *call, void (*start)(struct pdb_call *call), const char *what)
{
    if (pdb_wait(call, start) < 0)
        die(what, call->error.text);
}

static struct pdb_text text(const char *s)
{
    return (struct pdb_text){s, strlen(s)};
}

static void load(const float *centres, struct rng *rng)
{
    float *values = malloc((size_t)BATCH * dimension * sizeof(float));
    static char ids[BATCH][16];
    static struct pdb_vector vectors[BATCH];
    static struct pdb_record records[BATCH];
    for (uint32_t row = 0; row < row_count; row += BATCH) {
        uint32_t count = row_count - row < BATCH ? row_count - row : BATCH;
        for (uint32_t i = 0; i < count; i++) {
            float *at = values + (size_t)i * dimension;
            draw(rng, centres, at);
            (void)snprintf(ids[i], sizeof(ids[i]), "%u", row + i);
            vectors[i] =
                (struct pdb_vector){.values = at, .count = dimension, .form = PDB_VECTOR_F32};
            records[i] =
                (struct pdb_record){.id = text(ids[i]), .vectors = &vectors[i], .vector_count = 1};
        }
        struct pdb_write w = {.collection = text("c"), .records = records, .record_count = count};
        pdb_arena_reset(arena);
        pdb_call_init(&w.call, db, arena, NULL);
        run(&w.call, start_write, "write");
    }
    free(values);
}

static struct pdb_collection_info describe(void)
{
    struct pdb_collection_get g = {.name = text("c")};
    pdb_arena_reset(arena);
    pdb_call_init(&g.call, db, arena, NULL);
    run(&g.call, start_get, "get");
    return g.info_out;
}

static void wait_for_index(void)
{
    for (;;) {
        struct pdb_collection_info info = describe();
        if (info.memtable_rows == 0 && info.segment_count == 1 &&
            info.indexes[0].rows_indexed == row_count)
            return;
        (void)usleep(50000);
    }
}

/* ---- the index alone ---- */

static uint64_t cpu_ns(clockid_t clock)
{
    struct timespec t;
    (void)clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static const struct shard_part *indexed_part(void)
{
    for (unsigned i = 0; i < db->core_count; i++)
        list_each (link, &db->cores[i].shard_list) {
            const struct shard *shard = container_of(link, struct shard, link);
            list_each (at, &shard->parts) {
                const struct shard_part *part = container_of(at, struct shard_part, link);
                if (part->anns != NULL && part->anns[0] != NULL)
                    return part;
            }
        }
    die("index", "there is none");
    return NULL;
}

static double index_alone_us(void)
{
    const struct shard_part *part = indexed_part();
    const struct ann *ann = part->anns[0];
    static struct index_candidate found[INDEX_WANT_MAX];
    struct index_scratch *scratch;
    struct index_search search;
    uint64_t distances = 0, began = 0;
    if (index_scratch_open(NULL, row_count, dimension, &scratch) < 0)
        die("scratch", "no memory");
    for (int round = 0; round < 2; round++) {
        began = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
        distances = 0;
        for (uint32_t q = 0; q < QUERIES; q++) {
            const float *vector = queries + (size_t)q * dimension;
            struct scan_query scan = {.field = {.dimension = dimension,
                                                .metric = PDB_METRIC_EUCLIDEAN,
                                                .bytes = dimension * 4},
                                      .vector = vector};
            struct index_query query = {.vector = vector, .k = K, .gamma = -1};
            uint32_t rows[64];
            float exact[64];
            scan_query_begin(&scan);
            index_search_begin(&search, scratch, &ann->index, &query);
            while (!index_search_step(&search, 1000))
                ;
            uint32_t count = index_search_end(&search, found);
            for (uint32_t i = 0; i < count && i < 64; i++)
                rows[i] = ann_row(ann, found[i].row);
            (void)segment_distances(part->segment, &scan, rows, count < 64 ? count : 64, exact);
            distances += search.stats.distances;
        }
    }
    double us = (double)(cpu_ns(CLOCK_THREAD_CPUTIME_ID) - began) / 1000 / QUERIES;
    (void)printf("index alone: %.1f us a query, %.0f distances\n", us, (double)distances / QUERIES);
    index_scratch_close(scratch, NULL);
    return us;
}

/* ---- through the engine ---- */

struct flight {
    struct pdb_search search;
    struct pdb_query query;
    struct mail mail;
    struct arena *arena;
    uint32_t next;
    uint64_t done;
};

static _Atomic bool stopping;
static _Atomic unsigned landed;

static void take_off(struct flight *f);

static void flight_done(struct pdb_call *call)
{
    struct flight *f = (struct flight *)(void *)call;
    if (call->error.code != 0)
        die("search", call->error.text);
    f->done++;
    if (atomic_load_explicit(&stopping, memory_order_relaxed)) {
        atomic_fetch_add(&landed, 1);
        return;
    }
    struct reactor *r = reactor_here();
    mail_post(r, r->id, &f->mail);
}

static void take_off(struct flight *f)
{
    pdb_arena_reset(f->arena);
    pdb_call_init(&f->search.call, db, f->arena, flight_done);
    f->query.vector.values = queries + (size_t)(f->next++ % QUERIES) * dimension;
    pdb_search_start(&f->search);
}

static void arrives(struct reactor *here, struct mail *mail)
{
    (void)here;
    take_off(container_of(mail, struct flight, mail));
}

static uint64_t busy_ns(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < db->core_count; i++)
        sum += db->cores[i].r->stats.busy_ns;
    return sum;
}

static void measure(unsigned cores, double alone_us)
{
    unsigned count = cores * flight_count;
    struct flight *flights = calloc(count, sizeof(*flights));
    atomic_store(&stopping, false);
    atomic_store(&landed, 0);
    uint64_t busy = busy_ns(), began = cpu_ns(CLOCK_MONOTONIC), done = 0;
    uint64_t cpu = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (unsigned i = 0; i < count; i++) {
        struct flight *f = &flights[i];
        f->arena = pdb_arena_new(0);
        f->next = i * 37;
        f->query =
            (struct pdb_query){.vector = {.count = dimension, .form = PDB_VECTOR_F32}, .k = K};
        f->search.collection = text("c");
        f->search.queries = &f->query;
        f->search.query_count = 1;
        f->mail.deliver = arrives;
        mail_post_external(db->group, i % cores, &f->mail);
    }
    (void)sleep(SECONDS);
    atomic_store(&stopping, true);
    while (atomic_load(&landed) < count)
        (void)usleep(1000);
    double seconds = (double)(cpu_ns(CLOCK_MONOTONIC) - began) / 1e9;
    double cpu_us = (double)(cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1000;
    busy = busy_ns() - busy;
    for (unsigned i = 0; i < count; i++) {
        done += flights[i].done;
        pdb_arena_free(flights[i].arena);
    }
    free(flights);
    (void)printf("from %u core%s: %.0f a second, %.1f us of processor time each "
                 "(%.1f beside the index), %.1f us busy\n",
                 cores, cores == 1 ? "" : "s", (double)done / seconds, cpu_us / (double)done,
                 cpu_us / (double)done - alone_us, (double)busy / 1000 / (double)done);
}

static void prepare(const char *dir)
{
    struct pdb_options options = {.data_dir = dir,
                                  .cores = core_max,
                                  .no_pin = true,
                                  .flush_age_s = 1,
                                  .disk_min_free_bytes = UINT64_MAX,
                                  .allow_unsafe_fs = true};
    struct pdb_error error;
    struct rng rng;
    rng_seed(&rng, 1);
    float *centres = malloc((size_t)CENTRES * dimension * sizeof(float));
    queries = malloc((size_t)QUERIES * dimension * sizeof(float));
    for (size_t i = 0; i < (size_t)CENTRES * dimension; i++)
        centres[i] = (float)rng_normal(&rng);
    if (pdb_open(&options, &db, &error) < 0)
        die("open", error.text);
    arena = pdb_arena_new(0);
    struct pdb_field field = {
        .dimension = dimension, .metric = PDB_METRIC_EUCLIDEAN, .index = PDB_INDEX_HNSW};
    struct pdb_collection_create c = {
        .config = {.name = text("c"), .fields = &field, .field_count = 1, .sync = PDB_SYNC_NEVER}};
    pdb_call_init(&c.call, db, arena, NULL);
    run(&c.call, start_create, "create");
    load(centres, &rng);
    for (uint32_t q = 0; q < QUERIES; q++)
        draw(&rng, centres, queries + (size_t)q * dimension);
    free(centres);
    wait_for_index();
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/pdb-perf-XXXXXX", command[64];
    row_count = argc > 1 ? (uint32_t)atoi(argv[1]) : row_count;
    dimension = argc > 2 ? (uint32_t)atoi(argv[2]) : dimension;
    core_max = argc > 3 ? (uint32_t)atoi(argv[3]) : core_max;
    flight_count = argc > 4 ? (uint32_t)atoi(argv[4]) : flight_count;
    if (row_count == 0 || dimension == 0 || core_max == 0 || core_max > CORES_MAX)
        die("arguments", "search [rows] [dimension] [cores] [in flight]");
    if (mkdtemp(dir) == NULL)
        die(dir, "cannot be made");
    struct log_options quiet = {.level = LOG_LEVEL_ERROR};
    if (log_start(&quiet) < 0)
        die("log", "cannot begin");
    prepare(dir);
    double alone_us = index_alone_us();
    measure(1, alone_us);
    if (core_max > 1)
        measure(core_max, alone_us);
    pdb_close(db);
    log_stop();
    pdb_arena_free(arena);
    free(queries);
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command) == 0 ? 0 : 1;
}
