//! Rounds: every way once, one after the other, again and again.

use crate::common::cpu::Threads;
use crate::common::machine;
use crate::common::samples::Samples;
use crate::common::wrk::{Run, Wrk};
use crate::cores::Cores;
use crate::options::Options;
use crate::proxies::{HOST, Kind, Proxy, Site};
use crate::table;

/// What came of one way in one row.
pub(crate) struct Figures {
    pub(crate) kind: Kind,
    pub(crate) per_second: Samples,
    pub(crate) p50: Samples,
    pub(crate) p99: Samples,
    /// µs of the proxy per request.
    pub(crate) cpu: Samples,
    /// Of HAProxy's in the same round.
    pub(crate) ratio: Samples,
    pub(crate) failed: u64,
}

pub(crate) async fn run(options: &Options) {
    machine::print();
    let cores = Cores::new(!options.unpinned);
    for row in options.rows() {
        let kinds: Vec<Kind> = row.ways().iter().copied().filter(|kind| options.wants(*kind)).collect();
        let site = Site::start(&kinds, row.job(), cores).await;
        let wrk = Wrk::new(site.lab.dir(), HOST, "/", None);
        let mut figures: Vec<Figures> = kinds.iter().map(|kind| Figures::new(*kind)).collect();
        // Once that does not count: connections to the replicas, lazily made memory.
        for proxy in &site.proxies {
            wrk.run(proxy.to, row.connections(), 1);
        }
        let direct = wrk.run(site.replica, row.connections(), options.seconds);
        for _ in 0..options.rounds {
            for (proxy, figures) in site.proxies.iter().zip(&mut figures) {
                figures.round(proxy, || wrk.run(proxy.to, row.connections(), options.seconds));
            }
            compare(&mut figures);
        }
        table::print(row, options, &direct, &figures);
    }
}

/// The last round's ratios.
fn compare(figures: &mut [Figures]) {
    let last: Vec<(Kind, f64)> = figures.iter().map(|f| (f.kind, f.cpu.last())).collect();
    for one in figures {
        if let Some((_, rival)) = last.iter().find(|(kind, _)| *kind == one.kind.rival()) {
            one.ratio.push(one.cpu.last() / rival);
        }
    }
}

// === impl Figures ===

impl Figures {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            per_second: Samples::default(),
            p50: Samples::default(),
            p99: Samples::default(),
            cpu: Samples::default(),
            ratio: Samples::default(),
            failed: 0,
        }
    }

    fn round(&mut self, proxy: &Proxy, load: impl FnOnce() -> Run) {
        let before = Threads::look(proxy.pid);
        let run = load();
        let ran = Threads::look(proxy.pid).since(&before).ran;
        self.cpu.push(ran.as_secs_f64() * 1e6 / run.requests as f64);
        self.per_second.push(run.per_second);
        self.p50.push(run.p50);
        self.p99.push(run.p99);
        self.failed += run.failed;
    }
}
