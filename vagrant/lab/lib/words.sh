# shellcheck shell=bash
# shellcheck disable=SC2001,SC2034,SC2154,SC2016 # $lab and the like are of base.sh; hosts expand what is theirs
# The words in which scenarios are written: what a user does, and what a user sees. Sourced by `test`,
# after the parts of the lab. A sentence that does not come true ends the scenario.
#
# $said is what the last command said, $code how it ended.

said=
code=0
environment=vagrant
# The desk sees this time, where a scenario moves the clocks of everybody.
desk_clock=0
# How the notes are built.
notes_options=()

fail() {
    printf '!! %s\n' "$*"
    exit 1
}

tell() {
    printf '\n== %s\n' "$*"
}

# uses HOST…: these hosts are on, as they were when the fleet had just been joined; the others are not
# in this fleet.
uses() {
    fleet_reset "$@"
    used=("$@")
    rm -rf -- "$lab/desk/work"
    mkdir -p "$lab/desk/work"
    cp "$checkout/vagrant/environments/vagrant.toml" "$lab/desk/work/"
    within 30 controller_answers || fail 'the controller does not answer'
    local host
    for host in $(default_hosts); do
        [[ $host == controller || " $* " == *" $host "* ]] || at_desk tamer --quiet host remove "$host"
    done
    for host in "$@"; do
        [ "$host" = controller ] || [ "$host" = spare ] || eventually 30 connected "$host"
    done
}

# === What is typed

# A command at the engineer's desk.
at_desk() {
    local clock=()
    if [ "$desk_clock" != 0 ]; then
        clock=(LD_PRELOAD="$lab/image$faketime_library" FAKETIME="$desk_clock" FAKETIME_DONT_FAKE_MONOTONIC=1)
    fi
    desk env -C "$lab/desk/work" PATH="$lab/desk/bin:$PATH" "${clock[@]}" "$@"
}

# try COMMAND…: runs it; $said and $code are what came of it. `deploy` and `rollback` are the scripts,
# everything else is a command or a word of this vocabulary.
try() {
    code=0
    printf '$ %s\n' "$*"
    said=$(typed "$@" 2>&1) || code=$?
    [ -z "$said" ] || sed 's/^/    /' <<<"$said"
    note_acknowledged
}

typed() {
    case $1 in
        deploy | rollback) at_desk "$checkout/deploy-scripts/$1" "${@:2}" ;;
        tamer) at_desk "$@" ;;
        *) "$@" ;;
    esac
}

# expect CODE COMMAND…
expect() {
    local wanted=$1
    shift
    try "$@"
    [ "$code" = "$wanted" ] || fail "\`$*\` ended with $code, not with $wanted"
}

# The last command said this.
says() {
    local word
    for word in "$@"; do
        grep -qF -- "$word" <<<"$said" || fail "it does not say \`$word\`"
    done
}

# meanwhile COMMAND…: starts it, and goes on; `its_end CODE` waits for it.
meanwhile() {
    printf '$ %s &\n' "$*"
    # Emptied here: what the last one said is not waited for.
    : >"$lab/desk/work/meanwhile"
    typed "$@" >>"$lab/desk/work/meanwhile" 2>&1 &
    meanwhile_pid=$!
}

its_end() {
    its_end_any "$1"
}

# its_end_any CODE…: what goes on meanwhile ends with one of these.
its_end_any() {
    local wanted
    code=0
    wait "$meanwhile_pid" || code=$?
    said=$(cat "$lab/desk/work/meanwhile")
    sed 's/^/    /' <<<"$said"
    note_acknowledged
    for wanted in "$@"; do
        [ "$code" != "$wanted" ] || return 0
    done
    fail "what went on meanwhile ended with $code, not with one of: $*"
}

# its_line TEXT: waits until what goes on meanwhile has said this.
its_line() {
    within 60 said_or_over "$1"
    grep -qF -- "$1" "$lab/desk/work/meanwhile" || {
        code=0
        kill -0 "$meanwhile_pid" 2>/dev/null || wait "$meanwhile_pid" || code=$?
        cat "$lab/desk/work/meanwhile"
        printf '(it goes on, or ended with %s)\n' "$code"
        fail "nobody said \`$1\`"
    }
}

said_or_over() {
    grep -qF -- "$1" "$lab/desk/work/meanwhile" || ! kill -0 "$meanwhile_pid"
}

# === Applications

# publish APPLICATION VERSION [--broken | WORD]: as its repository would. A broken one is not well after
# the switch; a word of the scenario's own changes what was built, in its directory. Every version has its
# own content.
publish() {
    local application=$1 version=$2 directory=$lab/desk/work/$1
    mkdir -p "$directory"
    case $application in
        shop)
            cp "$checkout/examples/shop-service/tamer.toml" "$directory/"
            "$checkout/examples/shop-service/build" "$version" "$directory"
            [ "${3-}" != --broken ] || sed -i '/^payment_url/d' "$directory/dist/shop.conf"
            ;;
        notes)
            cp "$checkout/examples/django-notes/tamer.toml" "$directory/"
            # Django is fetched once for all runs; another lab may be at it.
            mkdir -p "$cache/notes"
            {
                flock 7
                "$checkout/examples/django-notes/build" "${notes_options[@]}" "$version" "$cache/notes" 7>&-
                rm -rf -- "$directory/dist"
                cp -R "$cache/notes/dist" "$directory/"
            } 7>"$cache/notes.lock"
            [ "${3-}" != --broken ] || rm "$directory/dist/notes/urls.py"
            ;;
    esac
    case ${3-} in
        '' | --broken) ;;
        *) (cd "$directory" && "$3") ;;
    esac
    (cd "$directory" && expect 0 tamer publish "$version" --file "$directory/tamer.toml")
}

