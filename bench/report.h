/* What people and programs read: the live line, progress bars, the table, the JSON file. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "bench/client/run.h"
#include "bench/exact.h"
#include "bench/options.h"

enum { REPORT_GROUPS_MAX = 4 };

struct report_group {
    const char *name; /* "load", "search over grpc" */
    const struct run_group *settings;
    const struct run_result *result;
    const struct exact_verdict *verdict; /* NULL: not checked */
    const char *format;
};

struct report {
    const struct options *options;
    size_t row_count, dimension;
    struct pdb_text server; /* JSON object of /v1/info */
    struct report_group groups[REPORT_GROUPS_MAX];
    size_t group_count;
    bool interrupted;
    int64_t started_us; /* since 1970 */
};

/* Lines and bars go to standard error, and only when it is a terminal or when they are asked
 * for. */
bool report_is_live(const struct options *options);

/* A run_tick_fn: one line with operations, MB, p50, p99 and errors of the last second. `arg`: the
 * options. */
run_tick_fn report_live_line;

/* Draws "label [====    ] 50 %" over the last one. */
void report_bar(const char *label, uint64_t done, uint64_t total);
void report_bar_end(void);

void report_table(const struct report *report);
/* Writes the file of --json: 0, or PDB_UNAVAILABLE with the reason. */
int report_json(const struct report *report, const char *path, struct trail *trail);
/* True when nothing went wrong: no errors, nothing left out, and recall at least
 * options->min_recall where it was checked. */
bool report_is_good(const struct report *report);

#endif
