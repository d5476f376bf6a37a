# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016 # $lab, $lab_id, $checkout and the like are of base.sh
# Hosts: a systemd container each, on an overlay of the shared image. Sourced, never run.
#
#   $lab/hosts/NAME/upper   what the host wrote since it was made, or since the last snapshot
#   $lab/hosts/NAME/below   what it had written when the snapshot was taken
#   $lab/hosts/NAME/console what systemd said while it booted
#
# A host's control group holds all of its processes and no others: that is how it is killed.

# host_make NAME: its files and its cable; it is still off.
host_make() {
    local name=$1
    mkdir -p "$lab/hosts/$name"/{root,upper,work,below}
    mkdir -p "$lab/hosts/$name/upper/etc"
    printf '%s\n' "$name" >"$lab/hosts/$name/upper/etc/hostname"
    # A name that Debian's tools find also without the lab's list.
    cp "$lab/hosts.txt" "$lab/hosts/$name/upper/etc/hosts"
    cable_up "$name"
}

host_mount() {
    local directory=$lab/hosts/$1
    if mountpoint -q "$directory/root"; then
        return
    fi
    mount -t overlay "$lab_id-$1" -o \
        "lowerdir=$directory/below:$lab/image,upperdir=$directory/upper,workdir=$directory/work" \
        "$directory/root"
}

# host_boot NAME: power on. Returns at once; `host_ready` waits.
host_boot() {
    local name=$1 directory=$lab/hosts/$1 group
    if host_is_on "$name"; then
        return
    fi
    host_mount "$name"
    rm -f -- "$directory/init"
    mkdir -p "$packages"
    for group in $(cgroup_roots); do
        mkdir -p "$group/$lab_id/$name"
    done
    # The shell enters the groups first, so that everything that follows is born in them.
    # SYSTEMD_NSPAWN_LOCK=0: the lab never starts a host twice.
    setsid env SYSTEMD_NSPAWN_LOCK=0 SYSTEMD_LOG_LEVEL=warning bash -c '
        for group in $1; do echo $$ >"$group/cgroup.procs"; done
        shift
        exec "$@"
    ' boot "$(cgroup_roots | sed "s|\$|/$lab_id/$name|")" \
        systemd-nspawn --quiet --register=no --keep-unit --link-journal=no --boot \
        --resolv-conf=off --timezone=off --console=pipe \
        --directory="$directory/root" --machine="$name" \
        --network-namespace-path="/run/netns/$(netns_of "$name")" \
        --bind-ro="$checkout/deploy-scripts:/tamer/deploy-scripts" \
        --bind-ro="$checkout/vagrant/provision:/tamer/vagrant/provision" \
        --bind-ro="$packages:/tamer/target/packages" \
        --bind-ro="$lab/share:/tamer/share" \
        >>"$directory/console" 2>&1 </dev/null 8>&- 9>&- &
    disown
}

# All processes of a host, as this machine numbers them.
host_processes() {
    local group
    for group in $(cgroup_roots); do
        [ -d "$group/$lab_id/$1" ] && find "$group/$lab_id/$1" -name cgroup.procs -exec cat {} + 2>/dev/null
    done | sort -nu
}

# The process that is number 1 in the host.
host_init() {
    local pid groups known=$lab/hosts/$1/init
    # Asked for all the time: the one that was found last, as long as it is there.
    if { read -r pid <"$known" && mapfile -t groups <"/proc/$pid/cgroup"; } 2>/dev/null &&
        [[ ${groups[*]} == *"/$lab_id/$1"* ]]; then
        say "$pid"
        return 0
    fi
    for pid in $(host_processes "$1"); do
        if awk '/^NSpid:/ { exit !(NF == 3 && $3 == 1) }' "/proc/$pid/status" 2>/dev/null; then
            say "$pid" | tee "$known"
            # With its number: in a trap, `return` alone is the status of what came before it.
            return 0
        fi
    done
    return 1
}

host_is_on() {
    host_init "$1" >/dev/null
}

# on HOST COMMAND…: runs it in the host, as root, and ends as it ends.
on() {
    local pid
    pid=$(host_init "$1") || die "$1 is off" "lab start $1"
    shift
    nsenter --target "$pid" --all env --chdir=/ -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" "$@"
}

host_settled() {
    local state
    # Once there is somebody to ask, it is systemd that waits: hosts that boot have better things to do than to answer.
    state=$(on "$1" timeout 2 systemctl is-system-running --wait 2>/dev/null || true)
    [ "$state" = running ] || [ "$state" = degraded ]
}

# Waits until systemd says that the host is up.
host_ready() {
    within 60 host_settled "$1" || {
        tail -n 20 "$lab/hosts/$1/console" >&2
        die "$1 is not up after 60 s" "vagrant/lab/lab down"
    }
}

# Power loss: every process of the host ends where it is.
host_kill() {
    local pid deadline=$((SECONDS + 10)) group
    # Whoever ends by itself meanwhile is fine too.
    if pid=$(host_init "$1"); then
        kill -KILL "$pid" 2>/dev/null || true
    fi
    rm -f -- "$lab/hosts/$1/init"
    while [ -n "$(host_processes "$1")" ]; do
        for pid in $(host_processes "$1"); do
            kill -KILL "$pid" 2>/dev/null || true
        done
        [ "$SECONDS" -lt "$deadline" ] || die "$1 does not die: $(host_processes "$1" | tr '\n' ' ')"
        sleep 0.02
    done
    for group in $(cgroup_roots); do
        remove_groups "$group/$lab_id/$1"
    done
}

# Empty control groups go at once, but for a moment after their last process.
remove_groups() {
    local deadline=$((SECONDS + 5))
    until find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || [ ! -d "$1" ]; do
        [ "$SECONDS" -lt "$deadline" ] || die "$1 is not empty"
        sleep 0.02
    done
}

# host_forget NAME: its changes since the snapshot are gone; it must be off.
host_forget() {
    local directory=$lab/hosts/$1
    umount "$directory/root" 2>/dev/null || true
    rm -rf -- "$directory/upper" "$directory/work" "$directory/console"
    mkdir -p "$directory"/{upper,work}
}

# host_keep NAME: what it wrote until now is what later resets go back to; it must be off.
host_keep() {
    local directory=$lab/hosts/$1
    umount "$directory/root" 2>/dev/null || true
    if [ -z "$(ls -A "$directory/below")" ]; then
        rmdir "$directory/below"
        mv -- "$directory/upper" "$directory/below"
        rm -rf -- "$directory/work"
        mkdir -p "$directory"/{upper,work}
    else
        die "$1 has been kept already"
    fi
}
