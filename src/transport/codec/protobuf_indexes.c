/* protobuf_indexes.c: types and parameters of indexes, their states, the parameters of searches. On
 * the wire a type's number is one higher than the engine's, since 0 says that none is given. */
#include "transport/codec/protobuf_indexes.h"
#include "transport/codec/index_names.h"

#include "base/no_libc_heap.h"

#include "proximadb_v1_proximadb.pb-c.h"

#define SAME(wire, engine)                                                                         \
    _Static_assert((int)PROXIMADB__V1__##wire == (int)(engine) + 1,                                \
                   "types have the numbers of the engine and one")
SAME(INDEX_TYPE__INDEX_TYPE_AUTO, PDB_INDEX_AUTO);
SAME(INDEX_TYPE__INDEX_TYPE_IVF, PDB_INDEX_IVF);
SAME(QUANTIZATION_TYPE__QUANTIZATION_TYPE_AUTO, PDB_QUANTIZATION_AUTO);
SAME(QUANTIZATION_TYPE__QUANTIZATION_TYPE_NONE, PDB_QUANTIZATION_NONE);
SAME(QUANTIZATION_TYPE__QUANTIZATION_TYPE_BINARY, PDB_QUANTIZATION_BINARY);

/* ---- requests ---- */

void protobuf_take_index(int type, const struct Proximadb__V1__IndexParams *params,
                         struct pdb_field_change *change_out)
{
    bool given = type != PROXIMADB__V1__INDEX_TYPE__INDEX_TYPE_UNSPECIFIED;
    change_out->has_index = given || params != NULL;
    change_out->index = given ? (enum pdb_index_type)(type - 1) : PDB_INDEX_AUTO;
    change_out->hnsw_m = params != NULL ? params->m : 0;
    change_out->ef_construction = params != NULL ? params->ef_construction : 0;
    change_out->ivf_lists = params != NULL ? params->nlist : 0;
}

void protobuf_take_quantization(int type, const struct Proximadb__V1__QuantizationParams *params,
                                struct pdb_field_change *change_out)
{
    bool given = type != PROXIMADB__V1__QUANTIZATION_TYPE__QUANTIZATION_TYPE_UNSPECIFIED;
    change_out->has_quantization = given || params != NULL;
    change_out->quantization =
        given ? (enum pdb_quantization_type)(type - 1) : PDB_QUANTIZATION_AUTO;
    change_out->quantization_bits = params != NULL ? params->bits : 0;
}

struct pdb_field protobuf_vector_field(const char *name, uint32_t dimension, int metric,
                                       const struct pdb_field_change *how)
{
    return (struct pdb_field){.name = text_of(name),
                              .dimension = dimension,
                              .metric = (enum pdb_metric)metric,
                              .index = how->index,
                              .quantization = how->quantization,
                              .hnsw_m = how->hnsw_m,
                              .ef_construction = how->ef_construction,
                              .ivf_lists = how->ivf_lists,
                              .quantization_bits = how->quantization_bits};
}

int protobuf_read_params(struct protobuf_decoder *d, struct pdb_text message,
                         struct protobuf_place place, struct pdb_query *q)
{
    enum { EF = 1, EXACT, NPROBE, TARGET_RECALL };
    static const char *const names[] = {
        [EF] = "params.ef", [NPROBE] = "params.nprobe", [TARGET_RECALL] = "params.target_recall"};
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f;
    while (protobuf_next(&r, &f) > 0) {
        uint32_t bits = (uint32_t)f.value;
        if (f.number == EF)
            q->ef = bits;
        else if (f.number == EXACT)
            q->exact = f.value != 0;
        else if (f.number == NPROBE)
            q->nprobe = bits;
        else if (f.number == TARGET_RECALL)
            memcpy(&q->target_recall, &bits, sizeof(bits));
        bool zero = (f.number == EF && q->ef == 0) || (f.number == NPROBE && q->nprobe == 0) ||
                    (f.number == TARGET_RECALL && q->target_recall == 0);
        if (zero)
            return protobuf_fail(d->trail, place, PDB_INVALID_ARGUMENT, names[f.number],
                                 "0 is no value for a parameter; leave it out for the default");
    }
    return 0;
}

/* ---- answers ---- */

void protobuf_put_index(struct protobuf_writer *w, const struct pdb_field *field)
{
    enum { INDEX = 4, QUANTIZATION, INDEX_PARAMS, QUANTIZATION_PARAMS };
    enum { M = 1, EF_CONSTRUCTION, NLIST };
    enum { BITS = 1 };
    protobuf_put_u64(w, INDEX, (uint64_t)field->index + 1);
    protobuf_put_u64(w, QUANTIZATION, (uint64_t)field->quantization + 1);
    if (field->hnsw_m != 0 || field->ef_construction != 0 || field->ivf_lists != 0) {
        protobuf_begin(w, INDEX_PARAMS, 24);
        protobuf_put_u64(w, M, field->hnsw_m);
        protobuf_put_u64(w, EF_CONSTRUCTION, field->ef_construction);
        protobuf_put_u64(w, NLIST, field->ivf_lists);
        protobuf_end(w);
    }
    if (field->quantization_bits != 0) {
        protobuf_begin(w, QUANTIZATION_PARAMS, 8);
        protobuf_put_u64(w, BITS, field->quantization_bits);
        protobuf_end(w);
    }
}

void protobuf_put_index_state(struct protobuf_writer *w, uint32_t number, struct pdb_text field,
                              const struct pdb_index_info *info)
{
    enum {
        FIELD = 1,
        STATE,
        ROWS,
        ROWS_INDEXED,
        ROWS_WANTED,
        PROGRESS,
        ETA_S,
        BYTES,
        INDEXES,
        RECALL_ESTIMATE
    };
    protobuf_begin(w, number, field.len + 80);
    protobuf_put_text(w, FIELD, field);
    protobuf_put_text(w, STATE, text_of(index_state_name(info->state)));
    protobuf_put_u64(w, ROWS, info->rows);
    protobuf_put_u64(w, ROWS_INDEXED, info->rows_indexed);
    protobuf_put_u64(w, ROWS_WANTED, info->rows_wanted);
    protobuf_put_float(w, PROGRESS, info->progress);
    protobuf_put_u64(w, ETA_S, info->eta_s);
    protobuf_put_u64(w, BYTES, info->bytes);
    protobuf_put_u64(w, INDEXES, info->indexes);
    if (info->has_recall)
        protobuf_put_float(w, RECALL_ESTIMATE, info->recall_estimate);
    protobuf_end(w);
}
