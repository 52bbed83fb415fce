#!/usr/bin/env bash
# Installs what `make run` and `make test` need, and leaves alone what is there.
#
#   setup.sh        C compilers, linkers, QEMU, Rust for the host and for both kernels
#   setup.sh lint   rustfmt and clippy as well
#   setup.sh rust VERSION
#                   this Rust as well, with the targets of the kernels; by rustup only
#
# Tools come from apt, Rust's targets from rustup. Where rustup is absent or cannot add
# them, Debian's Rust and its source are used: they build the core library along with
# each program. What that takes is then in target/toolchain/env, for tests/steps.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

targets=(x86_64-unknown-none i686-unknown-linux-gnu)
toolchain=$PWD/target/toolchain
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say() { echo "setup: $*"; }

die() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# --- what is there ---

# gcc makes a program: of a width (-m64, -m32) it needs a C library and start files of its own.
links() {
    echo 'int main(void) { return 0; }' |
        gcc "$1" -x c - -o "$scratch/program" 2>/dev/null
}

# The Debian packages of what is missing, one in a line.
missing_tools() {
    # Debian's gcc only recommends the C library's headers and start files.
    links -m64 || printf '%s\n' gcc libc6-dev
    links -m32 || echo gcc-multilib
    # Linkers of the matrix, beside GNU ld and Rust's own.
    has ld.lld || echo lld
    has mold || echo mold
    { has qemu-system-x86_64 && has qemu-system-i386; } || echo qemu-system-x86
}

# With it the other linkers read what `clang -flto` makes. In Debian it is named after clang.
missing_plugin() {
    [ -e "$(clang -print-resource-dir)/../../LLVMgold.so" ] ||
        clang -dumpversion | sed 's/\([0-9]*\).*/llvm-\1-linker-tools/'
}

# The core library of a target, as rustup installs it. Of another rustc: its command behind it.
has_core() {
    local target=$1 library
    shift
    library=$("${@:-rustc}" --print target-libdir --target "$target" 2>/dev/null) &&
        compgen -G "$library/libcore-*.rlib" >/dev/null
}

missing_targets() {
    local target
    for target in "${targets[@]}"; do
        has_core "$target" "$@" || echo "$target"
    done
}

