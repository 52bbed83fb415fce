# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # Used by what sources this; `scratch` is a folder of its.
# The table of every program that the targets of the Makefile run: what it is for, how it is
# tried, and in which packages it comes. Sourced by setup.sh and doctor.sh.
#
# Steps find the programs of this table and no others: their PATH is target/tools/bin alone,
# which setup.sh fills with links to what the machine has and with what was fetched. A program
# that is missing here is therefore missing on every machine, and not only on one that is new.

# Shell builtins and the small programs that every Linux system has. `git` is for `make bless`.
base=(awk basename bash cat chmod cp cut date dirname echo env expr false find flock git grep head
    id ln ls mkdir mktemp mv od paste printf pwd readlink realpath rm sed sh sleep sort stat tail tee
    test timeout touch tr true uname uniq wc xargs)
# These come with gcc: it runs them, and tests do.
binutils=(cc cpp g++ c++ as ar ld ld.bfd nm objcopy objdump ranlib readelf strip)
# Of rustup. A link named cargo is cargo: rustup looks at the name that it is started by.
rust=(cargo rustc rustdoc rustup rustfmt cargo-fmt cargo-clippy clippy-driver)

declare -A purpose debian fedora arch programs
needed=()  # must be there before
fetched=() # are fetched where they are missing

# NAME PURPOSE, then its packages of Debian and Ubuntu, of Fedora, and of Arch
row() {
    purpose[$1]=$2 debian[$1]=$3 fedora[$1]=$4 arch[$1]=$5
}
need() {
    needed+=("$1")
    row "$@"
}
# The last arguments: the programs to put on the steps' PATH, if they are called otherwise.
fetch_if_missing() {
    fetched+=("$1")
    programs[$1]=${6-$1}
    row "$@"
}

need gcc 'assembles the patchlets, links programs of the host' 'gcc libc6-dev' 'gcc glibc-devel' gcc
need rustup "Rust's stable version, by: rustup default stable" rustup rustup rustup
fetch_if_missing qemu 'boots the test kernels' \
    qemu-system-x86 qemu-system-x86-core qemu-system-x86 'qemu-system-x86_64 qemu-system-i386'
fetch_if_missing clang 'the second assembler and C compiler of the tests' clang clang clang
fetch_if_missing LLVMgold.so "lets GNU ld and mold read clang's LTO objects" \
    llvm-dev llvm-libs llvm-libs ''
fetch_if_missing ld.lld "LLVM's linker, in the tests" lld lld lld
fetch_if_missing mold 'a linker, in the tests' mold mold mold 'mold ld.mold'

# What Rust's libraries are needed for: a 64-bit and a 32-bit kernel, and 32-bit programs of the
# host. The last brings a C library of its own, so that the machine needs none of 32 bit.
kernel_targets=(x86_64-unknown-none i686-unknown-linux-gnu)
targets=("${kernel_targets[@]}" i686-unknown-linux-musl)
# Other hosts that kernels are built on: `make hosts` compiles the tool for them.
targets+=(aarch64-unknown-linux-gnu aarch64-apple-darwin x86_64-pc-windows-msvc)

has() { command -v "$1" >/dev/null 2>&1; }

# Succeeds if the tool that PATH has is good enough for the tests.
works() {
    case $1 in
        # Debian's gcc only recommends the C library's headers and start files. Assembling and
        # compiling for 32 bit must need nothing of that width.
        gcc) compiles gcc -m64 && has cc && assembles gcc -m32 ;;
        rustup) cargo --version && rustc --version ;;
        qemu) qemu-system-x86_64 --version && qemu-system-i386 --version ;;
        clang) assembles clang --target=x86_64-unknown-none-elf && compiles clang -m64 &&
            assembles clang --target=i686-unknown-none-elf ;;
        # GNU ld itself loads it, and the library of LLVM with it.
        LLVMgold.so) assembles clang -flto &&
            ld -plugin "$(gold_plugin)" -r "$scratch/object" -o "$scratch/program" ;;
        mold) mold --version && ld.mold --version ;;
        *) "$1" --version ;;
    esac </dev/null >/dev/null 2>&1
}

# COMPILER FLAG...: it makes a program of the host, with its C library.
compiles() {
    "$1" "${@:2}" -x c - -o "$scratch/program" <<<'int main(void) { return 0; }'
}

# COMPILER FLAG...: it makes an object, from a header of its own and no C library.
assembles() {
    "$1" "${@:2}" -ffreestanding -x c -c - -o "$scratch/object" <<'END'
#include <stdint.h>
uint32_t four(void) { return 4; }
__asm__("cli");
END
}

# Prints the path at which clang expects LLVM's plugin for linkers.
gold_plugin() {
    clang -flto -fuse-ld=bfd -### -x c /dev/null -o /dev/null 2>&1 |
        sed -n 's/.*"-plugin" "\([^"]*\)".*/\1/p'
}

clang_major() { clang -dumpversion | sed 's/\..*//'; }

# Prints what the tool says about its version.
version() {
    case $1 in
        qemu) qemu-system-x86_64 --version ;;
        LLVMgold.so) echo "LLVM $(clang_major)" ;;
        *) "$1" --version ;;
    esac </dev/null 2>/dev/null | head -n 1
}

# Succeeds if Rust has the core library of a target. Of another rustc: its command behind it.
has_core() {
    local target=$1 library
    shift
    library=$("${@:-rustc}" --print target-libdir --target "$target" 2>/dev/null) &&
        compgen -G "$library/libcore-*.rlib" >/dev/null
}

# Prints one message about these tools: what they are for, and which packages have them.
how_to_get() {
    local tool
    for tool; do
        printf '    %-12s %s\n' "$tool" "${purpose[$tool]}"
    done
    printf '  As packages:\n'
    printf '    %-16s %s\n' \
        'Debian, Ubuntu' "apt install $(packages debian "$@")" \
        Fedora "dnf install $(packages fedora "$@")" \
        Arch "pacman -S $(packages arch "$@")"
    case " $* " in
        *' rustup '*) printf '    %-16s %s\n' Elsewhere 'https://rustup.rs' ;;
    esac
}

# DISTRIBUTION TOOL...: the names of its packages, each once.
packages() {
    local -n of=$1
    local tool all=()
    for tool in "${@:2}"; do
        # Split at the spaces.
        # shellcheck disable=SC2206
        all+=(${of[$tool]})
    done
    printf '%s\n' "${all[@]}" | awk '!seen[$0]++' | paste -sd ' '
}
