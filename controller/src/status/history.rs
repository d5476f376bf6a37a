//! The past beside deployments: what was done to databases, and what was said of changes by hand.

use crate::fleet::Fleet;
use crate::fleet::past::PastWord;
use tamer_core::drift::Way;
use tamer_core::id::{ApplicationName, EnvironmentName, SchemaName};
use tamer_core::schema::record::Past;
use tamer_proto::v1;

/// The newest migrations and looks of people, of one environment or of all.
pub fn migrations(
    fleet: &Fleet,
    environment: Option<&EnvironmentName>,
    most: usize,
) -> Vec<v1::PastMigration> {
    let known = fleet.book.all();
    let known = known.filter(|(place, ..)| environment.is_none_or(|only| only == *place));
    let mut all: Vec<_> = known
        .flat_map(|(place, application, schema, known)| {
            let past = known.migrations().into_iter();
            past.map(move |it| migration(place, application, schema, it))
        })
        .collect();
    all.sort_by_key(|it| std::cmp::Reverse(it.at_ms));
    all.truncate(most);
    all
}

fn migration(
    environment: &EnvironmentName,
    application: &ApplicationName,
    schema: &SchemaName,
    past: Past,
) -> v1::PastMigration {
    let mut row = v1::PastMigration {
        at_ms: past.at.0,
        environment: environment.to_string(),
        application: application.to_string(),
        schema: schema.to_string(),
        state: past.standing.to_string(),
        version: past.version,
        ended_ms: past.ended.map_or(0, |at| at.0),
        by: past.by.unwrap_or_default(),
        reason: past.why,
        ..v1::PastMigration::default()
    };
    if let Some(started) = past.started {
        row.task = started.task.to_string();
        row.from = started.from;
        row.to = started.to;
        row.deployment = started.deployment.0;
        row.host = started.host.to_string();
    }
    row
}

/// The newest words on changes by hand, of one environment or of all.
pub fn words(
    fleet: &Fleet,
    environment: Option<&EnvironmentName>,
    most: usize,
) -> Vec<v1::PastWord> {
    let newest = fleet.past_words.values().rev();
    let here = newest.filter(|it| environment.is_none_or(|only| *only == it.target.environment));
    here.take(most).map(word).collect()
}

fn word(past: &PastWord) -> v1::PastWord {
    let (ended, became) = past.ended.clone().unzip();
    v1::PastWord {
        at_ms: past.word.at.0,
        environment: past.target.environment.to_string(),
        host: past.host.to_string(),
        application: past.target.application.to_string(),
        component: past.target.component.to_string(),
        pool: past.target.pool.to_string(),
        way: match past.word.way {
            Way::Adopt => "adopt".to_owned(),
            Way::Repair => "repair".to_owned(),
        },
        by: past.word.by.clone(),
        reason: past.word.reason.clone(),
        total: past.word.total,
        named: past.named.clone(),
        ended_ms: ended.map_or(0, |at| at.0),
        became: became.unwrap_or_default(),
    }
}
