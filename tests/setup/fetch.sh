# shellcheck shell=bash
# shellcheck disable=SC2154 # Variables of setup.sh, which sources this.
# Fetches tools with the package manager's download step and unpacks them below target/tools.
# Nothing is installed: apt-get works in folders of its own, dpkg only unpacks, and neither needs
# root. Sourced by setup.sh.
#
#   target/tools/fetched.N   what one run fetched, unpacked; there as a whole or not at all
#   target/tools/partial     a run that is not at its end, or was interrupted
#   target/tools/bin         the PATH of all steps: links, and wrappers that start what was fetched

# Writes the configuration that keeps apt-get away from the machine's own state.
write_apt_conf() {
    local folder=$1
    mkdir -p "$folder"/{lists,archives,log}/partial
    cat >"$folder/apt.conf" <<END
Dir::State::lists "$folder/lists";
Dir::Cache "$folder";
Dir::Cache::archives "$folder/archives";
Dir::Log "$folder/log";
Debug::NoLocking "true";
// Root downloads as root: the user _apt may not write here.
APT::Sandbox::User "$(id -un)";
// Never more than a download, whatever else is asked for or configured; so nothing is removed
// even where apt-get would have to remove something to install what it downloads.
APT::Get::Download-Only "true";
APT::Get::Remove "true";
APT::Get::allow-change-held-packages "true";
APT::Install-Recommends "false";
// Some machines update databases of their own after each update.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Acquire::Languages "none";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
END
}

# Prints the names of the Debian packages of these tools.
debian_packages() {
    local tool major
    for tool; do
        if [ "$tool" != LLVMgold.so ]; then
            echo "${debian[$tool]}"
        elif [[ " $* " == *' clang '* ]]; then
            # Of the clang that is fetched together with it.
            major=$(apt-cache -c "$conf" depends clang | sed -n 's/^ *Depends: clang-\([0-9]*\)$/\1/p')
            echo "llvm-$major-linker-tools"
        else
            echo "llvm-$(clang_major)-linker-tools"
        fi
    done
}

# Fetches these tools, or says how they can be had.
fetch() {
    local partial=$tools/partial conf=$tools/partial/apt.conf root=$tools/partial/root
    local begin=$SECONDS names uris number=1 deb tool
    { has apt-get && has dpkg; } || cannot_fetch 'there is no apt here' "$@"

    say "missing: $*; they are fetched into target/tools, nothing is installed"
    rm -rf "$partial"
    write_apt_conf "$partial"
    say 'reading the lists of packages'
    # Some of the machine's sources may be out of reach: what comes after it decides.
    quietly apt-get -c "$conf" update || say 'apt-get update did not reach every source'
    mapfile -t names < <(debian_packages "$@")
    apt-get -c "$conf" install --yes --reinstall --print-uris "${names[@]}" \
        >"$scratch/uris" 2>"$scratch/log" ||
        cannot_fetch "apt-get does not find ${names[*]}: $(tail -n 1 "$scratch/log")" "$@"
    # An installed version that no source has cannot be had again, and apt-get does not mind.
    uris=$(grep "^'" "$scratch/uris") || cannot_fetch "apt-get has nothing to download for ${names[*]}" "$@"
    say "$(awk '{ size += $3 } END { printf "downloading %d packages, %d MB", NR, size / 1e6 + 1 }' <<<"$uris")"
    quietly apt-get -c "$conf" -o Acquire::Retries=3 install --yes --reinstall "${names[@]}" ||
        cannot_fetch "apt-get could not download ${names[*]}: $(tail -n 1 "$scratch/log")" "$@"

    say 'unpacking'
    mkdir "$root"
    for deb in "$partial"/archives/*.deb; do
        quietly dpkg -x "$deb" "$root" || cannot_fetch "$deb does not unpack" "$@"
    done
    rm -rf "$root"/usr/share/{doc,man,locale}
    # It becomes a fetched one only when each tool has run from it.
    fill_bin "$partial/bin" "$root"
    for tool; do
        PATH=$partial/bin:$PATH works "$tool" ||
            cannot_fetch "$tool was fetched, but does not run: $(PATH=$partial/bin:$PATH why "$tool")" "$@"
    done
    while [ -e "$tools/fetched.$number" ]; do number=$((number + 1)); done
    mv "$root" "$tools/fetched.$number"
    rm -rf "$partial"
    say "fetched $* in $((SECONDS - begin)) s"
}

# REASON TOOL...: ends the set-up with the one message about all that is missing.
cannot_fetch() {
    local reason=$1
    shift
    die "$* cannot be fetched: $reason" '  Please install what is missing and start again:' \
        "$(how_to_get "$@")"
}

# Prints what a tool that does not work says.
why() {
    local program=${programs[$1]%% *}
    "${program:-clang}" --version 2>&1 | tail -n 1
}

# Makes BIN what steps have as PATH: links to the machine's programs, and wrappers for what was
# fetched to ROOT... and is missing or not good enough here. PATH is the machine's. Leaves in
# `in_use` the roots that something was taken from.
fill_bin() {
    local bin=$1 tool name
    shift
    mkdir -p "$bin"
    wanted=() in_use=()
    for name in "${base[@]}" "${binutils[@]}" "${rust[@]}" gcc make; do
        link "$name"
    done
    # By this name the crate `cc` looks for a compiler of the 32-bit kernel; Debian alone has it.
    link x86_64-linux-gnu-gcc gcc
    for tool in "${fetched[@]}"; do
        if good_here "$tool"; then
            for name in ${programs[$tool]}; do link "$name"; done
        else
            for name in ${programs[$tool]}; do wrap "$name" "$@"; done
        fi
    done
    if ! good_here LLVMgold.so; then
        ! good_here clang || lend_plugin "$@"
        lend_library "$@"
    fi
    # What is not in the table any more.
    for name in "$bin"/*; do
        case " ${wanted[*]} " in
            *" ${name##*/} "*) ;;
            *) rm -f "$name" ;;
        esac
    done
}

