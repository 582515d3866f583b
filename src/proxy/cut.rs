//! Tells a request that an app never read from one that it may have: the race of a request with the end of the
//! connection that it was sent on.
//!
//! An app may close a connection that rests at the very moment at which it is used again. What comes back is its FIN,
//! which was on its way before the request arrived, and then the kernel's RST, which answers bytes for a socket that is
//! closed. An app that had read the whole request and closed then sends a FIN and nothing after it: there is nothing
//! left to refuse. One that closes with bytes unread sends a RST without a FIN. So a FIN with a RST behind it says that
//! the request was not read to its end, and a request without a body that was not read to its end was not acted upon.
//!
//! The RST has come by the time the FIN is read when both ends share a kernel, as a sidecar and its app do. Where it
//! has not, nothing is claimed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use crate::net::TcpStream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether a connection ended so. Shared by the connection and who sends on it.
#[derive(Clone, Debug, Default)]
pub struct Cut(Arc<AtomicBool>);

/// A connection to an app that notes how it ends. Costs nothing before.
#[derive(Debug)]
pub struct Noting {
    stream: TcpStream,
    cut: Cut,
}

// === impl Cut ===

impl Cut {
    /// What was sent last was not read.
    pub fn happened(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

// === impl Noting ===

impl Noting {
    /// Notes how `stream` ends.
    pub fn new(stream: TcpStream) -> (Self, Cut) {
        let cut = Cut::default();
        (Self { stream, cut: cut.clone() }, cut)
    }

    /// After a FIN: HUP says that both directions are closed, and ours was not closed by us.
    fn is_reset_too(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&at_once)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }
}

impl AsyncRead for Noting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let ended = matches!(polled, Poll::Ready(Ok(()))) && room > 0 && buf.filled().len() == before;
        if ended && self.is_reset_too() {
            self.cut.0.store(true, Ordering::Release);
        }
        polled
    }
}

impl AsyncWrite for Noting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::TcpListener;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn pair() -> (Noting, Cut, TcpStream) {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (noting, cut) = Noting::new(stream);
        (noting, cut, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_for_a_closed_socket_were_not_read() {
        let (mut ours, cut, app) = pair().await;
        drop(app);
        ours.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(cut.happened());
    }

    #[tokio::test]
    async fn what_was_read_before_the_end_may_have_been_acted_upon() {
        let (mut ours, cut, mut app) = pair().await;
        ours.write_all(b"x").await.unwrap();
        app.read_exact(&mut [0]).await.unwrap();
        drop(app);
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(!cut.happened());
    }

    #[tokio::test]
    async fn a_reset_alone_says_nothing() {
        let (mut ours, cut, mut app) = pair().await;
        ours.write_all(b"x").await.unwrap();
        app.read_exact(&mut [0]).await.unwrap();
        app.set_zero_linger().unwrap();
        drop(app);
        assert!(ours.read(&mut [0; 8]).await.is_err());
        assert!(!cut.happened());
    }
}
