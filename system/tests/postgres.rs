//! A real database under a fleet: PostgreSQL, migrated by Django's own migrations in the releases of
//! `examples/django-notes`. Without PostgreSQL on this machine there is nothing to test, and that is said.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tamer_system::{Fleet, HostOptions, is_root, until};

const MIGRATION: &str = r#"from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("notes", "BEFORE")]
    operations = [migrations.AddField("note", "FIELD", models.IntegerField(null=True))]
"#;

/// A PostgreSQL of its own: on a socket in its own directory, as a user who may do nothing else.
struct Postgres {
    dir: tempfile::TempDir,
    programs: PathBuf,
    server: Child,
}

/// Where Debian has the programs of the newest PostgreSQL.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let found = versions.map(|version| version.path().join("bin"));
    found.filter(|bin| bin.join("initdb").exists()).max()
}

impl Postgres {
    fn start() -> Option<Self> {
        let programs = programs()?;
        let dir = tempfile::Builder::new().prefix("pg-").tempdir().unwrap();
        if is_root() {
            let user = nix::unistd::User::from_name("postgres").unwrap().unwrap();
            chown(dir.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        let data = dir.path().join("data");
        let data = data.to_str().unwrap();
        let words = ["-D", data, "-U", "notes", "-A", "trust", "--no-sync"];
        let made = run(unprivileged(&programs.join("initdb")).args(words));
        assert!(made.contains("Success"), "{made}");
        let socket = dir.path().to_str().unwrap();
        let server = unprivileged(&programs.join("postgres"))
            .args(["-D", data, "-k", socket, "-c", "listen_addresses="])
            .args(["-c", "fsync=off"])
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let this = Self {
            dir,
            programs,
            server,
        };
        until("PostgreSQL to serve", || {
            let create = this
                .psql("postgres")
                .args(["-c", "CREATE DATABASE notes"])
                .output();
            create.unwrap().status.success().then_some(())
        });
        Some(this)
    }

    fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(self.programs.join("psql"));
        let socket = self.dir.path().to_str().unwrap();
        psql.args(["-h", socket, "-U", "notes", "-d", database, "-XAtq"]);
        psql
    }

    /// What a query gives.
    fn ask(&self, sql: &str) -> String {
        run(self.psql("notes").args(["-c", sql])).trim().to_owned()
    }

    /// The columns of the table of notes.
    fn columns(&self) -> String {
        self.ask(
            "SELECT string_agg(column_name, ' ' ORDER BY ordinal_position) \
             FROM information_schema.columns WHERE table_name = 'notes_note'",
        )
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.server.id().cast_signed());
        // Fast: whoever is connected is shown out.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
        let _ = self.server.wait();
    }
}

/// A command as a user other than root, whom PostgreSQL refuses.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command.arg(program).current_dir("/");
    command
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{why}");
    said
}

/// Builds the example once, with Django's driver for PostgreSQL.
fn built() -> PathBuf {
    let there = Path::new(env!("CARGO_TARGET_TMPDIR")).join("notes");
    fs::create_dir_all(&there).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/django-notes");
    let mut build = Command::new(example.join("build"));
    run(build.args(["--postgresql", "0"]).arg(&there));
    there.join("dist")
}

/// Publishes a version that has these columns more than the first one, each by a migration of its own.
fn publish(fleet: &Fleet, dist: &Path, version: &str, columns: &[&str], works_with: &str) {
    let repository = fleet.desk("shop");
    let _ = fs::remove_dir_all(&repository);
    fs::create_dir_all(&repository).unwrap();
    run(Command::new("cp").arg("-R").arg(dist).arg(&repository));
    let dist = repository.join("dist");
    fs::write(dist.join("VERSION"), version).unwrap();
    let mut before = "0001_initial".to_owned();
    for (n, column) in columns.iter().enumerate() {
        let name = format!("{:04}_{column}", n + 2);
        let text = MIGRATION
            .replace("BEFORE", &before)
            .replace("FIELD", column);
        fs::write(dist.join(format!("notes/migrations/{name}.py")), text).unwrap();
        before = name;
    }
    let toml = format!(
        "application = \"shop\"\n[component.web]\nfiles = \"dist\"\nroot = \"/srv/shop/web\"\n\
         works_with = {{ main = \"{works_with}\" }}\n\
         [schema.main]\ncurrent = \"bin/schema-version\"\ntarget = {}\n\
         up = \"bin/schema-migrate\"\ndown = \"bin/schema-migrate\"\n",
        columns.len() + 1
    );
    fs::write(repository.join("tamer.toml"), toml).unwrap();
    fleet.tamer(&["publish", version]).ends(0);
}

