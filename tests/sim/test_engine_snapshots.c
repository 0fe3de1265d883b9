/* Snapshots on a disk that fails or goes away at each of its operations: a snapshot is there whole
 * or not at all, a restore has happened or has not, and the live collection never notices. */
#include "attack.h"

#include "snapshot_fixture.h"
#include "wal/wal_internal.h"

#include <errno.h>

/* A loss of power between two catalogs leaves the older one with cores that will never give it
 * back. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:catalog_snapshot_new\nleak:catalog_entry_new\n";
}

enum { CHANGES = 40, LATER_CHANGES = 15 };

enum what { CREATE, DELETE, RESTORE, REPLACE };

struct life {
    struct fixture fx;
    struct sim_disk *disk;
    struct model then, model; /* at the snapshot "s", and now */
};

struct shot { /* the operation under test */
    union {
        struct pdb_call call;
        struct pdb_snapshot_create create;
        struct pdb_snapshot_delete delete;
        struct pdb_snapshot_restore restore;
    };
    struct mail mail;
    enum what what;
    struct arena *arena;
    bool done;
};

static void shot_done(struct pdb_call *call)
{
    ((struct shot *)(void *)call)->done = true;
}

static void shot_arrives(struct reactor *here, struct mail *mail)
{
    struct shot *shot = container_of(mail, struct shot, mail);
    (void)here;
    if (shot->what == CREATE)
        pdb_snapshot_create_start(&shot->create);
    else if (shot->what == DELETE)
        pdb_snapshot_delete_start(&shot->delete);
    else
        pdb_snapshot_restore_start(&shot->restore);
}

static void shoot(struct life *l, struct shot *shot, enum what what)
{
    memset(shot, 0, sizeof(*shot));
    shot->what = what;
    shot->arena = pdb_arena_new(0);
    assert_non_null(shot->arena);
    if (what == CREATE) {
        shot->create.name = txt("new");
    } else if (what == DELETE) {
        shot->delete.name = txt("s");
    } else {
        shot->restore.name = txt("s");
        shot->restore.target = txt(what == REPLACE ? "c" : "t");
        shot->restore.replace = what == REPLACE;
    }
    pdb_call_init(&shot->call, l->fx.db, shot->arena, shot_done);
    shot->mail.deliver = shot_arrives;
    mail_post_external(l->fx.db->group, 0, &shot->mail);
}

/* A collection, a snapshot "s" of it, and what was written since. */
static void life_begin(struct life *l, uint64_t seed)
{
    memset(l, 0, sizeof(*l));
    l->disk = sim_disk_new(seed);
    assert_non_null(l->disk);
    sim_fixture(&l->fx, sim_open(l->disk, 2));
    rng_seed(&l->model.rng, seed);
    create(&l->fx, "c", MODEL_DIMENSION);
    model_changes(&l->fx, &l->model, "c", CHANGES);
    assert_done(&l->fx, take_snapshot(&l->fx, "s", "c", NULL));
    l->then = l->model;
    model_changes(&l->fx, &l->model, "c", LATER_CHANGES);
}

static void life_end(struct life *l)
{
    pdb_close(l->fx.db);
    pdb_arena_free(l->fx.arena);
    sim_disk_free(l->disk);
}

