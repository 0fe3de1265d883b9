/* One HTTP/2 connection and its streams: shared by h2.c (the session), h2_stream.c (requests) and
 * h2_send.c (answers). */
#ifndef TRANSPORT_GRPC_H2_INTERNAL_H
#define TRANSPORT_GRPC_H2_INTERNAL_H

#include "transport/connection.h"

#include <nghttp2/nghttp2.h>

enum {
    /* stop collecting frames for one write after this much: TLS encrypts a write at once */
    H2_OUT_SOFT = 64 << 10,
    H2_STREAM_WINDOW = 4 << 20,
    H2_CONNECTION_WINDOW = 16 << 20,
    H2_BODY_FIRST = 64 << 10,       /* first allocation of a body of unknown size */
    H2_MESSAGE_FIRST_MAX = 4 << 20, /* of a declared one at most: a length claims anything */
    GRPC_PREFIX = 5,
};

/* Frames that the peer should not have sent and streams that we had to reset: a token bucket
 * (10 a second, burst 100). */
enum { H2_ABUSE_BURST = 100, H2_ABUSE_PER_S = 10 };

struct h2_session {
    struct connection *connection;
    struct transport_core *core;
    nghttp2_session *ng;
    struct list streams;
    unsigned stream_count; /* with those whose HTTP/2 stream is closed but whose call still runs */
    struct turn_hook flush;
    struct {
        uint8_t *bytes;
        size_t len, capacity;
    } out;       /* frames of the write under way, or being collected */
    bool failed; /* no memory for a frame: close */
    double abuse_tokens;
    uint64_t abuse_seen_ns;
};

/* A run of bytes to send; the bytes are in the exchange's arena or static, or in the prefix. */
struct h2_piece {
    struct h2_piece *next;
    uint8_t prefix[GRPC_PREFIX];
    uint8_t prefix_len;
    const char *bytes;
    size_t len;
};

struct h2_stream {
    struct exchange x;
    struct h2_session *session; /* NULL once the connection is gone */
    struct list_link link;
    int32_t id;
    bool is_grpc;
    bool dispatched; /* a handler has it */
    /* and is done with it; or it was refused before: what still arrives is dropped */
    bool answered;
    /* what the peer sends is of no use any more; its handler was told and will answer */
    bool broken;
    bool half_closed; /* the peer has sent all */
    bool closed;      /* the HTTP/2 stream is no more */
    bool headers_sent, finished;
    bool feeding;              /* grpc_feed is on the stack */
    bool in_pieces, body_told; /* REST: the body goes to the handler as it comes; its end has */
    size_t header_bytes, header_count;
    size_t owed; /* received bytes whose window is held back */
    uint64_t content_length;
    bool compressed; /* grpc-encoding other than identity */
    struct pdb_text offered_id;
    /* the body, or the gRPC message being received */
    char *in;
    size_t in_len, in_capacity;
    uint8_t prefix[GRPC_PREFIX];
    uint8_t prefix_len;
    size_t message_len; /* of the message being received */
    unsigned message_count;
    /* client streams and bodies in pieces: delivered and not yet consumed; bytes that wait behind
     * it hold their window back */
    bool delivering;
    char *pending; /* DATA bytes not looked at yet, while `delivering` */
    size_t pending_len, pending_capacity;
    /* the answer */
    struct h2_piece *out_first, **out_last, *out_free;
    size_t out_offset; /* of the first piece, prefix included */
    int status, grpc_status;
    struct pdb_text grpc_message;
    bool deferred;
};

/* ---- h2.c ---- */
void h2_mark_dirty(struct h2_session *s);
/* Counts one frame or reset that should not have been; past the limit the session ends with
 * ENHANCE_YOUR_CALM. */
void h2_abuse(struct h2_session *s);
uint8_t *h2_reserve_out(struct h2_session *s, size_t size);

/* ---- h2_stream.c ---- */
int h2_stream_begin(struct h2_session *s, int32_t id);
int h2_stream_header(struct h2_stream *st, struct pdb_text name, struct pdb_text value);
/* The header block is complete. */
void h2_stream_headers_done(struct h2_stream *st);
void h2_stream_data(struct h2_stream *st, const uint8_t *bytes, size_t len);
void h2_stream_end(struct h2_stream *st);
/* The HTTP/2 stream is closed: frees it, or leaves it to the handler, which still owes an
 * answer. */
void h2_stream_closed(struct h2_stream *st);
/* The connection goes: as h2_stream_closed, and the stream forgets it. */
void h2_stream_detach(struct h2_stream *st);
/* Both sides are done with it. */
void h2_stream_free(struct h2_stream *st);
void h2_stream_consumed(struct exchange *x);
void h2_stream_body_more(struct exchange *x);

/* ---- h2_send.c ---- */
extern const struct exchange_ops h2_ops;
int h2_send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *frame_head, size_t len,
                 nghttp2_data_source *source, void *user);

#endif
