/* error.c: the texts and numbers of the one error list. Everything is expanded from PDB_ERRORS, so
 * a new error is one line in proximadb/error.h. The lookups are switches: the compiler proves that
 * no entry is missing or double. */
#include <proximadb/error.h>

const char *pdb_error_name(int code)
{
    if (code == PDB_OK)
        return "OK";
    switch (code) {
#define ERROR_CASE(name, grpc, http, text)                                                         \
    case PDB_##name:                                                                               \
        return #name;
        PDB_ERRORS(ERROR_CASE)
#undef ERROR_CASE
    default:
        return "UNKNOWN";
    }
}

const char *pdb_error_text(int code)
{
    if (code == PDB_OK)
        return "ok";
    switch (code) {
#define ERROR_CASE(name, grpc, http, text)                                                         \
    case PDB_##name:                                                                               \
        return text;
        PDB_ERRORS(ERROR_CASE)
#undef ERROR_CASE
    default:
        return "unknown error";
    }
}

int pdb_error_http(int code)
{
    if (code == PDB_OK)
        return 200;
    switch (code) {
#define ERROR_CASE(name, grpc, http, text)                                                         \
    case PDB_##name:                                                                               \
        return http;
        PDB_ERRORS(ERROR_CASE)
#undef ERROR_CASE
    default:
        return 500;
    }
}

int pdb_error_grpc(int code)
{
    if (code == PDB_OK)
        return 0;
    switch (code) {
#define ERROR_CASE(name, grpc, http, text)                                                         \
    case PDB_##name:                                                                               \
        return grpc;
        PDB_ERRORS(ERROR_CASE)
#undef ERROR_CASE
    default:
        return 2;
    }
}
