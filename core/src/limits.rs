//! What one hook may use of a host, and who may read the files that it makes.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An amount of bytes, written by people as `512MiB` or `2GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

/// Why a string is not an amount of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount of bytes: write it like \"512MiB\" or \"2GiB\"")]
pub struct BadSize(String);

/// The units of [`Size`], in bytes.
const UNITS: [(&str, u64); 5] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("B", 1),
];

/// The permission bits that files made by a hook do not get; at most 0o777.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Umask(u32);

/// Why a string is not a umask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a umask: write it in octal, like \"0027\"")]
pub struct BadUmask(String);

/// What one hook may use at most. What is absent has its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How many files each process may have open; 4096 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// How many processes and threads the user may have, those of the running application counted in;
    /// 4096 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// How large a file may become that it writes; 16GiB where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<Size>,
    /// How much address space each process may have; unlimited where nothing is said, because some
    /// runtimes reserve far more than they use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_space: Option<Size>,
}

/// The least that is taken for each limit: below it no program starts.
const LEAST: Limits = Limits {
    open_files: Some(16),
    processes: Some(8),
    file_size: Some(Size(0)),
    address_space: Some(Size(16 << 20)),
};

// === impl Size ===

impl FromStr for Size {
    type Err = BadSize;
    fn from_str(given: &str) -> Result<Self, BadSize> {
        let bad = || BadSize(given.chars().take(80).collect());
        let (number, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((given.strip_suffix(name)?, *unit)))
            .unwrap_or((given, 1));
        let number: u64 = number.trim().parse().map_err(|_| bad())?;
        number.checked_mul(unit).map(Self).ok_or_else(bad)
    }
}

impl TryFrom<String> for Size {
    type Error = BadSize;
    fn try_from(given: String) -> Result<Self, BadSize> {
        given.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> String {
        size.to_string()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |unit: u64| self.0 >= unit && self.0.is_multiple_of(unit);
        let largest = UNITS.iter().rev().filter(|(_, unit)| fits(*unit));
        let (name, unit) = largest.max_by_key(|(_, unit)| unit).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

// === impl Umask ===

impl Umask {
    /// A umask by its bits; those beyond 0o777 are dropped.
    pub const fn octal(bits: u32) -> Self {
        Self(bits & 0o777)
    }

    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for Umask {
    type Err = BadUmask;
    fn from_str(given: &str) -> Result<Self, BadUmask> {
        let octal = !given.is_empty() && given.chars().all(|c| c.is_digit(8));
        let bits = u32::from_str_radix(given, 8).ok().filter(|_| octal);
        match bits {
            Some(bits) if bits <= 0o777 => Ok(Self(bits)),
            _ => Err(BadUmask(given.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for Umask {
    type Error = BadUmask;
    fn try_from(given: String) -> Result<Self, BadUmask> {
        given.parse()
    }
}

impl From<Umask> for String {
    fn from(umask: Umask) -> String {
        umask.to_string()
    }
}

impl fmt::Display for Umask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

// === impl Limits ===

impl Limits {
    /// What holds where nothing is said.
    pub const DEFAULT: Self = Self {
        open_files: Some(4096),
        processes: Some(4096),
        file_size: Some(Size(16 << 30)),
        address_space: None,
    };

    /// Whether nothing is said.
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses limits below which no program starts.
    ///
    /// # Errors
    /// A sentence that names the key and the least that may be written.
    pub fn validate(&self) -> Result<(), String> {
        for (said, least) in self.keys().into_iter().zip(LEAST.keys()) {
            if let (Some(given), Some(least)) = (said.value, least.value)
                && given < least
            {
                return Err(format!(
                    "`{}` is {}, too little for any program to start: write {} or more",
                    said.name,
                    said.written(given),
                    said.written(least)
                ));
            }
        }
        Ok(())
    }

    /// What holds where `self` is asked for and `most` is allowed: what nobody asked for has its default,
    /// or what is allowed where that is less.
    ///
    /// # Errors
    /// The name of the first key that asks for more than is allowed, and what it asks for, as a file
    /// would say it.
    pub fn within(&self, most: &Self) -> Result<Self, (&'static str, String)> {
        for (asked, most) in self.keys().into_iter().zip(most.keys()) {
            if let (Some(value), Some(most)) = (asked.value, most.value)
                && value > most
            {
                return Err((asked.name, asked.written(value)));
            }
        }
        fn one<T: Ord>(asked: Option<T>, most: Option<T>, default: Option<T>) -> Option<T> {
            match (asked, most, default) {
                (Some(asked), ..) => Some(asked),
                (None, Some(most), Some(default)) => Some(most.min(default)),
                (None, most, default) => most.or(default),
            }
        }
        let default = Self::DEFAULT;
        Ok(Self {
            open_files: one(self.open_files, most.open_files, default.open_files),
            processes: one(self.processes, most.processes, default.processes),
            file_size: one(self.file_size, most.file_size, default.file_size),
            address_space: one(
                self.address_space,
                most.address_space,
                default.address_space,
            ),
        })
    }

    fn keys(&self) -> [Key; 4] {
        let number = |name, value| Key {
            name,
            value,
            bytes: false,
        };
        let bytes = |name, value: Option<Size>| Key {
            name,
            value: value.map(|it| it.0),
            bytes: true,
        };
        [
            number("open_files", self.open_files),
            number("processes", self.processes),
            bytes("file_size", self.file_size),
            bytes("address_space", self.address_space),
        ]
    }
}

/// One limit as a file says it.
struct Key {
    name: &'static str,
    value: Option<u64>,
    bytes: bool,
}

impl Key {
    fn written(&self, value: u64) -> String {
        match self.bytes {
            true => format!("\"{}\"", Size(value)),
            false => value.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_and_umasks_read_as_people_write_them() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("2 GiB", 2 << 30),
            ("100", 100),
            ("0B", 0),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "GiB", "-1", "1GB", "99999999999TiB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
        assert_eq!(Size(3 << 20).to_string(), "3MiB");
        assert_eq!("027".parse(), Ok(Umask::octal(0o027)));
        assert_eq!(Umask::octal(0o027).to_string(), "0027");
        for bad in ["", "8", "1000", "+27", "0o27"] {
            assert!(bad.parse::<Umask>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_nobody_asked_for_has_its_default_and_never_more_than_is_allowed() {
        let asked = |text: &str| crate::text::parse::<Limits>("limits", text).unwrap();
        let nothing = Limits::default();
        assert_eq!(nothing.within(&nothing), Ok(Limits::DEFAULT));
        let most = asked("open_files = 100\naddress_space = \"1GiB\"\nprocesses = 1000000");
        let here = nothing.within(&most).unwrap();
        assert_eq!(here.open_files, Some(100));
        assert_eq!(here.address_space, Some(Size(1 << 30)));
        assert_eq!(here.processes, Limits::DEFAULT.processes);
        let more = asked("address_space = \"2GiB\"");
        assert_eq!(
            more.within(&most),
            Err(("address_space", "\"2GiB\"".to_owned()))
        );
        assert!(asked("open_files = 1").validate().is_err());
        assert!(Limits::DEFAULT.validate().is_ok() && nothing.validate().is_ok());
        assert!(crate::text::parse::<Limits>("limits", "core = 1").is_err());
    }

    proptest! {
        #[test]
        fn sizes_survive_being_written(bytes in any::<u64>(), shift in 0u32..50) {
            let size = Size(bytes >> shift << (shift / 10 * 10));
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
