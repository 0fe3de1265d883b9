/* Shared by the files of snapshots: the state of core 0, operations, and steps of I/O. */
#ifndef ENGINE_SNAPSHOT_INTERNAL_H
#define ENGINE_SNAPSHOT_INTERNAL_H

#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/file_write.h"
#include "engine/snapshot.h"
#include "engine/snapshot_format.h"
#include "engine/upkeep.h"

#include <proximadb/snapshot.h>

/* data_dir (900) + snapshots/ + a folder (151) + a uuid + a file */
enum { SNAPSHOT_FOLDER_MAX = 1152, SNAPSHOT_PATH_MAX = 1280, SNAPSHOT_PIECE_BYTES = 256 << 10 };

struct snapshot_schedule;

/* Core 0's. */
struct snapshots {
    struct engine_core *core;
    struct list images;  /* in order of name */
    struct list queue;   /* struct snapshot_op.link */
    struct list uploads; /* struct snapshot_writer.link: their names are taken */
    struct list dead;    /* images that nobody holds any more, on their way to the heap */
    struct task bury;
    struct snapshot_op *running;
    struct snapshot_schedule *schedule;
};

/* One operation that changes something; on the heap of nobody, since it travels. */
struct snapshot_op {
    struct list_link link;
    struct pdb_call *call;
    struct snapshots *all;
    void (*run)(struct snapshot_op *op);     /* on core 0, when its turn has come */
    void (*dispose)(struct snapshot_op *op); /* frees it and all it holds, without I/O */
    unsigned results;  /* METRICS_..._AT of the first of its results; 0: they are not counted */
    unsigned duration; /* METRICS_..._IN + 1; 0: it is not timed */
    uint64_t begun_ns;
};

/* ---- snapshot.c ---- */

/* Core 0. */
void snapshot_op_queue(struct engine_core *core, struct snapshot_op *op);
/* Core 0: frees the operation, begins the next one, and sends the call home. */
void snapshot_op_over(struct snapshot_op *op);
struct snapshot_image *snapshot_find(const struct snapshots *all, struct pdb_text name);
/* An image or an upload has it. */
bool snapshot_name_taken(const struct snapshots *all, struct pdb_text name);
void snapshot_insert(struct snapshots *all, struct snapshot_image *image);
/* Gauges: one that can be restored is there, or not any more. */
void snapshot_count(struct snapshots *all, const struct snapshot_image *image, bool there);
/* Core 0: one reference less; the last one frees it, in steps where it is large. NULL is legal. */
void snapshot_let_go(struct snapshots *all, struct snapshot_image *image);

/* What pdb_snapshot_info says of an image, into the call's arena, in steps: begin, then more until
 * it returns true. The image is held meanwhile. */
struct snapshot_filling {
    struct snapshots *all;
    struct pdb_call *call;
    struct snapshot_image *image;
    struct pdb_snapshot_info info;
    struct pdb_snapshot_part *parts; /* info.parts */
};
/* 0, or told; then nothing is held. */
int snapshot_fill_begin(struct snapshot_filling *f, struct pdb_call *call,
                        struct snapshot_image *image);
/* False: the slice is used up. True: over, with an error told in the call, or well. */
bool snapshot_fill_more(struct snapshot_filling *f);

/* 0 or told: PDB_NOT_FOUND, PDB_DATA_LOSS. */
int snapshot_usable(struct pdb_call *call, struct pdb_text name, struct snapshot_image **image_out);
/* Tells a negative errno of an operation on files. */
int snapshot_fail_errno(struct pdb_call *call, int64_t result, const char *what);
/* <data_dir>/snapshots, and in it <name>, and in it the folder of a collection. */
void snapshot_root(char path_out[SNAPSHOT_FOLDER_MAX], const struct pdb *db);
void snapshot_folder(char path_out[SNAPSHOT_FOLDER_MAX], const struct pdb *db,
                     struct pdb_text name);
/* A folder of that name that a start removes: .<name>.<random>.<suffix> */
void snapshot_hidden_folder(char path_out[SNAPSHOT_FOLDER_MAX], const struct engine_core *core,
                            struct pdb_text name, const char *suffix);
void snapshot_part_folder(char path_out[SNAPSHOT_PATH_MAX], const char *folder,
                          const struct uuid *collection);
/* A name made of a time: 20260131T235959.123456Z. In the arena; .ptr NULL without memory. */
struct pdb_text snapshot_time_name(struct arena *arena, int64_t time_us);

/* ---- names in snapshots/ (snapshot_load.c) ---- */

