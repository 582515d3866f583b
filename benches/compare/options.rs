//! What the command line asks for.

use crate::proxies::Kind;
use crate::rows::Row;

/// Compares pilotlight with HAProxy and nginx: same job, same replicas, same load, interleaved rounds.
#[derive(Debug, clap::Parser)]
#[command(name = "benches/compare/run")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Options {
    /// What to measure; everything when none is named.
    #[arg(value_enum, value_name = "ROW")]
    rows: Vec<Row>,
    /// Interleaved rounds of every row.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Of each way in each round.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
    /// Only these ways; HAProxy is what the others are compared with.
    #[arg(long, value_enum, value_delimiter = ',')]
    ways: Vec<Kind>,
    /// Put these rows' tables into benches/README.md, in place of the rows' earlier ones.
    #[arg(long)]
    pub(crate) write: bool,
    /// Let the kernel place everything, instead of the proxy on one processor and the rest on another.
    #[arg(long)]
    pub(crate) unpinned: bool,
    /// Come before every other program, as root, for figures of a busy machine; the others get a twentieth of it
    #[arg(long)]
    pub(crate) realtime: bool,
    /// `cargo bench` says it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

// === impl Options ===

impl Options {
    pub(crate) fn rows(&self) -> Vec<Row> {
        if self.rows.is_empty() { Row::all().to_vec() } else { self.rows.clone() }
    }

    pub(crate) fn wants(&self, kind: Kind) -> bool {
        self.ways.is_empty() || self.ways.contains(&kind)
    }

    /// The command that measures one row like this.
    pub(crate) fn command(&self, row: Row) -> String {
        let mut text = format!("benches/compare/run {} --rounds {}", row.name(), self.rounds);
        text.push_str(&format_args!(" --seconds {}", self.seconds).to_string());
        if !self.ways.is_empty() {
            let ways: Vec<String> = self.ways.iter().map(|kind| kind.name()).collect();
            text.push_str(&format_args!(" --ways {}", ways.join(",")).to_string());
        }
        for (is, flag) in [(self.unpinned, " --unpinned"), (self.realtime, " --realtime")] {
            text.push_str(if is { flag } else { "" });
        }
        text
    }
}
