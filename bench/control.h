/* The few requests around a run: make and delete the collection, ask what the server is. */
#ifndef BENCH_CONTROL_H
#define BENCH_CONTROL_H

#include "bench/client/run.h"
#include "bench/options.h"

/* The path of an operation on a collection: REST "/v1/collections/NAME/SUFFIX", gRPC
 * "/proximadb.v1.ProximaDB/METHOD". */
struct pdb_text control_rest_path(struct arena *arena, const char *collection, const char *suffix);
const char *control_grpc_path(struct arena *arena, const char *method);

/* Makes the collection of the options unless it is there; deletes it first with options->drop. 0 or
 * an error. */
int control_prepare(const struct options *options, const struct endpoint *endpoint,
                    size_t dimension, struct arena *arena, struct trail *trail);
int control_drop(const struct options *options, const struct endpoint *endpoint,
                 struct arena *arena, struct trail *trail);

/* Until all rows are in segments and all of these have the indexes they are to have; asks ten times
 * a second. seconds_out (may be NULL): how long that was. 0 or an error. */
int control_wait_indexed(const struct options *options, const struct endpoint *endpoint,
                         struct arena *arena, double *seconds_out, struct trail *trail);

/* The document of GET /v1/info, a JSON object; {} when the server does not answer that. */
struct pdb_text control_info(const struct options *options, const struct endpoint *endpoint,
                             struct arena *arena);

#endif
