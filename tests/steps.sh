# shellcheck shell=bash
# Sourced by the recipes of the Makefile, in the repository's folder. `step TITLE COMMAND...`
# runs a command: one line if it succeeds, all that it printed if it does not. `show COMMAND...`
# runs one whose output is what is wanted.
set -euo pipefail

# What tests/setup/setup.sh put there and nothing else: what a step runs is in the table of
# tests/setup/tools.sh, or is found on no machine.
export PATH=$PWD/target/tools/bin

show() { "$@" </dev/null; }

# How many tests passed, failed and were ignored, of all test programs in a log of cargo's.
count() {
    awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
         END { print passed + 0, failed + 0, ignored + 0 }' "$1"
}

step() {
    local title=$1 log status=0 passed failed ignored
    shift
    log=$(mktemp)
    # Expanded now: the function's variables are gone when it happens.
    # shellcheck disable=SC2064
    trap "rm -f '$log'" EXIT
    printf '  %-44s' "$title"
    SECONDS=0
    "$@" >"$log" 2>&1 </dev/null || status=$?
    read -r passed failed ignored < <(count "$log")
    # Added up by .ci/run.
    if [ "${STEP_TALLY-}" ]; then
        echo "$passed $failed $ignored" >>"$STEP_TALLY"
    fi

    if [ "$status" != 0 ]; then
        printf 'FAILED  %3d s\n\n' "$SECONDS"
        cat "$log"
        printf '\nFAILED (status %d), in %s:\n   ' "$status" "$PWD"
        printf ' %q' "$@"
        printf '\n'
        return "$status"
    fi
    printf 'ok  %4d s' "$SECONDS"
    if [ "$passed" != 0 ]; then
        printf '  %5d tests' "$passed"
    fi
    # Never silently.
    if [ "$ignored" != 0 ]; then
        printf ', %d ignored' "$ignored"
    fi
    printf '\n'
}
