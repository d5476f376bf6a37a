//! The lies, as changes to what the honest controller answers.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_LENGTH};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use prost::Message as _;
use tamer_controller::identity::peer::{Caller, Identity};
use tamer_proto::v1::controller_message::Kind;
use tamer_proto::v1::{ControllerMessage, Desired};

const LIE: &str = "/etc/tamer/lie";
/// The stream on which servers hear what they shall be.
const STREAM: &str = "/tamer.v1.Agents/Connect";
/// The largest file that is looked at for an environment, in bytes.
const MAX_FILE: usize = 1 << 20;

/// Puts the lies around what is answered.
pub(crate) fn around(router: Router) -> Router {
    router.layer(from_fn(lie))
}

/// What is to be said now.
fn wanted() -> Vec<String> {
    let text = std::fs::read_to_string(LIE).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

async fn lie(mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let caller = request.extensions().get::<Caller>();
    let to_server = caller
        .and_then(Caller::peer)
        .is_some_and(|it| matches!(it.identity, Identity::Host { .. }));
    // Files come as they are: a compressed one cannot be changed here.
    request.headers_mut().remove(ACCEPT_ENCODING);
    let response = next.run(request).await;
    if path == STREAM {
        return response.map(stream);
    }
    let weaken = || wanted().first().is_some_and(|it| it == "weaken");
    match to_server && path.starts_with("/blobs/") && weaken() {
        true => weakened(response).await,
        false => response,
    }
}

/// The messages of a stream, each as it is or as a lie. gRPC puts a byte and the length before each.
fn stream(body: Body) -> Body {
    let mut waiting = BytesMut::new();
    let body = body.map_frame(move |frame| {
        frame.map_data(|data| {
            waiting.extend_from_slice(&data);
            let mut out = BytesMut::new();
            while let Some(message) = message(&mut waiting) {
                let message = message.encode_to_vec();
                out.put_u8(0);
                out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
                out.extend_from_slice(&message);
            }
            out.freeze()
        })
    });
    Body::new(body)
}

/// The next whole message, with what is to be said in place of what is true.
fn message(waiting: &mut BytesMut) -> Option<ControllerMessage> {
    let length = waiting.get(1..5)?;
    let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
    let bytes = waiting.get(5..5 + length)?;
    let mut message = ControllerMessage::decode(bytes).ok()?;
    waiting.advance(5 + length);
    if let Some(Kind::Desired(desired)) = &mut message.kind {
        tell(desired);
    }
    Some(message)
}

fn tell(desired: &mut Desired) {
    let words = wanted();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["release", version, digest] => {
            for component in &mut desired.components {
                for release in component.run.iter_mut().chain(&mut component.stage) {
                    version.clone_into(&mut release.version);
                    release.manifest = hex(digest);
                }
            }
        }
        ["environment", name] => name.clone_into(&mut desired.environment),
        ["older"] => {
            if let Some(generation) = &mut desired.generation {
                generation.counter = 1;
            }
        }
        _ => return,
    }
    tracing::warn!(lie = ?words, "servers are told what is not so");
}

/// An environment's file without its checks, and with a policy under which everything may happen at once.
async fn weakened(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, MAX_FILE).await else {
        return Response::new(Body::empty());
    };
    let text = String::from_utf8_lossy(&bytes);
    let Some((before, _)) = text.split_once("[policy]") else {
        return Response::from_parts(head, bytes.into());
    };
    tracing::warn!("servers are given an environment that nobody signed");
    let file = format!("{before}[policy]\ncanary = \"100%\"\nmax_parallel = \"100%\"\n");
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, Bytes::from(file).into())
}

fn hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or_default(), 16);
    pairs.filter_map(|pair| byte(pair).ok()).collect()
}
