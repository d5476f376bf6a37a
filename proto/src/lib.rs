//! The wire: the `.proto` files, the code made from them, and the conversion to the words of core.
//!
//! Nothing that comes off the wire is used before [`convert`] has made words of it.

pub mod codec;
pub mod convert;

/// The code made from `proto/tamer/v1/*.proto`; committed, and compared by `tests/generated.rs`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    // Included, so that the formatter leaves it as the generator wrote it.
    include!("generated/tamer.v1.rs");
}

/// The oldest protocol that this code speaks.
pub const PROTOCOL_MIN: u32 = 1;

/// The newest protocol that this code speaks.
pub const PROTOCOL_MAX: u32 = 1;

/// The header by which operators hear which CAs the controller has: the SHA-256 of what a renewal would bring.
pub const AUTHORITIES_HEADER: &str = "tamer-authorities";

/// The largest message in either direction, in bytes: a report of 1,000 components, or a targets file.
pub const MAX_MESSAGE: usize = 8 << 20;
