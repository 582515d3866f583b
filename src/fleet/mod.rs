//! All services of this machine: takes a configuration, and makes what runs follow it.
//!
//! What flows in: validated specs. What flows out: routes to the activator, services to the autoscaler, a supervisor
//! and a port for each. A service that is gone from the configuration leaves the routes first, then finishes what it
//! has; a changed one is told, and rolls over by itself.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use prometheus::proto::MetricFamily;
use tokio::runtime::Handle as RuntimeHandle;
use tokio_util::task::TaskTracker;

use crate::activator::route::Routes;
use crate::activator::service::Service;
use crate::activator::wake::Wakeups;
use crate::activator::{Activator, ByPort};
use crate::autoscaler::{self, Managed};
use crate::config::spec::{ProcessSpec, ServiceKey, ServiceSpec, Workload};
use crate::drain::Drain;
use crate::events::{Events, Kind};
use crate::proxy::error::Refusal;
use crate::proxy::server::{self, Connections};
use crate::runtime::process::machine::Machine;
use crate::runtime::process::supervisor::Supervisor;

pub mod ports;

use ports::ServicePorts;

/// The services of this machine.
#[derive(Debug)]
pub struct Fleet {
    parts: Parts,
    members: ArcSwap<BTreeMap<ServiceKey, Member>>,
    /// Services that are gone from the configuration and finish what they have.
    leaving: TaskTracker,
}

/// What a fleet is made from.
#[derive(Debug)]
pub struct Parts {
    /// The data path.
    pub activator: Arc<Activator>,
    /// From the data path to the autoscaler.
    pub wakeups: Arc<Wakeups>,
    /// The control loop.
    pub autoscaler: autoscaler::Handle,
    /// What replicas share.
    pub machine: Arc<Machine>,
    /// What happens.
    pub events: Arc<Events>,
    /// Where listeners run.
    pub data: RuntimeHandle,
    /// Bounds all connections together.
    pub connections: Connections,
    /// Told when the program leaves.
    pub drain: Drain,
    /// The common port, for URLs.
    pub listen: SocketAddr,
    /// A port for each service.
    pub ports: ServicePorts,
}

/// One service, with the port of its own.
#[derive(Clone, Debug)]
pub struct Member {
    /// Everything that its control loop needs.
    pub managed: Arc<Managed>,
    /// Where any host reaches it.
    pub port: Option<SocketAddr>,
    listener: Drain,
}

/// What a new configuration changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Services that are new.
    pub added: usize,
    /// Services whose spec differs.
    pub changed: usize,
    /// Services that are gone.
    pub removed: usize,
}

// === impl Fleet ===

impl Fleet {
    /// No services yet.
    pub fn new(parts: Parts) -> Self {
        Self { parts, members: ArcSwap::default(), leaving: TaskTracker::new() }
    }

    /// The services there are.
    pub fn members(&self) -> Arc<BTreeMap<ServiceKey, Member>> {
        self.members.load_full()
    }

    /// The URL of a service on the common port. Of its own hosts the shortest: an `InferenceService`'s entry is
    /// shorter than its component's name.
    pub fn url(&self, service: &Service) -> String {
        let spec = service.spec();
        let own = format!(".{}.localhost", service.key.namespace);
        let host = spec.hosts.iter().filter(|host| host.ends_with(&own)).min_by_key(|host| host.len());
        let host = host.map_or("localhost", String::as_str);
        match self.parts.listen.port() {
            80 => format!("http://{host}"),
            port => format!("http://{host}:{port}"),
        }
    }

    /// Makes what runs follow `specs`. To be called by one at a time.
    pub async fn apply(&self, specs: Vec<ServiceSpec>) -> Changes {
        let mut changes = Changes::default();
        let before = self.members();
        let mut members = BTreeMap::new();
        let (mut added, mut changed) = (Vec::new(), Vec::new());
        let mut listeners = Vec::new();
        for spec in specs {
            let key = spec.key.clone();
            let spec = Arc::new(spec);
            if let Some(member) = before.get(&key) {
                if !member.managed.service.spec().is_same(&spec) {
                    member.managed.service.update(spec);
                    changed.push(key.clone());
                }
                members.insert(key, member.clone());
            } else {
                let (member, bound) = self.add(spec);
                listeners.extend(bound.map(|bound| (bound, member.clone())));
                added.push(key.clone());
                members.insert(key, member);
            }
        }
        let gone: Vec<Member> =
            before.iter().filter(|(key, _)| !members.contains_key(key)).map(|(_, m)| m.clone()).collect();
        let members = Arc::new(members);
        self.members.store(members.clone());
        // Before anything else: a new service must be found, a removed one must not.
        let services = members.values().map(|member| member.managed.service.clone());
        self.parts.activator.set_routes(Routes::new(services));
        self.parts.ports.save();
        for (bound, member) in listeners {
            self.listen(bound, &member);
        }
        for key in &added {
            let member = &members[key];
            self.parts.autoscaler.add(member.managed.clone()).await;
            let mut message = format!("loaded: {}", self.url(&member.managed.service));
            if let Some(port) = member.port {
                write!(message, " · http://{port}").expect("a String takes everything");
            }
            self.parts.events.emit(Kind::Loaded, Some(key), message);
            self.prepare(member);
        }
        for key in &changed {
            self.parts.events.emit(Kind::Changed, Some(key), "changed: takes the new configuration");
            members[key].managed.replicas.update();
            self.parts.autoscaler.update(key.clone()).await;
            self.prepare(&members[key]);
        }
        for member in gone {
            changes.removed += 1;
            self.remove(member).await;
        }
        Changes { added: added.len(), changed: changed.len(), ..changes }
    }

