/* The bytes and names of the simulated disk, and what a loss of power does to them.
 *
 * A file has two images: `now`, what readers see, and `durable`, what is on the platter; between
 * them a list of changes in order. A sync plays the list into `durable`. A crash plays each sector
 * of each change by a coin, so that every mixture of old and new sectors can result, also with a
 * later write kept and an earlier one lost.
 *
 *     write            now, and a change
 *     durable write    the same, then a sync of the file
 *     write, O_DSYNC   now and durable; earlier changes stay pending (a disk with FUA flushes only
 *                      this write), except those up to the last one that overlaps it, which the
 *                      kernel writes back first
 *     failed sync      each pending sector becomes durable by a coin, the rest is forgotten though
 *                      readers still see it: the next sync succeeds and proves nothing, as Linux
 *                      does it
 *
 * Names work alike: a folder has its names of now and its durable ones, and the disk a list of
 * moves between them. sync_dir plays the moves into that folder; syncing a file does not make its
 * name durable. A rename is one move, so it happens wholly or not. Moves between folders belong to
 * the folder they lead to. A link is a move from nowhere: the file gets one more name.
 *
 * Memory that runs out here is the test machine's and ends the test. */
#include "os/sim_internal.h"

#include "base/assert.h"
#include "base/heap.h"

#include <errno.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { FIRST_FILE = 1000, FILES_PER_LIFE = 100000 };
static const uint64_t FILE_BYTES_MAX = UINT64_C(1) << 34;

/* ---- images ---- */

static void *must_have(void *ptr)
{
    ASSERT(ptr != NULL);
    return ptr;
}

static void image_resize(struct sim_image *image, size_t len)
{
    if (len > image->capacity) {
        size_t capacity = len < 2 * image->capacity ? 2 * image->capacity : len;
        image->ptr = must_have(heap_realloc(NULL, image->ptr, capacity));
        image->capacity = capacity;
    }
    if (len > image->len)
        memset(image->ptr + image->len, 0, len - image->len);
    image->len = len;
}

static void image_put(struct sim_image *image, uint64_t offset, const uint8_t *bytes, size_t len)
{
    if (len == 0)
        return;
    if (offset + len > image->len)
        image_resize(image, offset + len);
    memcpy(image->ptr + offset, bytes, len);
}

static void image_copy(struct sim_image *to, const struct sim_image *from)
{
    image_resize(to, from->len);
    if (from->len != 0)
        memcpy(to->ptr, from->ptr, from->len);
}

/* ---- changes of bytes ---- */

static void play(struct sim_image *image, const struct sim_change *change)
{
    if (change->kind == SIM_CHANGE_BYTES)
        image_put(image, change->offset, change->bytes, change->len);
    else if (change->kind == SIM_CHANGE_SIZE || change->len > image->len)
        image_resize(image, change->len);
}

/* Each sector by a coin: what a disk had done when the power went. */
static void play_torn(struct sim_disk *disk, struct sim_image *image,
                      const struct sim_change *change)
{
    if (change->kind != SIM_CHANGE_BYTES) {
        if (sim_coin(disk, 0.5))
            play(image, change);
        return;
    }
    for (uint64_t at = change->offset, end = at + change->len; at != end;) {
        uint64_t next = (at / SIM_SECTOR_BYTES + 1) * SIM_SECTOR_BYTES;
        if (next > end)
            next = end;
        if (sim_coin(disk, 0.5))
            image_put(image, at, change->bytes + (at - change->offset), next - at);
        at = next;
    }
}

static void drop_changes(struct sim_inode *inode)
{
    struct list_link *link;
    while ((link = list_pop_front(&inode->changes)) != NULL)
        heap_free(NULL, container_of(link, struct sim_change, link));
}

static void play_all(struct sim_inode *inode)
{
    list_each (link, &inode->changes)
        play(&inode->durable, container_of(link, struct sim_change, link));
    drop_changes(inode);
}

