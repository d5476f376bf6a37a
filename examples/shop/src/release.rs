//! What this release is: `VERSION` and `shop.conf`, read once at the start.

use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A release's version and settings.
pub(crate) struct Release {
    /// The content of `VERSION`, without the line's end.
    pub(crate) version: String,
    settings: BTreeMap<String, String>,
}

impl Release {
    pub(crate) fn read(dir: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let version = read("VERSION")?.trim().to_owned();
        if version.is_empty() {
            bail!("{}: the version is empty", dir.join("VERSION").display());
        }
        let settings = parse(&read("shop.conf")?).context("shop.conf")?;
        Ok(Self { version, settings })
    }

    /// A setting that the shop cannot do without.
    ///
    /// # Errors
    /// The sentence that a visitor of `/health` reads.
    pub(crate) fn setting(&self, name: &str) -> Result<&str, String> {
        self.settings
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| format!("KeyError: '{name}' (shop.conf of {})", self.version))
    }
}

fn parse(text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut settings = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            bail!("line {}: `{line}` is not `name = value`", number + 1);
        };
        settings.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_missing_ones_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("VERSION"), "1.2.0\n").unwrap();
        fs::write(dir.path().join("shop.conf"), "# x\n\n title = A = B \n").unwrap();
        let release = Release::read(dir.path()).unwrap();
        assert_eq!(release.version, "1.2.0");
        assert_eq!(release.setting("title").unwrap(), "A = B");
        assert_eq!(
            release.setting("payment_url").unwrap_err(),
            "KeyError: 'payment_url' (shop.conf of 1.2.0)"
        );
        fs::write(dir.path().join("shop.conf"), "title\n").unwrap();
        let said = Release::read(dir.path()).err().unwrap();
        assert!(format!("{said:#}").contains("line 1"), "{said:#}");
    }
}
