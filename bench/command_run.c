/* command_run.c: load, search and mixed, as tables of contents. A mixed run is two groups with
 * connections of their own, so that neither waits in the other's queue. Which rows exist is decided
 * by the options alone (file, or seed): that is how `search --recall` knows what `load` wrote
 * before. */
#include "bench/session.h"

#include "base/clock.h"
#include "base/heap.h"
#include "bench/control.h"

#include <stdio.h>

enum { ROWS_DEFAULT = 10000, QUERY_SEED = 7919 };

static struct dataset_shape shape_of(const struct options *o, uint64_t dimension, uint64_t seed)
{
    return (struct dataset_shape){.dimension = (size_t)dimension,
                                  .seed = seed,
                                  .cluster_count = (uint32_t)o->cluster_count,
                                  .cluster_seed = o->seed};
}

static int make_rows(struct session *s)
{
    struct options *o = &s->options;
    int rc = 0;
    if (o->data != NULL) {
        rc = dataset_read(&s->rows, o->data, (size_t)o->rows, &s->trail);
        if (rc == 0 && o->labels != NULL)
            rc = dataset_read_labels(&s->rows, o->labels, &s->trail);
        s->row_count = s->rows.row_count;
    } else {
        s->row_count = o->rows != 0 ? o->rows : ROWS_DEFAULT;
        uint64_t fitting = (o->pool_mib << 20) / (o->dimension * sizeof(float));
        if (fitting < o->batch)
            fitting = o->batch;
        struct dataset_shape shape = shape_of(o, o->dimension, o->seed);
        shape.row_count = (size_t)(s->row_count < fitting ? s->row_count : fitting);
        shape.label_count = (uint32_t)o->label_count;
        rc = dataset_generate(&s->rows, &shape, &s->trail);
    }
    if (rc == 0 && s->rows.row_count == 0)
        rc = trail_add(&s->trail, PDB_INVALID_ARGUMENT, "no rows");
    return rc;
}

static int make_queries(struct session *s)
{
    const struct options *o = &s->options;
    uint64_t dimension = s->rows.dimension != 0 ? s->rows.dimension : o->dimension;
    struct dataset_shape shape = shape_of(o, dimension, o->seed + QUERY_SEED);
    shape.row_count = (size_t)o->queries;
    int rc = o->query_data != NULL
                 ? dataset_read(&s->queries, o->query_data, (size_t)o->queries, &s->trail)
                 : dataset_generate(&s->queries, &shape, &s->trail);
    if (rc == 0 && s->queries.row_count == 0)
        rc = trail_add(&s->trail, PDB_INVALID_ARGUMENT, "no queries");
    return rc;
}

static void bar(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    report_bar("exact neighbours", done, total);
}

/* Judges the answers, after the run, so that computing does not disturb it. */
static int judge(struct session *s, const struct search_job *job, struct exact_verdict *verdict_out)
{
    if (s->rows.row_count < s->row_count)
        return trail_add(&s->trail, PDB_INVALID_ARGUMENT,
                         "--recall: %llu rows do not fit into --pool-mib",
                         (unsigned long long)s->row_count);
    bool live = report_is_live(&s->options);
    int rc =
        exact_compute(&s->exact, &s->rows, &s->queries, (enum pdb_metric)s->options.metric,
                      (size_t)s->options.k, options_cores(), live ? bar : NULL, NULL, &s->trail);
    if (live)
        report_bar_end();
    if (rc < 0)
        return rc;
    const struct exact_answers answers = {job->hits, job->counts, (size_t)s->options.k};
    exact_judge(&s->exact, &answers, verdict_out);
    return 0;
}

static int prepare(struct session *s, struct load_job *load, struct search_job *search)
{
    const struct options *o = &s->options;
    bool loads = o->command != COMMAND_SEARCH;
    bool searches = o->command != COMMAND_LOAD;
    int rc = session_endpoint(s);
    if (rc == 0 && (loads || o->recall || o->data != NULL))
        rc = make_rows(s);
    if (rc == 0 && searches)
        rc = make_queries(s);
    if (rc == 0 && loads)
        rc = control_prepare(o, &s->endpoint, s->rows.dimension, &s->arena, &s->trail);
    if (rc == 0 && loads)
        rc = session_load_job(s, load);
    if (rc == 0 && searches)
        rc = session_search_job(s, search);
    if (rc == 0 && o->wait_indexed && o->command == COMMAND_SEARCH)
        rc = control_wait_indexed(o, &s->endpoint, &s->arena, NULL, &s->trail);
    if (rc == 0 && searches && o->recall && search_job_keep_answers(search) < 0)
        rc = trail_add(&s->trail, PDB_RESOURCE_EXHAUSTED, "no memory for the answers");
    return rc;
}

