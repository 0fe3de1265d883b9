/* A snapshot leaves as an archive and comes back as another one, or not at all. */
#include "snapshot_fixture.h"

#include "engine/snapshot_tar.h"

FIXTURE_CALL(pdb_snapshot_read_begin, do_read_begin, pdb_snapshot_read_begin_start)
FIXTURE_CALL(pdb_snapshot_read_next, do_read_next, pdb_snapshot_read_next_start)
FIXTURE_CALL(pdb_snapshot_write_begin, do_write_begin, pdb_snapshot_write_begin_start)
FIXTURE_CALL(pdb_snapshot_write_next, do_write_next, pdb_snapshot_write_next_start)
FIXTURE_CALL(pdb_snapshot_write_end, do_write_end, pdb_snapshot_write_end_start)

/* On the reader's core: the call that brings it there does nothing else. */
struct letting_go {
    struct pdb_snapshot_get call;
    struct pdb_snapshot_reader *reader;
    struct pdb_snapshot_writer *writer;
};

static void let_go_start(struct pdb_call *call)
{
    struct letting_go *l = (struct letting_go *)(void *)call;
    pdb_snapshot_read_end(l->reader);
    pdb_snapshot_write_abandon(l->writer);
    pdb_snapshot_get_start(&l->call);
}

static void let_go(struct fixture *fx, struct pdb_snapshot_reader *reader,
                   struct pdb_snapshot_writer *writer)
{
    struct letting_go l = {.call.name = txt("none"), .reader = reader, .writer = writer};
    pdb_call_init(&l.call.call, fx->db, fx->arena, NULL);
    assert_int_equal(pdb_wait(&l.call.call, let_go_start), PDB_NOT_FOUND);
}

struct archive {
    char *bytes;
    size_t len;
};

static struct archive read_archive(struct fixture *fx, const char *name)
{
    struct pdb_snapshot_read_begin b = {.name = txt(name)};
    assert_done(fx, do_read_begin(fx, &b));
    struct archive archive = {.bytes = malloc(b.bytes_out)};
    assert_non_null(archive.bytes);
    for (;;) {
        struct pdb_snapshot_read_next n = {.reader = b.reader_out};
        assert_done(fx, do_read_next(fx, &n));
        if (n.len_out == 0)
            break;
        assert_true(archive.len + n.len_out <= b.bytes_out);
        memcpy(archive.bytes + archive.len, n.bytes_out, n.len_out);
        archive.len += n.len_out;
    }
    assert_int_equal(archive.len, b.bytes_out);
    let_go(fx, b.reader_out, NULL);
    return archive;
}

/* In pieces of at most `cut` bytes; ends the writer whatever comes out. */
static int write_archive(struct fixture *fx, const char *name, const char *bytes, size_t len,
                         size_t cut)
{
    struct pdb_snapshot_write_begin b = {.name = txt(name)};
    int rc = do_write_begin(fx, &b);
    if (rc < 0)
        return rc;
    for (size_t at = 0; at < len && rc == 0; at += cut) {
        struct pdb_snapshot_write_next n = {
            .writer = b.writer_out, .bytes = bytes + at, .len = len - at < cut ? len - at : cut};
        rc = do_write_next(fx, &n);
    }
    struct pdb_snapshot_write_end e = {.writer = b.writer_out};
    int end_rc = do_write_end(fx, &e);
    assert_true(rc == 0 || end_rc == rc);
    return end_rc;
}

/* Two collections, one of them with rows. */
static void begin_with_snapshot(struct fixture *fx, struct model *model)
{
    memset(model, 0, sizeof(*model));
    fixture_begin(fx, 2);
    rng_seed(&model->rng, 7);
    create(fx, "c", MODEL_DIMENSION);
    create(fx, "empty", 3);
    model_changes(fx, model, "c", 120);
    assert_done(fx, take_snapshot(fx, "s", "", NULL));
}

static void restore_c(struct fixture *fx, const char *name, const struct model *model)
{
    struct pdb_snapshot_restore r = {
        .name = txt(name), .collection = txt("c"), .target = txt("t"), .replace = true};
    assert_done(fx, do_restore(fx, &r));
    model_compare(fx, model, "t");
}

