#!/usr/bin/env bash
# Tries `make run` and `make test` where nobody has worked before: a new minimal Debian, with a C
# compiler, make, git and Rust's stable version in it and nothing else. Proves that nothing outside
# of the repository, the home folder and /tmp was changed, that a second run fetches nothing, and
# that it needs no network. Needs root; the last commit is what is tried.
#
#   SUITE    the release of Debian                      bookworm
#   AS       who runs the commands: root or user        user
#   WITH     packages that are installed before         none
#   TARGETS  of the Makefile                            'test run'
#   MIRROR   of Debian's packages                       the one of this machine's apt
#   KEEP     set: the root stays, in target/fresh
#
# What the commands printed is in target/fresh, too.
set -euo pipefail
cd "$(dirname "$0")/../.."

suite=${SUITE:-bookworm}
as=${AS:-user}
folder=$PWD/target/fresh
base=$folder/base.$suite
# One try is as good as another, side by side.
try=$folder/$suite-$as${WITH:+-with-${WITH// /-}}
root=$try/root
packages=gcc,libc6-dev,make,git,ca-certificates
# What a command inside is started by; at the end, with a network of its own, which is none.
network=()

say() { echo "fresh: $*"; }

die() {
    printf 'fresh: %s\n' "$@" >&2
    exit 1
}

# The rest runs where its mounts are its own, and ends with it.
if [ "${FRESH_INSIDE-}" != yes ]; then
    [ "$(id -u)" = 0 ] || die 'a new root has to be made by root: sudo make fresh'
    exec env FRESH_INSIDE=yes unshare --mount --pid --fork --kill-child "$0" "$@"
fi

# Prints the mirror of Debian's main packages in apt's own list of what it reads.
mirror() {
    # Between dollar and parenthesis stand apt's variables, not the shell's.
    # shellcheck disable=SC2016
    apt-get "$@" indextargets --format '$(ORIGIN) $(COMPONENT) $(SITE)' 'Created-By: Packages' |
        awk '$1 == "Debian" && $2 == "main" { print $3; exit }'
}

make_base() {
    local work=$folder/debootstrap.$suite mirror=${MIRROR-}
    # shellcheck source=tests/setup/fetch.sh
    . tests/setup/fetch.sh
    rm -rf "$work" "$base.partial"
    write_apt_conf "$work"
    apt-get -c "$work/apt.conf" update >/dev/null 2>&1 || true
    [ "$mirror" ] || mirror=$(mirror -c "$work/apt.conf")
    [ "$mirror" ] || die 'apt knows no mirror of Debian here; please name one in MIRROR'
    # A shell script; it may need wget, which then comes along.
    apt-get -c "$work/apt.conf" install --yes --reinstall debootstrap >"$work/log/apt" 2>&1 ||
        die "apt-get does not download debootstrap, see $work/log/apt"
    for deb in "$work"/archives/*.deb; do dpkg -x "$deb" "$work/root"; done

    say "debootstrap of $suite from this machine's mirror"
    DEBOOTSTRAP_DIR=$work/root/usr/share/debootstrap PATH=$PATH:$work/root/usr/bin \
        LD_LIBRARY_PATH=$work/root/usr/lib/x86_64-linux-gnu \
        bash -c '. "$0" "$@"' "$work/root/usr/sbin/debootstrap" --variant=minbase --include="$packages" \
        "$suite" "$base.partial" "$mirror" >"$folder/debootstrap.$suite.log" 2>&1 ||
        die "debootstrap failed, see $folder/debootstrap.$suite.log"
    mv "$base.partial" "$base"
    rm -rf "$work"
}

# Copies how this machine reaches the network: names, proxies, certificates.
copy_network() {
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    apt-config dump | grep -E '^Acquire::(Check-|.*[Pp]roxy|https?::(CA|Verify))' \
        >"$root/etc/apt/apt.conf.d/90host" || true
    [ ! -e /etc/ssl/certs/ca-certificates.crt ] ||
        cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
}

# Copies rustup and the toolchain in use, without the libraries that were added to it.
copy_rust() {
    local home=$1 toolchain cargo=${CARGO_HOME:-$HOME/.cargo} rustup target
    toolchain=$(rustc --print sysroot)
    rustup=$(dirname "$(dirname "$toolchain")")
    mkdir -p "$home/.cargo" "$home/.rustup/toolchains"
    cp -a "$cargo/bin" "$home/.cargo/"
    [ ! -e "$cargo/config.toml" ] || cp "$cargo/config.toml" "$home/.cargo/"
    cp "$rustup/settings.toml" "$home/.rustup/"
    [ ! -e "$rustup/update-hashes" ] || cp -a "$rustup/update-hashes" "$home/.rustup/"
    tar -C "$rustup/toolchains" --exclude=share/doc -c "${toolchain##*/}" |
        tar -C "$home/.rustup/toolchains" -x
    for target in $(RUSTUP_HOME=$home/.rustup rustup target list --installed); do
        [ "$target" = x86_64-unknown-linux-gnu ] ||
            RUSTUP_HOME=$home/.rustup rustup target remove "$target" 2>/dev/null
    done
}

# COMMAND...: in the new root, as the one who tries it, with an environment of his own.
inside() {
    local keep=() name
    for name in $(compgen -e); do
        case $name in
            *_proxy | *_PROXY | SSL_CERT_* | CARGO_HTTP_* | CARGO_REGISTR* | RUSTUP_DIST_SERVER | \
                RUSTUP_UPDATE_ROOT | RUSTUP_AUTO_INSTALL) keep+=("$name=${!name}") ;;
        esac
    done
    "${network[@]}" chroot --userspec="$owner" "$root" env -i "${keep[@]}" HOME="$home" USER="$as" LC_ALL=C.UTF-8 \
        PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin bash -c 'cd ~/patchlet && exec "$@"' - "$@"
}

