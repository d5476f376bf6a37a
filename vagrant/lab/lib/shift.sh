# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # $lab, $results and the like are of base.sh and of the test
# One lab's shift: a fleet of its own, and one scenario after the other from the queue that all labs
# share, until it is empty. Sourced, never run.

# shift_of NUMBER: in a process of its own. Fails where the fleet could not be made.
shift_of() {
    local number=$1 began=$SECONDS scenario fleet=()
    local first=$TAMER_LAB-1
    export TAMER_LAB=$TAMER_LAB-$number
    # shellcheck source=/dev/null
    . "$here/lib/base.sh"
    used=()
    trap shift_ends EXIT
    trap 'exit 130' INT TERM

    # A lab that was left behind is not what is tested.
    fleet_down >/dev/null
    if [ "$number" = 1 ]; then
        mapfile -t fleet < <(default_hosts)
        { fleet_up "${fleet[@]}" spare && fleet_provision "${fleet[@]}" && fleet_keep; } >"$results/fleet.log" 2>&1 || {
            say no >"$results/fleet"
            tail -n 40 "$results/fleet.log"
            die 'the fleet could not be made' "less $results/fleet.log"
        }
        say yes >"$results/fleet"
    else
        # Made once: all labs begin with the same fleet.
        within 600 test -s "$results/fleet" || die 'there is no fleet after 600 s' "less $results/fleet.log"
        [ "$(cat "$results/fleet")" = yes ] || exit 1
        fleet_like "$first"
    fi
    printf '%6s s  the fleet in %s is provisioned and joined\n' "$((SECONDS - began))" "$lab"
    while next_scenario; do
        try_scenario "$scenario" >"$results/$scenario.said"
        # At once, for two labs speak.
        flock "$results/said.lock" cat "$results/$scenario.said"
    done
}

shift_ends() {
    local status=$?
    trap - EXIT INT TERM
    [ "$keep" = yes ] || fleet_down >/dev/null
    exit "$status"
}

# Takes the next one off the queue, into $scenario; fails when there is none.
next_scenario() {
    {
        flock 7
        scenario=$(head -n 1 "$results/queue")
        sed -i 1d "$results/queue"
    } 7>"$results/queue.lock"
    [ -n "$scenario" ]
}

# try_scenario NAME: once, and once more where it failed and lost nothing. Says how it went.
try_scenario() {
    local scenario=$1 began=$SECONDS log=$results/$1.log verdict ended
    run_scenario "$scenario" "$log"
    case "$status" in
        0) verdict=ok ended=passed ;;
        77) verdict="SKIPPED: $(tail -n 1 "$log")" ended=skipped ;;
        *) verdict="FAILED: $(grep '^!!' "$log" | tail -n 1 || true)" ended=failed ;;
    esac
    printf '%6s s  %-42s %s\n' "$((SECONDS - began))" "$scenario" "$verdict"
    if [ "$ended" = failed ]; then
        show "$log"
        # On a machine that others use too, once may be chance: it is said, and is to be mended. What
        # was lost once is lost.
        if ! grep -q "^$scenario:" "$results/losses"; then
            began=$SECONDS
            run_scenario "$scenario" "$results/$scenario.again.log"
            printf '%6s s  %-42s %s\n' "$((SECONDS - began))" "$scenario, once more" "ended with $status"
        fi
        if [ "$status" = 0 ]; then
            printf '%s\n' "$scenario" >>"$results/flaky"
            ended=passed
        elif [ -e "$results/$scenario.again.log" ]; then
            show "$results/$scenario.again.log"
        fi
    fi
    printf '%s\n' "$scenario" >>"$results/$ended"
}

# run_scenario NAME LOG: in a process of its own, so that nothing of a scenario is left for the next one.
# $status is how it ended. Not called with `||` or `if`, under which no command of it could fail.
run_scenario() {
    set +e
    (
        set -euo pipefail
        scenario=$1
        trap 'status=$?; [ "$status" = 0 ] || last_words 8; exit "$status"' EXIT
        # shellcheck source=/dev/null
        . "$here/scenarios/$scenario"
    ) >"$2" 2>&1
    status=$?
    set -e
}

# The last words of the hosts that took part.
last_words() {
    local host
    for host in "${used[@]}"; do
        host_is_on "$host" || { printf -- '---- %s is off\n' "$host" && continue; }
        printf -- '---- %s\n' "$host"
        on "$host" journalctl --no-pager --quiet --output cat --lines "${1:-12}" --unit 'tamer-*' \
            --unit 'shop-*' --unit 'notes-*' --unit 'postfix@*' --unit nginx 2>/dev/null |
            command cut -c 1-400 || true
    done
}

show() {
    tail -n 40 "$1" | sed 's/^/        /'
    printf '        the whole log: %s\n' "$1"
}
