/* store_url.c: what a store's URL says.
 *
 *     scheme://place/prefix?option=value&option=value
 *
 * Stores come from the configuration, never from a caller, but a mistake in them is still answered
 * here and not by a server: unknown options, users and passwords in the URL (secrets do not belong
 * there, because URLs are logged), plain HTTP to another machine unless it is allowed by name, and
 * link-local addresses, where clouds offer their machines' credentials. Addresses that names
 * resolve to are checked again when a connection is made (store_http.c).
 *
 * A bare path is a folder as it stands; '%' means itself there. In the other forms %XX is decoded
 * in the values of options and in the path of file://, nowhere else: buckets and prefixes obey the
 * rule of keys and need no escapes. */
#include "store/store_internal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

#define BAD(...) trail_add(trail, PDB_INVALID_ARGUMENT, __VA_ARGS__)

static bool part_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("_.~+=,@:-", c) != NULL);
}

bool store_key_valid(struct pdb_text key)
{
    size_t part = 0, parts = 1;
    if (key.len == 0 || key.len > STORE_KEY_MAX)
        return false;
    for (size_t i = 0; i < key.len; i++) {
        char c = key.ptr[i];
        if (c == '/') {
            if (part == 0 || ++parts > STORE_PARTS_MAX)
                return false;
            part = 0;
        } else {
            if (!part_byte(c) || (part == 0 && c == '.') || ++part > STORE_PART_MAX)
                return false;
        }
    }
    return part != 0;
}

/* ---- small pieces of text ---- */

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Copies with %XX decoded. False: no room, a bad escape, or a control byte. */
static bool copy_decoded(struct pdb_text from, char *to, size_t to_size)
{
    size_t len = 0;
    for (size_t i = 0; i < from.len; i++) {
        int c = (unsigned char)from.ptr[i];
        if (c == '%') {
            int high = i + 2 < from.len ? digit_of(from.ptr[i + 1]) : -1;
            int low = high >= 0 ? digit_of(from.ptr[i + 2]) : -1;
            if (low < 0)
                return false;
            c = high * 16 + low;
            i += 2;
        }
        if (c < 0x20 || c == 0x7f || len + 1 >= to_size)
            return false;
        to[len++] = (char)c;
    }
    to[len] = '\0';
    return true;
}

static bool copy_text(struct pdb_text from, char *to, size_t to_size)
{
    if (from.len >= to_size || memchr(from.ptr, '\0', from.len) != NULL)
        return false;
    memcpy(to, from.ptr, from.len);
    to[from.len] = '\0';
    return true;
}

/* Cuts `*rest` at the first `c`: what stands before it; all of it when there is none. */
static struct pdb_text take_until(struct pdb_text *rest, char c)
{
    const char *at = rest->len != 0 ? memchr(rest->ptr, c, rest->len) : NULL;
    size_t len = at != NULL ? (size_t)(at - rest->ptr) : rest->len;
    struct pdb_text head = {rest->ptr, len};
    size_t skip = at != NULL ? len + 1 : len;
    *rest = (struct pdb_text){rest->ptr + skip, rest->len - skip};
    return head;
}

static bool name_valid(struct pdb_text name, const char *more, size_t len_min, size_t len_max)
{
    if (name.len < len_min || name.len > len_max || name.ptr[0] == '.')
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!plain && (c == '\0' || strchr(more, c) == NULL))
            return false;
        if (c == '.' && name.ptr[i - 1] == '.')
            return false;
    }
    return true;
}

/* ---- hosts ---- */

/* The address that a literal host is; 0: a name; else AF_INET or AF_INET6. */
static int address_of(const char *host, uint8_t bytes_out[16])
{
    char bare[STORE_HOST_SIZE];
    size_t len = strlen(host);
    if (inet_pton(AF_INET, host, bytes_out) == 1)
        return AF_INET;
    if (len < 3 || host[0] != '[' || host[len - 1] != ']' || len - 2 >= sizeof(bare))
        return 0;
    memcpy(bare, host + 1, len - 2);
    bare[len - 2] = '\0';
    return inet_pton(AF_INET6, bare, bytes_out) == 1 ? AF_INET6 : 0;
}

/* An IPv4 address in IPv6 clothes (::ffff:a.b.c.d) is that address. */
static const uint8_t *unmapped(int family, const uint8_t bytes[16], int *family_out)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    bool dressed = family == AF_INET6 && memcmp(bytes, mapped, sizeof(mapped)) == 0;
    *family_out = dressed ? AF_INET : family;
    return dressed ? bytes + 12 : bytes;
}

