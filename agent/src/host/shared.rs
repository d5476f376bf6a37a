//! What survives releases: directories and files below `<root>/shared`, linked into every release; and the
//! agent's own files in a release.
//!
//! `shared` belongs to the component's user, who could put a link anywhere in it; a release comes from
//! outside. So nothing in either is opened through a link: every directory on the way is opened by
//! itself, `O_NOFOLLOW`, from the one above.

use super::file_failure;
use crate::allowed::failure;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use tamer_core::application::ComponentSpec;
use tamer_core::desired::{Failure, FailureKind};
use tamer_kit::durable::FileError;
use tamer_release::manifest::RESERVED;

/// What a shared path's link in a release points to.
fn target(path: &str) -> PathBuf {
    // From the link's directory up to the release, from there up to the root.
    let up = path.split('/').count() + 1;
    let mut target: PathBuf = std::iter::repeat_n("..", up).collect();
    target.push("shared");
    target.push(path);
    target
}

/// Whether every shared path is linked in the release at `release`.
pub fn linked(release: &Path, spec: &ComponentSpec) -> bool {
    spec.shared.iter().all(|path| {
        let path = path.trim_end_matches('/');
        std::fs::read_link(release.join(path)).is_ok_and(|there| there == target(path))
    })
}

/// Makes the shared directories that are missing, owned by `owner`, and the links in the release.
/// Shared files are the operator's to provide: a link to one that is not there dangles. Doing it again
/// does no harm.
///
/// # Errors
/// [`Failure`]: something else is in the way, or the file system refused.
pub fn link(
    root: &Path,
    release: &Path,
    spec: &ComponentSpec,
    owner: Option<(u32, u32)>,
) -> Result<(), Failure> {
    let shared = root.join("shared");
    for entry in &spec.shared {
        let path = entry.trim_end_matches('/');
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut dir = Dir::open(&shared, false)?;
        for part in above.split('/').filter(|part| !part.is_empty()) {
            dir = dir.enter(part, owner)?;
        }
        if entry.ends_with('/') {
            dir.make(name, owner)?;
        }
        link_one(release, path)?;
    }
    Ok(())
}

/// Makes the links of a copy of a release that lies elsewhere: what they lead to is there already.
///
/// # Errors
/// [`Failure`] of the file system.
pub fn link_again(copy: &Path, spec: &ComponentSpec) -> Result<(), Failure> {
    for entry in &spec.shared {
        link_one(copy, entry.trim_end_matches('/'))?;
    }
    Ok(())
}

/// Makes one link of a release, and the directories on the way to it.
fn link_one(release: &Path, path: &str) -> Result<(), Failure> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut dir = Dir::open(release, true)?;
    for part in above.split('/').filter(|part| !part.is_empty()) {
        dir = dir.enter(part, None)?;
    }
    dir.link(name, &target(path))
}

/// Where a file of the agent's own lies in a release: beside the manifest.
pub fn own_file(release: &Path, name: &str) -> PathBuf {
    release.join(RESERVED).join(name)
}

/// Writes a file of the agent's own into a release, durably: at every instant the old one or the new one is
/// there, whole. It can be read by root and by `group`; without one, by the agent's own user and group.
/// Nothing is done where it is there already.
///
/// # Errors
/// [`Failure`]: the file system refused; what was there before still is.
pub fn write_own(
    release: &Path,
    name: &str,
    bytes: &[u8],
    group: Option<u32>,
) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt;
    let path = own_file(release, name);
    let about = std::fs::symlink_metadata(&path);
    let fits = about.is_ok_and(|it| {
        it.is_file() && it.mode() & 0o7777 == 0o640 && group.is_none_or(|gid| gid == it.gid())
    });
    let dir = Dir::open(release, true)?.enter(RESERVED, None)?;
    if fits && std::fs::read(&path).is_ok_and(|there| there == bytes) {
        // A crash between the two may have left it open.
        return dir.close().map_err(|e| failed("close", &path, e));
    }
    let aside = format!(".{name}.new");
    let write = |dir: &OwnedFd| {
        match rustix::fs::unlinkat(dir, &aside, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
        let new =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o640);
        let file = rustix::fs::openat(dir, &aside, new, mode)?;
        // Whatever the umask.
        rustix::fs::fchmod(&file, mode)?;
        let group = group.map(rustix::fs::Gid::from_raw);
        rustix::fs::fchown(&file, None, group)?;
        let mut file = File::from(file);
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        rustix::fs::renameat(dir, &aside, dir, name)
    };
    dir.changed(write).map_err(|e| failed("write", &path, e))
}

/// An open directory that was reached without following a link.
struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    /// Whether it is part of a release: read-only, so whoever is not root opens it up for the moment of a change.
    read_only: bool,
}

impl Dir {
    fn open(path: &Path, read_only: bool) -> Result<Self, Failure> {
        let fd =
            rustix::fs::open(path, flags(), Mode::empty()).map_err(|e| failed("open", path, e))?;
        Ok(Self {
            fd,
            path: path.to_owned(),
            read_only,
        })
    }

