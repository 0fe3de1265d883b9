/* config_listen.c: addresses to listen on and origins of web pages: the texts with an inner
 * grammar.
 *
 * Names are not looked up, save `localhost`: what a server binds to must not depend on who answers
 * DNS, and the rule that other machines' access needs TLS must be decided from the text alone.
 */
#include "server/config_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/no_libc_heap.h"

static const char wanted_listener[] =
    "ADDRESS:PORT with a numeric address, such as 127.0.0.1:5678, [::1]:5678 or *:5678";

/* The port behind the last colon; 0 to 65535, digits only. */
static bool parse_port(const char *text, uint16_t *port_out)
{
    unsigned port = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    if (port > UINT16_MAX)
        return false;
    *port_out = (uint16_t)port;
    return true;
}

/* Whether the address is numeric, and whether only this machine can reach it. */
static bool parse_address(const char *address, bool bracketed, bool *loopback_out)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (bracketed) {
        if (inet_pton(AF_INET6, address, &v6) != 1)
            return false;
        *loopback_out =
            IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
        return true;
    }
    if (strcmp(address, "*") == 0) {
        *loopback_out = false;
        return true;
    }
    if (inet_pton(AF_INET, address, &v4) != 1)
        return false;
    *loopback_out = ntohl(v4.s_addr) >> 24 == 127;
    return true;
}

const char *config_parse_listener(const char *text, struct arena *arena,
                                  struct transport_listener *listener_out, bool *loopback_out)
{
    const char *colon = strrchr(text, ':');
    uint16_t port;
    if (colon == NULL || !parse_port(colon + 1, &port))
        return wanted_listener;
    bool bracketed = text[0] == '[' && colon > text + 1 && colon[-1] == ']';
    const char *from = bracketed ? text + 1 : text;
    size_t len = (size_t)(colon - from) - (bracketed ? 1 : 0);
    char address[INET6_ADDRSTRLEN];
    if (len >= sizeof address)
        return wanted_listener;
    memcpy(address, from, len);
    address[len] = '\0';
    if (!bracketed && strcmp(address, "localhost") == 0)
        memcpy(address, "127.0.0.1", sizeof "127.0.0.1");
    bool loopback;
    if (!parse_address(address, bracketed, &loopback))
        return wanted_listener;
    if (arena != NULL) {
        struct pdb_text copy = arena_copy_text(arena, address, strlen(address));
        *listener_out = (struct transport_listener){copy.ptr, port}; /* NULL: no memory */
        *loopback_out = loopback;
    }
    return NULL;
}

const char *config_wrong_listener(const char *text)
{
    return config_parse_listener(text, NULL, NULL, NULL);
}

/* RFC 6454, section 6.2: scheme, host and port as browsers send them, without a path. */
const char *config_wrong_origin(const char *text)
{
    static const char wanted[] =
        "scheme://host or scheme://host:port without a path, such as https://app.example.com, or *";
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]";
    if (strcmp(text, "*") == 0)
        return NULL;
    const char *host = strncmp(text, "https://", 8) == 0  ? text + 8
                       : strncmp(text, "http://", 7) == 0 ? text + 7
                                                          : NULL;
    if (host == NULL || *host == '\0' || host[strspn(host, allowed)] != '\0')
        return wanted;
    return NULL;
}
