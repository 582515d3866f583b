//! The hosts: an activator, two queue-proxies, an app behind each.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use turmoil::Sim;

use super::story::Story;
use super::traffic::{self, Http};
use crate::activator::route::Routes;
use crate::activator::service::Service;
use crate::activator::wake::Wakeups;
use crate::activator::{Activator, ByPort};
use crate::admin::tests::spec;
use crate::clock;
use crate::config::spec::{Addresses, Probe, Protocol, ServiceSpec, Timeouts};
use crate::drain::Drain;
use crate::net::TcpListener;
use crate::policy::dispatch::ReplicaId;
use crate::policy::ejection::Ejections;
use crate::probe::{ExecContext, Prober};
use crate::proxy::endpoint::Endpoint;
use crate::proxy::guarded::Patience;
use crate::proxy::places::Places;
use crate::proxy::server::{self, Connections};
use crate::queue_proxy::QueueProxy;

pub(super) const PROXIES: [&str; 2] = ["proxy-1", "proxy-2"];
pub(super) const APPS: [&str; 2] = ["app-1", "app-2"];
pub(super) const TRAFFIC: u16 = 8012;
const APP: u16 = 8080;
/// Slots of one replica.
pub(super) const LIMIT: u32 = 4;
/// Longer than messages are held, and far below the client's patience.
const RESPONSE_START: Duration = Duration::from_secs(4);
const IDLE: Duration = Duration::from_secs(4);
/// More than all faults together and the requests in line behind them.
const LONGEST: Duration = Duration::from_mins(5);

type Act = Box<dyn FnOnce(&mut Sim<'static>)>;

/// A simulation and what is to happen in it.
pub(super) struct Stage {
    sim: Sim<'static>,
    story: Story,
    acts: Vec<(Duration, Act)>,
}

// === impl Stage ===

impl Stage {
    /// All hosts, on a network with some latency.
    pub(super) fn new(seed: u64) -> Self {
        // The choice among replicas and pauses are the product's own randomness.
        fastrand::seed(seed);
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(LONGEST)
            .tick_duration(Duration::from_millis(5))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(20))
            .tcp_capacity(1024)
            .build();
        let story = Story::default();
        for (name, proxy) in APPS.into_iter().zip(PROXIES) {
            let told = story.clone();
            sim.host(name, move || app(name, told.clone()));
            let told = story.clone();
            sim.host(proxy, move || queue_proxy(name, told.clone()));
        }
        let told = story.clone();
        sim.host("activator", move || activator(told.clone()));
        Self { sim, story, acts: Vec::new() }
    }

    /// `clients` of each protocol that send `requests` each, one after the other.
    pub(super) fn clients(&mut self, protocols: &[Http], clients: usize, requests: usize) {
        let (story, protocols) = (self.story.clone(), protocols.to_vec());
        self.sim.client("client", traffic::all(story, protocols, clients, requests));
    }

    /// Something is done to the simulation at that time.
    pub(super) fn at(&mut self, time: Duration, act: impl FnOnce(&mut Sim<'static>) + 'static) {
        self.acts.push((time, Box::new(act)));
    }

    /// Until all clients have their answers and nothing is in flight.
    pub(super) fn run(mut self) -> Story {
        let mut acts = self.acts.into_iter().peekable();
        loop {
            while let Some((_, act)) = acts.next_if(|(at, _)| *at <= self.sim.elapsed()) {
                act(&mut self.sim);
            }
            // Past the longest it fails, and the story says who waits.
            match self.sim.step() {
                Ok(false) => {}
                Ok(true) => return self.story,
                Err(error) => panic!("{error}; {}; {}", self.story, self.story.wrong().join("\n")),
            }
        }
    }
}

/// Of the service on either hop.
fn service_spec() -> ServiceSpec {
    let mut spec = spec("app", &["unused"]);
    spec.protocol = Protocol::Auto;
    spec.concurrency.limit = LIMIT;
    spec.readiness = Probe::TcpSocket { port: None };
    let second = Duration::from_secs(1);
    spec.timeouts =
        Timeouts { activation: 60 * second, response_start: RESPONSE_START, idle: IDLE, ..spec.timeouts };
    spec
}

fn address(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(turmoil::lookup(host), port)
}

async fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
}

fn connections() -> Connections {
    let second = Duration::from_secs(1);
    Connections { places: Places::new(1000), patience: Patience { header: 30 * second, rest: 60 * second } }
}

async fn activator(story: Story) -> turmoil::Result {
    let drain = Drain::new();
    let service =
        Arc::new(Service::new(Arc::new(service_spec()), Arc::new(Wakeups::default()), fastrand::u64(..)));
    story.has(&service);
    for (n, proxy) in PROXIES.into_iter().enumerate() {
        tokio::spawn(replica(service.clone(), n as ReplicaId, address(proxy, TRAFFIC)));
    }
    let activator = Activator::new(drain.clone());
    activator.set_routes(Routes::new([service.clone()]));
    let handler = ByPort(Arc::new(activator), service.key.clone());
    server::serve(listen(TRAFFIC).await?, handler, connections(), drain).await;
    Ok(())
}

/// Keeps a replica in the line while it is well, as the runtime does for a process.
async fn replica(service: Arc<Service>, id: ReplicaId, address: SocketAddr) {
    let addresses = Addresses { http: address, grpc: None };
    let exec = ExecContext { env: Vec::new(), working_dir: "/".into() };
    let prober = Prober::new(&service.spec().readiness, addresses, exec);
    let mut ejections = Ejections::default();
    loop {
        let now = clock::now();
        if prober.until_ready(now, now + LONGEST).await.is_err() {
            continue;
        }
        let now = clock::now();
        let endpoint = Arc::new(Endpoint::new(id, addresses, Protocol::Auto, LIMIT as usize, now, now));
        service.line.join(id, endpoint.clone());
        endpoint.suspected().await;
        service.leave(id);
        tokio::time::sleep(ejections.next(endpoint.has_answered(), fastrand::u64(..))).await;
    }
}

async fn queue_proxy(app: &'static str, story: Story) -> turmoil::Result {
    let drain = Drain::new();
    let addresses = Addresses { http: address(app, APP), grpc: None };
    let proxy = Arc::new(QueueProxy::new(service_spec(), addresses, Duration::from_secs(1)));
    story.has(proxy.service());
    let handler = proxy.handler(drain.clone());
    tokio::spawn(async move { proxy.watch().await });
    server::serve(listen(TRAFFIC).await?, handler, connections(), drain).await;
    Ok(())
}

/// Echoes a POST once it is whole; answers a GET with [`traffic::PIECES`] piece by piece.
async fn app(name: &'static str, story: Story) -> turmoil::Result {
    let listener = listen(APP).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let story = story.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            let story = story.clone();
            async move {
                let id = request.headers()["x-request-id"].to_str().expect("a test's own id").to_owned();
                story.executed(&id, name);
                answer(request).await
            }
        });
        tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<UnsyncBoxBody<Bytes, hyper::Error>>, hyper::Error> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    if request.method() == Method::POST {
        let body = request.into_body().collect().await?.to_bytes();
        return Ok(Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync()));
    }
    let pieces = stream::unfold(0, |n| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        (n < traffic::PIECES).then(|| (Ok(Frame::data(traffic::piece(n))), n + 1))
    });
    Ok(Response::new(StreamBody::new(pieces).boxed_unsync()))
}
