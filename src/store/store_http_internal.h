/* What the dialects over HTTP (S3, Google's, Azure's) share: requests as values, signatures over
 * them, one exchange, and the loop that repeats it. */
#ifndef STORE_STORE_HTTP_INTERNAL_H
#define STORE_STORE_HTTP_INTERNAL_H

#include "base/buffer.h"
#include "store/store_internal.h"

enum {
    STORE_QUERY_MAX = 12,
    STORE_HEADERS_MAX = 24,
    STORE_SHA256_HEX_SIZE = 65,
    STORE_WRITE_ID_SIZE = 33,
    STORE_ERROR_CODE_SIZE = 64,
};

struct store_pair {
    struct pdb_text name, value;
};

/* Names are lower-case, values as they are sent; query names and values not yet encoded. Lists grow
 * by store_request_header and store_request_query. */
struct store_request {
    const char *method;
    struct pdb_text path; /* percent-encoded, from '/' on, with the endpoint's base path */
    struct store_pair query[STORE_QUERY_MAX], headers[STORE_HEADERS_MAX];
    unsigned query_count, header_count;

    /* The body: `body_len` bytes of the source from body_at on. NULL: none. */
    const struct store_source *body;
    uint64_t body_at, body_len;
    char body_sha256[STORE_SHA256_HEX_SIZE]; /* "": of an empty body */

    /* Where the body of a successful answer goes: one of them, or neither. A repeated request
     * begins `text` anew; `sink` goes on where it was, and the hook asks for what is missing. */
    struct store_sink *sink;
    struct buffer *text;
    bool ranged; /* only an answer that says that it begins at range_first is one */
    uint64_t range_first;

    bool patient; /* the server may compute for minutes before it answers, and may answer 200 first
                     and tell of an error afterwards */
    /* Called before the request is sent again after an attempt whose outcome is unknown (refused:
     * false), and when it was refused because of what the server has (409, 412; 404 of one that is
     * patient): libcurl itself repeats requests on connections that died idle, so that even a
     * first refusal may be of our own making. 0: send it (or: the refusal stands); 1: it is done,
     * the hook has the result; or an error. NULL: may simply be repeated. */
    int (*again)(void *arg, struct store_request *request, bool refused);
    void *arg;
};

/* The head of an answer. */
struct store_answer {
    long status;
    struct store_info info;
    bool has_length;
    uint64_t length; /* of the body */
    bool has_range;
    uint64_t range_first, range_total;
    uint32_t retry_after_ms;
    bool generation; /* info.etag is one; a later ETag does not replace it */
    char write_id[STORE_WRITE_ID_SIZE];
    char error_code
        [STORE_ERROR_CODE_SIZE]; /* "SlowDown", "BlobNotFound", ...; "" if there is none */
};

/* False: too many, or no memory (value.ptr is NULL). */
bool store_request_header(struct store_request *request, const char *name, struct pdb_text value);
bool store_request_query(struct store_request *request, const char *name, struct pdb_text value);

/* ---- text of requests ---- */

/* RFC 3986 unreserved bytes stay, others become %XX; '/' stays if `path`. */
void store_encode(struct buffer *to, struct pdb_text text, bool path);
/* name=value&... encoded and sorted by encoded name, as SigV4 wants it. Sorts `pairs`. */
void store_encode_query(struct buffer *to, struct store_pair *pairs, unsigned count);
void store_hex(const uint8_t *bytes, size_t len, char *text_out); /* with a NUL */

/* ---- store_sign.c: pure but for OpenSSL ---- */

int store_sha256(const void *bytes, size_t len, char hex_out[STORE_SHA256_HEX_SIZE]);
int store_hmac_sha256(const void *key, size_t key_len, const void *bytes, size_t len,
                      uint8_t out[32]);

/* Amazon's signature version 4, and Google's, which differs only in names. */
struct store_sign_v4 {
    const char *algorithm;     /* "AWS4-HMAC-SHA256" */
    const char *key_prefix;    /* "AWS4" */
    const char *service;       /* "s3" */
    const char *terminator;    /* "aws4_request" */
    const char *header_prefix; /* "x-amz-" */
};
extern const struct store_sign_v4 store_sign_aws, store_sign_google;

/* Adds the headers of date, payload hash, token and authorization. `request` has its `host` header.
 * `time_us`: now. 0, PDB_RESOURCE_EXHAUSTED or PDB_INTERNAL (OpenSSL). */
int store_sign_request_v4(const struct store_sign_v4 *names, const struct store_credentials *c,
                          const char *region, int64_t time_us, struct arena *arena,
                          struct store_request *request);
/* Azure's SharedKey. Adds authorization; x-ms-date and x-ms-version are there. */
int store_sign_request_azure(const char *account, const struct store_credentials *c,
                             struct arena *arena, struct store_request *request);

/* ---- store_xml.c ---- */

/* What an answer in XML says, of the elements that we know; texts lie in `arena`. */
struct store_xml {
    struct pdb_text root;
    struct pdb_text error_code;
    struct pdb_text next;      /* continuation token or marker; "" at the end */
    struct pdb_text upload_id; /* of a new multipart upload */
    struct store_object *objects;
    size_t object_count;
};

/* An etag without the quotes that surround it in headers and in S3's XML, "" if it is too long. */
void store_etag_set(struct store_info *info, const char *text, size_t len);

