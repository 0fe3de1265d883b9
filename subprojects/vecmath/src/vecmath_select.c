/* vecmath_select.c: which implementation this process uses.
 *
 * The choice is made once, at start, into the library's only variables; later calls read them
 * without synchronisation. The candidates are ordered from best to worst. AVX-512 comes three times
 * under one name, because later processors have instructions of their own for products of bytes
 * (VNNI) and, later still, for counting bits (VPOPCNTDQ); NEON comes twice, because products of
 * bytes (SDOT) came later. The compiler's own detection is used: it also asks whether the operating
 * system saves the wide registers.
 */
#include <stdio.h>

#include "bits_internal.h"
#include "codes_internal.h"
#include "pq4_internal.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

/* Read by every call; written only by vecmath_select(), before threads start. */
static const struct vecmath_kernels *active = &vecmath_kernels_scalar;
static const struct vecmath_code_kernels *active_codes = &vecmath_codes_scalar;
static const struct vecmath_pq4_kernels *active_pq4 = &vecmath_pq4_scalar;
static bool selected;
static const struct vecmath_bits_kernels *active_bits = &vecmath_bits_scalar;

static const char *const known_names[] = {"scalar", "avx2", "avx512", "neon"};

struct candidate {
    const struct vecmath_kernels *kernels;
    const struct vecmath_code_kernels *codes;
    const struct vecmath_pq4_kernels *pq4;
    const struct vecmath_bits_kernels *bits;
    bool (*supported)(void);
};

static bool always(void)
{
    return true;
}

#if defined(__x86_64__)
/* Conversion of halves: the compilers have no common name for it. */
static bool has_f16c(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

static bool has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512(void)
{
    __builtin_cpu_init();
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static bool has_avx512_vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

static bool has_avx512_vnni_popcnt(void)
{
    return has_avx512_vnni() && __builtin_cpu_supports("avx512vpopcntdq");
}
#elif defined(__aarch64__)
/* The kernel's word for SDOT and UDOT; a build with older headers does not know its name. */
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1ul << 20)
#endif

static bool has_dotprod(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}
#endif

/* Best first. NEON is part of every AArch64 processor. */
static const struct candidate candidates[] = {
#if defined(__x86_64__)
    {&vecmath_kernels_avx512_popcnt, &vecmath_codes_avx512_vnni, &vecmath_pq4_avx512,
     &vecmath_bits_avx512_vnni, has_avx512_vnni_popcnt},
    {&vecmath_kernels_avx512, &vecmath_codes_avx512_vnni, &vecmath_pq4_avx512,
     &vecmath_bits_avx512_vnni, has_avx512_vnni},
    {&vecmath_kernels_avx512, &vecmath_codes_avx512, &vecmath_pq4_avx512, &vecmath_bits_avx512,
     has_avx512},
    {&vecmath_kernels_avx2, &vecmath_codes_avx2, &vecmath_pq4_avx2, &vecmath_bits_avx2, has_avx2},
#elif defined(__aarch64__)
    {&vecmath_kernels_neon, &vecmath_codes_neon_dotprod, &vecmath_pq4_neon,
     &vecmath_bits_neon_dotprod, has_dotprod},
    {&vecmath_kernels_neon, &vecmath_codes_neon, &vecmath_pq4_neon, &vecmath_bits_neon, always},
#endif
    {&vecmath_kernels_scalar, &vecmath_codes_scalar, &vecmath_pq4_scalar, &vecmath_bits_scalar,
     always},
};

enum { CANDIDATE_COUNT = sizeof candidates / sizeof candidates[0] };

const struct vecmath_kernels *vecmath_active(void)
{
    return active;
}

const struct vecmath_code_kernels *vecmath_active_codes(void)
{
    return active_codes;
}

const struct vecmath_pq4_kernels *vecmath_active_pq4(void)
{
    return active_pq4;
}

const struct vecmath_bits_kernels *vecmath_active_bits(void)
{
    return active_bits;
}

size_t vecmath_bits_tables(const struct vecmath_bits_kernels *tables_out[VECMATH_BITS_TABLES_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < CANDIDATE_COUNT; i++) {
        if (!candidates[i].supported())
            continue;
        if (count == 0 || tables_out[count - 1] != candidates[i].bits)
            tables_out[count++] = candidates[i].bits;
    }
    return count;
}

size_t vecmath_pq4_tables(const struct vecmath_pq4_kernels *tables_out[VECMATH_PQ4_TABLES_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < CANDIDATE_COUNT; i++) {
        if (!candidates[i].supported())
            continue;
        if (count == 0 || tables_out[count - 1] != candidates[i].pq4)
            tables_out[count++] = candidates[i].pq4;
    }
    return count;
}

size_t vecmath_code_tables(const struct vecmath_code_kernels *tables_out[VECMATH_CODE_TABLES_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < CANDIDATE_COUNT; i++) {
        if (!candidates[i].supported())
            continue;
        if (count == 0 || tables_out[count - 1] != candidates[i].codes)
            tables_out[count++] = candidates[i].codes;
    }
    return count;
}

bool vecmath_selected(void)
{
    return selected;
}

const char *vecmath_isa_name(void)
{
    return active->name;
}

size_t vecmath_isa_list(const char *names_out[VECMATH_ISA_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < CANDIDATE_COUNT; i++) {
        if (!candidates[i].supported())
            continue;
        const char *name = candidates[i].kernels->name;
        if (count > 0 && strcmp(names_out[count - 1], name) == 0)
            continue;
        names_out[count++] = name;
    }
    return count;
}

static bool is_known(const char *name)
{
    for (size_t i = 0; i < sizeof known_names / sizeof known_names[0]; i++)
        if (strcmp(known_names[i], name) == 0)
            return true;
    return false;
}

/* Explains the refusal of `name`, with what would be accepted here. */
static void explain(const char *name, bool known, char *error_out, size_t error_bytes)
{
    const char *names[VECMATH_ISA_MAX];
    size_t count = vecmath_isa_list(names);
    char usable[64] = "";
    size_t used = 0;
    for (size_t i = 0; i < count && used < sizeof usable; i++) {
        int written =
            snprintf(usable + used, sizeof usable - used, "%s%s", i > 0 ? ", " : "", names[i]);
        used += written > 0 ? (size_t)written : 0;
    }
    const char *reason = known ? "is not supported by this processor" : "is not known";
    int written = snprintf(error_out, error_bytes, "SIMD implementation \"%.32s\" %s; usable: %s",
                           name, reason, usable);
    if (written < 0)
        error_out[0] = '\0';
}

int vecmath_select(const char *forced_name, char *error_out, size_t error_bytes)
{
    bool automatic = forced_name == NULL || forced_name[0] == '\0';
    for (size_t i = 0; i < CANDIDATE_COUNT; i++) {
        const struct vecmath_kernels *kernels = candidates[i].kernels;
        if (!automatic && strcmp(kernels->name, forced_name) != 0)
            continue;
        if (!candidates[i].supported())
            continue;
        active = kernels;
        active_codes = candidates[i].codes;
        active_pq4 = candidates[i].pq4;
        selected = true;
        active_bits = candidates[i].bits;
        return VECMATH_OK;
    }
    bool known = is_known(forced_name);
    if (error_out != NULL && error_bytes > 0)
        explain(forced_name, known, error_out, error_bytes);
    return known ? VECMATH_UNSUPPORTED_ISA : VECMATH_UNKNOWN_ISA;
}
