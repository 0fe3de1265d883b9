/* reflection.c: grpc.reflection.v1 and v1alpha over the descriptors that the build embeds.
 *
 * The set is some 14 KB and is walked anew for each request: no index, no state. Numbers of fields
 * are those of google/protobuf/descriptor.proto. An answer to a question about a file has the file
 * and all that it imports, each once, the file first. */
#include "transport/grpc/reflection.h"

#include "base/container_of.h"
#include "transport/grpc/grpc_call.h"

#include <stdio.h>

#include "base/no_libc_heap.h"

#include "grpc_reflection_v1_reflection.pb-c.h"

extern const unsigned char proto_descriptor_set[];
extern const size_t proto_descriptor_set_len;

enum { SET_FILE = 1 };
enum { FILE_NAME = 1, FILE_PACKAGE, FILE_DEPENDENCY, FILE_MESSAGE, FILE_ENUM, FILE_SERVICE };
enum { ANY_NAME = 1 }; /* of a message, field, oneof, enum, value, service and method */
enum { MESSAGE_FIELD = 2, MESSAGE_NESTED = 3, MESSAGE_ENUM = 4, MESSAGE_ONEOF = 8 };
enum { ENUM_VALUE = 2, SERVICE_METHOD = 2 };

/* A stream may ask so often: each answer stays in memory until the stream ends. */
enum { REQUESTS_MAX = 256, REQUEST_BYTES_MAX = 4096 };

/* ---- finding ---- */

static struct pdb_text field_text(struct pdb_text message, uint32_t number)
{
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f;
    struct pdb_text found = {"", 0};
    while (protobuf_next(&r, &f) > 0)
        if (f.number == number && f.type == PROTOBUF_BYTES)
            found = f.bytes;
    return found;
}

/* The first child under `number` whose name it is. */
static bool find_child(struct pdb_text message, uint32_t number, struct pdb_text name,
                       struct pdb_text *child_out)
{
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f;
    while (protobuf_next(&r, &f) > 0) {
        if (f.number == number && f.type == PROTOBUF_BYTES &&
            text_equal(field_text(f.bytes, ANY_NAME), name)) {
            *child_out = f.bytes;
            return true;
        }
    }
    return false;
}

/* A value belongs to the scope around its enum. */
static bool has_enum_value(struct pdb_text scope, uint32_t enums, struct pdb_text name)
{
    struct protobuf_reader r = protobuf_reader_of(scope);
    struct protobuf_field f;
    struct pdb_text value;
    while (protobuf_next(&r, &f) > 0)
        if (f.number == enums && f.type == PROTOBUF_BYTES &&
            find_child(f.bytes, ENUM_VALUE, name, &value))
            return true;
    return false;
}

void reflection_open(struct reflection_set *set, struct pdb_text descriptor_set)
{
    struct protobuf_reader r = protobuf_reader_of(descriptor_set);
    struct protobuf_field f;
    set->count = 0;
    while (set->count < REFLECTION_FILES_MAX && protobuf_next(&r, &f) > 0)
        if (f.number == SET_FILE && f.type == PROTOBUF_BYTES)
            set->files[set->count++] = f.bytes;
}

int reflection_find_file(const struct reflection_set *set, struct pdb_text name)
{
    for (size_t i = 0; i < set->count; i++)
        if (text_equal(field_text(set->files[i], FILE_NAME), name))
            return (int)i;
    return -1;
}

/* The part of a dotted name up to the first dot; the rest stays. */
static struct pdb_text cut_first(struct pdb_text *rest)
{
    const char *dot = memchr(rest->ptr, '.', rest->len);
    struct pdb_text first = {rest->ptr, dot != NULL ? (size_t)(dot - rest->ptr) : rest->len};
    size_t used = first.len + (dot != NULL);
    *rest = (struct pdb_text){rest->ptr + used, rest->len - used};
    return first;
}

/* A name within a message: what it may be when it is the last part of the symbol. */
static bool is_member(struct pdb_text message, struct pdb_text name)
{
    struct pdb_text child;
    return find_child(message, MESSAGE_FIELD, name, &child) ||
           find_child(message, MESSAGE_NESTED, name, &child) ||
           find_child(message, MESSAGE_ENUM, name, &child) ||
           find_child(message, MESSAGE_ONEOF, name, &child) ||
           has_enum_value(message, MESSAGE_ENUM, name);
}

