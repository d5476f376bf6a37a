//! How Tamer's speed and size are measured. `benches/run` runs everything; `docs/benchmarks.md` has the
//! figures. Nothing here is a test: no figure is ever asserted, only that what was timed was done right.

pub mod fleet;
pub mod measure;
pub mod others;
pub mod process;
pub mod swarm;
pub mod tree;
