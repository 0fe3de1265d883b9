/* What tests of snapshots share: the calls, and a model of one collection that can be compared with
 * any collection and at any moment. */
#ifndef SNAPSHOT_FIXTURE_H
#define SNAPSHOT_FIXTURE_H

#include "engine_fixture.h"

#include "base/rng.h"

#include <sys/stat.h>

FIXTURE_CALL(pdb_snapshot_create, do_snapshot, pdb_snapshot_create_start)
FIXTURE_CALL(pdb_snapshot_list, do_snapshots, pdb_snapshot_list_start)
FIXTURE_CALL(pdb_snapshot_get, do_snapshot_get, pdb_snapshot_get_start)
FIXTURE_CALL(pdb_snapshot_delete, do_snapshot_delete, pdb_snapshot_delete_start)
FIXTURE_CALL(pdb_snapshot_restore, do_restore, pdb_snapshot_restore_start)

enum { MODEL_IDS = 60, MODEL_DIMENSION = 4 };

struct model_row {
    float values[MODEL_DIMENSION];
    uint64_t version;
    bool live;
};

struct model {
    struct model_row rows[MODEL_IDS];
    struct rng rng;
    uint64_t version;
};

static inline const char *model_id(unsigned id, char text[16])
{
    (void)snprintf(text, 16, "id-%03u", id);
    return text;
}

/* One upsert or delete. */
static inline void model_change(struct fixture *fx, struct model *model, const char *collection)
{
    unsigned id = (unsigned)rng_below(&model->rng, MODEL_IDS);
    struct model_row *row = &model->rows[id];
    char text[16];
    if (rng_below(&model->rng, 4) == 0) {
        struct pdb_text ids[1] = {txt(model_id(id, text))};
        struct pdb_delete d = {.collection = txt(collection), .ids = ids, .id_count = 1};
        assert_done(fx, do_delete(fx, &d));
        row->live = false;
        model->version = d.version_out;
        return;
    }
    for (int d = 0; d < MODEL_DIMENSION; d++)
        row->values[d] = (float)rng_normal(&model->rng);
    struct pdb_vector vector;
    struct pdb_record r = record(model_id(id, text), &vector, row->values, MODEL_DIMENSION);
    struct pdb_write w = {.collection = txt(collection), .records = &r, .record_count = 1};
    assert_done(fx, do_write(fx, &w));
    row->live = true;
    row->version = model->version = w.version_out;
}

static inline void model_changes(struct fixture *fx, struct model *model, const char *collection,
                                 unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        model_change(fx, model, collection);
}

static inline uint64_t model_live(const struct model *model)
{
    uint64_t live = 0;
    for (unsigned id = 0; id < MODEL_IDS; id++)
        live += model->rows[id].live;
    return live;
}

/* Every row is as the model says: there or not, with its vector and version. */
static inline void model_compare(struct fixture *fx, const struct model *model,
                                 const char *collection)
{
    for (unsigned id = 0; id < MODEL_IDS; id++) {
        char text[16];
        const struct model_row *expected = &model->rows[id];
        struct pdb_row row = row_of(fx, collection, model_id(id, text));
        assert_int_equal(row.version, expected->live ? expected->version : 0);
        if (expected->live)
            assert_memory_equal(row.vectors[0], expected->values, sizeof(expected->values));
    }
    assert_int_equal(count_of(fx, collection, NULL), model_live(model));
}

static inline int take_snapshot(struct fixture *fx, const char *name, const char *collection,
                                struct pdb_snapshot_info *info_out)
{
    struct pdb_snapshot_create c = {.name = txt(name), .collection = txt(collection)};
    int rc = do_snapshot(fx, &c);
    if (info_out != NULL)
        *info_out = c.info_out;
    return rc;
}

static inline int delete_snapshot(struct fixture *fx, const char *name)
{
    struct pdb_snapshot_delete d = {.name = txt(name)};
    return do_snapshot_delete(fx, &d);
}

static inline uint32_t count_snapshots(struct fixture *fx)
{
    struct pdb_snapshot_list l = {0};
    assert_done(fx, do_snapshots(fx, &l));
    return l.count_out;
}

static inline int restore(struct fixture *fx, const char *name, const char *target, bool replace)
{
    struct pdb_snapshot_restore r = {.name = txt(name), .target = txt(target), .replace = replace};
    return do_restore(fx, &r);
}

/* Names in <data_dir>/snapshots, hidden ones too. */
static inline unsigned count_names(const char *dir, const char *folder)
{
    char path[512];
    unsigned count = 0;
    (void)snprintf(path, sizeof(path), "%s/%s", dir, folder);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    (void)closedir(d);
    return count;
}

#endif
