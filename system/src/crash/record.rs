//! Recording what a program does to files, with strace.

use super::disk::{Change, Disk, Inode, Node};
use super::strace::{CALLS, Word, mode, number, octal, whole_lines, words};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

/// What happened.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Change(Change),
    /// A file or directory was synced.
    Sync(Inode),
    /// Everything was.
    SyncAll,
}

/// What a program did below a directory.
#[derive(Debug)]
pub struct Recording {
    /// What was there.
    pub(super) before: Disk,
    /// The nodes that were made, as they were when new.
    pub(super) fresh: Vec<(Node, u32)>,
    pub(super) events: Vec<Event>,
    /// The events in words.
    pub(super) lines: Vec<String>,
}

/// Whether a program can be watched here; says loudly what is not tried if not.
pub fn can_record() -> bool {
    let tried = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .status();
    let can = tried.is_ok_and(|status| status.success());
    if !can {
        eprintln!(
            "\nSKIP: what a power cut may leave was NOT tried: strace cannot watch a program here \
             (apt-get install strace)\n"
        );
    }
    can
}

/// Runs a command and records what it and its children do below `root`; `is_outside` says which paths,
/// relative to it, are not the program's own: what happens there counts as durable at once.
///
/// # Panics
/// The command fails, or does something that this cannot follow.
pub fn record(command: &Command, root: &Path, is_outside: impl Fn(&Path) -> bool) -> Recording {
    let root = fs::canonicalize(root).unwrap();
    let before = Disk::read(&root);
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("strace");
    let mut watched = Command::new("strace");
    watched.args(["-f", "-xx", "-y", "-s", "100000000", "-o"]);
    watched.arg(&log).args(["-e", &format!("trace={CALLS}")]);
    watched.arg("--").arg(command.get_program());
    watched.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => watched.env(name, value),
            None => watched.env_remove(name),
        };
    }
    let output = watched.output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let mut reader = Reader {
        root: &root,
        now: before.clone(),
        cursors: BTreeMap::new(),
        copied: BTreeMap::new(),
        events: Vec::new(),
        lines: Vec::new(),
        is_outside: &is_outside,
    };
    for line in whole_lines(&fs::read_to_string(&log).unwrap()) {
        reader.line(&line);
    }
    let made = reader.now.nodes_from(before.len());
    Recording {
        fresh: made.iter().map(as_new).collect(),
        before,
        events: reader.events,
        lines: reader.lines,
    }
}

/// A node as it is before anything is written to it. Its mode is what it was made with: [`Reader`] keeps
/// later ones out of it.
fn as_new((node, mode): &(Node, u32)) -> (Node, u32) {
    let node = match node {
        Node::File(_) => Node::File(Rc::default()),
        Node::Directory(_) => Node::Directory(BTreeMap::new()),
        Node::Link(target) => Node::Link(target.clone()),
    };
    (node, *mode)
}

struct Reader<'a> {
    root: &'a Path,
    /// The tree as the program sees it.
    now: Disk,
    /// Where each file is written next, by everyone who has it open: nobody here shares a file.
    cursors: BTreeMap<Inode, u64>,
    /// How far one file has been copied to another.
    copied: BTreeMap<(Inode, Inode), u64>,
    events: Vec<Event>,
    lines: Vec<String>,
    is_outside: &'a dyn Fn(&Path) -> bool,
}

