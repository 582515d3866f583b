//! HTTP/1 by hand: pipelining and HTTP/1.0.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::answer::{Want, noise_of, patiently};
use crate::clients::all_events;
use crate::ledger::{Kind, Outcome, Ticket};
use crate::site::Site;
use crate::support::host;

/// A connection on which errors are values.
pub(crate) struct Bare {
    pub(crate) stream: TcpStream,
    /// Read, and not yet used.
    pub(crate) read: Vec<u8>,
}

/// A whole answer.
pub(crate) struct Answer {
    status: u16,
    body: Vec<u8>,
    last: bool,
}

// === impl Bare ===

impl Bare {
    pub(crate) async fn connect(to: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(to).await.map_err(|e| format!("connect: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        Ok(Self { stream, read: Vec::new() })
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), String> {
        self.stream.write_all(bytes.as_ref()).await.map_err(|e| format!("write: {e}"))
    }

    /// Reads more. False at the end.
    pub(crate) async fn more(&mut self) -> Result<bool, String> {
        Ok(self.stream.read_buf(&mut self.read).await.map_err(|e| format!("read: {e}"))? > 0)
    }

    /// Takes the next `n` bytes.
    pub(crate) async fn take(&mut self, n: usize) -> Result<Vec<u8>, String> {
        while self.read.len() < n {
            if !self.more().await? {
                return Err(format!("ended after {} of {n} bytes", self.read.len()));
            }
        }
        Ok(self.read.drain(..n).collect())
    }

    /// Takes what comes before the next `mark`, and the mark.
    pub(crate) async fn until(&mut self, mark: &[u8]) -> Result<String, String> {
        loop {
            if let Some(at) = self.read.windows(mark.len()).position(|part| part == mark) {
                let taken: Vec<u8> = self.read.drain(..at + mark.len()).collect();
                return Ok(String::from_utf8_lossy(&taken).to_ascii_lowercase());
            }
            if !self.more().await? {
                return Err(format!("ended before {:?}", String::from_utf8_lossy(mark)));
            }
        }
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> Result<Answer, String> {
        let head = self.until(b"\r\n\r\n").await?;
        let status = head.get(9..12).and_then(|code| code.parse().ok()).ok_or_else(|| head.clone())?;
        let field = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_default()
                .trim()
        };
        let last = field("connection") == "close" || head.starts_with("http/1.0");
        let body = if field("transfer-encoding") == "chunked" {
            self.chunks().await?
        } else if let Ok(length) = field("content-length").parse() {
            self.take(length).await?
        } else {
            while self.more().await? {}
            std::mem::take(&mut self.read)
        };
        Ok(Answer { status, body, last })
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            let size = self.until(b"\r\n").await?;
            let size =
                usize::from_str_radix(size.trim(), 16).map_err(|e| format!("chunk size {size:?}: {e}"))?;
            body.extend(self.take(size).await?);
            // No trailers are asked for.
            let end = self.take(2).await?;
            if end != b"\r\n" {
                return Err(format!("after a chunk: {end:?}"));
            }
            if size == 0 {
                return Ok(body);
            }
        }
    }
}

fn outcome(answer: Result<Answer, String>, want: &Want) -> Outcome {
    match answer {
        Ok(answer) if answer.status == 200 => Outcome::body(&answer.body, want),
        Ok(answer) => Outcome::refused(answer.status, &answer.body),
        // What is in the way of reading an answer is either the end, or no answer.
        Err(why) if why.starts_with("read:") || why.starts_with("write:") || why.starts_with("ended") => {
            Outcome::Cut(why)
        }
        Err(why) => Outcome::Wrong(why),
    }
}

/// Some requests in one write; the answers come in order.
pub(crate) async fn pipelined(site: &Site, service: &'static str) {
    let Ok(mut bare) = Bare::connect(site.serve.traffic).await else { return };
    let mut waiting: Vec<(Ticket, Want)> = Vec::new();
    let mut all = Vec::new();
    for _ in 0..fastrand::u32(2..6) {
        let ticket = site.ledger.begin(Kind::Pipelined, service);
        let (host, id) = (host(service), ticket.id.clone());
        let fields = format!("HTTP/1.1\r\nhost: {host}\r\nx-request-id: {id}\r\n");
        let want = if fastrand::bool() {
            all.extend(format!("GET / {fields}\r\n").bytes());
            Want::About(id)
        } else {
            let body = noise_of(fastrand::usize(..5_000));
            all.extend(format!("POST /echo {fields}content-length: {}\r\n\r\n", body.len()).bytes());
            all.extend(&body);
            Want::Bytes(body)
        };
        waiting.push((ticket, want));
    }
    // Refused while it is still sending: the answers say so.
    let _ = bare.send(&all).await;
    let mut over = false;
    for (ticket, want) in waiting {
        if over {
            ticket.end(Outcome::Behind);
            continue;
        }
        let answered = async {
            let answer = bare.answer().await;
            over = answer.as_ref().map_or(true, |answer| answer.last);
            outcome(answer, &want)
        };
        ticket.end(patiently(answered).await);
    }
}

/// One request on a connection that ends with its answer. A stream of unknown length has no other end.
pub(crate) async fn http_10(site: &Site, service: &'static str) {
    let Ok(mut bare) = Bare::connect(site.serve.traffic).await else { return };
    let ticket = site.ledger.begin(Kind::Http10, service);
    let fields = format!("HTTP/1.0\r\nhost: {}\r\nx-request-id: {}\r\n", host(service), ticket.id);
    let (request, want) = if fastrand::bool() {
        let n = fastrand::u32(1..10);
        let request = format!("GET /sse?n={n}&ms={} {fields}\r\n", fastrand::u32(..20));
        (Bytes::from(request), Want::Bytes(all_events(n).into()))
    } else {
        let body = noise_of(fastrand::usize(..20_000));
        let mut request = format!("POST /echo {fields}content-length: {}\r\n\r\n", body.len()).into_bytes();
        request.extend(&body);
        (request.into(), Want::Bytes(body))
    };
    let exchange = async {
        match bare.send(request).await {
            Ok(()) => outcome(bare.answer().await, &want),
            Err(why) => Outcome::Cut(why),
        }
    };
    let outcome = patiently(exchange).await;
    if matches!(outcome, Outcome::Refused(..)) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ticket.end(outcome);
}
