//! A stable loopback port for each service, where any `Host` works: for clients that cannot resolve `*.localhost`.
//!
//! The assignment is kept in the state directory, so that a service has the same port after a restart.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock;
use crate::config::spec::ServiceKey;

const FILE: &str = "service-ports.json";
/// A range that is full is looked at again after this long.
const FULL: Duration = Duration::from_secs(5);

/// Gives each service its port. On loopback whatever `--listen` says: this is for clients of this machine.
#[derive(Debug)]
pub struct ServicePorts {
    range: Option<RangeInclusive<u16>>,
    file: PathBuf,
    assigned: Mutex<Assigned>,
    /// When every port of the range was last found taken: it is not tried again for every further service.
    full: Mutex<Option<Instant>>,
}

/// Both ways, and whether the file says so already.
#[derive(Debug, Default)]
struct Assigned {
    ports: BTreeMap<String, u16>,
    owners: HashMap<u16, String>,
    changed: bool,
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
    /// Ports of `range`; `None` = no service has one. `state` holds what was assigned before.
    pub fn new(range: Option<RangeInclusive<u16>>, state: &std::path::Path) -> Self {
        let file = state.join(FILE);
        // An unreadable file costs stability, nothing else.
        let kept = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let ports: BTreeMap<String, u16> = kept.unwrap_or_default();
        let owners = ports.iter().map(|(name, port)| (*port, name.clone())).collect();
        let assigned = Mutex::new(Assigned { ports, owners, changed: false });
        Self { range, file, assigned, full: Mutex::default() }
    }

    /// Binds a service's port: the one it had, else one that its name points at, else the next free. Kept by
    /// [`ServicePorts::save`].
    pub fn bind(&self, key: &ServiceKey) -> Result<Option<(TcpListener, SocketAddr)>, PortsError> {
        let Some(range) = &self.range else { return Ok(None) };
        let now = clock::now();
        if self.full.lock().is_some_and(|at| now.saturating_duration_since(at) < FULL) {
            return Err(PortsError::Exhausted(*range.start(), *range.end()));
        }
        let mut assigned = self.assigned.lock();
        let name = key.to_string();
        let had = assigned.ports.get(&name).copied().filter(|port| range.contains(port));
        let (first, count) = (*range.start(), u32::from(range.end() - range.start()) + 1);
        let start = had.map_or_else(|| hash(&name) % count, |port| u32::from(port - first));
        // A port that another service has, or had once, is taken only when there is no other.
        for others in [false, true] {
            for port in (0..count).map(|step| first + ((start + step) % count) as u16) {
                let of_another = assigned.owners.get(&port).is_some_and(|owner| *owner != name);
                if of_another != others {
                    continue;
                }
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                match TcpListener::bind(address) {
                    Ok(listener) => {
                        listener.set_nonblocking(true).map_err(|error| PortsError::Listen(address, error))?;
                        assigned.give(name, port);
                        return Ok(Some((listener, address)));
                    }
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                    Err(error) => return Err(PortsError::Listen(address, error)),
                }
            }
        }
        *self.full.lock() = Some(now);
        Err(PortsError::Exhausted(*range.start(), *range.end()))
    }

    /// Keeps what was assigned, if that has changed.
    pub fn save(&self) {
        let mut assigned = self.assigned.lock();
        if !std::mem::take(&mut assigned.changed) {
            return;
        }
        let json = serde_json::to_vec_pretty(&assigned.ports).expect("strings and numbers");
        let temporary = self.file.with_extension("new");
        let saved = std::fs::write(&temporary, json).and_then(|()| std::fs::rename(&temporary, &self.file));
        if let Err(error) = saved {
            tracing::warn!(%error, file = %self.file.display(), "cannot keep the services' ports");
        }
    }
}

// === impl Assigned ===

impl Assigned {
    fn give(&mut self, name: String, port: u16) {
        if self.ports.get(&name) == Some(&port) {
            return;
        }
        self.changed = true;
        if let Some(before) = self.owners.insert(port, name.clone()) {
            self.ports.remove(&before);
        }
        if let Some(other) = self.ports.insert(name, port) {
            self.owners.remove(&other);
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

    /// Two ports below the ones that the kernel gives out, not those of another run of these tests.
    fn two_ports() -> RangeInclusive<u16> {
        let first = 10_000 + (std::process::id() % 4_000) as u16 * 2;
        first..=first + 1
    }

    #[test]
    fn a_service_keeps_its_port() {
        let state = tempfile::tempdir().unwrap();
        let ports = || ServicePorts::new(Some(21_500..=21_999), state.path());
        let before = ports();
        let first = before.bind(&key("a")).unwrap().unwrap().1;
        before.save();
        assert_eq!(ports().bind(&key("a")).unwrap().unwrap().1, first);
        assert_ne!(ports().bind(&key("b")).unwrap().unwrap().1, first);
    }

    #[test]
    fn a_taken_port_is_passed_over_and_a_full_range_is_said() {
        let state = tempfile::tempdir().unwrap();
        let ports = ServicePorts::new(Some(two_ports()), state.path());
        let (_one, _) = ports.bind(&key("a")).unwrap().unwrap();
        let (_two, _) = ports.bind(&key("b")).unwrap().unwrap();
        assert!(matches!(ports.bind(&key("c")), Err(PortsError::Exhausted(..))));
        let none = ServicePorts::new(None, state.path());
        assert!(none.bind(&key("a")).unwrap().is_none());
    }
}
