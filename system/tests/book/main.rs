//! The book in `docs/` does what it says: every command in it is run, in the order of its page, and
//! every transcript shows what was printed. `page.rs` says how blocks are marked, `play.rs` what is
//! not as on a reader's machine.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: what cannot go on has failed"
)]

mod page;
mod play;
mod whole;

use page::Page;
use std::path::{Path, PathBuf};

/// Where the book is.
fn docs() -> PathBuf {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    docs.canonicalize().unwrap()
}

/// A test for each page with commands; `whole.rs` sees that none is missing.
macro_rules! pages {
    ($($test:ident: $page:literal,)*) => {
        /// The pages that are run.
        const RUN: &[&str] = &[$($page),*];
        $(
            #[test]
            fn $test() {
                play::play(&Page::read(&docs(), $page));
            }
        )*
    };
}

pages! {
    quick_start: "quick-start.md",
    first_application: "first-application.md",
    environments: "environments.md",
    checks: "checks.md",
    deploying: "deploying.md",
    evidence: "evidence.md",
    security: "security.md",
    bad_day: "operations/bad-day.md",
    backup: "operations/backup.md",
    ca: "operations/ca.md",
    metrics: "operations/metrics.md",
}
