//! What was ever started and how it ended. The controller writes every record down, outside its database,
//! before anything is done because of it; what is known of an application's databases is the sum of the
//! records, and of nothing else.

use super::order::Task;
use crate::generation::Generation;
use crate::id::{ApplicationName, EnvironmentName, HostName, SchemaName};
use crate::moment::Moment;
use crate::release::ReleaseRef;
use crate::rollout::deployment::DeploymentId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How many records of one database are remembered for people.
pub const REMEMBERED: usize = 20;

/// One thing that happened to a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When.
    pub at: Moment,
    /// Which environment's.
    pub environment: EnvironmentName,
    /// Which application's.
    pub application: ApplicationName,
    /// Which database.
    pub schema: SchemaName,
    /// What happened.
    pub what: What,
}

/// What happened to a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// A host read its version.
    Read {
        /// Which version.
        version: u64,
        /// Which host.
        host: HostName,
    },
    /// A host was given the lease, and the order to migrate. From here on it counts as begun.
    Started(Started),
    /// The order was carried out.
    Done {
        /// Which order.
        id: Generation,
        /// The version that the database has.
        version: u64,
    },
    /// It ended, and not well.
    Failed {
        /// Which order.
        id: Generation,
        /// The version that the database has.
        version: u64,
        /// One sentence.
        why: String,
    },
    /// Nothing was done to the database.
    NotBegun {
        /// Which order.
        id: Generation,
        /// One sentence.
        why: String,
    },
    /// It was begun, and how it ended is not known.
    Unknown {
        /// Which order.
        id: Generation,
        /// The version that was read afterwards, if it could be.
        version: Option<u64>,
        /// What is known of it.
        why: String,
    },
    /// A person has looked, and says what the database has.
    Settled {
        /// Which version.
        version: u64,
        /// Who says so.
        by: String,
        /// Why they think so.
        reason: String,
    },
}

/// An order that was given to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// Which order.
    pub id: Generation,
    /// For which deployment.
    pub deployment: DeploymentId,
    /// To which host.
    pub host: HostName,
    /// Whose programs.
    pub release: ReleaseRef,
    /// Up or down.
    pub task: Task,
    /// From which version.
    pub from: u64,
    /// To which version.
    pub to: u64,
}

/// What is known of every database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Book {
    entries: BTreeMap<(EnvironmentName, ApplicationName), BTreeMap<SchemaName, Known>>,
}

/// What is known of one database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// The version that it has, and since when that is known.
    pub version: Option<(u64, Moment)>,
    /// The release whose `up` brought it to that version, or to a later one: it knows the way down.
    pub brought_by: Option<(u64, ReleaseRef)>,
    /// The order that was given and whose end is not known.
    pub open: Option<Open>,
    /// What happened, the newest last, at most [`REMEMBERED`].
    pub past: Vec<Record>,
}

/// An order whose end is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The order.
    pub started: Started,
    /// When it was given.
    pub at: Moment,
    /// Set once it is certain that nobody will ever say how it ended: what is known of it.
    pub unknown: Option<String>,
}

/// A migration of the past, or what a person saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// When it was begun, or seen.
    pub at: Moment,
    /// The order; `None`: a person looked while none was open.
    pub started: Option<Started>,
    /// How it stands.
    pub standing: Standing,
    /// The version that the database then had, where that is known.
    pub version: Option<u64>,
    /// When it ended, or a person had looked; `None`: it has not.
    pub ended: Option<Moment>,
    /// What went wrong; of what was settled, the reason that was given.
    pub why: String,
    /// Who settled it.
    pub by: Option<String>,
}

/// How a migration of the past stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has not ended.
    UnderWay,
    /// It was carried out.
    Done,
    /// It ended, and not well.
    Failed,
    /// Nothing was done.
    NotBegun,
    /// How it ended is not known.
    Unknown,
    /// A person has said what the database has.
    Settled,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::UnderWay => "under way",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::NotBegun => "not begun",
            Self::Unknown => "unknown",
            Self::Settled => "settled",
        })
    }
}

// === impl Book ===

impl Book {
    /// Takes a record in.
    pub fn apply(&mut self, record: &Record) {
        let place = (record.environment.clone(), record.application.clone());
        let known = self.entries.entry(place).or_default();
        let known = known.entry(record.schema.clone()).or_default();
        known.apply(record);
    }

    /// The databases of an application in an environment.
    pub fn of(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
    ) -> Option<&BTreeMap<SchemaName, Known>> {
        self.entries
            .get(&(environment.clone(), application.clone()))
    }

    /// One database.
    pub fn get(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
        schema: &SchemaName,
    ) -> Option<&Known> {
        self.of(environment, application)?.get(schema)
    }

    /// Every database, with whose it is.
    pub fn all(
        &self,
    ) -> impl Iterator<Item = (&EnvironmentName, &ApplicationName, &SchemaName, &Known)> {
        self.entries
            .iter()
            .flat_map(|((environment, application), known)| {
                known
                    .iter()
                    .map(move |(schema, known)| (environment, application, schema, known))
            })
    }
}

// === impl Known ===

