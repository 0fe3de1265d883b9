/* export_convert.h: an exported folder as records in order of id, into a writer. */
#ifndef SERVER_EXPORT_CONVERT_H
#define SERVER_EXPORT_CONVERT_H

#include "server/export_writer.h"

#include <proximadb/filter.h>

/* A filter as docs/api/rest.md has it. */
struct export_filter {
    struct pdb_text json; /* empty: all */
    const struct pdb_filter *filter;
};

/* Against the declared columns of a collection. PDB_INVALID_ARGUMENT says what is wrong. */
int export_filter_compile(struct export_filter *filter, struct arena *arena,
                          const struct transfer_collection *collection, struct trail *trail);

struct export_convert {
    /* set by the caller */
    struct export_filter *filter; /* is compiled again, for the collection of the folder */
    struct transfer_progress *progress;
    bool *interrupted;
    /* Makes the writer once the collection is known. */
    int (*open)(void *arg, const struct transfer_collection *collection,
                struct export_writer **writer_out, struct trail *trail);
    void *arg;
    /* results */
    struct transfer_collection collection;
    uint64_t rows, left_out; /* written; without what the format wants */
};

/* Of rows with one id the folder has one that is alive; those that have expired by now are passed
 * by. Does not finish the writer. 0, also when it was interrupted, or an error. Memory is the
 * arena's. */
int export_convert(struct export_convert *c, const char *folder, struct arena *arena,
                   struct trail *trail);

#endif