# A Rust that can build the core library itself, and the linker of the kernels.
builds_core() {
    local sysroot
    has cargo && sysroot=$(rustc --print sysroot 2>/dev/null) &&
        [ -e "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ] &&
        { has rust-lld || compgen -G "$sysroot/lib/rustlib/*/bin/rust-lld" >/dev/null; }
}

missing_lints() {
    cargo fmt --version >/dev/null 2>&1 || echo rustfmt
    cargo clippy --version >/dev/null 2>&1 || echo clippy
}

# --- what can be installed ---

# As root: directly or by sudo, which may ask for a password only where someone can answer.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

# Quiet unless it fails.
quietly() { "$@" >"$scratch/log" 2>&1 </dev/null; }

updated=
apt_update() {
    if [ "$updated" ]; then return; fi
    updated=yes
    # Lists that are old may still do: what comes after it decides.
    quietly as_root apt-get update || say 'apt-get update failed; trying with the lists that are there'
}

apt_install() {
    has apt-get || die 'there is no apt here. Please install what Debian calls' "    $*" \
        'and start again. (gcc-multilib: what gcc -m32 links a program with.)'
    [ "$(id -u)" = 0 ] || has sudo || die 'not root, and there is no sudo. As root, please run' \
        "    apt-get install --no-install-recommends $*"
    say "installing $*"
    apt_update
    # --no-remove: what is in the way is for its owner to remove.
    quietly as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends --no-remove "$@" || {
        cat "$scratch/log" >&2
        die 'apt-get failed, see above. As root, please run' \
            "    apt-get install --no-install-recommends $*"
    }
}

# A Rust beside the default one.
install_rust() {
    local version=$1 lack rustc
    local options=(--profile minimal --no-self-update "${targets[@]/#/--target=}")
    rustc=(rustup run "$version" rustc)
    lack="Rust $version for ${targets[*]} comes from rustup only"
    has rustup || die "$lack. Please install rustup, then start again"
    [ "$(missing_targets "${rustc[@]}")" ] || return 0
    say "rustup toolchain install $version"
    quietly timeout 300 rustup toolchain install "$version" "${options[@]}" || cat "$scratch/log" >&2
    [ ! "$(missing_targets "${rustc[@]}")" ] || die "$lack, and it could not install it. By hand:" \
        "    rustup toolchain install $version ${options[*]}"
}

# --- Debian's Rust ---

# In a folder that comes first on PATH: rustup's cargo, if there is one, stays where it is.
link_debian_rust() {
    local tool
    mkdir -p "$toolchain/bin"
    for tool in cargo rustc rustdoc rustfmt cargo-fmt cargo-clippy clippy-driver; do
        ln -sf "/usr/bin/$tool" "$toolchain/bin/$tool"
    done
    # The linker is that of Rust's LLVM; only Debian's name for it has a number.
    ln -sf "/usr/bin/lld-$(debian_llvm)" "$toolchain/bin/rust-lld"
}

debian_llvm() { /usr/bin/rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p'; }

install_debian_rust() {
    local lack="there is no core library for ${missing[*]}" by_hand
    by_hand="please make this work: rustup target add ${missing[*]}"
    has rustup || by_hand="please install Rust's stable version by rustup, then start again"
    has apt-get || die "$lack" "$by_hand"
    # A machine that never updated knows no package at all.
    apt-cache show rustc-web >/dev/null 2>&1 || apt_update
    apt-cache show rustc-web >/dev/null 2>&1 ||
        die "$lack, and apt has no rustc-web to build it with" "$by_hand"
    say "$lack: Debian's Rust will build it"
    apt_install rustc-web cargo-web rust-web-src
    apt_install "lld-$(debian_llvm)"
    link_debian_rust
}

use_built_core() {
    mkdir -p "$toolchain"
    cat >"$toolchain/env" <<END
# By tests/setup.sh: Rust has no core library for ${targets[*]}.
export PATH=$(printf %q "$toolchain/bin"):\$PATH
# -Zbuild-std is not stable yet.
export PATCHLET_BUILD_STD=1 RUSTC_BOOTSTRAP=1
END
}

# --- from here on, it is done ---

[ "$(uname -m)" = x86_64 ] ||
    die "this machine is $(uname -m): the tests run patched code on the host, which must be x86_64"

for tools in missing_tools missing_plugin; do
    mapfile -t packages < <("$tools")
    if [ ${#packages[@]} -gt 0 ]; then
        apt_install "${packages[@]}"
        mapfile -t packages < <("$tools")
        [ ${#packages[@]} = 0 ] || die "still missing after its installation: ${packages[*]}"
    fi
done

mapfile -t missing < <(missing_targets)
if [ ${#missing[@]} -gt 0 ] && has rustup && [ ! -e "$toolchain/env" ]; then
    say "rustup target add ${missing[*]}"
    # Unreachable servers are tried again and again.
    quietly timeout 300 rustup target add "${missing[@]}" || tail -n 3 "$scratch/log" >&2
    mapfile -t missing < <(missing_targets)
fi
if [ ${#missing[@]} = 0 ]; then
    # Nothing to build, or nothing any more.
    rm -rf "$toolchain"
else
    PATH=$toolchain/bin:$PATH
    builds_core || install_debian_rust
    builds_core || die "cargo, rust-lld or Rust's source is still missing in $toolchain/bin"
    use_built_core
fi
has cargo || die 'rustc is there, but no cargo'

if [ "${1-}" = lint ]; then
    mapfile -t lints < <(missing_lints)
    if [ ${#lints[@]} -gt 0 ]; then
        if [ -e "$toolchain/bin" ]; then
            apt_install rustfmt-web rust-web-clippy
        elif has rustup; then
            say "rustup component add ${lints[*]}"
            quietly rustup component add "${lints[@]}" || cat "$scratch/log" >&2
        fi
        mapfile -t lints < <(missing_lints)
        [ ${#lints[@]} = 0 ] || die "please install ${lints[*]} for $(rustc --version)"
    fi
fi

if [ "${1-}" = rust ]; then
    install_rust "${2:?which version of Rust?}"
fi
