/* config_keys.c: the one table of keys. Parsing, the names in the environment, defaults,
 * --print-config and the tests that hold docs/operating/configuration.md and deploy/proximadb.toml
 * against it all read these rows, so that a key exists everywhere or nowhere. Sections lie
 * together: printing opens a header when the section changes.
 */
#include "server/config_internal.h"

#include "base/assert.h"
#include "base/doc.h"

#include <ctype.h>
#include <stdio.h>

#include "base/no_libc_heap.h"

static const char *const wal_encodings[] = {"binary", "avro", NULL};
static const char *const wal_io_modes[] = {"direct", "buffered", NULL};
static const char *const wal_on_errors[] = {"abort", "readonly", NULL};
static const char *const io_engines[] = {"auto", "uring", "threads", NULL};
static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const log_formats[] = {"json", "text", NULL};

_Static_assert(PDB_WAL_BINARY == 0 && PDB_WAL_AVRO == 1, "wal_encodings");
_Static_assert(PDB_WAL_DIRECT == 0 && PDB_WAL_BUFFERED == 1, "wal_io_modes");
_Static_assert(PDB_WAL_ABORT == 0 && PDB_WAL_READONLY == 1, "wal_on_errors");
_Static_assert(PDB_IO_AUTO == 0 && PDB_IO_URING == 1 && PDB_IO_THREADS == 2, "io_engines");
_Static_assert(LOG_LEVEL_DEBUG == 0 && LOG_LEVEL_ERROR == 3, "log_levels");
_Static_assert(CONFIG_LOG_JSON == 0 && CONFIG_LOG_TEXT == 1, "log_formats");

/* NOLINTBEGIN(bugprone-macro-parentheses): member designators take none */
#define MEMBER(section, key)                                                                       \
    .name = #section "." #key, .offset = offsetof(struct config, section.key),                     \
    .size = sizeof(((struct config *)0)->section.key)
/* NOLINTEND(bugprone-macro-parentheses) */
#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* A limit that counts, and one that is a size. */
#define LIMIT(key, low, high, normal, text)                                                        \
    {                                                                                              \
        MEMBER(limits, key), .kind = CONFIG_INTEGER, .fallback = (normal), .min = (low),           \
                             .max = (high), .help = (text)                                         \
    }
#define LIMIT_BYTES(key, low, high, normal, text)                                                  \
    {                                                                                              \
        MEMBER(limits, key), .kind = CONFIG_SIZE, .fallback = (normal), .min = (low),              \
                             .max = (high), .help = (text)                                         \
    }

