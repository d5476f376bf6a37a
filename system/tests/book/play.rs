//! A page as a script: its commands in their order, in a directory of their own, with real programs.
//!
//! Five things are not as on a reader's machine, so that pages can run beside one another, without
//! root, and leave nothing behind:
//!
//! 1. the ports 7400, 7401 and 7402 are three that are free;
//! 2. `tamer-join-…` is the token that was printed last;
//! 3. in commands, `/etc/tamer`, `/var/lib/tamer`, `/var/backups` and `/srv` are below the page's
//!    directory;
//! 4. `tamer-controller serve` and `tamer-agent run` go on in the background;
//! 5. `systemctl` starts and stops those two.

use crate::page::{Kind, Page};
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tamer_system::{Typed, program};

/// Far above what any page takes.
const LIMIT: Duration = Duration::from_secs(150);

/// The first of the ports that the book speaks of.
const BOOK_PORT: u16 = 7400;

/// What is below the page's directory.
const SYSTEM: [&str; 4] = ["/etc/tamer", "/var/lib/tamer", "/var/backups", "/srv"];

/// Runs a page.
///
/// # Panics
/// A command fails, or prints something else than the page says.
pub(crate) fn play(page: &Page) {
    let dir = tempfile::Builder::new()
        .prefix("tamer-book-")
        .tempdir()
        .unwrap();
    let book = dir.path().to_str().unwrap();
    let port = free_ports();
    let (script, expected) = script(page, book, port);
    let file = dir.path().join("script");
    fs::write(&file, script).unwrap();
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let checkout = checkout.canonicalize().unwrap();
    fs::create_dir(dir.path().join("desk")).unwrap();
    std::os::unix::fs::symlink(
        checkout.join("deploy-scripts"),
        dir.path().join("desk/deploy-scripts"),
    )
    .unwrap();
    let programs = program("tamer");
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", programs.parent().unwrap().display());
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "bash"])
        .arg(&file);
    command.env_clear().env("PATH", path);
    let record = Record(dir.path().join("said"));
    let code = Typed::begin(command, page.name.clone())
        .end_within(LIMIT)
        .code;
    assert_eq!(code, 0, "docs/{} does not work", page.name);
    // As the reader has it.
    let said = record.text();
    let said = said.replace(book, "").replace(&format!(":{port}"), ":7400");
    for (number, (at, lines)) in expected.iter().enumerate() {
        let begin = format!("#### transcript {number}\n");
        let end = format!("#### end {number}\n");
        let from = said.find(&begin).map(|at| at + begin.len());
        let printed = from.and_then(|from| said[from..].split_once(&end));
        let (printed, _) = printed.unwrap_or_else(|| panic!("{at}: it did not run"));
        if let Err(line) = fits(lines, printed) {
            panic!("docs/{at}: no line like\n  {line}\nwhere it should be in\n{printed}");
        }
    }
    // Releases are read-only.
    let _ = Command::new("chmod").args(["-R", "u+w", book]).status();
}

/// What a page has printed; shown if its test fails.
struct Record(PathBuf);

impl Record {
    fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap_or_default()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.text();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

/// The script, and what each command of a transcript should print.
fn script(page: &Page, book: &str, port: u16) -> (String, Vec<(String, Vec<String>)>) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/book");
    let mut out = format!(
        "exec >>'{book}/said' 2>&1\nbook='{book}' port={port}\n. '{}'\n",
        here.join("prelude.sh").display()
    );
    if page.fleet {
        let _ = writeln!(out, ". '{}'", here.join("fleet.sh").display());
    }
    let mut expected = Vec::new();
    for block in &page.blocks {
        let at = format!("{}:{}", page.name, block.line);
        let _ = writeln!(out, "at='docs/{at}'\nprintf '\\n#### %s\\n' \"$at\"");
        let text = here_and_now(&block.text, book, port);
        match &block.kind {
            Kind::Commands(0) => out += &text,
            Kind::Stopped => {
                let _ = write!(out, "stop_all\n{text}");
            }
            Kind::Commands(code) => {
                let _ = writeln!(
                    out,
                    "set +e\n(set -e\n{text})\ncode=$?\nset -e\n\
                     [ \"$code\" = {code} ] || {{ echo \"ended with $code, not with {code}\"; exit 99; }}"
                );
            }
            Kind::Transcript(until) => {
                let again = until
                    .as_ref()
                    .map_or_else(String::new, |it| format!("until_said '{it}' "));
                for line in text.lines() {
                    if let Some(command) = line.strip_prefix("$ ") {
                        let number = expected.len();
                        let _ = writeln!(
                            out,
                            "echo '#### transcript {number}'\n{again}{command}\necho '#### end {number}'"
                        );
                        expected.push((at.clone(), Vec::new()));
                    }
                }
                // What is printed is compared as it stands in the book, not as it was replaced.
                let commands = block.text.lines().filter(|line| line.starts_with("$ "));
                let first = expected.len() - commands.count();
                let mut number = first;
                for line in block.text.lines() {
                    if line.starts_with("$ ") {
                        number += 1;
                    } else {
                        assert!(number > first, "docs/{at}: a transcript begins with `$ `");
                        expected[number - 1].1.push(line.to_owned());
                    }
                }
            }
            Kind::File(file) => {
                let file = here_and_now(file, book, port);
                let text = ports(&block.text, port);
                let _ = writeln!(
                    out,
                    "mkdir -p \"$(dirname '{file}')\"\ncat >'{file}' <<'END OF FILE'\n{text}END OF FILE"
                );
            }
            Kind::Lab | Kind::Ci | Kind::Reading => {}
        }
    }
    (out, expected)
}

