use super::copy::{snapshot, to_copy};
use super::*;
use std::collections::BTreeMap;
use std::fs;

const NOW: Moment = Moment(1_800_000_000_000);

type Tree = BTreeMap<String, Vec<u8>>;

fn new() -> (tempfile::TempDir, Authorities) {
    let dir = tempfile::tempdir().unwrap();
    Ca::create(dir.path(), NOW).unwrap();
    let all = Authorities::load(dir.path()).unwrap();
    (dir, all)
}

fn shape(all: &Authorities) -> (Phase, Digest, Digest, String) {
    let (issuing, shown) = (all.issuing().fingerprint(), all.shown().fingerprint());
    (all.phase(), issuing, shown, all.trusted())
}

fn files(dir: &Path) -> Tree {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let name = |it: &fs::DirEntry| it.file_name().into_string().unwrap();
    entries
        .map(|it| (name(&it), fs::read(it.path()).unwrap()))
        .collect()
}

fn write(tree: &Tree) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in tree {
        durable::replace(&dir.path().join(name), bytes, 0o600).unwrap();
    }
    dir
}

#[test]
fn a_new_ca_takes_the_place_of_the_old_one_in_three_steps() {
    let (dir, mut all) = new();
    let first = all.shown().fingerprint();
    assert!(matches!(all.show(), Err(RotationError::NoneUnderWay)));
    assert!(matches!(all.finish(), Err(RotationError::NoneUnderWay)));
    all.begin(NOW).unwrap();
    let second = all.issuing().fingerprint();
    assert!(second != first && all.shown().fingerprint() == first);
    assert_ne!(all.issuing().name(), all.shown().name());
    assert!(matches!(all.begin(NOW), Err(RotationError::UnderWay(_))));
    assert_eq!(tls::fingerprints(&all.trusted()).unwrap(), [second, first]);
    all.show().unwrap();
    assert_eq!(
        (all.issuing().fingerprint(), all.shown().fingerprint()),
        (second, second)
    );
    assert_eq!(tls::fingerprints(&all.trusted()).unwrap(), [second, first]);
    // From here on nobody signs with the old key.
    let keys = files(dir.path())
        .into_keys()
        .filter(|it| it.contains("key"));
    assert_eq!(keys.collect::<Vec<_>>(), [CURRENT.key]);
    all.finish().unwrap();
    assert_eq!(tls::fingerprints(&all.trusted()).unwrap(), [second]);
    assert_eq!(all.phase(), Phase::Steady);
    // And once more; all of them are remembered.
    all.begin(NOW).unwrap();
    all.finish().unwrap();
    let ever = ever(dir.path()).unwrap();
    assert!(ever.contains(&first) && ever.contains(&second) && ever.len() == 3);
    assert_eq!(tls::fingerprints(&all.trusted()).unwrap().len(), 1);
}

/// Every state of the files between two steps is read as the phase before or after it, and goes on from there; so
/// is what a mirror has, which removes nothing.
#[test]
fn a_rotation_that_is_cut_off_anywhere_goes_on_where_it_was() {
    let (dir, mut all) = new();
    let first = all.shown().fingerprint();
    let steady = files(dir.path());
    all.begin(NOW).unwrap();
    let (begun, begun_shape) = (files(dir.path()), shape(&all));
    let second = all.issuing().fingerprint();
    all.show().unwrap();
    let (shown, shown_shape) = (files(dir.path()), shape(&all));
    all.finish().unwrap();
    let (done, done_shape) = (files(dir.path()), shape(&all));
    let old = || (OLD.to_owned(), begun[CURRENT.certificate].clone());
    let (key, cert) = (
        || (NEXT.key.to_owned(), begun[NEXT.key].clone()),
        || (NEXT.certificate.to_owned(), begun[NEXT.certificate].clone()),
    );
    let moved = || (CURRENT.key.to_owned(), begun[NEXT.key].clone());
    let with = |base: &Tree, more: Vec<(String, Vec<u8>)>, less: &[&str]| {
        let mut tree = base.clone();
        tree.extend(more);
        tree.retain(|name, _| !less.contains(&name.as_str()));
        tree
    };
    for (tree, expected) in [
        // `begin` has only written the key.
        (with(&steady, vec![key()], &[]), None),
        // `show`, after its first and its second step.
        (with(&begun, vec![old()], &[]), Some(&begun_shape)),
        (
            with(&begun, vec![old(), moved()], &[NEXT.key]),
            Some(&shown_shape),
        ),
        // `finish`, after its first step.
        (with(&done, vec![old()], &[]), Some(&done_shape)),
        // The same in a mirror.
        (with(&begun, vec![old(), moved()], &[]), Some(&shown_shape)),
        (with(&shown, vec![key(), cert()], &[]), Some(&shown_shape)),
        (
            with(&done, vec![old(), key(), cert()], &[]),
            Some(&done_shape),
        ),
    ] {
        let names: Vec<_> = tree.keys().collect();
        let dir = write(&tree);
        let mut all = Authorities::load(dir.path()).unwrap();
        match expected {
            Some(expected) => assert_eq!(&shape(&all), expected, "{names:?}"),
            None => assert_eq!(
                (all.phase(), shape(&all).1),
                (Phase::Steady, first),
                "{names:?}"
            ),
        }
        let again = Authorities::load(dir.path()).unwrap();
        assert_eq!(shape(&again), shape(&all), "{names:?}");
        // It goes on to its end from there.
        if shape(&all).1 == first {
            all.begin(NOW).unwrap();
        }
        if all.phase() != Phase::Steady {
            all.finish().unwrap();
        }
        assert_eq!(all.phase(), Phase::Steady, "{names:?}");
        assert!(expected.is_none() || all.issuing().fingerprint() == second);
    }
}

/// A copy that is cut off after any of its files has a CA that issues, and a rotation of it goes on to the end.
#[test]
fn a_copy_that_is_cut_off_anywhere_is_of_use() {
    let (dir, mut all) = new();
    let mut moments = vec![(snapshot(dir.path()).unwrap(), shape(&all))];
    for step in [
        |all: &mut Authorities| all.begin(NOW),
        Authorities::show,
        Authorities::finish,
    ] {
        step(&mut all).unwrap();
        moments.push((snapshot(dir.path()).unwrap(), shape(&all)));
    }
    for (n, (before, _)) in moments.iter().enumerate() {
        for (m, (after, whole)) in moments.iter().enumerate().skip(n) {
            let writes = to_copy(after.clone(), before);
            for cut in 0..=writes.len() {
                let mut there = before.clone();
                there.extend(writes[..cut].iter().cloned());
                let case = format!("{n} to {m}, {cut}: {:?}", there.keys());
                let bytes = |(name, text): (&str, String)| (name.to_owned(), text.into());
                let dir = write(&there.into_iter().map(bytes).collect());
                let mut all = Authorities::load(dir.path()).expect(&case);
                if cut == writes.len() {
                    assert_eq!(&shape(&all), whole, "{case}");
                }
                if all.phase() == Phase::Steady {
                    all.begin(NOW).expect(&case);
                }
                all.finish().expect(&case);
                let trusted = tls::fingerprints(&all.trusted()).unwrap();
                assert_eq!(trusted, [all.issuing().fingerprint()], "{case}");
            }
        }
    }
    // The whole of it, file by file.
    let mirror = tempfile::tempdir().unwrap();
    copy(dir.path(), mirror.path()).unwrap();
    assert_eq!(files(mirror.path()), files(dir.path()));
}
