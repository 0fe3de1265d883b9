/* The whole engine on the simulated disk: lives that end in a loss of power, one seed after the
 * other.
 *
 *     test_engine_sim [--seed FIRST] [--count N]
 *
 * A seed decides everything: cores, latencies, faults, what is written, when the power goes. Each
 * life opens the database, compares what it finds with the model, then runs a handful of writers
 * side by side, each with one batch under way, until the power fails (or the stop is clean). The
 * model knows for each writer what was acknowledged and the one batch that was not: the state must
 * be one of the two, whole. A failing seed is printed with the command that repeats it. */
#include "base/arena.h"
#include "base/rng.h"
#include "engine/engine_internal.h"
#include "os/sim.h"
#include "wal/wal_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WRITERS = 4, SLOTS = 6, LIVES = 5, COUNT_DEFAULT = 300, TURNS_MAX = 200000 };

struct writer {
    struct pdb_write write;
    struct mail mail;
    struct arena arena;
    struct pdb_vector vectors[SLOTS];
    struct pdb_record records[SLOTS];
    char ids[SLOTS][16];
    float value;
    bool busy, done;
    /* the model: what every slot holds, 0: nothing; and what the batch under way would make of
     * it */
    float known[SLOTS], tried[SLOTS];
    bool maybe;
};

struct sim {
    struct sim_disk *disk;
    struct pdb *db;
    struct rng rng;
    struct writer writers[WRITERS];
    float next_value;
    const char *wrong;
};

static const char *const collections[2] = {"even", "odd"};

static struct pdb_text text(const char *s)
{
    return (struct pdb_text){s, strlen(s)};
}

static uint64_t below(struct sim *s, uint64_t bound)
{
    return rng_below(&s->rng, bound);
}

/* ---- calls ---- */

static void is_done(struct pdb_call *call)
{
    container_of(call, struct writer, write.call)->done = true;
}

static void starts(struct reactor *here, struct mail *mail)
{
    (void)here;
    pdb_write_start(&container_of(mail, struct writer, mail)->write);
}

static void begin_batch(struct sim *s, unsigned number)
{
    struct writer *w = &s->writers[number];
    uint32_t count = 0;
    w->value = ++s->next_value;
    memcpy(w->tried, w->known, sizeof(w->tried));
    pdb_call_init(&w->write.call, s->db, &w->arena, is_done);
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        if (below(s, 2) == 0 && !(slot + 1 == SLOTS && count == 0))
            continue;
        (void)snprintf(w->ids[slot], sizeof(w->ids[slot]), "w%u-%u", number, slot);
        w->vectors[count] =
            (struct pdb_vector){.values = &w->value, .count = 1, .form = PDB_VECTOR_F32};
        w->records[count] = (struct pdb_record){
            .id = text(w->ids[slot]), .vectors = &w->vectors[count], .vector_count = 1};
        w->tried[slot] = w->value;
        count++;
    }
    w->write.kind = PDB_WRITE_UPSERT;
    w->write.collection = text(collections[number % 2]);
    w->write.records = w->records;
    w->write.record_count = count;
    w->busy = w->maybe = true;
    w->done = false;
    w->mail.deliver = starts;
    mail_post_external(s->db->group, (unsigned)below(s, s->db->core_count), &w->mail);
}

static void end_batch(struct writer *w)
{
    const struct pdb_error *error = &w->write.call.error;
    if (error->code == 0)
        memcpy(w->known, w->tried, sizeof(w->known));
    /* A refusal with a known outcome has changed nothing; an unknown one stays a maybe until the
     * next life. */
    w->maybe = error->outcome_unknown;
    w->busy = false;
    arena_reset(&w->arena);
}

/* ---- comparing ---- */

static void get_start(struct pdb_call *call)
{
    pdb_get_start((struct pdb_get *)(void *)call);
}

static void compare(struct sim *s, unsigned number)
{
    struct writer *w = &s->writers[number];
    float found[SLOTS] = {0};
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "w%u-%u", number, slot);
        struct pdb_text ids = text(id);
        struct pdb_get g = {.id_count = 0};
        pdb_call_init(&g.call, s->db, &w->arena, NULL);
        g.collection = text(collections[number % 2]);
        g.ids = &ids;
        g.id_count = 1;
        g.include = PDB_INCLUDE_VECTORS;
        if (pdb_wait(&g.call, get_start) < 0)
            s->wrong = "a get failed";
        else if (g.rows_out[0].version != 0)
            found[slot] = *(const float *)g.rows_out[0].vectors[0];
        arena_reset(&w->arena);
    }
    bool as_known = memcmp(found, w->known, sizeof(found)) == 0;
    bool as_tried = w->maybe && memcmp(found, w->tried, sizeof(found)) == 0;
    if (!as_known && !as_tried)
        s->wrong = "what is there is neither what was acknowledged nor that and the last batch";
    memcpy(w->known, found, sizeof(found));
    w->maybe = false;
}

/* ---- lives ---- */

static void create_start(struct pdb_call *call)
{
    pdb_collection_create_start((struct pdb_collection_create *)(void *)call);
}