static size_t make_groups(struct session *s, struct load_job *load, struct search_job *search,
                          struct run_group groups[2])
{
    const struct options *o = &s->options;
    size_t count = 0;
    if (o->command != COMMAND_SEARCH) {
        groups[count] = session_group(s, "load", load_job_workload(load));
        if (o->command == COMMAND_MIXED)
            groups[count].rate = o->write_rate;
        if (o->duration_s <= 0)
            groups[count].op_max = load_job_batches(load);
        count++;
    }
    if (o->command != COMMAND_LOAD) {
        groups[count] = session_group(s, "search", search_job_workload(search));
        if (o->command == COMMAND_MIXED)
            groups[count].rate = o->read_rate;
        if (o->duration_s <= 0)
            groups[count].op_max = s->queries.row_count;
        count++;
    }
    return count;
}

/* Fills and prints the report; the exit status. */
static int finish(struct session *s, struct report *report)
{
    report_table(report);
    if (s->options.json_path != NULL && report_json(report, s->options.json_path, &s->trail) < 0)
        return -1;
    return report_is_good(report) ? 0 : 1;
}

/* After a load: tells how long the server needs until every row is in an index. */
static int wait_indexed(struct session *s)
{
    double seconds = 0;
    int rc = control_wait_indexed(&s->options, &s->endpoint, &s->arena, &seconds, &s->trail);
    if (rc == 0)
        (void)printf("indexed %.3f s after the last answer\n", seconds);
    return rc;
}

/* The exit status, or negative: the trail says why nothing could be run. */
static int run(struct session *s, struct load_job *load, struct search_job *search,
               struct run_result *results)
{
    struct run_group groups[2];
    struct exact_verdict verdict;
    int rc = prepare(s, load, search);
    if (rc < 0)
        return rc;
    struct report report = {
        .options = &s->options,
        .row_count = (size_t)(s->row_count != 0 ? s->row_count : s->options.rows),
        .dimension = s->rows.dimension != 0 ? s->rows.dimension : s->queries.dimension,
        .server = control_info(&s->options, &s->endpoint, &s->arena),
        .started_us = clock_realtime_us(),
    };
    report.group_count = make_groups(s, load, search, groups);
    rc = run_groups(groups, report.group_count, report_live_line, &s->options, results,
                    &report.interrupted, &s->trail);
    if (rc < 0)
        return rc;
    if (s->options.wait_indexed && s->options.command == COMMAND_LOAD && !report.interrupted &&
        (rc = wait_indexed(s)) < 0)
        return rc;
    for (size_t i = 0; i < report.group_count; i++)
        report.groups[i] = (struct report_group){
            .name = groups[i].name,
            .settings = &groups[i],
            .result = &results[i],
            .format = options_format_name(options_format(&s->options)),
        };
    if (s->options.recall && s->options.command == COMMAND_SEARCH && !report.interrupted) {
        if ((rc = judge(s, search, &verdict)) < 0)
            return rc;
        report.groups[report.group_count - 1].verdict = &verdict;
    }
    return finish(s, &report);
}

int command_run(const struct options *options)
{
    struct session session;
    struct load_job load = {0};
    struct search_job search = {0};
    struct run_result *results = heap_calloc(NULL, 2, sizeof(*results));
    session_init(&session, options);
    int rc = results != NULL ? run(&session, &load, &search, results)
                             : trail_add(&session.trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    if (rc < 0)
        (void)fprintf(stderr, "pdb-bench: %s\n", session.trail.text);
    search_job_dispose(&search);
    session_dispose(&session);
    heap_free(NULL, results);
    return rc < 0 ? 2 : rc;
}