/* `rest`: the symbol without the file's package. */
static bool file_defines(struct pdb_text file, struct pdb_text rest)
{
    struct pdb_text name = cut_first(&rest), scope, child;
    if (find_child(file, FILE_SERVICE, name, &scope))
        return rest.len == 0 || find_child(scope, SERVICE_METHOD, rest, &child);
    if (rest.len == 0 &&
        (find_child(file, FILE_ENUM, name, &child) || has_enum_value(file, FILE_ENUM, name)))
        return true;
    if (!find_child(file, FILE_MESSAGE, name, &scope))
        return false;
    while (rest.len != 0) {
        name = cut_first(&rest);
        if (rest.len == 0)
            return is_member(scope, name);
        if (!find_child(scope, MESSAGE_NESTED, name, &child))
            return false;
        scope = child;
    }
    return true;
}

int reflection_find_symbol(const struct reflection_set *set, struct pdb_text symbol)
{
    if (symbol.len != 0 && symbol.ptr[0] == '.')
        symbol = (struct pdb_text){symbol.ptr + 1, symbol.len - 1};
    if (symbol.len == 0 || symbol.ptr[symbol.len - 1] == '.')
        return -1;
    for (size_t i = 0; i < set->count; i++) {
        struct pdb_text package = field_text(set->files[i], FILE_PACKAGE), rest = symbol;
        if (package.len != 0) {
            if (!text_starts_with(symbol, package) || symbol.len < package.len + 2 ||
                symbol.ptr[package.len] != '.')
                continue;
            rest = (struct pdb_text){symbol.ptr + package.len + 1, symbol.len - package.len - 1};
        }
        if (rest.len != 0 && file_defines(set->files[i], rest))
            return (int)i;
    }
    return -1;
}

/* ---- answers ---- */

enum { RESPONSE_HOST = 1, RESPONSE_REQUEST, RESPONSE_FILES = 4, RESPONSE_EXTENSIONS };
enum { RESPONSE_SERVICES = 6, RESPONSE_ERROR = 7 };

static void put_error(struct protobuf_writer *w, int code, const char *what, struct pdb_text name)
{
    enum { ERROR_CODE = 1, ERROR_MESSAGE = 2 };
    char text[160];
    int n = snprintf(text, sizeof(text), "%s '%.*s'", what, name.len < 100 ? (int)name.len : 100,
                     name.len != 0 ? name.ptr : "");
    protobuf_begin(w, RESPONSE_ERROR, (size_t)n);
    protobuf_put_u64(w, ERROR_CODE, (uint64_t)pdb_error_grpc(code));
    protobuf_put_text(w, ERROR_MESSAGE, (struct pdb_text){text, (size_t)n});
    protobuf_end(w);
}

/* The file and what it imports, directly or not: a work list in place of recursion. */
static void put_files(struct protobuf_writer *w, const struct reflection_set *set, int first)
{
    size_t list[REFLECTION_FILES_MAX] = {(size_t)first}, count = 1;
    uint64_t listed = UINT64_C(1) << first;
    protobuf_begin(w, RESPONSE_FILES, set->files[first].len);
    for (size_t at = 0; at < count; at++) {
        struct pdb_text file = set->files[list[at]];
        protobuf_put_bytes(w, 1, file.ptr, file.len);
        struct protobuf_reader r = protobuf_reader_of(file);
        struct protobuf_field f;
        while (protobuf_next(&r, &f) > 0) {
            int import = f.number == FILE_DEPENDENCY && f.type == PROTOBUF_BYTES
                             ? reflection_find_file(set, f.bytes)
                             : -1;
            if (import < 0 || (listed >> import & 1) != 0)
                continue;
            listed |= UINT64_C(1) << import;
            list[count++] = (size_t)import;
        }
    }
    protobuf_end(w);
}

static void put_services(struct protobuf_writer *w, const struct reflection_set *set)
{
    protobuf_begin(w, RESPONSE_SERVICES, 128);
    for (size_t i = 0; i < set->count; i++) {
        struct pdb_text package = field_text(set->files[i], FILE_PACKAGE);
        struct protobuf_reader r = protobuf_reader_of(set->files[i]);
        struct protobuf_field f;
        while (protobuf_next(&r, &f) > 0) {
            if (f.number != FILE_SERVICE || f.type != PROTOBUF_BYTES)
                continue;
            struct pdb_text name = field_text(f.bytes, ANY_NAME);
            char full[256];
            int n = snprintf(full, sizeof(full), "%.*s%s%.*s", TEXT_ARG(package),
                             package.len != 0 ? "." : "", TEXT_ARG(name));
            protobuf_begin(w, 1, (size_t)n + 2);
            protobuf_put_text(w, 1, (struct pdb_text){full, (size_t)n});
            protobuf_end(w);
        }
    }
    protobuf_end(w);
}

/* Nothing here has extensions: none is found, and each message's list of them is empty. */
static void put_extension_numbers(struct protobuf_writer *w, const struct reflection_set *set,
                                  struct pdb_text type)
{
    if (reflection_find_symbol(set, type) < 0) {
        put_error(w, PDB_NOT_FOUND, "unknown type", type);
        return;
    }
    protobuf_begin(w, RESPONSE_EXTENSIONS, type.len + 2);
    protobuf_put_text(w, 1, type);
    protobuf_end(w);
}