enum snapshot_name {
    SNAPSHOT_NAME_GOOD,
    SNAPSHOT_NAME_CUT_OFF, /* of what was being made, or deleted */
    SNAPSHOT_NAME_MARK,    /* .restore-<uuid> */
    SNAPSHOT_NAME_OTHER,
};
enum snapshot_name snapshot_name_kind(const char *name);
/* A folder and what is in it, `depth` folders deep at most: ours are two. Waits for its I/O. */
void snapshot_remove_tree(struct io *io, const char *folder, unsigned depth);

/* ---- steps of I/O (snapshot_io.c): the caller's memory until `then`, from the loop ---- */

struct snapshot_step {
    struct io_op op;
    struct io *io;
    void (*then)(struct snapshot_step *step, int64_t result);
    char path[SNAPSHOT_PATH_MAX], path_to[SNAPSHOT_PATH_MAX]; /* set by the caller */
};
void snapshot_make_dir(struct snapshot_step *step, struct io *io,
                       void (*then)(struct snapshot_step *step, int64_t result));
void snapshot_sync_dir(struct snapshot_step *step, struct io *io,
                       void (*then)(struct snapshot_step *step, int64_t result));
void snapshot_rename(struct snapshot_step *step, struct io *io,
                     void (*then)(struct snapshot_step *step, int64_t result));
void snapshot_unlink(struct snapshot_step *step, struct io *io,
                     void (*then)(struct snapshot_step *step, int64_t result));

/* A file of the same bytes under another name: a link, or where the filesystem has none a copy. */
struct snapshot_place {
    struct io_op op;
    struct io *io;
    void (*done)(struct snapshot_place *place, int64_t result);
    bool sync; /* its bytes may not be durable yet */
    bool copied;
    unsigned stage;
    int from, to; /* -1: closed */
    int64_t error;
    uint64_t at;
    size_t len, written;
    char *piece;
    char path[SNAPSHOT_PATH_MAX], path_to[SNAPSHOT_PATH_MAX]; /* set by the caller */
};
/* `sync` and the paths are set. */
void snapshot_place_start(struct snapshot_place *place, struct io *io,
                          void (*done)(struct snapshot_place *place, int64_t result));
void snapshot_place_dispose(struct snapshot_place *place); /* after a crash */

/* The checksum of a file, or of bytes in memory, by the worker, in pieces. */
struct snapshot_sum {
    struct job job;
    struct reactor *r;
    struct io *io;
    void (*done)(struct snapshot_sum *sum);
    struct file_map own;        /* of `path` */
    const struct file_map *map; /* what is summed, or NULL: ptr and len */
    const uint8_t *ptr;
    size_t len, at;
    uint32_t crc;
    int error; /* told: 0 or a negative errno */
    bool opened;
    char path[SNAPSHOT_PATH_MAX];
};
/* `path` is set. */
void snapshot_sum_file(struct snapshot_sum *sum, struct reactor *r,
                       void (*done)(struct snapshot_sum *sum));
void snapshot_sum_map(struct snapshot_sum *sum, struct reactor *r, const struct file_map *map,
                      void (*done)(struct snapshot_sum *sum));
void snapshot_sum_bytes(struct snapshot_sum *sum, struct reactor *r, const void *bytes, size_t len,
                        void (*done)(struct snapshot_sum *sum));
void snapshot_sum_dispose(struct snapshot_sum *sum);

/* Removes the files of an image, its folders and `folder` itself. What cannot be removed stays to
 * the next start. */
struct snapshot_remove {
    struct snapshot_step step;
    const struct snapshot_image *image; /* these two: set by the caller; must outlive it */
    const char *folder;
    void (*done)(struct snapshot_remove *remove);
    uint32_t part, file;
};
void snapshot_remove_start(struct snapshot_remove *remove, struct io *io,
                           void (*done)(struct snapshot_remove *remove));

/* ---- uploads (snapshot_write.c) ---- */

struct pdb_text snapshot_upload_name(struct list_link *link); /* of one in snapshots->uploads */

/* ---- the schedule (snapshot_schedule.c); core 0 ---- */

void snapshot_schedule_start(struct snapshots *all);
void snapshot_schedule_stop(struct snapshots *all);
void snapshot_schedule_free(struct snapshots *all);

/* ---- finishing (snapshot_finish.c): an image whose files are in a hidden folder appears ---- */

