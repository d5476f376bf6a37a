# shellcheck shell=bash
# The gate of the packages: what Debian's own judge says of them, how far their units are confined, and
# their whole life on a host. Sourced, never run; the current directory is the checkout, and `skip` is
# of sections.sh. As in gates.sh, each function is a single chain of commands.

# The binaries must have been built before, with the dev profile.
check_packages() {
    local why
    if ! have dpkg-shlibdeps; then
        skip 'no packages were made: that needs dpkg-dev, on Debian or a relative of it'
        return 0
    fi
    deploy-scripts/package --profile dev &&
        check_lintian &&
        check_confinement &&
        check_shared_part &&
        if why=$(why_no_host) && [ -n "$why" ]; then
            skip "packages were not installed anywhere: $why"
        else
            check_life
        fi
}

# Errors fail. Two tags are about the address of whoever builds packages, and on a machine where nobody
# does (DEBEMAIL is not set) there is none.
check_lintian() {
    if ! have lintian; then
        skip 'packages were not judged by lintian: sudo apt-get install lintian'
        return 0
    fi
    lintian --profile debian --allow-root --fail-on error \
        --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog target/packages/*.deb &&
        printf 'lintian finds no error\n'
}

# What may be left open, on the scale of `systemd-analyze security`, tenths of points from 0 (shut) to 100.
# A unit that got weaker fails; one that got stronger should lower its number here.
check_confinement() {
    if ! have systemd-analyze; then
        skip 'the confinement of the units was not judged: sudo apt-get install systemd'
        return 0
    fi
    confined controller/package/tamer-controller.service 14 &&
        confined agent/package/tamer-agent.service 29
}

# confined UNIT THRESHOLD
confined() {
    local said
    said=$(systemd-analyze security --no-pager --offline=true --threshold="$2" "$1" 2>&1) || {
        printf '%s\n%s is above %s\n' "$said" "$1" "$2"
        return 1
    }
    printf '%s\n' "$said" | tail -n 1
}

# install-agent and install-controller are copied alone, so what they share is in both.
check_shared_part() {
    local part='/^# === Begin of what/,/^# === End of what/p'
    diff <(sed -n "$part" deploy-scripts/install-agent) <(sed -n "$part" deploy-scripts/install-controller) &&
        [ "$(sed -n "$part" deploy-scripts/install-agent | wc -l)" -gt 20 ]
}

# The lab's own answer, in a shell of its own: its parts set names of theirs.
why_no_host() {
    bash -c '. vagrant/lab/lib/base.sh && why_no_lab'
}

# A host of a lab of its own, thrown away afterwards.
check_life() {
    local code=0
    export TAMER_LAB=/run/tamer-packages
    vagrant/lab/lab up spare &&
        vagrant/lab/lab on spare /tamer/deploy-scripts/lib/packages-on-a-host || code=$?
    vagrant/lab/lab down || code=$?
    unset TAMER_LAB
    return "$code"
}
