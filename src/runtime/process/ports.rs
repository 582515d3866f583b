//! Free loopback ports, and whose process listens on one.
//!
//! A port is free when the kernel gives it out for `127.0.0.1:0`. Between that and the app's own `bind` another program
//! can take it: the app then fails (the supervisor chooses again), and the stranger answers probes. So before a replica
//! counts as ready, `owned_by` finds out who listens. The window is seconds long, but Linux gives outgoing
//! connections ports of the other parity first, so it takes a machine that is nearly out of ports, or another `bind`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use parking_lot::Mutex;

use super::kin::Kin;
use super::procfs;
use super::sock_diag::SockDiag;

/// How often a port is asked for, when those that the kernel gives are reserved.
const ATTEMPTS: usize = 256;

/// Gives out loopback ports, none twice at a time. Clones share the reservations.
#[derive(Clone, Debug, Default)]
pub struct PortAllocator {
    taken: Arc<Mutex<HashSet<u16>>>,
}

/// A port that no other replica gets. Dropping it gives it back.
#[derive(Debug)]
pub struct Reservation {
    port: u16,
    taken: Arc<Mutex<HashSet<u16>>>,
}

/// No port could be had: the machine's fault, worth another try.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The system refused.
    #[error("no free port on 127.0.0.1: {0}")]
    Refused(#[from] io::Error),
    /// Every port that the system offered belongs to a replica.
    #[error("no free port on 127.0.0.1: all that the system offers are taken by replicas")]
    Exhausted,
}

/// Who listens on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// A process of the group, or one that left it.
    Yes,
    /// Somebody else.
    Other,
    /// Somebody, but what the group has open cannot be read (another user's process).
    Unknown,
    /// Nobody.
    NotListening,
}

// === impl PortAllocator ===

impl PortAllocator {
    /// A port that is free now.
    pub fn reserve(&self) -> Result<Reservation, PortError> {
        // Those refused are held until the end, so that the kernel offers another each time.
        let mut refused = Vec::new();
        for _ in 0..ATTEMPTS {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = listener.local_addr()?.port();
            if self.taken.lock().insert(port) {
                return Ok(Reservation { port, taken: Arc::clone(&self.taken) });
            }
            refused.push(listener);
        }
        Err(PortError::Exhausted)
    }
}

// === impl Reservation ===

impl Reservation {
    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.taken.lock().remove(&self.port);
    }
}

/// Who listens where a connection to `127.0.0.1:port` arrives. Costs about 0.1 ms when it is the leader, and a look at
/// every process of the machine otherwise.
pub(super) fn owned_by(port: u16, kin: &Kin) -> Ownership {
    let sockets = listeners(port);
    if sockets.is_empty() {
        return Ownership::NotListening;
    }
    let mut readable = match has_any(kin.leader, &sockets) {
        Some(true) => return Ownership::Yes,
        Some(false) => true,
        None => false,
    };
    for stat in kin.members() {
        match has_any(stat.pid, &sockets) {
            Some(true) => return Ownership::Yes,
            Some(false) => {}
            // It may have ended meanwhile: only one that is still there hides something.
            None => readable &= !procfs::stat(stat.pid).is_some_and(|stat| stat.alive()),
        }
    }
    if readable { Ownership::Other } else { Ownership::Unknown }
}

/// Whether the process has one of these sockets open; none where that cannot be read.
fn has_any(pid: i32, sockets: &[String]) -> Option<bool> {
    let entries = fs::read_dir(procfs::fd_dir(pid)).ok()?;
    let has = |link: std::path::PathBuf| link.to_str().is_some_and(|link| sockets.iter().any(|s| s == link));
    Some(entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(has)))
}

/// What `/proc/PID/fd/N` of the sockets that get connections to `127.0.0.1:port` link to: those bound to that very
/// address, else those bound to all.
fn listeners(port: u16) -> Vec<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match SockDiag::open().and_then(|kernel| kernel.listener(address)) {
        Ok(inode) => return inode.map(|inode| format!("socket:[{inode}]")).into_iter().collect(),
        // A kernel without it, or a sandbox.
        Err(error) => tracing::debug!(%error, "no sock_diag; reading /proc/net/tcp"),
    }
    let mut exact = Vec::new();
    let mut wildcard = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(file) = File::open(table) else { continue };
        for line in BufReader::new(file).lines().skip(1).map_while(Result::ok) {
            let Some(socket) = parse(&line) else { continue };
            if !socket.listening {
                break; // listening ones come first; the others may be many thousands
            }
            if socket.port == port {
                match socket.address {
                    Address::Loopback => exact.push(format!("socket:[{}]", socket.inode)),
                    Address::Any => wildcard.push(format!("socket:[{}]", socket.inode)),
                    Address::Elsewhere => {}
                }
            }
        }
    }
    if exact.is_empty() { wildcard } else { exact }
}

