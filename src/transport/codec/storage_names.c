/* storage_names.c: both doors write these settings as text, because a file format may gain a codec
 * between two releases of the schema. */
#include "transport/codec/storage_names.h"

#include "base/text.h"

#include "base/no_libc_heap.h"

static const char *const compressions[] = {"none", "snappy", "lz4", "zstd"};
static const char *const vector_storages[] = {"memory", "mmap", "disk"};

_Static_assert(PDB_COMPRESSION_NONE == 0 && PDB_COMPRESSION_ZSTD == 3, "compressions");
_Static_assert(PDB_VECTORS_MEMORY == 0 && PDB_VECTORS_DISK == 2, "vector_storages");

const char *compression_name(enum pdb_compression compression)
{
    return compressions[compression];
}

const char *vector_storage_name(enum pdb_vector_storage storage)
{
    return vector_storages[storage];
}

static bool find(const char *const *names, unsigned count, struct pdb_text name, unsigned *at_out)
{
    for (unsigned i = 0; i < count; i++) {
        if (text_equal(name, text_of(names[i]))) {
            *at_out = i;
            return true;
        }
    }
    return false;
}

bool compression_of(struct pdb_text name, enum pdb_compression *compression_out)
{
    unsigned at;
    if (!find(compressions, sizeof(compressions) / sizeof(compressions[0]), name, &at))
        return false;
    *compression_out = (enum pdb_compression)at;
    return true;
}

bool vector_storage_of(struct pdb_text name, enum pdb_vector_storage *storage_out)
{
    unsigned at;
    if (!find(vector_storages, sizeof(vector_storages) / sizeof(vector_storages[0]), name, &at))
        return false;
    *storage_out = (enum pdb_vector_storage)at;
    return true;
}
