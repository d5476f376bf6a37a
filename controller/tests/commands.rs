//! The binary as an operator uses it: a new controller, its login line, and what is done to it at
//! rest.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tamer_controller::audit;
use tamer_controller::config::Config;
use tamer_controller::identity::ca::Ca;
use tamer_controller::identity::tokens::{Grant, Token};
use tamer_controller::store::sled::SledStore;
use tamer_controller::store::{Store, backup, epoch};
use tamer_kit::token::{JoinToken, TokenKind};

struct Site {
    dir: tempfile::TempDir,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    fn done(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    fn refused(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self.err
    }
}

impl Site {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// One with a controller in it, and what `init` said.
    fn started() -> (Self, String) {
        let site = Self::new();
        let out = site
            .run(&["init", "--name", "ctl.example", "--data"])
            .done();
        (site, out)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("etc/controller.toml")
    }

    /// Runs a command; a trailing `--data` gets the usual directory.
    fn run(&self, args: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tamer-controller"));
        command.args(args);
        if args.last() == Some(&"--data") {
            command.arg(self.dir.path().join("data"));
        }
        command.arg("--config").arg(self.file());
        command.env_remove("TAMER_LOG");
        command.output().unwrap().into()
    }

    fn config(&self) -> Config {
        Config::load(&self.file()).unwrap()
    }

    fn store(&self) -> SledStore {
        SledStore::open_unprobed(&self.config().paths().store).unwrap()
    }

