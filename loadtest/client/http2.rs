//! HTTP/2: a few connections, each with many streams.

use std::cell::{Cell, RefCell};
use std::future::Future;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response};
use tokio::sync::Mutex;

use super::connect::Connector;
use crate::outcome::{Failed, Failure};

/// A request that a server refused unread is sent on a new connection; so often at most.
const TRIES: usize = 3;

/// Connections to one service, opened when first needed.
pub(super) struct Http2 {
    connector: Connector,
    slots: Vec<Slot>,
    next: Cell<usize>,
}

#[derive(Default)]
struct Slot {
    sender: RefCell<Option<Sender>>,
    /// Held by the one that connects; the others wait for its connection instead of opening theirs.
    opening: Mutex<()>,
}

type Sender = SendRequest<Full<Bytes>>;

/// Runs a connection's tasks on the thread that it belongs to.
#[derive(Clone)]
struct ThisThread;

// === impl Http2 ===

impl Http2 {
    pub(super) fn new(connector: Connector, connections: u32) -> Self {
        let slots = (0..connections).map(|_| Slot::default()).collect();
        Self { connector, slots, next: Cell::new(0) }
    }

    /// Sends a request and returns with the head of the answer.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failed> {
        let turn = self.next.get();
        self.next.set((turn + 1) % self.slots.len());
        let slot = &self.slots[turn];
        let mut request = request;
        for _ in 0..TRIES {
            let mut sender = self.sender(slot).await?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Failed::new(Failure::Reset, error.error())),
                },
            }
        }
        Err(Failure::Reset.into())
    }

    async fn sender(&self, slot: &Slot) -> Result<Sender, Failed> {
        if let Some(sender) = slot.open() {
            return Ok(sender);
        }
        let _opening = slot.opening.lock().await;
        if let Some(sender) = slot.open() {
            return Ok(sender);
        }
        let io = self.connector.connect().await?;
        let (sender, connection) =
            http2::handshake(ThisThread, io).await.map_err(|e| Failed::new(Failure::Connect, &e))?;
        tokio::task::spawn_local(connection);
        *slot.sender.borrow_mut() = Some(sender.clone());
        Ok(sender)
    }
}

// === impl Slot ===

impl Slot {
    fn open(&self) -> Option<Sender> {
        self.sender.borrow().clone().filter(|sender| !sender.is_closed())
    }
}

// === impl ThisThread ===

impl<F: Future + 'static> hyper::rt::Executor<F> for ThisThread {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
