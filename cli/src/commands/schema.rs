//! `tamer schema list`, `tamer schema settle`

use super::Context;
use crate::args::SchemaCommand;
use crate::error::Result;
use crate::exit::Exit;
use crate::views::databases;
use tamer_proto::v1::{ListSchemasRequest, SettleSchemaRequest};

pub(super) async fn run(at: &Context<'_>, command: SchemaCommand) -> Result<Exit> {
    let session = at.session().await?;
    match command {
        SchemaCommand::List {
            environment,
            application,
        } => {
            let request = ListSchemasRequest {
                environment: environment.map(String::from).unwrap_or_default(),
                application: application.map(String::from).unwrap_or_default(),
            };
            let answer = session
                .operators()
                .list_schemas(request)
                .await?
                .into_inner();
            at.printer.json(&answer);
            if answer.schemas.is_empty() {
                at.printer.line("No database was read or migrated yet.");
            } else {
                at.printer.lines(databases::list(&answer.schemas));
            }
            let waits = answer.schemas.iter().find(|row| row.unknown);
            if let Some(row) = waits {
                at.printer.next(format!(
                    "tamer schema settle {} VERSION --reason TEXT",
                    row.environment
                ));
            }
        }
        SchemaCommand::Settle(args) => {
            let request = SettleSchemaRequest {
                environment: args.environment.to_string(),
                application: args.application.map(String::from).unwrap_or_default(),
                schema: args.schema.map(String::from).unwrap_or_default(),
                version: args.version,
                reason: args.reason,
            };
            let answer = session
                .operators()
                .settle_schema(request)
                .await?
                .into_inner();
            at.printer.json(&answer);
            at.printer.line(format!(
                "the database {} has {}, as you saw",
                answer.schema, args.version
            ));
            at.printer.next(match answer.deployment {
                0 => format!("tamer status {}", args.environment),
                deployment => format!("tamer watch {deployment}"),
            });
        }
    }
    Ok(Exit::Done)
}
