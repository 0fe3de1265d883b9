/* The file of one index: <number>-<field>.ann beside its segment, docs/formats/index.md. Derived:
 * written when the index is made, read by the next start, made again from the vectors when it is
 * missing, damaged or of another segment. */
#ifndef ENGINE_ANN_FILE_H
#define ENGINE_ANN_FILE_H

#include "base/trail.h"
#include "engine/ann.h"
#include "engine/file_write.h"
#include "engine/segment_build.h"

enum { ANN_FILE_FORMAT = 1, ANN_FILE_HEADER_BYTES = 128 };

/* What an index was made from: it is of use for exactly this segment. */
struct ann_identity {
    struct uuid collection;
    uint64_t segment, parquet_bytes;
    uint32_t parquet_crc32c, field;
    uint32_t vector_count;
    enum pdb_metric metric;
    uint32_t dimension;
};

struct ann_header {
    struct ann_identity of;
    struct index_spec spec;
    uint64_t image_bytes;
};

/* ---- pure ---- */

void ann_header_encode(const struct ann_header *header, uint8_t bytes_out[ANN_FILE_HEADER_BYTES]);
/* 0, PDB_DATA_LOSS, or PDB_FAILED_PRECONDITION: a newer format. */
int ann_header_decode(const uint8_t *bytes, size_t file_bytes, struct ann_header *header_out,
                      struct trail *trail);
/* 0, or PDB_DATA_LOSS: it was made from something else. */
int ann_header_compare(const struct ann_header *header, const struct ann_identity *of,
                       struct trail *trail);
/* That the index behind a header is the one that the header tells of: checksums prove only that
 * nothing has changed since. 0, or PDB_DATA_LOSS. */
int ann_header_fits(const struct ann_header *header, const struct index *index,
                    struct trail *trail);

/* ---- writing: a worker sums, the owner's loop writes ---- */

struct ann_save;

struct ann_save_options {
    struct engine_core *core;
    const char *folder; /* until `done` */
    struct ann_identity of;
    struct ann *ann; /* held by the caller until `done` */
    /* rc 0, or why it could not be written (the file is then removed): PDB_CANCELLED, or as
     * engine_errno_code; the trail says more. The save frees itself after it. */
    void (*done)(struct ann_save *save, int rc, const struct trail *trail);
    void *arg;
};

/* 0, or PDB_RESOURCE_EXHAUSTED: not started, `done` will not run. */
int ann_save_start(const struct ann_save_options *options, struct ann_save **save_out);
void *ann_save_arg(const struct ann_save *save);
/* Ends after the step under way, and removes what it has written; `done` still runs, once. */
void ann_save_cancel(struct ann_save *save);
/* After a crash of a simulated disk: frees it; `done` does not run. NULL is legal. */
void ann_save_drop(struct ann_save *save);

/* ---- reading: on a worker, in steps ---- */

struct ann_load;

struct ann_load_options {
    struct engine_core *core;
    const char *folder; /* until `done` */
    struct ann_identity of;
    const struct segment *segment; /* must stay until `done` */
    uint32_t row_count;
    /* Asked once, on the owner: may so many bytes be used? False ends with
     * PDB_RESOURCE_EXHAUSTED. */
    bool (*admit)(struct ann_load *load, uint64_t bytes);
    /* rc 0: the index is the receiver's, with one reference. PDB_NOT_FOUND: there is no file.
     * PDB_DATA_LOSS, PDB_FAILED_PRECONDITION (a newer format), PDB_UNAVAILABLE (it cannot be
     * read), PDB_RESOURCE_EXHAUSTED, PDB_CANCELLED. The load frees itself after it. */
    void (*done)(struct ann_load *load, int rc, struct ann *ann, const struct trail *trail);
    void *arg;
};

/* 0, or PDB_RESOURCE_EXHAUSTED: not started, `done` will not run. */
int ann_load_start(const struct ann_load_options *options, struct ann_load **load_out);
void *ann_load_arg(const struct ann_load *load);
void ann_load_cancel(struct ann_load *load); /* `done` still runs, once */
/* After a crash of a simulated disk: frees it; `done` does not run. NULL is legal. */
void ann_load_drop(struct ann_load *load);

/* For who checks a data directory, waiting: reads all of a file and verifies it. 0; PDB_NOT_FOUND;
 * with a trail: PDB_DATA_LOSS or PDB_FAILED_PRECONDITION (a newer format) of what was read,
 * PDB_UNAVAILABLE or PDB_RESOURCE_EXHAUSTED of what could not be. */
int ann_file_check(struct io *io, const char *folder, const struct ann_identity *of,
                   struct trail *trail);

#endif
