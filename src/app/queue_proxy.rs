//! `pilotlight queue-proxy`: the sidecar.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;

use super::signals::Signals;
use super::thread::DataThread;
use super::{EXIT_FORCED, bind, limits};
use crate::admin;
use crate::admin::metrics;
use crate::admin::queue_proxy::QueueProxyState;
use crate::config::flags::QueueProxyConfig;
use crate::config::spec::{
    Addresses, Buffer, Models, Scaling, ServiceKey, ServiceSpec, Source, TargetRef, Timeouts, Workload,
};
use crate::drain::Drain;
use crate::proxy::server;
use crate::queue_proxy::QueueProxy;
use crate::telemetry;

/// Runs until it is told to leave.
pub fn run(config: QueueProxyConfig) -> anyhow::Result<ExitCode> {
    telemetry::init(config.log);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: QueueProxyConfig) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::take()?;
    let connections = limits::connections(config.connections, 2);
    let traffic = bind(config.listen, "--listen")?;
    let admin_listener = bind(config.admin, "--admin")?;
    let (listen, admin_address) = (traffic.local_addr()?, admin_listener.local_addr()?);

    let drain = Drain::new();
    let data = DataThread::start()?;
    let proxy = Arc::new(QueueProxy::new(
        spec(&config),
        Addresses { http: config.app, grpc: config.grpc_app },
        config.readiness_period,
    ));
    let admin_drain = Drain::new();
    let router = admin::queue_proxy::router(state(&proxy, &drain));
    let admin_listener = TcpListener::from_std(admin_listener)?;
    let admin = tokio::spawn(admin::server::serve(admin_listener, router, admin_drain.clone()));
    tracing::info!("listening on {admin_address} (admin)");
    let handler = proxy.handler(drain.clone());
    server::spawn(data.handle(), traffic, handler, connections, drain.clone());
    tracing::info!("listening on {listen} (traffic)");
    let watched = proxy.clone();
    tokio::spawn(async move { tokio::join!(watched.watch(), watched.measure()) });

    let signal = signals.next().await;
    tracing::info!("{signal}: finishing what is in flight; once more ends at once");
    // At once: not ready. The rest when whoever sends has had time to hear of it.
    drain.announce();
    tokio::select! {
        biased;
        () = leave(&config, &drain, &proxy) => {}
        signal = signals.next() => {
            tracing::warn!("{signal} again: ending at once");
            return Ok(ExitCode::from(EXIT_FORCED));
        }
    }
    admin_drain.begin();
    let _ = admin.await;
    Ok(ExitCode::SUCCESS)
}

/// Finishes what there is, and comes back as soon as that is done.
async fn leave(config: &QueueProxyConfig, drain: &Drain, proxy: &QueueProxy) {
    let bound = match config.drain_timeout {
        Duration::ZERO => super::LONGEST_DRAIN,
        bound => bound,
    };
    let line = &proxy.service().line;
    let orderly = async {
        if config.drain_quiet > Duration::ZERO {
            drain.quiet(config.drain_quiet).await;
        }
        drain.begin();
        drain.finished().await;
    };
    if tokio::time::timeout(bound, orderly).await.is_err() {
        drain.begin();
        super::cut_off(drain, line.in_flight() as usize + line.waiting(), bound).await;
    }
}

/// What the admin port shows.
fn state(proxy: &Arc<QueueProxy>, drain: &Drain) -> QueueProxyState {
    let (ready, service) = (proxy.ready(), proxy.service().clone());
    let stat = proxy.clone();
    let meter = service.meter.clone();
    QueueProxyState {
        ready: Arc::new(move || ready.load(Ordering::Acquire)),
        drain: drain.clone(),
        in_flight: Arc::new(move || meter.current()),
        stat: Arc::new(move || stat.stat()),
        metrics: Arc::new(move || {
            service.metrics.collect().into_iter().chain(metrics::of_line(&service)).collect()
        }),
    }
}

/// The app as the one service that there is.
fn spec(config: &QueueProxyConfig) -> ServiceSpec {
    ServiceSpec {
        key: ServiceKey::new("local", "app"),
        source: Source { file: "the command line".into(), line: 0 },
        workload: Workload::Target(TargetRef {
            api_version: String::new(),
            kind: String::new(),
            name: config.app.to_string(),
        }),
        port: config.app.port(),
        grpc_port: config.grpc_app.map_or(0, |addr| addr.port()),
        protocol: config.protocol,
        hosts: Vec::new(),
        concurrency: config.concurrency,
        buffer: Buffer { requests: config.concurrency.queue, ..Buffer::default() },
        readiness: config.readiness.clone(),
        scaling: Scaling::default(),
        timeouts: Timeouts {
            response_start: config.response_start_timeout,
            idle: config.idle_timeout,
            request: config.request_timeout,
            drain: config.drain_timeout,
            ..Timeouts::default()
        },
        limits: config.limits.clone(),
        no_wake: Vec::new(),
        models: Models::own("app"),
        heartbeat: Duration::ZERO,
    }
}
