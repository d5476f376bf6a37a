//! `tamer review approve`

use super::Context;
use crate::args::{Approve, ReviewCommand};
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use crate::git::Git;
use crate::keys::Keys;
use serde::Serialize;
use std::path::Path;
use tamer_core::evidence::same_person;
use tamer_kit::{clock, durable};
use tamer_release::attest::statement::{MAX_COMMENT, Review};
use tamer_release::attest::{Claim, CommitId, Statement, Subject, seal};

#[derive(Serialize)]
struct Approved {
    commit: CommitId,
    authors: Vec<String>,
}

pub(super) async fn run(at: &Context<'_>, command: &ReviewCommand) -> Result<Exit> {
    let ReviewCommand::Approve(args) = command;
    approve(at, args)
}

fn approve(at: &Context<'_>, args: &Approve) -> Result<Exit> {
    let git = Git::at(Path::new("."));
    let commit = git.commit(&args.commit)?;
    let authors = git.authors(&commit)?;
    let me = match &args.person {
        Some(person) => person.clone(),
        None => git.me()?,
    };
    // Told early; what decides is whose key the environment says it is.
    if let Some(author) = authors.iter().find(|author| same_person(author, &me)) {
        return Err(Error::new(
            Exit::Refused,
            format!(
                "{author} wrote commit {}, and an author's own review does not count",
                commit.short()
            ),
        )
        .next("ask somebody else to review it"));
    }
    if args
        .comment
        .as_ref()
        .is_some_and(|it| it.len() > MAX_COMMENT)
    {
        return Err(Error::usage(format!(
            "the comment is longer than {MAX_COMMENT} bytes"
        )));
    }
    let key = Keys::of(&at.home).evidence(args.key.key.as_deref())?;
    let statement = Statement {
        subjects: vec![Subject::Commit(commit.clone())],
        claim: Claim::Review(Review {
            at: clock::now(),
            comment: args.comment.clone(),
        }),
    };
    let bundle = seal(&statement, &*key).doing(Exit::Usage, || "cannot state review".to_owned())?;
    let next = match &args.out {
        Some(file) => {
            let doing = || format!("cannot write {}", file.display());
            durable::replace(file, &bundle, 0o644).doing(Exit::Usage, doing)?;
            format!(
                "tamer verify MANIFEST --evidence {} -e environments/",
                file.display()
            )
        }
        None => {
            git.add_review(&commit, &bundle)?;
            "git push origin refs/notes/tamer-review".to_owned()
        }
    };
    let authors: Vec<_> = authors.into_iter().collect();
    at.printer.line(format!(
        "✓ {me} approves commit {} of {}",
        commit.short(),
        authors.join(", ")
    ));
    at.printer.json(&Approved { commit, authors });
    at.printer.next(next);
    Ok(Exit::Done)
}
