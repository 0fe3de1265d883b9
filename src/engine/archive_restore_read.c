/* archive_restore_read.c: finding what a restore begins with: whose archive it is, what it has, the
 * base and the catalog of a moment.
 *
 * A base is the newest that had ended by the moment, so that nothing in it lies behind that. One
 * that cannot be read is passed over with a warning: an older one and more of the logs make the
 * same. Everything else that is missing or damaged ends the restore: there is no second source. */
#include "engine/archive_restore.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { BASES_MAX = 4096 };

int restore_lost(int rc, struct trail *trail)
{
    return rc == PDB_NOT_FOUND ? trail_add(trail, PDB_DATA_LOSS, "the archive has lost an object")
                               : rc;
}

static int no_memory(struct trail *trail)
{
    return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "restore: out of memory");
}

static int get_object(struct store *store, const char *key, size_t size_max, void **bytes_out,
                      size_t *len_out, struct trail *trail)
{
    const struct store_call call = {.trail = trail};
    return store_get_all(store, &call, text_of(key), size_max, NULL, bytes_out, len_out);
}

/* ---- identities ---- */

struct first_key {
    char text[STORE_KEY_MAX + 2];
    bool found;
};

static int take_first(void *arg, const struct store_object *object)
{
    struct first_key *first = arg;
    const char *slash = memchr(object->key.ptr, '/', object->key.len);
    size_t len = slash != NULL ? (size_t)(slash - object->key.ptr) : object->key.len;
    (void)snprintf(first->text, sizeof(first->text), "%.*s", (int)len, object->key.ptr);
    first->found = true;
    return 1;
}

/* Hops from folder to folder: a list of all objects may be very long. */
int restore_each_identity(struct store *store, int (*visit)(void *arg, const struct uuid *identity),
                          void *arg, struct trail *trail)
{
    struct first_key first = {.found = true};
    while (first.found) {
        char after[sizeof(first.text)];
        struct uuid identity;
        (void)snprintf(after, sizeof(after), "%s", first.text);
        first.found = false;
        const struct store_call call = {.trail = trail};
        const struct store_list_request list = {.prefix = {"", 0},
                                                .after = text_of(after),
                                                .visit = take_first,
                                                .arg = &first,
                                                .page_max = 1};
        int rc = store_list(store, &call, &list);
        if (rc < 0)
            return rc;
        if (first.found && uuid_parse(first.text, strlen(first.text), &identity) == 0 &&
            (rc = visit(arg, &identity)) != 0)
            return rc;
        size_t len = strlen(first.text); /* '0' is the byte behind '/' */
        first.text[len] = '0';
        first.text[len + 1] = '\0';
    }
    return 0;
}

struct identities {
    const char *wanted;
    struct uuid found;
    unsigned count;
    char names[300]; /* as many as fit */
};

static int see_identity(void *arg, const struct uuid *identity)
{
    struct identities *all = arg;
    char text[UUID_TEXT_LEN + 1];
    uuid_format(identity, text);
    size_t len = strlen(all->names);
    (void)snprintf(all->names + len, sizeof(all->names) - len, "%s%s", len != 0 ? ", " : "", text);
    if (all->wanted != NULL && strncmp(text, all->wanted, strlen(all->wanted)) != 0)
        return 0;
    all->found = *identity;
    all->count++;
    return 0;
}

int restore_find_identity(struct restore *r, struct trail *trail)
{
    struct identities all = {.wanted = r->options->identity};
    int rc = restore_each_identity(r->store, see_identity, &all, trail);
    if (rc < 0)
        return rc;
    if (all.count == 0 && all.wanted != NULL)
        return trail_add(trail, PDB_NOT_FOUND, "%s has no archive '%s'%s%s", store_name(r->store),
                         all.wanted, all.names[0] != '\0' ? "; it has " : "", all.names);
    if (all.count == 0)
        return trail_add(trail, PDB_NOT_FOUND, "%s has no archive", store_name(r->store));
    if (all.count > 1)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%s has more than one archive; name one of %s", store_name(r->store),
                         all.names);
    r->identity = all.found;
    return restore_read_state(r->store, &r->identity, &r->arena, &r->state, trail);
}

