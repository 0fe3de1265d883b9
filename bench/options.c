/* options.c: a table of options; the parser and the help text are made from it. getopt_long is not
 * used, because it cannot say what would have been right. */
#include "bench/options.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum kind { KIND_FLAG, KIND_NUMBER, KIND_REAL, KIND_TEXT, KIND_CHOICE };

struct row {
    const char *name;
    enum kind kind;
    size_t offset;
    double min, max;     /* numbers */
    const char *choices; /* separated by '|'; the value is the position, plus `min` */
    const char *help;
};

#define AT(member) offsetof(struct options, member)

static const char protocols[] = "grpc|rest|rest2";
static const char formats[] = "packed|records|avro";
static const char metrics[] = "cosine|dot|euclidean|manhattan";
static const char indexes[] = "auto|flat|hnsw|ivf";
static const char quantizations[] = "auto|none|sq8|sq4|pq|binary";

static const struct row table[] = {
    {"url", KIND_TEXT, AT(url), 0, 0, NULL,
     "[http://|https://]HOST:PORT of the server (127.0.0.1:5678)"},
    {"protocol", KIND_CHOICE, AT(protocol), 0, 0, protocols,
     "rest is HTTP/1.1, rest2 is HTTP/2 (grpc)"},
    {"connections", KIND_NUMBER, AT(connections), 1, 10000, NULL, "connections (4)"},
    {"streams", KIND_NUMBER, AT(streams), 1, 1000, NULL,
     "requests in flight on each connection; HTTP/1.1 has one (4)"},
    {"threads", KIND_NUMBER, AT(threads), 0, 256, NULL,
     "threads that share the connections; 0: one a core (0)"},
    {"rate", KIND_REAL, AT(rate), 0, 1e9, NULL,
     "operations a second; 0: as fast as answers come (0)"},
    {"duration", KIND_REAL, AT(duration_s), 0, 86400, NULL,
     "seconds; 0: until all rows or queries are done (0)"},
    {"warmup", KIND_REAL, AT(warmup_s), 0, 3600, NULL,
     "seconds at the start that are not counted (0)"},
    {"timeout", KIND_REAL, AT(timeout_s), 0.001, 3600, NULL,
     "seconds after which a request is given up (60)"},
    {"reconnect", KIND_FLAG, AT(reconnect), 0, 0, NULL,
     "connect again when a connection is lost, and repeat its requests"},
    {"tls", KIND_FLAG, AT(tls), 0, 0, NULL, "use TLS; https:// does too"},
    {"ca", KIND_TEXT, AT(ca_path), 0, 0, NULL,
     "file with the roots that the server's certificate must have (the system's)"},
    {"insecure", KIND_FLAG, AT(insecure), 0, 0, NULL, "do not check the server's certificate"},
    {"collection", KIND_TEXT, AT(collection), 0, 0, NULL, "name of the collection (bench)"},
    {"drop", KIND_FLAG, AT(drop), 0, 0, NULL, "delete the collection first"},
    {"metric", KIND_CHOICE, AT(metric), PDB_METRIC_COSINE, 0, metrics,
     "metric of the collection (cosine)"},
    {"index", KIND_CHOICE, AT(index), PDB_INDEX_AUTO, 0, indexes,
     "index of a collection made here (auto)"},
    {"quantization", KIND_CHOICE, AT(quantization), PDB_QUANTIZATION_AUTO, 0, quantizations,
     "what its index is navigated by (auto)"},
    {"wait-indexed", KIND_FLAG, AT(wait_indexed), 0, 0, NULL,
     "after load, before search: wait until all rows are in segments with their indexes"},
    {"sync", KIND_TEXT, AT(sync), 0, 0, NULL,
     "always, batch, periodic or never, for a collection made here (batch)"},
    {"data", KIND_TEXT, AT(data), 0, 0, NULL,
     "rows: FILE.fvecs, FILE.npy or an idx3-ubyte[.gz]; generated without. demo: the folder"},
    {"labels", KIND_TEXT, AT(labels), 0, 0, NULL,
     "labels of the rows: an idx1-ubyte[.gz], becomes metadata"},
    {"query-data", KIND_TEXT, AT(query_data), 0, 0, NULL,
     "queries: a file as for --data; generated without"},
    {"rows", KIND_NUMBER, AT(rows), 0, 4e9, NULL,
     "rows; 0: all of the file, 10,000 generated ones (0)"},
    {"dimension", KIND_NUMBER, AT(dimension), 1, PDB_DIMENSION_MAX, NULL,
     "of generated rows (768)"},
    {"label-count", KIND_NUMBER, AT(label_count), 0, 1e9, NULL,
     "generated rows get {\"label\": below this}; 0: no metadata (0)"},
    {"clusters", KIND_NUMBER, AT(cluster_count), 0, 1e6, NULL,
     "generated rows and queries lie around so many centres; 0: anywhere (0)"},
    {"seed", KIND_NUMBER, AT(seed), 0, 9e15, NULL,
     "of generated rows: the same seed, the same rows (1)"},
    {"pool-mib", KIND_NUMBER, AT(pool_mib), 1, 1 << 20, NULL,
     "memory for generated rows; more rows than fit repeat (256)"},
    {"batch", KIND_NUMBER, AT(batch), 1, PDB_BATCH_RECORDS_MAX, NULL, "rows of one upsert (256)"},
    {"format", KIND_CHOICE, AT(format), 1, 0, formats,
     "of upserts, and of gRPC queries (grpc: packed, rest: records)"},
    {"k", KIND_NUMBER, AT(k), 1, PDB_K_MAX, NULL, "hits asked for (10)"},
    {"queries", KIND_NUMBER, AT(queries), 1, 1e9, NULL, "different queries (demo: 10,000; 1,000)"},
    {"filter", KIND_TEXT, AT(filter), 0, 0, NULL, "JSON filter of every search"},
    {"ef", KIND_NUMBER, AT(ef), 0, PDB_EF_MAX, NULL,
     "of graphs: rows kept while walking; 0: the server decides (0)"},
    {"nprobe", KIND_NUMBER, AT(nprobe), 0, PDB_NPROBE_MAX, NULL,
     "of lists: how many are scanned; 0: the server decides (0)"},
    {"target-recall", KIND_REAL, AT(target_recall), 0, 1, NULL,
     "what searches aim at, 0.5 to 1; 0: the collection's (0)"},
    {"exact", KIND_FLAG, AT(exact), 0, 0, NULL, "searches look at every row"},
    {"recall", KIND_FLAG, AT(recall), 0, 0, NULL,
     "compare answers with exact neighbours; needs the data that was loaded"},
    {"min-recall", KIND_REAL, AT(min_recall), 0, 1, NULL,
     "less than this is a failure (with --exact 1, else 0.95)"},
    {"write-rate", KIND_REAL, AT(write_rate), 0, 1e9, NULL, "mixed: upserts a second (10)"},
    {"read-rate", KIND_REAL, AT(read_rate), 0, 1e9, NULL, "mixed: searches a second (100)"},
    {"server", KIND_TEXT, AT(server), 0, 0, NULL, "demo: start this program on a temporary folder"},
    {"live", KIND_FLAG, AT(live), 0, 0, NULL,
     "a line each second, also when standard error is no terminal"},
    {"json", KIND_TEXT, AT(json_path), 0, 0, NULL,
     "write settings, results and histogram buckets to this file"},
};
enum { ROW_COUNT = sizeof(table) / sizeof(table[0]) };

