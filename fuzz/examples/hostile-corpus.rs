//! Writes the corpus of hostile releases to a directory: `deploy-scripts/hostile-corpus` runs it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use tamer_fuzz::corpus::corpus;

fn main() -> std::io::Result<ExitCode> {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        writeln!(std::io::stderr(), "name the directory to write to")?;
        return Ok(ExitCode::from(2));
    };
    let corpus = corpus();
    for hostile in &corpus {
        hostile.write(&dir)?;
    }
    let (count, dir) = (corpus.len(), dir.display());
    writeln!(std::io::stdout(), "{count} hostile releases are in {dir}")?;
    Ok(ExitCode::SUCCESS)
}
