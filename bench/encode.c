/* encode.c: the two hot requests, written by hand.
 *
 * A packed batch is three runs of bytes: ids, vectors, metadata. The vectors are consecutive rows
 * of the data set, so the body points at them (two pieces when a batch wraps around the end of the
 * data set) and only ids and labels are written, some fifteen bytes a row. Sizes are computed
 * before anything is written, because protobuf puts the length before the content. Field numbers
 * are those of proto/proximadb/v1/proximadb.proto; a test reads what is made here back with the
 * generated code.
 *
 * REST with records is the heavy one: floats as text. The text of each row is made before the run
 * (encode_text.c) and copied. */
#include "bench/encode.h"

#include "base/assert.h"
#include "base/base64.h"
#include "base/bytes.h"
#include "base/json.h"

#include <arpa/inet.h>
#include <string.h>

enum { VARINT_MAX = 10, ID_MAX = 20, LABEL_MAX = 32 };

/* Protobuf wire types. */
enum { WIRE_VARINT = 0, WIRE_BYTES = 2 };

static size_t varint_size(uint64_t value)
{
    return (size_t)(70 - __builtin_clzll(value | 1)) / 7;
}

static size_t put_varint(char *at, uint64_t value)
{
    size_t size = 0;
    while (value >= 0x80) {
        at[size++] = (char)(value | 0x80);
        value >>= 7;
    }
    at[size++] = (char)value;
    return size;
}

static void add_varint(struct buffer *out, uint64_t value)
{
    char *at = buffer_reserve(out, VARINT_MAX);
    if (at != NULL)
        out->len += put_varint(at, value);
}

static void add_tag(struct buffer *out, unsigned field, unsigned wire)
{
    buffer_add_byte(out, (char)(field << 3 | wire));
}

/* Tag and length of a field of `size` bytes, which follow. All our field numbers are below 16: the
 * tag is one byte. */
static void add_head(struct buffer *out, unsigned field, size_t size)
{
    add_tag(out, field, WIRE_BYTES);
    add_varint(out, size);
}

static size_t field_size(size_t content)
{
    return 1 + varint_size(content) + content;
}

/* Decimal digits of an id; returns how many. */
static size_t put_id(char at[ID_MAX], uint64_t id)
{
    char reversed[ID_MAX];
    size_t len = 0;
    do {
        reversed[len++] = (char)('0' + id % 10);
        id /= 10;
    } while (id != 0);
    for (size_t i = 0; i < len; i++)
        at[i] = reversed[len - 1 - i];
    return len;
}

static size_t id_size(uint64_t id)
{
    size_t len = 1;
    while (id >= 10) {
        id /= 10;
        len++;
    }
    return len;
}

/* MapValue {"label": label}: fields { key = 1, value = 2 { integer_value = 3 } }. */
static size_t put_label(char at[LABEL_MAX], int32_t label)
{
    static const char key[] = "\x0a\x05label";
    size_t key_size = sizeof(key) - 1;
    size_t number = varint_size((uint64_t)(int64_t)label);
    size_t size = 0;
    at[size++] = 0x0a;
    at[size++] = (char)(key_size + 2 + 1 + number);
    memcpy(at + size, key, key_size);
    size += key_size;
    at[size++] = 0x12;
    at[size++] = (char)(1 + number);
    at[size++] = 0x18;
    size += put_varint(at + size, (uint64_t)(int64_t)label);
    ASSERT(size <= LABEL_MAX);
    return size;
}

void encode_grpc_prefix(char prefix_out[ENCODE_GRPC_PREFIX], uint32_t message_bytes)
{
    uint32_t length = htonl(message_bytes);
    prefix_out[0] = 0;
    memcpy(prefix_out + 1, &length, sizeof(length));
}

static void begin_message(struct body *body, const struct encode_target *target, size_t rest)
{
    size_t name = strlen(target->collection);
    char prefix[ENCODE_GRPC_PREFIX];
    encode_grpc_prefix(prefix, (uint32_t)(field_size(name) + rest));
    buffer_add(&body->scratch, prefix, sizeof(prefix));
    add_head(&body->scratch, 1, name);
    buffer_add(&body->scratch, target->collection, name);
}