const struct config_row config_rows[] = {
    {MEMBER(server, listen), .kind = CONFIG_LIST, .fallback = "127.0.0.1:5678,127.0.0.1:5679",
     .wrong = config_wrong_listener, .flag = "--listen", .traits = CONFIG_NEEDED,
     .help = "Addresses to listen on; each serves REST and gRPC. `*:5678` is every address; port 0 "
             "lets the system choose."},
    {MEMBER(server, cores), .kind = CONFIG_INTEGER, .fallback = "0", .max = REACTOR_MAX,
     .flag = "--cores",
     .help = "Reactor threads; 0 is one for each core that the process may use."},
    {MEMBER(server, insecure), .kind = CONFIG_BOOL, .fallback = "false",
     .help = "Accept addresses that other machines can reach although there is no TLS. Warns at "
             "every start."},
    {MEMBER(server, shutdown_timeout_s), .kind = CONFIG_INTEGER, .fallback = "30", .max = 3600,
     .help = "Seconds that requests in flight have to finish after SIGTERM or SIGINT."},
    {MEMBER(server, cors_origins), .kind = CONFIG_LIST, .fallback = "",
     .wrong = config_wrong_origin,
     .help = "Web origins that browsers may call from, such as `https://app.example.com`, or `*`. "
             "Empty: CORS is off."},

    {MEMBER(tls, cert), .kind = CONFIG_TEXT, .fallback = "",
     .help = "Certificate chain, a PEM file. With `tls.key` it turns TLS on, for every listener."},
    {MEMBER(tls, key), .kind = CONFIG_TEXT, .fallback = "",
     .help = "Private key of the certificate, a PEM file."},

    {MEMBER(storage, data_dir), .kind = CONFIG_TEXT, .fallback = "./data", .flag = "--data-dir",
     .traits = CONFIG_NEEDED, .help = "Directory of all data; made if its parent exists."},
    {MEMBER(storage, memory_limit), .kind = CONFIG_SIZE, .fallback = "0", .min = 64 * MIB,
     .max = INT64_MAX, .traits = CONFIG_OR_ZERO,
     .help = "Memory for rows and indexes; past it, writes are refused. 0: 70 % of the memory of "
             "machine or cgroup."},
    {MEMBER(storage, flush_rows), .kind = CONFIG_INTEGER, .fallback = "1000000", .min = 1,
     .max = UINT32_MAX,
     .help = "Rows in memory after which a collection's are written to a segment file."},
    {MEMBER(storage, flush_bytes), .kind = CONFIG_SIZE, .fallback = "256MiB", .min = 64 * KIB,
     .max = 1024 * GIB,
     .help = "Memory of a collection's rows after which they are written to a segment file."},
    {MEMBER(storage, flush_age_s), .kind = CONFIG_INTEGER, .fallback = "300", .min = 1,
     .max = 604800,
     .help = "Seconds that a row waits in memory at most before it is written to a segment file."},
    {MEMBER(storage, segments_max), .kind = CONFIG_INTEGER, .fallback = "8", .min = 1, .max = 1024,
     .help = "Segments that a collection may keep at rest; more are merged."},
    {MEMBER(storage, compaction_rate_bytes_per_s), .kind = CONFIG_SIZE, .fallback = "0", .min = MIB,
     .max = 1024 * GIB, .traits = CONFIG_OR_ZERO,
     .help = "What merging segments may read and write a second, on each core. 0: no limit."},

    {MEMBER(snapshots, interval_s), .kind = CONFIG_INTEGER, .fallback = "0", .max = 31536000,
     .help = "Seconds between two snapshots of everything that are taken by the clock. 0: none."},
    {MEMBER(snapshots, keep), .kind = CONFIG_INTEGER, .fallback = "7", .min = 1, .max = 100000,
     .help = "How many of these are kept; the oldest beyond are removed. Others are never."},

    {MEMBER(archive, url), .kind = CONFIG_TEXT, .fallback = "",
     .help = "URL of the object store that everything goes to that is needed to bring a moment "
             "back: a folder that exists, `s3://`, `gs://`, `az://`. Empty: there is no "
             "archive."},
    {MEMBER(archive, interval_s), .kind = CONFIG_INTEGER, .fallback = "60", .min = 1, .max = 86400,
     .help = "Seconds after which what was written is in the archive, if the store is fast "
             "enough."},
    {MEMBER(archive, base_interval_s), .kind = CONFIG_INTEGER, .fallback = "86400", .min = 1,
     .max = 31536000,
     .help = "Seconds between two bases, from which a recovery begins: less is more to store "
             "and less to replay."},
    {MEMBER(archive, keep), .kind = CONFIG_INTEGER, .fallback = "7", .min = 1, .max = 100000,
     .help = "How many bases are kept; the oldest beyond are removed, with all that only they "
             "need."},

    {MEMBER(disk, min_free_bytes), .kind = CONFIG_SIZE, .fallback = "2GiB", .max = INT64_MAX,
     .help = "Writes are refused while a disk has less free space. 0: no check."},

    {MEMBER(wal, encoding), .kind = CONFIG_CHOICE, .fallback = "binary", .choices = wal_encodings,
     .help = "Encoding of new log records: `binary` is fastest, `avro` can be read by other tools. "
             "Both stay readable."},
    {MEMBER(wal, io_mode), .kind = CONFIG_CHOICE, .fallback = "direct", .choices = wal_io_modes,
     .help = "How the log is written: `direct` past the page cache, `buffered` through it with a "
             "sync."},
    {MEMBER(wal, batch_window_us), .kind = CONFIG_INTEGER, .fallback = "1000", .min = 1,
     .max = 1000000,
     .help = "Longest wait of a write for company, in collections with sync mode `batch`."},
    {MEMBER(wal, period_ms), .kind = CONFIG_INTEGER, .fallback = "200", .min = 1, .max = 60000,
     .help = "Time between log writes for collections with sync mode `periodic`; what a crash can "
             "cost them."},
    {MEMBER(wal, segment_bytes), .kind = CONFIG_SIZE, .fallback = "64MiB", .min = MIB,
     .max = 4 * GIB, .traits = CONFIG_WHOLE_MIB,
     .help = "Size of a log file; a multiple of 1 MiB."},
    {MEMBER(wal, max_bytes), .kind = CONFIG_SIZE, .fallback = "4GiB", .min = 2 * MIB,
     .max = 1024 * GIB,
     .help = "Size of a core's log past which the oldest rows in it are written to segment files. "
             "At least twice `wal.segment_bytes`."},
    {MEMBER(wal, on_error), .kind = CONFIG_CHOICE, .fallback = "abort", .choices = wal_on_errors,
     .help = "When a log cannot be written: `abort` ends the process (a restart recovers), "
             "`readonly` refuses writes."},
    {MEMBER(wal, dirs), .kind = CONFIG_LIST, .fallback = "",
     .help = "Directories for logs, on different disks; core i uses entry i modulo their number. "
             "Empty: `wal` in the data directory."},
    {MEMBER(wal, allow_unsafe_fs), .kind = CONFIG_BOOL, .fallback = "false",
     .help =
         "Accept file systems whose sync promises differ (NFS, the upper layer of an overlay)."},

    {MEMBER(io, engine), .kind = CONFIG_CHOICE, .fallback = "auto", .choices = io_engines,
     .help = "File I/O: `uring` needs io_uring, `threads` does not, `auto` takes the first that "
             "works."},

    {MEMBER(reactor, spin_us), .kind = CONFIG_INTEGER, .fallback = "0", .max = 10000,
     .help =
         "How long an idle reactor looks for work before it sleeps; more is faster and burns CPU."},
    {MEMBER(reactor, pin), .kind = CONFIG_BOOL, .fallback = "true",
     .help = "Bind each reactor to its core."},

    {MEMBER(ttl, sweep_ms), .kind = CONFIG_INTEGER, .fallback = "1000", .min = 10, .max = 3600000,
     .help = "Time between searches for expired rows to remove. Expired rows are never returned."},
    {MEMBER(ttl, grace_s), .kind = CONFIG_INTEGER, .fallback = "3600", .max = 31536000,
     .help = "How long an expired row is kept before it is removed, so that a wrong clock destroys "
             "nothing."},

    {MEMBER(log, level), .kind = CONFIG_CHOICE, .fallback = "info", .choices = log_levels,
     .help = "Least level that is logged."},
    {MEMBER(log, format), .kind = CONFIG_CHOICE, .fallback = "json", .choices = log_formats,
     .help = "Lines of JSON, or text for people."},
    {MEMBER(log, file), .kind = CONFIG_TEXT, .fallback = "",
     .help = "File to append to. Empty: standard error."},

    LIMIT_BYTES(body_bytes, KIB, GIB, "64MiB", "Body of a request; message of gRPC."),
    LIMIT_BYTES(inflight_body_bytes_per_core, MIB, 1024 * GIB, "256MiB",
                "Unfinished bodies on one core; past it, accepting pauses and the largest is "
                "dropped. At least `limits.body_bytes`."),
    LIMIT_BYTES(archive_bytes, MIB, 1024 * 1024 * GIB, "1TiB",
                "An uploaded archive of a snapshot; it is not kept in memory."),
    LIMIT_BYTES(url_bytes, 256, MIB, "8KiB", "Request target."),
    LIMIT_BYTES(header_bytes, KIB, MIB, "16KiB", "Header block of a request."),
    LIMIT(headers, 8, 10000, "100", "Header fields of a request."),
    LIMIT(connections, 1, 10000000, "20000", "Open connections on each core."),
    LIMIT(connections_per_address, 1, 10000000, "256",
          "Open connections of one client address on each core."),
    LIMIT(streams_per_connection, 1, 10000, "100", "Concurrent HTTP/2 streams of a connection."),
    LIMIT(handshake_s, 1, 3600, "10", "Seconds for the TLS handshake."),
    LIMIT(header_s, 1, 3600, "10", "Seconds for a complete request header."),
    LIMIT(idle_s, 1, 86400, "60", "Seconds without a request before a connection is closed."),
    LIMIT(blocked_write_s, 1, 3600, "30", "Seconds that a client may take no byte of its answer."),
    LIMIT(request_deadline_s, 1, 86400, "60",
          "Longest time for a request; a client may ask for less."),
    LIMIT(batch_records, 1, PDB_BATCH_RECORDS_MAX, "10000", "Records in one write."),
    LIMIT(k, 1, PDB_K_MAX, "10000", "Results of one search."),
    LIMIT(batch_searches, 1, 100000, "1000", "Searches in one batch."),
    LIMIT(scroll_records, 1, 10000, "10000", "Records on one page of a scroll."),
    LIMIT(filter_depth, 1, 32, "32", "Nesting of a filter."),
    LIMIT(filter_leaves, 1, 65536, "1024", "Conditions in a filter."),
    LIMIT(json_depth, 8, DOC_DEPTH_MAX, "64", "Nesting of a JSON document."),
    LIMIT(id_bytes, 1, PDB_ID_BYTES_MAX, "512", "Bytes of a record's id."),
    LIMIT_BYTES(metadata_bytes, 2, PDB_METADATA_BYTES_MAX, "1MiB", "Metadata of a record."),
    LIMIT(dimension, 1, PDB_DIMENSION_MAX, "65535", "Dimension of a vector field."),
    LIMIT(collections, 1, 65536, "65536", "Collections in all."),
};

