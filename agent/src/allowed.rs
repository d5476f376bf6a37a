//! What a release may touch: its root, its user and its unit, held against `agent.toml`.
//!
//! An agent is root, so releases are not trusted with root: a signature says who made a release, and
//! this says what it may name here. Pure: the host is not looked at.

use crate::config::{Allowed, Config};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tamer_core::application::{ComponentSpec, Hook};
use tamer_core::desired::{Failure, FailureKind, Slot};
use tamer_core::limits::Limits;
use tamer_core::release::Manifest;
use tamer_release::manifest::SUPPORTED_FEATURES;

/// The agent's unit: a component that names it is the agent itself.
pub const AGENT_UNIT: &str = "tamer-agent.service";

/// The hooks that the agent itself may have: it cannot look after its own stop and start.
const AGENT_HOOKS: [Hook; 2] = [Hook::PreActivate, Hook::Validate];

/// Where a component lives on this host, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The install root, with the prefix where there is one.
    pub root: PathBuf,
    /// The user of its hooks, checks and shared files; `None` for the agent's own.
    pub user: Option<String>,
    /// The unit that is restarted at the switch.
    pub unit: Option<String>,
    /// What each of its hooks may use.
    pub limits: Limits,
    /// Whether its hooks may become more than their user.
    pub new_privileges: bool,
}

/// A failure without check and output.
pub(crate) fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure {
        kind,
        message: message.into(),
        check: None,
        output: String::new(),
    }
}

/// Whether this manifest is the one for `slot`, and one that this agent understands.
///
/// # Errors
/// [`FailureKind::Trust`] for another component's manifest, [`FailureKind::Unsupported`] for a feature
/// that this agent lacks.
pub fn fits(slot: &Slot, manifest: &Manifest) -> Result<(), Failure> {
    if (&manifest.application, &manifest.component) != (&slot.application, &slot.component) {
        return Err(failure(
            FailureKind::Trust,
            format!(
                "the release is one of {}/{}, not of {}/{}",
                manifest.application, manifest.component, slot.application, slot.component
            ),
        ));
    }
    let unknown = manifest
        .requires
        .iter()
        .find(|it| !SUPPORTED_FEATURES.contains(&it.as_str()));
    match unknown {
        Some(feature) => Err(failure(
            FailureKind::Unsupported,
            format!(
                "{} {} needs the feature `{feature}`, which this agent lacks: upgrade the agent",
                manifest.component, manifest.version
            ),
        )),
        None => Ok(()),
    }
}

