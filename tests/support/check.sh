# SPDX-License-Identifier: Apache-2.0
# Sourced by end-to-end scripts: reports checks in the form that tests/run counts.
#
#   check NAME COMMAND ...        "ok NAME" if the command succeeds, else "not ok NAME: ..." with its last lines
#   wait_until SECONDS COMMAND .. repeats the command until it succeeds; status 1 when the time is over
#   check_end                     last line of a script: exit status 1 if any check failed
#
# Waits are bounds against hanging, generous on purpose: no check asserts how long something takes.
# shellcheck shell=bash
check_failed=0

check() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        echo "ok $name"
    else
        check_failed=1
        echo "not ok $name: $* -> $(tail -n 3 <<<"$output" | tr '\n' ' ')"
    fi
}

wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.1
    done
}

check_end() {
    exit $check_failed
}
