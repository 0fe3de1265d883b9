/* store_credentials.c: who we are to a server.
 *
 * From the environment, or from a file in the form of the AWS tools' (sections in brackets, `name =
 * value`), which is read again when it changes, so that keys can be rotated under a running server.
 * Names are the same in both, in capitals in the environment:
 *
 *     s3   aws_access_key_id, aws_secret_access_key, aws_session_token
 *     gs   google_hmac_access_id, google_hmac_secret; or google_oauth_access_token
 *     az   azure_storage_key; or azure_storage_sas_token
 *
 * No text here ever shows a value. Rejected: asking a cloud's metadata service; its address is
 * link-local, and a server that asks it for keys can be made to ask for others. */
#include "store/store_internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <string.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum { FILE_BYTES_MAX = 64 * 1024, NAME_MAX_LEN = 64 };

/* Where a name's value goes. */
struct slot {
    const char *name; /* as in a file */
    char *to;
    size_t size;
};

enum { SLOTS = 3 };

static void slots_of(enum store_scheme scheme, struct store_credentials *c,
                     struct slot slots[SLOTS])
{
    static const char *const names[][SLOTS] = {
        [STORE_S3] = {"aws_access_key_id", "aws_secret_access_key", "aws_session_token"},
        [STORE_GS] = {"google_hmac_access_id", "google_hmac_secret", "google_oauth_access_token"},
        [STORE_AZ] = {"", "azure_storage_key", "azure_storage_sas_token"},
    };
    slots[0] = (struct slot){names[scheme][0], c->id, sizeof(c->id)};
    slots[1] = (struct slot){names[scheme][1], c->secret, sizeof(c->secret)};
    slots[2] = (struct slot){names[scheme][2], c->token, sizeof(c->token)};
}

/* Secrets travel in header lines: nothing that could end one. */
static int put_slot(const struct slot *slot, struct pdb_text value, struct trail *trail)
{
    bool ok = value.len < slot->size;
    for (size_t i = 0; i < value.len && ok; i++)
        ok = value.ptr[i] > 0x20 && value.ptr[i] < 0x7f;
    if (!ok)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "credentials: '%s' is malformed", slot->name);
    memcpy(slot->to, value.ptr, value.len);
    slot->to[value.len] = '\0';
    return 0;
}

/* Enough to sign with? A leading '?' of a SAS is what portals copy. */
static int complete(const struct store_url *url, struct store_credentials *c, struct trail *trail)
{
    if (url->scheme == STORE_AZ && c->token[0] == '?')
        memmove(c->token, c->token + 1, strlen(c->token));
    bool keys = c->secret[0] != '\0' && (c->id[0] != '\0' || url->scheme == STORE_AZ);
    bool bearer = url->scheme != STORE_S3 && c->token[0] != '\0';
    if (keys || bearer)
        return 0;
    static const char *const wanted[] = {
        [STORE_S3] = "aws_access_key_id and aws_secret_access_key",
        [STORE_GS] = "google_hmac_access_id and google_hmac_secret, or google_oauth_access_token",
        [STORE_AZ] = "azure_storage_key or azure_storage_sas_token",
    };
    return trail_add(trail, PDB_INVALID_ARGUMENT,
                     "no credentials: needs %s, in the environment (in capitals) or in the file of "
                     "the option 'credentials'; or anonymous=true",
                     wanted[url->scheme]);
}

static struct pdb_text trimmed(struct pdb_text t)
{
    while (t.len != 0 && isspace((unsigned char)t.ptr[0])) {
        t.ptr++;
        t.len--;
    }
    while (t.len != 0 && isspace((unsigned char)t.ptr[t.len - 1]))
        t.len--;
    return t;
}

