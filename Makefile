# The commands of the project; `make help` lists them.

PREFIX ?= /usr/local
CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help demo test check deny fuzz fuzz-nightly bench build install

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## build rbuild and show the whole job: base, build, cached build, run
	@scripts/demo

test: ## everything that must hold: style, lints, layering, all tests
	@scripts/test

check: ## style, lints and layering only
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked --quiet --test it layering::

deny: ## licences, advisories and doubled versions of the dependencies
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }
	$(CARGO) deny --locked check

fuzz: ## every fuzz target for FUZZ_SECONDS (600); needs cargo-fuzz and g++
	@scripts/fuzz run

fuzz-nightly: ## the same for an hour each, or FUZZ_SECONDS
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-3600} scripts/fuzz run

bench: build ## the numbers, beside other builders where they are installed; ENGINES= WORKLOADS= ROUNDS= PLACE=
	@benches/run $(if $(ENGINES),--engines $(ENGINES)) $(if $(WORKLOADS),--workloads $(WORKLOADS)) \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(PLACE),--place $(PLACE))

build: ## the optimised binary, target/release/rbuild
	$(CARGO) build --release --locked

install: build ## put it into $(PREFIX)/bin
	install -D -m 0755 target/release/rbuild $(DESTDIR)$(PREFIX)/bin/rbuild
