/* archive_prune.c: what only a base needed that is not kept goes with it. One job of an outside
 * worker, blocking, on memory of its own.
 *
 *     its BASE first: from then on it is no base
 *     its manifests
 *     segments of logs before the first that any other base needs
 *     catalogs before the one that was in force when the oldest of the others ended
 *     segment files that none of the others names
 *
 * All other BASEs are read for that, and one that cannot be read ends the work: nothing is removed
 * in doubt. A cut leaves objects that nobody needs; the next base that goes takes them along,
 * because everything there is is looked at. Files are remembered by a hash of their keys: two of
 * the same hash keep one file too many. */
#include "engine/archive_internal.h"

#include "base/assert.h"
#include "base/hash.h"
#include "os/failpoint.h"

#include <stdlib.h>
#include <string.h>

#include "base/no_libc_heap.h"

/* From where on a log is needed. */
struct need_from {
    struct uuid log;
    uint64_t seq;
    uint32_t named; /* by so many bases */
};

struct pruning {
    struct archive_prune *p;
    struct store_call call;
    struct hash_key key;
    uint64_t *files; /* hashes of keys; heap; sorted */
    size_t file_count, file_capacity;
    struct need_from *needs; /* heap */
    size_t need_count, need_capacity;
    uint64_t catalog_from;
    struct uuid log; /* whose segments are seen */
    bool log_any;
    uint64_t log_first; /* that stays; UINT64_MAX: none so far */
    uint32_t log_capacity;
};

