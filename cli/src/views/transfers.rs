//! How far hosts have fetched a release, and how fast it comes.

use super::human::{bytes, count};
use tamer_proto::v1::{TransferRow, TransferSum};

/// One host: `12.3 MB of 80.0 MB, 4.1 MB/s`.
pub(super) fn one(it: &TransferRow) -> String {
    if it.done >= it.total {
        return format!("{} fetched, unpacking", bytes(it.total));
    }
    format!(
        "{} of {}, {}",
        bytes(it.done),
        bytes(it.total),
        rate(it.rate)
    )
}

/// All hosts of a rollout: `5 hosts fetch, 20.5 MB/s, 61.2 MB left`.
pub(super) fn all(it: &TransferSum) -> String {
    let fetch = match it.hosts {
        1 => "fetches",
        _ => "fetch",
    };
    let hosts = count(it.hosts, "host");
    format!(
        "{hosts} {fetch}, {}, {} left",
        rate(it.rate),
        bytes(it.left)
    )
}

fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", bytes(bytes_per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_is_told_of_what_is_fetched() {
        let row = |done, rate| TransferRow {
            done,
            total: 80_000_000,
            rate,
        };
        assert_eq!(
            one(&row(12_300_000, 4_100_000)),
            "12.3 MB of 80.0 MB, 4.1 MB/s"
        );
        assert_eq!(one(&row(0, 0)), "0 B of 80.0 MB, 0 B/s");
        assert_eq!(one(&row(80_000_000, 9)), "80.0 MB fetched, unpacking");
        let sum = |hosts| TransferSum {
            hosts,
            rate: 20_500_000,
            left: 61_200_000,
        };
        assert_eq!(all(&sum(5)), "5 hosts fetch, 20.5 MB/s, 61.2 MB left");
        assert_eq!(all(&sum(1)), "1 host fetches, 20.5 MB/s, 61.2 MB left");
    }
}
