/* A call on its way: home (where it was started, where `done` runs) and owner (the core that has
 * the shard, or core 0 for the catalog). The call's memory belongs to whoever holds it and travels
 * with its mail; so there is no lock, and no copy of a batch.
 *
 * Life:  call_begin (home) -> steps as tasks -> call_send (to the owner) -> steps there ->
 *        call_return -> done (home).
 *
 * Cancelling is a second mail, since home may not touch a call that is away: it marks the call if
 * it is still there and comes back; `done` waits for it, so the memory cannot be freed under it. */
#ifndef ENGINE_CALL_H
#define ENGINE_CALL_H

#include "base/trail.h"
#include "engine/engine_internal.h"

struct catalog_entry;
struct shard;
struct call_waiter;

struct call_state {
    struct mail mail, cancel_mail;
    struct task task;
    struct list_link link; /* the queue it waits in: a core's, a catalog's */
    struct engine_core *home, *here;
    struct catalog_snapshot *catalog; /* held by home */
    const struct catalog_entry *entry;
    struct shard *shard; /* at the owner; counted in shard->users */
    void (*arrive)(struct pdb_call *call);
    void (*step)(struct pdb_call *call);
    void (*resume)(struct pdb_call *call); /* of a call that has gone through core 0's queue */
    void *work;                            /* the operation's own state, in the arena */
    struct call_waiter *waiter;
    uint64_t started_ns;
    int64_t now_us; /* the one look at the clock that decides what has expired */
    unsigned owner; /* home's */
    /* home's */
    uint8_t sent, returned, cancel_under_way, touring;
    /* the holder's */
    uint8_t cancelled;
    uint8_t visiting;  /* call_visit_shard */
    uint8_t gives_way; /* call_give_way */
    /* the owner's: the only one the cancel mail reads */
    uint8_t away;
};
_Static_assert(sizeof(struct call_state) <= PDB_CALL_PRIVATE_BYTES, "lies in pdb_call.priv");

static inline struct call_state *call_state(struct pdb_call *call)
{
    return (struct call_state *)(void *)call->priv;
}

static inline struct pdb_call *call_of(struct call_state *state)
{
    return container_of((unsigned char(*)[PDB_CALL_PRIVATE_BYTES])(void *)state, struct pdb_call,
                        priv);
}

/* On a reactor's thread. False: refused, and `done` has run. */
bool call_begin(struct pdb_call *call);
/* Looks the collection up in this core's catalog and holds the catalog until the call is done. 0 or
 * PDB_NOT_FOUND, told. */
int call_resolve(struct pdb_call *call, struct pdb_text collection);

/* Records the first error; returns `code`. */
int call_fail(struct pdb_call *call, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int call_fail_trail(struct pdb_call *call, int rc, const struct trail *trail);
int call_no_memory(struct pdb_call *call);

/* Against the collection's columns and the configured limits; `path` as the door calls it:
 * "filter", "queries[3].filter". */
struct filter;
int call_compile_filter(struct pdb_call *call, struct pdb_text document, const char *path,
                        struct filter **filter_out);

/* True when the call is cancelled or too late: the error is set and the holder must end it. */
bool call_stopped(struct pdb_call *call);

/* Before its start: all that it does is done behind what others ask for. */
static inline void call_give_way(struct pdb_call *call)
{
    call_state(call)->gives_way = true;
    call_state(call)->task.bulk = true;
}

/* Runs `step` as a task here; it calls call_again to go on in a later one. */
void call_run(struct pdb_call *call, void (*step)(struct pdb_call *call));
static inline void call_again(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    task_queue(s->here->r, &s->task);
}

/* Hands the call over; `arrive` runs there. False: too much waits for that core, the call is
 * done. */
bool call_send(struct pdb_call *call, unsigned to, void (*arrive)(struct pdb_call *call));
/* To the core that owns the collection; arrives with s->shard set, or ends with NOT_FOUND when it
 * was dropped meanwhile. */
void call_send_to_shard(struct pdb_call *call, void (*arrive)(struct pdb_call *call));
/* The same for any entry of the call's catalog (s->catalog, held), as often as wanted, with no
 * shard in s->shard before. Arrives in any case: without s->shard when the collection was dropped,
 * or when there is no memory for it (told). */
void call_visit_shard(struct pdb_call *call, const struct catalog_entry *entry,
                      void (*arrive)(struct pdb_call *call));
/* From anywhere back to home, where it is done. Lets the shard go. */
void call_return(struct pdb_call *call);
/* A core has learnt of a newer catalog: calls that waited for it arrive. */
void call_catalog_arrived(struct engine_core *core);

/* fmt of a text that may be long: at most 64 bytes of it, for messages. "%.*s", CALL_TEXT(t) */
#define CALL_TEXT(t) (int)((t).len > 64 ? 64 : (t).len), ((t).len != 0 ? (t).ptr : "")

#endif
