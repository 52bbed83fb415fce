#!/usr/bin/env bash
# Runs the checks that stay outside CI, and writes what each came to into docs/report.md: with the
# commit and the date of each, and the machine.
#
#   report.sh              all of them; two hours, most of it fuzzing, the soak test
#                          and the benchmarks
#   report.sh size miri    these; of the others the report keeps what they came to last, under the
#                          commit that they ran on. It is kept in target/report.
#
# BASE: the commit that `make semver` compares with; the last tag, unless it is given. Without either
# there is no release whose users could be broken, and the report says so.
# Ends with 1 if a check failed or was not run.
set -uo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/target/tools/bin:$PATH

checks=(rivals soak fuzz miri semver size bench)
declare -A what=(
    [rivals]='the other constructions under every compiler, linker and option'
    [soak]='live switches: 10,000 in each kernel, a million in a process of each width'
    [fuzz]='damaged files for the tool'
    [miri]='the core without assembly, by Miri'
    [semver]="what is public, compared with ${BASE:-the last release}"
    [size]='what the crate adds to a kernel'
    [bench]="the benchmarks' tables, each width")
# What must be there first, and how to get it.
declare -A needs=(
    [fuzz]='cargo +nightly fuzz --version'
    [miri]='cargo +nightly miri --version'
    [semver]='cargo semver-checks --version')
declare -A get=(
    [fuzz]='rustup toolchain install nightly; cargo install --locked cargo-fuzz'
    [miri]='rustup toolchain install nightly --component miri,rust-src'
    [semver]='cargo install --locked cargo-semver-checks')

wanted=" ${*:-${checks[*]}} "
for name in $wanted; do
    [ "${what[$name]-}" ] || { echo "report: there is no check \"$name\"; there are ${checks[*]}" >&2; exit 2; }
done
export BENCH_TABLES=1 BASE=${BASE:-$(git describe --tags --abbrev=0 2>/dev/null)}
no_release='nothing is released that it could be compared with'

results=target/report
mkdir -p "$results"
commit=$(git log -1 --format='%h of %cs')
[ ! "$(git status --porcelain --untracked-files=no -- ':!docs/report.md')" ] || commit+=', changed'

for name in "${checks[@]}"; do
    [[ $wanted == *" $name "* ]] || continue
    result=$results/$name outcome=passed start=$SECONDS
    if [ "$name" = semver ] && [ ! "$BASE" ]; then
        outcome=$no_release
        : >"$result.log"
    elif [ "${needs[$name]-}" ] && ! ${needs[$name]} >/dev/null 2>&1; then
        outcome="not run: \`${get[$name]}\` first"
        : >"$result.log"
    else
        printf '  %-8s' "$name"
        "${MAKE:-make}" --no-print-directory "$name" >"$result.log" 2>&1 </dev/null || outcome="FAILED (status $?)"
        printf '%s, %d s\n' "$outcome" $((SECONDS - start))
    fi
    printf '%s | %s | %d s |\n' "$commit" "$outcome" $((SECONDS - start)) >"$result.row"
done

# Without the lines that cargo prints of its own work, bars of progress, and the folder on this machine.
output() {
    tr '\r' '\n' <"$1" | sed -E -e 's/\x1b\[[0-9;]*m//g' -e "s|$PWD/||g" -e "s|$PWD||g" -e '/^\[[#.]+\] /d' \
        -e '/^ +(Compiling|Finished|Running|Fresh|Blocking|Updating|Locking) /d' | tail -n 120
}

all_passed=true
{
    printf '# Report of %s\n\n' "$(date +%F)"
    echo 'What the checks outside CI came to; `make report` writes this file.'
    printf '\n- CPU: %s, %d of them\n- system: %s\n- compiler: %s\n\n' \
        "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
        "$(grep -c '^processor' /proc/cpuinfo)" "$(uname -sr)" "$(rustc --version)"
    printf '| command | what it checks | commit | outcome | time |\n|---|---|---|---|--:|\n'
    for name in "${checks[@]}"; do
        row=$(cat "$results/$name.row" 2>/dev/null) || row='| not run | |'
        [[ $row == *"| passed |"* || $row == *"| $no_release |"* ]] || all_passed=false
        printf '| `make %s` | %s | %s\n' "$name" "${what[$name]}" "$row"
    done
    for name in "${checks[@]}"; do
        [ -s "$results/$name.log" ] || continue
        printf '\n## %s\n\n```text\n' "$name"
        output "$results/$name.log"
        printf '```\n'
    done
} >docs/report.md
echo 'The report is docs/report.md.'
$all_passed
