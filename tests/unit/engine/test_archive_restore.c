/* src/engine/archive_restore*.c, archive_list.c: what comes back is what was there at the moment,
 * and what cannot come back is told and leaves nothing. */
#include "archive_fixture.h"

#include "base/rng.h"

/* ---- restoring ---- */

static struct pdb_archive_restore request_of(const struct archive_fixture *a)
{
    return (struct pdb_archive_restore){.url = a->dir, .data_dir = a->out, .cores = 2};
}

static void assert_nothing_is_left(const struct archive_fixture *a)
{
    shell("test -z \"$(ls -A '%s')\"", a->parent);
}

static void restored(struct archive_fixture *a, const struct pdb_archive_restore *request)
{
    struct pdb_error error;
    if (pdb_archive_restore(request, NULL, &error) < 0)
        fail_msg("restore: %s", error.text);
    shell("test \"$(ls -A '%s')\" = new", a->parent);
    shell("test ! -e '%s/wal' && test ! -e '%s/LOCK'", a->out, a->out);
}

/* Opened as any data directory; closed and removed by release. */
static struct fixture opened(const struct archive_fixture *a)
{
    struct fixture fx = {.arena = pdb_arena_new(0)};
    (void)snprintf(fx.dir, sizeof(fx.dir), "%s", a->out);
    fx.options = fixture_options(a->out, 2);
    fixture_open(&fx, 2);
    return fx;
}

static void release(struct fixture *fx)
{
    pdb_close(fx->db);
    pdb_arena_free(fx->arena);
    remove_tree(fx->dir);
}

static void restore_and_compare(struct history *h, struct archive_fixture *a,
                                const struct pdb_archive_restore *request,
                                const struct replay_stop *stop)
{
    restored(a, request);
    struct fixture fx = opened(a);
    compare(h, &fx, stop);
    /* It lives on: versions go on behind those that are there. */
    struct pdb_collection_get g = {.name = txt("a")};
    float values[DIMENSION] = {1};
    assert_done(&fx, do_describe(&fx, &g));
    assert_done(&fx, put(&fx, "a", "new", values, DIMENSION, NULL));
    assert_int_equal(row_of(&fx, "a", "new").version, g.info_out.version + 1);
    release(&fx);
}

static void refused(struct archive_fixture *a, const struct pdb_archive_restore *request, int code,
                    const char *text)
{
    struct pdb_error error;
    int rc = pdb_archive_restore(request, NULL, &error);
    if (rc != code || strstr(error.text, text) == NULL)
        fail_msg("%d, expected %d, '%s' in '%s'", rc, code, text, error.text);
    assert_int_equal(error.code, code);
    assert_nothing_is_left(a);
}

/* A history with a base in its middle, closed and archived. */
static void archived_history(struct history *h, struct archive_fixture *a, unsigned seed)
{
    memset(a, 0, sizeof(*a));
    history_begin(h, 2);
    change_some(h, seed, 40);
    take_base(h, a);
    change_some(h, seed + 1000, 60);
    keep_history(h);
    archive_make(h, a);
}

static void done(struct history *h, struct archive_fixture *a)
{
    archive_end(a);
    history_end(h);
}

/* The first change behind the base. */
static size_t first_behind(const struct history *h, const struct archive_fixture *a)
{
    size_t i = 0;
    while (h->changes[i].time_us <= a->base.ended_us)
        i++;
    return i;
}

/* ---- exactly what was there ---- */