/// A reader's text with the five replacements.
fn here_and_now(text: &str, book: &str, port: u16) -> String {
    let mut text = ports(text, port).replace("tamer-join-…", "\"$(last_token)\"");
    for place in SYSTEM {
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find(place) {
            let (before, from) = rest.split_at(at);
            out += before;
            let last = out.chars().last();
            if last.is_none_or(|c| " \t\n\"'=:(".contains(c)) {
                out += book;
            }
            out += place;
            rest = &from[place.len()..];
        }
        text = out + rest;
    }
    let lines = text.lines().map(|line| {
        let stays = ["tamer-controller serve", "tamer-agent run"];
        match stays.iter().find(|it| line.starts_with(**it)) {
            Some(_) => format!("start {} {line}\n", unit(line)),
            None => format!("{line}\n"),
        }
    });
    let whole: String = lines.collect();
    match text.ends_with('\n') {
        true => whole,
        false => whole.trim_end().to_owned(),
    }
}

/// The name that `systemctl` and logs know a program by; several agents are told apart by their options.
fn unit(line: &str) -> String {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let options: Vec<&str> = words.skip(1).collect();
    if program == "tamer-controller" || options.is_empty() {
        return program.to_owned();
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let options: String = options.join("-").chars().map(plain).collect();
    format!("{program}{options}")
}

/// Whether what was printed is what the book shows; otherwise the line that was looked for.
fn fits(expected: &[String], printed: &str) -> Result<(), String> {
    let printed: Vec<&str> = printed.lines().map(str::trim_end).collect();
    let mut at = 0;
    let mut skip = false;
    for line in expected {
        let line = line.trim_end();
        if line == "…" {
            skip = true;
            continue;
        }
        let found = printed[at..].iter().position(|it| is_like(line, it));
        match found {
            Some(n) if n == 0 || skip => at += n + 1,
            _ => return Err(line.to_owned()),
        }
        skip = false;
    }
    if at < printed.len() && !skip {
        return Err(format!("(the end, before `{}`)", printed[at]));
    }
    Ok(())
}

/// Whether a line is as expected, where `…` stands for anything, also for nothing.
fn is_like(expected: &str, line: &str) -> bool {
    let parts: Vec<&str> = expected.split('…').collect();
    let [first, middle @ .., last] = &parts[..] else {
        return expected == line;
    };
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    for part in middle {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The first of three ports that nobody listens on, and that the kernel gives to nobody by its own
/// choice: the controllers of the book are stopped and started again.
fn free_ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 100).unwrap() * 120;
    loop {
        let port = 20_000 + own + NEXT.fetch_add(3, Ordering::Relaxed) % 120;
        if (0..3).all(|n| TcpListener::bind(("127.0.0.1", port + n)).is_ok()) {
            return port;
        }
    }
}

/// The book's ports as those of this run.
fn ports(text: &str, first: u16) -> String {
    let mut text = text.to_owned();
    for n in 0..3 {
        text = text.replace(&format!(":{}", BOOK_PORT + n), &format!(":{}", first + n));
    }
    text
}

#[test]
fn what_is_printed_is_held_against_the_book() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (expected, printed, good) in [
        ("a\nb", "a\nb\n", true),
        ("a", "a\nb\n", false),
        ("a\n…", "a\nb\n", true),
        ("b", "a\nb\n", false),
        ("…\nb", "a\nb\n", true),
        ("a … c", "a b c\n", true),
        ("a …", "a\n", false),
        ("a…c", "a b d\n", false),
        ("", "", true),
    ] {
        assert_eq!(
            fits(&lines(expected), printed).is_ok(),
            good,
            "{expected} / {printed}"
        );
    }
}

#[test]
fn only_whole_paths_are_moved() {
    let moved = here_and_now("ls /srv/shop x/srv '/etc/tamer'\n", "/B", 1);
    assert_eq!(moved, "ls /B/srv/shop x/srv '/B/etc/tamer'\n");
    let moved = here_and_now("tamer login <<< tamer-join-…\ntamer-agent run\n", "/B", 1);
    assert!(moved.contains("login <<< \"$(last_token)\"\nstart tamer-agent tamer-agent run\n"));
}
