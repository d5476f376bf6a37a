# shellcheck shell=bash
# The gate of whole hosts: the packages, installed on Debian hosts with systemd, and what users do and
# what breaks there. Sourced, never run; the current directory is the checkout, and `skip` is of
# sections.sh.

# Where this machine cannot have a lab, that is said, and nothing else is.
check_lab() {
    local log=target/lab/test.log
    mkdir -p target/lab
    deploy-scripts/package --profile dev || return 1
    # shellcheck disable=SC2266 # a path that ends in `test`, not the command
    vagrant/lab/test 2>&1 | tee "$log"
    # The status of the first command of the pipe, also without `pipefail`.
    [ "${PIPESTATUS[0]}" -eq 0 ] || return 1
    if grep -q '^!!!! SKIPPED' "$log"; then
        skip "no scenario in the lab was run:$(sed -n 's/^!!!! SKIPPED: no scenario in the lab was run://p' "$log")"
    fi
}
