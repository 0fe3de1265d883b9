/* Searches by index on several cores while rows are written, moved and deleted, and segments and
 * their indexes come and go. */
#include "engine_fixture.h"

#include "base/rng.h"

#include <glob.h>
#include <pthread.h>
#include <stdatomic.h>

enum { DIMENSION = 24, ANCHORS = 1500, K = 10, ROUNDS = 100, BATCH = 40, WRITERS = 2, CORES = 3 };

struct job {
    struct fixture fx; /* with an arena of its own */
    unsigned writer;
    _Atomic bool *stop;
    bool drops_come;
    unsigned searches, missed; /* of rows that an index has */
};

static void vector_of(uint64_t seed, float *values)
{
    struct rng rng;
    rng_seed(&rng, seed + 1);
    for (int d = 0; d < DIMENSION; d++)
        values[d] = (float)rng_normal(&rng);
}

static void create_indexed(struct fixture *fx, enum pdb_vector_storage storage)
{
    struct pdb_field field = {
        .dimension = DIMENSION, .metric = PDB_METRIC_EUCLIDEAN, .index = PDB_INDEX_HNSW};
    struct pdb_collection_create c = {.config = {.name = txt("c"),
                                                 .fields = &field,
                                                 .field_count = 1,
                                                 .sync = PDB_SYNC_NEVER,
                                                 .vector_storage = storage}};
    assert_done(fx, do_create(fx, &c));
}

/* `seeds[i]`: of the vector of id "<prefix><i>". */
static int put_batch(struct fixture *fx, const char *prefix, unsigned first, unsigned count,
                     const uint64_t *seeds)
{
    float values[BATCH][DIMENSION];
    char ids[BATCH][24];
    struct pdb_vector vectors[BATCH];
    struct pdb_record records[BATCH];
    assert_true(count <= BATCH);
    for (unsigned i = 0; i < count; i++) {
        vector_of(seeds[i], values[i]);
        (void)snprintf(ids[i], sizeof(ids[i]), "%s%u", prefix, first + i);
        records[i] = record(ids[i], &vectors[i], values[i], DIMENSION);
    }
    struct pdb_write w = {.collection = txt("c"), .records = records, .record_count = count};
    return do_write(fx, &w);
}

static void put_anchors(struct fixture *fx)
{
    for (unsigned i = 0; i < ANCHORS; i += BATCH) {
        uint64_t seeds[BATCH];
        unsigned count = ANCHORS - i < BATCH ? ANCHORS - i : BATCH;
        for (unsigned j = 0; j < count; j++)
            seeds[j] = i + j;
        assert_done(fx, put_batch(fx, "a", i, count, seeds));
    }
}

/* The hits of the vector with this seed; NULL: the collection is not there. */
static const struct pdb_hits *find(struct job *job, uint64_t seed, uint32_t k)
{
    float values[DIMENSION];
    vector_of(seed, values);
    struct pdb_query q = {.vector = {.values = values, .count = DIMENSION, .form = PDB_VECTOR_F32},
                          .k = k};
    struct pdb_search s = {.collection = txt("c"), .queries = &q, .query_count = 1};
    int rc = do_search(&job->fx, &s);
    if (rc == PDB_NOT_FOUND && job->drops_come)
        return NULL;
    assert_done(&job->fx, rc);
    return s.results_out;
}

static bool has_id(const struct pdb_hits *hits, const char *id)
{
    for (uint32_t i = 0; i < hits->count; i++)
        if (same_text(hits->hits[i].row.id, id))
            return true;
    return false;
}

static void assert_sound(const struct pdb_hits *hits, uint32_t k)
{
    assert_int_equal(hits->count, k);
    for (uint32_t i = 1; i < k; i++) {
        assert_true(hits->hits[i].score >= hits->hits[i - 1].score);
        for (uint32_t j = 0; j < i; j++)
            assert_false(hits->hits[i].row.id.len == hits->hits[j].row.id.len &&
                         memcmp(hits->hits[i].row.id.ptr, hits->hits[j].row.id.ptr,
                                hits->hits[i].row.id.len) == 0);
    }
}

