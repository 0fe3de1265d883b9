/* validate_vector.c: one vector of a request against its field, and what becomes of it: the form
 * that rows hold (float32, halves, signed bytes, packed bits), or float32 for a query.
 *
 * Narrowing is the only place where a value changes: a float32 becomes the nearest half, ties to
 * even. What no half can hold, and what is no integer of 8 bits, is refused with its place: a
 * vector that was cut to fit would be found in the wrong neighbourhood without a word. A query is
 * used as it came, since it is compared, not kept. */
#include "base/bytes.h"
#include "engine/call.h"
#include "engine/validate.h"
#include "segment/scan.h"

#include <stdio.h>
#include <string.h>
#include <vecmath/elements.h>

#include "base/no_libc_heap.h"

static const char *const element_names[] = {[PDB_ELEMENT_FLOAT32] = "float32",
                                            [PDB_ELEMENT_FLOAT16] = "float16",
                                            [PDB_ELEMENT_INT8] = "int8"};

/* ---- places ---- */

static void place_path(struct validate_place place, const char *what,
                       char path_out[VALIDATE_PATH_BYTES])
{
    if (place.list == NULL || place.list[0] == '\0')
        (void)snprintf(path_out, VALIDATE_PATH_BYTES, "%s", what);
    else
        (void)snprintf(path_out, VALIDATE_PATH_BYTES, "%s[%u].%s", place.list, place.index, what);
}

void validate_vector_path(struct validate_place place, struct pdb_text field,
                          char path_out[VALIDATE_PATH_BYTES])
{
    char what[VALIDATE_PATH_BYTES / 2 + 64];
    if (field.len == 0)
        (void)snprintf(what, sizeof(what), "vector");
    else
        (void)snprintf(what, sizeof(what), "vectors.%.*s", CALL_TEXT(field));
    place_path(place, what, path_out);
}

/* ---- checks ---- */

/* What a check needs; a path is only made for a message. */
struct subject {
    const struct pdb_field *field;
    const struct pdb_vector *vector;
    struct validate_place place;
    struct trail *trail;
    char path[VALIDATE_PATH_BYTES];
};

static const char *path_of(struct subject *s)
{
    validate_vector_path(s->place, s->field->name, s->path);
    return s->path;
}

static int check_dimension(struct subject *s, uint32_t count)
{
    if (count == s->field->dimension)
        return 0;
    return trail_add(s->trail, PDB_INVALID_ARGUMENT, "%s: dimension %u, expected %u", path_of(s),
                     count, s->field->dimension);
}

static int check_bits(struct subject *s)
{
    uint32_t bytes = (s->field->dimension + 7) / 8;
    if (s->vector->element != PDB_ELEMENT_FLOAT32)
        return trail_add(s->trail, PDB_INVALID_ARGUMENT,
                         "%s: %s values, but the metric hamming takes packed bits", path_of(s),
                         element_names[s->vector->element]);
    if (s->vector->count != bytes)
        return trail_add(s->trail, PDB_INVALID_ARGUMENT, "%s: %u bytes of packed bits, expected %u",
                         path_of(s), s->vector->count, bytes);
    unsigned spare = bytes * 8 - s->field->dimension;
    const unsigned char *bits = s->vector->values;
    if (spare != 0 && bits[bytes - 1] >> (8 - spare) != 0)
        return trail_add(s->trail, PDB_INVALID_ARGUMENT,
                         "%s: the spare bits of the last byte must be 0", path_of(s));
    return 0;
}

static int not_finite(struct subject *s, size_t at, bool nan)
{
    return trail_add(s->trail, PDB_INVALID_ARGUMENT, "%s[%zu]: %s is not allowed", path_of(s), at,
                     nan ? "NaN" : "infinity");
}

/* Float32 values of the right number, all finite. */
static int check_floats(struct subject *s)
{
    uint32_t count = s->vector->count;
    if (s->vector->form == PDB_VECTOR_BYTES) {
        if (count % 4 != 0)
            return trail_add(s->trail, PDB_INVALID_ARGUMENT,
                             "%s: %u bytes are no whole number of float32 values", path_of(s),
                             count);
        count /= 4;
    }
    int rc = check_dimension(s, count);
    if (rc < 0)
        return rc;
    size_t bad = vecmath_first_nonfinite(s->vector->values, count);
    if (bad == count)
        return 0;
    uint32_t raw = bytes_get_u32((const char *)s->vector->values + bad * 4);
    return not_finite(s, bad, (raw & 0x007fffffu) != 0);
}

/* Values as the field stores them: of float16 or int8. */
static int check_stored(struct subject *s)
{
    enum pdb_element_type element = s->vector->element;
    if ((unsigned)element > PDB_ELEMENT_INT8 || element != s->field->element)
        return trail_add(s->trail, PDB_INVALID_ARGUMENT,
                         "%s: %s values, but the field has %s; give those, or float32", path_of(s),
                         (unsigned)element > PDB_ELEMENT_INT8 ? "unknown" : element_names[element],
                         element_names[s->field->element]);
    uint32_t width = element == PDB_ELEMENT_FLOAT16 ? 2 : 1, count = s->vector->count / width;
    if (s->vector->count % width != 0)
        return trail_add(s->trail, PDB_INVALID_ARGUMENT,
                         "%s: %u bytes are no whole number of float16 values", path_of(s),
                         s->vector->count);
    int rc = check_dimension(s, count);
    if (rc < 0)
        return rc;
    size_t bad = scan_first_nonfinite(s->vector->values, count, element);
    if (bad == count)
        return 0;
    uint16_t raw = bytes_get_u16((const char *)s->vector->values + bad * 2);
    return not_finite(s, bad, (raw & 0x03ffu) != 0);
}

