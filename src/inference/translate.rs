//! `InferenceService` + runtime → [`ServiceSpec`]s for one machine.
//!
//! The runtime's container runs as a process: `{{.Name}}` and the like become the object's, `/mnt/models`
//! the model's path. `$(PORT)`, `$(GRPC_PORT)` and other variables are put in when the process starts.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use super::container::Container;
use super::isvc::InferenceService;
use super::runtime::{self, Runtime};
use super::{select, storage};
use crate::config::decode::Field;
use crate::config::heartbeat;
use crate::config::meta::Meta;
use crate::config::names::{LABEL_MAX, is_label};
use crate::config::problem::quoted;
use crate::config::scaled_service::{Declared, absolute, own_hosts};
use crate::config::spec::{
    Buffer, Concurrency, Limits, Models, Probe, ProcessSpec, Resources, ServiceSpec, Timeouts, Workload,
};

const PREDICTOR: &str = "predictor";

/// Finds the end of a template.
const TEMPLATE: (&str, &str) = ("{{", "}}");

/// The services of an object; problems go to the files that they are about.
pub fn services(isvc: &InferenceService<'_>, runtimes: &[Runtime<'_>]) -> Vec<Declared> {
    let p = &isvc.predictor;
    let key = isvc.component_key(PREDICTOR);
    if isvc.meta.named && !is_label(&key.name) {
        let most = LABEL_MAX - PREDICTOR.len() - 1;
        let allowed = format!("a name of at most {most} characters: its service is NAME-{PREDICTOR}");
        isvc.sink.problem(isvc.meta.pos, "metadata.name", quoted(&isvc.meta.key.name), allowed);
    }
    // Looked for even when there is no runtime: every problem in one run.
    let model = p.model.storage_uri.as_ref().map(|uri| storage::resolve(uri, isvc.folder()));
    let scaling = p.knobs.clone().resolve(p.concurrency, isvc.sink);
    let Some(runtime) = select::select(&p.model, &isvc.meta.key.namespace, runtimes) else {
        return Vec::new();
    };
    let Some(base) = &runtime.container else {
        return Vec::new();
    };
    let container = base.with(&p.model.container);
    let fill = Fill { meta: &isvc.meta, model: model.flatten().map(|m| m.to_string_lossy().into_owned()) };
    let process = process(isvc, runtime, &container, &fill);
    let ports = container.ports();
    let readiness = container.probe().map(|probe| fill.probe(probe, &container.place));
    let heartbeat = isvc.meta.annotation(heartbeat::ANNOTATION);
    let heartbeat = heartbeat.and_then(|v| heartbeat::annotated(v, isvc.sink));
    let names = [&*key.name, &*isvc.meta.key.name];
    let spec = ServiceSpec {
        source: isvc.source.clone(),
        workload: Workload::Process(process),
        port: ports.main,
        grpc_port: ports.grpc,
        protocol: ports.protocol,
        hosts: own_hosts(&key.namespace, &names),
        concurrency: Concurrency { limit: p.concurrency, ..Concurrency::default() },
        buffer: Buffer::default(),
        readiness: readiness.unwrap_or_else(|| default_probe(isvc, runtime)),
        scaling,
        timeouts: Timeouts { request: p.timeout.unwrap_or_default(), ..Timeouts::default() },
        limits: Limits::default(),
        no_wake: Vec::new(),
        models: Models::own(&isvc.meta.key.name),
        heartbeat: heartbeat.unwrap_or_default(),
        key,
    };
    vec![Declared { spec, name_pos: isvc.meta.pos, claimed: Vec::new(), models: Vec::new() }]
}

fn process(
    isvc: &InferenceService<'_>,
    runtime: &Runtime<'_>,
    c: &Container<'_>,
    fill: &Fill<'_>,
) -> ProcessSpec {
    if c.command.is_empty() {
        c.place.problem(
            format!("no command in the container of {runtime}"),
            "`command`: on one machine it is what runs, the image is not used",
        );
    }
    if isvc.predictor.model.storage_uri.is_none() {
        let texts = c.command.iter().chain(&c.args).chain(c.env.iter().map(|(_, v)| v));
        if let Some(text) = texts.into_iter().find(|t| storage::put_in(t, "") != **t) {
            let given = format!("missing, but {runtime} uses {} in {}", storage::MOUNT, quoted(text));
            let place = &isvc.predictor.model.container.place;
            let path = format!("{}.storageUri", place.path);
            isvc.sink.problem(place.node.pos, &path, given, "the model's folder or file");
        }
    }
    let put = |text: &String| fill.text(text, &c.place);
    ProcessSpec {
        command: c.command.iter().chain(&c.args).map(put).collect(),
        env: env(c, put),
        working_dir: absolute(runtime.source.file.parent().unwrap_or(std::path::Path::new("")), ""),
        python: runtime::python(&isvc.meta.annotations, isvc.sink).or_else(|| runtime.python.clone()),
        resources: Resources { memory: c.memory, device_memory: 0 },
    }
}

