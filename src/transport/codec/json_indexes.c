/* json_indexes.c: {"type": ..., parameters}, and the parameters of searches. A parameter that is
 * given is not 0, which is how the engine is told of one that is not. */
#include "transport/codec/json_indexes.h"
#include "transport/codec/index_names.h"

#include "base/no_libc_heap.h"

#define COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))

static int positive_field(struct json_decoder *d, void *into)
{
    int rc = json_u32_field(d, into);
    if (rc == 0 && *(const uint32_t *)into == 0)
        return json_fail(&d->reader, "0 is no value for a parameter; leave it out for the default");
    return rc;
}

int json_recall_field(struct json_decoder *d, void *into)
{
    double value = 0;
    int rc = json_read_double(&d->reader, &value);
    if (rc == 0 && !(value >= 0.5 && value <= 1))
        return json_fail(&d->reader, "target_recall: expected 0.5 to 1");
    *(float *)into = (float)value;
    return rc;
}

/* ---- fields ---- */

static int index_type(struct json_decoder *d, void *into)
{
    struct pdb_text name;
    int rc = json_text_field(d, &name);
    if (rc == 0 && !index_type_of(name, into))
        return json_fail(&d->reader, "index.type: '%.*s' is not one of " INDEX_TYPE_NAMES,
                         name.len < 64 ? (int)name.len : 64, name.ptr);
    return rc;
}

static int quantization_type(struct json_decoder *d, void *into)
{
    struct pdb_text name;
    int rc = json_text_field(d, &name);
    if (rc == 0 && !quantization_type_of(name, into))
        return json_fail(&d->reader,
                         "quantization.type: '%.*s' is not one of " QUANTIZATION_TYPE_NAMES,
                         name.len < 64 ? (int)name.len : 64, name.ptr);
    return rc;
}

int json_index_field(struct json_decoder *d, void *into)
{
    static const struct json_field fields[] = {
        JSON_FIELD("type", index_type, struct pdb_field, index),
        JSON_FIELD("m", positive_field, struct pdb_field, hnsw_m),
        JSON_FIELD("ef_construction", positive_field, struct pdb_field, ef_construction),
        JSON_FIELD("nlist", positive_field, struct pdb_field, ivf_lists),
    };
    return json_read_object(d, fields, COUNT(fields), into);
}

int json_quantization_field(struct json_decoder *d, void *into)
{
    static const struct json_field fields[] = {
        JSON_FIELD("type", quantization_type, struct pdb_field, quantization),
        JSON_FIELD("bits", positive_field, struct pdb_field, quantization_bits),
    };
    return json_read_object(d, fields, COUNT(fields), into);
}

/* ---- changes ---- */

int json_index_change(struct json_decoder *d, void *into)
{
    struct pdb_field_change *change = into;
    struct pdb_field field = {.dimension = 0};
    int rc = json_index_field(d, &field);
    change->has_index = true;
    change->index = field.index;
    change->hnsw_m = field.hnsw_m;
    change->ef_construction = field.ef_construction;
    change->ivf_lists = field.ivf_lists;
    return rc;
}

int json_quantization_change(struct json_decoder *d, void *into)
{
    struct pdb_field_change *change = into;
    struct pdb_field field = {.dimension = 0};
    int rc = json_quantization_field(d, &field);
    change->has_quantization = true;
    change->quantization = field.quantization;
    change->quantization_bits = field.quantization_bits;
    return rc;
}

int json_field_change(struct json_decoder *d, void *into)
{
    static const struct json_field fields[] = {
        JSON_FIELD("name", json_text_field, struct pdb_field_change, name),
        JSON_FIELD_WHOLE("index", json_index_change),
        JSON_FIELD_WHOLE("quantization", json_quantization_change),
    };
    return json_read_object(d, fields, COUNT(fields), into);
}

/* ---- searches ---- */

int json_params_field(struct json_decoder *d, void *into)
{
    static const struct json_field fields[] = {
        JSON_FIELD("ef", positive_field, struct pdb_query, ef),
        JSON_FIELD("nprobe", positive_field, struct pdb_query, nprobe),
        JSON_FIELD("target_recall", json_recall_field, struct pdb_query, target_recall),
        JSON_FIELD("exact", json_bool_field, struct pdb_query, exact),
    };
    return json_take_null(d) ? 0 : json_read_object(d, fields, COUNT(fields), into);
}
