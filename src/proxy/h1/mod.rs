//! HTTP/1.1 towards an app, on our own I/O.
//!
//! ```text
//! request ──► encode ──► outgoing ──► connection ──► head ──► Response<Answer> ──► decode ──► frames
//! ```
//!
//! hyper's client runs each connection in a task of its own: a request is boxed, goes through a channel, and its
//! answer comes back through two others, each with its wake-up. An app's connection has one request at a time, so here
//! the request's own task writes and reads, and nothing has to be woken but by the socket (benches/README.md, "Tried",
//! has the figures). Only what is left of a request's body when its answer has begun goes on in a task of its own:
//! a client may send all of its body before it reads anything.
//!
//! Heads are parsed by `httparse`, as hyper does. Of what an app sends nothing is trusted: heads, interim responses,
//! chunk extensions and trailers are bounded, and a body whose length can be read in two ways is refused
//! ([`head::response`](super::head::response)).

pub mod answer;
pub mod connection;
pub mod decode;
pub mod encode;
pub mod head;
pub mod outgoing;

pub use answer::{Answer, Finished};
pub use connection::{Connection, Unanswered};

use std::io;

/// Why an exchange broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The app closed the connection before its response was complete.
    #[error("it closed the connection before its response was complete")]
    Closed,
    /// The app had closed the connection when the request arrived, and did not read it.
    #[error("it closed the connection, and had not read the request")]
    Unread,
    /// The connection broke.
    #[error("the connection to it broke: {0}")]
    Io(#[source] io::Error),
    /// What came is no HTTP/1.
    #[error("what it sent is no HTTP: {0}")]
    Garbage(&'static str),
    /// The head of the response tells the body's length more than once, or not plainly.
    #[error("its response tells its length more than once, or not plainly")]
    Framing,
    /// The head of the response is too large, or has too many fields.
    #[error("its response's head is too large")]
    HeadTooLarge,
    /// Interim responses went on for too long.
    #[error("it sent more than {} bytes of interim responses", connection::MAX_BEFORE_HEAD)]
    Interims,
    /// The client broke off the request's body.
    #[error("the request's body broke off: {0}")]
    Client(#[source] hyper::Error),
}
