//! Strict TOML: unknown keys are refused with the nearest known one; keys that start with
//! `x-` are the user's own and are passed over.

use serde::de::DeserializeOwned;
use std::fmt;

/// The longest reason, in characters.
const MAX_REASON: usize = 600;

/// Why a file was refused: its name, the place in it, the reason, and often what was meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{place}: {reason}")]
pub struct BadText {
    /// The file's name, as the user gave it.
    pub file: String,
    place: String,
    reason: String,
}

impl BadText {
    /// A refusal for a reason that is not about one place in the text.
    pub fn new(file: &str, reason: impl fmt::Display) -> Self {
        Self {
            file: file.to_owned(),
            place: String::new(),
            reason: bounded(reason.to_string()),
        }
    }

    /// A refusal for a reason that is about one value of a text that could be read: `["policy", "steps"]`; arrays are
    /// counted from zero.
    pub fn about(file: &str, text: &str, keys: &[&str], reason: impl fmt::Display) -> Self {
        Self {
            place: find(text, keys).map_or(String::new(), |at| place(text, at)),
            ..Self::new(file, reason)
        }
    }
}

/// Where the value below these keys begins, or the innermost table on the way that there is.
fn find(text: &str, keys: &[&str]) -> Option<usize> {
    let root = toml::de::DeTable::parse(text).ok()?;
    let mut table = Some(root.get_ref());
    let mut list: Option<&toml::de::DeArray<'_>> = None;
    let mut found = None;
    for key in keys {
        let value = match (table, list) {
            (Some(table), _) => {
                let entry = table.iter().find(|(name, _)| name.get_ref() == key);
                entry.map(|(_, value)| value)
            }
            (_, Some(list)) => key.parse().ok().and_then(|n: usize| list.get(n)),
            _ => None,
        };
        let Some(value) = value else { break };
        found = Some(value.span().start);
        (table, list) = (value.get_ref().as_table(), value.get_ref().as_array());
    }
    found
}

/// Reads `text`, which came from `file`, as a `T`.
///
/// `T` and everything in it must carry `#[serde(deny_unknown_fields)]`.
///
/// # Errors
/// [`BadText`] with line and column, the reason, and for an unknown key the nearest known one.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, BadText> {
    let error = match toml::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let refuse = |error: &toml::de::Error| BadText {
        file: file.to_owned(),
        place: error
            .span()
            .map_or(String::new(), |span| place(text, span.start)),
        reason: bounded(helpful(error.message())),
    };
    // Only a text with keys of the user's own pays for a second reading, which knows no lines.
    let Ok(mut table) = text.parse::<toml::Table>() else {
        return Err(refuse(&error));
    };
    if !drop_own_keys(&mut table) {
        return Err(refuse(&error));
    }
    T::deserialize(table).map_err(|error| BadText {
        place: String::new(),
        ..refuse(&error)
    })
}

/// What is wrong may quote what was given, of any length.
fn bounded(mut reason: String) -> String {
    if let Some((end, _)) = reason.char_indices().nth(MAX_REASON) {
        reason.truncate(end);
        reason.push('…');
    }
    reason
}

/// `:3:14`, counted from one, as editors and compilers write it.
fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!(":{line}:{column}")
}

fn drop_own_keys(table: &mut toml::Table) -> bool {
    let before = table.len();
    table.retain(|key, _| !key.starts_with("x-"));
    let mut dropped = table.len() != before;
    for (_, value) in table.iter_mut() {
        dropped |= drop_in_value(value);
    }
    dropped
}

fn drop_in_value(value: &mut toml::Value) -> bool {
    match value {
        toml::Value::Table(table) => drop_own_keys(table),
        toml::Value::Array(items) => {
            let mut dropped = false;
            for item in items {
                dropped |= drop_in_value(item);
            }
            dropped
        }
        _ => false,
    }
}

/// Turns serde's "unknown field `x`, expected one of `a`, `b`" into a sentence with a suggestion.
fn helpful(message: &str) -> String {
    let (what, rest) = if let Some(rest) = message.strip_prefix("unknown field `") {
        ("key", rest)
    } else if let Some(rest) = message.strip_prefix("unknown variant `") {
        ("value", rest)
    } else {
        return message.to_owned();
    };
    let Some((given, expected)) = rest.split_once('`') else {
        return message.to_owned();
    };
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    match nearest(given, known.iter().copied()) {
        Some(near) => format!("unknown {what} `{given}`: did you mean `{near}`?"),
        None if known.is_empty() => format!("unknown {what} `{given}`: no {what} is known here"),
        None => format!(
            "unknown {what} `{given}`: known here are {}",
            known.join(", ")
        ),
    }
}

/// The known word nearest to `given`, if one is near enough to be meant.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(given, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len().max(given.len()) / 4)
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        listen: String,
        #[serde(default)]
        inner: Inner,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(default)]
        depth: u8,
    }

    fn said(text: &str) -> String {
        parse::<Sample>("a.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn unknown_keys_name_the_nearest_one_and_the_place() {
        assert_eq!(
            said("listen = \"a\"\nlistne = 1"),
            "a.toml:2:1: unknown key `listne`: did you mean `listen`?"
        );
        assert_eq!(
            said("listen = \"a\"\n[inner]\ndetph = 1"),
            "a.toml:3:1: unknown key `detph`: did you mean `depth`?"
        );
        assert!(said("listen = \"a\"\ncolour = 1").ends_with("known here are listen, inner"));
    }

    #[test]
    fn own_keys_are_passed_over_at_every_depth() {
        let text = "x-owner = \"me\"\nlisten = \"a\"\n[inner]\ndepth = 3\nx-note = [1]";
        assert_eq!(parse::<Sample>("a.toml", text).unwrap().inner.depth, 3);
    }

    #[test]
    fn a_value_is_found_again_in_what_could_be_read() {
        let text =
            "a = 1\n[policy]\nx = 2\nsteps = [\n  3,\n  4]\n[[window]]\n[[window]]\n  to = 5\n";
        for (keys, at) in [
            (&["a"][..], ":1:5"),
            (&["policy", "steps", "1"], ":6:3"),
            (&["window", "1", "to"], ":9:8"),
            // What is not there is missing from the table.
            (&["policy", "canary"], ":2:1"),
            (&["window", "0", "to"], ":7:1"),
            (&["other"], ""),
        ] {
            let said = BadText::about("a.toml", text, keys, "no").to_string();
            assert_eq!(said, format!("a.toml{at}: no"), "{keys:?}");
        }
    }

    #[test]
    fn broken_toml_and_wrong_types_say_where() {
        assert!(said("listen = ").starts_with("a.toml:1:"));
        assert!(said("listen = 4").starts_with("a.toml:1:10: invalid type"));
    }
}
