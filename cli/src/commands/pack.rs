//! `tamer pack`

use super::blocking;
use super::project::Project;
use crate::args::Pack;
use crate::error::{Context as _, Result};
use crate::exit::Exit;
use crate::printer::Printer;
use crate::views::human::{bytes, count};
use serde::Serialize;
use tamer_core::digest::Digest;
use tamer_core::id::ComponentName;
use tamer_kit::durable;
use tamer_release::manifest;

#[derive(Serialize)]
struct Row {
    component: ComponentName,
    archive: String,
    manifest: String,
    digest: Digest,
    archive_bytes: u64,
    files: u64,
}

pub(super) async fn run(args: &Pack, printer: &Printer) -> Result<Exit> {
    let project = Project::load(&args.file)?;
    let application = project.application.application.clone();
    let doing = || format!("cannot write to {}", args.out.display());
    durable::create_dir_all(&args.out, 0o755).doing(Exit::Usage, doing)?;
    let mut rows = Vec::new();
    for component in project.chosen(&args.components)? {
        let stem = format!("{application}-{component}-{}", args.version);
        let archive = args.out.join(format!("{stem}.tar.zst"));
        let described = args.out.join(format!("{stem}.manifest.json"));
        let packed = {
            let (project, component) = (project.clone(), component.clone());
            let (version, archive) = (args.version.clone(), archive.clone());
            blocking("packing", move || {
                project.pack(&component, &version, &archive)
            })
            .await?
        };
        durable::replace_with(&described, 0o644, |file| {
            manifest::write(&packed.manifest, file)
        })
        .doing(Exit::Usage, doing)?;
        let row = Row {
            component,
            archive: archive.display().to_string(),
            manifest: described.display().to_string(),
            digest: packed.digest,
            archive_bytes: packed.manifest.archive.length,
            files: packed.manifest.files.len() as u64,
        };
        printer.line(format!(
            "{} {}  {}  {}, {}",
            row.component,
            row.digest,
            row.archive,
            bytes(row.archive_bytes),
            count(row.files, "entry").replace("entrys", "entries")
        ));
        rows.push(row);
    }
    printer.json(&rows);
    printer.next("tamer publish VERSION");
    Ok(Exit::Done)
}