static const char *const command_names[] = {"load",    "search", "mixed",  "demo",
                                            "compare", "help",   "version"};

const char *options_command_name(enum command command)
{
    return command_names[command];
}

const char *options_protocol_name(enum protocol protocol)
{
    static const char *const names[] = {"grpc", "rest", "rest2"};
    return names[protocol];
}

const char *options_format_name(enum encode_format format)
{
    static const char *const names[] = {"packed", "records", "avro"};
    return names[format];
}

const char *options_metric_name(enum pdb_metric metric)
{
    static const char *const names[] = {"unspecified", "cosine",    "dot",
                                        "euclidean",   "manhattan", "hamming"};
    return names[metric];
}

const char *options_index_name(unsigned index)
{
    static const char *const names[] = {"auto", "flat", "hnsw", "ivf"};
    return names[index];
}

const char *options_quantization_name(unsigned quantization)
{
    static const char *const names[] = {"auto", "none", "sq8", "sq4", "pq", "binary"};
    return names[quantization];
}

enum encode_format options_format(const struct options *options)
{
    if (options->format != 0)
        return (enum encode_format)(options->format - 1);
    return options->protocol == PROTOCOL_GRPC ? ENCODE_PACKED : ENCODE_RECORDS;
}

unsigned options_cores(void)
{
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0 || CPU_COUNT(&cpus) < 1)
        return 1;
    return (unsigned)CPU_COUNT(&cpus);
}

