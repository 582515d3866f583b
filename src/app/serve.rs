//! `pilotlight serve`: one machine, everything in one process.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::limits;
use super::signals::Signals;
use super::thread::DataThread;
use super::{EXIT_CONFIG, EXIT_FORCED, LONGEST_DRAIN, bind, cut_off};
use crate::activator::models::SharedHosts;
use crate::activator::wake::Wakeups;
use crate::activator::{Activator, ByHost};
use crate::admin::{self, guard::Guard};
use crate::autoscaler::Autoscaler;
use crate::clock;
use crate::config::flags::ServeConfig;
use crate::config::load::{self, Loaded};
use crate::config::problem::Problem;
use crate::config::watch::Watch;
use crate::drain::Drain;
use crate::events::{Events, Kind};
use crate::fleet::ports::ServicePorts;
use crate::fleet::{Fleet, Parts};
use crate::proxy::server;
use crate::runtime::process::children;
use crate::runtime::process::machine::Machine;
use crate::runtime::process::orphans::StateDir;
use crate::telemetry;

/// Runs until it is told to leave.
pub fn run(config: ServeConfig) -> anyhow::Result<ExitCode> {
    telemetry::init(config.log);
    // Before the first load, so that no change falls in between.
    let watch = Watch::start(&config.files).context("cannot watch the configuration")?;
    let loaded = match load_for_this_machine(&config.files) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config, loaded, watch))
}

/// Reads all files; what cannot run here is a problem too.
pub fn load_for_this_machine(files: &[std::path::PathBuf]) -> Result<Loaded, Vec<Problem>> {
    let loaded = load::load(files).map_err(|problems| problems.0)?;
    let problems = load::check_one_machine(&loaded);
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

async fn serve(config: ServeConfig, loaded: Loaded, watch: Watch) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::take()?;
    let connections = limits::connections(config.connections, loaded.services.len());
    if let Err(error) = children::adopt() {
        tracing::warn!(%error, "what leaves its replica without a trace will not be found");
    }
    let state = StateDir::open(&config.state_dir)?;
    let traffic = bind(config.listen, "--listen")?;
    let admin_listener = bind(config.admin, "--admin")?;
    let (listen, admin_address) = (traffic.local_addr()?, admin_listener.local_addr()?);
    let swept = state.sweep().await;
    if !swept.is_empty() {
        tracing::info!("ended what an earlier run had left: {swept}");
    }

    let drain = Drain::new();
    let events = Arc::new(Events::default());
    let data = DataThread::start()?;
    let wakeups = Arc::new(Wakeups::default());
    let activator = Arc::new({
        let patience = config.connections.header_timeout;
        let shared = SharedHosts::new(config.model_hosts.clone(), patience);
        Activator::new(drain.clone()).with_shared_hosts(shared)
    });
    let (autoscaler, handle) = Autoscaler::new(wakeups.clone(), events.clone(), clock::now());
    let range = config.service_ports.map(|range| range.first..=range.last);
    let ports = ServicePorts::new(range, &config.state_dir);
    let machine = Arc::new(Machine::new(state, events.clone()));
    tokio::spawn({
        let vital = machine.vital();
        async move {
            autoscaler.run().await;
            drop(vital);
        }
    });
    let fleet = Arc::new(Fleet::new(Parts {
        activator: activator.clone(),
        wakeups,
        autoscaler: handle.clone(),
        machine: machine.clone(),
        events: events.clone(),
        data: data.handle().clone(),
        connections: connections.clone(),
        drain: drain.clone(),
        listen,
        ports,
    }));

    let ready = Arc::new(AtomicBool::new(false));
    let state = Arc::new(admin::ServeState {
        fleet: fleet.clone(),
        autoscaler: handle,
        events: events.clone(),
        drain: drain.clone(),
        ready: ready.clone(),
        config: Arc::new({
            let shown = shown(&config, listen, admin_address);
            move || shown.clone()
        }),
    });
    let admin_drain = Drain::new();
    let admin_listener = TcpListener::from_std(admin_listener)?;
    let router = admin::router(state, Guard::new(admin_address, []));
    let admin = tokio::spawn(admin::server::serve(admin_listener, router, admin_drain.clone()));
    tracing::info!("listening on {admin_address} (admin)");
    warn(&loaded);
    fleet.apply(loaded.services.clone()).await;
    server::spawn(data.handle(), traffic, ByHost(activator), connections, drain.clone());
    tracing::info!("listening on {listen} (traffic)");
    ready.store(true, Ordering::Release);
    let enough = CancellationToken::new();
    let reload = tokio::spawn({
        let (vital, enough) = (machine.vital(), enough.clone());
        let follow = follow(fleet.clone(), events.clone(), config.files, loaded, watch, enough);
        async move {
            follow.await;
            drop(vital);
        }
    });

    let running = Running { fleet, events, ready, drain, admin_drain, admin, reload, enough };
    running.until_told(&mut signals, &machine).await
}

