#!/usr/bin/env bash
# Tests the set-up on machines that are made up: a PATH with stubs of compilers, rustup, apt-get
# and dpkg on it, which write down how they were called.
#
# It covers what the set-up decides: what is used, what is fetched, what is refused with which
# message, and that nothing is installed. It does not cover what real packages contain: `make test`
# does on the machine it runs on, and `make fresh` on minimal ones.
# Stubs are shell scripts in quotes.
# shellcheck disable=SC2016
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0

# Begins a test on a new machine: gcc, rustup and a package manager, and nothing else.
test_() {
    name=$1
    machine=$scratch/${name// /-}
    stubs=$machine/stubs
    repository=$machine/repository
    calls=$machine/calls
    output=$machine/output
    mkdir -p "$stubs" "$repository/tests"
    : >"$calls"
    cp -r "$here" "$repository/tests/setup"
    printf 'rust-version = "1.88"\n' >"$repository/Cargo.toml"
    # The programs that every machine has; `env` and `bash` start the stubs.
    for program in awk basename bash cat chmod cp cut dirname env find flock grep head id ln ls mkdir \
        mktemp mv paste readlink realpath rm sed sleep sort tail timeout touch tr uname; do
        ln -s "$(type -P "$program")" "$stubs/$program" || fail "this test needs $program"
    done
    for program in as make; do stub "$program" ''; done
    # A plugin that was fetched needs a library that was fetched with it.
    stub ld '[ "$1" != -plugin ] || { [ -e "$2" ] &&
        [[ $2 != */target/tools/* || ${LD_LIBRARY_PATH-} == */target/tools/*/usr/lib* ]]; }'
    # No C library of 32 bit, nor its headers, as without gcc-multilib.
    stub gcc '[[ "$*" != *-m32* || " $* " == *" -c "* && "$*" == *-ffreestanding* ]]'
    stub cc ''
    stub rustup 'echo "${@:3}" | tr " " "\n" >>"$MACHINE/targets"'
    stub cargo ''
    stub rustc 'case "$*" in
        *target-libdir*)
            mkdir -p "$MACHINE/libdir"
            grep -qx -- "${@: -1}" "$MACHINE/targets" 2>/dev/null || exit 1
            touch "$MACHINE/libdir/libcore-0.rlib"
            echo "$MACHINE/libdir"
            ;;
        esac'
    package_manager
}

# NAME BODY: a program that writes down its call. Several tests look at `calls`.
stub() {
    printf '#!%s\necho "%s $*" >>"$MACHINE/calls"\n%s\n' "$(type -P bash)" "$1" "$2" >"$stubs/$1"
    chmod +x "$stubs/$1"
}

# apt-get as on a machine where another package stands in the way: it can download, and would
# have to remove something to install. A package is a file with the name of its program.
package_manager() {
    stub apt-get '
        [ "$1" = -c ] && conf=$2 && shift 2
        [ "$1" = -o ] && shift 2
        archives=$(sed -n "s/^Dir::Cache::archives \"\(.*\)\";/\1/p" "${conf-/dev/null}")
        case "$1 $*" in
            "update "*) ;;
            *--print-uris*) [ -e "$MACHINE/nothing" ] || echo "'"'"'uri'"'"' a.deb 1000000 hash" ;;
            install*)
                if ! grep -q "^APT::Get::Download-Only \"true\"" "${conf-/dev/null}"; then
                    echo "E: Packages need to be removed but remove is disabled." >&2
                    echo INSTALLED >>"$MACHINE/calls"
                    exit 100
                fi
                [ ! -e "$MACHINE/unreachable" ] || { echo "E: unreachable" >&2; exit 100; }
                shift
                for package; do
                    case $package in -*) ;; *) echo "$package" >"$archives/$package.deb" ;; esac
                done
                ;;
            *) exit 1 ;;
        esac'
    stub apt-cache 'echo "  Depends: clang-14"'
    stub dpkg '
        [ "$1" = -x ] || { echo INSTALLED >>"$MACHINE/calls"; exit 1; }
        [ ! -e "$MACHINE/interrupted" ] || kill -9 "$(cat "$MACHINE/interrupted")"
        program() {
            mkdir -p "$root/usr/bin"
            { echo "#!/bin/sh"; printf "%s\n" "${2-}"; } >"$root/usr/bin/$1"
            chmod +x "$root/usr/bin/$1"
        }
        root=$3
        case $(cat "$2") in
            qemu-system-x86) program qemu-system-x86_64; program qemu-system-i386 ;;
            lld) program ld.lld ;;
            mold) program mold; program ld.mold ;;
            clang) program clang "$(cat "$MACHINE/clang")" ;;
            llvm-14-linker-tools)
                mkdir -p "$root/usr/lib/llvm-14/lib"
                touch "$root/usr/lib/llvm-14/lib/LLVMgold.so" "$root/usr/lib/libLLVM.so.14"
                ;;
        esac'
    # It names a plugin beside itself, wherever it lies.
    cat >"$machine/clang" <<'END'
        case "$*" in
            *-dumpversion*) echo 14.0.6 ;;
            *-print-resource-dir*) echo "${0%/bin/*}/lib/clang/14.0.6" ;;
            *'-###'*) echo " \"-plugin\" \"${0%/bin/*}/lib/llvm-14/lib/LLVMgold.so\"" >&2 ;;
        esac
END
}

# ARGUMENT...: runs the set-up on the machine; its status is returned, its output is in $output.
set_up() {
    env -i MACHINE="$machine" HOME="$machine" PATH="$stubs" TMPDIR="$machine" \
        bash "$repository/tests/setup/setup.sh" "$@" >"$output" 2>&1 </dev/null
}

fail() {
    printf 'setup test: %s: %s\n' "$name" "$1" >&2
    printf '%s\n' '--- output' "$(cat "$output")" '--- calls' "$(cat "$calls")" >&2
    exit 1
}

ok() { passed=$((passed + 1)); }
succeeds() { set_up "$@" || fail 'it fails'; }
fails() { ! set_up "$@" || fail 'it succeeds'; }
says() { grep -qF -- "$1" "$output" || fail "it does not say: $1"; }
is_called() { grep -qE "$1" "$calls" || fail "not called: $1"; }
is_not_called() { ! grep -qE "$1" "$calls" || fail "called: $1"; }
steps_have() {
    local program
    for program; do
        [ -x "$repository/target/tools/bin/$program" ] || fail "steps have no $program"
    done
}

# Those that are fetched, by the names by which tests start them.
steps_have_all() { steps_have clang ld.lld mold ld.mold qemu-system-x86_64 qemu-system-i386; }

test_ 'what is missing is fetched and not installed'
succeeds
steps_have_all
steps_have gcc cc ld make cargo rustc
is_not_called INSTALLED
is_not_called 'multilib'
is_not_called '^(sudo|apt) '
is_called '^apt-get .*install.* qemu-system-x86'
is_called '^rustup target add .*i686-unknown-linux-musl'
says 'downloading'
ok

test_ 'a second run fetches nothing and needs no network'
succeeds
: >"$calls"
touch "$machine/unreachable"
succeeds
is_not_called '^(apt|dpkg|rustup target)'
[ ! -s "$output" ] || fail 'it says something'
ok

test_ 'what is there is used'
for program in qemu-system-x86_64 qemu-system-i386 ld.lld mold ld.mold; do stub "$program" ''; done
stub clang "case \"\$*\" in *'-###'*) echo ' \"-plugin\" \"/dev/null\"' >&2 ;; esac"
succeeds
is_not_called '^(apt|dpkg)'
[ "$(readlink "$repository/target/tools/bin/clang")" = "$stubs/clang" ] || fail 'clang is another one'
ok

test_ 'a clang without its plugin is lent one'
for program in qemu-system-x86_64 qemu-system-i386 ld.lld mold ld.mold; do stub "$program" ''; done
stub clang "$(cat "$machine/clang")"
# What the lent one is: beside a folder of links.
sed -i 's|/lib/llvm-14/lib/LLVMgold|/lib/LLVMgold|' "$stubs/clang"
sed -i 's|\${0%/bin/\*}|$(case "$*" in *-no-canonical-prefixes*) echo "${0%/bin/*}" ;; *) echo /nowhere ;; esac)|' "$stubs/clang"
succeeds
is_called '^apt-get .*install .*llvm-14-linker-tools$'
is_not_called '^apt-get .*install .*[ ]clang'
ok

test_ 'steps see the table and nothing else'
stub happens-to-be-there ''
succeeds
# As the Makefile does it.
cp "$here/../steps.sh" "$repository/tests/steps.sh"
PATH=$stubs bash -c 'cd "$1" && . tests/steps.sh && ! type -P happens-to-be-there && type -P clang' \
    - "$repository" >"$output" 2>&1 || fail 'steps find what the table has not, or do not find what it has'
ok

test_ 'a tool that is not good enough is fetched'
stub clang 'exit 1'
succeeds
is_called '^apt-get .*install.* clang'
[ ! -L "$repository/target/tools/bin/clang" ] || fail 'clang is the one that fails'
ok

test_ 'without a package manager one message names everything'
rm "$stubs/apt-get"
fails
for words in 'qemu clang LLVMgold.so ld.lld mold cannot be fetched' 'boots the test kernels' \
    'apt install qemu-system-x86' 'dnf install qemu-system-x86-core' 'pacman -S qemu-system-x86'; do
    says "$words"
done
ok

test_ 'what cannot be downloaded is named'
touch "$machine/unreachable"
fails
says 'E: unreachable'
says 'pacman -S qemu-system-x86'
[ ! -e "$repository/target/tools/bin/clang" ] || fail 'there is a clang'
ok

test_ 'a package that no source has any more'
touch "$machine/nothing"
fails
says 'nothing to download for qemu-system-x86'
says 'pacman -S qemu-system-x86'
ok

test_ 'an interrupted fetch is not taken for a whole one'
# dpkg kills its grandparent, the set-up, at the first package.
cat >"$machine/start" <<'END'
echo $$ >"$MACHINE/interrupted"
exec bash "$@"
END
# The braces: bash says on its own standard error that it was killed.
{
    env -i MACHINE="$machine" HOME="$machine" PATH="$stubs" TMPDIR="$machine" \
        bash "$machine/start" "$repository/tests/setup/setup.sh" >"$output" </dev/null && fail 'it was not killed'
} 2>/dev/null
[ -d "$repository/target/tools/partial/root" ] || fail 'it was killed too early to show anything'
[ ! -e "$repository/target/tools/bin/clang" ] || fail 'there is a clang'
rm "$machine/interrupted"
succeeds
steps_have_all
[ ! -e "$repository/target/tools/partial" ] || fail 'the half of it is still there'
ok

test_ 'a fetched tool that does not run is not kept'
printf 'exit 1\n' >"$machine/clang"
fails
says 'clang was fetched, but does not run'
[ ! -e "$repository/target/tools/bin/clang" ] || fail 'there is a clang'
ok

test_ 'no C compiler'
rm "$stubs/gcc"
fails
says 'must be installed first: gcc'
says 'apt install gcc libc6-dev'
! grep multilib "$output" || fail 'it asks for a C library of 32 bit'
is_not_called '^apt-get'
ok

test_ 'no library for a target and no rustup'
rm "$stubs/rustup"
fails
says 'has no libraries for x86_64-unknown-none i686-unknown-linux-gnu i686-unknown-linux-musl'
says 'https://rustup.rs'
ok

test_ 'rustup cannot add a target'
stub rustup 'exit 1'
sed -i 's/exit 1/case $1 in target) exit 1 ;; esac/' "$stubs/rustup"
fails
says 'rustup target add x86_64-unknown-none'
ok

test_ 'doctor changes nothing, and fails while something is missing'
fails doctor
says 'Missing: qemu clang LLVMgold.so ld.lld mold x86_64-unknown-none'
is_not_called '^(apt-get|dpkg|rustup target)'
[ ! -e "$repository/target" ] || fail 'there is a target folder'
succeeds
succeeds doctor
says 'fetched'
ok

printf 'test result: ok. %d passed; 0 failed; 0 ignored\n' "$passed"
