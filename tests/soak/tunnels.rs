//! Websockets and other upgrades: every byte comes back, in order, until the client closes.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::answer::{noise_of, patiently};
use crate::bare::Bare;
use crate::ledger::{Kind, Outcome};
use crate::site::Site;
use crate::support::host;

/// A server's close 1001.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];
/// A client's close 1000 and 1001, masked with zeros.
const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
const CLOSE_GOING_AWAY: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];
/// Of a frame with a body of more than 125 bytes.
const LENGTH_16: u8 = 126;

/// The head of a request for `protocol`.
pub(crate) fn ask(service: &str, id: &str, protocol: &str) -> String {
    format!(
        "GET /ws-echo HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: {protocol}\r\nx-request-id: {id}\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
        host(service)
    )
}

/// A client's text frame, masked with zeros.
pub(crate) fn frame() -> Vec<u8> {
    let text = noise_of(fastrand::usize(126..10_000));
    let mut frame = vec![0x81, 0x80 | LENGTH_16];
    frame.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(&text);
    frame
}

/// Asks for a tunnel. `None`: there is one.
async fn open(bare: &mut Bare, service: &str, id: &str, protocol: &str) -> Option<Outcome> {
    if let Err(why) = bare.send(ask(service, id, protocol)).await {
        return Some(Outcome::Cut(why));
    }
    let head = match bare.until(b"\r\n\r\n").await {
        Ok(head) => head,
        Err(why) => return Some(Outcome::Cut(why)),
    };
    if head.starts_with("http/1.1 101") {
        return None;
    }
    let code = head.get(9..12).unwrap_or_default();
    let _ = bare.take(1).await;
    Some(Outcome::refused(code.parse().unwrap_or(0), &[]))
}

pub(crate) async fn websocket(site: &Site, service: &'static str) {
    let Ok(mut bare) = Bare::connect(site.serve.traffic).await else { return };
    let ticket = site.ledger.begin(Kind::WebSocket, service);
    let id = ticket.id.clone();
    let talk = async {
        if let Some(refused) = open(&mut bare, service, &id, "websocket").await {
            return refused;
        }
        for _ in 0..fastrand::u32(1..10) {
            let frame = frame();
            match echo(&mut bare, &frame).await {
                Ok(true) => {}
                Ok(false) => return told(&mut bare).await,
                Err(why) => return Outcome::Cut(why),
            }
            tokio::time::sleep(Duration::from_millis(fastrand::u64(..30))).await;
        }
        match echo(&mut bare, &CLOSE).await {
            Ok(true) => {}
            Ok(false) => return told(&mut bare).await,
            Err(why) => return Outcome::Cut(why),
        }
        let _ = bare.stream.shutdown().await;
        match bare.more().await {
            Ok(true) => Outcome::Wrong(format!("after the close: {:?}", bare.read)),
            Ok(false) => Outcome::Right,
            Err(why) => Outcome::Cut(why),
        }
    };
    ticket.end(patiently(talk).await);
}

/// Sends a frame and gets it back. False when a close 1001 came instead.
async fn echo(bare: &mut Bare, frame: &[u8]) -> Result<bool, String> {
    // Told and closed before this was sent: the write fails, and what was said is still to be read.
    let sent = bare.send(frame).await;
    let head = bare.take(2).await?;
    if head == GOING_AWAY[..2] && frame[..2] != GOING_AWAY[..2] {
        bare.take(2).await?;
        return Ok(false);
    }
    sent?;
    let rest = bare.take(frame.len() - 2).await?;
    if [head, rest].concat() == frame { Ok(true) } else { Err("another frame than was sent".to_owned()) }
}

async fn told(bare: &mut Bare) -> Outcome {
    let _ = bare.send(CLOSE_GOING_AWAY).await;
    match bare.more().await {
        Ok(true) => Outcome::Wrong(format!("after going away: {:?}", bare.read)),
        // It may not have waited for our close.
        Ok(false) | Err(_) => Outcome::Told,
    }
}

/// Any other protocol: raw bytes, and each side ends by itself.
pub(crate) async fn upgrade(site: &Site, service: &'static str) {
    let Ok(mut bare) = Bare::connect(site.serve.traffic).await else { return };
    let ticket = site.ledger.begin(Kind::Upgrade, service);
    let id = ticket.id.clone();
    let talk = async {
        if let Some(refused) = open(&mut bare, service, &id, "echo").await {
            return refused;
        }
        for _ in 0..fastrand::u32(1..10) {
            let bytes = noise_of(fastrand::usize(1..10_000));
            if let Err(why) = bare.send(&bytes).await {
                return Outcome::Cut(why);
            }
            match bare.take(bytes.len()).await {
                Ok(back) if back == bytes => {}
                Ok(_) => return Outcome::Wrong("other bytes than were sent".to_owned()),
                // A raw tunnel has no other word for it.
                Err(why) if why.starts_with("ended") => return Outcome::Told,
                Err(why) => return Outcome::Cut(why),
            }
            tokio::time::sleep(Duration::from_millis(fastrand::u64(..30))).await;
        }
        let _ = bare.stream.shutdown().await;
        match bare.more().await {
            Ok(false) => Outcome::Right,
            Ok(true) => Outcome::Wrong(format!("after the end: {:?}", bare.read)),
            Err(why) => Outcome::Cut(why),
        }
    };
    ticket.end(patiently(talk).await);
}