bool store_host_forbidden(const char *host)
{
    uint8_t bytes[16];
    int family = address_of(host, bytes);
    if (family == 0)
        return false;
    const uint8_t *at = unmapped(family, bytes, &family);
    /* RFC 3927, RFC 4291 section 2.5.6; fd00:ec2::254 is Amazon's metadata service by IPv6. */
    static const uint8_t metadata[16] = {0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54};
    if (family == AF_INET)
        return (at[0] == 169 && at[1] == 254) || at[0] == 0 || at[0] >= 224;
    return (at[0] == 0xfe && (at[1] & 0xc0) == 0x80) || at[0] == 0xff ||
           memcmp(at, metadata, sizeof(metadata)) == 0;
}

bool store_host_loopback(const char *host)
{
    static const uint8_t loopback[16] = {[15] = 1};
    uint8_t bytes[16];
    int family = address_of(host, bytes);
    if (family == 0)
        return strcmp(host, "localhost") == 0;
    const uint8_t *at = unmapped(family, bytes, &family);
    return family == AF_INET ? at[0] == 127 : memcmp(at, loopback, sizeof(loopback)) == 0;
}

static bool host_valid(const char *host)
{
    uint8_t bytes[16];
    if (host[0] == '\0')
        return false;
    if (host[0] == '[')
        return address_of(host, bytes) == AF_INET6;
    for (const char *c = host; *c != '\0'; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                     (*c >= '0' && *c <= '9') || *c == '-' || *c == '.' || *c == '_';
        if (!plain || (*c == '.' && (c == host || c[-1] == '.')))
            return false;
    }
    return true;
}

/* "http://host:port/base": of the endpoint option. */
static int parse_endpoint(struct pdb_text text, struct trail *trail, struct store_url *url)
{
    const struct pdb_text http = TEXT_LIT("http://"), https = TEXT_LIT("https://");
    url->http = text_starts_with(text, http);
    if (!url->http && !text_starts_with(text, https))
        return BAD("endpoint: expected http:// or https://");
    size_t skip = url->http ? http.len : https.len;
    struct pdb_text rest = {text.ptr + skip, text.len - skip};
    struct pdb_text authority = take_until(&rest, '/');
    if (memchr(authority.ptr, '@', authority.len) != NULL)
        return BAD("endpoint: no user and no password in a URL; credentials come from the "
                   "environment or a file");
    const char *end = authority.ptr + authority.len, *colon = end;
    while (colon != authority.ptr && colon[-1] >= '0' && colon[-1] <= '9')
        colon--;
    bool has_port = colon != authority.ptr && colon[-1] == ':' && colon != end;
    url->port = 0;
    if (has_port) {
        for (const char *c = colon; c != end && url->port <= 65535; c++)
            url->port = url->port * 10 + (unsigned)(*c - '0');
        if (url->port == 0 || url->port > 65535)
            return BAD("endpoint: no such port");
        authority.len = (size_t)(colon - 1 - authority.ptr);
    }
    if (url->port == (url->http ? 80u : 443u))
        url->port = 0; /* left out of Host by HTTP clients, and so of what is signed */
    if (!copy_text(authority, url->host, sizeof(url->host)) || !host_valid(url->host))
        return BAD("endpoint: no such host name");
    while (rest.len != 0 && rest.ptr[rest.len - 1] == '/')
        rest.len--;
    if (rest.len != 0 && (!store_key_valid(rest) || rest.len + 2 > sizeof(url->base_path)))
        return BAD("endpoint: no such path");
    if (rest.len != 0)
        (void)snprintf(url->base_path, sizeof(url->base_path), "/%.*s", TEXT_ARG(rest));
    return 0;
}

/* ---- options ---- */

static int parse_bool(struct pdb_text name, const char *value, struct trail *trail, bool *out)
{
    bool yes = strcmp(value, "true") == 0;
    if (!yes && strcmp(value, "false") != 0)
        return BAD("option '%.*s': expected true or false", TEXT_ARG(name));
    *out = yes;
    return 0;
}

static int keep(struct pdb_text name, const char *value, struct trail *trail, char *to, size_t size)
{
    if (value[0] == '\0' || !copy_text(text_of(value), to, size))
        return BAD("option '%.*s': empty or too long", TEXT_ARG(name));
    return 0;
}

