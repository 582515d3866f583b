//! Reads what testapp recorded.

use std::path::Path;

use serde::Deserialize;

/// One event of one replica.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Record {
    /// `boot listen request done violation term exit`
    pub(crate) event: String,
    pub(crate) pid: u32,
    pub(crate) t_ns: u64,
    /// The request's `x-request-id`.
    pub(crate) id: Option<String>,
    pub(crate) in_flight: Option<usize>,
    pub(crate) path: Option<String>,
    /// The port at which a request came in.
    pub(crate) port: Option<u16>,
    /// Of `done`: the answer was read to its end.
    pub(crate) complete: Option<bool>,
}

/// All events so far; none when no replica has started yet.
pub(crate) fn read(path: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // Only the last line can be half there, while its writer is at it.
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("record {line:?}: {e}")))
        .collect()
}

// === impl Record ===

impl Record {
    pub(crate) fn is(&self, event: &str) -> bool {
        self.event == event
    }
}
