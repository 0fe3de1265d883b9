#!/bin/sh
# lint.sh BUILD [--all]: clang-tidy 14 over the C files that differ from the branch main, or over all of them.
# BUILD must be a clang build folder: gcc's flags mean nothing to clang-tidy.
set -eu
cd "$(dirname "$0")/../.."
build=$1
known=$(python3 -c '
import json, os, sys
folder = sys.argv[1]
for entry in json.load(open(folder + "/compile_commands.json")):
    print(os.path.relpath(os.path.join(entry["directory"], entry["file"])))' "$build" | sort -u)

if [ "${2:-}" = --all ]; then
    chosen=$(git ls-files '*.c' | sort)
else
    base=$(git merge-base HEAD origin/main 2>/dev/null || git merge-base HEAD main)
    chosen=$( { git diff --name-only --diff-filter=d "$base" -- '*.c'
                git ls-files --others --exclude-standard -- '*.c'; } | sort -u)
fi
files=
for file in $chosen; do
    case "
$known
" in *"
$file
"*) files="$files $file" ;; esac
done
[ -n "$files" ] || { echo "lint: nothing to look at"; exit 0; }
# shellcheck disable=SC2086  # lists of words
printf '%s\n' $files | xargs -P "$(nproc)" -n 4 clang-tidy-14 -p "$build" --quiet
