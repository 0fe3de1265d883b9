/* import.c: `proximadb import`: files in, batches out.
 *
 * One thread reads and encodes, others send (import_send.c). The collection is described by the
 * server first, so that wrong dimensions are told with file, row and column before anything is
 * sent. Rows are counted over all files in their order; after an error or an interruption the
 * number is told from which --skip goes on: all rows before it are stored. */
#include "server/import.h"

#include "base/heap.h"
#include "base/json.h"
#include "server/import_encode.h"
#include "server/import_manifest.h"
#include "server/import_reader.h"
#include "server/import_send.h"
#include "server/serve.h"

#include <string.h>
#include <sys/stat.h>

#include "base/no_libc_heap.h"

const char import_usage[] =
    "proximadb import --collection NAME [--url HOST:PORT] [--create] [--metric M] [--sync MODE]\n"
    "                 [--field F] [--format parquet|jsonl|npy|fvecs] [--id-column C]\n"
    "                 [--vector-column C] [--ids row] [--batch N] [--connections N] [--skip N]\n"
    "                 [--continue] [--quiet] [--tls] [--ca FILE] [--insecure] FILE...\n";

struct import {
    struct transfer_server server;
    const char *collection, *metric, *sync, *format, *ids;
    uint64_t batch, connections, skip;
    bool create, go_on, quiet;

    struct endpoint endpoint;
    struct wire wire;
    struct arena arena;
    struct transfer_collection described;
    struct import_target target;
    struct import_file *files;
    size_t file_count;
    const struct import_folder *folder; /* of all files; NULL: none */
    struct import_send *send;
    struct import_record record;
    struct transfer_progress progress;
    uint64_t row;          /* over all files */
    uint64_t bytes, total; /* of files: those done, and all */
    bool interrupted;
    struct import_batch *batch_open; /* taken, not yet put */
};

/* ---- command line ---- */

static int parse(struct import *im, int argc, const char *const *argv, const char **names,
                 size_t *name_count, struct trail *trail)
{
    const struct transfer_option options[] = {
        TRANSFER_SERVER_OPTIONS(&im->server),
        {"collection", TRANSFER_TEXT, &im->collection, 0, 0},
        {"create", TRANSFER_FLAG, &im->create, 0, 0},
        {"metric", TRANSFER_TEXT, &im->metric, 0, 0},
        {"sync", TRANSFER_TEXT, &im->sync, 0, 0},
        {"field", TRANSFER_TEXT, &im->target.field, 0, 0},
        {"format", TRANSFER_TEXT, &im->format, 0, 0},
        {"id-column", TRANSFER_TEXT, &im->target.id_column, 0, 0},
        {"vector-column", TRANSFER_TEXT, &im->target.vector_column, 0, 0},
        {"ids", TRANSFER_TEXT, &im->ids, 0, 0},
        {"batch", TRANSFER_NUMBER, &im->batch, 1, PDB_BATCH_RECORDS_MAX},
        {"connections", TRANSFER_NUMBER, &im->connections, 1, IMPORT_CONNECTIONS_MAX},
        {"skip", TRANSFER_NUMBER, &im->skip, 0, UINT64_MAX / 2},
        {"continue", TRANSFER_FLAG, &im->go_on, 0, 0},
        {"quiet", TRANSFER_FLAG, &im->quiet, 0, 0},
    };
    int rc = transfer_parse(options, sizeof(options) / sizeof(options[0]), argc, argv, names,
                            name_count, trail);
    if (rc < 0)
        return rc;
    if (im->collection == NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "--collection is missing");
    if (*name_count == 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "no files");
    if (im->ids != NULL && strcmp(im->ids, "row") != 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "--ids: 'row', or leave it out");
    if (!im->create && (im->metric != NULL || im->sync != NULL))
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "--metric and --sync are for a collection made by --create");
    im->target.ids_by_row = im->ids != NULL;
    return 0;
}

