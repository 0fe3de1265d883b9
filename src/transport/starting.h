/* Answers while the doors are still shut: a recovery may take minutes, and whoever probes the ports
 * meanwhile should hear that the process lives, that it is not ready, and how far it is. */
#ifndef TRANSPORT_STARTING_H
#define TRANSPORT_STARTING_H

#include "base/buffer.h"

#include <proximadb/proximadb.h>

struct starting;

/* One listening socket; where it accepts cleartext. It stays the caller's. */
struct starting_listener {
    int fd;
    bool cleartext;
};

/* Starts the thread that answers, after a moment in which a short recovery is over without it.
 * 0 or PDB_RESOURCE_EXHAUSTED. */
int starting_begin(const struct starting_listener *listeners, size_t count,
                   struct starting **starting_out);
/* From any thread: what the answers say from now on. */
void starting_progress(struct starting *s, const struct pdb_progress *progress);
/* From any thread, as often as wanted: nothing is accepted any more once it has returned. Who is
 * not accepted yet waits for the doors. */
void starting_end(struct starting *s);
void starting_free(struct starting *s);

/* `,"recovery":{...}` as a member of an object, or nothing when nothing goes on. */
void starting_write_progress(struct buffer *out, const struct pdb_progress *progress);

#endif
