# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154,SC2016 # $lab and the like are of base.sh; hosts expand what is theirs
# The words for what breaks, and for looking afterwards whether anything was lost. Sourced by `test`,
# after words.sh.

# Where the controller lives; a restore moves it.
controller=controller

# === Nothing is lost

# Deployments that somebody was told of, by number and version: the controller must know them for ever.
note_acknowledged() {
    sed -nE 's/^ *([^ ]+) ([^ ]+) (→|⟲) ([^ ]+) .* deployment ([0-9]+) .*/\5 \4 \1@\2/p' <<<"$said" >>"$lab/desk/acknowledged"
}

fault() {
    printf '%s\n' "$*" >>"$results/faults"
    printf '** %s\n' "$*"
}

loss() {
    printf '%s: %s\n' "$scenario" "$*" >>"$results/losses"
    fail "LOST: $*"
}

# nothing_lost: the controller knows every deployment that it told somebody about, all that it keeps is
# whole, and so is the chain of its audit log. A restored controller knows what came after its backup
# from the audit log.
nothing_lost() {
    local number what known
    eventually 30 controller_answers
    known=$(at_desk tamer history "$environment" --limit 1000 --output json | history_numbers)
    sort -u "$lab/desk/acknowledged" >"$lab/desk/acknowledged.sorted"
    [ -s "$lab/desk/acknowledged.sorted" ] || fail 'nobody was told of a deployment: nothing to look for'
    while read -r number what; do
        grep -qx "$number $what" <<<"$known" || { [ "$controller" = spare ] && audited "\"$what\""; } ||
            loss "the controller does not know deployment $number any more ($what)"
    done <"$lab/desk/acknowledged.sorted"
    on "$controller" systemctl stop tamer-controller
    on "$controller" tamer-controller check || loss 'what the controller keeps is not whole'
    on "$controller" tamer-controller audit verify || loss 'the audit log is not whole'
    on "$controller" systemctl start tamer-controller
    printf '%s\n' "$scenario" >>"$results/verified"
    printf '  nothing is lost: %s acknowledged deployments are known, store and audit log are whole\n' \
        "$(wc -l <"$lab/desk/acknowledged.sorted")"
}

history_numbers() {
    python3 -c 'import json, sys
for deployment in json.load(sys.stdin)["deployments"]:
    print(deployment["id"], deployment["environment"], deployment["application"] + "@" + deployment["version"])'
}

# === What breaks

lab_kill() {
    fault 'a host lost its power'
    host_kill "$1"
}

lab_start() {
    host_boot "$1"
    host_ready "$1"
}

lab_cut() {
    local host
    fault 'a link was cut'
    for host in "$@"; do
        cut_cable "$host"
    done
}

lab_heal() {
    local host
    for host in "$@"; do
        mend_cable "$host"
    done
}

# everybodys_clock OFFSET: that of all hosts of this scenario and of the desk, as `skew_clock` does it.
everybodys_clock() {
    local host job jobs=()
    fault "everybody's clock went on by $1"
    desk_clock=$1
    # First, so that agents find it in their own time.
    skew_clock controller "$1"
    for host in "${used[@]}"; do
        [ "$host" != controller ] || continue
        skew_clock "$host" "$1" &
        jobs+=("$!")
    done
    for job in "${jobs[@]}"; do
        wait "$job"
    done
}

# How often a unit was started on a host, since the host was made.
starts_of() {
    on "$1" journalctl --no-pager --quiet --output cat --unit "$2" | grep -c '^Started ' || true
}

# The program of the controller or of an agent is killed where it is; systemd starts it again.
kill_program() {
    fault "$2 was killed"
    on "$1" systemctl kill --signal=KILL --kill-whom=main "$2"
}

# A moment that nobody chose: up to so many milliseconds, by the seed.
at_random_within() {
    random_state=$(((${random_state:-$seed} * 1103515245 + 12345) % 2147483648))
    local wait=$(((random_state / 65536) * $1 / 32768))
    printf '  after %s ms\n' "$wait"
    sleep "$((wait / 1000)).$(printf '%03d' $((wait % 1000)))"
}

