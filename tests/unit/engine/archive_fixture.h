/* An archive made by hand of a closed database: its logs and catalogs, and one of its snapshots as
 * the base. So a restore is tested against what docs/formats/archive.md says, not against what the
 * archiver happens to do. */
#ifndef ARCHIVE_FIXTURE_H
#define ARCHIVE_FIXTURE_H

#include "history_fixture.h"

#include "base/clock.h"
#include "engine/archive_format.h"
#include "engine/catalog.h"
#include "store/store.h"
#include "wal/wal_format.h"

#include <inttypes.h>
#include <proximadb/archive.h>

FIXTURE_CALL(pdb_snapshot_create, do_snapshot, pdb_snapshot_create_start)
FIXTURE_CALL(pdb_snapshot_restore, do_snapshot_restore, pdb_snapshot_restore_start)

enum { ARCHIVE_LOGS_MAX = 8 };

struct archive_fixture {
    char dir[256], out[256]; /* the archive; where a restore goes, in a folder of its own */
    char parent[256];
    struct uuid identity;
    struct store *store;
    struct archive_base base; /* without the image */
    struct archive_state state;
    struct archive_range range;
    struct archive_log logs[ARCHIVE_LOGS_MAX];
    struct archive_need needs[ARCHIVE_LOGS_MAX];
    unsigned base_cores, core; /* when the base was made; whose log is put */
};

static inline void take_base(struct history *h, struct archive_fixture *a)
{
    struct pdb_snapshot_create s = {.name = txt("base")};
    a->base.begun_us = clock_realtime_us();
    assert_done(&h->fx, do_snapshot(&h->fx, &s));
    a->base.ended_us = clock_realtime_us();
    h->flushed = h->count;
    a->base_cores = h->fx.options.cores;
}

static inline void put_file(struct archive_fixture *a, const char *key, const char *path)
{
    struct trail trail = {0};
    const struct store_call call = {.trail = &trail};
    const struct store_put_request put = {
        .key = text_of(key), .path = path, .len = STORE_TO_END, .condition = STORE_IF_ABSENT};
    if (store_put(a->store, &call, &put, NULL) < 0)
        fail_msg("%s", trail.text);
}

static inline void put_bytes(struct archive_fixture *a, const char *key, const struct buffer *bytes)
{
    struct trail trail = {0};
    const struct store_call call = {.trail = &trail};
    const struct store_put_request put = {
        .key = text_of(key), .bytes = bytes->ptr, .len = bytes->len, .condition = STORE_ALWAYS};
    if (store_put(a->store, &call, &put, NULL) < 0)
        fail_msg("%s", trail.text);
}

static inline void *read_whole(const char *path, size_t *len_out)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long len = ftell(file);
    rewind(file);
    void *bytes = malloc((size_t)len + 1);
    assert_int_equal(fread(bytes, 1, (size_t)len, file), len);
    (void)fclose(file);
    *len_out = (size_t)len;
    return bytes;
}

/* Each file of a folder whose name ends so, in order of names. */
static inline void each_file(const char *folder, const char *end,
                             void (*visit)(void *arg, const char *path, const char *name),
                             void *arg)
{
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char path[900];
        size_t len = strlen(entries[i]->d_name), end_len = strlen(end);
        (void)snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);
        if (len >= end_len && strcmp(entries[i]->d_name + len - end_len, end) == 0 &&
            entries[i]->d_name[0] != '.')
            visit(arg, path, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
}

static inline void put_segment(void *arg, const char *path, const char *name)
{
    struct archive_fixture *a = arg;
    struct wal_segment_header header;
    char key[ARCHIVE_KEY_SIZE];
    size_t len = 0;
    uint8_t *bytes = read_whole(path, &len);
    (void)name;
    assert_int_equal(wal_segment_header_get(bytes, len, &header), WAL_VALID);
    bool begun = len > 4096 && memcmp(bytes + 4096, "PXXG", 4) == 0;
    free(bytes);
    if (!begun)
        return;
    uint32_t i = 0;
    while (i < a->state.log_count && !uuid_equal(&a->logs[i].uuid, &header.log))
        i++;
    assert_true(i < ARCHIVE_LOGS_MAX);
    if (i == a->state.log_count) {
        a->state.log_count++;
        a->logs[i] = (struct archive_log){.uuid = header.log, .first_seq = header.seq};
        if (a->core < a->base_cores) /* else it was begun later */
            a->needs[a->base.need_count++] = (struct archive_need){header.log, header.seq};
    }
    a->logs[i].next_seq = header.seq + 1;
    archive_wal_key(key, &a->identity, &header.log, header.seq);
    put_file(a, key, path);
}