static int list_files(struct import *im, const char *const *names, size_t name_count,
                      struct trail *trail)
{
    struct import_file_list list = {.arena = &im->arena};
    int rc = 0;
    for (size_t i = 0; i < name_count && rc == 0; i++)
        rc = import_files_add(&list, names[i], trail);
    im->files = list.files;
    im->file_count = list.count;
    im->folder = list.last_folder;
    if (rc == 0 && im->folder != NULL && name_count != 1)
        rc = trail_add(trail, PDB_INVALID_ARGUMENT, "%s: an exported folder is imported by itself",
                       im->folder->path);
    if (rc == 0 && im->folder != NULL &&
        (im->metric != NULL || im->format != NULL || im->target.field != NULL))
        rc = trail_add(trail, PDB_INVALID_ARGUMENT,
                       "%s: an exported folder tells its metrics, fields and format itself",
                       im->folder->path);
    for (size_t i = 0; i < im->file_count && rc == 0; i++) {
        struct import_file *f = &im->files[i];
        f->format = import_format_of(f->path, im->format);
        if (f->format == IMPORT_FORMAT_UNKNOWN)
            rc = trail_add(trail, PDB_INVALID_ARGUMENT,
                           "%s: the name does not tell the format: say --format parquet, jsonl, "
                           "npy or fvecs",
                           f->path);
        uint64_t bytes = 0;
        if (rc == 0)
            rc = import_file_bytes(f->path, &bytes, trail);
        im->total += bytes;
    }
    return rc;
}

static int open_reader(const struct import *im, const struct import_target *target,
                       const struct import_file *file, struct import_reader **reader_out,
                       struct trail *trail)
{
    int rc = import_file_verify(file, trail);
    if (rc < 0)
        return rc;
    if (file->format == IMPORT_PARQUET)
        rc = import_parquet_open(target, file->path, reader_out, trail);
    else if (file->format == IMPORT_JSONL)
        rc = import_jsonl_open(target, file->path, reader_out, trail);
    else
        rc = import_vectors_open(target, file->path, im->format, reader_out, trail);
    if (rc == 0 && file->folder != NULL && (*reader_out)->row_count != file->rows) {
        rc = trail_add(trail, PDB_DATA_LOSS, "%s: %llu rows, but manifest.json says %llu",
                       file->path, (unsigned long long)(*reader_out)->row_count,
                       (unsigned long long)file->rows);
        (*reader_out)->ops->close(*reader_out);
    }
    if (rc == 0) {
        (*reader_out)->ended = file->ended;
        (*reader_out)->ended_count = file->ended_count;
    }
    return rc;
}

/* ---- --create ---- */

static void write_field(const struct import *im, const struct transfer_field *field,
                        struct buffer *json)
{
    struct pdb_text metric = im->metric != NULL       ? text_of(im->metric)
                             : field->metric.len != 0 ? field->metric
                                                      : TEXT_LIT("cosine");
    buffer_add_lit(json, "{\"name\":");
    json_write_string(json, field->name);
    buffer_format(json, ",\"dimension\":%u,\"metric\":", field->dimension);
    json_write_string(json, metric);
    if (field->type.len != 0 && !text_equal(metric, TEXT_LIT("hamming"))) {
        buffer_add_lit(json, ",\"type\":");
        json_write_string(json, field->type);
    }
    buffer_add_byte(json, '}');
}

static void write_config(const struct import *im, const struct transfer_collection *c,
                         struct buffer *json)
{
    buffer_add_lit(json, "{\"name\":");
    json_write_string(json, text_of(im->collection));
    buffer_add_lit(json, ",\"fields\":[");
    for (uint32_t i = 0; i < c->field_count; i++) {
        buffer_add_text(json, i != 0 ? TEXT_LIT(",") : TEXT_LIT(""));
        write_field(im, &c->fields[i], json);
    }
    buffer_add_lit(json, "],\"columns\":[");
    for (uint32_t i = 0; i < c->column_count; i++) {
        buffer_add_text(json, i != 0 ? TEXT_LIT(",{\"name\":") : TEXT_LIT("{\"name\":"));
        json_write_string(json, c->columns[i].name);
        buffer_add_lit(json, ",\"type\":");
        json_write_string(json, c->columns[i].type);
        buffer_add_byte(json, '}');
    }
    buffer_add_byte(json, ']');
    if (im->sync != NULL) {
        buffer_add_lit(json, ",\"sync\":");
        json_write_string(json, text_of(im->sync));
    }
    buffer_add_byte(json, '}');
}

/* From the first file; a single one says nothing of storage, times to live and the like. */
static int write_shape(const struct import *im, struct buffer *json, struct trail *trail)
{
    struct import_target target = im->target;
    struct import_shape shape = {0};
    struct import_reader *reader = NULL;
    target.collection = NULL;
    int rc = open_reader(im, &target, &im->files[0], &reader, trail);
    if (rc < 0)
        return rc;
    rc = reader->ops->shape(reader, json->arena, &shape, trail);
    write_config(im, &shape.collection, json);
    reader->ops->close(reader);
    return rc < 0 ? trail_add(trail, rc, "%s", im->files[0].path) : 0;
}

