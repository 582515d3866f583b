//! What a client's connection and the requests on it tell each other: the connection sees bytes, requests see hyper.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use http_body::SizeHint;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::framing::Refused;

/// One connection's. Over HTTP/1 both run on one task, one after the other.
#[derive(Debug)]
pub struct Signals {
    /// The number of the request that must be refused, and why.
    refused_at: AtomicU32,
    why: Mutex<Refused>,
    /// Requests that hyper handed over. Written by the connection's task alone.
    handed_over: AtomicU32,
    /// Responses that are being made or sent: one over HTTP/1, one a stream over HTTP/2.
    busy: AtomicU32,
    /// The end of a response can be the end of the connection: HTTP/1.0.
    ends_by_close: AtomicBool,
    /// All of what the client has begun to send has come.
    all_came: AtomicBool,
    /// HTTP/1 is over: upgraded.
    over: AtomicBool,
    /// An HTTP/2 connection has rested for too long.
    rested: Notify,
    /// We are going to leave: clients are to look for another.
    announced: Arc<AtomicBool>,
}

/// Keeps an HTTP/2 connection from being at rest: a tunnel goes on when its response's head is long sent. Goes with the
/// request, and therefore can be cloned.
#[derive(Clone, Debug)]
pub struct Held(#[expect(dead_code, reason = "its drop tells")] Arc<Hold>);

#[derive(Debug)]
struct Hold(Arc<Signals>);

// === impl Signals ===

impl Default for Signals {
    fn default() -> Self {
        Self {
            refused_at: AtomicU32::new(u32::MAX),
            why: Mutex::new(Refused::Length),
            handed_over: AtomicU32::new(0),
            busy: AtomicU32::new(0),
            ends_by_close: AtomicBool::new(false),
            all_came: AtomicBool::new(false),
            over: AtomicBool::new(false),
            rested: Notify::new(),
            announced: Arc::default(),
        }
    }
}

impl Signals {
    /// For a new connection. `announced` tells when answers are to send clients away.
    pub fn new(announced: Arc<AtomicBool>) -> Self {
        Self { announced, ..Self::default() }
    }

    /// Whether the answer that goes out now is the connection's last.
    pub fn is_last(&self) -> bool {
        self.announced.load(Relaxed)
    }

    /// hyper hands over the next request of HTTP/1. Whether it is taken.
    pub fn next_request(&self, http_10: bool) -> Result<(), Refused> {
        let number = self.handed_over.load(Relaxed);
        self.handed_over.store(number.saturating_add(1), Relaxed);
        self.begun();
        self.ends_by_close.store(http_10, Relaxed);
        if number >= self.refused_at.load(Relaxed) { Err(*self.why.lock()) } else { Ok(()) }
    }

    /// hyper hands over the next request of HTTP/2.
    pub fn next_stream(&self) {
        self.handed_over.store(self.handed_over.load(Relaxed).wrapping_add(1), Relaxed);
        self.begun();
    }

    /// Requests that hyper has handed over.
    pub(super) fn requests(&self) -> u32 {
        self.handed_over.load(Relaxed)
    }

    /// Waits until an HTTP/2 connection has rested for too long.
    pub async fn rested(&self) {
        self.rested.notified().await;
    }

    /// A response is wanted.
    pub fn begun(&self) {
        self.busy.fetch_add(1, Relaxed);
    }

    /// All of the response is with hyper, or it will not be.
    pub fn answered(&self) {
        self.busy.fetch_sub(1, Relaxed);
    }

    /// Whether a response is being made or sent.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Relaxed) > 0
    }

    /// It is busy until what this returns, and every clone of it, is dropped.
    pub fn hold(self: Arc<Self>) -> Held {
        self.begun();
        Held(Arc::new(Hold(self)))
    }

    /// Nothing is asked for at the moment. Who has never asked for anything may be about to.
    pub fn rests(&self) -> bool {
        self.handed_over.load(Relaxed) > 0 && !self.is_busy() && !self.over.load(Relaxed)
    }

    /// Whether the connection cannot go on after an answer to a request whose body nobody reads. hyper looks once: a body
    /// of known length that has come is skipped at once; for any other it ends the connection, and does not say so.
    pub fn is_last_unless_read(&self, body: &SizeHint) -> bool {
        body.exact().is_none() || !self.all_came.load(Relaxed)
    }

    /// Whether all of what the client has begun to send has come.
    pub(super) fn set_all_came(&self, all: bool) {
        self.all_came.store(all, Relaxed);
    }

    /// An HTTP/2 connection has rested for too long.
    pub(super) fn set_rested(&self) {
        self.rested.notify_one();
    }

    /// Whether what follows is not HTTP/1.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// Whether the connection's end may be a response's.
    pub(super) fn ends_by_close(&self) -> bool {
        self.ends_by_close.load(Relaxed)
    }

    /// What follows is not HTTP/1.
    pub fn over(&self) {
        self.over.store(true, Relaxed);
    }

    /// What is being sent is broken off: the end of the connection must not look like the end of it.
    pub fn reset(&self) {
        self.ends_by_close.store(true, Relaxed);
    }

    /// The request of this number is not to be taken.
    pub(super) fn refuse(&self, number: u32, why: Refused) {
        *self.why.lock() = why;
        self.refused_at.store(number, Relaxed);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.answered();
    }
}
