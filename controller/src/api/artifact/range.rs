//! The `Range` header: RFC 9110, section 14, single byte ranges.

use std::ops::Range;

/// What part of a representation is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it.
    Whole,
    /// These bytes: not empty, and within it.
    Part(Range<u64>),
    /// None of its bytes: 416.
    Nothing,
}

/// What the header asks for, of something with `length` bytes. A header that is not understood, or
/// that asks for several ranges, counts for nothing, as section 14.2 allows.
pub(super) fn ask(header: &str, length: u64) -> Asked {
    let Some((unit, range)) = header.split_once('=') else {
        return Asked::Whole;
    };
    let Some((first, last)) = range.trim().split_once('-') else {
        return Asked::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Asked::Whole;
    }
    match (number(first), number(last)) {
        (Some(first), Some(last)) if last < first => Asked::Whole,
        (Some(first), Some(last)) => within(first..last.saturating_add(1).min(length)),
        (Some(first), None) if last.is_empty() => within(first..length),
        (None, Some(suffix)) if first.is_empty() => within(length.saturating_sub(suffix)..length),
        _ => Asked::Whole,
    }
}

fn within(range: Range<u64>) -> Asked {
    if range.is_empty() {
        Asked::Nothing
    } else {
        Asked::Part(range)
    }
}

/// Digits alone; so many that no number fits count as the largest one.
fn number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_specification() {
        // RFC 9110, 14.1.2, for a representation of 10,000 bytes.
        for (header, asked) in [
            ("bytes=0-499", Asked::Part(0..500)),
            ("bytes=500-999", Asked::Part(500..1000)),
            ("bytes=-500", Asked::Part(9500..10000)),
            ("bytes=9500-", Asked::Part(9500..10000)),
            ("bytes=0-0", Asked::Part(0..1)),
            ("Bytes=-1", Asked::Part(9999..10000)),
            ("bytes=9999-20000", Asked::Part(9999..10000)),
            ("bytes=-20000", Asked::Part(0..10000)),
            ("bytes=5-99999999999999999999999", Asked::Part(5..10000)),
            ("bytes=10000-", Asked::Nothing),
            ("bytes=99999999999999999999999-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=0-0,-1", Asked::Whole),
            ("bytes=2-1", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("lines=0-1", Asked::Whole),
            ("0-1", Asked::Whole),
            ("", Asked::Whole),
        ] {
            assert_eq!(ask(header, 10_000), asked, "{header}");
        }
        assert_eq!(ask("bytes=0-", 0), Asked::Nothing);
        assert_eq!(ask("bytes=-5", 0), Asked::Nothing);
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_outside(header in "bytes=[0-9]{0,20}-[0-9]{0,20}|.*", length: u64) {
            if let Asked::Part(range) = ask(&header, length) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }
    }
}