# NAME [PROGRAM]: a link of this name to the machine's program.
link() {
    local name=$1 path
    path=$(type -P "${2-$1}") || return 0
    wanted+=("$name")
    [ "$(readlink "$bin/$name")" = "$path" ] || ln -sfn "$path" "$bin/$name"
}

# NAME ROOT...: of the newest root that has it.
wrap() {
    local name=$1 program='' root folder libraries options=''
    shift
    for root; do
        # Debian's qemu-system-i386 is a script that starts the other one by its absolute path.
        for folder in bin libexec; do
            [ ! -f "$root/usr/$folder/$name" ] || program=$root/usr/$folder/$name
        done
    done
    [ "$program" ] || return 0
    root=${program%/usr/*}
    in_use+=("$root")
    case $name in
        qemu-system-*)
            for folder in usr/share/qemu usr/share/seabios usr/lib/ipxe/qemu; do
                options+=" -L $(quote "$root/$folder")"
            done
            ;;
    esac
    libraries=$(library_path "$root")
    write_wrapper "$name" "exec $(quote "$program")$options \"\$@\"" "$libraries"
}

# Prints one word for a shell.
quote() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

# Prints every folder of ROOT with shared libraries in it, separated by colons.
library_path() {
    find "$1" -name 'lib*.so.*' -printf '%h\n' | sort -u | paste -sd :
}

# NAME COMMAND LIBRARIES
write_wrapper() {
    local text
    # The shell that runs the wrapper expands it.
    # shellcheck disable=SC2016
    text=$(printf '#!/bin/sh\nLD_LIBRARY_PATH=%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\nexport LD_LIBRARY_PATH\n%s\n' "$(quote "$3")" "$2")
    wanted+=("$1")
    [ ! -L "$bin/$1" ] && [ "$(cat "$bin/$1" 2>/dev/null)" = "$text" ] && return
    # Replaced as a whole: a step may be running it.
    printf '%s\n' "$text" >"$bin/.$1"
    chmod +x "$bin/.$1"
    mv -f "$bin/.$1" "$bin/$1"
}

# Starts the machine's GNU ld with the libraries of the plugin that it may load: LLVM's own.
lend_library() {
    local root name folders=''
    for root; do
        for name in "$root"/usr/lib/llvm-*/lib/LLVMgold.so; do folders=$(library_path "$root"); done
    done
    [ "$folders" ] || return 0
    for name in ld ld.bfd; do
        ! has "$name" || write_wrapper "$name" "exec $(quote "$(type -P "$name")") \"\$@\"" "$folders"
    done
}

# The machine's clang, with a plugin that was fetched. It looks for the plugin where it lies
# itself, or where it seems to lie with -no-canonical-prefixes: in a folder of links.
lend_plugin() {
    local plugin='' root file view=${bin%/bin}/clang
    for root; do
        file=$root/usr/lib/llvm-$(clang_major)/lib/LLVMgold.so
        [ ! -e "$file" ] || plugin=$file
    done
    [ "$plugin" ] || return 0
    in_use+=("${plugin%/usr/lib/*}")
    mkdir -p "$view"/{bin,lib}
    ln -sfn "$(realpath "$(type -P clang)")" "$view/bin/clang"
    ln -sfn "$(dirname "$(clang -print-resource-dir)")" "$view/lib/clang"
    ln -sfn "$plugin" "$view/lib/LLVMgold.so"
    write_wrapper clang "exec $(quote "$view/bin/clang") -no-canonical-prefixes \"\$@\"" \
        "$(library_path "${plugin%/usr/lib/*}")"
}
