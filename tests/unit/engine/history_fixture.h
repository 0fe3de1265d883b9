/* What tests of replays share: changes of a few collections, where their records lie in the logs,
 * and what must be there at any moment of them. */
#ifndef HISTORY_FIXTURE_H
#define HISTORY_FIXTURE_H

#include "engine_fixture.h"

#include "engine/engine_internal.h"

#include <sys/stat.h>

enum { COLLECTIONS = 3, IDS = 6, CHANGES_MAX = 2000, DIMENSION = 300 };

struct change { /* one batch of one row */
    int collection, id;
    float value; /* 0: deleted */
    uint64_t version;
    /* where its record lies */
    struct uuid log;
    uint64_t lsn;
    int64_t time_us;
};

struct history {
    struct fixture fx;
    struct change changes[CHANGES_MAX];
    size_t count, flushed; /* changes that a snapshot holds: the logs may have forgotten them */
    struct uuid uuids[COLLECTIONS];
};

static const char *const names[COLLECTIONS] = {"a", "b", "c"};

__attribute__((format(printf, 1, 2))) static inline void shell(const char *format, ...)
{
    char command[2048];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

static inline void change_one(struct history *h, int collection, int id, bool deleted)
{
    assert_true(h->count < CHANGES_MAX);
    struct change *change = &h->changes[h->count++];
    float values[DIMENSION] = {0};
    char id_text[8];
    (void)snprintf(id_text, sizeof(id_text), "id%d", id);
    *change =
        (struct change){.collection = collection, .id = id, .value = deleted ? 0 : (float)h->count};
    if (deleted) {
        struct pdb_text ids[1] = {txt(id_text)};
        struct pdb_delete d = {.collection = txt(names[collection]), .ids = ids, .id_count = 1};
        assert_done(&h->fx, do_delete(&h->fx, &d));
        change->version = d.version_out;
        h->count -= d.count_out == 0; /* nothing was there: nothing is logged */
        return;
    }
    values[0] = change->value;
    struct pdb_vector vector;
    struct pdb_record r = record(id_text, &vector, values, DIMENSION);
    struct pdb_write w = {.collection = txt(names[collection]), .records = &r, .record_count = 1};
    assert_done(&h->fx, do_write(&h->fx, &w));
    change->version = w.version_out;
}

static inline void change_some(struct history *h, unsigned seed, int count)
{
    srand(seed);
    for (int i = 0; i < count; i++)
        change_one(h, rand() % COLLECTIONS, rand() % IDS, rand() % 4 == 0);
}

static inline void uuids_of(struct history *h)
{
    for (int c = 0; c < COLLECTIONS; c++) {
        struct pdb_collection_get g = {.name = txt(names[c])};
        assert_done(&h->fx, do_describe(&h->fx, &g));
        assert_int_equal(uuid_parse(g.info_out.uuid, strlen(g.info_out.uuid), &h->uuids[c]), 0);
    }
}

static inline int place_change(void *arg, const struct wal_record_info *info)
{
    struct history *h = arg;
    for (size_t i = 0; i < h->count && info->type == WAL_RECORD_ROWS; i++) {
        struct change *change = &h->changes[i];
        if (change->version != info->version ||
            !uuid_equal(&h->uuids[change->collection], &info->collection))
            continue;
        change->log = info->log;
        change->lsn = info->lsn;
        change->time_us = info->time_us;
    }
    return 0;
}

static inline void history_begin(struct history *h, unsigned cores)
{
    memset(h, 0, sizeof(*h));
    fixture_begin(&h->fx, cores);
    pdb_close(h->fx.db);
    h->fx.options.ttl_sweep_ms = 3600000; /* nothing is flushed: all logs stay */
    fixture_open(&h->fx, cores);
    for (int c = 0; c < COLLECTIONS; c++)
        create(&h->fx, names[c], DIMENSION);
}

static inline void history_end(struct history *h)
{
    pdb_arena_free(h->fx.arena);
    remove_tree(h->fx.dir);
}

static inline bool is_in(const struct change *change, const struct replay_stop *stop)
{
    if (stop->exact && uuid_equal(&change->log, &stop->log))
        return change->lsn <= stop->lsn;
    return change->time_us <= stop->time_us;
}

/* The database of `fx` has what the changes up to the stop have made, and nothing else. */
static inline void compare(const struct history *h, struct fixture *fx,
                           const struct replay_stop *stop)
{
    const struct change *rows[COLLECTIONS][IDS] = {{NULL}};
    uint64_t versions[COLLECTIONS] = {0};
    for (size_t i = 0; i < h->count; i++) {
        const struct change *change = &h->changes[i];
        if (!is_in(change, stop))
            continue;
        versions[change->collection] = change->version;
        rows[change->collection][change->id] = change->value != 0 ? change : NULL;
    }
    for (int c = 0; c < COLLECTIONS; c++) {
        struct pdb_collection_get g = {.name = txt(names[c])};
        uint64_t live = 0;
        assert_done(fx, do_describe(fx, &g));
        assert_int_equal(g.info_out.version, versions[c]);
        for (int id = 0; id < IDS; id++) {
            char id_text[8];
            (void)snprintf(id_text, sizeof(id_text), "id%d", id);
            struct pdb_row row = row_of(fx, names[c], id_text);
            const struct change *expected = rows[c][id];
            assert_int_equal(row.version, expected != NULL ? expected->version : 0);
            if (expected != NULL)
                assert_memory_equal(row.vectors[0], &expected->value, sizeof(float));
            live += expected != NULL;
        }
        assert_int_equal(count_of(fx, names[c], NULL), live);
    }
}

static inline void keep_history(struct history *h)
{
    struct io *io = NULL;
    const char *reason = NULL;
    char wal[300];
    const char *const dirs[1] = {wal};
    uuids_of(h);
    pdb_close(h->fx.db);
    (void)snprintf(wal, sizeof(wal), "%s/wal", h->fx.dir);
    assert_int_equal(io_create(IO_ENGINE_THREADS, &io, &reason), 0);
    struct wal_scan_options options = {
        .dirs = dirs, .dir_count = 1, .from_lowest = true, .visit = place_change, .arg = h};
    struct wal_scan *scan = NULL;
    assert_int_equal(wal_scan_open(io, &options, &scan, NULL), 0);
    wal_scan_close(scan);
    io->ops->destroy(io);
    for (size_t i = 0; i < h->count; i++) {
        assert_true(h->changes[i].time_us != 0 || i < h->flushed);
        if (h->changes[i].time_us == 0)
            h->changes[i].time_us = 1; /* long ago */
    }
}

#endif
