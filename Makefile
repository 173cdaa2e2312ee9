# Lifeboat. The two commands to know: `make demo` and `make test`.
# Each sets up what it needs: missing packages are named, then installed.

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS   = -s -w -X main.version=$(VERSION)
PREFIX   ?= /usr/local
CACHE    ?= $(CURDIR)/.cache
RESCUE    = bin/rescue/lifeboat-linux-amd64 bin/rescue/lifeboat-linux-arm64
SOURCES   = $(shell find . -name '*.go' -not -path './.cache/*') go.mod go.sum

export LIFEBOAT_GUEST_CACHE ?= $(CACHE)/guests

.DEFAULT_GOAL := build
.PHONY: demo test build install dist bench soak check unit scripts fuzz clean

demo: build  ## the main job, on real machines
	@build/need guests qemu
	@$(GO) run ./fixtures/demo -program bin/lifeboat $(DEMO)

build: bin/lifeboat $(RESCUE)  ## both builds of the program

bin/lifeboat: $(SOURCES)
	@build/need build
	CGO_ENABLED=1 $(GO) build -trimpath -tags libvirt_dlopen -ldflags '$(LDFLAGS)' -o $@ ./cmd/lifeboat

bin/rescue/lifeboat-linux-%: $(SOURCES)
	CGO_ENABLED=0 GOOS=linux GOARCH=$* $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/lifeboat

test: build  ## everything that is tested on every change
	@build/need build guests qemu libvirt nbd-tools drives
	@build/run-tests

check:  ## static analysis alone
	@build/run-tests check

install: build  ## the program, its completion and its manual page
	build/install $(DESTDIR)$(PREFIX)

dist: build  ## an archive for people without Go, with checksums
	build/dist $(VERSION)

bench: build  ## speed, size and memory beside other tools, in one run
	@build/need build guests qemu libvirt nbd-tools peers fleet
	CACHE=$(CACHE) build/run-bench

soak: build  ## what takes longer than a test may
	@build/need build guests qemu libvirt nbd-tools drives
	@build/run-tests soak

clean:
	rm -rf bin dist .cache
