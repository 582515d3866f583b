//! The three ways a request can go to one app: [`Setup`]; and an app behind one of them: [`Way`].
//!
//! ```ignore
//! let way = Way::through(setup).limit(1).timeout("idle", "1s").start().await;
//! let reply = way.get("/").send(way.traffic).await.unwrap();
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use super::client::{Call, Reply};
use super::lab::{Gate, Lab, port_range};
use super::metrics::{idle, metrics, value};
use super::program::{Program, relay_path, testapp_path};
use super::serve::{QueueProxy, Serve, host};
use super::wait::{LONG, SOON, holds, wait_until};

/// Which hops a request crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// `pilotlight queue-proxy` in front of an app.
    QueueProxy,
    /// `pilotlight serve`, whose process is the app.
    Activator,
    /// `pilotlight serve`, whose process is a queue-proxy in front of the app.
    Both,
}

/// How to build a way. As it comes: testapp, no limit, a queue of [`QUEUE`], one replica that stays, all of it up.
#[must_use]
pub(crate) struct WayBuilder {
    setup: Setup,
    /// The way's own place: gates in it can be named in the app's arguments.
    pub(crate) lab: Lab,
    app: App,
    start: Start,
    limit: u32,
    queue: u32,
    protocol: &'static str,
    /// Of the first hop.
    flags: Vec<String>,
    /// Of both hops: path in the YAML, flag of the queue-proxy, value.
    settings: Vec<(&'static str, &'static str, Value)>,
}

/// A way that is up.
pub(crate) struct Way {
    pub(crate) setup: Setup,
    pub(crate) lab: Lab,
    /// Where clients go.
    pub(crate) traffic: SocketAddr,
    first: First,
    _app: Option<Program>,
}

/// The one service; testapp records under it.
pub(crate) const NAME: &str = "app";

/// Requests that wait at each hop, unless a test says otherwise: more than any test sends at once.
const QUEUE: u32 = 1000;

enum App {
    /// With these arguments besides port and record.
    Testapp(Vec<String>),
    /// It listens on `$(PORT)`.
    Command(Vec<String>),
    /// The test runs it.
    At(SocketAddr),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Warm,
    Cold,
    Gated,
}

enum First {
    QueueProxy(QueueProxy),
    Serve(Serve),
}

// === impl Setup ===

impl Setup {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::QueueProxy, Self::Activator, Self::Both];
}

// === impl WayBuilder ===

