//! The pages that come from sources: keys, check types, exit codes, metrics, lifetimes.

use crate::source::{Key, Source, Variant};
use crate::words::{type_name, type_parts};
use std::fmt::Write as _;

/// `docs/reference/configuration.md`; the templates are what the programs write.
pub(crate) fn configuration(tamer: &str, agent: &str, controller: &str) -> String {
    let application = Source::read("core/src/application.rs");
    let schema = Source::read("core/src/schema/spec.rs");
    let environment = Source::read("core/src/environment.rs");
    let router = Source::read("core/src/router.rs");
    let policy = Source::read("core/src/policy.rs");
    let evidence = Source::read("core/src/evidence.rs");
    let config = Source::read("agent/src/config.rs");
    let mut page = String::from(
        "# Configuration\n\n\
         Every file is TOML. An unknown key is refused, with the nearest known one; in `tamer.toml`, environment\n\
         files and `controller.toml` keys that begin with `x-` are yours.\n\n\
         | file | where | what it says |\n|---|---|---|\n\
         | [tamer.toml](#tamertoml) | the application's repository | what it consists of, and what healthy means |\n\
         | [environments/NAME.toml](#environment-files) | where you keep what is reviewed; signed by `tamer env apply` | where it runs, how carefully it changes, what every host must be able to do |\n\
         | [controller.toml](#controllertoml) | the controller, `/etc/tamer/` | where it listens and keeps things |\n\
         | [agent.toml](#agenttoml) | each server, `/etc/tamer/` | which controller, and what applications may touch |\n\n\
         ## Values\n\n\
         - **time**: `10s`, `5m`, `1h 30m`, `250ms`.\n\
         - **hosts**: a number (`3`) or a share of the hosts that run the component (`\"25%\"`).\n\
         - **room**: bytes (`\"512MiB\"`, `\"2GiB\"`) or a share of the file system (`\"10%\"`).\n\
         - **bytes**: `\"512MiB\"`, `\"2GiB\"`.\n\
         - **labels**: a table such as `{ role = \"web\", zone = \"a\" }`. A host must have all of them; `{}` means every host.\n\
         - **versions**: `\"41\"`, `\"41..=42\"`, `\"41..\"` or `\"..=42\"`: versions of a database.\n\
         - **name**: small letters, digits and `-`; at most 63 characters.\n\n\
         ## tamer.toml\n\n`tamer init` writes this:\n\n",
    );
    template(&mut page, tamer);
    page.push_str("\n### At the top\n\n");
    keys(&mut page, &application.keys("Application"));
    page.push_str("\n### `[component.NAME]`\n\n");
    let component = application.keys("ComponentSpec").into_iter();
    // Manifests have it, people write [schema.NAME].
    let component: Vec<_> = component.filter(|key| key.name != "schemas").collect();
    keys(&mut page, &component);
    page.push_str("\nChecks are described in [Check types](checks.md).\n");
    page.push_str(
        "\n### `[component.NAME.limits]`\n\nWhat each hook may use. `[limits]` in [agent.toml](#agenttoml) takes the same keys: no release may ask for\n\
         more than stands there. No hook dumps core.\n\n",
    );
    keys(
        &mut page,
        &Source::read("core/src/limits.rs").keys("Limits"),
    );
    page.push_str(
        "\n### `[build]`\n\nWhat `tamer build` runs: see [Evidence](../evidence.md).\n\n",
    );
    keys(
        &mut page,
        &Source::read("core/src/build.rs").keys("BuildSpec"),
    );
    page.push_str("\n### `[schema.NAME]`\n\nA database of the application: see [Databases](../databases.md).\n\n");
    keys(&mut page, &schema.keys("SchemaSpec"));
    files(&mut page);
    page.push_str("\n### Hooks\n\nIn the order in which they run:\n\n");
    words(&mut page, "hook", &application.variants("Hook"));
    hooks(&mut page);
    page.push_str(
        "\n## Environment files\n\nThe file's name is the environment's: `environments/production.toml`.\n\n",
    );
    keys(&mut page, &environment.keys("Environment"));
    page.push_str("\n### `[policy]`\n\n");
    keys(&mut page, &policy.keys("Policy"));
    page.push_str("\n### on_failure\n\n");
    words(&mut page, "word", &policy.variants("OnFailure"));
    page.push_str("\n### on_drift\n\n");
    words(&mut page, "word", &policy.variants("OnDrift"));
    page.push_str("\n### `[auto]`\n\nSee [Environments that follow](../environments.md#environments-that-follow).\n\n");
    let auto = Source::read("core/src/auto/mod.rs");
    keys(&mut page, &auto.keys("Auto"));
    page.push_str("\n### every\n\n");
    words(&mut page, "word", &auto.variants("Every"));
    page.push_str("\n### `[[window]]`\n\nSee [Windows and freezes](../environments.md#windows-and-freezes).\n\n");
    keys(
        &mut page,
        &Source::read("core/src/calendar/window.rs").keys("Text"),
    );
    page.push_str("\n### `[[freeze]]`\n\n");
    keys(
        &mut page,
        &Source::read("core/src/calendar/freeze.rs").keys("Text"),
    );
    page.push_str("\n### `[router.\"APPLICATION/COMPONENT\"]`\n\nPools, and what they are for: see [Blue-green](../blue-green.md).\n\n");
    keys(&mut page, &router.keys("RouterSpec"));
    page.push_str("\n### `[evidence]`\n\n");
    keys(&mut page, &evidence.keys("Demanded"));
    page.push_str("\n### `[evidence.keys.NAME]`\n\nWhose statements count, and about what: see [Evidence](../evidence.md).\n\n");
    keys(&mut page, &evidence.keys("EvidenceKey"));
    page.push_str("\n### `[approval]`\n\n");
    keys(&mut page, &evidence.keys("Approval"));
    page.push_str("\n### `[approval.keys.NAME]`\n\n");
    keys(&mut page, &evidence.keys("ApprovalKey"));
    page.push_str("\n### evidence\n\n");
    words(&mut page, "kind", &evidence.variants("EvidenceKind"));
    page.push_str(
        "\n## controller.toml\n\n`tamer-controller init` writes this; every key is in it:\n\n",
    );
    template(&mut page, controller);
    page.push_str("\n## agent.toml\n\n`tamer-agent enroll` writes this:\n\n");
    template(&mut page, agent);
    page.push('\n');
    keys(&mut page, &config.keys("Config"));
    page.push_str("\n### `[application.NAME]`\n\n");
    keys(&mut page, &config.keys("Allowed"));
    page
}

