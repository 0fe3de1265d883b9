/* protobuf_snapshots.c: requests on snapshots. Small ones are unpacked by protobuf-c; the pieces of
 * an upload are read in place. */
#include "transport/codec/protobuf_requests.h"

#include "base/no_libc_heap.h"

#include "proximadb_v1_proximadb.pb-c.h"

int protobuf_decode_snapshot_create(struct protobuf_decoder *d, struct pdb_text message,
                                    struct pdb_snapshot_create *create_out)
{
    const Proximadb__V1__CreateSnapshotRequest *m = protobuf_unpack(
        &proximadb__v1__create_snapshot_request__descriptor, message, d->arena, d->trail);
    if (m == NULL)
        return d->trail->code;
    create_out->name = text_of(m->name);
    create_out->collection = text_of(m->collection);
    return 0;
}

int protobuf_decode_snapshot_list(struct protobuf_decoder *d, struct pdb_text message,
                                  struct pdb_snapshot_list *list_out)
{
    const Proximadb__V1__ListSnapshotsRequest *m = protobuf_unpack(
        &proximadb__v1__list_snapshots_request__descriptor, message, d->arena, d->trail);
    if (m == NULL)
        return d->trail->code;
    list_out->limit = m->limit;
    list_out->after = text_of(m->cursor);
    return 0;
}

int protobuf_decode_snapshot_name(struct protobuf_decoder *d, struct pdb_text message,
                                  struct pdb_text *name_out)
{
    const Proximadb__V1__GetSnapshotRequest *m = protobuf_unpack(
        &proximadb__v1__get_snapshot_request__descriptor, message, d->arena, d->trail);
    if (m == NULL)
        return d->trail->code;
    *name_out = text_of(m->snapshot);
    return 0;
}

int protobuf_decode_snapshot_restore(struct protobuf_decoder *d, struct pdb_text message,
                                     struct pdb_snapshot_restore *restore_out)
{
    const Proximadb__V1__RestoreSnapshotRequest *m = protobuf_unpack(
        &proximadb__v1__restore_snapshot_request__descriptor, message, d->arena, d->trail);
    if (m == NULL)
        return d->trail->code;
    restore_out->name = text_of(m->snapshot);
    restore_out->collection = text_of(m->collection);
    restore_out->target = text_of(m->target);
    restore_out->replace = m->replace;
    return 0;
}

int protobuf_decode_snapshot_piece(struct protobuf_decoder *d, struct pdb_text message,
                                   struct pdb_text *name_out, struct pdb_text *data_out)
{
    enum { SNAPSHOT = 1, DATA };
    const struct protobuf_place whole = {0};
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f;
    int rc = protobuf_check(&proximadb__v1__upload_snapshot_request__descriptor, message, whole,
                            d->trail);
    if (rc < 0)
        return rc;
    *name_out = *data_out = (struct pdb_text){0};
    while ((rc = protobuf_next(&r, &f)) > 0) {
        if (f.number == SNAPSHOT)
            *name_out = f.bytes;
        else if (f.number == DATA)
            *data_out = f.bytes;
    }
    return rc;
}
