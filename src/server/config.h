/* The server's configuration: one TOML file, the environment and a few flags, merged into plain
 * values.
 *
 * Precedence: flag > environment > file > default. Whatever is unknown, of the wrong type or out of
 * range stops the start with a text that says where it stands and what would be right; nothing is
 * guessed and nothing is ignored. Keys, defaults and limits are one table (config_keys.c); users
 * read docs/operating/configuration.md. */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "api/api.h"
#include "base/arena.h"
#include "base/buffer.h"
#include "base/log.h"
#include "base/trail.h"
#include "transport/transport.h"

#include <proximadb/proximadb.h>

enum {
    CONFIG_KEY_MAX = 72, /* rows of the table, at most */
    CONFIG_FILE_BYTES_MAX =
        256 << 10 /* a larger file is refused: parsing may take 45 times as much */
};

enum config_log_format { CONFIG_LOG_JSON, CONFIG_LOG_TEXT };

struct config_list {
    const char *const *items; /* NUL-terminated each */
    size_t count;
};

enum config_source { CONFIG_DEFAULT, CONFIG_FILE, CONFIG_ENVIRONMENT, CONFIG_FLAG };

struct config_origin {
    enum config_source source;
    uint32_t line; /* CONFIG_FILE: where the key stands */
};

/* The effective values. All memory is the arena's that config_load was given. A member that is
 * called section.key in the file is section.key here; optional texts are NULL when empty. */
struct config {
    struct {
        struct config_list listen; /* as written; see `listeners` */
        uint32_t cores;            /* reactors; 0: all that the process may use */
        bool insecure; /* no TLS on addresses that other machines can reach: warn at every start */
        uint32_t shutdown_timeout_s;
        struct config_list cors_origins; /* empty: CORS is off; "*": any */
    } server;
    struct {
        const char *cert, *key; /* paths of PEM files; both or none */
    } tls;
    struct {
        const char *data_dir;
        uint64_t memory_limit; /* bytes; 0: 70 % of the memory of machine or cgroup */
        uint64_t flush_rows, flush_bytes;
        uint32_t flush_age_s;
        uint32_t segments_max;
        uint64_t compaction_rate_bytes_per_s; /* 0: no limit */
    } storage;
    struct {
        uint64_t interval_s; /* 0: none are taken by the clock */
        uint32_t keep;
    } snapshots;
    struct {
        const char *url; /* NULL: there is none */
        uint32_t interval_s;
        uint64_t base_interval_s;
        uint32_t keep;
    } archive;
    struct {
        uint64_t min_free_bytes; /* 0: no check (pdb_options wants UINT64_MAX for that) */
    } disk;
    struct {
        enum pdb_wal_encoding encoding;
        enum pdb_wal_io_mode io_mode;
        uint64_t batch_window_us;
        uint64_t period_ms;
        uint64_t segment_bytes; /* a multiple of 1 MiB */
        uint64_t max_bytes;     /* of one core's log; at least twice segment_bytes */
        enum pdb_wal_on_error on_error;
        struct config_list dirs; /* empty: <data_dir>/wal */
        bool allow_unsafe_fs;
    } wal;
    struct {
        enum pdb_io_engine engine;
    } io;
    struct {
        uint32_t spin_us;
        bool pin;
    } reactor;
    struct {
        uint32_t sweep_ms;
        uint32_t grace_s;
    } ttl;
    struct {
        enum log_level level;
        enum config_log_format format;
        const char *file; /* NULL: stderr */
    } log;
    struct api_limits limits;

    /* server.listen, taken apart; the same order and count. */
    const struct transport_listener *listeners;
    size_t listener_count;
    bool exposed; /* some listener can be reached from other machines */

    /* Where each value comes from, in the order of the table. */
    struct config_origin origins[CONFIG_KEY_MAX];
    const char *file_path; /* NULL: no file */
    bool print;            /* --print-config was given */
};

/* What the process was started with. */
struct config_start {
    const char *const *arguments; /* what follows `proximadb serve`; NUL-terminated each */
    size_t argument_count;
    const char *const *environment; /* as environ: ends with NULL; NULL: empty */
};

/* Merges everything and checks it, also the rules between keys: addresses that other machines can
 * reach need TLS or server.insecure. 0; PDB_INVALID_ARGUMENT with the reason in the trail, ready to
 * be shown; PDB_RESOURCE_EXHAUSTED without memory. *config_out is untouched on failure; the caller
 * disposes of the arena either way, and not before it is done with the configuration. */
int config_load(const struct config_start *start, struct arena *arena, struct trail *trail,
                struct config *config_out);

/* Writes the effective configuration as TOML that config_load accepts, each value with its origin
 * as a comment and secrets left out. A failure shows in out->failed. */
void config_print(const struct config *config, struct buffer *out);

#endif
