/* control.c: cold requests, so gRPC messages are made by the generated code, one connection
 * each. */
#include "bench/control.h"

#include "base/json.h"

#include "proximadb_v1_proximadb.pb-c.h"
#include <stdio.h>
#include <string.h>

enum { NAME_COPY = PDB_NAME_BYTES_MAX + 1, GRPC_NOT_FOUND = 5, GRPC_ALREADY_EXISTS = 6 };

struct pdb_text control_rest_path(struct arena *arena, const char *collection, const char *suffix)
{
    return arena_format(arena, "/v1/collections%s%s%s", collection[0] != '\0' ? "/" : "",
                        collection, suffix);
}

const char *control_grpc_path(struct arena *arena, const char *method)
{
    return arena_format(arena, "/proximadb.v1.ProximaDB/%s", method).ptr;
}

/* One call of the gRPC door with a packed message. */
static int call_grpc(const struct endpoint *endpoint, const char *method,
                     const ProtobufCMessage *message, struct arena *arena,
                     struct run_reply *reply_out, struct trail *trail)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = arena_alloc(arena, size + 1);
    const struct route route = {"POST", control_grpc_path(arena, method), "application/grpc+proto"};
    if (bytes == NULL || route.path == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for a request");
    (void)protobuf_c_message_pack(message, bytes);
    return run_once(endpoint, PROTOCOL_GRPC, &route, (struct pdb_text){(const char *)bytes, size},
                    arena, reply_out, trail);
}

static int call_rest(const struct options *options, const struct endpoint *endpoint,
                     const char *method, struct pdb_text path, struct pdb_text body,
                     struct arena *arena, struct run_reply *reply_out, struct trail *trail)
{
    const struct route route = {method, path.ptr, "application/json"};
    if (path.ptr == NULL || (body.ptr == NULL && body.len != 0))
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for a request");
    return run_once(endpoint, (enum protocol)options->protocol, &route, body, arena, reply_out,
                    trail);
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
    int rc = 0;
    if (options->protocol == PROTOCOL_GRPC) {
        char name[NAME_COPY];
        (void)snprintf(name, sizeof(name), "%s", options->collection);
        Proximadb__V1__DeleteCollectionRequest request;
        proximadb__v1__delete_collection_request__init(&request);
        request.collection = name;
        rc = call_grpc(endpoint, "DeleteCollection", &request.base, arena, &reply, trail);
    } else {
        rc = call_rest(options, endpoint, "DELETE",
                       control_rest_path(arena, options->collection, ""), (struct pdb_text){0},
                       arena, &reply, trail);
    }
    return rc < 0 ? rc
                  : judge(&reply, GRPC_NOT_FOUND, "delete collection", options->collection, trail);
}

static Proximadb__V1__SyncMode sync_of(const char *name)
{
    if (strcmp(name, "batch") == 0)
        return PROXIMADB__V1__SYNC_MODE__SYNC_MODE_BATCH;
    if (strcmp(name, "periodic") == 0)
        return PROXIMADB__V1__SYNC_MODE__SYNC_MODE_PERIODIC;
    return strcmp(name, "never") == 0 ? PROXIMADB__V1__SYNC_MODE__SYNC_MODE_NEVER
                                      : PROXIMADB__V1__SYNC_MODE__SYNC_MODE_ALWAYS;
}

static int create_grpc(const struct options *options, const struct endpoint *endpoint,
                       size_t dimension, struct arena *arena, struct run_reply *reply_out,
                       struct trail *trail)
{
    char name[NAME_COPY];
    (void)snprintf(name, sizeof(name), "%s", options->collection);
    Proximadb__V1__CreateCollectionRequest request;
    proximadb__v1__create_collection_request__init(&request);
    request.name = name;
    request.dimension = (uint32_t)dimension;
    request.metric = (Proximadb__V1__Metric)options->metric; /* the same numbers */
    request.sync = sync_of(options->sync);
    return call_grpc(endpoint, "CreateCollection", &request.base, arena, reply_out, trail);
}

int control_prepare(const struct options *options, const struct endpoint *endpoint,
                    size_t dimension, struct arena *arena, struct trail *trail)
{
    struct run_reply reply;
    int rc = options->drop ? control_drop(options, endpoint, arena, trail) : 0;
    if (rc < 0)
        return rc;
    if (options->protocol == PROTOCOL_GRPC) {
        rc = create_grpc(options, endpoint, dimension, arena, &reply, trail);
    } else {
        struct pdb_text body = arena_format(
            arena, "{\"name\":\"%s\",\"dimension\":%zu,\"metric\":\"%s\",\"sync\":\"%s\"}",
            options->collection, dimension, options_metric_name((enum pdb_metric)options->metric),
            options->sync);
        rc = call_rest(options, endpoint, "POST", control_rest_path(arena, "", ""), body, arena,
                       &reply, trail);
    }
    return rc < 0 ? rc
                  : judge(&reply, GRPC_ALREADY_EXISTS, "create collection", options->collection,
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
    struct pdb_text info = {0};
    int rc = 0;
    if (options->protocol == PROTOCOL_GRPC) {
        Proximadb__V1__GetInfoRequest request;
        proximadb__v1__get_info_request__init(&request);
        rc = call_grpc(endpoint, "GetInfo", &request.base, arena, &reply, NULL);
        if (rc == 0 && reply.code == CODE_OK) {
            Proximadb__V1__GetInfoResponse *response = proximadb__v1__get_info_response__unpack(
                NULL, reply.body.len, (const uint8_t *)reply.body.ptr);
            if (response != NULL)
                info = arena_copy_text(arena, response->json, strlen(response->json));
            proximadb__v1__get_info_response__free_unpacked(response, NULL);
        }
    } else {
        rc = call_rest(options, endpoint, "GET", TEXT_LIT("/v1/info"), (struct pdb_text){0}, arena,
                       &reply, NULL);
        if (rc == 0 && reply.code == CODE_OK)
            info = reply.body;
    }
    return info.ptr != NULL && is_object(info) ? info : TEXT_LIT("{}");
}
