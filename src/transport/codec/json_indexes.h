/* Readers of what requests say of indexes: inside the codec only. */
#ifndef TRANSPORT_CODEC_JSON_INDEXES_H
#define TRANSPORT_CODEC_JSON_INDEXES_H

#include "transport/codec/json_fields.h"

/* Into: struct pdb_field, all that belongs to its index or its codes. */
json_field_reader json_index_field, json_quantization_field;
/* Into: struct pdb_field_change; the whole of it, or one half. */
json_field_reader json_field_change, json_index_change, json_quantization_change;
/* Into: struct pdb_query; null: nothing is asked. */
json_field_reader json_params_field;
/* Into: float, 0.5 to 1. */
json_field_reader json_recall_field;

#endif
