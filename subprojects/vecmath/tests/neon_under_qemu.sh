#!/bin/sh
# Cross-compiles the library and its tests for AArch64 and runs them in user-mode emulation, so that the NEON
# kernels are tested on machines that are not ARM. Usage: neon_under_qemu.sh LIBRARY_FOLDER SCRATCH_FOLDER
set -eu

library=$1
scratch=$2

need() {
    if ! command -v "$1" >/dev/null 2>&1; then
        echo "$1 is missing: install the Debian package(s) $2" >&2
        exit 1
    fi
}
need aarch64-linux-gnu-gcc "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
need qemu-aarch64 "qemu-user"

warnings="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wdouble-promotion -Wcast-qual
    -Wcast-align -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror"
# shellcheck disable=SC2086  # a list of words
compile() {
    aarch64-linux-gnu-gcc -std=gnu17 -O3 -D_GNU_SOURCE $warnings -I "$library/include" -I "$library/src" \
        -I "$library/tests" -c -o "$scratch/$(basename "$1" .c).o" "$1"
}

mkdir -p "$scratch"
objects=""
for name in bits bits_neon codes codes_neon codes_scalar elements elements_neon elements_scalar pq4 pq4_neon vecmath vecmath_scalar \
    vecmath_scan vecmath_select vecmath_neon; do
    compile "$library/src/$name.c"
    objects="$objects $scratch/$name.o"
done
compile "$library/tests/fixture.c"

for name in test_bits test_codes test_elements test_metrics test_pq4 test_scan test_checks test_select; do
    compile "$library/tests/$name.c"
    # shellcheck disable=SC2086  # a list of words
    aarch64-linux-gnu-gcc -static -o "$scratch/$name" "$scratch/$name.o" "$scratch/fixture.o" $objects -lm
    qemu-aarch64 "$scratch/$name" >"$scratch/$name.log" || { cat "$scratch/$name.log"; exit 1; }
    cat "$scratch/$name.log"
    # A build without NEON would pass with scalar alone.
    grep -q '^ok     neon ' "$scratch/$name.log" || { echo "$name did not run NEON" >&2; exit 1; }
    # The emulator's processor has SDOT; test_codes names the tables it ran.
    [ "$name" != test_codes ] || grep -q '^tables: neon_dotprod neon scalar$' "$scratch/$name.log" ||
        { echo "$name did not run both sets of kernels" >&2; exit 1; }
done
