/* rest.c: from a request line to the handler of its operation, and back to an answer.
 *
 * Routes come from the table of operations (api.h): a path pattern is matched segment by segment,
 * `{c}` and `{id}` take one percent-decoded segment. A path that exists with another method answers
 * 405 with Allow; bodies need application/json (writes may be application/avro), else 415, so that
 * a web page cannot send them unasked; compressed bodies are refused. CORS is off unless origins
 * are configured (Fetch standard: preflight by OPTIONS). */
#include "transport/http/rest.h"

#include "transport/connection.h"

#include <strings.h>

#include "base/no_libc_heap.h"

static rest_handler *const handlers[API_OPERATION_COUNT] = {
    [API_OP_collection_create] = rest_collection_create,
    [API_OP_collection_list] = rest_collection_list,
    [API_OP_collection_get] = rest_collection_get,
    [API_OP_collection_update] = rest_collection_update,
    [API_OP_collection_delete] = rest_collection_delete,
    [API_OP_upsert] = rest_upsert,
    [API_OP_insert] = rest_insert,
    [API_OP_update] = rest_update,
    [API_OP_get_one] = rest_get_one,
    [API_OP_get] = rest_get,
    [API_OP_delete_one] = rest_delete_one,
    [API_OP_delete] = rest_delete,
    [API_OP_scroll] = rest_scroll,
    [API_OP_count] = rest_count,
    [API_OP_search] = rest_search,
    [API_OP_search_batch] = rest_search_batch,
    [API_OP_recall] = rest_recall,
    [API_OP_snapshot_create] = rest_snapshot_create,
    [API_OP_snapshot_list] = rest_snapshot_list,
    [API_OP_snapshot_get] = rest_snapshot_get,
    [API_OP_snapshot_delete] = rest_snapshot_delete,
    [API_OP_snapshot_restore] = rest_snapshot_restore,
    [API_OP_snapshot_download] = rest_snapshot_download,
    [API_OP_snapshot_upload] = rest_snapshot_upload,
    [API_OP_health] = rest_health,
    [API_OP_livez] = rest_livez,
    [API_OP_readyz] = rest_readyz,
    [API_OP_metrics] = rest_metrics,
    [API_OP_info] = rest_info,
    [API_OP_openapi] = rest_openapi,
};

/* ---- answers ---- */

static bool origin_allowed(const struct exchange *x)
{
    const struct transport_options *options = &x->core->transport->options;
    for (size_t i = 0; x->origin.len != 0 && i < options->cors_origin_count; i++)
        if (strcmp(options->cors_origins[i], "*") == 0 ||
            text_equal(x->origin, text_of(options->cors_origins[i])))
            return true;
    return false;
}

static void add_header(struct exchange_response *response, struct pdb_text name,
                       struct pdb_text value)
{
    if (response->header_count < EXCHANGE_HEADER_MAX)
        response->headers[response->header_count++] = (struct exchange_header){name, value};
}

static void add_cors(struct exchange *x, struct exchange_response *response)
{
    if (!origin_allowed(x))
        return;
    add_header(response, TEXT_LIT("access-control-allow-origin"), x->origin);
    add_header(response, TEXT_LIT("access-control-expose-headers"), TEXT_LIT("x-request-id"));
    add_header(response, TEXT_LIT("vary"), TEXT_LIT("origin"));
}

static void respond(struct exchange *x, struct exchange_response *response)
{
    add_cors(x, response);
    x->ops->respond(x, response);
}

void rest_begin_pieces(struct exchange *x, struct exchange_response *response, uint64_t body_bytes)
{
    add_cors(x, response);
    x->ops->respond_begin(x, response, body_bytes);
}

void rest_respond_error(struct exchange *x, const struct pdb_error *error)
{
    struct buffer out;
    buffer_init_arena(&out, &x->arena, 0);
    json_encode_error(&out, error);
    struct exchange_response response = {
        .status = error->http_status != 0 ? error->http_status : pdb_error_http(error->code),
        .content_type = TEXT_LIT("application/json"),
        .body = {out.ptr, out.len}};
    if (out.failed)
        response.body = TEXT_LIT("{\"error\":{\"code\":\"RESOURCE_EXHAUSTED\",\"message\":\"out of "
                                 "memory\",\"details\":{}}}");
    if (response.status == 429)
        add_header(&response, TEXT_LIT("retry-after"), TEXT_LIT("1"));
    respond(x, &response);
}