static void every_time_of_the_range_comes_back(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a;
    archived_history(&h, &a, 1);
    size_t first = first_behind(&h, &a);
    for (size_t i = first; i < h.count; i += 11) {
        struct pdb_archive_restore request = request_of(&a);
        struct replay_stop stop = {.time_us = h.changes[i].time_us - (int64_t)(i % 2)};
        request.target = PDB_ARCHIVE_TIME;
        request.time_us = stop.time_us;
        request.cores = 1 + (unsigned)i % 3;
        restore_and_compare(&h, &a, &request, &stop);
    }
    struct replay_stop begin = {.time_us = a.range.from_us}, all = {.time_us = a.range.to_us};
    struct pdb_archive_restore request = request_of(&a);
    restore_and_compare(&h, &a, &request, &all);
    request.target = PDB_ARCHIVE_TIME;
    request.time_us = a.range.from_us;
    restore_and_compare(&h, &a, &request, &begin);
    done(&h, &a);
}

static void every_record_of_a_log_comes_back(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a;
    archived_history(&h, &a, 2);
    for (size_t i = first_behind(&h, &a); i < h.count; i += 9) {
        const struct change *change = &h.changes[i];
        char log[UUID_TEXT_LEN + 1];
        struct pdb_archive_restore request = request_of(&a);
        struct replay_stop stop = {change->time_us, true, change->log, change->lsn};
        uuid_format(&change->log, log);
        log[8 + i % 20] = '\0';
        request.target = PDB_ARCHIVE_LSN;
        request.log = log;
        request.lsn = change->lsn;
        restore_and_compare(&h, &a, &request, &stop);
    }
    done(&h, &a);
}

static void every_version_of_a_collection_comes_back(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a;
    archived_history(&h, &a, 3);
    for (size_t i = first_behind(&h, &a); i < h.count; i += 9) {
        const struct change *change = &h.changes[i];
        char uuid[UUID_TEXT_LEN + 1];
        struct pdb_archive_restore request = request_of(&a);
        struct replay_stop stop = {change->time_us, true, change->log, change->lsn};
        uuid_format(&h.uuids[change->collection], uuid);
        request.target = PDB_ARCHIVE_VERSION;
        request.collection = i % 2 == 0 ? names[change->collection] : uuid;
        request.version = change->version;
        restore_and_compare(&h, &a, &request, &stop);
    }
    done(&h, &a);
}

/* Collections are given their time when their creation begins, and are in no base that begins
 * before it ends. */
static void a_version_of_a_collection_that_was_made_around_the_base_is_found(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a = {.range = {0, 0}};
    const float one = 1, two = 2;
    history_begin(&h, 2);
    take_base(&h, &a);
    create(&h.fx, "late", 1);
    assert_done(&h.fx, put(&h.fx, "late", "x", &one, 1, NULL));
    assert_done(&h.fx, put(&h.fx, "late", "x", &two, 1, NULL));
    a.base.begun_us = a.base.ended_us = clock_realtime_us();
    change_some(&h, 21, 10);
    keep_history(&h);
    archive_make(&h, &a);
    struct pdb_error error;
    struct pdb_archive_restore request = request_of(&a);
    request.target = PDB_ARCHIVE_VERSION;
    request.collection = "late";
    request.version = 1;
    a.range.from_us = 0;
    put_state(&a);
    /* The search finds the record; that it lies before this base's end is another matter. */
    assert_int_equal(pdb_archive_restore(&request, NULL, &error), PDB_DATA_LOSS);
    assert_non_null(strstr(error.text, "has lost the base"));
    done(&h, &a);
}

static uint64_t rounds_seen;

static void see_progress(const struct pdb_progress *progress, void *arg)
{
    (void)arg;
    rounds_seen += progress->phase != NULL && strcmp(progress->phase, "logs") == 0;
}

/* Several segments of both logs, one of them a round: each replay goes on where the one before has
 * ended. */