/* ---- the forms of rows ---- */

static int no_memory(struct subject *s)
{
    return trail_add(s->trail, PDB_RESOURCE_EXHAUSTED, "out of memory for this request");
}

static int pack_bits(struct subject *s, struct arena *arena, const void **values_out)
{
    unsigned char *bits = arena_calloc(arena, 1, (s->field->dimension + 7) / 8);
    if (bits == NULL)
        return no_memory(s);
    const char *values = s->vector->values;
    for (uint32_t i = 0; i < s->field->dimension; i++) {
        uint32_t raw = bytes_get_u32(values + (size_t)i * 4);
        if (raw == 0x3f800000u) /* 1.0f */
            bits[i / 8] |= (unsigned char)(1u << (i % 8));
        else if ((raw & 0x7fffffffu) != 0)
            return trail_add(s->trail, PDB_INVALID_ARGUMENT,
                             "%s[%u]: expected 0 or 1, as the metric is hamming", path_of(s), i);
    }
    *values_out = bits;
    return 0;
}

static float value_at(const struct pdb_vector *vector, size_t i)
{
    float value;
    memcpy(&value, (const char *)vector->values + 4 * i, sizeof(value));
    return value;
}

static int narrow(struct subject *s, struct arena *arena, const void **values_out)
{
    uint32_t count = s->field->dimension;
    bool half = s->field->element == PDB_ELEMENT_FLOAT16;
    size_t bad = half ? vecmath_first_beyond_f16(s->vector->values, count)
                      : vecmath_first_not_i8(s->vector->values, count);
    if (bad != count)
        return trail_add(s->trail, PDB_INVALID_ARGUMENT,
                         half ? "%s[%zu]: %g is out of range of float16, which ends at 65504"
                              : "%s[%zu]: %g is no integer from -128 to 127, as int8 wants",
                         path_of(s), bad, (double)value_at(s->vector, bad));
    void *stored = arena_alloc(arena, (size_t)count * (half ? 2 : 1));
    if (stored == NULL)
        return no_memory(s);
    if (half)
        vecmath_narrow_f16(s->vector->values, count, stored);
    else
        vecmath_narrow_i8(s->vector->values, count, stored);
    *values_out = stored;
    return 0;
}

static bool gives_stored(const struct pdb_vector *vector)
{
    return vector->form == PDB_VECTOR_BYTES && vector->element != PDB_ELEMENT_FLOAT32;
}

int validate_vector(const struct pdb_field *field, const struct pdb_vector *vector,
                    struct validate_place place, struct arena *arena, const void **values_out,
                    struct trail *trail)
{
    struct subject s = {.field = field, .vector = vector, .place = place, .trail = trail};
    bool bits = field->metric == PDB_METRIC_HAMMING;
    bool as_is = (bits && vector->form == PDB_VECTOR_BYTES) || gives_stored(vector);
    int rc = bits && vector->form == PDB_VECTOR_BYTES ? check_bits(&s)
             : gives_stored(vector)                   ? check_stored(&s)
                                                      : check_floats(&s);
    if (rc < 0)
        return rc;
    if (!as_is && bits)
        return pack_bits(&s, arena, values_out);
    if (!as_is && field->element != PDB_ELEMENT_FLOAT32)
        return narrow(&s, arena, values_out);
    *values_out = vector->values;
    return 0;
}

int validate_query_vector(const struct pdb_field *field, const struct pdb_vector *vector,
                          struct validate_place place, struct arena *arena, const void **values_out,
                          struct trail *trail)
{
    struct pdb_field wanted = *field;
    if (!gives_stored(vector)) {
        wanted.element = PDB_ELEMENT_FLOAT32;
        return validate_vector(&wanted, vector, place, arena, values_out, trail);
    }
    const void *stored = NULL;
    int rc = validate_vector(&wanted, vector, place, arena, &stored, trail);
    if (rc < 0)
        return rc;
    float *values = arena_array(arena, float, field->dimension);
    if (values == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "out of memory for this request");
    *values_out = scan_widened(stored, field->dimension, field->element, values);
    return 0;
}

/* ---- back ---- */

void pdb_vector_values(const struct pdb_field *field, const void *vector, float *values_out)
{
    uint32_t count = field->dimension;
    if (field->metric == PDB_METRIC_HAMMING) {
        for (uint32_t i = 0; i < count; i++)
            values_out[i] = (float)(((const uint8_t *)vector)[i / 8] >> (i % 8) & 1);
    } else if (field->element == PDB_ELEMENT_FLOAT32) {
        memcpy(values_out, vector, (size_t)count * sizeof(float));
    } else {
        (void)scan_widened(vector, count, field->element, values_out);
    }
}
