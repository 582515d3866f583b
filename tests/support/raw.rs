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

    /// Sends as much as the peer takes; a peer that closes is fine.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// No more from us; still reads.
    pub(crate) async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads to the end of the connection: all that was read as text, and whether it ended by a reset.
    pub(crate) async fn closed(&mut self) -> (String, bool) {
        let reading = async {
            loop {
                match self.stream.read_buf(&mut self.read).await {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(_) => return true,
                }
            }
        };
        let end = tokio::time::timeout(SOON, reading).await;
        let reset = end.unwrap_or_else(|_| panic!("not closed: {:?}", self.text()));
        (self.text(), reset)
    }

    /// Forgets what was read.
    pub(crate) fn forget(&mut self) {
        self.read.clear();
    }

    /// What has come and can be read without waiting.
    pub(crate) fn peek(&mut self) -> String {
        while self.stream.try_read_buf(&mut self.read).is_ok_and(|n| n > 0) {}
        self.text()
    }

    /// Reads until the peer ends: `Ok` for an end, the error for a reset.
    pub(crate) async fn end(&mut self) -> std::io::Result<()> {
        let reading = async {
            while self.stream.read_buf(&mut self.read).await? > 0 {}
            Ok(())
        };
        let done = tokio::time::timeout(SOON, reading).await;
        done.unwrap_or_else(|_| panic!("it does not end: {:?}", self.text()))
    }

    /// Reads until so many bytes have come in all.
    pub(crate) async fn bytes(&mut self, n: usize) -> &[u8] {
        let reading = async {
            while self.read.len() < n {
                let read = self.stream.read_buf(&mut self.read).await.unwrap_or(0);
                assert!(read > 0, "closed after {:?}", self.read);
            }
        };
        assert!(tokio::time::timeout(SOON, reading).await.is_ok(), "only {:?} came", self.read);
        &self.read
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Closes with a reset, as a killed client with unread bytes does: a FIN would queue behind unsent bytes.
    pub(crate) fn reset(self) {
        set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }
}
