//! What is looked at beside what is measured, each in a thread of its own.

use crate::fleet::Gauges;
use anyhow::{anyhow, bail};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it is asked how many grants are open: a thousandth part of the controller's time, about.
const ASK: Duration = Duration::from_millis(5);

/// Waits until 99 % of the hosts that were granted something have answered and that is durable: the controller's gauge
/// of open grants is set after each commit.
pub struct Answers {
    over: Arc<AtomicBool>,
    looking: JoinHandle<anyhow::Result<Option<Instant>>>,
}

impl Answers {
    /// Begins to look, before anything is granted to `agents` hosts.
    pub fn await_from(gauges: Gauges, agents: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let looking = std::thread::spawn(move || {
            let mut granted = false;
            while !until.load(Ordering::Relaxed) {
                let open = gauges.read("grants_open")?;
                granted |= open > agents as u64 / 2;
                if granted && open <= agents as u64 / 100 {
                    return Ok(Some(Instant::now()));
                }
                std::thread::sleep(ASK);
            }
            Ok(None)
        });
        Self { over, looking }
    }

    /// When that was; now at the latest, for all have answered.
    ///
    /// # Errors
    /// The controller did not say.
    pub fn most(self) -> anyhow::Result<Instant> {
        let now = Instant::now();
        self.over.store(true, Ordering::Relaxed);
        let seen = self.looking.join();
        let seen = seen.map_err(|_| anyhow!("nobody looked at the grants"))??;
        Ok(seen.unwrap_or(now))
    }
}

/// Counts tries to connect, on the whole machine and second by second: agents', and the few of this program's questions.
pub struct Tries {
    over: Arc<AtomicBool>,
    counting: JoinHandle<anyhow::Result<Vec<u64>>>,
}

impl Tries {
    /// Begins to count.
    pub fn count() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let counting = std::thread::spawn(move || {
            let (begun, mut last) = (Instant::now(), opened()?);
            let mut seconds = Vec::new();
            while !until.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
                let second = usize::try_from(begun.elapsed().as_secs())?;
                seconds.resize(seconds.len().max(second + 1), 0);
                let now = opened()?;
                seconds[second] += now.saturating_sub(last);
                last = now;
            }
            Ok(seconds)
        });
        Self { over, counting }
    }

    /// How many there were in each second since then.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn each_second(self) -> anyhow::Result<Vec<u64>> {
        self.over.store(true, Ordering::Relaxed);
        let counted = self.counting.join();
        counted.map_err(|_| anyhow!("the tries were not counted"))?
    }
}

/// How many TCP connections this machine has tried to open since it started, whoever did.
fn opened() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/net/snmp")?;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp: "));
    let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let mut pairs = names.split(' ').zip(values.split(' '));
    let opens = pairs.find(|(name, _)| *name == "ActiveOpens");
    let Some((_, opens)) = opens else {
        bail!("/proc/net/snmp has no ActiveOpens")
    };
    Ok(opens.parse()?)
}
