#!/usr/bin/env bash
# Boots the test kernel in QEMU and says by its exit status whether every test passed.
#
#   run.sh ELF [QEMU argument]...
#
#   ACCEL    QEMU accelerator            tcg,thread=single
#   CPU      QEMU CPU model              max
#   TIMEOUT  seconds until it counts as hung    60
#
# If there is a file patchlet-test-module.o beside the kernel, the kernel gets it as a module. The test
# kernel fails without one, unless it is told so by `-append modules=0`.
set -u

sentinel='patchlet-test-kernel: finished'

if [ $# -lt 1 ] || [ ! -r "$1" ]; then
    echo "usage: $0 ELF [QEMU argument]..." >&2
    exit 2
fi
elf=$1
shift
# Where `make setup` puts a QEMU that it fetched, for a run by hand.
PATH=$(cd "$(dirname "$0")/../.." && pwd)/target/tools/bin:$PATH

# ELF class: the fifth byte of the file. A 32-bit kernel runs on a CPU that has no 64-bit mode.
case $(od -An -tu1 -j4 -N1 "$elf" | tr -d ' ') in
    1) qemu='qemu-system-i386' ;;
    2) qemu='qemu-system-x86_64' ;;
    *) echo "run.sh: $elf is not an ELF file" >&2; exit 2 ;;
esac

module=$(dirname "$elf")/patchlet-test-module.o
[ ! -r "$module" ] || set -- -initrd "$module" "$@"

log=$(mktemp) || exit 2
trap 'rm -f "$log"' EXIT

timeout --kill-after=5 "${TIMEOUT:-60}" "$qemu" \
    -accel "${ACCEL:-tcg,thread=single}" -cpu "${CPU:-max}" -m 64M \
    -display none -serial stdio -monitor none -no-reboot -net none \
    -device isa-debug-exit,iobase=0xf4,iosize=0x04 \
    -kernel "$elf" "$@" </dev/null | tee "$log"
status=${PIPESTATUS[0]}

fail() {
    echo "run.sh: FAILED: $1" >&2
    exit 1
}

# isa-debug-exit ends QEMU with (value << 1) | 1; the values are in src/qemu.rs.
case $status in
    33) ;;
    35) fail 'the kernel reported a failure' ;;
    0) fail 'the machine was reset or switched off, after a triple fault for instance' ;;
    124 | 137) fail "no end after ${TIMEOUT:-60} seconds" ;;
    127) fail "$qemu is neither installed nor fetched; make setup fetches it" ;;
    *) fail "$qemu ended with status $status" ;;
esac

[ "$(tail -n 1 "$log")" = "$sentinel" ] || fail "the last line is not '$sentinel'"
