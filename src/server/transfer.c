/* transfer.c: command lines, signals, the server's description of a collection, progress. */
#include "server/transfer.h"

#include "base/clock.h"
#include "base/json.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

/* ---- command line ---- */

static int set_number(const struct transfer_option *option, const char *text, struct trail *trail)
{
    char *end = NULL;
    uint64_t value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value < option->min ||
        value > option->max)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "--%s: '%s' is not a number from %llu to %llu", option->name, text,
                         (unsigned long long)option->min, (unsigned long long)option->max);
    *(uint64_t *)option->into = value;
    return 0;
}

static int set_option(const struct transfer_option *option, const char *value, struct trail *trail)
{
    if (option->kind == TRANSFER_FLAG)
        *(bool *)option->into = true;
    else if (value == NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "--%s: its value is missing", option->name);
    else if (option->kind == TRANSFER_NUMBER)
        return set_number(option, value, trail);
    else
        *(const char **)option->into = value;
    return 0;
}

int transfer_parse(const struct transfer_option *options, size_t option_count, int argc,
                   const char *const *argv, const char **files_out, size_t *file_count_out,
                   struct trail *trail)
{
    size_t file_count = 0;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "-o") != 0 && strncmp(argv[i], "--", 2) != 0) {
            if (files_out == NULL)
                return trail_add(trail, PDB_INVALID_ARGUMENT, "'%s': unknown argument", argv[i]);
            files_out[file_count++] = argv[i];
            continue;
        }
        const char *name = strcmp(argv[i], "-o") == 0 ? "output" : argv[i] + 2;
        const struct transfer_option *option = NULL;
        for (size_t j = 0; j < option_count && option == NULL; j++)
            option = strcmp(options[j].name, name) == 0 ? &options[j] : NULL;
        if (option == NULL)
            return trail_add(trail, PDB_INVALID_ARGUMENT, "unknown option '%s'", argv[i]);
        bool takes = option->kind != TRANSFER_FLAG;
        int rc = set_option(option, takes && i + 1 < argc ? argv[i + 1] : NULL, trail);
        if (rc < 0)
            return rc;
        i += takes ? 1 : 0;
    }
    if (files_out != NULL)
        *file_count_out = file_count;
    return 0;
}

int transfer_connect(const struct transfer_server *server, struct endpoint *endpoint_out,
                     struct trail *trail)
{
    const struct endpoint_options options = {
        .url = server->url != NULL ? server->url : "127.0.0.1:5678",
        .ca_path = server->ca_path,
        .tls = server->tls,
        .insecure = server->insecure,
    };
    return endpoint_open(endpoint_out, &options, trail);
}

/* ---- signals ---- */

static void choose_signals(sigset_t *signals_out)
{
    (void)sigemptyset(signals_out);
    (void)sigaddset(signals_out, SIGINT);
    (void)sigaddset(signals_out, SIGTERM);
}

void transfer_block_signals(void)
{
    sigset_t signals;
    choose_signals(&signals);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

bool transfer_is_interrupted(bool *interrupted)
{
    const struct timespec now = {0};
    sigset_t signals;
    choose_signals(&signals);
    if (!*interrupted && sigtimedwait(&signals, NULL, &now) > 0)
        *interrupted = true;
    return *interrupted;
}

/* ---- the collection ---- */

struct pdb_text transfer_path(struct arena *arena, const char *name, const char *suffix)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789_.-";
    size_t len = strlen(name);
    if (len == 0 || len > PDB_NAME_BYTES_MAX || strspn(name, allowed) != len)
        return (struct pdb_text){NULL, 0};
    return arena_format(arena, "/v1/collections/%s%s", name, suffix);
}

bool transfer_read_doc(struct arena *arena, struct pdb_text json, struct pdb_text *doc_out)
{
    struct json_reader reader;
    struct doc_builder *builder = doc_builder_new(arena, 0);
    json_open(&reader, json.ptr, json.len, DOC_DEPTH_MAX, NULL);
    return builder != NULL && json_read_doc(&reader, builder) == 0 && json_finish(&reader) == 0 &&
           doc_builder_finish(builder, doc_out, NULL) == 0;
}

static struct pdb_text text_member(const struct doc_value *object, const char *key)
{
    struct doc_value value;
    if (!doc_get(object, text_of(key), &value) || value.type != DOC_STRING)
        return (struct pdb_text){"", 0};
    return value.string;
}

static uint64_t number_member(const struct doc_value *object, const char *key)
{
    struct doc_value value;
    if (!doc_get(object, text_of(key), &value) || value.type != DOC_INT || value.integer < 0)
        return 0;
    return (uint64_t)value.integer;
}

static void take_fields(struct transfer_collection *c, const struct doc_value *fields)
{
    struct doc_iter iter = doc_iterate(fields);
    struct pdb_text key;
    struct doc_value value;
    while (c->field_count < PDB_FIELD_MAX && doc_next(&iter, &key, &value)) {
        struct transfer_field *field = &c->fields[c->field_count++];
        *field = (struct transfer_field){.name = text_member(&value, "name"),
                                         .metric = text_member(&value, "metric"),
                                         .type = text_member(&value, "type"),
                                         .dimension = (uint32_t)number_member(&value, "dimension")};
        field->bits = text_equal(field->metric, TEXT_LIT("hamming"));
    }
}

