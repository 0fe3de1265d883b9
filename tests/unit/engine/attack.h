/* Several calls under way at once on a simulated disk, from one thread: each is started by mail to
 * a chosen core, and the test turns the reactors until it has seen what it waits for. */
#ifndef ENGINE_ATTACK_H
#define ENGINE_ATTACK_H

#include "engine_fixture.h"

#include "engine/engine_internal.h"
#include "os/sim.h"

struct flight { /* one call on its way */
    union {
        struct pdb_call call;
        struct pdb_write write;
        struct pdb_delete delete;
        struct pdb_get get;
        struct pdb_search search;
        struct pdb_recall recall;
        struct pdb_scroll scroll;
        struct pdb_count count;
        struct pdb_collection_create create;
        struct pdb_collection_update update;
        struct pdb_collection_delete drop;
    };
    struct mail mail;
    void (*start)(struct pdb_call *call);
    bool done;
    unsigned told; /* how often `done` came */
    uint64_t done_at_ns;
    struct arena *arena;
};

static inline void flight_done(struct pdb_call *call)
{
    struct flight *f = (struct flight *)(void *)call;
    f->done = true;
    f->told++;
    f->done_at_ns = reactor_here()->now_ns;
}

static inline void flight_arrives(struct reactor *here, struct mail *mail)
{
    (void)here;
    struct flight *f = container_of(mail, struct flight, mail);
    f->start(&f->call);
}

/* The request is filled in behind this and before flight_send. */
static inline struct flight *flight_new(struct pdb *db, void (*start)(struct pdb_call *call))
{
    struct flight *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->arena = pdb_arena_new(0);
    assert_non_null(f->arena);
    f->start = start;
    pdb_call_init(&f->call, db, f->arena, flight_done);
    return f;
}

static inline void flight_send(struct pdb *db, unsigned core, struct flight *f)
{
    f->mail.deliver = flight_arrives;
    mail_post_external(db->group, core, &f->mail);
}

static inline void sim_turn(struct pdb *db)
{
    bool any = false;
    for (unsigned i = 0; i < db->core_count; i++)
        any = reactor_turn(db->cores[i].r) || any;
    if (!any)
        sim_advance(db->sim, 1000000);
}

static inline uint64_t sim_now_ns(const struct pdb *db)
{
    return db->cores[0].r->io->ops->now_ns(db->cores[0].r->io);
}

/* Two minutes of virtual time are enough for everything. */
static inline void flight_wait(struct pdb *db, struct flight *f)
{
    uint64_t until = sim_now_ns(db) + 120000000000;
    while (!f->done && sim_now_ns(db) < until)
        sim_turn(db);
    if (!f->done)
        fail_msg("a call was never answered");
}

static inline void flight_free(struct flight *f)
{
    pdb_arena_free(f->arena);
    free(f);
}

static inline struct pdb *sim_open(struct sim_disk *disk, unsigned cores)
{
    struct pdb_options options = {
        .data_dir = ".",
        .cores = cores,
        .wal_segment_bytes = 1 << 20,
        .disk_min_free_bytes = UINT64_MAX,
        .wal_on_error = PDB_WAL_READONLY,
        .memory_limit = (uint64_t)4 << 30,
    };
    struct pdb *db;
    struct pdb_error error;
    if (engine_open_sim(&options, disk, &db, &error) < 0)
        fail_msg("open: %s", error.text);
    return db;
}

/* A fixture's calls (do_write and so on) work on a simulated database too. */
static inline void sim_fixture(struct fixture *fx, struct pdb *db)
{
    memset(fx, 0, sizeof(*fx));
    fx->db = db;
    fx->arena = pdb_arena_new(0);
    assert_non_null(fx->arena);
}

static inline void sim_run(struct pdb *db, uint64_t ns)
{
    uint64_t until = sim_now_ns(db) + ns;
    while (sim_now_ns(db) < until)
        sim_turn(db);
}

#endif