static int create(struct import *im, struct trail *trail)
{
    struct buffer json;
    struct wire_reply reply;
    int rc = 0;
    buffer_init_arena(&json, &im->arena, 0);
    if (im->folder != NULL)
        import_write_settings(im->folder, im->collection, im->sync, &im->arena, &json);
    else
        rc = write_shape(im, &json, trail);
    if (rc < 0)
        return rc;
    if (json.failed)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    const struct route route = {"POST", "/v1/collections", "application/json"};
    const struct pdb_text body = {json.ptr, json.len};
    wire_call_patiently(&im->wire, &route, &body, 1, TRANSFER_TRIES, &reply);
    if (reply.code != CODE_OK && reply.code != -PDB_ALREADY_EXISTS)
        return trail_add(trail, -reply.code, "create collection '%s': %s", im->collection,
                         reply.message);
    return 0;
}

static int describe(struct import *im, struct trail *trail)
{
    struct trail missing = {0};
    int rc = transfer_describe(&im->wire, im->collection, &im->arena, &im->described, &missing);
    if (rc == PDB_NOT_FOUND && im->create) {
        rc = create(im, trail);
        if (rc < 0)
            return rc;
        return transfer_describe(&im->wire, im->collection, &im->arena, &im->described, trail);
    }
    return rc < 0 ? trail_add(trail, rc, "%s%s", missing.text,
                              rc == PDB_NOT_FOUND ? " (--create makes it)" : "")
                  : 0;
}

/* ---- rows ---- */

static void tell(struct import *im, const struct import_reader *reader)
{
    struct import_counts counts;
    uint64_t at = im->bytes + reader->ops->offset(reader);
    import_send_counts(im->send, &counts);
    transfer_progress_tell(&im->progress, counts.rows, at, at, im->total);
}

static struct import_batch *take_batch(struct import *im, const struct import_reader *reader)
{
    struct import_batch *batch = NULL;
    while (batch == NULL && !import_send_failed(im->send) &&
           !transfer_is_interrupted(&im->interrupted)) {
        batch = import_send_take(im->send, 100);
        tell(im, reader);
    }
    return batch;
}

/* 1: a record was added, 0: the end of the file, or an error. */
static int add_record(struct import *im, struct import_reader *reader, struct import_batch *b,
                      struct trail *trail)
{
    struct trail why = {0};
    uint64_t before = reader->row;
    size_t start = b->bytes.len;
    struct import_record *record = &im->record;
    int rc = reader->ops->next(reader, record, &why);
    im->row += reader->row - before;
    if (rc > 0)
        import_encode_record(&b->bytes, record);
    if (rc > 0 && b->bytes.failed)
        rc = trail_add(&why, PDB_RESOURCE_EXHAUSTED, "no memory");
    if (rc > 0) {
        b->origins[b->count++] = (struct import_origin){
            start, reader->row - (strcmp(reader->row_word, "line") == 0 ? 0 : 1)};
        return 1;
    }
    if (rc == 0)
        return 0;
    uint64_t row = strcmp(reader->row_word, "line") == 0 ? reader->row : reader->row - 1;
    if (rc != PDB_INVALID_ARGUMENT)
        return trail_add(trail, rc, "%s: after %s %llu: %s", reader->path, reader->row_word,
                         (unsigned long long)row, why.text);
    if (!im->go_on)
        return trail_add(trail, rc, "%s: %s %llu: %s", reader->path, reader->row_word,
                         (unsigned long long)row, why.text);
    (void)fprintf(stderr, "%s: %s %llu: %s\n", reader->path, reader->row_word,
                  (unsigned long long)row, why.text);
    import_send_count_bad(im->send);
    return 1;
}

/* Whole batches until the file ends. A batch with a bad row is not sent. */
static int send_file(struct import *im, struct import_reader *reader, struct trail *trail)
{
    int rc = 1;
    while (rc > 0) {
        struct import_batch *b = take_batch(im, reader);
        if (b == NULL)
            return 0;
        b->path = reader->path;
        b->row_word = reader->row_word;
        b->first = im->row;
        while (rc > 0 && b->count < b->capacity && b->bytes.len < IMPORT_BATCH_BYTES)
            rc = add_record(im, reader, b, trail);
        if (rc < 0) {
            im->row = b->first;
            b->count = 0;
        }
        import_send_put(im->send, b);
        tell(im, reader);
    }
    return rc;
}

