/* store_retry.c: a request until it is done: what is repeated, after which pause, and what an
 * answer means.
 *
 * Repeated: no connection, a connection that broke, 408, 429 and 5xx, and the few refusals that ask
 * for it by name. Pauses double from retry_first_ms to retry_max_ms, each shortened by a random
 * part (up to half), so that many servers do not come back at the same moment; Retry-After
 * lengthens them. A write with a condition is not simply repeated: if its first attempt had arrived
 * unseen, the second would be refused because of our own object. Its hook looks first. */
#include "store/store_http_internal.h"

#include <string.h>
#include <sys/random.h>

#include "base/no_libc_heap.h"

static bool code_is(const struct store_answer *a, const char *const codes[])
{
    for (size_t i = 0; codes[i] != NULL; i++) {
        if (strcmp(a->error_code, codes[i]) == 0)
            return true;
    }
    return false;
}

static bool worth_repeating(const struct store_answer *a)
{
    static const char *const asking[] = {"RequestTimeout",
                                         "BadDigest", /* damaged on its way */
                                         "XAmzContentSHA256Mismatch",
                                         "Md5Mismatch",
                                         "OperationAborted",
                                         "ConditionalRequestConflict",
                                         NULL};
    if (a->status == 408 || a->status == 429)
        return true;
    if (a->status >= 500)
        return a->status != 501 && a->status != 507;
    return a->status >= 400 && code_is(a, asking);
}

static int meaning_of(const struct store_answer *a)
{
    static const char *const stale[] = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired",
                                        NULL};
    switch (a->status) {
    case 400:
        return code_is(a, stale) ? PDB_PERMISSION_DENIED : PDB_INVALID_ARGUMENT;
    case 401:
    case 403:
        return PDB_PERMISSION_DENIED;
    case 404:
        return PDB_NOT_FOUND;
    case 409:
    case 412:
        return PDB_FAILED_PRECONDITION;
    case 416:
        return PDB_OUT_OF_RANGE;
    case 501:
        return PDB_UNIMPLEMENTED; /* such as conditions that a server does not know */
    case 507:
        return PDB_RESOURCE_EXHAUSTED;
    default:
        return a->status >= 500 ? PDB_UNAVAILABLE : PDB_INVALID_ARGUMENT;
    }
}

static int refuse(const struct store_call *call, const struct store_answer *a)
{
    const char *hint =
        a->status >= 300 && a->status < 400 ? " (a redirect: is it the right region?)" : "";
    return trail_add(call->trail, meaning_of(a), "server: %ld%s%s%s", a->status,
                     a->error_code[0] != '\0' ? " " : "", a->error_code, hint);
}

static uint64_t pause_ms(const struct store *store, unsigned attempt, const struct store_answer *a)
{
    uint64_t ms = store->options.retry_first_ms;
    uint32_t random = 0;
    for (unsigned i = 1; i < attempt && ms < store->options.retry_max_ms; i++)
        ms *= 2;
    if (ms > store->options.retry_max_ms)
        ms = store->options.retry_max_ms;
    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) == (ssize_t)sizeof(random))
        ms -= ms / 2 * random / UINT32_MAX;
    return ms > a->retry_after_ms ? ms : a->retry_after_ms;
}

/* After the last attempt. */
static int give_up(const struct store *store, const struct store_call *call,
                   const struct store_request *request, const struct store_answer *a,
                   const char *why, bool unknown)
{
    bool reads = strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
    const char *tail = unknown && !reads ? "; outcome unknown" : "";
    if (why[0] != '\0')
        return trail_add(call->trail, PDB_UNAVAILABLE, "%s, %u attempts%s", why,
                         store->options.attempts_max, tail);
    return trail_add(call->trail, PDB_UNAVAILABLE, "server: %ld%s%s, %u attempts%s", a->status,
                     a->error_code[0] != '\0' ? " " : "", a->error_code,
                     store->options.attempts_max, tail);
}

/* A refusal that may come from our own earlier attempt, or from a condition. 1: settled. */
static int settle_refusal(struct store_request *request, const struct store_answer *a)
{
    bool no_object = a->status == 404 && strcmp(a->error_code, "NoSuchKey") == 0;
    bool no_upload = a->status == 404 && request->patient;
    bool over_content = a->status == 409 || a->status == 412 || no_object || no_upload;
    return over_content && request->again != NULL ? request->again(request->arg, request, true) : 0;
}

int store_http_send(struct store *store, const struct store_call *call,
                    struct store_request *request, struct store_answer *answer_out,
                    bool *settled_out)
{
    bool unknown = false;
    if (settled_out != NULL)
        *settled_out = false;
    for (unsigned attempt = 1;; attempt++) {
        enum store_outcome outcome = STORE_NOT_SENT;
        const char *why = "";
        int rc = store_call_check(call);
        if (rc == 0)
            rc = store_http_once(store, call, request, answer_out, &outcome, &why);
        if (rc != 0)
            return rc;
        if (outcome == STORE_ANSWERED && answer_out->status >= 200 && answer_out->status < 300)
            return 0;
        if (outcome == STORE_ANSWERED && !worth_repeating(answer_out)) {
            rc = settle_refusal(request, answer_out);
            if (rc == 0)
                return refuse(call, answer_out);
        } else {
            unknown |= outcome != STORE_NOT_SENT && answer_out->status != 429;
            bool last = attempt >= store->options.attempts_max;
            rc = last ? 0 : store_pause(call, pause_ms(store, attempt, answer_out));
            if (rc == 0 && unknown && request->again != NULL)
                rc = request->again(request->arg, request, false);
            if (rc == 0 && last)
                return give_up(store, call, request, answer_out, why, unknown);
        }
        if (rc > 0 && settled_out != NULL)
            *settled_out = true;
        if (rc != 0)
            return rc > 0 ? 0 : rc;
        if (request->text != NULL)
            request->text->len = 0;
    }
}
