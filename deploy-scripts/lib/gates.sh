# shellcheck shell=bash
# The gates that are more than one command. Sourced, never run; the current directory
# is the checkout, and `skip` is of sections.sh.
#
# A function that `section` calls runs without `set -e`: each one is a single chain
# of commands, so that the failure of any of them is the function's.

# Where the tests' own summary line goes on its way to the end of this script.
nextest_log=$PWD/target/tools/nextest.log

# Says so at the beginning where the disk may be too small: agents in tests leave a twentieth of it free, as all agents
# do, and refuse releases beyond that.
check_room() {
    local free whole
    read -r free whole < <(df --output=avail,size --block-size=1M . | tail -n 1) || return 1
    printf '%d MiB are free\n' "$free"
    if [ "$((free - 20000))" -lt "$((whole / 20))" ]; then
        printf '\n!!!! LITTLE ROOM: have at least %d MiB free, or tests may fail for it\n\n' "$((whole / 20 + 20000))"
    fi
}

# So many rollouts, each from a seed of its own. What they are played through is built with the lightest optimisation, for
# this alone: four times as many in the same time, where everything else is built sooner without it.
check_simulator() {
    local crate light=()
    for crate in core agent controller simulator; do
        light+=(--config "profile.dev.package.tamer-$crate.opt-level=1")
    done
    cargo build --quiet --locked --workspace --bin tamer-simulator "${light[@]}" &&
        target/debug/tamer-simulator --seeds "$1"
}

# All shell scripts by what they begin with, so that none is forgotten.
shell_scripts() {
    find . \( -path ./target -o -path ./.git \) -prune -o -type f -print0 |
        xargs -0 awk 'FNR == 1 && /^#(!.*[\/ ](ba|da)?sh( |$)| shellcheck shell=)/ { print FILENAME } { nextfile }' |
        sort
}

check_shell() {
    local scripts
    mapfile -t scripts < <(shell_scripts)
    printf '%d scripts\n' "${#scripts[@]}"
    [ "${#scripts[@]}" -gt 0 ] &&
        shellcheck --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
}

# The Vagrantfile, as Vagrant reads it. Vagrant is not installed for it: that is 43 MB to fetch and
# 180 MB on disk, with libvirt and its emulator.
check_vagrant() {
    if ! have vagrant; then
        skip 'the Vagrantfile was NOT read; to have it read: sudo apt-get install --no-install-recommends vagrant vagrant-libvirt'
        return 0
    fi
    export VAGRANT_HOME=$PWD/target/tools/vagrant VAGRANT_DOTFILE_PATH=$PWD/target/tools/vagrant-boxes
    local libvirt=()
    [[ $(vagrant plugin list) == *vagrant-libvirt* ]] || libvirt=(--ignore-provider)
    ruby -c vagrant/Vagrantfile &&
        (cd vagrant && VAGRANT_DEFAULT_PROVIDER=libvirt TAMER_VAGRANT_DRIVER=qemu vagrant validate "${libvirt[@]}")
}

# Which of our crates may name which: the arrows of docs/architecture.md.
# What tamer-system records of power cuts, the tests of controller and agent use; nothing else does.
check_arrows() {
    arrows tamer-core &&
        arrows tamer-kit tamer-core &&
        arrows tamer-release tamer-core tamer-kit &&
        arrows tamer-proto tamer-core &&
        arrows tamer-controller tamer-core tamer-kit tamer-release tamer-proto tamer-system &&
        arrows tamer-agent tamer-core tamer-kit tamer-release tamer-proto tamer-system &&
        arrows tamer tamer-core tamer-kit tamer-release tamer-proto &&
        arrows tamer-fuzz tamer-core tamer-kit tamer-release &&
        arrows tamer-simulator tamer-core tamer-agent tamer-controller &&
        arrows tamer-system
}

# `arrows CRATE ALLOWED…`, tests' and builds' dependencies included.
arrows() {
    local crate=$1 allowed=" ${*:2} " named name
    named=$(cargo tree --locked --all-features --package "$crate" --depth 1 --prefix none |
        awk 'NR > 1 && /^tamer/ { print $1 }') || return 1
    for name in $named; do
        if [[ $allowed != *" $name "* ]]; then
            printf '%s names %s: the arrows run one way only\n' "$crate" "$name"
            return 1
        fi
    done
    printf '%-16s names: %s\n' "$crate" "${named//$'\n'/ }"
}

check_dependencies() {
    cargo deny --locked --color never check \
        --deny unnecessary-skip --deny unmatched-skip --deny unused-wrapper \
        bans licenses sources
}

# Known vulnerabilities. Their database lives on the network and changes daily: where
# it cannot be had, that says nothing about this commit.
check_advisories() {
    local log=target/tools/advisories.log code=0
    GIT_TERMINAL_PROMPT=0 timeout 60 cargo deny --locked --color never check advisories >"$log" 2>&1 || code=$?
    if [ "$code" -ne 0 ] && { [ "$code" -eq 124 ] ||
        grep -q 'failed to fetch advisory database' "$log"; }; then
        tail -n 5 "$log"
        skip 'the advisory database could not be fetched: known vulnerabilities were NOT looked for'
        return 0
    fi
    cat "$log"
    return "$code"
}

check_docs() {
    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
}

# Many tests wait for real processes: twice as many tests as cores keep the cores at work.
run_tests() {
    cargo nextest run --workspace --locked --profile ci --color never --test-threads "$((2 * $(nproc)))" 2>&1 |
        tee "$nextest_log"
}

# Every fuzz target for so long that it finds again what was once wrong. `deploy-scripts/fuzz 3600` is for
# finding something new.
check_fuzz() {
    if ! have c++; then
        skip 'parsers were NOT fuzzed; to have it done: sudo apt-get install --no-install-recommends g++'
        return 0
    fi
    deploy-scripts/fuzz 20
}

# nextest's own summary, as `N passed, N failed, N skipped`. Tests that did not start
# or ran out of time have failed.
test_totals() {
    [ -f "$nextest_log" ] && awk '
        /^ *Summary \[.*\] +[0-9\/]+ tests? run:/ { line = $0; found = 1 }
        function count(what,    text) {
            if (!match(line, "[0-9]+ " what)) return 0
            text = substr(line, RSTART, RLENGTH)
            return text + 0
        }
        END {
            if (!found) exit 1
            printf "%d passed, %d failed, %d skipped\n", count("passed"),
                count("failed") + count("exec failed") + count("timed out"), count("skipped")
        }' "$nextest_log"
}
