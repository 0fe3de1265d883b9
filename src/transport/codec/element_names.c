/* element_names.c: a table in the order of the enumeration. */
#include "transport/codec/element_names.h"

#include "base/text.h"

#include "base/no_libc_heap.h"

static const char *const names[] = {"float32", "float16", "int8"};
enum { COUNT = sizeof(names) / sizeof(names[0]) };

_Static_assert(PDB_ELEMENT_FLOAT32 == 0 && PDB_ELEMENT_INT8 == COUNT - 1, "names");

const char *element_type_name(enum pdb_element_type type)
{
    return names[type];
}

bool element_type_of(struct pdb_text name, enum pdb_element_type *type_out)
{
    for (unsigned i = 0; i < COUNT; i++) {
        if (text_equal(name, text_of(names[i]))) {
            *type_out = (enum pdb_element_type)i;
            return true;
        }
    }
    return false;
}

bool element_type_of_wire(uint64_t number, enum pdb_element_type *type_out)
{
    if (number > COUNT)
        return false;
    *type_out = number == 0 ? PDB_ELEMENT_FLOAT32 : (enum pdb_element_type)(number - 1);
    return true;
}
