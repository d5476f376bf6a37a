//! What a package brings beside its program: manual pages, and completions for shells. Both are made
//! from the definition of the program's commands, so they cannot fall behind it.

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::fs;
use std::io;
use std::path::Path;

/// The first argument of a program that is to write what its package brings into the directory that
/// the second one names. It is no command: people have no use for it, and completions would offer even
/// a hidden one.
const ARGUMENT: &str = "--package-files";

/// Does what [`ARGUMENT`] asks for; `None` if nobody asked.
///
/// # Errors
/// As for [`write`].
pub fn asked(command: &Command, section: &str) -> Option<io::Result<()>> {
    let mut arguments = std::env::args_os().skip(1);
    let asked = arguments.next().is_some_and(|first| first == ARGUMENT);
    let dir = arguments.next().filter(|_| asked)?;
    Some(write(command, section, Path::new(&dir)))
}

/// The completion script of a shell.
pub fn completions(shell: Shell, mut command: Command) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

/// Writes what a package brings below `dir`: `man/`, with a page for every command, and `bash/`, `zsh/`
/// and `fish/`, each with its completions. `section` is that of the manual: 1 for everybody's commands,
/// 8 for the administrator's.
fn write(command: &Command, section: &str, dir: &Path) -> io::Result<()> {
    let name = command.get_name();
    for (shell, file) in [
        (Shell::Bash, format!("bash/{name}")),
        (Shell::Zsh, format!("zsh/_{name}")),
        (Shell::Fish, format!("fish/{name}.fish")),
    ] {
        let file = dir.join(file);
        fs::create_dir_all(file.parent().unwrap_or(dir))?;
        fs::write(file, completions(shell, command.clone()))?;
    }
    let man = dir.join("man");
    fs::create_dir_all(&man)?;
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    let source = format!("{name} {}", command.get_version().unwrap_or_default());
    pages(&command, section, source.trim_end(), &man)
}

/// The page of a command and those of the commands below it.
fn pages(command: &Command, section: &str, source: &str, dir: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        pages(below, section, source, dir)?;
    }
    let man = Man::new(command.clone())
        .section(section)
        .source(source)
        // No date, so that the same sources give the same page; an empty argument would be left out.
        .date("\"\"")
        .manual("Tamer");
    fs::write(dir.join(man.get_filename()), page(command, &man)?)
}

fn page(command: &Command, man: &Man) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|it| !it.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.get_subcommands().any(|it| !it.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let more = command.get_after_long_help().or(command.get_after_help());
    if let Some(more) = more {
        notes(&more.to_string()).to_writer(&mut page)?;
    }
    Ok(page)
}

/// What stands at the end of `--help`, line by line as it is there: mostly commands to type.
fn notes(text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut inside = false;
    for line in text.lines() {
        let examples = ["Example:", "Examples:"].contains(&line);
        if examples || !inside {
            let title = if examples { "EXAMPLES" } else { "NOTES" };
            // The section before it ends here.
            if inside {
                roff.control("fi", []);
            }
            roff.control("SH", [title]);
            roff.control("nf", []);
            inside = true;
        }
        if !examples {
            roff.text([roman(line)]);
        }
    }
    if inside {
        roff.control("fi", []);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, ArgAction};

    fn lion() -> Command {
        let tame = Command::new("tame")
            .about("Tames it")
            .arg(Arg::new("chair").long("chair").action(ArgAction::SetTrue))
            .after_help("Not by fear.\n\nExamples:\n  lion tame\n  .secret");
        let hidden = Command::new("bite").hide(true);
        Command::new("lion")
            .version("1.2.3")
            .about("A lion")
            .subcommands([tame, hidden])
    }

    #[test]
    fn every_command_that_is_shown_has_a_page_and_every_shell_its_script() {
        let dir = tempfile::tempdir().unwrap();
        write(&lion(), "8", dir.path()).unwrap();
        let mut names: Vec<String> = fs::read_dir(dir.path().join("man"))
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["lion-tame.8", "lion.8"]);
        for file in ["bash/lion", "zsh/_lion", "fish/lion.fish"] {
            let script = fs::read_to_string(dir.path().join(file)).unwrap();
            assert!(script.contains("tame"), "{file}: {script}");
        }
    }

    #[test]
    fn examples_keep_their_lines_and_none_is_a_request() {
        let dir = tempfile::tempdir().unwrap();
        write(&lion(), "8", dir.path()).unwrap();
        let page = fs::read_to_string(dir.path().join("man/lion-tame.8")).unwrap();
        assert!(
            page.contains(".TH lion-tame 8 \"\" \"lion 1.2.3\" Tamer"),
            "{page}"
        );
        let (_, end) = page.split_once(".SH NOTES\n.nf\n").expect("it has notes");
        assert_eq!(
            end,
            "Not by fear.\n\n.fi\n.SH EXAMPLES\n.nf\n  lion tame\n  .secret\n.fi\n"
        );
    }
}
