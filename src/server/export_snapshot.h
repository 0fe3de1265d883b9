/* export_snapshot.h: a collection of a running server as a folder of its own Parquet files: a
 * snapshot that is made for it, downloaded as one stream, unpacked as it comes, and deleted. */
#ifndef SERVER_EXPORT_SNAPSHOT_H
#define SERVER_EXPORT_SNAPSHOT_H

#include "server/transfer.h"

struct export_snapshot {
    /* set by the caller */
    struct wire *wire;
    const char *collection;
    const char *folder; /* is made */
    struct transfer_progress *progress;
    bool *interrupted;
    /* results */
    uint64_t rows; /* that are alive */
    uint64_t bytes;
};

/* 0, also when it was interrupted (then nothing is left), or an error. A download that is cut off
 * begins again. If the snapshot cannot be deleted, standard error says so, with its name. */
int export_snapshot(struct export_snapshot *s, struct arena *arena, struct trail *trail);

#endif
