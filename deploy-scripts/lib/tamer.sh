# shellcheck shell=bash
# Where the `tamer` command is. Sourced, never run.

# Becomes `tamer` with the given arguments: the one on PATH, or else the one that was
# built in this checkout. With neither, says how to get one.
exec_tamer() {
    local checkout candidate
    checkout=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../.." && pwd)
    for candidate in "$(command -v tamer)" "$checkout"/target/{release,debug}/tamer; do
        if [ -n "$candidate" ] && [ -x "$candidate" ]; then
            exec "$candidate" "$@"
        fi
    done
    printf 'tamer is not on PATH and not built in %s: run deploy-scripts/build\n' "$checkout" >&2
    return 2
}
