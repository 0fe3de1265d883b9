#!/bin/sh
# Runs the example on a new directory and removes it.
set -e
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$1" "$dir/data"
