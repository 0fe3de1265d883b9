/* The files of a shard: collections/<uuid>/ with MANIFEST-<n>, <n>.parquet, <n>.index and
 * <n>-<field>.ann, the numbers in ten decimal digits or more, the field's in as few as it
 * takes. Making the folder, cleaning it up at start, and giving back what nobody needs any more.
 *
 * A folder is begun with an empty MANIFEST-1, made durable before the first segment appears. So a
 * folder with segments and no manifest has lost it, and the start is refused instead of cleaning
 * away acknowledged rows; one without either was cut off while it was begun.
 *
 * A witness, the empty file catalog/witness/<uuid>, says that the folder has had a manifest. It
 * lies elsewhere, so that a folder that is gone as a whole is missed instead of being taken for
 * that of a collection that never had rows. It is made once the manifest is durable, and never
 * synced: a start makes what is missing, so that data directories from before there were witnesses
 * get theirs, too. catalog/witness/LOGS says the same of the list of logs. */
#ifndef ENGINE_SHARD_FILES_H
#define ENGINE_SHARD_FILES_H

#include "base/trail.h"
#include "base/uuid.h"
#include "engine/manifest.h"

enum {
    SHARD_FOLDER_MAX = 4096,
    SHARD_NAME_MAX = 48,
    SHARD_PATH_MAX = SHARD_FOLDER_MAX + SHARD_NAME_MAX,
    DATA_DIR_BYTES_MAX = 4000, /* catalog_load refuses longer ones */
};

enum shard_file_kind {
    SHARD_FILE_OTHER, /* none of ours: never touched */
    SHARD_FILE_MANIFEST,
    SHARD_FILE_PARQUET,
    SHARD_FILE_INDEX,
    SHARD_FILE_ANN,       /* the index of one vector field of a segment: may be missing */
    SHARD_FILE_TEMPORARY, /* <any of the above>.tmp */
};

/* ---- names: pure ---- */

/* <data_dir>/collections, and in it <uuid>. */
void shard_files_root(char path_out[SHARD_FOLDER_MAX], const char *data_dir);
void shard_files_folder(char path_out[SHARD_FOLDER_MAX], const char *data_dir,
                        const struct uuid *collection);
/* The name only; `kind` is MANIFEST, PARQUET or INDEX. */
void shard_files_name(char name_out[SHARD_NAME_MAX], enum shard_file_kind kind, uint64_t number);
void shard_files_path(char path_out[SHARD_PATH_MAX], const char *folder, enum shard_file_kind kind,
                      uint64_t number);
/* Of the index of a field, by its place among the collection's. */
void shard_files_ann_name(char name_out[SHARD_NAME_MAX], uint64_t number, uint32_t field);
void shard_files_ann_path(char path_out[SHARD_PATH_MAX], const char *folder, uint64_t number,
                          uint32_t field);
/* What a name is, and its number (0 for OTHER and TEMPORARY). Only names that shard_files_name
 * makes are ours. */
enum shard_file_kind shard_files_parse(const char *name, uint64_t *number_out);
/* Whether it is the name of an index, and whose. */
bool shard_files_parse_ann(const char *name, uint64_t *number_out, uint32_t *field_out);

/* ---- at start: these wait for their I/O ---- */

/* Makes <data_dir>/collections, durably. */
int shard_files_make_root(struct io *io, const char *data_dir, struct trail *trail);

struct shard_files_cleaned {
    uint32_t temporaries, segments, manifests, collections;
    uint32_t unknown; /* collections that are left alone */
    uint32_t failed;  /* removals that failed: they are tried again at the next start */
};

/* Removes from a shard's folder temporary files, segments that its manifest does not name, and
 * older manifests. `m` NULL: the folder has no manifest; then PDB_DATA_LOSS if it has a segment.
 * PDB_DATA_LOSS too when a Parquet file that the manifest names is not there. A missing folder is
 * an empty one. *cleaned is added to. */