/// Where a replica listens is decided at its start, by pilotlight. What a runtime writes for these holds in a
/// cluster; here it would bind one port for all replicas, on every interface.
fn env(c: &Container<'_>, put: impl Fn(&String) -> String) -> Vec<(String, String)> {
    let at_start =
        |name: &str| name == "PORT" || name == "HOST" || (name == "GRPC_PORT" && c.ports().grpc > 0);
    // First, because a value sees only what stands before it.
    let host = std::iter::once(("HOST".to_owned(), Ipv4Addr::LOCALHOST.to_string()));
    let own = c.env.iter().filter(|(name, _)| !at_start(name));
    host.chain(own.map(|(name, value)| (name.clone(), put(value)))).collect()
}

/// Ready is when the model is, not when the port is open: KServe's own default lets requests in too early.
fn default_probe(isvc: &InferenceService<'_>, runtime: &Runtime<'_>) -> Probe {
    let name = &isvc.meta.key.name;
    let stated = isvc.predictor.model.protocol.as_ref().map(|p| p.value.as_str());
    let speaks =
        |p: &str| stated == Some(p) || (stated.is_none() && runtime.protocols.iter().any(|r| r == p));
    let get = |path| Probe::HttpGet { path, port: None, headers: Vec::new() };
    if speaks("v2") {
        get(format!("/v2/models/{name}/ready"))
    } else if speaks("v1") {
        get(format!("/v1/models/{name}"))
    } else {
        Probe::TcpSocket { port: None }
    }
}

/// What is put into a runtime's texts.
struct Fill<'a> {
    meta: &'a Meta,
    model: Option<String>,
}

// === impl Fill ===

impl Fill<'_> {
    fn text(&self, text: &str, place: &Field<'_>) -> String {
        let named = self.templates(text, place);
        match &self.model {
            Some(model) => storage::put_in(&named, model),
            None => named.into_owned(),
        }
    }

    fn probe(&self, probe: Probe, place: &Field<'_>) -> Probe {
        match probe {
            Probe::HttpGet { path, port, headers } => {
                Probe::HttpGet { path: self.templates(&path, place).into_owned(), port, headers }
            }
            Probe::Grpc { port, service } => {
                Probe::Grpc { port, service: self.templates(&service, place).into_owned() }
            }
            Probe::Exec { command } => {
                Probe::Exec { command: command.iter().map(|c| self.text(c, place)).collect() }
            }
            Probe::TcpSocket { .. } => probe,
        }
    }

    /// KServe's templates are Go's; these four values are what runtimes use.
    fn templates<'t>(&self, text: &'t str, place: &Field<'_>) -> Cow<'t, str> {
        let (open, close) = TEMPLATE;
        if !text.contains(open) {
            return Cow::Borrowed(text);
        }
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once(open) {
            out.push_str(before);
            let Some((name, after)) = after.split_once(close) else {
                out.push_str(open);
                rest = after;
                continue;
            };
            match self.value(name.trim()) {
                Some(value) => out.push_str(value),
                None => place.problem(
                    format!("the template {} in {}", quoted(&format!("{open}{name}{close}")), quoted(text)),
                    "{{.Name}}, {{.Namespace}}, {{.Labels.KEY}}, {{.Annotations.KEY}} of the InferenceService",
                ),
            }
            rest = after;
        }
        out.push_str(rest);
        Cow::Owned(out)
    }

    fn value(&self, name: &str) -> Option<&str> {
        match name {
            ".Name" | ".ObjectMeta.Name" => Some(&self.meta.key.name),
            ".Namespace" | ".ObjectMeta.Namespace" => Some(&self.meta.key.namespace),
            _ => {
                if let Some(key) = name.strip_prefix(".Labels.") {
                    return self.meta.labels.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
                }
                self.meta.annotation(name.strip_prefix(".Annotations.")?).map(|a| a.value.as_str())
            }
        }
    }
}
