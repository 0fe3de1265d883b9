/* doc_json.c: documents from JSON text and back, for programs that embed the engine. */
#include "base/doc.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>

#include <proximadb/proximadb.h>

#include "base/no_libc_heap.h"

static int fail(struct pdb_error *error, int rc, const char *text)
{
    if (error != NULL) {
        *error = (struct pdb_error){.code = rc};
        (void)snprintf(error->text, sizeof(error->text), "%s", text);
    }
    return rc;
}

int pdb_doc_from_json(struct arena *arena, struct pdb_text json, struct pdb_text *doc_out,
                      struct pdb_error *error)
{
    struct trail trail = {0};
    struct json_reader reader;
    struct doc_builder *builder = doc_builder_new(arena, 0);
    if (builder == NULL)
        return fail(error, PDB_RESOURCE_EXHAUSTED, "out of memory");
    json_open(&reader, json.ptr, json.len, DOC_DEPTH_MAX, &trail);
    int rc = json_read_doc(&reader, builder);
    if (rc == 0)
        rc = json_finish(&reader);
    if (rc < 0)
        return fail(error, rc, trail.len != 0 ? trail.text : pdb_error_text(rc));
    const char *what = NULL;
    rc = doc_builder_finish(builder, doc_out, &what);
    return rc < 0 ? fail(error, rc, what != NULL ? what : pdb_error_text(rc)) : 0;
}

int pdb_doc_to_json(struct arena *arena, struct pdb_text doc, struct pdb_text *json_out)
{
    struct buffer out;
    if (doc.len != 0 && doc_validate(doc.ptr, doc.len) < 0)
        return PDB_INVALID_ARGUMENT;
    buffer_init_arena(&out, arena, 0);
    struct doc_value root = doc_root(doc.ptr, doc.len);
    doc_write_json(&out, &root);
    if (out.failed)
        return PDB_RESOURCE_EXHAUSTED;
    *json_out = (struct pdb_text){out.ptr, out.len};
    return 0;
}
