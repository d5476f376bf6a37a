//! Real artifact stores of others: an S3 server, and a web server that takes PUT.

use crate::controller::free_address;
use crate::process::{Daemon, bound, until};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program of others, if this machine has it; otherwise says loudly what was not tried.
pub fn program_of_others(name: &str, untried: &str, install: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = places.find_map(|dir| Some(dir.join(name)).filter(|it| it.is_file()));
    if found.is_none() {
        eprintln!("\nSKIP: {untried}: there is no {name} ({install})\n");
    }
    found
}

/// A server of somebody else, on an address that stays the same, and the directory of what it keeps.
#[derive(Debug)]
pub struct Store {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it keeps.
    pub root: PathBuf,
    daemon: Daemon,
    program: PathBuf,
    words: Vec<String>,
    dir: tempfile::TempDir,
}

impl Store {
    /// An S3 server that wants signed requests, with the bucket `releases`; `None`, and said loudly,
    /// where there is none on this machine.
    pub fn s3() -> Option<Self> {
        let program = program_of_others(
            "s3s-fs",
            "releases in a real S3-compatible store were NOT tried",
            "deploy-scripts/test installs it",
        )?;
        let (dir, address) = (directory(), free_address());
        let root = dir.path().join("kept");
        fs::create_dir_all(root.join("releases")).unwrap();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let kept = root.display().to_string();
        let words = [
            ["--host", &host, "--port", &port],
            ["--access-key", "tamer", "--secret-key", "not-a-secret"],
        ];
        let mut words: Vec<_> = words.concat().into_iter().map(str::to_owned).collect();
        words.push(kept);
        fs::write(
            dir.path().join("s3.toml"),
            "access_key_id = \"tamer\"\nsecret_access_key = \"not-a-secret\"\n",
        )
        .unwrap();
        set_private(&dir.path().join("s3.toml"));
        Some(Self::started(dir, address, root, program, words))
    }

    /// A web server that takes PUT at `/put` and gives what it has at `/`; `None`, and said loudly, where
    /// there is none on this machine.
    pub fn web() -> Option<Self> {
        let program = program_of_others(
            "nginx",
            "releases on a real web server were NOT tried",
            "apt-get install nginx-light",
        )?;
        let (dir, address) = (directory(), free_address());
        let root = dir.path().join("kept");
        fs::create_dir_all(&root).unwrap();
        let at = dir.path().display();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{}}\n\
             http {{\n  access_log {at}/log;\n  client_max_body_size 0;\n\
             client_body_temp_path {at}/body;\n  proxy_temp_path {at}/1;\n  fastcgi_temp_path {at}/2;\n\
             uwsgi_temp_path {at}/3;\n  scgi_temp_path {at}/4;\n\
             server {{\n    listen {address};\n    root {at}/kept;\n\
             location /put/ {{ alias {at}/kept/; dav_methods PUT; create_full_put_path on; }}\n  }}\n}}\n"
        );
        fs::write(dir.path().join("nginx.conf"), config).unwrap();
        let file = dir.path().join("nginx.conf").display().to_string();
        let words = vec!["-c".to_owned(), file];
        Some(Self::started(dir, address, root, program, words))
    }

    fn started(
        dir: tempfile::TempDir,
        address: SocketAddr,
        root: PathBuf,
        program: PathBuf,
        words: Vec<String>,
    ) -> Self {
        let daemon = Daemon::new("the store", dir.path().join("log"));
        let mut store = Self {
            address,
            root,
            daemon,
            program,
            words,
            dir,
        };
        store.start();
        store
    }

    /// Starts it again.
    pub fn start(&mut self) {
        let mut command: Command = bound(&self.program);
        command.args(&self.words);
        // What is asked of an S3 server stands in its log.
        command.env("RUST_LOG", "s3s::service=debug");
        self.daemon.start(command);
        until("the store to answer", || {
            assert!(self.daemon.is_running(), "the store has ended");
            TcpStream::connect(self.address).ok()
        });
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// A file beside what it keeps.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn directory() -> tempfile::TempDir {
    let prefix = "tamer-system-store-";
    tempfile::Builder::new().prefix(prefix).tempdir().unwrap()
}

fn set_private(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}