const size_t config_row_count = sizeof config_rows / sizeof config_rows[0];
_Static_assert(sizeof config_rows / sizeof config_rows[0] <= CONFIG_KEY_MAX,
               "struct config has their origins");

const struct config_row *config_row_find(const char *name, size_t len)
{
    for (size_t i = 0; i < config_row_count; i++) {
        if (strlen(config_rows[i].name) == len && memcmp(config_rows[i].name, name, len) == 0)
            return &config_rows[i];
    }
    return NULL;
}

void config_env_name(const struct config_row *row, char name_out[CONFIG_NAME_SIZE])
{
    char *out = name_out + snprintf(name_out, CONFIG_NAME_SIZE, "PROXIMADB_");
    ASSERT(out - name_out == CONFIG_ENV_PREFIX_LEN);
    for (const char *c = row->name; *c != '\0'; c++) {
        ASSERT(out - name_out < CONFIG_NAME_SIZE - 3);
        if (*c == '.') {
            *out++ = '_';
            *out++ = '_';
        } else {
            *out++ = (char)toupper((unsigned char)*c);
        }
    }
    *out = '\0';
}

/* ---- did you mean ---- */

/* Differences that people make without a thought do not count. */
static int folded(char c)
{
    return c == '-' ? '_' : tolower((unsigned char)c);
}

