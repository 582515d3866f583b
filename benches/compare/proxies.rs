//! Starts the ways to the replicas, each with the same job.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;

use crate::cores::Cores;
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

/// What the proxies do in a row.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    /// Requests at once at a replica.
    pub(crate) limit: u32,
}

/// One way, running.
pub(crate) struct Proxy {
    pub(crate) kind: Kind,
    pub(crate) to: SocketAddr,
    /// The process that does the work.
    pub(crate) pid: u32,
    _program: Option<Program>,
}

/// All ways of a row, and the replicas behind them. Two `serve` start the replicas, which the others use too.
pub(crate) struct Site {
    pub(crate) proxies: Vec<Proxy>,
    /// The one replica of all ways but those with four.
    pub(crate) replica: SocketAddr,
    _serves: Vec<Serve>,
    _queue_proxy: Option<QueueProxy>,
    // Last: its drop kills whatever is left.
    pub(crate) lab: Lab,
}

/// The service's host, at `serve`.
pub(crate) const HOST: &str = "app.default.localhost";

// === impl Kind ===

impl Kind {
    pub(crate) fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).expect("no way is hidden").get_name().to_owned()
    }

    /// Whom it is compared with.
    pub(crate) fn rival(self) -> Self {
        if matches!(self, Self::Serve4 | Self::Haproxy4) { Self::Haproxy4 } else { Self::Haproxy1 }
    }
}

// === impl Site ===

impl Site {
    pub(crate) async fn start(kinds: &[Kind], job: Job, cores: Cores) -> Self {
        let lab = Lab::new();
        let wants = |kind| kinds.contains(&kind);
        let (one, replica) = serve(&lab, job, 1).await;
        let mut site =
            Self { proxies: Vec::new(), replica: replica[0], _serves: Vec::new(), _queue_proxy: None, lab };
        if wants(Kind::Serve1) {
            site.add(Kind::Serve1, one.traffic, one.pid(), None, cores);
        }
        site._serves.push(one);
        if wants(Kind::Serve4) || wants(Kind::Haproxy4) {
            let (four, replicas) = serve(&site.lab, job, 4).await;
            if wants(Kind::Serve4) {
                site.add(Kind::Serve4, four.traffic, four.pid(), None, cores);
            }
            site._serves.push(four);
            if wants(Kind::Haproxy4) {
                site.haproxy(Kind::Haproxy4, &replicas, job, cores).await;
            }
        }
        if wants(Kind::QueueProxy) {
            let limit = job.limit.to_string();
            let args = ["--concurrency", &limit, "--queue", "10000"];
            let proxy = QueueProxy::start(&site.lab, replica[0], &args).await.ready().await;
            site.add(Kind::QueueProxy, proxy.traffic, proxy.pid(), None, cores);
            site._queue_proxy = Some(proxy);
        }
        if wants(Kind::Haproxy1) {
            site.haproxy(Kind::Haproxy1, &replica, job, cores).await;
        }
        if wants(Kind::Nginx) {
            site.nginx(job, cores).await;
        }
        site.proxies.sort_by_key(|proxy| kinds.iter().position(|kind| *kind == proxy.kind));
        site
    }

    fn add(&mut self, kind: Kind, to: SocketAddr, pid: u32, program: Option<Program>, cores: Cores) {
        cores.proxy(pid);
        self.proxies.push(Proxy { kind, to, pid, _program: program });
    }

    async fn haproxy(&mut self, kind: Kind, replicas: &[SocketAddr], job: Job, cores: Cores) {
        let to = free_address();
        let mut text = format!(
            "global
  nbthread 1
  maxconn 12000
  no strict-limits
defaults
  mode http
  option http-keep-alive
  option forwardfor
  http-reuse always
  timeout connect 5s
  timeout client 620s
  timeout server 300s
  timeout queue 300s
  timeout http-request 30s
  timeout http-keep-alive 620s
frontend in
  bind {to}
  maxconn 12000
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header Forwarded for=%[src];host=\\\"%[req.hdr(host)]\\\";proto=http
  default_backend app
backend app
  balance leastconn
"
        );
        for (n, replica) in replicas.iter().enumerate() {
            text.push_str(&format!("  server r{n} {replica} maxconn {}\n", job.limit));
        }
        let file = self.lab.path(&format!("{}.cfg", kind.name()));
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(file);
        let program = self.until_listens(command, to).await;
        self.add(kind, to, program.pid(), Some(program), cores);
    }

