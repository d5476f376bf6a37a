//! One deployment to forty hosts, for the tests of the views: its canary bakes, or fails and goes back.

use tamer_proto::v1::{
    DeploymentStatus, Failure, RolloutHost, RolloutStatus, TransferRow, TransferSum, WaveStatus,
};

/// A wave.
pub(crate) fn wave(name: &str, total: u32, done: u32, state: &str) -> WaveStatus {
    WaveStatus {
        name: name.into(),
        total,
        done,
        state: state.into(),
        ..Default::default()
    }
}

/// A host.
pub(crate) fn host(name: &str, wave: u32, state: &str) -> RolloutHost {
    RolloutHost {
        host: name.into(),
        wave,
        state: state.into(),
        running: "1.4.1".into(),
        ..Default::default()
    }
}

/// shop 1.4.2 on its way to production, canary baking.
pub(crate) fn baking() -> DeploymentStatus {
    let mut canary = wave("canary", 2, 2, "baking");
    canary.baked_at_ms = 1_000_000 + 552_000;
    DeploymentStatus {
        id: 318,
        environment: "production".into(),
        application: "shop".into(),
        version: "1.4.2".into(),
        purpose: "deploy".into(),
        by: "ci".into(),
        started_ms: 960_000,
        now_ms: 1_000_000,
        state: "running".into(),
        rollouts: vec![RolloutStatus {
            id: 7,
            component: "web".into(),
            pool: "main".into(),
            from: "1.4.1".into(),
            to: "1.4.2".into(),
            state: "running".into(),
            waves: vec![
                canary,
                wave("25 %", 8, 0, "waiting"),
                wave("100 %", 30, 0, "waiting"),
            ],
            hosts: vec![host("web-01", 0, "done"), host("web-02", 0, "done")],
            waiting_on: vec!["the canary's bake".into()],
            staged: 40,
            total: 40,
            archive_bytes: 8_200_000,
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The same, before: three hosts fetch the release, one of them has all of it, and one is fetching for long.
pub(crate) fn fetching() -> DeploymentStatus {
    let mut status = baking();
    let rollout = &mut status.rollouts[0];
    rollout.staged = 1;
    rollout.waves[0] = wave("canary", 2, 0, "rolling");
    rollout.waiting_on = vec!["web-02 to fetch it".into()];
    rollout.hosts = vec![host("web-01", 0, "staged")];
    let all = [
        (2, 8_200_000, 900_000),
        (3, 3_100_000, 1_200_000),
        (4, 0, 0),
    ];
    for (n, done, rate) in all {
        let transfer = TransferRow {
            done,
            total: 8_200_000,
            rate,
        };
        let name = format!("web-{n:02}");
        rollout.hosts.push(RolloutHost {
            transfer: Some(transfer),
            ..host(&name, u32::from(n > 2), "waiting")
        });
    }
    rollout.transfers = Some(TransferSum {
        hosts: 3,
        rate: 2_100_000,
        left: 13_300_000,
    });
    status
}

/// What fails on web-07.
const FAILURE: &str = "check `home` failed after the switch: 500 from http://127.0.0.1:8000/health (expected 200), 3 tries in 30 s";

/// The same, its canary failed and gone back.
pub(crate) fn rolled_back() -> DeploymentStatus {
    let mut status = baking();
    status.state = "rolled back".into();
    status.ended_ms = 1_030_000;
    status.now_ms = 1_030_000;
    status.exit_code = 6;
    let rollout = &mut status.rollouts[0];
    rollout.state = "rolled back".into();
    rollout.cause = format!("web-07: {FAILURE} (1 failed, 0 may)");
    rollout.waiting_on.clear();
    rollout.waves[0] = WaveStatus {
        failed: 1,
        ..wave("canary", 2, 0, "waiting")
    };
    rollout.hosts = vec![
        host("web-01", 0, "back"),
        RolloutHost {
            failure: Some(Failure {
                kind: "check".into(),
                message: FAILURE.into(),
                check: "home".into(),
                output:
                    "Traceback (most recent call last):\n\x1b[31mKeyError: 'PAYMENT_URL'\x1b[0m\n"
                        .into(),
            }),
            ..host("web-07", 0, "failed")
        },
    ];
    let others = (1..=40).filter(|n| ![1, 7].contains(n));
    let others = others.map(|n| host(&format!("web-{n:02}"), if n < 10 { 1 } else { 2 }, "staged"));
    rollout.hosts.extend(others);
    status
}
