//! One server's hands and eyes: the agent.

pub mod allowed;
pub mod brake;
pub mod checks;
pub mod clock;
pub mod config;
pub mod control;
pub mod converge;
pub mod drift;
pub mod execute;
pub mod host;
pub mod identity;
pub mod journal;
pub mod link;
pub mod metrics;
pub mod own;
pub mod plan;
pub mod process;
pub mod remote;
pub mod source;
pub mod transfer;