int restore_read_state(struct store *store, const struct uuid *identity, struct arena *arena,
                       struct archive_state *state_out, struct trail *trail)
{
    char key[ARCHIVE_KEY_SIZE];
    void *bytes;
    size_t len;
    archive_state_key(key, identity);
    int rc = get_object(store, key, ARCHIVE_OBJECT_BYTES_MAX, &bytes, &len, trail);
    if (rc == PDB_NOT_FOUND)
        return trail_add(trail, rc, "the archive has nothing yet, or has lost its state");
    if (rc < 0)
        return rc;
    rc = archive_state_decode(bytes, len, arena, state_out, trail);
    heap_free(NULL, bytes);
    if (rc == 0 && !uuid_equal(&state_out->identity, identity))
        rc = trail_add(trail, PDB_DATA_LOSS, "it is the state of another archive");
    return rc < 0 ? trail_add(trail, rc, "%s", key) : 0;
}

/* ---- bases ---- */

struct base_names {
    struct arena *arena;
    char (*names)[ARCHIVE_NAME_SIZE];
    uint32_t count, capacity;
};

static int see_base(void *arg, const struct store_object *object)
{
    struct base_names *all = arg;
    struct archive_parsed parsed;
    if (archive_parse(object->key, &parsed) != ARCHIVE_BASE)
        return 0;
    if (all->count == all->capacity) {
        uint32_t capacity = all->capacity == 0 ? 16 : all->capacity * 2;
        void *names = arena_grow(all->arena, all->names, all->count * sizeof(*all->names),
                                 capacity * sizeof(*all->names));
        if (names == NULL || all->count >= BASES_MAX)
            return PDB_RESOURCE_EXHAUSTED;
        all->names = names;
        all->capacity = capacity;
    }
    (void)snprintf(all->names[all->count++], ARCHIVE_NAME_SIZE, "%s", parsed.name);
    return 0;
}

int restore_base_names(struct store *store, const struct uuid *identity, struct arena *arena,
                       char (**names_out)[ARCHIVE_NAME_SIZE], uint32_t *count_out,
                       struct trail *trail)
{
    char prefix[ARCHIVE_KEY_SIZE];
    struct base_names all = {.arena = arena};
    const struct store_call call = {.trail = trail};
    archive_base_prefix(prefix, identity, NULL);
    const struct store_list_request list = {
        .prefix = text_of(prefix), .after = {"", 0}, .visit = see_base, .arg = &all};
    int rc = store_list(store, &call, &list);
    if (rc == PDB_RESOURCE_EXHAUSTED && trail->code == 0)
        return no_memory(trail);
    if (rc < 0)
        return rc;
    *names_out = all.names;
    *count_out = all.count;
    return 0;
}

/* Names that become paths here. */
static int check_files(const struct snapshot_image *image, struct trail *trail)
{
    for (uint32_t p = 0; p < image->part_count; p++) {
        const struct snapshot_part *part = &image->parts[p];
        for (uint32_t f = 0; f < part->file_count; f++) {
            uint64_t number;
            enum shard_file_kind kind = shard_files_parse(part->files[f].name, &number);
            if (f == 0 ? kind != SHARD_FILE_MANIFEST
                       : kind != SHARD_FILE_PARQUET && kind != SHARD_FILE_INDEX)
                return trail_add(trail, PDB_DATA_LOSS, "it has a file of an unknown kind");
        }
    }
    return 0;
}

