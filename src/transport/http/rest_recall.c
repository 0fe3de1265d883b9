/* rest_recall.c: how much searches find, asked for with a query string. */
#include "base/json.h"
#include "transport/http/rest.h"

#include "base/no_libc_heap.h"

enum { NUMBER_MAX = 1000 };

/* A whole number from 1 on, or absent. */
static int read_number(struct rest *r, const char *name, uint32_t *number_out)
{
    bool given = false;
    uint64_t number = 0;
    int rc = rest_query_number(r, name, UINT32_MAX, &given, &number);
    if (rc == 0 && given && (number < 1 || number > NUMBER_MAX))
        return trail_add(&r->trail, PDB_INVALID_ARGUMENT, "%s: expected 1 to %d, found %llu", name,
                         NUMBER_MAX, (unsigned long long)number);
    *number_out = (uint32_t)number;
    return rc;
}

static int read_target(struct rest *r, float *target_out)
{
    struct json_reader reader;
    struct trail ignored = {0};
    struct pdb_text text = {0};
    double target = 0;
    if (!rest_query_param(r, "target_recall", &text))
        return 0;
    json_open(&reader, text.ptr, text.len, 1, &ignored);
    bool number =
        text.len != 0 && json_read_double(&reader, &target) == 0 && json_finish(&reader) == 0;
    if (!number || !(target >= 0.5 && target <= 1))
        return trail_add(&r->trail, PDB_INVALID_ARGUMENT,
                         "target_recall: expected 0.5 to 1, found '%.*s'",
                         text.len < 64 ? (int)text.len : 64, text.len != 0 ? text.ptr : "");
    *target_out = (float)target;
    return 0;
}

static void on_recall(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    rest_open_out(r);
    json_encode_recall(&r->out, &r->recall);
    rest_reply_json(r, 200);
}

void rest_recall(struct rest *r)
{
    uint32_t k = 0, queries = 0;
    float target = 0;
    int rc;
    if ((rc = read_number(r, "k", &k)) < 0 || (rc = read_number(r, "queries", &queries)) < 0 ||
        (rc = read_target(r, &target)) < 0) {
        rest_fail(r, rc);
        return;
    }
    rest_begin_call(r, &r->recall.call, on_recall);
    r->recall.collection = r->collection;
    r->recall.k = k;
    r->recall.queries = queries;
    r->recall.target_recall = target;
    (void)rest_query_param(r, "field", &r->recall.field);
    api_recall(&r->x->api, &r->recall);
}
