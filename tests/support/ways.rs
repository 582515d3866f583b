//! The three ways a request can go to an app, and how to build one of them.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use super::lab::{Gate, Lab, port_range};
use super::program::{Program, relay_path, testapp_path};
use super::serve::QueueProxy;
use super::way::{NAME, Way};

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
    /// What `serve` is told: path in the YAML, value.
    spec: Vec<(&'static str, Value)>,
    /// What a queue-proxy is told.
    proxy: Vec<String>,
    /// `$(GRPC_PORT)` of an app that a queue-proxy stands next to.
    grpc_port: Option<u16>,
}

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
    /// Up, and with a first request answered.
    Warm,
    Cold,
    Gated,
}

// === impl Setup ===

impl Setup {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::QueueProxy, Self::Activator, Self::Both];
}

// === impl WayBuilder ===

impl WayBuilder {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            lab: Lab::new(),
            app: App::Testapp(Vec::new()),
            start: Start::Warm,
            limit: 0,
            queue: QUEUE,
            protocol: "auto",
            flags: Vec::new(),
            spec: Vec::new(),
            proxy: Vec::new(),
            grpc_port: None,
        }
    }

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

    /// testapp does not listen before the gate opens. What is in front of it is up at once, `serve` at zero.
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

    /// The app takes gRPC on a port of its own, `$(GRPC_PORT)`.
    pub(crate) fn own_grpc_port(mut self) -> Self {
        if self.setup == Setup::Activator {
            // Any number: a process is given a free one.
            self.spec.push(("grpcPort", json!(8081)));
        } else {
            let (port, _) = port_range(1);
            self.proxy.extend(["--grpc-app".to_owned(), format!("127.0.0.1:{port}")]);
            self.grpc_port = Some(port);
        }
        self
    }

    /// Every hop asks here whether the app is ready.
    pub(crate) fn ready_at(mut self, path: &str) -> Self {
        self.spec.push(("readiness.httpGet.path", json!(path)));
        self.proxy.extend(["--readiness".to_owned(), format!("http:{path}")]);
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
        let value = value.into();
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.proxy.extend([format!("--{flag}"), text]);
        self.spec.push((path, value));
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
        let way = match self.setup {
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
            App::Command(command) => {
                let grpc = self.grpc_port.map_or_else(|| "$(GRPC_PORT)".to_owned(), |port| port.to_string());
                let filled = |arg: &String| arg.replace("$(PORT)", port).replace("$(GRPC_PORT)", &grpc);
                command.iter().map(filled).collect()
            }
            App::At(addr) => vec![relay_path().to_str().unwrap().to_owned(), addr.to_string()],
        }
    }

    /// The flags of a queue-proxy next to the app.
    fn proxy_flags(&self) -> Vec<String> {
        let (limit, queue) = (self.limit.to_string(), self.queue.to_string());
        let first = ["--concurrency", &limit, "--queue", &queue, "--protocol", self.protocol];
        first.map(str::to_owned).into_iter().chain(self.proxy.iter().cloned()).collect()
    }

    /// A script that starts the app and becomes a queue-proxy in front of it.
    fn sidecar(&self) -> String {
        let quoted = |words: Vec<String>| {
            let words = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''")));
            words.collect::<Vec<_>>().join(" ")
        };
        let (app, addr) = if let App::At(addr) = self.app {
            (String::new(), addr)
        } else {
            let (port, _) = port_range(1);
            let command = quoted(self.command(&port.to_string()));
            (format!("PORT={port} {command} & "), ([127, 0, 0, 1], port).into())
        };
        let (proxy, flags) =
            (quoted(vec![env!("CARGO_BIN_EXE_pilotlight").to_owned()]), quoted(self.proxy_flags()));
        format!(
            "{app}exec {proxy} queue-proxy --listen 127.0.0.1:$PORT --admin 127.0.0.1:0 --app {addr} {flags}"
        )
    }

    async fn queue_proxy(self) -> Way {
        let (app, addr) = if let App::At(addr) = self.app {
            (None, addr)
        } else {
            let (port, _) = port_range(1);
            let command = self.command(&port.to_string());
            let mut program = Command::new(&command[0]);
            program.args(&command[1..]).env("PORT", port.to_string());
            (Some(Program::spawn(program, self.lab.dir())), ([127, 0, 0, 1], port).into())
        };
        let flags = [self.proxy_flags(), self.flags].concat();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut proxy = QueueProxy::start(&self.lab, addr, &flags).await;
        if self.start != Start::Gated {
            proxy = proxy.ready().await;
        }
        Way::new(self.setup, self.lab, (proxy.traffic, proxy.admin), Box::new(proxy), app)
    }

    async fn serve(self, command: Vec<String>) -> Way {
        let mut yaml = self.lab.app(NAME).limit(self.limit).max(1).set("buffer.requests", self.queue);
        for (path, value) in &self.spec {
            yaml = yaml.set(path, value.clone());
        }
        // A queue-proxy speaks everything; what the app speaks is for that to know.
        if self.setup == Setup::Activator {
            yaml = yaml.set("protocol", self.protocol);
        }
        if self.start == Start::Warm {
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
        Way::new(self.setup, self.lab, (serve.traffic, serve.admin), Box::new(serve), None)
    }
}
