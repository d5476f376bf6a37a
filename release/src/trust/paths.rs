//! Which targets a delegation is for: by patterns, or by the first digits of a name's SHA-256.

use tamer_kit::hash::sha256;

/// Whether one of the patterns fits the name. `*`, `?` and `[…]` stand for no `/`.
pub fn fits(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| fits_one(pattern, name))
}

/// Whether the SHA-256 of the name begins with one of these.
pub fn hashed(prefixes: &[String], name: &str) -> bool {
    let digest = sha256(name.as_bytes()).to_string();
    let mut prefixes = prefixes.iter();
    prefixes.any(|prefix| !prefix.is_empty() && digest.starts_with(prefix.as_str()))
}

/// The bin that a name falls into, of `2^bits`: its role's name ends in this, in hexadecimal.
/// `bits` is 1 to 32.
pub fn bin(bits: u32, name: &str) -> String {
    let digest = sha256(name.as_bytes());
    let first = digest.as_bytes()[..4].iter();
    let first = first.fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    let width = bits.div_ceil(4) as usize;
    format!("{:0width$x}", first >> (32 - bits))
}

fn fits_one(pattern: &str, name: &str) -> bool {
    let (mut patterns, mut names) = (pattern.split('/'), name.split('/'));
    loop {
        match (patterns.next(), names.next()) {
            (None, None) => return true,
            (Some(pattern), Some(name)) if part(pattern, name) => {}
            _ => return false,
        }
    }
}

/// One part between slashes. Only the last `*` is ever tried again, so the work is bounded by the product of
/// both lengths, whatever the pattern.
fn part(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let next = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => match set(&pattern[p + 1..], name[n]) {
                Some((true, length)) => Some(p + 1 + length),
                Some((false, _)) => None,
                None => (name[n] == '[').then_some(p + 1),
            },
            Some(c) => (*c == name[n]).then_some(p + 1),
            None => None,
        };
        match (next, &mut star) {
            (Some(next), _) => (p, n) = (next, n + 1),
            (None, Some((after, from))) => {
                *from += 1;
                (p, n) = (*after, *from);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// `[abc]`, `[a-z]`, `[!a]`, after its `[`: whether the character is meant, and how long it is with its `]`.
/// `None` if no `]` closes it: then the `[` is itself.
fn set(pattern: &[char], c: char) -> Option<(bool, usize)> {
    let not = usize::from(pattern.first() == Some(&'!'));
    // A `]` at once is itself.
    let end = not + 1 + pattern.get(not + 1..)?.iter().position(|c| *c == ']')?;
    let (mut at, mut found) = (not, false);
    while at < end {
        if at + 2 < end && pattern[at + 1] == '-' {
            found |= (pattern[at]..=pattern[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= pattern[at] == c;
            at += 1;
        }
    }
    Some((found != (not == 1), end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stop_at_slashes() {
        for (pattern, name) in [
            ("*", "a"),
            ("*", ""),
            ("*.doc", "x.doc"),
            ("foo-?.tgz", "foo-1.tgz"),
            ("a/*/c", "a/b/c"),
            ("*a*b*", "xxaxxbxx"),
            ("[a-c]x", "bx"),
            ("[!a]", "b"),
            ("[]]", "]"),
            ("[", "["),
            ("a[b", "a[b"),
            ("", ""),
            ("**", "ab"),
        ] {
            assert!(fits_one(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*", "a/b"),
            ("*.md", "a/x.md"),
            ("foo-?.tgz", "foo-ab.tgz"),
            ("a?b", "a/b"),
            ("README.md", "README.MD"),
            ("a/*", "a"),
            ("a/*", "a/b/c"),
            ("[!a]", "a"),
            ("[a-c]", "d"),
            ("[/]", "/"),
            ("*a", "ab"),
        ] {
            assert!(!fits_one(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn bins_have_their_digits() {
        // SHA-256 of "a" is ca978112….
        assert_eq!(bin(1, "a"), "1");
        assert_eq!(bin(4, "a"), "c");
        assert_eq!(bin(5, "a"), "19");
        assert_eq!(bin(32, "a"), "ca978112");
        assert!(
            hashed(&["ca9".to_owned()], "a") && !hashed(&["cb".to_owned(), String::new()], "a")
        );
    }
}
