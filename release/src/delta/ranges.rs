//! Frames that are to be fetched, as ranges of the archive's bytes: few requests, and few bytes that nobody
//! asked for.

use super::Parts;
use std::ops::Range;

/// Between two wanted frames at most so many bytes are fetched with them: about what a request of its own
/// costs in headers, and in work on both sides.
pub const MAX_GAP: u64 = 1 << 10;

/// A range is not longer than so many bytes, unless one frame is: a cut line costs no more, several can come at a
/// time, and together they bring the frames nearly in order, for whoever unpacks them meanwhile.
pub const MAX_RANGE: u64 = 1 << 20;

/// One range of bytes to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The bytes of the archive.
    pub bytes: Range<u64>,
    /// Which of the wanted frames lie in them: positions in the list of wanted frames.
    pub wanted: Range<usize>,
}

/// The ranges that bring these frames, which are in order: in order too, and apart from each other.
pub fn ranges(wanted: &[usize], parts: &Parts<'_>, gap: u64, most: u64) -> Vec<Fetch> {
    let mut ranges: Vec<Fetch> = Vec::new();
    for (n, frame) in wanted.iter().enumerate() {
        let bytes = parts.bytes(*frame);
        match ranges.last_mut() {
            Some(open)
                if bytes.start - open.bytes.end <= gap && bytes.end - open.bytes.start <= most =>
            {
                open.bytes.end = bytes.end;
                open.wanted.end = n + 1;
            }
            _ => ranges.push(Fetch {
                bytes,
                wanted: n..n + 1,
            }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tamer_core::digest::Digest;
    use tamer_core::release::Frame;

    proptest! {
        #[test]
        fn every_wanted_frame_is_in_one_range_and_little_else(
            frames in prop::collection::vec((1_u64..5_000, any::<bool>()), 1..60),
            gap in 0_u64..4_000,
            most in 1_u64..20_000,
        ) {
            let all: Vec<Frame> = frames
                .iter()
                .map(|(length, _)| Frame {
                    length: *length,
                    unpacked: 1,
                    sha256: Digest::new([0; 32]),
                    content: None,
                })
                .collect();
            let parts = Parts::of(&all);
            let wanted: Vec<usize> = (0..all.len()).filter(|n| frames[*n].1).collect();
            let mut asked = vec![false; parts.bytes(all.len().saturating_sub(1)).end as usize + 1];
            let mut next = 0;
            let mut end = None;
            for range in ranges(&wanted, &parts, gap, most) {
                prop_assert!(!range.wanted.is_empty());
                prop_assert_eq!(range.wanted.start, next);
                next = range.wanted.end;
                let long = range.bytes.end - range.bytes.start > most;
                prop_assert!(!long || range.wanted.len() == 1);
                prop_assert!(end.is_none_or(|end| range.bytes.start >= end));
                end = Some(range.bytes.end);
                let inside: Vec<_> = range.wanted.map(|n| parts.bytes(wanted[n])).collect();
                prop_assert_eq!(inside.first().unwrap().start, range.bytes.start);
                prop_assert_eq!(inside.last().unwrap().end, range.bytes.end);
                for pair in inside.windows(2) {
                    prop_assert!(pair[1].start - pair[0].end <= gap);
                }
                for at in range.bytes {
                    asked[at as usize] = true;
                }
            }
            prop_assert_eq!(next, wanted.len());
            for frame in wanted {
                prop_assert!(parts.bytes(frame).all(|at| asked[at as usize]));
            }
        }
    }

    #[test]
    fn neighbours_are_one_request_and_long_ones_are_several() {
        let frame = |length| Frame {
            length,
            unpacked: 1,
            sha256: Digest::new([0; 32]),
            content: None,
        };
        let all = [10, 10, 2_000, 10, 90].map(frame);
        let parts = Parts::of(&all);
        let bytes = |wanted: &[usize], gap, most| -> Vec<Range<u64>> {
            let ranges = ranges(wanted, &parts, gap, most);
            ranges.into_iter().map(|range| range.bytes).collect()
        };
        assert_eq!(bytes(&[0, 1, 3], 100, 5_000), [0..20, 2_020..2_030]);
        assert_eq!(
            bytes(&[0, 1, 3], 2_000, 5_000),
            std::slice::from_ref(&(0..2_030))
        );
        assert_eq!(
            bytes(&[0, 1, 2, 3, 4], 0, 100),
            [0..20, 20..2_020, 2_020..2_120]
        );
        assert_eq!(bytes(&[], 0, 100), [0..0; 0]);
    }
}
