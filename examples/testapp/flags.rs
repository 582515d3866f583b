//! What the app is told to do. Times are milliseconds.

use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A small HTTP/1.1 and h2c app for tests.
#[derive(Debug, clap::Parser)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Flags {
    /// Where to listen on `--host`; 0 = any free port, printed.
    #[arg(long, env = "PORT", default_value_t = 0)]
    pub(crate) port: u16,
    /// Another loopback address, such as 127.0.0.2, where a sidecar has the same port of 127.0.0.1.
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST)]
    pub(crate) host: Ipv4Addr,
    /// A second port that serves the same, for apps with a gRPC port of their own.
    #[arg(long, env = "GRPC_PORT")]
    pub(crate) grpc_port: Option<u16>,
    /// Before it listens.
    #[arg(long, default_value_t = 0)]
    pub(crate) start_delay: u64,
    /// It listens only once this file exists: a start whose end the test decides.
    #[arg(long)]
    pub(crate) start_gate: Option<PathBuf>,
    /// It listens, but `/ready` answers 503 until then.
    #[arg(long, default_value_t = 0)]
    pub(crate) ready_delay: u64,
    /// `/ready` answers 503 until this file exists.
    #[arg(long)]
    pub(crate) ready_gate: Option<PathBuf>,
    /// Print a line to standard error and exit with this status.
    #[arg(long)]
    pub(crate) fail_start: Option<u8>,
    /// Before every answer.
    #[arg(long, default_value_t = 0)]
    pub(crate) delay: u64,
    /// One JSON line per event is appended here.
    #[arg(long)]
    pub(crate) record: Option<PathBuf>,
    /// Print `boot NANOSECONDS` to standard output first.
    #[arg(long)]
    pub(crate) boot_marker: bool,
    /// More requests in flight than this are recorded as a violation; 0 = any number is fine.
    #[arg(long, default_value_t = 0)]
    pub(crate) limit: usize,
    /// While this file exists, every connection is reset as soon as it is there.
    #[arg(long)]
    pub(crate) reset_while: Option<PathBuf>,
    /// SIGTERM is recorded and has no other effect.
    #[arg(long)]
    pub(crate) ignore_sigterm: bool,
    /// Dies of the first bytes that a client sends, with the rest unread: the client sees a reset.
    #[arg(long)]
    pub(crate) die_reading: bool,
    /// Start a child process that does nothing, in the same process group.
    #[arg(long)]
    pub(crate) child: bool,
    /// Echoed by `/`, to tell one version of a service from another.
    #[arg(long, env = "TESTAPP_VERSION", default_value = "")]
    pub(crate) version: String,
}
