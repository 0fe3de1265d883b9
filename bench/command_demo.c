/* command_demo.c: the whole road with real data. Fashion-MNIST (60,000 images of 28 x 28, and
 * 10,000 to ask with) goes through the network into a server, exact neighbours are computed here,
 * every query is asked over gRPC and over REST, and every answer is held against the truth. The
 * exit status says whether recall was 1 at both doors. */
#include "bench/session.h"

#include "base/clock.h"
#include "base/heap.h"
#include "bench/child.h"
#include "bench/control.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { GROUP_LOAD, GROUP_GRPC, GROUP_REST, GROUP_COUNT };

static const char folder_default[] =
    "/usr/share/datasets/fashion-mnist"; /* of the package dataset-fashion-mnist */

struct demo {
    struct session session;
    struct child child;
    bool live;
    struct run_group groups[GROUP_COUNT];
    struct run_result *results;
    struct exact_verdict verdicts[GROUP_COUNT];
    struct report report;
};

/* ---- progress ---- */

struct bar {
    const char *label;
    uint64_t total; /* records */
    bool live;
};

static void run_bar(void *arg, double seconds, const struct run_result *recent,
                    const struct run_result *all, size_t group_count)
{
    const struct bar *bar = arg;
    (void)seconds;
    (void)recent;
    (void)group_count;
    if (bar->live)
        report_bar(bar->label, all[0].tally.record_count, bar->total);
}

static void exact_bar(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    report_bar("exact neighbours", done, total);
}

/* ---- steps ---- */

static int read_part(struct demo *demo, struct dataset *dataset, const char *name, size_t row_max)
{
    const char *folder =
        demo->session.options.data != NULL ? demo->session.options.data : folder_default;
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s-images-idx3-ubyte.gz", folder, name);
    int rc = dataset_read(dataset, path, row_max, &demo->session.trail);
    if (rc == PDB_NOT_FOUND)
        return trail_add(&demo->session.trail, rc,
                         "Fashion-MNIST is not installed (package dataset-fashion-mnist)");
    if (rc < 0)
        return rc;
    (void)snprintf(path, sizeof(path), "%s/%s-labels-idx1-ubyte.gz", folder, name);
    return dataset_read_labels(dataset, path, &demo->session.trail);
}

static int read_data(struct demo *demo)
{
    struct session *s = &demo->session;
    int rc = read_part(demo, &s->rows, "train", (size_t)s->options.rows);
    if (rc == 0)
        rc = read_part(demo, &s->queries, "t10k", (size_t)s->options.queries);
    s->row_count = s->rows.row_count;
    if (rc == 0)
        (void)printf("Fashion-MNIST: %zu rows, %zu queries, dimension %zu\n", s->rows.row_count,
                     s->queries.row_count, s->rows.dimension);
    return rc;
}

/* One group by itself, with a progress bar; its numbers go into the report. */
static int run_step(struct demo *demo, unsigned index, const char *name, struct workload workload,
                    uint64_t op_max, uint64_t record_count)
{
    struct session *s = &demo->session;
    struct bar bar = {name, record_count, demo->live};
    demo->groups[index] = session_group(s, name, workload);
    demo->groups[index].op_max = op_max;
    demo->groups[index].duration_s = 0;
    demo->groups[index].warmup_s = 0;
    int rc = run_groups(&demo->groups[index], 1, run_bar, &bar, &demo->results[index],
                        &demo->report.interrupted, &s->trail);
    if (demo->live)
        report_bar_end();
    if (rc < 0)
        return rc;
    demo->report.groups[demo->report.group_count++] = (struct report_group){
        .name = name,
        .settings = &demo->groups[index],
        .result = &demo->results[index],
        .format = options_format_name(options_format(&s->options)),
    };
    return demo->report.interrupted ? trail_add(&s->trail, PDB_CANCELLED, "interrupted") : 0;
}

static int load(struct demo *demo)
{
    struct session *s = &demo->session;
    struct load_job job;
    int rc = session_endpoint(s);
    if (rc == 0)
        rc = control_drop(&s->options, &s->endpoint, &s->arena, &s->trail);
    if (rc == 0)
        rc = control_prepare(&s->options, &s->endpoint, s->rows.dimension, &s->arena, &s->trail);
    if (rc == 0)
        rc = session_load_job(s, &job);
    if (rc < 0)
        return rc;
    demo->report.server = control_info(&s->options, &s->endpoint, &s->arena);
    return run_step(demo, GROUP_LOAD, "load", load_job_workload(&job), load_job_batches(&job),
                    s->row_count);
}

