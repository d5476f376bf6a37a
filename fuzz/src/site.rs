//! A place to attack: a directory for releases, with something worth attacking beside it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// An absolute path that hostile releases try to write to.
pub const ABSOLUTE: &str = "/tamer-was-here";

/// What lies beside the releases. Hostile paths and links lead there.
pub const SECRET: &str = "secret";

/// The place; it goes away with the value.
pub struct Site {
    dir: tempfile::TempDir,
    before: BTreeMap<String, String>,
}

impl Site {
    /// A new place, without releases.
    ///
    /// # Panics
    /// The temporary directory cannot be written.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        fs::create_dir(at.join("releases")).unwrap();
        fs::create_dir(at.join("outside")).unwrap();
        fs::write(at.join("outside/file"), "what lies deeper").unwrap();
        fs::write(at.join(SECRET), "what lies outside").unwrap();
        symlink(SECRET, at.join("link")).unwrap();
        let before = look(at);
        Self { dir, before }
    }

    /// Where releases go.
    pub fn releases(&self) -> PathBuf {
        self.dir.path().join("releases")
    }

    /// Sees that nothing but `releases` was touched, and that nothing but these directories is in it.
    ///
    /// # Panics
    /// It is not so.
    pub fn check(&self, expected: &[&str]) {
        assert_eq!(look(self.dir.path()), self.before, "what lies outside");
        assert!(
            fs::symlink_metadata(ABSOLUTE).is_err(),
            "{ABSOLUTE} was written"
        );
        assert_eq!(names(&self.releases()), expected, "what is in `releases`");
    }

    /// Removes a release that is there.
    ///
    /// # Panics
    /// It cannot be removed.
    pub fn remove(&self, name: &str) {
        tamer_release::tree::remove_release(&self.releases().join(name)).unwrap();
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Releases are read-only: whoever is not root cannot remove them with the directory.
        for name in names(&self.releases()) {
            let _ = tamer_release::tree::remove_release(&self.releases().join(name));
        }
    }
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// All that lies there but what is in `releases`, each with its kind, mode and content.
fn look(at: &Path) -> BTreeMap<String, String> {
    fn walk(at: &Path, name: &str, into: &mut BTreeMap<String, String>) {
        let meta = fs::symlink_metadata(at).unwrap();
        let mode = meta.permissions().mode();
        let content = if meta.is_symlink() {
            fs::read_link(at).unwrap().to_string_lossy().into_owned()
        } else if meta.is_dir() {
            if name != "/releases" {
                for child in names(at) {
                    walk(&at.join(&child), &format!("{name}/{child}"), into);
                }
            }
            String::new()
        } else {
            fs::read_to_string(at).unwrap_or_default()
        };
        into.insert(name.to_owned(), format!("{mode:o} {content}"));
    }
    let mut found = BTreeMap::new();
    walk(at, "", &mut found);
    found
}
