# shellcheck shell=bash
# A fleet on one machine, for the demo: every host is an agent and a web shop on loopback.
# Sourced, never run. The demo counts its steps in `steps`.

tell() {
    printf '\n== %s\n' "$*"
}

need() {
    command -v "$1" >/dev/null || {
        printf 'missing: %s. %s\n' "$1" "$2" >&2
        exit 2
    }
}

tamer() {
    TAMER_HOME=$fleet/operator "$bin/tamer" "$@"
}

# Runs a script of deploy-scripts as people would, and demands this exit code.
expect() {
    local wanted=$1 script=$2 code=0
    shift 2
    printf '$ deploy-scripts/%s %s\n' "$script" "$*"
    TAMER_HOME=$fleet/operator PATH=$bin:$PATH "$checkout/deploy-scripts/$script" "$@" || code=$?
    if [ "$code" != "$wanted" ]; then
        printf 'demo: %s %s ended with %s, expected %s\n' "$script" "$*" "$code" "$wanted" >&2
        exit 1
    fi
    printf '  exit code %s, as it should be\n' "$code"
    steps=$((steps + 1))
}

# A process of ours, in the background; its number is kept so that nothing else is ever ended.
start() {
    local name=$1
    shift
    "$@" >"$fleet/$name.log" 2>&1 </dev/null &
    printf '%s\n' "$!" >"$fleet/pids/$name"
}

stop() {
    local file=$fleet/pids/$1 pid
    [ -s "$file" ] || return 0
    pid=$(cat "$file")
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    rm -f "$file"
}

# Waits until a command succeeds, at most 20 s.
until_ok() {
    local tries=200
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ]; then
            printf 'demo: gave up waiting for: %s\n' "$*" >&2
            return 1
        fi
        sleep 0.1
    done
}

fleet_begin() {
    checkout=$1
    bin=$2
    fleet=$(mktemp -d "${TMPDIR:-/tmp}/tamer-demo.XXXXXX")
    mkdir -p "$fleet"/{pids,operator,environments,mail}
    cp -R "$checkout/examples/shop/app" "$checkout/examples/shop/tamer.toml" "$fleet/"
    cp "$bin/shop" "$fleet/app/bin/shop"
    mapfile -t ports < <("$bin/shop" ports 8)
}

fleet_start() {
    local count=$1 line number
    cat >"$fleet/controller.toml" <<TOML
listen = "127.0.0.1:${ports[0]}"
public = "127.0.0.1:${ports[0]}"
names  = ["127.0.0.1"]
data   = "$fleet/controller"
TOML
    "$bin/tamer-controller" --config "$fleet/controller.toml" init >"$fleet/init.txt"
    line=$(grep -o 'tamer-join-[A-Za-z0-9_-]*' "$fleet/init.txt" | head -n 1)
    start controller "$bin/tamer-controller" --config "$fleet/controller.toml" serve
    until_ok port_answers "${ports[0]}"
    tamer login <<<"$line"
    tamer trust init >/dev/null
    mail_start
    cat >"$fleet/environments/production.toml" <<TOML
# Where the shop runs, how carefully it changes, and what must hold on every host.
[place]
"shop/web" = { role = "web" }

[policy]
canary           = 1
max_parallel     = 3
min_healthy      = "1s"
healthy_deadline = "10s"
bake             = "1s"
on_failure       = "rollback"

[checks.mail]                # every host here must be able to send e-mail
type   = "smtp"
server = "127.0.0.1:${ports[1]}"
from   = "probe@shop.example"
to     = "sink@shop.example"
TOML
    tamer env apply "$fleet/environments"
    for number in $(seq 1 "$count"); do
        host_start "$number"
    done
    for number in $(seq 1 "$count"); do
        until_ok host_is_connected "web-0$number"
    done
    tamer hosts
}

