//! All files together → services, checked against each other. Every problem of every file comes back in one run.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::Serialize;

use super::decode::Field;
use super::files::{self, Fingerprint, Found};
use super::meta::UNNAMED;
use super::models;
use super::node::{Node, Value};
use super::problem::{Problem, Problems, Sink, quoted};
use super::scaled_service::{self, Declared};
use super::similar::suggestion;
use super::spec::{ServiceKey, ServiceSpec, Workload};
use super::yaml;
use crate::inference::{isvc, runtime, translate};

/// What all files together say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Loaded {
    /// Every service, sorted by namespace and name.
    pub services: Vec<ServiceSpec>,
    /// What was accepted but has no effect.
    pub warnings: Vec<Problem>,
    /// Every file that was read: equal lists mean that nothing changed.
    pub files: Vec<Fingerprint>,
    /// Files without an object. After a change this is more likely a half-written file than a wish.
    pub empty_files: Vec<PathBuf>,
}

/// The kinds of object that files may hold.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    ScaledService,
    InferenceService,
    ServingRuntime,
    ClusterServingRuntime,
}

const KINDS: [(&str, &str, Kind); 4] = [
    (scaled_service::KIND, scaled_service::API_VERSION, Kind::ScaledService),
    (isvc::KIND, isvc::API_VERSION, Kind::InferenceService),
    (runtime::KIND, runtime::API_VERSION, Kind::ServingRuntime),
    (runtime::CLUSTER_KIND, runtime::API_VERSION, Kind::ClusterServingRuntime),
];

/// Reads these files and folders. Runtimes may be in other files than the services that use them.
pub fn load(paths: &[PathBuf]) -> Result<Loaded, Problems> {
    let (found, problems) = files::find(paths);
    let read = found.into_iter().map(|file| (files::read(&file.path), file));
    together(read, problems)
}

/// The same for what was read already; `problems` are those of the reading.
pub(crate) fn together(
    read: impl Iterator<Item = (Result<Vec<u8>, Problem>, Found)>,
    mut problems: Vec<Problem>,
) -> Result<Loaded, Problems> {
    let mut loaded = Loaded::default();
    let mut sources = Vec::new();
    for (content, file) in read {
        match content {
            Ok(bytes) => {
                loaded.files.push(files::fingerprint(&file.path, &bytes));
                let sink = Sink::new(&file.path);
                let documents = yaml::parse(&bytes, &sink);
                if documents.is_empty() && !sink.has_problems() {
                    loaded.empty_files.push(file.path.clone());
                }
                sources.push((file, sink, documents));
            }
            Err(problem) => problems.push(problem),
        }
    }
    loaded.services = services(&sources);
    for (_, sink, _) in sources {
        let (wrong, warnings) = sink.into_parts();
        problems.extend(wrong);
        loaded.warnings.extend(warnings);
    }
    if problems.is_empty() {
        loaded.warnings.sort();
        loaded.warnings.dedup();
        return Ok(loaded);
    }
    problems.sort();
    problems.dedup();
    Err(Problems(problems))
}

/// What one machine cannot run: services that only name a Kubernetes object.
pub fn check_one_machine(loaded: &Loaded) -> Vec<Problem> {
    let only_target = loaded.services.iter().filter(|s| matches!(s.workload, Workload::Target(_)));
    only_target
        .map(|s| Problem {
            file: s.source.file.clone(),
            line: s.source.line,
            column: 1,
            field: "spec.process".into(),
            given: format!("{} has only `target`, a Kubernetes object", s.key),
            allowed: "`process`: the command that one machine runs (`target` may stay)".into(),
        })
        .collect()
}