/// `docs/reference/checks.md`
pub(crate) fn checks() -> String {
    let source = Source::read("core/src/check.rs");
    let mut page = String::from(
        "# Check types\n\n\
         A check is a table `[checks.NAME]` in an environment file, which every host there must pass, or\n\
         `[component.NAME.checks.NAME]` in `tamer.toml`, which must hold after the switch. Its `type` says which other\n\
         keys it has. Texts may name the host's variables (`[variables]` in `agent.toml`) as `{port}`; `{{` and `}}`\n\
         stand for braces. How checks decide: [Checks](../checks.md).\n\n\
         ## Every check\n\n",
    );
    let mut common = source.keys("Check");
    for key in &mut common {
        key.default = Some(source.default_in_call("common", &key.name));
    }
    common.insert(
        0,
        Key {
            name: "type".to_owned(),
            doc: "What is tried: one of the types below.".to_owned(),
            value: "text".to_owned(),
            default: None,
        },
    );
    keys(&mut page, &common);
    for variant in source.variants("CheckKind") {
        let _ = write!(page, "\n## {}\n\n{}\n\n", variant.word, variant.doc);
        keys(&mut page, &variant.keys);
    }
    page.push_str("\n## tls\n\n");
    words(&mut page, "word", &source.variants("SmtpTls"));
    page
}

/// `docs/reference/exit-codes.md`
pub(crate) fn exit_codes() -> String {
    let exit = Source::read("cli/src/exit.rs");
    let deployment = Source::read("core/src/rollout/deployment.rs");
    let hooks = Source::read("agent/src/execute/hooks.rs");
    let mut page = String::from(
        "# Exit codes\n\n## tamer\n\n| code | name | what it means |\n|---|---|---|\n",
    );
    for variant in exit.variants("Exit") {
        let number = variant.number.expect("a number for each exit code");
        let _ = writeln!(page, "| {number} | {} | {} |", variant.word, variant.doc);
    }
    page.push_str(
        "\n## How a deployment ends\n\n\
         What `tamer deploy`, `tamer rollback` and `tamer watch` end with, and the label `ending` in\n\
         [the metrics](metrics.md):\n\n\
         | ending | code | what it means |\n|---|---|---|\n",
    );
    for variant in deployment.variants("Ending") {
        let codes = deployment.arms(&variant.name);
        let [code] = codes[..] else {
            panic!("one exit code for {}, not {codes:?}", variant.name)
        };
        let word = variant.word.replace('-', "_");
        let _ = writeln!(page, "| {word} | {code} | {} |", variant.doc);
    }
    for (program, file) in [
        ("tamer-controller", "controller/src/commands/mod.rs"),
        ("tamer-agent", "agent/src/commands/mod.rs"),
    ] {
        let _ = write!(
            page,
            "\n## {program}\n\n| code | what it means |\n|---|---|\n| 0 | Done. |\n"
        );
        let source = Source::read(file);
        let rows: Vec<(u64, String)> = source
            .variants("Failure")
            .into_iter()
            .map(|variant| {
                let code = source.arms(&variant.name)[0];
                let what = variant
                    .doc
                    .trim_end_matches(&format!(": {code}."))
                    .to_owned();
                (code, what)
            })
            .collect();
        for (code, what) in rows {
            let _ = writeln!(page, "| {code} | {what}. |");
        }
    }
    let (code, said) = hooks.documented("TEMPFAIL");
    let _ = write!(
        page,
        "\n## Hooks\n\n| code | what it means |\n|---|---|\n| 0 | Done. |\n| {code} | {said} |\n\
         | any other | Failed; the last lines of its output stand in the report. |\n\n\
         A `command` check holds with 0 and fails with any other code.\n"
    );
    page
}

