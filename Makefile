# Everything a developer or CI does with imgate. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# Given to every cargo command that resolves dependencies; CI says --locked.
CARGO_FLAGS ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

# Tools that Debian does not package are kept outside the repository, so that a fresh clone finds them.
TOOLS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/imgate
CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.1
S3S_FS_VERSION := 0.14.1
export PATH := $(PATH):$(TOOLS)/bin

# What a build needs, and what the tests run beside the gateway.
BUILD_PACKAGES := build-essential cmake
TEST_PACKAGES := redis-server python3-venv nodejs npm curl openssl golang-go nghttp2-client
# The signing samples are tested in their own languages; Go and Node serve others, too.
TEST_PACKAGES += node-typescript kotlin default-jre-headless
COMPARE_PACKAGES := redis-server nginx libnginx-mod-http-lua lua-resty-core lua-resty-lrucache lua-nginx-redis wrk
# Where `make compare` leaves its tables, and how long it measures.
COMPARE_OUT ?= $(TARGET_DIR)/compare
COMPARE_FLAGS ?=
# The proxies that get the same bytes as the gateway, and where `make differential` leaves its tables.
DIFFERENTIAL_PACKAGES := nginx haproxy
DIFFERENTIAL_OUT ?= $(TARGET_DIR)/differential
# How long `make soak` goes on, and where it leaves its samples.
SOAK_SECONDS ?= 1200
SOAK_OUT ?= $(TARGET_DIR)/soak
# How long `make fuzz` tries each target.
FUZZ_SECONDS ?= 60
# What `make reloads` is given, as in `--reloads 100`.
RELOADS_FLAGS ?=

.PHONY: help packages build-packages build demo test check fmt clippy doc deny fuzz bench compare differential soak reloads audit s3s-fs cargo-deny cargo-fuzz ci

help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Build and run

build: build-packages ## Build the release binary
	$(CARGO) build $(CARGO_FLAGS) --release --bin imgate

demo: build-packages ## Run the gateway before a stand-in of OpenIM
	$(CARGO) run $(CARGO_FLAGS) --release --bin imgate -- demo

build-packages:
	@tests/install-packages.sh $(BUILD_PACKAGES)

##@ Test and check

packages: ## Install what building and testing need and the machine lacks
	@tests/install-packages.sh $(BUILD_PACKAGES) $(TEST_PACKAGES)

test: packages s3s-fs ## Run all tests
	$(CARGO) test $(CARGO_FLAGS) --workspace

check: fmt clippy doc deny ## Hold the rules: fmt, clippy, doc, deny

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(CARGO_FLAGS) --workspace --no-deps

deny: cargo-deny
	$(CARGO) deny $(CARGO_FLAGS) check bans licenses sources

audit: cargo-deny ## Look for known vulnerabilities in the dependencies
	$(CARGO) deny $(CARGO_FLAGS) check advisories

# Cargo fuzz needs flags that stable Rust keeps back; the compiler stays the one the gateway is built with.
fuzz: export RUSTC_BOOTSTRAP := 1
fuzz: cargo-fuzz build-packages ## Try to break every promise in fuzz/, FUZZ_SECONDS each
	$(CARGO) fuzz build --sanitizer none
	FUZZ_SECONDS=$(FUZZ_SECONDS) fuzz/run.sh

ci: ## Do all that CI does
	.ci/run

##@ Measure

bench: ## Measure filters, chains, routes and the store
	$(CARGO) bench $(CARGO_FLAGS) --bench '*'

compare: build ## Measure side by side with nginx, Lua and bare Pingora
	@tests/install-packages.sh $(COMPARE_PACKAGES)
	$(CARGO) build $(CARGO_FLAGS) --release --manifest-path benches/compare/pingora-bare/Cargo.toml \
	  --target-dir $(TARGET_DIR)/pingora-bare
	python3 benches/compare/run.py --imgate $(TARGET_DIR)/release/imgate \
	  --pingora $(TARGET_DIR)/pingora-bare/release/pingora-bare --out $(COMPARE_OUT) $(COMPARE_FLAGS)

differential: build ## Send the same raw requests to nginx, HAProxy and the gateway
	@tests/install-packages.sh $(DIFFERENTIAL_PACKAGES)
	python3 benches/differential/run.py --imgate $(TARGET_DIR)/release/imgate --out $(DIFFERENTIAL_OUT)

soak: build ## Break every peer under load for SOAK_SECONDS, then tell whether all stayed flat
	@tests/install-packages.sh redis-server
	$(CARGO) build $(CARGO_FLAGS) --release --package openim-standin --bin openim-standin
	python3 benches/soak/run.py --imgate $(TARGET_DIR)/release/imgate \
	  --standin $(TARGET_DIR)/release/openim-standin --seconds $(SOAK_SECONDS) --out $(SOAK_OUT)

reloads: build ## Reload 1,000 times and upgrade 20 times under full load, and count what is lost
	python3 benches/reloads/run.py --imgate $(TARGET_DIR)/release/imgate $(RELOADS_FLAGS)

# The S3 server that a test uploads to. The test installs it if it is not there (tests/it/objects_s3/storage.rs, which
# names the version, too), but beside other tests a build of minutes would starve them.
s3s-fs: build-packages
	@test -x $(TOOLS)/s3s-fs-$(S3S_FS_VERSION)/bin/s3s-fs || \
	  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
	  $(CARGO) install --quiet --locked s3s-fs --version $(S3S_FS_VERSION) --features binary \
	  --root $(TOOLS)/s3s-fs-$(S3S_FS_VERSION)

cargo-fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || \
	  CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
	  $(CARGO) install --locked cargo-fuzz --version $(CARGO_FUZZ_VERSION) --root $(TOOLS)

# cargo-deny ships with fat LTO, which costs minutes to build and saves nothing here.
cargo-deny:
	@$(CARGO) deny --version >/dev/null 2>&1 || \
	  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
	  $(CARGO) install --locked cargo-deny --version $(CARGO_DENY_VERSION) --root $(TOOLS)
