//! Closed-loop load over HTTP/2 by h2load, of nghttp2: another's generator.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::loads::{Outcome, Stopwatch};
use crate::site::HOST;

/// A gRPC message of 32 bytes, as its frame; the replica answers with the same.
pub(crate) const MESSAGE: &[u8] = b"\0\0\0\0\x20................................";
/// Where it is posted.
pub(crate) const METHOD: &str = "/bench.Echo/Unary";

pub(crate) struct H2load {
    connections: u32,
    streams: u32,
    /// What is posted, when it is gRPC.
    message: Option<PathBuf>,
    /// One line per request.
    log: PathBuf,
}

// === impl H2load ===

impl H2load {
    pub(crate) fn new(dir: &Path, connections: u32, streams: u32, grpc: bool) -> Self {
        let message = grpc.then(|| {
            let file = dir.join("message");
            std::fs::write(&file, MESSAGE).unwrap();
            file
        });
        Self { connections, streams, message, log: dir.join("h2load.log") }
    }

    /// One thread, so that it takes no more than one of the processors.
    pub(crate) fn run(&self, to: SocketAddr, pid: Option<u32>, seconds: u32) -> Outcome {
        let mut command = Command::new("h2load");
        command.args(["-t1", "-c", &self.connections.to_string(), "-m", &self.streams.to_string()]);
        command.arg(format!("--duration={seconds}")).arg(format!("--connect-to={to}"));
        command.arg(format!("--log-file={}", self.log.display()));
        let path = if let Some(message) = &self.message {
            command.arg("-d").arg(message);
            command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
            METHOD
        } else {
            "/"
        };
        command.arg(format!("http://{HOST}{path}"));
        // It appends.
        let _ = std::fs::remove_file(&self.log);
        let watch = Stopwatch::start(pid);
        let output = command.output().expect("the script has looked for h2load");
        let ran = watch.stop();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "h2load: {said}{}", String::from_utf8_lossy(&output.stderr));
        // When it began, in µs; the status, or -1; µs until its end.
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let (mut latencies, mut failed) = (Vec::new(), 0);
        for line in log.lines() {
            let mut columns = line.split('\t').skip(1);
            match (columns.next(), columns.next().and_then(|took| took.parse().ok())) {
                (Some("200"), Some(took)) => latencies.push(took),
                _ => failed += 1,
            }
        }
        assert!(!latencies.is_empty(), "h2load: no request succeeded: {said}");
        Outcome::of(latencies, failed, Duration::from_secs(u64::from(seconds)), ran)
    }
}
