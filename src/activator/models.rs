//! Hosts that all services share: the request names a model, and the model is a service.
//!
//! ```text
//! path      V1 and V2 name it in the path; OpenAI's clients in the body, gRPC's in the first message
//! json, multipart, message   find it there, in the first 64 KiB, as they come
//! table     the name → the service: part of the routes, so that a reload changes both at once
//! list      GET /v1/models, which wakes nobody
//! ```
//!
//! What was read of a body goes on unchanged, and from there the request is like any other. Two things are different
//! before it: a client that waits for `100 Continue` is told to go on when its body is needed for the name, before a
//! slot is held, since there is no other way to learn whose slot; and of a name that stands twice in a body the first
//! counts, whichever the app takes.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Body as _;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Activator;
use super::service::Service;
use crate::config::models::NAME_MAX;
use crate::proxy::body::Body;
use crate::proxy::error::{Dialect, ProxyError};
use crate::proxy::fault;
use crate::proxy::host::without_port;
use crate::proxy::request_body::RequestBody;
use crate::proxy::server::Conn;

pub mod json;
pub mod list;
pub mod message;
pub mod multipart;
pub mod path;
pub mod table;

use path::{Asks, Finder};

/// The name must stand in so much of the body.
pub const HEAD_OF_BODY: usize = 64 * 1024;
/// What the beginnings of all bodies together may hold while their names are looked for.
const ROOM: usize = 64 << 20;

/// The hosts, and what bounds those whose service is not known yet.
#[derive(Debug)]
pub struct SharedHosts {
    hosts: Vec<String>,
    /// A permit for each byte of [`ROOM`].
    room: Semaphore,
    /// How long the beginning of a body may take; zero = any time.
    patience: Duration,
}

