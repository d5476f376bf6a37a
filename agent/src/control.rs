//! What a person on the server asks of the agent that runs there: one line of JSON each way over a
//! socket in the state directory, which nobody but the agent's own user may enter.

use crate::converge::{Request, RouteStanding};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tamer_core::desired::Slot;
use tamer_kit::durable::FileError;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// The longest question, in bytes.
const MAX_QUESTION: u64 = 64 << 10;

/// The longest answer, in bytes: a thousand routes, each with what its command printed.
const MAX_ANSWER: u64 = 16 << 20;

/// How long the other side may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the agent may take to answer: it may be hashing a whole release.
const ANSWER_TIME: Duration = Duration::from_secs(300);

/// How long it may take to say how routes stand: whoever looks is told so much without it.
const LOOK_TIME: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// Go back to the release that ran well before, and stay there.
    Rollback {
        /// Which component.
        slot: Slot,
        /// Why.
        reason: String,
    },
    /// Follow the controller again.
    Release {
        /// Which component.
        slot: Slot,
    },
    /// Say how the components stand that this host routes for.
    Routes,
}

/// What the agent says to it, either way one sentence. (How routes stand it says to [`routes`].)
pub type Answer = Result<String, String>;

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket cannot be made or found.
    #[error(transparent)]
    File(#[from] FileError),
    /// No agent runs here.
    #[error("no agent runs here")]
    NobodyThere,
    /// The line broke.
    #[error("the agent did not answer")]
    Line(#[source] io::Error),
}

/// The socket of a state directory. Its path goes through the open directory, for the path of a socket
/// may have no more than 107 bytes (unix(7)), and a state directory any number.
struct Place {
    _dir: File,
    short: PathBuf,
}

impl Place {
    fn of(state: &Path) -> Result<Self, FileError> {
        let dir = File::open(state).map_err(FileError::new("open", state))?;
        let short = PathBuf::from(format!("/proc/self/fd/{}/agent.sock", dir.as_raw_fd()));
        Ok(Self { _dir: dir, short })
    }
}

/// Asks the agent that runs with this state directory.
///
/// # Errors
/// [`ControlError`]; [`ControlError::NobodyThere`] where none runs.
pub async fn ask(state: &Path, question: &Ask) -> Result<Answer, ControlError> {
    talk(state, question, ANSWER_TIME).await
}

/// Asks the agent that runs with this state directory how the components stand that this host routes for.
///
/// # Errors
/// [`ControlError`]; [`ControlError::NobodyThere`] where none runs.
pub async fn routes(state: &Path) -> Result<Vec<RouteStanding>, ControlError> {
    let answer: Result<_, String> = talk(state, &Ask::Routes, LOOK_TIME).await?;
    answer.map_err(|why| ControlError::Line(io::Error::other(why)))
}

async fn talk<T: DeserializeOwned>(
    state: &Path,
    question: &Ask,
    patience: Duration,
) -> Result<T, ControlError> {
    let place = Place::of(state)?;
    let mut stream = match UnixStream::connect(&place.short).await {
        Ok(stream) => stream,
        Err(e)
            if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&e.kind()) =>
        {
            return Err(ControlError::NobodyThere);
        }
        Err(e) => return Err(FileError::new("connect to", &state.join("agent.sock"))(e).into()),
    };
    let talk = async {
        write(&mut stream, question).await?;
        read(&mut stream, MAX_ANSWER).await
    };
    match tokio::time::timeout(patience, talk).await {
        Ok(answer) => answer.map_err(ControlError::Line),
        Err(late) => Err(ControlError::Line(late.into())),
    }
}

/// Whether an agent runs with this state directory.
pub async fn runs(state: &Path) -> bool {
    let Ok(place) = Place::of(state) else {
        return false;
    };
    UnixStream::connect(&place.short).await.is_ok()
}

/// The agent's end of the socket.
pub struct Control {
    listener: UnixListener,
    place: Place,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Control").field(&self.listener).finish()
    }
}

