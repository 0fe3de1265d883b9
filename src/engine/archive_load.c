/* archive_load.c: at the start, what the store already has: whose archive it is, STATE, and what
 * was put behind it before a crash. One job of an outside worker, blocking, on memory of its own.
 *
 * STATE is written after what it tells, so there may be more: the next segments of each log and the
 * next catalogs are looked for, by their names in order, as far as they go without a gap. Of these
 * only the names are known: what is still here is compared before it counts. */
#include "engine/archive_internal.h"

#include "base/assert.h"
#include "base/log.h"

#include <string.h>

#include "base/no_libc_heap.h"

enum { BASES_MAX = 100000 };

static int decode_identity(struct archive_load *load, const void *bytes, size_t len)
{
    struct archive_identity found;
    int rc = archive_identity_decode(bytes, len, &found, &load->trail);
    if (rc == 0 && (!uuid_equal(&found.uuid, &load->identity.uuid) ||
                    found.created_at_us != load->identity.created_at_us))
        rc = trail_add(&load->trail, PDB_DATA_LOSS, "it is another data directory's");
    return rc;
}

static int put_identity(struct archive_load *load, const struct store_call *call, const char *key)
{
    struct buffer bytes;
    buffer_init_heap(&bytes, NULL, 0);
    archive_identity_encode(&bytes, &load->identity);
    const struct store_put_request request = {
        .key = text_of(key), .bytes = bytes.ptr, .len = bytes.len, .condition = STORE_IF_ABSENT};
    int rc = bytes.failed ? trail_add(&load->trail, PDB_RESOURCE_EXHAUSTED, "out of memory")
                          : store_put(load->store, call, &request, NULL);
    buffer_dispose(&bytes);
    return rc;
}

static int load_identity(struct archive_load *load, const struct store_call *call)
{
    char key[ARCHIVE_KEY_SIZE];
    void *bytes = NULL;
    size_t len = 0;
    archive_identity_key(key, &load->identity.uuid);
    int rc = store_get_all(load->store, call, text_of(key), ARCHIVE_OBJECT_BYTES_MAX, NULL, &bytes,
                           &len);
    if (rc == PDB_NOT_FOUND) {
        trail_reset(&load->trail);
        return put_identity(load, call, key);
    }
    if (rc == 0)
        rc = decode_identity(load, bytes, len);
    heap_free(NULL, bytes);
    return rc < 0 ? trail_add(&load->trail, rc, "%s/%s", store_name(load->store), key) : 0;
}

static int load_state(struct archive_load *load, const struct store_call *call)
{
    char key[ARCHIVE_KEY_SIZE];
    void *bytes = NULL;
    size_t len = 0;
    archive_state_key(key, &load->identity.uuid);
    int rc = store_get_all(load->store, call, text_of(key), ARCHIVE_OBJECT_BYTES_MAX, NULL, &bytes,
                           &len);
    if (rc == PDB_NOT_FOUND) {
        trail_reset(&load->trail);
        return 0;
    }
    if (rc == 0)
        rc = archive_state_decode(bytes, len, &load->arena, &load->state, &load->trail);
    heap_free(NULL, bytes);
    load->found = rc == 0;
    return rc < 0 ? trail_add(&load->trail, rc, "%s/%s", store_name(load->store), key) : 0;
}

/* ---- what lies behind STATE ---- */

struct behind {
    enum archive_object kind;
    uint64_t next;
};

static int see_behind(void *arg, const struct store_object *object)
{
    struct behind *behind = arg;
    struct archive_parsed parsed;
    if (archive_parse(object->key, &parsed) != behind->kind)
        return 0;
    if (parsed.number != behind->next)
        return 1; /* a gap: nothing that is known to be whole */
    behind->next++;
    return 0;
}

static int look_behind(struct archive_load *load, const struct store_call *call, const char *prefix,
                       const char *after, struct behind *behind)
{
    const struct store_list_request request = {
        .prefix = text_of(prefix), .after = text_of(after), .visit = see_behind, .arg = behind};
    int rc = store_list(load->store, call, &request);
    return rc < 0 ? rc : 0;
}

