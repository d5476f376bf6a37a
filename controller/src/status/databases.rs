//! Databases of a deployment, and what a person may do where it stands still.

use crate::fleet::outlook::Database;
use tamer_core::rollout::deployment::Deployment;
use tamer_proto::v1;

/// Whether something is being done to it, or will be.
pub(super) fn is_at_it(database: &Database) -> bool {
    matches!(database.state, "waiting" | "reading" | "up" | "down")
}

/// The state of a deployment that stands still until a person has decided, and what they may type; `application`
/// is the option that names it, where it must be named.
pub(super) fn stuck(
    deployment: &Deployment,
    application: &str,
    rollouts: &[v1::RolloutStatus],
    databases: &[Database],
) -> Option<(&'static str, String)> {
    let environment = &deployment.environment;
    if deployment.ended.is_some() {
        return None;
    }
    if databases.iter().any(|it| it.state == "unknown") {
        let next = format!(
            "tamer schema list {environment} · tamer schema settle {environment} VERSION{application} --reason TEXT"
        );
        return Some(("unknown", next));
    }
    // What frees it is under way.
    if databases.iter().any(is_at_it) {
        return None;
    }
    let frozen = rollouts.iter().any(|rollout| rollout.state == "frozen");
    frozen.then(|| {
        let next = format!(
            "tamer resume {id} · tamer rollback {environment}{application} --with-down --reason TEXT",
            id = deployment.id
        );
        ("frozen", next)
    })
}

/// A database of a deployment.
pub fn database(it: &Database) -> v1::DatabaseLine {
    let (host, since) = it.host.clone().unzip();
    v1::DatabaseLine {
        schema: it.schema.to_string(),
        from: it.from,
        to: it.to,
        safe_back: it.safe_back.clone(),
        no_way_back: it.no_way_back.clone(),
        state: it.state.to_owned(),
        host: host.map_or_else(String::new, |host| host.to_string()),
        before: it
            .before
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        failure: it.failure.as_ref().map(Into::into),
        since_ms: since.map_or(0, |since| since.0),
    }
}
