//! File capabilities: a part of root's power that whoever starts a file gets, as `tamer.toml` and `agent.toml`
//! name them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// One capability, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

/// The names by number (`linux/capability.h`, Linux 6.12).
const NAMES: [&str; 41] = [
    "cap_chown",
    "cap_dac_override",
    "cap_dac_read_search",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_setgid",
    "cap_setuid",
    "cap_setpcap",
    "cap_linux_immutable",
    "cap_net_bind_service",
    "cap_net_broadcast",
    "cap_net_admin",
    "cap_net_raw",
    "cap_ipc_lock",
    "cap_ipc_owner",
    "cap_sys_module",
    "cap_sys_rawio",
    "cap_sys_chroot",
    "cap_sys_ptrace",
    "cap_sys_pacct",
    "cap_sys_admin",
    "cap_sys_boot",
    "cap_sys_nice",
    "cap_sys_resource",
    "cap_sys_time",
    "cap_sys_tty_config",
    "cap_mknod",
    "cap_lease",
    "cap_audit_write",
    "cap_audit_control",
    "cap_setfcap",
    "cap_mac_override",
    "cap_mac_admin",
    "cap_syslog",
    "cap_wake_alarm",
    "cap_block_suspend",
    "cap_audit_read",
    "cap_perfmon",
    "cap_bpf",
    "cap_checkpoint_restore",
];

/// Why a word is no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a capability{hint}")]
pub struct BadCapability {
    given: String,
    hint: String,
}

impl Capability {
    /// The capability with this number; `None` where this version of Tamer knows none.
    pub fn numbered(number: u8) -> Option<Self> {
        (usize::from(number) < NAMES.len()).then_some(Self(number))
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }
}

impl FromStr for Capability {
    type Err = BadCapability;
    fn from_str(given: &str) -> Result<Self, BadCapability> {
        if let Some(number) = NAMES.iter().position(|name| *name == given) {
            return Ok(Self(number as u8));
        }
        let near = NAMES
            .iter()
            .max_by(|a, b| strsim::jaro(a, given).total_cmp(&strsim::jaro(b, given)));
        let near = near.filter(|name| strsim::jaro(name, given) > 0.8);
        Err(BadCapability {
            given: given.chars().take(40).collect(),
            hint: near.map_or(String::new(), |name| format!(": did you mean `{name}`?")),
        })
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_kernel_and_near_ones_are_named() {
        // linux/capability.h
        for (number, name) in [
            (0, "cap_chown"),
            (10, "cap_net_bind_service"),
            (40, "cap_checkpoint_restore"),
        ] {
            let it: Capability = name.parse().unwrap();
            assert_eq!((it.number(), it.to_string()), (number, name.to_owned()));
            assert_eq!(Capability::numbered(number), Some(it));
        }
        assert_eq!(Capability::numbered(41), None);
        let said = "cap_net_bind_services".parse::<Capability>().unwrap_err();
        assert!(
            said.to_string()
                .ends_with("did you mean `cap_net_bind_service`?")
        );
        assert!("CAP_CHOWN".parse::<Capability>().is_err());
        assert!("all".parse::<Capability>().is_err());
    }
}
