//! The deployment of DESIGN's screens, for the tests of the views.

use tamer_proto::v1::{DeploymentStatus, Failure, RolloutHost, RolloutStatus, WaveStatus};

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
        failure: None,
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

/// The same, its canary failed and gone back.
pub(crate) fn rolled_back() -> DeploymentStatus {
    let mut status = baking();
    status.state = "rolled back".into();
    status.ended_ms = 1_030_000;
    status.now_ms = 1_030_000;
    status.exit_code = 6;
    let rollout = &mut status.rollouts[0];
    rollout.state = "rolled back".into();
    rollout.cause = "the canary allows no failure: rolled back 2 of 2 hosts to 1.4.1; 38 hosts were never touched".into();
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
                message: "check `home` failed after the switch: 500 from http://127.0.0.1:8000/health (expected 200)".into(),
                check: "home".into(),
                output: "Traceback (most recent call last):\n\x1b[31mKeyError: 'PAYMENT_URL'\x1b[0m\n".into(),
            }),
            ..host("web-07", 0, "failed")
        },
    ];
    status
}
