//! What a service is, after every default is filled in and every value is checked.
//!
//! The YAML readers (`config::scaled_service`, `inference`) produce these types; everything else consumes them.
//! A value of these types is sound: ranges hold, paths are absolute, names are DNS labels.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// Identity of a service: namespace and name, both DNS labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The namespace, `default` unless stated.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

/// One service that scales on request load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceSpec {
    /// Who it is.
    pub key: ServiceKey,
    /// The file and line that declared it.
    pub source: Source,
    /// What runs.
    pub workload: Workload,
    /// Where the app listens in a pod.
    pub port: u16,
    /// A second port for gRPC; 0 = gRPC goes to `port`.
    pub grpc_port: u16,
    /// What the app speaks.
    pub protocol: Protocol,
    /// Host names that reach it, lower case, without port: its own `NAME.NS.localhost` first, then `spec.hosts`.
    pub hosts: Vec<String>,
    /// Hard limit per replica.
    pub concurrency: Concurrency,
    /// What the activator may hold for it.
    pub buffer: Buffer,
    /// How to find out that a replica can serve.
    pub readiness: Probe,
    /// When to have how many replicas.
    pub scaling: Scaling,
    /// How long each stage of a request may take.
    pub timeouts: Timeouts,
    /// Rate limits.
    pub limits: Limits,
    /// Requests that never start a replica.
    pub no_wake: Vec<NoWake>,
    /// Which models it is, for requests that name one instead of a host.
    pub models: Models,
    /// How often a streaming request hears something while it waits for a replica; zero = never.
    #[serde(serialize_with = "seconds")]
    pub heartbeat: Duration,
}

/// Where an object was declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
}

/// What a replica is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Workload {
    /// A local process.
    Process(ProcessSpec),
    /// A Kubernetes object with a scale subresource.
    Target(TargetRef),
}

/// A local process: one replica is one process group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessSpec {
    /// Program and arguments, before `$(PORT)` is put in; never empty.
    pub command: Vec<String>,
    /// Added to the environment of `serve`; values may hold `$(PORT)`.
    pub env: Vec<(String, String)>,
    /// Absolute working directory.
    pub working_dir: PathBuf,
    /// A Python environment to make first, whose `bin` comes first in `PATH`.
    pub python: Option<PythonSpec>,
    /// Counted against the machine's budget.
    pub resources: Resources,
}

/// A Python environment, made once per distinct value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct PythonSpec {
    /// pip requirements, in the order given.
    pub requirements: Vec<String>,
    /// Acceptable versions of the interpreter, such as `>=3.9,<3.13`; empty = any Python 3.
    pub version: String,
}

/// Memory that one replica takes, in bytes; 0 = not declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// Main memory.
    pub memory: u64,
    /// Accelerator memory.
    pub device_memory: u64,
}

/// A Kubernetes object with a scale subresource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Name in the service's namespace.
    pub name: String,
}

/// What the app speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 with prior knowledge only.
    H2c,
    /// Found out once per replica.
    #[default]
    Auto,
}

/// Hard limit per replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Concurrency {
    /// Requests in flight at a replica; 0 = unlimited.
    pub limit: u32,
    /// Requests a queue-proxy may hold beyond that.
    pub queue: u32,
}

/// What the activator may hold for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Buffer {
    /// Waiting requests.
    pub requests: u32,
    /// Heads, read bodies and granted h2 windows of waiting requests.
    pub bytes: u64,
}

/// A readiness probe. `port: None` means the service's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// Ready when a GET answers 200–399.
    HttpGet {
        /// Path and query.
        path: String,
        /// Another port than the service's.
        port: Option<u16>,
        /// Headers to send.
        headers: Vec<(String, String)>,
    },
    /// Ready when a connection is accepted.
    TcpSocket {
        /// Another port than the service's.
        port: Option<u16>,
    },
    /// Ready when `grpc.health.v1.Health/Check` answers SERVING.
    Grpc {
        /// Another port than the service's.
        port: Option<u16>,
        /// The health service's name; may be empty.
        service: String,
    },
    /// Ready when the command exits 0.
    Exec {
        /// Program and arguments; never empty.
        command: Vec<String>,
    },
}

