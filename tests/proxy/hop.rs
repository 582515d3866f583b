//! The three ways in which a request may pass: each row of the issue must hold on all of them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::support::{
    Call, Lab, Program, QueueProxy, Reply, SOON, Serve, holds, host, testapp, testapp_path, wait_until,
};

/// What a request passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `queue-proxy` in front of an app.
    QueueProxy,
    /// `serve` with the app as its process.
    Activator,
    /// `serve` whose process is a queue-proxy in front of the app.
    Both,
}

/// All of them.
pub(crate) const ALL: [Kind; 3] = [Kind::QueueProxy, Kind::Activator, Kind::Both];

/// A limit, a queue, and an app behind them.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    pub(crate) limit: u32,
    pub(crate) queue: u32,
    /// Arguments of testapp.
    pub(crate) app: Vec<String>,
    /// Flags of the queue-proxy, and what `serve` is told instead: the spec's path and a value.
    pub(crate) flags: Vec<String>,
    pub(crate) spec: Vec<(&'static str, serde_json::Value)>,
}

/// A running one. The app records as `app`.
pub(crate) struct Hop {
    pub(crate) kind: Kind,
    pub(crate) lab: Lab,
    pub(crate) traffic: SocketAddr,
    /// The outermost hop's.
    pub(crate) admin: SocketAddr,
    pub(crate) pid: u32,
    front: Front,
}

enum Front {
    QueueProxy { proxy: QueueProxy, _app: Program },
    Serve(Serve),
}

impl Setup {
    pub(crate) fn app(mut self, args: &[&str]) -> Self {
        self.app.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    pub(crate) fn set(mut self, flags: &[&str], spec: &[(&'static str, serde_json::Value)]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self.spec.extend_from_slice(spec);
        self
    }
}

impl Hop {
    /// Starts it; the app runs, and has answered one request with the id `first` when `awake`.
    pub(crate) async fn start(kind: Kind, lab: Lab, setup: &Setup, awake: bool) -> Self {
        let record = lab.text_path("app.jsonl");
        let app: Vec<&str> =
            ["--record", &record].into_iter().chain(setup.app.iter().map(String::as_str)).collect();
        let (limit, queue) = (setup.limit.to_string(), setup.queue.to_string());
        let flags: Vec<&str> = ["--concurrency", &limit, "--queue", &queue]
            .into_iter()
            .chain(setup.flags.iter().map(String::as_str))
            .collect();
        let hop = match kind {
            Kind::QueueProxy => {
                let (program, addr) = testapp(lab.dir(), &app).await;
                let proxy = QueueProxy::start(&lab, addr, &flags).await;
                let (traffic, admin, pid) = (proxy.traffic, proxy.admin, proxy.pid());
                Self { kind, lab, traffic, admin, pid, front: Front::QueueProxy { proxy, _app: program } }
            }
            Kind::Activator | Kind::Both => {
                let mut yaml = lab.app("app").limit(setup.limit).max(1).set("buffer.requests", setup.queue);
                for (path, value) in &setup.spec {
                    yaml = yaml.set(path, value.clone());
                }
                if kind == Kind::Both {
                    let script = behind_queue_proxy(&app, &flags);
                    yaml = yaml.command(&["sh", "-c", &script]);
                } else {
                    yaml = yaml.args(&setup.app);
                }
                let serve = lab.services(&[&yaml]).serve().start().await;
                let (traffic, admin, pid) = (serve.traffic, serve.admin, serve.pid());
                Self { kind, lab, traffic, admin, pid, front: Front::Serve(serve) }
            }
        };
        if awake {
            let reply = hop.get("/").id("first").send(hop.traffic).await.unwrap();
            assert_eq!(reply.status, 200, "{kind:?}: {reply}");
        }
        hop
    }

    #[allow(clippy::unused_self, reason = "reads as what it does")]
    pub(crate) fn get(&self, path: &str) -> Call {
        Call::get(&host("app"), path)
    }

    pub(crate) async fn send(&self, call: Call) -> Reply {
        call.send(self.traffic).await.unwrap()
    }

    pub(crate) async fn metrics(&self) -> String {
        Call::get(&self.admin.to_string(), "/metrics").send(self.admin).await.unwrap().text()
    }

    /// The sum of all series of a metric.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        value(&self.metrics().await, name)
    }

    pub(crate) async fn until_metric(&self, name: &str, what: &str, is: impl Fn(f64) -> bool) {
        wait_until(SOON, format!("{:?}: {name} {what}", self.kind), async || {
            let value = self.metric(name).await;
            holds(is(value), value)
        })
        .await;
    }

    pub(crate) fn log(&self) -> String {
        match &self.front {
            Front::QueueProxy { proxy, .. } => proxy.log(),
            Front::Serve(serve) => serve.log(),
        }
    }

    /// Ids of the requests that reached the app, in order.
    pub(crate) fn reached(&self) -> Vec<String> {
        self.lab.events("app", "request").into_iter().filter_map(|record| record.id).collect()
    }
}

/// The sum of all series of a metric whose labels (if `name` has any after `{`) match.
pub(crate) fn value(text: &str, name: &str) -> f64 {
    let (name, label) = name.split_once('{').unwrap_or((name, ""));
    let of_it = |line: &&str| {
        let series = line.rsplit_once(' ').map_or("", |(series, _)| series);
        let (found, labels) = series.split_once('{').unwrap_or((series, ""));
        found == name && labels.contains(label.trim_end_matches('}'))
    };
    text.lines().filter(of_it).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Starts testapp and puts a queue-proxy in front of it, in one process group.
fn behind_queue_proxy(app: &[&str], flags: &[&str]) -> String {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let quoted = |args: &[&str]| args.iter().map(|arg| format!("'{arg}'")).collect::<Vec<_>>().join(" ");
    format!(
        "unset GRPC_PORT; '{}' --port {port} {} & exec '{}' queue-proxy --listen 127.0.0.1:$PORT \
         --admin 127.0.0.1:0 --app 127.0.0.1:{port} {}",
        testapp_path().display(),
        quoted(app),
        env!("CARGO_BIN_EXE_pilotlight"),
        quoted(flags)
    )
}

/// Asks again and again for this long that something stays as it is.
pub(crate) async fn settle(time: std::time::Duration, mut check: impl AsyncFnMut()) {
    let begun = pilotlight::clock::now();
    while begun.elapsed() < time {
        check().await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
