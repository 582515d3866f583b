//! The three ways in: through a queue-proxy, through `serve`, and through both in a row.

use std::net::SocketAddr;

use crate::support::{Call, Lab, Program, QueueProxy, SOON, Serve, holds, host, testapp_path, wait_until};

/// What a request crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hop {
    QueueProxy,
    Serve,
    Both,
}

/// An app behind one of them; its service is `app`.
pub(crate) struct Front {
    pub(crate) lab: Lab,
    pub(crate) addr: SocketAddr,
    admin: SocketAddr,
    serve: Option<Serve>,
    proxy: Option<QueueProxy>,
    _app: Option<Program>,
}

/// How the app is run and spoken to.
pub(crate) struct Setup {
    hop: Hop,
    protocol: &'static str,
    limit: u32,
}

// === impl Hop ===

impl Hop {
    pub(crate) const ALL: [Self; 3] = [Self::QueueProxy, Self::Serve, Self::Both];

    /// `auto`, and no limit.
    pub(crate) fn setup(self) -> Setup {
        Setup { hop: self, protocol: "auto", limit: 0 }
    }
}

// === impl Setup ===

impl Setup {
    pub(crate) fn protocol(mut self, protocol: &'static str) -> Self {
        self.protocol = protocol;
        self
    }

    pub(crate) fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// In front of testapp.
    pub(crate) async fn testapp(self) -> Front {
        let lab = Lab::new();
        let record = lab.text_path("app.jsonl");
        let app = format!("{} --port APP_PORT --record {record}", testapp_path().display());
        self.command(lab, &app).await
    }

    /// In front of what listens in the test itself.
    pub(crate) async fn app(self, addr: SocketAddr) -> Front {
        let relay = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proxy/py/relay.py");
        match self.hop {
            Hop::QueueProxy => {
                let lab = Lab::new();
                self.queue_proxy(lab, addr, None).await
            }
            Hop::Serve => {
                self.command(Lab::new(), &format!("python3 {relay} APP_PORT {}", addr.port())).await
            }
            Hop::Both => {
                let sidecar = self.sidecar(&addr.to_string());
                self.serve(Lab::new(), sidecar).await
            }
        }
    }

    /// In front of a program that listens on `APP_PORT`.
    pub(crate) async fn command(self, lab: Lab, command: &str) -> Front {
        match self.hop {
            Hop::QueueProxy => {
                let port = free_port();
                let mut program = std::process::Command::new("sh");
                program.args(["-c", &format!("exec {}", command.replace("APP_PORT", &port.to_string()))]);
                let app = Program::spawn(program, lab.dir());
                self.queue_proxy(lab, SocketAddr::from(([127, 0, 0, 1], port)), Some(app)).await
            }
            Hop::Serve => {
                let command = format!("exec {}", command.replace("APP_PORT", "$PORT"));
                self.serve(lab, command).await
            }
            Hop::Both => {
                let port = free_port().to_string();
                let app = command.replace("APP_PORT", &port);
                let command = format!("{app} & {}", self.sidecar(&format!("127.0.0.1:{port}")));
                self.serve(lab, command).await
            }
        }
    }

    fn sidecar(&self, app: &str) -> String {
        let program = env!("CARGO_BIN_EXE_pilotlight");
        let Self { limit, protocol, .. } = self;
        format!(
            "exec {program} queue-proxy --listen 127.0.0.1:$PORT --admin 127.0.0.1:0 --app {app} \
             --concurrency {limit} --queue 1000 --protocol {protocol}"
        )
    }

    async fn serve(self, lab: Lab, command: String) -> Front {
        // A queue-proxy speaks both; what the app speaks is for it to know.
        let protocol = if self.hop == Hop::Both { "auto" } else { self.protocol };
        let yaml = lab
            .app("app")
            .set("process.command", serde_json::json!(["sh", "-c", command]))
            .set("protocol", protocol)
            .limit(self.limit)
            .max(1);
        let serve = lab.services(&[&yaml]).serve().start().await;
        Front { lab, addr: serve.traffic, admin: serve.admin, serve: Some(serve), proxy: None, _app: None }
    }

    async fn queue_proxy(self, lab: Lab, addr: SocketAddr, app: Option<Program>) -> Front {
        let limit = self.limit.to_string();
        let args = ["--concurrency", &limit, "--queue", "1000", "--protocol", self.protocol];
        let proxy = QueueProxy::start(&lab, addr, &args).await.ready().await;
        Front { lab, addr: proxy.traffic, admin: proxy.admin, serve: None, proxy: Some(proxy), _app: app }
    }
}

// === impl Front ===

impl Front {
    /// The host that reaches the app.
    #[allow(clippy::unused_self, reason = "reads as what it is: the front's host")]
    pub(crate) fn host(&self) -> String {
        host("app")
    }

    pub(crate) fn get(&self, path: &str) -> Call {
        Call::get(&self.host(), path)
    }

    /// The process that clients speak to.
    pub(crate) fn program(&mut self) -> &mut Program {
        match (&mut self.serve, &mut self.proxy) {
            (Some(serve), _) => serve,
            (_, Some(proxy)) => proxy,
            (None, None) => unreachable!("one of them is in front"),
        }
    }

    /// Waits until no request holds a slot or counts as load any more.
    pub(crate) async fn settled(&self) {
        wait_until(SOON, "nothing in flight or queued", async || {
            let metrics = Call::get("localhost", "/metrics").send(self.admin).await?.text();
            let gauges: Vec<&str> = metrics
                .lines()
                .filter(|line| {
                    line.starts_with("pilotlight_service_in_flight{")
                        || line.starts_with("pilotlight_service_queued{")
                })
                .collect();
            holds(gauges.len() == 2 && gauges.iter().all(|line| line.ends_with(" 0")), gauges.join("; "))
        })
        .await;
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
