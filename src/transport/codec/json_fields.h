/* A table-driven reader of JSON objects with a fixed set of fields: inside the codec only. */
#ifndef TRANSPORT_CODEC_JSON_FIELDS_H
#define TRANSPORT_CODEC_JSON_FIELDS_H

#include "transport/codec/json_requests.h"

#include <stddef.h>

typedef int json_field_reader(struct json_decoder *d, void *into);

struct json_field {
    struct pdb_text name;
    json_field_reader *read;
    size_t offset; /* of what it fills, in the object's structure */
};

#define JSON_FIELD(field_name, reader, type, member)                                               \
    {                                                                                              \
        {field_name, sizeof(field_name) - 1}, reader, offsetof(type, member)                       \
    }
/* For readers that want the whole structure. */
#define JSON_FIELD_WHOLE(field_name, reader)                                                       \
    {                                                                                              \
        {field_name, sizeof(field_name) - 1}, reader, 0                                            \
    }

/* Reads one object: unknown and repeated fields are errors. At most 32 fields. */
int json_read_object(struct json_decoder *d, const struct json_field *fields, size_t count,
                     void *into);
/* What follows a key of a fixed set: its index, or an error. `seen` collects bits. */
int json_match_field(struct json_decoder *d, const struct json_field *fields, size_t count,
                     struct pdb_text key, uint32_t *seen, size_t *index_out);
/* Reads an array of objects or values: `read` fills one element of `size` bytes. The array lies in
 * the arena. */
int json_read_array(struct json_decoder *d, json_field_reader *read, size_t size,
                    uint32_t count_max, void **elements_out, uint32_t *count_out);

json_field_reader json_text_field, json_bool_field, json_u32_field, json_u64_field;
/* An object of any shape to a document; into: struct pdb_text. */
json_field_reader json_document_field;
json_field_reader json_metric_field, json_element_field, json_column_type_field, json_sync_field;
/* Into: struct pdb_vector (values and count). */
json_field_reader json_vector_field;

int json_no_memory(struct json_decoder *d);
/* A value that may be null: true if it was (and is consumed). */
bool json_take_null(struct json_decoder *d);

#endif
