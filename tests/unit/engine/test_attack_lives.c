/* Lives on a simulated disk that end in a loss of power, with what the crash tests of plain writes
 * leave out: collections that are made and dropped while the power goes, modes that change under
 * writes, versions that were told and lost, retries after the restart. PDB_ATTACK_SEEDS sets how
 * many seeds, PDB_ATTACK_SEED the first. */
#include "attack.h"

#include "base/rng.h"
#include "wal/wal_internal.h"

enum { WRITERS = 3, ROWS = 5, LIVES = 5, NAMES = 2 };

struct writer {
    struct flight *flight;
    struct pdb_record records[ROWS];
    struct pdb_vector vectors[ROWS];
    char ids[ROWS][16], request_id[32];
    float value;           /* of the batch under way or of the newest */
    float durable, newest; /* what must be there at least, what may be there at most */
    bool unsure;
    /* the weakest mode that the batch under way may have been taken in: it may be answered after
     * the change to a stronger one was, and yet have come before it */
    enum pdb_sync_mode weakest;
};

enum presence { ABSENT, PRESENT, EITHER };

struct churner {
    struct flight *flight;
    struct flight *stray; /* a write to it, left to its fate */
    struct pdb_record record;
    struct pdb_vector vector;
    enum presence presence, after; /* now; if the change under way succeeds */
    char name[8];
};

struct lives {
    struct sim_disk *disk;
    struct fixture fx;
    struct rng rng;
    struct writer writers[WRITERS];
    struct churner churners[NAMES];
    struct flight *alter;
    enum pdb_sync_mode sync;    /* of "w": the strongest it may have */
    uint64_t told_before, told; /* highest version told: in earlier lives, ever */
    float next_value;
    uint64_t seed;
};

static uint64_t below(struct lives *l, uint64_t bound)
{
    return rng_below(&l->rng, bound);
}

static void send_somewhere(struct lives *l, struct flight *f)
{
    flight_send(l->fx.db, (unsigned)below(l, l->fx.db->core_count), f);
}

/* ---- writers: each writes all its rows with one rising value ---- */

static void fill_batch(struct lives *l, unsigned number, struct pdb_write *write)
{
    struct writer *w = &l->writers[number];
    for (int i = 0; i < ROWS; i++) {
        (void)snprintf(w->ids[i], sizeof(w->ids[i]), "%u-%d", number, i);
        w->records[i] = record(w->ids[i], &w->vectors[i], &w->value, 1);
    }
    (void)snprintf(w->request_id, sizeof(w->request_id), "%u:%g", number, (double)w->value);
    write->collection = txt("w");
    write->records = w->records;
    write->record_count = ROWS;
    write->request_id = txt(w->request_id);
}

static void begin_batch(struct lives *l, unsigned number)
{
    struct writer *w = &l->writers[number];
    w->value = ++l->next_value;
    w->newest = w->value;
    w->weakest = l->sync;
    w->flight = flight_new(l->fx.db, do_write_start);
    fill_batch(l, number, &w->flight->write);
    send_somewhere(l, w->flight);
}

static void end_batch(struct lives *l, struct writer *w)
{
    struct flight *f = w->flight;
    assert_int_equal(f->told, 1);
    w->flight = NULL;
    if (f->call.error.code == 0) {
        if (f->write.version_out <= l->told_before)
            fail_msg("seed %llu: version %llu was told in an earlier life",
                     (unsigned long long)l->seed, (unsigned long long)f->write.version_out);
        l->told = f->write.version_out > l->told ? f->write.version_out : l->told;
        if (w->weakest <= PDB_SYNC_BATCH)
            w->durable = w->value;
    }
    w->unsure = f->call.error.outcome_unknown;
    flight_free(f);
}

static float value_of(struct lives *l, unsigned number)
{
    float value = -1;
    for (int i = 0; i < ROWS; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "%u-%d", number, i);
        struct pdb_row row = row_of(&l->fx, "w", id);
        float found = row.version != 0 ? *(const float *)row.vectors[0] : 0;
        if (i != 0 && found != value)
            fail_msg("seed %llu: half a batch", (unsigned long long)l->seed);
        value = found;
    }
    return value;
}

/* What was told and lost may be tried again: a retry of what is there changes nothing. */
static void check_writer(struct lives *l, unsigned number)
{
    struct writer *w = &l->writers[number];
    float found = value_of(l, number);
    if (found < w->durable || found > w->newest)
        fail_msg("seed %llu: writer %u: %g is there, %g to %g are due", (unsigned long long)l->seed,
                 number, (double)found, (double)w->durable, (double)w->newest);
    if (found != 0 && found == w->value) {
        struct pdb_write write = {.kind = PDB_WRITE_UPSERT};
        uint64_t version = row_of(&l->fx, "w", w->ids[0]).version;
        fill_batch(l, number, &write);
        assert_done(&l->fx, do_write(&l->fx, &write));
        assert_int_equal(write.version_out, version);
        assert_int_equal(write.count_out, ROWS);
    }
    w->durable = w->newest = found;
    w->unsure = false;
}

