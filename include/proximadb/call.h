/* A call: one operation under way. The caller embeds it, fills in the request, and starts it;
 * `done` is told exactly once.
 *
 * Threads: the *_start functions run on a thread of the database (a reactor: the server's doors
 * do). `done` runs on the same thread, maybe before *_start returns. Other programs use pdb_wait
 * (below), which starts the call on a reactor and blocks until it is done.
 *
 * Memory: request texts, vectors and documents are the caller's and must stay as they are until
 * `done`; results are in the call's arena. The call must not be moved or freed before `done`. */
#ifndef PROXIMADB_CALL_H
#define PROXIMADB_CALL_H

#include <proximadb/error.h>
#include <proximadb/export.h>
#include <proximadb/types.h>

struct pdb;
struct arena; /* src/base/arena.h; programs get one from pdb_arena_new */

enum { PDB_ERROR_TEXT_MAX = 512, PDB_CALL_PRIVATE_BYTES = 512 };

struct pdb_error {
    int code;             /* 0: none */
    int http_status;      /* more exact than the code's own, or 0 */
    bool outcome_unknown; /* of a write whose log failed under it */
    char text[PDB_ERROR_TEXT_MAX];
    /* For FAILED_PRECONDITION of if_version: what is there. */
    uint64_t current_version;
    bool has_current_version;
};

struct pdb_call {
    struct pdb *db;
    struct arena *arena;
    /* CLOCK_MONOTONIC; 0: none. Past it the call ends with DEADLINE_EXCEEDED at its next step. */
    uint64_t deadline_ns;
    /* how the door calls a write's list of records in error texts: "vectors", "records" */
    const char *batch_name;
    void (*done)(struct pdb_call *call);
    struct pdb_error error; /* error.code 0: the results are valid */
    uint64_t took_us;
    _Alignas(16) unsigned char priv[PDB_CALL_PRIVATE_BYTES]; /* the engine's */
};

/* Zeroes what the engine needs; before filling in a request. */
PDB_API void pdb_call_init(struct pdb_call *call, struct pdb *db, struct arena *arena,
                           void (*done)(struct pdb_call *call));

/* The caller lost interest (the client left): the work stops at its next step, `done` still comes,
 * usually with CANCELLED. A write that is logged is not taken back. Only on the thread that started
 * the call, between start and done. */
PDB_API void pdb_call_cancel(struct pdb_call *call);

/* For threads that are not the database's: runs `start(call)` on a reactor and waits for it.
 * Returns call->error.code. `call->done` is not used. */
PDB_API int pdb_wait(struct pdb_call *call, void (*start)(struct pdb_call *call));

PDB_API struct arena *pdb_arena_new(size_t bytes_max);
PDB_API void pdb_arena_reset(struct arena *arena);
PDB_API void pdb_arena_free(struct arena *arena);

#endif