static int load_logs(struct archive_load *load, const struct store_call *call)
{
    char prefix[ARCHIVE_KEY_SIZE], after[ARCHIVE_KEY_SIZE];
    int rc = 0;
    load->behind = arena_array(&load->arena, uint64_t, load->state.log_count + (size_t)1);
    if (load->behind == NULL)
        return trail_add(&load->trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
    for (uint32_t i = 0; rc == 0 && i < load->state.log_count; i++) {
        const struct archive_log *log = &load->state.logs[i];
        struct behind behind = {ARCHIVE_WAL, log->next_seq};
        archive_wal_prefix(prefix, &load->identity.uuid, &log->uuid);
        archive_wal_key(after, &load->identity.uuid, &log->uuid, log->next_seq - 1);
        rc = look_behind(load, call, prefix, after, &behind);
        load->behind[i] = behind.next;
    }
    load->catalog_behind = load->state.catalog_next;
    if (rc < 0 || load->state.catalog_next == 0)
        return rc;
    struct behind behind = {ARCHIVE_CATALOG, load->state.catalog_next};
    archive_catalog_prefix(prefix, &load->identity.uuid);
    archive_catalog_key(after, &load->identity.uuid, load->state.catalog_next - 1);
    rc = look_behind(load, call, prefix, after, &behind);
    load->catalog_behind = behind.next;
    return rc;
}

/* ---- bases ---- */

static int note_base(struct archive_load *load, const struct store_call *call, const char *name)
{
    char key[ARCHIVE_KEY_SIZE];
    void *bytes = NULL;
    size_t len = 0;
    struct arena scratch = {0};
    struct archive_base base;
    archive_base_key(key, &load->identity.uuid, name);
    int rc = store_get_all(load->store, call, text_of(key), ARCHIVE_OBJECT_BYTES_MAX, NULL, &bytes,
                           &len);
    if (rc == 0)
        rc = archive_base_decode(bytes, len, &scratch, &base, &load->trail);
    if (rc == 0) {
        struct archive_base_note *note = &load->bases[load->base_count++];
        memcpy(note->name, base.name, sizeof(note->name));
        note->begun_us = base.begun_us;
        note->ended_us = base.ended_us;
        archive_base_dispose(&base);
    }
    heap_free(NULL, bytes);
    arena_dispose(&scratch);
    if (rc == PDB_DATA_LOSS) { /* it serves nobody; a new one will */
        LOG_ERROR("archive", "%s/%s is damaged and not counted: %s", store_name(load->store), key,
                  load->trail.text);
        trail_reset(&load->trail);
        return 0;
    }
    return rc;
}

static int load_bases(struct archive_load *load, const struct store_call *call)
{
    char prefix[ARCHIVE_KEY_SIZE];
    struct store_object *objects = NULL;
    size_t count = 0;
    struct arena listed = {0};
    archive_base_prefix(prefix, &load->identity.uuid, NULL);
    int rc = store_list_all(load->store, call, text_of(prefix), BASES_MAX * (size_t)100, &listed,
                            &objects, &count);
    size_t bases = 0;
    struct archive_parsed parsed;
    for (size_t i = 0; rc == 0 && i < count; i++)
        bases += archive_parse(objects[i].key, &parsed) == ARCHIVE_BASE;
    load->bases = arena_array(&load->arena, struct archive_base_note, bases + 1);
    if (rc == 0 && load->bases == NULL)
        rc = trail_add(&load->trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
    for (size_t i = 0; rc == 0 && i < count; i++)
        if (archive_parse(objects[i].key, &parsed) == ARCHIVE_BASE)
            rc = note_base(load, call, parsed.name);
    arena_dispose(&listed);
    return rc;
}

/* ---- the job ---- */

static void compute(struct job *job)
{
    struct archive_load *load = container_of(job, struct archive_load, job);
    const struct store_call call = {.cancel = &load->cancel, .trail = &load->trail};
    load->rc = load_identity(load, &call);
    if (load->rc == 0)
        load->rc = load_state(load, &call);
    if (load->rc == 0)
        load->rc = load_logs(load, &call);
    if (load->rc == 0)
        load->rc = load_bases(load, &call);
}

static void deliver(struct reactor *here, struct mail *mail)
{
    struct archive_load *load = container_of(mail, struct archive_load, job.back);
    (void)here;
    load->busy = false;
    load->done(load);
}

void archive_load_start(struct engine_core *core, struct archive_load *load)
{
    ASSERT(!load->busy);
    trail_reset(&load->trail);
    arena_reset(&load->arena);
    load->store = core->db->archive;
    load->state = (struct archive_state){0};
    load->base_count = 0;
    load->found = false;
    load->busy = true;
    atomic_store_explicit(&load->cancel.asked, false, memory_order_relaxed);
    load->job.compute = compute;
    load->job.back.deliver = deliver;
    job_start(core->r, core->r->count + ARCHIVE_WORKER_LOGS, &load->job);
}