static int skip_rows(struct import *im, struct import_reader *reader, struct trail *trail)
{
    if (im->row >= im->skip)
        return 0;
    uint64_t before = reader->row;
    int rc = reader->ops->skip(reader, im->skip - im->row, trail);
    im->row += reader->row - before;
    return rc < 0 ? trail_add(trail, rc, "%s", reader->path) : 0;
}

static int send_files(struct import *im, struct trail *trail)
{
    int rc = 0;
    for (size_t i = 0; i < im->file_count && rc == 0; i++) {
        struct import_reader *reader = NULL;
        if (im->interrupted || import_send_failed(im->send))
            break;
        rc = open_reader(im, &im->target, &im->files[i], &reader, trail);
        if (rc < 0)
            return rc;
        reader->row_base = im->row;
        rc = skip_rows(im, reader, trail);
        if (rc == 0)
            rc = send_file(im, reader, trail);
        im->bytes += reader->bytes;
        reader->ops->close(reader);
    }
    return rc;
}

/* ---- the command ---- */

/* Sends everything; 0 or an error. */
static int load(struct import *im, struct import_counts *counts, uint64_t *stored,
                struct trail *trail)
{
    struct pdb_text path = transfer_path(&im->arena, im->collection, "/vectors");
    struct import_send_options options = {.endpoint = &im->endpoint,
                                          .path = path.ptr,
                                          .connections = (unsigned)im->connections,
                                          .batch_rows = (uint32_t)im->batch,
                                          .go_on = im->go_on};
    struct trail sent = {0};
    if (path.ptr == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    int rc = import_send_start(&options, &im->send, trail);
    if (rc < 0)
        return rc;
    rc = send_files(im, trail);
    int send_rc = import_send_finish(im->send, im->interrupted, im->row, counts, stored, &sent);
    if (rc == 0 && send_rc < 0)
        rc = trail_add(trail, send_rc, "%s", sent.text);
    else if (send_rc < 0)
        (void)fprintf(stderr, "proximadb import: %s\n", sent.text);
    return rc;
}

static int run(struct import *im, const char *const *names, size_t name_count, struct trail *trail)
{
    struct import_counts counts = {0};
    uint64_t stored = im->skip;
    char more[160] = "";
    int rc = list_files(im, names, name_count, trail);
    if (rc == 0)
        rc = transfer_connect(&im->server, &im->endpoint, trail);
    if (rc < 0)
        return rc;
    rc = wire_open(&im->wire, &im->endpoint, TRANSFER_TIMEOUT_S, 64 << 20);
    if (rc < 0)
        return trail_add(trail, rc, "no memory");
    rc = describe(im, trail);
    if (rc < 0)
        return rc;
    im->target.collection = &im->described;
    transfer_progress_begin(&im->progress, im->quiet);
    rc = load(im, &counts, &stored, trail);
    if (rc < 0 || im->interrupted)
        (void)snprintf(more, sizeof(more), "; go on with --skip %llu", (unsigned long long)stored);
    else if (counts.bad_rows != 0)
        (void)snprintf(more, sizeof(more), "; %llu bad rows left out",
                       (unsigned long long)counts.bad_rows);
    transfer_progress_end(&im->progress, "imported", counts.rows, im->bytes, more);
    if (rc == 0 && counts.bad_rows != 0 && !im->interrupted)
        return EXIT_BAD_ROWS;
    return rc;
}

static void dispose(struct import *im)
{
    wire_close(&im->wire);
    endpoint_close(&im->endpoint);
    arena_dispose(&im->arena);
}

int import_command(int argc, const char *const *argv)
{
    struct import im = {.batch = 500, .connections = 8};
    struct trail trail = {0};
    size_t name_count = 0;
    const char **names = heap_calloc(NULL, (size_t)argc + 1, sizeof(*names));
    if (names == NULL)
        return EXIT_START;
    transfer_block_signals(); /* taken between two batches; threads inherit it */
    if (argc == 1 && strcmp(argv[0], "--help") == 0) {
        (void)fprintf(stdout, "usage: %s", import_usage);
        heap_free(NULL, names);
        return 0;
    }
    int status = EXIT_USAGE;
    int rc = parse(&im, argc, argv, names, &name_count, &trail);
    if (rc < 0) {
        (void)fprintf(stderr, "proximadb import: %s\nusage: %s", trail.text, import_usage);
    } else {
        rc = run(&im, names, name_count, &trail);
        status = rc < 0 ? EXIT_START : rc;
        if (rc < 0)
            (void)fprintf(stderr, "proximadb import: %s\n", trail.text);
        else if (im.interrupted)
            status = 130;
    }
    dispose(&im);
    heap_free(NULL, names);
    return status;
}
