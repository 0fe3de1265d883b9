/* archive_put.c: one object into the store, by an outside worker.
 *
 * Everything but STATE is put only where nothing is. What is there already is compared: our own
 * from before a crash is the same, by length and checksum; anything else is a conflict, which
 * nobody may resolve by overwriting. A store that keeps no checksum is read.
 *
 * Files that are large are read by the store itself, a piece at a time; small ones, and those of a
 * simulated disk, as a whole. */
#include "engine/archive_internal.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "os/failpoint.h"
#include "os/file_map.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { PIECE_BYTES = 1 << 20 };

struct source {
    struct file_map map;
    const void *bytes; /* or NULL: `path` */
    const char *path;
    uint64_t len;
};

/* ---- the source ---- */

static bool is_simulated(const struct io *io)
{
    return strcmp(io->ops->name, "sim") == 0;
}

static int file_failed(struct archive_put *put, int error)
{
    return trail_add(&put->trail, error == -ENOMEM ? PDB_RESOURCE_EXHAUSTED : PDB_UNAVAILABLE,
                     "%s cannot be read: %s", put->path, strerror(-error));
}

static int open_whole(struct archive_put *put, struct source *source)
{
    source->path = put->path;
    int rc = file_map_open(put->io, put->path, FILE_MAP_NORMAL, &source->map);
    if (rc == -ENOENT && put->path_other[0] != '\0') {
        source->path = put->path_other;
        rc = file_map_open(put->io, put->path_other, FILE_MAP_NORMAL, &source->map);
    }
    if (rc < 0)
        return file_failed(put, rc);
    source->len = put->len == UINT64_MAX ? source->map.len : put->len;
    if (source->len > source->map.len) {
        file_map_close(&source->map);
        return trail_add(&put->trail, PDB_DATA_LOSS, "%s is too short", source->path);
    }
    rc = file_map_populate(&source->map, 0, (size_t)source->len);
    if (rc < 0) {
        file_map_close(&source->map);
        return file_failed(put, rc);
    }
    source->bytes = source->map.ptr;
    return 0;
}

static int open_source(struct archive_put *put, struct source *source)
{
    *source = (struct source){.bytes = put->bytes, .path = put->path, .len = put->len};
    if (put->bytes != NULL || (put->len != UINT64_MAX && !is_simulated(put->io)))
        return 0;
    return open_whole(put, source);
}

/* ---- what is there ---- */

static int our_sum(struct archive_put *put, struct source *source, uint32_t *crc_out)
{
    int rc = 0;
    if (source->bytes == NULL)
        rc = open_whole(put, source);
    if (rc == 0)
        *crc_out = crc32c(0, source->bytes, (size_t)source->len);
    return rc;
}

static int their_sum(struct archive_put *put, const struct store_call *call, uint64_t len,
                     uint32_t *crc_out)
{
    uint32_t crc = 0;
    uint8_t *piece = heap_alloc(NULL, PIECE_BYTES);
    if (piece == NULL)
        return trail_add(&put->trail, PDB_RESOURCE_EXHAUSTED, "out of memory");
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < len;) {
        uint64_t got = 0, left = len - at;
        const struct store_get_request request = {
            .key = text_of(put->key),
            .offset = at,
            .len = left < PIECE_BYTES ? left : PIECE_BYTES,
            .to = piece,
            .to_size = PIECE_BYTES,
        };
        rc = store_get(put->store, call, &request, &got, NULL);
        if (rc == 0 && got == 0)
            rc = trail_add(&put->trail, PDB_UNAVAILABLE, "the object became shorter");
        crc = crc32c(crc, piece, (size_t)got);
        at += got;
    }
    heap_free(NULL, piece);
    *crc_out = crc;
    return rc;
}

/* 0: it is the same. */
static int compare(struct archive_put *put, const struct store_call *call, struct source *source,
                   const struct store_info *info)
{
    uint32_t ours = 0, theirs = info->crc32c;
    int rc = 0;
    if (info->size == source->len)
        rc = our_sum(put, source, &ours);
    if (rc == 0 && info->size == source->len && !info->has_crc32c)
        rc = their_sum(put, call, info->size, &theirs);
    if (rc < 0)
        return rc;
    if (info->size == source->len && ours == theirs)
        return 0;
    return trail_add(&put->trail, PDB_DATA_LOSS,
                     "%s/%s is there with other bytes (%" PRIu64 " instead of %" PRIu64
                     "): two data directories write one archive, or it was changed; nothing is "
                     "overwritten",
                     store_name(put->store), put->key, info->size, source->len);
}

/* 0: it is there and the same; PDB_NOT_FOUND: it is not. */
static int look(struct archive_put *put, const struct store_call *call, struct source *source)
{
    struct store_info info;
    int rc = store_head(put->store, call, text_of(put->key), &info);
    return rc == 0 ? compare(put, call, source, &info) : rc;
}

/* ---- sending ---- */

static int send(struct archive_put *put, const struct store_call *call, struct source *source)
{
    const struct store_put_request request = {
        .key = text_of(put->key),
        .bytes = source->bytes,
        .path = source->bytes == NULL ? source->path : NULL,
        .len = source->len,
        .condition = put->replace ? STORE_ALWAYS : STORE_IF_ABSENT,
    };
    int rc = store_put(put->store, call, &request, NULL);
    if (rc == 0)
        put->sent_bytes = source->len;
    if (rc != PDB_ALREADY_EXISTS)
        return rc;
    trail_reset(&put->trail);
    return look(put, call, source);
}

static void compute(struct job *job)
{
    struct archive_put *put = container_of(job, struct archive_put, job);
    const struct store_call call = {.cancel = &put->cancel, .trail = &put->trail};
    struct source source;
    FAILPOINT("archive.put");
    if (FAILPOINT_FAILS("archive.put_fails")) {
        put->rc = trail_add(&put->trail, PDB_UNAVAILABLE, "a test says so");
        return;
    }
    put->rc = open_source(put, &source);
    if (put->rc < 0)
        return;
    put->rc = put->look_first ? look(put, &call, &source) : PDB_NOT_FOUND;
    if (put->rc == PDB_NOT_FOUND) {
        trail_reset(&put->trail);
        put->rc = send(put, &call, &source);
    }
    file_map_close(&source.map);
    FAILPOINT("archive.put_done");
}

static void deliver(struct reactor *here, struct mail *mail)
{
    struct archive_put *put = container_of(mail, struct archive_put, job.back);
    struct engine_core *core = engine_here(here);
    put->busy = false;
    if (put->rc == 0 && put->sent_bytes != 0) {
        metrics_add(core->metrics, METRICS_ARCHIVE_OBJECTS_AT, 1);
        metrics_add(core->metrics, METRICS_ARCHIVE_BYTES_AT, put->sent_bytes);
    }
    put->done(put);
}

void archive_put_start(struct engine_core *core, unsigned worker, struct archive_put *put)
{
    ASSERT(!put->busy && put->done != NULL);
    trail_reset(&put->trail);
    put->store = core->db->archive;
    put->io = core->r->io;
    put->rc = 0;
    put->sent_bytes = 0;
    put->busy = true;
    atomic_store_explicit(&put->cancel.asked, false, memory_order_relaxed);
    put->job.compute = compute;
    put->job.back.deliver = deliver;
    job_start(core->r, core->r->count + worker, &put->job);
}

void archive_put_cancel(struct archive_put *put)
{
    if (put->busy)
        store_cancel(&put->cancel);
}
