//! `pilotlight serve` and `pilotlight queue-proxy`, started for a test.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::client::{Call, Reply};
use super::lab::Lab;
use super::metrics::{metrics, value};
use super::program::Program;
use super::wait::{LONG, SOON, wait_until};

/// A running `serve` that answered `/readyz`.
pub(crate) struct Serve {
    program: Program,
    /// Where requests go.
    pub(crate) traffic: SocketAddr,
    /// Where the admin API is.
    pub(crate) admin: SocketAddr,
}

/// How to start `serve`; the defaults listen on free loopback ports without service ports.
pub(crate) struct ServeBuilder {
    args: Vec<String>,
    state_dir: PathBuf,
    service_ports: String,
    admin: String,
    /// The folder it is started in, and the file or folder it is given.
    files: (PathBuf, String),
    /// What a shell does before it becomes `serve`.
    shell: String,
    mark: PathBuf,
}

/// A running `queue-proxy`.
pub(crate) struct QueueProxy {
    program: Program,
    pub(crate) traffic: SocketAddr,
    pub(crate) admin: SocketAddr,
}

// === impl ServeBuilder ===

impl ServeBuilder {
    pub(crate) fn new(lab: &Lab) -> Self {
        let args = ["--listen", "127.0.0.1:0", "--log-format", "json"];
        Self {
            args: args.map(str::to_owned).to_vec(),
            state_dir: lab.path("state"),
            service_ports: "off".to_owned(),
            admin: "127.0.0.1:0".to_owned(),
            files: (".".into(), lab.text_path("services")),
            shell: String::new(),
            mark: lab.dir().to_owned(),
        }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Where the admin API listens.
    pub(crate) fn admin(mut self, address: &str) -> Self {
        address.clone_into(&mut self.admin);
        self
    }

    /// `cd DIR && pilotlight serve -f FILE`.
    pub(crate) fn within(mut self, dir: PathBuf, file: &str) -> Self {
        self.files = (dir, file.to_owned());
        self
    }

    /// Other files than the lab's.
    pub(crate) fn files(self, files: &Path) -> Self {
        let file = files.to_str().expect("test paths are UTF-8").to_owned();
        self.within(".".into(), &file)
    }

    /// A state directory that outlives the lab. `serve` locks it: one test at a time.
    pub(crate) fn state_dir(mut self, dir: &Path) -> Self {
        dir.clone_into(&mut self.state_dir);
        self
    }

    /// Lets a shell do this first, such as `ulimit -n 600`.
    pub(crate) fn after(mut self, shell: &str) -> Self {
        shell.clone_into(&mut self.shell);
        self
    }

    /// This range for service ports.
    pub(crate) fn service_port_range(mut self, (first, last): (u16, u16)) -> Self {
        self.service_ports = format!("{first}-{last}");
        self
    }

    /// A range of its own for service ports.
    pub(crate) fn service_ports(self, n: u16) -> Self {
        self.service_port_range(super::lab::port_range(n))
    }

    /// Starts it, without waiting for anything.
    pub(crate) fn spawn(self) -> Program {
        let program = env!("CARGO_BIN_EXE_pilotlight");
        let mut command = if self.shell.is_empty() {
            Command::new(program)
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{}; exec \"$0\" \"$@\"", self.shell), program]);
            command
        };
        let (dir, file) = &self.files;
        command.current_dir(dir).args(["serve", "-f", file, "--admin", &self.admin]);
        command.args(["--service-ports", &self.service_ports]).args(&self.args);
        command.arg("--state-dir").arg(&self.state_dir);
        Program::spawn(command, &self.mark)
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(self) -> Serve {
        let mut program = self.spawn();
        let traffic = program.listening("traffic").await;
        let admin = program.listening("admin").await;
        wait_until(LONG, "serve: /readyz is 200", async || ready(admin).await).await;
        Serve { program, traffic, admin }
    }
}