static void many_rounds_bring_back_the_same_as_one(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a = {.range = {0, 0}};
    history_begin(&h, 2);
    change_some(&h, 4, 40);
    take_base(&h, &a);
    change_some(&h, 5, 1500); /* a block of 4 KiB each */
    keep_history(&h);
    archive_make(&h, &a);
    uint64_t segments = 0;
    for (uint32_t i = 0; i < a.state.log_count; i++)
        segments += a.logs[i].next_seq - a.logs[i].first_seq;
    assert_true(segments >= 5);
    for (size_t i = h.count - 1; i > first_behind(&h, &a); i -= 450) {
        const struct change *change = &h.changes[i];
        struct pdb_archive_restore request = request_of(&a);
        struct replay_stop stop = {change->time_us, true, change->log, change->lsn};
        rounds_seen = 0;
        request.target = PDB_ARCHIVE_VERSION;
        request.collection = names[change->collection];
        request.version = change->version;
        request.round_bytes = 1;
        request.progress = see_progress;
        restore_and_compare(&h, &a, &request, &stop);
        assert_true(rounds_seen != 0);
        if (i < 460)
            break;
    }
    done(&h, &a);
}

/* Three starts with other numbers of cores behind the base. */
static void history_of_many_cores(struct history *h, struct archive_fixture *a, unsigned seed)
{
    static const unsigned cores[] = {3, 1, 2};
    memset(a, 0, sizeof(*a));
    history_begin(h, 2);
    change_some(h, seed, 40);
    take_base(h, a);
    for (unsigned i = 0; i < 3; i++) {
        change_some(h, seed + 10 + i, 20);
        fixture_reopen(&h->fx, cores[i]);
    }
    change_some(h, seed + 20, 20);
    keep_history(h);
    archive_make(h, a);
}

static void logs_that_began_behind_the_base_are_needed_whole(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a;
    history_of_many_cores(&h, &a, 6);
    while (a.state.log_count < 3) { /* by chance no collection was the third core's */
        done(&h, &a);
        history_of_many_cores(&h, &a, 6);
    }
    for (size_t i = first_behind(&h, &a); i < h.count; i += 13) {
        struct pdb_archive_restore request = request_of(&a);
        struct replay_stop stop = {.time_us = h.changes[i].time_us};
        request.target = PDB_ARCHIVE_TIME;
        request.time_us = stop.time_us;
        restore_and_compare(&h, &a, &request, &stop);
    }
    done(&h, &a);
}

/* ---- the catalog of the moment ---- */

static bool has(struct fixture *fx, const char *name)
{
    struct pdb_collection_get g = {.name = txt(name)};
    int rc = do_describe(fx, &g);
    assert_true(rc == 0 || rc == PDB_NOT_FOUND);
    return rc == 0;
}

static struct fixture restored_to(struct archive_fixture *a, int64_t time_us)
{
    struct pdb_archive_restore request = request_of(a);
    request.target = PDB_ARCHIVE_TIME;
    request.time_us = time_us;
    restored(a, &request);
    return opened(a);
}

static void collections_are_those_of_the_moment(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a = {.range = {0, 0}};
    const float one = 1, two = 2;
    history_begin(&h, 2);
    create(&h.fx, "dropped", 1);
    assert_done(&h.fx, put(&h.fx, "dropped", "x", &one, 1, NULL));
    take_base(&h, &a);
    struct pdb_collection_delete drop = {.name = txt("dropped")}, drop2 = drop;
    int64_t before = clock_realtime_us();
    assert_done(&h.fx, do_drop(&h.fx, &drop));
    int64_t gone = clock_realtime_us();
    create(&h.fx, "dropped", 1); /* another one of that name */
    int64_t empty = clock_realtime_us();
    assert_done(&h.fx, put(&h.fx, "dropped", "y", &two, 1, NULL));
    struct pdb_collection_update u = {
        .name = txt("dropped"), .has_description = true, .description = txt("second")};
    int64_t plain = clock_realtime_us();
    assert_done(&h.fx, do_alter(&h.fx, &u));
    int64_t described = clock_realtime_us();
    assert_done(&h.fx, do_drop(&h.fx, &drop2));
    change_some(&h, 8, 5);
    keep_history(&h);
    archive_make(&h, &a);
    struct fixture fx = restored_to(&a, before);
    assert_int_equal(row_of(&fx, "dropped", "x").version, 1);
    release(&fx);
    fx = restored_to(&a, gone);
    assert_false(has(&fx, "dropped"));
    assert_true(has(&fx, "a"));
    release(&fx);
    fx = restored_to(&a, empty);
    assert_int_equal(count_of(&fx, "dropped", NULL), 0);
    release(&fx);
    fx = restored_to(&a, plain);
    assert_int_equal(row_of(&fx, "dropped", "x").version, 0);
    assert_memory_equal(row_of(&fx, "dropped", "y").vectors[0], &two, sizeof(two));
    struct pdb_collection_get g = {.name = txt("dropped")};
    assert_done(&fx, do_describe(&fx, &g));
    assert_int_equal(g.info_out.config.description.len, 0);
    release(&fx);
    fx = restored_to(&a, described);
    struct pdb_collection_get g2 = {.name = txt("dropped")};
    assert_done(&fx, do_describe(&fx, &g2));
    assert_true(same_text(g2.info_out.config.description, "second"));
    release(&fx);
    done(&h, &a);
}