#[derive(Debug, PartialEq)]
enum Address {
    Loopback,
    Any,
    Elsewhere,
}

#[derive(Debug, PartialEq)]
struct Socket {
    address: Address,
    port: u16,
    listening: bool,
    inode: u64,
}

/// A line of `/proc/net/tcp` or `tcp6`. Addresses are hexadecimal, in host byte order per 32 bits.
fn parse(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    let loopback = format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 1]));
    let mapped = format!("0000000000000000{:08X}{loopback}", 0xffff_u32.to_be());
    let address = match address {
        a if a == loopback || a == mapped => Address::Loopback,
        a if a.bytes().all(|digit| digit == b'0') => Address::Any,
        _ => Address::Elsewhere,
    };
    Some(Socket { address, port: u16::from_str_radix(port, 16).ok()?, listening: state == "0A", inode })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::process::child::{Child, Launch};
    use crate::runtime::process::logs::LogSink;
    use std::time::Duration;

    async fn server(script: &str, port: u16) -> Child {
        let script = format!("import os, socket, subprocess, sys, time\nport = {port}\n{script}");
        let log = LogSink::memory();
        let argv = vec!["python3".into(), "-u".into(), "-c".into(), script];
        let launch =
            Launch { argv, env: vec![], env_remove: vec![], working_dir: "/".into(), log: log.clone() };
        let child = Child::spawn(launch).unwrap();
        let listens = async {
            while !log.last_lines(99).contains("up") {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let up = tokio::time::timeout(Duration::from_secs(30), listens).await;
        up.unwrap_or_else(|_| panic!("{}", log.last_lines(99)));
        child
    }

    const LISTEN: &str = "s = socket.create_server(('127.0.0.1', port)); print('up'); time.sleep(60)";

    #[test]
    fn a_port_is_given_once_at_a_time() {
        let ports = PortAllocator::default();
        let held: Vec<_> = (0..200).map(|_| ports.reserve().unwrap()).collect();
        let distinct: HashSet<u16> = held.iter().map(Reservation::port).collect();
        assert_eq!(distinct.len(), 200);
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, held[0].port())).is_ok());
        drop(held);
        assert!(ports.taken.lock().is_empty());
    }

    #[tokio::test]
    async fn tells_its_own_from_a_stranger() {
        let port = PortAllocator::default().reserve().unwrap();
        let port = port.port();
        let mut replica = server("print('up'); time.sleep(60)", port).await;
        assert_eq!(owned_by(port, replica.kin()), Ownership::NotListening);
        let stranger = server(LISTEN, port).await;
        assert_eq!(owned_by(port, replica.kin()), Ownership::Other);
        assert_eq!(owned_by(port, stranger.kin()), Ownership::Yes);
        drop(stranger);
        replica.terminate(Duration::from_secs(1)).await;
    }

    #[tokio::test]
    async fn finds_members_descendants_and_wildcards() {
        let ports = PortAllocator::default();
        let inner = "import socket, sys, time; s = socket.create_server(('', int(sys.argv[1]))); print('up'); time.sleep(60)";
        for session in ["False", "True"] {
            let port = ports.reserve().unwrap();
            let script = format!(
                "p = subprocess.Popen([sys.executable, '-u', '-c', \"{inner}\", str(port)], start_new_session={session})\n\
                 try: time.sleep(60)\nfinally: p.kill()"
            );
            let mut replica = server(&script, port.port()).await;
            assert_eq!(owned_by(port.port(), replica.kin()), Ownership::Yes, "session {session}");
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_raw(replica.pid()).unwrap(),
                rustix::process::Signal::INT,
            );
            replica.exited().await;
        }
        let port = ports.reserve().unwrap().port();
        let six = "s = socket.create_server(('::', port), family=socket.AF_INET6, dualstack_ipv6=True); print('up'); time.sleep(60)";
        if std::net::TcpListener::bind("[::1]:0").is_ok() {
            let replica = server(six, port).await;
            assert_eq!(owned_by(port, replica.kin()), Ownership::Yes);
        }
    }

    #[test]
    fn reads_the_tables() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 4242 1 0 100";
        let got = parse(line).unwrap();
        assert_eq!(got, Socket { address: Address::Loopback, port: 8080, listening: true, inode: 4242 });
        let line = "   1: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 01 0:0 0:0 0 0 0 7 1";
        let got = parse(line).unwrap();
        assert_eq!(got, Socket { address: Address::Loopback, port: 80, listening: false, inode: 7 });
        assert_eq!(parse("  sl  local_address"), None);
    }
}
