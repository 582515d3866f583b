//! The ways to a replica, and how each is started.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use crate::configs;
use crate::support::{Lab, Program, QueueProxy, SOON, Serve, wait_until};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    QueueProxy,
    #[value(name = "serve-1")]
    Serve1,
    #[value(name = "serve-4")]
    Serve4,
    #[value(name = "haproxy-1")]
    Haproxy1,
    #[value(name = "haproxy-4")]
    Haproxy4,
    Nginx,
}

/// What is spoken on one side of a proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    H1,
    H2,
}

/// What the proxies do in a row.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    /// Requests at once, at all replicas together.
    pub(crate) limit: u32,
    pub(crate) client: Wire,
    pub(crate) app: Wire,
    /// Every piece of an answer goes on at once, whatever that costs.
    pub(crate) streams: bool,
}

/// A proxy that runs.
pub(crate) struct Started {
    pub(crate) to: SocketAddr,
    /// The process that does the work.
    pub(crate) pid: u32,
    /// Stays only to start it again.
    pub(crate) master: Option<u32>,
    /// Its drop ends it.
    _program: Running,
}

enum Running {
    Program(#[allow(dead_code, reason = "for its drop")] Program),
    QueueProxy(#[allow(dead_code, reason = "for its drop")] QueueProxy),
}

// === impl Kind ===

impl Kind {
    pub(crate) fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).expect("no way is hidden").get_name().to_owned()
    }

    /// Whom it is compared with.
    pub(crate) fn rival(self) -> Self {
        if self.replicas() == 4 { Self::Haproxy4 } else { Self::Haproxy1 }
    }

    pub(crate) fn replicas(self) -> u32 {
        if matches!(self, Self::Serve4 | Self::Haproxy4) { 4 } else { 1 }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::QueueProxy | Self::Serve1 | Self::Serve4)
    }
}

// === impl Wire ===

impl Wire {
    fn protocol(self) -> &'static str {
        if self == Self::H2 { "h2c" } else { "http1" }
    }
}

/// The proxy of this kind, in front of replicas that `serve` has started.
pub(crate) async fn start(kind: Kind, lab: &Lab, replicas: &[SocketAddr], job: Job) -> Started {
    match kind {
        Kind::QueueProxy => queue_proxy(lab, replicas[0], job).await,
        Kind::Haproxy1 | Kind::Haproxy4 => haproxy(&kind.name(), lab, replicas, job).await,
        Kind::Nginx => nginx(lab, replicas[0], job).await,
        Kind::Serve1 | Kind::Serve4 => unreachable!("started with its replicas"),
    }
}

async fn queue_proxy(lab: &Lab, replica: SocketAddr, job: Job) -> Started {
    let limit = job.limit.to_string();
    let args = ["--concurrency", &limit, "--queue", "10000", "--protocol", job.app.protocol()];
    let program =
        QueueProxy::start(lab, replica, &[&args[..], MANY_CONNECTIONS].concat()).await.ready().await;
    Started { to: program.traffic, pid: program.pid(), master: None, _program: Running::QueueProxy(program) }
}

/// More than a row has; by itself a proxy of ours takes half as many as it may open files.
const MANY_CONNECTIONS: &[&str] = &["--max-connections", "12000"];

/// `serve` with so many replicas of the backend, all ready, and their addresses.
pub(crate) async fn serve(lab: &Lab, job: Job, replicas: u32) -> (Serve, Vec<SocketAddr>) {
    let this = std::env::current_exe().unwrap();
    let object = serde_json::json!({
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "ScaledService",
        "metadata": { "name": "app" },
        "spec": {
            "process": { "command": [this, "backend", "--port", "$(PORT)"] },
            "protocol": job.app.protocol(),
            "concurrency": { "limit": job.limit / replicas },
            "scaling": { "min": replicas, "max": replicas },
        },
    });
    let dir = lab.path(&format!("serve-{replicas}"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("app.json"), object.to_string()).unwrap();
    let state = lab.path(&format!("state-{replicas}"));
    let builder = lab.serve().files(&dir).state_dir(&state);
    let serve = MANY_CONNECTIONS.iter().fold(builder, |builder, arg| builder.arg(arg)).start().await;
    let ready = |s: &serde_json::Value| {
        let of = s["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
        of.iter().filter(|replica| replica["phase"] == "ready").count() == replicas as usize
    };
    let state = serve.wait_service("app", format!("{replicas} ready"), ready).await;
    let port = |replica: &serde_json::Value| u16::try_from(replica["port"].as_u64().unwrap()).unwrap();
    let all = state["replicas"].as_array().unwrap().iter();
    (serve, all.map(|replica| SocketAddr::from((Ipv4Addr::LOCALHOST, port(replica)))).collect())
}

async fn haproxy(name: &str, lab: &Lab, replicas: &[SocketAddr], job: Job) -> Started {
    let to = free_address();
    let file = lab.path(&format!("{name}.cfg"));
    std::fs::write(&file, configs::haproxy(to, replicas, job)).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    let program = until_listens(command, to, lab.dir()).await;
    Started { to, pid: program.pid(), master: None, _program: Running::Program(program) }
}

async fn nginx(lab: &Lab, replica: SocketAddr, job: Job) -> Started {
    let to = free_address();
    let file = lab.path("nginx.conf");
    std::fs::write(&file, configs::nginx(to, replica, job, lab.dir())).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(lab.dir()).arg("-c").arg(file).args(["-e", "stderr"]);
    let program = until_listens(command, to, lab.dir()).await;
    // The master listens before its worker is there.
    let children = format!("/proc/{0}/task/{0}/children", program.pid());
    let worker = wait_until(SOON, "nginx has its worker", async || {
        let pids = std::fs::read_to_string(&children).unwrap_or_default();
        pids.split_whitespace().next().and_then(|pid| pid.parse().ok()).ok_or(pids)
    });
    let pid = worker.await;
    Started { to, pid, master: Some(program.pid()), _program: Running::Program(program) }
}

async fn until_listens(command: Command, to: SocketAddr, mark: &Path) -> Program {
    let what = format!("{} listens", command.get_program().display());
    let mut program = Program::spawn(command, mark);
    wait_until(SOON, what, async || {
        assert!(program.exited().is_none(), "ended: {}", program.log());
        tokio::net::TcpStream::connect(to).await
    })
    .await;
    program
}

/// Free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).unwrap()
}
