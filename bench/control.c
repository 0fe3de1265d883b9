/* control.c: cold requests, one connection each, over REST in any case: every listener serves all
 * protocols. */
#include "bench/control.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { POLL_MS = 100 };

struct pdb_text control_rest_path(struct arena *arena, const char *collection, const char *suffix)
{
    return arena_format(arena, "/v1/collections%s%s%s", collection[0] != '\0' ? "/" : "",
                        collection, suffix);
}

const char *control_grpc_path(struct arena *arena, const char *method)
{
    return arena_format(arena, "/proximadb.v1.ProximaDB/%s", method).ptr;
}

/* Over the connection's own protocol: the gRPC door is HTTP/2. */
static int call_rest(const struct options *options, const struct endpoint *endpoint,
                     const char *method, struct pdb_text path, struct pdb_text body,
                     struct arena *arena, struct run_reply *reply_out, struct trail *trail)
{
    const struct route route = {method, path.ptr, "application/json"};
    if (path.ptr == NULL || (body.ptr == NULL && body.len != 0))
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for a request");
    enum protocol protocol =
        options->protocol == PROTOCOL_GRPC ? PROTOCOL_REST2 : (enum protocol)options->protocol;
    return run_once(endpoint, protocol, &route, body, arena, reply_out, trail);
}

static int judge(const struct run_reply *reply, int tolerated, const char *what, const char *name,
                 struct trail *trail)
{
    if (reply->code == CODE_OK || reply->code == tolerated)
        return 0;
    return trail_add(trail, -reply->code, "%s '%s': %s: %s", what, name,
                     pdb_error_name(-reply->code), reply->message);
}

int control_drop(const struct options *options, const struct endpoint *endpoint,
                 struct arena *arena, struct trail *trail)
{
    struct run_reply reply;
    int rc =
        call_rest(options, endpoint, "DELETE", control_rest_path(arena, options->collection, ""),
                  (struct pdb_text){0}, arena, &reply, trail);
    return rc < 0 ? rc
                  : judge(&reply, -PDB_NOT_FOUND, "delete collection", options->collection, trail);
}

int control_prepare(const struct options *options, const struct endpoint *endpoint,
                    size_t dimension, struct arena *arena, struct trail *trail)
{
    struct run_reply reply;
    int rc = options->drop ? control_drop(options, endpoint, arena, trail) : 0;
    if (rc < 0)
        return rc;
    struct pdb_text body = arena_format(
        arena,
        "{\"name\":\"%s\",\"dimension\":%zu,\"metric\":\"%s\",\"sync\":\"%s\","
        "\"index\":{\"type\":\"%s\"},\"quantization\":{\"type\":\"%s\"}}",
        options->collection, dimension, options_metric_name((enum pdb_metric)options->metric),
        options->sync, options_index_name(options->index),
        options_quantization_name(options->quantization));
    rc = call_rest(options, endpoint, "POST", control_rest_path(arena, "", ""), body, arena, &reply,
                   trail);
    return rc < 0 ? rc
                  : judge(&reply, -PDB_ALREADY_EXISTS, "create collection", options->collection,
                          trail);
}

static bool is_object(struct pdb_text json)
{
    struct json_reader reader;
    json_open(&reader, json.ptr, json.len, DOC_DEPTH_MAX, NULL);
    return json.len != 0 && json_peek(&reader) == JSON_OBJECT && json_skip(&reader) == 0 &&
           json_finish(&reader) == 0;
}

struct pdb_text control_info(const struct options *options, const struct endpoint *endpoint,
                             struct arena *arena)
{
    struct run_reply reply = {.code = CODE_UNKNOWN};
    int rc = call_rest(options, endpoint, "GET", TEXT_LIT("/v1/info"), (struct pdb_text){0}, arena,
                       &reply, NULL);
    struct pdb_text info = rc == 0 && reply.code == CODE_OK ? reply.body : (struct pdb_text){0};
    return info.ptr != NULL && is_object(info) ? info : TEXT_LIT("{}");
}

