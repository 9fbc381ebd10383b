# The commands of the project; `make help` lists them.

PREFIX ?= /usr/local
CARGO ?= cargo
# What is installed; another one than this is not built first.
BINARY ?= target/release/rbuild

# Where shells and man look, under the prefix of a distribution and under /usr/local.
MANDIR ?= $(PREFIX)/share/man
BASH_COMPLETIONS ?= $(PREFIX)/share/bash-completion/completions
ZSH_COMPLETIONS ?= $(PREFIX)/share/zsh/site-functions
FISH_COMPLETIONS ?= $(PREFIX)/share/fish/vendor_completions.d

.DEFAULT_GOAL := help
.PHONY: help demo test check deny fuzz fuzz-nightly bench build install uninstall man

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

install: $(if $(filter target/release/rbuild,$(BINARY)),build) ## binary, manual pages and completions into PREFIX (/usr/local), under DESTDIR
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/rbuild
	$(BINARY) man $(DESTDIR)$(MANDIR)
	install -d $(DESTDIR)$(BASH_COMPLETIONS) $(DESTDIR)$(ZSH_COMPLETIONS) $(DESTDIR)$(FISH_COMPLETIONS)
	$(BINARY) completion bash > $(DESTDIR)$(BASH_COMPLETIONS)/rbuild
	$(BINARY) completion zsh > $(DESTDIR)$(ZSH_COMPLETIONS)/_rbuild
	$(BINARY) completion fish > $(DESTDIR)$(FISH_COMPLETIONS)/rbuild.fish

uninstall: ## remove what `make install` with the same PREFIX and DESTDIR put there; stores and settings stay
	rm -f $(DESTDIR)$(PREFIX)/bin/rbuild
	rm -f $(DESTDIR)$(MANDIR)/man1/rbuild.1 $(DESTDIR)$(MANDIR)/man1/rbuild-*.1 $(DESTDIR)$(MANDIR)/man5/rbuild-config.5
	rm -f $(DESTDIR)$(BASH_COMPLETIONS)/rbuild $(DESTDIR)$(ZSH_COMPLETIONS)/_rbuild $(DESTDIR)$(FISH_COMPLETIONS)/rbuild.fish

man: $(if $(filter target/release/rbuild,$(BINARY)),build) ## the manual pages, target/man
	$(BINARY) man target/man
