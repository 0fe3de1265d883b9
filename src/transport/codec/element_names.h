/* The names of what one value of a vector may be. */
#ifndef TRANSPORT_CODEC_ELEMENT_NAMES_H
#define TRANSPORT_CODEC_ELEMENT_NAMES_H

#include <proximadb/types.h>

/* Static, in lower case. */
const char *element_type_name(enum pdb_element_type type);
/* What `name` means; false if it is none of these. */
bool element_type_of(struct pdb_text name, enum pdb_element_type *type_out);

#define ELEMENT_TYPE_NAMES "float32, float16, int8"

/* ElementType of the wire: 0 (unspecified) and 1 are float32. False: another number. */
bool element_type_of_wire(uint64_t number, enum pdb_element_type *type_out);

#endif
