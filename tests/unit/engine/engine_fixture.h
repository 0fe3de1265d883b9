/* A database in a temporary directory, driven through the public C interface from the test's own
 * thread. */
#ifndef ENGINE_FIXTURE_H
#define ENGINE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <proximadb/proximadb.h>

struct fixture {
    char dir[256];
    struct pdb *db;
    struct arena *arena;
    struct pdb_options options;
    struct pdb_error error; /* of the last call */
};

/* nftw would need a callback with no argument: this is shorter. */
static inline void remove_tree(const char *dir)
{
    char command[320];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static inline void fixture_dir(char dir[256])
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(dir, 256, "%s/pdb-engine-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
}

/* TSan does not see the descriptors that io_uring opens, takes the next one with such a number for
 * the same file, and aborts. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FIXTURE_IO_ENGINE PDB_IO_THREADS
#endif
#endif
#ifndef FIXTURE_IO_ENGINE
#define FIXTURE_IO_ENGINE PDB_IO_AUTO
#endif

static inline struct pdb_options fixture_options(const char *dir, unsigned cores)
{
    return (struct pdb_options){
        .data_dir = dir,
        .cores = cores,
        .io_engine = FIXTURE_IO_ENGINE,
        .no_pin = true,
        .wal_segment_bytes = 1 << 20,
        .disk_min_free_bytes = UINT64_MAX,
        .allow_unsafe_fs = true,
        .ttl_sweep_ms = 5,
    };
}

static inline void fixture_open(struct fixture *fx, unsigned cores)
{
    fx->options.cores = cores;
    struct pdb_error error;
    if (pdb_open(&fx->options, &fx->db, &error) < 0)
        fail_msg("open: %s", error.text);
}

static inline void fixture_begin(struct fixture *fx, unsigned cores)
{
    memset(fx, 0, sizeof(*fx));
    fixture_dir(fx->dir);
    fx->options = fixture_options(fx->dir, cores);
    fx->arena = pdb_arena_new(0);
    assert_non_null(fx->arena);
    fixture_open(fx, cores);
}

static inline void fixture_reopen(struct fixture *fx, unsigned cores)
{
    pdb_close(fx->db);
    fixture_open(fx, cores);
}

static inline void fixture_end(struct fixture *fx)
{
    pdb_close(fx->db);
    pdb_arena_free(fx->arena);
    remove_tree(fx->dir);
}

static inline struct pdb_text txt(const char *s)
{
    return (struct pdb_text){s, strlen(s)};
}

static inline bool same_text(struct pdb_text a, const char *b)
{
    return a.len == strlen(b) && memcmp(a.ptr, b, a.len) == 0;
}

#define FIXTURE_CALL(type, name, start_function)                                                   \
    static inline void name##_start(struct pdb_call *call)                                         \
    {                                                                                              \
        start_function((struct type *)(void *)call);                                               \
    }                                                                                              \
    static inline int name(struct fixture *fx, struct type *op)                                    \
    {                                                                                              \
        uint64_t deadline_ns = op->call.deadline_ns;                                               \
        const char *batch_name = op->call.batch_name;                                              \
        pdb_call_init(&op->call, fx->db, fx->arena, NULL);                                         \
        op->call.deadline_ns = deadline_ns;                                                        \
        op->call.batch_name = batch_name;                                                          \
        int rc = pdb_wait(&op->call, name##_start);                                                \
        fx->error = op->call.error;                                                                \
        return rc;                                                                                 \
    }
FIXTURE_CALL(pdb_collection_create, do_create, pdb_collection_create_start)
FIXTURE_CALL(pdb_collection_get, do_describe, pdb_collection_get_start)
FIXTURE_CALL(pdb_collection_list, do_list, pdb_collection_list_start)
FIXTURE_CALL(pdb_collection_update, do_alter, pdb_collection_update_start)
FIXTURE_CALL(pdb_collection_delete, do_drop, pdb_collection_delete_start)
FIXTURE_CALL(pdb_write, do_write, pdb_write_start)
FIXTURE_CALL(pdb_delete, do_delete, pdb_delete_start)
FIXTURE_CALL(pdb_get, do_get, pdb_get_start)
FIXTURE_CALL(pdb_scroll, do_scroll, pdb_scroll_start)
FIXTURE_CALL(pdb_count, do_count, pdb_count_start)
FIXTURE_CALL(pdb_search, do_search, pdb_search_start)
FIXTURE_CALL(pdb_stats, do_stats, pdb_stats_start)

/* The last call failed with exactly this. */
#define assert_refused(fx, rc, expected_code, expected_text)                                       \
    do {                                                                                           \
        int refused_rc = (rc);                                                                     \
        assert_string_equal((fx)->error.text, (expected_text));                                    \
        assert_int_equal(refused_rc, (expected_code));                                             \
        assert_int_equal((fx)->error.code, (expected_code));                                       \
    } while (0)
#define assert_done(fx, rc)                                                                        \
    do {                                                                                           \
        if ((rc) != 0)                                                                             \
            fail_msg("%s", (fx)->error.text);                                                      \
    } while (0)

static inline struct pdb_text doc(struct fixture *fx, const char *json)
{
    struct pdb_text out;
    struct pdb_error error;
    if (pdb_doc_from_json(fx->arena, txt(json), &out, &error) < 0)
        fail_msg("%s: %s", json, error.text);
    return out;
}

static inline int create_with(struct fixture *fx, const char *name, uint32_t dimension,
                              enum pdb_metric metric, enum pdb_sync_mode sync)
{
    struct pdb_field field = {.dimension = dimension, .metric = metric};
    struct pdb_collection_create c = {
        .config = {.name = txt(name), .fields = &field, .field_count = 1, .sync = sync},
    };
    return do_create(fx, &c);
}

static inline void create(struct fixture *fx, const char *name, uint32_t dimension)
{
    assert_done(fx, create_with(fx, name, dimension, PDB_METRIC_EUCLIDEAN, PDB_SYNC_ALWAYS));
}

/* A record of one vector; `values` and `vector` must outlive the call. */
static inline struct pdb_record record(const char *id, struct pdb_vector *vector,
                                       const float *values, uint32_t count)
{
    *vector = (struct pdb_vector){.values = values, .count = count, .form = PDB_VECTOR_F32};
    return (struct pdb_record){.id = txt(id), .vectors = vector, .vector_count = 1};
}

static inline int put(struct fixture *fx, const char *collection, const char *id,
                      const float *values, uint32_t count, const char *json)
{
    struct pdb_vector vector;
    struct pdb_record r = record(id, &vector, values, count);
    if (json != NULL) {
        r.metadata = doc(fx, json);
        r.has_metadata = true;
    }
    struct pdb_write w = {.collection = txt(collection), .records = &r, .record_count = 1};
    return do_write(fx, &w);
}

static inline uint64_t count_of(struct fixture *fx, const char *collection, const char *filter)
{
    struct pdb_count c = {.collection = txt(collection)};
    if (filter != NULL)
        c.filter = doc(fx, filter);
    assert_done(fx, do_count(fx, &c));
    return c.count_out;
}

/* The row with all it has; version 0: missing. */
static inline struct pdb_row row_of(struct fixture *fx, const char *collection, const char *id)
{
    struct pdb_text ids[1] = {txt(id)};
    struct pdb_get g = {
        .collection = txt(collection),
        .ids = ids,
        .id_count = 1,
        .include = PDB_INCLUDE_METADATA | PDB_INCLUDE_VECTORS | PDB_INCLUDE_TIMES,
    };
    assert_done(fx, do_get(fx, &g));
    return g.rows_out[0];
}

static inline void assert_json(struct fixture *fx, struct pdb_text document, const char *expected)
{
    struct pdb_text json;
    assert_int_equal(pdb_doc_to_json(fx->arena, document, &json), 0);
    if (!same_text(json, expected))
        fail_msg("%.*s is not %s", (int)json.len, json.ptr, expected);
}

#endif