unsigned options_threads(const struct options *options)
{
    uint64_t threads = options->threads != 0 ? options->threads : options_cores();
    return (unsigned)(threads < options->connections ? threads : options->connections);
}

void options_help(FILE *to)
{
    (void)fprintf(to,
                  "usage: pdb-bench load|search|mixed|demo [OPTION]...\n"
                  "       pdb-bench compare A.json B.json\n\n"
                  "  load    upsert rows\n"
                  "  search  search in what was loaded\n"
                  "  mixed   both at once, each at its constant rate\n"
                  "  demo    load Fashion-MNIST, search over gRPC and REST, check every answer\n"
                  "  compare ratios of two --json files\n\n");
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct row *row = &table[i];
        char name[64];
        const char *value = row->kind == KIND_FLAG     ? ""
                            : row->kind == KIND_CHOICE ? row->choices
                            : row->kind == KIND_TEXT   ? "TEXT"
                                                       : "N";
        (void)snprintf(name, sizeof(name), "--%s %s", row->name, value);
        (void)fprintf(to, "  %-38s %s\n", name, row->help);
    }
}

/* ---- parsing ---- */

static int set_choice(unsigned *out, const struct row *row, const char *value, struct trail *trail)
{
    size_t len = strlen(value);
    unsigned position = 0;
    for (const char *at = row->choices; *at != '\0'; position++) {
        size_t choice = strcspn(at, "|");
        if (choice == len && memcmp(at, value, len) == 0) {
            *out = position + (unsigned)row->min;
            return 0;
        }
        at += choice + (at[choice] == '|' ? 1 : 0);
    }
    return trail_add(trail, PDB_INVALID_ARGUMENT, "--%s %s: must be one of %s", row->name, value,
                     row->choices);
}

static int set_number(char *member, const struct row *row, const char *value, struct trail *trail)
{
    char *end = NULL;
    errno = 0;
    double number = strtod(value, &end);
    bool whole =
        row->kind == KIND_REAL || (number == floor(number) && strpbrk(value, "xXpP") == NULL);
    if (end == value || *end != '\0' || errno != 0 || !(number >= row->min && number <= row->max) ||
        !whole)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "--%s %s: must be a%s number from %g to %g",
                         row->name, value, row->kind == KIND_REAL ? "" : " whole", row->min,
                         row->max);
    uint64_t integer = (uint64_t)number;
    if (row->kind == KIND_REAL)
        memcpy(member, &number, sizeof(number));
    else
        memcpy(member, &integer, sizeof(integer));
    return 0;
}

static const struct row *find_row(const char *name, size_t len)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0)
            return &table[i];
    }
    return NULL;
}

