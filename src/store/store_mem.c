/* store_mem.c: objects in memory, for tests and for trying things out: the same contract as the
 * other kinds, nothing survives store_close. A sorted array of objects under the store's lock;
 * sizes are those of tests, so inserting by moving pointers is enough. */
#include "store/store_internal.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/crc32c.h"

#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

struct object {
    struct store_info info;
    struct pdb_text key; /* lies behind the struct */
    uint8_t *bytes;
};

struct store_memory {
    struct object **objects; /* by key */
    size_t count, capacity;
    uint64_t changes; /* numbers the etags */
};

int store_mem_open(struct store *store, struct trail *trail)
{
    store->ops = &store_mem_ops;
    store->heap.bytes_max = store->options.memory_bytes_max;
    store->memory = heap_calloc(&store->heap, 1, sizeof(*store->memory));
    if (store->memory == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    return 0;
}

static void object_free(struct store *store, struct object *object)
{
    if (object != NULL)
        heap_free(&store->heap, object->bytes);
    heap_free(&store->heap, object);
}

static void close_memory(struct store *store)
{
    struct store_memory *m = store->memory;
    for (size_t i = 0; i < m->count; i++)
        object_free(store, m->objects[i]);
    heap_free(&store->heap, m->objects);
    heap_free(&store->heap, m);
}

/* The first object whose key is not less; `*found_out`: it is this key's. */
static size_t find(const struct store_memory *m, struct pdb_text key, bool *found_out)
{
    size_t low = 0, high = m->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (text_compare(m->objects[middle]->key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *found_out = low < m->count && text_equal(m->objects[low]->key, key);
    return low;
}

static int object_new(struct store *store, const struct store_call *call, struct pdb_text key,
                      const struct store_source *source, struct object **object_out)
{
    struct object *object = NULL;
    size_t size = (size_t)source->len;
    object = heap_calloc(&store->heap, 1, sizeof(*object) + key.len);
    if (object != NULL)
        object->bytes = heap_alloc(&store->heap, size);
    if (object == NULL || object->bytes == NULL) {
        object_free(store, object);
        return trail_add(call->trail, PDB_RESOURCE_EXHAUSTED, "no memory for the object");
    }
    char *key_copy = (char *)(object + 1);
    memcpy(key_copy, key.ptr, key.len);
    object->key = (struct pdb_text){key_copy, key.len};
    int rc = store_source_read(source, 0, object->bytes, size, call->trail);
    if (rc != 0) {
        object_free(store, object);
        return rc;
    }
    object->info = (struct store_info){.size = size,
                                       .modified_us = clock_realtime_us(),
                                       .crc32c = crc32c(0, object->bytes, size),
                                       .has_crc32c = true};
    *object_out = object;
    return 0;
}

static int make_room(struct store *store, const struct store_call *call)
{
    struct store_memory *m = store->memory;
    if (m->count < m->capacity)
        return 0;
    size_t capacity = m->capacity != 0 ? m->capacity * 2 : 16;
    struct object **grown = heap_realloc(&store->heap, m->objects, capacity * sizeof(*grown));
    if (grown == NULL)
        return trail_add(call->trail, PDB_RESOURCE_EXHAUSTED, "no memory for one more object");
    m->objects = grown;
    m->capacity = capacity;
    return 0;
}

/* Under the lock: condition, then everything that may fail, then the change. */
static int put_locked(struct store *store, const struct store_call *call,
                      const struct store_put_request *request, const struct store_source *source,
                      struct store_info *info_out)
{
    struct store_memory *m = store->memory;
    struct object *object = NULL;
    bool found = false;
    size_t at = find(m, request->key, &found);
    if (request->condition == STORE_IF_ABSENT && found)
        return trail_add(call->trail, PDB_ALREADY_EXISTS, "exists");
    if (request->condition == STORE_IF_MATCH &&
        (!found || strcmp(m->objects[at]->info.etag, request->etag) != 0))
        return trail_add(call->trail, PDB_FAILED_PRECONDITION, "the object has another etag");
    int rc = make_room(store, call);
    if (rc == 0)
        rc = object_new(store, call, request->key, source, &object);
    if (rc != 0)
        return rc;
    ASSERT(object != NULL);
    (void)snprintf(object->info.etag, sizeof(object->info.etag), "m%llu",
                   (unsigned long long)++m->changes);
    if (found) {
        object_free(store, m->objects[at]);
    } else {
        memmove(m->objects + at + 1, m->objects + at, (m->count - at) * sizeof(*m->objects));
        m->count++;
    }
    m->objects[at] = object;
    *info_out = object->info;
    return 0;
}

static int put(struct store *store, const struct store_call *call,
               const struct store_put_request *request, struct store_info *info_out)
{
    struct store_source source;
    int rc = store_source_open(request, call->trail, &source);
    if (rc != 0)
        return rc;
    (void)pthread_mutex_lock(&store->lock);
    rc = put_locked(store, call, request, &source, info_out);
    (void)pthread_mutex_unlock(&store->lock);
    store_source_close(&source);
    return rc;
}

static int get_locked(struct store *store, const struct store_call *call,
                      const struct store_get_request *request, uint64_t *len_out,
                      struct store_info *info_out)
{
    struct store_sink sink;
    bool found = false;
    size_t at = find(store->memory, request->key, &found);
    if (!found)
        return trail_add(call->trail, PDB_NOT_FOUND, "no such object");
    const struct object *object = store->memory->objects[at];
    int rc = store_range(object->info.size, request, call->trail, len_out);
    if (rc == 0)
        rc = store_sink_open(request, call->trail, &sink);
    if (rc != 0)
        return rc;
    if (!store_sink_write(&sink, object->bytes + request->offset, (size_t)*len_out))
        rc = store_sink_failure(&sink, call->trail);
    if (rc == 0)
        rc = store_verify(&object->info, request, &sink, call->trail);
    *info_out = object->info;
    return store_sink_close(&sink, rc, call->trail);
}

static int get(struct store *store, const struct store_call *call,
               const struct store_get_request *request, uint64_t *len_out,
               struct store_info *info_out)
{
    (void)pthread_mutex_lock(&store->lock);
    int rc = get_locked(store, call, request, len_out, info_out);
    (void)pthread_mutex_unlock(&store->lock);
    return rc;
}

static int head(struct store *store, const struct store_call *call, struct pdb_text key,
                struct store_info *info_out)
{
    bool found = false;
    (void)pthread_mutex_lock(&store->lock);
    size_t at = find(store->memory, key, &found);
    if (found)
        *info_out = store->memory->objects[at]->info;
    (void)pthread_mutex_unlock(&store->lock);
    return found ? 0 : trail_add(call->trail, PDB_NOT_FOUND, "no such object");
}

static int remove_object(struct store *store, const struct store_call *call, struct pdb_text key)
{
    struct store_memory *m = store->memory;
    bool found = false;
    (void)call;
    (void)pthread_mutex_lock(&store->lock);
    size_t at = find(m, key, &found);
    if (found) {
        object_free(store, m->objects[at]);
        m->count--;
        memmove(m->objects + at, m->objects + at + 1, (m->count - at) * sizeof(*m->objects));
    }
    (void)pthread_mutex_unlock(&store->lock);
    return 0;
}

/* The next object to show after `last`; false at the end. Copies it, because the visitor runs
 * without the lock. */
static bool next_object(struct store *store, const struct store_list_request *request,
                        struct pdb_text last, char key_out[STORE_KEY_MAX],
                        struct store_object *object_out)
{
    struct store_memory *m = store->memory;
    bool found = false;
    size_t at = find(m, last, &found);
    at += found ? 1 : 0;
    if (at < m->count && text_compare(m->objects[at]->key, request->prefix) < 0)
        at = find(m, request->prefix, &found);
    if (at >= m->count || !text_starts_with(m->objects[at]->key, request->prefix))
        return false;
    const struct object *object = m->objects[at];
    memcpy(key_out, object->key.ptr, object->key.len);
    *object_out = (struct store_object){{key_out, object->key.len}, object->info};
    object_out->info.has_crc32c = false;
    object_out->info.crc32c = 0;
    return true;
}

static int list(struct store *store, const struct store_call *call,
                const struct store_list_request *request)
{
    char key[STORE_KEY_MAX], last_key[STORE_KEY_MAX];
    struct pdb_text last = request->after;
    struct store_object object;
    for (;;) {
        (void)pthread_mutex_lock(&store->lock);
        bool more = next_object(store, request, last, key, &object);
        (void)pthread_mutex_unlock(&store->lock);
        int rc = more ? store_call_check(call) : 0;
        if (rc == 0 && more)
            rc = request->visit(request->arg, &object);
        if (rc != 0 || !more)
            return rc;
        memcpy(last_key, key, object.key.len);
        last = (struct pdb_text){last_key, object.key.len};
    }
}

const struct store_ops store_mem_ops = {put, get, head, remove_object, list, close_memory};
