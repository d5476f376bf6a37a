# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016 # $lab, $lab_id, $checkout and the like are of base.sh
# The lab's network: one namespace with a bridge, one a host, joined by cables that can be cut.
# The machine's own network is never touched. Sourced, never run.

hub() {
    netns_of hub
}

network_up() {
    ip netns add "$(hub)"
    ip -n "$(hub)" link set lo up
    ip -n "$(hub)" link add br0 type bridge
    ip -n "$(hub)" addr add "$lab_gateway/24" dev br0
    ip -n "$(hub)" link set br0 up
    {
        say '127.0.0.1 localhost'
        awk '{ print $2, $1 }' <<<"$lab_hosts"
    } >"$lab/hosts.txt"
}

# The cable of one host; it outlives the host's reboots, as a cable does.
cable_up() {
    local name=$1 namespace
    namespace=$(netns_of "$name")
    ip netns add "$namespace"
    ip -n "$namespace" link set lo up
    ip -n "$(hub)" link add "$name" type veth peer name eth0 netns "$namespace"
    ip -n "$(hub)" link set "$name" master br0 up
    ip -n "$namespace" addr add "$(address_of "$name")/24" dev eth0
    ip -n "$namespace" link set eth0 up
    ip -n "$namespace" route add default via "$lab_gateway"
}

cut_cable() {
    address_of "$1" >/dev/null
    ip -n "$(hub)" link set "$1" down
    say "$1 is cut off"
}

mend_cable() {
    address_of "$1" >/dev/null
    ip -n "$(hub)" link set "$1" up
    # A neighbour that was looked for in vain while it was cut would be given up a moment after.
    ip -n "$(netns_of "$1")" neigh flush all
    say "$1 is reachable again"
}

is_cut() {
    ! ip -n "$(hub)" link show "$1" 2>/dev/null | grep -q 'state UP'
}

# Namespaces of this lab, also those that a crash left behind.
network_down() {
    local name
    for name in $(ip netns list | awk -v id="$lab_id-" 'index($1, id) == 1 { print $1 }'); do
        ip netns delete "$name"
    done
}

# A command at the desk: on this machine, in the lab's network, with the lab's names.
desk() {
    need_lab
    mkdir -p "$lab/desk"
    TAMER_HOME=$lab/desk/tamer nsenter --net="/run/netns/$(hub)" unshare --mount --propagation private \
        -- bash -c 'mount --bind "$1" /etc/hosts && shift && exec "$@"' desk "$lab/hosts.txt" "$@"
}
