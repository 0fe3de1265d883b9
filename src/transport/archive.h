/* Archives of snapshots on their way between the engine and a door, piece by piece, the same for
 * every door. A call is only made when the one before is done, so at most one piece is in memory: a
 * slow client slows the engine, a slow disk slows the client. */
#ifndef TRANSPORT_ARCHIVE_H
#define TRANSPORT_ARCHIVE_H

#include "transport/exchange.h"

/* An archive that leaves. In the exchange's arena, zeroed, with x and the three functions set. */
struct archive_out {
    struct exchange *x;
    void (*opened)(struct archive_out *a, uint64_t bytes);
    /* The next piece, unchanged until archive_out_next. */
    void (*piece)(struct archive_out *a, struct pdb_text piece);
    /* Exactly once, the last thing that happens; NULL: that was all of it. The exchange may be
     * answered, and gone, inside. */
    void (*ended)(struct archive_out *a, const struct pdb_error *error);
    /* its own */
    union {
        struct pdb_call call;
        struct pdb_snapshot_read_begin begin;
        struct pdb_snapshot_read_next next;
    } engine;
    struct arena arena; /* of the call under way */
    struct pdb_snapshot_reader *reader;
    struct pdb_error error;
    bool calling;
};

void archive_out_begin(struct archive_out *a, struct pdb_text name);
void archive_out_next(struct archive_out *a);
/* The client left: ends it, now or when the call under way is done. */
void archive_out_stop(struct archive_out *a);

/* An archive that comes: likewise. */
struct archive_in {
    struct exchange *x;
    /* A piece, or the end, may be given. */
    void (*more)(struct archive_in *a);
    /* Exactly once, the last thing that happens; with the snapshot, or with an error. */
    void (*ended)(struct archive_in *a, const struct pdb_error *error,
                  const struct pdb_snapshot_info *info);
    /* its own */
    union {
        struct pdb_call call;
        struct pdb_snapshot_write_begin begin;
        struct pdb_snapshot_write_next next;
        struct pdb_snapshot_write_end end;
    } engine;
    struct arena arena;
    struct pdb_snapshot_writer *writer;
    uint64_t received;
    struct pdb_error error;
    bool calling;
};

void archive_in_begin(struct archive_in *a, struct pdb_text name);
/* `piece` stays as it is until `more` or `ended`. */
void archive_in_piece(struct archive_in *a, struct pdb_text piece);
void archive_in_finish(struct archive_in *a);
/* Nothing more comes, for this reason: ends it, now or when the call under way is done. */
void archive_in_fail(struct archive_in *a, const struct pdb_error *error);
void archive_in_stop(struct archive_in *a); /* the client left */

#endif
