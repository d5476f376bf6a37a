//! `run-program`: one program of somebody else, outside of the agent's sandbox.

use super::Failure;
use anyhow::Context;
use std::os::fd::AsFd;
use tamer_agent::process::outside::serve;
use tokio::net::unix::pipe;

/// Runs what comes over standard input, and answers over standard output: both are pipes.
pub(super) async fn run_program() -> Result<(), Failure> {
    let alone =
        "standard input and output are not the agent's: this is for the agent alone to start";
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    let output = std::io::stdout().as_fd().try_clone_to_owned()?;
    let input = pipe::Receiver::from_owned_fd(input);
    let output = pipe::Sender::from_owned_fd(output);
    let (input, output) = (
        input.context(alone).map_err(Failure::Usage)?,
        output.context(alone).map_err(Failure::Usage)?,
    );
    serve(input, output).await.map_err(Into::into)
}