impl WayBuilder {
    /// More arguments for testapp.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        let App::Testapp(all) = &mut self.app else { panic!("the app is not testapp") };
        all.extend(args.iter().map(ToString::to_string));
        self
    }

    /// Another program: it listens on `$(PORT)`.
    pub(crate) fn app(mut self, command: &[&str]) -> Self {
        self.app = App::Command(command.iter().map(ToString::to_string).collect());
        self
    }

    /// What the test itself runs. Nothing but what the test sends reaches it: no first request.
    pub(crate) fn at(mut self, addr: SocketAddr) -> Self {
        self.app = App::At(addr);
        self
    }

    /// `serve` begins at zero, and nobody sends a first request.
    pub(crate) fn cold(mut self) -> Self {
        self.start = Start::Cold;
        self
    }

    /// testapp does not listen before the gate opens; what is in front of it is up at once.
    pub(crate) fn start_gate(mut self, gate: &Gate) -> Self {
        self.start = Start::Gated;
        self.args(&["--start-gate", gate])
    }

    /// Requests at the app at once, on every hop; 0 = unlimited.
    pub(crate) fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Requests that wait, at each hop.
    pub(crate) fn queue(mut self, queue: u32) -> Self {
        self.queue = queue;
        self
    }

    /// What the hop that is next to the app takes it to speak: `auto`, `http1`, `h2c`.
    pub(crate) fn protocol(mut self, protocol: &'static str) -> Self {
        self.protocol = protocol;
        self
    }

    /// One of `timeouts`, on every hop.
    pub(crate) fn timeout(self, which: &'static str, value: &str) -> Self {
        let (path, flag) = match which {
            "idle" => ("timeouts.idle", "idle-timeout"),
            "request" => ("timeouts.request", "request-timeout"),
            "responseStart" => ("timeouts.responseStart", "response-start-timeout"),
            "drain" => ("timeouts.drain", "drain-timeout"),
            _ => panic!("{which}"),
        };
        self.set(path, flag, value)
    }

    /// A setting of every hop: its path in the YAML, and the queue-proxy's flag.
    pub(crate) fn set(mut self, path: &'static str, flag: &'static str, value: impl Into<Value>) -> Self {
        self.settings.push((path, flag, value.into()));
        self
    }

    /// Flags that `serve` and `queue-proxy` share, for the hop that clients meet.
    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(ToString::to_string));
        self
    }

    /// Starts it, waits until it is ready, and sends a first request (`warm`), so that nothing is new to the test's.
    pub(crate) async fn start(self) -> Way {
        let warm = self.start == Start::Warm && !matches!(self.app, App::At(_));
        let mut way = match self.setup {
            Setup::QueueProxy => self.queue_proxy().await,
            Setup::Activator => {
                let command = self.command("$(PORT)");
                self.serve(command).await
            }
            Setup::Both => {
                let script = self.sidecar();
                self.serve(vec!["sh".into(), "-c".into(), script]).await
            }
        };
        if warm {
            way.warm().await;
        }
        way
    }

    /// The app in a process of its own.
    fn command(&self, port: &str) -> Vec<String> {
        match &self.app {
            App::Testapp(args) => {
                let record = self.lab.text_path(&format!("{NAME}.jsonl"));
                let first = [testapp_path().to_str().unwrap(), "--port", port, "--record", &record];
                first.map(str::to_owned).into_iter().chain(args.iter().cloned()).collect()
            }
            App::Command(command) => command.iter().map(|arg| arg.replace("$(PORT)", port)).collect(),
            App::At(addr) => vec![relay_path().to_str().unwrap().to_owned(), addr.to_string()],
        }
    }

    /// What a queue-proxy next to the app is told.
    fn proxy_flags(&self) -> Vec<String> {
        let (limit, queue) = (self.limit.to_string(), self.queue.to_string());
        let mut flags = ["--concurrency", &limit, "--queue", &queue, "--protocol", self.protocol]
            .map(str::to_owned)
            .to_vec();
        for (_, flag, value) in &self.settings {
            flags.extend([
                format!("--{flag}"),
                value.as_str().map_or_else(|| value.to_string(), str::to_owned),
            ]);
        }
        flags
    }

    /// A script that starts the app and becomes a queue-proxy in front of it.
    fn sidecar(&self) -> String {
        let quoted = |words: Vec<String>| {
            let words = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''")));
            words.collect::<Vec<_>>().join(" ")
        };
        let (app, addr) = match self.app {
            App::At(addr) => (String::new(), addr),
            _ => {
                let (port, _) = port_range(1);
                let command = quoted(self.command(&port.to_string()));
                (format!("PORT={port} {command} & "), ([127, 0, 0, 1], port).into())
            }
        };
        let (proxy, flags) =
            (quoted(vec![env!("CARGO_BIN_EXE_pilotlight").to_owned()]), quoted(self.proxy_flags()));
        format!(
            "{app}exec {proxy} queue-proxy --listen 127.0.0.1:$PORT --admin 127.0.0.1:0 --app {addr} {flags}"
        )
    }

    async fn queue_proxy(self) -> Way {
        let (app, addr) = match self.app {
            App::At(addr) => (None, addr),
            _ => {
                let (port, _) = port_range(1);
                let command = self.command(&port.to_string());
                let mut program = Command::new(&command[0]);
                program.args(&command[1..]).env("PORT", port.to_string());
                (Some(Program::spawn(program, self.lab.dir())), ([127, 0, 0, 1], port).into())
            }
        };
        let flags = [self.proxy_flags(), self.flags].concat();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut proxy = QueueProxy::start(&self.lab, addr, &flags).await;
        if self.start != Start::Gated {
            proxy = proxy.ready().await;
        }
        let (traffic, first) = (proxy.traffic, First::QueueProxy(proxy));
        Way { setup: self.setup, lab: self.lab, traffic, first, _app: app }
    }

    async fn serve(self, command: Vec<String>) -> Way {
        let mut yaml = self.lab.app(NAME).limit(self.limit).max(1).set("buffer.requests", self.queue);
        for (path, _, value) in &self.settings {
            yaml = yaml.set(path, value.clone());
        }
        // A queue-proxy speaks everything; what the app speaks is for that to know.
        if self.setup == Setup::Activator {
            yaml = yaml.set("protocol", self.protocol);
        }
        if self.start != Start::Cold {
            yaml = yaml.set("scaling.min", 1);
        }
        let yaml = yaml.set("process.command", json!(command));
        let mut serve = self.lab.services(&[&yaml]).serve().service_ports(1);
        for flag in &self.flags {
            serve = serve.arg(flag);
        }
        let serve = serve.start().await;
        if self.start == Start::Warm {
            serve.wait_service(NAME, "ready", |s| s["state"] == "ready").await;
        }
        let (traffic, first) = (serve.traffic, First::Serve(serve));
        Way { setup: self.setup, lab: self.lab, traffic, first, _app: None }
    }
}

