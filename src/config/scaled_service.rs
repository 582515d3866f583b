//! `ScaledService` (`pilotlight.dev/v1alpha1`) → [`ServiceSpec`].

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::annotations;
use super::decode::{At, Field, Fields};
use super::heartbeat;
use super::meta::Meta;
use super::models;
use super::names::{self, HOST_FORM, LABEL_FORM, PYTHON_VERSION_FORM};
use super::node::{Node, Value};
use super::probe;
use super::problem::{Pos, Sink};
use super::quantity::{DURATION_MAX, SIZE_MAX};
use super::scaling::Knobs;
use super::spec::{
    Buffer, Concurrency, Limits, Models, NoWake, Probe, ProcessSpec, Protocol, PythonSpec, Resources,
    ServiceSpec, TargetRef, Timeouts, Workload,
};

/// The apiVersion.
pub const API_VERSION: &str = "pilotlight.dev/v1alpha1";
/// The kind.
pub const KIND: &str = "ScaledService";
/// Where the app listens in a pod when nothing is said.
pub const DEFAULT_PORT: u16 = 8080;
/// `concurrency.limit`; 0 = unlimited.
pub const LIMIT: RangeInclusive<u32> = 0..=1_000_000;
/// `concurrency.queue`.
pub const QUEUE: RangeInclusive<u32> = 0..=1_000_000;
/// `buffer.requests`.
pub const BUFFER_REQUESTS: RangeInclusive<u32> = 1..=10_000_000;
/// `buffer.bytes`.
pub const BUFFER_BYTES: RangeInclusive<u64> = 1..=SIZE_MAX;
/// Every timeout; 0 = none.
pub const TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=DURATION_MAX;
/// Rates in requests per second.
pub const RATE: RangeInclusive<f64> = 0.0..=1e9;
/// Host names of one service.
pub const HOSTS_MAX: usize = 64;
/// `noWake` rules of one service: each is compared with every request at zero.
pub const NO_WAKE_MAX: usize = 64;

/// A service and where the parts of it stand that can clash with another's.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The service.
    pub spec: ServiceSpec,
    /// Where its name stands.
    pub name_pos: Pos,
    /// The hosts that it claims.
    pub claimed: Vec<At<String>>,
    /// The names of models that it claims.
    pub models: Vec<At<String>>,
}

/// Reads one object whose kind and apiVersion are already known to be these. Every problem goes to `sink`;
/// `None` when there is nothing to read.
pub fn read(object: &Node, sink: &Sink) -> Option<Declared> {
    let top = Fields::new(object, "", sink);
    top.ignore(&["apiVersion", "kind", "status"]);
    let meta = Meta::read(&top);
    let spec_field = top.require("spec", "a map with `process` or `target`");
    top.finish();
    let spec_field = spec_field?;
    let f = spec_field.fields();
    let process = f.take("process").map(|v| process(&v, sink));
    let target = f.take("target").map(|v| target(&v));
    if process.is_none() && target.is_none() && matches!(spec_field.node.value, Value::Map(_)) {
        spec_field.problem(
            "neither process nor target",
            "`process` (a command, one machine) or `target` (a Kubernetes object), or both",
        );
    }
    let port = f.take("port").and_then(|v| v.port(1)).unwrap_or(DEFAULT_PORT);
    let grpc_port = f.take("grpcPort").and_then(|v| grpc_port(&v, port)).unwrap_or(0);
    let concurrency = f.fields("concurrency").map(concurrency).unwrap_or_default();
    let knobs = f.fields("scaling").map(|s| {
        let knobs = Knobs::read(&s);
        s.finish();
        knobs
    });
    let knobs = knobs.unwrap_or_default().over(annotations::read(&meta.annotations, sink));
    let protocol = f.take("protocol").and_then(|v| protocol(&v)).unwrap_or_default();
    let readiness = f.take("readiness").and_then(|v| probe::read(&v, port, &|_| None));
    let mut hosts = own_hosts(&meta.key.namespace, &[&*meta.key.name]);
    let claimed = f.take("hosts").map(|v| claimed_hosts(&v)).unwrap_or_default();
    hosts.extend(claimed.iter().map(|h| h.value.clone()));
    let models = f.take("models").map(|v| models::claimed(&v)).unwrap_or_default();
    let heartbeat = f.take("heartbeat").and_then(|v| heartbeat::read(&v)).unwrap_or_default();
    let spec = ServiceSpec {
        source: meta.source(sink, object),
        port,
        grpc_port,
        protocol,
        hosts,
        concurrency,
        buffer: f.fields("buffer").map(buffer).unwrap_or_default(),
        readiness: readiness.unwrap_or(Probe::TcpSocket { port: None }),
        scaling: knobs.resolve(concurrency.limit, sink),
        timeouts: f.fields("timeouts").map(timeouts).unwrap_or_default(),
        limits: f.fields("limits").map(limits).unwrap_or_default(),
        no_wake: f.take("noWake").map(|v| no_wake(&v)).unwrap_or_default(),
        models: Models {
            own: meta.key.name.to_string(),
            claimed: models.iter().map(|m| m.value.clone()).collect(),
        },
        heartbeat,
        // On one machine the process wins: the same YAML works in both places.
        workload: match (process.flatten(), target.flatten()) {
            (Some(p), _) => Workload::Process(p),
            (None, Some(t)) => Workload::Target(t),
            (None, None) => Workload::Target(TargetRef::default()),
        },
        key: meta.key,
    };
    f.finish();
    Some(Declared { spec, name_pos: meta.pos, claimed, models })
}

