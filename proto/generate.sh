#!/bin/sh
# generate.sh PROTOC_C SOURCE_ROOT PATH FLAT_NAME OUT: protoc-c for one file, with its outputs under one flat name.
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$1" -I "$2" --c_out="$scratch" "$2/$3.proto"
sed "s|\"$3.pb-c.h\"|\"$4.pb-c.h\"|" "$scratch/$3.pb-c.c" >"$5/$4.pb-c.c"
cp "$scratch/$3.pb-c.h" "$5/$4.pb-c.h"
