#!/usr/bin/env bash
# Fetches Debian's kernels for `make linux` into target/linux/boot: the newest of each row, with the
# package manager's download step. Nothing is installed, and what is there is not fetched again.
#
#   MIRROR   of Debian's packages   the one of this machine's apt
#
# Not a step of the Makefile's table: apt-get and dpkg-deb are the machine's.
set -euo pipefail
cd "$(dirname "$0")/../../.."

folder=$PWD/target/linux
# The kernel's name without its last numbers, the release of Debian, the package's architecture, and
# the expression that finds the package. The rules were fitted on the first five and tried on the
# others.
kernels=(
    '5.10 bullseye amd64 linux-image-5\.10\.0-[0-9]+-amd64'
    '5.10-686 bullseye i386 linux-image-5\.10\.0-[0-9]+-686-pae'
    '6.1 bookworm amd64 linux-image-6\.1\.0-[0-9]+-amd64'
    '6.1-686 bookworm i386 linux-image-6\.1\.0-[0-9]+-686-pae'
    '6.12 trixie amd64 linux-image-6\.12\.[0-9]+\+deb13-amd64'
    '6.12-rt trixie amd64 linux-image-6\.12\.[0-9]+\+deb13-rt-amd64'
    '5.10-rt bullseye amd64 linux-image-5\.10\.0-[0-9]+-rt-amd64'
    '5.10-cloud bullseye amd64 linux-image-5\.10\.0-[0-9]+-cloud-amd64'
    '5.10-686-nopae bullseye i386 linux-image-5\.10\.0-[0-9]+-686'
    '6.1-rt bookworm amd64 linux-image-6\.1\.0-[0-9]+-rt-amd64'
    '6.1-cloud bookworm amd64 linux-image-6\.1\.0-[0-9]+-cloud-amd64'
    '6.1-686-nopae bookworm i386 linux-image-6\.1\.0-[0-9]+-686'
    '6.5-686 bookworm-backports i386 linux-image-6\.5\.0-[0-9]\.deb12\.[0-9]+-686-pae'
    '6.12.43 bookworm-backports amd64 linux-image-6\.12\.43\+deb12-amd64'
    'sid sid amd64 linux-binary-[0-9.]+\+deb[0-9]+-amd64'
    'sid-rt sid amd64 linux-binary-[0-9.]+\+deb[0-9]+-rt-amd64'
)

say() { echo "linux: $*"; }

die() {
    printf 'linux: %s\n' "$@" >&2
    exit 1
}

# Writes what apt-get needs to read the packages of one release, of both architectures.
configure() {
    local suite=$1 work=$2 mirror=$3 keys
    # shellcheck source=tests/setup/fetch.sh
    . tests/setup/fetch.sh
    write_apt_conf "$work"
    : >"$work/status"
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e "$keys" ] || die "$keys is missing: the package debian-archive-keyring has it"
    echo "deb [arch=amd64,i386 signed-by=$keys] $mirror $suite main" >"$work/sources.list"
    cat >>"$work/apt.conf" <<END
Dir::State::status "$work/status";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "-";
APT::Architecture "amd64";
APT::Architectures { "amd64"; "i386"; };
END
}

# Prints the mirror of Debian's main packages in apt's own list of what it reads.
mirror() {
    # Between dollar and parenthesis stand apt's variables, not the shell's.
    # shellcheck disable=SC2016
    apt-get "$@" indextargets --format '$(ORIGIN) $(COMPONENT) $(SITE)' 'Created-By: Packages' |
        awk '$1 == "Debian" && $2 == "main" { print $3; exit }'
}

mkdir -p "$folder/boot"
for kernel in "${kernels[@]}"; do
    read -r name suite architecture expression <<<"$kernel"
    [ ! -e "$folder/boot/vmlinuz-$name" ] || continue
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        die "$name is not there, and there is no apt here to fetch it" \
            "Please put a vmlinuz of that kernel at $folder/boot/vmlinuz-$name"
    work=$folder/apt-$suite
    if [ ! -e "$work/ready" ]; then
        rm -rf "$work"
        site=${MIRROR:-$(mirror)}
        [ "$site" ] || die 'apt knows no mirror of Debian here; please name one in MIRROR'
        configure "$suite" "$work" "$site"
        say "reading the lists of packages of $suite"
        apt-get -c "$work/apt.conf" update >"$work/log/update" 2>&1 ||
            die "apt-get update failed, see $work/log/update"
        touch "$work/ready"
    fi
    package=$(apt-cache -c "$work/apt.conf" pkgnames | grep -Ex "$expression" | sort -V | tail -n 1)
    [ "$package" ] || die "$suite has no package like $expression"
    say "downloading $package:$architecture"
    rm -rf "$work/unpacked"
    mkdir "$work/unpacked"
    (cd "$work/archives" && apt-get -c "$work/apt.conf" -o Acquire::Retries=3 download \
        "$package:$architecture" >"$work/log/download" 2>&1) ||
        die "apt-get could not download $package, see $work/log/download"
    for deb in "$work/archives"/*.deb; do dpkg-deb --fsys-tarfile "$deb"; done |
        tar -x -C "$work/unpacked" --wildcards '*/vmlinuz*'
    mv "$(find "$work/unpacked" -type f -name 'vmlinuz*')" "$folder/boot/vmlinuz-$name"
    rm -rf "$work/archives"/*.deb "$work/unpacked"
done
say "kernels in target/linux/boot: $(cd "$folder/boot" && echo vmlinuz-*)"
