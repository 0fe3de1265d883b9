/* Conditions on metadata for programs that hold records themselves: those that searches and scrolls
 * take (docs/api/rest.md), with the same meaning. */
#ifndef PROXIMADB_FILTER_H
#define PROXIMADB_FILTER_H

#include <proximadb/call.h>
#include <proximadb/collection.h>
#include <stdbool.h>

struct pdb_filter;

/* `document` (record.h: pdb_doc_from_json) must live as long as the filter, which lies in the
 * arena; columns are not kept. An empty object matches all: *filter_out is then NULL. 0,
 * PDB_INVALID_ARGUMENT ("filter.price.$lt: ..."), PDB_UNIMPLEMENTED, PDB_RESOURCE_EXHAUSTED. */
PDB_API int pdb_filter_compile(struct arena *arena, struct pdb_text document,
                               const struct pdb_column *columns, uint32_t column_count,
                               const struct pdb_filter **filter_out, struct pdb_error *error);
/* NULL filter: true. `metadata`: a document. */
PDB_API bool pdb_filter_matches(const struct pdb_filter *filter, struct pdb_text metadata);

#endif