/* Parses one option at argv[*at] and moves *at behind it. */
static int set_option(struct options *options, int argc, char *const *argv, int *at,
                      struct trail *trail)
{
    const char *name = argv[*at] + 2;
    size_t len = strcspn(name, "=");
    const struct row *row = find_row(name, len);
    if (row == NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "unknown option --%s; see pdb-bench help",
                         name);
    char *member = (char *)options + row->offset;
    (*at)++;
    if (row->kind == KIND_FLAG) {
        if (name[len] == '=')
            return trail_add(trail, PDB_INVALID_ARGUMENT, "--%s takes no value", row->name);
        *(bool *)member = true;
        return 0;
    }
    const char *value = name + len + 1;
    if (name[len] != '=') {
        if (*at >= argc)
            return trail_add(trail, PDB_INVALID_ARGUMENT, "--%s needs a value", row->name);
        value = argv[(*at)++];
    }
    unsigned choice = 0;
    int rc = 0;
    if (row->kind == KIND_TEXT) {
        memcpy(member, &value, sizeof(value));
    } else if (row->kind == KIND_CHOICE) {
        if ((rc = set_choice(&choice, row, value, trail)) == 0)
            memcpy(member, &choice, sizeof(choice));
    } else {
        rc = set_number(member, row, value, trail);
    }
    return rc;
}

static int find_command(struct options *options, const char *name, struct trail *trail)
{
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0)
        name = "version";
    for (unsigned i = 0; i < sizeof(command_names) / sizeof(command_names[0]); i++) {
        if (strcmp(name, command_names[i]) == 0) {
            options->command = (enum command)i;
            return 0;
        }
    }
    return trail_add(trail, PDB_INVALID_ARGUMENT,
                     "unknown command '%s': load, search, mixed, demo, compare, help or version",
                     name);
}

static int check(const struct options *o, unsigned file_count, struct trail *trail)
{
    static const char *const syncs[] = {"always", "batch", "periodic", "never"};
    bool known = false;
    for (size_t i = 0; i < sizeof(syncs) / sizeof(syncs[0]); i++)
        known = known || strcmp(o->sync, syncs[i]) == 0;
    if (!known)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "--sync %s: must be always, batch, periodic or never", o->sync);
    if (file_count != (o->command == COMMAND_COMPARE ? 2u : 0u))
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         o->command == COMMAND_COMPARE ? "compare needs two files"
                                                       : "'%s' is no option",
                         o->files[0]);
    if (strlen(o->collection) > PDB_NAME_BYTES_MAX || strpbrk(o->collection, "/?# %\"\\") != NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "--collection '%s' is no name",
                         o->collection);
    if (o->command == COMMAND_MIXED && o->duration_s <= 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "mixed needs --duration");
    if (o->recall && o->filter != NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "--recall cannot be checked with --filter");
    if (o->exact + (o->ef != 0) + (o->nprobe != 0) + (o->target_recall > 0) > 1)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "give one of --exact, --ef, --nprobe and --target-recall");
    if (o->target_recall > 0 && o->target_recall < 0.5)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "--target-recall: must be 0.5 to 1");
    return 0;
}

int options_parse(struct options *options_out, int argc, char *const *argv, struct trail *trail)
{
    struct options options = {
        .url = "127.0.0.1:5678",
        .collection = "bench",
        .sync = "batch",
        .protocol = PROTOCOL_GRPC,
        .metric = PDB_METRIC_COSINE,
        .connections = 4,
        .streams = 4,
        .batch = 256,
        .dimension = 768,
        .k = 10,
        .seed = 1,
        .pool_mib = 256,
        .write_rate = 10,
        .read_rate = 100,
        .timeout_s = 60,
        .min_recall = -1, /* not given */
    };
    unsigned file_count = 0;
    int rc = find_command(&options, argc > 1 ? argv[1] : "help", trail);
    for (int at = 2; at < argc && rc == 0;) {
        if (strncmp(argv[at], "--", 2) == 0)
            rc = set_option(&options, argc, argv, &at, trail);
        else if (file_count < 2)
            options.files[file_count++] = argv[at++];
        else
            rc = trail_add(trail, PDB_INVALID_ARGUMENT, "'%s' is too much", argv[at]);
    }
    if (rc == 0)
        rc = check(&options, file_count, trail);
    if (rc < 0)
        return rc;
    if (options.queries == 0)
        options.queries = options.command == COMMAND_DEMO ? 10000 : 1000;
    if (options.min_recall < 0)
        options.min_recall = options.exact ? 1 : 0.95;
    *options_out = options;
    return 0;
}