    /// How long what is in flight may take to end: the longest that any service allows.
    pub fn drain_bound(&self, unbounded: Duration) -> Duration {
        let members = self.members();
        let bounds = members.values().map(|member| match member.managed.service.spec().timeouts.drain {
            Duration::ZERO => unbounded,
            bound => bound,
        });
        bounds.max().unwrap_or(unbounded)
    }

    /// What is counted of requests that reached none of them.
    pub fn unrouted(&self) -> Vec<MetricFamily> {
        self.parts.activator.unrouted().collect()
    }

    /// Requests that execute or wait.
    pub fn load(&self) -> usize {
        let members = self.members();
        let lines = members.values().map(|member| &member.managed.service.line);
        lines.map(|line| line.in_flight() as usize + line.waiting()).sum()
    }

    /// Stops every replica. What is still in flight has had its time: nothing is waited for any more.
    pub async fn stop(&self) {
        self.parts.machine.cut();
        let members = self.members();
        let stops = members.values().map(|member| member.managed.replicas.stop());
        futures_util::future::join_all(stops).await;
        self.leaving.close();
        self.leaving.wait().await;
        // Builders of environments, and what nobody's replica owns up to.
        let swept = self.parts.machine.state.sweep().await;
        if !swept.is_empty() {
            tracing::info!("ended what replicas and builders had left: {swept}");
        }
    }

    /// Ends every process of every service now.
    pub async fn kill(&self) {
        self.parts.machine.state.sweep().await;
    }

    /// Makes a service's environment before its first start asks for it; stops when the service goes.
    fn prepare(&self, member: &Member) {
        let service = &member.managed.service;
        let spec = service.spec();
        let Workload::Process(ProcessSpec { python: Some(python), .. }) = &spec.workload else { return };
        let (machine, python, key) = (self.parts.machine.clone(), python.clone(), service.key.clone());
        let leaving = member.listener.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = leaving.begun() => {}
                made = machine.python_env(&python, &key) => if let Err(error) = made {
                    machine.events.emit(Kind::StartFailed, Some(&key), error.reason);
                },
            }
        });
    }

    /// A new service, and the socket of its own port, which nobody serves yet.
    fn add(&self, spec: Arc<ServiceSpec>) -> (Member, Option<TcpListener>) {
        let parts = &self.parts;
        let service = Arc::new(Service::new(spec, parts.wakeups.clone(), fastrand::u64(..)));
        let replicas = Supervisor::spawn(parts.machine.clone(), service.clone());
        let listener = parts.drain.part();
        let (bound, port) = match parts.ports.bind(&service.key) {
            Ok(Some((bound, address))) => (Some(bound), Some(address)),
            Ok(None) => (None, None),
            Err(error) => {
                tracing::warn!(service = %service.key, %error, "no port of its own; its host works");
                (None, None)
            }
        };
        let managed = Arc::new(Managed { service, replicas, decision: ArcSwapOption::empty() });
        (Member { managed, port, listener }, bound)
    }

    /// Serves a service's own port, once its route is there.
    fn listen(&self, bound: TcpListener, member: &Member) {
        let (parts, key) = (&self.parts, &member.managed.service.key);
        let handler = ByPort(parts.activator.clone(), key.clone());
        server::spawn(&parts.data, bound, handler, parts.connections.clone(), member.listener.clone());
        if let Some(address) = member.port {
            tracing::info!("listening on {address} ({key})");
        }
    }

    async fn remove(&self, member: Member) {
        let Managed { service, replicas, .. } = &*member.managed;
        self.parts.events.emit(Kind::Removed, Some(&service.key), "removed: finishes what it has");
        member.listener.begin();
        self.parts.autoscaler.remove(service.key.clone()).await;
        service.line.close(Refusal {
            reason: "the service was removed".into(),
            code: "removed",
            retry_after: Duration::from_secs(1),
        });
        let replicas = replicas.clone();
        self.leaving.spawn(async move { replicas.stop().await });
    }
}