static void an_archive_comes_back_however_it_is_cut(void **state)
{
    (void)state;
    static const size_t cuts[] = {1 << 20, 4096, 512, 511, 97, 13};
    struct fixture fx;
    struct model model;
    begin_with_snapshot(&fx, &model);
    struct archive archive = read_archive(&fx, "s");
    for (unsigned i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "up%u", i);
        assert_done(&fx, write_archive(&fx, name, archive.bytes, archive.len, cuts[i]));
        restore_c(&fx, name, &model);
    }
    fixture_reopen(&fx, 1);
    struct archive again = read_archive(&fx, "up3");
    assert_int_equal(count_snapshots(&fx), 7);
    assert_int_equal(again.len, archive.len);
    restore_c(&fx, "up3", &model);
    free(archive.bytes);
    free(again.bytes);
    fixture_end(&fx);
}

static void other_programs_read_the_archive(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model;
    char command[2048];
    begin_with_snapshot(&fx, &model);
    struct archive archive = read_archive(&fx, "s");
    (void)snprintf(command, sizeof(command),
                   "tar -C %s -xf - && cmp %s/SNAPSHOT %s/snapshots/s/SNAPSHOT", fx.dir, fx.dir,
                   fx.dir);
    FILE *pipe = popen(command, "w");
    assert_non_null(pipe);
    assert_int_equal(fwrite(archive.bytes, 1, archive.len, pipe), archive.len);
    assert_int_equal(pclose(pipe), 0);
    free(archive.bytes);
    fixture_end(&fx);
}

/* Any byte of it that counts. Nothing of the attempts is left, and the next one is not hindered. */
static void a_damaged_archive_is_refused_and_leaves_nothing(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model;
    struct rng rng;
    unsigned refused = 0;
    begin_with_snapshot(&fx, &model);
    struct archive archive = read_archive(&fx, "s");
    rng_seed(&rng, 9);
    for (unsigned i = 0; i < 300; i++) {
        size_t at = rng_below(&rng, archive.len);
        archive.bytes[at] ^= (char)(1 << rng_below(&rng, 8));
        int rc = write_archive(&fx, "up", archive.bytes, archive.len, 5000);
        if (rc == 0) { /* what fills a block, or a header's bits that mean nothing */
            restore_c(&fx, "up", &model);
            assert_done(&fx, delete_snapshot(&fx, "up"));
        } else {
            assert_true(rc == PDB_DATA_LOSS || rc == PDB_INVALID_ARGUMENT ||
                        rc == PDB_FAILED_PRECONDITION);
            refused++;
        }
        memset(archive.bytes, 0, archive.len);
        free(archive.bytes);
        archive = read_archive(&fx, "s");
        pdb_arena_reset(fx.arena);
    }
    assert_true(refused > 100);
    assert_int_equal(count_names(fx.dir, "snapshots"), 1);
    free(archive.bytes);
    fixture_end(&fx);
}

static void an_archive_that_ends_early_is_refused(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model;
    begin_with_snapshot(&fx, &model);
    struct archive archive = read_archive(&fx, "s");
    for (size_t len = 0; len < archive.len - SNAPSHOT_TAR_END - SNAPSHOT_TAR_BLOCK; len += 333) {
        assert_int_equal(write_archive(&fx, "up", archive.bytes, len, 1 << 20),
                         PDB_INVALID_ARGUMENT);
        assert_string_equal(fx.error.text, "archive: it ends too early");
    }
    assert_done(&fx, write_archive(&fx, "up", archive.bytes, archive.len - SNAPSHOT_TAR_END, 999));
    free(archive.bytes);
    fixture_end(&fx);
}

static void paths_and_lists_that_are_not_ours_are_refused(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model;
    char block[SNAPSHOT_TAR_BLOCK];
    begin_with_snapshot(&fx, &model);
    struct archive archive = read_archive(&fx, "s");
    assert_int_equal(write_archive(&fx, "up", "no archive at all", 17, 100), PDB_INVALID_ARGUMENT);
    memset(block, 'x', sizeof(block));
    assert_refused(&fx, write_archive(&fx, "up", block, sizeof(block), 100), PDB_INVALID_ARGUMENT,
                   "archive: not a tar archive");
    snapshot_tar_encode(block, "../../x", 5, 0);
    assert_refused(&fx, write_archive(&fx, "up", block, sizeof(block), 512), PDB_INVALID_ARGUMENT,
                   "archive: not that of a snapshot: SNAPSHOT must come first");
    snapshot_tar_encode(block, "SNAPSHOT", UINT64_C(1) << 40, 0);
    assert_refused(&fx, write_archive(&fx, "up", block, sizeof(block), 512), PDB_INVALID_ARGUMENT,
                   "archive: SNAPSHOT has a length that none can have");
    struct snapshot_tar_entry entry;
    snapshot_tar_decode(archive.bytes, &entry);
    size_t second = SNAPSHOT_TAR_BLOCK + entry.bytes + snapshot_tar_padding(entry.bytes);
    snapshot_tar_encode(archive.bytes + second, "../../x", 5, 0);
    assert_int_equal(write_archive(&fx, "up", archive.bytes, archive.len, 512),
                     PDB_INVALID_ARGUMENT);
    assert_non_null(strstr(fx.error.text, "found ../../x"));
    assert_int_equal(count_names(fx.dir, "snapshots"), 1);
    free(archive.bytes);
    fixture_end(&fx);
}

