# The commands of this repository. `make` prints every target whose line ends in `## text`. CI runs
# the same targets (.ci/run).

SHELL := bash
.DEFAULT_GOAL := help
# Targets run one after the other: they share target folders, which cargo locks.
.NOTPARALLEL:

# The folder where rustup installs cargo, for a shell that was started before the installation.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
# These variables would replace the flags in the .cargo/config.toml of the repository and of the test
# kernel.
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET
# Build scripts read these variables. The shell of a kernel author may have set them for another
# kernel.
unexport ARCH CROSS_COMPILE CC CXX AR CFLAGS CXXFLAGS CPPFLAGS LDFLAGS TARGET_CC TARGET_AR HOST_CC HOST_AR
# No compiler wrapper: the user's configuration of cargo may name one that steps do not find.
export RUSTC_WRAPPER :=

# A step prints one line if it succeeds, and its output if it fails. Cargo reads .cargo/config.toml of
# the current folder, so steps for the test kernel and others change to its folder.
STEP := @. tests/steps.sh; step
IN_KERNEL := @. tests/steps.sh; cd tests/kernel; step
IN_MODULE := @. tests/steps.sh; cd tests/module; step
IN_PROCESS := @. tests/steps.sh; cd tests/process; step
IN_SIZE := @. tests/steps.sh; cd tests/programs/size/kernel; step

# For commands that people watch: the output is printed as it comes.
SHOW := @. tests/steps.sh; show
SHOW_PROCESS := @. tests/steps.sh; cd tests/process; show

64 := --target x86_64-unknown-none
32 := --target i686-unknown-linux-gnu
# For 32-bit programs that run on the host, see .cargo/config.toml.
PROGRAM_32 := --target i686-unknown-linux-musl
# For programs that tests build by rustc directly. They have a manifest for clippy only.
PROGRAM := --locked --target-dir target --manifest-path
# tests/support/kernel.rs uses the same target folder.
KERNEL := --locked --release --target-dir ../../target/kernel/fat
# The module is a file beside the kernel that loads it.
MODULE := patchlet-test-module.o
# For clippy only, with all features at once. tests/programs/size builds the kernel to measure it.
SIZE := --locked --release --target-dir ../../../../target/size --all-features
DENY := -- --deny warnings
# The oldest Rust that is supported, in its first release.
MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1.0/p' Cargo.toml)
OLDEST := rustup run $(MSRV) cargo
OLDEST_KERNEL := --locked --release --target-dir ../../target/msrv

manifests := $(wildcard Cargo.toml fuzz/Cargo.toml tests/*/Cargo.toml tests/*/*/Cargo.toml tests/*/*/*/Cargo.toml)

##@ To see it
help: ## print this table
	@awk -F ':.*## ' '/^##@ / { print "\n" substr($$0, 5) } \
	    /^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST); echo

run: setup ## build, inspect and boot both test kernels; each op before and after
	$(STEP) 'the program that builds, inspects and boots' cargo build --locked --example show
	$(SHOW) cargo run --quiet --locked --example show

setup: ## fetch what is missing of QEMU, compilers, linkers and Rust's targets; see `make doctor`
	@tests/setup/setup.sh

doctor: ## what there is of all that the targets use, where and which version; for bug reports
	@tests/setup/setup.sh doctor

##@ To check it
test: setup setup-test hosts test-64 test-32 process test-matrix size-limit ## all tests that CI runs

fmt-check: setup-lint ## every file as rustfmt would write it
	$(STEP) 'format of $(words $(manifests)) packages' bash -c 'for manifest; do \
	    cargo fmt --check --manifest-path "$$manifest" || exit; done' - $(manifests)

lint: setup-lint ## clippy, warnings as errors: all packages, features and targets
	$(STEP) 'clippy, host' cargo clippy --locked --all-targets --all-features $(DENY)
	$(STEP) 'clippy, no_std, 64-bit' cargo clippy --locked --lib $(64) $(DENY)
	$(STEP) 'clippy, no_std, 32-bit' cargo clippy --locked --lib $(32) $(DENY)
	$(IN_KERNEL) 'clippy, test kernel, 64-bit' cargo clippy $(KERNEL) $(64) $(DENY)
	$(IN_KERNEL) 'clippy, test kernel, 32-bit' cargo clippy $(KERNEL) $(32) $(DENY)
	$(IN_MODULE) 'clippy, module, 64-bit' cargo clippy --locked --target-dir ../../target/module $(64) $(DENY)
	$(IN_MODULE) 'clippy, module, 32-bit' cargo clippy --locked --target-dir ../../target/module $(32) $(DENY)
	$(IN_PROCESS) 'clippy, test process, 64-bit' cargo clippy --locked --all-targets $(DENY)
	$(IN_PROCESS) 'clippy, test process, 32-bit' cargo clippy --locked --all-targets $(PROGRAM_32) $(DENY)
	$(STEP) 'clippy, matrix, 64-bit' cargo clippy $(PROGRAM) tests/programs/matrix/program/Cargo.toml --lib --bins $(DENY)
	$(STEP) 'clippy, matrix, 32-bit' cargo clippy $(PROGRAM) tests/programs/matrix/program/Cargo.toml --lib --bins $(32) $(DENY)
	$(STEP) 'clippy, rivals, assembly' cargo clippy $(PROGRAM) tests/programs/rivals/rust/Cargo.toml --lib --bins $(DENY)
	$(STEP) 'clippy, rivals, hex' env RUSTFLAGS='--cfg construction="hex"' \
	    cargo clippy $(PROGRAM) tests/programs/rivals/rust/Cargo.toml --bin program $(DENY)
	$(IN_SIZE) 'clippy, measured kernel, 64-bit' cargo clippy $(SIZE) $(64) $(DENY)
	$(IN_SIZE) 'clippy, measured kernel, 32-bit' cargo clippy $(SIZE) $(32) $(DENY)