/* ---- collections that come and go ---- */

static const struct pdb_field small_field = {.dimension = 1, .metric = PDB_METRIC_DOT};

static void begin_change(struct lives *l, struct churner *c)
{
    bool make = c->presence == ABSENT;
    c->flight = flight_new(l->fx.db, make ? do_create_start : do_drop_start);
    if (make) {
        c->flight->create.config = (struct pdb_collection_config){
            .name = txt(c->name), .fields = &small_field, .field_count = 1};
    } else {
        c->flight->drop.name = txt(c->name);
    }
    c->after = make ? PRESENT : ABSENT;
    send_somewhere(l, c->flight);
}

static void end_change(struct lives *l, struct churner *c)
{
    struct flight *f = c->flight;
    c->flight = NULL;
    assert_int_equal(f->told, 1);
    if (f->call.error.code == 0)
        c->presence = c->after;
    else if (f->call.error.outcome_unknown)
        c->presence = EITHER;
    flight_free(f);
    bool made = c->presence == PRESENT && c->after == PRESENT;
    if (made && (c->stray == NULL || c->stray->done) && below(l, 2) == 0) {
        static const float one = 1;
        if (c->stray != NULL)
            flight_free(c->stray);
        c->stray = flight_new(l->fx.db, do_write_start);
        c->record = record("x", &c->vector, &one, 1);
        c->stray->write.collection = txt(c->name);
        c->stray->write.records = &c->record;
        c->stray->write.record_count = 1;
        send_somewhere(l, c->stray);
    }
}

static void check_churner(struct lives *l, struct churner *c)
{
    struct pdb_collection_get g = {.name = txt(c->name)};
    int rc = do_describe(&l->fx, &g);
    if ((rc != 0 && rc != PDB_NOT_FOUND) || (c->presence == PRESENT && rc != 0) ||
        (c->presence == ABSENT && rc == 0))
        fail_msg("seed %llu: collection %s: %d, expected %d: %s", (unsigned long long)l->seed,
                 c->name, rc, c->presence, l->fx.error.text);
    c->presence = rc == 0 ? PRESENT : ABSENT;
}

/* ---- a mode that changes ---- */

static void begin_alter(struct lives *l)
{
    enum pdb_sync_mode sync = (enum pdb_sync_mode)below(l, 4);
    if (sync > l->sync)
        l->sync = sync; /* from now on it may be that weak */
    for (unsigned i = 0; i < WRITERS; i++)
        if (l->writers[i].weakest < l->sync)
            l->writers[i].weakest = l->sync;
    l->alter = flight_new(l->fx.db, do_alter_start);
    l->alter->update.name = txt("w");
    l->alter->update.has_sync = true;
    l->alter->update.sync = sync;
    send_somewhere(l, l->alter);
}

static void end_alter(struct lives *l)
{
    assert_int_equal(l->alter->told, 1);
    if (l->alter->call.error.code == 0)
        l->sync = l->alter->update.sync;
    flight_free(l->alter);
    l->alter = NULL;
}

/* ---- a life ---- */

static void open_life(struct lives *l)
{
    struct sim_faults none = {0};
    sim_disk_set_faults(l->disk, &none);
    l->fx.db = sim_open(l->disk, 1 + (unsigned)below(l, 4));
    int rc = create_with(&l->fx, "w", 1, PDB_METRIC_DOT, PDB_SYNC_ALWAYS);
    assert_true(rc == 0 || rc == PDB_ALREADY_EXISTS);
    if (rc == 0) {
        l->sync = PDB_SYNC_ALWAYS;
    } else {
        struct pdb_collection_get g = {.name = txt("w")};
        assert_done(&l->fx, do_describe(&l->fx, &g));
        l->sync = g.info_out.config.sync;
    }
    for (unsigned i = 0; i < WRITERS; i++)
        check_writer(l, i);
    for (unsigned i = 0; i < NAMES; i++)
        check_churner(l, &l->churners[i]);
    l->told_before = l->told;
}

static void set_faults(struct lives *l)
{
    struct sim_faults faults = {.latency_max_ns = below(l, 3) * 500000};
    if (below(l, 4) == 0)
        faults.short_write = 0.1;
    if (below(l, 6) == 0)
        faults.write_error = 0.01;
    if (below(l, 6) == 0)
        faults.sync_error = 0.02;
    if (below(l, 4) == 0)
        faults.bytes_max = (1 + below(l, 10)) << 20;
    sim_disk_set_faults(l->disk, &faults);
}

