/* store.c: the door to every kind of place: checks requests, hands them on, and says in the trail
 * what was tried where. What several kinds need (sources of a put, errno, lists as arrays) is here
 * too. */
#include "store/store_internal.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum {
    ATTEMPTS_DEFAULT = 5,
    RETRY_FIRST_DEFAULT_MS = 100,
    RETRY_MAX_DEFAULT_MS = 10000,
    CONNECT_DEFAULT_MS = 10000,
    STALL_DEFAULT_MS = 30000,
    PART_DEFAULT_BYTES = 64 << 20,
    PAUSE_SLICE_MS = 20,
    CALL_ARENA_BYTES_MAX = 256 << 20, /* the names of a folder with a million files fit */
};

/* ---- opening ---- */

static const char *process_environment(const char *name)
{
    return getenv(name);
}

static void fill_defaults(struct store_options *o)
{
    if (o->attempts_max == 0)
        o->attempts_max = ATTEMPTS_DEFAULT;
    if (o->retry_first_ms == 0)
        o->retry_first_ms = RETRY_FIRST_DEFAULT_MS;
    if (o->retry_max_ms == 0)
        o->retry_max_ms = RETRY_MAX_DEFAULT_MS;
    if (o->connect_ms == 0)
        o->connect_ms = CONNECT_DEFAULT_MS;
    if (o->stall_ms == 0)
        o->stall_ms = STALL_DEFAULT_MS;
    if (o->part_bytes == 0)
        o->part_bytes = PART_DEFAULT_BYTES;
    if (o->environment == NULL)
        o->environment = process_environment;
}

static void name_store(struct store *store)
{
    const struct store_url *u = &store->url;
    static const char *const schemes[] = {"file", "s3", "gs", "az", "mem"};
    bool slash = u->account[0] != '\0';
    size_t prefix_len = strlen(u->prefix);
    if (u->scheme == STORE_FILE)
        (void)snprintf(store->name, sizeof(store->name), "%.*s", STORE_NAME_SIZE - 1, u->path);
    else
        (void)snprintf(store->name, sizeof(store->name), "%s://%s%s%s%s%.*s", schemes[u->scheme],
                       u->account, slash ? "/" : "", u->bucket, prefix_len != 0 ? "/" : "",
                       prefix_len != 0 ? (int)prefix_len - 1 : 0, u->prefix);
}

static int open_place(struct store *store, struct trail *trail)
{
    switch (store->url.scheme) {
    case STORE_FILE:
        return store_file_open(store, trail);
    case STORE_MEM:
        return store_mem_open(store, trail);
    case STORE_S3:
    case STORE_GS:
    case STORE_AZ:
        return store_http_open(store, trail);
    }
    return PDB_INTERNAL;
}