static int compute_truth(struct demo *demo)
{
    struct session *s = &demo->session;
    int rc = exact_compute(&s->exact, &s->rows, &s->queries, (enum pdb_metric)s->options.metric,
                           (size_t)s->options.k, options_cores(), demo->live ? exact_bar : NULL,
                           NULL, &s->trail);
    if (demo->live)
        report_bar_end();
    return rc;
}

static int search(struct demo *demo, unsigned index, enum protocol protocol, const char *name)
{
    struct session *s = &demo->session;
    struct search_job job;
    s->options.protocol = protocol;
    int rc = session_endpoint(s);
    if (rc == 0)
        rc = session_search_job(s, &job);
    if (rc < 0)
        return rc;
    if (search_job_keep_answers(&job) < 0)
        rc = trail_add(&s->trail, PDB_RESOURCE_EXHAUSTED, "no memory for the answers");
    if (rc == 0)
        rc = run_step(demo, index, name, search_job_workload(&job), s->queries.row_count,
                      s->queries.row_count);
    if (rc == 0) {
        const struct exact_answers answers = {job.hits, job.counts, (size_t)s->options.k};
        exact_judge(&s->exact, &answers, &demo->verdicts[index]);
        demo->report.groups[demo->report.group_count - 1].verdict = &demo->verdicts[index];
    }
    search_job_dispose(&job);
    return rc;
}

/* Every query must have been answered, and every answer right. */
static bool is_right(const struct demo *demo)
{
    for (unsigned i = GROUP_GRPC; i < GROUP_COUNT; i++) {
        if (demo->verdicts[i].queries != demo->session.queries.row_count)
            return false;
    }
    return report_is_good(&demo->report);
}

/* The exit status, or negative: the trail says why. */
static int run(struct demo *demo)
{
    struct session *s = &demo->session;
    int rc = read_data(demo);
    if (rc == 0 && s->options.server != NULL) {
        rc = child_start(&demo->child, s->options.server, &s->trail);
        s->options.url = demo->child.url;
    }
    if (rc == 0)
        rc = load(demo);
    if (rc == 0)
        rc = compute_truth(demo);
    if (rc == 0)
        rc = search(demo, GROUP_GRPC, PROTOCOL_GRPC, "search over gRPC");
    if (rc == 0)
        rc = search(demo, GROUP_REST, PROTOCOL_REST, "search over REST");
    if (rc < 0 && rc != PDB_CANCELLED)
        return rc;
    demo->report.row_count = s->rows.row_count;
    demo->report.dimension = s->rows.dimension;
    report_table(&demo->report);
    if (rc < 0)
        return rc;
    if (s->options.json_path != NULL &&
        (rc = report_json(&demo->report, s->options.json_path, &s->trail)) < 0)
        return rc;
    bool right = is_right(demo);
    (void)printf("\nrecall@%" PRIu64 " against exact neighbours: gRPC %.6f, REST %.6f: %s\n",
                 s->options.k, demo->verdicts[GROUP_GRPC].recall, demo->verdicts[GROUP_REST].recall,
                 right ? "right" : "WRONG");
    return right ? 0 : 1;
}

int command_demo(const struct options *options)
{
    struct demo demo = {.live = report_is_live(options)};
    session_init(&demo.session, options);
    demo.session.options.protocol = PROTOCOL_GRPC;
    demo.session.options.metric = PDB_METRIC_EUCLIDEAN;
    demo.session.options.format = 0;
    demo.session.options.collection = "fashion-mnist";
    demo.report.options = &demo.session.options;
    demo.report.started_us = clock_realtime_us();
    demo.results = heap_calloc(NULL, GROUP_COUNT, sizeof(*demo.results));
    int rc = demo.results != NULL
                 ? run(&demo)
                 : trail_add(&demo.session.trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    if (demo.child.folder[0] != '\0') {
        int stopped = child_stop(&demo.child, &demo.session.trail);
        rc = rc == 0 ? stopped : rc;
    }
    if (rc < 0)
        (void)fprintf(stderr, "pdb-bench: %s\n", demo.session.trail.text);
    session_dispose(&demo.session);
    heap_free(NULL, demo.results);
    return rc < 0 ? 2 : rc;
}