# place COMPONENT SELECTOR: adds it to the environment; `policy KEY VALUE` changes its policy. Both
# hold from the next `apply` on.
place() {
    sed -i "s|^\\[place\\]\$|&\n\"$1\" = $2|" "$lab/desk/work/vagrant.toml"
}

policy() {
    local file=$lab/desk/work/vagrant.toml
    if grep -q "^$1 *=" "$file"; then
        sed -i "s|^$1 *=.*|$1 = $2|" "$file"
    else
        sed -i "s|^\\[policy\\]\$|&\n$1 = $2|" "$file"
    fi
}

apply() {
    expect 0 tamer env apply "$lab/desk/work/vagrant.toml"
}

# === What is seen

# asked HOST PATH: what a visitor of this host gets.
asked() {
    at_desk curl --silent --show-error --fail --max-time 5 "http://$1$2"
}

version_of_shop() {
    [ "$(asked "$1" /version)" = "$2" ]
}

# answer VERSION HOST…: visitors of these hosts see this version of the shop.
answer() {
    local wanted=$1 host
    shift
    for host in "$@"; do
        within 15 version_of_shop "$host" "$wanted" ||
            fail "$host answers as $(asked "$host" /version 2>&1 || true), not as $wanted"
    done
    printf '  visitors of %s see %s\n' "$*" "$wanted"
}

notes_answer() {
    local wanted=$1 host
    shift
    for host in "$@"; do
        [ "$(asked "$host" /notes/version)" = "$wanted" ] || fail "the notes on $host are not $wanted"
    done
}

# The version that is current on a host, read from its disk: `current HOST [ROOT]`.
current() {
    on "$1" sh -c 'basename -- "$(readlink "$1/current")"' sh "${2:-/srv/shop/web}" | version_in
}

# The version in the name of a release's directory.
version_in() {
    sed 's/^[0-9]*-\(.*\)-[0-9a-f]*$/\1/'
}

# whole HOST [ROOT]: `current` is there, and is every file that its manifest lists, byte for byte.
whole() {
    on "$1" python3 /tamer/share/whole.py "${2:-/srv/shop/web}" ||
        fail "what is current on $1 is not whole"
}

# run VERSION HOST…: on disk, whole, and for visitors.
run() {
    local wanted=$1 host got
    shift
    for host in "$@"; do
        got=$(current "$host")
        [ "$got" = "$wanted" ] || fail "$host has $got, not $wanted"
        whole "$host"
    done
    answer "$wanted" "$@"
}

connected() {
    state_of "$1" | grep -qx connected
}

# The state in which the controller sees a host: connected, away, quarantined.
state_of() {
    at_desk tamer hosts "$1" --output json | lookup '["hosts"][0]["state"]'
}

away() {
    state_of "$1" | grep -qx away
}

# knows HOST VERSION [COMPONENT]: what the controller believes that the host runs.
knows() {
    [ "$(at_desk tamer hosts "$1" --output json |
        python3 -c 'import json, sys
for component in json.load(sys.stdin)["hosts"][0]["components"]:
    if component["component"] == sys.argv[1]:
        print(component["running"])' "${3:-web}")" = "$2" ]
}

# lookup PATH: a value of the JSON on standard input, by the words of Python.
lookup() {
    python3 -c 'import json, sys; value = json.load(sys.stdin); print(eval("value" + sys.argv[1]))' "$1"
}

# eventually SECONDS WORD…: it becomes true.
eventually() {
    local patience=$1
    shift
    # Often at first, and then less: whoever is waited for has work to do meanwhile.
    within 3 "$@" || every=0.5 within "$patience" "$@" || fail "not within $patience s: $*"
}

controller_answers() {
    at_desk tamer whoami --quiet
}

# The journal of a unit on a host, since it was made.
journal() {
    on "$1" journalctl --no-pager --quiet --output cat --unit "$2"
}

in_journal() {
    journal "$1" "$2" | grep -qF -- "$3"
}

# status_says HOST TEXT…: `tamer-agent status` there.
status_says() {
    try on "$1" tamer-agent status
    shift
    says "$@"
}

# What a host runs is what the controller wants it to run, and nothing is under way there.
settled() {
    at_desk tamer hosts "$1" --output json | python3 -c 'import json, sys
host = json.load(sys.stdin)["hosts"][0]
ok = host["state"] == "connected" and all(
    part["running"] == part["wanted"] or part["failure"] for part in host["components"]
    if part["component"] == "web")
sys.exit(0 if ok else 1)'
}

# A host's check `mail` holds, as the controller knows.
sends_mail() {
    at_desk tamer hosts "$1" --output json | python3 -c 'import json, sys
checks = json.load(sys.stdin)["hosts"][0]["checks"]
sys.exit(0 if any(check["name"] == "mail" and not check["failure"] for check in checks) else 1)'
}