impl Known {
    /// What was begun and how it ended, and what people saw, the newest last; as far as it is remembered.
    pub fn migrations(&self) -> Vec<Past> {
        let mut all: Vec<Past> = Vec::new();
        for record in &self.past {
            let begun = |all: &mut Vec<Past>, id: Generation| {
                let is_it = |it: &Past| it.started.as_ref().is_some_and(|it| it.id == id);
                all.iter().rposition(is_it)
            };
            let (id, standing, version, why) = match &record.what {
                What::Read { .. } => continue,
                What::Started(started) => {
                    all.push(Past {
                        at: record.at,
                        started: Some(started.clone()),
                        standing: Standing::UnderWay,
                        version: None,
                        ended: None,
                        why: String::new(),
                        by: None,
                    });
                    continue;
                }
                What::Done { id, version } => (*id, Standing::Done, Some(*version), ""),
                What::Failed { id, version, why } => {
                    (*id, Standing::Failed, Some(*version), &**why)
                }
                What::NotBegun { id, why } => (*id, Standing::NotBegun, None, &**why),
                What::Unknown { id, version, why } => (*id, Standing::Unknown, *version, &**why),
                What::Settled {
                    version,
                    by,
                    reason,
                } => {
                    let open =
                        |it: &Past| matches!(it.standing, Standing::UnderWay | Standing::Unknown);
                    let (at, started) = match all.pop_if(|it| open(it)) {
                        Some(it) => (it.at, it.started),
                        None => (record.at, None),
                    };
                    all.push(Past {
                        at,
                        started,
                        standing: Standing::Settled,
                        version: Some(*version),
                        ended: Some(record.at),
                        why: reason.clone(),
                        by: Some(by.clone()),
                    });
                    continue;
                }
            };
            // One whose beginning is forgotten tells nothing.
            if let Some(past) = begun(&mut all, id).and_then(|n| all.get_mut(n)) {
                past.standing = standing;
                past.version = version;
                past.ended = Some(record.at);
                why.clone_into(&mut past.why);
            }
        }
        all
    }

    fn apply(&mut self, record: &Record) {
        let mut has = |version: u64| self.version = Some((version, record.at));
        match &record.what {
            What::Read { version, .. } => has(*version),
            What::Started(started) => {
                self.open = Some(Open {
                    started: started.clone(),
                    at: record.at,
                    unknown: None,
                });
            }
            What::Done { id, version } | What::Failed { id, version, .. } => {
                has(*version);
                self.note_bringer(*version);
                self.close(*id);
            }
            What::NotBegun { id, .. } => self.close(*id),
            What::Unknown { id, version, why } => {
                if let Some(version) = version {
                    has(*version);
                }
                if let Some(open) = self.open.as_mut().filter(|open| open.started.id == *id) {
                    open.unknown = Some(why.clone());
                }
            }
            What::Settled { version, .. } => {
                has(*version);
                self.note_bringer(*version);
                self.open = None;
            }
        }
        // What is read at every deployment tells people nothing about the past.
        if !matches!(record.what, What::Read { .. }) {
            self.past.push(record.clone());
            let surplus = self.past.len().saturating_sub(REMEMBERED);
            self.past.drain(..surplus);
        }
    }

    /// The order that is open has brought the database to this version.
    fn note_bringer(&mut self, version: u64) {
        let up = self.open.as_ref().map(|open| &open.started);
        if let Some(up) = up.filter(|it| it.task == Task::Up && version > it.from) {
            self.brought_by = Some((version, up.release.clone()));
        }
    }

    fn close(&mut self, id: Generation) {
        if self.open.as_ref().is_some_and(|open| open.started.id == id) {
            self.open = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn record(at: u64, what: What) -> Record {
        Record {
            at: Moment(at),
            environment: "production".parse().unwrap(),
            application: "shop".parse().unwrap(),
            schema: "main".parse().unwrap(),
            what,
        }
    }

    fn id(counter: u64) -> Generation {
        Generation { epoch: 1, counter }
    }

    fn started(counter: u64) -> What {
        What::Started(Started {
            id: id(counter),
            deployment: DeploymentId(counter),
            host: "web-1".parse().unwrap(),
            release: ReleaseRef {
                version: "1.0.0".parse().unwrap(),
                manifest: Digest::new([1; 32]),
            },
            task: Task::Up,
            from: 41,
            to: 42,
        })
    }

    #[test]
    fn the_past_of_a_database_says_how_each_ended_and_who_settled_it() {
        let mut known = Known::default();
        let settled = |by: &str| What::Settled {
            version: 42,
            by: by.to_owned(),
            reason: "looked".to_owned(),
        };
        let story = [
            // Its beginning is forgotten.
            What::Done {
                id: id(1),
                version: 41,
            },
            started(2),
            What::NotBegun {
                id: id(2),
                why: "no room".to_owned(),
            },
            started(3),
            What::Unknown {
                id: id(3),
                version: None,
                why: "the host is gone".to_owned(),
            },
            settled("anna"),
            settled("ben"),
            started(4),
        ];
        for (at, what) in (1..).zip(story) {
            known.apply(&record(at, what));
        }
        let told: Vec<_> = known
            .migrations()
            .into_iter()
            .map(|it| {
                let deployment = it.started.map(|it| it.deployment.0);
                (it.at.0, deployment, it.standing, it.ended, it.by)
            })
            .collect();
        let by = |name: &str| Some(name.to_owned());
        assert_eq!(
            told,
            [
                (2, Some(2), Standing::NotBegun, Some(Moment(3)), None),
                (4, Some(3), Standing::Settled, Some(Moment(6)), by("anna")),
                (7, None, Standing::Settled, Some(Moment(7)), by("ben")),
                (8, Some(4), Standing::UnderWay, None, None),
            ]
        );
    }
}
