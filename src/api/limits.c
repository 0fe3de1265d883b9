/* limits.c: the values of docs/api/limits.md, used where the configuration says nothing. */
#include "api/api.h"

const struct api_limits api_limits_default = {
    .body_bytes = 64u << 20,
    .inflight_body_bytes_per_core = 256u << 20,
    .url_bytes = 8 << 10,
    .header_bytes = 16 << 10,
    .headers = 100,
    .connections = 20000,
    .connections_per_address = 256,
    .streams_per_connection = 100,
    .handshake_s = 10,
    .header_s = 10,
    .idle_s = 60,
    .blocked_write_s = 30,
    .request_deadline_s = 60,
    .batch_records = PDB_BATCH_RECORDS_MAX,
    .k = PDB_K_MAX,
    .batch_searches = 1000,
    .filter_depth = 32,
    .filter_leaves = 1024,
    .json_depth = 64,
    .id_bytes = PDB_ID_BYTES_MAX,
    .metadata_bytes = PDB_METADATA_BYTES_MAX,
    .dimension = PDB_DIMENSION_MAX,
    .collections = 65536,
    .scroll_records = 10000,
};
