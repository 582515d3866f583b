//! Open loop at a constant rate: requests leave when they are due, and latency counts from then.
//!
//! The 99th percentile of a whole run tells of the machine rather than of the proxy as soon as another program takes a
//! processor for 1 % of the time. So it is also taken of each tenth of a second, and of these the median.
//!
//! Not on tokio, whose timers know milliseconds only: one thread, `ppoll`, and a timer slack of 1 ns.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::common::samples::Samples;
use crate::loads::{Outcome, Stopwatch};
use crate::site::HOST;

/// After the last request is due, for the last answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a run is cut into, by when requests were due.
const PART: Duration = Duration::from_millis(100);

struct Connection {
    stream: TcpStream,
    /// When its request was due.
    busy: Option<Instant>,
    answer: Vec<u8>,
}

pub(crate) fn run(
    to: SocketAddr,
    connections: u32,
    per_second: f64,
    pid: Option<u32>,
    seconds: u32,
) -> Outcome {
    // Otherwise the kernel may wake us 50 µs late.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
    let mut connections: Vec<Connection> = (0..connections).map(|_| Connection::open(to)).collect();
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let total = (per_second * f64::from(seconds)) as u64;
    let mut latencies = Vec::with_capacity(total as usize);
    let mut parts: BTreeMap<u128, Samples> = BTreeMap::new();
    let mut waiting = VecDeque::new();
    let (watch, begun) = (Stopwatch::start(pid), Instant::now());
    let due = |n: u64| begun + Duration::from_secs_f64(n as f64 / per_second);
    let (mut next, mut failed) = (0, 0);
    while (latencies.len() as u64) + failed < total {
        let now = Instant::now();
        assert!(now < due(total) + PATIENCE, "{} requests through {to} are not answered", total - next);
        while next < total && due(next) <= now {
            waiting.push_back(due(next));
            next += 1;
        }
        for free in connections.iter_mut().filter(|one| one.busy.is_none()) {
            let Some(due) = waiting.pop_front() else { break };
            if free.stream.write_all(request.as_bytes()).is_ok() {
                free.busy = Some(due);
            } else {
                failed += 1;
                *free = Connection::open(to);
            }
        }
        let wait = if next < total { due(next) } else { due(total) + PATIENCE };
        for n in readable(&connections, wait.saturating_duration_since(Instant::now())) {
            let busy = &mut connections[n];
            match busy.read() {
                Ok(None) => {}
                Ok(Some(true)) => {
                    let due = busy.busy.take().expect("just looked at");
                    let took = due.elapsed().as_secs_f64() * 1e6;
                    latencies.push(took);
                    let part = due.duration_since(begun).as_millis() / PART.as_millis();
                    parts.entry(part).or_default().push(took);
                }
                Ok(Some(false)) => {
                    busy.busy = None;
                    failed += 1;
                }
                Err(_) => {
                    *busy = Connection::open(to);
                    failed += 1;
                }
            }
        }
    }
    let ran = watch.stop();
    let mut calm = Samples::default();
    for part in parts.values() {
        calm.push(part.quantile(0.99));
    }
    Outcome { calm_p99: calm.median(), ..Outcome::of(latencies, failed, begun.elapsed(), ran) }
}

/// Waits, and says which connections have something to read.
fn readable(connections: &[Connection], at_most: Duration) -> Vec<usize> {
    let busy: Vec<usize> = (0..connections.len()).filter(|n| connections[*n].busy.is_some()).collect();
    let mut fds: Vec<PollFd<'_>> =
        busy.iter().map(|n| PollFd::new(&connections[*n].stream, PollFlags::IN)).collect();
    let at_most = Timespec::try_from(at_most).expect("seconds");
    // Interrupted: the loop looks again.
    if poll(&mut fds, Some(&at_most)).is_err() {
        return Vec::new();
    }
    busy.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty()).map(|(n, _)| *n).collect()
}

// === impl Connection ===

impl Connection {
    fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { stream, busy: None, answer: Vec::with_capacity(4096) }
    }

    /// `Some` when the answer is whole: whether it is the right one.
    fn read(&mut self) -> std::io::Result<Option<bool>> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => self.answer.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut headers);
        let Ok(parsed) = head.parse(&self.answer) else { return Err(ErrorKind::InvalidData.into()) };
        let httparse::Status::Complete(at) = parsed else { return Ok(None) };
        let length = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
        let length = length.and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok());
        let length = length.ok_or(ErrorKind::InvalidData)?;
        if self.answer.len() < at + length {
            return Ok(None);
        }
        let right = head.code == Some(200);
        self.answer.clear();
        Ok(Some(right))
    }
}
