/* store_file.c: a folder as an object store.
 *
 * A key is a path below the folder. A put writes `.tmp-<random>` beside its destination, syncs it,
 * and publishes it by one atomic rename:
 *
 *     STORE_ALWAYS     rename                              under the lock
 *     STORE_IF_ABSENT  rename without replacing (or link, where the filesystem has no such rename)
 *     STORE_IF_MATCH   compare, then rename                under the lock
 *
 * then it syncs the directory, and every new directory's parent before. The lock is flock on
 * `.lock` in the folder, held only around compare and rename, so that conditions hold between
 * processes too; a condition of absence needs none. Names that begin with '.' are no keys: a crash
 * leaves at most a temporary file that no list shows.
 *
 * The etag is made of inode, time of change and size. The checksum of an object lies in the
 * extended attribute user.proximadb.crc32c where the filesystem has those; it is verified when a
 * whole object is read, so rot in a backup is found.
 *
 * Paths are walked one part at a time with O_NOFOLLOW: no symlink leads out of the folder. A key
 * cannot be a folder of other keys at the same time. Empty folders stay after deletes; lists do not
 * show them. Rejected: O_TMPFILE, which leaves nothing after a crash but which overlays and network
 * filesystems do not have. */
#include "store/store_internal.h"

#include "base/assert.h"
#include "base/crc32c.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

#define CRC_ATTRIBUTE "user.proximadb.crc32c"
enum { CHUNK_BYTES = 1 << 20, TEMP_NAME_SIZE = 32, CRC_DIGITS = 8, LOCK_POLL_MS = 5 };

int store_file_open(struct store *store, struct trail *trail)
{
    store->ops = &store_file_ops;
    store->folder = open(store->url.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return store->folder >= 0 ? 0 : store_errno(trail, errno, "folder");
}

static void close_folder(struct store *store)
{
    (void)close(store->folder);
}

/* ---- paths ---- */

/* The folder that holds a key's last part. */
struct place {
    int folder;
    char leaf[STORE_PART_MAX + 1];
};

static int sync_folder(int folder, struct trail *trail)
{
    return fsync(folder) == 0 ? 0 : store_errno(trail, errno, "sync of a folder");
}

/* One part down. `folder` is closed in any case. */
static int descend(int folder, const char *part, bool create, struct trail *trail, int *folder_out)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int next = openat(folder, part, flags), rc = 0;
    if (next < 0 && errno == ENOENT && create) {
        if (mkdirat(folder, part, 0750) != 0 && errno != EEXIST)
            rc = store_errno(trail, errno, "new folder");
        else
            rc = sync_folder(folder, trail); /* also when another one made it just now */
        next = rc == 0 ? openat(folder, part, flags) : -1;
    }
    if (next < 0 && rc == 0)
        rc = store_errno(trail, errno, "folder of the key");
    (void)close(folder);
    if (rc == 0)
        *folder_out = next;
    return rc;
}

/* Closed with close(place->folder). */
static int place_open(struct store *store, struct pdb_text key, bool create, struct trail *trail,
                      struct place *place_out)
{
    int folder = fcntl(store->folder, F_DUPFD_CLOEXEC, 0);
    if (folder < 0)
        return store_errno(trail, errno, "folder");
    const char *at = key.ptr, *end = key.ptr + key.len;
    for (;;) {
        const char *slash = memchr(at, '/', (size_t)(end - at));
        size_t len = (size_t)((slash != NULL ? slash : end) - at);
        ASSERT(len != 0 && len <= STORE_PART_MAX); /* the key was checked */
        memcpy(place_out->leaf, at, len);
        place_out->leaf[len] = '\0';
        if (slash == NULL)
            break;
        int rc = descend(folder, place_out->leaf, create, trail, &folder);
        if (rc != 0)
            return rc;
        at = slash + 1;
    }
    place_out->folder = folder;
    return 0;
}

