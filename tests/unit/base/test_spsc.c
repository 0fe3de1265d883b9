/* Two threads and one ring: every pointer arrives once, in order. Run it under ThreadSanitizer
 * too. */
#include "base/spsc.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { ITEMS = 300000 };

struct message {
    size_t number;
};

static struct spsc ring;
static struct message messages[ITEMS];

static void *produce(void *arg)
{
    for (size_t i = 0; i < ITEMS; i++) {
        messages[i].number = i * 3; /* plain memory, published by the ring */
        while (!spsc_push(&ring, &messages[i]))
            sched_yield();
    }
    return arg;
}

static void every_message_arrives_once_in_order(void **state)
{
    (void)state;
    pthread_t producer;
    memset(&ring, 0, sizeof(ring));
    assert_int_equal(pthread_create(&producer, NULL, produce, NULL), 0);
    for (size_t i = 0; i < ITEMS;) {
        struct message *message = spsc_pop(&ring);
        if (message == NULL) {
            sched_yield();
            continue;
        }
        if (message != &messages[i] || message->number != i * 3)
            fail_msg("message %zu", i);
        i++;
    }
    assert_true(spsc_empty(&ring));
    assert_null(spsc_pop(&ring));
    assert_int_equal(pthread_join(producer, NULL), 0);
}

static void a_full_ring_refuses_until_one_is_taken(void **state)
{
    (void)state;
    memset(&ring, 0, sizeof(ring));
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < SPSC_CAPACITY; i++)
            assert_true(spsc_push(&ring, &messages[i]));
        assert_false(spsc_push(&ring, &messages[0]));
        assert_ptr_equal(spsc_pop(&ring), &messages[0]);
        assert_true(spsc_push(&ring, &messages[7]));
        assert_false(spsc_push(&ring, &messages[0]));
        for (size_t i = 1; i < SPSC_CAPACITY; i++)
            assert_ptr_equal(spsc_pop(&ring), &messages[i]);
        assert_ptr_equal(spsc_pop(&ring), &messages[7]);
        assert_null(spsc_pop(&ring));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_ring_refuses_until_one_is_taken),
        cmocka_unit_test(every_message_arrives_once_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
