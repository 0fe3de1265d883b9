/* The objects of an archive that we write ourselves (archive_format.c), and the keys of all of them
 * (archive_key.c). Format: docs/formats/archive.md. Pure: no I/O, no clock.
 *
 * What is read comes from outside: nothing in it is believed. */
#ifndef ENGINE_ARCHIVE_FORMAT_H
#define ENGINE_ARCHIVE_FORMAT_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/text.h"
#include "base/trail.h"
#include "base/uuid.h"
#include "engine/snapshot_format.h"

enum {
    ARCHIVE_FORMAT_VERSION = 1,
    ARCHIVE_HEADER_BYTES = 64,
    ARCHIVE_KEY_SIZE = 320,
    ARCHIVE_NAME_SIZE = 32,               /* of a base, with its NUL */
    ARCHIVE_OBJECT_BYTES_MAX = 320 << 20, /* of IDENTITY, STATE and BASE */
};

/* ---- keys: NUL-terminated, within the rules of stores ---- */

void archive_identity_key(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity);
void archive_state_key(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity);
void archive_wal_key(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity,
                     const struct uuid *log, uint64_t seq);
void archive_catalog_key(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity,
                         uint64_t version);
void archive_base_key(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity,
                      const char *base);
/* File `file` of a part of a base: its manifest lies in the base's own folder, segments lie where
 * all bases share them. */
void archive_file_key(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity, const char *base,
                      const struct snapshot_part *part, uint32_t file);

/* Prefixes for lists, each ends with '/'. `log`, `base` may be NULL: of all of them. */
void archive_prefix(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity);
void archive_wal_prefix(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity,
                        const struct uuid *log);
void archive_catalog_prefix(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity);
void archive_segments_prefix(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity);
void archive_base_prefix(char key_out[ARCHIVE_KEY_SIZE], const struct uuid *identity,
                         const char *base);

enum archive_object {
    ARCHIVE_OTHER, /* none that this version makes */
    ARCHIVE_IDENTITY,
    ARCHIVE_STATE,
    ARCHIVE_WAL,      /* log, number: of the segment */
    ARCHIVE_CATALOG,  /* number: version */
    ARCHIVE_SEGMENT,  /* a Parquet file or an index */
    ARCHIVE_MANIFEST, /* name: of the base */
    ARCHIVE_BASE,     /* name */
};
struct archive_parsed {
    struct uuid identity, log;
    uint64_t number;
    char name[ARCHIVE_NAME_SIZE];
};
/* What a key is; only keys that the functions above make are ours. */
enum archive_object archive_parse(struct pdb_text key, struct archive_parsed *parsed_out);

/* ---- IDENTITY: of a data directory; the same bytes in data/archive/IDENTITY ---- */

struct archive_identity {
    struct uuid uuid;
    int64_t created_at_us;
};
void archive_identity_encode(struct buffer *out, const struct archive_identity *identity);
int archive_identity_decode(const void *bytes, size_t len, struct archive_identity *identity_out,
                            struct trail *trail);

/* ---- STATE: what is there ---- */

/* Every moment from the first to the second, both included, can be brought back: from the newest
 * base that ended in this range at or before it, with all logs and catalogs from there on. */
struct archive_range {
    int64_t from_us, to_us; /* from_us: the end of the range's first base */
};

/* Segments from `first_seq` to `next_seq` - 1 are in the archive, without gaps. */
struct archive_log {
    struct uuid uuid;
    uint64_t first_seq, next_seq;
    bool ended; /* nothing more will come: its core is gone, and so is the log */
};

struct archive_state {
    struct uuid identity;
    int64_t written_at_us;
    /* Versions that are in the archive; `catalog_next` is the first that is not. */
    uint64_t catalog_first, catalog_next;
    struct archive_range *ranges; /* in order of time, without overlaps; the last one grows */
    uint32_t range_count;
    struct archive_log *logs; /* in no order */
    uint32_t log_count;
    bool closed; /* the last range does not grow any more: something after it was lost */
};
void archive_state_encode(struct buffer *out, const struct archive_state *state);
/* The arrays in the arena. Of this and the next one: 0; PDB_DATA_LOSS; PDB_FAILED_PRECONDITION: a
 * newer format; PDB_RESOURCE_EXHAUSTED. */
int archive_state_decode(const void *bytes, size_t len, struct arena *arena,
                         struct archive_state *state_out, struct trail *trail);

/* ---- BASE: where a replay can begin ---- */

/* A log that there was when the base began. */
struct archive_need {
    struct uuid uuid;
    uint64_t seq; /* records that the base does not hold lie here or behind; UINT64_MAX: none do */
};

struct archive_base {
    struct uuid identity;
    char name[ARCHIVE_NAME_SIZE];
    int64_t begun_us, ended_us; /* all that it holds was durable by then */
    uint64_t catalog_version;   /* the newest when it ended */
    /* Logs that are not here were begun later: all of them is needed. */
    struct archive_need *needs;
    uint32_t need_count;
    struct snapshot_image *image; /* as in a snapshot; owned */
};
/* Its name: made of `begun_us`, so that names are in the order of time. */
void archive_base_name(char name_out[ARCHIVE_NAME_SIZE], int64_t begun_us);
/* `list`: the image, as snapshot_encode_begin, _part and _end have made it. */
void archive_base_encode(struct buffer *out, const struct archive_base *base, const void *list,
                         size_t list_len);
/* As archive_state_decode; the image is archive_base_dispose's. */
int archive_base_decode(const void *bytes, size_t len, struct arena *arena,
                        struct archive_base *base_out, struct trail *trail);
void archive_base_dispose(struct archive_base *base); /* the image; legal twice */

#endif
