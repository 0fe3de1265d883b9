/* pdb_check: what it finds in manifests, rows, logs and snapshots that were tampered with behind
 * valid checksums. What flipped bits do: tests/segments/test_bit_flips.py. */
#include "snapshot_fixture.h"

#include "engine/manifest.h"
#include "engine/shard_files.h"
#include "os/io.h"

struct heard {
    char text[8192];
    unsigned count, actions;
};

static void hear(void *arg, const char *line)
{
    struct heard *heard = arg;
    size_t len = strlen(heard->text);
    heard->count++;
    heard->actions += strstr(line, "\"action\":\"") != NULL;
    (void)snprintf(heard->text + len, sizeof(heard->text) - len, "%s\n", line);
}

static int check(const struct fixture *fx, bool repair, struct heard *heard)
{
    struct pdb_error error;
    struct pdb_check_options options = {
        .data_dir = fx->dir, .repair = repair, .report = hear, .arg = heard};
    *heard = (struct heard){.count = 0};
    int rc = pdb_check(&options, &error);
    assert_int_equal(heard->actions, heard->count); /* each says what is done about it */
    return rc;
}

#define assert_heard(heard, part)                                                                  \
    do {                                                                                           \
        if (strstr((heard).text, (part)) == NULL)                                                  \
            fail_msg("nothing of '%s' in: %s", (part), (heard).text);                              \
    } while (0)

static void run(const struct fixture *fx, const char *command)
{
    char line[1024];
    (void)snprintf(line, sizeof(line), "cd '%s' && %s", fx->dir, command);
    assert_int_equal(system(line), 0);
}

/* c has three rows of five versions, which are kept, in segments; snapshot s holds them too. */
static void begin(struct fixture *fx, char uuid[40])
{
    static const float value[2] = {1, 2};
    struct pdb_field field = {.dimension = 2, .metric = PDB_METRIC_EUCLIDEAN};
    struct pdb_collection_create c = {
        .config = {
            .name = txt("c"), .fields = &field, .field_count = 1, .version_retention_s = 3600}};
    fixture_begin(fx, 1);
    assert_done(fx, do_create(fx, &c));
    for (unsigned i = 0; i < 5; i++)
        assert_done(fx, put(fx, "c", (const char *[]){"a", "b", "d", "a", "b"}[i], value, 2, NULL));
    assert_done(fx, take_snapshot(fx, "s", "", NULL));
    struct pdb_collection_get g = {.name = txt("c")};
    assert_done(fx, do_describe(fx, &g));
    (void)snprintf(uuid, 40, "%s", g.info_out.uuid);
    pdb_close(fx->db);
}

static void end(struct fixture *fx)
{
    pdb_arena_free(fx->arena);
    remove_tree(fx->dir);
}

/* The manifest of c again, without what has ended, at another version. */
static void write_manifest(const struct fixture *fx, const char *uuid_text, int64_t version_by)
{
    struct io *io = NULL;
    const char *reason = NULL;
    char folder[SHARD_FOLDER_MAX], name[SHARD_NAME_MAX];
    struct uuid uuid;
    struct manifest_file file = {0};
    struct trail trail = {0};
    struct buffer out;
    struct manifest_encoder encoder;
    assert_int_equal(io_create(IO_ENGINE_THREADS, &io, &reason), 0);
    assert_int_equal(uuid_parse(uuid_text, strlen(uuid_text), &uuid), 0);
    shard_files_folder(folder, fx->dir, &uuid);
    assert_int_equal(manifest_load(io, folder, &uuid, 0, &file, &trail), 0);
    struct manifest m = file.manifest;
    m.version = (uint64_t)((int64_t)m.version + version_by);
    buffer_init_heap(&out, NULL, 0);
    manifest_encode_begin(&encoder, &out, &m);
    for (uint32_t i = 0; i < m.segment_count; i++)
        manifest_encode_segment(&encoder, &m.segments[i]);
    assert_int_equal(manifest_encode_end(&encoder), 0);
    shard_files_name(name, SHARD_FILE_MANIFEST, m.number);
    assert_int_equal(io_replace_file(io, folder, name, out.ptr, out.len), 0);
    buffer_dispose(&out);
    manifest_file_dispose(&file);
    io->ops->destroy(io);
}

