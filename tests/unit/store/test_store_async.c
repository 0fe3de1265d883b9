/* Calls from a reactor: they run on a worker and come back to their owner. */
#include "store/store_async.h"

#include "store_fixture.h"

#include <semaphore.h>

enum { CORES = 2, STEPS = 5 };

/* One life on each core: put, put again under a condition, get, list, delete. */
struct life {
    struct store_async op;
    struct reactor *reactor;
    struct arena arena;
    unsigned step;
    int results[STEPS];
    char key[8], got[16];
    bool wrong_thread;
};

static struct store *store;
static struct life lives[CORES];
static sem_t finished;

static void next_step(struct life *life)
{
    struct store_async *op = &life->op;
    const struct store_put_request put = {.key = text_of(life->key),
                                          .bytes = "hello",
                                          .len = 5,
                                          .condition =
                                              life->step == 0 ? STORE_ALWAYS : STORE_IF_ABSENT};
    switch (life->step) {
    case 0:
    case 1:
        op->kind = STORE_ASYNC_PUT;
        op->put = put;
        break;
    case 2:
        op->kind = STORE_ASYNC_GET;
        op->get = (struct store_get_request){.key = text_of(life->key),
                                             .len = STORE_TO_END,
                                             .to = life->got,
                                             .to_size = sizeof(life->got)};
        break;
    case 3:
        op->kind = STORE_ASYNC_LIST;
        op->list.prefix = text_of(life->key);
        op->list.count_max = 10;
        op->list.arena = &life->arena;
        break;
    default:
        op->kind = STORE_ASYNC_DELETE;
        op->key = text_of(life->key);
        break;
    }
    store_async_start(life->reactor, (life->reactor->id + life->step) % CORES, op);
}

static void step_done(struct store_async *op)
{
    struct life *life = container_of(op, struct life, op);
    life->wrong_thread |= reactor_here() != life->reactor;
    if (op->kind == STORE_ASYNC_LIST && op->result == 0)
        life->wrong_thread |= op->object_count != 1 || op->objects[0].info.size != 5;
    life->results[life->step++] = op->result;
    if (life->step == STEPS)
        (void)sem_post(&finished);
    else
        next_step(life);
}

static int start_life(struct reactor *r, void *arg)
{
    (void)arg;
    struct life *life = &lives[r->id];
    *life = (struct life){.reactor = r, .op = {.store = store, .done = step_done}};
    (void)snprintf(life->key, sizeof(life->key), "core-%u", r->id);
    next_step(life);
    return 0;
}

static void run_group(int (*start)(struct reactor *r, void *arg), unsigned count)
{
    struct reactor_group *g = NULL;
    const char *reason = NULL;
    const struct reactor_options options = {.count = CORES, .start = start};
    assert_int_equal(sem_init(&finished, 0, 0), 0);
    assert_int_equal(reactor_group_start(&options, &g, &reason), 0);
    while (count != 0)
        count -= sem_wait(&finished) == 0;
    reactor_group_stop(g);
    assert_int_equal(sem_destroy(&finished), 0);
}

static void calls_come_back_to_their_owner(void **state)
{
    (void)state;
    store = fixture_open("mem://async");
    run_group(start_life, CORES);
    for (unsigned i = 0; i < CORES; i++) {
        static const int expected[STEPS] = {0, PDB_ALREADY_EXISTS, 0, 0, 0};
        assert_memory_equal(lives[i].results, expected, sizeof(expected));
        assert_false(lives[i].wrong_thread);
        assert_memory_equal(lives[i].got, "hello", 5);
        assert_int_equal(lives[i].op.trail.len, 0);
        arena_dispose(&lives[i].arena);
    }
    store_close(store);
}

static void cancelled_done(struct store_async *op)
{
    (void)op;
    (void)sem_post(&finished);
}

static int start_cancelled(struct reactor *r, void *arg)
{
    (void)arg;
    struct life *life = &lives[r->id];
    *life = (struct life){.op = {.store = store,
                                 .kind = STORE_ASYNC_HEAD,
                                 .key = TEXT_LIT("none"),
                                 .deadline_ns = 1,
                                 .done = cancelled_done}};
    store_async_start(r, r->id, &life->op);
    store_async_cancel(&life->op);
    return 0;
}

static void a_cancelled_call_comes_back_too(void **state)
{
    (void)state;
    store = fixture_open("mem://async");
    run_group(start_cancelled, CORES);
    for (unsigned i = 0; i < CORES; i++) {
        int rc = lives[i].op.result; /* the worker may have looked before the flag was set */
        assert_true(rc == PDB_CANCELLED || rc == PDB_DEADLINE_EXCEEDED);
        assert_true(lives[i].op.trail.len != 0);
    }
    store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_come_back_to_their_owner),
        cmocka_unit_test(a_cancelled_call_comes_back_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
