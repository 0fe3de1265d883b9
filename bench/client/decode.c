/* decode.c: reads what the server answered, by hand: three small messages, of which only the fields
 * that a load generator checks are looked at; others are skipped by their wire type or as whole
 * JSON values. */
#include "bench/client/decode.h"

#include "base/bytes.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>

enum { JSON_DEPTH_MAX = 32 };

/* ---- protobuf ---- */

struct field {
    unsigned number, wire;
    uint64_t value;       /* wire 0; wire 5 and 1: the bits */
    struct pdb_text text; /* wire 2 */
};

static uint64_t take_varint(struct bytes_reader *r)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = bytes_take_u8(r);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    r->failed = true;
    return 0;
}

/* True while there is a field; at the end or when malformed false, and then r->failed tells. */
static bool next_field(struct bytes_reader *r, struct field *field)
{
    if (r->failed || bytes_left(r) == 0)
        return false;
    uint64_t tag = take_varint(r);
    *field = (struct field){.number = (unsigned)(tag >> 3), .wire = (unsigned)(tag & 7)};
    uint64_t len = 0;
    switch (field->wire) {
    case 0:
        field->value = take_varint(r);
        break;
    case 1:
        field->value = bytes_take_u64(r);
        break;
    case 2:
        len = take_varint(r);
        field->text.ptr = (const char *)bytes_take(r, (size_t)len);
        field->text.len = (size_t)len;
        break;
    case 5:
        field->value = bytes_take_u32(r);
        break;
    default:
        r->failed = true;
        break;
    }
    return !r->failed;
}

int decode_grpc_prefix(struct pdb_text reply, struct pdb_text *message_out)
{
    if (reply.len < 5 || reply.ptr[0] != 0)
        return PDB_INTERNAL;
    const uint8_t *at = (const uint8_t *)reply.ptr + 1;
    size_t len = (size_t)at[0] << 24 | (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3];
    if (reply.len - 5 != len)
        return PDB_INTERNAL;
    *message_out = (struct pdb_text){reply.ptr + 5, len};
    return 0;
}

static uint32_t row_of_id(struct pdb_text id)
{
    uint64_t row = 0;
    if (id.len == 0 || id.len > 10)
        return DECODE_ROW_UNKNOWN;
    for (size_t i = 0; i < id.len; i++) {
        if (id.ptr[i] < '0' || id.ptr[i] > '9')
            return DECODE_ROW_UNKNOWN;
        row = row * 10 + (uint64_t)(id.ptr[i] - '0');
    }
    return row < DECODE_ROW_UNKNOWN ? (uint32_t)row : DECODE_ROW_UNKNOWN;
}

/* SearchHit: id = 1, score = 2. */
static bool take_hit(struct pdb_text message, struct decode_hit *hit_out)
{
    struct bytes_reader r = bytes_reader_of(message.ptr, message.len);
    struct field field;
    *hit_out = (struct decode_hit){DECODE_ROW_UNKNOWN, 0};
    while (next_field(&r, &field)) {
        if (field.number == 1 && field.wire == 2) {
            hit_out->row = row_of_id(field.text);
        } else if (field.number == 2 && field.wire == 5) {
            uint32_t bits = (uint32_t)field.value;
            memcpy(&hit_out->score, &bits, sizeof(bits));
        }
    }
    return !r.failed;
}

static int search_message(struct pdb_text reply, struct decode_hit *hits_out, size_t capacity,
                          size_t *count_out)
{
    struct pdb_text message;
    if (decode_grpc_prefix(reply, &message) < 0)
        return PDB_INTERNAL;
    struct bytes_reader r = bytes_reader_of(message.ptr, message.len);
    struct field field;
    size_t count = 0;
    while (next_field(&r, &field)) {
        if (field.number != 1 || field.wire != 2)
            continue;
        struct decode_hit hit;
        if (!take_hit(field.text, &hit))
            return PDB_INTERNAL;
        if (count < capacity)
            hits_out[count] = hit;
        count++;
    }
    *count_out = count;
    return r.failed ? PDB_INTERNAL : 0;
}

static int write_message(struct pdb_text reply, uint64_t *upserted_out)
{
    struct pdb_text message;
    if (decode_grpc_prefix(reply, &message) < 0)
        return PDB_INTERNAL;
    struct bytes_reader r = bytes_reader_of(message.ptr, message.len);
    struct field field;
    uint64_t upserted = 0;
    while (next_field(&r, &field)) {
        if (field.number == 1 && field.wire == 0)
            upserted = field.value;
    }
    *upserted_out = upserted;
    return r.failed ? PDB_INTERNAL : 0;
}

/* ---- JSON ---- */

static int json_hit(struct json_reader *r, struct arena *arena, struct decode_hit *hit_out)
{
    bool first = true;
    struct pdb_text key;
    int more = json_enter_object(r);
    *hit_out = (struct decode_hit){DECODE_ROW_UNKNOWN, 0};
    while (more >= 0 && (more = json_object_next(r, arena, &first, &key)) == 1) {
        struct pdb_text id;
        double score = 0;
        if (text_equal(key, TEXT_LIT("id"))) {
            if ((more = json_read_string(r, arena, &id)) == 0)
                hit_out->row = row_of_id(id);
        } else if (text_equal(key, TEXT_LIT("score"))) {
            if ((more = json_read_double(r, &score)) == 0)
                hit_out->score = (float)score;
        } else {
            more = json_skip(r);
        }
    }
    return more;
}

