# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2034 # $used and the like are of words.sh; hosts expand what is theirs
# A PostgreSQL for all servers, and releases of the notes that bring it up and down. Sourced by `test`, after
# words.sh.

# The notes on the web hosts of this scenario have one database: on `spare`, which is no host of the fleet.
notes_on_postgresql() {
    local host
    notes_options=(--postgresql)
    host_boot spare
    host_ready spare
    # Whoever is in the lab's network is trusted.
    on spare sh -eu -c '
        version=$(ls /usr/lib/postgresql)
        pg_createcluster "$version" main
        pg_conftool "$version" main set listen_addresses "*"
        echo "host notes notes samenet trust" >>"/etc/postgresql/$version/main/pg_hba.conf"
        systemctl start "postgresql@$version-main"
        runuser -u postgres -- createuser notes
        runuser -u postgres -- createdb --owner notes notes' >/dev/null
    for host in "${used[@]}"; do
        [[ $host == web-* ]] || continue
        # It is not brought up by each server at its start, but by Tamer, once.
        on "$host" sh -eu -c '
            sed -i "s|^\[variables\]\$|&\ndatabase = \"spare\"|" /etc/tamer/agent.toml
            mkdir -p /etc/systemd/system/notes-web.service.d
            printf "[Service]\nExecStartPre=\nEnvironment=NOTES_DATABASE=spare\n" \
                >/etc/systemd/system/notes-web.service.d/database.conf
            systemctl daemon-reload
            systemctl restart tamer-agent'
    done
    everybody_is_back
}

# === What a release of the notes is published with: for words of a scenario that change what was built

# brings_to VERSION WORKS_WITH: it brings the database there, and lives with these versions of it.
brings_to() {
    sed -i "s|^root .*|&\nworks_with = { main = \"$2\" }|" tamer.toml
    cat >>tamer.toml <<TOML

[schema.main]
current = "bin/schema-version"
target  = $1
up      = "bin/schema-migrate"
down    = "bin/schema-migrate"
TOML
}

# migrates_by NAME WORDS OPERATION…: one migration more, as Django has them; the words stand in its class.
migrates_by() {
    local name=$1 words=$2 last number
    shift 2
    last=$(basename -- "$(printf '%s\n' dist/notes/migrations/0* | tail -n 1)" .py)
    number=$(printf '%04d' $((10#${last%%_*} + 1)))
    {
        printf 'from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n'
        printf '    dependencies = [("notes", "%s")]\n' "$last"
        [ -z "$words" ] || printf '    %s\n' "$words"
        printf '    operations = [\n'
        printf '        migrations.%s,\n' "$@"
        printf '    ]\n'
    } >"dist/notes/migrations/${number}_$name.py"
}

# The operation of a migration that adds a column.
column() {
    printf 'AddField("note", "%s", models.IntegerField(null=True))' "$1"
}

# === What is seen

# sql QUERY: what the database answers.
sql() {
    on spare runuser -u postgres -- psql --dbname notes -XAtq --command "$1"
}

# has_columns COLUMN…: the table of the notes has these beside its first ones.
has_columns() {
    local wanted got
    wanted=$(printf '%s ' id text written "$@" | sed 's/ $//')
    got=$(sql "SELECT string_agg(column_name, ' ' ORDER BY ordinal_position)
        FROM information_schema.columns WHERE table_name = 'notes_note'")
    [ "$got" = "$wanted" ] || fail "the table has the columns $got, not $wanted"
    printf '  the table has the columns %s\n' "$got"
}

# leave_note HOST TEXT: a visitor of this host writes something.
leave_note() {
    at_desk curl --silent --show-error --fail --max-time 5 --data-urlencode "text=$2" "http://$1/notes/"
}

# === Somebody stands in the way

# A session holds the lock 41, which a migration of the scenario waits for.
hold_lock() {
    on spare runuser -u postgres -- psql --dbname notes -XAtq \
        --command 'SELECT pg_advisory_lock(41)' --command 'SELECT pg_sleep(3600)' >/dev/null 2>&1 &
    eventually 20 lock_has 1 granted
}

# lock_has N WHICH: so many sessions have the lock (`granted`), wait for it (`NOT granted`), or either (`true`).
lock_has() {
    [ "$(sql "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 41 AND $2")" = "$1" ]
}

let_go_of_lock() {
    sql "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 41 AND granted" >/dev/null
    eventually 20 lock_has 0 true
}
