/* info.c: facts of the server as one JSON document, the same for every door. */
#include "api/api.h"
#include "base/buffer.h"
#include "base/json.h"

static void add_text(struct buffer *b, const char *key, const char *value)
{
    buffer_format(b, "\"%s\":", key);
    json_write_string(b, text_of(value));
}

static void add_limits(struct buffer *b, const struct api_limits *l)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"body_bytes", l->body_bytes},
        {"inflight_body_bytes_per_core", l->inflight_body_bytes_per_core},
        {"archive_bytes", l->archive_bytes},
        {"url_bytes", l->url_bytes},
        {"header_bytes", l->header_bytes},
        {"headers", l->headers},
        {"connections", l->connections},
        {"connections_per_address", l->connections_per_address},
        {"streams_per_connection", l->streams_per_connection},
        {"handshake_s", l->handshake_s},
        {"header_s", l->header_s},
        {"idle_s", l->idle_s},
        {"blocked_write_s", l->blocked_write_s},
        {"request_deadline_s", l->request_deadline_s},
        {"batch_records", l->batch_records},
        {"k", l->k},
        {"batch_searches", l->batch_searches},
        {"filter_depth", l->filter_depth},
        {"filter_leaves", l->filter_leaves},
        {"json_depth", l->json_depth},
        {"id_bytes", l->id_bytes},
        {"metadata_bytes", l->metadata_bytes},
        {"dimension", l->dimension},
        {"collections", l->collections},
        {"scroll_records", l->scroll_records},
    };
    buffer_add_lit(b, "\"limits\":{");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        buffer_format(b, "%s\"%s\":%llu", i != 0 ? "," : "", rows[i].name,
                      (unsigned long long)rows[i].value);
    buffer_add_lit(b, "}");
}

int api_info_json(const struct api_context *ctx, const struct pdb *db, uint64_t uptime_s,
                  struct arena *arena, struct pdb_text *json_out)
{
    const struct pdb_facts *f = pdb_facts(db);
    struct buffer b;
    buffer_init_arena(&b, arena, 0);
    buffer_add_lit(&b, "{");
    add_text(&b, "version", f->version);
    buffer_format(&b, ",\"cores\":%u,\"uptime_s\":%llu,\"memory_limit_bytes\":%llu,", f->cores,
                  (unsigned long long)uptime_s, (unsigned long long)f->memory_limit);
    add_text(&b, "simd", f->simd);
    buffer_add_lit(&b, ",\"io\":{");
    add_text(&b, "engine", f->io_engine);
    buffer_add_lit(&b, ",");
    add_text(&b, "reason", f->io_engine_reason);
    buffer_add_lit(&b, "},\"wal\":{");
    add_text(&b, "encoding", f->wal_encoding);
    buffer_add_lit(&b, ",");
    add_text(&b, "io_mode", f->wal_io_mode);
    buffer_format(&b,
                  "},\"recovery\":{\"records\":%llu,\"bytes\":%llu,\"took_us\":%llu,\"clean\":%s},",
                  (unsigned long long)f->recovered_records, (unsigned long long)f->recovered_bytes,
                  (unsigned long long)f->recovery_us, f->recovered_clean ? "true" : "false");
    add_limits(&b, ctx->limits);
    buffer_add_lit(&b, "}");
    if (b.failed)
        return PDB_RESOURCE_EXHAUSTED;
    *json_out = (struct pdb_text){b.ptr, b.len};
    return 0;
}