static void info_of(const struct stat *st, struct store_info *info)
{
    info->size = (uint64_t)st->st_size;
    info->modified_us = (int64_t)st->st_mtim.tv_sec * 1000000 + st->st_mtim.tv_nsec / 1000;
    uint64_t mtime_ns = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
    (void)snprintf(info->etag, sizeof(info->etag), "%llx-%llx-%llx", (unsigned long long)st->st_ino,
                   (unsigned long long)mtime_ns, (unsigned long long)st->st_size);
}

static void read_crc(int file, struct store_info *info)
{
    char text[CRC_DIGITS + 1] = {0};
    char *end = NULL;
    if (fgetxattr(file, CRC_ATTRIBUTE, text, CRC_DIGITS) != CRC_DIGITS)
        return;
    unsigned long crc = strtoul(text, &end, 16);
    info->has_crc32c = end == text + CRC_DIGITS;
    info->crc32c = (uint32_t)crc;
}

/* Opens an object; what is there but no regular file is none. */
static int open_object(struct store *store, struct pdb_text key, struct trail *trail,
                       struct store_info *info_out, int *file_out)
{
    struct place place = {.folder = -1};
    struct stat st = {0};
    int rc = place_open(store, key, false, trail, &place);
    if (rc != 0)
        return rc;
    int file = openat(place.folder, place.leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file < 0 || fstat(file, &st) != 0)
        rc = store_errno(trail, errno, "file");
    else if (!S_ISREG(st.st_mode))
        rc = trail_add(trail, PDB_NOT_FOUND, "no regular file");
    (void)close(place.folder);
    if (rc != 0) {
        if (file >= 0)
            (void)close(file);
        return rc;
    }
    info_of(&st, info_out);
    read_crc(file, info_out);
    *file_out = file;
    return 0;
}

/* ---- put ---- */

static int copy_source(const struct store_source *source, int file, const struct store_call *call,
                       uint32_t *crc_out)
{
    size_t room = source->len < CHUNK_BYTES ? (size_t)source->len : CHUNK_BYTES;
    uint8_t *chunk = heap_alloc(NULL, room);
    if (chunk == NULL)
        return trail_add(call->trail, PDB_RESOURCE_EXHAUSTED, "no memory to copy with");
    uint32_t crc = 0;
    int rc = 0;
    for (uint64_t at = 0; at != source->len && rc == 0;) {
        size_t size = source->len - at < room ? (size_t)(source->len - at) : room;
        rc = store_call_check(call);
        if (rc == 0)
            rc = store_source_read(source, at, chunk, size, call->trail);
        int error = rc == 0 ? store_write_all(file, chunk, size, at) : 0;
        if (error != 0)
            rc = store_errno(call->trail, error, "write");
        crc = crc32c(crc, chunk, size);
        at += size;
    }
    heap_free(NULL, chunk);
    *crc_out = crc;
    return rc;
}

/* A complete, synced temporary file in the folder. */
static int write_temp(int folder, const char *name, const struct store_source *source,
                      const struct store_call *call, struct store_info *info_out)
{
    char crc_text[CRC_DIGITS + 1];
    struct stat st = {0};
    int file = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (file < 0)
        return store_errno(call->trail, errno, "temporary file");
    int rc = copy_source(source, file, call, &info_out->crc32c);
    if (rc == 0) {
        (void)snprintf(crc_text, sizeof(crc_text), "%08x", info_out->crc32c);
        /* Without attributes the object only loses this check. */
        (void)fsetxattr(file, CRC_ATTRIBUTE, crc_text, CRC_DIGITS, 0);
        info_out->has_crc32c = true;
        if (fsync(file) != 0 || fstat(file, &st) != 0)
            rc = store_errno(call->trail, errno, "sync");
    }
    if (close(file) != 0 && rc == 0)
        rc = store_errno(call->trail, errno, "close");
    if (rc == 0)
        info_of(&st, info_out);
    return rc;
}

/* Polls, because a wait inside flock could not be cancelled, and the other one may be a process
 * that hangs. */
