//! Processes: commands that are typed and end, and daemons that stay until they are ended.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Far above what anything here takes; whoever waits so long has hung.
pub const LIMIT: Duration = Duration::from_secs(45);

/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `look` finds something, and gives it.
///
/// # Panics
/// It was not there within [`LIMIT`].
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {LIMIT:?} in vain: {what}"
        );
        std::thread::sleep(LOOK);
    }
}

/// A command that ends with this test even if the test is killed: `setpriv` is part of util-linux.
pub(crate) fn bound(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    // What the person who runs the tests has set is not for the programs.
    for name in [
        "TAMER_LOG",
        "TAMER_HOME",
        "TAMER_CONTROLLER",
        "TAMER_CONTROLLER_CONFIG",
        "SOURCE_DATE_EPOCH",
    ] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// The same at a terminal of its own, whose keyboard is a pipe: `script` is part of util-linux too. It ends as the command
/// does, and what is typed is seen among what it says.
pub(crate) fn at_a_terminal(command: &Command) -> Command {
    let quoted = |word: &OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''"));
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(quoted).collect();
    let mut script = bound(Path::new("script"));
    script.args(["--quiet", "--return", "--flush", "--command"]);
    script.arg(words.join(" ")).arg("/dev/null");
    script.current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    script.stdin(Stdio::piped());
    script
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Said {
    line: String,
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it printed for people beside that.
    pub err: String,
}

impl Said {
    /// What it printed, if it ended with `code` as it should.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "$ {}\n{}{}", self.line, self.out, self.err);
        self
    }

    /// Goes on if all these words stand in what it said.
    ///
    /// # Panics
    /// One does not.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let all = self.all();
        for word in words {
            assert!(all.contains(word), "no `{word}` in\n$ {}\n{all}", self.line);
        }
        self
    }

    /// Everything it said.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

/// A command that was typed and has not ended yet.
#[derive(Debug)]
pub struct Typed {
    line: String,
    child: Child,
    out: File,
    err: File,
}

impl Typed {
    /// Begins `command`; what it says goes into files, so that it never waits for a reader.
    pub fn begin(mut command: Command, line: String) -> Self {
        let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        command.stdout(out.try_clone().unwrap());
        command.stderr(err.try_clone().unwrap());
        let child = command.spawn().unwrap();
        Self {
            line,
            child,
            out,
            err,
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It did not end within [`LIMIT`].
    #[track_caller]
    pub fn end(self) -> Said {
        self.end_within(LIMIT)
    }

    /// Waits for its end, for something that is known to take longer.
    ///
    /// # Panics
    /// It did not end within `limit`.
    #[track_caller]
    pub fn end_within(mut self, limit: Duration) -> Said {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() >= deadline {
                let said = format!("{}{}", text(&self.out), text(&self.err));
                panic!("$ {}\n{said}\n… did not end within {limit:?}", self.line);
            }
            std::thread::sleep(LOOK);
        };
        Said {
            line: self.line.clone(),
            code: status.code().unwrap_or(-1),
            out: text(&self.out),
            err: text(&self.err),
        }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Types a line, where the command is at a terminal.
    pub fn types(&mut self, line: &str) {
        let keyboard = self.child.stdin.as_mut().expect("it is at a terminal");
        writeln!(keyboard, "{line}").unwrap();
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGINT).unwrap();
    }

    /// What it has printed so far.
    pub fn so_far(&self) -> String {
        format!("{}{}", text(&self.out), text(&self.err))
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a whole file, and leaves its offset alone: whoever writes to it shares that.
fn text(file: &File) -> String {
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A process that stays until it is ended. Its log goes to a file that all its starts share.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    log: PathBuf,
    child: Option<Child>,
    /// How long the log was at the last start.
    begun_at: u64,
}

impl Daemon {
    /// One that is not running.
    pub(crate) fn new(name: &str, log: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            log,
            child: None,
            begun_at: 0,
        }
    }

    /// Starts it.
    pub(crate) fn start(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        self.begun_at = log.metadata().unwrap().len();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// What it has logged since its last start.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let begun = usize::try_from(self.begun_at).unwrap().min(bytes.len());
        String::from_utf8_lossy(&bytes[begun..]).into_owned()
    }

    /// Waits until it has logged this.
    ///
    /// # Panics
    /// It has not within [`LIMIT`], or it has ended.
    pub fn logs(&mut self, word: &str) {
        let name = self.name.clone();
        until(&format!("{name} to log `{word}`"), || {
            let found = self.log().contains(word);
            assert!(found || self.is_running(), "{name} has ended");
            found.then_some(())
        });
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Kills it, as a power cut does, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Panics
    /// It does not within [`LIMIT`].
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{} did not heed TERM within {LIMIT:?}", self.name);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Its process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(60)..];
            eprintln!("--- log of {} ---\n{}", self.name, last.join("\n"));
        }
    }
}
