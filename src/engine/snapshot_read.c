/* snapshot_read.c: a snapshot as one stream of bytes: the list first, then every file in the order
 * in which the list has them, then two blocks of zeros. The length is known before the first byte.
 *
 * A reader belongs to the core where it was begun and reads there, a piece for each call. Core 0
 * counts it in its image, which is not deleted meanwhile. */
#include "base/assert.h"
#include "engine/snapshot_internal.h"
#include "engine/snapshot_tar.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

struct pdb_snapshot_reader {
    struct mail mail;
    struct engine_core *home;
    struct snapshot_image *image;
    struct buffer list;  /* SNAPSHOT */
    uint32_t part, file; /* the next one, once the list is told */
    bool begun;          /* the list is told */
    bool ended;
    int fd; /* of the file under way; -1: none */
    uint64_t left, at, padding;
    struct io_op op;
    struct pdb_call *call;
    struct snapshot_encoder encoder;
    size_t len;
    char path[SNAPSHOT_PATH_MAX];
    char piece[SNAPSHOT_PIECE_BYTES + 2 * SNAPSHOT_TAR_BLOCK];
};

/* ---- beginning ---- */

static struct pdb_snapshot_reader *reader_of(struct pdb_call *call)
{
    return call_state(call)->work;
}

static uint64_t block_bytes(uint64_t bytes)
{
    return SNAPSHOT_TAR_BLOCK + bytes + snapshot_tar_padding(bytes);
}

static uint64_t archive_bytes(const struct pdb_snapshot_reader *reader)
{
    uint64_t sum = block_bytes(reader->list.len) + SNAPSHOT_TAR_END;
    for (uint32_t p = 0; p < reader->image->part_count; p++)
        for (uint32_t f = 0; f < reader->image->parts[p].file_count; f++)
            sum += block_bytes(reader->image->parts[p].files[f].bytes);
    return sum;
}

static void free_reader(struct pdb_snapshot_reader *reader)
{
    reader->image->readers--;
    buffer_dispose(&reader->list);
    heap_free(NULL, reader);
}

/* Core 0: the list's bytes are those on the disk. */
static void encode_step(struct pdb_call *call)
{
    struct pdb_snapshot_reader *reader = reader_of(call);
    struct pdb_snapshot_read_begin *b = container_of(call, struct pdb_snapshot_read_begin, call);
    while (!snapshot_encode_step(&reader->encoder, &reader->list, reader->image)) {
        if (reactor_slice_over(call_state(call)->here->r)) {
            call_again(call);
            return;
        }
    }
    if (reader->list.failed) {
        (void)call_no_memory(call);
        free_reader(reader);
    } else {
        b->reader_out = reader;
        b->bytes_out = archive_bytes(reader);
    }
    call_return(call);
}

static void begin_at_core0(struct pdb_call *call)
{
    const struct pdb_snapshot_read_begin *b =
        container_of(call, struct pdb_snapshot_read_begin, call);
    struct snapshot_image *image = NULL;
    if (snapshot_usable(call, b->name, &image) < 0) {
        call_return(call);
        return;
    }
    struct pdb_snapshot_reader *reader = heap_calloc(NULL, 1, sizeof(*reader));
    if (reader == NULL) {
        (void)call_no_memory(call);
        call_return(call);
        return;
    }
    reader->home = call_state(call)->home;
    reader->image = image;
    reader->fd = -1;
    image->readers++;
    call_state(call)->work = reader;
    buffer_init_heap(&reader->list, NULL, SNAPSHOT_LIST_BYTES_MAX);
    call_run(call, encode_step);
}

void pdb_snapshot_read_begin_start(struct pdb_snapshot_read_begin *b)
{
    b->reader_out = NULL;
    if (!call_begin(&b->call))
        return;
    call_state(&b->call)->touring = true;
    (void)call_send(&b->call, 0, begin_at_core0);
}

/* ---- reading on ---- */

static void give(struct pdb_snapshot_reader *reader)
{
    struct pdb_call *call = reader->call;
    struct pdb_snapshot_read_next *n = container_of(call, struct pdb_snapshot_read_next, call);
    reader->call = NULL;
    n->bytes_out = reader->piece;
    n->len_out = call->error.code == 0 ? reader->len : 0;
    call_return(call);
}

static void fail_errno(struct pdb_snapshot_reader *reader, int64_t result)
{
    (void)call_fail(reader->call,
                    result == -EIO || result == -ENOENT ? PDB_DATA_LOSS : engine_errno_code(result),
                    "snapshot: %s cannot be read: %s", reader->path, strerror((int)-result));
    give(reader);
}

static void fill(struct pdb_snapshot_reader *reader);

static void add_padding(struct pdb_snapshot_reader *reader)
{
    memset(reader->piece + reader->len, 0, (size_t)reader->padding);
    reader->len += (size_t)reader->padding;
    reader->padding = 0;
}

static void closed(struct io_op *op, int64_t result)
{
    struct pdb_snapshot_reader *reader = container_of(op, struct pdb_snapshot_reader, op);
    (void)result;
    reader->fd = -1;
    add_padding(reader);
    give(reader);
}

static void have_read(struct io_op *op, int64_t result)
{
    struct pdb_snapshot_reader *reader = container_of(op, struct pdb_snapshot_reader, op);
    if (result == -EAGAIN || result == -EINTR) {
        fill(reader);
        return;
    }
    if (result <= 0) {
        fail_errno(reader, result < 0 ? result : -EIO); /* it was longer */
        return;
    }
    reader->len += (size_t)result;
    reader->at += (uint64_t)result;
    reader->left -= (uint64_t)result;
    if (reader->left != 0) {
        give(reader);
        return;
    }
    *op = (struct io_op){.done = closed};
    reader->home->r->io->ops->close(reader->home->r->io, op, reader->fd);
}

