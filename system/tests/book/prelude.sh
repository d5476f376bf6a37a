# shellcheck shell=bash disable=SC2154 # book is the page's own
# What every page of the book finds around it: the few things that stand in for a whole machine.
# Sourced first by the script that a page becomes; `book` is the page's own directory, and all that
# the page prints goes to $book/said.

set -euo pipefail
export HOME=$book/home
mkdir -p "$HOME" "$book"/{desk,etc/tamer,var/lib/tamer,var/backups,srv,logs}
cd "$book/desk"

# Where the page is, for whoever reads that it failed.
at=prelude
declare -A unit_pid=() unit_command=()

finish() {
    local code=$? name
    trap - EXIT
    for name in "${!unit_pid[@]}"; do
        kill -KILL "${unit_pid[$name]}" 2>/dev/null || true
    done
    [ "$code" = 0 ] || printf '\n#### failed with %s at %s\n' "$code" "$at"
    exit "$code"
}
trap finish EXIT

# Waits until a command succeeds, at most 20 s.
until_ok() {
    local tries=400
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ]; then
            printf 'waited in vain for: %s\n' "$*"
            return 1
        fi
        sleep 0.05
    done
}

# until_said WORDS COMMAND…: prints what it printed when these words were in it. `$` after them is the
# end of a line.
until_said() {
    local words=$1
    shift
    until_ok said "$words" "$@"
    cat "$book/until"
}

said() {
    "${@:2}" >"$book/until" 2>&1
    grep -q -- "$1" "$book/until"
}

# The token that was printed last: what `tamer-join-…` in a page stands for.
last_token() {
    grep -o 'tamer-join-[A-Za-z0-9_-]\{40,\}' "$book/said" | tail -n 1
}

# start NAME COMMAND…: a program that stays, and has started when this returns.
start() {
    local name=$1 log=$book/logs/$1 ready
    shift
    case $1 in
        tamer-controller) ready='"message":"serving"' ;;
        tamer-agent) ready='"message":"connected"' ;;
    esac
    : >"$log"
    unit_command[$name]=$*
    # Ends with this script, whatever ends that. Line-buffered by nature: logs are lines.
    TAMER_LOG=info setpriv --pdeathsig KILL -- "$@" >>"$log" 2>&1 </dev/null &
    unit_pid[$name]=$!
    until_ok started "$name" "$log" "$ready"
}

# Whether it says that it is ready; one that has ended will never say so, and shows why.
started() {
    grep -q "$3" "$2" && return 0
    kill -0 "${unit_pid[$1]}" 2>/dev/null || {
        cat "$2" >>"$book/said"
        exit 1
    }
    return 1
}

stop() {
    local pid=${unit_pid[$1]-}
    [ -n "$pid" ] || return 0
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    unset "unit_pid[$1]"
}

# What readers do with Ctrl-C.
stop_all() {
    local name
    for name in "${!unit_pid[@]}"; do
        stop "$name"
    done
}

# What pages type of systemd, for the two units of Tamer.
systemctl() {
    local verb=$1 name=${*: -1} words
    name=${name%.service}
    read -ra words <<<"${unit_command[$name]-$name}"
    case $name in
        tamer-controller) [ "${#words[@]}" -gt 1 ] || words+=(serve) ;;
        tamer-agent) [ "${#words[@]}" -gt 1 ] || words+=(run) ;;
        *)
            printf 'there is no unit %s here\n' "$name"
            return 5
            ;;
    esac
    case $verb in
        stop) stop "$name" ;;
        start | enable) [ -n "${unit_pid[$name]-}" ] || start "$name" "${words[@]}" ;;
        restart)
            stop "$name"
            start "$name" "${words[@]}"
            ;;
        is-active) [ -n "${unit_pid[$name]-}" ] && echo active ;;
        *)
            printf 'systemctl %s is not known here\n' "$verb"
            return 1
            ;;
    esac
}