static int lock_folder(struct store *store, const struct store_call *call, int *lock_out)
{
    int lock = openat(store->folder, ".lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (lock < 0)
        return store_errno(call->trail, errno, ".lock");
    int rc = 0;
    while (rc == 0 && flock(lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            rc = store_pause(call, LOCK_POLL_MS);
        else if (errno != EINTR)
            rc = store_errno(call->trail, errno, ".lock");
    }
    if (rc == 0)
        *lock_out = lock;
    else
        (void)close(lock);
    return rc;
}

static int publish_absent(const struct place *place, const char *temp, struct trail *trail)
{
    int folder = place->folder;
    if (renameat2(folder, temp, folder, place->leaf, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno == EINVAL || errno == ENOSYS) { /* a filesystem without it, NFS for one */
        if (linkat(folder, temp, folder, place->leaf, 0) == 0) {
            (void)unlinkat(folder, temp, 0);
            return 0;
        }
    }
    if (errno == EEXIST)
        return trail_add(trail, PDB_ALREADY_EXISTS, "exists");
    return store_errno(trail, errno, "rename");
}

/* Under the lock. */
static int publish_over(const struct place *place, const char *temp,
                        const struct store_put_request *request, struct trail *trail)
{
    struct store_info there = {0};
    struct stat st;
    if (request->condition == STORE_IF_MATCH) {
        int missing = fstatat(place->folder, place->leaf, &st, AT_SYMLINK_NOFOLLOW);
        if (missing != 0 && errno != ENOENT)
            return store_errno(trail, errno, "file");
        if (missing == 0)
            info_of(&st, &there);
        if (missing != 0 || strcmp(there.etag, request->etag) != 0)
            return trail_add(trail, PDB_FAILED_PRECONDITION, "the object has another etag");
    }
    if (renameat(place->folder, temp, place->folder, place->leaf) != 0)
        return store_errno(trail, errno, "rename");
    return 0;
}

static int publish(struct store *store, const struct store_call *call, const struct place *place,
                   const char *temp, const struct store_put_request *request)
{
    struct trail *trail = call->trail;
    int lock = -1, rc = 0;
    if (request->condition == STORE_IF_ABSENT) {
        rc = publish_absent(place, temp, trail);
    } else {
        rc = lock_folder(store, call, &lock);
        if (rc == 0) {
            rc = publish_over(place, temp, request, trail);
            (void)close(lock);
        }
    }
    if (rc == 0 && fsync(place->folder) != 0)
        return store_errno(trail, errno, "sync of the folder: outcome unknown");
    if (rc != 0)
        (void)unlinkat(place->folder, temp, 0);
    return rc;
}

static int name_temp(char name_out[TEMP_NAME_SIZE], struct trail *trail)
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return store_errno(trail, errno, "random bytes");
    (void)snprintf(name_out, TEMP_NAME_SIZE, ".tmp-%016llx", (unsigned long long)random);
    return 0;
}

static int put(struct store *store, const struct store_call *call,
               const struct store_put_request *request, struct store_info *info_out)
{
    struct store_source source;
    struct place place = {.folder = -1};
    char temp[TEMP_NAME_SIZE];
    int rc = store_source_open(request, call->trail, &source);
    if (rc != 0)
        return rc;
    rc = place_open(store, request->key, true, call->trail, &place);
    if (rc == 0) {
        rc = name_temp(temp, call->trail);
        if (rc == 0) {
            rc = write_temp(place.folder, temp, &source, call, info_out);
            if (rc == 0)
                rc = publish(store, call, &place, temp, request);
            else
                (void)unlinkat(place.folder, temp, 0);
        }
        (void)close(place.folder);
    }
    store_source_close(&source);
    return rc;
}

/* ---- get, head, delete ---- */

static int copy_object(int file, uint64_t offset, uint64_t len, const struct store_call *call,
                       struct store_sink *sink)
{
    size_t room = len < CHUNK_BYTES ? (size_t)len : CHUNK_BYTES;
    uint8_t *chunk = heap_alloc(NULL, room);
    if (chunk == NULL)
        return trail_add(call->trail, PDB_RESOURCE_EXHAUSTED, "no memory to copy with");
    int rc = 0;
    while (sink->len != len && rc == 0) {
        size_t want = len - sink->len < room ? (size_t)(len - sink->len) : room;
        ssize_t n = pread(file, chunk, want, (off_t)(offset + sink->len));
        if (n < 0 && errno == EINTR)
            continue;
        rc = store_call_check(call);
        if (rc == 0 && n < 0)
            rc = store_errno(call->trail, errno, "read");
        else if (rc == 0 && n == 0)
            rc = trail_add(call->trail, PDB_DATA_LOSS, "the file became shorter");
        else if (rc == 0 && !store_sink_write(sink, chunk, (size_t)n))
            rc = store_sink_failure(sink, call->trail);
    }
    heap_free(NULL, chunk);
    return rc;
}

static int get(struct store *store, const struct store_call *call,
               const struct store_get_request *request, uint64_t *len_out,
               struct store_info *info_out)
{
    struct store_sink sink;
    uint64_t len = 0;
    int file = -1;
    int rc = open_object(store, request->key, call->trail, info_out, &file);
    if (rc != 0)
        return rc;
    rc = store_range(info_out->size, request, call->trail, &len);
    if (rc == 0)
        rc = store_sink_open(request, call->trail, &sink);
    if (rc == 0) {
        rc = copy_object(file, request->offset, len, call, &sink);
        if (rc == 0)
            rc = store_verify(info_out, request, &sink, call->trail);
        rc = store_sink_close(&sink, rc, call->trail);
    }
    (void)close(file);
    *len_out = len;
    return rc;
}

static int head(struct store *store, const struct store_call *call, struct pdb_text key,
                struct store_info *info_out)
{
    int file = -1;
    int rc = open_object(store, key, call->trail, info_out, &file);
    if (rc == 0)
        (void)close(file);
    return rc;
}

static int remove_object(struct store *store, const struct store_call *call, struct pdb_text key)
{
    struct trail local = {0}; /* an absent folder is no error */
    struct place place = {.folder = -1};
    int lock = -1;
    int rc = place_open(store, key, false, &local, &place);
    if (rc == PDB_NOT_FOUND)
        return 0;
    if (rc != 0)
        return trail_add(call->trail, rc, "%s", local.text);
    rc = lock_folder(store, call, &lock);
    if (rc == 0) {
        bool gone = unlinkat(place.folder, place.leaf, 0) == 0;
        int error = gone ? 0 : errno;
        (void)close(lock);
        if (gone)
            rc = sync_folder(place.folder, call->trail);
        else if (error != ENOENT && error != EISDIR) /* a folder is no object */
            rc = store_errno(call->trail, error, "unlink");
    }
    (void)close(place.folder);
    return rc;
}

/* ---- list ---- */

struct entry {
    struct pdb_text name; /* a folder's ends with '/', so that order is that of whole keys */
};

struct lister {
    const struct store_call *call;
    const struct store_list_request *request;
    struct arena arena;
    char path[STORE_KEY_MAX + STORE_PART_MAX + 2]; /* of the folder that is read: "" or "a/b/" */
    size_t path_len;
};

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return text_compare(x->name, y->name);
}

/* Could keys that begin with `path` be wanted? */
static bool worth_reading(const struct lister *l, struct pdb_text path)
{
    struct pdb_text prefix = l->request->prefix, after = l->request->after;
    if (!text_starts_with(path, prefix) && !text_starts_with(prefix, path))
        return false;
    return after.len == 0 || text_compare(path, after) > 0 || text_starts_with(after, path);
}

static bool is_folder(DIR *dir, const struct dirent *d)
{
    struct stat st;
    if (d->d_type != DT_UNKNOWN)
        return d->d_type == DT_DIR;
    return fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* Takes `folder` over. The names, sorted. */
static int read_folder(struct lister *l, int folder, struct entry **entries_out, size_t *count_out)
{
    struct entry *entries = NULL;
    size_t count = 0, capacity = 0;
    DIR *dir = fdopendir(folder);
    if (dir == NULL) {
        int rc = store_errno(l->call->trail, errno, "folder");
        (void)close(folder);
        return rc;
    }
    int rc = store_call_check(l->call);
    const struct dirent *d = NULL;
    errno = 0;
    while (rc == 0 && (d = readdir(dir)) != NULL) {
        if (!store_key_valid(text_of(d->d_name)))
            continue;
        if (count == capacity) {
            size_t grown = capacity != 0 ? capacity * 2 : 64;
            struct entry *more =
                arena_grow(&l->arena, entries, capacity * sizeof(*more), grown * sizeof(*more));
            if (more == NULL) {
                rc = PDB_RESOURCE_EXHAUSTED;
                break;
            }
            entries = more;
            capacity = grown;
        }
        entries[count].name =
            arena_format(&l->arena, "%s%s", d->d_name, is_folder(dir, d) ? "/" : "");
        if (entries[count++].name.ptr == NULL)
            rc = PDB_RESOURCE_EXHAUSTED;
        errno = 0;
    }
    if (rc == PDB_RESOURCE_EXHAUSTED)
        rc = trail_add(l->call->trail, rc, "no memory for the names of a folder");
    else if (rc == 0 && errno != 0)
        rc = store_errno(l->call->trail, errno, "folder");
    (void)closedir(dir);
    if (count > 1)
        qsort(entries, count, sizeof(*entries), compare_entries);
    *entries_out = entries;
    *count_out = count;
    return rc;
}

static int show_file(struct lister *l, int folder, struct pdb_text name)
{
    struct store_object object = {.key = {l->path, l->path_len + name.len}};
    struct stat st;
    if (!text_starts_with(object.key, l->request->prefix) || !store_key_valid(object.key) ||
        (l->request->after.len != 0 && text_compare(object.key, l->request->after) <= 0))
        return 0;
    if (fstatat(folder, name.ptr, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : store_errno(l->call->trail, errno, "file");
    if (!S_ISREG(st.st_mode))
        return 0;
    info_of(&st, &object.info);
    return l->request->visit(l->request->arg, &object);
}

/* Recursion: at most STORE_PARTS_MAX deep, because deeper paths are no keys. */
static int list_folder(struct lister *l, int folder, unsigned depth)
{
    struct entry *entries = NULL;
    size_t count = 0, path_len = l->path_len;
    int copy = fcntl(folder, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return store_errno(l->call->trail, errno, "folder");
    int rc = read_folder(l, copy, &entries, &count);
    for (size_t i = 0; i < count && rc == 0; i++) {
        struct pdb_text name = entries[i].name;
        bool down = name.ptr[name.len - 1] == '/';
        if (path_len + name.len > STORE_KEY_MAX)
            continue;
        memcpy(l->path + path_len, name.ptr, name.len);
        if (!down) {
            rc = show_file(l, folder, name);
            continue;
        }
        if (depth == STORE_PARTS_MAX ||
            !worth_reading(l, (struct pdb_text){l->path, path_len + name.len}))
            continue;
        int next = openat(folder, name.ptr, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0) {
            rc = errno == ENOENT || errno == ENOTDIR ? 0
                                                     : store_errno(l->call->trail, errno, "folder");
            continue;
        }
        l->path_len = path_len + name.len;
        rc = list_folder(l, next, depth + 1);
        l->path_len = path_len;
        (void)close(next);
    }
    return rc;
}

static int list(struct store *store, const struct store_call *call,
                const struct store_list_request *request)
{
    struct lister l = {.call = call, .request = request};
    int folder = openat(store->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return store_errno(call->trail, errno, "folder");
    store_arena_init(store, &l.arena);
    int rc = list_folder(&l, folder, 1);
    arena_dispose(&l.arena);
    (void)close(folder);
    return rc;
}

const struct store_ops store_file_ops = {put, get, head, remove_object, list, close_folder};
