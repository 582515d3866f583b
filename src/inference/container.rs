//! A container as one machine sees it: what runs, with which variables, on which ports.

use crate::config::decode::{Field, Fields};
use crate::config::names::is_variable;
use crate::config::probe;
use crate::config::quantity::SIZE_MAX;
use crate::config::scaled_service::DEFAULT_PORT;
use crate::config::spec::{Probe, Protocol};

/// The container that serves, when there are several.
pub const SERVING_CONTAINER: &str = "kserve-container";

const IGNORED: [&str; 14] = [
    "workingDir",
    "envFrom",
    "volumeMounts",
    "volumeDevices",
    "livenessProbe",
    "startupProbe",
    "lifecycle",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
    "resizePolicy",
];

/// The fields of a `PodSpec` that have no meaning for a local process.
pub const POD_FIELDS: [&str; 33] = [
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "hostname",
    "imagePullSecrets",
    "initContainers",
    "nodeName",
    "nodeSelector",
    "os",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "shareProcessNamespace",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
];

/// What a warning about fields without effect begins with.
pub const NO_EFFECT: &str = "no effect on one machine";

/// A container, or the container's part of a predictor's `model`.
#[derive(Clone)]
pub struct Container<'a> {
    /// Its name; empty in a `model`.
    pub name: String,
    /// The program and first arguments; empty when not stated.
    pub command: Vec<String>,
    /// Further arguments.
    pub args: Vec<String>,
    /// Variables.
    pub env: Vec<(String, String)>,
    /// Ports that it listens on.
    pub ports: Vec<Port>,
    /// What a replica takes: `requests.memory`, else `limits.memory`; 0 = not stated.
    pub memory: u64,
    /// Its readiness probe, read again once the ports are known.
    pub readiness: Option<Field<'a>>,
    /// Where it stands, for problems that show later.
    pub place: Field<'a>,
}

/// A container's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name; may be empty.
    pub name: String,
    /// Its number.
    pub number: u16,
}

/// The ports by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// HTTP, and gRPC too unless `grpc` is set.
    pub main: u16,
    /// gRPC; 0 = on `main`.
    pub grpc: u16,
    /// What `main` speaks.
    pub protocol: Protocol,
}

// === impl Container ===

impl<'a> Container<'a> {
    /// Reads the container's fields of `f`, of which others may be read elsewhere. Does not finish it.
    pub fn read(f: &Fields<'a>, place: &Field<'a>) -> Self {
        f.ignore(&["image", "imagePullPolicy"]);
        f.ignore_with_warning(&IGNORED, NO_EFFECT);
        let ports = f.take("ports").map(|p| ports(&p)).unwrap_or_default();
        let texts = |name| f.take(name).map(|v| v.texts()).unwrap_or_default();
        Self {
            name: f.take("name").and_then(|n| n.text().map(str::to_owned)).unwrap_or_default(),
            command: texts("command"),
            args: texts("args"),
            env: f.take("env").map(|e| env(&e)).unwrap_or_default(),
            ports,
            memory: f.fields("resources").map(memory).unwrap_or_default(),
            readiness: f.take("readinessProbe"),
            place: place.clone(),
        }
    }

    /// Reads a whole container.
    pub fn read_whole(place: &Field<'a>) -> Self {
        let f = place.fields();
        let container = Self::read(&f, place);
        f.finish();
        container
    }

    /// This container with what `over` (a predictor's `model`) says on top: as in KServe, its arguments are
    /// added, its variables replace those of the same name, anything else replaces.
    #[must_use]
    pub fn with(&self, over: &Self) -> Self {
        let mut merged = self.clone();
        let replace = |base: &mut Vec<String>, new: &Vec<String>| {
            if !new.is_empty() {
                base.clone_from(new);
            }
        };
        replace(&mut merged.command, &over.command);
        merged.args.extend(over.args.iter().cloned());
        for (name, value) in &over.env {
            match merged.env.iter_mut().find(|(n, _)| n == name) {
                Some(old) => old.1.clone_from(value),
                None => merged.env.push((name.clone(), value.clone())),
            }
        }
        if !over.ports.is_empty() {
            merged.ports.clone_from(&over.ports);
        }
        if over.memory > 0 {
            merged.memory = over.memory;
        }
        if over.readiness.is_some() {
            merged.readiness.clone_from(&over.readiness);
        }
        merged
    }

