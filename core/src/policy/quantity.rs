//! How many hosts: a number, or a share.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A number of hosts: as such (`3`), or as a share (`"25%"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "QuantityText", into = "QuantityText")]
pub enum Quantity {
    /// So many hosts.
    Hosts(u32),
    /// So many percent of the hosts, 0 to 100.
    Percent(u8),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum QuantityText {
    Number(u32),
    Text(String),
}

impl TryFrom<QuantityText> for Quantity {
    type Error = String;
    fn try_from(text: QuantityText) -> Result<Self, String> {
        match text {
            QuantityText::Number(hosts) => Ok(Self::Hosts(hosts)),
            QuantityText::Text(text) => text.parse(),
        }
    }
}

impl From<Quantity> for QuantityText {
    fn from(quantity: Quantity) -> Self {
        match quantity {
            Quantity::Hosts(hosts) => Self::Number(hosts),
            Quantity::Percent(percent) => Self::Text(format!("{percent}%")),
        }
    }
}

impl FromStr for Quantity {
    type Err = String;
    fn from_str(given: &str) -> Result<Self, String> {
        let bad =
            || format!("`{given}` is not a number of hosts: write 3, or a share like \"25%\"");
        match given.strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent) if percent <= 100 => Ok(Self::Percent(percent)),
                _ => Err(bad()),
            },
            None => given.trim().parse().map(Self::Hosts).map_err(|_| bad()),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hosts(1) => f.write_str("1 host"),
            Self::Hosts(hosts) => write!(f, "{hosts} hosts"),
            Self::Percent(percent) => write!(f, "{percent} %"),
        }
    }
}

impl Quantity {
    /// Of `total` hosts, rounded up, never more than `total`: for waves, where a started host is a whole one.
    pub fn rounded_up(self, total: u32) -> u32 {
        match self {
            Self::Hosts(hosts) => hosts.min(total),
            Self::Percent(percent) => share(total, percent).div_ceil(100) as u32,
        }
    }

    /// Of `total` hosts, rounded down, never more than `total`: for budgets, where a part of a host is none.
    pub fn rounded_down(self, total: u32) -> u32 {
        match self {
            Self::Hosts(hosts) => hosts.min(total),
            Self::Percent(percent) => (share(total, percent) / 100) as u32,
        }
    }

    pub(super) fn is_zero(self) -> bool {
        matches!(self, Self::Hosts(0) | Self::Percent(0))
    }
}

fn share(total: u32, percent: u8) -> u64 {
    u64::from(total) * u64::from(percent)
}
