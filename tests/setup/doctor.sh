# shellcheck shell=bash
# shellcheck disable=SC2154 # Variables of setup.sh, which sources this.
# What there is of all that the targets use: `make doctor`. A bug report should contain it.
# Sourced by setup.sh.

# TOOL: a line of the table; fails if the tool is missing.
diagnose() {
    local tool=$1 where=missing program=${programs[$1]-$1} status=0
    program=${program%% *}
    program=${program:-clang}
    if good_here "$tool"; then
        where=$(type -P "$program")
        [ "$tool" != LLVMgold.so ] || where=$(realpath "$(gold_plugin)")
    elif PATH=$bin:$PATH works "$tool"; then
        where=fetched
    else
        status=1
    fi
    print_row "$tool" "$where" "$([ $status = 1 ] || PATH=$bin:$PATH version "$tool")" "${purpose[$tool]}"
    return $status
}

print_row() { printf '%-24s %-28s %-44.44s %s\n' "$@"; }

# NAME PURPOSE COMMAND...: a line for a part that single targets need; it is missing if the
# command fails, and then nothing is wrong.
optional() {
    local name=$1 purpose=$2 said
    shift 2
    if said=$("$@" 2>/dev/null </dev/null); then
        print_row "$name" found "$(head -n 1 <<<"$said")" "$purpose"
    else
        print_row "$name" 'not there' '' "$purpose"
    fi
}

doctor() {
    local tool target lacking=() msrv
    msrv=$(sed -n 's/^rust-version = "\(.*\)"/\1.0/p' Cargo.toml)
    print_row tool 'found at' version 'what it is for'
    for tool in "${needed[@]}" "${fetched[@]}"; do
        diagnose "$tool" || lacking+=("$tool")
    done
    print_row make "$(type -P make)" "$(make --version | head -n 1)" 'runs all this'
    print_row ld "$(type -P ld)" "$(ld --version | head -n 1)" 'comes with gcc; the linker of the host, and one of the tests'
    print_row rustc "$(type -P rustc)" "$(rustc --version 2>/dev/null)" 'comes with rustup'
    for target in "${targets[@]}"; do
        if has_core "$target"; then
            print_row "$target" found '' "Rust's libraries"
        else
            print_row "$target" missing '' "Rust's libraries"
            lacking+=("$target")
        fi
    done

    printf '\nFor single targets; no part of make run and make test\n'
    optional rustfmt 'make fmt, make fmt-check, CI; they add it' cargo fmt --version
    optional clippy 'make lint, CI; they add it' cargo clippy --version
    optional "Rust $msrv" 'make msrv, CI; they add it' rustup run "$msrv" rustc --version
    optional miri 'make miri' cargo +nightly miri --version
    optional cargo-mutants 'make mutants' cargo mutants --version
    optional cargo-semver-checks 'make semver' cargo semver-checks --version
    optional cargo-fuzz 'fuzz/' cargo fuzz --version

    printf '\nOn %s\n' "$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release 2>/dev/null), Linux $(uname -r), user $(id -un)"
    if [ ${#lacking[@]} -gt 0 ]; then
        printf '\nMissing: %s. make setup gets it, or says how.\n' "${lacking[*]}"
        return 1
    fi
}
