# grid: what a person types. Everything fetched or built for the project lies in target/ and .grid/ (see `make clean`).
#
# Moving processes takes root: `make demo`, `make test` and `make bench` say so and stop without it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
export PATH := $(PATH):$(CURDIR)/.grid/bin:$(CURDIR)/.grid/tools/bin

# Recipes that need CRIU begin with this: the path that scripts/install-criu found or built.
with_criu = export GRID_CRIU="$$(cat .grid/criu-path)"

# grid is copied to workers: with the C library inside it needs nothing of theirs. Fedora keeps libc.a in glibc-static.
as_one_file = $(if $(filter /%,$(shell cc -print-file-name=libc.a)),-C target-feature=+crt-static)

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' $(firstword $(MAKEFILE_LIST)) | while read -r t d; do printf '  make %-10s %s\n' "$$t" "$$d"; done

.PHONY: build
build: cargo ## the release binaries, in target/release
	$(CARGO) build --release --workspace --exclude grid --bins --locked
	$(CARGO) rustc --release -p grid --bin grid --locked -- $(as_one_file)

.PHONY: root
root:
	@[ "$$(id -u)" = 0 ] || { echo "error: this needs root (namespaces, cgroups, CRIU). Try: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

.PHONY: cargo
cargo:
	@command -v $(firstword $(CARGO)) >/dev/null || { echo "error: no cargo in PATH. Under sudo, keep yours:" \
	  'sudo env "PATH=$$PATH" "RUSTUP_HOME=$${RUSTUP_HOME:-$$HOME/.rustup}" make $(MAKECMDGOALS)' >&2; exit 1; }

.PHONY: criu
criu: root
	@scripts/install-criu >/dev/null

.PHONY: deps
deps:
	@scripts/install-deps

.PHONY: demo
demo: root cargo deps criu build ## a cluster on this machine, a boost, and live moves into it
	@$(with_criu); "$(TARGET_DIR)/release/grid-demo"

.PHONY: demo-ssh
demo-ssh: root cargo deps criu build ## the same on two workers reached by ssh: a real sshd in a network of its own each
	@$(with_criu); "$(TARGET_DIR)/release/grid-demo" ssh

# The runner's own summary is the last thing printed. Tests build what they start (grid, prover, ...) first.
.PHONY: test
test: root cargo deps criu ## every test, with real moves
	$(CARGO) build --workspace --bins --locked
	@$(with_criu); \
	if $(CARGO) nextest --version >/dev/null 2>&1; then $(CARGO) nextest run --workspace --locked --no-fail-fast $(TEST_ARGS); \
	else $(CARGO) test --workspace --locked --no-fail-fast $(TEST_ARGS) $(if $(CI),-- --show-output); fi

# Everything that `make test` leaves out because it takes long: the fuzzers, and the tests marked `ignored`.
.PHONY: test-long
test-long: root cargo deps criu fuzz ## the fuzzers, and the tests that take long
	$(CARGO) build --workspace --bins --locked
	@$(with_criu); \
	if $(CARGO) nextest --version >/dev/null 2>&1; then $(CARGO) nextest run --workspace --locked --no-fail-fast --run-ignored ignored-only -E 'not binary(vm) and not binary(e2e_versions)' $(TEST_ARGS); \
	else $(CARGO) test --workspace --locked --no-fail-fast $(TEST_ARGS) -- --ignored; fi

# A kernel and a disk of their own for each: pure cgroup v2, systemd, a worker whose power is cut. Emulated, so some minutes.
.PHONY: test-vm
test-vm: deps deb ## on virtual machines: pure cgroup v2, systemd, two that share nothing
	@scripts/install-vm
	@$(with_criu); export GRID_DEB="$(CURDIR)/$(TARGET_DIR)/deb/grid.deb"; \
	$(CARGO) test -p grid-testkit --test vm --locked -- --ignored --nocapture --test-threads 1

# The last commit that spoke the version before this one's (crates/grid-types/src/wire/version.rs).
OLDER ?= d11cae8
older = .grid/older

.PHONY: test-upgrade
test-upgrade: root cargo deps criu ## a cluster of the grid of one version back, taken over by this one with processes away
	@git cat-file -e '$(OLDER)^{commit}' || { echo "error: commit $(OLDER) is not in this clone; OLDER=COMMIT names another" >&2; exit 1; }
	@[ -e $(older)/.git ] || git clone --quiet --shared --no-checkout . $(older)
	git -C $(older) checkout --quiet --detach $(OLDER)
	cd $(older) && CARGO_TARGET_DIR=target $(CARGO) build -p grid --bin grid --locked
	$(CARGO) build --workspace --bins --locked
	@$(with_criu); export GRID_OLD="$(CURDIR)/$(older)/target/debug/grid"; \
	$(CARGO) test -p grid-testkit --test e2e_versions --locked -- --ignored --nocapture --test-threads 1

.PHONY: fuzz
fuzz: cargo ## each parser of what comes from outside, for FUZZ_SECONDS (60)
	@command -v cargo-fuzz >/dev/null || { echo "building cargo-fuzz into .grid/tools (minutes, once)"; \
	  CARGO_TARGET_DIR=.grid/tools/build $(CARGO) install --quiet --locked --root .grid/tools cargo-fuzz; rm -rf .grid/tools/build; }
	@scripts/fuzz $(FUZZ_TARGETS)
.PHONY: coverage
coverage: root cargo deps criu ## every program of tests/coverage.toml, moved or refused; docs/coverage.md and the README anew
	$(CARGO) build --workspace --bins --locked
	@scripts/install-coverage
	@$(with_criu); "$(TARGET_DIR)/debug/grid-coverage"

.PHONY: lint
lint: cargo ## format, clippy, docs, licences and sources of dependencies
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTFLAGS="--cfg fuzzing" $(CARGO) clippy --manifest-path fuzz/Cargo.toml --target-dir "$(TARGET_DIR)/fuzz" --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --quiet
	@command -v cargo-deny >/dev/null || { echo "building cargo-deny into .grid/tools (minutes, once)"; \
	  CARGO_TARGET_DIR=.grid/tools/build $(CARGO) install --quiet --locked --root .grid/tools cargo-deny; rm -rf .grid/tools/build; }
	cargo-deny check --hide-inclusion-graph bans licenses sources
	cargo-deny --manifest-path fuzz/Cargo.toml check --hide-inclusion-graph bans licenses sources

.PHONY: bench
bench: root cargo deps criu build ## the measurements of bench/README.md
	@$(with_criu); export GRID_BIN="$(TARGET_DIR)/release"; bench/run

.PHONY: bench-link
bench-link: root cargo criu build ## moves and files over ssh, beside scp, iperf3 and sshfs: bench/README.md
	@scripts/install-deps bench
	@$(with_criu); for one in link files "idle ssh"; do "$(TARGET_DIR)/release/grid-bench" $$one; echo; done

.PHONY: deb
deb: root cargo criu build ## a Debian package: grid, its CRIU, a unit for the head, man pages and completions
	@command -v cargo-deb >/dev/null || { echo "building cargo-deb into .grid/tools (minutes, once)"; \
	  CARGO_TARGET_DIR=.grid/tools/build $(CARGO) install --quiet --locked --root .grid/tools cargo-deb; rm -rf .grid/tools/build; }
	@[ -x .grid/criu/sbin/criu ] || { echo "error: the package brings the CRIU that is built here; unset GRID_CRIU" >&2; exit 1; }
	@rm -rf "$(TARGET_DIR)/deb"; mkdir -p "$(TARGET_DIR)/deb/completions"
	@"$(TARGET_DIR)/release/grid" man "$(TARGET_DIR)/deb/man" >/dev/null
	@for s in bash=grid.bash zsh=_grid fish=grid.fish; do \
	  "$(TARGET_DIR)/release/grid" completions "$${s%%=*}" >"$(TARGET_DIR)/deb/completions/$${s#*=}"; done
	cargo-deb -q -p grid --no-build --no-strip --output "$(TARGET_DIR)/deb/grid.deb"

.PHONY: clean
clean: ## removes target/ and .grid/: all that was built or fetched here
	$(CARGO) clean
	rm -rf .grid
