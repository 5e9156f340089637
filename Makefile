# HXEN: make run, make test. Every job makes the machine ready for itself first
# (.ci/setup: Debian and Ubuntu packages as root or with sudo, and Go).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run build programs cross lint test suite test-windows test-e2e test-boot test-faults fuzz bench clean dist test-guest test-save test-setup test-whp setup-build setup-run setup-test setup-windows setup-whp setup-bench setup-dist

export PATH := $(CURDIR)/.cache/go/bin:$(PATH)

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The same flags for builds, vet and tests, so that the window's toolkit is
# compiled once. -buildvcs=false: the version comes from git describe, also in a
# checkout that belongs to somebody else.
export GOFLAGS := $(filter-out -trimpath -buildvcs=false,$(GOFLAGS)) -trimpath -buildvcs=false
BUILD := go build -ldflags '-s -w -X main.version=$(VERSION)'

PURE := ./app/cmd/hxen ./app/cmd/hxen-worker ./app/cmd/hxen-netd ./installer/cmd/hxen-setup
TARGETS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

# Packages without cgo: all but the window's.
PURE_PACKAGES = $$(go list -e ./... | grep -vE '/app/(desktop|desktop/screen|cmd/hxen-desktop)$$|/installer/(ui|cmd/hxen-setup-window)$$')

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

run: setup-run programs ## build, start the example guest and open the window (the terminal, without a display)
	@if [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ]; then \
		bin/hxen demo && exec bin/hxen-desktop --open demo; \
	else \
		echo "There is no display (neither DISPLAY nor WAYLAND_DISPLAY is set): this terminal shows the demo guest's console instead of a window; Ctrl-] leaves it."; \
		bin/hxen demo; \
		if [ -t 0 ]; then exec bin/hxen console demo; fi; \
		bin/hxen console --until 'demo# ' demo </dev/null && echo; \
	fi

# Two at a time: compilers use the time in which tests wait.
test: setup-test ## all checks and tests; installs what they need
	@$(MAKE) --no-print-directory -j2 lint cross suite

# lint vets it all.
suite: programs
	HXEN_REQUIRE=$${HXEN_REQUIRE-qemu,display,images,lab,mingw} go test -vet=off -timeout 25m ./...

build: setup-build programs cross ## all programs into bin/, and the cgo-free ones for every target into dist/

programs: setup-build
	@mkdir -p bin
	CGO_ENABLED=0 $(BUILD) -o bin/ $(PURE)
	CGO_ENABLED=1 $(BUILD) -o bin/ ./app/cmd/hxen-desktop

