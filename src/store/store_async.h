/* Calls to a store from a reactor: each is a job for a worker, and its result is delivered on the
 * reactor that started it. */
#ifndef STORE_STORE_ASYNC_H
#define STORE_STORE_ASYNC_H

#include "reactor/reactor.h"
#include "store/store.h"

enum store_async_kind {
    STORE_ASYNC_PUT,
    STORE_ASYNC_GET,
    STORE_ASYNC_HEAD,
    STORE_ASYNC_DELETE,
    STORE_ASYNC_LIST,
};

/* Zeroed by the caller before its first use; alive, with all that it points to, until `done` runs.
 * */
struct store_async {
    struct job job; /* the wrapper's */

    /* ---- the call, filled in by the caller ---- */
    struct store *store;
    enum store_async_kind kind;
    union {
        struct store_put_request put;
        struct store_get_request get;
        struct pdb_text key; /* head, delete */
        struct {
            struct pdb_text prefix;
            size_t count_max;
            struct arena *arena; /* nobody else's until `done` */
        } list;
    };
    uint64_t deadline_ns;                 /* monotonic; 0: none */
    void (*done)(struct store_async *op); /* on the owner; the op may be reused or freed inside */

    /* ---- its outcome, for `done` ---- */
    int result;
    struct trail trail;
    struct store_info info;       /* put, get, head */
    uint64_t len;                 /* get */
    struct store_object *objects; /* list */
    size_t object_count;

    struct store_cancel cancel;
};

/* Hands the call to the worker of core `worker`: calls of one worker run one after the other. A
 * call that its group's stop overtakes never runs `done`. */
void store_async_start(struct reactor *r, unsigned worker, struct store_async *op);
/* From the owner, before `done`: the call ends soon with PDB_CANCELLED, or with what it had
 * reached. `done` runs all the same. */
void store_async_cancel(struct store_async *op);

#endif
