//! The only place that prints. Results go to standard output, guidance and progress to standard
//! error, so that a pipe gets what was asked for and nothing else.

use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object for each result.
    Json,
}

/// Prints, or keeps what it would have printed.
#[derive(Debug, Clone)]
pub struct Printer {
    output: Output,
    quiet: bool,
    terminal: bool,
    width: Option<usize>,
    kept: Option<Arc<Mutex<Kept>>>,
}

/// What was printed, for tests.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// On standard output.
    pub out: String,
    /// On standard error.
    pub err: String,
}

impl Printer {
    /// Prints to the process's standard streams. `quiet` leaves out guidance and progress.
    pub fn new(output: Output, quiet: bool) -> Self {
        Self {
            output,
            quiet,
            terminal: io::stdout().is_terminal(),
            width: None,
            kept: None,
        }
    }

    /// Prints nothing and keeps everything; as if not on a terminal.
    pub fn keeping(output: Output) -> (Self, Arc<Mutex<Kept>>) {
        let kept = Arc::<Mutex<Kept>>::default();
        let printer = Self {
            output,
            quiet: false,
            terminal: false,
            width: Some(100),
            kept: Some(Arc::clone(&kept)),
        };
        (printer, kept)
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Whether a live view can be drawn: text, on a terminal, not quiet.
    pub fn is_live(&self) -> bool {
        self.terminal && !self.quiet && !self.is_json()
    }

    /// Whether progress bars make sense: standard error is a terminal.
    pub fn shows_progress(&self) -> bool {
        self.kept.is_none() && !self.quiet && !self.is_json() && io::stderr().is_terminal()
    }

    /// How many columns there are.
    pub fn width(&self) -> usize {
        self.width.unwrap_or_else(|| {
            let measured = terminal_size::terminal_size_of(io::stdout());
            measured.map_or(100, |(width, _)| usize::from(width.0).max(40))
        })
    }

    /// A line of the result, for people.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.is_json() {
            self.out(text.as_ref());
        }
    }

    /// Lines of the result, for people.
    pub fn lines(&self, lines: impl IntoIterator<Item = String>) {
        for line in lines {
            self.line(line);
        }
    }

    /// The result as one line of JSON, for programs.
    pub fn json(&self, value: &impl Serialize) {
        if self.is_json() {
            match serde_json::to_string(value) {
                Ok(text) => self.out(&text),
                Err(error) => self.err(&format!("error: the result is no JSON: {error}")),
            }
        }
    }

    /// What is going on, or worth knowing.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet && !self.is_json() {
            self.err(text.as_ref());
        }
    }

    /// The command to type next.
    pub fn next(&self, command: impl AsRef<str>) {
        self.note(format!("next: {}", command.as_ref()));
    }

    /// What must be read, also when quiet.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.err(&format!("warning: {}", text.as_ref()));
    }

    /// A failure's whole report.
    pub fn failure(&self, report: &str) {
        self.err(report.trim_end());
    }

    /// Raw text to standard output: what a live view draws, scripts for shells.
    pub fn raw(&self, text: &str) {
        match &self.kept {
            Some(kept) => kept.lock().unwrap_or_else(PoisonError::into_inner).out += text,
            None => emit(io::stdout().lock(), text),
        }
    }

    fn out(&self, line: &str) {
        self.raw(&format!("{line}\n"));
    }

    fn err(&self, line: &str) {
        match &self.kept {
            Some(kept) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.err += line;
                kept.err.push('\n');
            }
            None => emit(io::stderr().lock(), &format!("{line}\n")),
        }
    }
}

/// A reader that went away (`tamer hosts | head -1`) is no failure of the command.
fn emit(mut stream: impl Write, text: &str) {
    let _ = stream.write_all(text.as_bytes());
    let _ = stream.flush();
}