int restore_read_base(struct store *store, const struct uuid *identity, const char *name,
                      struct arena *arena, struct archive_base *base_out, struct trail *trail)
{
    char key[ARCHIVE_KEY_SIZE];
    struct archive_base base;
    void *bytes;
    size_t len;
    archive_base_key(key, identity, name);
    int rc = get_object(store, key, ARCHIVE_OBJECT_BYTES_MAX, &bytes, &len, trail);
    if (rc < 0)
        return restore_lost(rc, trail);
    rc = archive_base_decode(bytes, len, arena, &base, trail);
    heap_free(NULL, bytes);
    if (rc < 0)
        return trail_add(trail, rc, "%s", key);
    if (!uuid_equal(&base.identity, identity) || strcmp(base.name, name) != 0)
        rc = trail_add(trail, PDB_DATA_LOSS, "it is another base");
    if (rc == 0)
        rc = check_files(base.image, trail);
    if (rc < 0) {
        archive_base_dispose(&base);
        return trail_add(trail, rc, "%s", key);
    }
    *base_out = base;
    return 0;
}

void restore_drop_base(struct restore *r)
{
    if (r->has_base)
        archive_base_dispose(&r->base);
    r->has_base = false;
}

static const struct snapshot_part *part_of(const struct archive_base *base, const struct uuid *uuid)
{
    for (uint32_t i = 0; i < base->image->part_count; i++)
        if (uuid_equal(&base->image->parts[i].entry->uuid, uuid))
            return &base->image->parts[i];
    return NULL;
}

/* What a base must be. */
struct base_rule {
    const struct archive_range *range; /* NULL: any */
    int64_t time_us;
    const struct catalog_entry *entry; /* else: has no version of it from `version` on */
    uint64_t version;
};

static bool base_fits(const struct archive_base *base, const struct base_rule *rule, bool oldest)
{
    if (rule->entry == NULL)
        return base->ended_us >= rule->range->from_us && base->ended_us <= rule->time_us;
    const struct snapshot_part *part = part_of(base, &rule->entry->uuid);
    if (part != NULL)
        return part->version < rule->version;
    /* It was made later, or was dropped before. A call that makes one may have begun before the
     * base and ended behind it: then an older base does as well, and the oldest in any case. */
    return oldest || base->begun_us <= rule->entry->created_at_us;
}

/* The newest that fits; PDB_NOT_FOUND. */
static int find_base(struct restore *r, const struct base_rule *rule, struct trail *trail)
{
    char(*names)[ARCHIVE_NAME_SIZE] = NULL;
    uint32_t count = 0;
    int rc = restore_base_names(r->store, &r->identity, &r->arena, &names, &count, trail);
    restore_drop_base(r);
    for (uint32_t i = count; rc == 0 && i > 0; i--) {
        struct trail why = {0};
        rc = restore_go_on(r, "search", 0, 0, trail);
        if (rc < 0)
            return rc;
        rc = restore_read_base(r->store, &r->identity, names[i - 1], &r->arena, &r->base, &why);
        if (rc == PDB_DATA_LOSS) {
            LOG_WARN("restore", "base %s is passed over: %s", names[i - 1], why.text);
            rc = 0;
            continue;
        }
        if (rc < 0)
            return trail_add(trail, rc, "%s", why.text);
        r->has_base = true;
        if (base_fits(&r->base, rule, i == 1))
            return 0;
        restore_drop_base(r);
    }
    return rc < 0 ? rc : PDB_NOT_FOUND;
}

int restore_find_base(struct restore *r, int64_t time_us, struct trail *trail)
{
    struct base_rule rule = {.time_us = time_us};
    int rc = restore_find_range(r, time_us, &rule.range, trail);
    if (rc == 0)
        rc = find_base(r, &rule, trail);
    if (rc == PDB_NOT_FOUND && trail->code == 0)
        return trail_add(trail, PDB_DATA_LOSS,
                         "the archive has lost the base that this moment needs");
    return rc;
}

int restore_find_base_before(struct restore *r, const struct catalog_entry *entry, uint64_t version,
                             struct trail *trail)
{
    struct base_rule rule = {.entry = entry, .version = version};
    int rc = find_base(r, &rule, trail);
    if (rc == PDB_NOT_FOUND && trail->code == 0)
        return trail_add(trail, PDB_OUT_OF_RANGE,
                         "version %" PRIu64 " of '%.*s' is older than what the archive has",
                         version, (int)entry->config.name.len, entry->config.name.ptr);
    return rc;
}

/* ---- ranges ---- */

