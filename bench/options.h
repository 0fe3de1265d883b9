/* The command line of pdb-bench. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "base/trail.h"
#include "bench/client/conn.h"
#include "bench/encode.h"

#include <stdio.h>

enum command {
    COMMAND_LOAD,
    COMMAND_SEARCH,
    COMMAND_MIXED,
    COMMAND_DEMO,
    COMMAND_COMPARE,
    COMMAND_HELP,
    COMMAND_VERSION
};

struct options {
    enum command command;
    const char *url, *collection, *data, *labels, *query_data, *filter, *json_path, *ca_path,
        *server;
    const char *sync;              /* always, batch, periodic, never */
    unsigned protocol;             /* enum protocol */
    unsigned format;               /* 0: the protocol's natural one; else 1 + enum encode_format */
    unsigned metric;               /* enum pdb_metric */
    uint64_t connections, streams; /* of each group of a run */
    uint64_t threads;              /* 0: as many as cores, at most the connections */
    uint64_t batch, dimension, rows, queries, k, seed, label_count, pool_mib;
    uint64_t cluster_count;           /* of generated rows; 0: none */
    unsigned index, quantization;     /* enum pdb_index_type, enum pdb_quantization_type */
    uint64_t ef, nprobe;              /* 0: the server's choice */
    double target_recall, min_recall; /* 0: the collection's; below which a run is not good */
    double rate, write_rate, read_rate, duration_s, warmup_s, timeout_s;
    bool drop, live, recall, reconnect, tls, insecure, exact, wait_indexed;
    const char *files[2]; /* compare */
};

/* 0, or PDB_INVALID_ARGUMENT with what would be right. Text points into argv. */
int options_parse(struct options *options_out, int argc, char *const *argv, struct trail *trail);
void options_help(FILE *to);

/* The format in use, with the default resolved: packed for gRPC, records for REST. */
enum encode_format options_format(const struct options *options);
unsigned options_threads(const struct options *options);
unsigned options_cores(void);

/* Names as they are written on the command line and in reports. */
const char *options_command_name(enum command command);
const char *options_protocol_name(enum protocol protocol);
const char *options_format_name(enum encode_format format);
const char *options_metric_name(enum pdb_metric metric);
const char *options_index_name(unsigned index);
const char *options_quantization_name(unsigned quantization);

#endif
