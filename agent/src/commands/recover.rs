//! `recover`: a new journal from what is on disk.

use super::Failure;
use std::io::Write;
use tamer_agent::config::Config;
use tamer_agent::converge::recover_state;

/// For `--help`.
pub(super) const ABOUT: &str = "\
Make a new journal from what is on disk, after the old one was damaged.

What `current` leads to is taken for what runs. Grants given so far are void: the controller gives new
ones. The agent must be stopped, and a person should have looked at the host first.";

/// Makes the journal.
pub(super) fn recover(config: &Config, out: &mut dyn Write) -> Result<(), Failure> {
    let journal = recover_state(config)?;
    for slot in &journal.slots {
        match &slot.committed {
            Some(release) => writeln!(out, "{}  {release}", slot.slot)?,
            None => writeln!(out, "{}  nothing runs", slot.slot)?,
        }
    }
    writeln!(out, "the journal is made anew\n\nnext: start the agent")?;
    Ok(())
}