host_start() {
    local name=web-0$1 port=${ports[$(($1 + 1))]} dir=$fleet/web-0$1 line
    mkdir -p "$dir"
    cat >"$dir/agent.toml" <<TOML
controller  = "https://127.0.0.1:${ports[0]}"
name        = "$name"
environment = "production"
state       = "$dir/state"
disk_reserve = "512MiB"     # the machine is yours: as little as may be
rootless    = true           # no root: no user is switched to, every root is allowed
root_prefix = "$dir"

[variables]
port = "$port"
TOML
    line=$(tamer host invite --environment production --label role=web 2>"$dir/invite.log" | grep -o 'tamer-join-[A-Za-z0-9_-]*')
    "$bin/tamer-agent" --config "$dir/agent.toml" enroll <<<"$line" >"$dir/enroll.txt"
    start "$name" "$bin/tamer-agent" --config "$dir/agent.toml" run
}

host_is_connected() {
    tamer hosts "$1" --output json | grep -q '"state": *"connected"'
}

port_answers() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

mail_start() {
    start mail "$bin/postbox" --listen "127.0.0.1:${ports[1]}" --mail-dir "$fleet/mail"
    until_ok port_answers "${ports[1]}"
}

mail_stop() {
    stop mail
    printf 'the mail server has stopped\n'
}

# publish VERSION [--broken]: the shop as it would come from its repository at that version.
publish() {
    printf '%s\n' "$1" >"$fleet/app/VERSION"
    cp "$checkout/examples/shop/app/shop.conf" "$fleet/app/shop.conf"
    if [ "${2-}" = --broken ]; then
        sed -i '/^payment_url/d' "$fleet/app/shop.conf"
    fi
    (cd "$fleet" && tamer publish "$1")
}

# Asks all six over HTTP what they run.
shops_run() {
    local wanted=$1 number got
    printf '  asked over HTTP:'
    for number in 1 2 3 4 5 6; do
        got=$("$bin/shop" ask --port "${ports[$((number + 1))]}" --within 5 /version)
        printf ' web-0%s %s' "$number" "$got"
        if [ "$got" != "$wanted" ]; then
            printf '\ndemo: web-0%s runs %s, expected %s\n' "$number" "$got" "$wanted" >&2
            exit 1
        fi
    done
    printf '\n'
}

fleet_keep() {
    cat <<TEXT

The fleet goes on. To play with it:
  export TAMER_HOME=$fleet/operator PATH=$bin:\$PATH
  cd $fleet
  tamer hosts                            who is there
  tamer status production                what runs
  echo 1.3.0 >app/VERSION && tamer publish 1.3.0 && tamer deploy production 1.3.0
  tamer rollback production
To end it:
  kill \$(cat $fleet/pids/*) \$(cat $fleet/web-*/srv/shop/web/shared/run/shop.pid); chmod -R u+w $fleet; rm -rf $fleet
TEXT
}

# fleet_end CODE KEEP: ends what was started, by its number, and takes the files away.
fleet_end() {
    local code=$1 keep=$2 file pid
    trap - EXIT INT TERM
    if [ "$keep" = yes ] && [ "$code" = 0 ]; then
        return 0
    fi
    if [ "$code" != 0 ]; then
        printf '\ndemo: failed with %s. The last lines of the logs:\n' "$code" >&2
        tail -n 15 "$fleet"/*.log >&2 || true
    fi
    for file in "$fleet"/pids/*; do
        [ -e "$file" ] && stop "$(basename -- "$file")"
    done
    for file in "$fleet"/web-*/srv/shop/web/shared/run/shop.pid; do
        [ -s "$file" ] || continue
        pid=$(cat "$file")
        # After a crash the number may be a stranger's: only a shop of this fleet is ended.
        case $(readlink "/proc/$pid/exe" 2>/dev/null) in
            "$fleet"/*) kill -TERM "$pid" 2>/dev/null || true ;;
        esac
    done
    chmod -R u+w "$fleet" 2>/dev/null || true
    rm -rf "$fleet"
    exit "$code"
}
