/* export_snapshot.c: makes, downloads and deletes a snapshot of one collection.
 *
 * The files are links on the server's side: no rows are copied there, and what is written meanwhile
 * is not in it. The snapshot's name is a new UUID, so that a create whose answer was lost can be
 * repeated, and that nobody else's is ever deleted. It is deleted whatever happens; only the death
 * of this process, or of the server for longer than requests are repeated, leaves it. */
#include "server/export_snapshot.h"

#include "base/json.h"
#include "base/uuid.h"
#include "transport/codec/json_responses.h"

#include <proximadb/copy.h>
#include <string.h>
#include <time.h>

#include "base/no_libc_heap.h"

enum { NAME_BYTES = 64, PATH_BYTES = 128, PAUSE_FIRST_MS = 50, PAUSE_MAX_MS = 2000 };

struct download {
    struct export_snapshot *s;
    struct pdb_unpack *unpack;
    struct pdb_error error;
    uint64_t got, total; /* bytes of the archive; total 0: unknown */
};

static void pause_for(unsigned attempt)
{
    long ms = attempt < 6 ? PAUSE_FIRST_MS << attempt : PAUSE_MAX_MS;
    ms = ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS;
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

/* ---- making and deleting ---- */

static int make(struct export_snapshot *s, const char *name, struct arena *arena,
                struct trail *trail)
{
    const struct route route = {"POST", "/v1/snapshots", "application/json"};
    struct wire_reply reply;
    struct buffer json;
    buffer_init_arena(&json, arena, 0);
    buffer_format(&json, "{\"name\":\"%s\",\"collection\":", name);
    json_write_string(&json, text_of(s->collection));
    buffer_add_byte(&json, '}');
    if (json.failed)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    const struct pdb_text body = {json.ptr, json.len};
    wire_call_patiently(s->wire, &route, &body, 1, TRANSFER_TRIES, &reply);
    if (reply.code == CODE_OK || reply.code == -PDB_ALREADY_EXISTS) /* the lost answer was a yes */
        return 0;
    return trail_add(trail, -reply.code, "the snapshot cannot be made: %s", reply.message);
}

/* Of its files, for the progress; 0: not told. */
static uint64_t ask_bytes(struct export_snapshot *s, const char *name, struct arena *arena)
{
    char path[PATH_BYTES];
    const struct route route = {"GET", path, "application/json"};
    struct wire_reply reply;
    struct pdb_text doc;
    struct doc_value bytes;
    (void)snprintf(path, sizeof(path), "/v1/snapshots/%s", name);
    wire_call_patiently(s->wire, &route, NULL, 0, TRANSFER_TRIES, &reply);
    if (reply.code != CODE_OK || !transfer_read_doc(arena, reply.body, &doc))
        return 0;
    struct doc_value root = doc_root(doc.ptr, doc.len);
    if (!doc_get(&root, TEXT_LIT("bytes"), &bytes) || bytes.type != DOC_INT || bytes.integer < 0)
        return 0;
    return (uint64_t)bytes.integer;
}

/* While the server still sees a download that was broken off it refuses. A create that was never
 * answered may come true after a delete that found nothing; `made` false: it is looked for
 * again. */
static void remove_it(struct export_snapshot *s, const char *name, bool made)
{
    char path[PATH_BYTES];
    const struct route route = {"DELETE", path, "application/json"};
    struct wire_reply reply = {0};
    (void)snprintf(path, sizeof(path), "/v1/snapshots/%s", name);
    for (unsigned i = 0; i < TRANSFER_TRIES; i++) {
        wire_call_patiently(s->wire, &route, NULL, 0, TRANSFER_TRIES, &reply);
        bool again = reply.code == -PDB_FAILED_PRECONDITION ||
                     (!made && i < 4 && reply.code == -PDB_NOT_FOUND);
        if (!again)
            break;
        pause_for(i);
    }
    if (reply.code != CODE_OK && reply.code != -PDB_NOT_FOUND)
        (void)fprintf(stderr,
                      "proximadb export: snapshot '%s' may be left on the server; delete it: %s\n",
                      name, reply.message);
}

/* ---- downloading ---- */

static bool take(void *arg, const void *bytes, size_t len)
{
    struct download *d = arg;
    if (transfer_is_interrupted(d->s->interrupted))
        return false;
    if (len != 0 && pdb_unpack_write(d->unpack, bytes, len, &d->error) < 0)
        return false;
    d->got += len;
    transfer_progress_tell(d->s->progress, 0, d->got, d->got, d->total);
    return true;
}

/* One attempt. 0; PDB_UNAVAILABLE with *again_out: it may be tried anew; or an error. */
static int download(struct download *d, const struct route *route, bool *again_out,
                    struct trail *trail)
{
    struct export_snapshot *s = d->s;
    const struct pdb_unpack_options options = {.folder = s->folder,
                                               .describe = json_encode_collection_config};
    struct wire_reply reply;
    *again_out = false;
    d->got = 0;
    d->error = (struct pdb_error){0};
    if (pdb_unpack_open(&options, &d->unpack, &d->error) < 0)
        return trail_add(trail, d->error.code, "%s", d->error.text);
    wire_stream(s->wire, route, take, d, &reply);
    int rc = 0;
    if (d->error.code != 0) {
        rc = trail_add(trail, d->error.code, "%s", d->error.text);
    } else if (reply.code != CODE_OK && !*s->interrupted) {
        *again_out = reply.lost || reply.code == CODE_UNAVAILABLE;
        rc = trail_add(trail, -reply.code, "the download: %s", reply.message);
    } else if (!*s->interrupted && pdb_unpack_finish(d->unpack, &s->rows, &d->error) < 0) {
        rc = trail_add(trail, d->error.code, "%s", d->error.text);
    }
    pdb_unpack_close(d->unpack);
    s->bytes = d->got;
    return rc;
}

static int download_patiently(struct export_snapshot *s, const char *name, uint64_t total,
                              struct trail *trail)
{
    char path[PATH_BYTES];
    const struct route route = {"GET", path, "application/json"};
    struct download d = {.s = s, .total = total};
    bool again = true;
    int rc = 0;
    (void)snprintf(path, sizeof(path), "/v1/snapshots/%s/archive", name);
    for (unsigned i = 0; again && i < TRANSFER_TRIES && !transfer_is_interrupted(s->interrupted);
         i++) {
        if (i != 0)
            pause_for(i);
        trail_reset(trail);
        rc = download(&d, &route, &again, trail);
    }
    return *s->interrupted ? 0 : rc;
}

int export_snapshot(struct export_snapshot *s, struct arena *arena, struct trail *trail)
{
    struct uuid uuid;
    char text[UUID_TEXT_LEN + 1], name[NAME_BYTES];
    if (uuid_random(&uuid) < 0)
        return trail_add(trail, PDB_UNAVAILABLE, "no random numbers");
    uuid_format(&uuid, text);
    (void)snprintf(name, sizeof(name), "export-%s", text);
    int rc = make(s, name, arena, trail);
    bool made = rc == 0;
    if (made)
        rc = download_patiently(s, name, ask_bytes(s, name, arena), trail);
    if (made || rc == PDB_UNAVAILABLE || rc == PDB_DEADLINE_EXCEEDED)
        remove_it(s, name, made);
    return rc;
}
