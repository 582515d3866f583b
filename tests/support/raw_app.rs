//! An app on a bare socket, inside of the test: it records every byte that it gets, and says exactly what it is told.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// A listening app. Dropped: it is gone with its connections.
pub(crate) struct RawApp {
    pub(crate) addr: SocketAddr,
    received: Received,
    _task: AbortOnDropHandle<()>,
}

/// What came on each connection that said something.
type Received = Arc<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>>;

/// One connection, for the app's script.
pub(crate) struct AppConn {
    stream: TcpStream,
    /// Read, and not yet taken by [`AppConn::message`].
    buffer: Vec<u8>,
    received: Received,
    log: Option<Arc<Mutex<Vec<u8>>>>,
}

/// One request as this app, a strict reader, understands it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The request line and the fields, with all line ends.
    pub(crate) head: String,
    /// Decoded.
    pub(crate) body: Vec<u8>,
    /// Of a chunked body, with line ends.
    pub(crate) trailers: String,
}

// === impl RawApp ===

impl RawApp {
    /// Runs `script` for each connection.
    pub(crate) async fn start<F>(script: impl Fn(AppConn) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let received = Received::default();
        let log = received.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let received = log.clone();
                tokio::spawn(script(AppConn { stream, buffer: Vec::new(), received, log: None }));
            }
        });
        Self { addr, received, _task: AbortOnDropHandle::new(task) }
    }

    /// Answers every message alike.
    pub(crate) async fn answering(answer: &'static str) -> Self {
        Self::start(move |mut conn| async move {
            while conn.message().await.is_some() {
                if conn.send(answer).await.is_err() {
                    break;
                }
            }
        })
        .await
    }

    /// Answers with the request's line and its body.
    pub(crate) async fn echoing() -> Self {
        Self::start(|mut conn| async move {
            while let Some(message) = conn.message().await {
                let body = format!("{}|{}", message.line(), String::from_utf8_lossy(&message.body));
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                if conn.send(answer).await.is_err() {
                    break;
                }
            }
        })
        .await
    }

    /// Every byte, connection by connection, as text.
    pub(crate) fn received(&self) -> Vec<String> {
        let all = self.received.lock();
        all.iter().map(|bytes| String::from_utf8_lossy(&bytes.lock()).into_owned()).collect()
    }
}

// === impl AppConn ===

impl AppConn {
    /// The next message; `None` at the end of the connection. Panics when it is not plain.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        let head = self.head().await?;
        if head.starts_with("PRI * HTTP/2.0") {
            return None; // Somebody asks whether it speaks HTTP/2.
        }
        let mut message = Message { head, body: Vec::new(), trailers: String::new() };
        match (message.fields("content-length").as_slice(), message.fields("transfer-encoding").as_slice()) {
            ([], []) => {}
            ([length], []) => message.body = self.take(length.parse().unwrap()).await?,
            ([], [coding]) if coding == "chunked" => loop {
                let line = self.take_until(b"\r\n").await?;
                let size = std::str::from_utf8(&line).unwrap().trim_end();
                let size = usize::from_str_radix(size, 16).unwrap();
                if size == 0 {
                    break;
                }
                message.body.extend(self.take(size).await?);
                assert_eq!(self.take(2).await?, b"\r\n");
            },
            both => panic!("an ambiguous message reached the app: {both:?} {message:?}"),
        }
        if message.fields("transfer-encoding") == ["chunked"] {
            loop {
                let line = self.take_until(b"\r\n").await?;
                if line == b"\r\n" {
                    break;
                }
                message.trailers += std::str::from_utf8(&line).unwrap();
            }
        }
        Some(message)
    }

    /// The next head; `None` at the end of the connection.
    pub(crate) async fn head(&mut self) -> Option<String> {
        let head = self.take_until(b"\r\n\r\n").await?;
        Some(String::from_utf8(head).unwrap())
    }

    /// Reads something, and returns how much; 0 at the end.
    pub(crate) async fn some(&mut self) -> usize {
        if self.buffer.is_empty() {
            let _ = self.more().await;
        }
        std::mem::take(&mut self.buffer).len()
    }

    /// Reads what comes, up to the end of the connection or its failure, and returns how much.
    pub(crate) async fn drain(&mut self) -> usize {
        let mut all = std::mem::take(&mut self.buffer).len();
        let mut waste = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = self.stream.read(&mut waste).await {
            all += n;
        }
        all
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// No more from us; still reads.
    pub(crate) async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    pub(crate) fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    async fn take_until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|part| part == mark) {
                let rest = self.buffer.split_off(at + mark.len());
                return Some(std::mem::replace(&mut self.buffer, rest));
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < n {
            self.more().await?;
        }
        let rest = self.buffer.split_off(n);
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    async fn more(&mut self) -> Option<()> {
        let before = self.buffer.len();
        let n = self.stream.read_buf(&mut self.buffer).await.unwrap_or(0);
        if n == 0 {
            return None;
        }
        let log = self.log.get_or_insert_with(|| {
            let log = Arc::new(Mutex::new(Vec::new()));
            self.received.lock().push(log.clone());
            log
        });
        log.lock().extend_from_slice(&self.buffer[before..]);
        Some(())
    }
}

// === impl Message ===

impl Message {
    /// Method and target.
    pub(crate) fn line(&self) -> &str {
        let line = self.head.lines().next().unwrap();
        line.strip_suffix(" HTTP/1.1").unwrap_or_else(|| panic!("a strange request line: {line:?}"))
    }

    /// All values of a field.
    pub(crate) fn fields(&self, name: &str) -> Vec<String> {
        let fields = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(n, _)| *n == name).map(|(_, value)| value.to_owned()).collect()
    }
}
