//! A stable loopback port for each service, where any `Host` works: for clients that cannot resolve `*.localhost`.
//!
//! The assignment is kept in the state directory, so that a service has the same port after a restart.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock;
use crate::config::spec::ServiceKey;

const FILE: &str = "service-ports.json";
/// A range that is full is looked at again after this long.
const FULL: Duration = Duration::from_secs(5);

/// Gives each service its port.
#[derive(Debug)]
pub struct ServicePorts {
    ip: IpAddr,
    range: Option<RangeInclusive<u16>>,
    file: PathBuf,
    assigned: Mutex<BTreeMap<String, u16>>,
    /// When every port of the range was last found taken: it is not tried again for every further service.
    full: Mutex<Option<Instant>>,
}

/// Why a service has no port of its own.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// Every port of the range is taken.
    #[error("every port of --service-ports {0}-{1} is taken")]
    Exhausted(u16, u16),
    /// The machine refuses.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
}

// === impl ServicePorts ===

impl ServicePorts {
    /// Ports of `range` on `ip`; `None` = no service has one. `state` holds what was assigned before.
    pub fn new(ip: IpAddr, range: Option<RangeInclusive<u16>>, state: &std::path::Path) -> Self {
        let file = state.join(FILE);
        // An unreadable file costs stability, nothing else.
        let assigned = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { ip, range, file, assigned: Mutex::new(assigned.unwrap_or_default()), full: Mutex::default() }
    }

    /// Binds a service's port: the one it had, else one that its name points at, else the next free.
    pub fn bind(&self, key: &ServiceKey) -> Result<Option<(TcpListener, SocketAddr)>, PortsError> {
        let Some(range) = &self.range else { return Ok(None) };
        let now = clock::now();
        if self.full.lock().is_some_and(|at| now.saturating_duration_since(at) < FULL) {
            return Err(PortsError::Exhausted(*range.start(), *range.end()));
        }
        let mut assigned = self.assigned.lock();
        let name = key.to_string();
        let had = assigned.get(&name).copied().filter(|port| range.contains(port));
        let (first, count) = (*range.start(), u32::from(range.end() - range.start()) + 1);
        let start = had.map_or_else(|| hash(&name) % count, |port| u32::from(port - first));
        // A port that another service has, or had once, is taken only when there is no other.
        let others: HashSet<u16> =
            assigned.iter().filter(|(o, _)| **o != name).map(|(_, port)| *port).collect();
        let all = || (0..count).map(|step| first + ((start + step) % count) as u16);
        let (free, owned): (Vec<u16>, Vec<u16>) = all().partition(|port| !others.contains(port));
        for port in free.into_iter().chain(owned) {
            let address = SocketAddr::new(self.ip, port);
            match TcpListener::bind(address) {
                Ok(listener) => {
                    listener.set_nonblocking(true).map_err(|error| PortsError::Listen(address, error))?;
                    if assigned.insert(name.clone(), port) != Some(port) {
                        assigned.retain(|other, taken| *taken != port || *other == name);
                        self.save(&assigned);
                    }
                    return Ok(Some((listener, address)));
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(PortsError::Listen(address, error)),
            }
        }
        *self.full.lock() = Some(now);
        Err(PortsError::Exhausted(*range.start(), *range.end()))
    }

    fn save(&self, assigned: &BTreeMap<String, u16>) {
        let json = serde_json::to_vec_pretty(assigned).expect("strings and numbers");
        let temporary = self.file.with_extension("new");
        let saved = std::fs::write(&temporary, json).and_then(|()| std::fs::rename(&temporary, &self.file));
        if let Err(error) = saved {
            tracing::warn!(%error, file = %self.file.display(), "cannot keep the services' ports");
        }
    }
}

fn hash(name: &str) -> u32 {
    // Unkeyed, so the same in every run of the same build; what was assigned is kept in any case.
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ServiceKey {
        ServiceKey::new("default", name)
    }

    #[test]
    fn a_service_keeps_its_port() {
        let state = tempfile::tempdir().unwrap();
        let ip = "127.0.0.1".parse().unwrap();
        let ports = || ServicePorts::new(ip, Some(42_000..=42_099), state.path());
        let first = ports().bind(&key("a")).unwrap().unwrap().1;
        assert_eq!(ports().bind(&key("a")).unwrap().unwrap().1, first);
        assert_ne!(ports().bind(&key("b")).unwrap().unwrap().1, first);
    }

    #[test]
    fn a_taken_port_is_passed_over_and_a_full_range_is_said() {
        let state = tempfile::tempdir().unwrap();
        let ip = "127.0.0.1".parse().unwrap();
        let ports = ServicePorts::new(ip, Some(42_100..=42_101), state.path());
        let (_one, _) = ports.bind(&key("a")).unwrap().unwrap();
        let (_two, _) = ports.bind(&key("b")).unwrap().unwrap();
        assert!(matches!(ports.bind(&key("c")), Err(PortsError::Exhausted(42_100, 42_101))));
        let none = ServicePorts::new(ip, None, state.path());
        assert!(none.bind(&key("a")).unwrap().is_none());
    }
}
