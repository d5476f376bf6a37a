//! A directory tree in memory.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path};
use std::rc::Rc;

/// Which node: nodes are never removed, only their names.
pub(super) type Inode = usize;

/// The root.
pub(super) const ROOT: Inode = 0;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Node {
    File(Rc<Vec<u8>>),
    Directory(BTreeMap<OsString, Inode>),
    Link(OsString),
}

/// A directory tree, with permission bits and without owners and times.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    nodes: Vec<(Node, u32)>,
}

/// One change of a tree.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// A name for a node, in place of what had it.
    Link(Inode, OsString, Inode),
    /// The name of a node is gone.
    Unlink(Inode, OsString, Inode),
    /// A node gets another name.
    Rename((Inode, OsString), (Inode, OsString), Inode),
    /// Two nodes swap their names.
    Exchange((Inode, OsString, Inode), (Inode, OsString, Inode)),
    /// Bytes of a file.
    Write(Inode, u64, Rc<Vec<u8>>),
    /// The length of a file.
    Resize(Inode, u64),
    /// Permission bits.
    Mode(Inode, u32),
}

impl Disk {
    /// What lies in a directory.
    pub fn read(dir: &Path) -> Self {
        let mut disk = Self::default();
        disk.take_in(dir);
        disk
    }

    fn take_in(&mut self, path: &Path) -> Inode {
        let meta = fs::symlink_metadata(path).unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_symlink() {
            return self.add(Node::Link(fs::read_link(path).unwrap().into()), mode);
        }
        if meta.is_file() {
            return self.add(Node::File(Rc::new(fs::read(path).unwrap())), mode);
        }
        let inode = self.add(Node::Directory(BTreeMap::new()), mode);
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            // A socket or the like is gone after a power cut.
            let kind = entry.file_type().unwrap();
            if kind.is_file() || kind.is_dir() || kind.is_symlink() {
                let child = self.take_in(&entry.path());
                self.apply(&Change::Link(inode, entry.file_name(), child));
            }
        }
        inode
    }

    /// Writes it to a directory, which must not be there.
    pub fn write(&self, dir: &Path) {
        self.put(ROOT, dir);
    }

    fn put(&self, inode: Inode, path: &Path) {
        let (node, mode) = &self.nodes[inode];
        match node {
            Node::File(bytes) => {
                let mut options = fs::OpenOptions::new();
                let file = options.write(true).create_new(true).mode(0o600).open(path);
                std::io::Write::write_all(&mut file.unwrap(), bytes).unwrap();
            }
            Node::Link(target) => return symlink(target, path).unwrap(),
            Node::Directory(names) => {
                fs::create_dir(path).unwrap();
                for (name, child) in names {
                    self.put(*child, &path.join(name));
                }
            }
        }
        fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
    }

    /// A new node, which has no name yet.
    pub(super) fn add(&mut self, node: Node, mode: u32) -> Inode {
        self.nodes.push((node, mode));
        self.nodes.len() - 1
    }

    /// The nodes from this one on, as they are when they have just been made.
    pub(super) fn adopt(&mut self, fresh: &[(Node, u32)]) {
        self.nodes.extend_from_slice(fresh);
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn node(&self, inode: Inode) -> &Node {
        &self.nodes[inode].0
    }

    /// The node in a directory.
    pub(super) fn child(&self, dir: Inode, name: &OsStr) -> Option<Inode> {
        match self.node(dir) {
            Node::Directory(names) => names.get(name).copied(),
            _ => None,
        }
    }

    /// The node at a path below the root, without following links.
    pub(super) fn find(&self, path: &Path) -> Option<Inode> {
        let mut at = ROOT;
        for part in path.components() {
            match part {
                Component::Normal(name) => at = self.child(at, name)?,
                Component::CurDir => {}
                _ => return None,
            }
        }
        Some(at)
    }

    /// Makes a change, as far as what was lost before leaves sense in it.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Link(dir, name, inode) => self.set(*dir, name, Some(*inode)),
            Change::Unlink(dir, name, inode) => {
                if self.child(*dir, name) == Some(*inode) {
                    self.set(*dir, name, None);
                }
            }
            Change::Rename((dir, name), (to, new), inode) => {
                if self.child(*dir, name) == Some(*inode) {
                    self.set(*dir, name, None);
                }
                self.set(*to, new, Some(*inode));
            }
            Change::Exchange((dir, name, one), (other_dir, other_name, other)) => {
                self.set(*dir, name, Some(*other));
                self.set(*other_dir, other_name, Some(*one));
            }
            Change::Write(inode, at, bytes) => {
                if let Node::File(content) = &mut self.nodes[*inode].0 {
                    let content = Rc::make_mut(content);
                    let at = usize::try_from(*at).unwrap();
                    let end = at + bytes.len();
                    content.resize(content.len().max(end), 0);
                    content[at..end].copy_from_slice(bytes);
                }
            }
            Change::Resize(inode, length) => {
                if let Node::File(content) = &mut self.nodes[*inode].0 {
                    Rc::make_mut(content).resize(usize::try_from(*length).unwrap(), 0);
                }
            }
            Change::Mode(inode, mode) => self.nodes[*inode].1 = *mode,
        }
    }

    fn set(&mut self, dir: Inode, name: &OsStr, inode: Option<Inode>) {
        if let Node::Directory(names) = &mut self.nodes[dir].0 {
            match inode {
                Some(inode) => names.insert(name.to_owned(), inode),
                None => names.remove(name),
            };
        }
    }

    /// The same for two trees that look the same.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash_from(ROOT, &mut hasher);
        hasher.finish()
    }

    fn hash_from(&self, inode: Inode, hasher: &mut DefaultHasher) {
        let (node, mode) = &self.nodes[inode];
        mode.hash(hasher);
        match node {
            Node::Directory(names) => {
                names.len().hash(hasher);
                for (name, child) in names {
                    name.hash(hasher);
                    self.hash_from(*child, hasher);
                }
            }
            other => other.hash(hasher),
        }
    }

    pub(super) fn nodes_from(&self, from: usize) -> &[(Node, u32)] {
        &self.nodes[from..]
    }
}
