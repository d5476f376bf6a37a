//! Where each frame stands: in the archive, and in the tar stream.

use std::ops::Range;
use tamer_core::release::Frame;

/// The frames of an archive with their places, which lengths alone tell.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    frames: &'a [Frame],
    /// Where each frame starts, in the archive and in the stream; and both ends.
    starts: Vec<(u64, u64)>,
}

impl<'a> Parts<'a> {
    /// The places of these frames, of an archive that was judged.
    pub fn of(frames: &'a [Frame]) -> Self {
        let mut starts = Vec::with_capacity(frames.len() + 1);
        let (mut offset, mut start) = (0_u64, 0_u64);
        for frame in frames {
            starts.push((offset, start));
            offset = offset.saturating_add(frame.length);
            start = start.saturating_add(frame.unpacked);
        }
        starts.push((offset, start));
        Self { frames, starts }
    }

    /// The frames.
    pub fn frames(&self) -> &'a [Frame] {
        self.frames
    }

    /// Where a frame's bytes stand in the archive.
    pub fn bytes(&self, frame: usize) -> Range<u64> {
        self.starts[frame].0..self.starts[frame + 1].0
    }

    /// The part of the tar stream that a frame holds.
    pub fn stream(&self, frame: usize) -> Range<u64> {
        self.starts[frame].1..self.starts[frame + 1].1
    }

    /// The frame that holds this byte of the stream; the number of frames if there is none.
    pub fn holding(&self, at: u64) -> usize {
        let after = self.starts.partition_point(|(_, start)| *start <= at);
        after.saturating_sub(1).min(self.frames.len())
    }
}