/// `Ok` when `/readyz` answers 200.
async fn ready(admin: SocketAddr) -> Result<(), String> {
    match Call::get("localhost", "/readyz").send(admin).await {
        Ok(reply) if reply.status == 200 => Ok(()),
        Ok(reply) => Err(reply.to_string()),
        Err(e) => Err(e),
    }
}

// === impl Serve ===

impl Serve {
    /// GET on the traffic port with the service's own host. Panics when there is no answer at all.
    pub(crate) async fn get(&self, service: &str, path: &str) -> Reply {
        Call::get(&host(service), path).send(self.traffic).await.unwrap()
    }

    /// Sends a call to the traffic port, as a task that runs by itself.
    pub(crate) fn send(&self, call: Call) -> tokio::task::JoinHandle<Result<Reply, String>> {
        let traffic = self.traffic;
        tokio::spawn(async move { call.send(traffic).await })
    }

    /// GET on the admin port.
    pub(crate) async fn admin(&self, path: &str) -> Reply {
        Call::get(&self.admin.to_string(), path).send(self.admin).await.unwrap()
    }

    /// One of its metrics, as [`value`] reads it.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        value(&metrics(self.admin).await.unwrap(), series)
    }

    /// JSON from the admin port.
    pub(crate) async fn api(&self, path: &str) -> Value {
        let reply = self.admin(path).await;
        assert_eq!(reply.status, 200, "{path}: {reply}");
        reply.json()
    }

    /// The admin API's view of a service in `default`.
    pub(crate) async fn service(&self, name: &str) -> Value {
        self.api(&format!("/api/services/default/{name}")).await
    }

    /// Waits until the admin API's view of a service is as it should be.
    #[track_caller]
    pub(crate) fn wait_service(
        &self,
        name: &str,
        what: impl Display,
        is: impl Fn(&Value) -> bool,
    ) -> impl Future<Output = Value> {
        wait_until(LONG, format!("{name}: {what}"), async move || {
            let state = self.service(name).await;
            if is(&state) { Ok(state) } else { Err(state) }
        })
    }

    /// Waits until `n` requests wait for a slot.
    #[track_caller]
    pub(crate) fn wait_queued(&self, name: &str, n: u64) -> impl Future<Output = Value> {
        self.wait_service(name, format!("{n} queued"), move |s| s["queued"] == n)
    }

    /// Waits until the service is at zero and none of its processes is left.
    pub(crate) async fn wait_zero(&self, lab: &Lab, name: &str) {
        self.wait_service(name, "back at zero", |s| {
            s["state"] == "zero" && s["replicas"] == serde_json::json!([])
        })
        .await;
        wait_until(SOON, "no replica process is left", async || lab.empty_but(&[self.pid()])).await;
    }
}

impl Deref for Serve {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Serve {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}

/// The host that reaches a service of `default`; a name with a dot is taken as a host already.
pub(crate) fn host(service: &str) -> String {
    if service.contains('.') { service.to_owned() } else { format!("{service}.default.localhost") }
}

// === impl QueueProxy ===

impl QueueProxy {
    /// Starts `queue-proxy` in front of `app`.
    pub(crate) async fn start(lab: &Lab, app: SocketAddr, args: &[&str]) -> Self {
        let app = app.to_string();
        let first = ["queue-proxy", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--app", &app];
        Self::of(lab.pilotlight(&[&first, args].concat())).await
    }

    /// One that was started otherwise.
    pub(crate) async fn of(mut program: Program) -> Self {
        let traffic = program.listening("traffic").await;
        let admin = program.listening("admin").await;
        Self { program, traffic, admin }
    }

    /// Waits until `/readyz` is 200.
    pub(crate) async fn ready(self) -> Self {
        wait_until(SOON, "queue-proxy: /readyz is 200", async || ready(self.admin).await).await;
        self
    }

    pub(crate) async fn admin(&self, path: &str) -> Reply {
        Call::get("localhost", path).send(self.admin).await.unwrap()
    }

    /// One of its metrics, as [`value`] reads it.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        value(&metrics(self.admin).await.unwrap(), series)
    }
}

impl Deref for QueueProxy {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for QueueProxy {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}
