/* store_tool: the calls of src/store as a program, for tests against real servers.
 *
 *     store_tool [-o name=number]... URL COMMAND...
 *
 *     put KEY FILE [absent | match ETAG]     get KEY FILE [OFFSET LEN]
 *     head KEY    delete KEY    list [PREFIX [AFTER]]
 *     race KEY THREADS           so many conditional puts at once, of one store
 *     cancelled get KEY FILE MS  the same call, cancelled after so many milliseconds
 *
 * FILE '-' of a put is standard input. Prints one line of facts for each object, `error NAME TEXT`
 * and status 1 when the call fails. */
#include "base/clock.h"
#include "store/store.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STDIN_MAX = 64 << 20, RACERS_MAX = 32 };

static void show(struct pdb_text key, const struct store_info *info)
{
    printf("%.*s size=%" PRIu64 " etag=%s", (int)key.len, key.ptr, info->size, info->etag);
    if (info->has_crc32c)
        printf(" crc32c=%08x", info->crc32c);
    printf(" modified_us=%" PRId64 "\n", info->modified_us);
}

static int show_object(void *arg, const struct store_object *object)
{
    (void)arg;
    show(object->key, &object->info);
    return 0;
}

static int put(struct store *store, const struct store_call *call, int argc, char **argv)
{
    struct store_info info;
    struct store_put_request request = {.key = text_of(argv[1]), .len = STORE_TO_END};
    char *bytes = NULL;
    if (strcmp(argv[2], "-") == 0) {
        bytes = malloc(STDIN_MAX);
        request.len = bytes != NULL ? fread(bytes, 1, STDIN_MAX, stdin) : 0;
        request.bytes = bytes;
    } else {
        request.path = argv[2];
    }
    if (argc > 3 && strcmp(argv[3], "absent") == 0)
        request.condition = STORE_IF_ABSENT;
    if (argc > 4 && strcmp(argv[3], "match") == 0) {
        request.condition = STORE_IF_MATCH;
        request.etag = argv[4];
    }
    int rc = store_put(store, call, &request, &info);
    if (rc == 0)
        show(request.key, &info);
    free(bytes);
    return rc;
}

static int get(struct store *store, const struct store_call *call, int argc, char **argv)
{
    struct store_info info;
    uint64_t len = 0;
    struct store_get_request request = {
        .key = text_of(argv[1]), .path = argv[2], .len = STORE_TO_END};
    if (argc > 4) {
        request.offset = strtoull(argv[3], NULL, 10);
        request.len = strtoull(argv[4], NULL, 10);
    }
    int rc = store_get(store, call, &request, &len, &info);
    if (rc == 0) {
        printf("len=%" PRIu64 " ", len);
        show(request.key, &info);
    }
    return rc;
}

/* ---- races and cancelling ---- */

struct racer {
    struct store *store;
    const char *key;
    char body[16];
    int rc;
};

static void *race_one(void *arg)
{
    struct racer *r = arg;
    struct store_put_request request = {.key = text_of(r->key),
                                        .bytes = r->body,
                                        .len = strlen(r->body),
                                        .condition = STORE_IF_ABSENT};
    r->rc = store_put(r->store, NULL, &request, NULL);
    return NULL;
}

/* Prints the body of each put that won, and how many lost. */
static int race(struct store *store, const char *key, unsigned count)
{
    struct racer racers[RACERS_MAX];
    pthread_t threads[RACERS_MAX];
    unsigned lost = 0;
    int rc = 0;
    for (unsigned i = 0; i < count; i++) {
        racers[i] = (struct racer){.store = store, .key = key};
        (void)snprintf(racers[i].body, sizeof(racers[i].body), "racer-%u", i);
        if (pthread_create(&threads[i], NULL, race_one, &racers[i]) != 0)
            abort();
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        if (racers[i].rc == 0)
            printf("won %s\n", racers[i].body);
        else if (racers[i].rc == PDB_ALREADY_EXISTS)
            lost++;
        else
            rc = racers[i].rc;
    }
    printf("lost %u\n", lost);
    return rc;
}

