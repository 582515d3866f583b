//! One app, testapp or any other program, behind a [`Setup`] of hops, with what a test of timing asks of it.

use std::fmt;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use super::client::{Call, Reply};
use super::hops::Setup;
use super::lab::{Gate, Lab, port_range};
use super::program::{Program, testapp_path};
use super::serve::{QueueProxy, Serve, host};
use super::wait::{LONG, SOON, holds, wait_until};
use super::yaml::Yaml;

/// How to build a way; the app is testapp unless [`WayBuilder::app`] says otherwise.
pub(crate) struct WayBuilder {
    setup: Setup,
    app: Vec<String>,
    start_gate: Option<String>,
    limit: u32,
    /// Path in the YAML, flag of the queue-proxy, value.
    settings: Vec<(&'static str, &'static str, Value)>,
}

/// A way that is up.
pub(crate) struct Way {
    pub(crate) setup: Setup,
    pub(crate) lab: Lab,
    pub(crate) traffic: SocketAddr,
    pub(crate) serve: Option<Serve>,
    pub(crate) proxy: Option<QueueProxy>,
    pub(crate) app: Option<Program>,
}

/// The one service.
pub(crate) const NAME: &str = "app";

// === impl WayBuilder ===

impl WayBuilder {
    /// Another app: it listens on `$(PORT)`.
    pub(crate) fn app(mut self, command: &[&str]) -> Self {
        self.app = command.iter().map(ToString::to_string).collect();
        self
    }

    /// testapp does not listen before the gate opens; what is in front of it is up at once.
    pub(crate) fn start_gate(mut self, gate: &Gate) -> Self {
        self.start_gate = Some(gate.to_string());
        self
    }

    pub(crate) fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
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

    /// A setting of both hops.
    pub(crate) fn set(mut self, path: &'static str, flag: &'static str, value: impl Into<Value>) -> Self {
        self.settings.push((path, flag, value.into()));
        self
    }

    /// Starts it and, unless a gate keeps the app from that, sends a first request, so that everything is warm.
    pub(crate) async fn start(self) -> Way {
        let lab = Lab::new();
        let (first, _) = port_range(2);
        let record = lab.text_path(&format!("{NAME}.jsonl"));
        let app = if self.app.is_empty() {
            let testapp = testapp_path().to_str().unwrap();
            let mut app = [testapp, "--port", "$(PORT)", "--record", &record].map(str::to_owned).to_vec();
            app.extend(self.start_gate.iter().flat_map(|gate| ["--start-gate".to_owned(), gate.clone()]));
            app
        } else {
            self.app.clone()
        };
        let mut flags = vec!["--concurrency".to_owned(), self.limit.to_string()];
        let mut yaml = Yaml::testapp(NAME, &lab.path("unused")).limit(self.limit).max(1);
        for (path, flag, value) in &self.settings {
            yaml = yaml.set(path, value.clone());
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            flags.extend([format!("--{flag}"), value]);
        }
        let at = |port: &str| -> Vec<String> { app.iter().map(|a| a.replace("$(PORT)", port)).collect() };
        let mut way = match self.setup {
            Setup::QueueProxy => {
                let command = at(&first.to_string());
                let mut program = Command::new(&command[0]);
                program.args(&command[1..]).env("PORT", first.to_string());
                let app = Program::spawn(program, lab.dir());
                let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
                let mut proxy = QueueProxy::start(&lab, ([127, 0, 0, 1], first).into(), &flags).await;
                if self.start_gate.is_none() {
                    proxy = proxy.ready().await;
                }
                let traffic = proxy.traffic;
                Way { setup: self.setup, lab, traffic, serve: None, proxy: Some(proxy), app: Some(app) }
            }
            Setup::Activator | Setup::Both => {
                let command = if self.setup == Setup::Activator {
                    app.clone()
                } else {
                    let app =
                        at(&first.to_string()).into_iter().map(|a| quoted(&a)).collect::<Vec<_>>().join(" ");
                    let ours = quoted(env!("CARGO_BIN_EXE_pilotlight"));
                    let flags = flags.join(" ");
                    let script = format!(
                        "PORT={first} {app} & exec {ours} queue-proxy --listen 127.0.0.1:$PORT \
                         --admin 127.0.0.1:0 --app 127.0.0.1:{first} {flags}"
                    );
                    vec!["sh".into(), "-c".into(), script]
                };
                let yaml = yaml.set("process.command", json!(command)).set("scaling.min", 1);
                let serve = lab.services(&[&yaml]).serve().start().await;
                if self.start_gate.is_none() {
                    serve.wait_service(NAME, "ready", |s| s["state"] == "ready").await;
                }
                let traffic = serve.traffic;
                Way { setup: self.setup, lab, traffic, serve: Some(serve), proxy: None, app: None }
            }
        };
        if self.start_gate.is_none() {
            way.warm().await;
        }
        way
    }
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

// === impl Way ===

#[allow(clippy::unused_self, reason = "a call goes the way that it is asked of")]
impl Way {
    /// With testapp as the app, unlimited.
    pub(crate) fn through(setup: Setup) -> WayBuilder {
        WayBuilder { setup, app: Vec::new(), start_gate: None, limit: 0, settings: Vec::new() }
    }

