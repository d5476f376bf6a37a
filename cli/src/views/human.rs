//! Numbers as people read them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `9m 12s`, `38 s`, `2d 4h`: two units at most.
pub fn span(millis: u64) -> String {
    let secs = millis / 1000;
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes, secs % 60) {
        (0, 0, 0, 0) if millis > 0 => format!("0.{} s", (millis / 100).max(1)),
        (0, 0, 0, secs) => format!("{secs} s"),
        (0, 0, minutes, 0) => format!("{minutes}m"),
        (0, 0, minutes, secs) => format!("{minutes}m {secs}s"),
        (0, hours, 0, _) => format!("{hours}h"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, 0, ..) => format!("{days}d"),
        (days, hours, ..) => format!("{days}d {hours}h"),
    }
}

/// `812 B`, `3.1 MB`: powers of ten, as disks and networks count.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if n < 1000 {
        return format!("{n} B");
    }
    // A float is exact enough for two digits.
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `2026-11-24 03:01 UTC`; a dash for a moment that never was.
pub fn date(millis: u64) -> String {
    let secs = i64::try_from(millis / 1000).unwrap_or(i64::MAX);
    match OffsetDateTime::from_unix_timestamp(secs) {
        Ok(at) if millis > 0 => format!(
            "{:04}-{:02}-{:02} {:02}:{:02} UTC",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute()
        ),
        _ => "-".to_owned(),
    }
}

/// The milliseconds since the Unix epoch of a date as metadata write it (RFC 3339); 0 for anything else.
pub fn parse_date(text: &str) -> u64 {
    let at = OffsetDateTime::parse(text, &Rfc3339).map(|at| at.unix_timestamp());
    at.ok()
        .and_then(|secs| u64::try_from(secs).ok())
        .map_or(0, |secs| secs.saturating_mul(1000))
}

/// `1 host`, `40 hosts`.
pub fn count(n: impl Into<u64>, one: &str) -> String {
    match n.into() {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    }
}

/// At most `width` characters; a cut is shown by `…`.
pub fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// A text from a server as it may be shown: without the escape sequences of colours (ECMA-48, CSI)
/// and without control characters, which could move the cursor or worse; tabs become spaces.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' if chars.next_if_eq(&'[').is_some() => {
                // Parameters and intermediates, then one final character from `@` to `~`.
                while chars.next_if(|c| (' '..='?').contains(c)).is_some() {}
                chars.next_if(|c| ('@'..='~').contains(c));
            }
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let spans = [
            0, 40, 100, 999, 1000, 59_999, 60_000, 552_000, 3_600_000, 7_500_000,
        ];
        assert_eq!(
            spans.map(span),
            [
                "0 s", "0.1 s", "0.1 s", "0.9 s", "1 s", "59 s", "1m", "9m 12s", "1h", "2h 5m"
            ]
        );
        assert_eq!(span(100_800_000), "1d 4h");
        assert_eq!(
            [0, 999, 1000, 3_100_000, 999_949_999, 999_960_000].map(bytes),
            ["0 B", "999 B", "1.0 kB", "3.1 MB", "999.9 MB", "1.0 GB"]
        );
        assert_eq!(date(1_795_489_260_000), "2026-11-24 03:01 UTC");
        assert_eq!(date(0), "-");
        assert_eq!(parse_date("2026-11-24T03:01:00Z"), 1_795_489_260_000);
        assert_eq!(parse_date("soon"), 0);
        assert_eq!(count(1u32, "host"), "1 host");
        assert_eq!(fit("waits for the bake", 9), "waits fo…");
        assert_eq!(harmless("a\x1b[2Jb\tc\x07\x1b]0;"), "ab c]0;");
        assert_eq!(harmless("\x1b[1;31mred\x1b[0m \x1b[ \x1b"), "red ");
    }
}
