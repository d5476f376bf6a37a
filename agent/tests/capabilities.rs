//! A root agent gives a file of a release the capabilities that `tamer.toml` lists, where `agent.toml` allows that.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use site::{Agent, a_hosts_site, failure, slot, status};
use std::process::Command;
use tamer_core::desired::ActivationStatus::{Done, Refused};
use tamer_core::desired::{FailureKind, Purpose};

#[tokio::test]
async fn what_is_listed_and_allowed_has_its_capabilities_and_what_is_not_allowed_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        return; // They are a part of root's power.
    }
    let (_dir, mut site) = a_hosts_site();
    site.more = "capabilities = { \"bin/check\" = [\"cap_net_bind_service\"] }\n";
    let listed = site.publish("1.0.0", &[]);
    let mut agent = Agent::start(site.hands()).await;
    let report = agent.grant(1, Some(&listed), Purpose::Forward).await;
    let Refused(why) = status(&report) else {
        panic!("{report:?}")
    };
    assert_eq!(why.kind, FailureKind::NotAllowed);
    let line =
        "agent.toml would need `capabilities = [\"cap_net_bind_service\"]` in [application.shop]";
    assert!(why.message.contains(line), "{}", failure(&report));
    assert_eq!(report.running, None);
    agent.stop().await;

    let allowed = site.config.applications.get_mut(&slot().application);
    allowed.unwrap().capabilities = ["cap_net_bind_service".parse().unwrap()].into();
    let mut agent = Agent::start(site.hands()).await;
    let report = agent.grant(2, Some(&listed), Purpose::Forward).await;
    assert_eq!(*status(&report), Done);
    let bin = site.root().join("current/bin");
    let all = Command::new("getcap").arg("-r").arg(bin).output();
    let all = String::from_utf8(all.expect("getcap (libcap2-bin)").stdout).unwrap();
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 1, "{all}");
    assert!(
        lines[0].contains("/bin/check") && lines[0].ends_with("cap_net_bind_service=ep"),
        "{all}"
    );
    agent.stop().await;
}
