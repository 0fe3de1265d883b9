/* Snapshots: consistent states of one collection or of all, kept beside the live data by hard
 * links: taking one copies no rows and holds no one up. See docs/operating/backup.md. */
#ifndef PROXIMADB_SNAPSHOT_H
#define PROXIMADB_SNAPSHOT_H

#include <proximadb/collection.h>

struct pdb_snapshot_part { /* one collection in it */
    struct pdb_text collection;
    char uuid[37];
    uint64_t version; /* all batches up to it, and none after */
    uint64_t rows, bytes;
};

struct pdb_snapshot_info {
    struct pdb_text name; /* as a collection's name */
    int64_t created_at_us;
    uint64_t bytes; /* of all files, shared with live data or not */
    bool scheduled; /* made by [snapshots] of the configuration, and removed by its retention */
    const struct pdb_snapshot_part *parts;
    uint32_t part_count;
};

/* Each collection is consistent in itself (a version); all of them are taken one after the other.
 * ALREADY_EXISTS; NOT_FOUND: no such collection; RESOURCE_EXHAUSTED (507): no room for the flush;
 * DATA_LOSS: a collection with damaged segments cannot be taken. */
struct pdb_snapshot_create {
    struct pdb_call call;
    struct pdb_text name;       /* len 0: one is made of the time */
    struct pdb_text collection; /* len 0: all */
    bool scheduled;
    struct snapshot_handover *handover; /* the engine's own; NULL */
    struct pdb_snapshot_info info_out;
};
PDB_API void pdb_snapshot_create_start(struct pdb_snapshot_create *s);

struct pdb_snapshot_list {
    struct pdb_call call;
    uint32_t limit; /* 0: all */
    /* name of the last one seen; len 0: from the start. Order of names, bytewise. */
    struct pdb_text after;
    const struct pdb_snapshot_info *infos_out;
    uint32_t count_out;
    bool more_out;
};
PDB_API void pdb_snapshot_list_start(struct pdb_snapshot_list *l);

struct pdb_snapshot_get {
    struct pdb_call call;
    struct pdb_text name;
    struct pdb_snapshot_info info_out;
};
PDB_API void pdb_snapshot_get_start(struct pdb_snapshot_get *g);

struct pdb_snapshot_delete {
    struct pdb_call call;
    struct pdb_text name;
};
PDB_API void pdb_snapshot_delete_start(struct pdb_snapshot_delete *d);

/* One collection of a snapshot becomes a live one: every file is verified first, then it appears,
 * whole, under `target`. ALREADY_EXISTS: `target` is there and `replace` is not set; with it, the
 * old collection is dropped once the new one stands. DATA_LOSS: a file does not fit its checksum;
 * nothing has changed. */
struct pdb_snapshot_restore {
    struct pdb_call call;
    struct pdb_text name;
    struct pdb_text collection; /* in the snapshot; len 0: its only one */
    struct pdb_text target;     /* len 0: the same name */
    bool replace;
    struct pdb_collection_info info_out;
};
PDB_API void pdb_snapshot_restore_start(struct pdb_snapshot_restore *r);

/* ---- as one stream of bytes ---- */

/* A tar archive (POSIX.1-2001 ustar) of the snapshot's folder, read piece by piece: begin, then
 * next until it gives no bytes, then end; from one thread of the database. The snapshot is not
 * deleted meanwhile. */
struct pdb_snapshot_reader;
struct pdb_snapshot_read_begin {
    struct pdb_call call;
    struct pdb_text name;
    struct pdb_snapshot_reader *reader_out;
    uint64_t bytes_out; /* of the whole archive */
};
PDB_API void pdb_snapshot_read_begin_start(struct pdb_snapshot_read_begin *b);
struct pdb_snapshot_read_next {
    struct pdb_call call;
    struct pdb_snapshot_reader *reader;
    const void *bytes_out; /* in the reader, until the next call with it */
    size_t len_out;        /* 0: the end */
};
PDB_API void pdb_snapshot_read_next_start(struct pdb_snapshot_read_next *n);
PDB_API void pdb_snapshot_read_end(struct pdb_snapshot_reader *reader); /* NULL is legal */

/* The reverse: an archive becomes a snapshot of this server under `name`, visible once all of it
 * has come and every checksum fits. INVALID_ARGUMENT: not such an archive; DATA_LOSS: damaged. */
struct pdb_snapshot_writer;
struct pdb_snapshot_write_begin {
    struct pdb_call call;
    struct pdb_text name;
    struct pdb_snapshot_writer *writer_out;
};
PDB_API void pdb_snapshot_write_begin_start(struct pdb_snapshot_write_begin *b);
struct pdb_snapshot_write_next {
    struct pdb_call call;
    struct pdb_snapshot_writer *writer;
    const void *bytes; /* the caller's until done; any cut of the archive */
    size_t len;
};
PDB_API void pdb_snapshot_write_next_start(struct pdb_snapshot_write_next *n);
struct pdb_snapshot_write_end {
    struct pdb_call call;
    struct pdb_snapshot_writer *writer; /* freed, whatever comes out */
    struct pdb_snapshot_info info_out;
};
PDB_API void pdb_snapshot_write_end_start(struct pdb_snapshot_write_end *e);
/* Gives up an archive that has not come whole. NULL is legal. */
PDB_API void pdb_snapshot_write_abandon(struct pdb_snapshot_writer *writer);

#endif
