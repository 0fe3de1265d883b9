#!/bin/sh
# prelink.sh OUTPUT WORK_DIR ENGINE_LIB LIB...: links the engine and what it needs of the other libraries into one object, makes all
# symbols but pdb_* local, and puts it into an archive.
set -e
output=$1 work=$2 engine=$3
shift 3
mkdir -p "$work"
ld -r -o "$work/all.o" --whole-archive "$engine" --no-whole-archive --start-group "$@" --end-group
objcopy --wildcard --keep-global-symbol='pdb_*' "$work/all.o" "$work/proximadb.o"
rm -f "$output" "$work/all.o"
ar rcs "$output" "$work/proximadb.o"
