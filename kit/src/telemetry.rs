//! Logs through `tracing`, to standard error: for people on a terminal, as JSON otherwise.
//!
//! The environment variable `TAMER_LOG` filters them, for instance `TAMER_LOG=debug` or
//! `TAMER_LOG=info,tamer_agent=trace`.

use std::io::IsTerminal;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The environment variable that filters the logs.
pub const FILTER_VARIABLE: &str = "TAMER_LOG";

/// Starts logging for the whole process; `default` filters where [`FILTER_VARIABLE`] is not set.
///
/// # Errors
/// The filter cannot be understood, or logging has been started before.
pub fn init(default: &str) -> anyhow::Result<()> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(given) if !given.is_empty() => given,
        _ => default.to_owned(),
    };
    let terminal = std::io::stderr().is_terminal();
    let subscriber = subscriber(&filter, terminal, std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| anyhow::anyhow!("logging has been started already"))
}

/// What [`init`] installs, with everything it would find out as an argument.
///
/// # Errors
/// The filter cannot be understood.
pub fn subscriber<W>(
    filter: &str,
    terminal: bool,
    writer: W,
) -> anyhow::Result<Box<dyn Subscriber + Send + Sync>>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)
        .map_err(|e| anyhow::anyhow!("{FILTER_VARIABLE}: `{filter}` is not a filter: {e}"))?;
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    Ok(if terminal {
        Box::new(base.with_target(false).finish())
    } else {
        Box::new(base.json().flatten_event(true).finish())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, terminal: bool) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = subscriber(filter, terminal, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(host = "web-01", "joined");
            tracing::debug!("unseen");
        });
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_pipe_gets_one_json_object_a_line_and_a_terminal_gets_text() {
        let json = logged("info", false);
        assert!(
            json.starts_with('{') && json.trim_end().ends_with('}'),
            "{json}"
        );
        assert!(json.contains(r#""message":"joined""#) && json.contains(r#""host":"web-01""#));
        assert_eq!(json.lines().count(), 1, "debug is filtered");
        let text = logged("debug", true);
        assert!(!text.starts_with('{') && text.contains("joined"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = subscriber("tamer=nonsense=3", true, io::sink)
            .err()
            .unwrap();
        assert!(error.to_string().contains("tamer=nonsense=3"), "{error}");
    }
}