/* Insertions, deletions and replacements that make `a` of `b` (Levenshtein); both shorter than the
 * buffers. */
static size_t distance(const char *a, const char *b)
{
    size_t row[CONFIG_NAME_SIZE];
    size_t b_len = strlen(b);
    ASSERT(b_len < CONFIG_NAME_SIZE);
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b_len; j++) {
            size_t replaced = diagonal + (folded(a[i]) != folded(b[j]) ? 1 : 0);
            size_t least = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            diagonal = row[j + 1];
            row[j + 1] = replaced < least ? replaced : least;
        }
    }
    return row[b_len];
}

/* A third of the letters may differ: enough for typing errors, too few for other words. Of a name
 * in a section only the key counts, or a right section would excuse any key. */
static bool is_near(const char *name, size_t wrong)
{
    const char *dot = strchr(name, '.');
    const char *joint = strstr(name, "__");
    const char *key = dot != NULL ? dot + 1 : joint != NULL ? joint + 2 : name;
    return wrong <= (strlen(key) + 1) / 3;
}

const char *config_nearest(const char *name, const char *const *names)
{
    const char *best = NULL;
    size_t best_distance = 0;
    if (strlen(name) >= CONFIG_NAME_SIZE)
        return NULL;
    for (; *names != NULL; names++) {
        size_t wrong = distance(name, *names);
        if (is_near(*names, wrong) && (best == NULL || wrong < best_distance)) {
            best = *names;
            best_distance = wrong;
        }
    }
    return best;
}

/* The row whose key is the last part of `name`, when its section is what is wrong. */
static const struct config_row *find_elsewhere(const char *name)
{
    const char *key = strrchr(name, '.');
    const struct config_row *found = NULL;
    for (size_t i = 0; key != NULL && i < config_row_count; i++) {
        if (strcmp(strchr(config_rows[i].name, '.'), key) != 0)
            continue;
        if (found != NULL)
            return NULL; /* more than one */
        found = &config_rows[i];
    }
    return found;
}

const char *config_suggest(const char *name, bool as_env, char buffer[CONFIG_NAME_SIZE])
{
    const struct config_row *best = as_env ? NULL : find_elsewhere(name);
    if (best != NULL)
        return best->name;
    size_t best_distance = 0;
    if (strlen(name) >= CONFIG_NAME_SIZE)
        return NULL;
    for (size_t i = 0; i < config_row_count; i++) {
        char env[CONFIG_NAME_SIZE];
        config_env_name(&config_rows[i], env);
        const char *candidate = as_env ? env : config_rows[i].name;
        size_t skip = as_env ? CONFIG_ENV_PREFIX_LEN : 0;
        size_t wrong = distance(name + skip, candidate + skip);
        if (is_near(candidate + skip, wrong) && (best == NULL || wrong < best_distance)) {
            best = &config_rows[i];
            best_distance = wrong;
        }
    }
    if (best == NULL || !as_env)
        return best == NULL ? NULL : best->name;
    config_env_name(best, buffer);
    return buffer;
}
