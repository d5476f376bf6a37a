//! From a commit to evidence that is enough, with real git repositories and the real program; and what is refused.

#![expect(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An engineer's machine: a repository, and a home.
struct Desk {
    dir: tempfile::TempDir,
}

/// What was typed, and how it ended.
struct Typed {
    words: String,
    output: Output,
}

impl Typed {
    #[track_caller]
    fn ends(self, code: i32) -> Self {
        assert_eq!(
            self.output.status.code(),
            Some(code),
            "{}\n{}{}",
            self.words,
            self.out(),
            self.err()
        );
        self
    }

    #[track_caller]
    fn says(self, text: &str) -> Self {
        let all = self.out() + &self.err();
        assert!(
            all.contains(text),
            "{}: `{text}` is not in\n{all}",
            self.words
        );
        self
    }

    fn out(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

const TOML: &str = r#"application = "shop"
[component.web]
files = "dist"
root = "/srv/shop/web"
[build]
lint = "echo lint >> order && test ! -e bad-style"
test = "echo test >> order && cp junit.in junit.xml"
build = "echo build >> order && mkdir -p dist && cp src dist/ && cp order dist/"
results = { test = ["junit.xml"] }
"#;

const GOOD: &str = "<testsuite><testcase name='a'/><testcase name='b'/><testcase><skipped/></testcase></testsuite>";
const BAD: &str = "<testsuite><testcase name='cart'><failure/></testcase></testsuite>";

impl Desk {
    /// A repository in which Ben wrote one commit.
    fn new() -> Self {
        let desk = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(desk.path("shop")).unwrap();
        desk.git(&["init", "--quiet", "--initial-branch", "main"]);
        desk.git(&["config", "user.email", "anna@shop.example"]);
        desk.git(&["config", "user.name", "Anna"]);
        for (file, text) in [
            ("tamer.toml", TOML),
            ("junit.in", GOOD),
            ("src", "1"),
            (".gitignore", "dist\n"),
        ] {
            desk.write(file, text);
        }
        desk.commits("ben@shop.example", "the shop");
        desk
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path("shop").join(file), text).unwrap();
    }

    #[track_caller]
    fn git(&self, words: &[&str]) -> String {
        let mut command = Command::new("git");
        let output = command.current_dir(self.path("shop")).args(words);
        let output = output.env("HOME", self.path("home")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "git {words:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commits(&self, author: &str, message: &str) {
        self.git(&["add", "--all"]);
        let author = format!("--author=Somebody <{author}>");
        self.git(&["commit", "--quiet", &author, "--message", message]);
    }

    fn types(&self, words: &[&str]) -> Typed {
        self.types_with(words, &[])
    }

    /// With these variables.
    fn types_with(&self, words: &[&str], variables: &[(&str, &str)]) -> Typed {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tamer"));
        command.current_dir(self.path("shop")).args(words);
        command
            .env("HOME", self.path("home"))
            .env("PLANTED", "a secret");
        command.env("TAMER_HOME", self.path("home/tamer"));
        command.envs(variables.iter().copied());
        Typed {
            words: words.join(" "),
            output: command.output().unwrap(),
        }
    }

    /// Makes a key, and gives what an environment file says about it.
    fn key(&self, file: &str) -> String {
        let typed = self.types(&["attest", "key", "--key", self.path(file).to_str().unwrap()]);
        let out = typed.ends(0).out();
        let line = out.lines().find(|line| line.starts_with("key ")).unwrap();
        line.to_owned()
    }

    /// Keys of CI and of Anna, and an environment that demands everything.
    fn environment(&self) {
        let text = format!(
            "[evidence]\nrequire = [\"build\", \"lint\", \"test\", \"review\"]\nmax_age = \"1d\"\n\
             [evidence.keys.ci]\n{}\nstates = [\"build\", \"lint\", \"test\"]\n\
             [evidence.keys.anna]\n{}\nstates = [\"review\"]\nperson = \"anna@shop.example\"\n",
            self.key("ci.pem"),
            self.key("anna.pem"),
        );
        std::fs::write(self.path("production.toml"), text).unwrap();
    }

    fn builds(&self, more: &[&str]) -> Typed {
        let (key, out) = (self.path("ci.pem"), self.path("out"));
        let words = ["build", "1.4.2", "--offline", "--key"];
        let words = [
            &words[..],
            &[key.to_str().unwrap(), "--out", out.to_str().unwrap()],
            more,
        ];
        self.types(&words.concat())
    }

    fn approves(&self, more: &[&str]) -> Typed {
        let key = self.path("anna.pem");
        let words = ["review", "approve", "HEAD", "--key", key.to_str().unwrap()];
        self.types(&[&words[..], more].concat())
    }

    fn verifies(&self) -> Typed {
        let environment = self.path("production.toml");
        let words = [&self.manifest(), "-e", environment.to_str().unwrap()];
        self.types(&[&["verify"], &words[..]].concat())
    }

    fn manifest(&self) -> String {
        let path = self.path("out/shop-web-1.4.2.manifest.json");
        path.to_str().unwrap().to_owned()
    }
}

fn bundles(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|it| it.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_commit_is_built_twice_tested_reviewed_and_verified() {
    let desk = Desk::new();
    desk.environment();
    desk.builds(&["--twice"])
        .ends(0)
        .says("✓ shop/web 1.4.2")
        .says("both are the same");
    desk.verifies()
        .ends(3)
        .says("production lacks evidence")
        .says("✓ test        passed, 2 tests and 1 skipped")
        .says("of ben@shop.example, says `ci`")
        .says("✗ review      nothing states it");
    desk.approves(&[])
        .ends(0)
        .says("✓ anna@shop.example approves commit");
    // The review came after the build, and is found in git's notes.
    desk.verifies()
        .ends(0)
        .says("has all the evidence")
        .says("says `anna` (anna@shop.example)");
    // A later build of the same commit takes it along, and makes the same release.
    let before = std::fs::read(desk.manifest()).unwrap();
    desk.builds(&[]).ends(0);
    assert_eq!(std::fs::read(desk.manifest()).unwrap(), before);
    let files = bundles(&desk.path("out/shop-web-1.4.2.evidence"));
    assert!(
        files
            .iter()
            .any(|it| it.to_string_lossy().contains("/review-")),
        "{files:?}"
    );
    // One bundle that was touched is named, and says nothing any more.
    let lint = files
        .iter()
        .filter(|it| it.to_string_lossy().contains("/lint-"));
    for file in lint {
        let text =
            std::fs::read_to_string(file)
                .unwrap()
                .replacen("payload\":\"ey", "payload\":\"eY", 1);
        std::fs::write(file, text).unwrap();
    }
    desk.verifies()
        .ends(3)
        .says("✗ lint")
        .says("changed, or forged");
}

#[test]
fn the_first_red_command_ends_the_build_and_leaves_nothing() {
    let desk = Desk::new();
    desk.environment();
    for (file, text, reason) in [
        ("bad-style", "x", "lint failed, so nothing was built"),
        ("junit.in", BAD, "its results say that `cart` failed"),
        ("junit.in", "<html/>", "cannot count the tests"),
    ] {
        desk.write(file, text);
        desk.commits("ben@shop.example", "worse");
        let typed = desk.builds(&[]);
        assert!(matches!(typed.output.status.code(), Some(2 | 3)));
        typed.says(reason);
        assert!(!desk.path("out").exists());
        desk.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    }
}

#[test]
fn what_no_commit_has_is_not_built() {
    let desk = Desk::new();
    desk.environment();
    for file in ["src", "new"] {
        desk.write(file, "2");
        desk.builds(&[])
            .ends(2)
            .says("changes that no commit has")
            .says(file);
        desk.git(&["stash", "--quiet", "--include-untracked"]);
    }
    // A commit by its name is built as it is, whatever lies around.
    desk.write("src", "3");
    let head = desk.git(&["rev-parse", "HEAD"]);
    desk.builds(&["--commit", &head]).ends(0);
    let listed = std::fs::read_to_string(desk.manifest()).unwrap();
    // SHA-256 of `1`, which the commit has.
    assert!(listed.contains("6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"));
    desk.builds(&["--commit", "nowhere"])
        .ends(2)
        .says("knows no commit `nowhere`");
}

#[test]
fn a_build_that_differs_the_second_time_is_refused_and_the_files_are_named() {
    let desk = Desk::new();
    desk.environment();
    let other = TOML.replace("cp src dist/", "mktemp -u > dist/stamp && pwd > dist/place");
    desk.write("tamer.toml", &other);
    desk.commits("ben@shop.example", "not the same twice");
    desk.builds(&["--twice"])
        .ends(3)
        .says("differs from the first in web: place, stamp");
    assert!(!desk.path("out").exists());
}

#[test]
fn a_build_sees_nothing_of_the_environment_but_what_is_kept() {
    let desk = Desk::new();
    desk.environment();
    desk.write(
        "tamer.toml",
        &TOML.replace("cp src dist/", "env > dist/env"),
    );
    desk.commits("ben@shop.example", "look around");
    desk.builds(&[]).ends(0);
    let packed = |name: &str| {
        let archive = desk.path("out/shop-web-1.4.2.tar.zst");
        let output = Command::new("tar")
            .args(["--zstd", "-xOf"])
            .arg(archive)
            .arg(name)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let seen = packed("env");
    assert!(
        seen.contains("TAMER_VERSION=1.4.2") && seen.contains("TZ=UTC"),
        "{seen}"
    );
    assert!(
        !seen.contains("PLANTED") && !seen.contains("TAMER_HOME"),
        "{seen}"
    );
    assert_eq!(packed("order"), "lint\ntest\nbuild\n");
    let kept = TOML.replace("cp src dist/", "env > dist/env") + "keep = [\"PLANTED\"]\n";
    desk.write("tamer.toml", &kept);
    desk.commits("ben@shop.example", "keep one");
    desk.builds(&[]).ends(0);
    assert!(packed("env").contains("PLANTED=a secret"));
    // Statements name it, and do not tell it.
    for file in bundles(&desk.path("out/shop-web-1.4.2.evidence")) {
        assert!(
            !std::fs::read_to_string(file)
                .unwrap()
                .contains("YSBzZWNyZXQ")
        );
    }
}

#[test]
fn an_author_cannot_review_his_own_commit() {
    let desk = Desk::new();
    desk.environment();
    desk.approves(&["--person", "Ben@shop.example"])
        .ends(3)
        .says("an author's own review does not count");
    desk.write("src", "2");
    desk.commits(
        "ben@shop.example",
        "together\n\nCo-authored-by: Anna <anna@shop.example>",
    );
    desk.approves(&[])
        .ends(3)
        .says("anna@shop.example wrote commit");
    // Whoever says to be somebody else is known by the key.
    desk.approves(&["--person", "carl@shop.example"]).ends(0);
    desk.builds(&[]).ends(0);
    desk.verifies()
        .ends(3)
        .says("anna@shop.example wrote the commit");
}

#[test]
fn of_a_merge_everybody_is_an_author_whose_commits_it_brings() {
    let desk = Desk::new();
    desk.environment();
    desk.git(&["checkout", "--quiet", "-b", "branch"]);
    desk.write("src", "2");
    desk.commits("anna@shop.example", "of Anna");
    desk.git(&["checkout", "--quiet", "main"]);
    desk.git(&[
        "-c",
        "user.email=carl@shop.example",
        "merge",
        "--quiet",
        "--no-ff",
        "branch",
    ]);
    desk.approves(&[])
        .ends(3)
        .says("anna@shop.example wrote commit");
}

#[test]
fn statements_are_made_from_results_of_other_builds() {
    let desk = Desk::new();
    desk.environment();
    let key = desk.path("ci.pem");
    let key = key.to_str().unwrap();
    std::fs::create_dir(desk.path("shop/dist")).unwrap();
    desk.write("dist/index.html", "hello");
    let out = desk.path("out");
    desk.types(&["pack", "1.4.2", "--out", out.to_str().unwrap()])
        .ends(0);
    let manifest = desk.manifest();
    let attest =
        |words: &[&str]| desk.types(&[&["attest"], words, &[&manifest, "--key", key]].concat());
    attest(&["build", "--command", "make dist"])
        .ends(0)
        .says("built from commit");
    attest(&["lint", "--exit-code", "0"])
        .ends(0)
        .says("lint passed");
    std::fs::write(desk.path("bad.xml"), BAD).unwrap();
    std::fs::write(desk.path("good.xml"), GOOD).unwrap();
    let (bad, good) = (desk.path("bad.xml"), desk.path("good.xml"));
    attest(&["test", "--junit", bad.to_str().unwrap()])
        .ends(3)
        .says("test FAILED, 1 tests");
    desk.verifies().ends(3).says("says FAILED: `cart`");
    attest(&[
        "test",
        "--junit",
        good.to_str().unwrap(),
        "--exit-code",
        "0",
    ])
    .ends(0);
    desk.approves(&[]).ends(0);
    desk.verifies().ends(0);
    attest(&["test"]).ends(2);
    attest(&["test", "--junit", "nowhere.xml"])
        .ends(2)
        .says("there is no nowhere.xml");
}

/// What a key states that is given so counts where its environment file lists the key.
fn states(desk: &Desk, given: &[&str], variables: &[(&str, &str)]) {
    let said = desk.types_with(&[&["attest", "key"], given].concat(), variables);
    let out = said.ends(0).out();
    let key = out.lines().find(|line| line.starts_with("key ")).unwrap();
    let text = format!(
        "[evidence]\nrequire = [\"acceptance\"]\n[evidence.keys.ci]\n{key}\nstates = [\"acceptance\"]\n"
    );
    let file = desk.path("accepted.toml");
    std::fs::write(&file, text).unwrap();
    let _ = std::fs::remove_dir_all(desk.path("out/shop-web-1.4.2.evidence"));
    let verifies = ["verify", &desk.manifest(), "-e", file.to_str().unwrap()];
    desk.types(&verifies).ends(3);
    let accepts = ["attest", "acceptance", "--exit-code", "0", &desk.manifest()];
    desk.types_with(&[&accepts, given].concat(), variables)
        .ends(0);
    desk.types(&verifies).ends(0).says("✓ acceptance");
}

#[test]
fn a_key_under_a_passphrase_in_a_variable_or_in_a_program_states_alike() {
    let desk = Desk::new();
    desk.environment();
    desk.builds(&[]).ends(0);
    states(&desk, &[], &[]);
    let usual = std::fs::read_to_string(desk.path("home/tamer/keys/evidence.pem")).unwrap();

    let word = desk.path("word");
    std::fs::write(&word, "open sesame\n").unwrap();
    let word = [("TAMER_KEY_PASSPHRASE_FILE", word.to_str().unwrap())];
    let sealed = desk.path("sealed.pem");
    let sealed = ["--key", sealed.to_str().unwrap()];
    let makes = [&["attest", "key", "--passphrase"], &sealed[..]].concat();
    desk.types_with(&makes, &word).ends(0);
    let text = std::fs::read_to_string(sealed[1]).unwrap();
    assert!(text.contains("BEGIN ENCRYPTED PRIVATE KEY"), "{text}");
    states(&desk, &sealed, &word);

    // What the variable holds comes before the file; a program before it too.
    let keys = desk.path("home/tamer/keys");
    std::fs::remove_file(keys.join("evidence.pem")).unwrap();
    let gone = ["attest", "lint", "--exit-code", "0", &desk.manifest()];
    desk.types(&gone).ends(2).says("tamer attest key");
    states(&desk, &[], &[("TAMER_EVIDENCE_KEY", &usual)]);

    // OpenSSL signs in the place of a KMS.
    let hardware = desk.path("hardware.key");
    std::fs::write(&hardware, &usual).unwrap();
    let public = Command::new("openssl")
        .args(["pkey", "-pubout", "-in"])
        .arg(&hardware)
        .output();
    let public = String::from_utf8(public.unwrap().stdout).unwrap();
    let hardware = hardware.display();
    let text = format!(
        "command = ['openssl', 'dgst', '-sha256', '-sign', '{hardware}']\npublic = \"\"\"\n{public}\"\"\"\n"
    );
    std::fs::write(keys.join("evidence.signer"), text).unwrap();
    states(&desk, &[], &[]);
}
