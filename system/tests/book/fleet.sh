# shellcheck shell=bash disable=SC2154 # book and port are the page's own
# A fleet that runs already, for pages that begin with `<!-- begins with a fleet -->`: a controller,
# three web servers in `production`, and the shop in version 1.1.0 with 1.0.0 behind it. The agent of
# web-1 is the one that `tamer-agent` and `systemctl` mean. Sourced after prelude.sh.

export TAMER_CONTROLLER_CONFIG=$book/etc/tamer/controller.toml
export TAMER_AGENT_CONFIG=$book/etc/tamer/agent.toml
tamer-controller init --name 127.0.0.1 --listen "127.0.0.1:$port" --data "$book/var/lib/tamer/controller"
start tamer-controller tamer-controller serve
tamer login <<<"$(last_token)"
tamer trust init
mkdir environments
cat >environments/production.toml <<'TOML'
[place]
"shop/web" = { role = "web" }

[policy]
canary           = 1
max_parallel     = 1
min_healthy      = "100ms"
healthy_deadline = "10s"
TOML
tamer env apply environments/

# join NAME: as a rootless agent, everything of it below its own directory.
join() {
    local name=$1 root=$HOME/hosts/$1 unit=tamer-agent-$1
    local config=$root/etc/tamer/agent.toml state=$root/var/lib/tamer/agent
    if [ "$name" = web-1 ]; then
        root=$book unit=tamer-agent
        config=$TAMER_AGENT_CONFIG state=$book/var/lib/tamer/agent
    fi
    tamer host invite --environment production --label role=web
    tamer-agent enroll --config "$config" --state "$state" --name "$name" \
        --rootless --root-prefix "$root" <<<"$(last_token)"
    start "$unit" tamer-agent run --config "$config"
}
for name in web-1 web-2 web-3; do
    join "$name"
done

mkdir -p shop/dist
(
    cd shop || exit
    tamer init
    for version in 1.0.0 1.1.0; do
        printf 'hello %s\n' "$version" >dist/index.html
        tamer publish "$version"
        tamer deploy production "$version"
    done
)
