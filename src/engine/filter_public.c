/* filter_public.c: src/filter for programs above the engine. */
#include <proximadb/filter.h>

#include "filter/filter.h"

#include <stdio.h>

#include "base/no_libc_heap.h"

struct pdb_filter {
    struct filter *filter;
};

static int compile(struct arena *arena, struct pdb_text document,
                   const struct filter_options *options, const struct pdb_filter **filter_out,
                   struct trail *trail)
{
    struct filter *compiled = NULL;
    int rc = filter_compile(arena, document, options, trail, &compiled);
    if (rc < 0)
        return rc;
    struct pdb_filter *filter = arena_new(arena, struct pdb_filter);
    if (filter == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    filter->filter = compiled;
    *filter_out = compiled != NULL ? filter : NULL;
    return 0;
}

int pdb_filter_compile(struct arena *arena, struct pdb_text document,
                       const struct pdb_column *columns, uint32_t column_count,
                       const struct pdb_filter **filter_out, struct pdb_error *error)
{
    struct trail trail = {0};
    struct filter_column *copy = arena_array(arena, struct filter_column, column_count + 1);
    int rc = copy != NULL ? 0 : trail_add(&trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    for (uint32_t i = 0; rc == 0 && i < column_count; i++)
        copy[i] = (struct filter_column){columns[i].name, columns[i].type};
    const struct filter_options options = {.columns = copy, .column_count = column_count};
    if (rc == 0)
        rc = compile(arena, document, &options, filter_out, &trail);
    if (rc < 0 && error != NULL) {
        error->code = rc;
        (void)snprintf(error->text, sizeof(error->text), "%s", trail.text);
    }
    return rc;
}

bool pdb_filter_matches(const struct pdb_filter *filter, struct pdb_text metadata)
{
    return filter == NULL || filter_matches(filter->filter, metadata);
}