/* Rows that nobody changes are always there. */
static void *search_anchors(void *arg)
{
    struct job *job = arg;
    struct rng rng;
    rng_seed(&rng, job->writer);
    while (!atomic_load(job->stop)) {
        unsigned anchor = (unsigned)(rng_next(&rng) % ANCHORS);
        char id[24];
        (void)snprintf(id, sizeof(id), "a%u", anchor);
        const struct pdb_hits *hits = find(job, anchor, K);
        if (hits == NULL)
            break;
        assert_sound(hits, K);
        job->searches++;
        job->missed += !has_id(hits, id);
        pdb_arena_reset(job->fx.arena);
    }
    return NULL;
}

/* Each batch moves its rows; what it has acknowledged is found at once, and only there. */
static void *move_rows(void *arg)
{
    struct job *job = arg;
    char prefix[8];
    (void)snprintf(prefix, sizeof(prefix), "w%u-", job->writer);
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t seeds[BATCH], base = 1000000 + 1000000 * (uint64_t)job->writer;
        unsigned first = round % 4 * BATCH; /* ids are written again and again */
        for (unsigned i = 0; i < BATCH; i++)
            seeds[i] = base + round * BATCH + i;
        assert_done(&job->fx, put_batch(&job->fx, prefix, first, BATCH, seeds));
        for (unsigned i = 0; i < BATCH; i += 8) {
            char id[24];
            (void)snprintf(id, sizeof(id), "%s%u", prefix, first + i);
            const struct pdb_hits *hits = find(job, seeds[i], K);
            assert_sound(hits, K);
            assert_true(same_text(hits->hits[0].row.id, id) || ++job->missed != 0);
            assert_true(!same_text(hits->hits[0].row.id, id) || hits->hits[0].score == 0);
            job->searches++;
            if (round >= 4) {
                hits = find(job, seeds[i] - 4 * BATCH, K);
                assert_sound(hits, K);
                assert_true(hits->hits[0].score > 0);
            }
            struct pdb_text ids[1] = {txt(id)};
            struct pdb_delete d = {.collection = txt("c"), .ids = ids, .id_count = 1};
            assert_done(&job->fx, do_delete(&job->fx, &d));
            assert_false(has_id(find(job, seeds[i], K), id));
            pdb_arena_reset(job->fx.arena);
        }
    }
    return NULL;
}

static double metric_of(struct fixture *fx, const char *name)
{
    struct pdb_stats stats = {.want_metrics = true};
    pdb_call_init(&stats.call, fx->db, fx->arena, NULL);
    assert_int_equal(pdb_wait(&stats.call, do_stats_start), 0);
    char *text = strndup(stats.metrics_out.ptr, stats.metrics_out.len);
    assert_non_null(text);
    const char *line = strstr(text, name);
    assert_non_null(line);
    double value = strtod(line + strlen(name), NULL);
    free(text);
    return value;
}

static struct job job_of(const struct fixture *fx, unsigned writer, _Atomic bool *stop)
{
    struct job job = {.fx = *fx, .writer = writer, .stop = stop};
    job.fx.arena = pdb_arena_new(0);
    assert_non_null(job.fx.arena);
    return job;
}

static void begin(struct fixture *fx, enum pdb_vector_storage storage)
{
    memset(fx, 0, sizeof(*fx));
    fixture_dir(fx->dir);
    fx->options = fixture_options(fx->dir, CORES);
    fx->options.flush_rows = 700;
    fx->options.segments_max = 2;
    fx->arena = pdb_arena_new(0);
    assert_non_null(fx->arena);
    fixture_open(fx, CORES);
    create_indexed(fx, storage);
    put_anchors(fx);
}

/* Until a search has gone through one. */
static void wait_for_index(struct fixture *fx)
{
    static const char name[] = "\nproximadb_search_index_walks_total ";
    struct job probe = job_of(fx, 0, NULL);
    double walks = metric_of(fx, name);
    for (unsigned tries = 0; metric_of(fx, name) == walks; tries++) {
        assert_true(tries < 100000);
        assert_non_null(find(&probe, tries % ANCHORS, K));
        pdb_arena_reset(probe.fx.arena);
        pdb_arena_reset(fx->arena);
        (void)usleep(1000);
    }
    pdb_arena_free(probe.fx.arena);
}

