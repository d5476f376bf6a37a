//! `[build]` of `tamer.toml`: how releases are made from a commit, and what must hold before they are.

use crate::application::is_inside;
use crate::evidence::EvidenceKind;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How an application is built: lines for a shell, run in a clean checkout in the order in which they stand here.
/// The first that fails ends it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildSpec {
    /// Looks at the sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lint: Option<String>,
    /// Tests single units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Tests the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// Makes what the components' `files` name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Tests what was built: what it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub functional: Option<String>,
    /// Tests what was built: whether it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceptance: Option<String>,
    /// The JUnit files that a command writes, from which tests are counted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub results: BTreeMap<EvidenceKind, BTreeSet<String>>,
    /// Variables of the environment that the commands get as they are; all others are fixed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub keep: BTreeSet<String>,
}

/// Variables that every build has a value of its own for.
pub const FIXED: [&str; 8] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "TZ",
    "SOURCE_DATE_EPOCH",
    "TAMER_VERSION",
    "TAMER_COMMIT",
];

impl BuildSpec {
    /// The commands that there are, in the order in which they run.
    pub fn commands(&self) -> Vec<(EvidenceKind, &str)> {
        let all = [
            (EvidenceKind::Lint, &self.lint),
            (EvidenceKind::Unit, &self.unit),
            (EvidenceKind::Test, &self.test),
            (EvidenceKind::Build, &self.build),
            (EvidenceKind::Functional, &self.functional),
            (EvidenceKind::Acceptance, &self.acceptance),
        ];
        let there = all.into_iter();
        let there = there.filter_map(|(kind, line)| Some((kind, line.as_deref()?)));
        there.collect()
    }

    /// Refuses commands that do nothing, and results of commands that are not there.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let commands = self.commands();
        if let Some((kind, _)) = commands.iter().find(|(_, line)| line.trim().is_empty()) {
            return Err(format!("`{kind}` is empty: leave it out"));
        }
        for (kind, files) in &self.results {
            if !kind.is_result() || !commands.iter().any(|(there, _)| there == kind) {
                return Err(format!("`results` of `{kind}`, which is not run here"));
            }
            if let Some(file) = files.iter().find(|file| !is_inside(file)) {
                return Err(format!(
                    "`results`: `{file}` must be a relative path in the checkout"
                ));
            }
        }
        for name in &self.keep {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!("`keep`: `{name}` is not the name of a variable"));
            }
            if FIXED.contains(&name.as_str()) {
                return Err(format!("`keep`: every build sets {name} by itself"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::Application;

    const PLAIN: &str =
        "application = \"shop\"\n[component.web]\nfiles = \"web\"\nroot = \"/srv/shop/web\"\n";

    fn parse(build: &str) -> Result<BuildSpec, String> {
        let read = Application::parse("tamer.toml", &format!("{PLAIN}[build]\n{build}"));
        read.map(|it| it.build.unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn lint_comes_before_test_before_build_however_they_are_written() {
        let spec = parse("build = \"b\"\nfunctional = \"f\"\ntest = \"t\"\nlint = \"l\"").unwrap();
        let order: Vec<_> = spec.commands().iter().map(|(_, line)| *line).collect();
        assert_eq!(order, ["l", "t", "b", "f"]);
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        for (text, reason) in [
            ("tset = \"x\"", "did you mean `test`?"),
            ("test = \" \"", "is empty"),
            ("results = { test = [\"junit.xml\"] }", "not run here"),
            (
                "build = \"x\"\nresults = { build = [\"junit.xml\"] }",
                "not run here",
            ),
            (
                "test = \"x\"\nresults = { test = [\"../x\"] }",
                "relative path",
            ),
            ("keep = [\"PATH\"]", "sets PATH by itself"),
            ("keep = [\"A B\"]", "not the name of a variable"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
    }
}