struct canceller {
    struct store_cancel cancel;
    long ms;
};

static void *cancel_later(void *arg)
{
    struct canceller *c = arg;
    struct timespec time = {c->ms / 1000, c->ms % 1000 * 1000000};
    nanosleep(&time, NULL);
    store_cancel(&c->cancel);
    return NULL;
}

static int cancelled(struct store *store, struct trail *trail, int argc, char **argv)
{
    struct canceller c = {.ms = strtol(argv[argc - 1], NULL, 10)};
    struct store_call call = {.cancel = &c.cancel, .trail = trail};
    pthread_t thread;
    if (pthread_create(&thread, NULL, cancel_later, &c) != 0)
        abort();
    int rc = get(store, &call, argc - 2, argv + 1);
    pthread_join(thread, NULL);
    return rc;
}

/* ---- the command line ---- */

static int run(struct store *store, struct trail *trail, const char *deadline, int argc,
               char **argv)
{
    struct store_call call = {.trail = trail};
    struct store_info info;
    if (deadline != NULL)
        call.deadline_ns = clock_monotonic_ns() + strtoull(deadline, NULL, 10) * 1000000;
    if (strcmp(argv[0], "put") == 0 && argc >= 3)
        return put(store, &call, argc, argv);
    if (strcmp(argv[0], "get") == 0 && argc >= 3)
        return get(store, &call, argc, argv);
    if (strcmp(argv[0], "cancelled") == 0 && argc == 5)
        return cancelled(store, trail, argc, argv);
    if (strcmp(argv[0], "race") == 0 && argc == 3)
        return race(store, argv[1], (unsigned)strtol(argv[2], NULL, 10) % RACERS_MAX);
    if (strcmp(argv[0], "delete") == 0 && argc == 2)
        return store_delete(store, &call, text_of(argv[1]));
    if (strcmp(argv[0], "head") == 0 && argc == 2) {
        int rc = store_head(store, &call, text_of(argv[1]), &info);
        if (rc == 0)
            show(text_of(argv[1]), &info);
        return rc;
    }
    if (strcmp(argv[0], "list") == 0) {
        const char *page = getenv("STORE_TOOL_PAGE");
        struct store_list_request request = {
            .prefix = text_of(argc > 1 ? argv[1] : ""),
            .after = text_of(argc > 2 ? argv[2] : ""),
            .visit = show_object,
            .page_max = page != NULL ? (unsigned)strtol(page, NULL, 10) : 0};
        return store_list(store, &call, &request);
    }
    return trail_add(trail, PDB_INVALID_ARGUMENT, "usage: see the head of store_tool.c");
}

static void set_option(struct store_options *o, const char *text, const char **deadline)
{
    const char *value = strchr(text, '=');
    unsigned number = value != NULL ? (unsigned)strtol(value + 1, NULL, 10) : 0;
    if (strncmp(text, "attempts=", 9) == 0)
        o->attempts_max = number;
    else if (strncmp(text, "retry_ms=", 9) == 0)
        o->retry_first_ms = number;
    else if (strncmp(text, "stall_ms=", 9) == 0)
        o->stall_ms = number;
    else if (strncmp(text, "part_bytes=", 11) == 0)
        o->part_bytes = number;
    else if (strncmp(text, "deadline_ms=", 12) == 0)
        *deadline = value + 1;
    else
        abort();
}

int main(int argc, char **argv)
{
    struct store_options options = {.retry_first_ms = 5, .retry_max_ms = 50};
    struct trail trail = {0};
    struct store *store = NULL;
    const char *deadline = NULL;
    int at = 1;
    for (; at + 1 < argc && strcmp(argv[at], "-o") == 0; at += 2)
        set_option(&options, argv[at + 1], &deadline);
    if (argc - at < 2)
        return 2;
    int rc = store_open(text_of(argv[at]), &options, &trail, &store);
    if (rc == 0)
        rc = run(store, &trail, deadline, argc - at - 1, argv + at + 1);
    store_close(store);
    if (rc != 0)
        printf("error %s %s\n", pdb_error_name(rc), trail.text);
    return rc != 0;
}
