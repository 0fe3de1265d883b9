/* snapshot_write.c: an archive that comes in pieces becomes a snapshot.
 *
 *     begin   core 0 takes the name and makes a hidden folder
 *     next    home: headers and files as they come; SNAPSHOT first, then what it lists, each file
 *             of the length and checksum that it says, synced when it ends
 *     end     nothing is missing; folders synced; core 0: SNAPSHOT under the new name, the rename
 *
 * Nothing of the archive is believed: only paths of the list are written, each once, and no byte
 * more than it says. What is wrong with a piece stays wrong: every later call gets the same error,
 * and end or abandon removes what was written. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "engine/snapshot_internal.h"
#include "engine/snapshot_tar.h"
#include "engine/validate.h"
#include "os/failpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { EXTENSION_BYTES_MAX = 1 << 20 };

enum write_state {
    WRITE_HEADER, /* collecting a block */
    WRITE_LIST,   /* SNAPSHOT */
    WRITE_FILE,   /* the open file */
    WRITE_SKIP,   /* padding, extensions */
    WRITE_ENDED,  /* zeros; anything may follow */
};

struct pdb_snapshot_writer {
    struct list_link link; /* core 0's uploads */
    struct snapshot_op op; /* of end */
    struct engine_core *home;
    struct pdb_text name;         /* in the block behind this struct */
    struct snapshot_image *image; /* of the list; before it has come, one of no parts */
    bool listed;
    uint32_t part, file; /* the next of the list */
    enum write_state state;
    char block[SNAPSHOT_TAR_BLOCK];
    size_t have; /* of the block */
    struct buffer list;
    uint64_t left, skip, at;
    uint32_t crc;
    int fd;
    /* of the piece under way */
    struct pdb_call *call;
    const char *piece;
    size_t piece_len;
    bool begun_part;        /* its folder is there */
    struct pdb_error error; /* the first */
    struct io_op io_op;
    struct job job;
    struct trail trail;
    int job_rc;
    struct snapshot_step step;
    struct snapshot_remove remove;
    struct snapshot_finish finish;
    struct snapshot_filling filling;
    struct mail mail;
    char folder[SNAPSHOT_FOLDER_MAX];
    char path[SNAPSHOT_PATH_MAX];
    char name_bytes[PDB_NAME_BYTES_MAX + 1];
};

struct pdb_text snapshot_upload_name(struct list_link *link)
{
    return container_of(link, struct pdb_snapshot_writer, link)->name;
}

static void free_writer(struct pdb_snapshot_writer *w)
{
    list_remove(&w->link);
    buffer_dispose(&w->list);
    snapshot_image_free(w->image);
    heap_free(NULL, w);
}

/* ---- begin ---- */

static struct pdb_snapshot_writer *writer_of(struct pdb_call *call)
{
    return call_state(call)->work;
}

static void folder_made(struct snapshot_step *step, int64_t result)
{
    struct pdb_snapshot_writer *w = container_of(step, struct pdb_snapshot_writer, step);
    struct pdb_call *call = w->call;
    w->call = NULL;
    if (result < 0) {
        (void)snapshot_fail_errno(call, result, "its folder cannot be made");
        free_writer(w);
    } else {
        container_of(call, struct pdb_snapshot_write_begin, call)->writer_out = w;
    }
    call_return(call);
}