void rest_reply(struct rest *r, int status, struct pdb_text content_type, struct pdb_text body)
{
    struct exchange_response response = {
        .status = status, .content_type = content_type, .body = body};
    respond(r->x, &response);
}

void rest_fail(struct rest *r, int code)
{
    struct pdb_error error = {.code = code, .http_status = r->trail.http_status};
    memcpy(error.text, r->trail.text, r->trail.len + 1);
    rest_respond_error(r->x, &error);
}

void rest_open_out(struct rest *r)
{
    buffer_init_arena(&r->out, &r->x->arena, 0);
}

void rest_reply_json(struct rest *r, int status)
{
    if (r->out.failed)
        rest_fail(r, trail_add(&r->trail, PDB_RESOURCE_EXHAUSTED, "no memory for the answer"));
    else
        rest_reply(r, status, TEXT_LIT("application/json"),
                   (struct pdb_text){r->out.ptr, r->out.len});
}

static void encode_rows(struct task *task)
{
    struct rest *r = container_of(task, struct rest, task);
    while (!r->x->gone && !json_encode_rows_step(&r->encoder)) {
        if (reactor_slice_over(r->x->core->reactor)) {
            task_queue(r->x->core->reactor, task);
            return;
        }
    }
    rest_reply_json(r, 200);
}

void rest_reply_rows(struct rest *r)
{
    rest_open_out(r);
    r->encoder.out = &r->out;
    r->task = (struct task){.run = encode_rows, .name = "rest_encode"};
    encode_rows(&r->task);
}

/* ---- calls ---- */

struct rest *rest_of(struct pdb_call *call)
{
    /* Every call structure begins with its call. */
    return (struct rest *)(void *)((char *)call - offsetof(struct rest, write));
}

static void on_gone(struct exchange *x)
{
    struct rest *r = x->handler;
    if (r->call != NULL)
        pdb_call_cancel(r->call);
}

void rest_begin_call(struct rest *r, struct pdb_call *call, void (*done)(struct pdb_call *call))
{
    memset((char *)r + offsetof(struct rest, write), 0, sizeof(*r) - offsetof(struct rest, write));
    pdb_call_init(call, r->x->core->db, &r->x->arena, done);
    call->deadline_ns = r->x->deadline_ns;
    call->batch_name = "vectors";
    r->call = call;
}

bool rest_end_call(struct rest *r)
{
    struct pdb_call *call = r->call;
    r->call = NULL;
    if (call->error.code == 0)
        return false;
    rest_respond_error(r->x, &call->error);
    return true;
}

/* ---- paths ---- */

static int hex_value(char ch)
{
    return ch >= '0' && ch <= '9'   ? ch - '0'
           : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10
           : ch >= 'A' && ch <= 'F' ? ch - 'A' + 10
                                    : -1;
}

/* RFC 3986, section 2.1. `plus`: in a query, + is a space. A malformed escape stays as it is. */
static bool percent_decode(struct arena *arena, struct pdb_text in, bool plus, struct pdb_text *out)
{
    *out = (struct pdb_text){0};
    if (in.len == 0)
        return true;
    char *to = arena_alloc(arena, in.len);
    size_t len = 0;
    if (to == NULL)
        return false;
    for (size_t i = 0; i < in.len; i++) {
        int high = i + 2 < in.len && in.ptr[i] == '%' ? hex_value(in.ptr[i + 1]) : -1;
        int low = high >= 0 ? hex_value(in.ptr[i + 2]) : -1;
        if (low >= 0) {
            to[len++] = (char)(high << 4 | low);
            i += 2;
        } else {
            to[len++] = plus && in.ptr[i] == '+' ? ' ' : in.ptr[i];
        }
    }
    *out = (struct pdb_text){to, len};
    return true;
}

bool rest_query_param(struct rest *r, const char *name, struct pdb_text *value_out)
{
    struct pdb_text rest = r->x->query, wanted = text_of(name);
    while (rest.len != 0) {
        const char *amp = memchr(rest.ptr, '&', rest.len);
        size_t len = amp != NULL ? (size_t)(amp - rest.ptr) : rest.len;
        struct pdb_text pair = {rest.ptr, len};
        size_t skip = len + (amp != NULL);
        rest = (struct pdb_text){rest.ptr + skip, rest.len - skip};
        if (text_starts_with(pair, wanted) && pair.len > wanted.len && pair.ptr[wanted.len] == '=')
            return percent_decode(
                &r->x->arena,
                (struct pdb_text){pair.ptr + wanted.len + 1, pair.len - wanted.len - 1}, true,
                value_out);
    }
    return false;
}