static void take_columns(struct transfer_collection *c, const struct doc_value *columns)
{
    struct doc_iter iter = doc_iterate(columns);
    struct pdb_text key;
    struct doc_value value;
    while (c->column_count < PDB_COLUMN_MAX && doc_next(&iter, &key, &value))
        c->columns[c->column_count++] =
            (struct transfer_column){text_member(&value, "name"), text_member(&value, "type")};
}

bool transfer_read_collection(struct arena *arena, struct pdb_text json,
                              struct transfer_collection *collection_out)
{
    struct pdb_text doc;
    if (!transfer_read_doc(arena, json, &doc))
        return false;
    struct doc_value root = doc_root(doc.ptr, doc.len);
    struct doc_value list;
    *collection_out = (struct transfer_collection){.json = json};
    collection_out->record_count = number_member(&root, "record_count");
    if (doc_get(&root, TEXT_LIT("fields"), &list) && list.type == DOC_ARRAY)
        take_fields(collection_out, &list);
    if (doc_get(&root, TEXT_LIT("columns"), &list) && list.type == DOC_ARRAY)
        take_columns(collection_out, &list);
    return true;
}

int transfer_describe(struct wire *wire, const char *name, struct arena *arena,
                      struct transfer_collection *collection_out, struct trail *trail)
{
    struct pdb_text path = transfer_path(arena, name, "");
    struct route route = {"GET", path.ptr, "application/json"};
    struct wire_reply reply;
    if (path.ptr == NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "'%s' is no name of a collection", name);
    wire_call_patiently(wire, &route, NULL, 0, TRANSFER_TRIES, &reply);
    if (reply.code != CODE_OK)
        return trail_add(trail, -reply.code, "collection '%s': %s", name, reply.message);
    struct pdb_text json = arena_copy_text(arena, reply.body.ptr, reply.body.len);
    if (json.ptr == NULL || !transfer_read_collection(arena, json, collection_out))
        return trail_add(trail, PDB_INTERNAL, "collection '%s': the answer cannot be read", name);
    return 0;
}

const struct transfer_field *transfer_find_field(const struct transfer_collection *collection,
                                                 struct pdb_text name)
{
    for (uint32_t i = 0; i < collection->field_count; i++)
        if (text_equal(collection->fields[i].name, name))
            return &collection->fields[i];
    return NULL;
}

/* ---- progress ---- */

enum { BAR_WIDTH = 24 };
static const uint64_t bar_ns = 200000000, line_ns = 2000000000;

void transfer_progress_begin(struct transfer_progress *p, bool quiet)
{
    *p = (struct transfer_progress){.to = stderr, .terminal = isatty(STDERR_FILENO) == 1};
    p->quiet = quiet;
    p->start_ns = p->told_ns = clock_monotonic_ns();
}

static void write_bar(FILE *to, double part)
{
    char bar[BAR_WIDTH + 1];
    int full = (int)(part * BAR_WIDTH);
    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    (void)fprintf(to, "\r[%s] ", bar);
}

void transfer_progress_tell(struct transfer_progress *p, uint64_t rows, uint64_t bytes,
                            uint64_t done, uint64_t total)
{
    uint64_t now = clock_monotonic_ns();
    if (p->quiet || now - p->told_ns < (p->terminal ? bar_ns : line_ns))
        return;
    p->told_ns = now;
    double seconds = (double)(now - p->start_ns) / 1e9;
    double part = total > 0 && done <= total ? (double)done / (double)total : 0;
    if (p->terminal)
        write_bar(p->to, part);
    if (total > 0)
        (void)fprintf(p->to, "%3.0f%%  ", part * 100);
    (void)fprintf(p->to, "%llu rows  %.0f rows/s  %.1f MB", (unsigned long long)rows,
                  (double)rows / seconds, (double)bytes / 1e6);
    if (part > 0)
        (void)fprintf(p->to, "  %.0f s left", seconds / part - seconds);
    (void)fputs(p->terminal ? "\x1b[K" : "\n", p->to);
    (void)fflush(p->to);
}

void transfer_progress_phase(struct transfer_progress *p, const char *phase, uint64_t done,
                             uint64_t total)
{
    uint64_t now = clock_monotonic_ns();
    if (p->quiet || now - p->told_ns < (p->terminal ? bar_ns : line_ns))
        return;
    p->told_ns = now;
    double part = total > 0 && done <= total ? (double)done / (double)total : 0;
    if (p->terminal)
        write_bar(p->to, part);
    if (total > 0)
        (void)fprintf(p->to, "%s %3.0f%%", phase, part * 100);
    else
        (void)fprintf(p->to, "%s %.1f MB", phase, (double)done / 1e6);
    (void)fputs(p->terminal ? "\x1b[K" : "\n", p->to);
    (void)fflush(p->to);
}

void transfer_progress_clear(const struct transfer_progress *p)
{
    if (p->terminal && !p->quiet)
        (void)fputs("\r\x1b[K", p->to);
}

void transfer_progress_end(struct transfer_progress *p, const char *verb, uint64_t rows,
                           uint64_t bytes, const char *more)
{
    double seconds = (double)(clock_monotonic_ns() - p->start_ns) / 1e9;
    transfer_progress_clear(p);
    (void)fprintf(p->to, "%s %llu rows, %.1f MB in %.1f s (%.0f rows/s)%s\n", verb,
                  (unsigned long long)rows, (double)bytes / 1e6, seconds,
                  seconds > 0 ? (double)rows / seconds : 0, more);
}