# in_peace COMMAND…: nothing breaks; $lasts are the milliseconds that it takes.
in_peace() {
    local from=${EPOCHREALTIME//[^0-9]/}
    expect 0 "$@"
    lasts=$(((${EPOCHREALTIME//[^0-9]/} - from) / 1000))
    printf '  it takes %s ms\n' "$lasts"
}

# on_its_disk HOST: the version that is current on a host that is off; nothing if that is not whole.
on_its_disk() {
    local root=$lab/hosts/$1/root/srv/shop/web
    python3 "$lab/share/whole.py" "$root" >&2 || return 0
    basename -- "$(readlink "$root/current")" | version_in
}

# fetches_slowly HOST: its agent fetches 2 MiB of releases a second, and says what came and what was cut.
fetches_slowly() {
    on "$1" sh -eu -c '
        sed -i -E "s|^# (metrics = .*)|\1|; s|^# fetch_limit = .*|fetch_limit = \"2MiB\"|" /etc/tamer/agent.toml
        mkdir -p /etc/systemd/system/tamer-agent.service.d
        printf "[Service]\nEnvironment=TAMER_LOG=info,tamer_agent::remote=debug\n" \
            >/etc/systemd/system/tamer-agent.service.d/slow.conf
        systemctl daemon-reload
        systemctl restart tamer-agent'
    everybody_is_back
}

# fetched HOST: how many bytes of releases its agent has fetched since it was started.
fetched() {
    on "$1" curl --silent --fail http://127.0.0.1:7402/metrics |
        awk '$1 == "tamer_agent_fetched_bytes_total" { print $2 }'
}

fetched_more_than() {
    [ "$(fetched "$1")" -gt "$2" ]
}

# newer_package NAME VERSION [WORD]: the package under test as its next version; prints where hosts see it. The word
# changes what is in it, in its directory.
newer_package() {
    local work=$lab/share/newer-$1
    rm -rf -- "$work"
    dpkg-deb --raw-extract "$(find "$packages" -maxdepth 1 -name "$1_[0-9]*.deb" | sort -V | tail -n 1)" "$work"
    [ -z "${3-}" ] || (cd "$work" && "$3")
    sed -i "s/^Version: .*/Version: $2/" "$work/DEBIAN/control"
    # As a real one, it differs in a file too.
    printf 'Version %s\n' "$2" >"$work/usr/share/doc/$1/version"
    (cd "$work" && find usr etc lib -type f -exec md5sum {} + 2>/dev/null >DEBIAN/md5sums) || true
    dpkg-deb --root-owner-group -Znone --build "$work" "$lab/share/$1_$2_amd64.deb" >/dev/null
    rm -rf -- "$work"
    say "/tamer/share/$1_$2_amd64.deb"
}

# === A controller that is lost

# backups_elsewhere: the controller's backups and their mirror are on a disk of their own, /mnt/backups.
backups_elsewhere() {
    on controller sh -eu -c '
        install -d -o tamer-controller -g tamer-controller -m 0700 /mnt/backups
        mkdir -p /etc/systemd/system/tamer-controller.service.d
        printf "[Service]\nReadWritePaths=/mnt/backups\n" >/etc/systemd/system/tamer-controller.service.d/backups.conf
        sed -i "s|^# directory = .*|directory = \"/mnt/backups\"|" /etc/tamer/controller.toml
        systemctl daemon-reload
        systemctl restart tamer-controller'
    everybody_is_back
}

# A backup as an automatic one is, now.
backup_now() {
    on controller systemctl stop tamer-controller
    expect 0 on controller tamer-controller backup
    on controller systemctl start tamer-controller
    everybody_is_back
}

# All hosts of this scenario are connected again.
everybody_is_back() {
    local host
    eventually 30 controller_answers
    for host in "${used[@]}"; do
        [ "$host" = controller ] || eventually 60 connected "$host"
    done
}

# controller_on_a_new_host: the controller's machine is gone with its disk; what was on the backup disk
# is brought to `spare`, which was never a controller, and takes over its address.
controller_on_a_new_host() {
    fault 'the host of the controller was lost'
    host_kill controller
    cut_cable controller
    host_boot spare
    host_ready spare
    on spare sh -c 'apt-get -qq install -y /tamer/target/packages/tamer-controller_*.deb >/dev/null'
    mkdir -p "$lab/hosts/spare/root/mnt"
    tar -C "$lab/hosts/controller/root/mnt" -cf - backups | on spare tar -C /mnt -xf -
    on spare chown -R tamer-controller: /mnt/backups
    on spare sh -c 'mkdir -p /etc/systemd/system/tamer-controller.service.d
        printf "[Service]\nReadWritePaths=/mnt/backups\n" >/etc/systemd/system/tamer-controller.service.d/backups.conf
        systemctl daemon-reload'
    expect 0 on spare tamer-controller restore --from /mnt/backups --reason 'the machine is gone'
    take_address spare controller
    on spare systemctl enable --now --quiet tamer-controller
    controller=spare
    eventually 30 controller_answers
}

# take_address HOST OF: the host answers at the other one's address too, and everybody notices.
take_address() {
    local name
    ip -n "$(netns_of "$1")" addr add "$(address_of "$2")/24" dev eth0
    for name in hub $(all_hosts); do
        ip -n "$(netns_of "$name")" neigh flush all 2>/dev/null || true
    done
}

# An operator looked, and lets the restored controller go on.
let_it_go_on() {
    on "$controller" systemctl stop tamer-controller
    expect 0 on "$controller" tamer-controller unhold --reason 'looked at it'
    on "$controller" systemctl start tamer-controller
    eventually 30 controller_answers
}

# What stands in the controller's audit log.
audited() {
    on "$controller" grep -qF -- "$1" /var/lib/tamer/controller/audit.log
}
