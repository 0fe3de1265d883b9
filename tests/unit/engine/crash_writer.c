/* The victim of test_crash: opens the database, writes from three threads and tells on standard
 * output what it tries and what was acknowledged, one line each, until it is killed.
 *
 *     crash_writer DIR ENGINE CORES SEED FIRST
 *
 *     S                  before opening
 *     O                  open
 *     A t n kind mask    thread t tries its batch n: kind u (upsert) or d (delete) of the slots in
 *                        mask
 *     K t n version      acknowledged
 */
#include "crash.h"

#include <pthread.h>

#include <proximadb/proximadb.h>

struct writer {
    pthread_t thread;
    struct pdb *db;
    unsigned number, n, seed;
};

static void write_start(struct pdb_call *call)
{
    pdb_write_start((struct pdb_write *)(void *)call);
}

static void delete_start(struct pdb_call *call)
{
    pdb_delete_start((struct pdb_delete *)(void *)call);
}

static void create_start(struct pdb_call *call)
{
    pdb_collection_create_start((struct pdb_collection_create *)(void *)call);
}

/* One write() of less than PIPE_BUF bytes: lines of threads do not mix. */
static void tell(const char *line, int len)
{
    if (write(STDOUT_FILENO, line, (size_t)len) != len)
        _exit(3);
}

static int upsert(struct writer *w, struct arena *arena, unsigned mask, uint64_t *version_out)
{
    char ids[CRASH_SLOTS][16];
    float value = (float)w->n;
    struct pdb_vector vector = {.values = &value, .count = 1, .form = PDB_VECTOR_F32};
    struct pdb_record records[CRASH_SLOTS];
    uint32_t count = 0;
    for (unsigned slot = 0; slot < CRASH_SLOTS; slot++) {
        if ((mask >> slot & 1) == 0)
            continue;
        int len = crash_id(ids[slot], w->number, slot);
        records[count++] = (struct pdb_record){
            .id = {ids[slot], (size_t)len}, .vectors = &vector, .vector_count = 1};
    }
    const char *name = crash_collection(w->number);
    struct pdb_write write = {.kind = PDB_WRITE_UPSERT};
    pdb_call_init(&write.call, w->db, arena, NULL);
    write.collection = (struct pdb_text){name, strlen(name)};
    write.records = records;
    write.record_count = count;
    int rc = pdb_wait(&write.call, write_start);
    *version_out = write.version_out;
    return rc;
}

static int delete (struct writer *w, struct arena *arena, unsigned mask, uint64_t *version_out)
{
    char ids[CRASH_SLOTS][16];
    struct pdb_text texts[CRASH_SLOTS];
    uint32_t count = 0;
    for (unsigned slot = 0; slot < CRASH_SLOTS; slot++) {
        if ((mask >> slot & 1) == 0)
            continue;
        int len = crash_id(ids[slot], w->number, slot);
        texts[count++] = (struct pdb_text){ids[slot], (size_t)len};
    }
    const char *name = crash_collection(w->number);
    struct pdb_delete d = {.id_count = 0};
    pdb_call_init(&d.call, w->db, arena, NULL);
    d.collection = (struct pdb_text){name, strlen(name)};
    d.ids = texts;
    d.id_count = count;
    int rc = pdb_wait(&d.call, delete_start);
    *version_out = d.version_out;
    return rc;
}

static void *write_on(void *arg)
{
    struct writer *w = arg;
    struct arena *arena = pdb_arena_new(0);
    if (arena == NULL)
        return NULL;
    for (;; w->n++) {
        unsigned mask = 1 + (unsigned)rand_r(&w->seed) % ((1u << CRASH_SLOTS) - 1);
        bool remove = rand_r(&w->seed) % 4 == 0;
        uint64_t version = 0;
        char line[64];
        tell(line, snprintf(line, sizeof(line), "A %u %u %c %u\n", w->number, w->n,
                            remove ? 'd' : 'u', mask));
        int rc = remove ? delete (w, arena, mask, &version) : upsert(w, arena, mask, &version);
        if (rc < 0)
            _exit(4);
        tell(line, snprintf(line, sizeof(line), "K %u %u %llu\n", w->number, w->n,
                            (unsigned long long)version));
        pdb_arena_reset(arena);
    }
}

static void make_collections(struct pdb *db)
{
    struct arena *arena = pdb_arena_new(0);
    if (arena == NULL)
        _exit(5);
    for (unsigned i = 0; i < 2; i++) {
        const char *name = crash_collection(i);
        struct pdb_field field = {.dimension = 1, .metric = PDB_METRIC_DOT};
        struct pdb_collection_create c;
        pdb_call_init(&c.call, db, arena, NULL);
        c.config =
            (struct pdb_collection_config){.name = {name, strlen(name)},
                                           .fields = &field,
                                           .field_count = 1,
                                           .sync = i == 0 ? PDB_SYNC_ALWAYS : PDB_SYNC_BATCH};
        int rc = pdb_wait(&c.call, create_start);
        if (rc < 0 && rc != PDB_ALREADY_EXISTS)
            _exit(5);
    }
    pdb_arena_free(arena);
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    struct pdb_options options = crash_options(argv[1], argv[2], (unsigned)atoi(argv[3]));
    struct pdb_error error;
    struct pdb *db;
    tell("S\n", 2);
    if (pdb_open(&options, &db, &error) < 0) {
        (void)fprintf(stderr, "crash_writer: %s\n", error.text);
        return 1;
    }
    make_collections(db);
    tell("O\n", 2);
    struct writer writers[CRASH_THREADS];
    for (unsigned i = 0; i < CRASH_THREADS; i++) {
        writers[i] = (struct writer){.db = db,
                                     .number = i,
                                     .n = (unsigned)atoi(argv[5]),
                                     .seed = (unsigned)atoi(argv[4]) * 10 + i};
        if (pthread_create(&writers[i].thread, NULL, write_on, &writers[i]) != 0)
            return 6;
    }
    for (unsigned i = 0; i < CRASH_THREADS; i++)
        (void)pthread_join(writers[i].thread, NULL);
    return 0;
}
