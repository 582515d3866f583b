//! One replica's life: environment → process → ready → in the line → drained → stopped.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::child::{Child, Launch};
use super::exit::Exit;
use super::expand::{Ports, expand, expand_command};
use super::logs::LogSink;
use super::machine::{Machine, NoEnvironment, own_variables};
use super::ports::{Ownership, Reservation, owned_by};
use crate::activator::service::Service;
use crate::clock;
use crate::config::spec::{Addresses, Probe, ProcessSpec, ServiceSpec, Workload};
use crate::policy::dispatch::ReplicaId;
use crate::policy::ejection::Ejections;
use crate::probe::{ExecContext, NotReady, ProbeFailure, Prober};
use crate::proxy::endpoint::{Doubt, Endpoint};
use crate::proxy::metrics::Ejected;

/// What an app gets between SIGTERM and SIGKILL once nothing is in flight there.
const TERM_GRACE: Duration = Duration::from_secs(10);
/// Connections that may rest at a replica without a limit on what is in flight there.
const MAX_IDLE_CONNECTIONS: usize = 256;
/// A port that another program took between choosing and binding is chosen again this often.
const PORT_ATTEMPTS: u32 = 5;
/// Before it is chosen again for the first time; doubled each time.
const PORT_PAUSE: Duration = Duration::from_millis(50);
/// What an app that is not ready yet gets between SIGTERM and SIGKILL.
const START_GRACE: Duration = Duration::from_secs(2);
/// Lines of output that an error message repeats.
const ERROR_LINES: usize = 5;
/// For the last output to arrive after the process has ended.
const OUTPUT_SETTLES: Duration = Duration::from_millis(200);
/// A replica that had been ready and cannot be reached for this long is ended, and another started. One that answers
/// that it is not ready lives, and is asked until it is.
const UNREADY: Duration = Duration::from_secs(30);
/// From then on it is asked this often.
const STILL_UNREADY: Duration = Duration::from_secs(1);
/// How often a ready replica is asked whether it still is (Kubernetes' default). An open port says nothing that the
/// next request would not find out, so a TCP probe is not repeated.
const PERIOD: Duration = Duration::from_secs(10);
/// After it was found well again, exchanges that it breaks do not put a replica in doubt for this long.
const TRUST: Duration = Duration::from_millis(100);
/// From a broken connection to the death of its process being seen.
const DEATH_SHOWS: Duration = Duration::from_millis(5);
/// A start may take this long even if nobody waits as long (`timeouts.activation` is below its default).
const LEAST_START: Duration = Duration::from_mins(10);
/// A start without a bound of its own.
const LONGEST_START: Duration = Duration::from_hours(24);

/// What a replica is made from.
#[derive(Debug)]
pub struct Context {
    /// What all replicas of the machine share.
    pub machine: Arc<Machine>,
    /// Whose it is.
    pub service: Arc<Service>,
    /// The spec it was started with.
    pub spec: Arc<ServiceSpec>,
    /// In the line.
    pub id: ReplicaId,
    /// For people, and in file names.
    pub name: String,
    /// Cancelled when it shall leave.
    pub stop: CancellationToken,
    /// To the supervisor.
    pub reports: mpsc::Sender<(ReplicaId, Report)>,
}

/// What became of a replica. `Stopped`, `Died` and `Failed` are the last.
#[derive(Debug)]
pub enum Report {
    /// There is a process.
    Spawned {
        /// Its id.
        pid: u32,
        /// Where it is told to listen.
        port: u16,
        /// Its output.
        log: LogSink,
    },
    /// It is in the line; `took` from its start, `None` when it was ready before.
    Ready {
        /// From the process's start.
        took: Option<Duration>,
    },
    /// It left the set, and comes back when it answers its probe.
    Unready {
        /// Why.
        doubt: Doubt,
        /// How long it stays out at least.
        pause: Duration,
    },
    /// It left as it was told to.
    Stopped {
        /// How it ended.
        exit: String,
    },
    /// It had been ready and ended by itself.
    Died {
        /// How it ended.
        exit: Exit,
        /// After it became ready.
        lived: Duration,
    },
    /// It never became ready.
    Failed {
        /// With the exit status and the last output.
        reason: String,
        /// Trying again at once is of no use.
        fatal: bool,
    },
}

