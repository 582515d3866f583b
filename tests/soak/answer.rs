//! From what came back to an [`Outcome`].

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::ledger::Outcome;
use crate::support::Reply;

/// An answer that takes longer is none. Starts, queues and debug builds are slow, but not that slow.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// 1 MiB that is nowhere like itself.
static NOISE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut random = fastrand::Rng::with_seed(4);
    (0..1 << 20).map(|_| random.u8(..)).collect()
});

/// Bytes that no other request has, in all likelihood: mostly a few, rarely up to 1 MiB.
pub(crate) fn noise() -> Bytes {
    let most = match fastrand::u32(..100) {
        0..10 => 1,
        10..70 => 1_000,
        70..95 => 40_000,
        _ => 1 << 20,
    };
    noise_of(fastrand::usize(..most))
}

/// So many of them.
pub(crate) fn noise_of(n: usize) -> Bytes {
    let from = fastrand::usize(..=NOISE.len() - n);
    NOISE.slice(from..from + n)
}

/// What an answer must be.
pub(crate) enum Want {
    /// These bytes.
    Bytes(Bytes),
    /// So many zeros.
    Zeros(usize),
    /// testapp's report of the request with this id.
    About(String),
    /// No body.
    Nothing,
}

/// Gives up after [`PATIENCE`].
pub(crate) async fn patiently(answer: impl Future<Output = Outcome>) -> Outcome {
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    answer.unwrap_or_else(|_| Outcome::Wrong(format!("no answer in {PATIENCE:?}")))
}

// === impl Outcome ===

impl Outcome {
    /// Of a plain exchange.
    pub(crate) fn of(reply: Result<Reply, String>, want: &Want) -> Self {
        match reply {
            Ok(reply) if reply.status == 200 => Self::body(&reply.body, want),
            Ok(reply) => Self::refused(reply.status, &reply.body),
            Err(why) => Self::Cut(why),
        }
    }

    /// An answer with status 200.
    pub(crate) fn body(body: &[u8], want: &Want) -> Self {
        let right = match want {
            Want::Bytes(bytes) => body == bytes,
            Want::Zeros(n) => body.len() == *n && body.iter().all(|byte| *byte == 0),
            Want::About(id) => serde_json::from_slice::<Value>(body).is_ok_and(|about| {
                about["headers"]
                    .as_array()
                    .is_some_and(|h| h.contains(&serde_json::json!(["x-request-id", id])))
            }),
            Want::Nothing => body.is_empty(),
        };
        if right {
            Self::Right
        } else {
            Self::Wrong(format!("a body of {} bytes: {}", body.len(), start(body)))
        }
    }

    /// Another status: pilotlight's own, or none that was asked for.
    pub(crate) fn refused(status: u16, body: &[u8]) -> Self {
        let ours = serde_json::from_slice::<Value>(body).is_ok_and(|json| json["error"]["code"].is_string());
        if ours || body.is_empty() {
            Self::Refused(status.to_string(), start(body))
        } else {
            Self::Wrong(format!("{status}: {}", start(body)))
        }
    }

    /// Of a gRPC call.
    pub(crate) fn of_grpc(reply: Result<Reply, String>, message: &[u8]) -> Self {
        let reply = match reply {
            Ok(reply) => reply,
            Err(why) => return Self::Cut(why),
        };
        let status = reply.trailers.get("grpc-status").or_else(|| reply.headers.get("grpc-status"));
        let status = status.map(|status| status.to_str().unwrap().to_owned());
        match (reply.status, status.as_deref()) {
            (200, Some("0")) if reply.body == message => Self::Right,
            (200, Some(status)) if status != "0" => {
                Self::Refused(format!("grpc {status}"), format!("{:?}", reply.headers.get("grpc-message")))
            }
            _ => Self::Wrong(format!("{reply}, trailers {:?}", reply.trailers)),
        }
    }
}

fn start(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned()
}
