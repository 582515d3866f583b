//! The three ways a request can go: through a queue-proxy, through the activator (`serve`), through both in a row.

use std::net::SocketAddr;
use std::ops::Deref;

use super::lab::Lab;
use super::program::{Program, relay_path, testapp};
use super::serve::{QueueProxy, Serve, host};
use super::ways::Setup;
use super::yaml::Yaml;

/// What stands behind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum App<'a> {
    /// testapp with these arguments; its record is [`Hops::record`].
    Testapp(&'a [&'a str]),
    /// Something that the test runs itself.
    At(SocketAddr),
}

/// How to start the hops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options<'a> {
    /// Requests at the app at once; 0 = unlimited.
    pub(crate) limit: u32,
    /// More flags that `serve` and `queue-proxy` have both: they go to the first hop, which clients meet.
    pub(crate) flags: &'a [&'a str],
    /// `--protocol` / `spec.protocol` of every hop.
    pub(crate) protocol: &'a str,
    /// `spec.timeouts` and the queue-proxy's flags: (`responseStart`, `response-start-timeout`, "1s").
    pub(crate) timeouts: &'a [(&'a str, &'a str, &'a str)],
}

/// Running hops, ready.
pub(crate) struct Hops {
    pub(crate) setup: Setup,
    /// Where clients go.
    pub(crate) addr: SocketAddr,
    /// Where any host, and none, is good enough.
    pub(crate) any_host: SocketAddr,
    /// Metrics of the first hop.
    pub(crate) admin: SocketAddr,
    /// The host that reaches the app.
    pub(crate) host: String,
    /// For `Lab::records`, when the app is testapp.
    pub(crate) record: &'static str,
    first: First,
    _app: Option<Program>,
}

enum First {
    QueueProxy(QueueProxy),
    Serve(Serve),
}

// === impl Options ===

impl Default for Options<'_> {
    fn default() -> Self {
        Self { limit: 0, flags: &[], protocol: "auto", timeouts: &[] }
    }
}

// === impl Hops ===

impl Hops {
    /// Starts them with the defaults.
    pub(crate) async fn start(lab: &Lab, setup: Setup, app: App<'_>) -> Self {
        Self::start_with(lab, setup, app, Options::default()).await
    }

    /// Starts them, and brings the app up where it starts with the first request.
    pub(crate) async fn start_with(lab: &Lab, setup: Setup, app: App<'_>, options: Options<'_>) -> Self {
        let record = "app";
        let path = lab.text_path("app.jsonl");
        // In front of the activator alone, testapp is started by it; else it stands by itself.
        let (running, at) = match app {
            App::At(addr) => (None, Some(addr)),
            App::Testapp(_) if setup == Setup::Activator => (None, None),
            App::Testapp(args) => {
                let (program, addr) = testapp(lab.dir(), &[&["--record", &path], args].concat()).await;
                (Some(program), Some(addr))
            }
        };
        let (limit, proxy_flags) = (options.limit.to_string(), proxy_timeouts(&options));
        if setup == Setup::QueueProxy {
            let mut args = vec!["--concurrency", &limit, "--queue", "1000", "--protocol", options.protocol];
            args.extend(proxy_flags.iter().map(String::as_str));
            args.extend(options.flags);
            let proxy = QueueProxy::start(lab, at.unwrap(), &args).await.ready().await;
            let (addr, admin) = (proxy.traffic, proxy.admin);
            let (host, first) = ("any.host".to_owned(), First::QueueProxy(proxy));
            return Self { setup, addr, any_host: addr, admin, host, record, first, _app: running };
        }
        let mut service = match (setup, at) {
            (Setup::Activator, None) => {
                let App::Testapp(args) = app else { unreachable!() };
                lab.app(record).args(args)
            }
            (Setup::Activator, Some(addr)) => {
                let relay = relay_path().to_str().unwrap();
                lab.app(record).command(&[relay, &addr.to_string()])
            }
            (_, at) => {
                let app = at.unwrap().to_string();
                let mut command = format!(
                    "exec {} queue-proxy --listen 127.0.0.1:$PORT --admin 127.0.0.1:0 --app {app} --concurrency {limit} --queue 1000 --protocol {}",
                    env!("CARGO_BIN_EXE_pilotlight"),
                    options.protocol
                );
                for flag in &proxy_flags {
                    command = format!("{command} {flag}");
                }
                lab.app(record).command(&["sh", "-c", &command])
            }
        };
        // It stays: what is tested here is not the way back to zero.
        service = service.limit(options.limit).max(1).set("scaling.min", 1).set("buffer.requests", 1000);
        if setup == Setup::Activator {
            service = service.set("protocol", options.protocol);
        }
        for (field, _, value) in options.timeouts {
            service = service.set(&format!("timeouts.{field}"), *value);
        }
        Self::serve(lab, setup, service, options, running).await
    }

    async fn serve(
        lab: &Lab,
        setup: Setup,
        service: Yaml,
        options: Options<'_>,
        app: Option<Program>,
    ) -> Self {
        let mut builder = lab.services(&[&service]).serve().service_ports(1);
        for flag in options.flags {
            builder = builder.arg(flag);
        }
        let mut serve = builder.start().await;
        let any_host = serve.listening("default/app").await;
        serve.wait_service("app", "ready", |s| s["state"] == "ready").await;
        let (addr, admin) = (serve.traffic, serve.admin);
        let first = First::Serve(serve);
        Self { setup, addr, any_host, admin, host: host("app"), record: "app", first, _app: app }
    }

    /// A metric of the first hop: the sum over the series of `name` that hold all of `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = super::client::Call::get("localhost", "/metrics").send(self.admin).await.unwrap().text();
        let series = text.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
}

/// The first hop's program.
impl Deref for Hops {
    type Target = Program;

    fn deref(&self) -> &Program {
        match &self.first {
            First::QueueProxy(proxy) => proxy,
            First::Serve(serve) => serve,
        }
    }
}

fn proxy_timeouts(options: &Options<'_>) -> Vec<String> {
    let flags = options.timeouts.iter().filter(|(_, flag, _)| !flag.is_empty());
    flags.flat_map(|(_, flag, value)| [format!("--{flag}"), (*value).to_owned()]).collect()
}
