/* One run of the simulated engine: what its parts share. test_engine_sim.c has the lives,
 * engine_sim_calls.c what is written and altered, engine_sim_reads.c what is read and compared,
 * engine_sim_archive.c what is archived. */
#ifndef SIM_ENGINE_SIM_H
#define SIM_ENGINE_SIM_H

#include "base/arena.h"
#include "base/rng.h"
#include "engine/engine_internal.h"
#include "engine_model.h"
#include "os/sim.h"
#include "store/store.h"
#include "wal/wal_internal.h"

#include <errno.h>
#include <string.h>

enum { SIM_COLLECTIONS = 3, SIM_WRITERS = SIM_COLLECTIONS * MODEL_WRITERS };

struct sim_writer {
    union {
        struct pdb_call call;
        struct pdb_write write;
        struct pdb_delete delete;
    };
    struct mail mail;
    struct arena arena;
    struct pdb_vector vectors[MODEL_SLOTS];
    struct pdb_record records[MODEL_SLOTS];
    struct pdb_text ids[MODEL_SLOTS];
    char texts[MODEL_SLOTS][16], request[24];
    float value;
    bool busy, done, deletes;
    uint64_t told_before;     /* when the batch began */
    unsigned collection_life; /* of its collection then */
    /* the last upsert that was acknowledged with a request id, to be asked again; 0: none */
    uint64_t again_version;
    int64_t again_us;
    unsigned again_mask, mask, again_life;
    struct pdb_record again[MODEL_SLOTS]; /* texts of its own arena */
    struct arena again_arena;
    float again_value;
    char again_request[24];
};

enum admin_kind { ADMIN_CREATE, ADMIN_DROP, ADMIN_ALTER };

struct sim_admin {
    union {
        struct pdb_call call;
        struct pdb_collection_create create;
        struct pdb_collection_delete drop;
        struct pdb_collection_update alter;
    };
    struct mail mail;
    struct arena arena;
    struct pdb_field field;
    struct pdb_column column;
    bool busy, done;
    enum admin_kind kind;
    unsigned collection;
};

struct sim_sum { /* over all seeds: a run in which nothing happens proves nothing */
    uint64_t lives, batches, flushes, merges, drops, old_reads, retries, archived, bases;
    bool no_crashes;
};

struct sim {
    struct sim_disk *disk;
    struct store *archive; /* NULL: there is none */
    struct pdb *db;
    struct rng rng;
    struct sim_writer writers[SIM_WRITERS];
    struct sim_admin admin;
    struct model models[SIM_COLLECTIONS];
    unsigned collection_lives[SIM_COLLECTIONS]; /* how often each was made or dropped */
    bool dropping[SIM_COLLECTIONS];             /* or maybe dropped, until the next start */
    bool creating[SIM_COLLECTIONS];
    struct arena arena; /* of reads */
    float next_value;
    int64_t now_us; /* as last seen */
    bool clean, poisoned;
    struct sim_sum *sum;
    const char *wrong;
};

extern const char *const sim_names[SIM_COLLECTIONS];

/* ---- test_engine_sim.c ---- */

uint64_t sim_below(struct sim *s, uint64_t bound);
void sim_wrong(struct sim *s, const char *what);

static inline struct pdb_text sim_text(const char *s)
{
    return (struct pdb_text){s, strlen(s)};
}

/* ---- engine_sim_calls.c ---- */

void sim_begin_calls(struct sim *s);
void sim_dispose_calls(struct sim *s);
/* Begins and ends batches; how many have ended. */
unsigned sim_turn_writers(struct sim *s);
void sim_turn_admin(struct sim *s);
/* Lets time go by, at most `ms`, while no batch begins. */
void sim_pause(struct sim *s, uint64_t ms, uint64_t until_op);
void sim_finish_calls(struct sim *s); /* waits for all that is under way */
void sim_end_calls(struct sim *s);    /* all have been answered */
void sim_forget_calls(struct sim *s); /* none ever will be */
/* The record of a slot as its batch wrote it. */
void sim_fill_record(struct sim_writer *w, unsigned number, unsigned slot, uint32_t at,
                     const float *value);

/* ---- engine_sim_archive.c ---- */

void sim_archive_begin(struct sim *s);
/* Everything that it names is there. */
void sim_archive_end(struct sim *s);

/* ---- engine_sim_reads.c ---- */

int64_t sim_now_us(struct sim *s);
void sim_compare_all(struct sim *s);    /* after a start */
void sim_read_something(struct sim *s); /* in the middle of life */

#endif