static void what_was_stopped_in_order_is_clean(void **state)
{
    (void)state;
    struct fixture fx;
    struct heard heard;
    char uuid[40];
    begin(&fx, uuid);
    assert_int_equal(check(&fx, false, &heard), 0);
    assert_int_equal(heard.count, 0);
    fixture_open(&fx, 2); /* with a restored one and a dropped one */
    assert_done(&fx, restore(&fx, "s", "copy", false));
    create(&fx, "dropped", 2);
    struct pdb_collection_delete d = {.name = txt("dropped")};
    assert_done(&fx, do_drop(&fx, &d));
    pdb_close(fx.db);
    if (check(&fx, false, &heard) != 0)
        fail_msg("%s", heard.text);
    end(&fx);
}

static void rows_that_should_have_ended_are_found(void **state)
{
    (void)state;
    struct fixture fx;
    struct heard heard;
    char uuid[40];
    begin(&fx, uuid);
    write_manifest(&fx, uuid, 0);
    assert_int_equal(check(&fx, false, &heard), PDB_DATA_LOSS);
    assert_heard(heard, "\"kind\":\"rows\"");
    assert_heard(heard, "id 'a': version 1 in segment");
    assert_heard(heard, "has not ended, though there is version 4");
    end(&fx);
}

static void rows_that_are_newer_than_the_manifest_are_found(void **state)
{
    (void)state;
    struct fixture fx;
    struct heard heard;
    char uuid[40];
    begin(&fx, uuid);
    write_manifest(&fx, uuid, -1);
    assert_int_equal(check(&fx, false, &heard), PDB_DATA_LOSS);
    assert_heard(heard, "is newer than the manifest, which says 4");
    end(&fx);
}

/* The log begins at 6, and the manifest that holds what is before it goes. */
static void versions_that_no_log_has_are_found(void **state)
{
    (void)state;
    static const float value[2] = {1, 2};
    struct fixture fx;
    struct heard heard;
    char uuid[40];
    begin(&fx, uuid);
    run(&fx, "rm -r wal catalog/LOGS catalog/witness/LOGS");
    fixture_open(&fx, 1);
    assert_done(&fx, put(&fx, "c", "e", value, 2, NULL));
    pdb_close(fx.db);
    if (check(&fx, false, &heard) != 0)
        fail_msg("%s", heard.text);
    run(&fx, "rm -r collections/*");
    assert_int_equal(check(&fx, false, &heard), PDB_DATA_LOSS);
    assert_heard(heard, "\"kind\":\"log_versions\"");
    assert_heard(heard, "versions 1 to 5 are missing from the log");
    end(&fx);
}

static void folders_that_nobody_has_are_told(void **state)
{
    (void)state;
    struct fixture fx;
    struct heard heard;
    char uuid[40];
    begin(&fx, uuid);
    run(&fx, "mkdir collections/01900000-0000-7000-8000-000000000000");
    assert_int_equal(check(&fx, true, &heard), PDB_DATA_LOSS);
    assert_heard(heard, "the catalog does not know this collection");
    run(&fx, "rmdir collections/01900000-0000-7000-8000-000000000000");
    assert_int_equal(check(&fx, false, &heard), 0);
    end(&fx);
}

static void run_for_anns(const struct fixture *fx, const char *command)
{
    char line[512];
    (void)snprintf(line, sizeof(line),
                   "for f in collections/*/*.parquet; do (cd $(dirname $f) && "
                   "a=$(basename $f .parquet)-0.ann && %s) || exit 1; done",
                   command);
    run(fx, line);
}

/* What no read could say is not known to be damaged: only a later check may tell. A link to itself
 * fails each open (ELOOP), whoever asks. */
static void an_index_that_cannot_be_read_is_left_by_a_repair(void **state)
{
    (void)state;
    struct fixture fx;
    struct heard heard;
    char uuid[40];
    begin(&fx, uuid);
    run_for_anns(&fx, "ln -s $a $a");
    for (int repair = 0; repair < 2; repair++) {
        assert_int_equal(check(&fx, repair != 0, &heard), PDB_FAILED_PRECONDITION);
        assert_heard(heard, "\"severity\":\"derived\",\"kind\":\"index\"");
        assert_heard(heard, "left as it is");
        assert_null(strstr(heard.text, "mended"));
        run_for_anns(&fx, "test -L $a");
    }
    run_for_anns(&fx, "rm $a && echo other > $a");
    assert_int_equal(check(&fx, false, &heard), PDB_FAILED_PRECONDITION);
    assert_heard(heard, "no index file");
    run_for_anns(&fx, "test -f $a");
    assert_int_equal(check(&fx, true, &heard), 0);
    assert_heard(heard, "\"severity\":\"mended\",\"kind\":\"index\"");
    run_for_anns(&fx, "test ! -e $a");
    end(&fx);
}

/* ---- snapshots ---- */