int rest_query_number(struct rest *r, const char *name, uint64_t most, bool *given_out,
                      uint64_t *value_out)
{
    struct pdb_text text = {0};
    uint64_t value = 0;
    *given_out = rest_query_param(r, name, &text);
    if (!*given_out)
        return 0;
    bool number = text.len != 0;
    for (size_t i = 0; number && i < text.len; i++)
        number = text.ptr[i] >= '0' && text.ptr[i] <= '9' &&
                 !__builtin_mul_overflow(value, 10, &value) &&
                 !__builtin_add_overflow(value, (uint64_t)(text.ptr[i] - '0'), &value);
    if (!number || value > most)
        return trail_add(&r->trail, PDB_INVALID_ARGUMENT,
                         "%s: '%.*s' is not a whole number from 0 to %llu", name,
                         text.len < 64 ? (int)text.len : 64, text.ptr, (unsigned long long)most);
    *value_out = value;
    return 0;
}

/* Cuts off the next segment of a path that begins with '/'. */
static bool next_segment(struct pdb_text *path, struct pdb_text *segment)
{
    if (path->len == 0 || path->ptr[0] != '/')
        return false;
    const char *start = path->ptr + 1;
    const char *slash = memchr(start, '/', path->len - 1);
    size_t len = slash != NULL ? (size_t)(slash - start) : path->len - 1;
    *segment = (struct pdb_text){start, len};
    *path = (struct pdb_text){start + len, path->len - 1 - len};
    return true;
}

struct path_match {
    struct pdb_text collection, id, snapshot; /* still percent-encoded */
};

static bool match_path(const char *pattern, struct pdb_text path, struct path_match *match)
{
    struct pdb_text left = text_of(pattern), want, have;
    while (next_segment(&left, &want)) {
        if (!next_segment(&path, &have))
            return false;
        if (text_equal(want, TEXT_LIT("{c}")))
            match->collection = have;
        else if (text_equal(want, TEXT_LIT("{id}")))
            match->id = have;
        else if (text_equal(want, TEXT_LIT("{s}")))
            match->snapshot = have;
        else if (!text_equal(want, have))
            return false;
        if (have.len == 0)
            return false;
    }
    return path.len == 0;
}

/* ---- dispatch ---- */

static void add_method(struct exchange *x, struct pdb_text *allow, const char *method)
{
    struct pdb_text joined =
        arena_format(&x->arena, "%.*s%s%s", TEXT_ARG(*allow), allow->len != 0 ? ", " : "", method);
    if (joined.ptr != NULL)
        *allow = joined;
}

/* Finds the operation; API_OPERATION_COUNT when there is none, with the methods of the path in
 * *allow. */
static enum api_operation find_operation(struct exchange *x, struct path_match *match,
                                         struct pdb_text *allow)
{
    for (int i = 0; i < API_OPERATION_COUNT; i++) {
        const struct api_operation_row *row = &api_operation_rows[i];
        struct path_match found = {0};
        /* The first letter tells probes from everything under /v1: no segment has to be cut for
         * most rows. */
        if (row->rest_path[0] == '\0' || x->path.len < 2 || row->rest_path[1] != x->path.ptr[1] ||
            !match_path(row->rest_path, x->path, &found))
            continue;
        if (text_equal(x->method, text_of(row->rest_method))) {
            *match = found;
            return (enum api_operation)i;
        }
        /* "vectors/get" is also "vectors/{id}" of another method: a literal path is meant */
        add_method(x, allow, row->rest_method);
    }
    return API_OPERATION_COUNT;
}

