//! A replica as the data path sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use super::client::Client;
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
}

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
        }
    }

    /// The connections for a request.
    pub fn client(&self, grpc: bool) -> &Arc<Client> {
        match &self.grpc {
            Some(client) if grpc => client,
            _ => &self.http,
        }
    }

    /// The data path could not connect: whoever owns the replica should look.
    pub fn suspect(&self) {
        if !self.suspect.swap(true, Ordering::Relaxed) {
            self.suspected.notify_one();
        }
    }

    /// Resolves when the replica is suspected.
    pub async fn suspected(&self) {
        self.suspected.notified().await;
    }
}
