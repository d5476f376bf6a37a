# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016 # $lab, $lab_id, $checkout and the like are of base.sh
# What goes wrong in real life, on demand: full disks, wrong clocks. Cut cables are in network.sh,
# power loss is in hosts.sh. Sourced, never run.

faketime_library=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1

# small_disk HOST DIRECTORY MIB: the directory gets a disk of its own of that size, with what was in
# it. Whatever runs on it is stopped meanwhile: open files would stay on the old disk.
small_disk() {
    local host=$1 directory=$2 size=$3 unit running=()
    for unit in tamer-agent tamer-controller; do
        if on "$host" systemctl --quiet is-active "$unit" 2>/dev/null; then
            running+=("$unit")
        fi
    done
    [ "${#running[@]}" -eq 0 ] || on "$host" systemctl stop "${running[@]}"
    on "$host" sh -eu -c '
        mkdir -p "$1"
        mkdir -p /run/small-disk
        mount -t tmpfs -o "size=$2m,mode=$(stat -c %a "$1")" small-disk /run/small-disk
        chown --reference="$1" /run/small-disk
        cp -a "$1/." /run/small-disk/
        mount --move /run/small-disk "$1" 2>/dev/null || {
            mount --bind /run/small-disk "$1"
            umount /run/small-disk
        }
    ' sh "$directory" "$size" || die "$host: no small disk on $directory"
    [ "${#running[@]}" -eq 0 ] || on "$host" systemctl start "${running[@]}"
}

# fill_disk HOST DIRECTORY: not a byte is left.
fill_disk() {
    on "$1" mountpoint -q "$2" || die "$2 on $1 has no disk of its own" "lab small-disk $1 $2 MIB"
    on "$1" sh -c 'dd if=/dev/zero of="$1/ballast" bs=64k 2>/dev/null; sync "$1/ballast"' sh "$2" || true
    say "$1: $(on "$1" df --output=avail -k "$2" | tail -n 1 | tr -d ' ') KiB are left on $2"
}

free_disk() {
    on "$1" rm -f "$2/ballast"
    say "$1: there is room on $2 again"
}

# skew_clock HOST OFFSET: Tamer's programs there see another time, such as +1h or -3d; 0 is the true
# one. Clocks of containers are the machine's, so only what Tamer runs is told another time.
skew_clock() {
    local host=$1 offset=$2 unit
    for unit in tamer-agent tamer-controller; do
        on "$host" systemctl cat "$unit" >/dev/null 2>&1 || continue
        if [ "$offset" = 0 ]; then
            on "$host" rm -f "/etc/systemd/system/$unit.service.d/clock.conf"
        else
            on "$host" sh -eu -c 'mkdir -p "/etc/systemd/system/$1.service.d"
                printf "[Service]\nEnvironment=LD_PRELOAD=%s FAKETIME=%s FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_NO_CACHE=1\n" "$2" "$3" \
                    >"/etc/systemd/system/$1.service.d/clock.conf"' sh "$unit" "$faketime_library" "$offset"
        fi
        on "$host" systemctl daemon-reload
        on "$host" systemctl try-restart "$unit"
    done
    say "$host: its clock is off by $offset"
}

# with_clock HOST OFFSET COMMAND…: one command that sees another time.
with_clock() {
    local host=$1 offset=$2
    shift 2
    on "$host" env LD_PRELOAD="$faketime_library" FAKETIME="$offset" FAKETIME_DONT_FAKE_MONOTONIC=1 "$@"
}
