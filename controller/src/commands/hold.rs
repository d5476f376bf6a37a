//! `unhold`: an operator has looked, and lets a restored controller go on.

use super::{Failure, note};
use std::io::Write;
use tamer_controller::config::Config;
use tamer_controller::store::epoch;

pub(super) const UNHOLD: &str = "\
Let a restored controller go on.

After a restore the controller starts held: it listens to what its hosts say, and sends them
nothing. Look at `tamer hosts` first, then stop the controller, give this command, and start
it again. It stands in the audit log.

Hosts stay as they are even then: what each environment is to run is decided by the next
`tamer deploy` or `tamer rollback` there, unless every host runs what the backup wants.";

pub(super) fn unhold(
    config: &Config,
    reason: Option<String>,
    start: &str,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let paths = config.paths();
    let Some(why) = epoch::held(&paths.state)? else {
        writeln!(out, "the controller is not held: nothing to do")?;
        return Ok(());
    };
    // The log is locked by a running controller, which would not notice that it may go on.
    note(config, "controller.unhold", &why, reason)?;
    epoch::release(&paths.state)?;
    writeln!(out, "no longer held ({why}); next: {start}")?;
    Ok(())
}
