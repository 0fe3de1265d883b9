/* A server started for the demo, on a temporary folder and a free port. */
#ifndef BENCH_CHILD_H
#define BENCH_CHILD_H

#include "base/trail.h"

#include <sys/types.h>

struct child {
    pid_t pid; /* 0: none */
    char folder[64];
    char url[32]; /* 127.0.0.1:PORT */
};

/* Starts `program serve` and waits until it accepts connections, at most 30 s. 0, or an error; then
 * nothing is left. */
int child_start(struct child *child_out, const char *program, struct trail *trail);
/* SIGTERM, after 30 s SIGKILL; removes the folder. 0, or PDB_INTERNAL when it did not end by itself
 * with status 0. */
int child_stop(struct child *child, struct trail *trail);

#endif