static void act(struct lives *l)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        struct writer *w = &l->writers[i];
        if (w->flight != NULL && w->flight->done)
            end_batch(l, w);
        if (w->flight == NULL && !w->unsure && below(l, 5) == 0)
            begin_batch(l, i);
    }
    for (unsigned i = 0; i < NAMES; i++) {
        struct churner *c = &l->churners[i];
        if (c->flight != NULL && c->flight->done)
            end_change(l, c);
        if (c->flight == NULL && c->presence != EITHER && below(l, 10) == 0)
            begin_change(l, c);
    }
    if (l->alter != NULL && l->alter->done)
        end_alter(l);
    if (l->alter == NULL && below(l, 40) == 0)
        begin_alter(l);
    engine_pump(l->fx.db);
}

static void forget(struct flight **f)
{
    if (*f != NULL)
        flight_free(*f);
    *f = NULL;
}

static void crash(struct lives *l)
{
    sim_disk_crash(l->disk);
    engine_abandon_sim(l->fx.db, wal_abandon);
    for (unsigned i = 0; i < WRITERS; i++)
        forget(&l->writers[i].flight);
    for (unsigned i = 0; i < NAMES; i++) {
        if (l->churners[i].flight != NULL)
            l->churners[i].presence = EITHER;
        forget(&l->churners[i].flight);
        forget(&l->churners[i].stray);
    }
    forget(&l->alter);
}

static void run_seed(uint64_t seed)
{
    struct lives *l = calloc(1, sizeof(*l));
    assert_non_null(l);
    l->seed = seed;
    rng_seed(&l->rng, seed);
    l->disk = sim_disk_new(seed);
    l->fx.arena = pdb_arena_new(0);
    for (unsigned i = 0; i < NAMES; i++)
        (void)snprintf(l->churners[i].name, sizeof(l->churners[i].name), "t%u", i);
    for (unsigned life = 0; life < LIVES; life++) {
        open_life(l);
        set_faults(l);
        for (uint64_t turns = below(l, 3000); turns != 0; turns--)
            act(l);
        crash(l);
        pdb_arena_reset(l->fx.arena);
    }
    pdb_arena_free(l->fx.arena);
    sim_disk_free(l->disk);
    free(l);
}

static void what_was_told_is_true_after_every_loss_of_power(void **state)
{
    (void)state;
    const char *count = getenv("PDB_ATTACK_SEEDS"), *first = getenv("PDB_ATTACK_SEED");
    uint64_t seed = first != NULL ? strtoull(first, NULL, 10) : 1;
    for (uint64_t left = count != NULL ? strtoull(count, NULL, 10) : 20; left != 0; left--)
        run_seed(seed++);
}

static uint64_t told_for(struct pdb *db, const char *id)
{
    static const float one = 1;
    struct pdb_vector vector;
    struct pdb_record row = record(id, &vector, &one, 1);
    struct flight *f = flight_new(db, do_write_start);
    f->write.collection = txt("c");
    f->write.records = &row;
    f->write.record_count = 1;
    flight_send(db, 0, f);
    flight_wait(db, f);
    assert_int_equal(f->call.error.code, 0);
    uint64_t version = f->write.version_out;
    flight_free(f);
    return version;
}

static int64_t change_mode(struct fixture *fx, enum pdb_sync_mode sync)
{
    struct pdb_collection_update u = {.name = txt("c"), .has_sync = true, .sync = sync};
    assert_done(fx, do_alter(fx, &u));
    assert_true(u.info_out.updated_at_us > u.info_out.created_at_us);
    return u.info_out.updated_at_us;
}

/* On a clock that stands still, too, a collection was changed: else its strong mode would say that
 * it can have lost no version that it told. */
static void a_change_of_the_mode_is_known_whatever_the_clock_says(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk = sim_disk_new(1); /* without latency: all of it in one microsecond */
    sim_fixture(&fx, sim_open(disk, 1));
    create(&fx, "c", 1);
    int64_t changed_us = change_mode(&fx, PDB_SYNC_NEVER);
    uint64_t told = 0;
    for (int i = 0; i < 5; i++) /* the first is on disk, the others are not */
        told = told_for(fx.db, "a");
    assert_true(change_mode(&fx, PDB_SYNC_ALWAYS) > changed_us);
    sim_disk_crash(disk);
    engine_abandon_sim(fx.db, wal_abandon);
    fx.db = sim_open(disk, 1);
    assert_true(row_of(&fx, "c", "a").version < told);
    assert_true(told_for(fx.db, "b") > told);
    pdb_close(fx.db);
    pdb_arena_free(fx.arena);
    sim_disk_free(disk);
}

/* What a loss of power finds under way is never freed: no report of leaks. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_of_the_mode_is_known_whatever_the_clock_says),
        cmocka_unit_test(what_was_told_is_true_after_every_loss_of_power),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
