//! What must be read: contents that no record vouches for, and the manifest when it is needed first.

use super::{CHUNK, Stop, Walk};
use crate::capabilities;
use crate::manifest;
use crate::unpack::{self, MANIFEST_PATH};
use crate::verify_tree::LookError;
use crate::verify_tree::entries::{Stat, Verdict};
use crate::verify_tree::judge::{Held, Inside, Listed};
use crate::verify_tree::record::Said;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io::Read;
use std::rc::Rc;
use tamer_core::digest::Digest;
use tamer_core::release::MAX_MANIFEST;
use tamer_kit::durable::FileError;
use tamer_kit::hash::Hasher;

impl<'a> Walk<'a> {
    /// Reads a file; `None`: it is not there any more. `stat` becomes what it is of the file that was read.
    pub(super) fn content(
        &mut self,
        path: &[u8],
        dir: &OwnedFd,
        name: &CStr,
        stat: &mut Stat,
    ) -> Result<Option<Inside>, Stop> {
        // A FIFO put there this moment must not make anyone wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(Errno::ACCESS | Errno::PERM) => return Ok(Some(Inside::Unseen)),
            Err(e) => return Err(self.beneath.failed("open", path)(e).into()),
        };
        let found = rustix::fs::fstat(&file).map_err(self.beneath.failed("look at", path))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        *stat = Stat::from(&found);
        let mut hasher = Hasher::default();
        self.buffer.resize(CHUNK, 0);
        let mut left = stat.size;
        loop {
            // What meets the end of the file reads nothing.
            if left > 0 && (self.pace)(left.min(CHUNK as u64)).is_break() {
                return Err(Stop::GivenUp);
            }
            match rustix::io::read(file.as_fd(), &mut self.buffer[..]) {
                Ok(0) => {
                    let capabilities = capabilities::of(&file);
                    let capabilities =
                        capabilities.map_err(self.beneath.failed("look at", path))?;
                    return Ok(Some(Inside::Content(hasher.finish(), capabilities)));
                }
                Ok(n) => {
                    hasher.update(&self.buffer[..n]);
                    left = left.saturating_sub(n as u64);
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.beneath.failed("read", path)(e).into()),
            }
        }
    }

    pub(super) fn listed(&mut self) -> Result<Rc<Listed<'a>>, LookError> {
        if let Some(listed) = &self.listed {
            return Ok(Rc::clone(listed));
        }
        let wanted = self.what.manifest;
        let release = self.what.release;
        let file = match unpack::open_manifest(release) {
            Err(e) if e.is_not_found() => return Err(strange(&wanted, None)),
            file => file?,
        };
        let again = || {
            use std::io::Seek;
            let mut file = file.try_clone()?;
            file.rewind()?;
            Ok(file)
        };
        let (manifest, found) = match manifest::read(again) {
            Ok(read) => read,
            Err(error) => {
                let found = digest_of(again()).map_err(FileError::new("read", release))?;
                return Err(match found == wanted {
                    true => error.into(),
                    false => strange(&wanted, Some(found)),
                });
            }
        };
        if found != wanted {
            return Err(strange(&wanted, Some(found)));
        }
        let listed = Rc::new(Listed::new(Held::Read(Box::new(manifest)), wanted));
        self.listed = Some(Rc::clone(&listed));
        Ok(listed)
    }
}

/// The manifest on disk is not the signed one.
fn strange(wanted: &Digest, found: Option<Digest>) -> LookError {
    let mut said = Said::new(wanted, 1);
    said.differs(MANIFEST_PATH.as_bytes(), &Verdict::of_manifest(found));
    let Some(drift) = said.drift() else {
        unreachable!("a difference was said");
    };
    LookError::Manifest {
        drift: Box::new(drift),
    }
}

fn digest_of(file: std::io::Result<std::fs::File>) -> std::io::Result<Digest> {
    let mut hasher = Hasher::default();
    std::io::copy(&mut file?.take(MAX_MANIFEST + 1), &mut hasher)?;
    Ok(hasher.finish())
}
