/* store_xml.c: the XML that object stores answer with, read by expat.
 *
 * Only element names and their text matter; attributes and namespaces do not. One table says which
 * path of names means what, so that S3's, Google's and Azure's answers are one reader's work:
 *
 *     ListBucketResult / Contents / Key Size ETag LastModified Generation
 *                      / NextContinuationToken
 *     InitiateMultipartUploadResult / UploadId
 *     Error / Code
 *     EnumerationResults / Blobs / Blob / Name, Properties / Content-Length Etag Last-Modified
 *                        / NextMarker
 *
 * A document type declaration ends the reading: no server sends one, and entities are how small
 * documents become large ones. Text, depth and the number of objects are limited. */
#include "store/store_http_internal.h"

#include "base/clock.h"

#include <curl/curl.h>
#include <expat.h>
#include <stdlib.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { DEPTH_MAX = 16, TEXT_MAX = 8192, OBJECTS_MAX = 10000, PATH_MAX_LEN = 128 };

enum field {
    FIELD_NONE,
    FIELD_OBJECT, /* ends one */
    FIELD_KEY,
    FIELD_SIZE,
    FIELD_ETAG,
    FIELD_TIME,
    FIELD_GENERATION,
    FIELD_NEXT,
    FIELD_UPLOAD,
    FIELD_ERROR,
};

static const struct {
    const char *path;
    enum field field;
} fields[] = {
    {"ListBucketResult/Contents", FIELD_OBJECT},
    {"ListBucketResult/Contents/Key", FIELD_KEY},
    {"ListBucketResult/Contents/Size", FIELD_SIZE},
    {"ListBucketResult/Contents/ETag", FIELD_ETAG},
    {"ListBucketResult/Contents/LastModified", FIELD_TIME},
    {"ListBucketResult/Contents/Generation", FIELD_GENERATION},
    {"ListBucketResult/NextContinuationToken", FIELD_NEXT},
    {"InitiateMultipartUploadResult/UploadId", FIELD_UPLOAD},
    {"Error/Code", FIELD_ERROR},
    {"EnumerationResults/Blobs/Blob", FIELD_OBJECT},
    {"EnumerationResults/Blobs/Blob/Name", FIELD_KEY},
    {"EnumerationResults/Blobs/Blob/Properties/Content-Length", FIELD_SIZE},
    {"EnumerationResults/Blobs/Blob/Properties/Etag", FIELD_ETAG},
    {"EnumerationResults/Blobs/Blob/Properties/Last-Modified", FIELD_TIME},
    {"EnumerationResults/NextMarker", FIELD_NEXT},
};

struct reader {
    XML_Parser parser;
    struct arena *arena;
    struct store_xml *xml;
    struct store_object object;
    size_t capacity;
    bool generations, has_size;
    int error;
    unsigned depth;
    char path[PATH_MAX_LEN];   /* of the open element; names that do not fit are none of ours */
    size_t path_len, overflow; /* overflow: depth at which the path ceased to fit */
    char text[TEXT_MAX];
    size_t text_len;
};

static void stop(struct reader *r, int error)
{
    if (r->error == 0)
        r->error = error;
    (void)XML_StopParser(r->parser, XML_FALSE);
}

static enum field field_of(const struct reader *r)
{
    if (r->overflow != 0)
        return FIELD_NONE;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strlen(fields[i].path) == r->path_len &&
            memcmp(fields[i].path, r->path, r->path_len) == 0)
            return fields[i].field;
    }
    return FIELD_NONE;
}

static void on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    struct reader *r = arg;
    size_t len = strlen(name);
    (void)attributes;
    if (++r->depth > DEPTH_MAX) {
        stop(r, PDB_UNAVAILABLE);
        return;
    }
    if (r->depth == 1) {
        r->xml->root = arena_copy_text(r->arena, name, len);
        if (r->xml->root.ptr == NULL)
            stop(r, PDB_RESOURCE_EXHAUSTED);
    }
    r->text_len = 0;
    if (r->overflow == 0 && r->path_len + len + 1 >= sizeof(r->path))
        r->overflow = r->depth;
    if (r->overflow != 0)
        return;
    if (r->path_len != 0)
        r->path[r->path_len++] = '/';
    memcpy(r->path + r->path_len, name, len);
    r->path_len += len;
    if (field_of(r) == FIELD_OBJECT) {
        r->object = (struct store_object){0};
        r->has_size = false;
    }
}

static void on_text(void *arg, const XML_Char *text, int len)
{
    struct reader *r = arg;
    if ((size_t)len > sizeof(r->text) - r->text_len) {
        stop(r, PDB_UNAVAILABLE);
        return;
    }
    memcpy(r->text + r->text_len, text, (size_t)len);
    r->text_len += (size_t)len;
}

static void keep_text(struct reader *r, struct pdb_text *to)
{
    *to = arena_copy_text(r->arena, r->text, r->text_len);
    if (to->ptr == NULL)
        stop(r, PDB_RESOURCE_EXHAUSTED);
}

