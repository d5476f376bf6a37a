//! The application under deployment: a directory, a `tamer.toml` and hooks, as small as can be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What runs is marked in a file that survives releases, by hooks that write and remove it.
pub const MARKED: &str = "shared/run/running";

const START: &str = "#!/bin/sh\nprintf %s \"$TAMER_VERSION\" > \"$TAMER_SHARED/run/running\"\n";
const STOP: &str = "#!/bin/sh\nrm -f \"$TAMER_SHARED/run/running\"\n";

/// One version of the application `shop` with its one component `web`.
#[derive(Debug, Clone)]
pub struct App {
    pub(crate) version: String,
    root: String,
    more: String,
    hooks: Vec<(String, String)>,
    hook_timeout: String,
    files: Vec<(String, Vec<u8>)>,
}

impl App {
    /// A version whose hooks mark what runs.
    pub fn version(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            root: "/srv/shop/web".to_owned(),
            more: String::new(),
            hooks: Vec::new(),
            hook_timeout: "10s".to_owned(),
            files: Vec::new(),
        }
        .hook("start", START)
        .hook("stop", STOP)
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

    /// Writes the repository that this is published from.
    pub(crate) fn write(&self, repository: &Path) {
        let _ = fs::remove_dir_all(repository);
        let files = repository.join("app");
        fs::create_dir_all(files.join("bin")).unwrap();
        fs::write(files.join("VERSION"), &self.version).unwrap();
        for (path, content) in &self.files {
            fs::write(files.join(path), content).unwrap();
        }
        let mut hooks = String::new();
        for (name, script) in &self.hooks {
            let file = files.join("bin").join(name);
            fs::write(&file, script).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            hooks.push_str(&format!("{name} = \"bin/{name}\"\n"));
        }
        let toml = format!(
            "application = \"shop\"\n[component.web]\nfiles = \"app\"\nroot = \"{}\"\n\
             shared = [\"run/\"]\nhook_timeout = \"{}\"\n{}[component.web.hooks]\n{hooks}",
            self.root, self.hook_timeout, self.more
        );
        fs::write(repository.join("tamer.toml"), toml).unwrap();
    }
}
