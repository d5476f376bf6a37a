//! Names, versions, labels and paths become parts of paths, units, commands and lines of logs. What could mean
//! something there is refused where it is read, briefly, and in every place where it may stand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::str::FromStr;
use tamer_core::application::Application;
use tamer_core::id::{
    ApplicationName, CheckName, ComponentName, EnvironmentName, HostName, KeyName, OperatorName,
    PoolName, SchemaName,
};
use tamer_core::selector::parse_label;
use tamer_core::version::Version;

/// What a shell, a path, a unit, a terminal or a log would take for something else.
fn hostile() -> Vec<String> {
    let mut all: Vec<String> = [
        "",
        ".",
        "..",
        "../etc",
        "../../etc/cron.d/x",
        "/etc/passwd",
        "a/b",
        "a/../../b",
        "a b",
        "a\tb",
        "a\nb",
        "a\n",
        "\na",
        "a\r\nb",
        "a\0b",
        "$(touch x)",
        "`touch x`",
        "a;touch x",
        "a|sh",
        "a&b",
        "a>b",
        "a<b",
        "a*",
        "a?",
        "~root",
        "$HOME",
        "${IFS}",
        "%n",
        "%h/x",
        "a'b",
        "a\"b",
        "a\\b",
        "-rf",
        "--now",
        "a:b",
        "a@b",
        "a,b",
        "\u{1b}[2J",
        "\u{202e}a",
        "ａ",
        "é",
    ]
    .map(str::to_owned)
    .to_vec();
    all.push("a".repeat(10_000));
    all.push(format!("1.0.0-{}", "a".repeat(10_000)));
    all.push("\n".repeat(10_000));
    all
}

/// Each is refused, with a sentence of bounded length.
fn refused<T, E: std::fmt::Display>(kind: &str, given: &str, read: Result<T, E>) {
    let Err(why) = read else {
        panic!("a {kind}: {given:?}")
    };
    let said = why.to_string();
    assert!(said.len() < 1_000, "{kind}: {} bytes", said.len());
}

fn name<T: FromStr<Err: std::fmt::Display>>(kind: &str, given: &str) {
    refused(kind, given, given.parse::<T>());
}

#[test]
fn what_would_mean_something_elsewhere_is_no_name_no_version_and_no_label() {
    for given in hostile() {
        name::<ApplicationName>("application", &given);
        name::<ComponentName>("component", &given);
        name::<EnvironmentName>("environment", &given);
        name::<PoolName>("pool", &given);
        name::<CheckName>("check", &given);
        name::<SchemaName>("schema", &given);
        name::<KeyName>("key", &given);
        name::<HostName>("host", &given);
        name::<OperatorName>("operator", &given);
        name::<Version>("version", &given);
        // `1.0.0--rf` is a version, and begins with a digit wherever it stands.
        if !given.starts_with('-') {
            name::<Version>("version", &format!("1.0.0-{given}"));
        }
        name::<Version>("version", &format!("1.0.0+{given}."));
    }
    // Labels may have capitals, dots and the like, and never lead anywhere.
    for given in hostile() {
        if !given
            .chars()
            .all(|c| "-.".contains(c) || c.is_ascii_alphabetic())
            || given.len() > 63
        {
            refused("label", &given, parse_label(&format!("role={given}")));
            refused("label", &given, parse_label(&format!("{given}=web")));
        }
    }
}

/// A `tamer.toml` with this text in one place of it.
fn file(component: &str, root: &str, service: &str, user: &str, hooks: &str) -> String {
    let text = |given: &str| serde_json::to_string(given).unwrap();
    format!(
        "application = \"shop\"\n[component.{}]\nfiles = \"app\"\nroot = {}\nservice = {}\nuser = {}\n\
         [component.{}.hooks]\n{hooks}\n",
        text(component),
        text(root),
        text(service),
        text(user),
        text(component),
    )
}

#[test]
fn what_would_mean_something_elsewhere_stands_nowhere_in_a_component() {
    let read = |text: &str| Application::parse("tamer.toml", text);
    let (web, root, unit, user) = ("web", "/srv/shop/web", "shop-web.service", "shop");
    read(&file(web, root, unit, user, "start = \"bin/start\"")).unwrap();
    for given in hostile() {
        refused(
            "component",
            &given,
            read(&file(&given, root, unit, user, "")),
        );
        let service = format!("{given}.service");
        // What systemd itself has in names of units.
        if !["a:b", "a@b"].contains(&given.as_str()) {
            refused("unit", &given, read(&file(web, root, &service, user, "")));
        }
        refused("user", &given, read(&file(web, root, unit, &given, "")));
        // Hooks have fixed names.
        let hook = format!("{} = \"bin/start\"", serde_json::to_string(&given).unwrap());
        refused("hook", &given, read(&file(web, root, unit, user, &hook)));
    }
    // Paths may have any ordinary character, as nothing but a path is made of them; what leads out does not.
    for given in [
        "..",
        "../etc",
        "/etc/passwd",
        "a/../../b",
        "",
        "a//b",
        "./a",
    ] {
        let hook = format!("start = {}", serde_json::to_string(given).unwrap());
        refused("path", given, read(&file(web, root, unit, user, &hook)));
    }
    for given in ["/srv/../etc", "srv", "/", "/srv\n", "/srv/\0", ""] {
        refused("root", given, read(&file(web, given, unit, user, "")));
    }
}
