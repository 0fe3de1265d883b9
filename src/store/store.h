/* Object stores: places outside the data directory where the bytes of snapshots, archived log
 * segments and segments may live. One interface, five kinds of place, chosen by a URL:
 *
 *     /backup/db  file:///backup/db     a folder
 *     s3://bucket/prefix?region=..      Amazon S3 and what speaks its protocol (endpoint=..)
 *     gs://bucket/prefix                Google Cloud Storage, XML API
 *     az://account/container/prefix     Azure Blob Storage
 *     mem://name                        memory of this one struct store; for tests
 *
 * docs/operating/object-stores.md lists the options of a URL and where credentials come from.
 *
 * An object is a key and bytes that appear as a whole: a reader sees the old object, the new one or
 * none. Keys are parts joined by '/'; a part is 1 to 200 bytes of [A-Za-z0-9_.~+=,@:-], does not
 * begin with '.'; at most 32 parts and STORE_KEY_MAX bytes. The store's own prefix comes before
 * them and is never shown.
 *
 * Calls block for as long as a network takes: they belong on a worker, inside a job, never on a
 * reactor. store_async.h starts such jobs. A struct store is shared by all threads. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/arena.h"
#include "base/heap.h"
#include "base/text.h"
#include "base/trail.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct store;

enum { STORE_KEY_MAX = 512, STORE_ETAG_SIZE = 128 };
#define STORE_TO_END UINT64_MAX

/* ---- opening ---- */

/* Zero means the default everywhere. */
struct store_options {
    unsigned attempts_max;   /* of one request, the first included (5) */
    uint32_t retry_first_ms; /* pause before the second attempt, doubled each time (100) */
    uint32_t retry_max_ms;   /* longest pause (10000) */
    uint32_t connect_ms;     /* limit for connecting (10000) */
    uint32_t stall_ms;       /* an attempt in which no byte moves for so long has failed (30000) */
    uint64_t part_bytes;     /* larger objects are uploaded in parts of this size (64 MiB) */
    size_t memory_bytes_max; /* mem://: all objects together (0: no limit) */
    const char *(*environment)(const char *name); /* where credentials are looked up (getenv) */
};

/* Understands the URL, finds credentials, opens the folder (which must exist) or prepares
 * connections; asks no server anything. `options` may be NULL. 0, PDB_INVALID_ARGUMENT (the URL:
 * what is wrong with it, never its secrets), PDB_NOT_FOUND and PDB_PERMISSION_DENIED (the folder or
 * the credentials file), PDB_RESOURCE_EXHAUSTED. */
int store_open(struct pdb_text url, const struct store_options *options, struct trail *trail,
               struct store **store_out);
/* No call may be running. NULL is legal. */
void store_close(struct store *store);
/* "s3://bucket/prefix": no options, no secrets. Lives as long as the store. */
const char *store_name(const struct store *store);

/* 0, or PDB_INVALID_ARGUMENT when `key` breaks the rule above. */
int store_check_key(struct pdb_text key, struct trail *trail);

/* ---- calls ---- */

/* Asks the call that watches this flag to end. One thread asks, another one looks: an atomic, the
 * one thing besides `struct store` that two threads of a call share. */
struct store_cancel {
    _Atomic bool asked;
};

static inline void store_cancel(struct store_cancel *cancel)
{
    atomic_store_explicit(&cancel->asked, true, memory_order_relaxed);
}

/* The circumstances of a call. NULL instead of it, or zeros in it, are legal. */
struct store_call {
    const struct store_cancel *cancel;
    uint64_t deadline_ns; /* monotonic, of the whole call with its retries; 0: none */
    struct trail *trail;
};

/* Every call returns 0 or
 *   PDB_INVALID_ARGUMENT a key or a range that no store takes, or a request that the server refused
 *   PDB_NOT_FOUND the object, the bucket or the container does not exist PDB_PERMISSION_DENIED
 *   credentials are missing, wrong or too weak PDB_RESOURCE_EXHAUSTED memory, or the disk of a
 *   folder or of a file that is written PDB_UNAVAILABLE the server or the disk failed, after all
 *   attempts; `outcome unknown` in
 *                           the trail when a write may have happened all the same
 *   PDB_DATA_LOSS           what was read does not have the length or checksum it should have
 *   PDB_CANCELLED, PDB_DEADLINE_EXCEEDED
 * and adds to the trail what it did, with the store's name, the key and the server's answer. */

