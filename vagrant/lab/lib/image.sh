# shellcheck shell=bash
# shellcheck disable=SC2154 # $lab, $lab_id, $checkout and the like are of base.sh
# The root file system that all hosts share: plain Debian with the packages that provisioning asks
# for, none of them started. Made once, kept by a hash of its recipe. Sourced, never run.

image_suite=bookworm
# Everything that a host could want is in it, for hosts have no network but the lab's.
image_packages=(
    systemd systemd-sysv dbus udev adduser iproute2 nftables procps curl ca-certificates openssl
    python3 nginx-light haproxy socat postfix libsasl2-modules libfaketime zstd postgresql
)
# Never needed, and half of what they come with weighs: documents, man pages, translations; and what
# PostgreSQL compiles queries with, if it were asked to.
image_without=(
    '/usr/share/doc/*' '/usr/share/locale/*' '/usr/share/man/*/*' '/usr/share/i18n/*'
    '/usr/lib/*/libLLVM*' '/usr/lib/llvm*/*' '/usr/lib/*/libz3*' '/usr/lib/postgresql/*/lib/bitcode/*'
)
# Started by provisioning, on the hosts that need them.
image_idle_units=(nginx.service haproxy.service postfix.service postgresql.service)

image_recipe() {
    say "$image_suite" "${image_packages[@]}" "${image_without[@]}" "${image_idle_units[@]}"
    declare -f image_build image_finish
}

image_file() {
    printf '%s/image-%s.tar\n' "$cache" "$(image_recipe | sha256sum | head -c 12)"
}

# The machine's own package sources: the lab asks no others.
image_sources() {
    local file
    for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
        if [ -s "$file" ]; then
            say "$file"
            return
        fi
    done
    # A machine that says nothing: mmdebstrap knows the suite's own.
}

# Runs in the new root: `image_finish ROOT`.
image_finish() {
    local root=$1
    systemctl --root="$root" --quiet disable "${image_idle_units[@]}"
    # Never a host's own: there is no hardware, no console to log in at, nobody who does.
    systemctl --root="$root" --quiet mask systemd-udevd.service console-getty.service getty.target \
        systemd-networkd.service systemd-resolved.service systemd-logind.service \
        systemd-update-utmp.service systemd-update-utmp-runlevel.service apt-daily.timer apt-daily-upgrade.timer \
        dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root/etc/machine-id" \
        "$root/etc/hostname" "$root/etc/resolv.conf" "$root/etc/nginx/sites-enabled/default"
    # The database that its package makes: a scenario that wants one makes its own.
    rm -rf "$root"/var/lib/postgresql/* "$root"/etc/postgresql/* "$root"/var/log/postgresql/*
    : >"$root/etc/machine-id"
    # The journal survives a power cut, and is read after it.
    mkdir -p "$root/var/log/journal" "$root/tamer"
}

image_build() {
    local file=$1 work options=() option sources=()
    mapfile -t sources < <(image_sources)
    work=$(mktemp -d "$cache/build.XXXXXX")
    for option in /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf.d/*artifact*; do
        [ -f "$option" ] && options+=(--aptopt="$option")
    done
    for option in "${image_without[@]}"; do
        options+=(--dpkgopt="path-exclude=$option")
    done
    if ! mmdebstrap --quiet --variant=minbase --include="${image_packages[*]}" \
        "${options[@]}" "$image_suite" "$work/root" "${sources[@]}" >"$work.log" 2>&1; then
        tail -n 20 "$work.log" >&2
        rm -rf -- "$work"
        die "mmdebstrap failed: the whole log is $work.log"
    fi
    # Packages of the project bring man pages of their own, and tests look for them.
    rm -f "$work"/root/etc/dpkg/dpkg.cfg.d/*mmdebstrap*
    image_finish "$work/root"
    tar -C "$work/root" --xattrs --numeric-owner -cf "$file.part" .
    mv -- "$file.part" "$file"
    rm -rf -- "$work" "$work.log"
}

# Makes the image if it is not there.
image_ready() {
    local file
    file=$(image_file)
    mkdir -p "$cache"
    exec 8>"$cache/.lock"
    flock 8
    if [ ! -s "$file" ]; then
        say "making the image (once, a minute or two): $file"
        image_build "$file"
    fi
    exec 8>&-
}
