//! Databases: what an application says of them, what may be deployed over them, and how far back is safe.
//!
//! A database belongs to the application, not to a component. `tamer.toml` says how to read the version
//! that it has and how to go up and down; each component says which versions it can live with. From
//! these, and from everything that runs or may come back, follows what is safe. All of it is pure.
//!
//! | module | what it holds |
//! |---|---|
//! | [`range`] | the versions of a database that a release works with |
//! | [`spec`] | `[schema.NAME]`: the programs, and which steps cannot be undone |
//! | [`plan`] | whether a deployment is possible, in what order, and how far back is safe from there |
//! | [`order`] | what a host is told to run, and what it says of it |
//! | [`migration`] | one database of a deployment: how far its migration is |
//! | [`record`] | what was ever started and how it ended, as the controller writes it down |

pub mod migration;
pub mod order;
pub mod plan;
pub mod range;
pub mod record;
pub mod spec;

pub use migration::Migration;
pub use order::{MigrationOrder, MigrationReport, MigrationStatus, Task};
pub use range::{VersionRange, WorksWith};
pub use record::{Book, Record, What};
pub use spec::{Declared, Program, SchemaSpec, Schemas};
