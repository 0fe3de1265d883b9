/* The catalog: which collections there are, with their schemas and settings. Core 0 owns and
 * serialises its changes; every core reads its own reference to the newest immutable snapshot, so
 * that a look-up by name costs no message.
 *
 * On disk: one checksummed file per version (docs/formats/catalog.md), named by catalog/CURRENT,
 * replaced by rename. A change is answered when its version is durable and every core has said that
 * it uses it. */
#ifndef ENGINE_CATALOG_H
#define ENGINE_CATALOG_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/uuid.h"
#include "engine/engine_internal.h"
#include "filter/filter.h"
#include "os/io.h"

struct catalog_entry { /* immutable once it is in a snapshot */
    struct uuid uuid;
    struct pdb_collection_config config; /* in `arena`, like all below */
    int64_t created_at_us, updated_at_us;
    uint64_t schema_version; /* +1 when columns are added */
    /* It came with all batches up to it, out of a snapshot: no log has them. 0: it began empty. Set
     * by who makes the entry. */
    uint64_t born_version;
    const struct filter_column *columns; /* config.column_count: the same as filters want them */
    const uint32_t *field_bytes;         /* of a vector of each field */
    uint64_t row_bytes;                  /* the sum */
    unsigned refs;                       /* core 0's: snapshots that have it */
    struct arena arena;
};

/* of one core in one snapshot; touched by that core, or core 0 while its mail is there */
struct catalog_share {
    struct mail publish, release;
    struct catalog_snapshot *snapshot;
    uint64_t holds; /* calls started there that use it, and 1 while it is that core's newest */
};

struct catalog_snapshot {
    uint64_t version;
    struct catalog_entry **entries; /* by name, bytewise */
    uint32_t count;
    unsigned share_count, let_go; /* let_go: core 0's */
    struct catalog_share shares[];
};

/* ---- reading; any core ---- */

const struct catalog_entry *catalog_find(const struct catalog_snapshot *snapshot,
                                         struct pdb_text name);
/* The index of the first entry whose name is greater than `name` (0 for an empty one). */
uint32_t catalog_after(const struct catalog_snapshot *snapshot, struct pdb_text name);
/* The core that owns the (only) shard of a collection: the same for every core count of the same
 * size. */
unsigned catalog_owner(const struct uuid *uuid, unsigned core_count);
void catalog_hold(struct engine_core *core, struct catalog_snapshot *snapshot);
void catalog_let_go(struct engine_core *core, struct catalog_snapshot *snapshot);

/* ---- making; core 0 ---- */

struct catalog_times {
    int64_t created_at_us, updated_at_us;
    uint64_t schema_version;
};
/* A copy of everything. NULL without memory. */
struct catalog_entry *catalog_entry_new(const struct uuid *uuid,
                                        const struct pdb_collection_config *config,
                                        const struct catalog_times *times);
void catalog_entry_free(struct catalog_entry *entry);
/* Takes a reference to each entry; `entries` is copied. NULL without memory. */
struct catalog_snapshot *catalog_snapshot_new(uint64_t version,
                                              struct catalog_entry *const *entries, uint32_t count,
                                              unsigned core_count);
/* Gives the references back; an entry without any is freed. */
void catalog_snapshot_free(struct catalog_snapshot *snapshot);
/* A deep copy of a config into any arena; false without memory. */
bool catalog_copy_config(struct arena *arena, const struct pdb_collection_config *from,
                         struct pdb_collection_config *to_out);

/* ---- the file (catalog_format.c, pure) ---- */

struct catalog_image {
    uint64_t version;
    int64_t written_at_us;
    struct catalog_entry **entries; /* in `arena`, the entries on their own */
    uint32_t count;
    struct uuid *dropped;
    uint32_t dropped_count;
};
enum { CATALOG_FORMAT_VERSION = 5, CATALOG_HEADER_BYTES = 64, CATALOG_FILE_BYTES_MAX = 1 << 30 };
/* In steps: begin, one entry at a time, end (which adds the dropped ids and fills in the header).
 * buffer->failed tells. */