/// One metric.
#[derive(Debug)]
pub(crate) struct Metric {
    /// The name of its series; a histogram's without `_bucket`, `_sum` and `_count`.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// What the code says of it.
    pub help: String,
}

/// What a program counts, by its sources.
pub(crate) fn metrics_of(file: &str) -> Vec<Metric> {
    let source = Source::read(file);
    let (prefix, _) = source.documented("PREFIX");
    let fields = source.fields("Metrics");
    let mut calls = source.calls("add");
    calls.extend(source.calls("register"));
    let mut metrics: Vec<Metric> = calls
        .into_iter()
        .map(|call| {
            let [name, help] = &call.texts[..] else {
                panic!("{file}: a metric without a name and a help")
            };
            let (_, ty) = fields
                .iter()
                .find(|(field, _)| *field == call.field)
                .unwrap_or_else(|| panic!("{file}: no field `{}`", call.field));
            let (mut kind, inner) = type_parts(ty);
            let mut labels = Vec::new();
            if kind == "Family" {
                let label = type_name(inner[0]);
                kind = type_name(inner[1]);
                labels = source.fields(&label).into_iter().map(|it| it.0).collect();
            }
            let kind = kind.to_lowercase();
            let end = if kind == "counter" { "_total" } else { "" };
            Metric {
                name: format!("{prefix}_{name}{end}"),
                kind,
                labels,
                help: help.clone(),
            }
        })
        .collect();
    metrics.sort_by(|a, b| a.name.cmp(&b.name));
    metrics
}

/// Where each program's metrics are.
pub(crate) const METRICS: [(&str, &str); 2] = [
    ("tamer-controller", "controller/src/metrics.rs"),
    ("tamer-agent", "agent/src/metrics.rs"),
];

/// `docs/reference/metrics.md`
pub(crate) fn metrics() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Both programs serve `/metrics` (OpenMetrics) and `/healthz` once `metrics = \"127.0.0.1:PORT\"` stands in their\n\
         configuration. How to watch them: [Metrics and alerts](../operations/metrics.md).\n",
    );
    for (program, file) in METRICS {
        let _ = write!(
            page,
            "\n## {program}\n\n| metric | kind | labels | what it is |\n|---|---|---|---|\n"
        );
        for metric in metrics_of(file) {
            let labels: Vec<String> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} |",
                metric.name,
                metric.kind,
                labels.join(", "),
                metric.help
            );
        }
    }
    page
}