# Prints what is installed, and every file outside of the home folder that changed since the stamp.
packages_now() { chroot "$root" dpkg -l; }
changed_files() {
    find "$root" -xdev \( -path "$root$home" -o -path "$root/tmp" -o -path "$root/proc" -o -path "$root/dev" \) \
        -prune -o ! -type d -cnewer "$try/stamp" -print
}

mkdir -p "$try"
[ -d "$base" ] || make_base

say "a new root: $suite, as $as, with ${WITH:-no further packages}"
rm -rf "$root"
cp -a "$base" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
copy_network
if [ "${WITH-}" ]; then
    # Each word is a package.
    # shellcheck disable=SC2086
    chroot "$root" sh -c 'apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"' \
        - $WITH >"$try/with.log" 2>&1 || die "$WITH could not be installed, see $try/with.log"
fi
case $as in
    root) home=/root owner=0:0 ;;
    user)
        home=/home/user
        chroot "$root" useradd --create-home user
        owner=$(chroot "$root" id -u user):$(chroot "$root" id -g user)
        ;;
    *) die "AS is root or user, not $as" ;;
esac
copy_rust "$root$home"
git clone --quiet --no-hardlinks . "$root$home/patchlet"
chown -R "$owner" "$root$home"

packages_now >"$try/before"
sleep 1
touch "$try/stamp"
for target in ${TARGETS:-test run}; do
    begin=$SECONDS
    say "make $target"
    inside make --no-print-directory "$target" 2>&1 | tee "$try/$target.log" ||
        die "make $target failed after $((SECONDS - begin)) s"
    say "make $target: $((SECONDS - begin)) s"
done

say "make $target once more, without a network: nothing may be fetched"
network=(unshare --net)
inside make --no-print-directory "$target" >"$try/again.log" 2>&1 ||
    die "make $target failed without a network, see $try/again.log"
! grep -E '^setup: ' "$try/again.log" || die 'the second run set something up'

packages_now >"$try/after"
cmp "$try/before" "$try/after" || die "installed packages changed, see before and after in $try"
changed_files >"$try/changed"
[ ! -s "$try/changed" ] || die 'files of the system changed:' "$(head -n 20 "$try/changed")"
say "passed: $suite, as $as, with ${WITH:-no further packages}; nothing outside of the home folder changed"
if [ ! "${KEEP-}" ]; then
    umount -l "$root/proc" "$root/dev"
    rm -rf --one-file-system "$root"
fi