void catalog_encode_begin(struct buffer *out, uint32_t entry_count);
void catalog_encode_entry(struct buffer *out, const struct catalog_entry *entry);
void catalog_encode_end(struct buffer *out, uint64_t version, int64_t now_us,
                        const struct uuid *dropped, uint32_t dropped_count);
/* 0, PDB_DATA_LOSS (the trail says where) or PDB_RESOURCE_EXHAUSTED. On failure no entry is left
 * behind. */
int catalog_decode(const void *bytes, size_t len, struct arena *arena,
                   struct catalog_image *image_out, struct trail *trail);
void catalog_image_dispose(struct catalog_image *image);
/* One entry as catalog_encode_entry writes it, of a file of that format version. */
int catalog_decode_entry(struct bytes_reader *r, uint32_t format, struct arena *scratch,
                         struct catalog_entry **entry_out, struct trail *trail);
/* The text of CURRENT. */
size_t catalog_current_format(uint64_t version, char text_out[64]);
int catalog_current_parse(const void *bytes, size_t len, uint64_t *version_out,
                          struct trail *trail);

/* ---- loading at start (catalog_load.c; waits for its I/O) ---- */

/* Reads CURRENT and its catalog; a new data directory gets version 1, empty. */
int catalog_load(struct io *io, const char *data_dir, struct arena *arena,
                 struct catalog_image *image_out, struct trail *trail);
/* The same without changing anything: for checks. PDB_NOT_FOUND when there is no catalog at all. */
int catalog_read(struct io *io, const char *data_dir, struct arena *arena,
                 struct catalog_image *image_out, struct trail *trail);

/* ---- saving (catalog_save.c) ---- */

struct catalog_save {
    struct io *io;
    const char *data_dir;
    uint64_t version; /* of `bytes` */
    const void *bytes;
    size_t len;
    void (*done)(struct catalog_save *save, int rc, const struct trail *trail);
    uint64_t keep_from; /* versions from this one on stay in archive/: somebody needs them */
    uint64_t *oldest;   /* in archive/, at least: moved on by removing */
    bool uncertain;     /* told with an error: which version a restart would find is not known */
    /* its own */
    struct io_op op;
    unsigned step;
    int file; /* -1: none is open */
    int64_t error;
    size_t written;
    unsigned unlinked;
    char current_text[64];
    char path[4200], path_to[4200];
};
/* Makes the version durable; `done` from the loop. */
void catalog_save_start(struct catalog_save *save);

/* ---- changing; core 0 (catalog_change.c) ---- */

/* REPLACE: a create that drops what has the name, in the same version. */
enum catalog_change_kind { CATALOG_CREATE, CATALOG_UPDATE, CATALOG_DELETE, CATALOG_REPLACE };

struct catalog_change { /* in the arena of its call */
    struct list_link link;
    struct pdb_call *call;
    enum catalog_change_kind kind;
    struct pdb_text name;
    struct catalog_entry *entry_new; /* create, replace: taken over when the change succeeds */
    const struct pdb_collection_update *update; /* update */
    struct uuid uuid;                    /* update, delete: of the entry that home saw; told back */
    void (*then)(struct pdb_call *call); /* on core 0, when it is over, well or not */
};
int catalog_master_start(struct engine_core *core, struct catalog_image *image);
void catalog_master_stop(struct engine_core *core);
/* The settings that the update gives, but not its columns; fields that change are in the arena. 0
 * or PDB_RESOURCE_EXHAUSTED. */
int catalog_apply_settings(struct arena *arena, struct pdb_collection_config *config,
                           const struct pdb_collection_update *update);
void catalog_change_queue(struct engine_core *core, struct catalog_change *change);
/* Start-up: gives every core its share of the first snapshot; called on each core. */
void catalog_adopt(struct engine_core *core, struct catalog_snapshot *snapshot);
bool catalog_is_dropped(const struct catalog_master *master, const struct uuid *uuid);
struct catalog_snapshot *catalog_newest(const struct catalog_master *master);
/* Core 0: a change that is not durable yet has a time at or behind this one; INT64_MAX: there is
 * none. */
int64_t catalog_changing_since(const struct catalog_master *master);

#endif