static size_t row_bytes(const struct encode_target *target)
{
    return target->rows->dimension * sizeof(float);
}

static const float *row_at(const struct encode_target *target, uint64_t id)
{
    const struct dataset *rows = target->rows;
    return rows->values + (size_t)(id % rows->row_count) * rows->dimension;
}

static const int32_t *label_at(const struct encode_target *target, uint64_t id)
{
    const struct dataset *rows = target->rows;
    return rows->labels != NULL ? &rows->labels[id % rows->row_count] : NULL;
}

/* The vectors of consecutive ids, without a copy; a wrap makes a second piece. */
static void point_rows(struct body *body, const struct encode_target *target, uint64_t first_id,
                       size_t count)
{
    size_t start = (size_t)(first_id % target->rows->row_count);
    size_t straight = target->rows->row_count - start;
    ASSERT(count <= target->rows->row_count);
    if (straight > count)
        straight = count;
    body_point(body, row_at(target, first_id), straight * row_bytes(target));
    body_point(body, target->rows->values, (count - straight) * row_bytes(target));
}

/* ---- gRPC ---- */

static void upsert_packed(struct body *body, const struct encode_target *target, uint64_t first_id,
                          size_t count)
{
    struct buffer *out = &body->scratch;
    char label[LABEL_MAX];
    size_t vectors = count * row_bytes(target);
    size_t packed = field_size(vectors);
    for (uint64_t id = first_id; id < first_id + count; id++) {
        packed += field_size(id_size(id));
        if (target->rows->labels != NULL)
            packed += field_size(put_label(label, *label_at(target, id)));
    }
    begin_message(body, target, field_size(packed));
    add_head(out, 3, packed);
    for (uint64_t id = first_id; id < first_id + count; id++) {
        char *at = buffer_reserve(out, 2 + ID_MAX);
        if (at == NULL)
            return;
        at[0] = 1 << 3 | WIRE_BYTES;
        size_t len = put_id(at + 2, id);
        at[1] = (char)len;
        out->len += 2 + len;
    }
    add_head(out, 2, vectors);
    point_rows(body, target, first_id, count);
    for (uint64_t id = first_id; id < first_id + count && target->rows->labels != NULL; id++) {
        size_t size = put_label(label, *label_at(target, id));
        add_head(out, 4, size);
        buffer_add(out, label, size);
    }
}

static size_t record_size(const struct encode_target *target, uint64_t id, size_t metadata)
{
    return field_size(id_size(id)) + field_size(row_bytes(target)) +
           (metadata != 0 ? field_size(metadata) : 0);
}

static void upsert_records(struct body *body, const struct encode_target *target, uint64_t first_id,
                           size_t count)
{
    struct buffer *out = &body->scratch;
    char label[LABEL_MAX];
    char digits[ID_MAX];
    size_t all = 0;
    for (uint64_t id = first_id; id < first_id + count; id++) {
        const int32_t *value = label_at(target, id);
        size_t metadata = value != NULL ? put_label(label, *value) : 0;
        all += field_size(record_size(target, id, metadata));
    }
    begin_message(body, target, all);
    for (uint64_t id = first_id; id < first_id + count; id++) {
        const int32_t *value = label_at(target, id);
        size_t metadata = value != NULL ? put_label(label, *value) : 0;
        add_head(out, 2, record_size(target, id, metadata));
        size_t len = put_id(digits, id);
        add_head(out, 1, len);
        buffer_add(out, digits, len);
        add_head(out, 2, row_bytes(target)); /* repeated float, packed: the floats as they are */
        buffer_add(out, row_at(target, id), row_bytes(target));
        if (metadata != 0) {
            add_head(out, 4, metadata);
            buffer_add(out, label, metadata);
        }
    }
}

