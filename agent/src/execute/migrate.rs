//! Carries out an order to read or migrate a database. Durable are the moment before the program is
//! started that changes it, and the end; what was begun and has no end is never begun again.

use super::program::enclosed;
use super::{End, Executor};
use crate::allowed::failure;
use crate::checks::seconds;
use crate::host::chain;
use crate::journal::Migrating;
use crate::journal::progress::fail_at;
use crate::plan::interrupted;
use crate::process::{Exit, Outcome};
use std::time::Duration;
use tamer_core::desired::{Failure, FailureKind, Slot};
use tamer_core::schema::{MigrationOrder, MigrationStatus, Program, SchemaSpec, Task};

/// How long `current` may take.
const READING: Duration = Duration::from_secs(60);

impl Executor {
    /// Carries out an order. When this returns, the journal says how it ended, unless it could not be
    /// written: then the status still says it, and the caller remembers it.
    pub async fn migrate(&self, slot: &Slot, end: &End, order: &MigrationOrder) -> MigrationStatus {
        let status = self.carry_out(slot, end, order).await;
        self.end_migration(slot, order, &status).await;
        status
    }

    /// Ends an order that was begun before the agent stopped: what the database has now is all that can be
    /// found out about it, and where its release is still there to ask (`end`).
    pub async fn settle_migration(
        &self,
        slot: &Slot,
        end: Option<&End>,
        begun: &Migrating,
    ) -> MigrationStatus {
        let order = &begun.order;
        let spec = end.and_then(|end| end.installed.spec.schemas.get(&order.schema));
        let version = match (end, spec) {
            (Some(end), Some(spec)) if order.task != Task::Read => {
                self.read(slot, end, order, spec).await.ok()
            }
            _ => None,
        };
        let status = interrupted(begun, version);
        self.end_migration(slot, order, &status).await;
        status
    }

    /// Writes down how an order ended.
    pub async fn end_migration(
        &self,
        slot: &Slot,
        order: &MigrationOrder,
        status: &MigrationStatus,
    ) {
        let ended = Migrating {
            order: order.clone(),
            status: status.clone(),
        };
        let written = self
            .journal
            .update(|it| it.slot_mut(slot).migration = Some(ended))
            .await;
        if let Err(error) = written {
            tracing::error!(%slot, error = %chain(&error), "the journal cannot be written");
        }
    }

    async fn carry_out(&self, slot: &Slot, end: &End, order: &MigrationOrder) -> MigrationStatus {
        let not_begun = |found, failure| MigrationStatus::NotBegun { found, failure };
        let what = &order.schema;
        let release = &end.installed.release.version;
        let Some(spec) = end.installed.spec.schemas.get(what) else {
            let why = format!("{release} carries no programs of schema `{what}`");
            return not_begun(None, failure(FailureKind::Migration, why));
        };
        let found = match self.read(slot, end, order, spec).await {
            Ok(found) => found,
            Err(why) => return not_begun(None, why),
        };
        let program = match order.task {
            Task::Read => return MigrationStatus::Done(found),
            Task::Up => Some(&spec.up),
            Task::Down => spec.down.as_ref(),
        };
        let Some(program) = program else {
            let why = format!("{release} has no `down` for schema `{what}`");
            return not_begun(Some(found), failure(FailureKind::Migration, why));
        };
        if found == order.to {
            return MigrationStatus::Done(found);
        }
        if found != order.from {
            let why = format!(
                "schema `{what}` has {found}, and {} was expected: somebody else has changed it",
                order.from
            );
            return not_begun(Some(found), failure(FailureKind::Migration, why));
        }
        let begun = Migrating {
            order: order.clone(),
            status: MigrationStatus::Working,
        };
        let written = self
            .journal
            .update(|it| it.slot_mut(slot).migration = Some(begun))
            .await;
        if let Err(error) = written {
            let why = format!("the journal cannot be written: {}", chain(&error));
            return not_begun(Some(found), failure(FailureKind::Disk, why));
        }
        fail_at("migrate", "before");
        let outcome = self.run(slot, end, order, program, spec.timeout.0).await;
        fail_at("migrate", "after");
        self.judge(slot, end, order, spec, outcome).await
    }