static int parse_option(struct pdb_text name, const char *value, struct trail *trail,
                        struct store_url *url)
{
    if (text_equal(name, TEXT_LIT("endpoint")))
        return parse_endpoint(text_of(value), trail, url);
    if (text_equal(name, TEXT_LIT("region"))) {
        if (!name_valid(text_of(value), "-", 1, sizeof(url->region) - 1))
            return BAD("option 'region': no such name");
        return keep(name, value, trail, url->region, sizeof(url->region));
    }
    if (text_equal(name, TEXT_LIT("path_style")))
        return parse_bool(name, value, trail, &url->path_style);
    if (text_equal(name, TEXT_LIT("allow_http")))
        return parse_bool(name, value, trail, &url->allow_http);
    if (text_equal(name, TEXT_LIT("anonymous")))
        return parse_bool(name, value, trail, &url->anonymous);
    if (text_equal(name, TEXT_LIT("credentials")))
        return keep(name, value, trail, url->credentials_path, sizeof(url->credentials_path));
    if (text_equal(name, TEXT_LIT("profile")))
        return keep(name, value, trail, url->profile, sizeof(url->profile));
    if (text_equal(name, TEXT_LIT("ca_file")))
        return keep(name, value, trail, url->ca_file, sizeof(url->ca_file));
    /* The value may be a secret in the wrong place: only the name is shown. */
    return BAD("unknown option '%.*s'", (int)(name.len < 64 ? name.len : 0), name.ptr);
}

/* `*style_out`: path_style was said. */
static int parse_options(struct pdb_text rest, struct trail *trail, struct store_url *url,
                         bool *style_out)
{
    char value[STORE_PATH_SIZE];
    while (rest.len != 0) {
        struct pdb_text pair = take_until(&rest, '&');
        struct pdb_text name = take_until(&pair, '=');
        if (!copy_decoded(pair, value, sizeof(value)))
            return BAD("option '%.*s': too long, or a bad escape",
                       (int)(name.len < 64 ? name.len : 0), name.ptr);
        int rc = parse_option(name, value, trail, url);
        if (rc != 0)
            return rc;
        if (text_equal(name, TEXT_LIT("path_style")))
            *style_out = true;
    }
    return 0;
}

/* ---- the schemes ---- */

static int parse_prefix(struct pdb_text rest, struct trail *trail, struct store_url *url)
{
    while (rest.len != 0 && rest.ptr[rest.len - 1] == '/')
        rest.len--;
    if (rest.len == 0)
        return 0;
    if (rest.len >= STORE_KEY_MAX || !store_key_valid(rest))
        return BAD("prefix: parts of letters, digits and _.~+=,@:- that begin with no '.'");
    (void)snprintf(url->prefix, sizeof(url->prefix), "%.*s/", TEXT_ARG(rest));
    return 0;
}

static int parse_folder(struct pdb_text path, bool decode, struct trail *trail,
                        struct store_url *url)
{
    url->scheme = STORE_FILE;
    bool ok = decode ? copy_decoded(path, url->path, sizeof(url->path))
                     : copy_text(path, url->path, sizeof(url->path));
    if (!ok || url->path[0] == '\0')
        return BAD("folder: empty, too long, or a bad escape");
    return 0;
}

static const char *first_of(const char *(*environment)(const char *), const char *const names[])
{
    for (size_t i = 0; names[i] != NULL; i++) {
        const char *value = environment(names[i]);
        if (value != NULL && value[0] != '\0')
            return value;
    }
    return NULL;
}