struct store_info {
    uint64_t size;
    int64_t modified_us; /* 0: unknown */
    uint32_t crc32c;     /* of the whole object, written with it by us */
    bool has_crc32c;
    char etag
        [STORE_ETAG_SIZE]; /* changes whenever the object does; opaque; "" if the place has none */
};

enum store_condition {
    STORE_ALWAYS,    /* replaces what is there */
    STORE_IF_ABSENT, /* else PDB_ALREADY_EXISTS */
    STORE_IF_MATCH,  /* the object has `etag`, else PDB_FAILED_PRECONDITION */
};

/* The source is `len` bytes at `bytes`, or, when `path` is given, `len` bytes of that file from
 * `offset` on (STORE_TO_END: all that follow), which must not change meanwhile. */
struct store_put_request {
    struct pdb_text key;
    const void *bytes;
    const char *path;
    uint64_t offset, len;
    enum store_condition condition;
    const char *etag;
};

/* Durable when it returns 0: on the disk of a folder, acknowledged by a server. A condition holds
 * against all other writers of the same place. The outcome of an attempt that was cut off is looked
 * up before a conditional write is repeated, so that our own object never looks like another's.
 * `info_out` may be NULL. */
int store_put(struct store *store, const struct store_call *call,
              const struct store_put_request *request, struct store_info *info_out);

/* The destination is memory of `to_size` bytes at `to`, or the file `path`: created or emptied,
 * written, synced (its folder is the caller's to sync), removed again when the call fails. */
struct store_get_request {
    struct pdb_text key;
    uint64_t offset, len; /* STORE_TO_END: all that follow; cut at the object's end */
    void *to;
    uint64_t to_size; /* fewer than there is to read: PDB_OUT_OF_RANGE, nothing promised of `to` */
    const char *path;
};

/* len_out: the bytes delivered, all of one version of the object. The object's checksum is verified
 * when it is known and the whole object was asked for. PDB_OUT_OF_RANGE: `offset` lies beyond the
 * end, or `to` is too small. `info_out` may be NULL. */
int store_get(struct store *store, const struct store_call *call,
              const struct store_get_request *request, uint64_t *len_out,
              struct store_info *info_out);
/* A whole object of at most `size_max` bytes (else PDB_OUT_OF_RANGE) as a block of `heap` with a
 * NUL behind it. */
int store_get_all(struct store *store, const struct store_call *call, struct pdb_text key,
                  size_t size_max, struct heap *heap, void **bytes_out, size_t *len_out);

int store_head(struct store *store, const struct store_call *call, struct pdb_text key,
               struct store_info *info_out);
/* 0 also when there was no such object. */
int store_delete(struct store *store, const struct store_call *call, struct pdb_text key);

struct store_object {
    struct pdb_text key;    /* lives as long as the visit */
    struct store_info info; /* without a checksum */
};

struct store_list_request {
    struct pdb_text prefix; /* of keys, any bytes; "" is all. Need not end at a '/' */
    struct pdb_text after;  /* only keys greater than this one; "" for all */
    /* Anything but 0 ends the list and is returned by it. The store may be called from inside. */
    int (*visit)(void *arg, const struct store_object *object);
    void *arg;
    unsigned page_max; /* keys that one request to a server asks for; 0: 1000 */
};

/* Keys in the order of their bytes, page by page; what is put or deleted meanwhile may be shown or
 * not. Objects under our prefix whose keys break the rule of keys are not ours and not shown. */
int store_list(struct store *store, const struct store_call *call,
               const struct store_list_request *request);
/* The same as an array in `arena`; PDB_RESOURCE_EXHAUSTED beyond `count_max`. */
int store_list_all(struct store *store, const struct store_call *call, struct pdb_text prefix,
                   size_t count_max, struct arena *arena, struct store_object **objects_out,
                   size_t *count_out);

#endif