    async fn nginx(&mut self, job: Job, cores: Cores) {
        let (to, replica, limit, dir) = (free_address(), self.replica, job.limit, self.lab.dir().display());
        let text = format!(
            "worker_processes 1;
worker_rlimit_nofile 40000;
daemon off;
user root;
pid {dir}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 20000; }}
http {{
  access_log off;
  server_tokens off;
  keepalive_timeout 620s;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_buffer_size 128k;
  client_body_temp_path {dir}/nginx-body;
  proxy_temp_path {dir}/nginx-proxy;
  fastcgi_temp_path {dir}/nginx-fastcgi;
  uwsgi_temp_path {dir}/nginx-uwsgi;
  scgi_temp_path {dir}/nginx-scgi;
  upstream app {{
    server {replica} max_conns={limit};
    keepalive {limit};
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
  }}
  server {{
    listen {to} backlog=4096;
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto http;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header Forwarded 'for=$remote_addr;host=\"$http_host\";proto=http';
    }}
  }}
}}
"
        );
        let file = self.lab.path("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(self.lab.dir()).arg("-c").arg(file).args(["-e", "stderr"]);
        let program = self.until_listens(command, to).await;
        // The master listens before its worker is there.
        let children = format!("/proc/{0}/task/{0}/children", program.pid());
        let worker = wait_until(SOON, "nginx has its worker", async || {
            let pids = std::fs::read_to_string(&children).unwrap_or_default();
            pids.split_whitespace().next().and_then(|pid| pid.parse().ok()).ok_or(pids)
        });
        let worker = worker.await;
        self.add(Kind::Nginx, to, worker, Some(program), cores);
    }

    async fn until_listens(&self, command: Command, to: SocketAddr) -> Program {
        let what = format!("{} listens", command.get_program().display());
        let mut program = Program::spawn(command, self.lab.dir());
        wait_until(SOON, what, async || {
            assert!(program.exited().is_none(), "ended: {}", program.log());
            tokio::net::TcpStream::connect(to).await
        })
        .await;
        program
    }
}

/// `serve` with so many replicas of the backend, all ready.
async fn serve(lab: &Lab, job: Job, replicas: u32) -> (Serve, Vec<SocketAddr>) {
    let this = std::env::current_exe().unwrap();
    let yaml = serde_json::json!({
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "ScaledService",
        "metadata": { "name": "app" },
        "spec": {
            "process": { "command": [this, "backend", "--port", "$(PORT)"] },
            "concurrency": { "limit": job.limit },
            "scaling": { "min": replicas, "max": replicas },
        },
    });
    let dir = lab.path(&format!("serve-{replicas}"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("app.json"), yaml.to_string()).unwrap();
    let state = lab.path(&format!("state-{replicas}"));
    let serve = lab.serve().files(&dir).state_dir(&state).start().await;
    let ready = |s: &serde_json::Value| {
        let of = s["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
        of.iter().filter(|replica| replica["phase"] == "ready").count() == replicas as usize
    };
    let state = serve.wait_service("app", format!("{replicas} ready"), ready).await;
    let port = |replica: &serde_json::Value| u16::try_from(replica["port"].as_u64().unwrap()).unwrap();
    let all = state["replicas"].as_array().unwrap().iter();
    (serve, all.map(|replica| SocketAddr::from((Ipv4Addr::LOCALHOST, port(replica)))).collect())
}

/// Free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).unwrap()
}
