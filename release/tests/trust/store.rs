//! A damaged store fails closed: cut or flipped anywhere, it lets nothing old be replayed.

use crate::world::{NOW, World, said, shop};
use tamer_release::trust::TrustError;
use tamer_release::trust::storage::StorageError;

fn is_damaged(error: &TrustError) -> bool {
    matches!(error, TrustError::Storage(StorageError::Damaged { .. }))
}

#[tokio::test]
async fn whatever_is_cut_or_flipped_version_one_is_not_taken_again() {
    let world = World::with_shop();
    let first = world.net.snapshot();
    world.publish(&shop(), vec![world.release_blob("1.1.0")], 2);
    let host = world.host("a");
    host.refresh(&shop(), NOW).await.unwrap();
    world.net.restore(first);

    for repository in [None, Some(&shop())] {
        let path = world.store("a").path(repository);
        let whole = std::fs::read(&path).unwrap();
        assert!(whole.len() > 2000, "{}", whole.len());
        let cut = (0..whole.len())
            .step_by(7)
            .map(|length| whole[..length].to_vec());
        let flipped = (0..whole.len()).step_by(7).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            bytes
        });
        let more = std::iter::once([&whole[..], b"\0"].concat());
        for damaged in cut.chain(flipped).chain(more) {
            std::fs::write(&path, damaged).unwrap();
            let error = host.refresh(&shop(), NOW).await.unwrap_err();
            assert!(is_damaged(&error), "{error}");
            if repository.is_some() {
                assert!(is_damaged(&host.cached(&shop()).unwrap_err()));
            }
        }
        std::fs::write(&path, &whole).unwrap();
        let error = host.refresh(&shop(), NOW).await.unwrap_err();
        assert!(
            said(&error).contains("takes the timestamp back"),
            "{}",
            said(&error)
        );
    }
    // The error names the file and the next step.
    let path = world.store("a").path(Some(&shop()));
    std::fs::write(&path, b"").unwrap();
    let text = said(&host.refresh(&shop(), NOW).await.unwrap_err());
    assert!(
        text.contains(&path.display().to_string()) && text.contains("moved aside"),
        "{text}"
    );
    // And that step works: an absent file starts from the pinned root.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(host.refresh(&shop(), NOW).await.unwrap().targets_version, 1);
}

#[tokio::test]
async fn a_store_under_another_pin_is_refused() {
    let world = World::with_shop();
    world.host("a").refresh(&shop(), NOW).await.unwrap();
    let mut other = World::with_shop();
    other.dir = world.dir;
    let error = other.host("a").refresh(&shop(), NOW).await.unwrap_err();
    assert!(
        said(&error).contains("another trust root"),
        "{}",
        said(&error)
    );
}
