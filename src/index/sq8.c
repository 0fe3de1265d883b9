/* sq8.c: codes of one byte a dimension. */
#include "index/quantize_internal.h"

#include <string.h>

#include "base/no_libc_heap.h"

void sq8_encode(const struct quantizer *quantizer, const float *centred, const struct codes *codes,
                uint32_t row)
{
    int8_t *code = (int8_t *)codes->bytes + (size_t)row * quantizer->stride;
    uint32_t norm = 0;
    for (uint32_t i = 0; i < quantizer->columns; i++) {
        float value = centred[i] < 127.0f ? centred[i] : 127.0f;
        value = value > -127.0f ? value : -127.0f;
        /* nearest integer: what is added puts the fraction beyond float32's digits */
        int32_t number = (int32_t)((value + 0x1.8p23f) - 0x1.8p23f);
        code[i] = (int8_t)number;
        norm += (uint32_t)(number * number);
    }
    memset(code + quantizer->columns, 0, quantizer->stride - quantizer->columns);
    codes->norms[row] = norm;
}