/// How far a finder is.
#[derive(Debug, PartialEq, Eq)]
pub enum Look<'b> {
    /// The value as it stands there; of JSON a whole text, number or word, or the first byte of a list or map.
    Found(&'b [u8]),
    /// Not yet.
    More,
    /// All has come, and it is not there.
    Absent,
    /// Not to be read, for this reason.
    Bad(&'static str),
}

/// What becomes of a request.
enum Way {
    To(Arc<Service>, Box<Request<RequestBody>>),
    Answered(Box<Response<Body>>),
}

/// Answers a request on a shared host.
pub async fn answer(
    activator: &Arc<Activator>,
    conn: Arc<Conn>,
    request: Box<Request<RequestBody>>,
) -> Response<Body> {
    let dialect = Dialect::of(request.headers());
    match way(activator, request).await {
        Ok(Way::To(service, request)) => activator.take(service, conn, request).await,
        Ok(Way::Answered(response)) => *response,
        Err(error) => activator.lost(&error, dialect),
    }
}

async fn way(activator: &Activator, mut request: Box<Request<RequestBody>>) -> Result<Way, ProxyError> {
    let body = std::mem::take(request.body_mut());
    let find = |name: &str| activator.routes.load().models.find(name).cloned();
    let (service, body) = match path::asks(request.method(), request.uri().path(), request.headers()) {
        Asks::List => return Ok(Way::Answered(Box::new(list::all(&activator.routes.load().models)))),
        Asks::About(name) => {
            let one = list::one(&activator.routes.load().models, &name)?;
            return Ok(Way::Answered(Box::new(one)));
        }
        Asks::Named(name) => (find(&name)?, body),
        Asks::InBody(finder) => {
            let (name, body) = activator.shared.read(body, finder).await?;
            (find(&name)?, body)
        }
        Asks::Nowhere => return Err(ProxyError::NoSuchModel(NAMELESS.to_owned())),
        Asks::Unreadable(why) => return Err(ProxyError::NoModel(format!("{why}: {OTHERWISE}"))),
    };
    *request.body_mut() = body;
    Ok(Way::To(service, request))
}

const NAMELESS: &str = "on this host a request says by its model which service it is for, and this one names none: \
                        POST /v1/… with \"model\" in the body, /v1/models/NAME:predict, /v2/models/NAME/… or gRPC \
                        inference.GRPCInferenceService; GET /v1/models lists the models";
const OTHERWISE: &str = "the model cannot be read out of it; use the service's own host";

// === impl SharedHosts ===

impl SharedHosts {
    /// These hosts, in lower case and without ports, and how long the beginning of a body may take (zero = any time).
    pub fn new(hosts: Vec<String>, patience: Duration) -> Self {
        Self { hosts, room: Semaphore::new(ROOM), patience }
    }

    /// Whether this host, whose port, case and trailing dot do not matter, is one of them.
    pub fn has(&self, host: &str) -> bool {
        let name = without_port(host);
        self.hosts.iter().any(|shared| shared.eq_ignore_ascii_case(name))
    }

    /// Reads the beginning of a body, up to the name of the model.
    async fn read(&self, body: RequestBody, finder: Finder) -> Result<(String, RequestBody), ProxyError> {
        let length = body.size_hint().upper().unwrap_or(u64::MAX).min(HEAD_OF_BODY as u64);
        let room = self.room.try_acquire_many(length as u32).map_err(|_| ProxyError::Overflow {
            what: "the room for requests whose model is looked for",
            limit: ROOM as u64,
            retry_after: Duration::from_secs(1),
        })?;
        let reading = read(body, finder);
        let result = if self.patience.is_zero() {
            reading.await
        } else {
            let slow = |_| Err(ProxyError::SlowBody { limit: self.patience });
            timeout(self.patience, reading).await.unwrap_or_else(slow)
        };
        // From here on the service's buffer bounds it, if it has to wait.
        drop(room);
        result
    }
}

impl Default for SharedHosts {
    /// None.
    fn default() -> Self {
        Self::new(Vec::new(), Duration::ZERO)
    }
}

const EMPTY: &str = "the body is empty: it has";

/// Over the bound by one frame at most.
async fn read(body: RequestBody, mut finder: Finder) -> Result<(String, RequestBody), ProxyError> {
    let Some(mut body) = body.prefetched() else {
        return Err(ProxyError::NoModel(finder.is_missing(EMPTY)));
    };
    loop {
        let read = body.data();
        let head = &read[..read.len().min(HEAD_OF_BODY)];
        match finder.look(head) {
            Look::Found(value) => {
                let name = finder.name(value)?;
                return Ok((name, body.into_body()));
            }
            Look::Absent => return Err(ProxyError::NoModel(finder.is_missing("the body has"))),
            Look::Bad(why) => return Err(ProxyError::NoModel(format!("{why}: {OTHERWISE}"))),
            Look::More if read.len() >= HEAD_OF_BODY => {
                let place = format!("the first {HEAD_OF_BODY} bytes of the body have");
                return Err(ProxyError::NoModel(finder.is_missing(&place) + ": put it first"));
            }
            Look::More => {}
        }
        if !body.more().await {
            return Err(match body.error() {
                Some(error) => fault::of_request_body(error),
                None if body.data().is_empty() => ProxyError::NoModel(finder.is_missing(EMPTY)),
                None => ProxyError::NoModel(finder.is_missing("the body ends in the middle, and has")),
            });
        }
    }
}

// === impl Finder ===

impl Finder {
    /// Goes on in `bytes`, which are all that have come, those of the calls before among them.
    pub fn look<'b>(&mut self, bytes: &'b [u8]) -> Look<'b> {
        match self {
            Self::Json(finder) => finder.look(bytes),
            Self::Form(finder) => finder.look(bytes),
            Self::Message(finder) => finder.look(bytes),
        }
    }

    fn name(&self, value: &[u8]) -> Result<String, ProxyError> {
        let name = match self {
            // Escapes make a name longer by six at most.
            _ if value.len() > 6 * NAME_MAX + 2 => None,
            Self::Json(_) => json::text(value),
            Self::Form(_) | Self::Message(_) => String::from_utf8(value.to_vec()).ok(),
        };
        let good = name.filter(|name| (1..=NAME_MAX).contains(&name.len()));
        good.ok_or_else(|| {
            ProxyError::NoModel(format!("{} is not a text of 1 to {NAME_MAX} bytes", self.place()))
        })
    }

    fn is_missing(&self, place: &str) -> String {
        format!("{place} no {}", self.place())
    }

    fn place(&self) -> &'static str {
        match self {
            Self::Json(_) => "\"model\"",
            Self::Form(_) => "field \"model\"",
            Self::Message(_) => "name of a model",
        }
    }
}
