# shellcheck shell=bash
# shellcheck disable=SC2154 # $lab, $lab_id, $checkout and the like are of base.sh
# All hosts at once: up, provisioned, kept, reset, down. Sourced, never run.

# Those that `lab up` makes when none is named.
default_hosts() {
    all_hosts | grep -v '^spare$'
}

fleet_up() {
    local names=("$@") name
    [ "${#names[@]}" -gt 0 ] || mapfile -t names < <(default_hosts)
    for name in "${names[@]}"; do
        address_of "$name" >/dev/null
    done
    if [ ! -e "$lab/.tamer-lab" ]; then
        lab_make
    fi
    for name in "${names[@]}"; do
        [ -d "$lab/hosts/$name" ] || host_make "$name"
        host_boot "$name"
    done
    for name in "${names[@]}"; do
        host_ready "$name"
    done
    say "up: ${names[*]}"
}

lab_make() {
    if [ -d "$lab" ] && [ -n "$(ls -A "$lab")" ]; then
        die "$lab is there, and is not a lab" "TAMER_LAB=another-directory vagrant/lab/lab up"
    fi
    image_ready
    # What a crash of the machine's processes may have left under this lab's names.
    leftovers_down
    mkdir -p "$lab"
    mount -t tmpfs -o mode=0755,size=75% "$lab_id" "$lab"
    mkdir -p "$lab"/{hosts,image,desk,share}
    cp "$checkout"/vagrant/lab/lib/*.py "$lab/share/"
    tar -C "$lab/image" --xattrs --numeric-owner -xf "$(image_file)"
    network_up
    # Last: whatever has this file is a lab, whole.
    : >"$lab/.tamer-lab"
}

leftovers_down() {
    local group name
    for name in $(all_hosts); do
        host_kill "$name"
    done
    network_down
    for group in $(cgroup_roots); do
        remove_groups "$group/$lab_id"
    done
}

fleet_down() {
    local mounted
    leftovers_down
    # Innermost first: the overlays lie on the lab's own tmpfs.
    while read -r mounted; do
        umount -- "$mounted" || umount --lazy -- "$mounted"
    done < <(awk -v lab="$lab" '$2 == lab || index($2, lab "/") == 1 { print $2 }' /proc/mounts | sort -r)
    if [ -d "$lab" ]; then
        rmdir -- "$lab" 2>/dev/null || say "$lab is not empty: left alone"
    fi
    say 'the lab is gone'
}

fleet_status() {
    local name state
    if [ ! -e "$lab/.tamer-lab" ]; then
        say "no lab in $lab; next: vagrant/lab/lab up"
        return
    fi
    for name in $(made_hosts); do
        state=off
        if host_is_on "$name"; then
            state=$(on "$name" systemctl is-system-running 2>/dev/null || true)
        fi
        is_cut "$name" && state="$state, cut off"
        printf '%-11s %-12s %s\n' "$name" "$(address_of "$name")" "$state"
    done
}

# The hosts as they are now become what `reset` goes back to, and the desk with them.
fleet_keep() {
    local name
    for name in $(made_hosts); do
        # In peace: what is written back is the state after an orderly stop.
        if host_is_on "$name"; then
            on "$name" systemctl --no-block poweroff 2>/dev/null || true
        fi
    done
    for name in $(made_hosts); do
        within 30 host_is_off "$name" || complain "$name did not stop by itself"
        host_kill "$name"
        host_keep "$name"
    done
    rm -rf -- "$lab/desk.kept"
    cp -a -- "$lab/desk" "$lab/desk.kept"
    say "kept: $(made_hosts | tr '\n' ' ')"
}

# fleet_like LAB: all hosts, and the desk, as they were kept in that lab, which may be in use meanwhile.
fleet_like() {
    local name
    lab_make
    for name in $(all_hosts); do
        host_make "$name"
        rm -rf -- "$lab/hosts/$name/upper" "$lab/hosts/$name/below"
        mkdir "$lab/hosts/$name/upper"
        cp -a -- "$1/hosts/$name/below" "$lab/hosts/$name/"
    done
    cp -a -- "$1/desk.kept" "$lab/"
}

host_is_off() {
    ! host_is_on "$1"
}

# host_reset NAME: off, as it was kept, with its own address on a cable that holds.
host_reset() {
    local namespace
    namespace=$(netns_of "$1")
    host_kill "$1" &&
        host_forget "$1" &&
        ip -n "$(hub)" link set "$1" up &&
        # Another one's address, where it had taken it over.
        ip -n "$namespace" addr flush dev eth0 scope global &&
        ip -n "$namespace" addr add "$(address_of "$1")/24" dev eth0 &&
        ip -n "$namespace" route replace default via "$lab_gateway" &&
        ip -n "$namespace" neigh flush all &&
        # Rules of a firewall live in the namespace, which outlives the host.
        ip netns exec "$namespace" nft flush ruleset
}

fleet_reset() {
    local name names=("$@") job jobs=()
    [ -d "$lab/desk.kept" ] || die 'nothing was kept yet' 'vagrant/lab/lab keep'
    [ "${#names[@]}" -gt 0 ] || mapfile -t names < <(default_hosts)
    for name in $(made_hosts); do
        host_reset "$name" &
        jobs+=("$!")
    done
    for job in "${jobs[@]}"; do
        wait "$job" || die 'not all hosts could be reset' 'vagrant/lab/lab down'
    done
    ip -n "$(hub)" neigh flush all
    rm -rf -- "$lab/desk"
    cp -a -- "$lab/desk.kept" "$lab/desk"
    for name in "${names[@]}"; do
        host_boot "$name"
    done
    for name in "${names[@]}"; do
        host_ready "$name"
    done
}

# What hosts are for, as their names say.
provision_of() {
    case $1 in
        web-*) say web ;;
        *) say "$1" ;;
    esac
}

# fleet_provision [HOST…]: the same scripts as Vagrant runs, all at once, and then the same joining.
fleet_provision() {
    local names=("$@") name jobs=() failed=0 tamer
    tamer=$(desk_tamer)
    [ "${#names[@]}" -gt 0 ] || mapfile -t names < <(made_hosts | grep -v '^spare$')
    for name in "${names[@]}"; do
        on "$name" "/tamer/vagrant/provision/$(provision_of "$name")" >"$lab/hosts/$name/provision.log" 2>&1 &
        jobs+=("$!:$name")
    done
    for name in "${jobs[@]}"; do
        if ! wait "${name%%:*}"; then
            tail -n 20 "$lab/hosts/${name#*:}/provision.log" >&2
            complain "${name#*:} could not be provisioned"
            failed=1
        fi
    done
    [ "$failed" = 0 ] || die 'not all hosts could be provisioned' 'vagrant/lab/lab down'
    mapfile -t names < <(printf '%s\n' "${names[@]}" | grep -v '^controller$')
    "$checkout/vagrant/join" --on "$checkout/vagrant/lab/lab on" \
        --tamer "$checkout/vagrant/lab/lab run $tamer" "${names[@]}"
}

# The engineer's `tamer`: the one of the package under test.
desk_tamer() {
    if [ ! -x "$lab/desk/bin/tamer" ]; then
        mkdir -p "$lab/desk/bin"
        find "$packages" -maxdepth 1 -name 'tamer_*.deb' | sort -V | tail -n 1 | while read -r package; do
            dpkg-deb --fsys-tarfile "$package" | tar -xO ./usr/bin/tamer >"$lab/desk/bin/tamer"
            chmod +x "$lab/desk/bin/tamer"
        done
    fi
    [ -x "$lab/desk/bin/tamer" ] || die "there is no package of tamer in $packages" 'deploy-scripts/package --profile dev'
    say "$lab/desk/bin/tamer"
}
