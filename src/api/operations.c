/* operations.c: the table of operations as data. */
#include "api/api.h"

const struct api_operation_row api_operation_rows[API_OPERATION_COUNT] = {
#define API_OPERATION_ROW(name, method, path, grpc, right) {#name, method, path, grpc, right},
    API_OPERATIONS(API_OPERATION_ROW)
#undef API_OPERATION_ROW
};