static void a_name_that_is_being_sent_is_taken_and_free_once_it_is_abandoned(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model;
    begin_with_snapshot(&fx, &model);
    struct archive archive = read_archive(&fx, "s");
    assert_int_equal(write_archive(&fx, "s", archive.bytes, archive.len, 512), PDB_ALREADY_EXISTS);
    assert_int_equal(write_archive(&fx, "../s", archive.bytes, archive.len, 512),
                     PDB_INVALID_ARGUMENT);
    struct pdb_snapshot_write_begin b = {.name = txt("up")};
    assert_done(&fx, do_write_begin(&fx, &b));
    struct pdb_snapshot_write_next n = {
        .writer = b.writer_out, .bytes = archive.bytes, .len = archive.len / 2};
    assert_done(&fx, do_write_next(&fx, &n));
    assert_int_equal(take_snapshot(&fx, "up", "c", NULL), PDB_ALREADY_EXISTS);
    let_go(&fx, NULL, b.writer_out);
    while (take_snapshot(&fx, "up", "c", NULL) == PDB_ALREADY_EXISTS) {
    }
    assert_int_equal(fx.error.code, 0);
    assert_int_equal(count_names(fx.dir, "snapshots"), 2);
    free(archive.bytes);
    fixture_end(&fx);
}

static void a_snapshot_that_is_being_read_is_not_deleted(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model;
    begin_with_snapshot(&fx, &model);
    struct pdb_snapshot_read_begin b = {.name = txt("s")};
    assert_done(&fx, do_read_begin(&fx, &b));
    assert_refused(&fx, delete_snapshot(&fx, "s"), PDB_FAILED_PRECONDITION,
                   "snapshot 's' is being downloaded; delete it afterwards");
    let_go(&fx, b.reader_out, NULL);
    while (delete_snapshot(&fx, "s") == PDB_FAILED_PRECONDITION) {
    }
    assert_int_equal(fx.error.code, 0);
    b = (struct pdb_snapshot_read_begin){.name = txt("s")};
    assert_int_equal(do_read_begin(&fx, &b), PDB_NOT_FOUND);
    fixture_end(&fx);
}

static void sizes_beyond_eight_gigabytes_are_told(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 1, UINT64_C(077777777777), UINT64_C(0100000000000),
                                     UINT64_C(1) << 50};
    char block[SNAPSHOT_TAR_BLOCK];
    struct snapshot_tar_entry entry;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        snapshot_tar_encode(block, "a/b", sizes[i], 1);
        snapshot_tar_decode(block, &entry);
        assert_int_equal(entry.kind, SNAPSHOT_TAR_FILE);
        assert_int_equal(entry.bytes, sizes[i]);
        assert_string_equal(entry.name, "a/b");
        block[3] ^= 1;
        snapshot_tar_decode(block, &entry);
        assert_int_equal(entry.kind, SNAPSHOT_TAR_WRONG);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_archive_comes_back_however_it_is_cut),
        cmocka_unit_test(other_programs_read_the_archive),
        cmocka_unit_test(a_damaged_archive_is_refused_and_leaves_nothing),
        cmocka_unit_test(an_archive_that_ends_early_is_refused),
        cmocka_unit_test(paths_and_lists_that_are_not_ours_are_refused),
        cmocka_unit_test(a_name_that_is_being_sent_is_taken_and_free_once_it_is_abandoned),
        cmocka_unit_test(a_snapshot_that_is_being_read_is_not_deleted),
        cmocka_unit_test(sizes_beyond_eight_gigabytes_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
