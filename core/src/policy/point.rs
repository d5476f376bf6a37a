//! Points of approval: after which waves a person decides whether a rollout goes on.

use super::Quantity;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A point of a rollout: `"canary"`, or one of the policy's `steps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Point {
    /// After the canary.
    Canary,
    /// After the wave with which so many hosts are reached.
    Reached(Quantity),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u32),
    Text(String),
}

impl TryFrom<Written> for Point {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(hosts) => Ok(Self::Reached(Quantity::Hosts(hosts))),
            Written::Text(text) if text == "canary" => Ok(Self::Canary),
            Written::Text(text) => text.parse().map(Self::Reached).map_err(|_| {
                let given: String = text.chars().take(80).collect();
                format!("`{given}` is no point of a rollout: write \"canary\", or one of `steps` like \"50%\"")
            }),
        }
    }
}

impl From<Point> for Written {
    fn from(point: Point) -> Self {
        match point {
            Point::Canary => Self::Text(point.to_string()),
            Point::Reached(Quantity::Hosts(hosts)) => Self::Number(hosts),
            Point::Reached(Quantity::Percent(percent)) => Self::Text(format!("{percent}%")),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Canary => f.write_str("canary"),
            Self::Reached(quantity) => quantity.fmt(f),
        }
    }
}