static void a_collection_out_of_a_snapshot_needs_a_base_of_its_own(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a = {.range = {0, 0}};
    history_begin(&h, 2);
    change_some(&h, 9, 40);
    take_base(&h, &a);
    int64_t before = clock_realtime_us();
    struct pdb_snapshot_restore r = {
        .name = txt("base"), .collection = txt("a"), .target = txt("copy")};
    assert_done(&h.fx, do_snapshot_restore(&h.fx, &r));
    change_some(&h, 10, 10);
    keep_history(&h);
    archive_make(&h, &a);
    struct pdb_archive_restore request = request_of(&a);
    refused(&a, &request, PDB_DATA_LOSS, "collection 'copy' cannot be brought back");
    request.target = PDB_ARCHIVE_VERSION;
    request.collection = "copy";
    request.version = 1;
    refused(&a, &request, PDB_OUT_OF_RANGE, "was restored from a snapshot with version");
    struct fixture fx = restored_to(&a, before);
    assert_false(has(&fx, "copy"));
    release(&fx);
    done(&h, &a);
}

/* ---- what is not there ---- */

static void what_the_archive_does_not_cover_is_refused_with_its_limits(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a;
    char to[CLOCK_TEXT_SIZE];
    archived_history(&h, &a, 11);
    struct pdb_archive_restore request = request_of(&a);
    clock_format_us(a.range.to_us, to);
    request.target = PDB_ARCHIVE_TIME;
    request.time_us = a.range.to_us + 1;
    refused(&a, &request, PDB_OUT_OF_RANGE, to);
    request.time_us = a.range.from_us - 1;
    refused(&a, &request, PDB_OUT_OF_RANGE, to);
    request.target = PDB_ARCHIVE_LSN;
    request.lsn = 1;
    refused(&a, &request, PDB_INVALID_ARGUMENT, "more than one log of the archive is meant");
    request.log = "zz";
    refused(&a, &request, PDB_NOT_FOUND, "no log of the archive is meant");
    char log[UUID_TEXT_LEN + 1];
    uuid_format(&a.logs[0].uuid, log);
    request.log = log;
    request.lsn = 100000;
    refused(&a, &request, PDB_OUT_OF_RANGE, "record 100000 of log");
    const struct change *first = &h.changes[first_behind(&h, &a)];
    uuid_format(&first->log, log);
    request.lsn = first->lsn; /* before all that can be brought back */
    a.range.from_us = first->time_us + 1;
    put_state(&a);
    refused(&a, &request, PDB_OUT_OF_RANGE, "cannot be brought back: the archive covers");
    request.target = PDB_ARCHIVE_VERSION;
    request.collection = "nobody";
    request.version = 1;
    refused(&a, &request, PDB_NOT_FOUND, "knows no collection 'nobody'");
    request.collection = "a";
    refused(&a, &request, PDB_OUT_OF_RANGE, "version 1 of 'a' is older");
    request.version = 100000;
    refused(&a, &request, PDB_OUT_OF_RANGE, "version 100000 is not in the archive");
    done(&h, &a);
}

