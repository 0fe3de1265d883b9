/* The one list of errors. The enum, the text, the HTTP status and the gRPC code all come from it,
 * so that no door can answer differently from another. Names and numbers are those of
 * google.rpc.Code. */
#ifndef PROXIMADB_ERROR_H
#define PROXIMADB_ERROR_H

#include <proximadb/export.h>

/* X(name, gRPC code, HTTP status, text). A function that can fail returns 0 or the negative enum
 * value. */
#define PDB_ERRORS(X)                                                                              \
    X(CANCELLED, 1, 499, "the caller gave up")                                                     \
    X(INVALID_ARGUMENT, 3, 400, "invalid argument")                                                \
    X(DEADLINE_EXCEEDED, 4, 504, "deadline exceeded")                                              \
    X(NOT_FOUND, 5, 404, "not found")                                                              \
    X(ALREADY_EXISTS, 6, 409, "already exists")                                                    \
    X(PERMISSION_DENIED, 7, 403, "permission denied")                                              \
    X(RESOURCE_EXHAUSTED, 8, 429, "resource exhausted")                                            \
    X(FAILED_PRECONDITION, 9, 412, "failed precondition")                                          \
    X(OUT_OF_RANGE, 11, 400, "out of range")                                                       \
    X(UNIMPLEMENTED, 12, 501, "not implemented")                                                   \
    X(INTERNAL, 13, 500, "internal error")                                                         \
    X(UNAVAILABLE, 14, 503, "unavailable")                                                         \
    X(DATA_LOSS, 15, 500, "data loss")                                                             \
    X(UNAUTHENTICATED, 16, 401, "unauthenticated")

enum pdb_error_code {
    PDB_OK = 0,
#define PDB_ERROR_ENUM(name, grpc, http, text) PDB_##name = -(grpc),
    PDB_ERRORS(PDB_ERROR_ENUM)
#undef PDB_ERROR_ENUM
};

/* Of a code that is not in the list: "UNKNOWN", 500 and 2. */
PDB_API const char *pdb_error_name(int code);
PDB_API const char *pdb_error_text(int code);
PDB_API int pdb_error_http(int code);
PDB_API int pdb_error_grpc(int code);

#endif
