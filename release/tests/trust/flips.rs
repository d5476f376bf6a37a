//! One flipped bit in anything that is served: refused, or the very same result.

use crate::world::{NOW, World, shop};
use proptest::prelude::*;
use tamer_release::trust::Verified;

fn world() -> (World, Verified) {
    let world = World::with_shop();
    let signers = [&world.team[0], &world.team[2]];
    let team = tamer_release::trust::editor::team_root(
        &crate::world::role(&world.team, 2),
        2,
        crate::world::in_days(365),
        &signers,
    );
    world.net.put("team", "2.root.json", team.unwrap());
    world
        .net
        .put("app/shop", "2.root.json", world.root(&shop(), 2));
    let expected = runtime()
        .block_on(world.host("whole").refresh(&shop(), NOW))
        .unwrap();
    (world, expected)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

#[test]
fn a_flipped_bit_changes_nothing_unseen() {
    let (world, expected) = world();
    let whole = world.net.snapshot();
    let files: Vec<_> = whole.keys().cloned().collect();
    let runtime = runtime();
    let case = (0..files.len(), any::<prop::sample::Index>(), 0..8_u8);
    let accepted = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 600,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&case, |(file, at, bit)| {
            let (repository, name) = &files[file];
            world.net.restore(whole.clone());
            world.net.change(repository, name, |mut bytes| {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                bytes
            });
            let _ = std::fs::remove_dir_all(world.dir.path().join("host"));
            let result = runtime.block_on(world.host("host").refresh(&shop(), NOW));
            if let Ok(verified) = result {
                accepted.set(accepted.get() + 1);
                prop_assert_eq!(&verified, &expected);
            }
            Ok(())
        })
        .unwrap();
    // White space and the case of a signature's digits may change; hardly anything else.
    assert!(
        accepted.get() < 200,
        "{} of 600 were accepted",
        accepted.get()
    );
}
