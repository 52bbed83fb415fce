#!/usr/bin/env bash
# Fuzzes the tool's entry points with libFuzzer and AddressSanitizer, and prints a row for each.
# Needs a nightly toolchain and cargo-fuzz. Inputs that are found stay in target/fuzz; an input that
# makes a target fail is named, and the script ends with 1.
#
#   fuzz.sh                 all targets
#   fuzz.sh sites verify    these
#
# SECONDS_EACH: how long each target runs; ten minutes, unless it is given.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${SECONDS_EACH:-600}
targets=${*:-$(cargo +nightly fuzz list)}
cargo +nightly fuzz build --release >&2
printf '| target | executions | per second | peak memory | findings |\n|---|--:|--:|--:|---|\n'
failed=0
for target in $targets; do
    found=target/fuzz/$target log=target/fuzz/$target.log
    mkdir -p "$found" "$found-failures"
    outcome=none
    # What AddressSanitizer keeps of freed memory counts as the target's: 256 MB by default.
    ASAN_OPTIONS=quarantine_size_mb=16 cargo +nightly fuzz run --release "$target" \
        "$found" "fuzz/corpus/$target" -- -artifact_prefix="$found-failures/" \
        -max_total_time="$seconds" -max_len=8192 -rss_limit_mb=512 -timeout=5 \
        -print_final_stats=1 >"$log" 2>&1 </dev/null || { outcome="see $log"; failed=1; }
    stat() { awk -v name="stat::$1:" '$1 == name { print $2 }' "$log"; }
    printf '| `%s` | %s | %s | %s MB | %s |\n' "$target" "$(stat number_of_executed_units)" \
        "$(stat average_exec_per_sec)" "$(stat peak_rss_mb)" "$outcome"
done
exit "$failed"