static int no_memory(struct pruning *w)
{
    return trail_add(&w->p->trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
}

static int delete (struct pruning *w, const struct store_object *object)
{
    int rc = store_delete(w->p->store, &w->call, object->key);
    w->p->objects += rc == 0;
    FAILPOINT("archive.pruned");
    return rc;
}

/* ---- what the others need ---- */

static int add_file(struct pruning *w, const char *key)
{
    if (w->file_count == w->file_capacity) {
        size_t capacity = 2 * w->file_capacity + 1024;
        uint64_t *files = heap_realloc(NULL, w->files, capacity * sizeof(*files));
        if (files == NULL)
            return no_memory(w);
        w->files = files;
        w->file_capacity = capacity;
    }
    w->files[w->file_count++] = hash_bytes(&w->key, key, strlen(key));
    return 0;
}

static int add_need(struct pruning *w, const struct archive_need *need)
{
    for (size_t i = 0; i < w->need_count; i++) {
        struct need_from *at = &w->needs[i];
        if (!uuid_equal(&at->log, &need->uuid))
            continue;
        at->seq = at->seq < need->seq ? at->seq : need->seq;
        at->named++;
        return 0;
    }
    if (w->need_count == w->need_capacity) {
        size_t capacity = 2 * w->need_capacity + 16;
        struct need_from *needs = heap_realloc(NULL, w->needs, capacity * sizeof(*needs));
        if (needs == NULL)
            return no_memory(w);
        w->needs = needs;
        w->need_capacity = capacity;
    }
    w->needs[w->need_count++] = (struct need_from){need->uuid, need->seq, 1};
    return 0;
}

static int add_base(struct pruning *w, const struct archive_base *base, bool oldest)
{
    char key[ARCHIVE_KEY_SIZE];
    int rc = 0;
    if (oldest)
        w->catalog_from = base->catalog_version;
    for (uint32_t i = 0; rc == 0 && i < base->need_count; i++)
        rc = add_need(w, &base->needs[i]);
    for (uint32_t i = 0; rc == 0 && i < base->image->part_count; i++) {
        const struct snapshot_part *part = &base->image->parts[i];
        for (uint32_t f = 1; rc == 0 && f < part->file_count; f++) {
            archive_file_key(key, &w->p->identity, base->name, part, f);
            rc = add_file(w, key);
        }
    }
    return rc;
}

static int read_base(struct pruning *w, const char *name, bool oldest)
{
    char key[ARCHIVE_KEY_SIZE];
    void *bytes = NULL;
    size_t len = 0;
    struct arena arena = {0};
    struct archive_base base;
    archive_base_key(key, &w->p->identity, name);
    int rc = store_get_all(w->p->store, &w->call, text_of(key), ARCHIVE_OBJECT_BYTES_MAX, NULL,
                           &bytes, &len);
    if (rc == 0)
        rc = archive_base_decode(bytes, len, &arena, &base, &w->p->trail);
    heap_free(NULL, bytes);
    if (rc == 0) {
        rc = add_base(w, &base, oldest);
        archive_base_dispose(&base);
    }
    arena_dispose(&arena);
    return rc < 0 ? trail_add(&w->p->trail, rc, "%s/%s", store_name(w->p->store), key) : 0;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;
    return *left < *right ? -1 : *left > *right;
}

/* ---- removing ---- */

static int list(struct pruning *w, const char *prefix,
                int (*visit)(void *arg, const struct store_object *object))
{
    const struct store_list_request request = {.prefix = text_of(prefix), .visit = visit, .arg = w};
    return store_list(w->p->store, &w->call, &request);
}

static int see_of_base(void *arg, const struct store_object *object)
{
    return delete (arg, object);
}

static int log_over(struct pruning *w)
{
    struct archive_prune *p = w->p;
    if (!w->log_any)
        return 0;
    if (p->log_count == w->log_capacity) {
        uint32_t capacity = 2 * w->log_capacity + 16;
        struct archive_need *logs =
            heap_realloc(NULL, p->logs, capacity * sizeof(struct archive_need));
        if (logs == NULL)
            return no_memory(w);
        p->logs = logs;
        w->log_capacity = capacity;
    }
    p->logs[p->log_count++] = (struct archive_need){w->log, w->log_first};
    return 0;
}

/* A log that a kept base does not name was begun later than that: all of it is needed. */
static bool segment_is_needed(const struct pruning *w, const struct archive_parsed *parsed)
{
    for (size_t i = 0; i < w->need_count; i++)
        if (uuid_equal(&w->needs[i].log, &parsed->log))
            return w->needs[i].named < w->p->kept_count || parsed->number >= w->needs[i].seq;
    return true;
}

static int see_wal(void *arg, const struct store_object *object)
{
    struct pruning *w = arg;
    struct archive_parsed parsed;
    if (archive_parse(object->key, &parsed) != ARCHIVE_WAL)
        return 0;
    if (!w->log_any || !uuid_equal(&w->log, &parsed.log)) {
        int rc = log_over(w);
        if (rc < 0)
            return rc;
        w->log = parsed.log;
        w->log_any = true;
        w->log_first = UINT64_MAX;
    }
    if (!segment_is_needed(w, &parsed))
        return delete (w, object);
    if (w->log_first == UINT64_MAX)
        w->log_first = parsed.number;
    return 0;
}

static int see_catalog(void *arg, const struct store_object *object)
{
    struct pruning *w = arg;
    struct archive_parsed parsed;
    if (archive_parse(object->key, &parsed) != ARCHIVE_CATALOG || parsed.number >= w->catalog_from)
        return 0;
    return delete (w, object);
}

static int see_file(void *arg, const struct store_object *object)
{
    struct pruning *w = arg;
    struct archive_parsed parsed;
    if (archive_parse(object->key, &parsed) != ARCHIVE_SEGMENT)
        return 0;
    uint64_t hash = hash_bytes(&w->key, object->key.ptr, object->key.len);
    if (w->file_count != 0 &&
        bsearch(&hash, w->files, w->file_count, sizeof(w->files[0]), by_value) != NULL)
        return 0;
    return delete (w, object);
}

static int remove_all(struct pruning *w)
{
    struct archive_prune *p = w->p;
    char key[ARCHIVE_KEY_SIZE];
    archive_base_key(key, &p->identity, p->gone);
    int rc = store_delete(p->store, &w->call, text_of(key));
    if (rc == 0) {
        FAILPOINT("archive.prune");
        archive_base_prefix(key, &p->identity, p->gone);
        rc = list(w, key, see_of_base);
    }
    if (rc == 0) {
        archive_wal_prefix(key, &p->identity, NULL);
        rc = list(w, key, see_wal);
    }
    if (rc == 0)
        rc = log_over(w);
    if (rc == 0) {
        archive_catalog_prefix(key, &p->identity);
        rc = list(w, key, see_catalog);
    }
    if (rc == 0) {
        archive_segments_prefix(key, &p->identity);
        rc = list(w, key, see_file);
    }
    return rc;
}

static void compute(struct job *job)
{
    struct archive_prune *p = container_of(job, struct archive_prune, job);
    struct pruning w = {.p = p, .call = {.cancel = &p->cancel, .trail = &p->trail}};
    memcpy(&w.key, p->identity.bytes, sizeof(w.key));
    p->rc = 0;
    for (uint32_t i = 0; p->rc == 0 && i < p->kept_count; i++)
        p->rc = read_base(&w, p->kept[i].name, i == 0);
    if (w.file_count > 1)
        qsort(w.files, w.file_count, sizeof(w.files[0]), by_value);
    if (p->rc == 0)
        p->rc = remove_all(&w);
    p->catalog_first = w.catalog_from;
    heap_free(NULL, w.files);
    heap_free(NULL, w.needs);
}

static void deliver(struct reactor *here, struct mail *mail)
{
    struct archive_prune *p = container_of(mail, struct archive_prune, job.back);
    (void)here;
    p->busy = false;
    p->done(p);
}

void archive_prune_start(struct engine_core *core, struct archive_prune *p)
{
    ASSERT(!p->busy);
    trail_reset(&p->trail);
    p->store = core->db->archive;
    p->objects = p->bytes = 0;
    p->logs = NULL;
    p->log_count = 0;
    p->busy = true;
    atomic_store_explicit(&p->cancel.asked, false, memory_order_relaxed);
    p->job.compute = compute;
    p->job.back.deliver = deliver;
    job_start(core->r, core->r->count + ARCHIVE_WORKER_BASES, &p->job);
}