static void play_all_torn(struct sim_disk *disk, struct sim_inode *inode)
{
    list_each (link, &inode->changes)
        play_torn(disk, &inode->durable, container_of(link, struct sim_change, link));
    drop_changes(inode);
}

static struct sim_change *add_change(struct sim_inode *inode, enum sim_change_kind kind,
                                     uint64_t offset, uint64_t len, const void *bytes)
{
    size_t byte_count = bytes != NULL ? len : 0;
    struct sim_change *change = must_have(heap_calloc(NULL, 1, sizeof(*change) + byte_count));
    change->kind = kind;
    change->offset = offset;
    change->len = len;
    if (byte_count != 0)
        memcpy(change->bytes, bytes, byte_count);
    play(&inode->now, change);
    list_push_back(&inode->changes, &change->link);
    return change;
}

static bool overlaps(const struct sim_change *a, const struct sim_change *b)
{
    if (a->kind != SIM_CHANGE_BYTES)
        return true;
    return a->offset < b->offset + b->len && b->offset < a->offset + a->len;
}

/* The last change becomes durable, and before it all up to the last that overlaps it. */
static void play_last(struct sim_inode *inode)
{
    struct sim_change *last = container_of(inode->changes.anchor.prev, struct sim_change, link);
    list_remove(&last->link);
    struct list_link *until = NULL;
    list_each (link, &inode->changes) {
        if (overlaps(container_of(link, struct sim_change, link), last))
            until = link;
    }
    while (until != NULL) {
        struct list_link *link = list_pop_front(&inode->changes);
        struct sim_change *change = container_of(link, struct sim_change, link);
        play(&inode->durable, change);
        heap_free(NULL, change);
        if (link == until)
            break;
    }
    play(&inode->durable, last);
    heap_free(NULL, last);
}

/* ---- inodes and names ---- */

static struct sim_inode *make_inode(struct sim_disk *disk, bool is_dir)
{
    struct sim_inode *inode = must_have(heap_calloc(NULL, 1, sizeof(*inode)));
    inode->is_dir = is_dir;
    list_init(&inode->changes);
    list_init(&inode->names);
    list_init(&inode->names_durable);
    list_push_back(&disk->inodes, &inode->link);
    return inode;
}

static void drop_names(struct list *names)
{
    struct list_link *link;
    while ((link = list_pop_front(names)) != NULL)
        heap_free(NULL, container_of(link, struct sim_name, link));
}

static void free_inode(struct sim_inode *inode)
{
    list_remove(&inode->link);
    drop_changes(inode);
    drop_names(&inode->names);
    drop_names(&inode->names_durable);
    heap_free(NULL, inode->now.ptr);
    heap_free(NULL, inode->durable.ptr);
    heap_free(NULL, inode);
}

static struct sim_name *find_name(struct list *names, const char *text)
{
    list_each (link, names) {
        struct sim_name *name = container_of(link, struct sim_name, link);
        if (strcmp(name->text, text) == 0)
            return name;
    }
    return NULL;
}

static void copy_name(char to[256], const char *from)
{
    size_t len = strlen(from);
    ASSERT(len < 256); /* walk refuses longer ones */
    memcpy(to, from, len + 1);
}

static void put_name(struct list *names, const char *text, struct sim_inode *inode)
{
    struct sim_name *name = find_name(names, text);
    if (name == NULL) {
        name = must_have(heap_calloc(NULL, 1, sizeof(*name)));
        copy_name(name->text, text);
        list_push_back(names, &name->link);
    }
    name->inode = inode;
}

/* Only if it still means that inode. */
static void remove_name(struct list *names, const char *text, const struct sim_inode *inode)
{
    struct sim_name *name = find_name(names, text);
    if (name == NULL || name->inode != inode)
        return;
    list_remove(&name->link);
    heap_free(NULL, name);
}

/* The folder that holds the last part of `path`, and that part ("" for the root itself). 0 or a
 * negative errno. */
