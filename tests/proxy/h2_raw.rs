//! HTTP/2 frame by frame, for what no well-behaved client does.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::SOON;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One end of an HTTP/2 connection.
pub(crate) struct RawH2 {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields in HPACK, each literal and without a table.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let text = |bytes: &mut Vec<u8>, text: &str| {
        if text.len() < 127 {
            bytes.push(text.len() as u8);
        } else {
            bytes.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                bytes.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
        bytes.extend(text.as_bytes());
    };
    for (name, value) in fields {
        bytes.push(0);
        text(&mut bytes, name);
        text(&mut bytes, value);
    }
    bytes
}

/// The head of a request.
pub(crate) fn request(method: &str, host: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let first = [(":method", method), (":scheme", "http"), (":authority", host), (":path", path)];
    fields(&[&first, more].concat())
}

// === impl RawH2 ===

impl RawH2 {
    /// Connects, with these settings (id, value).
    pub(crate) async fn connect(to: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut this = Self { stream, read: Vec::new() };
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        this.send([PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()).await.unwrap();
        this
    }

    /// The app's end: reads the preface and says what it must.
    pub(crate) async fn accept(mut stream: TcpStream) -> Self {
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).await.unwrap();
        let mut this = Self { stream, read: Vec::new() };
        this.send(frame(SETTINGS, 0, 0, &[])).await.unwrap();
        this
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Opens a stream with a request.
    pub(crate) async fn request(&mut self, stream: u32, flags: u8, head: &[u8]) {
        self.send(frame(HEADERS, END_HEADERS | flags, stream, head)).await.unwrap();
    }

    pub(crate) async fn window(&mut self, stream: u32, more: u32) {
        self.send(frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())).await.unwrap();
    }

    /// The next frame; `None` when the peer has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            let read = tokio::time::timeout(SOON, self.stream.read_buf(&mut self.read));
            match read.await.expect("a frame comes, or the end") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Answers PING and SETTINGS until a frame of this kind comes.
    pub(crate) async fn until(&mut self, kind: u8) -> Frame {
        self.until_any(&[kind]).await.unwrap_or_else(|| panic!("closed before a frame of type {kind} came"))
    }

    /// Answers PING and SETTINGS until a frame of one of these kinds, or the end, comes.
    pub(crate) async fn until_any(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let next = self.next().await?;
            if next.flags & 1 == 0 && matches!(next.kind, PING | SETTINGS) {
                let payload = if next.kind == PING { &next.payload[..] } else { &[] };
                let _ = self.send(frame(next.kind, 1, 0, payload)).await;
            }
            if kinds.contains(&next.kind) {
                return Some(next);
            }
        }
    }

    fn parse(&mut self) -> Option<Frame> {
        let head = self.read.get(..9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        let payload = self.read.get(9..9 + length)?.to_vec();
        self.read.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }

    /// Both halves, to read and to flood at once.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

// === impl Frame ===

impl Frame {
    /// The error code of `RST_STREAM` or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}
