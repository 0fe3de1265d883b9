/* Shared by check.c (catalog and logs), check_shards.c (manifests and segments), check_rows.c (rows
 * of several segments), check_snapshots.c and log_list.c. */
#ifndef ENGINE_CHECK_INTERNAL_H
#define ENGINE_CHECK_INTERNAL_H

#include "engine/catalog.h"
#include "engine/engine_internal.h"
#include "engine/manifest.h"

#define CHECK_BY_HAND(what) "nothing by itself: " what

struct check_record { /* of a log */
    struct uuid collection;
    uint64_t version;
    bool jump;
};

struct check {
    void (*report)(void *arg, const char *line);
    void *arg;
    struct io *io;
    const char *data_dir;
    bool repair;
    struct arena arena; /* of the catalog's image */
    struct arena lines;
    struct catalog_image image;
    uint64_t findings; /* damage */
    uint64_t derived;  /* what can be made again, or is not needed */
    struct uuid last_unknown;
    struct check_record *records; /* of all logs, in order of collection and version */
    size_t record_count, record_capacity;
    bool records_lost;  /* no memory for all of them */
    uint64_t *versions; /* of the manifest of each entry; UINT64_MAX: it cannot be read */
};

enum check_severity {
    CHECK_DAMAGE,
    CHECK_DERIVED, /* can be made again, or is not needed: a repair mends it */
    CHECK_MENDED,
};

/* One JSON line. `action`: what a repair did or would do, or what is to be done by hand. */
void check_tell(struct check *check, enum check_severity severity, const char *kind,
                const char *action, const char *text);
/* A file or folder, named by `text`, that nobody needs: removed is by the caller. */
void check_tell_leftover(struct check *check, const char *text);
bool check_knows(const struct check *check, const struct uuid *uuid);
bool check_has_records(const struct check *check, const struct uuid *uuid);

/* catalog/LOGS, and whether every log that it names is there, in one of these directories. Needs
 * only io and data_dir. Errors as log_list_check. */
int check_log_list(const struct check *check, const char *const *dirs, size_t dir_count,
                   struct trail *trail);
/* Every shard that the catalog knows: manifest, files, segments against their index, rows of one id
 * against each other. Fills check->versions. Then the folders that no collection has. */
void check_shards(struct check *check);
/* snapshots/: the lists, the files against them, the manifests against both. */
void check_snapshots(struct check *check);

struct check_rows { /* one segment of a shard */
    const struct segment *segment;
    const struct manifest_segment *entry;
    /* its own */
    struct manifest_ended ended;
    uint32_t row, ended_row;
    uint64_t ended_at;
    bool has_ended;
};
/* All segments of a shard together: of one id at most the newest row lives, no version of it comes
 * twice, nothing ended before it was written, nothing is newer than the manifest. `report` gets
 * each finding. 0 or PDB_RESOURCE_EXHAUSTED. */
int check_rows(struct check_rows *segments, uint32_t count, uint64_t version,
               void (*report)(void *arg, const char *line), void *arg);

#endif
