//! Lies in the bytes of releases.

use super::*;

#[tokio::test]
async fn a_signed_release_under_another_version_is_refused() {
    let (liar, _, one) = Liar::new().await;
    let wrong = ReleaseRef {
        version: "2.0.0".parse().unwrap(),
        ..one
    };
    liar.refuses(&wrong, "trust", "no signed release").await;
}

#[tokio::test]
async fn a_flipped_bit_is_refused_wherever_it_is() {
    let (liar, _, one) = Liar::new().await;
    let path = format!("blobs/{}", one.manifest);
    liar.team.served.fault(path, Fault::Damaged(40));
    liar.refuses(&one, "trust", "not the one that was signed")
        .await;
    for back in [100, 150_000] {
        let (liar, manifest, one) = Liar::new().await;
        // The first frame is known from the manifest, and not fetched.
        let at = usize::try_from(manifest.archive.length).unwrap() - back;
        let (path, _) = liar.team.archive(&manifest);
        liar.team.served.fault(path, Fault::Damaged(at));
        liar.refuses(&one, "trust", "frame ").await;
    }
}

#[tokio::test]
async fn a_wrong_range_is_refused_whatever_it_is_called() {
    for (fault, kind) in [(Fault::WrongRange, "fetch"), (Fault::FalseRange, "trust")] {
        let (mut liar, _, one) = Liar::new().await;
        liar.staged(&one).await;
        // Most of it is there already: what is asked for begins in the middle.
        let (manifest, bytes) = liar.team.pack("2.0.0");
        let two = liar.team.sign("web", "2.0.0", &bytes, 2);
        let (path, _) = liar.team.archive(&manifest);
        liar.team.served.fault(path, fault);
        liar.run(slot("shop", "web"), &two, 1).await;
        liar.refused(kind, "").await;
        liar.holds(&["1.0.0"]);
    }
}

#[tokio::test]
async fn of_an_archive_longer_than_signed_nothing_more_is_kept() {
    let (mut liar, manifest, one) = Liar::new().await;
    let (path, archive) = liar.team.archive(&manifest);
    liar.team.served.fault(path, Fault::Longer);
    liar.staged(&one).await;
    assert!(liar.metrics.fetched_bytes.get() < archive.len() as u64 + 16_384);
    // A manifest that is longer is another one.
    let (liar, _, one) = Liar::new().await;
    let path = format!("blobs/{}", one.manifest);
    liar.team.served.fault(path, Fault::Longer);
    liar.refuses(&one, "fetch", "more than").await;
}

#[tokio::test]
async fn a_page_of_html_is_not_a_release() {
    let (liar, _, one) = Liar::new().await;
    let path = format!("blobs/{}", one.manifest);
    liar.team.served.fault(path, Fault::Html);
    liar.refuses(&one, "trust", "not the one that was signed")
        .await;
    let (liar, manifest, one) = Liar::new().await;
    let (path, _) = liar.team.archive(&manifest);
    liar.team.served.fault(path, Fault::Html);
    liar.refuses(&one, "fetch", "frames are missing").await;
    let (liar, _, one) = Liar::new().await;
    let path = "trust/app/shop/timestamp.json".to_owned();
    liar.team.served.fault(path, Fault::Html);
    liar.refuses(&one, "trust", "timestamp.json is refused")
        .await;
}
