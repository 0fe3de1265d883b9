/* transfer.h: what `proximadb import` and `proximadb export` share: their command lines, signals,
 * the collection as the server describes it, and progress. Both are clients: they speak to a
 * running server over REST. */
#ifndef SERVER_TRANSFER_H
#define SERVER_TRANSFER_H

#include "bench/client/wire.h"

#include <proximadb/types.h>
#include <stdio.h>

/* Exit codes besides 0, EXIT_USAGE and EXIT_START of serve.h. */
enum { EXIT_BAD_ROWS = 4 /* import --continue: done, but rows were left out */ };

enum {
    TRANSFER_REPLY_MAX = 1 << 30,
    TRANSFER_TRIES = 12, /* of a request, about 17 s of pauses */
    TRANSFER_TIMEOUT_S = 120,
    TRANSFER_FILE_MAX = 65536,
};

/* ---- command line ---- */

enum transfer_option_kind { TRANSFER_FLAG, TRANSFER_TEXT, TRANSFER_NUMBER };

struct transfer_option {
    const char *name; /* without the dashes */
    enum transfer_option_kind kind;
    void *into; /* bool, const char * or uint64_t */
    uint64_t min, max;
};

/* What is no option goes into `files_out`, which has room for argc; with NULL it is an error. 0, or
 * PDB_INVALID_ARGUMENT. */
int transfer_parse(const struct transfer_option *options, size_t option_count, int argc,
                   const char *const *argv, const char **files_out, size_t *file_count_out,
                   struct trail *trail);

struct transfer_server {
    const char *url, *ca_path;
    bool tls, insecure;
};
/* The rows of a table of options for it; TRANSFER_SERVER_OPTIONS of them. */
#define TRANSFER_SERVER_OPTIONS(server)                                                            \
    {"url", TRANSFER_TEXT, &(server)->url, 0, 0}, {"ca", TRANSFER_TEXT, &(server)->ca_path, 0, 0}, \
        {"tls", TRANSFER_FLAG, &(server)->tls, 0, 0},                                              \
    {                                                                                              \
        "insecure", TRANSFER_FLAG, &(server)->insecure, 0, 0                                       \
    }
int transfer_connect(const struct transfer_server *server, struct endpoint *endpoint_out,
                     struct trail *trail);

/* ---- signals ---- */

/* SIGINT and SIGTERM wait until they are asked for; SIGPIPE is an error of a write. Before any
 * thread begins. */
void transfer_block_signals(void);
/* Whether one has come; it stays so in *interrupted. */
bool transfer_is_interrupted(bool *interrupted);

/* ---- the collection ---- */

struct transfer_field {
    struct pdb_text name;
    struct pdb_text metric;
    struct pdb_text type; /* of one value; len 0: float32, or bits */
    uint32_t dimension;
    bool bits; /* metric hamming: the dimension counts bits */
};

struct transfer_column {
    struct pdb_text name;
    struct pdb_text type;
};

struct transfer_collection {
    struct pdb_text json; /* as the server describes it */
    struct transfer_field fields[PDB_FIELD_MAX];
    uint32_t field_count;
    struct transfer_column columns[PDB_COLUMN_MAX];
    uint32_t column_count;
    uint64_t record_count;
};

/* "/v1/collections/NAME SUFFIX" with the name checked; NULL in .ptr: no such name may exist. */
struct pdb_text transfer_path(struct arena *arena, const char *name, const char *suffix);
/* Of JSON as the server gives it, or as it takes it in a create; false: it cannot be read. */
bool transfer_read_collection(struct arena *arena, struct pdb_text json,
                              struct transfer_collection *collection_out);
/* Asks the server. PDB_NOT_FOUND: there is none. Everything lies in the arena. */
int transfer_describe(struct wire *wire, const char *name, struct arena *arena,
                      struct transfer_collection *collection_out, struct trail *trail);
/* The field called `name`, or NULL. */
const struct transfer_field *transfer_find_field(const struct transfer_collection *collection,
                                                 struct pdb_text name);
/* JSON text as a document in the arena; false: not JSON, or memory ran out. */
bool transfer_read_doc(struct arena *arena, struct pdb_text json, struct pdb_text *doc_out);

/* ---- progress ---- */

struct transfer_progress {
    FILE *to;
    bool terminal, quiet;
    uint64_t start_ns, told_ns;
};

void transfer_progress_begin(struct transfer_progress *p, bool quiet);
/* A bar on a terminal, a few times a second; else a line each two seconds. `done` of `total` tells
 * how far it is (total 0: unknown). */
void transfer_progress_tell(struct transfer_progress *p, uint64_t rows, uint64_t bytes,
                            uint64_t done, uint64_t total);
/* The same for work that is not counted in rows. `phase` is a word. */
void transfer_progress_phase(struct transfer_progress *p, const char *phase, uint64_t done,
                             uint64_t total);
/* Takes the bar away. */
void transfer_progress_clear(const struct transfer_progress *p);
/* Ends the bar and writes the summary: "verb 12 rows, 3.4 MB in 1.2 s (10 rows/s)more". */
void transfer_progress_end(struct transfer_progress *p, const char *verb, uint64_t rows,
                           uint64_t bytes, const char *more);

#endif
