# shellcheck shell=bash
# Sections with a heading, a duration and a verdict, and the summary of them.
# Sourced, never run.

section_rows=()
sections_failed=0
sections_skipped=0
sections_began=$SECONDS

# A duration in words people read: `duration 75` is "1 m 15 s".
duration() {
    if [ "$1" -lt 60 ]; then
        printf '%d s' "$1"
    else
        printf '%d m %02d s' "$(($1 / 60))" "$(($1 % 60))"
    fi
}

# A part of the run: `stage TITLE`.
stage() {
    printf '\n######## %s\n' "$1"
}

# Run one command under a heading and note how it ended: `section NAME COMMAND…`.
# A failure is remembered and the rest still runs, so that one run tells all.
# A command that cannot do its work calls `skip`.
skip_reason=
section() {
    local name=$1 began=$SECONDS code=0 took verdict
    shift
    skip_reason=
    printf '\n==== %s\n' "$name"
    "$@" || code=$?
    took=$(duration "$((SECONDS - began))")
    if [ "$code" -ne 0 ]; then
        verdict="FAILED (exit code $code)"
        sections_failed=$((sections_failed + 1))
    elif [ -n "$skip_reason" ]; then
        verdict="SKIPPED: $skip_reason"
        sections_skipped=$((sections_skipped + 1))
    else
        verdict=ok
    fi
    printf -- '---- %s: %s, %s\n' "$name" "$verdict" "$took"
    section_rows+=("$(printf '%12s  %-12s %s' "$took" "$name" "$verdict")")
}

# Say loudly that this section does not do its work, and why: `skip REASON`.
skip() {
    skip_reason=$1
    printf '\n!!!! SKIPPED: %s\n\n' "$1"
}

# All sections and how they ended. Fails if one of them did.
sections_summary() {
    stage 'summary'
    printf '%s\n' "${section_rows[@]}"
    printf '%12s  in all\n\n' "$(duration "$((SECONDS - sections_began))")"
    if [ "$sections_failed" -gt 0 ]; then
        printf '%d of %d sections FAILED\n' "$sections_failed" "${#section_rows[@]}"
        return 1
    fi
    printf 'everything green'
    if [ "$sections_skipped" -gt 0 ]; then
        printf ', %d SKIPPED as told above' "$sections_skipped"
    fi
    printf '\n'
}