    /// What a program has done that was to change the database.
    async fn judge(
        &self,
        slot: &Slot,
        end: &End,
        order: &MigrationOrder,
        spec: &SchemaSpec,
        outcome: Result<Outcome, Failure>,
    ) -> MigrationStatus {
        let what = format!("`{}` of schema `{}`", order.task, order.schema);
        let (how, output, by_itself) = match outcome {
            // It could not even be started.
            Err(why) => (why.message, String::new(), true),
            Ok(Outcome { status, output, .. }) => match status {
                Exit::Code(0) => (format!("{what} ended well"), output, true),
                Exit::Code(code) => (format!("{what} ended with exit code {code}"), output, true),
                Exit::Signal(n) => (format!("{what} was ended by signal {n}"), output, false),
                Exit::TimedOut => {
                    let limit = seconds(spec.timeout.0);
                    (
                        format!("{what} did not end within {limit}, and was killed"),
                        output,
                        false,
                    )
                }
                Exit::NoScope => (format!("{what} was not started"), output, true),
            },
        };
        let failed = |message: String| Failure {
            output,
            ..failure(FailureKind::Migration, message)
        };
        let version = self.read(slot, end, order, spec).await;
        match version {
            Ok(version) if by_itself && version == order.to && how.ends_with("ended well") => {
                MigrationStatus::Done(version)
            }
            Ok(version) => {
                let failure = failed(format!(
                    "{how}: the database had {}, was to have {}, and has {version}",
                    order.from, order.to
                ));
                if by_itself {
                    MigrationStatus::Failed { version, failure }
                } else {
                    // What it had begun may still be going on inside the database.
                    MigrationStatus::Unknown {
                        version: Some(version),
                        failure,
                    }
                }
            }
            Err(why) => MigrationStatus::Unknown {
                version: None,
                failure: failed(format!(
                    "{how}, and the database cannot be read: {}",
                    why.message
                )),
            },
        }
    }

    /// The version that the database has.
    async fn read(
        &self,
        slot: &Slot,
        end: &End,
        order: &MigrationOrder,
        spec: &SchemaSpec,
    ) -> Result<u64, Failure> {
        let what = format!("`current` of schema `{}`", order.schema);
        let limit = READING.min(spec.timeout.0);
        let outcome = self.run(slot, end, order, &spec.current, limit).await?;
        let how = match outcome.status {
            Exit::Code(0) => {
                let last = outcome.output.trim_end().lines().next_back();
                let word = last.unwrap_or_default().trim();
                let plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
                match word.parse().ok().filter(|_| plain) {
                    Some(version) => return Ok(version),
                    None => "printed no decimal number as its last line".to_owned(),
                }
            }
            Exit::Code(code) => format!("ended with exit code {code}"),
            Exit::Signal(signal) => format!("was ended by signal {signal}"),
            Exit::TimedOut => format!("did not end within {}", seconds(limit)),
            Exit::NoScope => "was not started".to_owned(),
        };
        Err(Failure {
            output: outcome.output,
            ..failure(FailureKind::Migration, format!("{what} {how}"))
        })
    }

    /// Runs a program of the release as the component's user, as a hook is run.
    async fn run(
        &self,
        slot: &Slot,
        end: &End,
        order: &MigrationOrder,
        program: &Program,
        limit: Duration,
    ) -> Result<Outcome, Failure> {
        let mut command = super::program::program(&self.config, slot, end, None);
        command.program = end.dir.join(program.path());
        command.args = program.args().to_vec();
        let mut set = |name: &str, value: String| command.env.insert(name.to_owned(), value);
        set("TAMER_SCHEMA", order.schema.to_string());
        if order.task != Task::Read {
            set("TAMER_SCHEMA_FROM", order.from.to_string());
            set("TAMER_SCHEMA_TARGET", order.to.to_string());
        }
        command.time_limit = limit;
        let name = format!(
            "tamer-hook-{}-{}-{}-{}",
            slot.application, slot.component, order.task, order.schema
        );
        enclosed(&self.config, &name, command).await.map_err(|e| {
            let why = format!(
                "`{program}` of schema `{}` cannot be run: {e}",
                order.schema
            );
            failure(FailureKind::Migration, why)
        })
    }
}
