//! The targets: one function a parser of bytes from outside. Each takes any bytes and asserts more than that
//! nothing panics: what is accepted is sound, and what is refused left nothing behind.

mod archive;
mod environment;
mod evidence;
mod index;
mod manifest;
mod metadata;
mod patch;
mod sound;
mod tamer_toml;
mod tree;

/// One target.
pub struct Target {
    /// Its name, as `deploy-scripts/fuzz` takes it.
    pub name: &'static str,
    /// The memory that one run may take at most, in bytes: Rust's, as zstd's own is bounded by its window.
    pub memory: usize,
    /// Takes the bytes; panics where a promise is broken.
    pub run: fn(&[u8]),
    /// Bytes to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub static TARGETS: [Target; 9] = [
    Target {
        name: "manifest",
        memory: 4 << 20,
        run: manifest::run,
        seeds: manifest::seeds,
    },
    Target {
        name: "index",
        memory: 4 << 20,
        run: index::run,
        seeds: index::seeds,
    },
    Target {
        name: "archive",
        memory: 8 << 20,
        run: archive::run,
        seeds: archive::seeds,
    },
    Target {
        name: "tree",
        memory: 16 << 20,
        run: tree::run,
        seeds: tree::seeds,
    },
    Target {
        name: "patch",
        memory: 4 << 20,
        run: patch::run,
        seeds: patch::seeds,
    },
    Target {
        name: "tamer-toml",
        memory: 8 << 20,
        run: tamer_toml::run,
        seeds: tamer_toml::seeds,
    },
    Target {
        name: "environment",
        memory: 8 << 20,
        run: environment::run,
        seeds: environment::seeds,
    },
    Target {
        name: "metadata",
        memory: 8 << 20,
        run: metadata::run,
        seeds: metadata::seeds,
    },
    Target {
        name: "evidence",
        memory: 8 << 20,
        run: evidence::run,
        seeds: evidence::seeds,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// A refusal has something to say.
fn is_said(error: &dyn std::error::Error) {
    assert!(!crate::said(error).trim().is_empty());
}

/// The files of these names in the repository, wherever they are.
fn repository(wanted: &[&str]) -> Vec<Vec<u8>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &&str| std::fs::read(root.join(path)).unwrap();
    wanted.iter().map(read).collect()
}