/* Of the open file, behind what is in the piece. */
static void fill(struct pdb_snapshot_reader *reader)
{
    struct io *io = reader->home->r->io;
    size_t len = reader->left < SNAPSHOT_PIECE_BYTES ? (size_t)reader->left : SNAPSHOT_PIECE_BYTES;
    reader->op = (struct io_op){.done = have_read};
    io->ops->read(io, &reader->op, reader->fd, reader->piece + reader->len, len, reader->at);
}

static void opened(struct io_op *op, int64_t result)
{
    struct pdb_snapshot_reader *reader = container_of(op, struct pdb_snapshot_reader, op);
    if (result < 0) {
        fail_errno(reader, result);
        return;
    }
    reader->fd = (int)result;
    if (reader->left == 0) { /* no file of ours is empty, but none is believed */
        *op = (struct io_op){.done = closed};
        reader->home->r->io->ops->close(reader->home->r->io, op, reader->fd);
        return;
    }
    fill(reader);
}

static void add_header(struct pdb_snapshot_reader *reader, const char *name, uint64_t bytes)
{
    snapshot_tar_encode(reader->piece, name, bytes, reader->image->created_at_us / 1000000);
    reader->len = SNAPSHOT_TAR_BLOCK;
    reader->left = bytes;
    reader->at = 0;
    reader->padding = snapshot_tar_padding(bytes);
}

static void begin_file(struct pdb_snapshot_reader *reader)
{
    const struct snapshot_part *part = &reader->image->parts[reader->part];
    const struct snapshot_file *file = &part->files[reader->file];
    char folder[SNAPSHOT_FOLDER_MAX], part_folder[SNAPSHOT_PATH_MAX], name[100];
    char uuid[UUID_TEXT_LEN + 1];
    struct io *io = reader->home->r->io;
    uuid_format(&part->entry->uuid, uuid);
    (void)snprintf(name, sizeof(name), "%s/%s", uuid, file->name);
    add_header(reader, name, file->bytes);
    snapshot_folder(folder, reader->home->db, reader->image->name);
    snapshot_part_folder(part_folder, folder, &part->entry->uuid);
    (void)snprintf(reader->path, sizeof(reader->path), "%.1220s/%s", part_folder, file->name);
    if (++reader->file == part->file_count) {
        reader->part++;
        reader->file = 0;
    }
    reader->op = (struct io_op){.done = opened};
    io->ops->open(io, &reader->op, reader->path, IO_OPEN_READ);
}

/* The list lies in memory. */
static void tell_list(struct pdb_snapshot_reader *reader)
{
    if (!reader->begun) {
        add_header(reader, "SNAPSHOT", reader->list.len);
        reader->begun = true;
    }
    size_t len = reader->left < SNAPSHOT_PIECE_BYTES ? (size_t)reader->left : SNAPSHOT_PIECE_BYTES;
    memcpy(reader->piece + reader->len, reader->list.ptr + reader->at, len);
    reader->len += len;
    reader->at += len;
    reader->left -= len;
    if (reader->left == 0) {
        add_padding(reader);
        buffer_dispose(&reader->list);
    }
    give(reader);
}

void pdb_snapshot_read_next_start(struct pdb_snapshot_read_next *n)
{
    struct pdb_snapshot_reader *reader = n->reader;
    n->bytes_out = NULL;
    n->len_out = 0;
    if (!call_begin(&n->call))
        return;
    ASSERT(reader->call == NULL && reader->home == call_state(&n->call)->home);
    reader->call = &n->call;
    reader->len = 0;
    if (!reader->begun || reader->list.len != 0) {
        tell_list(reader);
    } else if (reader->fd >= 0) {
        fill(reader);
    } else if (reader->part < reader->image->part_count) {
        begin_file(reader);
    } else {
        reader->len = reader->ended ? 0 : SNAPSHOT_TAR_END;
        memset(reader->piece, 0, SNAPSHOT_TAR_END);
        reader->ended = true;
        give(reader);
    }
}

/* ---- ending: home closes the file, core 0 counts, home is told (it may be closing) ---- */

static void let_go(struct reactor *here, struct mail *mail)
{
    struct pdb_snapshot_reader *reader = container_of(mail, struct pdb_snapshot_reader, mail);
    (void)mail;
    upkeep_leave(engine_here(here));
    buffer_dispose(&reader->list);
    heap_free(NULL, reader);
}

static void counted(struct reactor *here, struct mail *mail)
{
    struct pdb_snapshot_reader *reader = container_of(mail, struct pdb_snapshot_reader, mail);
    reader->image->readers--;
    mail->deliver = let_go;
    mail_post(here, reader->home->id, mail);
}

static void closed_at_end(struct io_op *op, int64_t result)
{
    struct pdb_snapshot_reader *reader = container_of(op, struct pdb_snapshot_reader, op);
    (void)result;
    reader->mail.deliver = counted;
    mail_post(reader->home->r, 0, &reader->mail);
}

void pdb_snapshot_read_end(struct pdb_snapshot_reader *reader)
{
    if (reader == NULL)
        return;
    ASSERT(reader->call == NULL);
    upkeep_enter(reader->home);
    if (reader->fd < 0) {
        closed_at_end(&reader->op, 0);
        return;
    }
    reader->op = (struct io_op){.done = closed_at_end};
    reader->home->r->io->ops->close(reader->home->r->io, &reader->op, reader->fd);
}
