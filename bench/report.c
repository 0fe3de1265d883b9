/* report.c: numbers for people.
 *
 * The live line overwrites itself on a terminal and is a line of its own otherwise. The table has
 * what one compares by eye; everything else, with every bucket of the histogram, is in the JSON
 * file, from which any percentile can be computed later and which `compare` reads. Its members are
 * documented in docs/operating/benchmark.md. */
#include "bench/report.h"

#include "base/clock.h"
#include "base/json.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <vecmath/vecmath.h>

enum { BAR_CELLS = 40 };

static const struct {
    const char *name;
    double percent;
} percentiles[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}, {"max", 100}};
enum { PERCENTILE_COUNT = sizeof(percentiles) / sizeof(percentiles[0]) };

bool report_is_live(const struct options *options)
{
    return options->live || isatty(STDERR_FILENO) == 1;
}

static double per_second(double count, double seconds)
{
    return seconds > 0 ? count / seconds : 0;
}

static double micros(uint64_t ns)
{
    return (double)ns / 1e3;
}

void report_live_line(void *arg, double seconds, const struct run_result *recent,
                      const struct run_result *all, size_t group_count)
{
    const struct options *options = arg;
    bool terminal = isatty(STDERR_FILENO) == 1;
    if (!report_is_live(options))
        return;
    (void)fprintf(stderr, "%s%5.0f s", terminal ? "\r\033[K" : "", seconds);
    for (size_t g = 0; g < group_count; g++) {
        const struct tally *tally = &recent[g].tally;
        double elapsed = recent[g].elapsed_s;
        double megabytes = (double)(tally->request_bytes + tally->reply_bytes) / 1e6;
        (void)fprintf(stderr,
                      " | %9.0f ops/s %8.1f MB/s  p50 %8.0f us  p99 %8.0f us  errors %" PRIu64,
                      per_second((double)tally->op_count, elapsed), per_second(megabytes, elapsed),
                      micros(hdr_percentile(&tally->latency, 50)),
                      micros(hdr_percentile(&tally->latency, 99)), all[g].tally.error_count);
    }
    (void)fputs(terminal ? "" : "\n", stderr);
    (void)fflush(stderr);
}

void report_bar(const char *label, uint64_t done, uint64_t total)
{
    bool terminal = isatty(STDERR_FILENO) == 1;
    double share = total != 0 ? (double)done / (double)total : 1;
    int cells = (int)(share * BAR_CELLS);
    (void)fprintf(stderr, "%s%-28s [%.*s%*s] %3.0f %%%s", terminal ? "\r\033[K" : "", label, cells,
                  "========================================", BAR_CELLS - cells, "", share * 100,
                  terminal ? "" : "\n");
    (void)fflush(stderr);
}

void report_bar_end(void)
{
    if (isatty(STDERR_FILENO) == 1)
        (void)fputs("\n", stderr);
}

bool report_is_good(const struct report *report)
{
    for (size_t i = 0; i < report->group_count; i++) {
        const struct report_group *group = &report->groups[i];
        if (group->result->tally.error_count != 0)
            return false;
        if (group->verdict != NULL && (group->verdict->recall < report->options->min_recall ||
                                       group->verdict->wrong_scores != 0))
            return false;
    }
    return true;
}

/* ---- table ---- */

static void print_errors(const struct tally *tally)
{
    for (int code = 1; code < CODE_COUNT; code++) {
        if (tally->errors[code] != 0)
            (void)printf("  %" PRIu64 " x %s: %s\n", tally->errors[code], pdb_error_name(-code),
                         tally->messages[code]);
    }
}

