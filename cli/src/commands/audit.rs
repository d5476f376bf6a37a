//! `tamer audit`: reads the log, follows its chain, and remembers how far it was seen.

use super::Context;
use crate::args::{Audit, AuditCommand};
use crate::client::Session;
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use crate::home::Login;
use crate::printer::Printer;
use crate::views::audit::line;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::pin::pin;
use tamer_kit::audit::Entry;
use tamer_kit::chain::{Broken, Follower, Head, MAX_LINE};
use tamer_kit::clock;
use tamer_proto::v1::AuditRequest;

pub(super) async fn run(at: &Context<'_>, args: &Audit) -> Result<Exit> {
    match &args.command {
        None => show(at, args).await,
        Some(AuditCommand::Head) => head(at).await,
        Some(AuditCommand::Verify { file: None, head }) => verify(at, *head).await,
        Some(AuditCommand::Verify {
            file: Some(file),
            head,
        }) => verify_file(file, *head, at.printer),
    }
}

async fn show(at: &Context<'_>, args: &Audit) -> Result<Exit> {
    let session = at.session().await?;
    let known = session.login.audit_head()?;
    let mut follower = Follower::midway(known);
    let mut shown = 0_u64;
    let since = args.since.map_or(0, |since| {
        let past = u64::try_from(since.0.as_millis()).unwrap_or(u64::MAX);
        clock::now().0.saturating_sub(past)
    });
    let request = AuditRequest {
        since_ms: since,
        limit: args.limit,
        follow: args.follow,
    };
    let mut each = |raw: &[u8]| {
        let entry: Entry = follower.next(raw).map_err(|why| told(&why, known))?;
        shown += 1;
        if at.printer.is_json() {
            at.printer
                .raw(&format!("{}\n", String::from_utf8_lossy(raw)));
        } else {
            at.printer.line(line(&entry));
        }
        Ok(())
    };
    let over = tokio::select! {
        over = receive(&session, request, &mut each) => over.map(|()| true),
        _ = tokio::signal::ctrl_c() => Ok(false),
    }?;
    let reached = follower.head();
    if over && (since == 0 || shown > 0) {
        follower.end().map_err(|why| told(&why, known))?;
    }
    keep(&session.login, reached)?;
    if shown == 0 {
        at.printer.note("There is no such entry.");
    }
    Ok(Exit::Done)
}

async fn head(at: &Context<'_>) -> Result<Exit> {
    let session = at.session().await?;
    let known = session.login.audit_head()?;
    let mut follower = Follower::midway(known);
    let request = AuditRequest {
        limit: 1,
        ..AuditRequest::default()
    };
    receive(&session, request, &mut |raw| {
        let read = follower.next::<Entry>(raw).map(drop);
        read.map_err(|why| told(&why, known))
    })
    .await?;
    let head = follower.end().map_err(|why| told(&why, known))?;
    keep(&session.login, head)?;
    print(at.printer, head, &format!("{head}"));
    at.printer.note(format!(
        "keep it elsewhere; later: tamer audit verify --head {head}"
    ));
    Ok(Exit::Done)
}

async fn verify(at: &Context<'_>, head: Option<Head>) -> Result<Exit> {
    let session = at.session().await?;
    let known = session.login.audit_head()?;
    let mut follower = Follower::new(head.into_iter().chain(known));
    receive(&session, AuditRequest::default(), &mut |raw| {
        let read = follower.next::<Entry>(raw).map(drop);
        read.map_err(|why| told(&why, known))
    })
    .await?;
    let head = follower.end().map_err(|why| told(&why, known))?;
    keep(&session.login, head)?;
    holds(at.printer, &session.login.address.to_string(), head);
    Ok(Exit::Done)
}

fn verify_file(file: &Path, head: Option<Head>, printer: &Printer) -> Result<Exit> {
    let name = file.display();
    let doing = || format!("cannot read {name}");
    let mut input = BufReader::new(File::open(file).doing(Exit::Usage, doing)?);
    let mut follower = Follower::new(head);
    loop {
        let mut raw = Vec::new();
        let n = (&mut input)
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut raw)
            .doing(Exit::Internal, doing)?;
        if n == 0 {
            break;
        }
        if raw.pop() != Some(b'\n') {
            let line = follower.head().line + 1;
            let why = "it is cut short or too long".to_owned();
            return Err(told(&Broken { line, why }, None));
        }
        follower
            .next::<Entry>(&raw)
            .map_err(|why| told(&why, None))?;
    }
    let head = follower.end().map_err(|why| told(&why, None))?;
    holds(printer, &name.to_string(), head);
    Ok(Exit::Done)
}