/// When to have how many replicas. The knobs mean what Knative's mean (reference/knative.md §3).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// Never fewer.
    pub min: u32,
    /// Never more; 0 = no bound of its own.
    pub max: u32,
    /// Replicas when the service is first loaded.
    pub initial: u32,
    /// Replicas of a start from zero at least; 1 = off.
    pub activation: u32,
    /// Which decision rule.
    pub policy: Policy,
    /// What is measured.
    pub metric: Metric,
    /// Load that one replica can take, before utilisation: the concurrency limit (100 when unlimited), 200 for rps.
    pub total: f64,
    /// Load per replica that is aimed at; at least 0.01.
    pub target: f64,
    /// Stable window.
    #[serde(serialize_with = "seconds")]
    pub window: Duration,
    /// Panic window.
    #[serde(serialize_with = "seconds")]
    pub panic_window: Duration,
    /// Factor over the ready replicas' capacity that starts a panic: 2.0 for `200%`.
    pub panic_threshold: f64,
    /// At most this factor up in one decision; above 1.
    pub max_up_rate: f64,
    /// At most this factor down in one decision; above 1.
    pub max_down_rate: f64,
    /// A lower count must have been right for this long.
    #[serde(serialize_with = "seconds")]
    pub scale_down_delay: Duration,
    /// Since the last request ended; the stable window must be empty too.
    #[serde(serialize_with = "seconds")]
    pub scale_to_zero_after: Duration,
    /// Spare capacity below which the activator is in the path; -1 = always.
    pub burst_capacity: i64,
    /// How the windows average.
    pub aggregation: Aggregation,
    /// What `policy: slo` aims at.
    pub slo: Slo,
}

/// Which decision rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Knative's pod autoscaler, decision for decision.
    #[default]
    Kpa,
    /// Sized for a waiting-time objective.
    Slo,
}

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Requests executing and queued.
    #[default]
    Concurrency,
    /// Requests per second.
    Rps,
}

/// How a window averages its buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// Every second counts the same.
    #[default]
    Linear,
    /// Later seconds count more.
    WeightedExponential,
}

/// What `policy: slo` aims at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Slo {
    /// Waiting time that shall not be passed…
    #[serde(serialize_with = "seconds")]
    pub wait: Duration,
    /// …by this share of requests, in percent.
    pub percentile: f64,
}

/// How long each stage of a request may take; zero = no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// Waiting for a replica; also how long one start may take.
    #[serde(serialize_with = "seconds")]
    pub activation: Duration,
    /// From the request sent to the response's head.
    #[serde(serialize_with = "seconds")]
    pub response_start: Duration,
    /// Without a byte in either direction.
    #[serde(serialize_with = "seconds")]
    pub idle: Duration,
    /// The whole request.
    #[serde(serialize_with = "seconds")]
    pub request: Duration,
    /// For what is in flight when a replica leaves.
    #[serde(serialize_with = "seconds")]
    pub drain: Duration,
}

/// Rate limits in requests per second; 0 = none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// For the service.
    pub rate: f64,
    /// Requests that may come at once; 0 = one second's worth.
    pub burst: u32,
    /// The header that names the tenant, lower case; empty = no tenants.
    pub tenant_header: String,
    /// For each tenant.
    pub tenant_rate: f64,
}

/// A request that matches is answered 503 at zero, without a start. All stated fields must match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NoWake {
    /// The exact path, or a prefix when it ends in `*`.
    pub path: Option<String>,
    /// The user agent, or a prefix when it ends in `*`.
    pub user_agent: Option<String>,
}

/// The names by which requests on the shared host mean a service. `NAMESPACE/OWN` always works, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Models {
    /// The object's name, which other namespaces may have as well. Only counts while nothing is claimed.
    pub own: String,
    /// `spec.models`: nobody else has them.
    pub claimed: Vec<String>,
}

/// A replica's addresses once it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// HTTP, and gRPC when there is no port of its own for it.
    pub http: SocketAddr,
    /// gRPC, when the app has a second port.
    pub grpc: Option<SocketAddr>,
}

fn seconds<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(d.as_secs_f64())
}

// === impl ServiceKey ===

impl ServiceKey {
    /// A key of these two DNS labels.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for ServiceKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

// === impl Models ===

impl Models {
    /// Only the object's name.
    #[must_use]
    pub fn own(name: &str) -> Self {
        Self { own: name.to_owned(), claimed: Vec::new() }
    }
}

// === impl ServiceSpec ===

impl ServiceSpec {
    /// Whether `other` is the same but for its place in a file: a comment above it is no reason to roll it over.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let moved = || Self { source: other.source.clone(), ..self.clone() };
        if self.source == other.source { self == other } else { moved() == *other }
    }
}

impl ServiceSpec {
    /// Whether replicas of `other` are replicas of this: what runs, and how it is spoken to, is the same. Limits and
    /// scaling may differ.
    #[must_use]
    pub fn runs_as(&self, other: &Self) -> bool {
        self.workload == other.workload
            && self.readiness == other.readiness
            && self.protocol == other.protocol
            && (self.grpc_port > 0) == (other.grpc_port > 0)
    }
}

// === impl Scaling ===

impl Scaling {
    /// `max`, with 0 meaning no bound.
    #[must_use]
    pub fn ceiling(&self) -> u32 {
        if self.max == 0 { u32::MAX } else { self.max }
    }
}
