//! The programs under test, as cargo has built them; and what lies on the disk.

use std::path::{Path, PathBuf};

/// The program `name`, which lies beside the directory of this test's executable.
///
/// # Panics
/// It has not been built: a test cannot build what cargo, which runs it, has locked.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let deps = test.parent().unwrap();
    // target/PROFILE/deps/test-hash; a program copied beside the test is as good.
    let places = [deps.parent().unwrap_or(deps), deps];
    let found = places
        .iter()
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "{} is not built; type: cargo build --workspace --bins",
            places[0].join(name).display()
        )
    })
}

/// Whether this test may do what only root may: run as other users, mount.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// All files below a directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
