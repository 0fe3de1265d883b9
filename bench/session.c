/* session.c: from options to jobs. */
#include "bench/session.h"

#include "bench/control.h"

#include <string.h>

enum { REPLY_MAX = 64 << 20 };

void session_init(struct session *session, const struct options *options)
{
    *session = (struct session){.options = *options};
}

void session_dispose(struct session *s)
{
    if (s->endpoint_open)
        endpoint_close(&s->endpoint);
    dataset_dispose(&s->rows);
    dataset_dispose(&s->queries);
    encode_text_dispose(&s->row_text);
    encode_text_dispose(&s->query_text);
    exact_dispose(&s->exact);
    arena_dispose(&s->arena);
}

int session_endpoint(struct session *s)
{
    const struct endpoint_options options = {
        .url = s->options.url,
        .ca_path = s->options.ca_path,
        .tls = s->options.tls,
        .insecure = s->options.insecure,
        .h2 = s->options.protocol != PROTOCOL_REST,
    };
    if (s->endpoint_open)
        endpoint_close(&s->endpoint);
    s->endpoint_open = false;
    int rc = endpoint_open(&s->endpoint, &options, &s->trail);
    s->endpoint_open = rc == 0;
    return rc;
}

static int make_route(struct session *s, const char *grpc_method, const char *rest_method,
                      const char *rest_suffix, struct route *route_out)
{
    bool avro = options_format(&s->options) == ENCODE_AVRO && strcmp(rest_method, "PUT") == 0;
    if (s->options.protocol == PROTOCOL_GRPC)
        *route_out = (struct route){"POST", control_grpc_path(&s->arena, grpc_method),
                                    "application/grpc+proto"};
    else
        *route_out = (struct route){
            rest_method, control_rest_path(&s->arena, s->options.collection, rest_suffix).ptr,
            avro ? "application/avro" : "application/json"};
    return route_out->path != NULL
               ? 0
               : trail_add(&s->trail, PDB_RESOURCE_EXHAUSTED, "no memory for a route");
}

static int need_text(struct session *s, struct encode_text *text, const struct dataset *dataset)
{
    if (text->bytes != NULL)
        return 0;
    int rc = encode_text_make(text, dataset, options_cores());
    return rc < 0 ? trail_add(&s->trail, rc, "no memory for %zu rows as JSON", dataset->row_count)
                  : 0;
}

int session_load_job(struct session *s, struct load_job *job_out)
{
    struct load_job job = {.row_count = s->row_count, .batch = (size_t)s->options.batch};
    int rc = make_route(s, "Upsert", "PUT", "/vectors", &job.route);
    job.target = (struct encode_target){
        .grpc = s->options.protocol == PROTOCOL_GRPC,
        .format = options_format(&s->options),
        .collection = s->options.collection,
        .rows = &s->rows,
    };
    if (job.batch > s->rows.row_count)
        job.batch = s->rows.row_count;
    if (rc == 0 && !job.target.grpc && job.target.format == ENCODE_RECORDS) {
        rc = need_text(s, &s->row_text, &s->rows);
        job.target.text = &s->row_text;
    }
    if (rc == 0)
        *job_out = job;
    return rc;
}

int session_search_job(struct session *s, struct search_job *job_out)
{
    struct search_job job = {0};
    int rc = make_route(s, "Search", "POST", "/search", &job.route);
    job.target = (struct encode_target){
        .grpc = s->options.protocol == PROTOCOL_GRPC,
        .format = options_format(&s->options),
        .collection = s->options.collection,
        .rows = &s->queries,
        .k = (uint32_t)s->options.k,
    };
    if (rc == 0 && !job.target.grpc) {
        rc = need_text(s, &s->query_text, &s->queries);
        job.target.text = &s->query_text;
    }
    if (rc == 0 && s->options.filter != NULL) {
        struct pdb_text json = text_of(s->options.filter);
        rc = encode_filter(&s->arena, json, &job.target.filter, &s->trail);
        if (!job.target.grpc) /* checked, and sent as it is */
            job.target.filter = json;
    }
    if (rc == 0)
        *job_out = job;
    return rc;
}

struct run_group session_group(const struct session *s, const char *name, struct workload workload)
{
    const struct options *o = &s->options;
    return (struct run_group){
        .name = name,
        .endpoint = &s->endpoint,
        .workload = workload,
        .protocol = (enum protocol)o->protocol,
        .reconnect = o->reconnect,
        .connections = (unsigned)o->connections,
        .streams = (unsigned)o->streams,
        .threads = options_threads(o),
        .rate = o->rate,
        .duration_s = o->duration_s,
        .warmup_s = o->warmup_s,
        .timeout_s = o->timeout_s,
        .reply_max = REPLY_MAX,
    };
}
