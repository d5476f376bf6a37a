//! File capabilities on disk: the extended attribute `security.capability`, as the kernel lays it out
//! (`struct vfs_cap_data` in `linux/capability.h`).
//!
//! ```text
//! revision and flags (4) · permitted 0..31 (4) · inheritable 0..31 (4) · permitted 32..63 (4) · inheritable 32..63 (4)
//!     · revision 3: the user who is root in its namespace (4)
//! ```
//! Numbers are little-endian. Revision 1, of before 2008, has only the first three of them.

use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::Path;
use tamer_core::capability::Capability;

/// The attribute's name.
const NAME: &str = "security.capability";

/// `VFS_CAP_REVISION_2`, and `VFS_CAP_FLAGS_EFFECTIVE`: whoever starts the file has them at once.
const REVISION_2: u32 = 0x0200_0000;
const EFFECTIVE: u32 = 1;

/// The largest attribute that is read, in bytes: that of revision 3.
const MAX: usize = 24;

/// The capabilities as the attribute's value.
pub(crate) fn encoded(capabilities: &BTreeSet<Capability>) -> [u8; 20] {
    let bits = capabilities
        .iter()
        .fold(0_u64, |bits, it| bits | 1 << it.number());
    let numbers = [
        REVISION_2 | EFFECTIVE,
        bits as u32,
        0,
        (bits >> 32) as u32,
        0,
    ];
    let mut value = [0; 20];
    for (into, number) in value.chunks_exact_mut(4).zip(numbers) {
        into.copy_from_slice(&number.to_le_bytes());
    }
    value
}

/// The capabilities of a value like that of [`encoded`]; `None` for every other one: one with inheritable or
/// unknown capabilities, of a namespace, or of no effect until a program asks.
pub(crate) fn decoded(value: &[u8]) -> Option<BTreeSet<Capability>> {
    let number = |n: usize| -> Option<u32> {
        let bytes = value.get(4 * n..4 * n + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if value.len() != 20 || number(0)? != REVISION_2 | EFFECTIVE || number(2)? | number(4)? != 0 {
        return None;
    }
    let bits = u64::from(number(1)?) | u64::from(number(3)?) << 32;
    let all = (0..64).filter(|n| bits >> n & 1 != 0);
    all.map(Capability::numbered).collect()
}

/// Gives a file capabilities. A change of its owner or its content would take them away again.
pub(crate) fn set(file: impl AsFd, capabilities: &BTreeSet<Capability>) -> Result<(), Errno> {
    let value = encoded(capabilities);
    rustix::fs::fsetxattr(file, NAME, &value, rustix::fs::XattrFlags::empty())
}

/// The attribute of an open file; `None`: it has none.
pub(crate) fn of(file: impl AsFd) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = [0; MAX];
    given(rustix::fs::fgetxattr(file, NAME, &mut value), &value)
}

/// The attribute of the file at `path`, which is not followed if it is a link; `None`: it has none.
pub(crate) fn at(path: &Path) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = [0; MAX];
    given(rustix::fs::lgetxattr(path, NAME, &mut value), &value)
}

fn given(read: Result<usize, Errno>, value: &[u8; MAX]) -> Result<Option<Vec<u8>>, Errno> {
    match read {
        Ok(length) => Ok(Some(value[..length.min(MAX)].to_vec())),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
        Err(Errno::RANGE) => Ok(Some(Vec::new())),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_of(names: &[&str]) -> BTreeSet<Capability> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn values_are_those_that_setcap_writes() {
        // `setcap cap_net_bind_service=ep F; getfattr -e hex -n security.capability F`
        let bind = "0100000200040000000000000000000000000000";
        assert_eq!(
            hex::encode(encoded(&set_of(&["cap_net_bind_service"]))),
            bind
        );
        // `setcap cap_chown,cap_bpf=ep F`
        let two = "0100000201000000000000008000000000000000";
        assert_eq!(
            hex::encode(encoded(&set_of(&["cap_chown", "cap_bpf"]))),
            two
        );
        for value in [bind, two] {
            let bytes = hex::decode(value).unwrap();
            let read = decoded(&bytes).unwrap();
            assert_eq!(hex::encode(encoded(&read)), value);
        }
    }

    #[test]
    fn every_other_value_is_none_of_ours() {
        for value in [
            "",
            "01000002",
            // =p, =i, revision 1, revision 3, a capability of tomorrow.
            "0000000200040000000000000000000000000000",
            "0100000200000000000400000000000000000000",
            "010000010004000000000000",
            "010000030004000000000000000000000000000000000000",
            "0100000200000000000000000000008000000000",
        ] {
            assert_eq!(decoded(&hex::decode(value).unwrap()), None, "{value}");
        }
    }
}