    /// The token that this output shows, and what the store holds for it.
    fn token(&self, out: &str) -> (JoinToken, Token) {
        let line = out
            .lines()
            .find_map(|l| l.trim().strip_prefix("tamer login <<< "));
        let token: JoinToken = line.unwrap().parse().unwrap();
        let key = format!("token/{}", token.secret.digest()).parse().unwrap();
        let stored = self.store().get(&key).unwrap().expect("it is in the store");
        (token, serde_json::from_slice(&stored).unwrap())
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn init_makes_a_controller_whose_login_line_works_once_it_runs() {
    let (site, out) = Site::started();
    let config = site.config();
    let paths = config.paths();
    assert_eq!(paths.data, site.dir.path().join("data"));
    assert_eq!(mode(&paths.data), 0o700);
    for key in [&paths.snapshot_key, &paths.timestamp_key] {
        assert_eq!(mode(key), 0o600);
    }
    let (token, stored) = site.token(&out);
    assert_eq!(token.kind, TokenKind::Operator);
    assert_eq!(token.controller.to_string(), "https://ctl.example:7400");
    assert_eq!(token.ca, Ca::load(&paths.ca).unwrap().fingerprint());
    assert!(stored.used.is_none());
    let Grant::Operator { name, .. } = stored.grant else {
        panic!("{:?}", stored.grant);
    };
    assert_eq!(name.as_str(), "admin");
    let log = std::fs::read_to_string(&paths.audit).unwrap();
    assert!(log.contains("controller.init"), "{log}");
    assert!(!log.contains("tamer-join-"));
    assert!(out.contains("serve --config"), "{out}");
    for step in ["tamer trust init", "tamer env apply", "tamer host invite"] {
        assert!(out.contains(step), "{out}");
    }
}

#[test]
fn a_controller_that_is_there_is_never_touched() {
    let (site, _) = Site::started();
    let paths = site.config().paths();
    let files = [
        paths.ca.join("ca.pem"),
        paths.ca.join("ca-key.pem"),
        paths.snapshot_key,
        paths.timestamp_key,
        paths.audit,
        site.file(),
    ];
    let read = || files.clone().map(|file| std::fs::read(file).unwrap());
    let before = read();
    let said = site.run(&["init"]).refused(2);
    assert!(
        said.contains("already") && said.contains("admin-token"),
        "{said}"
    );
    let said = site.run(&["init", "--name", "other.example"]).refused(2);
    assert!(said.contains("controller.toml is there already"), "{said}");
    assert!(read() == before);
    assert_eq!(site.store().revision(), 1);
}

#[test]
fn an_init_that_was_cut_off_is_finished_by_the_next() {
    let site = Site::new();
    std::fs::create_dir_all(site.dir.path().join("etc")).unwrap();
    let data = site.dir.path().join("data");
    std::fs::write(site.file(), format!("data = {data:?}\nnames = [\"a.b\"]")).unwrap();
    let paths = site.config().paths();
    std::fs::create_dir_all(&paths.ca).unwrap();
    let ca = Ca::create(&paths.ca, tamer_kit::clock::now()).unwrap();
    drop(SledStore::create(&paths.store).unwrap());
    let out = site.run(&["init", "--admin", "anna"]).done();
    let (token, stored) = site.token(&out);
    assert_eq!(token.ca, ca.fingerprint(), "the CA was taken over");
    assert!(matches!(stored.grant, Grant::Operator { name, .. } if name.as_str() == "anna"));
}

#[test]
fn what_is_wrong_on_the_command_line_or_in_the_file_is_exit_2() {
    let site = Site::new();
    for args in [
        vec!["init", "--name", "a b"],
        vec!["init", "--public", "http://x"],
        vec!["init", "--metrics", "0.0.0.0:1"],
        vec!["init", "--admin", "no/name"],
        vec!["inti"],
        vec!["serve"],
        vec!["audit", "verify", "--known", "3"],
    ] {
        let said = site.run(&args).refused(2);
        assert!(!said.is_empty(), "{args:?}");
        assert!(!site.file().exists(), "{args:?}: no bad file is left");
        assert!(!site.dir.path().join("data").exists(), "{args:?}");
    }
    std::fs::create_dir_all(site.dir.path().join("etc")).unwrap();
    std::fs::write(site.file(), "listn = \"0.0.0.0:1\"").unwrap();
    let said = site.run(&["check"]).refused(2);
    assert!(said.contains("did you mean `listen`?"), "{said}");
}

#[test]
fn every_command_explains_itself() {
    let site = Site::new();
    let help = site.run(&["--help"]).done();
    for command in [
        "init",
        "serve",
        "backup",
        "restore",
        "compact",
        "check",
        "audit",
        "unhold",
        "admin-token",
    ] {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command}: {help}"
        );
        let help = site.run(&[command, "--help"]).done();
        assert!(help.contains("Usage: tamer-controller"), "{help}");
    }
    assert!(!help.contains("probe-store"), "{help}");
}

#[test]
fn a_backup_is_restored_held_and_let_go() {
    let (site, first) = Site::started();
    let paths = site.config().paths();
    let file = site.run(&["backup"]).done();
    assert_eq!(backup::verify(Path::new(file.trim())).unwrap().revision, 1);
    // Something that happened after the backup, and is lost with the disk.
    let later = site.run(&["admin-token", "eve"]).done();
    assert_eq!(site.store().revision(), 2);
    let (_, stored) = site.token(&later);
    assert!(matches!(stored.grant, Grant::Operator { name, .. } if name.as_str() == "eve"));

    let before = epoch::read(&paths.state).unwrap();
    let out = site.run(&["restore", "--reason", "the disk broke"]).done();
    assert!(out.contains("held") && out.contains("tamer hosts"), "{out}");
    assert_eq!(site.store().revision(), 1);
    site.token(&first);
    assert!(epoch::read(&paths.state).unwrap() > before);
    assert!(epoch::held(&paths.state).unwrap().is_some());
    let checked = site.run(&["check"]).done();
    assert!(checked.contains("; held: restored"), "{checked}");

    let said = site.run(&["admin-token"]).refused(2);
    assert!(said.contains("unhold"), "{said}");
    let out = site.run(&["unhold", "--reason", "looked at it"]).done();
    assert!(out.contains("no longer held"), "{out}");
    assert_eq!(epoch::held(&paths.state).unwrap(), None);
    let again = site.run(&["resume-held"]).done();
    assert!(again.contains("nothing to do"), "{again}");
    let log = std::fs::read_to_string(&paths.audit).unwrap();
    for noted in [
        "store.restore",
        "the disk broke",
        "controller.unhold",
        "looked at it",
    ] {
        assert!(log.contains(noted), "{noted}: {log}");
    }
    assert_eq!(audit::verify(&paths.audit, None).unwrap().head.line, 4);
}

#[test]
fn without_a_whole_backup_nothing_is_restored() {
    let (site, _) = Site::started();
    let paths = site.config().paths();
    let said = site.run(&["restore"]).refused(1);
    assert!(said.contains("no whole backup"), "{said}");
    let torn = site.dir.path().join("torn.tamer-backup");
    std::fs::write(&torn, b"TAMERBK1").unwrap();
    let said = site.run(&["restore", torn.to_str().unwrap()]).refused(1);
    assert!(said.contains("cut short"), "{said}");
    assert_eq!(epoch::held(&paths.state).unwrap(), None);
    assert_eq!(site.store().revision(), 1);
}

#[test]
fn check_names_everything_that_is_wrong() {
    let (site, _) = Site::started();
    let paths = site.config().paths();
    let whole = site.run(&["check"]).done();
    assert_eq!(whole.matches("ok    ").count(), 10, "{whole}");
    let log = std::fs::read_to_string(&paths.audit).unwrap();
    std::fs::write(&paths.audit, log.replace("init", "exit")).unwrap();
    std::fs::set_permissions(&paths.snapshot_key, PermissionsExt::from_mode(0o644)).unwrap();
    let said = site.run(&["check"]);
    assert!(said.out.contains("FAIL  audit log"), "{}", said.out);
    assert!(said.out.contains("FAIL  online keys"), "{}", said.out);
    assert!(said.out.contains("ok    store"), "{}", said.out);
    assert!(said.refused(1).contains("2 things"));
}

#[test]
fn the_audit_log_is_verified_against_what_was_kept() {
    let (site, _) = Site::started();
    let out = site.run(&["audit", "verify"]).done();
    let known = out.lines().last().unwrap().rsplit(' ').next().unwrap();
    site.run(&["audit", "verify", "--known", known]).done();
    let other = format!("1:{}", "0".repeat(64));
    let said = site.run(&["audit", "verify", "--known", &other]).refused(1);
    assert!(said.contains("the log was rewritten"), "{said}");
    let ahead = format!("99:{}", "0".repeat(64));
    let said = site.run(&["audit", "verify", "--known", &ahead]).refused(1);
    assert!(said.contains("cut off"), "{said}");
}

#[test]
fn compact_keeps_what_is_there() {
    let (site, first) = Site::started();
    let out = site.run(&["compact"]).done();
    assert!(out.contains("bytes of live data"), "{out}");
    site.token(&first);
}

#[test]
fn a_store_in_use_is_left_alone() {
    let (site, _) = Site::started();
    let open = site.store();
    let checked = site.run(&["check"]).done();
    assert!(
        checked.contains("systemctl stop tamer-controller"),
        "{checked}"
    );
    for command in ["backup", "compact", "restore", "admin-token"] {
        if command == "restore" {
            let dir = site.config().backups.directory;
            backup::backup(&open, &dir, 0, tamer_kit::clock::now()).unwrap();
        }
        let said = site.run(&[command]);
        let text = format!("{}{}", said.out, said.err);
        assert!(
            text.contains("in use by another process"),
            "{command}: {text}"
        );
        said.refused(1);
    }
    assert_eq!(epoch::held(&site.config().paths().state).unwrap(), None);
    assert_eq!(open.revision(), 1);
}

#[test]
fn a_relative_path_counts_from_the_files_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    std::fs::write(&file, "data = \"here\"\nnames = [\"a.b\"]\n").unwrap();
    let init = Command::new(env!("CARGO_BIN_EXE_tamer-controller"))
        .args(["init", "--config", "c.toml"])
        .current_dir(dir.path())
        .env_remove("TAMER_LOG")
        .output()
        .unwrap();
    Said::from(init).done();
    assert!(dir.path().join("here/ca/ca.pem").exists());
}

