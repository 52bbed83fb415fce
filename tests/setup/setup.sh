#!/usr/bin/env bash
# Makes sure that what `make run` and `make test` need is there, and changes nothing else.
#
#   setup.sh                what all targets need
#   setup.sh lint           rustfmt and clippy as well
#   setup.sh rust VERSION   this Rust as well, with its libraries for the kernels
#   setup.sh doctor         changes nothing; prints what there is, and fails if something is missing
#
# What is on the machine and good enough is used. What is missing is fetched below target/tools
# and not installed; only Rust's libraries for other targets go where rustup keeps them.
set -euo pipefail
cd "$(dirname "$0")/../.."

tools=$PWD/target/tools
bin=$tools/bin
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say() { echo "setup: $*"; }

die() {
    echo "setup: $1" >&2
    shift
    [ $# = 0 ] || printf '%s\n' "$@" >&2
    exit 1
}

# Runs a command that prints only if it fails; what it printed is in $scratch/log.
quietly() { "$@" >"$scratch/log" 2>&1 </dev/null; }

# Somebody may have put target/tools/bin on the PATH of a shell.
PATH=:$PATH:
PATH=${PATH//":$bin:"/:}
PATH=${PATH#:} PATH=${PATH%:}

# shellcheck source=tests/setup/tools.sh
. tests/setup/tools.sh
# shellcheck source=tests/setup/fetch.sh
. tests/setup/fetch.sh
# shellcheck source=tests/setup/rust.sh
. tests/setup/rust.sh

# Succeeds if a tool of the machine itself is good enough.
declare -A tried=()
good_here() {
    if [ ! "${tried[$1]-}" ]; then
        tried[$1]=no
        ! works "$1" || tried[$1]=yes
    fi
    [ "${tried[$1]}" = yes ]
}

# Prints those of the fetchable tools that steps do not have.
missing() {
    local tool
    for tool in "${fetched[@]}"; do
        PATH=$bin:$PATH works "$tool" || echo "$tool"
    done
}

[ "$(uname -sm)" = 'Linux x86_64' ] ||
    die "this machine is $(uname -sm): the tests run patched code on the host, which must be Linux on x86_64"

if [ "${1-}" = doctor ]; then
    # shellcheck source=tests/setup/doctor.sh
    . tests/setup/doctor.sh
    doctor
    exit
fi

lacking=()
for tool in "${needed[@]}"; do
    good_here "$tool" || lacking+=("$tool")
done
[ ${#lacking[@]} = 0 ] || die "this must be installed first: ${lacking[*]}" "$(how_to_get "${lacking[@]}")"

mkdir -p "$tools"
# Two at a time would fetch the same, into the same folder.
exec 9>"$tools/lock"
! has flock || flock 9
shopt -s nullglob

fill_bin "$bin" "$tools"/fetched.*
mapfile -t lacking < <(missing)
if [ ${#lacking[@]} -gt 0 ]; then
    # A plugin has to be beside its clang: where that was fetched, both come together.
    case " ${lacking[*]} " in
        *' clang '*) ;;
        *' LLVMgold.so '*) good_here clang || lacking+=(clang) ;;
    esac
    fetch "${lacking[@]}"
    fill_bin "$bin" "$tools"/fetched.*
    for folder in "$tools"/fetched.*; do
        case " ${in_use[*]} " in
            *" $folder "*) ;;
            *) rm -rf "$folder" ;;
        esac
    done
    mapfile -t lacking < <(missing)
    [ ${#lacking[@]} = 0 ] || die "still missing after they were fetched: ${lacking[*]}"
fi

add_targets
case ${1-} in
    lint) add_lints ;;
    rust) add_rust "${2:?which version of Rust?}" ;;
esac
