//! What both hops share: the way of one request, in order.
//!
//! ```text
//! server    accepts connections, HTTP/1.1 and h2c on one port
//! guarded   bounds what a connection may do, refuses what two parsers may read differently (framing)
//! head      brings the request into one canonical form
//! breaker   holds it in line until a replica has a free slot
//! forward   sends it over the replica's own connections (client) and hands the answer on
//! body      ends the exchange, and so gives the slot back, with the response's last byte
//! error     turns whatever failed into HTTP or gRPC, in one place
//! ```

use std::sync::Arc;

use endpoint::Endpoint;
use error::Refusal;

pub mod body;
pub mod breaker;
pub mod client;
pub mod detect;
pub mod download;
pub mod endpoint;
pub mod error;
pub mod exchange;
pub mod fault;
pub mod forward;
pub mod forwarded;
pub mod framing;
pub mod grpc;
pub mod guarded;
pub mod h1;
pub mod hangup;
pub mod head;
pub mod heartbeat;
pub mod host;
pub mod metrics;
pub mod places;
pub mod present;
pub mod replay;
pub mod request_body;
pub mod seldom;
pub mod send_error;
pub mod server;
pub mod shared;
pub mod signals;
pub mod timeout;
pub mod upgrade;
pub mod watch;
pub mod websocket;

/// The line in front of a service's replicas.
pub type Line = breaker::Breaker<Arc<Endpoint>, Refusal>;
/// One slot of one replica.
pub type Permit = breaker::Permit<Arc<Endpoint>, Refusal>;
/// A place in the line.
pub type Place = breaker::Acquire<Arc<Endpoint>, Refusal>;
