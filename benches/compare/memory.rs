//! Memory of the proxies: after their start, and with connections that rest.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::site::{HOST, Site, Way};
use crate::table::verdict;

const CONNECTIONS: [usize; 2] = [1_000, 10_000];
/// At most and aimed at, in MiB: idle, then with that many.
const BOUNDS: [(f64, f64); 3] = [(6.0, 4.0), (40.0, 20.0), (300.0, 150.0)];
/// For a program to give back what only a busy connection needs.
const REST: Duration = Duration::from_secs(2);

/// Resident, and that divided by who shares it. In MiB.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) rss: f64,
    pss: f64,
}

/// One line per way. Each has its connections while the others rest; once, since memory hardly varies.
pub(crate) fn table(site: &Site) -> String {
    let mut text =
        "| way | idle | 1,000 connections | 10,000 | closed again | at most | aim | |\n".to_owned();
    text.push_str("|---|---|---|---|---|---|---|---|\n");
    let idle: Vec<Memory> = site.ways.iter().map(Memory::of).collect();
    for (way, idle) in site.ways.iter().zip(idle) {
        let (mut open, mut looks) = (Vec::new(), vec![idle]);
        for n in CONNECTIONS {
            while open.len() < n {
                open.push(
                    rest(way.to)
                        .unwrap_or_else(|e| panic!("{}: connection {}: {e}", way.kind.name(), open.len())),
                );
            }
            std::thread::sleep(REST);
            looks.push(Memory::of(way));
        }
        let kept = open.iter_mut().filter_map(|stream| still_open(stream).ok()).count();
        assert_eq!(kept, open.len(), "{}: connections were closed", way.kind.name());
        drop(open);
        std::thread::sleep(REST);
        let after = Memory::of(way);
        let _ = write!(text, "| {} |", way.kind.name());
        for look in looks.iter().chain([&after]) {
            let _ = write!(text, " {look} |");
        }
        if way.kind.is_ours() {
            let verdicts = looks.iter().zip(BOUNDS).map(|(is, (most, aim))| verdict(is.rss, most, aim));
            let [most, aim] = [BOUNDS.map(|(most, _)| most), BOUNDS.map(|(_, aim)| aim)]
                .map(|of| of.map(|mib| format!("{mib:.0}")).join(" · "));
            let _ = writeln!(text, " {most} | {aim} | {} |", verdicts.collect::<Vec<_>>().join(" · "));
        } else {
            text.push_str(" | | |\n");
        }
    }
    text.push_str("\nMiB.\n");
    text
}

/// A connection that has been answered once.
fn rest(to: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes())?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    // The answer ends with the body's 66 times the same.
    while !answer.ends_with(&[b'x'; 66]) {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&buffer[..n]);
    }
    Ok(stream)
}

fn still_open(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(true)?;
    match stream.read(&mut [0]) {
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
        _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

// === impl Memory ===

impl Memory {
    pub(crate) fn of(way: &Way) -> Self {
        let processes = std::iter::once(way.pid).chain(way.master);
        processes.map(Self::of_process).fold(Self { rss: 0.0, pss: 0.0 }, |all, one| Self {
            rss: all.rss + one.rss,
            pss: all.pss + one.pss,
        })
    }

    fn of_process(pid: u32) -> Self {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the proxy lives");
        let mib = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel says it");
            line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
        };
        Self { rss: mib("Rss:"), pss: mib("Pss:") }
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} ({:.1})", self.rss, self.pss)
    }
}
