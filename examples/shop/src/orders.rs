//! Orders: one line of JSON each, in a file that survives releases.

use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// How much of the file's end is read to show the latest orders, in bytes.
const TAIL: u64 = 64 << 10;

/// The longest item or name, in bytes.
const MAX_TEXT: usize = 200;

/// An order: who wants what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) item: String,
    pub(crate) name: String,
}

impl Order {
    /// Whether it can be taken: somebody wants something, in few words.
    pub(crate) fn is_whole(&self) -> bool {
        [&self.item, &self.name]
            .iter()
            .all(|text| !text.trim().is_empty() && text.len() <= MAX_TEXT)
    }
}

/// The orders taken so far, by this release and those before it.
pub(crate) struct Orders {
    path: PathBuf,
}

impl Orders {
    /// Keeps orders in `dir`, which is created where it is not there.
    pub(crate) fn new(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self {
            path: dir.join("orders.jsonl"),
        })
    }

    /// Adds an order; once this returns, it is on the disk.
    pub(crate) fn add(&self, order: &Order) -> io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let mut file = self.open()?;
        // One write to a file in append mode: no other order gets in between.
        file.write_all(&line)?;
        file.sync_data()
    }

    /// The latest orders, newest first. A line that was torn by a crash is passed over.
    pub(crate) fn latest(&self, count: usize) -> io::Result<Vec<Order>> {
        let mut file = self.open()?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes)
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str(line).ok())
            .take(count)
            .collect())
    }

    /// Whether orders could be read and written right now. Writing an empty line shows that there is
    /// room, without an order that nobody made.
    pub(crate) fn probe(&self) -> io::Result<()> {
        self.latest(1)?;
        let probe = self.path.with_extension("probe");
        let mut file = File::create(&probe)?;
        file.write_all(b"\n")?;
        file.sync_data()?;
        fs::remove_file(&probe)
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(item: &str) -> Order {
        Order {
            item: item.to_owned(),
            name: "Ada".to_owned(),
        }
    }

    #[test]
    fn orders_survive_and_torn_lines_do_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let orders = Orders::new(dir.path()).unwrap();
        orders.add(&order("tea")).unwrap();
        let mut file = orders.open().unwrap();
        file.write_all(b"{\"item\":\"to\n").unwrap();
        let later = Orders::new(dir.path()).unwrap();
        later.add(&order("cake")).unwrap();
        assert_eq!(later.latest(9).unwrap(), [order("cake"), order("tea")]);
        assert_eq!(later.latest(1).unwrap(), [order("cake")]);
    }

    #[test]
    fn a_data_directory_that_is_gone_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let orders = Orders::new(&dir.path().join("data")).unwrap();
        orders.probe().unwrap();
        fs::remove_dir_all(dir.path().join("data")).unwrap();
        assert!(orders.probe().is_err());
    }

    #[test]
    fn half_an_order_is_none() {
        assert!(order("tea").is_whole());
        assert!(!order(" ").is_whole());
        assert!(!order(&"x".repeat(201)).is_whole());
    }
}
