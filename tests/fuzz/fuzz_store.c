/* What stores read: a server's XML and header lines, URLs and credentials files of the
 * configuration. The first byte chooses the reader. Whatever is accepted obeys the rules that
 * others rely on: keys that are shown are keys, hosts are none of the forbidden ones, texts end. */
#include "base/assert.h"
#include "store/store_http_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *nothing(const char *name)
{
    (void)name;
    return NULL;
}

static void read_xml(struct pdb_text text)
{
    struct arena arena = {0};
    struct store_xml xml;
    arena_init(&arena, 1 << 24);
    if (store_xml_parse(text, text.len % 2 != 0, &arena, &xml) == 0) {
        for (size_t i = 0; i < xml.object_count; i++) {
            ASSERT(xml.objects[i].key.ptr != NULL);
            ASSERT(memchr(xml.objects[i].info.etag, '\0', STORE_ETAG_SIZE) != NULL);
        }
    }
    arena_dispose(&arena);
}

static void read_headers(struct pdb_text text)
{
    struct store_answer answer = {0};
    while (text.len != 0) {
        const char *end = memchr(text.ptr, '\n', text.len);
        size_t len = end != NULL ? (size_t)(end - text.ptr) : text.len;
        const char *colon = memchr(text.ptr, ':', len);
        if (colon != NULL) {
            size_t name_len = (size_t)(colon - text.ptr);
            store_answer_header(&answer, (struct pdb_text){text.ptr, name_len},
                                (struct pdb_text){colon + 1, len - name_len - 1});
        }
        size_t skip = end != NULL ? len + 1 : len;
        text = (struct pdb_text){text.ptr + skip, text.len - skip};
    }
    ASSERT(!answer.has_range || answer.range_first < answer.range_total);
    ASSERT(memchr(answer.write_id, '\0', sizeof(answer.write_id)) != NULL);
    ASSERT(memchr(answer.error_code, '\0', sizeof(answer.error_code)) != NULL);
    ASSERT(answer.retry_after_ms <= 30000);
}

static void read_url(struct pdb_text text)
{
    struct store_url url;
    struct store_credentials credentials;
    size_t line = 0;
    while (line < text.len && text.ptr[line] != '\n')
        line++;
    if (store_url_parse((struct pdb_text){text.ptr, line}, nothing, NULL, &url) != 0)
        return;
    bool remote = url.scheme == STORE_S3 || url.scheme == STORE_GS || url.scheme == STORE_AZ;
    if (!remote)
        return;
    ASSERT(url.host[0] != '\0' && !store_host_forbidden(url.host));
    ASSERT(!url.http || url.allow_http || store_host_loopback(url.host));
    size_t prefix_len = strlen(url.prefix);
    ASSERT(prefix_len == 0 || store_key_valid((struct pdb_text){url.prefix, prefix_len - 1}));
    if (line < text.len)
        (void)store_credentials_parse(
            &url, (struct pdb_text){text.ptr + line + 1, text.len - line - 1}, NULL, &credentials);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct pdb_text text = {(const char *)data + 1, size - 1};
    switch (data[0] % 3) {
    case 0:
        read_xml(text);
        break;
    case 1:
        read_headers(text);
        break;
    default:
        read_url(text);
        break;
    }
    return 0;
}
