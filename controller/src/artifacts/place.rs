//! Where releases are stored, as `controller.toml` says it.
//!
//! ```text
//! file:///a/directory           the controller's own disk: the default
//! s3://bucket/prefix            any S3-compatible store
//! https://store.example/path    a server that takes PUT, as nginx does with `dav_methods PUT`
//! ```
//!
//! Nothing that comes from a store is believed: agents verify every byte against signed digests. So
//! agents may fetch straight from the store, or from a CDN before it ([`Direct`]).

use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Where releases are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A bucket of an S3-compatible store.
    S3(S3),
    /// Below a URL without a slash at its end.
    Http(Web),
}

/// A bucket of an S3-compatible store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// What stands before every key; may be empty.
    pub prefix: String,
    /// The store's URL, where it is not Amazon's.
    pub endpoint: Option<String>,
    /// The region, where the environment does not say it.
    pub region: Option<String>,
    /// A file with `access_key_id` and `secret_access_key`; without one, the AWS variables of the
    /// environment or the machine's role count.
    pub credentials: Option<PathBuf>,
    /// A file of certificate authorities that are trusted beside the system's.
    pub ca: Option<PathBuf>,
}

/// A web server that keeps what is PUT there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    /// Its URL.
    pub url: String,
    /// A file of certificate authorities that are trusted beside the system's.
    pub ca: Option<PathBuf>,
}

/// Where agents are sent for a blob.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Direct {
    /// Nowhere: the controller gives it itself.
    #[default]
    No,
    /// To the store, with a URL that is signed for this blob and for a short time.
    Presigned,
    /// Below this URL, without a slash at its end: a store that everybody may read, or a CDN.
    Url(String),
}

/// The `[artifacts]` of `controller.toml`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlaceFile {
    url: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    credentials: Option<PathBuf>,
    ca: Option<PathBuf>,
    direct: Option<String>,
}

// === impl PlaceFile ===

impl PlaceFile {
    /// Judges it: `default` is the directory where no URL is named, relative paths count from `base`.
    ///
    /// # Errors
    /// A sentence that begins with the key.
    pub fn resolve(self, base: &Path, default: PathBuf) -> Result<(Place, Direct), String> {
        let ca = self.ca.map(|ca| base.join(ca));
        let place = match self.url.as_deref().map(split) {
            None => Place::Directory(default),
            Some(Some(("file", path))) => Place::Directory(directory(path)?),
            Some(Some(("s3", rest))) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
                if bucket.is_empty() || !bucket.chars().all(plain) {
                    return Err(format!("artifacts.url: `{bucket}` is no bucket's name"));
                }
                if let Some(endpoint) = &self.endpoint {
                    web(endpoint).map_err(|e| format!("artifacts.endpoint: {e}"))?;
                }
                Place::S3(S3 {
                    bucket: bucket.to_owned(),
                    prefix: prefix.trim_matches('/').to_owned(),
                    endpoint: self.endpoint.clone(),
                    region: self.region.clone(),
                    credentials: self.credentials.as_ref().map(|it| base.join(it)),
                    ca: ca.clone(),
                })
            }
            Some(Some(("http" | "https", _))) => {
                let url = web(self.url.as_deref().unwrap_or_default());
                let url = url.map_err(|e| format!("artifacts.url: {e}"))?;
                Place::Http(Web {
                    url,
                    ca: ca.clone(),
                })
            }
            Some(_) => {
                return Err(format!(
                    "artifacts.url: `{}` is not a place for releases: write file:///a/directory, s3://bucket/prefix or https://server/path",
                    self.url.unwrap_or_default()
                ));
            }
        };
        let s3 = [
            ("endpoint", self.endpoint.is_some()),
            ("region", self.region.is_some()),
            ("credentials", self.credentials.is_some()),
        ];
        match (&place, s3.iter().find(|(_, given)| *given)) {
            (Place::S3(_), _) | (_, None) => {}
            (_, Some((key, _))) => return Err(format!("artifacts.{key}: it is for s3:// alone")),
        }
        if ca.is_some() && matches!(place, Place::Directory(_)) {
            return Err("artifacts.ca: it is for https:// and s3:// alone".to_owned());
        }
        let direct = match self.direct.as_deref() {
            None => Direct::No,
            Some("presigned") if matches!(place, Place::S3(_)) => Direct::Presigned,
            Some("presigned") => {
                return Err("artifacts.direct: only s3:// can sign URLs".to_owned());
            }
            Some(url) => Direct::Url(web(url).map_err(|e| {
                format!("artifacts.direct: {e}; or write \"presigned\" for URLs that are signed for a while")
            })?),
        };
        Ok((place, direct))
    }
}