static void begin_at_core0(struct pdb_call *call)
{
    struct pdb_snapshot_write_begin *b = container_of(call, struct pdb_snapshot_write_begin, call);
    struct engine_core *core = call_state(call)->here;
    struct snapshots *all = core->snapshots;
    struct pdb_snapshot_writer *w = heap_calloc(NULL, 1, sizeof(*w));
    struct snapshot_image *image = snapshot_image_new(b->name);
    if (w == NULL || image == NULL)
        (void)call_no_memory(call);
    else if (snapshot_name_taken(all, b->name))
        (void)call_fail(call, PDB_ALREADY_EXISTS, "snapshot '%.*s' already exists",
                        CALL_TEXT(b->name));
    if (call->error.code != 0) {
        snapshot_image_free(image);
        heap_free(NULL, w);
        call_return(call);
        return;
    }
    memcpy(w->name_bytes, b->name.ptr, b->name.len);
    w->name = (struct pdb_text){w->name_bytes, b->name.len};
    w->home = call_state(call)->home;
    w->image = image;
    w->call = call;
    w->fd = -1;
    buffer_init_heap(&w->list, NULL, SNAPSHOT_LIST_BYTES_MAX);
    list_push_back(&all->uploads, &w->link);
    snapshot_hidden_folder(w->folder, core, w->name, "tmp");
    (void)snprintf(w->step.path, sizeof(w->step.path), "%s", w->folder);
    snapshot_make_dir(&w->step, core->r->io, folder_made);
}

void pdb_snapshot_write_begin_start(struct pdb_snapshot_write_begin *b)
{
    struct trail trail = {0};
    b->writer_out = NULL;
    if (!call_begin(&b->call))
        return;
    int rc = validate_collection_name(b->name, &trail);
    if (rc < 0) {
        (void)call_fail_trail(&b->call, rc, &trail);
        call_return(&b->call);
        return;
    }
    call_state(&b->call)->touring = true;
    (void)call_send(&b->call, 0, begin_at_core0);
}

/* ---- next ---- */

static void go_on(struct pdb_snapshot_writer *w);

/* The end of this call; an error stays. */
static void answer(struct pdb_snapshot_writer *w)
{
    struct pdb_call *call = w->call;
    w->call = NULL;
    if (call->error.code != 0 && w->error.code == 0)
        w->error = call->error;
    call_return(call);
}

static void refuse(struct pdb_snapshot_writer *w, int code, const char *why)
{
    (void)call_fail(w->call, code, "archive: %s", why);
    answer(w);
}

static void fail_errno(struct pdb_snapshot_writer *w, int64_t result)
{
    (void)snapshot_fail_errno(w->call, result, "a file of the archive cannot be written");
    answer(w);
}

static void skip(struct pdb_snapshot_writer *w, uint64_t bytes)
{
    w->state = bytes != 0 ? WRITE_SKIP : WRITE_HEADER;
    w->skip = bytes;
}

/* -- files -- */

static const struct snapshot_part *part_of(const struct pdb_snapshot_writer *w)
{
    return &w->image->parts[w->part];
}

static void file_closed(struct io_op *op, int64_t result)
{
    struct pdb_snapshot_writer *w = container_of(op, struct pdb_snapshot_writer, io_op);
    const struct snapshot_part *part = part_of(w);
    w->fd = -1;
    if (result < 0) {
        fail_errno(w, result);
        return;
    }
    if (w->crc != part->files[w->file].crc32c) {
        refuse(w, PDB_DATA_LOSS, "a file does not fit its checksum");
        return;
    }
    skip(w, snapshot_tar_padding(part->files[w->file].bytes));
    if (++w->file == part->file_count) {
        w->part++;
        w->file = 0;
        w->begun_part = false;
    }
    go_on(w);
}

static void file_synced(struct io_op *op, int64_t result)
{
    struct pdb_snapshot_writer *w = container_of(op, struct pdb_snapshot_writer, io_op);
    if (result < 0) {
        fail_errno(w, result);
        return;
    }
    FAILPOINT("upload.file");
    *op = (struct io_op){.done = file_closed};
    w->home->r->io->ops->close(w->home->r->io, op, w->fd);
}

static void file_written(struct io_op *op, int64_t result)
{
    struct pdb_snapshot_writer *w = container_of(op, struct pdb_snapshot_writer, io_op);
    if (result == -EAGAIN || result == -EINTR) {
        go_on(w);
        return;
    }
    if (result <= 0) {
        fail_errno(w, result < 0 ? result : -EIO);
        return;
    }
    w->crc = crc32c(w->crc, w->piece, (size_t)result);
    w->piece += result;
    w->piece_len -= (size_t)result;
    w->at += (uint64_t)result;
    w->left -= (uint64_t)result;
    go_on(w);
}