# The tool, and the functions for build scripts, run on the hosts where kernels are built. On these,
# the crate must build without assembling anything.
HOSTS := aarch64-unknown-linux-gnu aarch64-apple-darwin x86_64-pc-windows-msvc

hosts: setup ## the tool and the functions for build scripts, on hosts that are not x86 Linux
	$(STEP) 'hosts that are not x86 Linux' env RUSTFLAGS=-Dwarnings bash -c 'for host; do \
	    for feature in inspect build; do echo "$$host, $$feature"; \
	    cargo check --locked --lib --bins --features $$feature --target $$host || exit; done; done' - $(HOSTS)

doc: setup ## the documentation, warnings as errors
	$(STEP) 'documentation' env RUSTDOCFLAGS='--deny warnings' cargo doc --locked --no-deps --all-features

# The test kernels are built as well, because rustc checks the operands of asm! only when it
# generates code.
msrv: setup-msrv ## the oldest Rust, of Cargo.toml: all features; both test kernels, which boot
	$(STEP) 'Rust $(MSRV), all features' $(OLDEST) check --locked --all-features --target-dir target/msrv
	$(IN_KERNEL) 'Rust $(MSRV), test kernel, 64-bit' $(OLDEST) build $(OLDEST_KERNEL) $(64)
	$(IN_KERNEL) 'Rust $(MSRV), test kernel, 32-bit' $(OLDEST) build $(OLDEST_KERNEL) $(32)
	$(STEP) 'Rust $(MSRV), module, 64-bit' env CARGO='$(OLDEST)' TARGET_DIR=target/msrv \
	    tests/module/build.sh $(lastword $(64)) target/msrv/$(lastword $(64))/release/$(MODULE)
	$(STEP) 'Rust $(MSRV), module, 32-bit' env CARGO='$(OLDEST)' TARGET_DIR=target/msrv \
	    tests/module/build.sh $(lastword $(32)) target/msrv/$(lastword $(32))/release/$(MODULE)
	$(STEP) 'Rust $(MSRV), boot, 64-bit' tests/kernel/run.sh \
	    target/msrv/x86_64-unknown-none/release/patchlet-test-kernel
	$(STEP) 'Rust $(MSRV), boot, 32-bit' tests/kernel/run.sh \
	    target/msrv/i686-unknown-linux-gnu/release/patchlet-test-kernel

matrix: setup ## the crate's patchlets under every compiler, linker and option
	$(SHOW) cargo run --quiet --release --locked --example matrix

rivals: setup ## the other constructions under the same compilers, linkers and options
	$(SHOW) cargo run --quiet --release --locked --example rivals

soak: kernel ## live switches: 10,000 in each kernel, with a module loaded 1,000 times; a million in a process of each width
	$(SHOW) env TIMEOUT=600 tests/kernel/run.sh \
	    target/kernel/fat/x86_64-unknown-none/release/patchlet-test-kernel -smp 2 -append 'cpus=2 soak=10000 modules=1000'
	$(SHOW) env TIMEOUT=600 tests/kernel/run.sh \
	    target/kernel/fat/i686-unknown-linux-gnu/release/patchlet-test-kernel -smp 2 -append 'cpus=2 soak=10000 modules=1000'
	$(SHOW_PROCESS) env PATCHLET_SOAK=1 cargo test --locked --release --test live -- --nocapture
	$(SHOW_PROCESS) env PATCHLET_SOAK=1 cargo test --locked --release --test live $(PROGRAM_32) -- --nocapture

miri: setup ## what of the core needs no assembly, by Miri
	$(SHOW) env MIRIFLAGS=-Zmiri-permissive-provenance \
	    cargo +nightly miri test --locked --test pure --target-dir target/miri

