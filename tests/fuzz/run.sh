#!/bin/sh
# run.sh BUILD SECONDS: runs every libFuzzer target of a build folder, as many at once as there are cores.
#
# Seeds are in corpus/<name>/ beside the target's source. What a run finds new is kept in BUILD/corpus, for
# the next run; an input that breaks something is left in BUILD/findings. Ends with "N passed, N failed".
set -eu
cd "$(dirname "$0")/../.."
build=$1
seconds=$2
mkdir -p "$build/findings" "$build/corpus"

export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export ASAN_OPTIONS=detect_stack_use_after_return=1:allocator_may_return_null=1

find "$build" -name 'fuzz_*' -type f -perm -u+x | sort >"$build/fuzz.list"
[ -s "$build/fuzz.list" ] || { echo "no fuzz targets in $build" >&2; exit 1; }

export build seconds
one='
target=$1
name=$(basename "$target" | sed s/^fuzz_//)
mkdir -p "$build/corpus/$name"
seeds=
for folder in "tests/fuzz/corpus/$name" "subprojects/$name/tests/corpus"; do
    [ ! -d "$folder" ] || seeds="$seeds $folder"
done
log=$build/findings/$name.log
options=
for file in "tests/fuzz/$name.options"; do
    [ ! -f "$file" ] || options=$(grep -v "^#" "$file" | tr "\n" " ")
done
if "$target" -max_total_time="$seconds" -timeout=120 -rss_limit_mb=2048 -print_final_stats=1 $options \
    -artifact_prefix="$build/findings/$name-" "$build/corpus/$name" $seeds >"$log" 2>&1; then
    runs=$(sed -n "s/^stat::number_of_executed_units: *//p" "$log")
    echo "ok      fuzz_$name: ${runs:-?} runs in $seconds s"
else
    echo "FAILED  fuzz_$name: see $log"
    tail -n 60 "$log"
fi
'
xargs -P "$(nproc)" -I '{}' sh -c "$one" one '{}' <"$build/fuzz.list" | tee "$build/fuzz.txt"
passed=$(grep -c '^ok      fuzz_' "$build/fuzz.txt" || true)
failed=$(($(wc -l <"$build/fuzz.list") - passed))
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