/// The place that `spec` names, if `slot`'s application may use it.
///
/// # Errors
/// [`FailureKind::NotAllowed`] with what `agent.toml` would have to say.
pub fn place(config: &Config, slot: &Slot, spec: &ComponentSpec) -> Result<Place, Failure> {
    let application = &slot.application;
    let refuse = |message: String| Err(failure(FailureKind::NotAllowed, message));
    // Signed manifests come from outside all the same.
    if let Err(reason) = spec.validate() {
        return refuse(format!("{slot}: {reason}"));
    }
    let limits = match spec.limits.within(&config.limits) {
        Ok(limits) => limits,
        Err((key, value)) => {
            return refuse(format!(
                "{slot} wants `{key} = {value}` for its hooks: agent.toml would need that in [limits]"
            ));
        }
    };
    if config.rootless {
        if let Some(unit) = &spec.service {
            return refuse(format!(
                "{slot} names the unit `{unit}`, and a rootless agent restarts no units: \
                 give it `start` and `stop` hooks, or run the agent as root"
            ));
        }
        if let Some(path) = spec.capabilities.keys().next() {
            return refuse(format!(
                "{slot} has capabilities for `{path}`, and a rootless agent can give none: run the agent as root"
            ));
        }
        return Ok(Place {
            root: prefixed(config.root_prefix.as_deref(), &spec.root),
            user: None,
            unit: None,
            limits,
            new_privileges: true,
        });
    }
    let Allowed {
        roots,
        users,
        units,
        new_privileges,
        capabilities,
    } = config.allowed(application);
    let root = prefixed(None, &spec.root);
    if !roots.iter().any(|allowed| root.starts_with(allowed)) {
        return refuse(format!(
            "{slot} wants to live in {}: agent.toml would need `roots = [\"{}\"]` in [application.{application}]",
            root.display(),
            root.display()
        ));
    }
    let user = spec.user.as_deref().unwrap_or(application.as_str());
    if !users.iter().any(|allowed| allowed == user) {
        return refuse(format!(
            "{slot} wants to run as `{user}`: agent.toml would need `users = [\"{user}\"]` in [application.{application}]"
        ));
    }
    let wanted: BTreeSet<_> = spec.capabilities.values().flatten().collect();
    if let Some((path, _)) = spec
        .capabilities
        .iter()
        .find(|it| !it.1.is_subset(&capabilities))
    {
        let names: Vec<String> = capabilities
            .iter()
            .chain(wanted.iter().copied())
            .map(|it| format!("\"{it}\""))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        return refuse(format!(
            "{slot} wants capabilities for `{path}`: agent.toml would need `capabilities = [{}]` in [application.{application}]",
            names.join(", ")
        ));
    }
    if let Some(unit) = &spec.service
        && !units.iter().any(|pattern| matches(pattern, unit))
    {
        return refuse(format!(
            "{slot} wants to restart `{unit}`: agent.toml would need `units = [\"{unit}\"]` in [application.{application}]"
        ));
    }
    if spec.service.as_deref() == Some(AGENT_UNIT)
        && let Some(hook) = spec.hooks.keys().find(|it| !AGENT_HOOKS.contains(it))
    {
        return refuse(format!(
            "{slot} is the agent itself, which systemd stops and starts: it can have no `{hook}` hook"
        ));
    }
    Ok(Place {
        root,
        user: Some(user.to_owned()),
        unit: spec.service.clone(),
        limits,
        new_privileges,
    })
}