/// A process with its addresses, before it is ready.
struct Running {
    child: Child,
    prober: Prober,
    addresses: Addresses,
    log: LogSink,
    spawned: Instant,
    /// Given back when the process is gone.
    _ports: (Reservation, Option<Reservation>),
    _record: Option<super::orphans::Record>,
}

/// Runs it until its end; the last report says which.
pub async fn run(context: Context) {
    let report = context.live().await;
    if matches!(report, Report::Died { .. }) {
        // Restarted at once; what it may have left behind does not hold that up.
        context.report(report).await;
        context.machine.state.sweep_replica(&context.name).await;
    } else {
        context.machine.state.sweep_replica(&context.name).await;
        context.report(report).await;
    }
}

// === impl Context ===

impl Context {
    async fn live(&self) -> Report {
        let Workload::Process(process) = &self.spec.workload else {
            return failed("spec.process: it is needed to run on this machine", true);
        };
        let python = tokio::select! {
            biased;
            () = self.stop.cancelled() => return stopped("before it had started"),
            made = self.environment(process) => match made {
                Ok(env) => env,
                Err(error) => return failed(error.reason, error.fatal),
            },
        };
        for attempt in 1.. {
            match self.start(process, &python).await {
                Ok(Some(running)) => return self.serve(running).await,
                Ok(None) if attempt < PORT_ATTEMPTS => tokio::select! {
                    () = self.stop.cancelled() => return stopped("before it had started"),
                    () = tokio::time::sleep(PORT_PAUSE * 2u32.pow(attempt - 1)) => {}
                },
                Ok(None) => return failed("other programs take its ports as soon as they are chosen", false),
                Err(last) => return last,
            }
        }
        unreachable!("bug: the loop ends by returning")
    }

    /// Variables that put the Python environment first, once it is made.
    async fn environment(&self, process: &ProcessSpec) -> Result<Vec<(String, String)>, NoEnvironment> {
        let Some(python) = &process.python else { return Ok(Vec::new()) };
        self.machine.python_env(python, &self.service.key).await
    }

