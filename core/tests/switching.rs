//! Generated histories of routers: some come late, report late or never, fail, or are changed by hand; people turn
//! back and abort; the controller restarts and is restored from old copies. The promises are checked after every
//! event from books of the world's own; then the world turns friendly, and every switch must end.

#![expect(clippy::unwrap_used, reason = "a test may fail that way")]

#[path = "switching/rules.rs"]
mod rules;
#[path = "switching/world.rs"]
mod world;

use proptest::prelude::*;
use world::World;

/// One thing that happens. Numbers choose a router, a message, a pool, by their remainder.
#[derive(Debug, Clone)]
enum Op {
    Tell(usize),
    Obey(usize),
    Report(usize),
    Arrive(usize),
    Round(usize),
    Connect(usize),
    Disconnect(usize),
    Break(usize, bool),
    Mute(usize, bool),
    Refuse(usize, bool),
    ByHand(usize, usize),
    Weigh(usize, bool),
    Tick(u64),
    Deploy,
    Back(usize),
    AskBack,
    Abort,
    Promote,
    Restart,
    Keep,
    Restore,
    Add,
    Remove(usize),
    Rebuild(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..16usize;
    let flag = any::<bool>;
    prop_oneof![
        4 => n.clone().prop_map(Op::Tell),
        4 => n.clone().prop_map(Op::Obey),
        4 => n.clone().prop_map(Op::Report),
        4 => n.clone().prop_map(Op::Arrive),
        24 => n.clone().prop_map(Op::Round),
        3 => n.clone().prop_map(Op::Connect),
        2 => n.clone().prop_map(Op::Disconnect),
        1 => (n.clone(), flag()).prop_map(|(n, f)| Op::Break(n, f)),
        1 => (n.clone(), flag()).prop_map(|(n, f)| Op::Mute(n, f)),
        1 => (n.clone(), flag()).prop_map(|(n, f)| Op::Refuse(n, f)),
        1 => (n.clone(), n.clone()).prop_map(|(n, p)| Op::ByHand(n, p)),
        3 => (n.clone(), flag()).prop_map(|(n, f)| Op::Weigh(n, f)),
        5 => (0..100u64).prop_map(Op::Tick),
        8 => Just(Op::Deploy),
        2 => n.clone().prop_map(Op::Back),
        2 => Just(Op::AskBack),
        1 => Just(Op::Abort),
        4 => Just(Op::Promote),
        1 => Just(Op::Restart),
        1 => Just(Op::Keep),
        1 => Just(Op::Restore),
        1 => Just(Op::Add),
        1 => n.clone().prop_map(Op::Remove),
        1 => n.prop_map(Op::Rebuild),
    ]
}

fn play(world: &mut World, op: &Op) {
    match op {
        Op::Tell(n) => world.tell(*n),
        Op::Obey(n) => world.obey(*n),
        Op::Report(n) => world.report(*n),
        Op::Arrive(n) => world.arrive(*n),
        Op::Round(n) => world.round(*n),
        Op::Connect(n) => world.connect(*n),
        Op::Disconnect(n) => world.disconnect(*n),
        Op::Break(n, broken) => world.with(*n, |it| it.broken = *broken),
        Op::Mute(n, mute) => world.with(*n, |it| it.mute = *mute),
        Op::Refuse(n, refuses) => world.with(*n, |it| it.refuses = *refuses),
        Op::ByHand(n, pool) => world.by_hand(*n, *pool),
        Op::Weigh(pool, fit) => world.weigh(*pool, *fit),
        Op::Tick(seconds) => world.tick(*seconds),
        Op::Deploy => world.deploy(),
        Op::Back(pool) => world.back(*pool),
        Op::AskBack => world.ask_back(),
        Op::Abort => world.abort(),
        Op::Promote => world.promote(),
        Op::Restart => world.restart(),
        Op::Keep => world.keep(),
        Op::Restore => world.restore(),
        Op::Add => world.add(),
        Op::Remove(n) => world.remove(*n),
        Op::Rebuild(n) => world.rebuild(*n),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_and_every_switch_ends(
        routers in 1..5usize,
        bake in 0..90u64,
        accepts in any::<bool>(),
        approval in any::<bool>(),
        ops in prop::collection::vec(op(), 0..120),
    ) {
        let mut world = World::new(routers, bake, accepts);
        world.ask(approval);
        for op in &ops {
            play(&mut world, op);
        }
        world.end_well();
    }
}
