//! What a deployment would do, before anybody asks for it.

use super::databases;
use super::human::{count, harmless, span};
use tamer_proto::v1::{PlanResponse, PlannedRollout, UsualTime};

/// How many hosts of a wave are named.
const NAMED: usize = 6;

/// The whole plan.
pub fn render(plan: &PlanResponse, environment: &str) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {} → {environment} · a plan: nothing is changed",
        plan.application, plan.version
    )];
    let databases = databases::lines(&plan.databases);
    lines.extend(databases.into_iter().map(|line| format!("  {line}")));
    for rollout in &plan.rollouts {
        lines.push(format!("  {}", head(rollout)));
        for wave in &rollout.waves {
            lines.push(format!("    {:<10} {}", wave.name, names(&wave.hosts)));
        }
        if !rollout.leaves.is_empty() {
            let (from, to) = (&rollout.leaves, &rollout.pool);
            let routers = names(&rollout.routers);
            let when = match rollout.promoted {
                true => ", when somebody promotes it",
                false => "",
            };
            lines.push(format!(
                "    {:<10} {routers}: from {from} to {to}{when}",
                "then"
            ));
        }
        if !rollout.left_out.is_empty() {
            let hosts = names(&rollout.left_out);
            lines.push(format!(
                "    {:<10} {hosts}: away or held, they follow later",
                "left out"
            ));
        }
    }
    lines.extend(takes(plan).map(|line| format!("  {line}")));
    let obstacles = plan.obstacles.iter();
    lines.extend(obstacles.map(|what| format!("✗ {}", harmless(what))));
    lines.extend(
        plan.notes
            .iter()
            .map(|note| format!("! {}", harmless(note))),
    );
    lines
}

/// How long it takes: usually, and at least. Nothing where nothing is rolled out.
fn takes(plan: &PlanResponse) -> Option<String> {
    if plan.rollouts.iter().all(|it| it.unchanged) {
        return None;
    }
    let least = format!("at least {} by waves and bakes", span(plan.least_ms));
    let Some(usual) = &plan.usual else {
        return Some(format!(
            "takes {least}; nothing like it was deployed here yet"
        ));
    };
    let UsualTime {
        typical_ms,
        shortest_ms,
        longest_ms,
        of,
    } = *usual;
    let last = match of {
        1 => "as the last one like it here".to_owned(),
        _ => format!(
            "the last {of} like it here: {} to {}",
            span(shortest_ms),
            span(longest_ms)
        ),
    };
    Some(format!(
        "takes about {} ({last}), {least}",
        span(typical_ms)
    ))
}

fn head(rollout: &PlannedRollout) -> String {
    let name = match rollout.pool.as_str() {
        "" | "main" => rollout.component.clone(),
        pool => format!("{}/{pool}", rollout.component),
    };
    if rollout.unchanged {
        return format!("{name} {} · unchanged", rollout.to);
    }
    let from = match rollout.from.as_str() {
        "" => "nothing",
        from => from,
    };
    let hosts: usize = rollout.waves.iter().map(|wave| wave.hosts.len()).sum();
    format!(
        "{name} {from} → {} · {}",
        rollout.to,
        count(hosts as u64, "host")
    )
}

fn names(hosts: &[String]) -> String {
    let mut text = hosts
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if hosts.len() > NAMED {
        text += &format!(" and {} more", hosts.len() - NAMED);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_proto::v1::{DatabaseLine, PlannedWave};

    #[test]
    fn a_plan_is_a_screen() {
        let wave = |name: &str, from: usize, to: usize| PlannedWave {
            name: name.into(),
            hosts: (from..=to).map(|n| format!("web-{n}")).collect(),
        };
        let plan = PlanResponse {
            application: "shop".into(),
            version: "1.4.2".into(),
            rollouts: vec![
                PlannedRollout {
                    component: "worker".into(),
                    to: "1.4.1".into(),
                    unchanged: true,
                    ..Default::default()
                },
                PlannedRollout {
                    component: "web".into(),
                    from: "1.4.1".into(),
                    to: "1.4.2".into(),
                    waves: vec![wave("canary", 1, 1), wave("100 %", 2, 10)],
                    left_out: vec!["web-11".into()],
                    pool: "green".into(),
                    leaves: "blue".into(),
                    routers: vec!["lb-1".into(), "lb-2".into()],
                    ..Default::default()
                },
            ],
            databases: vec![DatabaseLine {
                schema: "main".into(),
                from: Some(41),
                to: 42,
                safe_back: "1.4.0".into(),
                state: "planned".into(),
                before: "web".into(),
                ..Default::default()
            }],
            obstacles: vec!["web 1.3.9 works with main 41, not with 42".into()],
            notes: Vec::new(),
            least_ms: 2_400_000,
            usual: Some(UsualTime {
                typical_ms: 2_520_000,
                shortest_ms: 2_460_000,
                longest_ms: 3_000_000,
                of: 5,
            }),
        };
        insta::assert_snapshot!(render(&plan, "production").join("\n"), @r"
        shop 1.4.2 → production · a plan: nothing is changed
          database 41 → 42, safe back to 1.4.0 · before web
          worker 1.4.1 · unchanged
          web/green 1.4.1 → 1.4.2 · 10 hosts
            canary     web-1
            100 %      web-2, web-3, web-4, web-5, web-6, web-7 and 3 more
            then       lb-1, lb-2: from blue to green
            left out   web-11: away or held, they follow later
          takes about 42m (the last 5 like it here: 41m to 50m), at least 40m by waves and bakes
        ✗ web 1.3.9 works with main 41, not with 42
        ");
    }
}