    /// A process that is ready, `None` when its port was another program's, or its last report.
    async fn start(
        &self,
        process: &ProcessSpec,
        python: &[(String, String)],
    ) -> Result<Option<Running>, Report> {
        let mut running = self.spawn(process, python)?;
        self.report(Report::Spawned {
            pid: running.child.pid() as u32,
            port: running.addresses.http.port(),
            log: running.log.clone(),
        })
        .await;
        // A start may outlive those who wait for it: the next ones find it done.
        let longest = match self.spec.timeouts.activation {
            Duration::ZERO => LONGEST_START,
            bound => bound.max(LEAST_START),
        };
        let deadline = running.spawned + longest;
        let ready = tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                let exit = running.child.terminate(START_GRACE).await;
                return Err(stopped(format!("while it started, {exit}")));
            }
            exit = running.child.exited() => return Err(never_ready(&exit, &running.log).await),
            ready = running.prober.until_ready(running.spawned, deadline) => ready,
        };
        if let Err(not_ready) = ready {
            running.child.kill();
            running.child.exited().await;
            return Err(never_ready(&not_ready, &running.log).await);
        }
        // Another program may have taken the port between choosing and binding, and be ready in the app's stead.
        if owned_by(running.addresses.http.port(), running.child.kin()) == Ownership::Other {
            running.log.note("pilotlight: another program listens on this port; choosing another");
            running.child.kill();
            running.child.exited().await;
            return Ok(None);
        }
        Ok(Some(running))
    }

    fn spawn(&self, process: &ProcessSpec, python: &[(String, String)]) -> Result<Running, Report> {
        let reserve = || self.machine.ports.reserve().map_err(|error| failed(error.to_string(), false));
        let http = reserve()?;
        let grpc = if self.spec.grpc_port > 0 { Some(reserve()?) } else { None };
        let log = self
            .machine
            .logs
            .open(&self.service.key, &self.name)
            .map_err(|error| failed(error.to_string(), false))?;
        let ports = Ports { http: http.port(), grpc: grpc.as_ref().map(Reservation::port) };
        let expanded = expand(&process.command, &process.env, ports);
        // In the order of precedence: ours last.
        let mut env = expanded.env.clone();
        env.extend_from_slice(python);
        env.push(("PORT".into(), ports.http.to_string()));
        env.push(("HOST".into(), Ipv4Addr::LOCALHOST.to_string()));
        if let Some(port) = ports.grpc {
            env.push(("GRPC_PORT".into(), port.to_string()));
        }
        env.extend(self.machine.state.env(&self.name));
        let probe = match &self.spec.readiness {
            Probe::Exec { command } => Probe::Exec { command: expand_command(command, &expanded, ports) },
            Probe::HttpGet { path, port, headers } => Probe::HttpGet {
                path: path.clone(),
                port: self.own_port(*port, ports),
                headers: headers.clone(),
            },
            Probe::TcpSocket { port } => Probe::TcpSocket { port: self.own_port(*port, ports) },
            Probe::Grpc { port, service } => {
                Probe::Grpc { port: self.own_port(*port, ports), service: service.clone() }
            }
        };
        let launch = Launch {
            argv: expanded.argv,
            env: env.clone(),
            env_remove: own_variables(),
            working_dir: process.working_dir.clone(),
            log: log.clone(),
        };
        let spawned = clock::now();
        let child = Child::spawn(launch).map_err(|error| failed(error.to_string(), error.fatal()))?;
        let record = match self.machine.state.record(child.kin(), &self.name) {
            Ok(record) => Some(record),
            Err(error) => {
                // The marker in its environment still finds it.
                tracing::warn!(service = %self.service.key, %error, "cannot note the process");
                None
            }
        };
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let addresses = Addresses { http: at(ports.http), grpc: ports.grpc.map(at) };
        let exec = ExecContext { env, working_dir: process.working_dir.clone() };
        let prober = Prober::new(&probe, addresses, exec);
        Ok(Running { child, prober, addresses, log, spawned, _ports: (http, grpc), _record: record })
    }

    /// A probe that names the gRPC port means the one that this replica was given.
    fn own_port(&self, named: Option<u16>, ports: Ports) -> Option<u16> {
        named.map(|port| match ports.grpc {
            Some(own) if port == self.spec.grpc_port => own,
            _ => port,
        })
    }

    /// Ready: in the line until it is told to leave, dies, or cannot be reached. Not ready any more: out of the line
    /// until it is again; what it has in flight goes on.
    async fn serve(&self, mut running: Running) -> Report {
        let ready = clock::now();
        let mut trusted_until = ready;
        let leaving = CancellationToken::new();
        let mut ejections = Ejections::default();
        let mut news = Some(Report::Ready { took: Some(ready.saturating_duration_since(running.spawned)) });
        loop {
            let endpoint = self.endpoint(&running, ready, trusted_until, &leaving);
            // One that is to be replaced keeps the limit that it was made for.
            let own_limit = (!self.service.spec().runs_as(&self.spec)).then_some(self.spec.concurrency.limit);
            self.service.line.join_with(self.id, endpoint.clone(), own_limit);
            if let Some(news) = news.take() {
                self.report(news).await;
            }
            let (doubt, pause) = tokio::select! {
                biased;
                () = self.stop.cancelled() => return self.leave(running, &leaving).await,
                exit = running.child.exited() => return self.died(&running, &endpoint, exit, ready),
                doubt = endpoint.suspected() => {
                    (doubt, ejections.next(endpoint.has_answered(), fastrand::u64(..)))
                }
                failure = self.until_unready(&running.prober) => {
                    (Doubt { kind: Ejected::NotReady, why: failure.to_string() }, Duration::ZERO)
                }
            };
            self.service.leave(self.id);
            // A process that was killed closes its connections first, its listener next, and is seen dead last: a
            // probe in between would find it well.
            if let Ok(exit) = tokio::time::timeout(DEATH_SHOWS, running.child.exited()).await {
                return self.died(&running, &endpoint, exit, ready);
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return self.leave(running, &leaving).await,
                exit = running.child.exited() => return self.died(&running, &endpoint, exit, ready),
                back = self.until_well(&running.prober, doubt, pause) => match back {
                    Ok(ejected) => news = ejected.then_some(Report::Ready { took: None }),
                    Err(not_ready) => {
                        running.log.note(&format!("pilotlight: {not_ready}; ending it"));
                        running.child.kill();
                        let exit = running.child.exited().await;
                        return self.died(&running, &endpoint, exit, ready);
                    }
                },
            }
            trusted_until = clock::now() + TRUST;
        }
    }

    async fn until_unready(&self, prober: &Prober) -> ProbeFailure {
        if matches!(self.spec.readiness, Probe::TcpSocket { .. }) {
            return std::future::pending().await;
        }
        prober.until_unready(PERIOD, || self.service.line.in_flight_at(self.id) > 0).await
    }

    /// Out of the set until it is found well. True when that was more than a look: one exchange that broke is the
    /// app's affair as a rule, and nothing to tell people about when a first look finds the replica well.
    async fn until_well(&self, prober: &Prober, doubt: Doubt, pause: Duration) -> Result<bool, NotReady> {
        if pause.is_zero() && doubt.kind != Ejected::NotReady && prober.check().await.is_ok() {
            return Ok(false);
        }
        self.report(Report::Unready { doubt, pause }).await;
        tokio::time::sleep(pause).await;
        loop {
            let now = clock::now();
            match prober.until_ready(now, now + UNREADY).await {
                Ok(_) => return Ok(true),
                Err(not_ready) if not_ready.last.is_answer() => tokio::time::sleep(STILL_UNREADY).await,
                // It works on something, and may well be too busy to answer a probe.
                Err(_) if self.service.line.in_flight_at(self.id) > 0 => {}
                Err(not_ready) => return Err(not_ready),
            }
        }
    }

    fn endpoint(
        &self,
        running: &Running,
        ready: Instant,
        trusted_until: Instant,
        leaving: &CancellationToken,
    ) -> Arc<Endpoint> {
        let max_idle = match self.spec.concurrency.limit as usize {
            0 => MAX_IDLE_CONNECTIONS,
            limit => limit.min(MAX_IDLE_CONNECTIONS),
        };
        let (addresses, protocol) = (running.addresses, self.spec.protocol);
        let endpoint = Endpoint::new(self.id, addresses, protocol, max_idle, running.spawned, ready);
        Arc::new(endpoint.watched().trusted_until(trusted_until).leaves_with(leaving.clone()))
    }

    fn died(&self, running: &Running, endpoint: &Endpoint, exit: Exit, ready: Instant) -> Report {
        self.service.leave(self.id);
        endpoint.set_gone();
        running.log.note(&format!("pilotlight: {exit}"));
        Report::Died { exit, lived: clock::now().saturating_duration_since(ready) }
    }

    /// Out of the set; what it has finishes; then SIGTERM, and SIGKILL for who does not listen.
    async fn leave(&self, mut running: Running, leaving: &CancellationToken) -> Report {
        self.service.leave(self.id);
        // Websockets last as long as they like otherwise.
        leaving.cancel();
        let bound = match self.service.spec().timeouts.drain {
            Duration::ZERO => LONGEST_START,
            bound => bound,
        };
        tokio::select! {
            biased;
            exit = running.child.exited() => return stopped(exit.to_string()),
            () = self.machine.cut_off() => {}
            drained = tokio::time::timeout(bound, self.service.line.drained(self.id)) => {
                if drained.is_err() {
                    let left = self.service.line.in_flight_at(self.id);
                    tracing::warn!(service = %self.service.key, replica = self.name, left, "the drain timeout passed");
                }
            }
        }
        let exit = running.child.terminate(TERM_GRACE).await;
        stopped(exit.to_string())
    }

    async fn report(&self, report: Report) {
        // The supervisor outlives its replicas; if it is gone, so is the program.
        let _ = self.reports.send((self.id, report)).await;
    }
}

fn failed(reason: impl Into<String>, fatal: bool) -> Report {
    Report::Failed { reason: reason.into(), fatal }
}

fn stopped(exit: impl Into<String>) -> Report {
    Report::Stopped { exit: exit.into() }
}

/// Says so in its log, too: that outlives the report.
async fn never_ready(end: &impl std::fmt::Display, log: &LogSink) -> Report {
    log.settled(OUTPUT_SETTLES).await;
    let reason = described(end.to_string(), log);
    log.note(&format!("pilotlight: {end}"));
    failed(reason, false)
}

/// How it ended, with what it said last.
fn described(end: String, log: &LogSink) -> String {
    let lines = log.last_lines(ERROR_LINES);
    let lines = lines.trim();
    if lines.is_empty() { end } else { format!("{end}; its last output: {lines}") }
}