struct snapshot_finish {
    struct snapshot_image *image;
    const char *folder; /* hidden; these two: the caller's */
    struct pdb_call *call;
    /* rc 0: it is there for good. Else told in the call, and nothing of it is there under its name;
     * with `uncertain` a restart may find it, and its files must stay. */
    void (*done)(struct snapshot_finish *finish, int rc);
    bool uncertain;
    struct task task;
    struct engine_core *core;
    struct snapshot_step step;
    struct file_write write;
    struct buffer bytes;
    struct snapshot_encoder encoder;
};
/* On core 0. */
void snapshot_finish_start(struct snapshot_finish *finish, struct engine_core *core);
void snapshot_finish_dispose(struct snapshot_finish *finish);

/* ---- creating (snapshot_create.c on core 0, snapshot_take.c on the owners) ---- */

struct snapshot_taking { /* of one collection, on its owner's core */
    struct snapshot_create *create;
    struct snapshot_part *part; /* of the image */
    struct upkeep_wait wait;
    struct shard_part **parts; /* held; in order of number */
    uint32_t part_count, at;
    uint32_t row; /* counting what has ended */
    bool pinned, counted;
    struct shard_read read;
    struct manifest_encoder encoder;
    struct buffer bytes;
    struct manifest_save save;
    struct snapshot_step step;
    struct snapshot_place place;
    struct snapshot_sum sum;
    char folder[SNAPSHOT_PATH_MAX];
};

/* A snapshot that gets no name and is in no list: whoever asked for it gets the image, in its
 * hidden folder. */
struct snapshot_handover {
    struct snapshot_image *image; /* the receiver's, with the files; NULL when it was not taken */
    char folder[SNAPSHOT_FOLDER_MAX];
    int64_t ended_us; /* all that it holds was durable by then */
    uint64_t catalog_version;
};

struct snapshot_create {
    struct snapshot_op base;
    struct snapshot_image *image; /* as far as it is made */
    uint32_t first, count, next;  /* of the entries of the call's catalog */
    bool folder_made, single;
    struct snapshot_taking *taking;
    struct snapshot_step step;
    struct snapshot_remove remove;
    struct snapshot_finish finish;
    struct snapshot_filling filling;
    char folder[SNAPSHOT_FOLDER_MAX];
};

/* Takes the collection of entry `next`: adds a part to the image, with its files in the folder.
 * The call arrives at core 0 with snapshot_create_taken, with an error or without; a collection
 * that was dropped meanwhile adds no part. */
void snapshot_take_start(struct snapshot_create *create);
void snapshot_create_taken(struct pdb_call *call);
/* After a crash: lets everything go. NULL is legal. */
void snapshot_taking_free(struct snapshot_taking *taking);
struct snapshot_create *snapshot_create_of(struct pdb_call *call);

/* ---- restoring (snapshot_restore.c on core 0, snapshot_stage.c on the owner) ---- */

struct snapshot_restore {
    struct snapshot_op base;
    const struct snapshot_image *image; /* stays while this operation runs */
    const struct snapshot_part *part;
    struct uuid uuid;            /* of the new collection */
    struct catalog_entry *entry; /* ours, until the catalog takes it over */
    struct catalog_change change;
    struct pdb_text target;
    uint32_t file;
    bool marked, folder_made, keep_files;
    struct manifest_file manifest; /* with the new uuid in it */
    struct job job;
    int job_rc;
    struct trail trail;
    struct snapshot_sum sum;
    struct snapshot_step step;
    struct snapshot_place place;
    struct manifest_save save;
    struct shard_witness witness;
    struct shard_remove remove;
    char folder[SNAPSHOT_FOLDER_MAX]; /* of the part in the snapshot */
    char shard_folder[SHARD_FOLDER_MAX];
    char mark[SNAPSHOT_PATH_MAX];
    /* staging, on the owner's core */
    struct shard *shard;
    uint32_t segment;
    bool marking;
    struct segment_file *opening; /* by the worker */
    struct segment_file_options options;
    struct arena schema;
    struct manifest_ended ended;
};

/* 0, or told: about as much memory as the manifest's segments will be counted with, those from
 * `first` up to `end`, is free within storage.memory_limit. */
int snapshot_stage_admit(struct snapshot_restore *restore, struct engine_core *core, uint32_t first,
                         uint32_t end);
/* Opens the segments of the new collection, in a shard that nobody sees yet. The call arrives at
 * core 0 with snapshot_restore_staged, with an error (then there is no shard) or without. */
void snapshot_stage_start(struct snapshot_restore *restore);
void snapshot_restore_staged(struct pdb_call *call);
/* The catalog has refused it: back to core 0 the same way. */
void snapshot_unstage_start(struct snapshot_restore *restore);
void snapshot_restore_unstaged(struct pdb_call *call);
/* After a crash. */
void snapshot_stage_dispose(struct snapshot_restore *restore);

#endif