static void take_file(struct pdb_snapshot_writer *w)
{
    struct io *io = w->home->r->io;
    if (w->left == 0) {
        w->io_op = (struct io_op){.done = file_synced};
        io->ops->sync(io, &w->io_op, w->fd);
        return;
    }
    size_t len = w->left < w->piece_len ? (size_t)w->left : w->piece_len;
    if (len > SNAPSHOT_PIECE_BYTES)
        len = SNAPSHOT_PIECE_BYTES;
    w->io_op = (struct io_op){.done = file_written};
    io->ops->write(io, &w->io_op, w->fd, w->piece, len, w->at, 0);
}

static void file_opened(struct io_op *op, int64_t result)
{
    struct pdb_snapshot_writer *w = container_of(op, struct pdb_snapshot_writer, io_op);
    if (result < 0) {
        fail_errno(w, result);
        return;
    }
    w->fd = (int)result;
    w->state = WRITE_FILE;
    go_on(w);
}

static void open_file(struct pdb_snapshot_writer *w)
{
    struct io *io = w->home->r->io;
    const struct snapshot_part *part = part_of(w);
    char folder[SNAPSHOT_PATH_MAX];
    snapshot_part_folder(folder, w->folder, &part->entry->uuid);
    (void)snprintf(w->path, sizeof(w->path), "%.1220s/%s", folder, part->files[w->file].name);
    w->at = 0;
    w->crc = 0;
    w->left = part->files[w->file].bytes;
    w->io_op = (struct io_op){.done = file_opened};
    io->ops->open(io, &w->io_op, w->path, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_EXCLUSIVE);
}

static void part_folder_made(struct snapshot_step *step, int64_t result)
{
    struct pdb_snapshot_writer *w = container_of(step, struct pdb_snapshot_writer, step);
    if (result < 0) {
        fail_errno(w, result);
        return;
    }
    w->begun_part = true;
    open_file(w);
}

static void begin_file(struct pdb_snapshot_writer *w, const struct snapshot_tar_entry *entry)
{
    char expected[100], uuid[UUID_TEXT_LEN + 1];
    const char *name = strncmp(entry->name, "./", 2) == 0 ? entry->name + 2 : entry->name;
    if (w->part == w->image->part_count) {
        refuse(w, PDB_INVALID_ARGUMENT, "it has files that its list does not name");
        return;
    }
    const struct snapshot_file *file = &part_of(w)->files[w->file];
    uuid_format(&part_of(w)->entry->uuid, uuid);
    (void)snprintf(expected, sizeof(expected), "%s/%s", uuid, file->name);
    if (strcmp(name, expected) != 0) {
        (void)call_fail(w->call, PDB_INVALID_ARGUMENT, "archive: expected %s, found %.100s",
                        expected, name);
        answer(w);
        return;
    }
    if (entry->bytes != file->bytes) {
        refuse(w, PDB_DATA_LOSS, "a file is not as long as the list says");
        return;
    }
    if (w->begun_part) {
        open_file(w);
        return;
    }
    snapshot_part_folder(w->step.path, w->folder, &part_of(w)->entry->uuid);
    snapshot_make_dir(&w->step, w->home->r->io, part_folder_made);
}

/* -- the list -- */

