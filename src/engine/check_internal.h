/* Shared by check.c (catalog and logs), check_shards.c (manifests and segments) and log_list.c. */
#ifndef ENGINE_CHECK_INTERNAL_H
#define ENGINE_CHECK_INTERNAL_H

#include "engine/catalog.h"
#include "engine/engine_internal.h"

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
};

enum check_severity {
    CHECK_DAMAGE,
    CHECK_DERIVED, /* can be made again, or is not needed: a repair mends it */
    CHECK_MENDED,
};

/* One JSON line. */
void check_tell(struct check *check, enum check_severity severity, const char *kind,
                const char *text);
bool check_knows(const struct check *check, const struct uuid *uuid);

/* catalog/LOGS, and whether every log that it names is there, in one of these directories. Needs
 * only io and data_dir. Errors as log_list_check. */
int check_log_list(const struct check *check, const char *const *dirs, size_t dir_count,
                   struct trail *trail);
/* Every shard that the catalog knows: manifest, files, segments against their index, what ended. */
void check_shards(struct check *check);

#endif