/// What root does to the data of the service's user is that user's afterwards, and the log says who it was.
#[test]
fn root_leaves_nothing_of_its_own_in_anothers_data() {
    use std::os::unix::fs::{MetadataExt, chown};
    let nobody = nix::unistd::User::from_name("nobody").ok().flatten();
    let (true, Some(nobody)) = (nix::unistd::geteuid().is_root(), nobody) else {
        eprintln!("not root, or there is no user `nobody`: nothing is tested");
        return;
    };
    let site = Site::new();
    // As the package lays it out: ours to enter, the directory theirs.
    std::fs::set_permissions(site.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let data = site.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    chown(&data, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
    site.run(&["init", "--name", "ctl.example", "--data"])
        .done();
    site.run(&["admin-token", "anna"]).done();
    site.run(&["backup"]).done();
    site.run(&["check"]).done();
    // What it is restored from may be root's alone; only root's own restore reads it.
    let kept = site.dir.path().join("kept");
    let made = std::fs::read_dir(site.config().paths().backups).unwrap();
    let mut made = made.map(|it| it.unwrap().path());
    let made = made.find(|it| it.is_file()).unwrap();
    std::fs::create_dir(&kept).unwrap();
    std::fs::set_permissions(&kept, PermissionsExt::from_mode(0o700)).unwrap();
    let backup = kept.join(made.file_name().unwrap());
    std::fs::copy(&made, &backup).unwrap();
    site.run(&["restore", backup.to_str().unwrap()]).done();
    let mut dirs = vec![data.clone()];
    let mut files = 0;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let found = std::fs::symlink_metadata(&path).unwrap();
            let owner = (found.uid(), found.gid());
            assert_eq!(
                owner,
                (nobody.uid.as_raw(), nobody.gid.as_raw()),
                "{}",
                path.display()
            );
            files += 1;
            if found.is_dir() {
                dirs.push(path);
            }
        }
    }
    assert!(files > 10, "a controller has more than {files} files");
    let log = std::fs::read_to_string(site.config().paths().audit).unwrap();
    assert_eq!(
        log.matches("\"root at the controller\"").count(),
        3,
        "{log}"
    );
}

#[test]
fn online_keys_are_rotated_and_the_old_ones_stay_beside_them() {
    let (site, _) = Site::started();
    let paths = site.config().paths();
    let read = |path: &Path| std::fs::read(path).unwrap();
    let before = [read(&paths.snapshot_key), read(&paths.timestamp_key)];
    let said = site
        .run(&["rotate-online-keys", "--reason", "a laptop"])
        .done();
    assert!(said.contains("tamer trust rotate online"), "{said}");
    for (key, old) in [&paths.snapshot_key, &paths.timestamp_key]
        .into_iter()
        .zip(before)
    {
        assert_ne!(read(key), old);
        let kept = tamer_controller::config::old_key(key);
        assert_eq!(read(&kept), old);
        assert_eq!((mode(key), mode(&kept)), (0o600, 0o600));
    }
    let log = std::fs::read_to_string(&paths.audit).unwrap();
    assert!(
        log.contains("online.rotate") && log.contains("a laptop"),
        "{log}"
    );
    // No repository names any of them yet: they may change again.
    site.run(&["rotate-online-keys"]).done();
}