/* ---- waiting for indexes ---- */

/* Of the answer to GET /v1/collections/NAME: all that has to be built is built. */
struct settled {
    uint64_t memtable_rows;
    bool memtable_known, ready;
};

static int read_state(struct json_reader *reader, struct arena *arena, struct settled *settled)
{
    struct pdb_text key, state = {0};
    bool first = true;
    int rc = json_enter_object(reader);
    while (rc == 0 && (rc = json_object_next(reader, arena, &first, &key)) > 0) {
        rc = text_equal(key, TEXT_LIT("state")) ? json_read_string(reader, arena, &state)
                                                : json_skip(reader);
        if (rc == 0 && text_equal(key, TEXT_LIT("state")))
            settled->ready = settled->ready && text_equal(state, TEXT_LIT("ready"));
    }
    return rc;
}

static int read_field(struct json_reader *reader, struct arena *arena, struct settled *settled)
{
    struct pdb_text key;
    bool first = true;
    int rc = json_enter_object(reader);
    while (rc == 0 && (rc = json_object_next(reader, arena, &first, &key)) > 0)
        rc = text_equal(key, TEXT_LIT("index_state")) ? read_state(reader, arena, settled)
                                                      : json_skip(reader);
    return rc;
}

static int read_fields(struct json_reader *reader, struct arena *arena, struct settled *settled)
{
    bool first = true;
    int rc = json_enter_array(reader);
    while (rc == 0 && (rc = json_array_next(reader, &first)) > 0)
        rc = read_field(reader, arena, settled);
    return rc;
}

static int read_stats(struct json_reader *reader, struct arena *arena, struct settled *settled)
{
    struct pdb_text key;
    bool first = true;
    int rc = json_enter_object(reader);
    while (rc == 0 && (rc = json_object_next(reader, arena, &first, &key)) > 0) {
        bool wanted = text_equal(key, TEXT_LIT("memtable_rows"));
        rc = wanted ? json_read_u64(reader, &settled->memtable_rows) : json_skip(reader);
        settled->memtable_known = settled->memtable_known || wanted;
    }
    return rc;
}

static int read_collection(struct pdb_text json, struct arena *arena, struct settled *settled,
                           struct trail *trail)
{
    struct json_reader reader;
    struct pdb_text key;
    bool first = true;
    json_open(&reader, json.ptr, json.len, DOC_DEPTH_MAX, trail);
    int rc = json_enter_object(&reader);
    while (rc == 0 && (rc = json_object_next(&reader, arena, &first, &key)) > 0) {
        if (text_equal(key, TEXT_LIT("stats")))
            rc = read_stats(&reader, arena, settled);
        else if (text_equal(key, TEXT_LIT("fields")))
            rc = read_fields(&reader, arena, settled);
        else
            rc = json_skip(&reader);
    }
    return rc;
}

int control_wait_indexed(const struct options *options, const struct endpoint *endpoint,
                         struct arena *arena, double *seconds_out, struct trail *trail)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    const struct pdb_text path = control_rest_path(arena, options->collection, "");
    uint64_t begun_ns = clock_monotonic_ns();
    struct arena scratch = {0};
    struct settled settled;
    int rc;
    for (;;) {
        struct run_reply reply;
        settled = (struct settled){.ready = true};
        rc = call_rest(options, endpoint, "GET", path, (struct pdb_text){0}, &scratch, &reply,
                       trail);
        if (rc == 0)
            rc = judge(&reply, CODE_OK, "collection", options->collection, trail);
        if (rc == 0)
            rc = read_collection(reply.body, &scratch, &settled, trail);
        if (rc < 0 || (settled.ready && settled.memtable_known && settled.memtable_rows == 0))
            break;
        arena_reset(&scratch);
        (void)nanosleep(&pause, NULL);
    }
    arena_dispose(&scratch);
    if (seconds_out != NULL)
        *seconds_out = (double)(clock_monotonic_ns() - begun_ns) / 1e9;
    return rc < 0 ? rc : 0;
}
