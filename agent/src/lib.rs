//! One server's hands and eyes: the agent.

pub mod checks;
pub mod process;
pub mod allowed;
pub mod config;
pub mod journal;
pub mod plan;
pub mod execute;
pub mod host;
pub mod source;
pub mod drift;
pub mod converge;
