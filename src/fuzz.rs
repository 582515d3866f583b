//! Ways for fuzz targets (fuzz/README.md) into what is private otherwise. Only built with `--cfg fuzzing`.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::Request;

use crate::admin::guard::Guard;
use crate::config::files::Found;
use crate::config::load::{self, Loaded};
use crate::config::problem::Problems;
use crate::config::spec::NoWake;
use crate::probe::grpc;
use crate::proxy::server::Conn;
use crate::runtime::process::logs::lines::{self, LINE_BYTES, Splitter};
use crate::runtime::process::procfs;

/// Bytes of a line of an app's log, without the mark of a cut.
pub const LOG_LINE_BYTES: usize = LINE_BYTES;

/// A client's connection.
pub fn conn(peer: SocketAddr) -> Conn {
    Conn::for_test(peer)
}

/// What `pilotlight validate` says of files with these names and contents.
pub fn load(files: &[(&str, &[u8])]) -> Result<Loaded, Problems> {
    let found = |name: &str| Found { path: PathBuf::from(name), in_folder: true };
    load::together(files.iter().map(|(name, content)| (Ok(content.to_vec()), found(name))), Vec::new())
}

/// Whether a request starts nothing by this rule.
pub fn no_wake<B>(rule: &NoWake, request: &Request<B>) -> bool {
    rule.matches(request)
}

/// Whether the admin port takes a request.
pub fn admin_takes<B>(guard: &Guard, request: &Request<B>) -> bool {
    guard.check(request).is_ok()
}

/// The status in an app's answer to a gRPC health check.
pub fn serving_status(frame: &[u8]) -> Option<u64> {
    grpc::serving_status(frame)
}

/// The lines of a log that an app wrote in these pieces.
pub fn log_lines<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let (mut splitter, mut found) = (Splitter::default(), Vec::new());
    let mut each = |line: &[u8]| found.push(lines::text(line));
    for piece in pieces {
        splitter.feed(piece, &mut each);
    }
    splitter.end(&mut each);
    found
}

/// Name and start time in a `/proc/PID/stat`.
pub fn process_stat(text: &str) -> Option<(String, u64)> {
    procfs::parse(text).map(|stat| (stat.name, stat.start))
}