static void refuse(struct exchange *x, int code, int http_status, struct pdb_text allow,
                   const char *text)
{
    struct buffer out;
    struct pdb_error error = {.code = code, .http_status = http_status};
    (void)snprintf(error.text, sizeof(error.text), "%s", text);
    if (allow.len == 0) {
        rest_respond_error(x, &error);
        return;
    }
    buffer_init_arena(&out, &x->arena, 0);
    json_encode_error(&out, &error);
    struct exchange_response response = {.status = http_status,
                                         .content_type = TEXT_LIT("application/json"),
                                         .body = {out.ptr, out.len}};
    add_header(&response, TEXT_LIT("allow"), allow);
    respond(x, &response);
}

static void preflight(struct exchange *x, struct pdb_text allow)
{
    struct exchange_response response = {.status = 204};
    if (origin_allowed(x)) {
        add_header(&response, TEXT_LIT("access-control-allow-methods"), allow);
        add_header(&response, TEXT_LIT("access-control-allow-headers"),
                   TEXT_LIT("content-type, x-request-id, x-request-timeout"));
        add_header(&response, TEXT_LIT("access-control-max-age"), TEXT_LIT("600"));
    }
    add_header(&response, TEXT_LIT("allow"), allow);
    respond(x, &response);
}

static bool media_type_is(struct pdb_text content_type, const char *wanted)
{
    struct pdb_text type = text_of(wanted);
    if (content_type.len < type.len || strncasecmp(content_type.ptr, type.ptr, type.len) != 0)
        return false;
    return content_type.len == type.len || content_type.ptr[type.len] == ';' ||
           content_type.ptr[type.len] == ' ';
}

static bool body_acceptable(struct exchange *x, enum api_operation operation)
{
    bool takes_body = x->method.ptr[0] == 'P'; /* POST, PUT, PATCH */
    if (!takes_body)
        return true;
    if (x->content_encoding.len != 0 && !text_equal(x->content_encoding, TEXT_LIT("identity"))) {
        refuse(x, PDB_INVALID_ARGUMENT, 415, (struct pdb_text){0},
               "compressed bodies are not accepted");
        return false;
    }
    bool avro = operation == API_OP_upsert || operation == API_OP_insert;
    if (operation == API_OP_snapshot_upload) {
        if (media_type_is(x->content_type, "application/x-tar"))
            return true;
        refuse(x, PDB_INVALID_ARGUMENT, 415, (struct pdb_text){0},
               "content-type must be application/x-tar");
        return false;
    }
    if (media_type_is(x->content_type, "application/json") ||
        (avro && media_type_is(x->content_type, "application/avro")))
        return true;
    refuse(x, PDB_INVALID_ARGUMENT, 415, (struct pdb_text){0},
           avro ? "content-type must be application/json or application/avro"
                : "content-type must be application/json");
    return false;
}

bool rest_takes_pieces(struct pdb_text method, struct pdb_text path)
{
    const struct api_operation_row *row = &api_operation_rows[API_OP_snapshot_upload];
    struct path_match match = {0};
    return text_equal(method, text_of(row->rest_method)) &&
           match_path(row->rest_path, path, &match);
}

void rest_dispatch(struct exchange *x)
{
    struct path_match match = {0};
    struct pdb_text allow = {0};
    enum api_operation operation = find_operation(x, &match, &allow);
    if (operation == API_OPERATION_COUNT) {
        if (allow.len != 0 && text_equal(x->method, TEXT_LIT("OPTIONS")))
            preflight(x, allow);
        else if (allow.len != 0)
            refuse(x, PDB_UNIMPLEMENTED, 405, allow, "this path has no such method");
        else
            refuse(x, PDB_NOT_FOUND, 404, (struct pdb_text){0}, "no such route; see /openapi.json");
        return;
    }
    x->operation = operation;
    if (!body_acceptable(x, operation))
        return;
    struct rest *r = arena_alloc(&x->arena, sizeof(*r));
    if (r != NULL) {
        trail_reset(&r->trail);
        memset((char *)r + offsetof(struct rest, x), 0,
               offsetof(struct rest, write) - offsetof(struct rest, x));
    }
    if (r == NULL || !percent_decode(&x->arena, match.collection, false, &r->collection) ||
        !percent_decode(&x->arena, match.id, false, &r->id) ||
        !percent_decode(&x->arena, match.snapshot, false, &r->snapshot)) {
        refuse(x, PDB_RESOURCE_EXHAUSTED, 0, (struct pdb_text){0}, "no memory for the request");
        return;
    }
    r->x = x;
    x->handler = r;
    x->on_gone = on_gone;
    handlers[operation](r);
}
