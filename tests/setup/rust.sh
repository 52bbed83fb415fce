# shellcheck shell=bash
# shellcheck disable=SC2154 # Variables of setup.sh, which sources this.
# Rust's parts: its libraries for other targets, its lints, an older version. All come from
# rustup, which keeps them where it keeps everything. Sourced by setup.sh.

# Prints those of the targets, up to an argument --, for which rustc has no library. Behind it
# may be the command of another rustc.
missing_targets() {
    local wanted=() target
    while [ "$1" != -- ]; do
        wanted+=("$1")
        shift
    done
    shift
    for target in "${wanted[@]}"; do
        has_core "$target" "$@" || echo "$target"
    done
}

# COMMAND...: of rustup's. It tries unreachable servers again and again.
run_rustup() {
    say "$*"
    quietly timeout 300 "$@" || tail -n 3 "$scratch/log" >&2
}

add_targets() {
    local missing
    mapfile -t missing < <(missing_targets "${targets[@]}" --)
    [ ${#missing[@]} -gt 0 ] || return 0
    has rustup || die "$(rustc --version) has no libraries for ${missing[*]}, and there is no rustup to add them" \
        "$(how_to_get rustup)"
    run_rustup rustup target add "${missing[@]}"
    mapfile -t missing < <(missing_targets "${targets[@]}" --)
    [ ${#missing[@]} = 0 ] || die "rustup could not add Rust's libraries for ${missing[*]}, see above." \
        '  They are what the kernels and the 32-bit programs of the tests are built with. By hand:' \
        "    rustup target add ${missing[*]}"
}

missing_lints() {
    cargo fmt --version >/dev/null 2>&1 || echo rustfmt
    cargo clippy --version >/dev/null 2>&1 || echo clippy
}

add_lints() {
    local missing
    mapfile -t missing < <(missing_lints)
    [ ${#missing[@]} -gt 0 ] || return 0
    has rustup || die "$(rustc --version) has no ${missing[*]}; please install what \`make lint\` and \`make fmt\` run"
    run_rustup rustup component add "${missing[@]}"
    mapfile -t missing < <(missing_lints)
    [ ${#missing[@]} = 0 ] || die "rustup could not add ${missing[*]}, see above. By hand:" \
        "    rustup component add ${missing[*]}"
}

# Adds a Rust beside the default one.
add_rust() {
    local version=$1 lacks=(missing_targets "${kernel_targets[@]}" -- rustup run "$1" rustc)
    local command=(rustup toolchain install "$version" --profile minimal --no-self-update
        "${kernel_targets[@]/#/--target=}")
    has rustup || die "Rust $version comes from rustup only" "$(how_to_get rustup)"
    [ "$("${lacks[@]}")" ] || return 0
    run_rustup "${command[@]}"
    [ ! "$("${lacks[@]}")" ] ||
        die "rustup could not install Rust $version for ${kernel_targets[*]}, see above. By hand:" "    ${command[*]}"
}