int store_open(struct pdb_text url, const struct store_options *options, struct trail *trail,
               struct store **store_out)
{
    struct store *store = heap_calloc(NULL, 1, sizeof(*store));
    if (store == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for a store");
    store->folder = -1;
    if (options != NULL)
        store->options = *options;
    fill_defaults(&store->options);
    int rc = store_url_parse(url, store->options.environment, trail, &store->url);
    if (rc != 0) {
        heap_free(NULL, store);
        return trail_add(trail, rc, "store URL");
    }
    name_store(store);
    if (pthread_mutex_init(&store->lock, NULL) != 0) {
        heap_free(NULL, store);
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no mutex for a store");
    }
    rc = open_place(store, trail);
    if (rc != 0) {
        (void)trail_add(trail, rc, "store %s", store->name);
        (void)pthread_mutex_destroy(&store->lock);
        heap_free(NULL, store);
        return rc;
    }
    *store_out = store;
    return 0;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    store->ops->close(store);
    ASSERT(store->heap.bytes_used == 0);
    (void)pthread_mutex_destroy(&store->lock);
    heap_free(NULL, store);
}

const char *store_name(const struct store *store)
{
    return store->name;
}

/* ---- what the kinds share ---- */

void store_arena_init(const struct store *store, struct arena *arena)
{
    arena_init(arena, CALL_ARENA_BYTES_MAX);
    arena->fail_at = store->arena_fail_at;
}

int store_call_check(const struct store_call *call)
{
    if (call->cancel != NULL && atomic_load_explicit(&call->cancel->asked, memory_order_relaxed))
        return trail_add(call->trail, PDB_CANCELLED, "cancelled");
    if (call->deadline_ns != 0 && clock_monotonic_ns() >= call->deadline_ns)
        return trail_add(call->trail, PDB_DEADLINE_EXCEEDED, "deadline exceeded");
    return 0;
}

int store_pause(const struct store_call *call, uint64_t ms)
{
    uint64_t until_ns = clock_monotonic_ns() + ms * 1000000;
    for (;;) {
        int rc = store_call_check(call);
        uint64_t now_ns = clock_monotonic_ns();
        if (rc != 0 || now_ns >= until_ns)
            return rc;
        uint64_t left_ns = until_ns - now_ns, slice_ns = PAUSE_SLICE_MS * 1000000u;
        struct timespec time = {0, (long)(left_ns < slice_ns ? left_ns : slice_ns)};
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
    }
}

int store_errno(struct trail *trail, int error, const char *what)
{
    int code = PDB_UNAVAILABLE; /* EIO and its like: the disk failed */
    if (error == ENOENT || error == ENOTDIR)
        code = PDB_NOT_FOUND;
    else if (error == EACCES || error == EPERM || error == EROFS || error == ELOOP)
        code = PDB_PERMISSION_DENIED;
    else if (error == ENOSPC || error == EDQUOT || error == EFBIG || error == ENOMEM ||
             error == EMFILE || error == ENFILE)
        code = PDB_RESOURCE_EXHAUSTED;
    else if (error == EISDIR || error == ENAMETOOLONG)
        code = PDB_INVALID_ARGUMENT;
    int http = error == ENOSPC || error == EDQUOT ? 507 : 0;
    return trail_add_http(trail, code, http, "%s: %s", what, strerror(error));
}

int store_source_open(const struct store_put_request *request, struct trail *trail,
                      struct store_source *source_out)
{
    struct store_source source = {request->bytes, -1, 0, request->len};
    struct stat st;
    if (request->path == NULL) {
        static const uint8_t nothing[1];
        if (source.bytes == NULL)
            source.bytes = nothing;
        *source_out = source;
        return 0;
    }
    source.bytes = NULL;
    source.offset = request->offset;
    source.file = open(request->path, O_RDONLY | O_CLOEXEC);
    if (source.file < 0)
        return store_errno(trail, errno, "source file");
    int rc = 0;
    if (fstat(source.file, &st) != 0)
        rc = store_errno(trail, errno, "source file");
    else if (!S_ISREG(st.st_mode))
        rc = trail_add(trail, PDB_INVALID_ARGUMENT, "source is no regular file");
    else if (request->offset > (uint64_t)st.st_size)
        rc = trail_add(trail, PDB_OUT_OF_RANGE, "source file: ends before the offset");
    else if (request->len == STORE_TO_END)
        source.len = (uint64_t)st.st_size - request->offset;
    else if (request->len > (uint64_t)st.st_size - request->offset)
        rc = trail_add(trail, PDB_OUT_OF_RANGE, "source file: shorter than the range");
    if (rc != 0) {
        (void)close(source.file);
        return rc;
    }
    *source_out = source;
    return 0;
}

void store_source_close(struct store_source *source)
{
    if (source->file >= 0)
        (void)close(source->file);
    source->file = -1;
}

int store_source_read(const struct store_source *source, uint64_t at, void *to, size_t size,
                      struct trail *trail)
{
    ASSERT(at <= source->len && size <= source->len - at);
    if (source->bytes != NULL) {
        memcpy(to, source->bytes + at, size);
        return 0;
    }
    for (size_t have = 0; have < size;) {
        ssize_t n = pread(source->file, (char *)to + have, size - have,
                          (off_t)(source->offset + at + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return store_errno(trail, errno, "source file");
        if (n == 0)
            return trail_add(trail, PDB_FAILED_PRECONDITION,
                             "source file became shorter while it was stored");
        have += (size_t)n;
    }
    return 0;
}

int store_write_all(int file, const void *bytes, size_t size, uint64_t offset)
{
    for (size_t have = 0; have < size;) {
        ssize_t n = pwrite(file, (const char *)bytes + have, size - have, (off_t)(offset + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        have += (size_t)n;
    }
    return 0;
}

/* ---- the destination of a get ---- */

int store_range(uint64_t size, const struct store_get_request *request, struct trail *trail,
                uint64_t *len_out)
{
    if (request->offset > size)
        return trail_add(trail, PDB_OUT_OF_RANGE, "the object ends before the offset");
    uint64_t left = size - request->offset;
    uint64_t len = request->len < left ? request->len : left;
    if (request->path == NULL && len > request->to_size)
        return trail_add(trail, PDB_OUT_OF_RANGE, "the object is larger than the buffer");
    *len_out = len;
    return 0;
}

int store_sink_open(const struct store_get_request *request, struct trail *trail,
                    struct store_sink *sink_out)
{
    struct store_sink sink = {
        .to = request->to, .room = request->to_size, .file = -1, .path = request->path};
    if (request->path != NULL) {
        sink.file = open(request->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
        if (sink.file < 0)
            return store_errno(trail, errno, "destination file");
    }
    *sink_out = sink;
    return 0;
}

bool store_sink_write(struct store_sink *sink, const void *bytes, size_t size)
{
    if (sink->file >= 0) {
        sink->error = store_write_all(sink->file, bytes, size, sink->len);
        if (sink->error != 0)
            return false;
    } else {
        sink->full = size > sink->room - sink->len;
        if (sink->full)
            return false;
        if (size != 0)
            memcpy(sink->to + sink->len, bytes, size);
    }
    sink->crc32c = crc32c(sink->crc32c, bytes, size);
    sink->len += size;
    return true;
}

int store_sink_failure(const struct store_sink *sink, struct trail *trail)
{
    if (sink->error != 0)
        return store_errno(trail, sink->error, "destination file");
    if (sink->full)
        return trail_add(trail, PDB_OUT_OF_RANGE, "the object is larger than the buffer");
    return 0;
}

int store_sink_close(struct store_sink *sink, int rc, struct trail *trail)
{
    if (sink->file < 0)
        return rc;
    if (rc == 0 && fdatasync(sink->file) != 0)
        rc = store_errno(trail, errno, "destination file");
    if (close(sink->file) != 0 && rc == 0)
        rc = store_errno(trail, errno, "destination file");
    if (rc != 0)
        (void)unlink(sink->path);
    sink->file = -1;
    return rc;
}

int store_verify(const struct store_info *info, const struct store_get_request *request,
                 const struct store_sink *sink, struct trail *trail)
{
    bool whole = request->offset == 0 && sink->len == info->size;
    if (whole && info->has_crc32c && info->crc32c != sink->crc32c)
        return trail_add(trail, PDB_DATA_LOSS, "checksum %08x, %08x was stored", sink->crc32c,
                         info->crc32c);
    return 0;
}

/* ---- the door ---- */

int store_check_key(struct pdb_text key, struct trail *trail)
{
    if (store_key_valid(key))
        return 0;
    return trail_add(trail, PDB_INVALID_ARGUMENT,
                     "key: at most %d bytes in parts of [A-Za-z0-9_.~+=,@:-] that begin with no "
                     "'.', joined by '/'",
                     STORE_KEY_MAX);
}

static const struct store_call no_call;

/* Keys with the store's prefix must fit too. */
static int begin(const struct store *store, const struct store_call *call, struct pdb_text key)
{
    int rc = store_check_key(key, call->trail);
    if (rc == 0 && key.len + strlen(store->url.prefix) > STORE_KEY_MAX)
        rc = trail_add(call->trail, PDB_INVALID_ARGUMENT, "key: too long with the store's prefix");
    return rc == 0 ? store_call_check(call) : rc;
}

static int finish(const struct store *store, const struct store_call *call, int rc,
                  const char *what, struct pdb_text key)
{
    int len = key.len < STORE_KEY_MAX ? (int)key.len : STORE_KEY_MAX;
    if (rc < 0)
        (void)trail_add(call->trail, rc, "%s: %s '%.*s'", store->name, what, len,
                        key.len != 0 ? key.ptr : "");
    return rc;
}

int store_put(struct store *store, const struct store_call *call,
              const struct store_put_request *request, struct store_info *info_out)
{
    struct store_info info = {0};
    call = call != NULL ? call : &no_call;
    int rc = begin(store, call, request->key);
    if (rc == 0 && request->condition == STORE_IF_MATCH &&
        (request->etag == NULL || request->etag[0] == '\0'))
        rc = trail_add(call->trail, PDB_INVALID_ARGUMENT, "a condition without an etag");
    if (rc == 0)
        rc = store->ops->put(store, call, request, &info);
    if (rc == 0 && info_out != NULL)
        *info_out = info;
    return finish(store, call, rc, "put", request->key);
}

int store_get(struct store *store, const struct store_call *call,
              const struct store_get_request *request, uint64_t *len_out,
              struct store_info *info_out)
{
    struct store_info info = {0};
    uint64_t len = 0;
    call = call != NULL ? call : &no_call;
    int rc = begin(store, call, request->key);
    if (rc == 0)
        rc = store->ops->get(store, call, request, &len, &info);
    if (rc == 0)
        *len_out = len;
    if (rc == 0 && info_out != NULL)
        *info_out = info;
    return finish(store, call, rc, "get", request->key);
}

int store_get_all(struct store *store, const struct store_call *call, struct pdb_text key,
                  size_t size_max, struct heap *heap, void **bytes_out, size_t *len_out)
{
    struct store_info info;
    uint64_t len = 0;
    struct trail *trail = call != NULL ? call->trail : NULL;
    int rc = store_head(store, call, key, &info);
    if (rc != 0)
        return rc;
    if (info.size > size_max)
        return trail_add(trail, PDB_OUT_OF_RANGE, "%s: get '%.*s': larger than %zu bytes",
                         store->name, TEXT_ARG(key), size_max);
    char *bytes = heap_alloc(heap, (size_t)info.size + 1);
    if (bytes == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for '%.*s'", TEXT_ARG(key));
    /* One that grew in between does not fit, and is PDB_OUT_OF_RANGE too. */
    struct store_get_request request = {
        .key = key, .len = STORE_TO_END, .to = bytes, .to_size = info.size};
    rc = store_get(store, call, &request, &len, NULL);
    if (rc != 0) {
        heap_free(heap, bytes);
        return rc;
    }
    bytes[len] = '\0';
    *bytes_out = bytes;
    *len_out = (size_t)len;
    return 0;
}

int store_head(struct store *store, const struct store_call *call, struct pdb_text key,
               struct store_info *info_out)
{
    struct store_info info = {0};
    call = call != NULL ? call : &no_call;
    int rc = begin(store, call, key);
    if (rc == 0)
        rc = store->ops->head(store, call, key, &info);
    if (rc == 0)
        *info_out = info;
    return finish(store, call, rc, "head", key);
}

int store_delete(struct store *store, const struct store_call *call, struct pdb_text key)
{
    call = call != NULL ? call : &no_call;
    int rc = begin(store, call, key);
    if (rc == 0)
        rc = store->ops->remove(store, call, key);
    return finish(store, call, rc, "delete", key);
}

/* ---- lists ---- */

/* Between a kind's list and its visitor: what the visitor returns is not the store's error. */
struct visit_gate {
    const struct store_list_request *request;
    int answer;
};

static int visit_through(void *arg, const struct store_object *object)
{
    struct visit_gate *gate = arg;
    gate->answer = gate->request->visit(gate->request->arg, object);
    return gate->answer;
}

static bool prefix_valid(struct pdb_text prefix)
{
    /* A prefix is the beginning of a key: completed by a letter it must be one. */
    char text[STORE_KEY_MAX + 1];
    if (prefix.len == 0)
        return true;
    if (prefix.len >= STORE_KEY_MAX)
        return false;
    memcpy(text, prefix.ptr, prefix.len);
    text[prefix.len] = 'a';
    return store_key_valid((struct pdb_text){text, prefix.len + 1});
}

int store_list(struct store *store, const struct store_call *call,
               const struct store_list_request *request)
{
    call = call != NULL ? call : &no_call;
    struct visit_gate gate = {request, 0};
    struct store_list_request inner = *request;
    inner.visit = visit_through;
    inner.arg = &gate;
    if (inner.page_max == 0 || inner.page_max > 1000)
        inner.page_max = 1000;
    int rc = store_call_check(call);
    if (rc == 0 && (!prefix_valid(request->prefix) || request->after.len > STORE_KEY_MAX ||
                    request->prefix.len + strlen(store->url.prefix) > STORE_KEY_MAX))
        rc = trail_add(call->trail, PDB_INVALID_ARGUMENT, "no key begins like this");
    if (rc == 0)
        rc = store->ops->list(store, call, &inner);
    if (gate.answer != 0)
        return gate.answer;
    return finish(store, call, rc, "list", request->prefix);
}

struct collected {
    struct arena *arena;
    struct store_object *objects;
    size_t count, capacity, count_max;
};

static int collect(void *arg, const struct store_object *object)
{
    struct collected *c = arg;
    if (c->count == c->count_max)
        return PDB_RESOURCE_EXHAUSTED;
    if (c->count == c->capacity) {
        size_t capacity = c->capacity != 0 ? c->capacity * 2 : 64;
        struct store_object *grown = arena_grow(c->arena, c->objects, c->capacity * sizeof(*grown),
                                                capacity * sizeof(*grown));
        if (grown == NULL)
            return PDB_RESOURCE_EXHAUSTED;
        c->objects = grown;
        c->capacity = capacity;
    }
    struct store_object kept = *object;
    kept.key = arena_copy_text(c->arena, object->key.ptr, object->key.len);
    if (kept.key.ptr == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    c->objects[c->count++] = kept;
    return 0;
}

int store_list_all(struct store *store, const struct store_call *call, struct pdb_text prefix,
                   size_t count_max, struct arena *arena, struct store_object **objects_out,
                   size_t *count_out)
{
    struct collected c = {.arena = arena, .count_max = count_max};
    struct trail *trail = call != NULL ? call->trail : NULL;
    struct store_list_request request = {.prefix = prefix, .visit = collect, .arg = &c};
    int rc = store_list(store, call, &request);
    if (rc == PDB_RESOURCE_EXHAUSTED && (trail == NULL || trail->code == 0))
        (void)trail_add(trail, rc, "%s: list '%.*s': more than %zu objects, or no memory",
                        store->name, TEXT_ARG(prefix), count_max);
    if (rc != 0)
        return rc;
    *objects_out = c.objects;
    *count_out = c.count;
    return 0;
}