fresh: ## run and test in a new minimal Debian; SUITE, AS, WITH as in tests/setup/fresh.sh
	@tests/setup/fresh.sh

fuzz: setup ## damaged files for the tool, ten minutes for each target; SECONDS_EACH
	$(SHOW) tests/programs/fuzz.sh

mutants: setup ## which bugs put into the core no test would find; hours, see .cargo/mutants.toml
	$(SHOW) cargo mutants -j 1

semver: ## whether what is public is still what it was at BASE, a commit; see CONTRIBUTING.md
	$(SHOW) cargo semver-checks --all-features --baseline-rev $(or $(BASE),HEAD)

linux: setup ## real Linux kernels in QEMU: is every byte of their text explained? Downloads them; ROWS='6.12 EPYC'
	@tests/programs/linux/fetch.sh
	$(SHOW) cargo run --quiet --locked --release --features inspect --example linux -- $(ROWS)

cpu-models: setup ## ask QEMU for its CPU models, which `patchlet plan --cpu` knows: src/inspect/cpu/models.txt
	$(SHOW) cargo run --quiet --locked --features inspect --example cpu_models

report: setup ## all checks that CI does not run, and what they came to: docs/report.md
	@MAKE="$(MAKE)" tests/programs/report.sh

bench: setup ## the benchmarks, each width
	$(SHOW_PROCESS) cargo bench --locked
	$(SHOW_PROCESS) cargo bench --locked $(PROGRAM_32)

size: setup ## what the crate adds to a kernel, in bytes
	$(SHOW) cargo run --quiet --locked --example size

build-time: setup ## a cold build of a kernel with the crate and without
	$(SHOW) cargo run --quiet --locked --example size build

##@ Parts of it
setup-test: setup ## the set-up itself, on machines that are made up
	$(STEP) 'set-up' tests/setup/test.sh

test-64: setup ## tests of the crate, which build and boot the kernels
	$(STEP) 'tests, 64-bit' cargo test --locked --all-features --no-fail-fast

# Only the tests that run the crate's own code. The other tests read or build files of both widths in
# any case.
test-32: setup ## the crate's code as a 32-bit program
	$(STEP) 'tests, 32-bit' cargo test --locked --no-fail-fast $(PROGRAM_32) \
	    --lib --test patchlets --test pure --test engine --test live_model --test signatures --test user_mode --test features

process: setup ## a process that patches itself: debug and release, both widths
	$(IN_PROCESS) 'test process, 64-bit, debug' cargo test --locked
	$(IN_PROCESS) 'test process, 64-bit, release' cargo test --locked --release
	$(IN_PROCESS) 'test process, 32-bit, debug' cargo test --locked $(PROGRAM_32)
	$(IN_PROCESS) 'test process, 32-bit, release' cargo test --locked --release $(PROGRAM_32)

# With the flags of test-64, so that the example which it has built is used.
test-matrix: setup ## the matrix as `make matrix` runs it; only failures are printed
	$(STEP) 'matrix' cargo run --locked --all-features --example matrix

kernel: setup ## build the test kernels, and the module that they load
	$(IN_KERNEL) 'test kernel, 64-bit' cargo build $(KERNEL) $(64)
	$(IN_KERNEL) 'test kernel, 32-bit' cargo build $(KERNEL) $(32)
	$(STEP) 'module, 64-bit' tests/module/build.sh $(lastword $(64)) target/kernel/fat/$(lastword $(64))/release/$(MODULE)
	$(STEP) 'module, 32-bit' tests/module/build.sh $(lastword $(32)) target/kernel/fat/$(lastword $(32))/release/$(MODULE)

boot: kernel ## boot them; ACCEL, CPU and TIMEOUT as in tests/kernel/run.sh
	$(STEP) 'boot, 64-bit' tests/kernel/run.sh target/kernel/fat/x86_64-unknown-none/release/patchlet-test-kernel
	$(STEP) 'boot, 32-bit' tests/kernel/run.sh target/kernel/fat/i686-unknown-linux-gnu/release/patchlet-test-kernel

size-limit: setup ## boot patching has no more text than it may have
	$(STEP) 'size of boot patching' cargo run --quiet --locked --example size limit

##@ To work on it
bless: setup ## take what the tool prints now as its golden files
	$(STEP) 'golden files' env BLESS=1 cargo test --locked --all-features --test tool
	@git --no-pager diff --stat -- tests/golden

fmt: setup-lint ## format every file
	@. tests/steps.sh; for manifest in $(manifests); do cargo fmt --manifest-path "$$manifest"; done

clean: ## remove all that was built
	@cargo clean --quiet
	@cd tests/kernel && cargo clean --quiet
	@cd tests/process && cargo clean --quiet

setup-lint:
	@tests/setup/setup.sh lint

setup-msrv:
	@tests/setup/setup.sh rust $(MSRV)

.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*/\1/p' $(MAKEFILE_LIST))