int restore_find_range(const struct restore *r, int64_t time_us,
                       const struct archive_range **range_out, struct trail *trail)
{
    char at[CLOCK_TEXT_SIZE], from[CLOCK_TEXT_SIZE], to[CLOCK_TEXT_SIZE], covers[256] = "nothing";
    for (uint32_t i = 0; i < r->state.range_count; i++) {
        const struct archive_range *range = &r->state.ranges[i];
        if (time_us >= range->from_us && time_us <= range->to_us) {
            *range_out = range;
            return 0;
        }
        size_t len = i == 0 ? 0 : strlen(covers);
        clock_format_us(range->from_us, from);
        clock_format_us(range->to_us, to);
        (void)snprintf(covers + len, sizeof(covers) - len, "%s%s to %s", len != 0 ? ", " : "", from,
                       to);
    }
    clock_format_us(time_us, at);
    return trail_add(trail, PDB_OUT_OF_RANGE, "%s cannot be brought back: the archive covers %s",
                     at, covers);
}

/* ---- the catalog ---- */

static int read_catalog(struct restore *r, uint64_t version, void **bytes_out, size_t *len_out,
                        struct catalog_image *image_out, struct trail *trail)
{
    char key[ARCHIVE_KEY_SIZE];
    void *bytes;
    size_t len;
    int rc = restore_go_on(r, "search", 0, 0, trail);
    if (rc < 0)
        return rc;
    archive_catalog_key(key, &r->identity, version);
    rc = get_object(r->store, key, CATALOG_FILE_BYTES_MAX, &bytes, &len, trail);
    if (rc < 0)
        return restore_lost(rc, trail);
    rc = catalog_decode(bytes, len, &r->arena, image_out, trail);
    if (rc == 0 && image_out->version != version) {
        catalog_image_dispose(image_out);
        rc = trail_add(trail, PDB_DATA_LOSS, "it holds version %" PRIu64, image_out->version);
    }
    if (rc < 0 || bytes_out == NULL)
        heap_free(NULL, bytes);
    if (rc < 0)
        return trail_add(trail, rc, "%s", key);
    if (bytes_out != NULL) {
        *bytes_out = bytes;
        *len_out = len;
    }
    return 0;
}

/* The newest one that was written by the moment: between the base's and the archive's newest. */
int restore_find_catalog(struct restore *r, struct trail *trail)
{
    uint64_t low = r->base.catalog_version, high = r->state.catalog_next;
    if (low < r->state.catalog_first || low >= high)
        return trail_add(trail, PDB_DATA_LOSS,
                         "the archive has lost version %" PRIu64 " of the catalog", low);
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        struct catalog_image image;
        int rc = read_catalog(r, middle, NULL, NULL, &image, trail);
        if (rc < 0)
            return rc;
        if (image.written_at_us <= r->stop.time_us)
            low = middle;
        else
            high = middle;
        catalog_image_dispose(&image);
    }
    int rc = read_catalog(r, low, &r->catalog, &r->catalog_len, &r->image, trail);
    r->has_image = rc == 0;
    return rc;
}

int restore_find_collection(struct restore *r, const char *name, struct catalog_image *image_out,
                            const struct catalog_entry **entry_out, struct trail *trail)
{
    struct uuid uuid;
    bool is_uuid = uuid_parse(name, strlen(name), &uuid) == 0;
    for (uint64_t v = r->state.catalog_next; v > r->state.catalog_first; v--) {
        struct catalog_image image;
        int rc = read_catalog(r, v - 1, NULL, NULL, &image, trail);
        if (rc < 0)
            return rc;
        for (uint32_t i = 0; i < image.count; i++) {
            const struct catalog_entry *entry = image.entries[i];
            if (!text_equal(entry->config.name, text_of(name)) &&
                !(is_uuid && uuid_equal(&entry->uuid, &uuid)))
                continue;
            *image_out = image;
            *entry_out = entry;
            return 0;
        }
        catalog_image_dispose(&image);
    }
    return trail_add(trail, PDB_NOT_FOUND, "the archive knows no collection '%s'", name);
}