/* 0, PDB_UNAVAILABLE (no XML, or not like this) or PDB_RESOURCE_EXHAUSTED. Keys are whole, with the
 * store's prefix. Generations are the etags if `generations`. */
int store_xml_parse(struct pdb_text text, bool generations, struct arena *arena,
                    struct store_xml *xml_out);

/* ---- store_http.c: one exchange ---- */

enum store_outcome {
    STORE_ANSWERED, /* there is an answer, of any status */
    STORE_NOT_SENT, /* no connection: nothing can have happened */
    STORE_CUT_OFF,  /* sent, at least in part, but no whole answer: the outcome is unknown */
    STORE_STOPPED,  /* by us: see the error that is returned */
};

/* Sends once, with a fresh signature. Returns 0 or, for STORE_STOPPED, the error. `why_out`: a
 * static text for outcomes without an answer. */
int store_http_once(struct store *store, const struct store_call *call,
                    const struct store_request *request, struct store_answer *answer_out,
                    enum store_outcome *outcome_out, const char **why_out);
void store_http_close(struct store *store);

/* Reads one header line of an answer. Pure. */
void store_answer_header(struct store_answer *answer, struct pdb_text name, struct pdb_text value);

/* ---- store_retry.c: until it is done ---- */

/* Sends until there is a final answer: 0 and a status of 2xx, or an error with the trail. With
 * `settled_out` not NULL, *settled_out says that the hook has the result and there is no answer. */
int store_http_send(struct store *store, const struct store_call *call,
                    struct store_request *request, struct store_answer *answer_out,
                    bool *settled_out);

/* ---- what the dialects share: store_remote.c ---- */

/* Checksums of a source or of a part of it, in the forms that headers want. */
struct store_digest {
    uint32_t crc32c;
    char crc32c_base64[9];              /* of its big-endian bytes */
    char sha256[STORE_SHA256_HEX_SIZE]; /* "" unless asked for */
    char md5_base64[25];                /* "" unless asked for, or where OpenSSL has none */
};

enum store_digest_kind { STORE_DIGEST_CRC32C, STORE_DIGEST_SHA256, STORE_DIGEST_MD5 };

/* How a dialect says the same things. */
struct store_dialect {
    const char *meta_prefix;                  /* "x-amz-meta-" */
    const char *absent_header, *absent_value; /* condition of absence */
    const char *match_header;      /* condition of an etag, in puts and in gets that go on */
    bool etag_is_generation;       /* Google: conditions compare generations */
    bool parts_with_condition;     /* an upload in parts takes conditions */
    enum store_digest_kind digest; /* what bodies are signed or checked with, besides crc32c */
    uint64_t put_bytes_max;        /* largest body of one put */
    uint64_t part_bytes_min;
    unsigned parts_max;
    /* Adds what authorises the request. */
    int (*sign)(struct store *store, const struct store_credentials *c, struct arena *arena,
                struct store_request *request);
    /* Headers that only this dialect wants on a put of a whole object. False: no memory. */
    bool (*put_headers)(struct arena *arena, const struct store_digest *digest,
                        struct store_request *request);
    int (*put_parts)(struct store *store, const struct store_call *call, struct arena *arena,
                     const struct store_put_request *put, const struct store_source *source,
                     uint32_t crc, struct store_info *info_out);
    int (*list_page)(struct store *store, const struct store_call *call, struct arena *arena,
                     const struct store_list_request *request, struct pdb_text token,
                     struct store_xml *page_out);
};
extern const struct store_dialect store_dialect_s3, store_dialect_google, store_dialect_azure;
const struct store_dialect *store_dialect_of(const struct store *store);
extern const struct store_ops store_remote_ops;

/* A request of an object, or of the bucket or container with `key` "". False: no memory. */
bool store_request_init(const struct store *store, struct arena *arena, const char *method,
                        struct pdb_text key, struct store_request *request_out);
/* The body: a part of the source with its digest. */
void store_request_body(struct store_request *request, const struct store_source *source,
                        uint64_t at, uint64_t len, const struct store_digest *digest);
int store_digest(const struct store_source *source, uint64_t at, uint64_t len,
                 enum store_digest_kind kind, const struct store_call *call,
                 struct store_digest *digest_out);

/* A write whose outcome may have to be looked up: it carries a random id in its metadata. */
struct store_settlement {
    struct store *store;
    const struct store_call *call;
    const struct store_put_request *put;
    char write_id[STORE_WRITE_ID_SIZE];
    struct store_info info; /* of the object, once it is known that it is ours */
};
int store_settlement_begin(struct store *store, const struct store_call *call,
                           const struct store_put_request *put, struct store_settlement *s_out);
/* A hook of struct store_request. arg: the settlement. */
int store_settle(void *arg, struct store_request *request, bool refused);
/* What a put says of its object: type, checksum, write id. False: no memory. */
bool store_put_metadata(const struct store *store, struct arena *arena, uint32_t crc,
                        const char *write_id, struct store_request *request);
/* The condition of a put as a header. False: no memory. */
bool store_put_condition(const struct store *store, struct arena *arena,
                         const struct store_put_request *put, struct store_request *request);
/* Size and number of the parts of an upload of `len` bytes. */
uint64_t store_part_bytes(const struct store *store, uint64_t len);
int store_no_memory(const struct store_call *call);

#endif
