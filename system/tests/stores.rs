//! Releases that lie in somebody else's store: through the controller, and straight from there. Whoever
//! keeps them need not be trusted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use tamer_system::{App, ENVIRONMENT, Fleet, HostOptions, Store, files};

/// A fleet of two hosts whose releases lie there; 1.0.0 came through the controller, and everything
/// after it comes straight from the store.
fn fleet(url: &str, more: &str, direct: &str) -> Fleet {
    let table = format!("[artifacts]\nurl = \"{url}\"\n{more}");
    let mut fleet = Fleet::with_store(ENVIRONMENT, &table);
    for name in ["web-1", "web-2"] {
        fleet.add(name, &HostOptions::default());
    }
    fleet.publish(&App::version("1.0.0"));
    fleet.all_connected();
    fleet.deploy("1.0.0").ends(0);
    fleet.all_run("1.0.0");
    assert!(!fleet.controller.data("artifacts").exists());

    fleet.controller.daemon.stop();
    let table = format!("{table}direct = \"{direct}\"\n");
    fleet.controller.configure(&table);
    fleet.controller.start();
    fleet.all_connected();
    fleet
}

/// What was published, and how it is fetched straight, with the store away, lying, and well. `asked`
/// stands in the store's log once somebody has come straight to it.
fn straight(fleet: &Fleet, store: &mut Store, asked: &str) {
    let before = files(&store.root);
    // Of several parts, where the store takes parts.
    fleet.publish(&App::version("1.1.0").file("bulk", noise(1, 20 << 20)));
    let mut added = files(&store.root);
    added.retain(|file| !before.contains(file));
    // The archive: what begins as Zstandard does (RFC 8878, 3.1.1).
    added.retain(|file| {
        fs::read(file)
            .unwrap()
            .starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
    });
    let [archive] = &added[..] else {
        panic!("{added:?}")
    };

    store.kill();
    fleet
        .deploy("1.1.0")
        .ends(1)
        .says(&["in the artifact store", "Connection refused"]);
    fleet.all_run("1.0.0");
    store.start();

    // It lies, by a byte.
    let flip = || {
        let mut bytes = fs::read(archive).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(archive, bytes).unwrap();
    };
    assert!(
        !store.log().contains(asked),
        "so far all came through the controller"
    );
    flip();
    fleet.deploy("1.1.0").ends(3).says(&["web-1", "signed"]);
    fleet.all_run("1.0.0");
    flip();
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
    assert!(store.log().contains(asked), "{}", store.log());

    // An archive comes in many ranges, and where it lies is asked at the beginning: by each host, once for each
    // range that it begins with, and perhaps for the manifest.
    fleet.publish(&App::version("1.2.0").file("bulk", noise(2, 48 << 20)));
    let redirects = "tamer_controller_artifact_redirects_total";
    let before = (fleet.controller.counted(redirects), store.log().len());
    fleet.deploy("1.2.0").ends(0);
    let redirects = fleet.controller.counted(redirects) - before.0;
    let ranges = store.log()[before.1..].matches(asked).count();
    assert!((1..=10).contains(&redirects), "{redirects}");
    assert!(ranges >= 20, "{ranges}");
}

/// Bytes that cannot be compressed.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut random = seed;
    let bytes = (0..length).map(|_| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random.to_be_bytes()[0]
    });
    bytes.collect()
}

#[test]
fn releases_lie_in_an_s3_store_and_come_with_urls_that_are_signed_for_a_while() {
    let Some(mut store) = Store::s3() else { return };
    let more = format!(
        "endpoint = \"http://{}\"\nregion = \"us-east-1\"\ncredentials = \"{}\"\n",
        store.address,
        store.beside("s3.toml").display()
    );
    let fleet = fleet("s3://releases/tamer", &more, "presigned");
    assert!(store.root.join("releases/tamer/blobs").is_dir());
    straight(&fleet, &mut store, "X-Amz-Expires=900");
}

#[test]
fn releases_lie_on_a_web_server_and_come_from_a_cache_before_it() {
    let Some(mut store) = Store::web() else {
        return;
    };
    let direct = format!("http://{}/", store.address);
    let fleet = fleet(&format!("http://{}/put", store.address), "", &direct);
    assert!(store.root.join("blobs").is_dir());
    straight(&fleet, &mut store, "GET /blobs/");
}
