//! Pools and routers: which pool is used, whether the other one could be, and what each router does.

use super::human::{count, harmless};
use tamer_proto::v1::{PoolRow, RolloutStatus, RouterHostRow, RouterRow};

/// Every component that has pools, a few lines each.
pub fn lines(routers: &[RouterRow]) -> Vec<String> {
    routers.iter().flat_map(of_component).collect()
}

fn of_component(router: &RouterRow) -> Vec<String> {
    let what = format!(
        "{} {}/{}",
        router.environment, router.application, router.component
    );
    let used = match router.unsettled.as_str() {
        "" => format!("pool {} is used", router.active),
        why => format!("which pool is used is not known: {}", harmless(why)),
    };
    let mut lines = vec![format!("{what} · {used}")];
    lines.extend(router.pools.iter().map(|pool| of_pool(router, pool)));
    lines.extend(router.hosts.iter().map(of_host));
    lines
}

fn of_pool(router: &RouterRow, pool: &PoolRow) -> String {
    let version = match pool.version.as_str() {
        "" => "nothing",
        version => version,
    };
    let role = match (router.unsettled.is_empty(), pool.pool == router.active) {
        (false, _) => "",
        (true, true) => "used",
        (true, false) => "idle",
    };
    let serve = format!("{}/{} serve", pool.serving, pool.hosts);
    let why = match pool.unfit.as_str() {
        "" => String::new(),
        why => format!("  {}", harmless(why)),
    };
    format!(
        "  pool {:<8} {version:<10} {serve:<12} {role}{why}",
        pool.pool
    )
    .trim_end()
    .to_owned()
}

fn of_host(host: &RouterHostRow) -> String {
    let to = match host.sends_to.as_str() {
        "" => "cannot tell where it sends".to_owned(),
        pool => format!("→ {pool}"),
    };
    let away = if host.state == "away" { "  away" } else { "" };
    let (sign, problem) = match host.problem.as_str() {
        "" => ("  ", String::new()),
        what => ("✗ ", format!("  {}", harmless(what))),
    };
    format!("{sign}router {:<14} {to}{away}{problem}", host.host)
}

/// Whether this is a switch of routers, and no rollout.
pub(super) fn is_switch(rollout: &RolloutStatus) -> bool {
    !rollout.leaves.is_empty()
}

/// `web blue → green · 2 routers`
pub(super) fn head(rollout: &RolloutStatus) -> String {
    let mut line = format!(
        "{} {} → {}",
        rollout.component, rollout.leaves, rollout.pool
    );
    match rollout.total {
        0 => line += " · its routers",
        n => line += &format!(" · {}", count(n, "router")),
    }
    line
}

/// How far a switch is.
pub(super) fn progress(rollout: &RolloutStatus) -> Vec<String> {
    let there = rollout
        .hosts
        .iter()
        .filter(|host| host.running == rollout.pool);
    let there = format!("{}/{}", there.count(), rollout.total);
    let mut lines = vec![format!(
        "{:<10} {there:<8} send to {}",
        "routers", rollout.pool
    )];
    let going = matches!(rollout.state.as_str(), "running" | "rolling back");
    let waits = rollout.waiting_on.iter().filter(|_| going);
    lines.extend(waits.map(|what| format!("waits for {}", harmless(what))));
    if !rollout.cause.is_empty() {
        lines.push(format!("✗ {}", harmless(&rollout.cause)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(pool: &str, version: &str, serving: u32, unfit: &str) -> PoolRow {
        PoolRow {
            pool: pool.into(),
            version: version.into(),
            hosts: 4,
            serving,
            unfit: unfit.into(),
        }
    }

    fn host(host: &str, sends_to: &str, problem: &str) -> RouterHostRow {
        RouterHostRow {
            host: host.into(),
            state: "connected".into(),
            sends_to: sends_to.into(),
            problem: problem.into(),
        }
    }

    #[test]
    fn pools_and_routers_are_a_few_lines() {
        let mut row = RouterRow {
            environment: "production".into(),
            application: "shop".into(),
            component: "web".into(),
            active: "green".into(),
            pools: vec![
                pool(
                    "blue",
                    "1.4.1",
                    3,
                    "web-3 is away (3 of 4 hosts serve 1.4.1, 0 may be missing)",
                ),
                pool("green", "1.4.2", 4, ""),
            ],
            hosts: vec![
                host("lb-1", "green", ""),
                host("lb-2", "blue", "sends to blue: it was changed by hand"),
            ],
            unsettled: String::new(),
            deadline: "1m".into(),
        };
        insta::assert_snapshot!(lines(&[row.clone()]).join("\n"), @r"
        production shop/web · pool green is used
          pool blue     1.4.1      3/4 serve    idle  web-3 is away (3 of 4 hosts serve 1.4.1, 0 may be missing)
          pool green    1.4.2      4/4 serve    used
          router lb-1           → green
        ✗ router lb-2           → blue  sends to blue: it was changed by hand
        ");
        row.unsettled = "the router lb-1 has not said what it does".into();
        assert_eq!(
            lines(&[row])[0],
            "production shop/web · which pool is used is not known: the router lb-1 has not said what it does"
        );
    }

    #[test]
    fn a_switch_is_a_line_and_how_far_it_is() {
        let mut rollout = RolloutStatus {
            component: "web".into(),
            pool: "green".into(),
            leaves: "blue".into(),
            state: "running".into(),
            total: 2,
            waiting_on: vec!["lb-2 to send to green".into()],
            ..RolloutStatus::default()
        };
        rollout.hosts = ["green", "blue"]
            .map(|running| tamer_proto::v1::RolloutHost {
                running: running.into(),
                ..Default::default()
            })
            .to_vec();
        assert_eq!(head(&rollout), "web blue → green · 2 routers");
        insta::assert_snapshot!(progress(&rollout).join("\n"), @r"
        routers    1/2      send to green
        waits for lb-2 to send to green
        ");
    }
}