static int json_hits(struct json_reader *r, struct arena *arena, struct decode_hit *hits_out,
                     size_t capacity, size_t *count_out)
{
    bool first = true;
    int more = json_enter_array(r);
    while (more >= 0 && (more = json_array_next(r, &first)) == 1) {
        struct decode_hit hit;
        if ((more = json_hit(r, arena, &hit)) < 0)
            break;
        if (*count_out < capacity)
            hits_out[*count_out] = hit;
        (*count_out)++;
    }
    return more;
}

static int search_json(struct pdb_text reply, struct arena *arena, struct decode_hit *hits_out,
                       size_t capacity, size_t *count_out)
{
    struct json_reader r;
    struct pdb_text key;
    bool first = true;
    bool seen = false;
    json_open(&r, reply.ptr, reply.len, JSON_DEPTH_MAX, NULL);
    *count_out = 0;
    int more = json_enter_object(&r);
    while (more >= 0 && (more = json_object_next(&r, arena, &first, &key)) == 1) {
        if (text_equal(key, TEXT_LIT("results")) && !seen) {
            seen = true;
            more = json_hits(&r, arena, hits_out, capacity, count_out);
        } else {
            more = json_skip(&r);
        }
    }
    return more == 0 && seen && json_finish(&r) == 0 ? 0 : PDB_INTERNAL;
}

/* Finds one number among the members; true if it was there and all was well-formed so far. */
static bool find_u64(struct pdb_text json, struct arena *arena, struct pdb_text wanted,
                     uint64_t *value_out)
{
    struct json_reader r;
    struct pdb_text key;
    bool first = true;
    json_open(&r, json.ptr, json.len, JSON_DEPTH_MAX, NULL);
    int more = json_enter_object(&r);
    while (more >= 0 && (more = json_object_next(&r, arena, &first, &key)) == 1) {
        if (text_equal(key, wanted))
            return json_read_u64(&r, value_out) == 0;
        more = json_skip(&r);
    }
    return false;
}

uint64_t decode_json_u64(struct pdb_text json, struct arena *arena, const char *key,
                         uint64_t fallback)
{
    uint64_t value = fallback;
    return find_u64(json, arena, text_of(key), &value) ? value : fallback;
}

int decode_write(bool grpc, struct pdb_text reply, struct arena *arena, uint64_t *upserted_out)
{
    if (grpc)
        return write_message(reply, upserted_out);
    return find_u64(reply, arena, TEXT_LIT("upserted"), upserted_out) ? 0 : PDB_INTERNAL;
}

int decode_search(bool grpc, struct pdb_text reply, struct arena *arena,
                  struct decode_hit *hits_out, size_t capacity, size_t *count_out)
{
    return grpc ? search_message(reply, hits_out, capacity, count_out)
                : search_json(reply, arena, hits_out, capacity, count_out);
}

/* ---- errors ---- */

static int code_of_name(struct pdb_text name)
{
#define DECODE_NAME(code, grpc, http, text)                                                        \
    if (text_equal(name, TEXT_LIT(#code)))                                                         \
        return (grpc);
    PDB_ERRORS(DECODE_NAME)
#undef DECODE_NAME
    return 0;
}

static int code_of_status(int http_status)
{
    switch (http_status) {
    case 408:
        return 4;
    case 413:
    case 507:
        return 8;
    case 405:
        return 12;
    case 415:
        return 3;
    default:
        break;
    }
#define DECODE_STATUS(code, grpc, http, text)                                                      \
    if (http_status == (http))                                                                     \
        return (grpc);
    PDB_ERRORS(DECODE_STATUS)
#undef DECODE_STATUS
    return 2;
}

int decode_rest_error(int http_status, struct pdb_text reply, struct arena *arena,
                      char *message_out, size_t message_bytes)
{
    struct json_reader r;
    struct pdb_text key = {0};
    struct pdb_text text;
    bool outer = true;
    bool inner = true;
    int code = 0;
    (void)snprintf(message_out, message_bytes, "HTTP status %d", http_status);
    json_open(&r, reply.ptr, reply.len, JSON_DEPTH_MAX, NULL);
    int more = reply.len != 0 ? json_enter_object(&r) : -1;
    if (more >= 0)
        more = json_object_next(&r, arena, &outer, &key);
    if (more == 1 && text_equal(key, TEXT_LIT("error")))
        more = json_enter_object(&r);
    else
        more = -1;
    while (more >= 0 && (more = json_object_next(&r, arena, &inner, &key)) == 1) {
        if (!text_equal(key, TEXT_LIT("code")) && !text_equal(key, TEXT_LIT("message"))) {
            more = json_skip(&r);
            continue;
        }
        bool is_code = text_equal(key, TEXT_LIT("code"));
        if ((more = json_read_string(&r, arena, &text)) != 0)
            break;
        if (is_code)
            code = code_of_name(text);
        else
            (void)snprintf(message_out, message_bytes, "%.*s", TEXT_ARG(text));
    }
    return code != 0 ? code : code_of_status(http_status);
}
