//! The event file: one JSON line per event, whole lines even when many replicas share the file.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

/// Where events go; nowhere without a path.
pub(crate) struct Record(Option<File>);

// === impl Record ===

impl Record {
    pub(crate) fn open(path: Option<&Path>) -> Self {
        Self(path.map(|path| {
            OpenOptions::new().append(true).create(true).open(path).unwrap_or_else(|e| {
                eprintln!("testapp: {}: {e}", path.display());
                std::process::exit(2)
            })
        }))
    }

    pub(crate) fn write(&self, event: &str, more: Value) {
        self.write_at(SystemTime::now(), event, more);
    }

    /// One `write` call with `O_APPEND`: lines of several processes never mix, and SIGKILL leaves no half line.
    pub(crate) fn write_at(&self, at: SystemTime, event: &str, mut more: Value) {
        let Some(mut file) = self.0.as_ref() else { return };
        more["event"] = json!(event);
        more["pid"] = json!(std::process::id());
        more["t_ns"] = json!(nanos(at));
        let mut line = more.to_string();
        line.push('\n');
        let _ = file.write_all(line.as_bytes());
    }
}

/// Nanoseconds of `CLOCK_REALTIME`.
pub(crate) fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
