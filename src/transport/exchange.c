/* exchange.c: what every request gets before a handler sees it: a call id, the limits, a deadline.
 *
 * Timeouts: gRPC's header is digits and a unit letter (gRPC over HTTP/2, "Timeout"); REST takes the
 * same form, or a plain number of seconds with a fraction. A client may only shorten the configured
 * deadline. */
#include "transport/exchange.h"

#include "base/clock.h"
#include "base/hash.h"
#include "transport/connection.h"

#include <math.h>

_Static_assert((int)API_OPERATION_COUNT < (int)METRICS_OPERATIONS_MAX,
               "the last place counts what has no operation");

#include "base/no_libc_heap.h"

bool exchange_call_id_is_good(struct pdb_text id)
{
    if (id.len == 0 || id.len > EXCHANGE_CALL_ID_MAX)
        return false;
    for (size_t i = 0; i < id.len; i++) {
        char ch = id.ptr[i];
        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
              ch == '-' || ch == '_'))
            return false;
    }
    return true;
}

/* 16 hexadecimal digits that differ within a process and, by the seed, very likely between
 * processes. */
static void make_call_id(struct transport_core_private *p, char id[EXCHANGE_CALL_ID_MAX + 1])
{
    static const char digits[] = "0123456789abcdef";
    uint64_t value = hash_u64(p->call_id_seed + p->call_id_next++);
    for (int i = 15; i >= 0; i--, value >>= 4)
        id[i] = digits[value & 15];
    id[16] = '\0';
}

static bool unit_ns(char unit, double *ns_out)
{
    switch (unit) {
    case 'H':
        *ns_out = 3600e9;
        return true;
    case 'M':
        *ns_out = 60e9;
        return true;
    case 'S':
        *ns_out = 1e9;
        return true;
    case 'm':
        *ns_out = 1e6;
        return true;
    case 'u':
        *ns_out = 1e3;
        return true;
    case 'n':
        *ns_out = 1;
        return true;
    default:
        return false;
    }
}

/* Nanoseconds of a timeout header; false when malformed. */
static bool parse_timeout(struct pdb_text text, double *ns_out)
{
    double value = 0, scale = 1, unit = 1e9;
    size_t at = 0, digits = 0;
    for (; at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9'; at++, digits++)
        value = value * 10 + (text.ptr[at] - '0');
    if (at < text.len && text.ptr[at] == '.') {
        for (at++; at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9'; at++, digits++)
            value += (text.ptr[at] - '0') * (scale /= 10);
    }
    if (digits == 0 || digits > 18)
        return false;
    if (at < text.len && (at + 1 != text.len || !unit_ns(text.ptr[at], &unit)))
        return false;
    *ns_out = value * unit;
    return true;
}

int exchange_begin(struct exchange *x, struct pdb_text offered_id, struct trail *trail)
{
    struct transport_core *core = x->core;
    if (exchange_call_id_is_good(offered_id)) {
        memcpy(x->call_id, offered_id.ptr, offered_id.len);
        x->call_id[offered_id.len] = '\0';
    } else {
        make_call_id(core->priv, x->call_id);
    }
    x->api = (struct api_context){core->limits, text_of(x->call_id), x->peer};
    x->operation = API_OPERATION_COUNT;
    /* When the socket's callback began: a clock read for each request would cost a hundredth of a
     * probe. */
    x->received_ns = core->reactor->now_ns;
    double limit_ns = core->limits->request_deadline_s * 1e9, wanted_ns = limit_ns;
    if (x->timeout.len != 0 && !parse_timeout(x->timeout, &wanted_ns))
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "timeout '%.*s' is not a number with one of the units H M S m u n",
                         TEXT_ARG(x->timeout));
    x->deadline_ns = x->received_ns + (uint64_t)fmin(wanted_ns, limit_ns);
    return 0;
}

bool exchange_too_slow(struct exchange *x, bool waiting, uint64_t now_ns)
{
    enum { RATE_MIN = 1024, GRACE_S = 10 };
    struct exchange_pace *pace = &x->pace;
    if (waiting && pace->looked_ns != 0)
        pace->waited_ns += now_ns - pace->looked_ns;
    pace->looked_ns = now_ns;
    uint64_t waited_s = pace->waited_ns / 1000000000u;
    return waiting && waited_s > GRACE_S && pace->received < (waited_s - GRACE_S) * RATE_MIN;
}

static unsigned operation_index(const struct exchange *x)
{
    return x->operation < API_OPERATION_COUNT ? (unsigned)x->operation
                                              : METRICS_OPERATIONS_MAX - 1u;
}

void exchange_count_http(const struct exchange *x, int status)
{
    struct metrics *m = x->core->metrics;
    unsigned operation = operation_index(x);
    metrics_add(
        m, METRICS_HTTP_REQUESTS_AT + METRICS_PLACE(STATUS, operation, metrics_status(status)), 1);
    metrics_time(m, METRICS_HTTP_DURATION_IN + operation, clock_monotonic_ns() - x->received_ns);
}

void exchange_count_grpc(const struct exchange *x, int grpc_status)
{
    struct metrics *m = x->core->metrics;
    unsigned operation = operation_index(x);
    unsigned code =
        grpc_status >= 0 && grpc_status < METRICS_CODE_END ? (unsigned)grpc_status : METRICS_CODE_2;
    metrics_add(m, METRICS_GRPC_REQUESTS_AT + METRICS_PLACE(CODE, operation, code), 1);
    metrics_time(m, METRICS_GRPC_DURATION_IN + operation, clock_monotonic_ns() - x->received_ns);
}

/* Without sign-in only this machine may ask. A web page elsewhere can make a browser on this
 * machine send requests here under a name that it owns (DNS rebinding): then Host is that name. */
bool exchange_host_allowed(const struct exchange *x, bool loopback_only)
{
    if (!loopback_only || x->authority.len == 0)
        return true;
    struct pdb_text host = x->authority;
    if (host.ptr[0] == '[') {
        const char *close = memchr(host.ptr, ']', host.len);
        return close != NULL &&
               text_equal((struct pdb_text){host.ptr, (size_t)(close - host.ptr) + 1},
                          TEXT_LIT("[::1]"));
    }
    const char *colon = memchr(host.ptr, ':', host.len);
    if (colon != NULL)
        host.len = (size_t)(colon - host.ptr);
    struct pdb_text sub = TEXT_LIT(".localhost");
    if (text_equal(host, TEXT_LIT("localhost")) ||
        (host.len > sub.len && memcmp(host.ptr + host.len - sub.len, sub.ptr, sub.len) == 0))
        return true;
    if (!text_starts_with(host, TEXT_LIT("127.")))
        return false;
    for (size_t i = 0; i < host.len; i++) /* a name may begin so, too */
        if (host.ptr[i] != '.' && (host.ptr[i] < '0' || host.ptr[i] > '9'))
            return false;
    return true;
}
