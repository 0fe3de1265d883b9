/* validate_index.c: what may be asked of indexes: by a field of a collection, by a change of it, by
 * a search. A parameter belongs to the types that have it: one that would have no effect is a
 * mistake of the caller and is refused, not ignored. `auto` makes graphs, so it takes theirs. */
#include "engine/validate.h"

#include "base/text.h"
#include "engine/call.h"

#include <stdio.h>

#include "base/no_libc_heap.h"

enum {
    HNSW_M_MIN = 4,
    HNSW_M_MAX = 32,
    EF_CONSTRUCTION_MIN = 8,
    EF_CONSTRUCTION_MAX = 2000,
    IVF_LISTS_MAX = 65536,
    BINARY_BITS_MAX = 8,
};

/* ---- fields ---- */

static int check_index(const struct pdb_field *field, const char *path, struct trail *trail)
{
    if ((unsigned)field->index > PDB_INDEX_IVF)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%sindex.type: expected one of auto, flat, hnsw, ivf", path);
    bool graph = field->index == PDB_INDEX_AUTO || field->index == PDB_INDEX_HNSW;
    if (!graph && (field->hnsw_m != 0 || field->ef_construction != 0))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%sindex.%s: only of the types hnsw and auto",
                         path, field->hnsw_m != 0 ? "m" : "ef_construction");
    if (field->index != PDB_INDEX_IVF && field->ivf_lists != 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%sindex.nlist: only of the type ivf", path);
    if (field->hnsw_m != 0 &&
        (field->hnsw_m < HNSW_M_MIN || field->hnsw_m > HNSW_M_MAX || field->hnsw_m % 2 != 0))
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%sindex.m: expected an even number from %d to %d, found %u", path,
                         HNSW_M_MIN, HNSW_M_MAX, field->hnsw_m);
    if (field->ef_construction != 0 && (field->ef_construction < EF_CONSTRUCTION_MIN ||
                                        field->ef_construction > EF_CONSTRUCTION_MAX))
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%sindex.ef_construction: expected %d to %d, found %u", path,
                         EF_CONSTRUCTION_MIN, EF_CONSTRUCTION_MAX, field->ef_construction);
    if (field->ivf_lists > IVF_LISTS_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%sindex.nlist: expected 1 to %d, found %u",
                         path, IVF_LISTS_MAX, field->ivf_lists);
    return 0;
}

/* Distances of manhattan and hamming are always those of the vectors themselves. */
static int check_quantization(const struct pdb_field *field, const char *path, struct trail *trail)
{
    enum pdb_quantization_type type = field->quantization;
    if ((unsigned)type > PDB_QUANTIZATION_BINARY)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%squantization.type: expected one of auto, none, sq8, sq4, pq, binary",
                         path);
    bool coded = type != PDB_QUANTIZATION_AUTO && type != PDB_QUANTIZATION_NONE;
    if (coded && (field->metric == PDB_METRIC_MANHATTAN || field->metric == PDB_METRIC_HAMMING))
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%squantization.type: expected auto or none, as the metric is %s", path,
                         field->metric == PDB_METRIC_HAMMING ? "hamming" : "manhattan");
    if (type != PDB_QUANTIZATION_BINARY && field->quantization_bits != 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%squantization.bits: only of the type binary", path);
    if (field->quantization_bits > BINARY_BITS_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%squantization.bits: expected 1 to %d, found %u", path, BINARY_BITS_MAX,
                         field->quantization_bits);
    return 0;
}

int validate_field_index(const struct pdb_field *field, const char *path, struct trail *trail)
{
    int rc = check_index(field, path, trail);
    return rc == 0 ? check_quantization(field, path, trail) : rc;
}

bool validate_is_recall(float target)
{
    return target == 0 || (target >= 0.5f && target <= 1);
}

int validate_target_recall(float target, struct trail *trail)
{
    if (validate_is_recall(target))
        return 0;
    return trail_add(trail, PDB_INVALID_ARGUMENT, "target_recall: expected 0.5 to 1");
}

/* ---- changes ---- */

void validate_apply_change(struct pdb_field *field, const struct pdb_field_change *change)
{
    if (change->has_index) {
        field->index = change->index;
        field->hnsw_m = change->hnsw_m;
        field->ef_construction = change->ef_construction;
        field->ivf_lists = change->ivf_lists;
    }
    if (change->has_quantization) {
        field->quantization = change->quantization;
        field->quantization_bits = change->quantization_bits;
    }
}

static const struct pdb_field *find_field(const struct pdb_collection_config *config,
                                          struct pdb_text name)
{
    for (uint32_t i = 0; i < config->field_count; i++)
        if (text_equal(config->fields[i].name, name))
            return &config->fields[i];
    return NULL;
}

/* The default field's settings stand beside those of the collection. */
static int check_change(const struct pdb_collection_config *config,
                        const struct pdb_field_change *changes, uint32_t at, struct trail *trail)
{
    const struct pdb_field_change *change = &changes[at];
    const struct pdb_field *field = find_field(config, change->name);
    char path[32] = "";
    if (field == NULL && change->name.len == 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%s: the collection has no default vector field; name one in fields",
                         change->has_index ? "index" : "quantization");
    if (change->name.len != 0)
        (void)snprintf(path, sizeof(path), "fields[%u].", at);
    if (field == NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%sname: the collection has no vector field '%.*s'", path,
                         CALL_TEXT(change->name));
    for (uint32_t i = 0; i < at; i++)
        if (text_equal(changes[i].name, change->name))
            return trail_add(trail, PDB_INVALID_ARGUMENT,
                             "fields: the vector field '%.*s' is given twice",
                             CALL_TEXT(change->name));
    if (!change->has_index && !change->has_quantization)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "fields[%u]: give index or quantization", at);
    struct pdb_field changed = *field;
    validate_apply_change(&changed, change);
    return validate_field_index(&changed, path, trail);
}

int validate_field_changes(const struct pdb_collection_config *config,
                           const struct pdb_field_change *changes, uint32_t change_count,
                           struct trail *trail)
{
    if (change_count > PDB_FIELD_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "fields: at most %d, found %u", PDB_FIELD_MAX,
                         change_count);
    for (uint32_t i = 0; i < change_count; i++) {
        int rc = check_change(config, changes, i, trail);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- searches ---- */

int validate_search_params(const struct pdb_query *query, const char *path, struct trail *trail)
{
    if (query->ef > PDB_EF_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s.ef: expected 1 to %d, found %u", path,
                         PDB_EF_MAX, query->ef);
    if (query->nprobe > PDB_NPROBE_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s.nprobe: expected 1 to %d, found %u", path,
                         PDB_NPROBE_MAX, query->nprobe);
    if (!validate_is_recall(query->target_recall))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s.target_recall: expected 0.5 to 1", path);
    int given = (query->ef != 0) + (query->nprobe != 0) + (query->target_recall != 0);
    if (given > 1)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%s: at most one of ef, nprobe and target_recall", path);
    if (given != 0 && query->exact)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%s: exact goes without ef, nprobe and target_recall", path);
    return 0;
}