static int walk(struct sim_disk *disk, const char *path, bool durable, struct sim_inode **dir_out,
                char last_out[256])
{
    struct sim_inode *dir = disk->root;
    last_out[0] = '\0';
    while (*path != '\0') {
        size_t len = strcspn(path, "/");
        const char *part = path;
        path += len + (path[len] == '/');
        if (len == 0 || (len == 1 && part[0] == '.'))
            continue;
        if (len > 255)
            return -ENAMETOOLONG;
        if (last_out[0] != '\0') {
            struct sim_name *name =
                find_name(durable ? &dir->names_durable : &dir->names, last_out);
            if (name == NULL)
                return -ENOENT;
            dir = name->inode;
            if (!dir->is_dir)
                return -ENOTDIR;
        }
        memcpy(last_out, part, len);
        last_out[len] = '\0';
    }
    *dir_out = dir;
    return 0;
}

static int find_inode(struct sim_disk *disk, const char *path, bool durable,
                      struct sim_inode **inode_out)
{
    struct sim_inode *dir;
    char last[256];
    int rc = walk(disk, path, durable, &dir, last);
    if (rc < 0)
        return rc;
    if (last[0] == '\0') {
        *inode_out = dir;
        return 0;
    }
    struct sim_name *name = find_name(durable ? &dir->names_durable : &dir->names, last);
    if (name == NULL)
        return -ENOENT;
    *inode_out = name->inode;
    return 0;
}

/* Changes the names of now and remembers the move. Either folder may be NULL. */
static void move_name(struct sim_disk *disk, struct sim_inode *inode, struct sim_inode *from_dir,
                      const char *from, struct sim_inode *to_dir, const char *to)
{
    struct sim_move *move = must_have(heap_calloc(NULL, 1, sizeof(*move)));
    move->inode = inode;
    move->from_dir = from_dir;
    move->to_dir = to_dir;
    if (from_dir != NULL) {
        copy_name(move->from, from);
        remove_name(&from_dir->names, from, inode);
    }
    if (to_dir != NULL) {
        copy_name(move->to, to);
        put_name(&to_dir->names, to, inode);
    }
    list_push_back(&disk->moves, &move->link);
}

static void play_move(const struct sim_move *move)
{
    if (move->from_dir != NULL)
        remove_name(&move->from_dir->names_durable, move->from, move->inode);
    if (move->to_dir != NULL)
        put_name(&move->to_dir->names_durable, move->to, move->inode);
}

static void play_moves_into(struct sim_disk *disk, const struct sim_inode *dir)
{
    list_each_safe(link, following, &disk->moves)
    {
        struct sim_move *move = container_of(link, struct sim_move, link);
        if ((move->to_dir != NULL ? move->to_dir : move->from_dir) != dir)
            continue;
        play_move(move);
        list_remove(link);
        heap_free(NULL, move);
    }
}

/* ---- what nobody can reach any more ---- */

static void reach_names(const struct list *names)
{
    list_each (link, names)
        container_of(link, struct sim_name, link)->inode->reached = true;
}

/* Names, moves and open files hold an inode; the names of an unreachable folder hold theirs a sweep
 * longer. */
static void sweep(struct sim_disk *disk)
{
    list_each (link, &disk->inodes)
        container_of(link, struct sim_inode, link)->reached = false;
    disk->root->reached = true;
    list_each (link, &disk->inodes) {
        const struct sim_inode *inode = container_of(link, struct sim_inode, link);
        reach_names(&inode->names);
        reach_names(&inode->names_durable);
    }
    list_each (link, &disk->moves) {
        struct sim_move *move = container_of(link, struct sim_move, link);
        move->inode->reached = true;
        if (move->from_dir != NULL)
            move->from_dir->reached = true;
        if (move->to_dir != NULL)
            move->to_dir->reached = true;
    }
    for (size_t i = 0; i != disk->file_count; ++i) {
        if (disk->files[i].inode != NULL)
            disk->files[i].inode->reached = true;
    }
    list_each_safe(link, following, &disk->inodes)
    {
        struct sim_inode *inode = container_of(link, struct sim_inode, link);
        if (!inode->reached)
            free_inode(inode);
    }
}

