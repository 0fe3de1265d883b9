/* sq8.c: codes of one byte a dimension. */
#include "index/quantize_internal.h"

#include <string.h>

#include "base/no_libc_heap.h"

void sq8_encode(const struct quantizer *quantizer, const float *centred, const struct codes *codes,
                uint32_t row)
{
    int8_t *code = (int8_t *)codes->bytes + (size_t)row * quantizer->stride;
    codes->norms[row] = vecmath_s8_set(centred, quantizer->columns, code);
    memset(code + quantizer->columns, 0, quantizer->stride - quantizer->columns);
}