/// `docs/reference/lifetimes.md`
pub(crate) fn lifetimes() -> String {
    let mut page = String::from(
        "# Lifetimes\n\n\
         How long certificates and signed metadata live. Everything but roots, targets and the certificates of\n\
         operators is renewed by itself.\n\n\
         | what | how long | why |\n|---|---|---|\n",
    );
    for (file, names) in [
        (
            "controller/src/identity/ca.rs",
            &["CA_LIFE", "SERVER_LIFE", "HOST_LIFE", "OPERATOR_LIFE"][..],
        ),
        (
            "release/src/trust/editor.rs",
            &[
                "ROOT_LIFE",
                "TARGETS_LIFE",
                "SNAPSHOT_LIFE",
                "TIMESTAMP_LIFE",
            ],
        ),
    ] {
        let source = Source::read(file);
        for name in names {
            let (life, doc) = source.documented(name);
            let what = name.trim_end_matches("_LIFE").to_lowercase();
            let (what, doc) = match doc.split_once(": ") {
                Some((_, why)) => (what, capital(why)),
                None => (what, doc),
            };
            let _ = writeln!(page, "| {what} | {life} | {doc} |");
        }
    }
    page
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn template(page: &mut String, text: &str) {
    let _ = writeln!(page, "```toml\n{}\n```", text.trim_end());
}

fn keys(page: &mut String, keys: &[Key]) {
    page.push_str("| key | value | default | what it is |\n|---|---|---|---|\n");
    for key in keys {
        let default = match key.default.as_deref() {
            None => "must be there".to_owned(),
            Some("") => String::new(),
            Some(default) => format!("`{default}`"),
        };
        let doc = key.doc.replace('|', "\\|");
        let _ = writeln!(
            page,
            "| `{}` | {} | {default} | {doc} |",
            key.name, key.value
        );
    }
}

fn words(page: &mut String, head: &str, variants: &[Variant]) {
    let _ = write!(page, "| {head} | what it means |\n|---|---|\n");
    for variant in variants {
        let default = if variant.default { " (default)" } else { "" };
        let _ = writeln!(page, "| `{}`{default} | {} |", variant.word, variant.doc);
    }
}

fn files(page: &mut String) {
    page.push_str(
        "\n### The files of a release\n\n\
         A release has the files, directories and links below `files`, empty directories too, under any name that Linux\n\
         takes. Names that are not UTF-8, or that have control characters, are shown escaped: `a\\xff`, `a\\n`. Blocks of\n\
         zeros take no room on a server.\n\n\
         Of a file's mode two things count: whether it can be executed, and whether others than its owner and its group\n\
         may read it. The rest depends on who checked the tree out, and would make another release of the same tree. On a\n\
         server everything belongs to root and to the primary group of the component's user, and nobody can write to it:\n\n\
         | in the tree | on a server | who may read it |\n|---|---|---|\n\
         | a file, `0644` | `0444` | everybody |\n\
         | a program, `0755` | `0555` | everybody |\n\
         | a file that others may not read: `0640`, `0600` | `0440` | root, and the user that the component runs as |\n\
         | a program that others may not read: `0750`, `0700` | `0550` | the same |\n\
         | a directory | `0555`, or `0550` where others may not read it | |\n\n\
         So the application can read its own release and never change it. Build with `umask 022`: with another one, what\n\
         the build makes may be closed to others. An agent that is not root leaves everything its own user and group.\n\n\
         Not packed are owners, times, access control lists and other extended attributes. Refused are setuid and setgid\n\
         files, devices, FIFOs, sockets, and links that leave the release. Hard links become files of their own.\n\n\
         File capabilities are a part of root's power. `tamer pack` refuses a file that has some and is not listed:\n\n\
         ```toml\n[component.web.capabilities]\n\"bin/server\" = [\"cap_net_bind_service\"]   # may listen on port 80\n```\n\n\
         What is listed need not be there when the release is built; the agent sets it (`=ep`), where\n\
         [`capabilities`](#applicationname) in `agent.toml` allows it to the application, and refuses the release otherwise.\n\
         A file whose capabilities are others than those that are listed is drift.\n",
    );
}

fn hooks(page: &mut String) {
    let source = Source::read("agent/src/execute/hooks.rs");
    let (retry, _) = source.documented("TEMPFAIL");
    let pairs = Source::read("agent/src/execute/environment.rs").pairs("environment");
    let names: Vec<String> = pairs.iter().map(|name| format!("`TAMER_{name}`")).collect();
    let _ = write!(
        page,
        "\nHooks and `command` checks find these variables in their environment: {}; `TAMER_VAR_PORT` for `port`\n\
         of `[variables]` in `agent.toml`; `PATH` and `LANG`; and `HOME`, `USER` and `LOGNAME` of the user they run as,\n\
         where the agent switches users. A hook finds its own name as `TAMER_HOOK`, and `TAMER_RUN`, which is the agent's.\n\
         Nothing else. A hook that ends with {retry} is run again while `hook_timeout` lasts.\n\n\
         A hook runs as the component's user with all of that user's groups, in a session of its own without a terminal,\n\
         with nothing on its standard input, and within its `limits`. When its time is over, it gets TERM, and five\n\
         seconds later KILL. Whatever it has started and left is ended with it, and named in the agent's log and, if the\n\
         hook failed, in its output. One thing may stay: what `start` left in a session of its own (`setsid`), of a\n\
         component without `service`. What ends together with a hook is\n\n\
         - where systemd (244 or newer) runs the host and the agent is root: everything, for each run has a scope of its\n\
           own, `tamer-hook-….scope` below `tamer-hooks.slice`, outside of the sandbox that the agent's unit is;\n\
         - elsewhere: its session, and every process that still has its `TAMER_RUN`. A process that leaves the session\n\
           *and* sheds its environment is not found there.\n\n\
         No hook can become more than its user through `sudo` or another setuid program, unless `agent.toml` says\n\
         `new_privileges = true` for the application.\n\n\
         ### The unit's environment\n\n\
         The `TAMER_` variables of the list above, all but `TAMER_PREVIOUS`, lie in the file `.tamer/environment` of\n\
         every release, for root and the user's group to read. A unit takes them in with\n\n\
         ```ini\n[Service]\nEnvironmentFile=/srv/shop/web/current/.tamer/environment\n```\n\n\
         Changes of `[variables]` reach it when the agent is restarted, and the application when its unit is.\n",
        names.join(", ")
    );
}