/* What the environment says; options override it. */
static int from_environment(const char *(*environment)(const char *), struct trail *trail,
                            struct store_url *url)
{
    static const char *const region_names[] = {"AWS_REGION", "AWS_DEFAULT_REGION", NULL};
    static const char *const aws_names[] = {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", NULL};
    static const char *const gs_names[] = {"GOOGLE_STORAGE_ENDPOINT_URL", NULL};
    static const char *const az_names[] = {"AZURE_STORAGE_ENDPOINT_URL", NULL};
    const char *const *names = url->scheme == STORE_S3   ? aws_names
                               : url->scheme == STORE_GS ? gs_names
                                                         : az_names;
    const char *region = url->scheme == STORE_S3 ? first_of(environment, region_names) : NULL;
    const char *endpoint = first_of(environment, names);
    int rc = 0;
    if (region != NULL)
        rc = parse_option(TEXT_LIT("region"), region, trail, url);
    if (rc == 0 && endpoint != NULL)
        rc = parse_endpoint(text_of(endpoint), trail, url);
    return rc != 0 ? trail_add(trail, rc, "from the environment") : 0;
}

/* The host that a place has when no endpoint is named. */
static int default_host(struct trail *trail, struct store_url *url)
{
    int len = 0;
    if (url->scheme == STORE_S3)
        len = snprintf(url->host, sizeof(url->host), "s3.%s.amazonaws.com", url->region);
    else if (url->scheme == STORE_GS)
        len = snprintf(url->host, sizeof(url->host), "storage.googleapis.com");
    else
        len = snprintf(url->host, sizeof(url->host), "%s.blob.core.windows.net", url->account);
    return len < (int)sizeof(url->host) ? 0 : BAD("host: too long");
}

/* Buckets stand in the host's name where that works; a dot in one does not fit the certificate. */
static int place_bucket(bool style_said, bool endpoint_said, struct trail *trail,
                        struct store_url *url)
{
    char host[STORE_HOST_SIZE];
    if (url->scheme != STORE_S3)
        url->path_style = true;
    else if (!style_said)
        url->path_style = endpoint_said || strchr(url->bucket, '.') != NULL;
    if (url->path_style)
        return 0;
    int len = snprintf(host, sizeof(host), "%s.%s", url->bucket, url->host);
    if (len >= (int)sizeof(host) || url->host[0] == '[')
        return BAD("path_style=false: this bucket and host make no host name");
    memcpy(url->host, host, (size_t)len + 1);
    return 0;
}

static int check_remote(struct trail *trail, const struct store_url *url)
{
    if (store_host_forbidden(url->host))
        return BAD("endpoint: link-local, multicast and unspecified addresses are refused");
    if (url->http && !url->allow_http && !store_host_loopback(url->host))
        return BAD("endpoint: plain http only to this machine, or with allow_http=true");
    return 0;
}

static int parse_remote(struct pdb_text place, struct pdb_text options,
                        const char *(*environment)(const char *), struct trail *trail,
                        struct store_url *url)
{
    bool style_said = false;
    struct pdb_text bucket = take_until(&place, '/');
    if (url->scheme == STORE_AZ) {
        if (!name_valid(bucket, "", 3, 24))
            return BAD("account: 3 to 24 small letters and digits");
        (void)copy_text(bucket, url->account, sizeof(url->account));
        bucket = take_until(&place, '/');
        if (!name_valid(bucket, "-$", 3, 63))
            return BAD("container: 3 to 63 small letters, digits and '-'");
    } else if (!name_valid(bucket, "-._", 3, url->scheme == STORE_S3 ? 63 : 222)) {
        return BAD("bucket: 3 to 63 small letters, digits, '.' and '-'");
    }
    (void)copy_text(bucket, url->bucket, sizeof(url->bucket));
    (void)copy_text(url->scheme == STORE_S3 ? TEXT_LIT("us-east-1") : TEXT_LIT("auto"), url->region,
                    sizeof(url->region));
    int rc = parse_prefix(place, trail, url);
    if (rc == 0)
        rc = from_environment(environment, trail, url);
    if (rc == 0)
        rc = parse_options(options, trail, url, &style_said);
    bool endpoint_said = url->host[0] != '\0';
    if (rc == 0 && !endpoint_said)
        rc = default_host(trail, url);
    if (rc == 0)
        rc = place_bucket(style_said, endpoint_said, trail, url);
    return rc == 0 ? check_remote(trail, url) : rc;
}

int store_url_parse(struct pdb_text text, const char *(*environment)(const char *name),
                    struct trail *trail, struct store_url *url_out)
{
    static const struct {
        const char *text;
        enum store_scheme scheme;
    } schemes[] = {{"file://", STORE_FILE},
                   {"s3://", STORE_S3},
                   {"gs://", STORE_GS},
                   {"az://", STORE_AZ},
                   {"mem://", STORE_MEM}};
    struct store_url url = {0};
    struct pdb_text rest = text;
    size_t i = 0;
    while (i < 5 && !text_starts_with(text, text_of(schemes[i].text)))
        i++;
    int rc = 0;
    if (i == 5) {
        for (size_t at = 0; at + 3 <= text.len; at++) {
            if (memcmp(text.ptr + at, "://", 3) == 0)
                return BAD("unknown scheme: expected a folder, file, s3, gs, az or mem");
        }
        rc = parse_folder(text, false, trail, &url);
    } else {
        url.scheme = schemes[i].scheme;
        size_t skip = strlen(schemes[i].text);
        rest = (struct pdb_text){text.ptr + skip, text.len - skip};
        struct pdb_text place = take_until(&rest, '?');
        if (url.scheme == STORE_FILE || url.scheme == STORE_MEM) {
            if (rest.len != 0)
                return BAD("this scheme has no options");
            if (url.scheme == STORE_FILE && (place.len == 0 || place.ptr[0] != '/'))
                return BAD("file:// needs an absolute path: file:///folder");
            if (url.scheme == STORE_FILE)
                rc = parse_folder(place, true, trail, &url);
            else if (!name_valid(place, "-._", 1, 63) ||
                     !copy_text(place, url.bucket, sizeof(url.bucket)))
                rc = BAD("mem:// needs a name of small letters, digits, '-', '.' and '_'");
        } else {
            rc = parse_remote(place, rest, environment, trail, &url);
        }
    }
    if (rc == 0)
        *url_out = url;
    return rc;
}
