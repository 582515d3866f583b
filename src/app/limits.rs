//! What the process may open: descriptors, and so connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::flags::ConnectionsConfig;
use crate::proxy::guarded::Patience;
use crate::proxy::places::Places;
use crate::proxy::server::Connections;

use crate::runtime::process::children;

/// Kept back for files, pipes, probes and replicas.
const RESERVED: u64 = 256;
/// Above this, more connections cost memory and help nobody.
const MOST_CONNECTIONS: u64 = 65_536;
const LEAST_CONNECTIONS: u64 = 64;

/// What clients may hold: as configured, else as much as fits beside `listeners`.
pub fn connections(config: ConnectionsConfig, listeners: usize) -> Connections {
    let fit = raise(listeners);
    let most = config.most.map_or(fit, |most| most as usize);
    if most > fit {
        tracing::warn!("--max-connections {most}: open files may run out, {fit} fit (ulimit -n)");
    }
    let patience = Patience { header: config.header_timeout, rest: config.keep_alive_timeout };
    Connections { places: Places::new(most), patience }
}

/// Raises the soft limit of open files to the hard one and returns how many client connections fit: each needs one
/// descriptor, and one more for its way to a replica; `listeners` have one each too. What is started from here keeps the
/// old limit: some programs walk over every number that they may use, or make tables for them.
fn raise(listeners: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => children::limit_files(limit),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections =
        (files.saturating_sub(RESERVED + listeners as u64) / 2).clamp(LEAST_CONNECTIONS, MOST_CONNECTIONS);
    connections as usize
}
