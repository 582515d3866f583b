//! Connections without sockets, and futures without a runtime.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hyper::rt::{Read, ReadBufCursor, Write};

/// What one end of a connection reads and has written.
#[derive(Clone, Debug, Default)]
pub struct Wire(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    to_read: RefCell<VecDeque<Vec<u8>>>,
    ended: Cell<bool>,
    written: RefCell<Vec<u8>>,
}

/// One end of a connection; `seen` is shown all that is read before it is, and may change it.
pub struct Pipe<F> {
    wire: Wire,
    seen: F,
}

/// Polls a future until it is ready; `None` when that takes more than `polls`.
pub fn drive<F: Future>(future: F, polls: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
    }
    None
}

// === impl Wire ===

impl Wire {
    /// The other side sends.
    pub fn send(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.to_read.borrow_mut().push_back(bytes.to_vec());
        }
    }

    /// The other side closes.
    pub fn end(&self) {
        self.0.ended.set(true);
    }

    /// What this side has written.
    pub fn written(&self) -> Vec<u8> {
        self.0.written.borrow().clone()
    }

    /// This side.
    pub fn pipe<F: FnMut(&mut Vec<u8>) + Unpin>(&self, seen: F) -> Pipe<F> {
        Pipe { wire: self.clone(), seen }
    }
}

impl<F: FnMut(&mut Vec<u8>) + Unpin> Read for Pipe<F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut pieces = this.wire.0.to_read.borrow_mut();
        let Some(mut piece) = pieces.pop_front() else {
            return if this.wire.0.ended.get() { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        let mut later = piece.split_off(piece.len().min(buf.remaining()));
        let before = piece.len();
        (this.seen)(&mut piece);
        if piece.len() != before {
            // What was put in the place of the rest.
            later = piece.split_off(piece.len().min(buf.remaining()));
        }
        buf.put_slice(&piece);
        if !later.is_empty() {
            pieces.push_front(later);
        }
        Poll::Ready(Ok(()))
    }
}

impl<F: Unpin> Write for Pipe<F> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wire.0.written.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