static void which_archive_must_be_clear(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a;
    struct uuid other;
    char key[ARCHIVE_KEY_SIZE], text[UUID_TEXT_LEN + 1];
    archived_history(&h, &a, 12);
    assert_int_equal(uuid_random(&other), 0);
    archive_identity_key(key, &other);
    struct buffer nothing;
    buffer_init_heap(&nothing, NULL, 0);
    buffer_add(&nothing, "x", 1);
    put_bytes(&a, key, &nothing);
    buffer_dispose(&nothing);
    struct pdb_archive_restore request = request_of(&a);
    uuid_format(&other, text);
    refused(&a, &request, PDB_INVALID_ARGUMENT, text);
    request.identity = text;
    refused(&a, &request, PDB_NOT_FOUND, "has nothing yet");
    request.identity = "nonsense";
    refused(&a, &request, PDB_NOT_FOUND, text);
    uuid_format(&a.identity, text);
    request.identity = text;
    restored(&a, &request);
    remove_tree(a.out);
    request.identity = NULL;
    request.url = a.parent;
    refused(&a, &request, PDB_NOT_FOUND, "has no archive");
    done(&h, &a);
}

/* ---- missing and damaged objects ---- */

struct objects {
    char keys[200][ARCHIVE_KEY_SIZE];
    size_t count;
};

static int keep_key(void *arg, const struct store_object *object)
{
    struct objects *all = arg;
    assert_true(all->count < 200);
    (void)snprintf(all->keys[all->count++], ARCHIVE_KEY_SIZE, "%.*s", (int)object->key.len,
                   object->key.ptr);
    return 0;
}

static void list_objects(struct archive_fixture *a, struct objects *all)
{
    const struct store_list_request list = {
        .prefix = {"", 0}, .after = {"", 0}, .visit = keep_key, .arg = all};
    assert_int_equal(store_list(a->store, NULL, &list), 0);
}

/* Catalogs that are only looked at on the way may be passed by. */
static bool is_needed(const struct archive_fixture *a, const char *key)
{
    struct archive_parsed parsed;
    enum archive_object kind = archive_parse(text_of(key), &parsed);
    return kind != ARCHIVE_CATALOG || parsed.number + 1 == a->state.catalog_next;
}

static void each_missing_object_is_named(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a;
    struct objects all = {.count = 0};
    archived_history(&h, &a, 13);
    list_objects(&a, &all);
    assert_true(all.count > 8);
    for (size_t i = 0; i < all.count; i++) {
        if (!is_needed(&a, all.keys[i]))
            continue;
        struct archive_parsed parsed;
        enum archive_object kind = archive_parse(text_of(all.keys[i]), &parsed);
        struct pdb_archive_restore request = request_of(&a);
        shell("mv '%s/%s' '%s.kept'", a.dir, all.keys[i], a.dir);
        refused(&a, &request, kind == ARCHIVE_STATE ? PDB_NOT_FOUND : PDB_DATA_LOSS,
                kind == ARCHIVE_STATE  ? "STATE"
                : kind == ARCHIVE_BASE ? "has lost the base"
                                       : all.keys[i]);
        shell("mv '%s.kept' '%s/%s'", a.dir, a.dir, all.keys[i]);
    }
    struct pdb_archive_restore request = request_of(&a);
    restored(&a, &request);
    done(&h, &a);
}