uint64_t sim_disk_bytes_used(struct sim_disk *disk)
{
    uint64_t sum = 0;
    sweep(disk);
    list_each (link, &disk->inodes)
        sum += container_of(link, struct sim_inode, link)->now.len;
    return sum;
}

/* ---- operations ---- */

static struct sim_file *file_at(struct sim_disk *disk, int file)
{
    if (file < disk->file_base || (size_t)(file - disk->file_base) >= disk->file_count)
        return NULL;
    struct sim_file *f = &disk->files[file - disk->file_base];
    return f->inode != NULL ? f : NULL;
}

static int64_t take_file(struct sim_disk *disk, struct sim_inode *inode, unsigned flags)
{
    size_t i = 0;
    while (i != disk->file_count && disk->files[i].inode != NULL)
        ++i;
    if (i == disk->file_count) {
        if (i == FILES_PER_LIFE)
            return -EMFILE;
        size_t count = disk->file_count != 0 ? 2 * disk->file_count : 16;
        disk->files = must_have(heap_realloc(NULL, disk->files, count * sizeof(*disk->files)));
        memset(disk->files + i, 0, (count - i) * sizeof(*disk->files));
        disk->file_count = count;
    }
    disk->files[i] = (struct sim_file){.inode = inode, .flags = flags};
    return disk->file_base + (int64_t)i;
}

static int64_t do_open(struct sim_disk *disk, const struct io_op *op)
{
    unsigned flags = op->engine.flags;
    struct sim_inode *dir, *inode;
    char last[256];
    int rc = walk(disk, op->engine.path, false, &dir, last);
    if (rc < 0)
        return rc;
    struct sim_name *name = last[0] != '\0' ? find_name(&dir->names, last) : NULL;
    if (name == NULL && last[0] != '\0') {
        if ((flags & IO_OPEN_CREATE) == 0)
            return -ENOENT;
        inode = make_inode(disk, false);
        move_name(disk, inode, NULL, "", dir, last);
    } else {
        inode = name != NULL ? name->inode : dir;
        if ((flags & IO_OPEN_CREATE) != 0 && (flags & IO_OPEN_EXCLUSIVE) != 0)
            return -EEXIST;
    }
    if (inode->is_dir && (flags & IO_OPEN_WRITE) != 0)
        return -EISDIR;
    if (!inode->is_dir && (flags & IO_OPEN_DIRECTORY) != 0)
        return -ENOTDIR;
    if (inode->tampered && list_empty(&inode->changes)) {
        image_copy(&inode->now, &inode->durable);
        inode->tampered = false;
    }
    if ((flags & IO_OPEN_TRUNCATE) != 0 && inode->now.len != 0)
        add_change(inode, SIM_CHANGE_SIZE, 0, 0, NULL);
    return take_file(disk, inode, flags);
}

static bool misaligned(const struct sim_file *f, const struct io_op *op)
{
    return (f->flags & IO_OPEN_DIRECT) != 0 &&
           ((op->engine.len | op->engine.offset | (uintptr_t)op->engine.buf) % SIM_SECTOR_BYTES) !=
               0;
}

