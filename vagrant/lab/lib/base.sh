# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is for the other parts
# What every part of the lab needs: where it lives, which hosts it knows, how it speaks.
# Sourced, never run.
#
# Everything of a lab lies in one directory, $lab, on a tmpfs of its own: what is on it is gone with
# the lab. Names outside of it (network namespaces, control groups) begin with $lab_id, which is made
# from the directory's name, so that two labs never meet.

lab=$(realpath -m -- "${TAMER_LAB:-/run/tamer-lab}")
lab_id=tl$(printf '%s' "$lab" | sha256sum | head -c 6)
checkout=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../.." && pwd)
# What hosts see as /tamer/target/packages.
packages=${TAMER_LAB_PACKAGES:-$checkout/target/packages}
cache=${TAMER_LAB_CACHE:-$checkout/target/lab}

# Name and address of every host that the lab knows.
lab_hosts='controller 10.77.0.10
web-1 10.77.0.21
web-2 10.77.0.22
web-3 10.77.0.23
router 10.77.0.30
mail 10.77.0.40
spare 10.77.0.50'
lab_gateway=10.77.0.1

say() {
    printf '%s\n' "$*"
}

complain() {
    printf 'lab: %s\n' "$*" >&2
}

# die WHAT [NEXT COMMAND]
die() {
    complain "$1"
    if [ -n "${2-}" ]; then
        printf '  next: %s\n' "$2" >&2
    fi
    exit 1
}

# The address of a host, or the end: an unknown name is a mistake in what was typed.
address_of() {
    local address
    address=$(awk -v name="$1" '$1 == name { print $2 }' <<<"$lab_hosts")
    [ -n "$address" ] || die "there is no host named \`$1\`" "lab status"
    printf '%s\n' "$address"
}

all_hosts() {
    awk '{ print $1 }' <<<"$lab_hosts"
}

# Hosts of this lab that were made and not removed.
made_hosts() {
    local directory
    for directory in "$lab"/hosts/*/; do
        [ -d "$directory" ] && basename -- "$directory"
    done
    return 0
}

netns_of() {
    printf '%s-%s\n' "$lab_id" "$1"
}

# Waits until a command succeeds: `within SECONDS COMMAND…`, and tries it `every` so many seconds (0.1). Fails when the
# time is over.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            return 1
        fi
        sleep "${every:-0.1}"
    done
}

# Why no lab can be on this machine, in one line; nothing if it can.
why_no_lab() {
    local command missing=()
    if [ "$(id -u)" -ne 0 ]; then
        say 'it needs root'
        return
    fi
    for command in mmdebstrap systemd-nspawn nft ip nsenter unshare setsid; do
        command -v "$command" >/dev/null || missing+=("$command")
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        say "missing: ${missing[*]} (apt-get install mmdebstrap systemd-container nftables iproute2)"
    elif ! unshare --net --mount --pid --fork true 2>/dev/null; then
        say 'this machine gives no namespaces to root'
    elif [ -z "$(cgroup_roots)" ]; then
        say 'there are no control groups to keep hosts apart (neither cgroup2 nor name=systemd is mounted)'
    fi
}

# The hierarchies in which systemd keeps units apart: one group a host, or the units of two hosts
# would share one.
cgroup_roots() {
    awk '$3 == "cgroup2" || ($3 == "cgroup" && $4 ~ /(^|,)name=systemd(,|$)/) { print $2 }' /proc/mounts
}

# many_hosts: whether there may be more than some 15 hosts. Each has seven of what the kernel calls inotify instances, of
# which it gives a user 128 until somebody says more; a host that gets none does not boot.
many_hosts() {
    local limit=/proc/sys/fs/inotify/max_user_instances
    [ "$(cat "$limit")" -ge 1024 ] || { printf "1024\n" >"$limit"; } 2>/dev/null
}

need_root_and_namespaces() {
    local why
    why=$(why_no_lab)
    [ -z "$why" ] || die "no lab on this machine: $why"
}

need_lab() {
    [ -e "$lab/.tamer-lab" ] || die "there is no lab in $lab" "vagrant/lab/lab up"
}