void store_etag_set(struct store_info *info, const char *text, size_t len)
{
    if (len >= 2 && text[0] == '"' && text[len - 1] == '"') {
        text++;
        len -= 2;
    }
    if (len >= STORE_ETAG_SIZE || memchr(text, '\0', len) != NULL)
        len = 0;
    memcpy(info->etag, text, len);
    info->etag[len] = '\0';
}

/* RFC 3339 from S3, RFC 9110's format from Azure. */
static void keep_time(struct reader *r)
{
    int64_t time_us = 0;
    char text[64];
    if (clock_parse(r->text, r->text_len, &time_us) != 0 && r->text_len < sizeof(text)) {
        memcpy(text, r->text, r->text_len);
        text[r->text_len] = '\0';
        time_t seconds = curl_getdate(text, NULL);
        bool fits = seconds > 0 && (int64_t)seconds <= INT64_MAX / 1000000;
        time_us = fits ? (int64_t)seconds * 1000000 : 0;
    }
    r->object.info.modified_us = time_us;
}

static void keep_size(struct reader *r)
{
    uint64_t size = 0;
    bool ok = r->text_len != 0 && r->text_len <= 19;
    for (size_t i = 0; i < r->text_len && ok; i++) {
        ok = r->text[i] >= '0' && r->text[i] <= '9';
        size = size * 10 + (uint64_t)(r->text[i] - '0');
    }
    r->has_size = ok;
    r->object.info.size = size;
}

static void keep_object(struct reader *r)
{
    struct store_xml *x = r->xml;
    if (r->object.key.ptr == NULL || !r->has_size || x->object_count == OBJECTS_MAX) {
        stop(r, PDB_UNAVAILABLE);
        return;
    }
    if (x->object_count == r->capacity) {
        size_t capacity = r->capacity != 0 ? r->capacity * 2 : 64;
        struct store_object *grown = arena_grow(r->arena, x->objects, r->capacity * sizeof(*grown),
                                                capacity * sizeof(*grown));
        if (grown == NULL) {
            stop(r, PDB_RESOURCE_EXHAUSTED);
            return;
        }
        x->objects = grown;
        r->capacity = capacity;
    }
    x->objects[x->object_count++] = r->object;
}

static void keep_field(struct reader *r)
{
    switch (field_of(r)) {
    case FIELD_NONE:
        break;
    case FIELD_OBJECT:
        keep_object(r);
        break;
    case FIELD_KEY:
        keep_text(r, &r->object.key);
        break;
    case FIELD_SIZE:
        keep_size(r);
        break;
    case FIELD_ETAG:
        if (!r->generations)
            store_etag_set(&r->object.info, r->text, r->text_len);
        break;
    case FIELD_GENERATION:
        if (r->generations)
            store_etag_set(&r->object.info, r->text, r->text_len);
        break;
    case FIELD_TIME:
        keep_time(r);
        break;
    case FIELD_NEXT:
        keep_text(r, &r->xml->next);
        break;
    case FIELD_UPLOAD:
        keep_text(r, &r->xml->upload_id);
        break;
    case FIELD_ERROR:
        keep_text(r, &r->xml->error_code);
        break;
    }
}

static void on_end(void *arg, const XML_Char *name)
{
    struct reader *r = arg;
    if (r->error != 0)
        return;
    keep_field(r);
    r->text_len = 0;
    if (r->overflow == r->depth)
        r->overflow = 0;
    else if (r->overflow == 0)
        r->path_len -= strlen(name) + (r->depth > 1 ? 1 : 0);
    r->depth--;
}

static void on_doctype(void *arg, const XML_Char *name, const XML_Char *system_id,
                       const XML_Char *public_id, int internal_subset)
{
    (void)name;
    (void)system_id;
    (void)public_id;
    (void)internal_subset;
    stop(arg, PDB_UNAVAILABLE);
}

int store_xml_parse(struct pdb_text text, bool generations, struct arena *arena,
                    struct store_xml *xml_out)
{
    struct store_xml xml = {0};
    struct reader *r = arena_new(arena, struct reader);
    XML_Parser parser = r != NULL ? XML_ParserCreate(NULL) : NULL;
    if (parser == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    r->parser = parser;
    r->arena = arena;
    r->xml = &xml;
    r->generations = generations;
    XML_SetUserData(parser, r);
    XML_SetElementHandler(parser, on_start, on_end);
    XML_SetCharacterDataHandler(parser, on_text);
    XML_SetStartDoctypeDeclHandler(parser, on_doctype);
    enum XML_Status status =
        text.len <= INT32_MAX ? XML_Parse(parser, text.ptr, (int)text.len, 1) : XML_STATUS_ERROR;
    int rc = r->error;
    if (rc == 0 && status != XML_STATUS_OK)
        rc = XML_GetErrorCode(parser) == XML_ERROR_NO_MEMORY ? PDB_RESOURCE_EXHAUSTED
                                                             : PDB_UNAVAILABLE;
    XML_ParserFree(parser);
    if (rc == 0)
        *xml_out = xml;
    return rc;
}
