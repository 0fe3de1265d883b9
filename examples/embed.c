/* embed.c: a vector database inside a program, in one page.
 *
 *     cc embed.c $(pkg-config --cflags --libs proximadb) && ./a.out ./my-data
 *
 * It makes a collection, writes three records in one atomic batch, searches with a filter, closes,
 * opens again and finds all still there. Every call takes an arena: results live in it until it is
 * reset. */
#include <proximadb/proximadb.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct pdb_text text(const char *s)
{
    return (struct pdb_text){s, strlen(s)};
}

/* Starts the call on one of the database's threads and waits for it. */
#define RUN(op, start_function) pdb_wait(&(op)->call, start_function##_call)
#define STARTER(type, start_function)                                                              \
    static void start_function##_call(struct pdb_call *call)                                       \
    {                                                                                              \
        start_function((struct type *)(void *)call); /* `call` is the first member of each */      \
    }
STARTER(pdb_collection_create, pdb_collection_create_start)
STARTER(pdb_write, pdb_write_start)
STARTER(pdb_search, pdb_search_start)
STARTER(pdb_count, pdb_count_start)

static void give_up(const char *what, const struct pdb_error *error)
{
    (void)fprintf(stderr, "%s: %s: %s\n", what, pdb_error_name(error->code), error->text);
    exit(1);
}

static void create_shoes(struct pdb *db, struct arena *arena)
{
    struct pdb_field field = {.dimension = 3, .metric = PDB_METRIC_COSINE};
    struct pdb_collection_create create;
    pdb_call_init(&create.call, db, arena, NULL);
    create.config =
        (struct pdb_collection_config){.name = text("shoes"), .fields = &field, .field_count = 1};
    int rc = RUN(&create, pdb_collection_create_start);
    if (rc < 0 && rc != PDB_ALREADY_EXISTS)
        give_up("create", &create.call.error);
    pdb_arena_reset(arena);
}

static void write_shoes(struct pdb *db, struct arena *arena)
{
    static const float values[3][3] = {{1, 0, 0}, {0.9f, 0.1f, 0}, {0, 0, 1}};
    static const char *const ids[3] = {"runner", "walker", "boot"};
    static const char *const about[3] = {"{\"price\": 90, \"colour\": \"red\"}",
                                         "{\"price\": 60, \"colour\": \"blue\"}",
                                         "{\"price\": 140, \"colour\": \"brown\"}"};
    struct pdb_vector vectors[3];
    struct pdb_record records[3] = {{.vector_count = 0}};
    for (int i = 0; i < 3; i++) {
        struct pdb_error error;
        vectors[i] = (struct pdb_vector){.values = values[i], .count = 3, .form = PDB_VECTOR_F32};
        records[i] = (struct pdb_record){
            .id = text(ids[i]), .vectors = &vectors[i], .vector_count = 1, .has_metadata = true};
        if (pdb_doc_from_json(arena, text(about[i]), &records[i].metadata, &error) < 0)
            give_up("metadata", &error);
    }
    struct pdb_write write = {.kind = PDB_WRITE_UPSERT};
    pdb_call_init(&write.call, db, arena, NULL);
    write.collection = text("shoes");
    write.records = records;
    write.record_count = 3;
    if (RUN(&write, pdb_write_start) < 0)
        give_up("upsert", &write.call.error);
    printf("wrote %llu records as version %llu\n", (unsigned long long)write.count_out,
           (unsigned long long)write.version_out);
    pdb_arena_reset(arena);
}

static void search_shoes(struct pdb *db, struct arena *arena)
{
    static const float wanted[3] = {1, 0.05f, 0};
    struct pdb_query query = {
        .vector = {.values = wanted, .count = 3, .form = PDB_VECTOR_F32},
        .k = 2,
        .include = PDB_INCLUDE_METADATA,
    };
    struct pdb_error error;
    if (pdb_doc_from_json(arena, text("{\"price\": {\"$lt\": 100}}"), &query.filter, &error) < 0)
        give_up("filter", &error);
    struct pdb_search search = {.queries = &query, .query_count = 1};
    pdb_call_init(&search.call, db, arena, NULL);
    search.collection = text("shoes");
    if (RUN(&search, pdb_search_start) < 0)
        give_up("search", &search.call.error);
    for (unsigned i = 0; i < search.results_out[0].count; i++) {
        const struct pdb_hit *hit = &search.results_out[0].hits[i];
        struct pdb_text json;
        if (pdb_doc_to_json(arena, hit->row.metadata, &json) < 0)
            exit(1);
        printf("%.4f  %.*s  %.*s\n", (double)hit->score, (int)hit->row.id.len, hit->row.id.ptr,
               (int)json.len, json.ptr);
    }
    if (search.results_out[0].count != 2)
        exit(1);
    pdb_arena_reset(arena);
}

static unsigned long long count_shoes(struct pdb *db, struct arena *arena)
{
    struct pdb_count count = {.collection = text("shoes")};
    pdb_call_init(&count.call, db, arena, NULL);
    if (RUN(&count, pdb_count_start) < 0)
        give_up("count", &count.call.error);
    pdb_arena_reset(arena);
    return count.count_out;
}

int main(int argc, char **argv)
{
    struct pdb_options options = {
        .data_dir = argc > 1 ? argv[1] : "./data", .cores = 2, .disk_min_free_bytes = 64 << 20};
    struct pdb_error error = {.code = 0};
    struct pdb *db = NULL;
    struct arena *arena = pdb_arena_new(0);
    if (arena == NULL)
        return 1;
    if (pdb_open(&options, &db, &error) < 0)
        give_up("open", &error);
    create_shoes(db, arena);
    write_shoes(db, arena);
    search_shoes(db, arena);
    pdb_close(db);

    if (pdb_open(&options, &db, &error) < 0)
        give_up("open again", &error);
    unsigned long long found = count_shoes(db, arena);
    printf("after closing and opening: %llu records\n", found);
    pdb_close(db);
    pdb_arena_free(arena);
    return found == 3 ? 0 : 1;
}
