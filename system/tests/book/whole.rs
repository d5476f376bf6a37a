//! The book as a whole: no page, link, command or metric in it that is not there.

use crate::page::{Kind, Page};
use crate::{RUN, docs};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The hosts of the lab, see vagrant/.
const LAB: [&str; 4] = ["desk", "controller", "web-1", "spare"];

/// Every page's name, the repository's front page included.
fn names() -> Vec<String> {
    let mut names = vec!["../README.md".to_owned()];
    let mut dirs = vec![docs()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                let name = path.strip_prefix(docs()).unwrap();
                names.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
}

fn pages() -> Vec<Page> {
    let names = names();
    names.iter().map(|name| Page::read(&docs(), name)).collect()
}

#[test]
fn every_page_with_commands_is_run() {
    let with: BTreeSet<String> = pages()
        .into_iter()
        .filter(Page::runs)
        .map(|page| page.name)
        .collect();
    let run: BTreeSet<String> = RUN.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(with, run, "see pages! in system/tests/book/main.rs");
}

#[test]
fn every_page_stands_in_the_summary_once() {
    let summary = fs::read_to_string(docs().join("SUMMARY.md")).unwrap();
    let listed: Vec<String> = links(&summary).into_iter().map(|it| it.0).collect();
    let unique: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), unique.len(), "twice: {listed:?}");
    let there: BTreeSet<String> = names()
        .into_iter()
        .filter(|name| name != "SUMMARY.md" && name != "../README.md")
        .collect();
    assert_eq!(unique, there);
}

/// Links `[text](target#anchor)` as target and anchor, without those to other sites.
fn links(text: &str) -> Vec<(String, String)> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .filter(|target| !target.starts_with("http"))
        .map(|target| target.split_once('#').unwrap_or((target, "")))
        .map(|(path, anchor)| (path.to_owned(), anchor.to_owned()))
        .collect()
}

/// A heading's anchor, as mdBook and GitHub make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        let from = docs().join(&page.name);
        for (path, wanted) in links(&page.prose) {
            let target: PathBuf = match path.as_str() {
                "" => from.clone(),
                path => from.parent().unwrap().join(path),
            };
            assert!(target.exists(), "docs/{}: {path} is not there", page.name);
            if wanted.is_empty() || target.extension().is_none_or(|end| end != "md") {
                continue;
            }
            let text = fs::read_to_string(&target).unwrap();
            let mut headings = text.lines().filter(|line| line.starts_with('#'));
            let found = headings.any(|line| anchor(line.trim_start_matches('#')) == wanted);
            assert!(
                found,
                "docs/{}: no heading for #{wanted} in {path}",
                page.name
            );
        }
    }
}

/// Commands in running text, as `tamer host invite`, are those that the programs have.
#[test]
fn every_command_that_is_named_exists() {
    let known: BTreeSet<String> = ["cli", "controller", "agent"]
        .iter()
        .flat_map(|page| {
            let page = docs().join(format!("reference/{page}.md"));
            let text = fs::read_to_string(page).unwrap();
            let names = text.lines().filter_map(|line| {
                let name = line.trim_start_matches('#').trim();
                line.starts_with("##").then(|| name.to_owned())
            });
            names.collect::<Vec<_>>()
        })
        .collect();
    for page in pages() {
        for code in page.prose.split('`').skip(1).step_by(2) {
            let mut words = code.split_whitespace();
            let program = words.next().unwrap_or_default();
            if !["tamer", "tamer-controller", "tamer-agent"].contains(&program) {
                continue;
            }
            // As many words as commands can have, and at least the first of them must be one.
            let plain = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            let words: Vec<&str> = words
                .take_while(|w| plain(w) && !w.starts_with('-'))
                .collect();
            let Some(first) = words.first() else { continue };
            let name = format!("{program} {first}");
            assert!(
                known.contains(&name),
                "docs/{}: there is no `{code}`",
                page.name
            );
            let has_commands = known.iter().any(|it| it.starts_with(&format!("{name} ")));
            let second = words.get(1).map(|second| format!("{name} {second}"));
            if let Some(second) = second.filter(|_| has_commands) {
                assert!(
                    known.contains(&second),
                    "docs/{}: there is no `{code}`",
                    page.name
                );
            }
        }
    }
}

/// What needs a whole machine is run in the lab: by a scenario that names the page.
#[test]
fn what_needs_a_machine_is_run_in_the_lab() {
    for page in pages() {
        for block in &page.blocks {
            if let Some(host) = &block.lab {
                let at = format!("docs/{}:{}", page.name, block.line);
                assert!(
                    LAB.contains(&host.as_str()),
                    "{at}: the lab has no host {host}"
                );
                let scenario = docs().join("../vagrant/lab/scenarios/90-the-book");
                let text = fs::read_to_string(scenario).unwrap_or_default();
                assert!(
                    text.contains(&page.name),
                    "{at}: 90-the-book does not run this page"
                );
            }
        }
    }
}

/// What CI runs by itself: a script of this repository that CI reaches, or tests that are there.
#[test]
fn what_ci_runs_is_there() {
    let root = docs().join("..");
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let reached = read("deploy-scripts/test")
        + &read(".ci/run")
        + &read("deploy-scripts/lib/gates.sh")
        + &read("deploy-scripts/lib/lab_gates.sh");
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.kind == Kind::Ci) {
            for line in block.text.lines() {
                let line = line.split(" #").next().unwrap_or_default().trim();
                let words: Vec<&str> = line.split_whitespace().collect();
                let words: Vec<&str> = words
                    .into_iter()
                    .skip_while(|it| it.contains('='))
                    .collect();
                let good = match words[..] {
                    [] => true,
                    ["cargo", "test" | "nextest", ref rest @ ..] => tests_exist(&root, rest),
                    [script, ref rest @ ..] => is_reached(&root, &reached, script, rest),
                };
                assert!(
                    good,
                    "docs/{}:{}: CI does not run `{line}`",
                    page.name, block.line
                );
            }
        }
    }
}

fn is_reached(root: &Path, reached: &str, script: &str, options: &[&str]) -> bool {
    let text = fs::read_to_string(root.join(script)).unwrap_or_default();
    let known = |option: &&str| text.contains(*option);
    let line = [&[script], options].concat().join(" ");
    // .ci/run is what CI itself is told to run.
    reached.contains(&line)
        || (script == ".ci/run" || reached.contains(script))
            && !text.is_empty()
            && options.iter().all(known)
}

fn tests_exist(root: &Path, words: &[&str]) -> bool {
    let value = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    let Some(package) = value("-p") else {
        return false;
    };
    let manifests = fs::read_dir(root).unwrap().map(|it| it.unwrap().path());
    let home = manifests.into_iter().find(|dir| {
        let text = fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
        text.contains(&format!("name = \"{package}\"\n"))
    });
    let Some(home) = home else { return false };
    value("--test").is_none_or(|test| {
        let tests = home.join("tests");
        tests.join(format!("{test}.rs")).exists() || tests.join(test).join("main.rs").exists()
    })
}