static void count_name(void *arg, const char *name)
{
    unsigned *count = arg;
    *count += strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static unsigned names_in(const struct life *l, const char *folder)
{
    struct io *io = l->fx.db->cores[0].r->io;
    unsigned count = 0;
    assert_int_equal(io->ops->list_dir(io, folder, count_name, &count), 0);
    return count;
}

static bool snapshot_is_there(struct life *l, const char *name)
{
    struct pdb_snapshot_get g = {.name = txt(name)};
    int rc = do_snapshot_get(&l->fx, &g);
    assert_true(rc == 0 || rc == PDB_NOT_FOUND);
    return rc == 0;
}

static bool collection_is_there(struct life *l, const char *name)
{
    struct pdb_collection_get g = {.name = txt(name)};
    int rc = do_describe(&l->fx, &g);
    assert_true(rc == 0 || rc == PDB_NOT_FOUND);
    return rc == 0;
}

/* Whole, and right: `model` is what it was taken of. */
static void check_snapshot(struct life *l, const char *name, const struct model *model)
{
    assert_done(&l->fx, restore(&l->fx, name, "check", true));
    model_compare(&l->fx, model, "check");
    struct pdb_collection_delete d = {.name = txt("check")};
    assert_done(&l->fx, do_drop(&l->fx, &d));
}

/* After the operation, however it went: `done` if it was told as done, `fresh` after a start. */
static void check(struct life *l, enum what what, bool done, bool fresh)
{
    uint32_t snapshots = 0;
    bool there = snapshot_is_there(l, "s"), made = snapshot_is_there(l, "new");
    bool restored = collection_is_there(l, "t"), replaced = false;
    assert_true(there || what == DELETE);
    assert_true(!made || what == CREATE);
    assert_true(!restored || what == RESTORE);
    if (what == REPLACE) {
        struct pdb_collection_get g = {.name = txt("c")};
        assert_done(&l->fx, do_describe(&l->fx, &g));
        replaced = g.info_out.version == l->then.version;
    }
    if (done)
        assert_true(what == CREATE    ? made
                    : what == DELETE  ? !there
                    : what == RESTORE ? restored
                                      : replaced);
    model_compare(&l->fx, replaced ? &l->then : &l->model, "c");
    if (restored)
        model_compare(&l->fx, &l->then, "t");
    snapshots = (uint32_t)there + made;
    assert_int_equal(count_snapshots(&l->fx), snapshots);
    if (fresh) { /* nothing hidden, no folder that nobody knows */
        assert_int_equal(names_in(l, "./snapshots"), snapshots);
        assert_in_range(names_in(l, "./collections"), 0, 1 + (unsigned)restored);
    }
    if (there)
        check_snapshot(l, "s", &l->then);
    if (made)
        check_snapshot(l, "new", &l->model);
}

static void reopen(struct life *l)
{
    pdb_arena_free(l->fx.arena);
    sim_fixture(&l->fx, sim_open(l->disk, 1));
}

/* ---- loss of power ---- */

static void crash_at_each_operation(enum what what)
{
    bool done = false;
    for (uint64_t n = 0; !done; n++) {
        struct life l;
        struct shot shot;
        life_begin(&l, 1 + n);
        uint64_t until = sim_disk_op_count(l.disk) + n;
        shoot(&l, &shot, what);
        while (!shot.done && sim_disk_op_count(l.disk) < until)
            sim_turn(l.fx.db);
        done = shot.done;
        if (done)
            assert_int_equal(shot.call.error.code, 0);
        if (n % 3 == 2)
            sim_disk_kill(l.disk);
        else
            sim_disk_crash(l.disk);
        engine_abandon_sim(l.fx.db, wal_abandon);
        pdb_arena_free(shot.arena);
        reopen(&l);
        check(&l, what, done, true);
        life_end(&l);
    }
}

static void a_loss_of_power_while_one_is_taken_leaves_it_whole_or_not_at_all(void **state)
{
    (void)state;
    crash_at_each_operation(CREATE);
}

static void a_loss_of_power_while_one_is_deleted_leaves_it_whole_or_not_at_all(void **state)
{
    (void)state;
    crash_at_each_operation(DELETE);
}

static void a_loss_of_power_in_a_restore_leaves_a_whole_collection_or_none(void **state)
{
    (void)state;
    crash_at_each_operation(RESTORE);
}

static void a_loss_of_power_in_a_replacement_leaves_the_old_or_the_new(void **state)
{
    (void)state;
    crash_at_each_operation(REPLACE);
}

/* ---- errors ---- */

/* True when the operation has not met the n-th one of the disk. An error of the log ends the
 * life: its collection takes no writes until a restart, which the test does anyway. */
static bool fail_one(enum what what, uint64_t n, int error)
{
    struct life l;
    struct shot shot;
    life_begin(&l, n);
    uint64_t before = sim_disk_op_count(l.disk);
    sim_disk_fail_at(l.disk, n, error);
    shoot(&l, &shot, what);
    while (!shot.done)
        sim_turn(l.fx.db);
    sim_disk_fail_at(l.disk, 0, 0);
    bool passed = sim_disk_op_count(l.disk) - before < n;
    int code = shot.call.error.code;
    if (error == ENOSPC) /* what is only read has no such error on real disks */
        assert_true(code == 0 || code == PDB_RESOURCE_EXHAUSTED || code == PDB_DATA_LOSS ||
                    code == PDB_UNAVAILABLE);
    bool uncertain = shot.call.error.outcome_unknown;
    pdb_arena_free(shot.arena);
    if (!uncertain)
        check(&l, what, code == 0, false);
    pdb_close(l.fx.db);
    reopen(&l);
    check(&l, what, code == 0, true);
    life_end(&l);
    return passed;
}

static void an_error_of_the_disk_is_told_and_changes_nothing(void **state)
{
    (void)state;
    for (int what = CREATE; what <= REPLACE; what++)
        for (uint64_t n = 1; !fail_one((enum what)what, n, EIO); n++) {
        }
}

static void a_full_disk_is_told_and_changes_nothing(void **state)
{
    (void)state;
    for (int what = CREATE; what <= REPLACE; what++)
        for (uint64_t n = 1; !fail_one((enum what)what, n, ENOSPC); n++) {
        }
}

/* What a restore takes of the disk's operations. `n`: that one tells -EXDEV; 0: none. */
static uint64_t restore_where_links_fail(uint64_t n)
{
    struct life l;
    struct shot shot;
    life_begin(&l, 1);
    uint64_t before = sim_disk_op_count(l.disk);
    sim_disk_fail_at(l.disk, n, EXDEV);
    shoot(&l, &shot, RESTORE);
    while (!shot.done)
        sim_turn(l.fx.db);
    sim_disk_fail_at(l.disk, 0, 0);
    uint64_t count = shot.call.error.code == 0 ? sim_disk_op_count(l.disk) - before : 0;
    bool uncertain = shot.call.error.outcome_unknown; /* it met the catalog's rename */
    pdb_arena_free(shot.arena);
    if (!uncertain)
        check(&l, RESTORE, count != 0, false);
    life_end(&l);
    return count;
}

/* A filesystem without links: files are copied, which takes more operations. */
static void where_files_cannot_be_linked_they_are_copied(void **state)
{
    (void)state;
    uint64_t usual = restore_where_links_fail(0);
    unsigned copied = 0;
    assert_true(usual != 0);
    for (uint64_t n = 1; n <= usual; n++)
        copied += restore_where_links_fail(n) >= usual + 4;
    assert_true(copied >= 2); /* a Parquet file and an index */
}

/* ---- memory ---- */

static bool starve(enum what what, uint64_t n, bool arena)
{
    fprintf(stderr, "starve %d %lu\n", what, n);
    struct life l;
    struct shot shot;
    life_begin(&l, n);
    shoot(&l, &shot, what);
    if (arena)
        shot.arena->fail_at = n;
    for (unsigned i = 0; i < l.fx.db->core_count && !arena; i++) {
        struct heap *heap = &l.fx.db->cores[i].r->heap;
        heap->fail_at = heap->allocation_count + n;
    }
    while (!shot.done)
        sim_turn(l.fx.db);
    bool passed = true;
    for (unsigned i = 0; i < l.fx.db->core_count && !arena; i++) {
        struct heap *heap = &l.fx.db->cores[i].r->heap;
        passed = passed && heap->allocation_count < heap->fail_at;
        heap->fail_at = 0;
    }
    if (arena)
        passed = shot.call.error.code == 0;
    int code = shot.call.error.code;
    assert_true(code == 0 || code == PDB_RESOURCE_EXHAUSTED);
    pdb_arena_free(shot.arena);
    check(&l, what, code == 0, false);
    life_end(&l);
    return passed;
}

static void memory_that_runs_out_is_told_and_changes_nothing(void **state)
{
    (void)state;
    for (int what = CREATE; what <= REPLACE; what++)
        for (uint64_t n = 1; !starve((enum what)what, n, false); n += 1 + n / 16) {
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loss_of_power_while_one_is_taken_leaves_it_whole_or_not_at_all),
        cmocka_unit_test(a_loss_of_power_while_one_is_deleted_leaves_it_whole_or_not_at_all),
        cmocka_unit_test(a_loss_of_power_in_a_restore_leaves_a_whole_collection_or_none),
        cmocka_unit_test(a_loss_of_power_in_a_replacement_leaves_the_old_or_the_new),
        cmocka_unit_test(an_error_of_the_disk_is_told_and_changes_nothing),
        cmocka_unit_test(a_full_disk_is_told_and_changes_nothing),
        cmocka_unit_test(where_files_cannot_be_linked_they_are_copied),
        cmocka_unit_test(memory_that_runs_out_is_told_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
