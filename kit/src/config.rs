//! Configuration files: TOML, read once, refused with the place and the nearest known key.

use crate::durable::read_capped;
use serde::de::DeserializeOwned;
use std::path::Path;
use tamer_core::text;

/// The largest configuration file that is read, in bytes.
pub const MAX_CONFIG: u64 = 1 << 20;

/// Reads the file at `path` as a `T`, which must refuse unknown fields.
///
/// # Errors
/// The file is not there, too large, not UTF-8, or not a `T`.
pub fn load<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let name = path.display().to_string();
    let bytes = read_capped(path, MAX_CONFIG)?
        .ok_or_else(|| anyhow::anyhow!("{name}: there is no such file"))?;
    let content =
        String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("{name}: it is not UTF-8 text"))?;
    Ok(text::parse(&name, &content)?)
}