// === impl Way ===

#[allow(clippy::unused_self, reason = "a call goes the way that it is asked of")]
impl Way {
    /// Begins to build one.
    pub(crate) fn through(setup: Setup) -> WayBuilder {
        WayBuilder {
            setup,
            lab: Lab::new(),
            app: App::Testapp(Vec::new()),
            start: Start::Warm,
            limit: 0,
            queue: QUEUE,
            protocol: "auto",
            flags: Vec::new(),
            settings: Vec::new(),
        }
    }

    /// Sends requests until one is answered.
    pub(crate) async fn warm(&mut self) {
        let to = self.traffic;
        wait_until(LONG, format!("{self}: answers"), async || {
            match self.get("/").id("warm").send(to).await {
                Ok(reply) if reply.status < 500 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// The host that reaches the app.
    pub(crate) fn host(&self) -> String {
        host(NAME)
    }

    /// Where any host, and none, is good enough.
    pub(crate) async fn any_host(&mut self) -> SocketAddr {
        match &mut self.first {
            First::QueueProxy(proxy) => proxy.traffic,
            First::Serve(serve) => serve.listening(&format!("default/{NAME}")).await,
        }
    }

    /// GET to the app.
    pub(crate) fn get(&self, path: &str) -> Call {
        Call::get(&self.host(), path)
    }

    /// POST to the app.
    pub(crate) fn post(&self, path: &str, body: impl Into<bytes::Bytes>) -> Call {
        Call::post(&self.host(), path, body)
    }

    /// Sends a call, as a task that runs by itself.
    pub(crate) fn send(&self, call: Call) -> tokio::task::JoinHandle<Result<Reply, String>> {
        let traffic = self.traffic;
        tokio::spawn(async move { call.send(traffic).await })
    }

    /// The program that is nearest to the client.
    pub(crate) fn front(&mut self) -> &mut Program {
        match &mut self.first {
            First::QueueProxy(proxy) => proxy,
            First::Serve(serve) => serve,
        }
    }

    /// Its admin port.
    pub(crate) fn admin(&self) -> SocketAddr {
        match &self.first {
            First::QueueProxy(proxy) => proxy.admin,
            First::Serve(serve) => serve.admin,
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.first().pid()
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> String {
        self.first().log()
    }

    /// What it counts.
    pub(crate) async fn metrics(&self) -> String {
        metrics(self.admin()).await.unwrap()
    }

    /// One of its metrics, as [`value`] reads it.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        value(&self.metrics().await, series)
    }

    /// Waits until a metric is as it should be; `what` says how.
    pub(crate) async fn until_metric(&self, series: &str, what: &str, is: impl Fn(f64) -> bool) {
        wait_until(SOON, format!("{self}: {series} {what}"), async || {
            let value = self.metric(series).await;
            holds(is(value), value)
        })
        .await;
    }

    /// Waits until so many requests wait for a slot.
    pub(crate) async fn queued(&self, n: usize) {
        self.until_metric("pilotlight_service_queued", &format!("is {n}"), |queued| queued == n as f64).await;
    }

    /// Waits until nothing is in flight and nothing waits, as the program in front sees it.
    pub(crate) async fn idle(&self) {
        wait_until(SOON, format!("{self}: nothing in flight or queued"), async || idle(self.admin()).await)
            .await;
    }

    /// Waits until a request is at the app.
    pub(crate) async fn reached(&self, id: &str) {
        let what = format!("{self}: {id} is at the app");
        wait_until(SOON, what, async || holds(self.lab.reached(NAME, id), "not yet")).await;
    }

    /// Ids of the requests that have reached the app, in their order.
    pub(crate) fn arrived(&self) -> Vec<String> {
        self.lab.events(NAME, "request").into_iter().filter_map(|record| record.id).collect()
    }

    /// Waits until the app is done with a request; whether it was answered to its end.
    pub(crate) async fn done(&self, id: &str) -> bool {
        let done = wait_until(SOON, format!("{self}: the app is done with {id}"), async || {
            let done = self.lab.events(NAME, "done");
            done.iter().find(|r| r.id.as_deref() == Some(id)).cloned().ok_or(format!("{done:?}"))
        });
        done.await.complete.unwrap()
    }

    fn first(&self) -> &Program {
        match &self.first {
            First::QueueProxy(proxy) => proxy,
            First::Serve(serve) => serve,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.setup)
    }
}