impl Reader<'_> {
    fn line(&mut self, line: &str) {
        let Some((name, rest)) = line.split_once('(') else {
            return;
        };
        let Some((arguments, result)) = rest.rsplit_once(") = ").or_else(|| {
            // strace pads short calls.
            let at = rest.rfind(" = ")?;
            Some((rest[..at].trim_end().strip_suffix(')')?, &rest[at + 3..]))
        }) else {
            return;
        };
        if result.starts_with('-') || result.starts_with('?') {
            return;
        }
        let words = words(arguments);
        let text = |n: usize| match &words[n] {
            Word::Text(bytes) => PathBuf::from(OsString::from_vec(bytes.clone())),
            other => panic!("{line}: {other:?} is no path"),
        };
        let at = |dir: usize, n: usize| match &words[dir] {
            Word::Open(dir) => dir.join(text(n)),
            other => panic!("{line}: {other:?} is no directory"),
        };
        let open = |n: usize| match &words[n] {
            Word::Open(path) => Some(path.clone()),
            _ => None,
        };
        let said = |n: usize| match words.get(n) {
            Some(Word::Other(said)) => said.as_str(),
            _ => "",
        };
        match name {
            "open" | "openat" | "openat2" | "creat" => {
                // Where it is, the kernel says with the result.
                if let Some(Word::Open(path)) = self::words(result).into_iter().next() {
                    self.opened(&path, arguments);
                }
            }
            "write" => self.written(open(0), &words[1], None, line),
            "pwrite64" => self.written(open(0), &words[1], Some(said(3)), line),
            "copy_file_range" => {
                assert_eq!((said(1), said(3)), ("NULL", "NULL"), "{line}");
                let (from, to) = (open(0).unwrap_or_default(), open(2));
                self.copied(&from, to, number(result), line);
            }
            "lseek" => {
                if let Some(inode) = open(0).and_then(|path| self.inode(&path)) {
                    self.cursors.insert(inode, number(result));
                }
            }
            "ftruncate" => self.resized(open(0), number(said(1))),
            "truncate" => self.resized(Some(text(0)), number(said(1))),
            "rename" => self.renamed(&text(0), &text(1), false),
            "renameat" | "renameat2" => {
                let swap = said(4).contains("RENAME_EXCHANGE");
                self.renamed(&at(0, 1), &at(2, 3), swap);
            }
            "unlink" | "rmdir" => self.unlinked(&text(0)),
            "unlinkat" => self.unlinked(&at(0, 1)),
            "mkdir" => self.made(&text(0), Node::Directory(BTreeMap::new()), mode(said(1))),
            "mkdirat" => self.made(&at(0, 1), Node::Directory(BTreeMap::new()), mode(said(2))),
            "symlink" => self.made(&text(1), Node::Link(text(0).into()), 0o777),
            "symlinkat" => self.made(&at(1, 2), Node::Link(text(0).into()), 0o777),
            "chmod" => self.moded(&text(0), mode(said(1))),
            "fchmod" => {
                if let Some(path) = open(0) {
                    self.moded(&path, mode(said(1)));
                }
            }
            "fchmodat" | "fchmodat2" => self.moded(&at(0, 1), mode(said(2))),
            "fsync" | "fdatasync" => {
                if let Some(inode) = open(0).and_then(|path| self.inode(&path)) {
                    let path = open(0).unwrap_or_default();
                    self.happened(&path, Event::Sync(inode), "sync");
                }
            }
            "sync" | "syncfs" => {
                let path = open(0).unwrap_or_default();
                self.events.push(Event::SyncAll);
                self.lines.push(format!("syncfs {}", path.display()));
            }
            "fallocate" => {}
            _ => {
                let touched = words.iter().any(|word| match word {
                    Word::Open(path) => self.relative(path).is_some(),
                    Word::Text(path) => self.relative(Path::new(OsStr::from_bytes(path))).is_some(),
                    Word::Other(_) => false,
                });
                assert!(
                    !touched,
                    "the recorder cannot follow {name}: teach it: {line}"
                );
            }
        }
    }

    /// The path below the root; a file that has no name any more is nowhere.
    fn relative(&self, path: &Path) -> Option<PathBuf> {
        if path.as_os_str().as_bytes().ends_with(b" (deleted)") {
            return None;
        }
        let path = path.strip_prefix(self.root).ok()?;
        let parts = path
            .components()
            .filter(|it| matches!(it, Component::Normal(_)));
        Some(parts.collect())
    }

    fn inode(&self, path: &Path) -> Option<Inode> {
        self.now.find(&self.relative(path)?)
    }

    /// The directory of a path, and the name in it.
    fn place(&self, path: &Path) -> Option<(Inode, OsString)> {
        let path = self.relative(path)?;
        let name = path.file_name()?.to_owned();
        let dir = path.parent().unwrap_or(Path::new(""));
        let dir = self.now.find(dir);
        Some((
            dir.unwrap_or_else(|| panic!("{}: no such directory", path.display())),
            name,
        ))
    }

    fn happened(&mut self, path: &Path, event: Event, word: &str) {
        let relative = self.relative(path).unwrap_or_default();
        if let Event::Change(change) = &event {
            self.now.apply(change);
        }
        self.events.push(event);
        self.lines.push(format!("{word} {}", relative.display()));
        if (self.is_outside)(&relative) {
            let dir = self.place(path).map(|(dir, _)| dir);
            for synced in dir.into_iter().chain(self.now.find(&relative)) {
                self.events.push(Event::Sync(synced));
                self.lines.push(format!("(durable) {}", relative.display()));
            }
        }
    }

    fn opened(&mut self, path: &Path, arguments: &str) {
        if self.relative(path).is_none() {
            return;
        }
        let inode = match self.inode(path) {
            Some(inode) => inode,
            // Unnamed, or a socket: nothing of it stays.
            None if !arguments.contains("O_CREAT") => return,
            None => {
                let mode = arguments.rsplit(['=', ' ']).find_map(octal);
                self.made(path, Node::File(Rc::default()), mode.unwrap_or(0o600));
                self.inode(path).unwrap()
            }
        };
        let Node::File(content) = self.now.node(inode) else {
            return;
        };
        let length = content.len() as u64;
        if arguments.contains("O_TRUNC") && length > 0 {
            self.resized(Some(path.to_owned()), 0);
        }
        let writes = arguments.contains("O_WRONLY") || arguments.contains("O_RDWR");
        if writes {
            let start = match arguments.contains("O_APPEND") {
                true => u64::MAX,
                false => 0,
            };
            self.cursors.insert(inode, start);
        }
    }

    fn written(&mut self, path: Option<PathBuf>, what: &Word, offset: Option<&str>, line: &str) {
        let Some(path) = path else { return };
        let Some(inode) = self.inode(&path) else {
            return;
        };
        let Word::Text(bytes) = what else {
            panic!("no bytes in {line}")
        };
        let done = usize::try_from(number(line.rsplit(" = ").next().unwrap())).unwrap();
        let bytes = Rc::new(bytes[..done].to_vec());
        let Node::File(content) = self.now.node(inode) else {
            return;
        };
        let at = match offset {
            Some(offset) => number(offset),
            None => match self.cursors.get(&inode) {
                Some(&u64::MAX) => content.len() as u64,
                Some(at) => *at,
                None => 0,
            },
        };
        if offset.is_none() && self.cursors.get(&inode) != Some(&u64::MAX) {
            self.cursors.insert(inode, at + done as u64);
        }
        let change = Change::Write(inode, at, bytes);
        self.happened(&path, Event::Change(change), "write");
    }

    fn copied(&mut self, from: &Path, to: Option<PathBuf>, length: u64, line: &str) {
        let Some(inode) = to.as_ref().and_then(|to| self.inode(to)) else {
            return;
        };
        let source = self.inode(from);
        let source = source.unwrap_or_else(|| panic!("copied from outside: {line}"));
        let Node::File(content) = self.now.node(source) else {
            panic!("no file: {line}")
        };
        // From where the last one ended: both begin at the beginning.
        let at = self.copied.get(&(source, inode)).copied().unwrap_or(0);
        let end = at + length;
        let range = usize::try_from(at).unwrap()..usize::try_from(end).unwrap();
        let bytes = Rc::new(content[range].to_vec());
        self.copied.insert((source, inode), end);
        if !bytes.is_empty() {
            let change = Change::Write(inode, at, bytes);
            self.happened(&to.unwrap_or_default(), Event::Change(change), "copy to");
        }
    }

    fn resized(&mut self, path: Option<PathBuf>, length: u64) {
        let Some(path) = path else { return };
        if let Some(inode) = self.inode(&path) {
            let change = Change::Resize(inode, length);
            self.happened(&path, Event::Change(change), "resize");
        }
    }

    fn made(&mut self, path: &Path, node: Node, mode: u32) {
        if let Some((dir, name)) = self.place(path) {
            // Most people's umask: whoever wants other bits sets them afterwards.
            let inode = self.now.add(node, mode & !0o022);
            let change = Change::Link(dir, name, inode);
            self.happened(path, Event::Change(change), "make");
        }
    }

    fn unlinked(&mut self, path: &Path) {
        if let (Some((dir, name)), Some(inode)) = (self.place(path), self.inode(path)) {
            let change = Change::Unlink(dir, name, inode);
            self.happened(path, Event::Change(change), "remove");
        }
    }

    fn renamed(&mut self, from: &Path, to: &Path, swap: bool) {
        let (Some(old), Some(inode), Some(new)) =
            (self.place(from), self.inode(from), self.place(to))
        else {
            let touched = self.relative(from).is_some() || self.relative(to).is_some();
            assert!(
                !touched,
                "a rename across the root: {} {}",
                from.display(),
                to.display()
            );
            return;
        };
        let change = match (swap, self.inode(to)) {
            (true, Some(other)) => Change::Exchange((old.0, old.1, inode), (new.0, new.1, other)),
            _ => Change::Rename(old, new, inode),
        };
        self.happened(to, Event::Change(change), "rename to");
    }

    fn moded(&mut self, path: &Path, mode: u32) {
        if let Some(inode) = self.inode(path) {
            // Not applied to what the program sees: nodes keep the mode that they were made with.
            self.events.push(Event::Change(Change::Mode(inode, mode)));
            let relative = self.relative(path).unwrap_or_default();
            self.lines.push(format!("mode {}", relative.display()));
        }
    }
}