static void decode(struct job *job)
{
    struct pdb_snapshot_writer *w = container_of(job, struct pdb_snapshot_writer, job);
    struct snapshot_image *image = NULL;
    w->job_rc = snapshot_decode(w->list.ptr, w->list.len, &image, &w->trail);
    if (w->job_rc < 0)
        return;
    image->name = arena_copy_text(&image->arena, w->name.ptr, w->name.len);
    image->scheduled = false; /* nobody's retention removes what was sent */
    if (image->name.ptr == NULL) {
        snapshot_image_free(image);
        w->job_rc = trail_add(&w->trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    snapshot_image_free(w->image);
    w->image = image;
}

static void decoded(struct reactor *here, struct mail *mail)
{
    struct pdb_snapshot_writer *w = container_of(mail, struct pdb_snapshot_writer, job.back);
    const struct pdb *db = engine_here(here)->db;
    if (w->job_rc < 0) {
        (void)trail_add(&w->trail, w->job_rc, "archive: SNAPSHOT");
        (void)call_fail_trail(w->call, w->job_rc, &w->trail);
        answer(w);
        return;
    }
    int64_t room = here->io->ops->free_space(here->io, db->options.data_dir);
    if (room >= 0 && w->image->bytes > (uint64_t)room) {
        w->call->error.http_status = 507;
        refuse(w, PDB_RESOURCE_EXHAUSTED, "there is no room for its files");
        return;
    }
    w->listed = true;
    skip(w, snapshot_tar_padding(w->list.len));
    buffer_dispose(&w->list);
    go_on(w);
}

static bool take_list(struct pdb_snapshot_writer *w)
{
    size_t len = w->left < w->piece_len ? (size_t)w->left : w->piece_len;
    buffer_add(&w->list, w->piece, len);
    w->piece += len;
    w->piece_len -= len;
    w->left -= len;
    if (w->list.failed) {
        (void)call_no_memory(w->call);
        answer(w);
        return false;
    }
    if (w->left != 0)
        return true;
    w->job = (struct job){.compute = decode, .back.deliver = decoded};
    job_start(w->home->r, w->home->r->id, &w->job);
    return false;
}

static bool begin_list(struct pdb_snapshot_writer *w, const struct snapshot_tar_entry *entry)
{
    const char *name = strncmp(entry->name, "./", 2) == 0 ? entry->name + 2 : entry->name;
    if (strcmp(name, "SNAPSHOT") != 0) {
        refuse(w, PDB_INVALID_ARGUMENT, "not that of a snapshot: SNAPSHOT must come first");
        return false;
    }
    if (entry->bytes == 0 || entry->bytes > SNAPSHOT_LIST_BYTES_MAX) {
        refuse(w, PDB_INVALID_ARGUMENT, "SNAPSHOT has a length that none can have");
        return false;
    }
    w->left = entry->bytes;
    w->state = WRITE_LIST;
    return true;
}

/* -- headers -- */

/* Those below return true where go_on may look on; false: answered, or work comes back to it. */

static bool take_header(struct pdb_snapshot_writer *w)
{
    struct snapshot_tar_entry entry;
    snapshot_tar_decode(w->block, &entry);
    w->have = 0;
    switch (entry.kind) {
    case SNAPSHOT_TAR_FILE:
        if (w->listed)
            begin_file(w, &entry);
        else
            return begin_list(w, &entry);
        return false;
    case SNAPSHOT_TAR_FOLDER: /* we make our own */
        return true;
    case SNAPSHOT_TAR_EXTENSION:
        if (entry.bytes > EXTENSION_BYTES_MAX) {
            refuse(w, PDB_INVALID_ARGUMENT, "an extended header is too long");
            return false;
        }
        skip(w, entry.bytes + snapshot_tar_padding(entry.bytes));
        return true;
    case SNAPSHOT_TAR_ZEROS:
        w->state = WRITE_ENDED;
        return true;
    case SNAPSHOT_TAR_OTHER:
        refuse(w, PDB_INVALID_ARGUMENT, "it has something that is neither a file nor a folder");
        return false;
    case SNAPSHOT_TAR_WRONG:
        break;
    }
    refuse(w, w->listed ? PDB_DATA_LOSS : PDB_INVALID_ARGUMENT,
           w->listed ? "a header is damaged" : "not a tar archive");
    return false;
}

static bool collect_block(struct pdb_snapshot_writer *w)
{
    size_t room = sizeof(w->block) - w->have;
    size_t len = w->piece_len < room ? w->piece_len : room;
    memcpy(w->block + w->have, w->piece, len);
    w->have += len;
    w->piece += len;
    w->piece_len -= len;
    return w->have != sizeof(w->block) || take_header(w);
}

static bool pass_over(struct pdb_snapshot_writer *w)
{
    size_t len = w->skip < w->piece_len ? (size_t)w->skip : w->piece_len;
    w->piece += len;
    w->piece_len -= len;
    w->skip -= len;
    if (w->skip == 0)
        w->state = WRITE_HEADER;
    return true;
}

static bool take(struct pdb_snapshot_writer *w)
{
    switch (w->state) {
    case WRITE_HEADER:
        return collect_block(w);
    case WRITE_LIST:
        return take_list(w);
    case WRITE_FILE:
        take_file(w);
        return false;
    case WRITE_SKIP:
        return pass_over(w);
    case WRITE_ENDED:
        w->piece_len = 0;
        return true;
    }
    return true;
}

static void go_on(struct pdb_snapshot_writer *w)
{
    while (w->piece_len != 0 || (w->state == WRITE_FILE && w->left == 0))
        if (!take(w))
            return;
    answer(w);
}

void pdb_snapshot_write_next_start(struct pdb_snapshot_write_next *n)
{
    struct pdb_snapshot_writer *w = n->writer;
    if (!call_begin(&n->call))
        return;
    ASSERT(w->call == NULL && w->home == call_state(&n->call)->home);
    if (w->error.code != 0) {
        n->call.error = w->error;
        call_return(&n->call);
        return;
    }
    w->call = &n->call;
    w->piece = n->bytes;
    w->piece_len = n->len;
    go_on(w);
}

/* ---- end ---- */

static void dispose(struct snapshot_op *op)
{
    struct pdb_snapshot_writer *w = container_of(op, struct pdb_snapshot_writer, op);
    snapshot_finish_dispose(&w->finish);
    free_writer(w);
}

static void removed(struct snapshot_remove *remove)
{
    snapshot_op_over(&container_of(remove, struct pdb_snapshot_writer, remove)->op);
}

static void undo(struct pdb_snapshot_writer *w)
{
    w->remove.image = w->image;
    w->remove.folder = w->folder;
    snapshot_remove_start(&w->remove, w->op.all->core->r->io, removed);
}

static void tell(struct pdb_call *call)
{
    struct pdb_snapshot_writer *w = writer_of(call);
    if (!snapshot_fill_more(&w->filling)) {
        call_again(call);
        return;
    }
    container_of(call, struct pdb_snapshot_write_end, call)->info_out = w->filling.info;
    snapshot_op_over(&w->op);
}

static void finished(struct snapshot_finish *finish, int rc)
{
    struct pdb_snapshot_writer *w = container_of(finish, struct pdb_snapshot_writer, finish);
    struct pdb_call *call = w->op.call;
    if (finish->uncertain) {
        snapshot_op_over(&w->op);
        return;
    }
    if (rc < 0) {
        undo(w);
        return;
    }
    struct snapshot_image *image = w->image;
    snapshot_insert(w->op.all, image);
    w->image = NULL;
    if (snapshot_fill_begin(&w->filling, call, image) < 0)
        snapshot_op_over(&w->op);
    else
        call_run(call, tell);
}

static void sync_next(struct pdb_snapshot_writer *w);

static void part_synced(struct snapshot_step *step, int64_t result)
{
    struct pdb_snapshot_writer *w = container_of(step, struct pdb_snapshot_writer, step);
    if (result < 0) {
        (void)snapshot_fail_errno(w->op.call, result, "a folder cannot be synced");
        undo(w);
        return;
    }
    w->part++;
    sync_next(w);
}

static void sync_next(struct pdb_snapshot_writer *w)
{
    struct engine_core *core = w->op.all->core;
    if (w->part < w->image->part_count) {
        snapshot_part_folder(w->step.path, w->folder, &part_of(w)->entry->uuid);
        snapshot_sync_dir(&w->step, core->r->io, part_synced);
        return;
    }
    FAILPOINT("upload.synced");
    w->finish.image = w->image;
    w->finish.folder = w->folder;
    w->finish.call = w->op.call;
    w->finish.done = finished;
    snapshot_finish_start(&w->finish, core);
}

static void run(struct snapshot_op *op)
{
    struct pdb_snapshot_writer *w = container_of(op, struct pdb_snapshot_writer, op);
    if (op->call->error.code != 0) {
        undo(w);
        return;
    }
    w->part = 0;
    sync_next(w);
}

static void end_at_core0(struct pdb_call *call)
{
    struct pdb_snapshot_writer *w = writer_of(call);
    w->op = (struct snapshot_op){.call = call, .run = run, .dispose = dispose};
    snapshot_op_queue(call_state(call)->here, &w->op);
}

static void end_closed(struct io_op *op, int64_t result)
{
    struct pdb_snapshot_writer *w = container_of(op, struct pdb_snapshot_writer, io_op);
    (void)result;
    w->fd = -1;
    (void)call_send(w->op.call, 0, end_at_core0);
}

void pdb_snapshot_write_end_start(struct pdb_snapshot_write_end *e)
{
    struct pdb_snapshot_writer *w = e->writer;
    struct pdb_call *call = &e->call;
    if (!call_begin(call)) {
        pdb_snapshot_write_abandon(w);
        return;
    }
    ASSERT(w->call == NULL && w->home == call_state(call)->home);
    call_state(call)->work = w;
    call_state(call)->touring = true;
    w->op.call = call;
    if (w->error.code != 0)
        call->error = w->error;
    else if (!w->listed || w->part != w->image->part_count || w->state == WRITE_SKIP ||
             w->have != 0)
        (void)call_fail(call, PDB_INVALID_ARGUMENT, "archive: it ends too early");
    if (w->fd < 0) {
        (void)call_send(call, 0, end_at_core0);
        return;
    }
    w->io_op = (struct io_op){.done = end_closed};
    w->home->r->io->ops->close(w->home->r->io, &w->io_op, w->fd);
}

/* ---- giving up: home closes the file, core 0 removes and frees ---- */

static void abandon_left(struct reactor *here, struct mail *mail)
{
    upkeep_leave(engine_here(here));
    heap_free(NULL, container_of(mail, struct pdb_snapshot_writer, mail));
}

static void abandon_removed(struct snapshot_remove *remove)
{
    struct pdb_snapshot_writer *w = container_of(remove, struct pdb_snapshot_writer, remove);
    list_remove(&w->link);
    buffer_dispose(&w->list);
    snapshot_image_free(w->image);
    w->mail.deliver = abandon_left;
    mail_post(reactor_here(), w->home->id, &w->mail);
}

static void abandon_arrives(struct reactor *here, struct mail *mail)
{
    struct pdb_snapshot_writer *w = container_of(mail, struct pdb_snapshot_writer, mail);
    w->remove.image = w->image;
    w->remove.folder = w->folder;
    snapshot_remove_start(&w->remove, here->io, abandon_removed);
}

static void abandon_closed(struct io_op *op, int64_t result)
{
    struct pdb_snapshot_writer *w = container_of(op, struct pdb_snapshot_writer, io_op);
    (void)result;
    w->mail.deliver = abandon_arrives;
    mail_post(w->home->r, 0, &w->mail);
}

void pdb_snapshot_write_abandon(struct pdb_snapshot_writer *w)
{
    if (w == NULL)
        return;
    ASSERT(w->call == NULL);
    upkeep_enter(w->home);
    if (w->fd < 0) {
        abandon_closed(&w->io_op, 0);
        return;
    }
    w->io_op = (struct io_op){.done = abandon_closed};
    w->home->r->io->ops->close(w->home->r->io, &w->io_op, w->fd);
}