static void make_collections(struct sim *s)
{
    for (unsigned i = 0; i < 2; i++) {
        struct pdb_field field = {.dimension = 1, .metric = PDB_METRIC_DOT};
        struct pdb_collection_create c;
        pdb_call_init(&c.call, s->db, &s->writers[0].arena, NULL);
        c.config = (struct pdb_collection_config){.name = text(collections[i]),
                                                  .fields = &field,
                                                  .field_count = 1,
                                                  .sync = (enum pdb_sync_mode)i};
        int rc = pdb_wait(&c.call, create_start);
        if (rc < 0 && rc != PDB_ALREADY_EXISTS)
            s->wrong = "a collection cannot be created";
        arena_reset(&s->writers[0].arena);
    }
}

static bool open_db(struct sim *s)
{
    struct pdb_options options = {
        .data_dir = "data",
        .cores = 1 + (unsigned)below(s, 3),
        .memory_limit = (uint64_t)1 << 30,
        .wal_encoding = (enum pdb_wal_encoding)below(s, 2),
        .wal_on_error = PDB_WAL_READONLY,
        .wal_segment_bytes = 1 << 20,
        .disk_min_free_bytes = UINT64_MAX,
        .allow_unsafe_fs = true,
        .simd = "scalar",
    };
    struct pdb_error error;
    if (engine_open_sim(&options, s->disk, &s->db, &error) == 0)
        return true;
    printf("open: %s\n", error.text);
    s->wrong = "it does not open";
    return false;
}

static void set_faults(struct sim *s)
{
    struct sim_faults faults = {.latency_max_ns = below(s, 3) * 400000};
    if (below(s, 4) == 0)
        faults.short_write = 0.1;
    if (below(s, 8) == 0)
        faults.write_error = 0.005;
    if (below(s, 4) == 0)
        faults.bytes_max = (1 + below(s, 12)) << 20; /* the log cannot make its next segment */
    sim_disk_set_faults(s->disk, &faults);
}

static void run_writers(struct sim *s, unsigned batches)
{
    for (unsigned turn = 0, ended = 0; ended < batches && turn < TURNS_MAX; turn++) {
        for (unsigned i = 0; i < WRITERS; i++) {
            struct writer *w = &s->writers[i];
            if (w->busy && w->done) {
                end_batch(w);
                ended++;
            }
            if (!w->busy && !w->maybe && below(s, 4) == 0)
                begin_batch(s, i);
        }
        engine_pump(s->db);
    }
}

static void finish_writers(struct sim *s)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        for (unsigned turn = 0; s->writers[i].busy && !s->writers[i].done; turn++) {
            if (turn == TURNS_MAX) {
                s->wrong = "a write is never answered";
                return;
            }
            engine_pump(s->db);
        }
        if (s->writers[i].busy)
            end_batch(&s->writers[i]);
    }
}

static void live(struct sim *s)
{
    struct sim_faults none = {0};
    sim_disk_set_faults(s->disk, &none);
    if (!open_db(s))
        return;
    make_collections(s);
    for (unsigned i = 0; i < WRITERS; i++)
        compare(s, i);
    set_faults(s);
    run_writers(s, (unsigned)below(s, below(s, 4) == 0 ? 600 : 60));
    if (below(s, 4) == 0) {
        sim_disk_set_faults(s->disk, &none);
        finish_writers(s);
        pdb_close(s->db);
        return;
    }
    sim_disk_crash(s->disk);
    engine_abandon_sim(s->db, wal_abandon);
    for (unsigned i = 0; i < WRITERS; i++) {
        s->writers[i].busy = false;
        arena_reset(&s->writers[i].arena);
    }
}

static bool run_seed(uint64_t seed)
{
    struct sim *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return false;
    rng_seed(&s->rng, seed);
    s->disk = sim_disk_new(seed);
    for (unsigned i = 0; i < WRITERS; i++)
        arena_init(&s->writers[i].arena, 0);
    struct io *io;
    if (s->disk == NULL || sim_io_create(s->disk, &io) < 0)
        return false;
    (void)io_wait_make_dir(io, "data");
    (void)io_wait_sync_dir(io, ".");
    io->ops->destroy(io);
    for (unsigned life = 0; life < LIVES && s->wrong == NULL; life++)
        live(s);
    bool well = s->wrong == NULL;
    if (!well)
        printf("seed %llu: %s; again: test_engine_sim --seed %llu --count 1\n",
               (unsigned long long)seed, s->wrong, (unsigned long long)seed);
    for (unsigned i = 0; i < WRITERS; i++)
        arena_dispose(&s->writers[i].arena);
    if (well)
        sim_disk_free(s->disk);
    free(s);
    return well;
}

int main(int argc, char **argv)
{
    uint64_t first = 1, count = COUNT_DEFAULT;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0)
            first = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--count") == 0)
            count = strtoull(argv[i + 1], NULL, 10);
    }
    for (uint64_t seed = first; seed < first + count; seed++)
        if (!run_seed(seed))
            return 1;
    printf("%llu seeds\n", (unsigned long long)count);
    return 0;
}