static void search_message(struct body *body, const struct encode_target *target, size_t row)
{
    struct buffer *out = &body->scratch;
    size_t query = field_size(row_bytes(target)) + 1 + varint_size(target->k);
    if (target->filter.len != 0)
        query += field_size(target->filter.len);
    if (target->params.len != 0)
        query += field_size(target->params.len);
    begin_message(body, target, field_size(query));
    add_head(out, 2, query);
    add_head(out, target->format == ENCODE_PACKED ? 2 : 1, row_bytes(target));
    buffer_add(out, row_at(target, row), row_bytes(target));
    add_tag(out, 5, WIRE_VARINT);
    add_varint(out, target->k);
    if (target->filter.len != 0) {
        add_head(out, 6, target->filter.len);
        buffer_add_text(out, target->filter);
    }
    if (target->params.len != 0) {
        add_head(out, 8, target->params.len);
        buffer_add_text(out, target->params);
    }
}

/* ---- Avro ---- */

/* Avro's long: zigzag, then a varint (Avro 1.11, "Binary encoding"). */
static uint64_t zigzag(uint64_t value)
{
    return value << 1;
}

static void add_avro_bytes(struct buffer *out, const void *bytes, size_t size)
{
    add_varint(out, zigzag(size));
    buffer_add(out, bytes, size);
}

/* One block of `count` records and the end of the array; schema in
 * proto/avro/vector_record.avsc. */
static void add_avro_records(struct buffer *out, const struct encode_target *target,
                             uint64_t first_id, size_t count)
{
    char digits[ID_MAX];
    add_varint(out, zigzag(count));
    for (uint64_t id = first_id; id < first_id + count; id++) {
        add_avro_bytes(out, digits, put_id(digits, id));
        add_varint(out, zigzag(1)); /* one field vector: "" */
        add_avro_bytes(out, "", 0);
        add_avro_bytes(out, row_at(target, id), row_bytes(target));
        add_varint(out, 0);
        const int32_t *label = label_at(target, id);
        if (label == NULL) {
            add_varint(out, zigzag(0));
        } else {
            char json[LABEL_MAX];
            size_t at = sizeof("{\"label\":") - 1;
            memcpy(json, "{\"label\":", at);
            at += put_id(json + at, (uint64_t)*label);
            json[at++] = '}';
            add_varint(out, zigzag(1));
            add_avro_bytes(out, json, at);
        }
        add_varint(out, zigzag(0)); /* expires_at_us, if_version: null */
        add_varint(out, zigzag(0));
    }
    add_varint(out, 0);
}

static void upsert_avro(struct body *body, const struct encode_target *target, uint64_t first_id,
                        size_t count)
{
    struct buffer *out = &body->scratch;
    if (!target->grpc) {
        add_avro_records(out, target, first_id, count);
        return;
    }
    /* The length comes first, and is known last: room for it is left and what follows is not
     * moved. */
    enum { LENGTH_BYTES = 5 };
    size_t name = strlen(target->collection);
    buffer_add(out, "\0\0\0\0\0", ENCODE_GRPC_PREFIX);
    add_head(out, 1, name);
    buffer_add(out, target->collection, name);
    add_tag(out, 4, WIRE_BYTES);
    size_t length_at = out->len;
    buffer_add(out, "\0\0\0\0\0", LENGTH_BYTES);
    add_avro_records(out, target, first_id, count);
    if (out->failed)
        return;
    uint64_t length = out->len - length_at - LENGTH_BYTES;
    for (unsigned i = 0; i < LENGTH_BYTES; i++) /* a varint may be longer than it needs to be */
        out->ptr[length_at + i] =
            (char)((length >> (7 * i) & 0x7f) | (i + 1 < LENGTH_BYTES ? 0x80 : 0));
    encode_grpc_prefix(out->ptr, (uint32_t)(out->len - ENCODE_GRPC_PREFIX));
}

/* ---- REST ---- */

static void add_row_text(struct buffer *out, const struct encode_target *target, uint64_t id)
{
    ASSERT(target->text != NULL);
    size_t row = (size_t)(id % target->rows->row_count);
    const size_t *offsets = target->text->offsets;
    buffer_add(out, target->text->bytes + offsets[row], offsets[row + 1] - offsets[row]);
}

static void add_id_text(struct buffer *out, uint64_t id)
{
    buffer_add_byte(out, '"');
    buffer_add_u64(out, id);
    buffer_add_byte(out, '"');
}

static void add_label_text(struct buffer *out, int32_t label)
{
    buffer_add_lit(out, "{\"label\":");
    buffer_add_i64(out, label);
    buffer_add_byte(out, '}');
}

