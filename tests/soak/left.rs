//! What must be as before when all is over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::site::{SERVICES, STEADY, Site};
use crate::support::{Call, LONG, SOON, holds, host, rss_bytes, wait_until};

/// Resident memory may end this much above what it was when warm: the allocator keeps what lies between what is used.
const MEMORY_SLACK: u64 = 8 << 20;
/// After this a connection to an app is not used again.
const REST: Duration = Duration::from_secs(2);

/// Of the two programs that live as long as the soak.
pub(crate) struct Traces {
    serve: Trace,
    /// The queue-proxy of `steady`.
    proxy: Trace,
}

struct Trace {
    name: &'static str,
    pid: u32,
    descriptors: usize,
    threads: usize,
    /// The most while warming up, and now.
    warm: u64,
    now: u64,
}

// === impl Traces ===

impl Traces {
    /// Before any load.
    pub(crate) async fn at_start(site: &Site) -> Self {
        let proxy = site.steady_pid().await;
        once(site).await;
        Self { serve: Trace::of("serve", site.serve.pid()), proxy: Trace::of("queue-proxy", proxy) }
    }

    /// Takes the most memory while everything is made for the first time.
    pub(crate) fn warm_up(&mut self) {
        self.look();
        for trace in [&mut self.serve, &mut self.proxy] {
            trace.warm = trace.warm.max(trace.now);
        }
    }

    pub(crate) fn look(&mut self) {
        for trace in [&mut self.serve, &mut self.proxy] {
            trace.now = rss_bytes(trace.pid);
        }
    }

    /// Slots, memory, descriptors and threads are back; after the last edit no replica is left; and the end is clean.
    pub(crate) async fn none_left(mut self, site: Arc<Site>) {
        wait_until(SOON, "nothing in flight, nothing queued", async || nothing_runs(&site).await).await;
        // Connections to the app that have rested are closed by the next request.
        let rested = async || {
            tokio::time::sleep(REST).await;
            once(&site).await;
        };
        self.proxy.back(rested).await;
        self.look();
        eprintln!("at the end: {self}");
        for trace in [&self.serve, &self.proxy] {
            let most = trace.warm + MEMORY_SLACK;
            assert!(trace.now <= most, "{} has {} bytes, {} when warm", trace.name, trace.now, trace.warm);
        }
        site.edit(|settings| settings.steady_min = 0);
        for service in SERVICES {
            let state = site.serve.admin(&format!("/api/services/default/{service}")).await;
            if state.status == 200 {
                site.serve.wait_service(service, "at zero", |s| s["state"] == "zero").await;
            }
        }
        let serve = self.serve.pid;
        wait_until(SOON, "no replica process is left", async || site.lab.empty_but(&[serve])).await;
        self.serve.back(async || {}).await;

        let logs = logs(&site);
        let bad: Vec<&str> =
            logs.lines().filter(|line| line.contains("panicked") || line.contains("ERROR")).collect();
        assert!(bad.is_empty(), "in the logs:\n{}", bad.join("\n"));
        let mut site = Arc::into_inner(site).expect("all clients have ended");
        site.serve.signal(Signal::TERM);
        assert_eq!(site.serve.wait(SOON).await, 0, "exit status");
        site.lab.until_empty().await;
    }
}

impl fmt::Display for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.serve, self.proxy)
    }
}

/// One request over each protocol, so that there is one connection of each to the app.
async fn once(site: &Site) {
    for call in [Call::get(&host(STEADY), "/"), Call::get(&host(STEADY), "/").h2()] {
        assert_eq!(call.send(site.serve.traffic).await.unwrap().status, 200);
    }
}

/// As the admin API and the metrics of both programs see it.
async fn nothing_runs(site: &Site) -> Result<(), String> {
    let services = site.serve.api("/api/services").await;
    for service in services.as_array().unwrap_or_else(|| panic!("{services}")) {
        let runs = (&service["in_flight"], &service["queued"]) != (&json!(0), &json!(0));
        let replicas = service["replicas"].as_array().unwrap();
        if runs || replicas.iter().any(|replica| replica["in_flight"] != 0) {
            return Err(service.to_string());
        }
    }
    let metrics = site.serve.admin("/metrics").await.text();
    for gauge in ["pilotlight_service_in_flight", "pilotlight_service_queued"] {
        let series = metrics.lines().filter(|line| line.starts_with(gauge));
        let bad: Vec<&str> = series.filter(|line| !line.ends_with(" 0")).collect();
        holds(bad.is_empty(), bad.join("; "))?;
    }
    Ok(())
}

/// What pilotlight and its replicas said.
fn logs(site: &Site) -> String {
    let mut all = site.serve.log();
    let mut folders = vec![site.lab.path("state")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == "log") {
                all.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    all
}

// === impl Trace ===

impl Trace {
    fn of(name: &'static str, pid: u32) -> Self {
        let [descriptors, threads] = ["fd", "task"].map(|what| entries(pid, what));
        Self { name, pid, descriptors, threads, warm: 0, now: 0 }
    }

    /// Waits until there are as many descriptors and threads as at the start.
    async fn back(&self, before_each_look: impl AsyncFn()) {
        wait_until(LONG, format!("{}: descriptors and threads as before", self.name), async || {
            before_each_look().await;
            let [descriptors, threads] = ["fd", "task"].map(|what| entries(self.pid, what));
            let seen = format!(
                "{descriptors} descriptors, {} before; {threads} threads, {} before",
                self.descriptors, self.threads
            );
            holds(descriptors <= self.descriptors && threads <= self.threads, seen)
        })
        .await;
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(f, "{} {:.1} MiB ({:.1} when warm)", self.name, mib(self.now), mib(self.warm))
    }
}

/// How many a process has.
fn entries(pid: u32, what: &str) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count()
}