int reflection_answer(const struct reflection_set *set, struct pdb_text request,
                      struct arena *arena, struct trail *trail, struct pdb_text *response_out)
{
    enum { HOST = 1, BY_FILENAME = 3, BY_SYMBOL, BY_EXTENSION, EXTENSION_NUMBERS, LIST_SERVICES };
    int rc = protobuf_check(&grpc__reflection__v1__server_reflection_request__descriptor, request,
                            (struct protobuf_place){0}, trail);
    if (rc < 0)
        return rc;
    struct protobuf_reader r = protobuf_reader_of(request);
    struct protobuf_field f, question = {0};
    while (protobuf_next(&r, &f) > 0)
        if (f.number >= BY_FILENAME && f.number <= LIST_SERVICES)
            question = f;
    struct protobuf_writer w;
    protobuf_writer_open(&w, arena);
    protobuf_put_text(&w, RESPONSE_HOST, field_text(request, HOST));
    protobuf_put_bytes(&w, RESPONSE_REQUEST, request.ptr, request.len);
    int file = question.number == BY_FILENAME ? reflection_find_file(set, question.bytes)
               : question.number == BY_SYMBOL ? reflection_find_symbol(set, question.bytes)
                                              : -1;
    if (question.number == 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "message_request: not set");
    if (question.number == LIST_SERVICES)
        put_services(&w, set);
    else if (question.number == EXTENSION_NUMBERS)
        put_extension_numbers(&w, set, question.bytes);
    else if (question.number == BY_EXTENSION)
        put_error(&w, PDB_NOT_FOUND, "no extension of", field_text(question.bytes, 1));
    else if (file >= 0)
        put_files(&w, set, file);
    else
        put_error(&w, PDB_NOT_FOUND,
                  question.number == BY_FILENAME ? "unknown file" : "unknown symbol",
                  question.bytes);
    rc = protobuf_writer_finish(&w, response_out);
    return rc == 0 ? 0 : trail_add(trail, rc, "no memory for the answer");
}

/* ---- the stream ---- */

struct reflection_stream {
    struct grpc_watcher watcher;
    unsigned requests;
};

/* Between two messages nothing is under way. */
static void finish_stream(struct exchange *x, int code, const char *text)
{
    struct reflection_stream *stream = x->handler;
    if (stream != NULL)
        list_remove(&stream->watcher.link);
    x->on_gone = NULL;
    if (code != 0)
        grpc_finish_code(x, code, text);
    else
        x->ops->grpc_finish(x, 0, (struct pdb_text){"", 0});
}

static void reflection_gone(struct exchange *x)
{
    finish_stream(x, PDB_CANCELLED, "the client left");
}

static void reflection_news(struct grpc_watcher *watcher)
{
    if (watcher->x->core->draining)
        finish_stream(watcher->x, PDB_UNAVAILABLE, "the server is stopping");
}

static struct reflection_stream *stream_of(struct exchange *x)
{
    if (x->handler != NULL)
        return x->handler;
    struct reflection_stream *stream = arena_new(&x->arena, struct reflection_stream);
    if (stream == NULL)
        return NULL;
    stream->watcher.x = x;
    stream->watcher.news = reflection_news;
    list_push_back(&x->core->watchers, &stream->watcher.link);
    x->handler = stream;
    x->on_gone = reflection_gone;
    return stream;
}

void reflection_message(struct exchange *x, struct pdb_text message)
{
    struct reflection_stream *stream = stream_of(x);
    if (stream == NULL || ++stream->requests > REQUESTS_MAX) {
        finish_stream(x, PDB_RESOURCE_EXHAUSTED,
                      stream == NULL ? "no memory for the stream"
                                     : "more than 256 requests in one stream: open another");
        return;
    }
    struct reflection_set set;
    struct trail trail = {0};
    struct pdb_text response = {0};
    reflection_open(
        &set, (struct pdb_text){(const char *)proto_descriptor_set, proto_descriptor_set_len});
    int rc = message.len > REQUEST_BYTES_MAX
                 ? trail_add(&trail, PDB_RESOURCE_EXHAUSTED, "a request of more than 4 KiB")
                 : reflection_answer(&set, message, &x->arena, &trail, &response);
    if (rc < 0) {
        finish_stream(x, rc, trail.text);
        return;
    }
    x->ops->grpc_send(x, response);
    x->ops->grpc_consumed(x);
}

void reflection_half_close(struct exchange *x)
{
    finish_stream(x, 0, "");
}

void reflection_broken(struct exchange *x, const struct pdb_error *error)
{
    finish_stream(x, error->code, error->text);
}