static inline void put_log(void *arg, const char *path, const char *name)
{
    struct archive_fixture *a = arg;
    a->core = (unsigned)atoi(name);
    each_file(path, ".wal", put_segment, arg);
}

static inline void put_catalog(void *arg, const char *path, const char *name)
{
    struct archive_fixture *a = arg;
    char key[ARCHIVE_KEY_SIZE];
    uint64_t version = strtoull(name, NULL, 10);
    size_t len = 0;
    uint8_t *bytes = read_whole(path, &len);
    int64_t written_us = (int64_t)bytes_get_u64(bytes + 24);
    free(bytes);
    archive_catalog_key(key, &a->identity, version);
    put_file(a, key, path);
    if (a->state.catalog_first == 0 || version < a->state.catalog_first)
        a->state.catalog_first = version;
    if (version >= a->state.catalog_next)
        a->state.catalog_next = version + 1;
    if (written_us <= a->base.ended_us && version > a->base.catalog_version)
        a->base.catalog_version = version;
}

static inline void put_base(struct history *h, struct archive_fixture *a)
{
    char path[900], key[ARCHIVE_KEY_SIZE], uuid[UUID_TEXT_LEN + 1];
    struct snapshot_image *image = NULL;
    struct trail trail = {0};
    struct buffer out;
    size_t len = 0;
    (void)snprintf(path, sizeof(path), "%s/snapshots/base/SNAPSHOT", h->fx.dir);
    void *list = read_whole(path, &len);
    assert_int_equal(snapshot_decode(list, len, &image, &trail), 0);
    archive_base_name(a->base.name, a->base.begun_us);
    for (uint32_t p = 0; p < image->part_count; p++) {
        const struct snapshot_part *part = &image->parts[p];
        uuid_format(&part->entry->uuid, uuid);
        for (uint32_t f = 0; f < part->file_count; f++) {
            (void)snprintf(path, sizeof(path), "%s/snapshots/base/%s/%s", h->fx.dir, uuid,
                           part->files[f].name);
            archive_file_key(key, &a->identity, a->base.name, part, f);
            put_file(a, key, path);
        }
    }
    buffer_init_heap(&out, NULL, 0);
    archive_base_encode(&out, &a->base, list, len);
    archive_base_key(key, &a->identity, a->base.name);
    put_bytes(a, key, &out);
    buffer_dispose(&out);
    snapshot_image_free(image);
    free(list);
}

static inline void put_state(struct archive_fixture *a)
{
    char key[ARCHIVE_KEY_SIZE];
    struct buffer out;
    a->state.identity = a->identity;
    a->state.logs = a->logs;
    a->state.ranges = &a->range;
    a->state.range_count = 1;
    a->state.written_at_us = a->range.to_us;
    buffer_init_heap(&out, NULL, 0);
    archive_state_encode(&out, &a->state);
    archive_state_key(key, &a->identity);
    put_bytes(a, key, &out);
    buffer_dispose(&out);
}

/* Of a history that keep_history has closed, with a base that take_base has taken. */
static inline void archive_make(struct history *h, struct archive_fixture *a)
{
    char path[400];
    struct trail trail = {0};
    fixture_dir(a->dir);
    fixture_dir(a->parent);
    (void)snprintf(a->out, sizeof(a->out), "%.250s/new", a->parent);
    assert_int_equal(store_open(txt(a->dir), NULL, &trail, &a->store), 0);
    assert_int_equal(uuid_random(&a->identity), 0);
    a->base.identity = a->identity;
    a->base.needs = a->needs;
    (void)snprintf(path, sizeof(path), "%s/wal", h->fx.dir);
    each_file(path, "", put_log, a);
    (void)snprintf(path, sizeof(path), "%s/catalog/archive", h->fx.dir);
    each_file(path, ".catalog", put_catalog, a);
    (void)snprintf(path, sizeof(path), "%s/catalog", h->fx.dir);
    each_file(path, ".catalog", put_catalog, a);
    put_base(h, a);
    a->range = (struct archive_range){a->base.ended_us, clock_realtime_us()};
    put_state(a);
}

static inline void archive_end(struct archive_fixture *a)
{
    store_close(a->store);
    remove_tree(a->dir);
    remove_tree(a->parent);
}

#endif
