# shellcheck shell=sh
# What the provisioning of every host shares. Sourced, never run: `. common.sh` sets
# $deploy_scripts, and demands root.

here=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd)
# shellcheck disable=SC2034 # for whoever sources this
deploy_scripts=$here/../../deploy-scripts

say() { printf '%s\n' "$*"; }

[ "$(id -u)" = 0 ] || {
    say "$0: only root can do this" >&2
    exit 1
}

# Debian's packages that are not there yet.
need_packages() {
    missing=
    for package in "$@"; do
        [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    export DEBIAN_FRONTEND=noninteractive
    # Postfix asks nothing and starts nothing until it is told what it is for.
    if command -v debconf-set-selections >/dev/null; then
        echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections
    fi
    apt-get -qq -o DPkg::Lock::Timeout=120 update </dev/null
    # shellcheck disable=SC2086 # one word a package
    apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends $missing </dev/null >/dev/null
}

# A user of an application: no shell, no password, no home.
need_user() {
    id "$1" >/dev/null 2>&1 ||
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$1"
}
