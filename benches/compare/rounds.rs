//! Rounds: every way once, one after the other, again and again.

use crate::common::machine;
use crate::common::samples::Samples;
use crate::cores::Cores;
use crate::loads::{Load, Outcome};
use crate::memory::Memory;
use crate::options::Options;
use crate::proxies::Kind;
use crate::rows::{Row, Shape};
use crate::site::{Site, Way};
use crate::support::raise_open_files;
use crate::{check, memory, report, table};

/// What came of one way in one row.
pub(crate) struct Figures {
    pub(crate) kind: Kind,
    pub(crate) per_second: Samples,
    pub(crate) p50: Samples,
    pub(crate) p99: Samples,
    /// At a constant rate: the 99th percentile of a calm part, over the replica's asked directly in the same round.
    pub(crate) calm_added: Samples,
    /// µs of the proxy per request.
    pub(crate) cpu: Samples,
    /// Of HAProxy's in the same round.
    pub(crate) ratio: Samples,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// The most requests that a replica had at once.
    pub(crate) at_once: u32,
    /// Before the first request, and after the last.
    pub(crate) memory: [Memory; 2],
}

/// The replica asked directly.
#[derive(Default)]
pub(crate) struct Direct {
    pub(crate) per_second: Samples,
    pub(crate) p50: Samples,
    pub(crate) p99: Samples,
    pub(crate) calm_p99: Samples,
}

pub(crate) async fn run(options: &Options) {
    machine::print();
    // 10,000 connections, and the proxies inherit it.
    raise_open_files(11_000);
    let cores = Cores::new(!options.unpinned, options.realtime);
    for row in options.rows() {
        let kinds: Vec<Kind> = row.ways().into_iter().filter(|kind| options.wants(*kind)).collect();
        let (job, shape, before) = (row.job(), row.shape(), machine::load());
        let site = Site::start(&kinds, job, cores).await;
        check::same_job(&site, shape, job).await;
        let text = match shape {
            Shape::Resting => memory::table(&site),
            _ => measure(row, &site, options).await,
        };
        let block = report::block(row, options, &before, &text);
        println!("\n{block}");
        if options.write {
            report::write(row, &block);
        }
    }
}

async fn measure(row: Row, site: &Site, options: &Options) -> String {
    let idle: Vec<Memory> = site.ways.iter().map(Memory::of).collect();
    let load = Load::prepare(row.shape(), site, options.seconds).await;
    let mut figures: Vec<Figures> = site.ways.iter().zip(idle).map(Figures::new).collect();
    let mut direct = Direct::default();
    // Once that does not count: connections to the replicas, memory that is made when it is needed.
    for way in &site.ways {
        load.run(way.to, None, 1).await;
    }
    for round in 0..options.rounds {
        // Where nothing is compared with it, once is enough to see that the replica is not what is slow.
        if round == 0 || matches!(load, Load::Paced { .. }) {
            direct.add(&load.run(site.replica, None, options.seconds).await);
        }
        // Whoever comes first in one round comes last in the next: what one leaves behind, another must not always pay.
        let mut order: Vec<usize> = (0..site.ways.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for n in order {
            let way = &site.ways[n];
            way.settle().await;
            let outcome = load.run(way.to, Some(way.pid), options.seconds).await;
            figures[n].add(&outcome, way.most_at_once().await, &direct);
        }
        compare(&mut figures);
    }
    for (figures, way) in figures.iter_mut().zip(&site.ways) {
        figures.memory[1] = Memory::of(way);
        let limit = row.job().limit / way.kind.replicas();
        assert!(
            !way.kind.is_ours() || figures.at_once <= limit,
            "{}: {} requests at once",
            way.kind.name(),
            figures.at_once
        );
    }
    table::of(row, &load, &direct, &figures)
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
    fn new((way, idle): (&Way, Memory)) -> Self {
        Self {
            kind: way.kind,
            per_second: Samples::default(),
            p50: Samples::default(),
            p99: Samples::default(),
            calm_added: Samples::default(),
            cpu: Samples::default(),
            ratio: Samples::default(),
            requests: 0,
            failed: 0,
            at_once: 0,
            memory: [idle; 2],
        }
    }

    fn add(&mut self, outcome: &Outcome, at_once: u32, direct: &Direct) {
        self.cpu.push(outcome.cpu());
        self.per_second.push(outcome.per_second);
        self.p50.push(outcome.p50);
        self.p99.push(outcome.p99);
        self.calm_added.push(outcome.calm_p99 - direct.calm_p99.last());
        self.requests += outcome.requests;
        self.failed += outcome.failed;
        self.at_once = self.at_once.max(at_once);
    }
}

// === impl Direct ===

impl Direct {
    fn add(&mut self, outcome: &Outcome) {
        self.per_second.push(outcome.per_second);
        self.p50.push(outcome.p50);
        self.p99.push(outcome.p99);
        self.calm_p99.push(outcome.calm_p99);
    }
}