static void print_group(const struct report_group *group)
{
    const struct tally *tally = &group->result->tally;
    double seconds = group->result->elapsed_s;
    double megabytes = (double)(tally->request_bytes + tally->reply_bytes) / 1e6;
    (void)printf("\n%s (%s, %s, %u connections x %u streams, %u threads, ", group->name,
                 options_protocol_name(group->settings->protocol), group->format,
                 group->settings->connections,
                 group->settings->protocol == PROTOCOL_REST ? 1 : group->settings->streams,
                 group->settings->threads);
    if (group->settings->rate > 0)
        (void)printf("%g operations/s)\n", group->settings->rate);
    else
        (void)printf("closed loop)\n");
    (void)printf(
        "  %" PRIu64
        " operations in %.3f s: %.1f operations/s, %.1f records/s, %.1f MB/s, errors %" PRIu64 "\n",
        tally->op_count, seconds, per_second((double)tally->op_count, seconds),
        per_second((double)tally->record_count, seconds), per_second(megabytes, seconds),
        tally->error_count);
    (void)printf("  latency us:");
    for (size_t i = 0; i < PERCENTILE_COUNT; i++)
        (void)printf("  %s %.1f", percentiles[i].name,
                     micros(hdr_percentile(&tally->latency, percentiles[i].percent)));
    (void)printf("\n");
    print_errors(tally);
    if (tally->retried != 0)
        (void)printf("  %" PRIu64 " requests were sent again\n", tally->retried);
    if (tally->not_started != 0)
        (void)printf("  %" PRIu64
                     " requests were due but never sent: the server cannot hold this rate\n",
                     tally->not_started);
    if (tally->abandoned != 0)
        (void)printf("  %" PRIu64 " requests were still unanswered when the run was stopped\n",
                     tally->abandoned);
    if (group->verdict != NULL)
        (void)printf("  recall %.6f (%" PRIu64 " of %" PRIu64 " neighbours, %" PRIu64
                     " queries), %" PRIu64 " wrong scores, %" PRIu64 " out of order\n",
                     group->verdict->recall, group->verdict->good, group->verdict->wanted,
                     group->verdict->queries, group->verdict->wrong_scores,
                     group->verdict->wrong_order);
}

