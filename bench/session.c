/* session.c: from options to jobs. */
#include "bench/session.h"

#include "base/text.h"
#include "bench/control.h"

#include "proximadb_v1_proximadb.pb-c.h"
#include <inttypes.h>
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

/* What searches ask of the index: as a SearchParams message, or as JSON. */
static int make_params(struct session *s, bool grpc, struct pdb_text *params_out)
{
    const struct options *o = &s->options;
    if (!o->exact && o->ef == 0 && o->nprobe == 0 && o->target_recall <= 0)
        return 0;
    if (!grpc) {
        *params_out = o->exact     ? TEXT_LIT("{\"exact\":true}")
                      : o->ef != 0 ? arena_format(&s->arena, "{\"ef\":%" PRIu64 "}", o->ef)
                      : o->nprobe != 0
                          ? arena_format(&s->arena, "{\"nprobe\":%" PRIu64 "}", o->nprobe)
                          : arena_format(&s->arena, "{\"target_recall\":%g}", o->target_recall);
    } else {
        Proximadb__V1__SearchParams params;
        proximadb__v1__search_params__init(&params);
        params.exact = o->exact;
        if (o->ef != 0) {
            params.maybe_ef_case = PROXIMADB__V1__SEARCH_PARAMS__MAYBE_EF_EF;
            params.ef = (uint32_t)o->ef;
        }
        if (o->nprobe != 0) {
            params.maybe_nprobe_case = PROXIMADB__V1__SEARCH_PARAMS__MAYBE_NPROBE_NPROBE;
            params.nprobe = (uint32_t)o->nprobe;
        }
        if (o->target_recall > 0) {
            params.maybe_target_recall_case =
                PROXIMADB__V1__SEARCH_PARAMS__MAYBE_TARGET_RECALL_TARGET_RECALL;
            params.target_recall = (float)o->target_recall;
        }
        uint8_t *bytes =
            arena_alloc(&s->arena, proximadb__v1__search_params__get_packed_size(&params));
        if (bytes != NULL)
            *params_out = (struct pdb_text){(char *)bytes,
                                            proximadb__v1__search_params__pack(&params, bytes)};
    }
    return params_out->ptr != NULL
               ? 0
               : trail_add(&s->trail, PDB_RESOURCE_EXHAUSTED, "no memory for a request");
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
    if (rc == 0)
        rc = make_params(s, job.target.grpc, &job.target.params);
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
