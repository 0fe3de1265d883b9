/* Tests src/transport/health.c: for how long a core is believed to live. What is told through the
 * doors is in tests/http/test_observability.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/connection.h"
#include "transport/health.h"

static bool live_after(uint64_t silent_ms)
{
    enum { SEEN_MS = 1000 };
    const uint64_t ms = 1000000;
    struct reactor reactor = {.now_ns = (SEEN_MS + silent_ms) * ms};
    struct transport_core_private priv = {.health_seen_ns = SEEN_MS * ms};
    const struct transport_core core = {.reactor = &reactor, .priv = &priv};
    return health_live(&core);
}

static void a_core_that_got_no_processor_for_seconds_is_alive(void **state)
{
    (void)state;
    assert_true(live_after(0));
    assert_true(live_after(2000));
    assert_true(live_after(9999));
}

static void a_core_that_hangs_is_not(void **state)
{
    (void)state;
    assert_false(live_after(10000));
    assert_false(live_after(3600000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_core_that_got_no_processor_for_seconds_is_alive),
        cmocka_unit_test(a_core_that_hangs_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