    /// The directory `name` in this one, made if it is not there.
    fn enter(&self, name: &str, owner: Option<(u32, u32)>) -> Result<Self, Failure> {
        self.make(name, owner)?;
        let path = self.path.join(name);
        let fd =
            rustix::fs::openat(&self.fd, name, flags(), Mode::empty()).map_err(|e| match e {
                Errno::LOOP | Errno::NOTDIR => failure(
                    FailureKind::Host,
                    format!("{} must be a directory, and no link", path.display()),
                ),
                e => failed("open", &path, e),
            })?;
        Ok(Self {
            fd,
            path,
            read_only: self.read_only,
        })
    }

    /// Makes the directory `name`, and gives it to its owner; whatever else is there already under that name
    /// stays as it is.
    fn make(&self, name: &str, owner: Option<(u32, u32)>) -> Result<(), Failure> {
        let path = self.path.join(name);
        if rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            self.make_new(name, &path)?;
        }
        match owner {
            Some(owner) => self
                .give(name, owner)
                .map_err(|e| failed("change the owner of", &path, e)),
            None => Ok(()),
        }
    }

    fn make_new(&self, name: &str, path: &Path) -> Result<(), Failure> {
        let mode = Mode::from_raw_mode(if self.read_only { 0o555 } else { 0o755 });
        let make = |fd: &OwnedFd| {
            rustix::fs::mkdirat(fd, name, mode)?;
            // Whatever the umask: every directory of a release has the same mode.
            match self.read_only {
                true => {
                    let made = rustix::fs::openat(fd, name, flags(), Mode::empty())?;
                    rustix::fs::fchmod(made, mode)
                }
                false => Ok(()),
            }
        };
        self.changed(make)
            .map_err(|e| failed("create the directory", path, e))
    }

    /// Gives a directory that the agent has made to its owner. It is opened first, and given only if it is the
    /// agent's and empty: the owner of the directory above may have put another one in its place. A crash after
    /// it was made leaves it the agent's, and this is done again.
    fn give(&self, name: &str, (user, group): (u32, u32)) -> Result<(), Errno> {
        let dir = match rustix::fs::openat(&self.fd, name, flags(), Mode::empty()) {
            Err(Errno::LOOP | Errno::NOTDIR) => return Ok(()),
            dir => dir?,
        };
        let about = rustix::fs::fstat(&dir)?;
        let made_here = about.st_uid == rustix::process::geteuid().as_raw();
        if (about.st_uid, about.st_gid) == (user, group) || !made_here {
            return Ok(());
        }
        for entry in rustix::fs::Dir::read_from(&dir)? {
            if ![c".", c".."].contains(&entry?.file_name()) {
                return Ok(());
            }
        }
        let (user, group) = (
            rustix::fs::Uid::from_raw(user),
            rustix::fs::Gid::from_raw(group),
        );
        rustix::fs::fchown(&dir, Some(user), Some(group))?;
        rustix::fs::fsync(&dir)
    }

    fn link(&self, name: &str, target: &Path) -> Result<(), Failure> {
        let path = self.path.join(name);
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => self
                .changed(|fd| rustix::fs::symlinkat(target, fd, name))
                .map_err(|e| failed("link", &path, e)),
            Err(e) => Err(failed("look at", &path, e)),
            Ok(about) => {
                let is_link = FileType::from_raw_mode(about.st_mode) == FileType::Symlink;
                if is_link && std::fs::read_link(&path).is_ok_and(|there| there == target) {
                    return Ok(());
                }
                Err(failure(
                    FailureKind::Host,
                    format!(
                        "the release has `{}` of its own, which tamer.toml calls shared: leave one of them out",
                        path.file_name().unwrap_or_default().to_string_lossy()
                    ),
                ))
            }
        }
    }

    /// Makes a change in the directory, durably; a read-only one is closed again.
    fn changed(&self, change: impl Fn(&OwnedFd) -> Result<(), Errno>) -> Result<(), Errno> {
        let mut done = change(&self.fd);
        if self.read_only {
            // Not before: whoever looks at this very moment would call it edited.
            if done == Err(Errno::ACCESS) {
                rustix::fs::fchmod(&self.fd, OPEN)?;
                done = change(&self.fd);
            }
            self.close()?;
        }
        done?;
        rustix::fs::fsync(&self.fd)
    }

    /// Takes care that nobody may write there.
    fn close(&self) -> Result<(), Errno> {
        let mode = rustix::fs::fstat(&self.fd)?.st_mode;
        match mode & 0o7777 == CLOSED.as_raw_mode() {
            true => Ok(()),
            false => rustix::fs::fchmod(&self.fd, CLOSED),
        }
    }
}