/// Whether two components may not live side by side: one root is the other, or lies in it.
pub fn collide(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// `root` below `prefix`, with every doubled or trailing slash gone.
fn prefixed(prefix: Option<&Path>, root: &str) -> PathBuf {
    let mut path = prefix.unwrap_or(Path::new("/")).to_owned();
    path.extend(root.split('/').filter(|part| !part.is_empty()));
    path
}

/// Whether `name` fits `pattern`, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(more: &str) -> Config {
        let least = "controller = \"https://c:1\"\nname = \"h\"\nenvironment = \"e\"\n";
        tamer_core::text::parse("agent.toml", &format!("{least}{more}")).unwrap()
    }

    fn slot() -> Slot {
        Slot {
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: Default::default(),
        }
    }

    fn spec(text: &str) -> ComponentSpec {
        tamer_core::text::parse("spec", &format!("files = \"x\"\n{text}")).unwrap()
    }

    fn refused(config: &Config, text: &str) -> String {
        let failure = place(config, &slot(), &spec(text)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotAllowed);
        failure.message
    }

    #[test]
    fn the_defaults_are_the_applications_own() {
        let here = config("");
        let found = place(
            &here,
            &slot(),
            &spec("root = \"/srv/shop//web/\"\nservice = \"shop-web.service\""),
        );
        assert_eq!(
            found.unwrap(),
            Place {
                root: "/srv/shop/web".into(),
                user: Some("shop".into()),
                unit: Some("shop-web.service".into()),
                limits: Limits::DEFAULT,
                new_privileges: false,
            }
        );
    }

    #[test]
    fn roots_users_and_units_outside_are_refused_with_what_to_write() {
        let here = config("");
        for root in ["/srv/shopkeeper", "/srv", "/etc/shop", "/srv/shop/../bank"] {
            let said = refused(&here, &format!("root = \"{root}\""));
            assert!(said.contains(root), "{said}");
        }
        let said = refused(&here, "root = \"/srv/shop\"\nuser = \"root\"");
        assert!(said.contains("users = [\"root\"]"), "{said}");
        let said = refused(&here, "root = \"/srv/shop\"\nservice = \"sshd.service\"");
        assert!(said.contains("units = [\"sshd.service\"]"), "{said}");
        let said = refused(&here, "root = \"/srv/shop\"\nservice = \"shop.service\"");
        assert!(said.contains("[application.shop]"), "{said}");
    }

    #[test]
    fn a_release_that_wants_more_than_the_host_gives_is_refused_with_what_to_write() {
        let here = config("[limits]\nfile_size = \"1GiB\"\nopen_files = 100\n");
        let wanted = "root = \"/srv/shop\"\nlimits = { file_size = \"2GiB\" }";
        let said = refused(&here, wanted);
        assert!(said.contains("`file_size = \"2GiB\"`"), "{said}");
        assert!(said.contains("[limits]"), "{said}");
        let place = place(&here, &slot(), &spec("root = \"/srv/shop\"")).unwrap();
        assert_eq!(place.limits.open_files, Some(100));
    }

    #[test]
    fn capabilities_are_given_only_where_the_host_says_so() {
        let wanted = "root = \"/srv/shop\"\n[capabilities]\n\"bin/web\" = [\"cap_net_bind_service\", \"cap_net_raw\"]";
        let said = refused(&config(""), wanted);
        assert!(said.contains("`bin/web`"), "{said}");
        let line = "capabilities = [\"cap_net_bind_service\", \"cap_net_raw\"]";
        assert!(said.contains(line), "{said}");
        let some = format!(
            "[application.shop]\nroots = [\"/srv/shop\"]\nusers = [\"shop\"]\n{}\n",
            line.replace(", \"cap_net_raw\"", "")
        );
        assert!(refused(&config(&some), wanted).contains(line));
        let all = config(&some.replace(
            "capabilities = [\"cap_net_bind_service\"]",
            "capabilities = [\"cap_net_raw\", \"cap_net_bind_service\", \"cap_chown\"]",
        ));
        place(&all, &slot(), &spec(wanted)).unwrap();
        let rootless = config("rootless = true");
        assert!(refused(&rootless, wanted).contains("rootless agent"));
    }

    #[test]
    fn rootless_agents_take_any_root_below_their_prefix_and_no_unit() {
        let here = config("rootless = true\nroot_prefix = \"/tmp/one\"");
        let found = place(&here, &slot(), &spec("root = \"/etc/x\"\nuser = \"root\"")).unwrap();
        assert_eq!(found.root, Path::new("/tmp/one/etc/x"));
        assert_eq!(found.user, None);
        assert!(refused(&here, "root = \"/x\"\nservice = \"shop-web.service\"").contains("hooks"));
    }

    #[test]
    fn roots_in_one_another_collide_and_neighbours_do_not() {
        let p = Path::new;
        assert!(collide(p("/srv/shop"), p("/srv/shop/web")));
        assert!(collide(p("/srv/shop/web"), p("/srv/shop/web")));
        assert!(!collide(p("/srv/shop/web"), p("/srv/shop/web2")));
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name, fits) in [
            ("shop-*.service", "shop-web.service", true),
            ("shop-*.service", "shop-.service", true),
            ("shop-*.service", "shop.service", false),
            ("shop-*.service", "shop-web.service.d", false),
            ("a*a", "a", false),
            ("*-*-*", "a-b-c", true),
            ("plain.service", "plain.service", true),
            ("plain.service", "plain.service2", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_fits_every_name_made_from_it(parts in prop::collection::vec("[a-c]{0,3}", 1..5), fill in "[a-c]{0,4}") {
            prop_assert!(matches(&parts.join("*"), &parts.join(&fill)));
        }
    }
}
