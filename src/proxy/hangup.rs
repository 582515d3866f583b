//! Finding out that a client has gone while nobody reads from it.
//!
//! hyper notices a closed connection when it reads. While a request waits with a body that is not read (the
//! buffer is full, or `Expect: 100-continue` forbids it), nothing reads, so the line asks the socket itself.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Answers whether the peer of an HTTP/1 connection has closed its side.
#[derive(Clone, Copy, Debug)]
pub struct Hangup {
    fd: RawFd,
}

// === impl Hangup ===

impl Hangup {
    /// Watches `stream`, whose connection must outlive every use of this.
    pub fn of(stream: &impl AsRawFd) -> Self {
        Self { fd: stream.as_raw_fd() }
    }

    /// Whether the peer closed or reset the connection.
    pub fn peer_closed(self) -> bool {
        // SAFETY: hyper's HTTP/1 connection owns both the stream and the future of the one request it serves, and
        // drops the future first; the descriptor is therefore open whenever that future asks. Should that ever
        // change, the question goes to another or a closed descriptor: a wrong answer, not undefined behaviour.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)];
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut fds, Some(&none)), Ok(n) if n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn sees_the_end_behind_unread_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"unread").unwrap();
        assert!(!Hangup::of(&server).peer_closed());
        drop(client);
        let deadline = crate::clock::now() + std::time::Duration::from_secs(5);
        while !Hangup::of(&server).peer_closed() {
            assert!(crate::clock::now() < deadline, "the close was never seen");
            std::thread::yield_now();
        }
    }
}
