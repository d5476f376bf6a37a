//! Statements in plain words, as `tamer verify` prints them.

use super::judge::Proof;
use super::statement::{Build, Claim, Run};
use std::fmt;
use tamer_core::moment::Span;

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(build) => build.fmt(f),
            Self::Run(run) => run.fmt(f),
            Self::Review(_) => f.write_str("the commit was reviewed"),
            Self::Approval(it) => write!(f, "approved for {}", it.plan.environment),
        }
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authors: Vec<_> = self.authors.iter().map(String::as_str).collect();
        let commit = self.commit.short();
        write!(f, "built from commit {commit} of {}", authors.join(", "))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.passed { "passed" } else { "FAILED" })?;
        if let Some(counts) = self.counts {
            write!(f, ", {} tests", counts.passed + counts.failed)?;
            if counts.skipped > 0 {
                write!(f, " and {} skipped", counts.skipped)?;
            }
        }
        // Whole seconds where there are any: nobody needs more.
        let took = self.took();
        let took = match took.as_secs() {
            0 => Span(took),
            seconds => Span::secs(seconds),
        };
        write!(f, ", in {took}")
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, says `{}`", self.claim, self.key)?;
        match &self.person {
            Some(person) => write!(f, " ({person})"),
            None => Ok(()),
        }
    }
}