static void writes_and_searches(enum pdb_vector_storage storage)
{
    struct fixture fx;
    _Atomic bool stop = false;
    struct job writers[WRITERS], searchers[2];
    pthread_t threads[WRITERS], others[2];
    begin(&fx, storage);
    wait_for_index(&fx);
    for (unsigned i = 0; i < 2; i++) {
        searchers[i] = job_of(&fx, i, &stop);
        assert_int_equal(pthread_create(&others[i], NULL, search_anchors, &searchers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = job_of(&fx, i, &stop);
        assert_int_equal(pthread_create(&threads[i], NULL, move_rows, &writers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        (void)pthread_join(threads[i], NULL);
    atomic_store(&stop, true);
    unsigned searches = 0, missed = 0;
    for (unsigned i = 0; i < 2; i++) {
        (void)pthread_join(others[i], NULL);
        searches += searchers[i].searches + writers[i].searches;
        missed += searchers[i].missed + writers[i].missed;
        pdb_arena_free(searchers[i].fx.arena);
        pdb_arena_free(writers[i].fx.arena);
    }
    assert_true(missed * 100 <= searches);
    fixture_end(&fx);
}

static void what_is_acknowledged_is_found_while_indexes_come_and_go(void **state)
{
    (void)state;
    writes_and_searches(PDB_VECTORS_MEMORY);
}

static void the_same_with_vectors_on_disk(void **state)
{
    (void)state;
    writes_and_searches(PDB_VECTORS_DISK);
}

static void a_collection_is_dropped_while_cores_search_it(void **state)
{
    (void)state;
    struct fixture fx;
    _Atomic bool stop = false;
    begin(&fx, PDB_VECTORS_MEMORY);
    for (unsigned life = 0; life < 5; life++) {
        struct job searchers[3];
        pthread_t threads[3];
        struct job probe = job_of(&fx, 9, &stop);
        wait_for_index(&fx);
        for (unsigned i = 0; i < 3; i++) {
            searchers[i] = job_of(&fx, i, &stop);
            searchers[i].drops_come = true;
            assert_int_equal(pthread_create(&threads[i], NULL, search_anchors, &searchers[i]), 0);
        }
        for (unsigned i = 0; i < 20; i++)
            assert_non_null(find(&probe, i, K));
        struct pdb_collection_delete d = {.name = txt("c")};
        assert_done(&fx, do_drop(&fx, &d));
        for (unsigned i = 0; i < 3; i++) {
            (void)pthread_join(threads[i], NULL);
            pdb_arena_free(searchers[i].fx.arena);
        }
        pdb_arena_free(probe.fx.arena);
        create_indexed(&fx, PDB_VECTORS_MEMORY);
        put_anchors(&fx);
    }
    fixture_end(&fx);
}

/* How many files of indexes there are; `remove`: and takes them away. */
static size_t index_files(const struct fixture *fx, bool remove)
{
    char pattern[320];
    glob_t found = {0};
    (void)snprintf(pattern, sizeof pattern, "%s/collections/*/*.ann", fx->dir);
    int rc = glob(pattern, 0, NULL, &found);
    assert_true(rc == 0 || rc == GLOB_NOMATCH);
    for (size_t i = 0; remove && i < found.gl_pathc; i++)
        assert_int_equal(unlink(found.gl_pathv[i]), 0);
    size_t count = found.gl_pathc;
    globfree(&found);
    return count;
}

/* What the cores look at then, the opener must not write to any more, which TSan tells. Nothing is
 * asked of the database meanwhile: every call would be an order between the two. */
static void indexes_are_made_while_an_opening_ends(void **state)
{
    (void)state;
    struct fixture fx;
    begin(&fx, PDB_VECTORS_MEMORY);
    wait_for_index(&fx);
    pdb_close(fx.db);
    (void)index_files(&fx, true); /* there may be none: a close does not wait for them */
    fixture_open(&fx, CORES);
    for (unsigned tries = 0; index_files(&fx, false) == 0; tries++) {
        assert_true(tries < 100000);
        (void)usleep(1000);
    }
    fixture_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_acknowledged_is_found_while_indexes_come_and_go),
        cmocka_unit_test(the_same_with_vectors_on_disk),
        cmocka_unit_test(a_collection_is_dropped_while_cores_search_it),
        cmocka_unit_test(indexes_are_made_while_an_opening_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