/// What ends with the program.
struct Running {
    fleet: Arc<Fleet>,
    events: Arc<Events>,
    ready: Arc<AtomicBool>,
    drain: Drain,
    admin_drain: Drain,
    admin: JoinHandle<()>,
    reload: JoinHandle<()>,
    enough: CancellationToken,
}

impl Running {
    /// Waits for a signal, then leaves in order: not ready, what is in flight, replicas, the admin port.
    async fn until_told(self, signals: &mut Signals, machine: &Machine) -> anyhow::Result<ExitCode> {
        let Self { fleet, events, ready, drain, admin_drain, admin, reload, enough } = self;
        let signal = tokio::select! {
            signal = signals.next() => signal,
            () = machine.fatal() => {
                tracing::error!("a vital part of the program failed: ending");
                fleet.kill().await;
                return Ok(ExitCode::FAILURE);
            }
        };
        ready.store(false, Ordering::Release);
        drain.announce();
        enough.cancel();
        events.emit(
            Kind::Draining,
            None,
            format!("{signal}: finishing what is in flight; once more ends at once"),
        );
        drain.begin();
        let leave = async {
            // Not aborted: half an applied change would leave services that nobody stops.
            let _ = reload.await;
            let bound = fleet.drain_bound(LONGEST_DRAIN);
            if tokio::time::timeout(bound, drain.finished()).await.is_err() {
                cut_off(&drain, fleet.load(), bound).await;
            }
            fleet.stop().await;
        };
        tokio::select! {
            biased;
            () = leave => {}
            signal = signals.next() => {
                tracing::warn!("{signal} again: ending at once");
                fleet.kill().await;
                return Ok(ExitCode::from(EXIT_FORCED));
            }
        }
        admin_drain.begin();
        let _ = admin.await;
        tracing::info!("drained; good-bye");
        Ok(ExitCode::SUCCESS)
    }
}

/// Takes every change of the files; a bad one is refused whole, and the old configuration stays in force.
async fn follow(
    fleet: Arc<Fleet>,
    events: Arc<Events>,
    files: Vec<std::path::PathBuf>,
    mut current: Loaded,
    mut watch: Watch,
    enough: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = enough.cancelled() => return,
            changed = watch.changed() => if changed.is_none() {
                return;
            },
        }
        let paths = files.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || load_for_this_machine(&paths)).await else {
            continue;
        };
        let loaded = match read {
            Ok(loaded) => loaded,
            Err(problems) => {
                refused(&events, problems.iter().map(ToString::to_string));
                continue;
            }
        };
        if loaded.files == current.files {
            continue;
        }
        // An editor truncates before it writes: an empty file is more likely half an edit than a wish.
        let emptied: Vec<String> = loaded
            .empty_files
            .iter()
            .filter(|file| {
                !current.empty_files.contains(file) && current.files.iter().any(|f| f.path == **file)
            })
            .map(|file| format!("{}: it is empty; delete the file to remove its services", file.display()))
            .collect();
        if !emptied.is_empty() {
            refused(&events, emptied.into_iter());
            continue;
        }
        warn(&loaded);
        let changes = fleet.apply(loaded.services.clone()).await;
        current = loaded;
        let message = format!(
            "configuration read: {} added, {} changed, {} removed",
            changes.added, changes.changed, changes.removed
        );
        events.emit(Kind::Reloaded, None, message);
    }
}

fn refused(events: &Events, problems: impl Iterator<Item = String>) {
    let problems: Vec<String> = problems.collect();
    let all = problems.join("; ");
    events.emit(Kind::Refused, None, format!("the change is refused, the old configuration stays: {all}"));
}

fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
}

fn shown(config: &ServeConfig, listen: SocketAddr, admin: SocketAddr) -> serde_json::Value {
    let mut shown = serde_json::to_value(config).unwrap_or_default();
    shown["listen"] = listen.to_string().into();
    shown["admin"] = admin.to_string().into();
    shown
}
