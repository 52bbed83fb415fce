#!/usr/bin/env bash
# Builds the module for the target of a test kernel, and links it to one relocatable object.
#
#   build.sh TARGET OBJECT
#
#   CARGO        the command instead of cargo
#   LD           the linker                   ld.lld
#   TARGET_DIR   cargo's target folder        target/module
set -eu -o pipefail

if [ $# != 2 ]; then
    echo "usage: $0 TARGET OBJECT" >&2
    exit 2
fi
target=$1
object=$(realpath -m "$2")
built=$(realpath -m "${TARGET_DIR:-$(dirname "$0")/../../target/module}")
cd "$(dirname "$0")"
case $target in
    x86_64-*) emulation=elf_x86_64 ;;
    i686-*) emulation=elf_i386 ;;
    *) echo "build.sh: no test kernel is for $target" >&2; exit 2 ;;
esac

# These would replace the flags of .cargo/config.toml, and the target.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET

# The library of the package holds its machine code. What its build script assembled is in the
# script's folder, whose name only cargo knows.
assembled=$(${CARGO:-cargo} build --quiet --locked --release --target "$target" \
    --target-dir "$built" --message-format=json-render-diagnostics |
    sed -n '/"package_id":"[^"]*\/tests\/module#/ s/.*"out_dir":"\([^"]*\)".*/\1/p')
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && ar x "$built/$target/release/libpatchlet_test_module.rlib")
# GNU ld 2.40 has an internal error if it links 32-bit objects with sites in two steps, and a site of
# the second is in a `.S` file.
${LD:-ld.lld} -r -m "$emulation" -L ../../asm --script=module.ld -o "$folder/module" \
    "$folder"/*.rcgu.o --whole-archive "$assembled/libpatchlet_test_module_own.a"
# At once: two tests may want the same file.
mkdir -p "$(dirname "$object")"
mv "$folder/module" "$object"