    /// Sends requests until one is answered.
    pub(crate) async fn warm(&mut self) {
        let to = self.traffic;
        wait_until(LONG, format!("{self}: answers"), async || {
            match Call::get(&host(NAME), "/").id("warm").send(to).await {
                Ok(reply) if reply.status < 500 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// GET to the app.
    pub(crate) fn get(&self, path: &str) -> Call {
        Call::get(&host(NAME), path)
    }

    /// POST to the app.
    pub(crate) fn post(&self, path: &str, body: impl Into<bytes::Bytes>) -> Call {
        Call::post(&host(NAME), path, body)
    }

    /// Sends a call, as a task that runs by itself.
    pub(crate) fn send(&self, call: Call) -> tokio::task::JoinHandle<Result<Reply, String>> {
        let traffic = self.traffic;
        tokio::spawn(async move { call.send(traffic).await })
    }

    /// The program that is nearest to the client.
    pub(crate) fn front(&mut self) -> &mut Program {
        match (&mut self.serve, &mut self.proxy) {
            (Some(serve), _) => serve,
            (_, Some(proxy)) => proxy,
            _ => unreachable!("one of them is there"),
        }
    }

    /// Its admin port.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.serve.as_ref().map_or_else(|| self.proxy.as_ref().unwrap().admin, |serve| serve.admin)
    }

    /// Waits until a request is at the app.
    pub(crate) async fn reached(&self, id: &str) {
        let what = format!("{self}: {id} is at the app");
        wait_until(SOON, what, async || holds(self.lab.reached(NAME, id), "not yet")).await;
    }

    /// Waits until the app is done with a request; whether it was answered to its end.
    pub(crate) async fn done(&self, id: &str) -> bool {
        let done = wait_until(SOON, format!("{self}: the app is done with {id}"), async || {
            let done = self.lab.events(NAME, "done");
            done.iter().find(|r| r.id.as_deref() == Some(id)).cloned().ok_or(format!("{done:?}"))
        });
        done.await.complete.unwrap()
    }

    /// Waits until nothing is in flight as the program in front sees it.
    pub(crate) async fn idle(&self) {
        wait_until(SOON, format!("{self}: nothing in flight"), async || {
            let metrics = Call::get("localhost", "/metrics").send(self.admin()).await?.text();
            let line = metrics.lines().find(|l| l.starts_with("pilotlight_service_in_flight"));
            let line = line.ok_or_else(|| metrics.clone())?.to_owned();
            holds(line.ends_with(" 0"), line)
        })
        .await;
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.setup)
    }
}