/// Every line that the controller sends.
async fn receive(
    session: &Session,
    request: AuditRequest,
    each: &mut impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let answer = session.operators().audit(request).await?;
    let mut lines = pin!(answer.into_inner());
    while let Some(batch) = lines.message().await? {
        for raw in &batch.lines {
            each(raw)?;
        }
    }
    Ok(())
}

/// Remembers how far the log was seen; what was seen further on stays.
fn keep(login: &Login, head: Head) -> Result<()> {
    let before = login.audit_head()?.map_or(0, |known| known.line);
    if head.line > before {
        login.keep_audit_head(head)?;
    }
    Ok(())
}

fn holds(printer: &Printer, what: &str, head: Head) {
    let said = format!("{what}: every link holds, up to line {}", head.line);
    print(printer, head, &said);
    printer.note(format!(
        "keep this elsewhere to prove it later: tamer audit verify --head {head}"
    ));
}

fn print(printer: &Printer, head: Head, text: &str) {
    printer.json(&serde_json::json!({ "line": head.line, "hash": head.hash }));
    printer.line(text);
}

fn told(why: &Broken, known: Option<Head>) -> Error {
    let error = Error::new(
        Exit::Refused,
        format!("the audit log is not what was written: {why}"),
    );
    let error = match known {
        Some(known) if known.line == why.line => error.next(format!(
            "this machine saw line {} as {}: if the controller came back from a backup, look at what lies beside its \
             log, and compare with who else has looked",
            known.line,
            known.hash.short()
        )),
        _ => error,
    };
    error.next("on the controller: tamer-controller audit verify")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::Output;
    use std::fs;
    use tamer_core::moment::Moment;
    use tamer_kit::chain;

    fn log(count: u64, who: &str) -> (Vec<u8>, Vec<Head>) {
        let (mut all, mut heads) = (Vec::new(), vec![chain::START]);
        for n in 0..count {
            let entry = Entry::done(
                Moment(n),
                who.to_owned(),
                "deploy".to_owned(),
                format!("production shop@1.{n}.0"),
            );
            let (line, head) = chain::line(heads[heads.len() - 1], &entry);
            all.extend(line);
            heads.push(head);
        }
        (all, heads)
    }

    fn verified(bytes: &[u8], head: Option<Head>) -> std::result::Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.log");
        fs::write(&file, bytes).unwrap();
        let (printer, kept) = Printer::keeping(Output::Text);
        match verify_file(&file, head, &printer) {
            Ok(_) => Ok(kept.lock().unwrap().out.clone()),
            Err(error) => {
                assert_eq!(error.exit, Exit::Refused);
                Err(error.report())
            }
        }
    }

    #[test]
    fn a_copy_of_the_log_that_was_touched_is_found_out_and_its_line_named() {
        let (whole, heads) = log(5, "anna");
        let said = verified(&whole, Some(heads[5])).unwrap();
        assert!(said.contains("up to line 5"), "{said}");
        let lines: Vec<&[u8]> = whole.split_inclusive(|b| *b == b'\n').collect();
        let tell = |lines: &[&[u8]], head, line: u64| {
            let said = verified(&lines.concat(), head).unwrap_err();
            assert!(said.contains(&format!("line {line}:")), "{said}");
        };
        let changed = String::from_utf8(lines[2].to_vec()).unwrap();
        let changed = changed.replace("anna", "mary");
        tell(&[lines[0], lines[1], changed.as_bytes()], None, 3);
        tell(&[lines[0], lines[2], lines[3]], None, 2);
        tell(&[lines[0], lines[2], lines[1]], None, 2);
        tell(&lines[..3], Some(heads[5]), 5);
        tell(&[lines[0], &lines[1][..20]], None, 2);
        // All of it anew, and whole in itself.
        let (other, _) = log(5, "mary");
        assert!(verified(&other, None).is_ok());
        let said = verified(&other, Some(heads[3])).unwrap_err();
        assert!(said.contains("line 3:"), "{said}");
    }
}
