//! A replica as the data path sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::metrics::Ejected;
use super::send_error::SendError;
use crate::config::spec::{Addresses, Protocol};
use crate::policy::dispatch::ReplicaId;

/// A replica that can serve: its connections, and when it came to be.
#[derive(Debug)]
pub struct Endpoint {
    /// Whose it is.
    pub replica: ReplicaId,
    /// Connections for HTTP.
    pub http: Arc<Client>,
    /// Connections for gRPC, when the app has a second port for it.
    pub grpc: Option<Arc<Client>>,
    /// When its process was started.
    pub spawned: Instant,
    /// When it was first found ready.
    pub ready: Instant,
    suspect: AtomicBool,
    suspected: Notify,
    doubt: OnceLock<Doubt>,
    /// Whether it has answered anything since it joined the set.
    answered: AtomicBool,
    /// Whether whoever owns the replica sees its process end, and says so.
    watched: bool,
    gone: CancellationToken,
    leaving: CancellationToken,
    /// Until then a broken exchange is the app's own affair: it was looked at a moment ago.
    trusted_until: Instant,
}

/// Why a replica is not trusted any more.
#[derive(Clone, Debug)]
pub struct Doubt {
    /// For metrics.
    pub kind: Ejected,
    /// In words.
    pub why: String,
}

/// How long to wait for word that a replica whose connection was reset has died.
const LAST_WORD: Duration = Duration::from_millis(250);

// === impl Endpoint ===

impl Endpoint {
    /// A replica at `addresses`. `max_idle` bounds the connections that wait for use.
    pub fn new(
        replica: ReplicaId,
        addresses: Addresses,
        protocol: Protocol,
        max_idle: usize,
        spawned: Instant,
        ready: Instant,
    ) -> Self {
        Self {
            replica,
            http: Arc::new(Client::new(addresses.http, protocol, max_idle)),
            grpc: addresses.grpc.map(|addr| Arc::new(Client::new(addr, Protocol::H2c, max_idle))),
            spawned,
            ready,
            suspect: AtomicBool::new(false),
            suspected: Notify::new(),
            doubt: OnceLock::new(),
            answered: AtomicBool::new(false),
            watched: false,
            trusted_until: ready,
            gone: CancellationToken::new(),
            leaving: CancellationToken::new(),
        }
    }

    /// Whether requests of this kind go to a port of their own.
    pub fn has_own_port(&self, grpc: bool) -> bool {
        grpc && self.grpc.is_some()
    }

    /// The owner sees the replica's process end, and will say so by [`Endpoint::set_gone`].
    #[must_use]
    pub fn watched(mut self) -> Self {
        self.watched = true;
        self
    }

    /// Told when the replica leaves for good: what has no end of its own is then ended.
    #[must_use]
    pub fn leaves_with(mut self, leaving: CancellationToken) -> Self {
        self.leaving = leaving;
        self
    }

    /// See [`Endpoint::leaves_with`].
    pub fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }

    /// It was looked at just now and found well: broken exchanges do not put it in doubt again before `until`. An app
    /// that breaks off certain requests would else let a client keep it out of the set.
    #[must_use]
    pub fn trusted_until(mut self, until: Instant) -> Self {
        self.trusted_until = until;
        self
    }

    /// An exchange broke. Whether that puts the replica in doubt.
    pub fn broke(&self, now: Instant) -> bool {
        now >= self.trusted_until
    }

    /// The replica's process has ended.
    pub fn set_gone(&self) {
        self.gone.cancel();
    }

    /// Whether the replica's process is known to have ended; waits a moment for the word.
    pub async fn is_gone(&self) -> bool {
        self.watched && tokio::time::timeout(LAST_WORD, self.gone.cancelled()).await.is_ok()
    }

    /// The connections for a request.
    pub fn client(&self, grpc: bool) -> &Arc<Client> {
        match &self.grpc {
            Some(client) if grpc => client,
            _ => &self.http,
        }
    }

    /// It answered: whatever breaks next is not one failure after the other.
    pub fn set_answered(&self) {
        // Read first: a cache line that all answers of a replica write is one that they fight for.
        if !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it has answered anything since it joined the set.
    pub fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// The data path could not connect, or an exchange broke. Runs `leave`, which takes the replica out of the line,
    /// and then tells whoever owns it to look; but only once: after the look the replica is back in the line with an
    /// endpoint of its own, and a late failure of this one must not take that out.
    pub fn suspect(&self, error: &SendError, leave: impl FnOnce()) {
        if !self.suspect.swap(true, Ordering::AcqRel) {
            let kind = match error {
                SendError::Connect { .. } => Ejected::Unreachable,
                _ => Ejected::Broken,
            };
            let _ = self.doubt.set(Doubt { kind, why: error.to_string() });
            leave();
            self.suspected.notify_one();
        }
    }

    /// Resolves when the replica is suspected, with the reason.
    pub async fn suspected(&self) -> Doubt {
        loop {
            self.suspected.notified().await;
            if let Some(doubt) = self.doubt.get() {
                return doubt.clone();
            }
        }
    }
}
