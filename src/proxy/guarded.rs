//! A client's connection, guarded: it may not send half a head for ever, rest for ever, or send what two parsers would
//! read differently; and it gets our last answer even if it was still sending. Of HTTP/2, which hyper guards, only the
//! rest between requests is seen to here.
//!
//! One timer a connection, none a request: it is moved when it fires, or when a head comes in pieces.

use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::framing::{Framing, Refused};
use super::signals::Signals;
use crate::clock;
use crate::net::TcpStream;

/// How long a client that is still sending is listened to after our last answer: a close with bytes unread resets the
/// connection, and the reset can overtake the answer (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);
/// A rest is found out by looking this often in its time.
const LOOKS: u32 = 2;
/// The rest of a request line that will not be read: makes the head complete, so that it can be answered.
const CUT_SHORT: &[u8] = b" HTTP/1.1\r\n\r\n";
/// The rest of trailers that are wrong: hyper looks at them when they are complete, and takes no NUL.
const END_OF_TRAILERS: &[u8] = b"\r\n\r\n";

/// Answers up to this size are written in one piece.
const GATHERED: usize = 4 * 1024;

/// How long a client may take; zero = for ever.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a head, from its first byte; for the first of a connection, from the start.
    pub header: Duration,
    /// Between two requests, at least; at most half as long again.
    pub rest: Duration,
}

/// A client's connection.
#[derive(Debug)]
pub struct Guarded {
    stream: TcpStream,
    framing: Framing,
    signals: Arc<Signals>,
    patience: Patience,
    timer: Option<Pin<Box<Sleep>>>,
    /// The timer knows whom to wake.
    armed: bool,
    /// When the head in progress began.
    head_since: Option<Instant>,
    /// Heads when the timer last fired, and how often in a row there were no more.
    seen: (u32, u32),
    /// Still to be read by hyper, though nobody sent it.
    made_up: &'static [u8],
    /// The peer has closed its side.
    ended: bool,
    ours: Side,
}

/// Our side of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// → `Lingering`, `Shut`.
    Open,
    /// Closed, but the peer is still listened to until the timer fires → `Shut`.
    Lingering,
    Shut,
}

// === impl Guarded ===

impl Guarded {
    /// A connection that has just been accepted.
    pub fn new(stream: TcpStream, signals: Arc<Signals>, patience: Patience) -> Self {
        let now = clock::now();
        let first = [patience.header, patience.rest].into_iter().find(|patience| *patience > Duration::ZERO);
        let timer = first.map(|after| Box::pin(tokio::time::sleep_until((now + after).into())));
        Self {
            stream,
            framing: Framing::default(),
            signals,
            patience,
            timer,
            armed: false,
            head_since: Some(now),
            seen: (0, 0),
            made_up: b"",
            ended: false,
            ours: Side::Open,
        }
    }

    /// Bytes came. Returns the place of one that hyper must not see as it is.
    fn came(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.framing.is_off() {
            return None;
        }
        let heads = self.framing.heads();
        if let Err(refused) = self.framing.read(bytes) {
            self.signals.refuse(self.framing.heads(), refused);
            if refused == Refused::TargetTooLong {
                self.made_up = CUT_SHORT;
            }
        }
        self.signals.set_all_came(self.framing.is_at_rest());
        if !self.framing.is_in_head() {
            if self.framing.heads() != heads {
                self.head_since = None;
            }
        } else if self.head_since.is_none() || self.framing.heads() != heads {
            let now = clock::now();
            self.head_since = Some(now);
            if self.patience.header > Duration::ZERO {
                self.set(now + self.patience.header);
            }
        }
        self.framing.spoilt()
    }

    fn set(&mut self, at: Instant) {
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(at.into()),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(at.into()))),
        }
        self.armed = false;
    }

    /// Nothing comes. Ready when that was so for too long.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(timer) = &mut self.timer else { return Poll::Pending };
            if self.armed && !timer.is_elapsed() {
                return Poll::Pending;
            }
            if timer.as_mut().poll(cx).is_pending() {
                self.armed = true;
                return Poll::Pending;
            }
            match self.look(clock::now()) {
                Some(next) => self.set(next),
                None if self.is_over() => self.timer = None,
                None => return Poll::Ready(()),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.framing.is_off() || self.signals.is_over()
    }

    /// The timer fired: when to look again. `None`: enough, or nothing to look for any more.
    fn look(&mut self, now: Instant) -> Option<Instant> {
        if self.signals.is_over() {
            return None;
        }
        let Patience { header, rest } = self.patience;
        let rest = if rest > Duration::ZERO { rest / LOOKS } else { Duration::MAX / 2 };
        let never = now + Duration::from_hours(24 * 365);
        let next = now.checked_add(rest).unwrap_or(never);
        let h2 = self.framing.is_off();
        let requests = if h2 { self.signals.requests() } else { self.framing.heads() };
        if self.signals.is_busy() {
            // The rest begins after the next look at the earliest.
            self.seen = (requests.wrapping_sub(1), 0);
            return Some(next);
        }
        if let Some(since) = self.head_since
            && header > Duration::ZERO
            && !h2
        {
            let end = since + header;
            return (now < end).then_some(end);
        }
        // At rest, or in a body whose answer is complete.
        let looks = if self.seen.0 == requests { self.seen.1 + 1 } else { 0 };
        self.seen = (requests, looks);
        if looks < LOOKS {
            return Some(next);
        }
        if h2 {
            // To be told, not cut off: it may be about to ask.
            self.signals.set_rested();
        }
        None
    }

    /// Listens a moment longer to a client that was sending when our last answer went out.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.as_mut().expect("set when the linger began");
        // First: whoever sends without a pause must not keep it from being looked at.
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut waste = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut waste);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.made_up.is_empty() {
            let (now, later) = this.made_up.split_at(this.made_up.len().min(buf.remaining()));
            buf.put_slice(now);
            this.made_up = later;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let bytes = &mut buf.filled_mut()[before..];
                this.ended |= bytes.is_empty();
                if !this.signals.is_over()
                    && let Some(spoilt) = this.came(bytes)
                {
                    bytes[spoilt] = b'\0';
                    buf.set_filled(before + spoilt + 1);
                    this.made_up = END_OF_TRAILERS;
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                ready!(this.poll_overdue(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.iter().map(|slice| slice.len()).sum::<usize>() > GATHERED {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        }
        // To copy a small answer costs less than to have the kernel look at its parts.
        let mut space = [const { MaybeUninit::uninit() }; GATHERED];
        let mut whole = ReadBuf::uninit(&mut space);
        for slice in slices {
            whole.put_slice(slice);
        }
        Pin::new(&mut self.stream).poll_write(cx, whole.filled())
    }

    /// hyper sends head and body in one call only where this is true.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ours == Side::Open {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            let all_read = this.ended || this.framing.is_at_rest() || this.is_over();
            this.ours = if all_read { Side::Shut } else { Side::Lingering };
            if !all_read {
                this.set(clock::now() + LINGER);
            }
        }
        if this.ours == Side::Lingering {
            ready!(this.poll_linger(cx));
            this.ours = Side::Shut;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Guarded {
    /// hyper closes in order by `poll_shutdown`. Without it the response was broken off, and where the end of the
    /// connection is its end, only a reset says so.
    fn drop(&mut self) {
        if self.ours == Side::Open && self.signals.ends_by_close() && !self.is_over() {
            let _ = self.stream.set_zero_linger();
        }
    }
}