/// The hosts that every service has: on one machine's loopback name first, then the cluster's, for each entry name.
pub fn own_hosts(namespace: &str, names: &[&str]) -> Vec<String> {
    let of = |domain: &'static str| names.iter().map(move |name| format!("{name}.{namespace}.{domain}"));
    of("localhost").chain(of("svc.cluster.local")).collect()
}

/// `Http1`, `H2c` or `Auto`.
pub fn protocol(v: &Field<'_>) -> Option<Protocol> {
    v.choice(&[("http1", Protocol::Http1), ("h2c", Protocol::H2c), ("auto", Protocol::Auto)])
}

/// `path` made absolute, relative to `folder`.
pub fn absolute(folder: &Path, path: &str) -> PathBuf {
    // The folder of a bare file name is the empty path, and means here.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let joined = if path.is_empty() { folder.to_path_buf() } else { folder.join(path) };
    // Only fails without a working directory; then the path itself says more than an error.
    std::path::absolute(&joined).unwrap_or(joined)
}

fn process(v: &Field<'_>, sink: &Sink) -> Option<ProcessSpec> {
    let f = v.fields();
    let command = f.require("command", "a list: program and arguments").and_then(|c| c.command());
    let env = f.take("env").map(|e| env(&e)).unwrap_or_default();
    let working_dir = match f.take("workingDir") {
        None => Some(absolute(sink.folder(), "")),
        Some(v) => v.nonempty().and_then(|text| {
            let path = absolute(sink.folder(), text);
            if path.is_dir() {
                return Some(path);
            }
            v.problem(
                format!("no such folder: {}", path.display()),
                "a folder, absolute or relative to this file",
            );
            None
        }),
    };
    let python = f.take("python").map(|v| python(&v));
    let resources = f.fields("resources").map(resources).unwrap_or_default();
    f.finish();
    Some(ProcessSpec {
        command: command?,
        env,
        working_dir: working_dir?,
        python: python.flatten(),
        resources,
    })
}

fn env(v: &Field<'_>) -> Vec<(String, String)> {
    let good = |(name, value): (&str, Field<'_>)| {
        let text = value.text()?;
        if !names::is_variable(name) {
            value.problem(format!("the variable name {name:?}"), "a name without =, blanks and NUL");
        }
        if text.contains('\0') {
            return value.wrong("a text without NUL");
        }
        Some((name.to_owned(), text.to_owned()))
    };
    v.text_map().into_iter().filter_map(good).collect()
}

fn python(v: &Field<'_>) -> Option<PythonSpec> {
    let f = v.fields();
    let requirements = f.require("requirements", "a list of pip requirements, such as [mlserver==1.7.1]");
    let requirements: Vec<String> =
        requirements.map(|r| r.list()).unwrap_or_default().iter().filter_map(requirement).collect();
    let version = match f.take("version") {
        None => Some(String::new()),
        Some(v) => v.text().and_then(|t| names::python_version(t).or_else(|| v.wrong(PYTHON_VERSION_FORM))),
    };
    f.finish();
    Some(PythonSpec { requirements, version: version? })
}

fn requirement(v: &Field<'_>) -> Option<String> {
    let text = v.nonempty()?.trim();
    let good = !text.is_empty() && !text.chars().any(char::is_control);
    if good { Some(text.to_owned()) } else { v.wrong("a pip requirement on one line") }
}

fn resources(f: Fields<'_>) -> Resources {
    let size = |name| f.take(name).and_then(|v| v.size(0..=SIZE_MAX)).unwrap_or(0);
    let resources = Resources { memory: size("memory"), device_memory: size("deviceMemory") };
    f.finish();
    resources
}