int shard_files_clean(struct io *io, const char *folder, const struct manifest *m,
                      struct shard_files_cleaned *cleaned, struct trail *trail);

enum shard_files_known { SHARD_FILES_LIVE, SHARD_FILES_DROPPED, SHARD_FILES_UNKNOWN };

/* Removes the folders and witnesses of collections that `known` calls dropped, and warns of those
 * it does not know: a catalog that does not know a folder may be an older one put back, so what the
 * folder holds may be all there is. Other names in collections/ are left alone. A whole folder goes
 * only if every file in it is ours. */
int shard_files_sweep(struct io *io, const char *data_dir,
                      enum shard_files_known (*known)(void *arg, const struct uuid *collection),
                      void *arg, struct shard_files_cleaned *cleaned, struct trail *trail);

/* catalog/witness/<name>: a uuid's text, or LOGS. */
void shard_witness_path(char path_out[SHARD_PATH_MAX], const char *data_dir, const char *name);
bool shard_witness_is_there(struct io *io, const char *data_dir, const char *name);
/* As well as can be: what fails is made by the next start. */
void shard_witness_make(struct io *io, const char *data_dir, const char *name);
/* A collection of the catalog whose manifest was found: makes the witness where there is none. */
void shard_witness_keep(struct io *io, const char *data_dir, const struct uuid *collection);
/* One of which neither a manifest nor the log says anything: PDB_DATA_LOSS when there is a witness
 * and no manifest. */
int shard_witness_check(struct io *io, const char *data_dir, const struct uuid *collection,
                        struct trail *trail);

/* ---- later: on the loop ---- */

/* Makes a witness, as well as can be. The caller's memory until `done`. */
struct shard_witness {
    struct io *io;
    const char *data_dir; /* these four: set by the caller; must outlive it */
    const struct uuid *collection;
    void (*done)(struct shard_witness *witness);
    struct io_op op;
    unsigned step;
    char path[SHARD_PATH_MAX];
};
void shard_witness_start(struct shard_witness *witness);

enum { SHARD_MANIFEST_FIRST_MAX = 512 };

/* Begins a shard's folder: makes it, makes its name durable, saves MANIFEST-1 (empty), then the
 * witness. Harmless
 * when a part of it is there; not to be used once a manifest was loaded or saved. The caller's
 * memory until `done`, and nothing beside it: after a crash of a simulated disk it is just freed,
 * as is a shard_remove. */
struct shard_begin {
    struct io *io;
    const char *data_dir; /* these three: set by the caller; must outlive it */
    struct uuid collection;
    uint32_t shard;
    void (*done)(struct shard_begin *begin, int rc, const struct trail *trail);
    /* the operation's */
    struct io_op op;
    unsigned step;
    struct manifest_save save;
    struct shard_witness witness;
    struct trail trail;
    char bytes[SHARD_MANIFEST_FIRST_MAX];
    char folder[SHARD_FOLDER_MAX], root[SHARD_FOLDER_MAX];
};
void shard_begin_start(struct shard_begin *begin);

/* Removes the files of segments that no durable manifest names any more and nobody has open, one
 * after the other. A failure leaves the file to the next start. Either the segments of `numbers`,
 * or (numbers NULL) everything of ours in the folder and the folder itself, after the drop of the
 * collection is durable. */
struct shard_remove {
    struct io *io;
    const char *folder;      /* these four: set by the caller; must outlive it */
    const uint64_t *numbers; /* NULL: all */
    uint32_t count;          /* of the numbers, at least 1 */
    uint32_t field_count;    /* each may have so many .ann, numbered from 0 */
    void (*done)(struct shard_remove *remove);
    uint32_t removed, failed; /* files */
    /* the operation's */
    struct io_op op;
    size_t next, names_len;
    bool more, progress; /* names that found no room; one has gone since they were listed */
    char names[4096];    /* NUL-terminated, one after the other */
    char path[SHARD_PATH_MAX];
};
void shard_remove_start(struct shard_remove *remove);

#endif