int store_credentials_parse(const struct store_url *url, struct pdb_text text, struct trail *trail,
                            struct store_credentials *credentials_out)
{
    struct slot slots[SLOTS];
    struct pdb_text profile = text_of(url->profile[0] != '\0' ? url->profile : "default");
    bool ours = true; /* lines before the first section */
    *credentials_out = (struct store_credentials){0};
    slots_of(url->scheme, credentials_out, slots);
    while (text.len != 0) {
        const char *end = memchr(text.ptr, '\n', text.len);
        size_t len = end != NULL ? (size_t)(end - text.ptr) : text.len;
        struct pdb_text line = trimmed((struct pdb_text){text.ptr, len});
        size_t skip = end != NULL ? len + 1 : len;
        text = (struct pdb_text){text.ptr + skip, text.len - skip};
        if (line.len == 0 || line.ptr[0] == '#' || line.ptr[0] == ';')
            continue;
        if (line.ptr[0] == '[' && line.ptr[line.len - 1] == ']') {
            ours = text_equal(trimmed((struct pdb_text){line.ptr + 1, line.len - 2}), profile);
            continue;
        }
        const char *equals = memchr(line.ptr, '=', line.len);
        if (!ours || equals == NULL)
            continue;
        size_t name_len = (size_t)(equals - line.ptr);
        struct pdb_text name = trimmed((struct pdb_text){line.ptr, name_len});
        struct pdb_text value = trimmed((struct pdb_text){equals + 1, line.len - name_len - 1});
        for (size_t i = 0; i < SLOTS; i++) {
            int rc =
                text_equal(name, text_of(slots[i].name)) ? put_slot(&slots[i], value, trail) : 0;
            if (rc != 0)
                return rc;
        }
    }
    return complete(url, credentials_out, trail);
}

static int from_file(const struct store_url *url, struct trail *trail,
                     struct store_credentials *credentials_out)
{
    char text[FILE_BYTES_MAX];
    size_t len = 0;
    ssize_t n = 0;
    int file = open(url->credentials_path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return store_errno(trail, errno, "credentials file");
    do {
        n = read(file, text + len, sizeof(text) - len);
        len += n > 0 ? (size_t)n : 0;
    } while ((n > 0 && len < sizeof(text)) || (n < 0 && errno == EINTR));
    int error = errno;
    (void)close(file);
    int rc = n < 0 ? store_errno(trail, error, "credentials file") : 0;
    if (rc == 0 && len == sizeof(text))
        rc = trail_add(trail, PDB_INVALID_ARGUMENT, "credentials file: longer than 64 KiB");
    if (rc == 0)
        rc = store_credentials_parse(url, (struct pdb_text){text, len}, trail, credentials_out);
    OPENSSL_cleanse(text, sizeof(text));
    return rc;
}

static int from_environment(const struct store_url *url, const char *(*environment)(const char *),
                            struct trail *trail, struct store_credentials *credentials_out)
{
    struct slot slots[SLOTS];
    char name[NAME_MAX_LEN];
    *credentials_out = (struct store_credentials){0};
    slots_of(url->scheme, credentials_out, slots);
    for (size_t i = 0; i < SLOTS; i++) {
        size_t len = strlen(slots[i].name);
        for (size_t at = 0; at <= len; at++)
            name[at] = (char)toupper((unsigned char)slots[i].name[at]);
        const char *value = len != 0 ? environment(name) : NULL;
        int rc = value != NULL ? put_slot(&slots[i], text_of(value), trail) : 0;
        if (rc != 0)
            return rc;
    }
    return complete(url, credentials_out, trail);
}

int store_credentials_read(const struct store_url *url,
                           const char *(*environment)(const char *name), struct trail *trail,
                           struct store_credentials *credentials_out)
{
    struct store_credentials fresh = {0};
    int rc = 0;
    if (url->anonymous)
        rc = 0;
    else if (url->credentials_path[0] != '\0')
        rc = from_file(url, trail, &fresh);
    else
        rc = from_environment(url, environment, trail, &fresh);
    if (rc == 0)
        *credentials_out = fresh;
    OPENSSL_cleanse(&fresh, sizeof(fresh));
    return rc;
}
