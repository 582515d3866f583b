//! A bare socket, for what a well-behaved client cannot do.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::wait::SOON;

/// A TCP connection and what was read from it.
pub(crate) struct Raw {
    stream: TcpStream,
    /// Everything read so far.
    pub(crate) read: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Writes until the peer has taken nothing for `quiet`, or `n` bytes are away. Returns how many it took.
    pub(crate) async fn stuff(&mut self, n: usize, quiet: Duration) -> usize {
        let zeros = vec![0; 64 * 1024];
        let mut sent = 0;
        while sent < n {
            let write = self.stream.write(&zeros[..zeros.len().min(n - sent)]);
            match tokio::time::timeout(quiet, write).await {
                Ok(Ok(written)) => sent += written,
                _ => break,
            }
        }
        sent
    }

    /// Reads until `mark` has come, and returns all that was read so far as text.
    pub(crate) async fn until(&mut self, mark: &str) -> String {
        let reading = async {
            while !self.text().contains(mark) {
                let n = self.stream.read_buf(&mut self.read).await.unwrap_or(0);
                assert!(n > 0, "closed before {mark:?} came: {:?}", self.text());
            }
        };
        let done = tokio::time::timeout(SOON, reading).await.is_ok();
        assert!(done, "{mark:?} did not come: {:?}", self.text());
        self.text()
    }

    /// Reads until the peer closes, in order or not, and returns all that was read as text.
    pub(crate) async fn until_closed(&mut self) -> String {
        let reading = async { while self.stream.read_buf(&mut self.read).await.is_ok_and(|n| n > 0) {} };
        let done = tokio::time::timeout(SOON, reading).await.is_ok();
        assert!(done, "not closed: {:?}", self.text());
        self.text()
    }

    /// What has come and can be read without waiting.
    pub(crate) fn peek(&mut self) -> String {
        while self.stream.try_read_buf(&mut self.read).is_ok_and(|n| n > 0) {}
        self.text()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Closes with a reset, as a killed client with unread bytes does: a FIN would queue behind unsent bytes.
    pub(crate) fn reset(self) {
        set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }
}