#[test]
fn kill_in_the_middle_of_a_migration_of_a_real_framework_on_postgresql() {
    let Some(postgres) = Postgres::start() else {
        eprintln!(
            "PostgreSQL is not installed here (Debian: apt install postgresql): nothing is tested"
        );
        return;
    };
    let dist = built();
    let mut fleet = Fleet::new(tamer_system::ENVIRONMENT);
    let options = HostOptions {
        more: format!(
            "[variables]\ndatabase = \"{}\"\n",
            postgres.dir.path().display()
        ),
        ..HostOptions::default()
    };
    fleet.add("web-1", &options);
    fleet.add("web-2", &options);
    fleet.all_connected();

    // Forward, and back inside the range: the database stays where it is.
    publish(&fleet, &dist, "1.0.0", &[], "1..=2");
    fleet.deploy("1.0.0").ends(0).says(&["database 0 → 1"]);
    assert_eq!(postgres.columns(), "id text written");
    publish(&fleet, &dist, "1.1.0", &["stars"], "1..=3");
    let plan = ["plan", "production", "1.1.0"];
    fleet
        .tamer(&plan)
        .ends(0)
        .says(&["database 1 → 2, safe back to 1.0.0"]);
    fleet.deploy("1.1.0").ends(0);
    assert_eq!(postgres.columns(), "id text written stars");
    fleet.tamer(&["rollback", "production"]).ends(0);
    fleet.all_run("1.0.0");
    assert_eq!(postgres.columns(), "id text written stars");
    fleet.deploy("1.1.0").ends(0);

    // A reader holds the table, so that the migration waits inside PostgreSQL when its agent is killed.
    publish(&fleet, &dist, "1.2.0", &["stars", "moons"], "2..=3");
    let mut reader = postgres
        .psql("notes")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut says = reader.stdin.take().unwrap();
    std::io::Write::write_all(&mut says, b"BEGIN; LOCK notes_note IN ACCESS SHARE MODE;\n")
        .unwrap();
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'notes_note'::regclass AND granted";
    until("the reader to hold the table", || {
        (postgres.ask(waits) == "1").then_some(())
    });
    let watching = fleet.begins(&["deploy", "production", "1.2.0"]);
    let waits =
        "SELECT count(*) FROM pg_locks WHERE relation = 'notes_note'::regclass AND NOT granted";
    until("the migration to wait", || {
        (postgres.ask(waits) == "1").then_some(())
    });
    let (_, status) = fleet.newest();
    let host = status["databases"][0]["host"].as_str().unwrap().to_owned();
    let number: usize = host.strip_prefix("web-").unwrap().parse().unwrap();
    fleet.host_mut(number).daemon.kill();
    fleet.host_is(number, "away");
    fleet.host_mut(number).start();
    watching.end().ends(7).says(&[
        "the agent or the server stopped in the middle of `up` of schema `main`, from 2 to 3",
        "tamer schema settle production VERSION --reason TEXT",
    ]);
    fleet.all_run("1.1.0");
    // Its program was ended before the database was read again, so nothing goes on in it behind a person's
    // back: PostgreSQL takes back the transaction that nobody will commit.
    drop(says);
    reader.wait().unwrap();
    until("PostgreSQL to take back what was cut off", || {
        (postgres.ask(waits) == "0").then_some(())
    });
    assert_eq!(postgres.columns(), "id text written stars");
    let settle = [
        "schema",
        "settle",
        "production",
        "2",
        "--reason",
        "nothing of the moons is there",
    ];
    fleet.tamer(&settle).ends(0);
    fleet.deploy("1.2.0").ends(0);
    fleet.all_run("1.2.0");
    assert_eq!(postgres.columns(), "id text written stars moons");
    let applied = "SELECT count(*) FROM django_migrations WHERE app = 'notes'";
    assert_eq!(postgres.ask(applied), "3");

    // Back to 1.1.0 needs nothing; further back the database must go down first.
    fleet.tamer(&["rollback", "production"]).ends(0);
    fleet.all_run("1.1.0");
    let far = ["rollback", "production", "1.0.0"];
    fleet
        .tamer(&far)
        .ends(3)
        .says(&["has 3, and what would run again needs 2"]);
    let down = [
        &far[..],
        &["--with-down", "--reason", "the moons are wrong"],
    ]
    .concat();
    fleet.tamer(&down).ends(0);
    fleet.all_run("1.0.0");
    assert_eq!(postgres.columns(), "id text written stars");
}
