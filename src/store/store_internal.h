/* What the parts of src/store share: the struct behind `struct store`, the table that each kind of
 * place fills, and what a URL says. */
#ifndef STORE_STORE_INTERNAL_H
#define STORE_STORE_INTERNAL_H

#include "store/store.h"

#include <pthread.h>

enum store_scheme { STORE_FILE, STORE_S3, STORE_GS, STORE_AZ, STORE_MEM };

enum {
    STORE_PART_MAX = 200, /* bytes of one part of a key */
    STORE_PARTS_MAX = 32,
    STORE_BUCKET_SIZE = 256,
    STORE_HOST_SIZE = 256,
    STORE_PATH_SIZE = 1024,
    STORE_CREDENTIAL_SIZE = 4096,
    STORE_NAME_SIZE = 1024,
};

/* What a URL says, checked. Texts are "" when absent. */
struct store_url {
    enum store_scheme scheme;
    char path[STORE_PATH_SIZE];      /* file: the folder */
    char bucket[STORE_BUCKET_SIZE];  /* s3, gs; the container of az; the name of mem */
    char account[STORE_BUCKET_SIZE]; /* az */
    char prefix[STORE_KEY_MAX + 1];  /* "" or ends with '/' */
    char region[64];
    bool http;                       /* plain, without TLS */
    char host[STORE_HOST_SIZE];      /* of the server; an IPv6 address has its brackets */
    unsigned port;                   /* 0: the scheme's own */
    char base_path[STORE_PATH_SIZE]; /* of the endpoint: "" or "/x" */
    bool path_style, allow_http, anonymous;
    char credentials_path[STORE_PATH_SIZE];
    char profile[64];
    char ca_file[STORE_PATH_SIZE];
};

/* 0 or PDB_INVALID_ARGUMENT. `environment` gives AWS_REGION, AWS_ENDPOINT_URL and the like. */
int store_url_parse(struct pdb_text text, const char *(*environment)(const char *name),
                    struct trail *trail, struct store_url *url_out);
/* True for an address that no store may have: link-local, where clouds keep their machines'
 * credentials. `host` as in store_url. */
bool store_host_forbidden(const char *host);
bool store_host_loopback(const char *host);

/* Who we are. Empty texts are absent; never logged, wiped by who copied them. */
struct store_credentials {
    char id[256];
    char secret[512];
    char
        token[STORE_CREDENTIAL_SIZE]; /* session token, bearer token or SAS, as the scheme has it */
};

/* From the file of the URL, if it names one, else from the environment. 0, PDB_NOT_FOUND,
 * PDB_PERMISSION_DENIED or PDB_INVALID_ARGUMENT (nothing in it for this scheme). Anonymous URLs
 * have none. */
int store_credentials_read(const struct store_url *url,
                           const char *(*environment)(const char *name), struct trail *trail,
                           struct store_credentials *credentials_out);
/* The same from the text of a credentials file. `text` is only read. */
int store_credentials_parse(const struct store_url *url, struct pdb_text text, struct trail *trail,
                            struct store_credentials *credentials_out);

/* One kind of place. Requests are checked before; each adds its detail to the trail. `call` is
 * never NULL. */
struct store_ops {
    int (*put)(struct store *store, const struct store_call *call,
               const struct store_put_request *request, struct store_info *info_out);
    int (*get)(struct store *store, const struct store_call *call,
               const struct store_get_request *request, uint64_t *len_out,
               struct store_info *info_out);
    int (*head)(struct store *store, const struct store_call *call, struct pdb_text key,
                struct store_info *info_out);
    int (*remove)(struct store *store, const struct store_call *call, struct pdb_text key);
    int (*list)(struct store *store, const struct store_call *call,
                const struct store_list_request *request);
    void (*close)(struct store *store);
};

extern const struct store_ops store_file_ops, store_mem_ops;

struct store_http;   /* store_http_internal.h */
struct store_memory; /* store_mem.c */

struct store {
    const struct store_ops *ops;
    struct store_url url;
    struct store_options options; /* defaults filled in */
    char name[STORE_NAME_SIZE];
    pthread_mutex_t lock; /* guards what is below, and the insides of it that say so */
    /* Memory that outlives a call; only under the lock, or while opening and closing. */
    struct heap heap;
    int folder;                  /* file: its descriptor; else -1 */
    struct store_memory *memory; /* mem */
    struct store_http *http;     /* s3, gs, az */
    /* Tests: every call's arena begins with this fail_at. */
    uint64_t arena_fail_at;
};

int store_file_open(struct store *store, struct trail *trail);
int store_mem_open(struct store *store, struct trail *trail);
int store_http_open(struct store *store, struct trail *trail);

void store_arena_init(const struct store *store, struct arena *arena);
/* 0, or PDB_CANCELLED or PDB_DEADLINE_EXCEEDED. */
int store_call_check(const struct store_call *call);
/* Sleeps, in slices, so that a cancelled call does not wait. 0, or why the call ends. */
int store_pause(const struct store_call *call, uint64_t ms);
/* Translates an errno of a file or folder; adds "what: text". */
int store_errno(struct trail *trail, int error, const char *what);

/* ---- the source of a put ---- */

struct store_source {
    const uint8_t *bytes; /* NULL: the file */
    int file;             /* -1: the bytes */
    uint64_t offset, len;
};

/* Opens and measures. Closed by store_source_close. */
int store_source_open(const struct store_put_request *request, struct trail *trail,
                      struct store_source *source_out);
void store_source_close(struct store_source *source);
/* Copies exactly `size` bytes from `at` (relative to the source) to `to`. 0 or a PDB_ error: the
 * file became shorter, or cannot be read. */
int store_source_read(const struct store_source *source, uint64_t at, void *to, size_t size,
                      struct trail *trail);

/* ---- the destination of a get ---- */

struct store_sink {
    uint8_t *to; /* memory of `room` bytes, or the file */
    uint64_t room;
    int file;
    const char *path;
    uint64_t len;    /* delivered so far */
    uint32_t crc32c; /* of that */
    int error;       /* errno of a failed write */
    bool full;       /* more came than there is room for */
};

/* What is to be delivered of an object of `size` bytes. 0 or PDB_OUT_OF_RANGE. */
int store_range(uint64_t size, const struct store_get_request *request, struct trail *trail,
                uint64_t *len_out);
int store_sink_open(const struct store_get_request *request, struct trail *trail,
                    struct store_sink *sink_out);
/* False: look at store_sink_failure. */
bool store_sink_write(struct store_sink *sink, const void *bytes, size_t size);
int store_sink_failure(const struct store_sink *sink, struct trail *trail);
/* With `rc` 0 syncs a file, else removes it. Returns `rc` or what failed now. */
int store_sink_close(struct store_sink *sink, int rc, struct trail *trail);
/* 0, or PDB_DATA_LOSS when the whole object was delivered with another checksum than it has. */
int store_verify(const struct store_info *info, const struct store_get_request *request,
                 const struct store_sink *sink, struct trail *trail);

/* Writes all of `size` bytes at `offset`. 0 or a positive errno. */
int store_write_all(int file, const void *bytes, size_t size, uint64_t offset);

/* True when `key` obeys the rule of keys; for keys that a place shows. */
bool store_key_valid(struct pdb_text key);

#endif