fn target(v: &Field<'_>) -> Option<TargetRef> {
    let f = v.fields();
    let text = |name, allowed| f.require(name, allowed).and_then(|v| v.nonempty().map(str::to_owned));
    let (api_version, kind) = (text("apiVersion", "such as apps/v1"), text("kind", "such as Deployment"));
    let name = f.require("name", LABEL_FORM).and_then(|v| {
        let text = v.text()?;
        if names::is_label(text) { Some(text.to_owned()) } else { v.wrong(LABEL_FORM) }
    });
    f.finish();
    Some(TargetRef { api_version: api_version?, kind: kind?, name: name? })
}

fn grpc_port(v: &Field<'_>, port: u16) -> Option<u16> {
    let grpc = v.port(0)?;
    if grpc == port { v.wrong("another port than `port`; 0 = gRPC goes to `port` too") } else { Some(grpc) }
}

fn claimed_hosts(v: &Field<'_>) -> Vec<At<String>> {
    let items = v.list();
    let mut hosts: Vec<At<String>> = Vec::new();
    if items.len() > HOSTS_MAX {
        v.problem(format!("{} hosts", items.len()), format!("at most {HOSTS_MAX}"));
    }
    for item in items {
        let Some(text) = item.text() else { continue };
        match names::host(text) {
            None => item.wrong::<()>(HOST_FORM).unwrap_or_default(),
            Some(host) if hosts.iter().any(|h| h.value == host) => {
                item.problem(format!("{host} twice"), "each host once");
            }
            Some(host) => match names::reserved(&host) {
                Some(domain) => item.problem(
                    format!("{host} cannot be claimed"),
                    format!(
                        "a host that is not {domain} or below it; NAME.NAMESPACE.localhost is there by itself"
                    ),
                ),
                None => hosts.push(item.at(host)),
            },
        }
    }
    hosts
}

fn concurrency(f: Fields<'_>) -> Concurrency {
    let d = Concurrency::default();
    let concurrency = Concurrency {
        limit: f.take("limit").and_then(|v| v.whole(LIMIT)).unwrap_or(d.limit),
        queue: f.take("queue").and_then(|v| v.whole(QUEUE)).unwrap_or(d.queue),
    };
    f.finish();
    concurrency
}

fn buffer(f: Fields<'_>) -> Buffer {
    let d = Buffer::default();
    let buffer = Buffer {
        requests: f.take("requests").and_then(|v| v.whole(BUFFER_REQUESTS)).unwrap_or(d.requests),
        bytes: f.take("bytes").and_then(|v| v.size(BUFFER_BYTES)).unwrap_or(d.bytes),
    };
    f.finish();
    buffer
}

fn timeouts(f: Fields<'_>) -> Timeouts {
    let d = Timeouts::default();
    let timeout = |name, default| f.take(name).and_then(|v| v.duration(TIMEOUT)).unwrap_or(default);
    let timeouts = Timeouts {
        activation: timeout("activation", d.activation),
        response_start: timeout("responseStart", d.response_start),
        idle: timeout("idle", d.idle),
        request: timeout("request", d.request),
        drain: timeout("drain", d.drain),
    };
    f.finish();
    timeouts
}

fn limits(f: Fields<'_>) -> Limits {
    let rate = |name| f.take(name).and_then(|v| v.number(RATE)).unwrap_or(0.0);
    let header = f.take("tenantHeader");
    let tenant_header = header.as_ref().and_then(|v| {
        let text = v.text()?;
        let good = text.is_empty() || names::is_header(text);
        if good {
            Some(text.to_ascii_lowercase())
        } else {
            v.wrong("a header's name, or \"\" for no tenants")
        }
    });
    let limits = Limits {
        rate: rate("rate"),
        burst: f.take("burst").and_then(|v| v.whole(0..=1_000_000_000)).unwrap_or(0),
        tenant_header: tenant_header.unwrap_or_default(),
        tenant_rate: rate("tenantRate"),
    };
    if limits.tenant_rate > 0.0
        && limits.tenant_header.is_empty()
        && let Some(v) = f.take("tenantRate")
    {
        v.problem("a rate per tenant without tenantHeader", "tenantHeader too, or 0");
    }
    f.finish();
    limits
}

fn no_wake(v: &Field<'_>) -> Vec<NoWake> {
    let items = v.list();
    if items.len() > NO_WAKE_MAX {
        v.problem(format!("{} rules", items.len()), format!("at most {NO_WAKE_MAX}"));
    }
    let mut rules = Vec::new();
    for item in items {
        let f = item.fields();
        let path = f.take("path").and_then(|p| {
            let text = p.text()?;
            if text.starts_with('/') { Some(text.to_owned()) } else { p.wrong("a path that begins with /") }
        });
        let user_agent = f.take("userAgent").and_then(|u| u.nonempty().map(str::to_owned));
        if !f.has("path") && !f.has("userAgent") {
            item.problem("a rule that says nothing", "path, userAgent or both");
        }
        f.finish();
        rules.push(NoWake { path, user_agent });
    }
    rules
}