# linux/amd64 is vetted by lint.
cross: setup-build
	@for target in $(TARGETS); do \
		echo "build and vet for $$target"; \
		mkdir -p dist/$${target/\//-}; \
		export CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/}; \
		$(BUILD) -o dist/$${target/\//-}/ $(PURE); \
		if [ $$GOOS = windows ]; then installer/packaging/resources '$(VERSION)' dist/$${target/\//-}/*.exe; fi; \
		[ $$target = linux/amd64 ] || go vet $(PURE_PACKAGES); \
	done

lint: setup-build ## gofmt, go vet, staticcheck
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs -r gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change these files; run gofmt -w on them:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...

# All packages but the windows' (they need cgo), and those whose tests are Linux programs'.
# -p 1: wine is slow to begin.
test-windows: setup-windows ## the Windows programs and their packages' tests, under wine
	HXEN_REQUIRE=$${HXEN_REQUIRE-wine,mingw} go test -count=1 -v -timeout 60m -run '^TestWine' ./app/cmd/hxen
	HXEN_REQUIRE= CGO_ENABLED=0 GOOS=windows go test -exec "$(CURDIR)/.ci/wine" -timeout 30m -p 1 \
		$$(CGO_ENABLED=0 GOOS=windows go list -e ./... | grep -vE '/app/(desktop|desktop/screen|cmd/hxen.*)$$|/installer/(ui|steps|cmd/.*)$$') ./app/cmd/hxen-netd
	HXEN_REQUIRE= CGO_ENABLED=0 GOOS=windows go test -count=1 -v -exec "$(CURDIR)/.ci/wine" -timeout 30m -run '^TestWindows' ./installer/steps
	HXEN_REQUIRE=$${HXEN_REQUIRE-wine,mingw,display,qemu} HXEN_WINE=1 go test -count=1 -v -timeout 60m -run '^TestWine' ./installer/cmd/hxen-setup

test-whp: setup-whp ## the Windows Hypervisor Platform's back end under wine, on a stand-in that stands on a nested lab's KVM
	HXEN_WHP=1 HXEN_REQUIRE=$${HXEN_REQUIRE-lab,wine,mingw} go test -count=1 -v -timeout 60m -run '^TestLabWHP$$' ./hv/hvtest

test-e2e: setup-test programs ## the long end-to-end tests: installers, a Debian disk, kill -9 of every process, a pvh guest's screen
	HXEN_REQUIRE=$${HXEN_REQUIRE-qemu,display,images} HXEN_LONG=1 go test -count=1 -v -timeout 60m ./app/cmd/hxen
	HXEN_REQUIRE=$${HXEN_REQUIRE-lab,display} HXEN_LONG=1 go test -count=1 -v -timeout 30m -run '^TestLabScreen$$' ./app/desktop/screen

test-boot: setup-test ## a Debian that boots with HXEN installed: guests start and stop with it
	HXEN_REQUIRE=$${HXEN_REQUIRE-qemu,images} HXEN_BOOT=1 go test -count=1 -v -timeout 60m -run '^TestBoot$$' ./app/cmd/hxen

test-faults: setup-test ## 300 random points each: kill -9 of every process, power cuts; and a full disk
	HXEN_REQUIRE=$${HXEN_REQUIRE-qemu} HXEN_FAULTS=$${HXEN_FAULTS-300} go test -count=1 -v -timeout 120m -run '^TestFault' ./app/cmd/hxen

test-guest: setup-test ## pvh guests in a nested lab: Debian's kernels 6.1 and 6.12 with a KVM that works (RUN=TestGuestDisks COUNT=9: of these one, 9 times)
	HXEN_LAB_RUN='$(RUN)' HXEN_LAB_COUNT='$(COUNT)' HXEN_REQUIRE=$${HXEN_REQUIRE-lab} go test -count=1 -v -timeout 8h -run '^TestLab' ./hv/hvtest

test-setup: setup-test ## the setup, wizard and packages on scratch computers: install, upgrade, repair, remove, bad days, kills
	HXEN_REQUIRE=$${HXEN_REQUIRE-display,images} HXEN_SETUP=1 go test -count=1 -v -timeout 90m ./installer/...

test-save: setup-test ## 500 times: save a pvh guest that computes, end its process, go on in another; 100 clones (hours)
	HXEN_REQUIRE=$${HXEN_REQUIRE-lab} HXEN_LONG=1 go test -count=1 -v -timeout 250m -run '^Test(Saves|Clones)$$' ./hv/hvtest

# Go else takes most of the time to make one input shorter.
fuzz: setup-test ## every fuzzer for TIME (10m each); what falls is kept beside the test as a seed
	@git grep -n '^func Fuzz' -- '*_test.go' | sed -E 's,^(.*)/[^/]*:[0-9]+:func (Fuzz[A-Za-z0-9]+).*,\1 \2,' | while read -r package name; do \
		echo "$$package $$name"; \
		go test "./$$package" -run '^$$' -fuzz "^$$name\$$" -fuzztime $(or $(TIME),10m) -fuzzminimizetime 10x </dev/null || exit 1; \
	done

bench: setup-bench programs ## the figures in README.md, measured side by side
	HXEN_BENCH=1 go test -count=1 -v -timeout 90m -run '^TestFigures' ./app/cmd/hxen
	HXEN_BENCH=1 go test -count=1 -v -timeout 20m -run '^TestFigures' ./installer/cmd/hxen-setup
	go test -count=1 -run '^$$' -bench 'Viewers' -benchtime 1x -timeout 30m ./app/desktop/screen

dist: setup-dist ## hxen-setup for Linux and Windows, .deb and .rpm, checksums and bill of materials, in dist/release
	installer/packaging/dist '$(VERSION)'

clean: ## remove what was built (guests and caches stay)
	rm -rf bin dist .cache/e2e

setup-build setup-run setup-test setup-windows setup-whp setup-bench setup-dist: setup-%:
	@.ci/setup $*
