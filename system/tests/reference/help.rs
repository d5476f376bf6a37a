//! Pages of commands, as the programs explain themselves.

use std::fmt::Write as _;
use std::path::Path;

/// A page with every command of a program, each with its help.
pub(crate) fn page(program: &str) -> String {
    let mut page = format!(
        "# {program}\n\nWhat `{program} --help` and the help of each of its commands say. Options that every \
         command has\nstand under the first heading only.\n"
    );
    command(&mut page, program, &[], "");
    page
}

fn command(page: &mut String, program: &str, words: &[&str], above: &str) {
    let help = crate::types(program, &[words, &["--help"]].concat(), Path::new("/"));
    let name = [&[program], words].concat().join(" ");
    let level = "#".repeat(2 + usize::from(words.len() > 1));
    let shown = without(&help, above);
    let _ = write!(
        page,
        "\n{level} {name}\n\n```text\n{}\n```\n",
        shown.trim_end()
    );
    for inner in commands_in(&help) {
        // Top-level options are those of every command: shown once.
        let above = if words.is_empty() { &help } else { above };
        command(page, program, &[words, &[inner]].concat(), above);
    }
}

/// The names under `Commands:`.
fn commands_in(help: &str) -> Vec<&str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.strip_prefix("  ")
                .filter(|line| !line.starts_with(' '))
        })
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

/// The help without options that `above` has too. An option reaches to the next one or to a line
/// that is not indented.
fn without(help: &str, above: &str) -> String {
    let known: Vec<&str> = above.lines().filter_map(option).collect();
    let mut kept: Vec<&str> = Vec::new();
    let mut dropping = false;
    for line in help.lines() {
        let ends = !line.is_empty() && !line.starts_with(' ');
        if let Some(name) = option(line) {
            dropping = known.contains(&name);
        } else if dropping && ends {
            dropping = false;
            kept.push("");
        }
        if !dropping {
            kept.push(line);
        }
    }
    headings(&kept)
}

/// `-c, --config <FILE>` of the line that begins an option.
fn option(line: &str) -> Option<&str> {
    let words = line.trim_start();
    let begins = line.starts_with(' ') && words.starts_with('-') && !words.starts_with("- ");
    begins.then(|| words.split("  ").next().unwrap_or(words).trim())
}

/// Without headings that have lost everything below them.
fn headings(lines: &[&str]) -> String {
    let mut out: Vec<&str> = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        if line.is_empty() && out.last().is_none_or(|last| last.is_empty()) {
            continue;
        }
        let heading = ["Options:", "Global options:"].contains(line);
        let below = lines[n + 1..].iter().find(|line| !line.is_empty());
        if heading && below.is_none_or(|below| !below.starts_with(' ')) {
            while out.last().is_some_and(|last| last.is_empty()) {
                out.pop();
            }
            continue;
        }
        out.push(line);
    }
    out.join("\n")
}
