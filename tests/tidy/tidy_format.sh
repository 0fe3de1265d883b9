#!/bin/sh
# tidy_format.sh: every C file is as clang-format 14 leaves it; `make format` makes it so.
set -eu
cd "$(dirname "$0")/../.."
git ls-files -z --cached --others --exclude-standard -- '*.c' '*.h' |
    xargs -0 -r -n 32 -P "$(nproc)" clang-format-14 --dry-run -Werror --ferror-limit=1