/* Bytes as another program would write them: without the store's own checksum. */
static void each_damaged_object_is_named(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a;
    struct objects all = {.count = 0};
    struct rng rng;
    archived_history(&h, &a, 14);
    list_objects(&a, &all);
    rng_seed(&rng, 1);
    for (size_t i = 0; i < all.count; i++) {
        if (!is_needed(&a, all.keys[i]))
            continue;
        struct archive_parsed parsed;
        enum archive_object kind = archive_parse(text_of(all.keys[i]), &parsed);
        char path[900];
        size_t len = 0;
        (void)snprintf(path, sizeof(path), "%s/%s", a.dir, all.keys[i]);
        uint8_t *bytes = read_whole(path, &len);
        /* Of a segment: its first group's header, since zeros between groups are not covered. */
        size_t at = kind == ARCHIVE_WAL ? 4096 + rng_below(&rng, 128) : rng_below(&rng, len);
        bytes[at] ^= (uint8_t)(1 << rng_below(&rng, 8));
        shell("mv '%s' '%s.kept'", path, a.dir);
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(bytes, 1, len, file), len);
        assert_int_equal(fclose(file), 0);
        struct pdb_archive_restore request = request_of(&a);
        struct pdb_error error;
        int rc = pdb_archive_restore(&request, NULL, &error);
        /* A format number may have become a newer one. */
        if (rc != PDB_DATA_LOSS && rc != PDB_FAILED_PRECONDITION)
            fail_msg("byte %zu of %s: %d", at, all.keys[i], rc);
        if (kind != ARCHIVE_BASE && strstr(error.text, all.keys[i]) == NULL)
            fail_msg("%s is not in: %s", all.keys[i], error.text);
        assert_nothing_is_left(&a);
        shell("mv '%s.kept' '%s'", a.dir, path);
        free(bytes);
    }
    done(&h, &a);
}

static void segments_that_were_given_up_are_named(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a;
    archived_history(&h, &a, 15);
    a.logs[0].first_seq++;
    a.logs[0].next_seq++;
    put_state(&a);
    struct pdb_archive_restore request = request_of(&a);
    refused(&a, &request, PDB_DATA_LOSS, "the archive does not have segments");
    done(&h, &a);
}

/* ---- the folder ---- */

static void a_target_that_is_in_use_is_not_touched(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a;
    struct pdb_error error;
    archived_history(&h, &a, 16);
    struct pdb_archive_restore request = request_of(&a);
    shell("mkdir '%s' && touch '%s/file'", a.out, a.out);
    assert_int_equal(pdb_archive_restore(&request, NULL, &error), PDB_ALREADY_EXISTS);
    shell("test \"$(ls -A '%s')\" = file && test \"$(ls -A '%s')\" = new", a.out, a.parent);
    shell("rm '%s/file'", a.out);
    restored(&a, &request); /* an empty folder is as good as none */
    remove_tree(a.out);
    char slashes[400];
    (void)snprintf(slashes, sizeof(slashes), "%s//", a.out);
    request.data_dir = slashes;
    restored(&a, &request);
    remove_tree(a.out);
    static const char *const bad[] = {"", "/", "..", "x/..", "."};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        request.data_dir = bad[i];
        assert_int_equal(pdb_archive_restore(&request, NULL, &error), PDB_INVALID_ARGUMENT);
    }
    done(&h, &a);
}

static void what_a_cut_restore_has_left_is_cleared(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a;
    archived_history(&h, &a, 17);
    shell("mkdir -p '%s/.new.restore/data/collections/x' '%s/.new.restore/fetch/0'", a.parent,
          a.parent);
    shell("touch '%s/.new.restore/data/collections/x/y' '%s/.new.restore/fetch/0/1.wal'", a.parent,
          a.parent);
    struct replay_stop all = {.time_us = INT64_MAX};
    struct pdb_archive_restore request = request_of(&a);
    restore_and_compare(&h, &a, &request, &all);
    done(&h, &a);
}

static bool stop_after(void *arg)
{
    int *left = arg;
    return __atomic_sub_fetch(left, 1, __ATOMIC_RELAXED) < 0;
}

