# The thin front of the build; the build itself is meson (meson.build), each folder below is one of its build
# folders. docs/HACKING.md says more.
#
#   make run        build a release and start the server: REST and gRPC on localhost:5678 and 5679, data in ./data
#   make test       run every test; ends with "N passed, N failed"
#   make demo       start a server, load Fashion-MNIST through the network, search it, print recall and speed
#   make build      only build: build/proximadb, build/pdb-bench, the libraries
#   make bench      what the machine, its disk and the kernels can do
#   make peers      the index beside other libraries', two hours; ARGS=--quick: ten minutes (perf/peers)
#   make format     put C and Python into the project's format
#   make lint       clang-tidy over what differs from main (ALL=1: over everything)
#   make sanitize   every test under ASan and UBSan, what is shared between threads under TSan
#   make fuzz       each fuzz target for FUZZ_SECONDS (60)
#   make crash      kill -9 a loaded server CRASH_CYCLES (1000) times and look for lost writes
#   make large      a million rows killed and started again, four times more data than memory, 5,000 flipped bits
#   make clean      remove build folders and .venv, never ./data

FUZZ_SECONDS ?= 60
CRASH_CYCLES ?= 1000
ARGS ?=

VENV := .venv/installed
CLANG := CC=clang-14

.PHONY: run build test demo bench peers build-clang format format-check lint sanitize fuzz crash large stress clean packages packages-test

run: build
	exec build/proximadb serve $(ARGS)

build: packages
	@test -f build/build.ninja || meson setup build --buildtype=release
	@ninja -C build

test: packages-test $(VENV) build-debug/build.ninja
	@ninja -C build-debug
	@.venv/bin/python tests/run.py --build build-debug

demo: packages-test build
	build/pdb-bench demo --server build/proximadb $(ARGS)

bench: packages build
	build/perf/kernels/kernels
	build/perf/kernels/codes
	build/perf/engine/hop

peers: packages-test build
	@perf/peers/run.sh $(ARGS)

format: packages-test $(VENV)
	@git ls-files '*.c' '*.h' | xargs clang-format-14 -i
	@.venv/bin/ruff format -q . && .venv/bin/ruff check -q --fix .

format-check: packages-test $(VENV)
	@tests/tidy/tidy_format.sh
	@.venv/bin/ruff format -q --check . && .venv/bin/ruff check -q .

build-clang: packages-test build-clang/build.ninja
	@ninja -C build-clang

lint: build-clang
	@tests/tidy/lint.sh build-clang $(if $(ALL),--all)

sanitize: packages-test $(VENV) build-asan/build.ninja build-tsan/build.ninja
	@ninja -C build-asan
	@.venv/bin/python tests/run.py --build build-asan --only unit --only python
	@.venv/bin/python tests/run.py --build build-tsan --only tsan

stress: packages-test build-stress/build.ninja $(VENV)
	@ninja -C build-stress
	@.venv/bin/python tests/run.py --build build-stress --only unit --only python

fuzz: packages-test build-fuzz/build.ninja
	@ninja -C build-fuzz fuzzers
	@tests/fuzz/run.sh build-fuzz $(FUZZ_SECONDS)

crash: packages-test $(VENV) build-debug/build.ninja
	@ninja -C build-debug
	@CRASH_CYCLES=$(CRASH_CYCLES) .venv/bin/python tests/run.py --build build-debug --only python --path tests/crash

large: packages-test build $(VENV)
	@LARGE=1 BEYOND_MEMORY=4 BIT_FLIPS=5000 .venv/bin/python tests/run.py --build build --only python --path tests/segments

clean:
	rm -rf build build-* .venv

packages:
	@.ci/packages build

packages-test:
	@.ci/packages build test

$(VENV): tests/requirements.txt | packages-test
	@/usr/bin/python3 -m venv .venv
	@.venv/bin/pip install -q --disable-pip-version-check -r tests/requirements.txt
	@touch $@

# Sanitized and clang builds use clang 14; everyday ones gcc 12.
build-debug/build.ninja: | packages-test
	@meson setup build-debug -Dfailpoints=true
build-stress/build.ninja: | packages-test
	@meson setup build-stress -Dfailpoints=true -Dstress=true
build-clang/build.ninja: | packages-test
	@$(CLANG) meson setup build-clang -Dfailpoints=true
build-asan/build.ninja: | packages-test
	@$(CLANG) meson setup build-asan -Dfailpoints=true -Doptimization=1 -Db_sanitize=address,undefined
build-tsan/build.ninja: | packages-test
	@$(CLANG) meson setup build-tsan -Doptimization=1 -Db_sanitize=thread
build-fuzz/build.ninja: | packages-test
	@$(CLANG) meson setup build-fuzz -Dfuzz=true -Doptimization=1 -Db_sanitize=address,undefined