fn services(sources: &[(Found, Sink, Vec<Node>)]) -> Vec<ServiceSpec> {
    let mut objects = Vec::new();
    for (file, sink, documents) in sources {
        objects.extend(documents.iter().filter_map(|d| Some((kind(d, file, sink)?, d, sink))));
    }
    let mut runtimes: Vec<runtime::Runtime<'_>> = Vec::new();
    for (kind, document, sink) in &objects {
        let cluster = *kind == Kind::ClusterServingRuntime;
        if (cluster || *kind == Kind::ServingRuntime)
            && let Some(new) = runtime::read(document, cluster, sink)
        {
            if let Some(old) = runtimes.iter().find(|r| r.is_named_as(&new)) {
                let given =
                    format!("{new} is declared at {}:{} too", old.source.file.display(), old.source.line);
                sink.problem(new.pos, "metadata.name", given, "each name once");
            }
            runtimes.push(new);
        }
    }
    let mut declared: Vec<(Declared, &Sink)> = Vec::new();
    for (kind, document, sink) in &objects {
        match kind {
            Kind::ScaledService => declared.extend(scaled_service::read(document, sink).map(|d| (d, *sink))),
            Kind::InferenceService => {
                let services = isvc::read(document, sink).map(|i| translate::services(&i, &runtimes));
                declared.extend(services.unwrap_or_default().into_iter().map(|d| (d, *sink)));
            }
            Kind::ServingRuntime | Kind::ClusterServingRuntime => {}
        }
    }
    let unnamed = |key: &ServiceKey| [&key.namespace, &key.name].iter().any(|part| part.starts_with(UNNAMED));
    declared.retain(|(d, _)| !unnamed(&d.spec.key));
    check_names(&declared);
    models::check(&declared);
    let mut services: Vec<ServiceSpec> = declared.into_iter().map(|(d, _)| d.spec).collect();
    services.sort_by(|a, b| a.key.cmp(&b.key));
    services
}

/// The kind of an object, when its apiVersion fits.
fn kind(document: &Node, file: &Found, sink: &Sink) -> Option<Kind> {
    if !matches!(document.value, Value::Map(_)) {
        sink.problem(document.pos, "", document.describe(), "an object with apiVersion and kind");
        return None;
    }
    let json = file.path.extension().is_some_and(|e| e == "json");
    if file.in_folder && json && document.get("kind").is_none() && document.get("apiVersion").is_none() {
        // Request bodies lie beside examples: `-f FOLDER` does not mean them.
        sink.warn(document.pos, "", "JSON without apiVersion and kind, left alone");
        return None;
    }
    let names: Vec<&str> = KINDS.iter().map(|(kind, ..)| *kind).collect();
    let text = |name: &str, allowed: String| match document.get(name) {
        None => {
            sink.problem(document.pos, name, "missing", allowed);
            None
        }
        Some(node) => {
            Some((Field::new(node, name.to_owned(), sink), Field::new(node, name.to_owned(), sink).text()?))
        }
    };
    let kind = text("kind", names.join(", "));
    let known = kind.as_ref().and_then(|(_, k)| KINDS.iter().find(|(name, ..)| name == k));
    if let (Some((field, given)), None) = (&kind, known) {
        field.problem(format!("the unknown kind {}", quoted(given)), suggestion(given, &names));
    }
    let versions = match known {
        Some((_, version, _)) => vec![*version],
        None => vec![scaled_service::API_VERSION, isvc::API_VERSION, runtime::API_VERSION],
    };
    let (field, version) = text("apiVersion", versions.join(", "))?;
    if !versions.contains(&version) {
        let of = known.map(|(name, ..)| format!(" for {name}")).unwrap_or_default();
        field.problem(format!("the unknown apiVersion {}{of}", quoted(version)), versions.join(", "));
        return None;
    }
    known.map(|(.., kind)| *kind)
}

/// Two services of one name, two services with one host: the later one is told about the older.
fn check_names(declared: &[(Declared, &Sink)]) {
    let mut names = HashMap::new();
    let mut hosts: HashMap<&str, &Declared> = HashMap::new();
    for (new, sink) in declared {
        let place = |d: &Declared| format!("{}:{}", d.spec.source.file.display(), d.name_pos.line);
        if let Some(old) = names.insert(&new.spec.key, new) {
            let given = format!("the service {} is declared at {} too", new.spec.key, place(old));
            sink.problem(new.name_pos, "metadata.name", given, "each name once in a namespace");
            continue;
        }
        let mut clashed = Vec::new();
        for host in &new.spec.hosts {
            let Some(old) = hosts.get(host.as_str()) else {
                hosts.insert(host, new);
                continue;
            };
            let claim = new.claimed.iter().find(|c| c.value == *host);
            // The hosts that come with a name clash together: one message for them.
            if claim.is_none() && clashed.contains(&&old.spec.key) {
                continue;
            }
            clashed.push(&old.spec.key);
            let (pos, field) = claim.map_or((new.name_pos, "metadata.name"), |c| (c.pos, c.path.as_str()));
            let given = format!("the host {host} belongs to {}, declared at {}", old.spec.key, place(old));
            sink.problem(pos, field, given, "a host that no other service has");
        }
    }
}
