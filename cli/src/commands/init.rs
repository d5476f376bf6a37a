//! `tamer init`

use crate::args::Init;
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use crate::printer::Printer;
use std::io::Write;
use tamer_core::id::{ApplicationName, MAX_NAME};

/// Where build tools put what is to be shipped, the likeliest first.
const OUTPUTS: [&str; 8] = ["dist", "build", "public", "out", "bin", "web", "app", "src"];

pub(super) fn run(args: &Init, printer: &Printer) -> Result<Exit> {
    let doing = || format!("cannot write tamer.toml into {}", args.folder.display());
    let folder = args.folder.canonicalize().doing(Exit::Usage, doing)?;
    let name = guess(&folder.file_name().unwrap_or_default().to_string_lossy());
    let files = OUTPUTS.iter().find(|output| folder.join(output).is_dir());
    let text = template(&name, files.copied());
    let path = folder.join("tamer.toml");
    match std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
    {
        Ok(mut file) => file
            .write_all(text.as_bytes())
            .doing(Exit::Internal, doing)?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::usage(format!("{} is there already", path.display()))
                .next("tamer pack --out dist, to see whether it works"));
        }
        Err(error) => return Err(Error::caused(Exit::Usage, doing(), error)),
    }
    printer.json(&serde_json::json!({ "file": path, "application": name }));
    printer.line(format!(
        "Wrote {} for the application `{name}`: read it, it is short.",
        path.display()
    ));
    printer.next("tamer publish 1.0.0");
    Ok(Exit::Done)
}

/// A name from a folder's name: small letters, digits, and single hyphens between them.
fn guess(folder: &str) -> String {
    let plain: String = folder
        .to_ascii_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .take(MAX_NAME)
        .collect();
    let words: Vec<&str> = plain.split('-').filter(|word| !word.is_empty()).collect();
    match words.join("-") {
        name if name.parse::<ApplicationName>().is_ok() => name,
        _ => "app".to_owned(),
    }
}

fn template(name: &str, files: Option<&str>) -> String {
    let (files, note) = match files {
        Some(files) => (files, "what the release contains"),
        None => (
            ".",
            "what the release contains: better a folder with nothing else in it",
        ),
    };
    format!(
        r#"# What {name} consists of, and what "healthy" means. Unknown keys are refused;
# keys that begin with x- are your own.
application = "{name}"

[component.web]
files = "{files}"    # {note}
root  = "/srv/{name}/web"    # where it lives on a server

# The systemd unit that is restarted at the switch, or reloaded where it can be. Without one, use hooks.
# service = "{name}-web.service"
# reload  = true

# The user its hooks and checks run as; without it, `{name}`.
# user = "{name}"

# These survive releases: they are kept in shared/ and linked into every release.
# shared = ["media/", "local.env"]

# Components that roll out before this one.
# needs = ["worker"]

# Executables inside the release, by the step they belong to:
# pre-activate, drain, stop, start, validate, admit.
# [component.web.hooks]
# start = "bin/start"

# What each hook may use. Without a word: 4096 open files, 4096 processes, files of 16GiB.
# [component.web.limits]
# open_files = 8192

# What must hold after the switch; if it does not, the server goes back by itself.
# Types: http, tcp, command, disk, smtp.
# [component.web.checks.home]
# type = "http"
# url  = "http://127.0.0.1:8000/health"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::Output;
    use tamer_core::application::Application;

    #[test]
    fn names_are_guessed_from_folders() {
        for (folder, name) in [
            ("shop", "shop"),
            ("My Shop_2", "my-shop-2"),
            ("--x--", "x"),
            ("Größe", "gr-e"),
            ("", "app"),
            ("日本", "app"),
        ] {
            assert_eq!(guess(folder), name, "{folder}");
        }
        assert!(guess(&"a".repeat(200)).len() <= MAX_NAME);
    }

    /// Whatever is commented out must work too once somebody uncomments it.
    #[test]
    fn what_is_written_works_and_so_does_what_is_commented_out() {
        for files in [None, Some("dist")] {
            let text = template("shop", files);
            Application::parse("tamer.toml", &text).unwrap();
            let commented = ["service", "user", "shared", "[", "start", "type", "url"];
            let all: Vec<&str> = text
                .lines()
                .map(|line| match line.strip_prefix("# ") {
                    Some(rest) if commented.iter().any(|word| rest.starts_with(word)) => rest,
                    _ => line,
                })
                .collect();
            let all = Application::parse("tamer.toml", &all.join("\n")).unwrap();
            let web = all.components.values().next().unwrap();
            assert!(web.service.is_some() && !web.checks.is_empty() && !web.hooks.is_empty());
        }
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("My Shop");
        std::fs::create_dir_all(folder.join("dist")).unwrap();
        let args = Init {
            folder: folder.clone(),
        };
        let (printer, kept) = Printer::keeping(Output::Text);
        assert_eq!(run(&args, &printer).unwrap(), Exit::Done);
        assert!(
            kept.lock()
                .unwrap()
                .err
                .contains("next: tamer publish 1.0.0")
        );
        let text = std::fs::read_to_string(folder.join("tamer.toml")).unwrap();
        let read = Application::parse("tamer.toml", &text).unwrap();
        assert_eq!(read.application.as_str(), "my-shop");
        assert_eq!(read.components.values().next().unwrap().files, "dist");
        assert_eq!(run(&args, &printer).unwrap_err().exit, Exit::Usage);
        assert_eq!(
            std::fs::read_to_string(folder.join("tamer.toml")).unwrap(),
            text
        );
    }
}