static void a_restore_that_is_stopped_leaves_nothing(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a;
    struct pdb_error error;
    bool finished = false;
    archived_history(&h, &a, 18);
    for (int steps = 0; !finished; steps = steps * 3 / 2 + 1) {
        int left = steps;
        struct pdb_archive_restore request = request_of(&a);
        request.stop = stop_after;
        request.arg = &left;
        int rc = pdb_archive_restore(&request, NULL, &error);
        finished = rc == 0;
        if (!finished) {
            assert_int_equal(rc, PDB_CANCELLED);
            assert_nothing_is_left(&a);
        }
    }
    done(&h, &a);
}

/* ---- the list ---- */

static void check_info(void *arg, const struct pdb_archive_info *info)
{
    const struct archive_fixture *a = arg;
    char text[UUID_TEXT_LEN + 1];
    uuid_format(&a->identity, text);
    assert_string_equal(info->identity, text);
    assert_null(info->problem);
    assert_int_equal(info->range_count, 1);
    assert_int_equal(info->ranges[0].from_us, a->range.from_us);
    assert_int_equal(info->ranges[0].to_us, a->range.to_us);
    assert_int_equal(info->base_count, 1);
    assert_string_equal(info->bases[0].name, a->base.name);
    assert_int_equal(info->bases[0].collections, COLLECTIONS);
    assert_true(info->bases[0].bytes > 1000);
    assert_int_equal(info->log_count, a->state.log_count);
    assert_int_equal(info->logs[0].next_segment, a->logs[0].next_seq);
}

static void see_problem(void *arg, const struct pdb_archive_info *info)
{
    const char **expected = arg;
    const char *problem = info->problem != NULL ? info->problem : info->bases[0].problem;
    assert_non_null(problem);
    assert_non_null(strstr(problem, *expected));
}

static void the_list_tells_what_there_is_and_what_is_damaged(void **state)
{
    (void)state;
    struct history h;
    struct archive_fixture a;
    struct pdb_error error;
    char text[UUID_TEXT_LEN + 1];
    archived_history(&h, &a, 19);
    struct pdb_archive_list list = {.url = a.dir, .visit = check_info, .arg = &a};
    assert_int_equal(pdb_archive_list(&list, &error), 0);
    uuid_format(&a.identity, text);
    const char *expected = "BASE";
    shell("printf x >> '%s/%s/bases/%s/BASE'", a.dir, text, a.base.name);
    list.visit = see_problem;
    list.arg = &expected;
    assert_int_equal(pdb_archive_list(&list, &error), 0);
    expected = "STATE";
    shell("printf x >> '%s/%s/STATE'", a.dir, text);
    assert_int_equal(pdb_archive_list(&list, &error), 0);
    list.url = "/nowhere/at/all";
    assert_int_equal(pdb_archive_list(&list, &error), PDB_NOT_FOUND);
    done(&h, &a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_time_of_the_range_comes_back),
        cmocka_unit_test(every_record_of_a_log_comes_back),
        cmocka_unit_test(every_version_of_a_collection_comes_back),
        cmocka_unit_test(a_version_of_a_collection_that_was_made_around_the_base_is_found),
        cmocka_unit_test(many_rounds_bring_back_the_same_as_one),
        cmocka_unit_test(logs_that_began_behind_the_base_are_needed_whole),
        cmocka_unit_test(collections_are_those_of_the_moment),
        cmocka_unit_test(a_collection_out_of_a_snapshot_needs_a_base_of_its_own),
        cmocka_unit_test(what_the_archive_does_not_cover_is_refused_with_its_limits),
        cmocka_unit_test(which_archive_must_be_clear),
        cmocka_unit_test(each_missing_object_is_named),
        cmocka_unit_test(each_damaged_object_is_named),
        cmocka_unit_test(segments_that_were_given_up_are_named),
        cmocka_unit_test(a_target_that_is_in_use_is_not_touched),
        cmocka_unit_test(what_a_cut_restore_has_left_is_cleared),
        cmocka_unit_test(a_restore_that_is_stopped_leaves_nothing),
        cmocka_unit_test(the_list_tells_what_there_is_and_what_is_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
