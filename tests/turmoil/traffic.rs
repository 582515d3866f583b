//! Clients: requests with ids, one after the other on connections that they keep while those last.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use super::hosts::TRAFFIC;
use super::story::{Outcome, Story};
use crate::net::TcpStream;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Http {
    One,
    Two,
}

/// Of a GET's answer.
pub(super) const PIECES: u32 = 20;
/// More than any hop's: who has not heard by now will not.
const PATIENCE: Duration = Duration::from_mins(2);

pub(super) fn piece(n: u32) -> Bytes {
    format!("piece {n}\n").into()
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// Returns when all have their answers, no hop holds anything, and every replica answers again.
pub(super) async fn all(
    story: Story,
    protocols: Vec<Http>,
    clients: usize,
    requests: usize,
) -> turmoil::Result {
    let mut all = JoinSet::new();
    for protocol in protocols {
        for client in 0..clients {
            all.spawn(one_by_one(story.clone(), protocol, format!("{protocol:?}-{client}"), requests));
        }
    }
    while let Some(client) = all.join_next().await {
        client?;
    }
    // What was lost on the way is found out by timeouts.
    while !story.is_quiet() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn one_by_one(story: Story, protocol: Http, name: String, requests: usize) {
    let mut kept = None;
    for n in 0..requests {
        let id = format!("{name}-{n}");
        story.sent(&id);
        let mut sender = match kept.take() {
            Some(sender) => sender,
            None => connect(protocol).await,
        };
        let outcome = tokio::time::timeout(PATIENCE, exchange(&mut sender, protocol, &id, n)).await;
        let outcome = outcome.unwrap_or_else(|_| Outcome::Wrong("no answer".into()));
        // A client does not know what a broken connection is good for.
        kept = matches!(outcome, Outcome::Right | Outcome::Refused(..)).then_some(sender);
        story.ended(&id, outcome);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..300))).await;
    }
}

async fn connect(protocol: Http) -> Sender {
    let to = (turmoil::lookup("activator"), TRAFFIC).into();
    let stream = TokioIo::new(TcpStream::connect(to).await.expect("the client's own link is well"));
    match protocol {
        Http::One => {
            let (sender, connection) = http1::handshake(stream).await.expect("no bytes yet");
            tokio::spawn(connection);
            Sender::One(sender)
        }
        Http::Two => {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), stream).await.expect("no bytes yet");
            tokio::spawn(connection);
            Sender::Two(sender)
        }
    }
}

async fn exchange(sender: &mut Sender, protocol: Http, id: &str, n: usize) -> Outcome {
    let (method, body) = if n.is_multiple_of(2) {
        (Method::POST, format!("{id}:").repeat(n * 20))
    } else {
        (Method::GET, String::new())
    };
    let mut request = Request::new(Full::new(Bytes::from(body.clone())));
    *request.method_mut() = method.clone();
    let headers = request.headers_mut();
    headers.insert("x-request-id", id.parse().expect("ASCII"));
    if protocol == Http::Two {
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = "http://app.default.localhost/".parse().expect("a URI");
    } else {
        headers.insert("host", "app.default.localhost".parse().expect("a host"));
        *request.uri_mut() = "/".parse().expect("a path");
    }
    let answer = match sender {
        Sender::One(sender) => match sender.ready().await {
            Ok(()) => sender.send_request(request).await,
            Err(error) => Err(error),
        },
        Sender::Two(sender) => sender.send_request(request).await,
    };
    match answer {
        Ok(answer) => outcome(answer, &method, &body).await,
        // The app's answer broke off when its head was not on its way yet: hyper sends neither.
        Err(error) if error.is_incomplete_message() || is_reset(&error) => Outcome::Cut,
        // The client's link is well, so an answer of some kind has to come.
        Err(error) => Outcome::Wrong(format!("no answer: {error:?}")),
    }
}

async fn outcome(answer: Response<Incoming>, method: &Method, sent: &str) -> Outcome {
    let status = answer.status().as_u16();
    let Ok(body) = answer.into_body().collect().await else { return Outcome::Cut };
    let body = body.to_bytes();
    if status == 200 {
        let whole = if method == Method::POST { sent.to_owned() } else { all_pieces() };
        return if body == whole {
            Outcome::Right
        } else {
            Outcome::Wrong(format!("{body:?}, as if that were all"))
        };
    }
    let error = serde_json::from_slice::<serde_json::Value>(&body);
    match error.ok().and_then(|error| Some(error["error"]["code"].as_str()?.to_owned())) {
        Some(code) => Outcome::Refused(status, code),
        None => Outcome::Wrong(format!("{status}: {body:?}")),
    }
}

/// Of one HTTP/2 stream.
fn is_reset(error: &hyper::Error) -> bool {
    use std::error::Error as _;
    error.source().and_then(|cause| cause.downcast_ref::<h2::Error>()).is_some_and(h2::Error::is_reset)
}

fn all_pieces() -> String {
    (0..PIECES).map(|n| String::from_utf8_lossy(&piece(n)).into_owned()).collect()
}
