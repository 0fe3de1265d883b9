#!/bin/sh
# toml_test.sh DECODER FOLDER: holds DECODER against the public toml-test suite for TOML 1.0.
#
# The suite is a Go program with its cases inside. It is built once into FOLDER by `go install` at
# the version below, whose content Go checks against the public checksum database; Go 1.19, as in
# Debian 12, is enough. Whatever keeps the suite from running is a failure: a skipped test proves
# nothing.
set -eu

VERSION=v2.2.0
VALID=205    # how many cases this version has for TOML 1.0, so that an empty run cannot pass
INVALID=474

decoder=$1
folder=$2
suite=$folder/$VERSION/toml-test

if [ ! -x "$suite" ]; then
    command -v go >/dev/null || {
        echo "toml-test: needs Go 1.19 or newer (Debian package golang-go)" >&2
        exit 1
    }
    mkdir -p "$folder/$VERSION"
    # Folders of its own leave the caller's alone; -modcacherw lets `rm -rf` remove them.
    GOPATH=$folder/go GOCACHE=$folder/go/cache GOBIN=$folder/$VERSION GOFLAGS=-modcacherw \
        go install "github.com/toml-lang/toml-test/v2/cmd/toml-test@$VERSION" || {
        echo "toml-test: cannot download and build the suite, see above" >&2
        exit 1
    }
    rm -rf "$folder/go"
fi

report=$folder/report.txt
status=0
# The limit only catches endless loops; a busy machine must not fail a case.
"$suite" test -decoder="$decoder" -toml=1.0 -timeout=120s -color=never >"$report" 2>&1 || status=$?
cat "$report"

expect() {
    grep -Eq "^ *$1 tests: *$2 passed, *0 failed" "$report" || {
        echo "toml-test: expected '$1 tests: $2 passed, 0 failed'" >&2
        status=1
    }
}
expect valid "$VALID"
expect invalid "$INVALID"
exit "$status"
