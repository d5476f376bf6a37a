//! `lying-controller`: takes the place of an honest controller, with its disk, its keys and its port, and lies.
//!
//! `serve` is the honest controller with [`lies`] around what it answers; every other command is the honest program,
//! which lies beside as `tamer-controller-honest`. What it says is in `/etc/tamer/lie`, read anew for each answer:
//!
//! | line | the lie |
//! |---|---|
//! | (no such file) | none |
//! | `release VERSION DIGEST` | servers shall run this release instead of what was deployed |
//! | `environment NAME` | what servers shall be is for this environment |
//! | `older` | what servers shall be is from before what they know |
//! | `weaken` | the environment's file has no checks, and everything may happen at once |

mod lies;

use anyhow::Context as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use tamer_controller::config::{Config, DEFAULT_FILE};
use tamer_controller::serve::serve_through;
use tokio::signal::unix::{SignalKind, signal};

const HONEST: &str = "/usr/lib/tamer/tamer-controller-honest";

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if args != ["serve"] {
        let error = Command::new(HONEST).args(args).exec();
        return Err(error).context(HONEST);
    }
    tamer_kit::telemetry::init("info")?;
    let config = Config::load(Path::new(DEFAULT_FILE))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let ends = async move {
            terminate.recv().await;
        };
        serve_through(config, lies::around, ends).await
    })
}
