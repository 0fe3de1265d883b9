/* A non-blocking TCP connection, with TLS when the endpoint wants it. */
#ifndef BENCH_CHANNEL_H
#define BENCH_CHANNEL_H

#include "base/buffer.h"
#include "base/trail.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct endpoint {
    char host[256]; /* without brackets */
    char port[8];
    char authority[272]; /* host:port as it goes into a request */
    struct sockaddr_storage address;
    socklen_t address_bytes;
    SSL_CTX *tls; /* NULL: clear text */
};

/* Parses [http://|https://]HOST:PORT and looks the host up. https, or `tls`, means TLS; `ca_path`
 *     (NULL: the system's) are
 * the roots that the server's certificate is checked against, `insecure` leaves the check out; `h2`
 * asks for h2 by ALPN, else http/1.1. 0 or an error with a trail. */
struct endpoint_options {
    const char *url;
    const char *ca_path;
    bool tls, insecure, h2;
};
int endpoint_open(struct endpoint *endpoint_out, const struct endpoint_options *options,
                  struct trail *trail);
void endpoint_close(struct endpoint *endpoint);

enum channel_state { CHANNEL_CLOSED, CHANNEL_CONNECTING, CHANNEL_HANDSHAKE, CHANNEL_OPEN };

struct channel {
    enum channel_state state;
    int fd; /* -1: none */
    SSL *ssl;
    bool tls_wants_write;
    struct buffer pending; /* taken, but not yet in the socket */
    size_t pending_at;
    uint64_t bytes_in, bytes_out;
};

void channel_init(struct channel *channel);
/* Starts to connect: 0, and channel_advance goes on when the socket is writable; or
 * PDB_UNAVAILABLE. */
int channel_connect(struct channel *channel, const struct endpoint *endpoint, struct trail *trail);
/* 1 when open, 0 when more has to happen first, PDB_UNAVAILABLE. */
int channel_advance(struct channel *channel, const struct endpoint *endpoint, struct trail *trail);
void channel_close(struct channel *channel);
void channel_dispose(struct channel *channel);

/* Takes all of `pieces`; what does not fit into the socket now is copied and goes with
 * channel_flush. 0 or an error. */
int channel_write(struct channel *channel, const struct iovec *pieces, int piece_count);
int channel_flush(struct channel *channel);
/* Something waits for the socket to become writable. */
bool channel_wants_write(const struct channel *channel);
bool channel_backed_up(const struct channel *channel);
/* >0 bytes, 0: nothing now, PDB_UNAVAILABLE: the other side closed, or an error. */
long channel_read(struct channel *channel, void *bytes_out, size_t size);

#endif
