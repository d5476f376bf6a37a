//! The engine: how a release gets onto the hosts of one target, and back.
//!
//! Everything here is pure. An event changes the state ([`Target::apply`]); the state and the time
//! decide what happens next ([`Target::decide`]), as further events, with the reasons for waiting and
//! the moment to look again. Whoever drives it makes events durable *before* acting on what follows
//! from them.
//!
//! ```text
//! event ─▶ apply ─▶ state ─▶ decide ─▶ more events (applied in turn)
//!                     │
//!                     └────▶ desired(host): what is sent to the host
//! ```
//!
//! Where a component has two pools, [`switching`] is the same for the routers in front of them.
//!
//! One [`Target`] is one (environment, component, pool). It holds its hosts and at most one rollout.
//! Switching a host takes a *grant*; a grant counts as a host out of service from the moment it is
//! applied until the host has answered for it, however long that takes.

mod apply;
pub mod approval;
mod decide;
pub mod deployment;
mod desired;
pub mod estimate;
pub mod event;
pub mod invariants;
mod observe;
pub mod plan;
mod staging;
pub mod state;
pub mod switching;

pub use decide::{Decision, Waiting};
pub use event::{Event, Illegal, Observation, Touched};
pub use plan::{NewRollout, NoPlan};
pub use state::{
    Cause, Host, OpenGrant, Outcome, Part, PartStatus, Pause, Presence, Rollout, RolloutId, Stage,
    Target, Tried, Wave,
};
