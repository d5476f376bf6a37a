//! A TUF client with the command line that the public suite tuf-conformance speaks: `init`, `refresh`,
//! `download`. It is the agent's own workflow over plain files and plain HTTP, for that suite alone;
//! see `deploy-scripts/tuf-conformance`.

#![expect(clippy::print_stderr, reason = "it is a command")]

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use tamer_core::digest::Digest;
use tamer_core::moment::Moment;
use tamer_release::trust::plain::{Plain, quoted};
use tamer_release::trust::workflow::Documents;
use tamer_release::trust::{RepositoryName, Transport, TransportError};

type Failed = Box<dyn Error + Send + Sync>;

const USAGE: &str = "usage: tuf-client --metadata-dir DIR init ROOT
       tuf-client --metadata-dir DIR --metadata-url URL refresh
       tuf-client --metadata-dir DIR --metadata-url URL --target-base-url URL --target-dir DIR
                  --target-name NAME… download";

/// The largest target, in bytes.
const MAX_TARGET: u64 = 64 << 20;

/// How long the other side may be silent.
const SILENCE: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(arguments) = Arguments::parse() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Arguments {
    options: BTreeMap<String, String>,
    names: Vec<String>,
    words: Vec<String>,
}

impl Arguments {
    fn parse() -> Option<Self> {
        let mut parsed = Self::default();
        let mut given = std::env::args().skip(1);
        while let Some(word) = given.next() {
            match word.strip_prefix("--") {
                Some("target-name") => parsed.names.push(given.next()?),
                Some(option) => {
                    parsed.options.insert(option.to_owned(), given.next()?);
                }
                None => parsed.words.push(word),
            }
        }
        Some(parsed)
    }

    fn option(&self, name: &str) -> Result<&str, Failed> {
        let value = self.options.get(name);
        Ok(value.ok_or_else(|| format!("--{name} is missing\n{USAGE}"))?)
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failed> {
    let dir = Path::new(arguments.option("metadata-dir")?);
    let words: Vec<_> = arguments.words.iter().map(String::as_str).collect();
    match words[..] {
        ["init", root] => {
            fs::copy(root, dir.join("root.json"))?;
            Ok(())
        }
        ["refresh" | "download"] => {
            let site = Site(arguments.option("metadata-url")?.to_owned());
            let mut plain = load(dir)?;
            let mut done = plain.refresh(&site, now()).await.map_err(Failed::from);
            if done.is_ok() && words == ["download"] {
                done = download(arguments, &mut plain, &site).await;
            }
            save(dir, &plain)?;
            done
        }
        _ => Err(USAGE.into()),
    }
}

async fn download(arguments: &Arguments, plain: &mut Plain, site: &Site) -> Result<(), Failed> {
    let from = Site(arguments.option("target-base-url")?.to_owned());
    let to = Path::new(arguments.option("target-dir")?);
    for name in &arguments.names {
        let file = plain.find(site, name, now()).await?;
        let path = to.join(quoted(name));
        if fs::read(&path).is_ok_and(|bytes| file.is(&bytes)) {
            continue;
        }
        // Consistent snapshots: the digest stands before the last part of the name.
        let digest = file
            .hashes
            .get("sha256")
            .or_else(|| file.hashes.get("sha512"));
        let digest = digest.ok_or("it has no digest of a kind that is known here")?;
        let mut parts: Vec<_> = name.split('/').map(quoted).collect();
        if let Some(last) = parts.last_mut() {
            *last = format!("{digest}.{last}");
        }
        let found = from.get(&parts.join("/"), file.length.min(MAX_TARGET))?;
        let bytes = found.ok_or("the target is not there")?;
        if !file.is(&bytes) {
            return Err(format!("the bytes of {name} are not the signed ones").into());
        }
        fs::write(path, bytes)?;
    }
    Ok(())
}

fn now() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Moment(u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX))
}

/// The names of what is trusted at the top.
const TOP: [&str; 4] = [
    "root.json",
    "timestamp.json",
    "snapshot.json",
    "targets.json",
];

/// What stands before the names of roles that are delegated to: none is taken for one at the top.
const ROLE: &str = "role.";

fn load(dir: &Path) -> Result<Plain, Failed> {
    let read = |name: &str| match fs::read(dir.join(name)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    };
    let documents = Documents {
        root: read(TOP[0])?.ok_or("there is no root.json: init comes first")?,
        timestamp: read(TOP[1])?,
        snapshot: read(TOP[2])?,
        targets: read(TOP[3])?,
    };
    Ok(Plain::restore(documents, BTreeMap::new())?)
}

fn save(dir: &Path, plain: &Plain) -> Result<(), Failed> {
    let documents = plain.documents().ok_or("nothing is trusted")?;
    let top = [
        Some(documents.root),
        documents.timestamp,
        documents.snapshot,
        documents.targets,
    ];
    for (name, bytes) in TOP.into_iter().zip(top) {
        let path = dir.join(name);
        match bytes {
            Some(bytes) => fs::write(path, bytes)?,
            None if path.exists() => fs::remove_file(path)?,
            None => {}
        }
    }
    for (role, bytes) in plain.delegated() {
        let path: PathBuf = dir.join(format!("{ROLE}{}.json", quoted(role)));
        fs::write(path, bytes)?;
    }
    Ok(())
}

/// A base address, asked one file at a time.
struct Site(String);

impl Site {
    /// A file below, of at most `max` bytes; `None` only if the answer is 404.
    fn get(&self, file: &str, max: u64) -> Result<Option<Vec<u8>>, Failed> {
        let rest = self
            .0
            .strip_prefix("http://")
            .ok_or("only http:// is spoken here")?;
        let (host, path) = rest.split_once('/').ok_or("the address has no path")?;
        let path = path.trim_end_matches('/');
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(SILENCE))?;
        write!(
            stream,
            "GET /{path}/{file} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        // The head is small; whatever is longer than both is cut, and refused by its length.
        stream
            .take(max.saturating_add(8192))
            .read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let body = answer.split_off(end.ok_or("the answer has no end of its head")? + 4);
        let head = String::from_utf8(answer)?;
        match head.split(' ').nth(1) {
            Some("404") => Ok(None),
            Some("200") if body.len() as u64 <= max => Ok(Some(body)),
            Some("200") => Err(format!("{file} has more than {max} bytes").into()),
            _ => Err(format!("the answer for {file} is neither 200 nor 404").into()),
        }
    }
}

#[async_trait]
impl Transport for Site {
    async fn metadata(
        &self,
        _repository: Option<&RepositoryName>,
        file: &str,
        max: u64,
    ) -> Result<Option<Vec<u8>>, TransportError> {
        self.get(file, max).map_err(TransportError::new)
    }

    async fn blob(&self, _digest: &Digest, _max: u64) -> Result<Vec<u8>, TransportError> {
        Err(TransportError::new("targets have names here"))
    }
}