/// A URL's scheme and what follows.
fn split(url: &str) -> Option<(&str, &str)> {
    url.split_once("://")
}

fn directory(path: &str) -> Result<PathBuf, String> {
    if path.starts_with('/') && !path.contains(['%', '?', '#']) {
        return Ok(PathBuf::from(path));
    }
    Err(format!(
        "artifacts.url: `file://{path}` must be file:// and an absolute path without %, ? and #"
    ))
}

/// A web address to which paths can be added, without a slash at its end.
fn web(url: &str) -> Result<String, String> {
    let parsed = reqwest::Url::parse(url).map_err(|e| format!("`{url}` is not a URL: {e}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(format!("`{url}` must begin with https:// or http://"));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() || !parsed.username().is_empty() {
        return Err(format!("`{url}` must be without ?, # and a password"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_core::text;

    fn read(content: &str) -> Result<(Place, Direct), String> {
        text::parse::<PlaceFile>("controller.toml", content)
            .map_err(|e| e.to_string())?
            .resolve(Path::new("/etc/tamer"), PathBuf::from("/d/artifacts"))
    }

    #[test]
    fn every_kind_of_place_is_told_by_its_url() {
        let default = (Place::Directory("/d/artifacts".into()), Direct::No);
        assert_eq!(read("").unwrap(), default);
        let file = read("url = \"file:///srv/a\"").unwrap().0;
        assert_eq!(file, Place::Directory("/srv/a".into()));
        let (place, direct) = read(
            "url = \"s3://releases/tamer/\"\nendpoint = \"https://s3.internal:9000\"\nregion = \"eu\"\ncredentials = \"s3.toml\"\ndirect = \"presigned\"",
        )
        .unwrap();
        let Place::S3(s3) = place else {
            panic!("{place:?}")
        };
        assert_eq!((&*s3.bucket, &*s3.prefix), ("releases", "tamer"));
        assert_eq!(s3.credentials.unwrap(), Path::new("/etc/tamer/s3.toml"));
        assert_eq!(direct, Direct::Presigned);
        let (place, direct) =
            read("url = \"https://store.example/t/\"\ndirect = \"https://cdn.example/\"").unwrap();
        let web = Web {
            url: "https://store.example/t".to_owned(),
            ca: None,
        };
        assert_eq!(place, Place::Http(web));
        assert_eq!(direct, Direct::Url("https://cdn.example".to_owned()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        for (content, said) in [
            ("url = \"ftp://x\"", "file:///a/directory"),
            ("url = \"/srv\"", "file:///a/directory"),
            ("url = \"file://relative\"", "absolute"),
            ("url = \"s3://\"", "bucket"),
            ("url = \"s3://a b\"", "bucket"),
            ("url = \"https://u:p@x/\"", "password"),
            ("url = \"https://x/?a=b\"", "without ?"),
            ("url = \"s3://b\"\nendpoint = \"x\"", "artifacts.endpoint"),
            ("region = \"eu\"", "artifacts.region: it is for s3://"),
            ("ca = \"ca.pem\"", "artifacts.ca"),
            ("direct = \"presigned\"", "only s3://"),
            ("direct = \"yes\"", "\"presigned\""),
            ("urll = \"s3://b\"", "did you mean `url`?"),
        ] {
            let error = read(content).unwrap_err();
            assert!(error.contains(said), "{content}: {error}");
        }
    }
}