static void leftovers_of_snapshots_are_removed_by_a_repair(void **state)
{
    (void)state;
    struct fixture fx;
    struct heard heard;
    char uuid[40], line[256];
    begin(&fx, uuid);
    run(&fx, "mkdir -p snapshots/.a.0.tmp/b snapshots/.c.0.gone "
             "snapshots/.restore-01900000-0000-7000-8000-000000000000 "
             "collections/01900000-0000-7000-8000-000000000000");
    (void)snprintf(line, sizeof(line), "touch snapshots/s/%s/more snapshots/.c.0.gone/SNAPSHOT",
                   uuid);
    run(&fx, line);
    assert_int_equal(check(&fx, false, &heard), PDB_FAILED_PRECONDITION);
    assert_int_equal(heard.count, 4);
    assert_heard(heard, "a repair removes it");
    assert_int_equal(check(&fx, true, &heard), 0);
    assert_int_equal(heard.count, 4);
    assert_heard(heard, "\"action\":\"removed\"");
    assert_int_equal(count_names(fx.dir, "snapshots"), 1);
    assert_int_equal(count_names(fx.dir, "collections"), 1);
    assert_int_equal(check(&fx, false, &heard), 0);
    assert_int_equal(heard.count, 0);
    end(&fx);
}

static void an_index_of_a_snapshot_goes_and_a_restore_makes_it_again(void **state)
{
    (void)state;
    struct fixture fx;
    struct heard heard;
    char uuid[40];
    begin(&fx, uuid);
    run(&fx, "for f in snapshots/s/*/*.index; do rm $f && echo other > $f; done");
    assert_int_equal(check(&fx, false, &heard), PDB_FAILED_PRECONDITION);
    assert_heard(heard, "snapshot_index");
    fixture_open(&fx, 1);
    assert_int_equal(restore(&fx, "s", "before", false), PDB_DATA_LOSS);
    pdb_close(fx.db);
    assert_int_equal(check(&fx, true, &heard), 0);
    assert_heard(heard, "taken out of the list");
    assert_int_equal(check(&fx, false, &heard), 0);
    assert_null(strstr(heard.text, "snapshot")); /* of the log it tells that it goes on */
    fixture_open(&fx, 1);
    assert_done(&fx, restore(&fx, "s", "after", false));
    assert_int_equal(count_of(&fx, "after", NULL), 3);
    assert_int_equal(count_of(&fx, "c", NULL), 3);
    fixture_end(&fx);
}

/* Each damages the snapshot and nothing else; a repair changes nothing of it. */
static void damage_of_a_snapshot_is_told_and_left(void **state)
{
    (void)state;
    static const struct {
        const char *command, *says;
    } cases[] = {
        {"for f in snapshots/s/*/*.parquet; do cp $f x && printf X | dd of=x bs=1 seek=9 "
         "conv=notrunc status=none && mv x $f; done",
         "does not fit the checksum in the list"},
        {"for f in snapshots/s/*/*.parquet; do cp $f x && printf X >> x && mv x $f; done",
         "has another length than the list says"},
        {"rm snapshots/s/*/*.parquet", "is missing"},
        {"rm snapshots/s/*/MANIFEST-*", "is missing"},
        {"rm snapshots/s/SNAPSHOT", "SNAPSHOT cannot be read"},
        {"printf X | dd of=snapshots/s/SNAPSHOT bs=1 seek=70 conv=notrunc status=none",
         "checksum is wrong"},
        {"mv snapshots/s snapshots/t", "is that of another one"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture fx;
        struct heard heard;
        char uuid[40];
        begin(&fx, uuid);
        run(&fx, cases[i].command);
        for (int repair = 0; repair < 2; repair++) {
            assert_int_equal(check(&fx, repair != 0, &heard), PDB_DATA_LOSS);
            assert_heard(heard, cases[i].says);
            assert_heard(heard, "\"kind\":\"snapshot\"");
        }
        fixture_open(&fx, 1);
        assert_int_equal(count_of(&fx, "c", NULL), 3);
        fixture_end(&fx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_stopped_in_order_is_clean),
        cmocka_unit_test(rows_that_should_have_ended_are_found),
        cmocka_unit_test(rows_that_are_newer_than_the_manifest_are_found),
        cmocka_unit_test(versions_that_no_log_has_are_found),
        cmocka_unit_test(folders_that_nobody_has_are_told),
        cmocka_unit_test(an_index_that_cannot_be_read_is_left_by_a_repair),
        cmocka_unit_test(leftovers_of_snapshots_are_removed_by_a_repair),
        cmocka_unit_test(an_index_of_a_snapshot_goes_and_a_restore_makes_it_again),
        cmocka_unit_test(damage_of_a_snapshot_is_told_and_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