static double client_cpu_s(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return 0;
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void report_table(const struct report *report)
{
    if (isatty(STDERR_FILENO) == 1)
        (void)fputs("\n", stderr);
    (void)printf("%s: %zu rows x %zu, %s, collection '%s' at %s%s\n",
                 options_command_name(report->options->command), report->row_count,
                 report->dimension, options_metric_name((enum pdb_metric)report->options->metric),
                 report->options->collection, report->options->url,
                 report->interrupted ? " (interrupted)" : "");
    for (size_t i = 0; i < report->group_count; i++)
        print_group(&report->groups[i]);
    (void)fflush(stdout);
}

/* ---- JSON ---- */

static void key(struct buffer *out, const char *name)
{
    char last = out->len != 0 ? out->ptr[out->len - 1] : '{';
    if (last != '{' && last != '[')
        buffer_add_byte(out, ',');
    json_write_string(out, text_of(name));
    buffer_add_byte(out, ':');
}

static void add_number(struct buffer *out, const char *name, double value)
{
    key(out, name);
    json_write_double(out, value);
}

static void add_count(struct buffer *out, const char *name, uint64_t value)
{
    key(out, name);
    buffer_add_u64(out, value);
}

static void add_string(struct buffer *out, const char *name, const char *value)
{
    key(out, name);
    if (value != NULL)
        json_write_string(out, text_of(value));
    else
        buffer_add_lit(out, "null");
}

static void add_bool(struct buffer *out, const char *name, bool value)
{
    key(out, name);
    buffer_add_text(out, value ? TEXT_LIT("true") : TEXT_LIT("false"));
}

static void open_object(struct buffer *out, const char *name)
{
    key(out, name);
    buffer_add_byte(out, '{');
}

static void add_settings(struct buffer *out, const struct report *report)
{
    const struct options *o = report->options;
    open_object(out, "settings");
    add_string(out, "url", o->url);
    add_string(out, "collection", o->collection);
    add_string(out, "metric", options_metric_name((enum pdb_metric)o->metric));
    add_string(out, "sync", o->sync);
    add_string(out, "data", o->data);
    add_string(out, "query_data", o->query_data);
    add_string(out, "filter", o->filter);
    add_count(out, "rows", report->row_count);
    add_count(out, "dimension", report->dimension);
    add_count(out, "batch", o->batch);
    add_count(out, "k", o->k);
    add_count(out, "queries", o->queries);
    add_count(out, "seed", o->seed);
    add_count(out, "label_count", o->label_count);
    add_number(out, "duration_s", o->duration_s);
    add_number(out, "warmup_s", o->warmup_s);
    add_number(out, "timeout_s", o->timeout_s);
    add_bool(out, "reconnect", o->reconnect);
    buffer_add_byte(out, '}');
}

static void add_latency(struct buffer *out, const struct hdr *hdr)
{
    open_object(out, "latency_us");
    add_count(out, "count", hdr->total);
    add_count(out, "clipped", hdr->clipped);
    add_number(out, "min", micros(hdr->min_ns));
    add_number(out, "mean", hdr_mean(hdr) / 1e3);
    for (size_t i = 0; i < PERCENTILE_COUNT; i++)
        add_number(out, percentiles[i].name, micros(hdr_percentile(hdr, percentiles[i].percent)));
    buffer_add_byte(out, '}');
    key(out, "histogram_ns");
    buffer_add_byte(out, '[');
    bool first = true;
    for (size_t slot = 0; slot < HDR_SLOT_COUNT; slot++) {
        if (hdr->counts[slot] == 0)
            continue;
        buffer_format(out, "%s[%" PRIu64 ",%" PRIu64 "]", first ? "" : ",", hdr_slot_value(slot),
                      hdr->counts[slot]);
        first = false;
    }
    buffer_add_byte(out, ']');
}

static void add_errors(struct buffer *out, const struct tally *tally)
{
    open_object(out, "errors");
    for (int code = 1; code < CODE_COUNT; code++) {
        if (tally->errors[code] == 0)
            continue;
        open_object(out, code == CODE_UNKNOWN ? "UNKNOWN" : pdb_error_name(-code));
        add_count(out, "count", tally->errors[code]);
        add_string(out, "message", tally->messages[code]);
        buffer_add_byte(out, '}');
    }
    buffer_add_byte(out, '}');
}

static void add_group(struct buffer *out, const struct report_group *group)
{
    const struct tally *tally = &group->result->tally;
    double seconds = group->result->elapsed_s;
    buffer_add_byte(out, '{');
    add_string(out, "name", group->name);
    add_string(out, "protocol", options_protocol_name(group->settings->protocol));
    add_string(out, "format", group->format);
    add_count(out, "connections", group->settings->connections);
    add_count(out, "streams",
              group->settings->protocol == PROTOCOL_REST ? 1 : group->settings->streams);
    add_count(out, "threads", group->settings->threads);
    add_number(out, "rate", group->settings->rate);
    add_number(out, "elapsed_s", seconds);
    add_count(out, "operations", tally->op_count);
    add_number(out, "operations_per_s", per_second((double)tally->op_count, seconds));
    add_count(out, "records", tally->record_count);
    add_number(out, "records_per_s", per_second((double)tally->record_count, seconds));
    add_count(out, "request_bytes", tally->request_bytes);
    add_count(out, "reply_bytes", tally->reply_bytes);
    add_count(out, "error_count", tally->error_count);
    add_errors(out, tally);
    add_count(out, "retried", tally->retried);
    add_count(out, "not_started", tally->not_started);
    add_count(out, "abandoned", tally->abandoned);
    if (group->verdict != NULL) {
        open_object(out, "recall");
        add_number(out, "value", group->verdict->recall);
        add_count(out, "queries", group->verdict->queries);
        add_count(out, "wanted", group->verdict->wanted);
        add_count(out, "good", group->verdict->good);
        add_count(out, "wrong_scores", group->verdict->wrong_scores);
        add_count(out, "wrong_order", group->verdict->wrong_order);
        add_number(out, "tolerance", EXACT_TOLERANCE);
        buffer_add_byte(out, '}');
    }
    add_latency(out, &tally->latency);
    buffer_add_byte(out, '}');
}

static void write_all(struct buffer *out, const struct report *report)
{
    char started[CLOCK_TEXT_SIZE];
    clock_format_us(report->started_us, started);
    buffer_add_byte(out, '{');
    add_string(out, "program", "pdb-bench");
    add_string(out, "version", PDB_VERSION);
    add_string(out, "started_at", started);
    add_string(out, "command", options_command_name(report->options->command));
    add_settings(out, report);
    key(out, "server");
    buffer_add_text(out, report->server);
    open_object(out, "client");
    add_count(out, "cores", options_cores());
    add_string(out, "simd", vecmath_isa_name());
    add_number(out, "cpu_s", client_cpu_s());
    buffer_add_byte(out, '}');
    add_bool(out, "interrupted", report->interrupted);
    add_bool(out, "good", report_is_good(report));
    key(out, "groups");
    buffer_add_byte(out, '[');
    for (size_t i = 0; i < report->group_count; i++) {
        if (i != 0)
            buffer_add_byte(out, ',');
        add_group(out, &report->groups[i]);
    }
    buffer_add_lit(out, "]}\n");
}

int report_json(const struct report *report, const char *path, struct trail *trail)
{
    struct buffer out;
    buffer_init_heap(&out, NULL, 0);
    write_all(&out, report);
    if (out.failed) {
        buffer_dispose(&out);
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for the report");
    }
    FILE *file = fopen(path, "we");
    bool ok = file != NULL && fwrite(out.ptr, 1, out.len, file) == out.len;
    ok = file != NULL && fclose(file) == 0 && ok;
    int error = errno;
    buffer_dispose(&out);
    return ok ? 0 : trail_add(trail, PDB_UNAVAILABLE, "%s: %s", path, strerror(error));
}
