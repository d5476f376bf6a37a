//! The way of an emergency: from a commit of one line to the last server that runs it, reviewed, built in a clean
//! checkout, tested, signed, published and deployed by the same commands as ever.
//!
//! `fleet_fix TREE [HOSTS] [DIRECTORY]`: TREE is the application; its lint and its tests are `true`, so that what is
//! measured is Tamer's part. The environment demands all evidence and brings a release to all hosts at once.

use anyhow::{Context as _, bail};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tamer_bench::fleet::{ENVIRONMENT, Fleet};
use tamer_bench::measure::{self, head, note, row, spread};

const APPLICATION: &str = "fix";

/// How many fixes there are; one more goes before and is not counted.
const FIXES: usize = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (tree, hosts, directory) = match &words[..] {
        [tree] => (tree, 30, "/dev/shm"),
        [tree, hosts] => (tree, hosts.parse()?, "/dev/shm"),
        [tree, hosts, directory] => (tree, hosts.parse()?, directory.as_str()),
        _ => bail!("usage: fleet_fix TREE [HOSTS] [DIRECTORY]"),
    };
    note(&format!("starting a controller and {hosts} agents"));
    let fleet = Fleet::start(Path::new(directory), hosts, &[APPLICATION]).await?;
    let repository = fleet.room("repository")?;
    begin(&repository, Path::new(tree))?;
    demand(&fleet)?;
    let key = |name: &str| {
        fleet
            .room("keys")
            .map(|it| it.join(name).display().to_string())
    };
    let (ci, anna) = (key("ci.pem")?, key("anna.pem")?);

    let mut steps = [const { Vec::new() }; 4];
    for fix in 0..=FIXES {
        let version = format!("1.{fix}.0");
        note(&version);
        fs::write(repository.join("site/fixed"), format!("{version}\n"))?;
        git(&repository, &["add", "--all"])?;
        git(&repository, &["commit", "--quiet", "--message", &version])?;
        let times = [
            &[
                "review",
                "approve",
                "HEAD",
                "--person",
                "anna@shop.example",
                "--key",
                &anna,
            ][..],
            &["build", &version, "--key", &ci],
            &["deploy", ENVIRONMENT, &version],
        ]
        .map(|words| typed(&fleet, &repository, words));
        fleet.runs(APPLICATION, &version)?;
        fleet.settle().await?;
        let mut all = Duration::ZERO;
        for (step, time) in steps.iter_mut().zip(times) {
            let time = time?;
            all += time;
            step.push(time);
        }
        steps[3].push(all);
        if fix == 0 {
            steps.iter_mut().for_each(Vec::clear);
        }
    }
    head(&["what", "time"])?;
    let what = [
        "`tamer review approve`: somebody else has looked, and signs that".to_owned(),
        "`tamer build`: clean checkout, lint, test, build, pack, sign, publish, evidence"
            .to_owned(),
        format!(
            "`tamer deploy`: judged, fetched, verified, switched, checked and reported by {hosts} hosts"
        ),
        "all of it".to_owned(),
    ];
    for (what, step) in what.iter().zip(&steps) {
        row(&[what, &spread(step)?])?;
    }
    Ok(())
}

/// A repository with the tree and what Tamer needs to know of it.
fn begin(repository: &Path, tree: &Path) -> anyhow::Result<()> {
    measure::run(
        Command::new("cp")
            .arg("-a")
            .arg(tree)
            .arg(repository.join("site")),
    )?;
    let text = format!(
        "application = \"{APPLICATION}\"\n[component.app]\nfiles = \"site\"\nroot = \"/srv/{APPLICATION}/app\"\n\
         [build]\nlint = \"true\"\ntest = \"true\"\nbuild = \"true\"\n"
    );
    fs::write(repository.join("tamer.toml"), text)?;
    git(repository, &["init", "--quiet"])
}

/// The environment demands everything from now on.
fn demand(fleet: &Fleet) -> anyhow::Result<()> {
    let keys = fleet.room("keys")?;
    let key = |name: &str| {
        let path = keys.join(name);
        let said = fleet
            .desk
            .tamer(&["attest", "key", "--key", &path.display().to_string()])?;
        let line = said.lines().find(|line| line.starts_with("key "));
        line.map(str::to_owned)
            .context("`tamer attest key` printed no key")
    };
    let folder = fleet.room("environments")?;
    let file = folder.join(format!("{ENVIRONMENT}.toml"));
    let text = fs::read_to_string(&file)?;
    let text = format!(
        "{text}\n[evidence]\nrequire = [\"build\", \"lint\", \"test\", \"review\"]\n\
         [evidence.keys.ci]\n{}\nstates = [\"build\", \"lint\", \"test\"]\n\
         [evidence.keys.anna]\n{}\nstates = [\"review\"]\nperson = \"anna@shop.example\"\n",
        key("ci.pem")?,
        key("anna.pem")?
    );
    fs::write(&file, text)?;
    fleet
        .desk
        .tamer(&["env", "apply", &folder.display().to_string()])?;
    Ok(())
}

/// A command in the repository, the start of the program included.
fn typed(fleet: &Fleet, repository: &Path, words: &[&str]) -> anyhow::Result<Duration> {
    let mut command = fleet.desk.command(words)?;
    command
        .current_dir(repository)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Ok(measure::run(&mut command)?.wall)
}

/// A commit of Ben's.
fn git(repository: &Path, words: &[&str]) -> anyhow::Result<()> {
    let ben = ["-c", "user.name=Ben", "-c", "user.email=ben@shop.example"];
    let mut command = Command::new("git");
    measure::run(command.current_dir(repository).args(ben).args(words))?;
    Ok(())
}
