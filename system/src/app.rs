//! The application under deployment: a directory, a `tamer.toml` and hooks, as small as can be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What runs is marked in a file that survives releases, by hooks that write and remove it.
pub const MARKED: &str = "shared/run/running";

const START: &str = "#!/bin/sh\nprintf %s \"$TAMER_VERSION\" > \"$TAMER_SHARED/run/running\"\n";
const STOP: &str = "#!/bin/sh\nrm -f \"$TAMER_SHARED/run/running\"\n";

/// One version of an application, `shop` if nothing else is said, with its one component `web`.
#[derive(Debug, Clone)]
pub struct App {
    application: String,
    pub(crate) version: String,
    root: String,
    more: String,
    hooks: Vec<(String, String)>,
    hook_timeout: String,
    files: Vec<(String, Vec<u8>)>,
    programs: Vec<(String, String)>,
    last: String,
}

impl App {
    /// A version whose hooks mark what runs.
    pub fn version(version: &str) -> Self {
        Self {
            application: "shop".to_owned(),
            version: version.to_owned(),
            root: "/srv/shop/web".to_owned(),
            more: String::new(),
            hooks: Vec::new(),
            hook_timeout: "10s".to_owned(),
            files: Vec::new(),
            programs: Vec::new(),
            last: String::new(),
        }
        .hook("start", START)
        .hook("stop", STOP)
    }

    /// Of this application.
    #[must_use]
    pub fn of(mut self, application: &str) -> Self {
        application.clone_into(&mut self.application);
        self.root(&format!("/srv/{application}/web"))
    }

    /// With this script for a hook.
    #[must_use]
    pub fn hook(mut self, name: &str, script: &str) -> Self {
        self.hooks.retain(|(known, _)| known != name);
        self.hooks.push((name.to_owned(), script.to_owned()));
        self
    }

    /// With a `start` hook that marks what runs and then does this.
    #[must_use]
    pub fn and_then(self, script: &str) -> Self {
        let script = format!("{START}{script}\n");
        self.hook("start", &script)
    }

    /// Without any hook: what `current` points to is all there is.
    #[must_use]
    pub fn without_hooks(mut self) -> Self {
        self.hooks.clear();
        self
    }

    /// With this limit for each hook.
    #[must_use]
    pub fn hook_timeout(mut self, limit: &str) -> Self {
        limit.clone_into(&mut self.hook_timeout);
        self
    }

    /// Living there.
    #[must_use]
    pub fn root(mut self, root: &str) -> Self {
        root.clone_into(&mut self.root);
        self
    }

    /// With more lines in the component's part of `tamer.toml`.
    #[must_use]
    pub fn with(mut self, lines: &str) -> Self {
        self.more.push_str(lines);
        self.more.push('\n');
        self
    }

    /// With one more file.
    #[must_use]
    pub fn file(mut self, path: &str, content: Vec<u8>) -> Self {
        self.files.push((path.to_owned(), content));
        self
    }

    /// With one more executable file.
    #[must_use]
    pub fn program(mut self, path: &str, script: &str) -> Self {
        self.programs.push((path.to_owned(), script.to_owned()));
        self
    }

    /// With these lines at the end of `tamer.toml`.
    #[must_use]
    pub fn ends_with(mut self, lines: &str) -> Self {
        self.last.push_str(lines);
        self
    }

    /// With a database that is a file in `dir`, `version`, brought to `target`; `calls` there has a line for
    /// everything that was done to it. `up` waits as long as there is a file `wait`.
    #[must_use]
    pub fn database(self, dir: &Path, target: u64, works_with: &str) -> Self {
        let dir = dir.display();
        let done = |what: &str| {
            format!(
                "#!/bin/sh\nset -e\necho \"{what} $TAMER_SCHEMA_FROM $TAMER_SCHEMA_TARGET\" >> {dir}/calls\n\
                 while [ -e {dir}/wait ]; do sleep 0.01; done\n\
                 [ ! -e {dir}/broken ] || {{ echo 'the disk is full'; exit 3; }}\n\
                 echo $TAMER_SCHEMA_TARGET > {dir}/version\n"
            )
        };
        self.with(&format!("works_with = {{ main = \"{works_with}\" }}"))
            .program("bin/current", &format!("#!/bin/sh\ncat {dir}/version\n"))
            .program("bin/up", &done("up"))
            .program("bin/down", &done("down"))
            .ends_with(&format!(
                "[schema.main]\ncurrent = \"bin/current\"\ntarget = {target}\nup = \"bin/up\"\ndown = \"bin/down\"\n"
            ))
    }

    /// Writes the repository that this is published from.
    pub fn write(&self, repository: &Path) {
        let _ = fs::remove_dir_all(repository);
        let files = repository.join("app");
        fs::create_dir_all(files.join("bin")).unwrap();
        fs::write(files.join("VERSION"), &self.version).unwrap();
        for (path, content) in &self.files {
            fs::write(files.join(path), content).unwrap();
        }
        for (path, script) in &self.programs {
            let file = files.join(path);
            fs::write(&file, script).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut hooks = String::new();
        for (name, script) in &self.hooks {
            let file = files.join("bin").join(name);
            fs::write(&file, script).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            hooks.push_str(&format!("{name} = \"bin/{name}\"\n"));
        }
        let toml = format!(
            "application = \"{}\"\n[component.web]\nfiles = \"app\"\nroot = \"{}\"\n\
             shared = [\"run/\"]\nhook_timeout = \"{}\"\n{}[component.web.hooks]\n{hooks}{}",
            self.application, self.root, self.hook_timeout, self.more, self.last
        );
        fs::write(repository.join("tamer.toml"), toml).unwrap();
    }
}
