//! HTTP/1.1: a stack of resting connections, and a new one whenever none rests.

use std::cell::RefCell;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};

use super::connect::Connector;
use crate::outcome::{Failed, Failure};

/// Connections to one service. As many are open as requests are, which the scenario bounds.
pub(super) struct Http1 {
    connector: Connector,
    /// The one that rested last is taken first: the others can age, and the server can close them.
    resting: RefCell<Vec<Sender>>,
}

type Sender = SendRequest<Full<Bytes>>;

/// A connection whose answer is being read. Dropped with the answer unread, it is closed.
pub(super) struct Busy<'a> {
    pool: &'a Http1,
    sender: Sender,
}

// === impl Http1 ===

impl Http1 {
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, resting: RefCell::default() }
    }

    /// Sends a request and returns with the head of the answer.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Busy<'_>), Failed> {
        let mut request = request;
        while let Some(mut sender) = self.take() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, Busy { pool: self, sender })),
                // Not a byte of it was written: the server had closed the connection while it rested.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(failure(error.error())),
                },
            }
        }
        let mut sender = self.open(false).await?;
        let response = sender.send_request(request).await.map_err(|e| failure(&e))?;
        Ok((response, Busy { pool: self, sender }))
    }

    /// Sends a request on a connection of its own, which becomes another protocol's if the answer is 101.
    pub(super) async fn upgrade(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Option<Upgraded>), Failed> {
        let mut sender = self.open(true).await?;
        let mut response = sender.send_request(request).await.map_err(|e| failure(&e))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok((response, None));
        }
        let upgraded = hyper::upgrade::on(&mut response).await.map_err(|_| Failure::Reset)?;
        Ok((response, Some(upgraded)))
    }

    fn take(&self) -> Option<Sender> {
        let mut resting = self.resting.borrow_mut();
        while let Some(sender) = resting.pop() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    async fn open(&self, upgrades: bool) -> Result<Sender, Failed> {
        let io = self.connector.connect().await?;
        let (sender, connection) =
            http1::handshake(io).await.map_err(|e| Failed::new(Failure::Connect, &e))?;
        // The task ends with the connection: when the sender is dropped, or the server closes.
        if upgrades {
            tokio::task::spawn_local(connection.with_upgrades());
        } else {
            tokio::task::spawn_local(connection);
        }
        Ok(sender)
    }
}

// === impl Busy ===

impl Busy<'_> {
    /// The answer has been read to its end: the connection may carry another.
    pub(super) fn rest(self) {
        if !self.sender.is_closed() {
            self.pool.resting.borrow_mut().push(self.sender);
        }
    }
}

fn failure(error: &hyper::Error) -> Failed {
    Failed::new(if error.is_parse() { Failure::Protocol } else { Failure::Reset }, error)
}
