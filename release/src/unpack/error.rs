//! Why an archive was not unpacked.

use crate::delta::Spoilt;
use crate::frames::FrameError;
use crate::manifest::ManifestError;
use std::io;
use std::path::PathBuf;
use tamer_core::path::TreePath;
use tamer_kit::durable::FileError;

/// Why an archive was not unpacked; nothing of it is left on the disk.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The manifest itself is refused.
    #[error("the release is refused")]
    Manifest(#[from] ManifestError),
    /// The release's directory cannot have this name.
    #[error("`{0}` is not a name for a release's directory")]
    Name(String),
    /// The release is there already.
    #[error("{path} is there already", path = .0.display())]
    Exists(PathBuf),
    /// The file system has not enough room; nothing was written.
    #[error("{place} has not enough room: {needed} {unit} are needed, {free} are free", place = place.display())]
    Room {
        /// The directory that the release was to go to.
        place: PathBuf,
        /// `bytes`, or `inodes`.
        unit: &'static str,
        /// What the release needs.
        needed: u64,
        /// What is free.
        free: u64,
    },
    /// The archive's bytes did not come.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The archive ends before it should.
    #[error("the archive ends in its frame {frame} of {frames}")]
    Truncated {
        /// The frame, counted from 0.
        frame: usize,
        /// How many there should be.
        frames: usize,
    },
    /// So many frames of the archive are lacking, and do not come any more.
    #[error("{0} frames of the archive did not come")]
    Cut(usize),
    /// Older releases do not have what they should: it must come from frames.
    #[error("{} files of older releases are not what they were", .0.len())]
    Spoilt(Vec<Spoilt>),
    /// A frame is not what was signed.
    #[error("frame {frame} of the archive is refused")]
    Frame {
        /// The frame, counted from 0.
        frame: usize,
        /// Why.
        #[source]
        source: FrameError,
    },
    /// An entry of the archive is not what the manifest says.
    #[error("the archive does not hold `{path}` as it was signed: {reason}")]
    Entry {
        /// The entry's path in the manifest.
        path: TreePath,
        /// What is wrong.
        reason: String,
    },
    /// The archive's end holds more than zeros.
    #[error("the archive holds more after its last entry: {0}")]
    More(String),
    /// zstd has no memory for a context.
    #[error("cannot start to decompress")]
    Start(#[source] io::Error),
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl UnpackError {
    /// Whether there was not enough room: space, inodes, or a quota.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Room { .. } => true,
            Self::File(e) => matches!(
                e.source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
    }

    /// Whether frames did not come: what did come is good for the next try.
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Cut(_))
    }

    /// Whether the bytes were refused: fetching the same ones again, from the same place, will not help.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Manifest(_) | Self::Frame { .. } | Self::Entry { .. } | Self::More(_) => true,
            Self::Name(_)
            | Self::Exists(_)
            | Self::Room { .. }
            | Self::Read(_)
            | Self::Truncated { .. }
            | Self::Cut(_)
            | Self::Spoilt(_)
            | Self::Start(_)
            | Self::File(_) => false,
        }
    }
}