/// The modes of a release's directory, for the moment of a change and otherwise.
const OPEN: Mode = CLOSED.union(Mode::WUSR);
const CLOSED: Mode = Mode::from_raw_mode(0o555);

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn failed(operation: &'static str, path: &Path, error: Errno) -> Failure {
    file_failure(&FileError::new(operation, path)(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn spec(shared: &[&str]) -> ComponentSpec {
        let text = format!("files = \"x\"\nroot = \"/srv/x\"\nshared = {shared:?}");
        tamer_core::text::parse("spec", &text).unwrap()
    }

    /// A root with `shared` and one read-only release.
    fn site() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let release = dir.path().join("releases/1-1.0.0-aa");
        fs::create_dir_all(release.join("sub")).unwrap();
        fs::create_dir(dir.path().join("shared")).unwrap();
        for path in ["sub", ""] {
            let mode = fs::Permissions::from_mode(0o555);
            fs::set_permissions(release.join(path), mode).unwrap();
        }
        (dir, release)
    }

    #[test]
    fn shared_paths_are_reached_through_the_release_and_the_tree_stays_closed() {
        let (dir, release) = site();
        let spec = spec(&["media/", "local.env", "sub/deep/cache/"]);
        assert!(!linked(&release, &spec));
        for _ in 0..2 {
            link(dir.path(), &release, &spec, None).unwrap();
            assert!(linked(&release, &spec));
        }
        fs::write(dir.path().join("shared/local.env"), "KEY=1").unwrap();
        fs::write(dir.path().join("shared/sub/deep/cache/c"), "2").unwrap();
        assert_eq!(fs::read(release.join("local.env")).unwrap(), b"KEY=1");
        assert_eq!(fs::read(release.join("sub/deep/cache/c")).unwrap(), b"2");
        assert!(release.join("media").is_dir());
        for path in ["", "sub", "sub/deep"] {
            let mode = fs::metadata(release.join(path))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o555, "{path}");
        }
    }

    #[test]
    fn roots_agent_opens_nothing_up_to_make_a_link() {
        use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
        if !rustix::process::geteuid().is_root() {
            return; // Others must.
        }
        let (dir, release) = site();
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
        let changes = AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_CREATE;
        for path in ["", "sub"] {
            inotify.add_watch(&release.join(path), changes).unwrap();
        }
        link(dir.path(), &release, &spec(&["media/", "sub/cache/"]), None).unwrap();
        let seen = inotify.read_events().unwrap();
        let names: Vec<_> = seen.iter().filter_map(|it| it.name.as_deref()).collect();
        assert_eq!(names, ["media", "cache"]);
        assert!(
            seen.iter().all(|it| it.mask == AddWatchFlags::IN_CREATE),
            "{seen:?}"
        );
    }

    #[test]
    fn the_agents_own_files_are_replaced_whole_and_the_tree_stays_closed() {
        let (_dir, release) = site();
        let path = own_file(&release, "environment");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        write_own(&release, "environment", b"ONE=1\n", None).unwrap();
        let first = fs::metadata(&path).unwrap();
        // What is there already is left alone, what a crash left is not in the way.
        write_own(&release, "environment", b"ONE=1\n", None).unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(&path).unwrap().ino(), first.ino());
        fs::set_permissions(release.join(".tamer"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(release.join(".tamer/.environment.new"), "half").unwrap();
        fs::set_permissions(release.join(".tamer"), fs::Permissions::from_mode(0o555)).unwrap();
        write_own(&release, "environment", b"TWO=2\n", None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"TWO=2\n");
        assert_eq!(fs::read_dir(release.join(".tamer")).unwrap().count(), 1);
        assert_eq!((mode(&path), mode(&release.join(".tamer"))), (0o640, 0o555));
    }

    #[test]
    fn a_link_on_the_way_is_not_followed() {
        let (dir, release) = site();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("shared/sub")).unwrap();
        let said = link(dir.path(), &release, &spec(&["sub/cache/"]), None).unwrap_err();
        assert!(said.message.contains("no link"), "{said}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_crash_left_is_given_away_and_what_somebody_else_put_there_is_not() {
        if !rustix::process::geteuid().is_root() {
            return; // Only root can give directories away.
        }
        use std::os::unix::fs::MetadataExt;
        let (dir, release) = site();
        let shared = dir.path().join("shared");
        for path in ["left", "full", "above/full"] {
            fs::create_dir_all(shared.join(path)).unwrap();
        }
        for path in ["full/a", "above/full/a"] {
            fs::write(shared.join(path), "root's").unwrap();
        }
        let paths = ["left/", "full/", "above/full/", "new/deep/"];
        for _ in 0..2 {
            link(dir.path(), &release, &spec(&paths), Some((4242, 4343))).unwrap();
        }
        let owner = |path: &str| {
            let about = fs::symlink_metadata(shared.join(path)).unwrap();
            (about.uid(), about.gid())
        };
        for path in ["left", "new", "new/deep"] {
            assert_eq!(owner(path), (4242, 4343), "{path}");
        }
        for path in ["full", "full/a", "above", "above/full", "above/full/a"] {
            assert_eq!(owner(path).0, 0, "{path}");
        }
    }

    #[test]
    fn a_release_with_something_of_its_own_there_is_refused() {
        let (dir, release) = site();
        let said = link(dir.path(), &release, &spec(&["sub/"]), None).unwrap_err();
        assert!(said.message.contains("`sub` of its own"), "{said}");
    }
}