    /// Which port is for what: the first that is not gRPC's is the main one.
    pub fn ports(&self) -> Ports {
        let is_grpc =
            |p: &&Port| ["grpc", "h2c"].iter().any(|n| p.name.starts_with(n)) || p.is_usual_for_grpc();
        let http = self.ports.iter().find(|p| !is_grpc(p));
        let grpc = self.ports.iter().find(is_grpc);
        match (http, grpc) {
            (None, None) => Ports { main: DEFAULT_PORT, grpc: 0, protocol: Protocol::Auto },
            (Some(h), None) => Ports { main: h.number, grpc: 0, protocol: Protocol::Auto },
            (Some(h), Some(g)) => Ports { main: h.number, grpc: g.number, protocol: Protocol::Auto },
            // Knative's rule: a port named h2c is all that there is.
            (None, Some(g)) if !g.name.is_empty() => {
                Ports { main: g.number, grpc: 0, protocol: Protocol::H2c }
            }
            (None, Some(g)) => Ports { main: g.number, grpc: 0, protocol: Protocol::Auto },
        }
    }

    /// Its readiness probe, if it has a sound one.
    pub fn probe(&self) -> Option<Probe> {
        let named = |name: &str| self.ports.iter().find(|p| p.name == name).map(|p| p.number);
        probe::read(self.readiness.as_ref()?, self.ports().main, &named)
    }
}

// === impl Port ===

impl Port {
    /// Ports without a name that model servers use for gRPC.
    fn is_usual_for_grpc(&self) -> bool {
        self.name.is_empty() && matches!(self.number, 8081 | 8001 | 9000 | 9001)
    }
}

fn ports(v: &Field<'_>) -> Vec<Port> {
    let mut ports = Vec::new();
    for item in v.list() {
        let f = item.fields();
        let number = f.require("containerPort", "a port from 1 to 65535").and_then(|p| p.port(1));
        let name = f.take("name").and_then(|n| n.text().map(str::to_owned)).unwrap_or_default();
        f.ignore(&["protocol", "hostPort", "hostIP"]);
        f.finish();
        ports.extend(number.map(|number| Port { name, number }));
    }
    ports
}

/// Other resources (cpu, GPUs by name) are the cluster's business.
fn memory(resources: Fields<'_>) -> u64 {
    let of = |list: &'static str| {
        resources.take(list).and_then(|l| {
            let (_, memory) = l.quantity_map().into_iter().find(|(name, _)| *name == "memory")?;
            memory.size(0..=SIZE_MAX)
        })
    };
    let (requests, limits) = (of("requests"), of("limits"));
    resources.ignore(&["claims"]);
    resources.finish();
    requests.or(limits).unwrap_or_default()
}

fn env(v: &Field<'_>) -> Vec<(String, String)> {
    let mut env = Vec::new();
    for item in v.list() {
        let f = item.fields();
        let name = f.require("name", "a variable's name").and_then(|n| {
            let text = n.text()?;
            if is_variable(text) { Some(text.to_owned()) } else { n.wrong("a name without = and blanks") }
        });
        let value = f.take("value").and_then(|v| v.text().map(str::to_owned));
        f.ignore_with_warning(&["valueFrom"], NO_EFFECT);
        let elsewhere = f.has("valueFrom");
        f.finish();
        if !elsewhere {
            env.extend(name.map(|n| (n, value.unwrap_or_default())));
        }
    }
    env
}
