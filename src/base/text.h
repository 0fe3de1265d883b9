/* Text is a pointer and a length (struct pdb_text, the public type): never assumed to end with
 * NUL. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <proximadb/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define TEXT_LIT(literal) ((struct pdb_text){(literal), sizeof(literal) - 1})
/* For printf: "%.*s", TEXT_ARG(t) */
#define TEXT_ARG(t) (int)(t).len, ((t).len != 0 ? (t).ptr : "")

static inline struct pdb_text text_of(const char *nul_terminated)
{
    return (struct pdb_text){nul_terminated, strlen(nul_terminated)};
}

static inline bool text_equal(struct pdb_text a, struct pdb_text b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Bytewise order, shorter first on a common prefix: <0, 0, >0. */
static inline int text_compare(struct pdb_text a, struct pdb_text b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common != 0 ? memcmp(a.ptr, b.ptr, common) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static inline bool text_starts_with(struct pdb_text t, struct pdb_text prefix)
{
    return t.len >= prefix.len && (prefix.len == 0 || memcmp(t.ptr, prefix.ptr, prefix.len) == 0);
}

#endif