impl Control {
    /// Makes the socket. Whoever calls holds the state directory's lock: what lies there is a leftover.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(state: &Path) -> Result<Self, FileError> {
        let place = Place::of(state)?;
        let path = state.join("agent.sock");
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::new("remove", &path)(e));
            }
            _ => {}
        }
        let listener =
            UnixListener::bind(&place.short).map_err(FileError::new("listen on", &path))?;
        Ok(Self { listener, place })
    }

    /// Answers until `stop`.
    pub async fn run(self, requests: mpsc::Sender<Request>, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(serve(stream, requests.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the local socket does not accept");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        let _ = fs::remove_file(&self.place.short);
    }
}

async fn serve(mut stream: UnixStream, requests: mpsc::Sender<Request>) {
    let question = tokio::time::timeout(PATIENCE, read::<Ask>(&mut stream, MAX_QUESTION)).await;
    let answer = match question {
        Ok(Ok(question)) => pass_on(question, &requests).await,
        Ok(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => return, // It only looked.
        Ok(Err(e)) => Err(format!("the question cannot be read: {e}")),
        Err(_) => return,
    };
    // Whoever asked may be gone.
    let _ = write(&mut stream, &answer).await;
}

async fn pass_on(question: Ask, requests: &mpsc::Sender<Request>) -> Result<Value, String> {
    let gone = || "the agent is stopping".to_owned();
    match question {
        Ask::Rollback { slot, reason } => {
            let (reply, answer) = oneshot::channel();
            let request = Request::Rollback {
                slot,
                reason,
                reply,
            };
            requests.send(request).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?.map(Value::String)
        }
        Ask::Release { slot } => {
            let (reply, answer) = oneshot::channel();
            let name = slot.to_string();
            let request = Request::Release { slot, reply };
            requests.send(request).await.map_err(|_| gone())?;
            let held = answer.await.map_err(|_| gone())??;
            Ok(Value::String(released(&name, held)))
        }
        Ask::Routes => {
            let (reply, answer) = oneshot::channel();
            let request = Request::Routes { reply };
            requests.send(request).await.map_err(|_| gone())?;
            let standings = answer.await.map_err(|_| gone())?;
            serde_json::to_value(standings).map_err(|e| e.to_string())
        }
    }
}

/// What is said when a hold was taken away, or there was none.
pub fn released(slot: &str, held: bool) -> String {
    if held {
        format!("{slot} follows the controller again")
    } else {
        format!("{slot} was not held")
    }
}

async fn write(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

async fn read<T: DeserializeOwned>(stream: &mut UnixStream, longest: u64) -> io::Result<T> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream.take(longest));
    reader.read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowed::failure;
    use tamer_core::desired::FailureKind;
    use tamer_core::moment::Moment;

    fn slot() -> Slot {
        Slot {
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: Default::default(),
        }
    }

    /// More than a question may have.
    fn standing() -> RouteStanding {
        let why = "x".repeat(100_000);
        RouteStanding {
            component: "shop/web".parse().unwrap(),
            wanted: Some("green".parse().unwrap()),
            sends_to: None,
            since: None,
            failed: Some((Moment(7), failure(FailureKind::Host, why))),
        }
    }

    #[tokio::test]
    async fn questions_reach_the_agent_and_answers_come_back() {
        let dir = tempfile::tempdir().unwrap();
        // Longer than the path of a socket may be.
        let state = dir.path().join("s".repeat(150));
        fs::create_dir(&state).unwrap();
        let question = Ask::Rollback {
            slot: slot(),
            reason: "it is slow".to_owned(),
        };
        assert!(matches!(
            ask(&state, &question).await,
            Err(ControlError::NobodyThere)
        ));
        assert!(!runs(&state).await);
        fs::write(state.join("agent.sock"), "a leftover").unwrap();
        let stop = CancellationToken::new();
        let (sender, mut requests) = mpsc::channel(1);
        let control = Control::open(&state).unwrap();
        let served = tokio::spawn(control.run(sender, stop.clone()));
        assert!(runs(&state).await);
        let agent = tokio::spawn(async move {
            let Some(Request::Rollback {
                slot,
                reason,
                reply,
            }) = requests.recv().await
            else {
                panic!("another request");
            };
            reply
                .send(Err(format!("{slot}: not because {reason}")))
                .unwrap();
            let Some(Request::Release { reply, .. }) = requests.recv().await else {
                panic!("another request");
            };
            reply.send(Ok(true)).unwrap();
            let Some(Request::Routes { reply }) = requests.recv().await else {
                panic!("another request");
            };
            reply.send(vec![standing()]).unwrap();
        });
        let answer = ask(&state, &question).await.unwrap();
        assert_eq!(answer, Err("shop/web: not because it is slow".to_owned()));
        let answer = ask(&state, &Ask::Release { slot: slot() }).await.unwrap();
        assert_eq!(answer.unwrap(), "shop/web follows the controller again");
        assert_eq!(routes(&state).await.unwrap(), [standing()]);
        agent.await.unwrap();
        stop.cancel();
        served.await.unwrap();
        assert!(!state.join("agent.sock").exists());
    }
}
