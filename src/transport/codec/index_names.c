/* index_names.c: tables in the order of the enumerations. */
#include "transport/codec/index_names.h"

#include "base/text.h"

#include "base/no_libc_heap.h"

#define COUNT(names) (sizeof(names) / sizeof((names)[0]))

static const char *const index_types[] = {"auto", "flat", "hnsw", "ivf"};
static const char *const quantization_types[] = {"auto", "none", "sq8", "sq4", "pq", "binary"};
static const char *const index_states[] = {"ready", "waiting", "building", "failed"};

_Static_assert(PDB_INDEX_AUTO == 0 && PDB_INDEX_IVF == COUNT(index_types) - 1, "index_types");
_Static_assert(PDB_QUANTIZATION_AUTO == 0 &&
                   PDB_QUANTIZATION_BINARY == COUNT(quantization_types) - 1,
               "quantization_types");
_Static_assert(PDB_INDEX_STATE_READY == 0 && PDB_INDEX_STATE_FAILED == COUNT(index_states) - 1,
               "index_states");

const char *index_type_name(enum pdb_index_type type)
{
    return index_types[type];
}

const char *quantization_type_name(enum pdb_quantization_type type)
{
    return quantization_types[type];
}

const char *index_state_name(enum pdb_index_state state)
{
    return index_states[state];
}

static bool find(const char *const *names, size_t count, struct pdb_text name, size_t *at_out)
{
    for (size_t i = 0; i < count; i++) {
        if (text_equal(name, text_of(names[i]))) {
            *at_out = i;
            return true;
        }
    }
    return false;
}

bool index_type_of(struct pdb_text name, enum pdb_index_type *type_out)
{
    size_t at;
    if (!find(index_types, COUNT(index_types), name, &at))
        return false;
    *type_out = (enum pdb_index_type)at;
    return true;
}

bool quantization_type_of(struct pdb_text name, enum pdb_quantization_type *type_out)
{
    size_t at;
    if (!find(quantization_types, COUNT(quantization_types), name, &at))
        return false;
    *type_out = (enum pdb_quantization_type)at;
    return true;
}