static int64_t do_read(struct sim_disk *disk, const struct io_op *op)
{
    struct sim_file *f = file_at(disk, op->engine.file);
    if (f == NULL || (f->flags & (IO_OPEN_READ | IO_OPEN_WRITE)) == IO_OPEN_WRITE)
        return -EBADF;
    if (f->inode->is_dir)
        return -EISDIR;
    if (misaligned(f, op))
        return -EINVAL;
    if (sim_coin(disk, disk->faults.read_error))
        return -EIO;
    const struct sim_image *now = &f->inode->now;
    if (op->engine.offset >= now->len || op->engine.len == 0)
        return 0;
    size_t len = now->len - op->engine.offset;
    if (len > op->engine.len)
        len = op->engine.len;
    memcpy(op->engine.buf, now->ptr + op->engine.offset, len);
    if (sim_coin(disk, disk->faults.bit_flip)) {
        uint64_t bit = rng_below(&disk->coins, 8 * (uint64_t)len);
        ((uint8_t *)op->engine.buf)[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    return (int64_t)len;
}

static bool no_room(struct sim_disk *disk, const struct sim_inode *inode, uint64_t end)
{
    uint64_t max = disk->faults.bytes_max;
    return max != 0 && end > inode->now.len &&
           sim_disk_bytes_used(disk) + (end - inode->now.len) > max;
}

static int64_t sync_inode(struct sim_disk *disk, struct sim_inode *inode)
{
    if (sim_coin(disk, disk->faults.sync_error)) {
        play_all_torn(disk, inode);
        inode->differs = true;
        return -EIO;
    }
    play_all(inode);
    return 0;
}

static int64_t do_write(struct sim_disk *disk, const struct io_op *op, bool crashing)
{
    struct sim_file *f = file_at(disk, op->engine.file);
    uint64_t len = op->engine.len, offset = op->engine.offset;
    if (f == NULL || (f->flags & IO_OPEN_WRITE) == 0)
        return -EBADF;
    if (misaligned(f, op))
        return -EINVAL;
    if (len == 0)
        return 0;
    if (offset + len > FILE_BYTES_MAX)
        return -EFBIG;
    if (no_room(disk, f->inode, offset + len))
        return -ENOSPC;
    if (crashing) {
        add_change(f->inode, SIM_CHANGE_BYTES, offset, len, op->engine.buf);
        return (int64_t)len;
    }
    if (sim_coin(disk, disk->faults.write_error))
        return -EIO;
    if (len > SIM_SECTOR_BYTES && sim_coin(disk, disk->faults.short_write))
        len = SIM_SECTOR_BYTES * (1 + rng_below(&disk->coins, (len - 1) / SIM_SECTOR_BYTES));
    if (f->inode->now.len > SIM_SECTOR_BYTES && sim_coin(disk, disk->faults.misdirected_write))
        offset = SIM_SECTOR_BYTES * rng_below(&disk->coins, f->inode->now.len / SIM_SECTOR_BYTES);
    add_change(f->inode, SIM_CHANGE_BYTES, offset, len, op->engine.buf);
    if ((f->flags & IO_OPEN_DSYNC) != 0) {
        play_last(f->inode);
    } else if ((op->engine.flags & IO_WRITE_DURABLE) != 0 && len == op->engine.len) {
        int64_t rc = sync_inode(disk, f->inode);
        if (rc < 0)
            return rc;
    }
    return (int64_t)len;
}

static int64_t do_resize(struct sim_disk *disk, const struct io_op *op)
{
    struct sim_file *f = file_at(disk, op->engine.file);
    uint64_t end;
    if (f == NULL || (f->flags & IO_OPEN_WRITE) == 0)
        return -EBADF;
    if (__builtin_add_overflow(op->engine.offset, op->engine.len, &end) || end > FILE_BYTES_MAX)
        return -EFBIG;
    if (no_room(disk, f->inode, end))
        return -ENOSPC;
    bool grow = op->engine.kind == IO_KIND_ALLOCATE;
    if (grow && op->engine.len == 0)
        return -EINVAL;
    add_change(f->inode, grow ? SIM_CHANGE_GROW : SIM_CHANGE_SIZE, 0, end, NULL);
    return 0;
}

static int64_t do_rename(struct sim_disk *disk, const struct io_op *op)
{
    struct sim_inode *from_dir, *to_dir;
    char from[256], to[256];
    int rc = walk(disk, op->engine.path, false, &from_dir, from);
    if (rc < 0)
        return rc;
    if ((rc = walk(disk, op->engine.path_to, false, &to_dir, to)) < 0)
        return rc;
    if (from[0] == '\0' || to[0] == '\0')
        return -EBUSY;
    struct sim_name *source = find_name(&from_dir->names, from);
    struct sim_name *target = find_name(&to_dir->names, to);
    if (source == NULL)
        return -ENOENT;
    if (target != NULL && target->inode == source->inode)
        return 0;
    if (target != NULL && target->inode->is_dir != source->inode->is_dir)
        return target->inode->is_dir ? -EISDIR : -ENOTDIR;
    if (target != NULL && !list_empty(&target->inode->names))
        return -ENOTEMPTY;
    move_name(disk, source->inode, from_dir, from, to_dir, to);
    return 0;
}

static int64_t do_link(struct sim_disk *disk, const struct io_op *op)
{
    struct sim_inode *from_dir, *to_dir;
    char from[256], to[256];
    int rc = walk(disk, op->engine.path, false, &from_dir, from);
    if (rc < 0)
        return rc;
    if ((rc = walk(disk, op->engine.path_to, false, &to_dir, to)) < 0)
        return rc;
    const struct sim_name *source = from[0] != '\0' ? find_name(&from_dir->names, from) : NULL;
    if (source == NULL)
        return -ENOENT;
    if (source->inode->is_dir)
        return -EPERM;
    if (to[0] == '\0' || find_name(&to_dir->names, to) != NULL)
        return -EEXIST;
    move_name(disk, source->inode, NULL, "", to_dir, to);
    return 0;
}

static int64_t do_unlink(struct sim_disk *disk, const struct io_op *op)
{
    struct sim_inode *dir;
    char last[256];
    int rc = walk(disk, op->engine.path, false, &dir, last);
    if (rc < 0)
        return rc;
    struct sim_name *name = find_name(&dir->names, last);
    if (name == NULL)
        return last[0] != '\0' ? -ENOENT : -EBUSY;
    if (!list_empty(&name->inode->names))
        return -ENOTEMPTY;
    move_name(disk, name->inode, dir, last, NULL, "");
    return 0;
}

static int64_t do_make_dir(struct sim_disk *disk, const struct io_op *op)
{
    struct sim_inode *dir;
    char last[256];
    int rc = walk(disk, op->engine.path, false, &dir, last);
    if (rc < 0)
        return rc;
    if (last[0] == '\0' || find_name(&dir->names, last) != NULL)
        return -EEXIST;
    move_name(disk, make_inode(disk, true), NULL, "", dir, last);
    return 0;
}

static int64_t do_sync_dir(struct sim_disk *disk, const struct io_op *op, bool crashing)
{
    struct sim_inode *inode;
    int rc = find_inode(disk, op->engine.path, false, &inode);
    if (rc < 0)
        return rc;
    if (!inode->is_dir)
        return -ENOTDIR;
    if (crashing)
        return 0;
    if (sim_coin(disk, disk->faults.sync_error))
        return -EIO;
    play_moves_into(disk, inode);
    sweep(disk);
    return 0;
}

static int64_t do_sync(struct sim_disk *disk, const struct io_op *op, bool crashing)
{
    struct sim_file *f = file_at(disk, op->engine.file);
    if (f == NULL)
        return -EBADF;
    if (crashing)
        return 0;
    if (!f->inode->is_dir)
        return sync_inode(disk, f->inode);
    if (sim_coin(disk, disk->faults.sync_error))
        return -EIO;
    play_moves_into(disk, f->inode);
    return 0;
}

int64_t sim_execute(struct sim_disk *disk, const struct io_op *op, bool crashing)
{
    struct sim_file *f;
    ASSERT(op->engine.kind < IO_KIND_COUNT);
    switch ((enum io_kind)op->engine.kind) {
    case IO_KIND_OPEN:
        return do_open(disk, op);
    case IO_KIND_CLOSE:
        if ((f = file_at(disk, op->engine.file)) == NULL)
            return -EBADF;
        f->inode = NULL;
        return 0;
    case IO_KIND_READ:
        return crashing ? 0 : do_read(disk, op);
    case IO_KIND_WRITE:
        return do_write(disk, op, crashing);
    case IO_KIND_SYNC:
        return do_sync(disk, op, crashing);
    case IO_KIND_ALLOCATE:
    case IO_KIND_TRUNCATE:
        return do_resize(disk, op);
    case IO_KIND_RENAME:
        return do_rename(disk, op);
    case IO_KIND_LINK:
        return do_link(disk, op);
    case IO_KIND_UNLINK:
        return do_unlink(disk, op);
    case IO_KIND_MAKE_DIR:
        return do_make_dir(disk, op);
    case IO_KIND_SYNC_DIR:
        return do_sync_dir(disk, op, crashing);
    case IO_KIND_COUNT:
        break;
    }
    return -EINVAL;
}

int sim_disk_list(struct sim_disk *disk, const char *path,
                  void (*visit)(void *arg, const char *name), void *arg)
{
    struct sim_inode *inode;
    int rc = find_inode(disk, path, false, &inode);
    if (rc < 0)
        return rc;
    if (!inode->is_dir)
        return -ENOTDIR;
    list_each (link, &inode->names)
        visit(arg, container_of(link, struct sim_name, link)->text);
    return 0;
}

int64_t sim_disk_file_size(struct sim_disk *disk, int file)
{
    struct sim_file *f = file_at(disk, file);
    return f != NULL ? (int64_t)f->inode->now.len : -EBADF;
}

uint8_t *sim_disk_bytes(struct sim_disk *disk, const char *path, size_t *len_out)
{
    struct sim_inode *inode;
    if (find_inode(disk, path, true, &inode) < 0 || inode->is_dir)
        return NULL;
    if (inode->durable.capacity == 0) { /* an empty file has an address too */
        image_resize(&inode->durable, 1);
        image_resize(&inode->durable, 0);
    }
    inode->tampered = true;
    *len_out = inode->durable.len;
    return inode->durable.ptr;
}

int sim_disk_resize(struct sim_disk *disk, const char *path, size_t len)
{
    struct sim_inode *inode;
    if (find_inode(disk, path, true, &inode) < 0 || inode->is_dir)
        return -ENOENT;
    image_resize(&inode->durable, len);
    inode->tampered = true;
    return 0;
}

/* ---- power ---- */

void sim_disk_forget_files(struct sim_disk *disk)
{
    if (disk->file_count != 0)
        memset(disk->files, 0, disk->file_count * sizeof(*disk->files));
    disk->file_base += FILES_PER_LIFE;
    sweep(disk);
}

void sim_disk_lose_power(struct sim_disk *disk)
{
    struct list_link *link;
    while ((link = list_pop_front(&disk->moves)) != NULL) {
        struct sim_move *move = container_of(link, struct sim_move, link);
        if (sim_coin(disk, 0.5))
            play_move(move);
        heap_free(NULL, move);
    }
    list_each (at, &disk->inodes) {
        struct sim_inode *inode = container_of(at, struct sim_inode, link);
        bool stale = !list_empty(&inode->changes) || inode->differs || inode->tampered;
        play_all_torn(disk, inode);
        if (stale)
            image_copy(&inode->now, &inode->durable);
        inode->tampered = inode->differs = false;
        drop_names(&inode->names);
        list_each (name_link, &inode->names_durable) {
            const struct sim_name *name = container_of(name_link, struct sim_name, link);
            put_name(&inode->names, name->text, name->inode);
        }
    }
    sim_disk_forget_files(disk);
}

bool sim_disk_open_store(struct sim_disk *disk)
{
    list_init(&disk->inodes);
    list_init(&disk->moves);
    disk->file_base = FIRST_FILE;
    disk->root = heap_calloc(NULL, 1, sizeof(*disk->root));
    if (disk->root == NULL)
        return false;
    disk->root->is_dir = true;
    list_init(&disk->root->changes);
    list_init(&disk->root->names);
    list_init(&disk->root->names_durable);
    list_push_back(&disk->inodes, &disk->root->link);
    return true;
}

void sim_disk_close_store(struct sim_disk *disk)
{
    struct list_link *link;
    while ((link = list_pop_front(&disk->moves)) != NULL)
        heap_free(NULL, container_of(link, struct sim_move, link));
    while (!list_empty(&disk->inodes))
        free_inode(container_of(disk->inodes.anchor.next, struct sim_inode, link));
    heap_free(NULL, disk->files);
}