static void upsert_json_records(struct body *body, const struct encode_target *target,
                                uint64_t first_id, size_t count)
{
    struct buffer *out = &body->scratch;
    buffer_add_lit(out, "{\"vectors\":[");
    for (uint64_t id = first_id; id < first_id + count; id++) {
        if (id != first_id)
            buffer_add_byte(out, ',');
        buffer_add_lit(out, "{\"id\":");
        add_id_text(out, id);
        buffer_add_lit(out, ",\"vector\":");
        add_row_text(out, target, id);
        const int32_t *label = label_at(target, id);
        if (label != NULL) {
            buffer_add_lit(out, ",\"metadata\":");
            add_label_text(out, *label);
        }
        buffer_add_byte(out, '}');
    }
    buffer_add_lit(out, "]}");
}

/* base64 of the rows from first_id on. Three rows are always whole base64 groups; where a batch
 * wraps around the end of the data set in between, the rows are first brought together. */
static void add_base64_rows(struct buffer *out, const struct encode_target *target,
                            uint64_t first_id, size_t count)
{
    size_t start = (size_t)(first_id % target->rows->row_count);
    size_t bytes = count * row_bytes(target);
    size_t encoded = base64_encoded_len(bytes);
    size_t wrapped = start + count > target->rows->row_count ? bytes : 0;
    char *at = buffer_reserve(out, encoded + wrapped);
    if (at == NULL)
        return;
    const char *from = (const char *)row_at(target, first_id);
    if (wrapped != 0) {
        size_t straight = (target->rows->row_count - start) * row_bytes(target);
        memcpy(at + encoded, from, straight);
        memcpy(at + encoded + straight, target->rows->values, bytes - straight);
        from = at + encoded;
    }
    base64_encode(from, bytes, at);
    out->len += encoded;
}

static void upsert_json_packed(struct body *body, const struct encode_target *target,
                               uint64_t first_id, size_t count)
{
    struct buffer *out = &body->scratch;
    buffer_add_lit(out, "{\"packed\":{\"ids\":[");
    for (uint64_t id = first_id; id < first_id + count; id++) {
        if (id != first_id)
            buffer_add_byte(out, ',');
        add_id_text(out, id);
    }
    buffer_add_lit(out, "],\"vectors\":\"");
    add_base64_rows(out, target, first_id, count);
    buffer_add_byte(out, '"');
    if (target->rows->labels != NULL) {
        buffer_add_lit(out, ",\"metadata\":[");
        for (uint64_t id = first_id; id < first_id + count; id++) {
            if (id != first_id)
                buffer_add_byte(out, ',');
            add_label_text(out, *label_at(target, id));
        }
        buffer_add_byte(out, ']');
    }
    buffer_add_lit(out, "}}");
}

static void search_json(struct body *body, const struct encode_target *target, size_t row)
{
    struct buffer *out = &body->scratch;
    buffer_add_lit(out, "{\"vector\":");
    add_row_text(out, target, row);
    buffer_format(out, ",\"k\":%u", target->k);
    if (target->filter.len != 0) {
        buffer_add_lit(out, ",\"filter\":");
        buffer_add_text(out, target->filter);
    }
    if (target->params.len != 0) {
        buffer_add_lit(out, ",\"params\":");
        buffer_add_text(out, target->params);
    }
    buffer_add_byte(out, '}');
}

int encode_upsert(struct body *body, const struct encode_target *target, uint64_t first_id,
                  size_t count)
{
    body_reset(body);
    if (target->format == ENCODE_AVRO)
        upsert_avro(body, target, first_id, count);
    else if (target->grpc && target->format == ENCODE_PACKED)
        upsert_packed(body, target, first_id, count);
    else if (target->grpc)
        upsert_records(body, target, first_id, count);
    else if (target->format == ENCODE_PACKED)
        upsert_json_packed(body, target, first_id, count);
    else
        upsert_json_records(body, target, first_id, count);
    return body_finish(body);
}

int encode_search(struct body *body, const struct encode_target *target, size_t row)
{
    body_reset(body);
    if (target->grpc)
        search_message(body, target, row);
    else
        search_json(body, target, row);
    return body_finish(body);
}
