//! The audit log against every kind of tampering, and against torn writes.

use super::*;
use proptest::prelude::*;
use std::path::PathBuf;
use tamer_kit::chain::line;
use tamer_kit::hash;

fn entry(n: u64) -> Entry {
    let object = format!("production shop@1.{n}.0");
    Entry {
        reason: n
            .is_multiple_of(2)
            .then(|| "a \"quoted\"\nreason".to_owned()),
        source: Some("192.0.2.7".parse().unwrap()),
        ..Entry::done(Moment(n), "anna".to_owned(), "deploy".to_owned(), object)
    }
}

fn log_of(dir: &Path, n: u64) -> (PathBuf, Head) {
    let path = dir.join("audit.log");
    let mut log = AuditLog::open(&path).unwrap();
    for i in 0..n {
        log.append(&[entry(i)]).unwrap();
    }
    (path, log.head())
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn broken_at(path: &Path, lines: &[String]) -> u64 {
    std::fs::write(path, lines.join("\n") + "\n").unwrap();
    match verify(path, None) {
        Err(ChainError::Broken { source, .. }) => source.line,
        other => panic!("not told: {other:?}"),
    }
}

#[test]
fn a_log_goes_on_after_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let (path, head) = log_of(dir.path(), 3);
    let mut log = AuditLog::open(&path).unwrap();
    assert_eq!(log.head(), head);
    let second = AuditLog::open(&path);
    assert!(matches!(second, Err(ChainError::InUse(_))));
    let head = log.append(&[entry(3), entry(4)]).unwrap();
    assert_eq!(head.line, 5);
    let summary = verify(&path, Some(head)).unwrap();
    assert_eq!(summary.head, head);
    assert_eq!(summary.span, Some((Moment(0), Moment(4))));
    let all = lines(&path);
    let third: serde_json::Value = serde_json::from_str(&all[2]).unwrap();
    assert_eq!(third["entry"]["object"], "production shop@1.2.0");
    assert_eq!(third["entry"]["reason"], "a \"quoted\"\nreason");
}

#[test]
fn removed_moved_inserted_and_changed_lines_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = log_of(dir.path(), 5);
    let all = lines(&path);
    let mut cut = all.clone();
    cut.remove(2);
    assert_eq!(broken_at(&path, &cut), 3);
    assert_eq!(broken_at(&path, &all[1..]), 1);
    let mut moved = all.clone();
    moved.swap(1, 3);
    assert_eq!(broken_at(&path, &moved), 2);
    let mut doubled = all.clone();
    doubled.insert(2, all[1].clone());
    assert_eq!(broken_at(&path, &doubled), 3);
    let mut blank = all.clone();
    blank.insert(2, String::new());
    assert_eq!(broken_at(&path, &blank), 3);
    // Changed, with a hash that agrees again: then the next line does not.
    let mut forged = all.clone();
    let rest = all[2][75..].replace("anna", "mary");
    let hash = hash::sha256(rest.as_bytes());
    forged[2] = format!("{{\"hash\":\"{hash}\",{rest}");
    assert_eq!(broken_at(&path, &forged), 4);
}

#[test]
fn a_cut_end_is_told_to_whoever_kept_the_head() {
    let dir = tempfile::tempdir().unwrap();
    let (path, head) = log_of(dir.path(), 4);
    let all = lines(&path);
    std::fs::write(&path, all[..3].join("\n") + "\n").unwrap();
    assert_eq!(verify(&path, None).unwrap().head.line, 3);
    assert!(verify(&path, Some(head)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_changed_byte_is_told(at: prop::sample::Index, flip in 1u8..) {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = log_of(dir.path(), 4);
        let mut bytes = std::fs::read(&path).unwrap();
        let n = at.index(bytes.len());
        bytes[n] ^= flip;
        std::fs::write(&path, bytes).unwrap();
        prop_assert!(verify(&path, None).is_err(), "byte {n}");
    }

    #[test]
    fn a_torn_end_costs_only_what_was_never_acknowledged(
        torn in prop::sample::Index::arbitrary(), zeros in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (path, head) = log_of(dir.path(), 2);
        let (mut bytes, _) = line(head, &entry(9));
        bytes.truncate(torn.index(bytes.len()));
        if zeros {
            bytes = vec![0; bytes.len()];
            bytes.push(b'\n');
        }
        let mut whole = std::fs::read(&path).unwrap();
        let before = whole.len();
        whole.extend(&bytes);
        std::fs::write(&path, &whole).unwrap();
        let mut log = AuditLog::open(&path);
        if zeros && bytes == b"\n" {
            // An empty line is no torn line: nothing of ours ends so.
            prop_assert!(log.is_err());
            return Ok(());
        }
        let log = log.as_mut().unwrap();
        prop_assert_eq!(log.head(), head);
        prop_assert_eq!(std::fs::metadata(&path).unwrap().len(), before as u64);
        let aside = dir.path().join("audit.log.torn-1");
        prop_assert_eq!(aside.exists(), !bytes.is_empty());
        log.append(&[entry(3)]).unwrap();
        prop_assert_eq!(verify(&path, None).unwrap().head.line, 3);
    }
}

#[test]
fn a_forged_last_line_and_a_long_entry_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = log_of(dir.path(), 2);
    let mut log = AuditLog::open(&path).unwrap();
    let mut long = entry(1);
    long.object = "x".repeat(MAX_LINE);
    assert!(matches!(log.append(&[long]), Err(ChainError::TooLong(_))));
    assert_eq!(log.append(&[entry(2)]).unwrap().line, 3);
    drop(log);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, last) = text.split_at(text.rfind("anna").unwrap());
    std::fs::write(&path, format!("{before}{}", last.replace("anna", "mary"))).unwrap();
    assert!(matches!(
        AuditLog::open(&path),
        Err(ChainError::Broken { .. })
    ));
}
