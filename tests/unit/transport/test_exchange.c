/* Tests src/transport/exchange.c: call ids, deadlines, hosts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/connection.h"

struct fixture {
    struct transport_core core;
    struct transport_core_private priv;
    struct api_limits limits;
    struct reactor reactor;
};

static struct exchange begin(struct fixture *f, const char *timeout, const char *id, int expected)
{
    struct trail trail = {0};
    *f = (struct fixture){.limits = api_limits_default};
    f->core.limits = &f->limits;
    f->core.reactor = &f->reactor;
    f->core.priv = &f->priv;
    struct exchange x = {.core = &f->core, .timeout = text_of(timeout)};
    assert_int_equal(exchange_begin(&x, text_of(id), &trail), expected);
    return x;
}

static void a_well_formed_call_id_is_taken_over(void **state)
{
    (void)state;
    struct fixture f;
    struct exchange x = begin(&f, "", "Abc-1_9", 0);
    assert_string_equal(x.call_id, "Abc-1_9");
}

static void any_other_call_id_is_replaced(void **state)
{
    (void)state;
    static const char *const ids[] = {
        "", "a b", "a\r\nset-cookie: x", "\xc3\xa4",
        "12345678901234567890123456789012345678901234567890123456789012345"};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct fixture f;
        struct exchange x = begin(&f, "", ids[i], 0);
        assert_int_equal(strlen(x.call_id), 16);
        assert_string_not_equal(x.call_id, ids[i]);
    }
}

static void two_made_call_ids_differ(void **state)
{
    (void)state;
    struct fixture f;
    struct exchange a = begin(&f, "", "", 0), b = {.core = &f.core};
    assert_int_equal(exchange_begin(&b, (struct pdb_text){0}, NULL), 0);
    assert_string_not_equal(a.call_id, b.call_id);
}

static void timeouts_have_units_and_only_shorten(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ns;
    } rows[] = {{"", 60000000000u}, {"1S", 1000000000u}, {"250m", 250000000u},
                {"2", 2000000000u}, {"0.5", 500000000u}, {"7u", 7000u},
                {"9n", 9u},         {"2H", 60000000000u}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fixture f;
        struct exchange x = begin(&f, rows[i].text, "", 0);
        assert_int_equal(x.deadline_ns - x.received_ns, rows[i].ns);
    }
}

static void malformed_timeouts_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"S",   "1x",  "-1",  "1 S",
                                        "1SS", "1e3", "0x1", "9999999999999999999"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct fixture f;
        (void)begin(&f, texts[i], "", PDB_INVALID_ARGUMENT);
    }
}

static void only_loopback_hosts_reach_a_loopback_listener(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        bool allowed;
    } rows[] = {{"localhost", true},       {"localhost:5678", true},
                {"127.0.0.1:1", true},     {"127.9.9.9", true},
                {"[::1]", true},           {"[::1]:5678", true},
                {"a.localhost", true},     {"", true},
                {"example.org", false},    {"127.0.0.1.evil", false},
                {"localhost.evil", false}, {"[::2]", false},
                {"[::1", false},           {"0.0.0.0", false},
                {"evillocalhost", false}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct exchange x = {.authority = text_of(rows[i].host)};
        if (exchange_host_allowed(&x, true) != rows[i].allowed)
            fail_msg("%s", rows[i].host);
        assert_true(exchange_host_allowed(&x, false));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_well_formed_call_id_is_taken_over),
        cmocka_unit_test(any_other_call_id_is_replaced),
        cmocka_unit_test(two_made_call_ids_differ),
        cmocka_unit_test(timeouts_have_units_and_only_shorten),
        cmocka_unit_test(malformed_timeouts_are_refused),
        cmocka_unit_test(only_loopback_hosts_reach_a_loopback_listener),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
