//! A websocket: each message waits for an answer.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::header::{HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use pilotlight::clock;
use sha1::{Digest as _, Sha1};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Caller, Connections, read};
use crate::outcome::{Answer, Code, Failed, Failure};
use crate::recorder::{Recorder, Shot};
use crate::scenario::Websocket;

/// What a key's randomness is for, apart from bodies and heads.
const KEY: u64 = 1 << 40;
/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// For the other side's close; the messages are through by then.
const CLOSE: Duration = Duration::from_secs(1);

impl Caller {
    /// Opens a connection, sends messages, waits for the answer of each, and closes.
    pub(super) async fn talk(
        &self,
        shot: Shot,
        first: Bytes,
        how: &Websocket,
        recorder: &Recorder,
    ) -> Result<Answer, Failed> {
        let Connections::Http1(http1) = &self.connections else {
            return Err(Failure::Protocol.into());
        };
        let key = STANDARD.encode(self.requests.rng(shot.index, KEY).u128(..).to_le_bytes());
        let mut request = self.requests.http1(shot.index, Bytes::new())?;
        let key_value = HeaderValue::from_str(&key).map_err(|_| Failure::Protocol)?;
        request.headers_mut().insert(HeaderName::from_static("sec-websocket-key"), key_value);
        *request.method_mut() = hyper::Method::GET;
        let (mut answer, upgraded) = http1.upgrade(request).await?;
        let Some(upgraded) = upgraded else {
            let mut bytes_in = 0;
            read(answer.body_mut(), |data| bytes_in += data.len() as u64).await?;
            // Only messages are a success here, whatever the code.
            return Ok(Answer { ok: false, ..self.answer(&answer, bytes_in) });
        };
        if answer.headers().get("sec-websocket-accept").map(HeaderValue::as_bytes)
            != Some(accept(&key).as_bytes())
        {
            return Err(Failure::Protocol.into());
        }
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        let (mut bytes_in, mut next) = (0, clock::now());
        let mut body = Some(first);
        for number in 0..u64::from(how.messages) {
            tokio::time::sleep_until(next.into()).await;
            let body = body.take().unwrap_or_else(|| self.requests.message(shot.index, number));
            let sent = clock::now();
            next = sent + how.every;
            let message = match String::from_utf8(body.to_vec()) {
                Ok(text) => Message::text(text),
                Err(_) => Message::binary(body),
            };
            socket.send(message).await.map_err(|e| failed(&e))?;
            bytes_in += reply(&mut socket).await?;
            recorder.round_trip(shot, clock::now().saturating_duration_since(sent));
        }
        let messages = Some(u64::from(how.messages));
        // A courtesy of its own: what was asked has been answered.
        tokio::task::spawn_local(async move { tokio::time::timeout(CLOSE, socket.close(None)).await });
        let head = self.answer(&answer, bytes_in);
        Ok(Answer { code: Code::Http(101), ok: true, messages, ..head })
    }
}

/// Waits for a message. Returns its size.
async fn reply(socket: &mut WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>) -> Result<u64, Failed> {
    loop {
        match socket.next().await {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => return Ok(message.len() as u64),
            Some(Ok(Message::Close(_))) | None => return Err(Failure::Body.into()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(failed(&error)),
        }
    }
}

fn failed(error: &Error) -> Failed {
    Failed::new(if let Error::Protocol(_) = error { Failure::Protocol } else { Failure::Body }, error)
}

/// What a server answers a key with (RFC 6455 §4.2.2).
fn accept(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
